//! How one ecosystem's clients spell the exchange on the wire: thin codecs, one file each.

pub mod pypi;
