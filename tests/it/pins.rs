//! What a preset's rules must fix they fix by literals in each of their branches: there is no way round, with a `span` or
//! without one.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use trustmint::identity::provider;
use trustmint::identity::provider::Span;

use crate::providers::value;
use crate::support::Presets;
use crate::support::presets::PRESETS;
use crate::support::presets::Preset;

/// Claims, and what is demanded of each.
type Conditions = Map<String, Value>;

/// What can stand in a pin's place and fixes nothing; `null` where the pin is left out.
fn looser() -> [Value; 6] {
    [
        Value::Null,
        json!({"present": true}),
        json!({"glob": "x*"}),
        json!({"regex": ".+"}),
        json!({"not": "x"}),
        json!({"not": {"in": ["x"]}}),
    ]
}

/// The conditions with another test of one claim.
fn with(conditions: &Conditions, claim: &str, test: Value) -> Conditions {
    let mut conditions = conditions.clone();
    conditions.insert(claim.to_owned(), test);
    conditions.retain(|_, test| !test.is_null());
    conditions
}

/// A rule of one issuer, and the pin that it leaves open, if any.
struct Case {
    span: Option<&'static Span>,
    when: Conditions,
    open: Option<&'static str>,
}

impl Case {
    fn rule(&self, issuer: &str) -> Value {
        let allow = json!({"upload": ["widgets"]});
        let mut rule = json!({"registry": "acme-pypi", "issuer": issuer, "when": self.when, "allow": allow});
        if let Some(span) = self.span {
            rule["span"] = json!(span.name);
        }
        rule
    }

    /// Of the rule's errors, each a line, exactly one says that a pin is open, and names the right one; or none does.
    fn check(&self, issuer: &str, errors: &[&str]) {
        let is_about_pins = |line: &&str| line.contains(": L001: ") || line.contains(": L002: ");
        let said: Vec<&str> = errors.iter().copied().filter(is_about_pins).collect();
        let right = self.open.map_or(said.is_empty(), |pin| {
            // Without any condition it is not the pin that is missed first.
            let words = if self.when.is_empty() { ": L002: ".to_owned() } else { format!(": L001: `{pin}` is") };
            said.len() == 1 && said[0].contains(&words)
        });
        assert!(right, "{:?}: {}\n{errors:#?}", self.open, self.rule(issuer));
    }
}

/// The rules of one scope of a preset: one with every pin that it demands, and each with one of them left open, in all of
/// it or in one of two blocks.
fn cases(span: Option<&'static Span>, pinned: &Conditions, owed: &[&'static str]) -> Vec<Case> {
    let mut cases = vec![Case { span, when: pinned.clone(), open: None }];
    for pin in owed.iter().copied() {
        for test in looser() {
            let when = with(pinned, pin, test);
            if !when.is_empty() {
                let either = [("any_of".to_owned(), json!([pinned, when]))].into_iter().collect();
                cases.push(Case { span, when: either, open: Some(pin) });
            }
            cases.push(Case { span, when, open: Some(pin) });
        }
    }
    cases
}

#[actix_web::test]
async fn no_preset_has_a_way_round_its_pins() {
    let presets = Presets::start().await;
    let (mut pins, mut spans, mut tried) = (0, 0, 0);
    for Preset { name: issuer, example, .. } in PRESETS {
        let provider = provider::by_name(issuer).unwrap();
        let claims = presets.claims(&format!("{issuer}/{example}"), &json!({}));
        let mut all = Vec::new();
        for span in std::iter::once(None).chain(provider.spans.iter().map(Some)) {
            let freed = span.map_or(&[][..], |span| span.frees);
            let owed: Vec<&'static str> = provider.pins.iter().copied().filter(|pin| !freed.contains(pin)).collect();
            let fixed = owed.iter().map(|pin| (provider.shown(pin).to_owned(), value(&claims, pin).clone()));
            let pinned: Conditions = fixed.collect();
            let owed: Vec<&'static str> = owed.into_iter().map(|pin| provider.shown(pin)).collect();
            // The one without pins is declared to have one tenant.
            if !owed.is_empty() {
                all.extend(cases(span, &pinned, &owed));
            }
        }
        pins += provider.pins.len();
        spans += provider.spans.len();
        if all.is_empty() {
            continue;
        }
        let named = all.iter().enumerate().map(|(number, case)| (format!("r{number}"), case.rule(issuer)));
        let rules: Map<String, Value> = named.collect();
        let errors = presets.faults(&format!("  {}", Value::Object(rules)));
        for (number, case) in all.iter().enumerate() {
            let place = format!(": rules.r{number}.");
            let own = errors.lines().filter(|line| line.contains(&place) && !line.contains(": warning: "));
            case.check(issuer, &own.collect::<Vec<_>>());
            tried += usize::from(case.open.is_some());
        }
    }
    assert_eq!(pins, provider::ALL.iter().map(|provider| provider.pins.len()).sum::<usize>());
    assert_eq!(spans, provider::ALL.iter().map(|provider| provider.spans.len()).sum::<usize>());
    assert!(pins >= 41 && spans >= 13 && tried >= 700, "{pins} pins, {spans} spans, {tried} rules");
}
