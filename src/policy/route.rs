//! Routes: what a request to a registry's own server would do, told from its method and its raw path alone, for a proxy
//! that asks before it lets the request through.
//!
//! SECURITY: the proxy, this service and the server behind each read the same text, and whatever two of them could read
//! differently is refused: an allow-list of characters and no empty or dot segments, so that nothing is left to
//! normalise; of encodings only those that clients need, and never of a character that means something in a path. A
//! request that no route lists, or that two list, is refused.

use std::fmt;

use crate::package::Action;

/// Longest raw path with its query.
const MAX_TARGET: usize = 1024;
/// Most segments of a path.
const MAX_SEGMENTS: usize = 32;

/// The proxy that asks, and so which headers say what the request is. No others are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    /// nginx, `auth_request`: `X-Original-Method` and `X-Original-URI`, which its configuration sets.
    Nginx,
    /// Traefik, `forwardAuth`: `X-Forwarded-Method` and `X-Forwarded-Uri`.
    Traefik,
    /// Envoy, `ext_authz`: the method of the call itself, and its path after `/v1/authorize`.
    Envoy,
}

impl Proxy {
    /// Every proxy.
    pub const ALL: [Self; 3] = [Self::Nginx, Self::Traefik, Self::Envoy];

    /// Its name in the policy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Traefik => "traefik",
            Self::Envoy => "envoy",
        }
    }

    /// The headers that name method and path; none where the call itself does.
    pub const fn headers(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Nginx => Some(("x-original-method", "x-original-uri")),
            Self::Traefik => Some(("x-forwarded-method", "x-forwarded-uri")),
            Self::Envoy => None,
        }
    }
}

/// The routes of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    /// Who asks.
    pub proxy: Proxy,
    /// What is let through, if a token allows it; at least one.
    pub allow: Vec<Route>,
    /// Whether `{package}` is also a scoped name of npm, in one segment as its clients write it: `@acme%2fwidgets`.
    pub scopes: bool,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The method, in capitals.
    pub method: String,
    /// The path.
    pub path: Template,
    /// What such a request does.
    pub action: Action,
}

/// A path with places: `/files/{package}/{version}/{*}`. Each place is one whole segment, `{**}` at the end one or more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Package,
    Version,
    Any,
    Rest,
}

/// What a request would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The action.
    pub action: Action,
    /// The package, as the path spells it.
    pub package: String,
    /// The version, if the path has it.
    pub version: Option<String>,
}

/// Why a request is not let through, whoever sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not a plain path.
    #[error("the path has something that two programs could read differently: {0}")]
    NotPlain(&'static str),
    /// No route lists it.
    #[error("no route of the registry lists this method and path")]
    NotListed,
    /// More than one does.
    #[error("more than one route of the registry lists this method and path")]
    Ambiguous,
}

/// Why a text is not a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is no plain path.
    #[error("is not a path of plain segments")]
    NotPlain,
    /// It has an unknown place.
    #[error("has a place other than {{package}}, {{version}}, {{*}} and {{**}}, or one that is not a whole segment")]
    UnknownPlace,
    /// It names no package, or more than one.
    #[error("does not have {{package}} exactly once")]
    Package,
    /// It names two versions.
    #[error("has {{version}} twice")]
    Version,
    /// `{**}` is not its end.
    #[error("has {{**}} before its end")]
    Rest,
}

impl Routes {
    /// What a request would do, by the one route that lists its method and raw target.
    pub fn resolve(&self, method: &str, target: &str) -> Result<Asked, RouteError> {
        let segments = segments(target, self.scopes)?;
        let mut found = self.allow.iter().filter(|route| route.method == method).filter_map(|route| {
            let (package, version) = route.path.read(&segments)?;
            Some(Asked { action: route.action.clone(), package, version })
        });
        let asked = found.next().ok_or(RouteError::NotListed)?;
        if found.next().is_some() { Err(RouteError::Ambiguous) } else { Ok(asked) }
    }
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        for segment in text.strip_prefix('/').ok_or(TemplateError::NotPlain)?.split('/') {
            parts.push(match segment {
                "{package}" => Part::Package,
                "{version}" => Part::Version,
                "{*}" => Part::Any,
                "{**}" => Part::Rest,
                place if place.contains(['{', '}']) => return Err(TemplateError::UnknownPlace),
                literal if literal.contains('%') => return Err(TemplateError::NotPlain),
                literal => Part::Literal(plain(literal).map_err(|_| TemplateError::NotPlain)?),
            });
        }
        let count = |wanted: &Part| parts.iter().filter(|part| *part == wanted).count();
        if count(&Part::Package) != 1 {
            return Err(TemplateError::Package);
        }
        if count(&Part::Version) > 1 {
            return Err(TemplateError::Version);
        }
        if parts.iter().rev().skip(1).any(|part| *part == Part::Rest) {
            return Err(TemplateError::Rest);
        }
        Ok(Self(parts))
    }

    /// The package and version that the segments name, if the template fits them.
    fn read(&self, segments: &[String]) -> Option<(String, Option<String>)> {
        let open = self.0.last() == Some(&Part::Rest);
        if segments.len() < self.0.len() || (segments.len() > self.0.len() && !open) {
            return None;
        }
        // What `{**}` takes beyond its first.
        if segments.iter().skip(self.0.len()).any(|segment| segment.contains('/')) {
            return None;
        }
        let (mut package, mut version) = (None, None);
        for (part, segment) in self.0.iter().zip(segments) {
            match part {
                // A scoped name is a package's and nothing else: elsewhere, servers could take it for two segments.
                Part::Literal(_) | Part::Version | Part::Any | Part::Rest if segment.contains('/') => return None,
                Part::Literal(literal) if literal != segment => return None,
                Part::Package => package = Some(segment.clone()),
                Part::Version => version = Some(segment.clone()),
                Part::Literal(_) | Part::Any | Part::Rest => {}
            }
        }
        Some((package?, version))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Literal(literal) => write!(f, "/{literal}"),
            Part::Package => f.write_str("/{package}"),
            Part::Version => f.write_str("/{version}"),
            Part::Any => f.write_str("/{*}"),
            Part::Rest => f.write_str("/{**}"),
        })
    }
}

/// The segments of a raw target, decoded.
fn segments(target: &str, scopes: bool) -> Result<Vec<String>, RouteError> {
    if target.len() > MAX_TARGET {
        return Err(RouteError::NotPlain("it is too long"));
    }
    // A query may name another package, or another thing to do.
    if target.contains(['?', '#']) {
        return Err(RouteError::NotPlain("a query or fragment"));
    }
    let path = target.strip_prefix('/').ok_or(RouteError::NotPlain("it does not begin with a slash"))?;
    let decoded = |segment| scoped(segment).filter(|_| scopes).unwrap_or_else(|| plain(segment));
    let segments = path.split('/').map(decoded).collect::<Result<Vec<_>, _>>()?;
    if segments.len() > MAX_SEGMENTS {
        return Err(RouteError::NotPlain("too many segments"));
    }
    Ok(segments)
}

/// A segment that is a scoped name, decoded; `None` if it has no scope.
fn scoped(segment: &str) -> Option<Result<String, RouteError>> {
    let rest = segment.strip_prefix('@').or_else(|| segment.strip_prefix("%40"))?;
    let (scope, name) = ["%2f", "%2F"].into_iter().find_map(|slash| rest.split_once(slash))?;
    Some(plain(scope).and_then(|scope| Ok(format!("@{scope}/{}", plain(name)?))))
}

/// A segment that everybody reads alike, decoded.
fn plain(segment: &str) -> Result<String, RouteError> {
    let mut decoded = String::with_capacity(segment.len());
    let mut rest = segment.chars();
    while let Some(c) = rest.next() {
        match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '-' | '_' | '.' | '~' | '+' | '@' => decoded.push(c),
            // The characters of names and versions that some clients encode.
            '%' => decoded.push(match (rest.next(), rest.next()) {
                (Some('2'), Some('B' | 'b')) => '+',
                (Some('4'), Some('0')) => '@',
                (Some('7'), Some('E' | 'e')) => '~',
                _ => return Err(RouteError::NotPlain("an encoded character")),
            }),
            _ => return Err(RouteError::NotPlain("a character that names and versions do not have")),
        }
    }
    if decoded.is_empty() {
        return Err(RouteError::NotPlain("an empty segment"));
    }
    // `.` and `..`, and what some systems take for them.
    if decoded.ends_with('.') {
        return Err(RouteError::NotPlain("a segment that ends in a dot"));
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests;
