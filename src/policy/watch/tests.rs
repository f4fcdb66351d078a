//! What the directory is found to hold.
