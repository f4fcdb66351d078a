//! Several registries on one host.

use trustmint::macaroon::Macaroon;
use trustmint::policy::Policy;
use trustmint::secret::hex;
use trustmint::secret::sha256;

use super::said;
use super::service::policy;
use super::service::policy_text;

/// The API key of the registry `tools`.
pub const TOOLS_KEY: &str = "the-key-of-the-tools";

/// Beside `acme-pypi` two generic registries, `tools` and `files`, at paths of their own. The job that may publish
/// `widgets` to the first may publish `widgets` and anything below `widgets/` to the others.
pub fn tenants(base: &str, issuer: &str) -> Policy {
    tenants_with(base, issuer, "")
}

/// The same, and the registries `tools` and `files` have these members too.
pub fn tenants_with(base: &str, issuer: &str, members: &str) -> Policy {
    tenants_beside(base, issuer, members, "")
}

/// The same, beside other registries.
pub fn tenants_beside(base: &str, issuer: &str, members: &str, others: &str) -> Policy {
    said::secret(said::SecretKind::ApiKey, TOOLS_KEY);
    let digest = hex(&sha256(TOOLS_KEY.as_bytes()));
    let registries = format!(
        "registries:\n  tools: {{dialect: generic, urls: [\"{base}/tools/\"], audiences: [tools-aud, both-aud-1], \
         callers: {{front: {{key_sha256: \"{digest}\"}}}}{members}}}\n  files: {{dialect: generic, urls: \
         [\"{base}/files/\"], audiences: [files-aud]{members}}}\n{others}"
    );
    let when = "{repository_owner_id: \"9123456\", repository_id: \"701234567\"}";
    let rule = |registry: &str| {
        format!(
            "  {registry}-release: {{registry: {registry}, issuer: github, when: {when}, allow: {{upload: [widgets, \
             \"widgets/*\"], yank: [widgets]}}}}\n"
        )
    };
    let text = policy_text(base, issuer, super::service::WIDGETS) + &rule("tools") + &rule("files");
    policy(&text.replacen("registries:\n", &registries, 1))
}

/// A copy of the token with one caveat more, as its holder makes one.
pub fn narrowed(token: &str, caveat: &str) -> String {
    let (prefix, rest) = token.split_at(token.find("Ag").unwrap());
    let copy = Macaroon::decode_text(rest).unwrap().attenuate(caveat.as_bytes()).unwrap();
    let text = copy.encode_text(prefix).expose().clone();
    said::tokens_in(&text);
    text
}
