//! `routes` of a registry: which requests a proxy asks about.

use super::choice;
use crate::package::Action;
use crate::package::Ecosystem;
use crate::policy::dialect::Dialect;
use crate::policy::route::Proxy;
use crate::policy::route::Route;
use crate::policy::route::Routes;
use crate::policy::route::Template;
use crate::policy::yaml::Faults;
use crate::policy::yaml::Field;
use crate::policy::yaml::shown;

pub(in crate::policy) const KEYS: &[&str] = &["proxy", "allow"];
pub(in crate::policy) const ROUTE_KEYS: &[&str] = &["method", "path", "action"];
/// Longest method.
const MAX_METHOD: usize = 16;

/// Reads the routes of a registry whose packages have the names of that ecosystem.
pub(super) fn routes(
    field: &Field<'_>,
    dialect: Option<Dialect>,
    names: Ecosystem,
    faults: &mut Faults,
) -> Option<Routes> {
    // SECURITY: a proxy sees method and path. Where the body says what is uploaded, it would let everything through.
    if let Some(dialect) = dialect.filter(|dialect| dialect.names_package_in_body()) {
        let message =
            format!("uploads of dialect `{}` name their package in the body, which no proxy reads", dialect.name());
        field.fault(faults, message, "remove `routes`, and let the registry ask at `/v1/verify`");
        return None;
    }
    let fields = field.fields(KEYS, faults)?;
    let proxies = Proxy::ALL.map(|proxy| (proxy.name(), proxy));
    let proxy = fields.require("proxy", "say who asks: `proxy: nginx`, `traefik` or `envoy`", faults);
    let proxy = proxy.and_then(|field| choice(&field, &proxies, faults));
    let remedy = "list what is let through: `allow: [{method: PUT, path: \"/files/{package}/{*}\", action: upload}]`";
    let listed = fields.require("allow", remedy, faults)?;
    let before = faults.len();
    let mut allow: Vec<Route> = Vec::new();
    for item in listed.items(faults)? {
        let Some(route) = route(&item, faults) else { continue };
        if allow.iter().any(|other| (&other.method, &other.path) == (&route.method, &route.path)) {
            item.fault(faults, "is listed twice, so no such request would pass", "remove one");
        } else {
            allow.push(route);
        }
    }
    if allow.is_empty() && faults.len() == before {
        listed.fault(faults, "is empty, so nothing would pass", remedy);
    }
    let proxy = proxy?;
    (faults.len() == before).then_some(Routes { proxy, allow, scopes: names == Ecosystem::Npm })
}

fn route(item: &Field<'_>, faults: &mut Faults) -> Option<Route> {
    let fields = item.fields(ROUTE_KEYS, faults)?;
    let method = fields.require("method", "add the method: `method: PUT`", faults);
    let method = method.and_then(|field| method_of(&field, faults));
    let path = fields.require("path", "add the path: `path: \"/files/{package}/{*}\"`", faults);
    let path = path.and_then(|field| path_of(&field, faults));
    let action = fields.require("action", "add what such a request does: `action: upload`", faults);
    let action = action.and_then(|field| action_of(&field, faults));
    Some(Route { method: method?, path: path?, action: action? })
}

fn method_of(field: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = field.text(faults)?;
    if text.is_empty() || text.len() > MAX_METHOD || !text.bytes().all(|b| b.is_ascii_uppercase()) {
        field.fault(faults, format!("`{}` is not a method", shown(text)), "write it in capitals: `PUT`");
        return None;
    }
    Some(text.to_owned())
}

fn path_of(field: &Field<'_>, faults: &mut Faults) -> Option<Template> {
    let text = field.text(faults)?;
    let parsed = Template::parse(text);
    if let Err(error) = parsed {
        let remedy = "write the whole path, as `/files/{package}/{version}/{*}`";
        field.fault(faults, format!("`{}` {error}", shown(text)), remedy);
    }
    parsed.ok()
}

fn action_of(field: &Field<'_>, faults: &mut Faults) -> Option<Action> {
    let text = field.text(faults)?;
    let action = Action::parse(text);
    if action.is_none() {
        field.fault(
            faults,
            format!("`{}` is not an action", shown(text)),
            "write `upload`, `create`, `read`, `delete`, …",
        );
    }
    action
}
