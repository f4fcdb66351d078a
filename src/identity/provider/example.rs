//! Drafts of example claim sets: defaults, overrides, and claims that follow from others.

use crate::json::Json;
use crate::json::Object;

/// A claim set in the making. A claim is set once, to its override or else to the default.
pub(super) struct Draft<'a> {
    overrides: &'a Object,
    claims: Object,
    /// Overrides that steer other claims and are no claims of the token.
    steering: &'static [&'static str],
}

impl<'a> Draft<'a> {
    /// An empty draft. `steering` names derived claims that overrides may use in place of the claims they come from.
    pub(super) fn new(overrides: &'a Object, steering: &'static [&'static str]) -> Self {
        Self { overrides, claims: Object::default(), steering }
    }

    /// What the overrides say about a name, if it is a string.
    pub(super) fn wanted(&self, name: &str) -> Option<&'a str> {
        self.overrides.get(name).and_then(Json::as_str)
    }

    /// Sets a claim and gives its text for others to follow; an override that is no string gives an empty text.
    pub(super) fn text(&mut self, name: &str, default: &str) -> String {
        self.value(name, Json::String(default.to_owned()));
        self.claims.get(name).and_then(Json::as_str).unwrap_or_default().to_owned()
    }

    /// Sets a claim that a token may lack and gives its text, if it has it.
    pub(super) fn optional(&mut self, name: &str, default: Option<&str>) -> Option<String> {
        self.value(name, default.map_or(Json::Null, |text| Json::String(text.to_owned())));
        self.claims.get(name).and_then(Json::as_str).map(str::to_owned)
    }

    /// Sets a claim that overrides may also name by its alias, and gives its text.
    pub(super) fn aliased(&mut self, alias: &str, name: &str, default: Json) -> String {
        self.value(name, self.given(alias, default));
        self.claims.get(name).and_then(Json::as_str).unwrap_or_default().to_owned()
    }

    /// The override of that name, or else the default: for what lies deep in a claim.
    pub(super) fn given(&self, name: &str, default: Json) -> Json {
        self.overrides.get(name).cloned().unwrap_or(default)
    }

    /// An object of the overrides of these names, or else the defaults: (name in the overrides, member, default).
    pub(super) fn object(&self, members: &[(&str, &str, &str)]) -> Object {
        let given = members
            .iter()
            .map(|(name, member, default)| (member, self.given(name, Json::String((*default).to_owned()))));
        let kept = given.filter(|(_, value)| *value != Json::Null);
        kept.fold(Object::default(), |object, (member, value)| object.with(member, value))
    }

    /// Sets claims that nothing follows.
    pub(super) fn texts(&mut self, defaults: &[(&str, &str)]) {
        for (name, default) in defaults {
            self.text(name, default);
        }
    }

    /// Sets a claim of any type.
    pub(super) fn value(&mut self, name: &str, default: Json) {
        let value = self.overrides.get(name).cloned().unwrap_or(default);
        self.claims = std::mem::take(&mut self.claims).with(name, value);
    }

    /// The claim set, with every further override, and without the claims that an override took away.
    pub(super) fn finish(self) -> Object {
        let further = self.overrides.iter().filter(|(name, _)| !self.steering.contains(name));
        let all = further.fold(self.claims.clone(), |claims, (name, value)| claims.with(name, value.clone()));
        let kept = all.iter().filter(|(_, value)| **value != Json::Null);
        kept.fold(Object::default(), |claims, (name, value)| claims.with(name, value.clone()))
    }
}
