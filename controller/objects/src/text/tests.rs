//! What readers of texts must know: JSON and YAML as others write them, hostile ones within their bounds.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn fields_given_twice_are_named_and_the_last_counts() {
    let decoded = json(br#"{"a":1,"b":{"c":[{"d":1,"d":2,"d":3}]},"a":{"x":1}}"#).unwrap();
    assert_eq!(decoded.value, json!({"a": {"x": 1}, "b": {"c": [{"d": 3}]}}));
    assert_eq!(decoded.duplicates, ["b.c[0].d", "a"]);
    assert!(json(b"{} {}").is_err());
    assert!(json(b"").is_err());
    let decoded = yaml(b"a: 1\nb:\n  c:\n  - {d: 1, d: 2, d: 3}\na: {x: 1}\n").unwrap();
    assert_eq!(decoded.value, json!({"a": {"x": 1}, "b": {"c": [{"d": 3}]}}));
    assert_eq!(decoded.duplicates, ["b.c[0].d", "a"]);
}

#[test]
fn the_path_of_a_duplicate_is_cut() {
    let twice: String = (0..200).map(|n| format!("\"{n}\":1,\"{n}\":2,")).collect();
    let text = format!("{{\"{}\":{{{}}}}}", "ü".repeat(100_000), twice.trim_end_matches(','));
    let duplicates = json(text.as_bytes()).unwrap().duplicates;
    assert_eq!(duplicates.len(), 1, "what differs is cut off");
    assert!(duplicates[0].len() <= LONGEST_PATH + 3 && duplicates[0].ends_with("..."));
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    assert!(json(nested(127).as_bytes()).is_ok());
    assert!(yaml(nested(127).as_bytes()).is_ok());
    for text in [nested(100_000), "[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
        assert!(matches!(json(text.as_bytes()), Err(Fault::Syntax(_))));
        assert!(matches!(yaml(text.as_bytes()), Err(Fault::Syntax(_))));
    }
}

#[test]
fn the_number_of_values_is_bounded_while_they_are_read() {
    let items = |count: usize| json!({"items": vec![json!({}); count]});
    assert_eq!(too_many(&items(MOST_ITEMS)), None);
    assert!(too_many(&items(MOST_ITEMS + 1)).unwrap().contains("objects in lists"));
    assert_eq!(too_many(&json!(vec![1; MOST_VALUES - 1])), None);
    assert!(too_many(&json!(vec![1; MOST_VALUES])).unwrap().contains("values"));
    for (fits, text) in [
        (true, items(MOST_ITEMS).to_string()),
        (false, items(MOST_ITEMS + 1).to_string()),
        (true, json!(vec![1; MOST_VALUES - 1]).to_string()),
        (false, json!(vec![1; MOST_VALUES]).to_string()),
        (false, format!("{{{}\"a\":1}}", "\"a\":1,".repeat(MOST_VALUES))),
    ] {
        for read in [json, yaml] {
            match read(text.as_bytes()) {
                Ok(_) => assert!(fits, "{:.40}", text),
                Err(fault) => assert!(!fits && matches!(fault, Fault::TooLarge(_)), "{:.40}: {fault}", text),
            }
        }
    }
}

#[test]
fn aliases_count_as_what_they_repeat() {
    let large = "x".repeat(1_000_000);
    let times = |count: usize| format!("a: &a {large}\nb: [{}]\n", vec!["*a"; count].join(", "));
    assert_eq!(yaml(times(1).as_bytes()).unwrap().value["b"][0], large.as_str());
    assert!(matches!(yaml(times(2).as_bytes()), Err(Fault::TooLarge(_))));
    assert!(matches!(yaml(times(5_000).as_bytes()), Err(Fault::TooLarge(_))));
    // As a field's name, too.
    let keys = format!("a: &a {large}\nb: [{}]\n", vec!["{*a : 1}"; 100].join(", "));
    assert!(matches!(yaml(keys.as_bytes()), Err(Fault::TooLarge(_))));
    // An anchor in an anchor keeps the same again.
    let nested: String = (0..100).map(|n| format!("&a{n} [")).collect();
    let nested = format!("{nested}{large}{}", "]".repeat(100));
    assert!(matches!(yaml(nested.as_bytes()), Err(Fault::TooLarge(_))));
    // Each level repeats the one before nine times.
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let nine = vec![format!("*a{}", level - 1); 9].join(", ");
        laughs.push_str(&format!("a{level}: &a{level} [{nine}]\n"));
    }
    assert!(matches!(yaml(laughs.as_bytes()), Err(Fault::TooLarge(_))));
    let merges = format!("a: &a {{k: {large}}}\nb: [{}]\n", vec!["{<<: *a}"; 100].join(", "));
    assert!(matches!(yaml(merges.as_bytes()), Err(Fault::TooLarge(_))));
    assert!(matches!(yaml(b"a: &a [*a]"), Err(Fault::Syntax(_))), "an alias of what is not at its end");
    assert!(matches!(yaml(b"a: *b"), Err(Fault::Syntax(_))));
}

#[test]
fn merge_keys_are_merged() {
    let text = b"base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\n\
        one: {<<: *base, b: 9}\nboth:\n  <<: [*base, *other]\n  d: 5\nquoted: {\"<<\": 1}\n";
    let value = yaml(text).unwrap().value;
    assert_eq!(value["one"], json!({"a": 1, "b": 9}));
    assert_eq!(value["both"], json!({"a": 1, "b": 2, "c": 4, "d": 5}));
    assert_eq!(value["quoted"], json!({"<<": 1}));
    assert!(yaml(b"a: {<<: 1}").is_err());
}

#[test]
fn scalars_and_tags() {
    let value = |text: &str| yaml(text.as_bytes()).map(|decoded| decoded.value);
    for (text, expected) in [
        ("~", json!(null)),
        ("null", json!(null)),
        ("True", json!(true)),
        ("yes", json!("yes")),
        ("0", json!(0)),
        ("-12", json!(-12)),
        ("+7", json!(7)),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        ("0644", json!("0644")),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("1.2.3", json!("1.2.3")),
        ("1_000", json!("1_000")),
        ("--1", json!("--1")),
        ("-", json!([null])),
        ("e3", json!("e3")),
        ("inf", json!("inf")),
        ("500m", json!("500m")),
        ("2026-01-01", json!("2026-01-01")),
        ("\"1\"", json!("1")),
        ("'true'", json!("true")),
        ("!!str 1", json!("1")),
        ("! 1", json!("1")),
        ("!!int 7", json!(7)),
        ("!!float 7", json!(7)),
        ("!!map {a: 1}", json!({"a": 1})),
        ("|\n  a\n  b\n", json!("a\nb\n")),
        ("{1: a, true: b}", json!({"1": "a", "true": "b"})),
        ("", json!(null)),
    ] {
        assert_eq!(value(text), Ok(expected), "{text}");
    }
    for refused in
        ["!!int x", "!!binary aGk=", "!own 1", "!own {a: 1}", "!!set {a}", ".inf", "{[a]: 1}", "a\n---\nb"]
    {
        assert!(matches!(value(refused), Err(Fault::Syntax(_))), "{refused}: {:?}", value(refused));
    }
    assert_eq!(value("---\na: 1\n...\n"), Ok(json!({"a": 1})));
    assert!(yaml(b"a: \xff").is_err());
}

/// A text of the largest size costs what it is long, whatever is in it.
#[test]
fn large_texts_are_judged_in_one_pass() {
    let pieces = [
        "a", "[", "]", "{", "}", "- ", "? ", ": ", ", ", "&a ", "*a ", "\n", "\n ", "'", "\"", "#", "!!str ",
        "| ", "%", "---\n", "\t", "\u{feff}", "a: b\n", "[a, ", "- a\n", "  - ",
    ];
    for piece in pieces {
        for around in [("", ""), ("[", "]"), ("a: ", ""), ("a: |\n ", "")] {
            let text = format!("{}{}{}", around.0, piece.repeat(200_000 / piece.len()), around.1);
            let _ = (yaml(text.as_bytes()), json(text.as_bytes()));
        }
    }
}

/// In brackets the parser keeps everything until they end: such texts are refused before it sees them.
#[test]
fn yaml_of_very_many_parts_is_not_parsed() {
    for part in ["0,", "{},", "\"\" ", "''", "*a ", "&a ", "!t ", ": ", "? ", "[],"] {
        for around in [("[", "]"), ("- [", "]"), ("a: [[", "]]"), ("{a: [", "]}")] {
            let text = format!("{}{}{}", around.0, part.repeat(4 * MOST_VALUES + 1), around.1);
            let refused = yaml(text.as_bytes());
            assert!(
                matches!(&refused, Err(Fault::TooLarge(why)) if why.contains("parts")),
                "{part}: {refused:?}"
            );
        }
    }
    let most = json!(vec![json!({"k": "v"}); MOST_ITEMS - 1]).to_string();
    assert!(yaml(most.as_bytes()).is_ok());
    let table = format!("a: |\n  {}\n", "12345.5,".repeat(390_000));
    assert_eq!(yaml(table.as_bytes()).unwrap().value["a"].as_str().unwrap().len(), 390_000 * 8 + 1);
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(|number: f64| json!(number)),
        "[ -~]{0,20}".prop_map(Value::from),
        "[a-z0-9 :#\\-\n\t\"'ü]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            // A plain << merges; the other writer knows no merging and does not quote it.
            proptest::collection::btree_map(
                "[ -~]{0,8}".prop_filter("merges", |key| key != "<<"),
                inner,
                0..5
            )
            .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn json_is_read_as_serde_json_reads_it(text in r#"[\[\]{}:,"a-c0-9.e \\ntrulfs-]{0,60}"#) {
        let expected = serde_json::from_str::<Value>(&text).ok();
        prop_assert_eq!(json(text.as_bytes()).ok().map(|decoded| decoded.value), expected);
    }

    #[test]
    fn yaml_is_read_as_others_write_it(value in value()) {
        let written = serde_yaml_ng::to_string(&value).unwrap();
        prop_assert_eq!(yaml(written.as_bytes()).map(|decoded| decoded.value), Ok(value.clone()), "{}", written);
        // JSON is YAML, too.
        prop_assert_eq!(yaml(value.to_string().as_bytes()).map(|decoded| decoded.value), Ok(value));
    }

    #[test]
    fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = json(&bytes);
        let _ = yaml(&bytes);
    }

    #[test]
    fn any_yaml_is_judged(text in "[-a-c0-9:&*!|>\\[\\]{},#'\"% \n\t~?<]{0,120}") {
        if let Ok(decoded) = yaml(text.as_bytes()) {
            prop_assert_eq!(too_many(&decoded.value), None);
        }
    }
}
