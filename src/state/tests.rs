//! The meaning of what is stored.
