//! Each way in which a token can be wrong, and some in which it only looks so.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libmacaroon::MacaroonKey;
use serde_json::Value;
use serde_json::json;
use trustmint::macaroon::MAX_FIELD;
use trustmint::macaroon::Macaroon;
use trustmint::macaroon::RegistryKeyId;

use super::KEY;
use super::LOCATION;
use super::MINTED;
use super::NOW;
use super::PREFIX;
use super::bytes;
use super::changed;
use super::earlier;
use super::identifier;
use super::narrowed;
use super::own;
use super::secret;
use super::secrets_of;
use super::signed;
use super::text;
use super::upload;
use super::with;

pub(super) struct Row {
    pub(super) what: String,
    pub(super) token: String,
    pub(super) facts: Value,
    pub(super) allowed: bool,
}

fn row(allowed: bool, what: &str, token: String, facts: Value) -> Row {
    Row { what: what.to_owned(), token, facts, allowed }
}

/// Each way in which a token can be wrong, and some in which it only looks so.
pub(super) fn table() -> Vec<Row> {
    [requests(), limits(), times(), forged(), moved(), misspelt(), texts(), binaries(), bounds()]
        .into_iter()
        .flatten()
        .collect()
}

/// A token as it is minted, at each request.
fn requests() -> Vec<Row> {
    vec![
        row(true, "as it was minted", narrowed(&[]), upload()),
        row(true, "in another spelling of the package", narrowed(&[]), with(json!({"package": "Widgets.._-Core"}))),
        row(true, "a new package that it names", narrowed(&[]), with(json!({"action": "create"}))),
        row(true, "reading what it may upload", narrowed(&[]), with(json!({"action": "read", "package": "widgets-x"}))),
        row(false, "reading another package", narrowed(&[]), with(json!({"action": "read", "package": "gadgets"}))),
        row(false, "another package", narrowed(&[]), with(json!({"package": "gadgets"}))),
        row(false, "a name that only begins so", narrowed(&[]), with(json!({"package": "widgetsx"}))),
        row(
            false,
            "a new package that it may only add to",
            narrowed(&[]),
            with(json!({"action": "create", "package": "widgets-x"})),
        ),
        row(false, "another action", narrowed(&[]), with(json!({"action": "yank"}))),
        row(false, "no package name at all", narrowed(&[]), with(json!({"package": "widgets-\u{212a}"}))),
        row(
            false,
            "no package name at all, and a token for the words that languages make of nothing",
            made(
                &identifier("k1", 2, earlier(0)),
                &[MINTED[0], MINTED[1], "allow upload:false,upload:nil,upload:none,upload:null,upload:undefined"],
            ),
            with(json!({"package": "widgets-\u{212a}"})),
        ),
        row(false, "a package name with a line break", narrowed(&[]), with(json!({"package": "widgets\n"}))),
        row(true, "the longest name", narrowed(&[]), with(json!({"package": format!("widgets-{}", "a".repeat(206))}))),
        row(false, "a longer name", narrowed(&[]), with(json!({"package": format!("widgets-{}", "a".repeat(207))}))),
        row(false, "the prefix of what it may upload", narrowed(&[]), with(json!({"package": "widgets-"}))),
    ]
}

/// What a token was narrowed to, met and not.
fn limits() -> Vec<Row> {
    vec![
        row(true, "its version", narrowed(&["version 0.9,1.0"]), upload()),
        row(false, "another version", narrowed(&["version 1.1"]), upload()),
        row(false, "two versions that exclude each other", narrowed(&["version 1.0", "version 1.1"]), upload()),
        row(false, "a version that is not stated", narrowed(&["version 1.0"]), with(json!({"version": null}))),
        row(
            true,
            "a version of odd characters",
            narrowed(&["version %00%20%2C%25%C3%A9%F0%9F%8E%89"]),
            with(json!({"version": "\u{0} ,%\u{e9}\u{1f389}"})),
        ),
        row(
            true,
            "versions in the order of their bytes",
            narrowed(&["version %20,!,%EF%BF%BD,%F0%90%80%80"]),
            with(json!({"version": "!"})),
        ),
        row(true, "its file", narrowed(&[&format!("sha256 {},{}", "ab".repeat(32), "cd".repeat(32))]), upload()),
        row(false, "another file", narrowed(&[&format!("sha256 {}", "cd".repeat(32))]), upload()),
        row(
            false,
            "a file that is not stated",
            narrowed(&[&format!("sha256 {}", "ab".repeat(32))]),
            with(json!({"sha256": null})),
        ),
        row(true, "its size", narrowed(&["max-size 1000"]), upload()),
        row(true, "the largest size", narrowed(&["max-size 18446744073709551615"]), upload()),
        row(false, "one byte more", narrowed(&["max-size 999"]), upload()),
        row(true, "an empty file", narrowed(&["max-size 0"]), with(json!({"size": 0}))),
        row(false, "a size that is not stated", narrowed(&["max-size 999"]), with(json!({"size": null}))),
        row(true, "its address", narrowed(&["ip 192.0.2.0/24,2001:db8::/32"]), upload()),
        row(
            true,
            "its address in IPv6",
            narrowed(&["ip 192.0.2.0/24,2001:db8::/32"]),
            with(json!({"client_ip": "2001:DB8::9"})),
        ),
        row(
            true,
            "its address, IPv4 inside IPv6",
            narrowed(&["ip 192.0.2.0/24"]),
            with(json!({"client_ip": "::ffff:192.0.2.9"})),
        ),
        row(true, "any address", narrowed(&["ip 0.0.0.0/0,::/0"]), upload()),
        row(false, "an IPv4 address for a token of IPv6", narrowed(&["ip ::/0"]), upload()),
        row(false, "another address", narrowed(&["ip 192.0.2.0/30"]), upload()),
        row(false, "an address that is not stated", narrowed(&["ip 0.0.0.0/0"]), with(json!({"client_ip": null}))),
        row(true, "its registry again", narrowed(&["registry npm,python"]), upload()),
        row(false, "another registry", narrowed(&["registry npm"]), upload()),
        row(false, "packages that exclude each other", narrowed(&["allow upload:gadgets"]), upload()),
        row(
            false,
            "a wider allow that somebody appended",
            narrowed(&["allow upload:gadgets"]),
            with(json!({"package": "gadgets"})),
        ),
        row(true, "actions of which one begins like another", narrowed(&["allow upload:widgets,upload-x:a"]), upload()),
        row(false, "the same in another order", narrowed(&["allow upload-x:a,upload:widgets"]), upload()),
        row(true, "a late name before an early prefix", narrowed(&["allow upload:widgets,upload:a-*"]), upload()),
        row(false, "an early prefix before a late name", narrowed(&["allow upload:a-*,upload:widgets"]), upload()),
        // Nobody can count offline.
        row(false, "limited in uses", narrowed(&["uses 1"]), upload()),
        row(false, "limited in uses, and only read", narrowed(&["uses 9"]), with(json!({"action": "read"}))),
    ]
}

/// A token rightly signed, with any identifier and caveats.
fn made(identifier: &str, caveats: &[&str]) -> String {
    text(&signed(secret(&own()), identifier, &bytes(caveats)))
}

/// The end that caveats say, and the age that none can change.
fn times() -> Vec<Row> {
    let id = |millis| identifier("k1", 2, earlier(millis));
    vec![
        row(true, "a second left", narrowed(&["time-before 2026-11-23T00:00:01Z"]), upload()),
        row(false, "over in this second", narrowed(&["time-before 2026-11-23T00:00:00Z"]), upload()),
        row(
            false,
            "a later end does not undo an earlier one",
            narrowed(&["time-before 2026-11-22T00:00:00Z", "time-before 2027-01-01T00:00:00Z"]),
            upload(),
        ),
        row(
            false,
            "issued an hour ago, whatever its caveats say",
            made(&id(3_600_000), &["registry python", "time-before 2027-01-01T00:00:00Z", "allow upload:widgets"]),
            upload(),
        ),
        row(
            true,
            "issued a moment less than an hour ago",
            made(&id(3_599_999), &["registry python", "time-before 2027-01-01T00:00:00Z", "allow upload:widgets"]),
            upload(),
        ),
        row(
            true,
            "issued by a clock that is a minute ahead",
            made(&identifier("k1", 2, NOW.plus(Duration::from_secs(60))), &MINTED),
            upload(),
        ),
        row(
            false,
            "issued in the future",
            made(&identifier("k1", 2, NOW.plus(Duration::from_millis(60_001))), &MINTED),
            upload(),
        ),
    ]
}

/// Tokens of others, and ones that lack what every token has.
fn forged() -> Vec<Row> {
    let (own, other) = (own(), secrets_of(RegistryKeyId { key_id: "npm", ..KEY }, "npm"));
    let now = identifier("k1", 2, NOW);
    let mut rows = vec![
        row(
            true,
            "under the other key of the ring",
            text(&signed(own.get("k2").unwrap().expose(), &identifier("k2", 2, NOW), &bytes(&MINTED))),
            upload(),
        ),
        row(
            false,
            "under one key in another's name",
            text(&signed(own.get("k2").unwrap().expose(), &now, &bytes(&MINTED))),
            upload(),
        ),
        row(
            false,
            "under a key that is not known",
            text(&signed(secret(&own), &identifier("k3", 2, NOW), &bytes(&MINTED))),
            upload(),
        ),
        row(false, "of another epoch", made(&identifier("k1", 3, NOW), &MINTED), upload()),
        row(false, "under another registry's secret", text(&signed(secret(&other), &now, &bytes(&MINTED))), upload()),
        row(false, "under an empty secret", text(&signed(b"", &now, &bytes(&MINTED))), upload()),
        row(
            false,
            "with an identifier that is not ours",
            made("6f1c6a3e-5d0e-4c8b-9e0f-2f6d1f3b8a10", &MINTED),
            upload(),
        ),
        row(false, "with an id of another kind", made(&now.replacen("-7", "-4", 1), &MINTED), upload()),
        row(false, "with more after the identifier", made(&format!("{now}.x"), &MINTED), upload()),
        row(false, "with a line break after the identifier", made(&format!("{now}\n"), &MINTED), upload()),
        row(false, "with an epoch in another spelling", made(&now.replacen(".2.", ".02.", 1), &MINTED), upload()),
        row(false, "without any caveat", made(&now, &[]), upload()),
    ];
    for (at, missing) in ["registry", "time-before", "allow"].into_iter().enumerate() {
        let mut some = MINTED.to_vec();
        some.remove(at);
        rows.push(row(false, &format!("without `{missing}`"), made(&now, &some), upload()));
        // A stranger's word in its place, or the same with another letter, makes up for nothing.
        some.push("allow-all");
        rows.push(row(false, &format!("with another for `{missing}`"), made(&now, &some), upload()));
    }
    rows
}

/// A caveat put in, taken out, or moved: the signature is over all of them in their order.
fn moved() -> Vec<Row> {
    let (mut rows, now) = (Vec::new(), identifier("k1", 2, earlier(0)));
    let insert = |caveat: &str, at: usize| {
        let honest = narrowed(&[]);
        let token = Macaroon::decode_text(honest.strip_prefix(PREFIX).unwrap()).unwrap();
        let mut caveats: Vec<Vec<u8>> = token.caveats().map(<[u8]>::to_vec).collect();
        caveats.insert(at, caveat.as_bytes().to_vec());
        let caveats: Vec<&[u8]> = caveats.iter().map(Vec::as_slice).collect();
        let forged = signed(b"whatever", &now, &caveats);
        let mut bytes = forged.encode().expose().clone();
        let length = bytes.len();
        bytes[length - 32..].copy_from_slice(token.signature().expose());
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    };
    for at in 0..=3 {
        for caveat in
            ["source_repo = evil/evil", "version 1.0", "allow upload:gadgets", "x", "registry npm", "claim %7B%7D"]
        {
            rows.push(row(false, &format!("with `{caveat}` put in at {at}"), insert(caveat, at), upload()));
        }
    }
    let reordered = |order: &[usize]| {
        let caveats: Vec<&str> = order.iter().map(|at| MINTED[*at]).collect();
        let mut bytes = signed(b"whatever", &now, &bytes(&caveats)).encode().expose().clone();
        let honest = URL_SAFE_NO_PAD.decode(narrowed(&[]).strip_prefix(PREFIX).unwrap()).unwrap();
        let (length, honest_length) = (bytes.len(), honest.len());
        bytes[length - 32..].copy_from_slice(&honest[honest_length - 32..]);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    };
    rows.push(row(true, "put together anew", reordered(&[0, 1, 2]), upload()));
    for order in [&[1, 0, 2][..], &[0, 2, 1], &[2, 1, 0], &[0, 1], &[0, 2], &[1, 2], &[0], &[]] {
        rows.push(row(false, &format!("in the order {order:?}"), reordered(order), upload()));
    }
    rows
}

/// Caveats in another spelling than their one, or that mean nothing here.
const MISSPELT: &[&str] = &[
    "x-vendor 1",
    "garbage",
    "source repo=acme/widgets",
    "before 2027",
    "Version 1.0",
    "version  1.0",
    "version 1.0 ",
    " version 1.0",
    "version",
    "version ",
    "version 1.0,",
    "version ,1.0",
    "version 1.1,1.0",
    "version 1.0,1.0",
    "version 1.0,1.0 ",
    "version %31.0,1.0",
    "version 1.0,%zz",
    "version 1.0,%2f",
    "version 1.0,%FF",
    "version 1.0,%ED%A0%80",
    "version 1.0,\u{e9}",
    "version 1.0\n",
    "version 1.0\0",
    "version 1.0,a b",
    "version !,%20,1.0",
    "version %F0%90%80%80,%EF%BF%BD",
    "registry python,npm",
    "registry python,python",
    "constructor 1",
    "__proto__ 1",
    "time-before 2026-11-23T00:15:00z",
    "time-before 2026-11-23T00:15:00.0Z",
    "time-before 2026-11-23T00:15:00+00:00",
    "time-before 2026-11-23 00:15:00Z",
    "time-before 2026-11-31T00:15:00Z",
    "time-before 2027-02-29T00:15:00Z",
    "time-before 2026-11-23T24:00:00Z",
    "time-before 2026-11-23T00:15:60Z",
    "time-before 9999-99-99T99:99:99Z",
    "time-before 2026-11-23T00:15:00Z,2026-11-23T00:16:00Z",
    "time-before 12026-11-23T00:15:00Z",
    "time-before 9999-12-31T23:59:59Z",
    "time-before 0000-00-00T00:00:00Z",
    "allow upload:Widgets",
    "allow upload:Widgets,upload:widgets",
    "allow upload:widgets,create:widgets",
    "allow upload:widgets-*,upload:widgets",
    "allow upload:widgets,upload:widgets",
    "allow upload:*,upload:widgets",
    "allow upload:widgets*",
    "allow upload:wid*gets,upload:widgets",
    "allow upload:widgets,upload:",
    "allow widgets",
    "allow :widgets",
    "allow upload:widgets:x",
    "allow *:widgets",
    "allow upload:widgets,upload:widgets-",
    "allow upload:-*,upload:widgets",
    "allow upload:a--*,upload:widgets",
    "allow -upload:a,upload:widgets",
    "allow abcdefghijklmnopqrstuvwxyzabcdefg:a,upload:widgets",
    "sha256 abab",
    "max-size 01000",
    "max-size +1000",
    "max-size 1e9",
    "max-size -1",
    "max-size 1000,1001",
    "max-size 18446744073709551616",
    "max-size 99999999999999999999",
    "max-size 0x3e8",
    "max-size 1000.0",
    "max-size \u{661}\u{660}\u{660}\u{660}",
    "ip 192.0.2.7/24",
    "ip 192.0.2.7",
    "ip 192.0.2.0/024",
    "ip 192.0.2.0/33",
    "ip 192.0.2.0/255.255.255.0",
    "ip 192.0.02.0/24",
    "ip 2001:db8::/32,192.0.2.0/24",
    "ip 192.0.2.0/24,192.0.2.0/24",
    "ip 192.0.2.0/24,192.0.0.0/16",
    "ip ::ffff:192.0.2.0/120",
    "ip ::ffff:0:0/96",
    "ip ::ffff:0:0/0",
    "ip ::ffff:c000:0/16",
    "ip ::ffff:c000:200/120,192.0.2.0/24",
    "ip 192.0.2.0/24,2001:DB8::/32",
    "ip 192.0.2.0/24,2001:db8:0::/32",
    "ip 192.0.2.0/24,2001:db8:0:0:0:0:0:0/32",
    "ip 192.0.2.0/24,::1.2.3.4/128",
    "ip 192.0.2.0/24,fe80::%eth0/64",
    "ip 192.0.2.0/24,[::]/0",
    "ip 3221225984/24",
    "ip 192.0.2.0/24,",
    "ip 0/0",
    "ip /0",
    "uses 0",
    "uses 1",
    "uses x",
];

/// Caveats that somebody appended in another spelling than the one, or that mean nothing here.
fn misspelt() -> Vec<Row> {
    let many: Vec<String> = (10..75).map(|i| format!("1.{i}")).collect();
    let digest = "ab".repeat(32);
    let long = format!("allow upload:{},upload:widgets", "a".repeat(215));
    let longest = format!("allow upload:{},upload:widgets", "a".repeat(214));
    let listed = |most: usize| format!("version 1.0,{}", many[..most].join(","));
    let (two_digests, upper) = (format!("sha256 {digest},{digest}"), format!("sha256 {}", digest.to_uppercase()));
    let (all, too_many) = (listed(63), listed(64));
    let mut rows = vec![
        row(true, "64 arguments", narrowed(&[&all]), upload()),
        row(false, "65 arguments", narrowed(&[&too_many]), upload()),
        row(true, "beside the longest name", narrowed(&[&longest]), upload()),
        row(false, "beside a name that is too long", narrowed(&[&long]), upload()),
    ];
    for caveat in MISSPELT.iter().copied().chain([two_digests.as_str(), upper.as_str()]) {
        rows.push(row(false, &format!("narrowed by {caveat:?}"), narrowed(&[caveat]), upload()));
    }
    for caveat in [
        "ip 192.0.2.0/24,2001:db8::1:0:0:0/80",
        "ip 192.0.2.0/24,::1.0.0.0/104",
        "ip 192.0.2.0/24,::1/128",
        "ip 192.0.2.0/24,1::/16,1:0:0:1::/64",
        "ip 192.0.2.0/24,1:0:1:1:1:1:1:1/128",
        "ip 192.0.2.0/24,::1:0:0:0/80",
        "ip 192.0.2.0/24,64:ff9b::c000:207/128",
    ] {
        let network = caveat.split(',').next_back().unwrap().parse::<ipnet::IpNet>();
        let spelled = network.is_ok_and(|network| caveat.ends_with(&network.to_string()));
        rows.push(row(spelled, &format!("narrowed by {caveat:?}"), narrowed(&[caveat]), upload()));
    }
    let raw = |caveat: &[u8]| {
        let honest = Macaroon::decode_text(narrowed(&[]).strip_prefix(PREFIX).unwrap()).unwrap();
        text(&honest.attenuate(caveat).unwrap())
    };
    rows.push(row(false, "narrowed by bytes that are no text", raw(b"\xff\xfe"), upload()));
    rows.push(row(false, "narrowed by no text after a name", raw(b"version 1.0\xff"), upload()));
    rows.push(row(
        true,
        "narrowed by the longest field",
        raw(format!("version 1.0,{}", "2".repeat(MAX_FIELD - 12)).as_bytes()),
        upload(),
    ));
    rows
}

/// Text that is not the one spelling of its binary.
fn texts() -> Vec<Row> {
    let token = narrowed(&[]);
    let bare = token.strip_prefix(PREFIX).unwrap();
    let standard = base64::engine::general_purpose::STANDARD_NO_PAD.encode(URL_SAFE_NO_PAD.decode(bare).unwrap());
    // Of two of three lengths the last character has bits that say nothing; they are zero in it, and not in the next.
    let lengths = (1..4).map(|more| narrowed(&[&format!("version 1.0,{}", "2".repeat(more))]));
    let mut stray = lengths.into_iter().find(|token| !(token.len() - PREFIX.len()).is_multiple_of(4)).unwrap();
    let last = stray.pop().unwrap();
    stray.push(char::from_u32(u32::from(last) + 1).unwrap());
    vec![
        row(false, "without its prefix", bare.to_owned(), upload()),
        row(false, "with another prefix", format!("tm-{bare}"), upload()),
        row(false, "with its prefix twice", format!("{PREFIX}{token}"), upload()),
        row(false, "with padding", format!("{token}="), upload()),
        row(false, "with a space", format!("{token} "), upload()),
        row(false, "with a line break", format!("{token}\n"), upload()),
        row(false, "with a line break inside", format!("{}\n{}", &token[..40], &token[40..]), upload()),
        row(false, "with junk inside", format!("{}!!{}", &token[..40], &token[40..]), upload()),
        row(false, "in the standard alphabet", format!("{PREFIX}{}", standard.replace('-', "+") + "/"), upload()),
        row(false, "with stray bits in its last character", stray, upload()),
        row(false, "empty", PREFIX.to_owned(), upload()),
        row(false, "nothing at all", String::new(), upload()),
        row(false, "another service's JWT", "eyJhbGciOiJSUzI1NiJ9.e30.c2ln".to_owned(), upload()),
        row(false, "JSON", format!("{PREFIX}{{\"v\":2}}"), upload()),
        row(
            false,
            "a bomb of V1 packets",
            format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode("0006 \n".repeat(1500))),
            upload(),
        ),
        row(false, "a large token", format!("{PREFIX}{}", "A".repeat(100_000)), upload()),
    ]
}

/// Binary that is not V2 as it is written here.
fn binaries() -> Vec<Row> {
    let whole = URL_SAFE_NO_PAD.decode(narrowed(&[]).strip_prefix(PREFIX).unwrap()).unwrap();
    let after_location = 3 + LOCATION.len();
    let mut rows = vec![
        row(false, "with a byte after its signature", changed(|bytes| bytes.push(0)), upload()),
        row(false, "with a shorter signature", changed(|bytes| bytes.truncate(bytes.len() - 1)), upload()),
        row(false, "of another version", changed(|bytes| bytes[0] = 1), upload()),
        row(true, "with another location, which is not signed", changed(|bytes| bytes[5] ^= 1), upload()),
        row(false, "with a location that is no text", changed(|bytes| bytes[5] = 0xff), upload()),
        row(
            false,
            "with an empty location",
            changed(|bytes| {
                bytes.splice(1..=after_location, [1, 0]);
            }),
            upload(),
        ),
        row(
            false,
            "without a location",
            changed(|bytes| {
                bytes.drain(1..=after_location);
            }),
            upload(),
        ),
        row(
            false,
            "with a length in three bytes",
            changed(|bytes| {
                let high = bytes[3];
                bytes.splice(3..4, [high | 0x80, 0]);
            }),
            upload(),
        ),
        row(
            false,
            "with a length in two bytes that needs one",
            changed(|bytes| {
                let at = bytes.len() - 33;
                bytes.splice(at..=at, [0xa0, 0]);
            }),
            upload(),
        ),
        row(
            false,
            "with a length of no end",
            changed(|bytes| {
                bytes.splice(2..4, [0xff; 9]);
            }),
            upload(),
        ),
        row(false, "with one bit changed in its signature", changed(|bytes| *bytes.last_mut().unwrap() ^= 1), upload()),
    ];
    for length in (0..whole.len()).step_by(7) {
        rows.push(row(
            false,
            &format!("cut off after {length} bytes"),
            changed(|bytes| bytes.truncate(length)),
            upload(),
        ));
    }
    for at in (after_location + 1..whole.len()).step_by(5) {
        rows.push(row(false, &format!("with bit 2 of byte {at} changed"), changed(|bytes| bytes[at] ^= 4), upload()));
    }
    // A caveat with a location, with a key of a third party, and one that is empty.
    let last = whole.len() - 35;
    let sections: [(&str, &[u8]); 5] = [
        ("a first-party caveat with a location", &[1, 1, b'x', 2, 1, b'x', 0]),
        ("a third party's caveat", &[1, 1, b'x', 2, 1, b'x', 4, 1, b'x', 0]),
        ("a third party's caveat without location", &[2, 1, b'x', 4, 1, b'x', 0]),
        ("a caveat with an empty key of a third party", &[2, 1, b'x', 4, 0, 0]),
        ("an empty caveat", &[2, 0, 0]),
    ];
    for (what, section) in sections {
        let token = changed(|bytes| {
            bytes.splice(last..last, section.iter().copied());
        });
        rows.push(row(false, what, token, upload()));
    }
    rows
}

/// Rightly signed tokens at the bounds of the format, and beyond them.
fn bounds() -> Vec<Row> {
    let mut rows = Vec::new();
    let many = |count: usize| -> Vec<&str> { std::iter::repeat_n("max-size 1000", count - 3).collect() };
    rows.push(row(true, "with 32 caveats", narrowed(&many(32)), upload()));
    // Rightly signed, in the formats that libraries read as well.
    let other = |format| in_format(format, &identifier("k1", 2, earlier(0)), &MINTED);
    rows.push(row(true, "in V2", other(libmacaroon::Format::V2), upload()));
    rows.push(row(false, "in V1", other(libmacaroon::Format::V1), upload()));
    rows.push(row(false, "in JSON", other(libmacaroon::Format::V2JSON), upload()));
    // No library here makes more, so the chain is continued by hand.
    let (chained, id) = (&many(33), identifier("k1", 2, earlier(0)));
    rows.push(row(false, "with 33 caveats", by_hand(&id, &[&MINTED[..], chained].concat()), upload()));
    let field = format!("version 1.0,{}", "2".repeat(MAX_FIELD - 11));
    rows.push(row(
        false,
        "with a field that is too long",
        by_hand(&id, &[&MINTED[..], &[field.as_str()]].concat()),
        upload(),
    ));
    let half = format!("version 1.0,{}", "2".repeat(3000));
    let halves = [half.as_str(); 3];
    rows.push(row(false, "longer than 8 KiB", by_hand(&id, &[&MINTED[..], &halves].concat()), upload()));
    rows
}

/// A rightly signed token beyond the bounds of our own type.
fn by_hand(identifier: &str, caveats: &[&str]) -> String {
    in_format(libmacaroon::Format::V2, identifier, caveats)
}

fn in_format(format: libmacaroon::Format, identifier: &str, caveats: &[&str]) -> String {
    let key = MacaroonKey::generate(secret(&own()));
    let mut token = libmacaroon::Macaroon::create(Some(LOCATION), &key, identifier).unwrap();
    for caveat in caveats {
        token.add_first_party_caveat(caveat).unwrap();
    }
    let text = token.serialize(format).unwrap();
    format!("{PREFIX}{}", text.trim_end_matches('='))
}
