//! Schemas and values that need as much work or memory as their size allows, each in another part of the library.

mod memory;

use serde_json::{Map, Value, json};

use memory::{Attack, list, object};

/// All attacks.
pub(crate) fn all() -> Vec<Attack> {
    [patterns(), names(), numbers(), uniqueness(), equality(), memory::all()].concat()
}

fn patterns() -> Vec<Attack> {
    let of = |pattern: &str, text: String| (json!({ "pattern": pattern }), quoted(&text));
    let ab = random("ab", 60_000);
    let mut attacks = Vec::new();
    for (name, pattern, text) in [
        ("a window of counted letters", "[ab]*a[ab]{1000}c", ab.clone()),
        ("a small window of counted letters", "[ab]*a[ab]{20}c", ab.clone()),
        ("a window that nearly fits the engine's cache", "[ab]*a[ab]{12}c", ab.clone()),
        ("a window of 60", "[ab]*a[ab]{60}c", ab.clone()),
        ("a window of 200", "[ab]*a[ab]{200}c", ab.clone()),
        ("letters of any script", "(?:\\p{L}{1,20}x)+$", "λ".repeat(30_000)),
        ("classes of any script counted", "\\p{L}*\\p{Lu}\\p{L}{1,20}c", random("λΛдД", 14_000)),
        ("repetitions of repetitions", "^(([a-z]{1,30}){1,30}[0-9])*$", ab.clone()),
        ("alternatives", "^(?:a|b|ab|ba|aab|bba)*c$", ab.clone()),
        ("the end of the text", "[ab]{50}$", ab.clone()),
        ("a suffix that often occurs", "[ab]+[bc]+aba[ab]*c", ab.clone()),
        ("an address", "^[^@]+@[^@]+\\.[a-z]{2,}$", ab.clone()),
        ("quadratic by its middle", "(?:[a-z]+aaab[a-z]+)c", ab.clone()),
        ("dots", "^(?:.{1,40}\\.){1,10}x$", ab.clone()),
        ("a nest of stars", "((a*)*|b)*c", ab),
    ] {
        let (schema, value) = of(pattern, text);
        attacks.push((name, schema, value));
    }
    let short = |text: &str, count: usize| list(count, |_| format!("\"{text}\""));
    let window = json!({ "items": { "pattern": "[ab]*a[ab]{1000}c" } });
    attacks.push(("short texts and a large window", window, short("abbabaabbaba", 4_000)));
    let many: Vec<_> = (0..2_000).map(|at| json!({ "pattern": format!("[ab]+{at}x*y") })).collect();
    attacks.push((
        "many patterns for one text",
        json!({ "allOf": many }),
        quoted(&"ab".repeat(30_000)),
    ));
    let many: Vec<_> = (0..300).map(|_| json!({ "pattern": "[ab]*a[ab]{60}c|a" })).collect();
    attacks.push((
        "many windows for short texts",
        json!({ "items": { "allOf": many } }),
        short("abbabaabbaba", 4_000),
    ));
    attacks
}

fn names() -> Vec<Attack> {
    let members = object(6_000, |at| (format!("a{at}"), "1".to_owned()));
    let named: Map<_, _> = (0..2_500).map(|at| (format!("x{at}y*z"), json!(true))).collect();
    let prefixes: Map<_, _> = (0..4_000).map(|at| (format!("^a{at}x"), json!(true))).collect();
    let all = |keyword: &str, value: Value| -> Value {
        (0..60_000 / (value.to_string().len() + keyword.len() + 8))
            .map(|_| json!({ keyword: value }))
            .collect()
    };
    let long = "n".repeat(1_000);
    let long_members = object(60, |at| (format!("{long}{at}"), "1".to_owned()));
    let wanted: Map<_, _> = (0..55).map(|at| (format!("{long}{at}x"), json!(true))).collect();
    let lookups = json!({ "allOf": all("$ref", json!("#/$defs/a"))
        .as_array().unwrap().iter().take(100).cloned().collect::<Vec<_>>(),
        "$defs": { "a": { "properties": wanted } } });
    vec![
        ("many patterns of names", json!({ "patternProperties": named }), members.clone()),
        (
            "many patterns of names, the rest rejected",
            json!({ "patternProperties": named, "additionalProperties": { "type": "integer" } }),
            members.clone(),
        ),
        ("many prefixes of names", json!({ "patternProperties": prefixes }), members.clone()),
        (
            "patterns of names, unevaluated",
            json!({ "patternProperties": named, "unevaluatedProperties": { "type": "integer" } }),
            members.clone(),
        ),
        (
            "names of names",
            json!({ "allOf": all("propertyNames", json!({ "maxLength": 9 })) }),
            members.clone(),
        ),
        ("long names looked up", lookups, long_members),
        (
            "required names",
            json!({ "required": (0..8_000).map(|at| format!("a{}", at % 5_999)).collect::<std::collections::BTreeSet<_>>() }),
            members.clone(),
        ),
        (
            "dependent schemas",
            json!({ "dependentSchemas": (0..2_000).map(|at| (format!("a{at}"), json!({ "minProperties": 1 }))).collect::<Map<_, _>>() }),
            members.clone(),
        ),
        (
            "unevaluated members",
            json!({ "allOf": all("properties", json!({ "a1": true })), "unevaluatedProperties": true }),
            members.clone(),
        ),
        (
            "unevaluated items",
            json!({ "allOf": all("contains", json!({ "const": 1 })), "unevaluatedItems": true }),
            list(30_000, |_| "0".to_owned()),
        ),
        (
            "unevaluated many times",
            json!({ "allOf": all("unevaluatedProperties", json!(true)) }),
            members,
        ),
    ]
}

fn numbers() -> Vec<Attack> {
    let ints = list(30_000, |_| "7".to_owned());
    let repeated = |keyword: &str, value: Value| {
        let all: Vec<_> = (0..2_000).map(|_| json!({ keyword: value })).collect();
        json!({ "items": { "allOf": all } })
    };
    let huge = list(8_000, |_| "1.7e308".to_owned());
    let fine = list(8_000, |_| "5.1e299".to_owned());
    vec![
        ("multiples of an integer", repeated("multipleOf", json!(7)), ints.clone()),
        (
            "multiples of a fraction",
            repeated("multipleOf", json!(0.1)),
            list(10_000, |at| format!("{at}.3")),
        ),
        ("huge multiples of a tiny number", repeated("multipleOf", json!(1e-300)), huge.clone()),
        ("huge multiples of an integer", repeated("multipleOf", json!(3)), huge.clone()),
        ("huge multiples of a large number", repeated("multipleOf", json!(1.1e17)), huge),
        ("multiples of a number near", repeated("multipleOf", json!(3.3e-7)), fine),
        (
            "fractions of fractions",
            repeated("multipleOf", json!(1.1)),
            list(8_000, |at| format!("{at}.1e15")),
        ),
        ("bounds", repeated("minimum", json!(1.5)), list(8_000, |at| format!("{at}.1e15"))),
        (
            "types",
            repeated("type", json!(["integer", "null"])),
            list(8_000, |_| "1e300".to_owned()),
        ),
        ("a long run of digits", json!({ "multipleOf": 3 }), "9".repeat(300)),
        ("a long fraction", json!({ "multipleOf": 3 }), format!("1.{}", "9".repeat(60_000))),
    ]
}

/// A keyword as often as fits into a schema.
fn repeated(keyword: &str, value: &Value) -> Value {
    let count = 60_000 / (value.to_string().len() + 20);
    let all: Vec<_> = (0..count).map(|_| json!({ keyword: value })).collect();
    json!({ "allOf": all })
}

fn uniqueness() -> Vec<Attack> {
    vec![
        (
            "items that are unique",
            json!({ "uniqueItems": true }),
            list(12_000, |at| at.to_string()),
        ),
        (
            "items that are unique, many times",
            repeated("uniqueItems", &json!(true)),
            list(12_000, |at| at.to_string()),
        ),
        (
            "objects that are unique, many times",
            repeated("uniqueItems", &json!(true)),
            list(4_000, |at| format!("{{\"a\":{at}}}")),
        ),
        (
            "nested items that are unique",
            json!({ "items": repeated("uniqueItems", &json!(true)) }),
            list(5_000, |at| format!("[{at},[]]")),
        ),
    ]
}

fn equality() -> Vec<Attack> {
    let options = |count: usize, option: fn(usize) -> Value| json!({ "items": { "enum": (0..count).map(option).collect::<Vec<_>>() } });
    let long = "n".repeat(900);
    let same = object(60, |at| (format!("{long}{at}"), "1".to_owned()));
    let mut other: Value = serde_json::from_str(&same).unwrap();
    other[format!("{long}59")] = json!(2);
    let refs: Vec<_> = (0..300).map(|_| json!({ "$ref": "#/$defs/a" })).collect();
    vec![
        (
            "numbers of a large enumeration",
            options(8_000, |at| json!(at * 2)),
            list(10_000, |at| at.to_string()),
        ),
        (
            "fractions of a large enumeration",
            options(6_000, |at| json!(f64::from(u32::try_from(at).unwrap()) + 0.5)),
            list(6_000, |at| format!("{at}.25")),
        ),
        (
            "texts of a large enumeration",
            options(6_000, |at| json!(format!("a{at}"))),
            list(6_000, |at| format!("\"b{at}\"")),
        ),
        (
            "arrays of a large enumeration",
            options(6_000, |at| json!([at])),
            list(6_000, |at| format!("[{at}.5]")),
        ),
        (
            "objects of a large enumeration",
            options(3_000, |at| json!({ "a": at, "b": 1 })),
            list(4_000, |at| format!("{{\"a\":{at}.5,\"b\":1}}")),
        ),
        (
            "a large constant, many times",
            json!({ "anyOf": refs, "$defs": { "a": { "enum": [other] } } }),
            same,
        ),
        (
            "a large array, many times",
            json!({ "anyOf": refs, "$defs": { "a": { "const": vec![0; 25_000] } } }),
            list(25_000, |at| if at == 24_999 { "1".into() } else { "0".into() }),
        ),
        (
            "a long text, many times",
            json!({ "anyOf": refs, "$defs": { "a": { "enum": ["x".repeat(50_000), 1] } } }),
            quoted(&format!("{}y", "x".repeat(49_999))),
        ),
        (
            "the length of a long text",
            repeated("maxLength", &json!(70_000)),
            quoted(&"é".repeat(30_000)),
        ),
    ]
}

fn quoted(text: &str) -> String {
    json!(text).to_string()
}

/// Text of random letters, which does not repeat.
fn random(letters: &str, count: usize) -> String {
    let letters: Vec<_> = letters.chars().collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        letters[usize::try_from(state >> 33).unwrap() % letters.len()]
    };
    (0..count).map(|_| next()).collect()
}
