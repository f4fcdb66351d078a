//! Registries: what they are called by must be theirs alone.

use std::collections::HashMap;
use std::sync::Arc;

use url::Url;

use super::catalogue;
use super::report;
use crate::policy::registry::Registry;
use crate::policy::registry::base;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::Message;
use crate::policy::yaml::shown;

/// Longest audience, in bytes.
const MAX_AUDIENCE: usize = 255;
/// Audiences that other services accept, or that providers put into tokens unasked.
const FOREIGN_AUDIENCES: &[&str] = &[
    "pypi",
    "testpypi",
    "crates.io",
    "rubygems.org",
    "sigstore",
    "sts.amazonaws.com",
    "api://AzureADTokenExchange",
    "https://gitlab.com",
    "npm:registry.npmjs.org",
    "https://www.nuget.org",
    "https://open-vsx.org",
    "https://open-vsx.org/",
    "marketplace.visualstudio.com",
    "prefix.dev",
    "https://pub.dev",
];

fn is_foreign(text: &str) -> bool {
    FOREIGN_AUDIENCES.contains(&text) || text.starts_with("https://github.com/")
}

fn foreign(text: &str) -> Message {
    Message::from((&catalogue::L003, format!("`{text}` is the audience of another service")))
}

/// What is wrong with the audience that clients compute from a registry's URL, and the remedy. It may begin with a digit,
/// as addresses do: nobody has chosen it.
pub(in crate::policy) fn computed_audience(text: &str) -> Option<(Message, &'static str)> {
    is_foreign(text)
        .then(|| (foreign(text), "serve the registry at a host of its own: its clients compute it from the URL"))
}

/// What is wrong with an audience, and the remedy.
///
/// SECURITY: a token for another service's audience can be relayed here by that service.
pub(in crate::policy) fn audience(text: &str, urls: &[Url]) -> Option<(Message, &'static str)> {
    let remedy = "choose one that no other service uses, such as the registry's own name";
    let npm = text.strip_prefix("npm:");
    // A port is what follows the last colon, but for those inside the brackets of an IPv6 address.
    let name = |host: &str| {
        host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')).map_or(host, |(name, _)| name).to_owned()
    };
    let own = |host: &str| urls.iter().any(|url| url.host_str() == Some(name(host).as_str()));
    if text.is_empty() || text.len() > MAX_AUDIENCE || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'*') {
        Some((
            Message::from((
                &catalogue::L003,
                format!("`{}` is not an audience: 1 to 255 printable ASCII characters without `*`", shown(text)),
            )),
            remedy,
        ))
    } else if text.starts_with(|c: char| c.is_ascii_digit()) {
        Some((
            Message::from(format!("`{text}` starts with a digit, and GitLab makes a variable's name of it")),
            "start it with a letter",
        ))
    } else if is_foreign(text) || npm.is_some_and(|host| !own(host)) {
        Some((foreign(text), remedy))
    } else {
        None
    }
}

/// No two registries answer to one name, derive one secret, or know one key.
pub(in crate::policy) fn registries(sections: &[Field<'_>], registries: &[Arc<Registry>], faults: &mut Faults) {
    let mut seen: HashMap<String, &str> = HashMap::new();
    for registry in registries {
        let id = registry.id.as_str();
        let mut names: Vec<(String, &str)> = Vec::new();
        let authority =
            |url: &Url| format!("{}:{}", url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0));
        let computed: Vec<String> = registry.urls.iter().flat_map(|url| registry.dialect.audiences(url)).collect();
        names.extend(registry.audiences.iter().map(|audience| {
            let remedy = if computed.contains(audience) {
                "give it a host of its own: clients of this dialect compute the audience from it"
            } else {
                "use another audience"
            };
            (format!("the audience `{audience}`"), remedy)
        }));
        let urls = registry.urls.iter();
        names
            .extend(urls.map(|url| (format!("the URL `{}{}`", authority(url), base(url)), "give it a URL of its own")));
        if registry.dialect.owns_host() {
            let mut hosts: Vec<String> = registry.urls.iter().map(authority).collect();
            hosts.sort();
            hosts.dedup();
            let remedy = "give it a host of its own: clients of this dialect drop the path";
            names.extend(
                hosts
                    .into_iter()
                    .map(|host| (format!("the host `{host}` for dialect `{}`", registry.dialect.name()), remedy)),
            );
        }
        names.push((
            format!("the key id `{}`", registry.key_id),
            "set another `key_id`: tokens of one would be good for both",
        ));
        for caller in &registry.callers {
            names.push((
                format!("the API key of a caller (`{}`)", digest(caller.key_sha256)),
                "make a key for each caller",
            ));
        }
        for (name, remedy) in names {
            match seen.get(&name) {
                Some(other) if *other == id => report(sections, id, format!("has {name} twice"), remedy, faults),
                Some(other) => {
                    report(sections, id, format!("has {name}, as has the registry `{other}`"), remedy, faults);
                }
                None => {
                    seen.insert(name, id);
                }
            }
        }
    }
}

/// The first digits of a digest: enough to find it in a file.
fn digest(bytes: [u8; 32]) -> String {
    bytes.iter().take(4).map(|byte| format!("{byte:02x}")).chain(["…".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn npms_audience_may_name_the_registrys_own_host_with_a_port_or_without() {
        let urls =
            ["https://npm.acme.example:8443/x", "https://[2001:db8::2]:8443"].map(|url| Url::parse(url).unwrap());
        for own in ["npm.acme.example", "npm.acme.example:8443", "[2001:db8::2]", "[2001:db8::2]:8443"] {
            assert!(audience(&format!("npm:{own}"), &urls).is_none(), "{own}");
        }
        for other in ["registry.npmjs.org", "acme.example", "[2001:db8::3]:8443", "[2001", "", "npm.acme.example:1:2"] {
            assert!(audience(&format!("npm:{other}"), &urls).is_some(), "{other}");
        }
    }
}
