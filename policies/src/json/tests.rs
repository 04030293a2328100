use super::{MAX_DEPTH, Value, parse, position};

fn complaint(text: &str) -> String {
    let findings = parse(text).unwrap_err();
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn every_kind_of_value_is_read() {
    let node = parse(r#"{"a": [null, true, false, -1.5e3, "x\n\u00e9\ud83d\ude00"], "b": {}}"#).unwrap();
    let items = node.get("a").unwrap().as_array().unwrap();
    assert_eq!(items[3].value, Value::Number("-1.5e3".to_owned()));
    assert_eq!(items[4].as_str(), Some("x\n\u{e9}\u{1f600}"));
    assert_eq!(node.get("b").unwrap().as_object().unwrap().len(), 0);
}

#[test]
fn both_duplicates_are_named_with_their_places() {
    let text = "{\n  \"a\": 1,\n  \"a\": 2,\n  \"b\": {\"c\": 1, \"c\": 2}\n}";
    assert_eq!(
        complaint(text),
        "3:3: error: the key \"a\" stands here a second time; \
         4:17: error: the key \"c\" stands here a second time"
    );
}

#[test]
fn an_escaped_key_is_a_duplicate_of_the_plain_one() {
    assert!(complaint(r#"{"Effect": 1, "\u0045ffect": 2}"#).contains("second time"));
}

#[test]
fn what_is_not_json_is_refused_at_its_place() {
    for (text, expected) in [
        ("", "1:1: error: the text is empty"),
        ("{\"a\": 1,}", "1:9: error: a comma before the closing brace"),
        ("[1,]", "1:4: error: a comma before the closing bracket"),
        ("[1 2]", "1:4: error: expected a comma or the closing bracket"),
        ("{\"a\" 1}", "1:6: error: expected a colon after the key"),
        ("{a: 1}", "1:2: error: expected a key in double quotes"),
        ("{} x", "1:4: error: more text after the end of the JSON value"),
        ("\n\n \"abc", "3:2: error: the string is never closed"),
        ("01", "1:1: error: not a number"),
        ("1.", "1:1: error: not a number"),
        ("// x\n{}", "1:1: error: JSON has no comments"),
        ("\"\\ud800\"", "1:2: error: not a Unicode escape"),
        ("\"\\x\"", "1:2: error: an escape that JSON does not know"),
        ("\"a\tb\"", "1:3: error: a control character inside a string"),
        ("nul", "1:1: error: expected a value"),
    ] {
        assert_eq!(complaint(text), expected, "{text:?}");
    }
}

#[test]
fn deep_nesting_is_refused_without_recursing() {
    let text = "[".repeat(100_000);
    assert!(complaint(&text).contains(&format!("nested deeper than {MAX_DEPTH} levels")));
}

#[test]
fn columns_count_characters() {
    assert_eq!(position("ä\nöö x", "ä\nöö ".len()), (2, 4));
}
