//! The listener's certificate.
