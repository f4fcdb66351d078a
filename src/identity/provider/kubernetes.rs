//! Kubernetes: projected service-account tokens of a cluster's own issuer.
//!
//! A service account is its `uid`; its name can be deleted and created again. Whoever may create pods or tokens in its
//! namespace is that account. `aud` is an array. Clusters that call themselves `kubernetes.default.svc` all have that
//! one name, so they are told apart by their keys, which come from a file.

use std::time::Duration;

use crate::identity::provider::Claim;
use crate::identity::provider::Example;
use crate::identity::provider::Form;
use crate::identity::provider::HostName;
use crate::identity::provider::Provider;
use crate::identity::provider::Site;
use crate::identity::provider::example::Draft;
use crate::json::Json;
use crate::json::Object;

const NAMESPACE: &str = "/kubernetes.io/namespace";
const ACCOUNT_NAME: &str = "/kubernetes.io/serviceaccount/name";
const ACCOUNT_UID: &str = "/kubernetes.io/serviceaccount/uid";
const POD_NAME: &str = "/kubernetes.io/pod/name";
const POD_UID: &str = "/kubernetes.io/pod/uid";

/// The preset `kubernetes`.
pub static PROVIDER: Provider = Provider {
    name: "kubernetes",
    site: Site::Configured,
    hosts: &[
        HostName::Is("container.googleapis.com"),
        HostName::Below("oic.prod-aks.azure.com"),
        HostName::Between("oidc.eks.", ".amazonaws.com"),
        HostName::Between("oidc.eks.", ".amazonaws.com.cn"),
        HostName::Between("oidc-eks.", ".api.aws"),
    ],
    pins: &["sub", ACCOUNT_UID],
    required: &["sub", ACCOUNT_UID],
    claims: &[
        Claim::string("sub"),
        Claim::any("kubernetes.io"),
        Claim::string(NAMESPACE),
        Claim::string(ACCOUNT_NAME),
        Claim::id(ACCOUNT_UID, Form::Uuid),
        Claim::string(POD_NAME),
        Claim::string(POD_UID),
    ],
    aliases: &[
        ("namespace", NAMESPACE),
        ("serviceaccount_name", ACCOUNT_NAME),
        ("serviceaccount_uid", ACCOUNT_UID),
        ("pod_name", POD_NAME),
        ("pod_uid", POD_UID),
    ],
    public: &["sub", NAMESPACE, ACCOUNT_NAME, ACCOUNT_UID, POD_NAME, POD_UID],
    provenance: &["sub", ACCOUNT_UID, POD_NAME],
    // What a pod gets unless it asks for another time.
    max_lifetime: Duration::from_secs(60 * 60),
    local_hosts: &[
        HostName::Is("kubernetes"),
        HostName::Is("kubernetes.default"),
        HostName::Below("svc"),
        HostName::Below("cluster.local"),
    ],
    examples: &[Example { name: "pod", claims: pod }],
    ..Provider::PLAIN
};

/// A pod's claims. Overrides may also use the short names.
fn pod(overrides: &Object) -> Object {
    let short = &["namespace", "serviceaccount_name", "serviceaccount_uid", "pod_name", "pod_uid"];
    let mut draft = Draft::new(overrides, short);
    let (namespace, account) = (draft.wanted("namespace"), draft.wanted("serviceaccount_name"));
    let (namespace, account) = (namespace.unwrap_or("release"), account.unwrap_or("publisher"));
    draft.text("sub", &format!("system:serviceaccount:{namespace}:{account}"));
    let inner = draft
        .object(&[("namespace", "namespace", namespace)])
        .with(
            "pod",
            Json::Object(draft.object(&[
                ("pod_name", "name", "publish-widgets-x7k2p"),
                ("pod_uid", "uid", "9f8e7d6c-5b4a-4392-8170-6f5e4d3c2b1a"),
            ])),
        )
        .with(
            "serviceaccount",
            Json::Object(draft.object(&[
                ("serviceaccount_name", "name", account),
                ("serviceaccount_uid", "uid", "2c3d4e5f-6071-4829-a3b4-c5d6e7f80912"),
            ])),
        );
    draft.value("kubernetes.io", Json::Object(inner));
    draft.finish()
}

#[cfg(test)]
mod tests;
