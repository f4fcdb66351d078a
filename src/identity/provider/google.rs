//! Stub.
use super::*;
/// Stub.
pub static PROVIDER: Provider = Provider {
    name: "google",
    site: Site::Configured,
    hosts: &[],
    pins: &[],
    required: &[],
    claims: &[],
    derived: &[],
    aliases: &[],
    implied: &[],
    public: &[],
    max_lifetime: Duration::from_secs(3600),
    jwks_hosts: &[],
    examples: &[],
    how_to: "",
};
