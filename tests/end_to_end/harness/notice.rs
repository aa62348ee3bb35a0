//! What whoever runs the tests is to see.

use std::io::Write as _;

/// Writes a line that is seen also when the test passes: what the print macros write is kept from it then.
pub(crate) fn notice(line: &str) {
    // Nobody may listen.
    let _ = writeln!(std::io::stderr(), "{line}");
}
