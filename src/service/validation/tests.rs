//! What is refused, where, and why; one line a claim.
