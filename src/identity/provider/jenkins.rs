//! Jenkins with the plugin `oidc-provider`: the server's own issuer, or that of a folder.
//!
//! What a token says is written by the server's administrators as templates, so any claim may be named; only `sub`, by
//! default the job's URL, is known to be there. No identifier is immutable. `aud` is an array of one. Tokens have no
//! `jti` and no `nbf`.

use std::time::Duration;

use crate::identity::provider::Example;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::example::Draft;
use crate::json::Json;
use crate::json::Object;

/// The preset `jenkins`.
pub static PROVIDER: Provider = Provider {
    name: "jenkins",
    site: Site::Configured,
    // SECURITY: whole, never by pattern: a pull request's job is `…/job/PR-12/` in the folder of the branches' jobs.
    pins: &["sub"],
    required: &["sub"],
    public: &["sub", "build_number"],
    provenance: &["sub", "build_number"],
    // The plugin's default.
    max_lifetime: Duration::from_secs(60 * 60),
    examples: &[
        Example { name: "job", claims: |overrides| job(overrides, "release") },
        Example { name: "pull-request", claims: |overrides| job(overrides, "PR-12") },
    ],
    ..Provider::PLAIN
};

fn job(overrides: &Object, name: &str) -> Object {
    let mut draft = Draft::new(overrides, &[]);
    draft.text("sub", &format!("https://jenkins.acme.example/job/widgets/job/{name}/"));
    draft.value("build_number", Json::Int(42));
    draft.finish()
}

#[cfg(test)]
mod tests;
