//! Escapement.
