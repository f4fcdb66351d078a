//! The `trustmint` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    // One cryptography provider for TLS and tokens, before anything can ask for another.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    trustmint::cli::run()
}
