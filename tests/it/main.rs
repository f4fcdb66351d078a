//! The one integration binary: a file per behaviour, a function per sentence.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    missing_docs,
    reason = "a helper that panics is a test that fails"
)]
mod policy_corpus;
