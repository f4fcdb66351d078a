//! AWS: tokens that an IAM principal requests for itself, `sts:GetWebIdentityToken`, from its account's own issuer.
//!
//! AWS's own claims are one object, whose name is a URL that ends in a slash; rules use short names for its members.
//! `sub` is the role's ARN, which is a name: a role deleted and created again has the same one. Tags are chosen by
//! callers, so no rule may rest on them alone. Tokens are signed with RSA or P-384, as the caller asks.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Example;
use crate::identity::provider::HostName;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::example::Draft;
use crate::json::Json;
use crate::json::Object;

const STS: &str = "https://sts.amazonaws.com/";
const ACCOUNT: &str = "/https:~1~1sts.amazonaws.com~1/aws_account";
const ORG_ID: &str = "/https:~1~1sts.amazonaws.com~1/org_id";
const REGION: &str = "/https:~1~1sts.amazonaws.com~1/source_region";
const LAMBDA: &str = "/https:~1~1sts.amazonaws.com~1/lambda_source_function_arn";

/// The preset `aws`.
pub static PROVIDER: Provider = Provider {
    name: "aws",
    site: Site::OneOf(&["https://*.tokens.sts.global.api.aws"]),
    hosts: &[HostName::Below("tokens.sts.global.api.aws")],
    pins: &["sub", ACCOUNT],
    required: &["sub", ACCOUNT],
    claims: &[
        Claim::string("sub"),
        Claim::any(STS),
        // Twelve digits, of which the first may be 0.
        Claim::string(ACCOUNT),
        Claim::string(ORG_ID),
        Claim::string(REGION),
        Claim::string(LAMBDA),
    ],
    aliases: &[
        ("aws_account", ACCOUNT),
        ("org_id", ORG_ID),
        ("source_region", REGION),
        ("lambda_source_function_arn", LAMBDA),
    ],
    public: &["sub", ACCOUNT, ORG_ID, REGION, LAMBDA],
    provenance: &["sub", ACCOUNT, ORG_ID, REGION],
    // 300 s unless the caller asks for up to an hour.
    max_lifetime: Duration::from_secs(60 * 60),
    examples: &[Example { name: "role", claims: role }],
    ..Provider::PLAIN
};

/// A role's claims. Overrides may also use the short names.
fn role(overrides: &Object) -> Object {
    let mut draft = Draft::new(overrides, &["aws_account", "org_id", "source_region", "lambda_source_function_arn"]);
    let account = draft.wanted("aws_account").unwrap_or("012345678901");
    draft.text("sub", &format!("arn:aws:iam::{account}:role/widgets-release"));
    let inner = draft.object(&[
        ("aws_account", "aws_account", account),
        ("org_id", "org_id", "o-a1b2c3d4e5"),
        ("source_region", "source_region", "eu-west-1"),
    ]);
    let lambda = draft.wanted("lambda_source_function_arn").map(|arn| Json::String(arn.to_owned()));
    let inner = lambda.into_iter().fold(inner, |inner, arn| inner.with("lambda_source_function_arn", arn));
    draft.value(STS, Json::Object(inner));
    draft.finish()
}

#[cfg(test)]
mod tests;
