//! Macaroons of other implementations: what they agree on is read, checked and written back byte for byte; what this
//! service does not accept is refused, each form with its own reason.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use trustmint::macaroon::FormatError;
use trustmint::macaroon::Macaroon;
use trustmint::macaroon::Signature;
use trustmint::macaroon::derive;
use trustmint::macaroon::extend;

struct Vector {
    name: String,
    fields: Value,
}

fn vectors(kind: &str) -> Vec<Vector> {
    let document: Value = serde_json::from_str(include_str!("../data/macaroon_vectors.json")).unwrap();
    let list = document[kind].as_array().unwrap().clone();
    list.into_iter().map(|fields| Vector { name: fields["name"].as_str().unwrap().to_owned(), fields }).collect()
}

impl Vector {
    fn text(&self, field: &str) -> &str {
        self.fields[field].as_str().unwrap_or_else(|| panic!("{}: {field}", self.name))
    }

    fn bytes(&self, field: &str) -> Vec<u8> {
        unhex(self.text(field))
    }

    fn caveats(&self) -> &[Value] {
        self.fields["caveats"].as_array().unwrap()
    }

    fn predicates(&self) -> Vec<Vec<u8>> {
        self.caveats().iter().map(|caveat| unhex(caveat["id_hex"].as_str().unwrap())).collect()
    }

    fn links(&self) -> Vec<Vec<u8>> {
        self.fields["signature_chain_hex"]
            .as_array()
            .unwrap()
            .iter()
            .map(|link| unhex(link.as_str().unwrap()))
            .collect()
    }

    /// The first key of the chain, which all but one vector derive from the secret.
    fn root(&self) -> Signature {
        let key = self.bytes("key_hex");
        if self.text("key_derivation").starts_with("none") { link(&key) } else { derive(&key) }
    }

    fn is_third_party(&self) -> bool {
        self.caveats().iter().any(|caveat| caveat.get("vid_hex").is_some())
    }

    /// Whether the token is of the kind that this service reads: derived key, a location, first-party caveats.
    fn is_ours(&self) -> bool {
        self.name != "raw-key-no-derivation" && self.name != "non-utf8-identifier-and-caveat" && !self.is_third_party()
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn link(bytes: &[u8]) -> Signature {
    Signature::from_bytes(bytes.try_into().unwrap())
}

#[test]
fn every_vector_is_there() {
    let positive = vectors("positive");
    assert_eq!(positive.len(), 19);
    assert_eq!(positive.iter().filter(|vector| vector.is_third_party()).count(), 3);
    assert_eq!(positive.iter().filter(|vector| vector.is_ours()).count(), 14);
    assert_eq!(vectors("must_not_parse_strict").len(), 15);
    assert_eq!(vectors("signature_cases").len(), 4);
}

#[test]
fn first_party_tokens_are_read_checked_and_written_back() {
    for vector in vectors("positive").into_iter().filter(Vector::is_ours) {
        let name = &vector.name;
        let bytes = vector.bytes("v2_hex");
        let token = Macaroon::decode(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(token.location(), vector.text("location"), "{name}");
        assert_eq!(token.identifier(), vector.bytes("identifier_hex"), "{name}");
        assert!(token.caveats().eq(vector.predicates()), "{name}");
        assert_eq!(token.signature().expose(), vector.bytes("signature_hex").as_slice(), "{name}");
        assert!(token.is_signed_with(&vector.bytes("key_hex")), "{name}");
        assert!(!token.is_signed_with(b"another key"), "{name}");
        assert_eq!(token.encode().expose(), &bytes, "{name}");
        let text = vector.text("v2_b64url");
        assert_eq!(Macaroon::decode_text(text).unwrap().encode_text("").expose(), text, "{name}");
    }
}

#[test]
fn every_link_of_every_chain_is_right() {
    for vector in vectors("positive") {
        let name = &vector.name;
        let links = vector.links();
        let root = vector.root();
        assert_eq!(root.expose(), vector.bytes("derived_key_hex").as_slice(), "{name}");
        let mut last = extend(&root, &vector.bytes("identifier_hex"));
        assert_eq!(last.expose(), links[0].as_slice(), "{name}");
        // A third party's caveats are chained by another rule, which this service does not have.
        let predicates =
            vector.caveats().iter().zip(vector.predicates()).take_while(|(c, _)| c.get("vid_hex").is_none());
        let mut checked = 1;
        for ((_, predicate), expected) in predicates.zip(&links[1..]) {
            last = extend(&last, &predicate);
            assert_eq!(last.expose(), expected.as_slice(), "{name}");
            checked += 1;
        }
        if !vector.is_third_party() {
            assert_eq!(checked, links.len(), "{name}");
            assert_eq!(last.expose(), vector.bytes("signature_hex").as_slice(), "{name}");
        }
    }
}

#[test]
fn tokens_are_made_and_narrowed_as_others_make_them() {
    for vector in vectors("positive").into_iter().filter(Vector::is_ours) {
        let (key, location) = (vector.bytes("key_hex"), vector.text("location"));
        let predicates = vector.predicates();
        let root = Macaroon::create(&key, location, &vector.bytes("identifier_hex"), &[]).unwrap();
        assert_eq!(root.signature().expose(), vector.links()[0].as_slice());
        let token = predicates.iter().fold(root, |token, predicate| token.attenuate(predicate).unwrap());
        assert_eq!(token.encode().expose(), &vector.bytes("v2_hex"), "{}", vector.name);
    }
}

#[test]
fn tokens_of_other_kinds_are_refused_with_their_own_reason() {
    for vector in vectors("positive").into_iter().filter(|vector| !vector.is_ours()) {
        let decoded = Macaroon::decode(&vector.bytes("v2_hex"));
        match vector.name.as_str() {
            // Well-formed, but no secret derives to its key.
            "raw-key-no-derivation" => assert!(!decoded.unwrap().is_signed_with(&vector.bytes("key_hex"))),
            "non-utf8-identifier-and-caveat" => assert_eq!(decoded.unwrap_err(), FormatError::NoLocation),
            name => assert_eq!(decoded.unwrap_err(), FormatError::ThirdPartyCaveat, "{name}"),
        }
    }
}

#[test]
fn v1_and_json_are_refused_with_their_own_reason() {
    for vector in vectors("positive") {
        let name = &vector.name;
        if let Some(v1) = vector.fields["v1_b64url"].as_str() {
            assert_eq!(Macaroon::decode_text(v1).unwrap_err(), FormatError::V1, "{name}");
            assert_eq!(Macaroon::decode(&URL_SAFE_NO_PAD.decode(v1).unwrap()).unwrap_err(), FormatError::V1, "{name}");
        }
        let json = vector.fields["v2_json"].to_string();
        assert_eq!(Macaroon::decode_text(&json).unwrap_err(), FormatError::Json, "{name}");
        assert_eq!(Macaroon::decode(json.as_bytes()).unwrap_err(), FormatError::Json, "{name}");
        let encoded = URL_SAFE_NO_PAD.encode(&json);
        assert_eq!(Macaroon::decode_text(&encoded).unwrap_err(), FormatError::Json, "{name}");
    }
}

/// A discharge has the form of a token. Bound to another token, as it travels, it is signed by no key; unbound, it
/// answers a third party's caveat, and no token here has one.
#[test]
fn a_bound_discharge_is_signed_with_no_key() {
    let mut discharges = 0;
    for vector in vectors("positive") {
        for discharge in vector.fields["discharges"].as_array().into_iter().flatten() {
            let token = Macaroon::decode_text(discharge["bound_v2_b64url"].as_str().unwrap()).unwrap();
            let root = match (discharge["key_utf8"].as_str(), discharge["caveat_key_hex"].as_str()) {
                (Some(key), None) => {
                    assert!(!token.is_signed_with(key.as_bytes()));
                    derive(key.as_bytes())
                }
                (None, Some(key)) => link(&unhex(key)),
                _ => panic!("{}: one key", vector.name),
            };
            let unbound = token.caveats().fold(extend(&root, token.identifier()), |link, c| extend(&link, c));
            assert_eq!(unbound.expose(), unhex(discharge["unbound_signature_hex"].as_str().unwrap()).as_slice());
            let bound = unhex(discharge["bound_signature_hex"].as_str().unwrap());
            assert_eq!(token.signature().expose(), bound.as_slice());
            discharges += 1;
        }
    }
    assert_eq!(discharges, 3);
}

#[test]
fn what_strict_parsers_refuse_is_refused() {
    for vector in vectors("must_not_parse_strict") {
        let expected = match vector.name.as_str() {
            "empty" => FormatError::Empty,
            "version-byte-1" => FormatError::UnknownVersion,
            "truncated-signature" | "unterminated-varint" | "huge-length" | "identifier-before-location" => {
                // The last three have no location, which is looked for first.
                if vector.name == "truncated-signature" { FormatError::Truncated } else { FormatError::NoLocation }
            }
            "signature-31" | "signature-33" => FormatError::SignatureLength,
            "trailing-byte" => FormatError::TrailingBytes,
            "non-minimal-length" => FormatError::NonMinimalLength,
            "empty-location-field" => FormatError::EmptyLocation,
            "no-identifier" => FormatError::NoIdentifier,
            "unknown-field-3" | "duplicate-caveat-identifier" => FormatError::UnexpectedField,
            "first-party-caveat-with-location" => FormatError::CaveatLocation,
            name => panic!("a vector without an expectation: {name}"),
        };
        let bytes = vector.bytes("v2_hex");
        assert_eq!(Macaroon::decode(&bytes).unwrap_err(), expected, "{}", vector.name);
        assert_eq!(Macaroon::decode_text(&URL_SAFE_NO_PAD.encode(&bytes)).unwrap_err(), expected, "{}", vector.name);
        // The same faults behind a location.
        if let Some(rest) = vector.name.ends_with("length").then(|| bytes.strip_prefix(&[2, 2])).flatten() {
            let behind = [&[2, 1, 1, b'l', 2], rest].concat();
            assert_eq!(Macaroon::decode(&behind).unwrap_err(), FormatError::FieldTooLong);
        }
    }
}

#[test]
fn the_signature_covers_caveats_and_their_order_and_not_the_location() {
    for vector in vectors("signature_cases") {
        let token = Macaroon::decode(&vector.bytes("v2_hex")).unwrap();
        let expected = vector.fields["signature_verifies"].as_bool().unwrap();
        assert_eq!(token.is_signed_with(b"this is the key"), expected, "{}", vector.name);
    }
}
