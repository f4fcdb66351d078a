use super::*;
use crate::codec::Codec;
use crate::macaroon::fixture::NOW;
use crate::macaroon::fixture::act;
use crate::macaroon::fixture::after;
use crate::macaroon::fixture::upload;
use crate::package::Ecosystem;

/// The reason for which facts fail a caveat, as code and sentence.
fn refusal(caveat: &str, facts: &Facts<'_>) -> Option<(&'static str, String)> {
    let caveat = Caveat::parse(Ecosystem::Pypi, caveat.as_bytes()).unwrap();
    caveat.check(facts).err().map(|failed| (failed.code().as_str(), failed.to_string()))
}

#[track_caller]
fn meets(caveat: &str, facts: &Facts<'_>) {
    assert_eq!(refusal(caveat, facts), None);
}

#[track_caller]
fn fails(caveat: &str, facts: &Facts<'_>, code: &str, sentence: &str) {
    let refusal = refusal(caveat, facts);
    assert_eq!(refusal.as_ref().map(|(code, sentence)| (*code, sentence.as_str())), Some((code, sentence)));
}

#[test]
fn registry() {
    let upload = upload("widgets");
    let facts = upload.facts();
    meets("registry python", &facts);
    meets("registry npm,python", &facts);
    fails("registry npm", &facts, "wrong-registry", "the token is for the registry `npm`; `python` asked");
    fails("registry Python", &facts, "wrong-registry", "the token is for the registry `Python`; `python` asked");
    let shown = "the token is for the registry `a`, `b`, `c`, `d` and 2 more; `python` asked";
    fails("registry a,b,c,d,e,f", &facts, "wrong-registry", shown);
}

#[test]
fn time_before() {
    let upload = upload("widgets");
    let at = |now| Facts { now, ..upload.facts() };
    let caveat = "time-before 2026-11-23T00:15:00Z";
    let end = after(900);
    meets(caveat, &at(NOW));
    meets(caveat, &at(end.minus(Duration::from_millis(1))));
    let expired = "the token expired at 2026-11-23T00:15:00Z";
    fails(caveat, &at(end), "upload-token-expired", &format!("{expired}, 0 s ago"));
    fails(caveat, &at(after(900 + 243)), "upload-token-expired", &format!("{expired}, 4 min 3 s ago"));
    fails(caveat, &at(after(900 + 3 * 3600 + 61)), "upload-token-expired", &format!("{expired}, 3 h 1 min ago"));
    fails(caveat, &at(after(900 + 50 * 3600)), "upload-token-expired", &format!("{expired}, 2 d 2 h ago"));
}

#[test]
fn time_between() {
    let upload = upload("widgets");
    let at = |now| Facts { now, ..upload.facts() };
    let (from, before) = (NOW, after(900));
    let caveat = Caveat::TimeBetween { from, before };
    let refusal = |caveat: &Caveat, now| {
        let failed = caveat.check(&at(now)).err();
        failed.map(|failed| (failed.code().as_str(), failed.to_string()))
    };
    let millisecond = Duration::from_millis(1);
    assert_eq!(refusal(&caveat, from), None);
    assert_eq!(refusal(&caveat, before.minus(millisecond)), None);
    let early = "the token is good from 2026-11-23T00:00:00Z on; it is 2026-11-22T23:59:59Z";
    assert_eq!(refusal(&caveat, from.minus(millisecond)), Some(("upload-token-not-yet-valid", early.to_owned())));
    let expired = "the token expired at 2026-11-23T00:15:00Z, 0 s ago";
    assert_eq!(refusal(&caveat, before), Some(("upload-token-expired", expired.to_owned())));
    // Never open: of length 0, and the wrong way round.
    for never in [Caveat::TimeBetween { from, before: from }, Caveat::TimeBetween { from: before, before: from }] {
        for now in [from.minus(millisecond), from, after(450), before, after(901)] {
            assert!(never.check(&at(now)).is_err(), "{never} {now}");
        }
    }
}

/// The codec `pypi` names projects and no actions.
#[test]
fn projects_are_for_uploads_to_what_exists() {
    let caveat = Caveat::read(Codec::Pypi, Ecosystem::Pypi, b"[1,[\"widgets\",\"widgets-core\"]]").unwrap();
    let refusal = |asked: &crate::macaroon::fixture::Upload| caveat.check(&asked.facts()).err();
    for allowed in [upload("widgets"), upload("Widgets_Core"), act("read", "widgets")] {
        assert_eq!(refusal(&allowed), None);
    }
    for action in ["create", "yank", "delete", "tag"] {
        assert_eq!(refusal(&act(action, "widgets")).map(|failed| failed.code()), Some(Code::ActionNotCovered));
    }
    for name in ["gadgets", "widgets-more", "widget"] {
        assert_eq!(refusal(&upload(name)).map(|failed| failed.code()), Some(Code::PackageNotCovered));
    }
}

#[test]
fn allow() {
    let caveat = "allow create:acme-*,upload:widgets,upload:widgets-*";
    meets(caveat, &upload("widgets").facts());
    meets(caveat, &upload("Widgets.Core").facts());
    meets(caveat, &act("create", "acme-new").facts());
    meets(caveat, &act("read", "widgets").facts());
    let stranger = upload("gadgets");
    let shown = "the token is for `widgets`, `acme-*`, `widgets-*`; `gadgets`";
    fails(caveat, &upload("gadgets").facts(), "package-not-covered", &format!("{shown} was uploaded"));
    fails(
        caveat,
        &upload("widgetsx").facts(),
        "package-not-covered",
        &shown.replace("`gadgets`", "`widgetsx` was uploaded"),
    );
    fails(caveat, &act("yank", "gadgets").facts(), "package-not-covered", &format!("{shown} was asked for, to `yank`"));
    fails(caveat, &act("read", "gadgets").facts(), "package-not-covered", &format!("{shown} was asked for, to `read`"));
    let shown = "the token allows `upload` on `widgets`; `yank` was asked for";
    fails(caveat, &act("yank", "widgets").facts(), "action-not-covered", shown);
    let shown =
        "the token allows `upload` on `widgets-new`; `create` was asked for, since there is no such package yet";
    fails(caveat, &act("create", "widgets-new").facts(), "action-not-covered", shown);
    assert!(Caveat::Allow(Permissions::default()).check(&stranger.facts()).is_err());
}

#[test]
fn version() {
    let upload = upload("widgets");
    let is = |version| Facts { version, ..upload.facts() };
    meets("version 1.2.0,1.2.1", &is(Some("1.2.1")));
    let shown = "the token is for version `1.2.0`; the upload is version `1.2`";
    fails("version 1.2.0", &is(Some("1.2")), "version-not-covered", shown);
    let shown = "the token has a caveat `version`, and the registry did not state the version";
    fails("version 1.2.0", &is(None), "fact-not-stated", shown);
}

#[test]
fn sha256() {
    let upload = upload("widgets");
    let is = |sha256| Facts { sha256, ..upload.facts() };
    let (ones, twos) = ("01".repeat(32), "02".repeat(32));
    meets(&format!("sha256 {ones},{twos}"), &is(Some([2; 32])));
    let shown = format!("the token is for the file with SHA-256 `{ones}`; the upload's is `{twos}`");
    fails(&format!("sha256 {ones}"), &is(Some([2; 32])), "digest-not-covered", &shown);
    let shown = "the token has a caveat `sha256`, and the registry did not state the file's SHA-256";
    fails(&format!("sha256 {ones}"), &is(None), "fact-not-stated", shown);
}

#[test]
fn max_size() {
    let upload = upload("widgets");
    let is = |size| Facts { size, ..upload.facts() };
    meets("max-size 10", &is(Some(10)));
    meets("max-size 0", &is(Some(0)));
    let shown = "the token is for files of at most 10 bytes; the upload has 11";
    fails("max-size 10", &is(Some(11)), "size-not-covered", shown);
    let shown = "the token has a caveat `max-size`, and the registry did not state the file's size";
    fails("max-size 10", &is(None), "fact-not-stated", shown);
}

#[test]
fn uses_are_counted_elsewhere() {
    meets("uses 1", &upload("widgets").facts());
}

#[test]
fn ip() {
    let upload = upload("widgets");
    let from = |ip: &str| Facts { client_ip: Some(ip.parse().unwrap()), ..upload.facts() };
    let caveat = "ip 203.0.113.0/24,2001:db8::/32";
    meets(caveat, &from("203.0.113.255"));
    meets(caveat, &from("2001:db8::1"));
    meets(caveat, &from("::ffff:203.0.113.7"));
    let shown = "the token is for clients in `203.0.113.0/24`, `2001:db8::/32`; the request came from `203.0.114.1`";
    fails(caveat, &from("203.0.114.1"), "address-not-covered", shown);
    fails(
        "ip ::/0",
        &from("::ffff:203.0.113.7"),
        "address-not-covered",
        "the token is for clients in `::/0`; the request came from `203.0.113.7`",
    );
    let shown = "the token has a caveat `ip`, and the registry did not state the client's address";
    fails(caveat, &upload.facts(), "fact-not-stated", shown);
}

#[test]
fn a_list_that_is_empty_is_met_by_nothing() {
    let upload = upload("widgets");
    let facts =
        Facts { version: Some("1"), sha256: Some([0; 32]), client_ip: Some("::1".parse().unwrap()), ..upload.facts() };
    for caveat in [
        Caveat::Registry(BTreeSet::new()),
        Caveat::Allow(Permissions::default()),
        Caveat::Version(BTreeSet::new()),
        Caveat::Sha256(BTreeSet::new()),
        Caveat::Ip(BTreeSet::new()),
    ] {
        assert!(caveat.check(&facts).is_err(), "{caveat:?}");
    }
}

#[test]
fn a_strangers_text_is_shown_harmlessly() {
    let upload = upload("widgets");
    let facts = Facts { registry: "a\u{1b}[31m\u{202e}", version: Some("1\n"), ..upload.facts() };
    let shown = "the token is for version `1%0D`; the upload is version `1%0A`";
    fails("version 1%0D", &facts, "version-not-covered", shown);
    let shown = "the token is for the registry `%E2%80%AE`; `a%1B[31m%E2%80%AE` asked";
    fails("registry %E2%80%AE", &facts, "wrong-registry", shown);
}
