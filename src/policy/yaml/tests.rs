use super::*;

fn parse(text: &str) -> (Option<Node<'_>>, Faults) {
    let mut faults = Faults::new();
    let node = read("f.yaml", text, 1 << 20, &mut faults);
    (node, faults)
}

#[track_caller]
fn value(text: &str) -> Node<'_> {
    let (node, faults) = parse(text);
    assert!(faults.is_empty(), "{faults}");
    node.unwrap()
}

#[track_caller]
fn fault(text: &str, expected: &str) {
    let (_, faults) = parse(text);
    assert_eq!(faults.to_string(), expected, "{text:?}");
}

#[test]
fn plain_scalars_have_the_types_of_the_core_schema() {
    for (text, expected) in [
        ("~", "empty"),
        ("", "empty"),
        ("null", "empty"),
        ("true", "a boolean"),
        ("False", "a boolean"),
        ("7", "an integer"),
        ("-7", "an integer"),
        ("0012", "an integer"),
        ("0x1F", "an integer"),
        ("0o14", "an integer"),
        ("1.20", "a number"),
        ("1e3", "a number"),
        (".5", "a number"),
        ("99999999999999999999", "a number"),
        (".inf", "a number"),
        ("'7'", "text"),
        ("\"true\"", "text"),
        ("yes", "text"),
        ("on", "text"),
        ("1_000", "text"),
        ("12:30", "text"),
        ("1.2.3", "text"),
        ("v1", "text"),
        ("0b1", "text"),
        ("e1", "text"),
        ("-", "a list"),
        ("inf", "text"),
        ("nan", "text"),
        ("2026-11-23", "text"),
    ] {
        assert_eq!(value(text).value.type_name(), expected, "{text:?}");
    }
}

#[test]
fn a_number_remembers_how_it_was_written() {
    assert_eq!(value("0012").quoted(), "\"0012\"");
    assert_eq!(value("1.20").quoted(), "\"1.20\"");
    assert_eq!(value("True").quoted(), "\"True\"");
}

#[test]
fn every_node_knows_its_place() {
    let root = value("a:\n  b: [1, 'x']\n  é: {c: y}\n");
    let Value::Map(top) = &root.value else { panic!() };
    let Value::Map(inner) = &top[0].1.value else { panic!() };
    let Value::Seq(items) = &inner[0].1.value else { panic!() };
    let Value::Map(flow) = &inner[1].1.value else { panic!() };
    assert_eq!(top[0].0.at.to_string(), "f.yaml:1:1");
    assert_eq!(items[1].at.to_string(), "f.yaml:2:10");
    assert_eq!(flow[0].0.at.to_string(), "f.yaml:3:7");
    assert_eq!(flow[0].1.at.to_string(), "f.yaml:3:10");
}

#[test]
fn what_changes_another_place_or_type_is_refused() {
    fault("a: 1\nb: 2\na: 3\n", "f.yaml:3:1: the key `a` is repeated: it first stands on line 1 — keep one of the two");
    fault(
        "{x: {1: a, '1': b}}",
        "f.yaml:1:12: the key `1` is repeated: it first stands on line 1 — keep one of the two",
    );
    let alias = "is an alias, which is not supported — write the value out, or quote text that starts with `*`";
    fault(
        "tag: *\n",
        "f.yaml:1:6: is not YAML: while scanning an anchor or alias, did not find expected alphabetic or numeric character — check the indentation, and that each key ends with `:`",
    );
    fault("tag: *x\n", &format!("f.yaml:1:6: {alias}"));
    fault(
        "a: &x 1\nb: *x\n",
        &format!(
            "f.yaml:1:7: has an anchor, which is not supported — remove it, or quote text that starts with `&`\nf.yaml:2:4: {alias}"
        ),
    );
    fault(
        "a: !!str 5\n",
        "f.yaml:1:10: has a tag, which is not supported — quote text; write other values without a tag",
    );
    fault("<<: {a: 1}\n", "f.yaml:1:1: merges another map — write its entries out");
    fault("a: 1\n---\nb: 2\n", "f.yaml:2:1: starts a second document — write one document a file");
    fault(
        "? [a]\n: 1\n",
        "f.yaml:1:3: a key must be text, and this is a list — quote text that starts with `[`, `{`, `*` or `~`",
    );
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    fault(
        "a: b: c\n",
        "f.yaml:1:5: is not YAML: mapping values are not allowed in this context — quote text that has `: ` or starts with a character such as `@` or a back-quote",
    );
    fault(
        "a:\n\t- b\n",
        "f.yaml:2:2: is not YAML: tabs disallowed within this context (block indentation) — indent with spaces",
    );
    fault("a: [b\n", "f.yaml:1:4: is not YAML: unclosed bracket '[' — close each `[`, `{` and quote");
    fault(
        "%YAML 1.1\n---\na: 1\n",
        "f.yaml:1:1: is not YAML: YAML directives are disallowed — quote text that starts with `%`",
    );
    fault(&"[".repeat(100), "f.yaml:1:33: is not YAML: recursion limit exceeded — nest less deeply");
    let mut faults = Faults::new();
    assert!(read("big.yaml", "a: 1234", 3, &mut faults).is_none());
    assert_eq!(faults.to_string(), "big.yaml: is larger than 3 bytes — split it into several files");
}

#[test]
fn fields_are_read_strictly_and_every_fault_is_reported() {
    let mut faults = Faults::new();
    let text = "name: 7\nttl: 15\nsize: 1KB\non: 'yes'\nlist: x\nlst: 1\ncount: 11\nxyz.w: 1\nempty:\n";
    let root = read("f.yaml", text, 1 << 20, &mut faults).unwrap();
    let root = Field::root(&root);
    let fields = root.fields(&["name", "ttl", "size", "on", "list", "count", "empty", "gone"], &mut faults).unwrap();
    assert!(fields.get("name").unwrap().text(&mut faults).is_none());
    assert!(fields.get("ttl").unwrap().duration(&mut faults).is_none());
    assert!(fields.get("size").unwrap().bytes(&mut faults).is_none());
    assert!(fields.get("on").unwrap().boolean(&mut faults).is_none());
    assert!(fields.get("list").unwrap().texts(&mut faults).is_empty());
    assert!(fields.get("count").unwrap().integer(1, 10, &mut faults).is_none());
    assert!(fields.get("empty").unwrap().text(&mut faults).is_none());
    assert!(fields.require("gone", "add it", &mut faults).is_none());
    let faults = faults.into_result(Some(())).unwrap_err().to_string();
    assert_eq!(
        faults,
        "f.yaml:1:1: `gone` is missing — add it\n\
         f.yaml:1:7: name: must be text, and this is an integer — quote it: \"7\"\n\
         f.yaml:2:6: ttl: must be a length of time, and this is an integer — write a number and a unit: `30s`, `15m`, `1h`\n\
         f.yaml:3:7: size: `1KB` is not a size — write a number and a unit: `512KiB`, `100MiB`, `1GiB`\n\
         f.yaml:4:5: on: must be `true` or `false`, and this is text — write `true` or `false` without quotes\n\
         f.yaml:5:7: list: must be a list, and this is text — write a list: [\"x\"]\n\
         f.yaml:6:1: lst: unknown key `lst` — did you mean `list`?\n\
         f.yaml:7:8: count: `11` is out of range — write 1 to 10\n\
         f.yaml:8:1: \"xyz.w\": unknown key `xyz.w` — known keys: name, ttl, size, on, list, count, empty, gone\n\
         f.yaml:9:6: empty: must be text, and this is empty — give it a value, or remove the line"
    );
}

#[test]
fn durations_and_sizes_have_one_spelling() {
    for (text, seconds) in [("30s", 30), ("15m", 900), ("1h", 3600), ("7d", 604_800)] {
        let node = value(text);
        assert_eq!(Field::root(&node).duration(&mut Faults::new()).unwrap().as_secs(), seconds);
    }
    for text in ["0s", "-1s", "1.5h", "1 h", "h", "15", "1h30m", "99999999999999999999s", "9999999999999999999d"] {
        let node = value(text);
        assert!(Field::root(&node).duration(&mut Faults::new()).is_none(), "{text}");
    }
    for (text, bytes) in [("1", 1), ("1KiB", 1024), ("3MiB", 3 << 20), ("1GiB", 1 << 30)] {
        let node = value(text);
        assert_eq!(Field::root(&node).bytes(&mut Faults::new()), Some(bytes));
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,200}") {
        parse(&text);
    }

    #[test]
    fn yaml_shaped_text_is_read_without_panic(text in "[a-c0-9:\\-\\[\\]{}&*!|>'\"%@`,#?\n \t]{0,200}") {
        parse(&text);
    }
}

fn large(text: &str) -> (Vec<String>, Faults) {
    let mut faults = Faults::new();
    let mut seen = Vec::new();
    if let Some(mut file) = File::read("p.json", text, 1 << 20, &["rules"], &mut faults) {
        if let Value::Map(entries) = &file.root.value {
            seen.extend(
                entries.iter().map(|(key, node)| format!("{}@{} {:?}", key.text, node.at, node.value.type_name())),
            );
        }
        if let Some(mut section) = file.take("rules") {
            while let Some((key, node)) = section.next(&mut faults) {
                seen.push(format!("rules.{}@{}:{} {}", key.text, key.at, node.at, node.value.type_name()));
            }
        }
    }
    (seen, faults)
}

#[test]
fn json_is_read_as_the_yaml_that_it_is_but_entry_by_entry() {
    let json =
        "{\"a\": 1, \"rules\": {\n  \"é\": {\"x\": [\"\\u00e9\", null, true, -2, 1.5]}, \"s\": {}\n}, \"b\": \"t\"}";
    let (seen, faults) = large(json);
    assert!(faults.is_empty(), "{faults}");
    let (same, faults) = large(&format!("# YAML\n{json}").replacen("# YAML\n", "--- # YAML\n", 1));
    assert!(faults.is_empty(), "{faults}");
    let lines =
        |seen: &[String]| seen.iter().map(|line| line.split('@').next().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&seen), lines(&same));
    assert_eq!(
        seen,
        [
            "a@p.json:1:7 \"an integer\"",
            "b@p.json:3:9 \"text\"",
            "rules.é@p.json:2:3:p.json:2:8 a map",
            "rules.s@p.json:2:48:p.json:2:53 a map",
        ]
    );
}

#[test]
fn a_number_is_the_same_in_json_and_in_yaml() {
    for number in [
        "0",
        "-0",
        "7",
        "-7",
        "1.5",
        "-0.0",
        "1e2",
        "1E-2",
        "1e400",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "-9223372036854775809",
        "18446744073709551616",
    ] {
        let read = |text: &str| {
            let mut faults = Faults::new();
            let file = File::read("p.json", text, 1 << 20, &["rules"], &mut faults).unwrap();
            assert!(faults.is_empty(), "{faults}");
            format!("{:?}", file.root.value)
        };
        let json = format!("{{\"a\": {number}}}");
        assert_eq!(read(&json), read(&format!("{json} # YAML")), "{number}");
    }
}

#[test]
fn what_is_not_json_is_told_by_the_yaml_reader() {
    for (text, told) in [
        ("{\"rules\": {\"a\": {\"x\": 1, \"x\": 2}}}", "p.json:1:26: the key `x` is repeated"),
        ("{\"a\": 1, \"a\": 2}", "the key `a` is repeated"),
        ("{\"a\": {\"b\": 1, \"b\": 2}}", "the key `b` is repeated"),
        ("{\"rules\": {}, \"rules\": {}}", "the key `rules` is repeated"),
        ("{\"a\": [1, 2}", "is not YAML"),
        ("{\"a\": \"\\q\"}", "is not YAML"),
        ("{\"a\": 1", "is not YAML"),
    ] {
        let (_, faults) = large(text);
        assert!(faults.to_string().contains(told), "{text}: {faults}");
    }
    // YAML, and not JSON.
    for text in ["{\"a\": 01}", "{\"a\": yes, }", "{\"a\": .5}", "{\"rules\": {\"a\": 0o7}}", "{\"a\": 1} # end"] {
        let (seen, faults) = large(text);
        assert!(faults.is_empty() && !seen.is_empty(), "{text}: {faults}");
    }
}
