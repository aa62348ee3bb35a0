//! Who is asking, and may they: JSON Web Tokens, the keys behind them, and the table of roles.
//!
//! Invariants: the algorithm of a token is fixed by the kind of the key that checks it, never by the token; a token
//! without an expiry, a tenant or a subject is refused; no error tells a client more than what it can mend.
//! Absent on purpose: HTTP, and where keys come from beyond a file.

mod keys;
mod permission;
mod secret_file;
mod token;

pub use keys::{KeyError, KeyFault, Keys};
pub use permission::{Denied, Permission, Role};
pub use secret_file::{create_secret, random_secret, write_secret};
pub use token::{Claims, MintError, Principal, TokenError, bearer};
