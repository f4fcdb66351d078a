//! The directory of master keys.
