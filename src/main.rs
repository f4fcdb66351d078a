//! The `trustmint` command.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// A request allocates a few hundred times, from a byte to 32 KiB, and frees all of it at once. The C library's allocator keeps
/// what is over a kilobyte in lists that it goes through each time, and merges the small ones whenever it does.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    // One cryptography provider for TLS and tokens, before anything can ask for another.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    trustmint::cli::run()
}
