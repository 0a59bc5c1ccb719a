//! Plain words: names and log messages use the field's terms and those of `docs/glossary.md`.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};

use crate::tree;

/// Archaic words that earlier versions of this code used. Each has a plain one: `told` is published, logged or
/// reported; a `wish` is a request; a `patience` is a time limit.
const FORBIDDEN: [&str; 40] = [
    "tell",
    "tells",
    "told",
    "wish",
    "wishes",
    "wished",
    "heed",
    "heeded",
    "obey",
    "bury",
    "buried",
    "burial",
    "grave",
    "undertaker",
    "hire",
    "staff",
    "attendant",
    "courier",
    "graves",
    "crew",
    "seat",
    "shelf",
    "edition",
    "strand",
    "companion",
    "laid",
    "whoever",
    "somebody",
    "anybody",
    "goodbye",
    "door",
    "knock",
    "welcome",
    "unusual",
    "alike",
    "heard",
    "news",
    "patience",
    "hurried",
    "utter",
];

/// The code that ships, and what measures it.
const SOURCES: [&str; 7] =
    ["common/src", "otel/src", "consumer/src", "worker/src", "api/src", "cli/src", "bench/src"];

#[test]
fn names_and_log_messages_are_in_plain_words() {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for place in SOURCES.into_iter().flat_map(tree::files) {
        let names = match place.rsplit('.').next() {
            Some("lua") => lua_names(&tree::read(&place)),
            Some("rs") => rust_names(tree::read(&place).parse().unwrap()),
            _ => Vec::new(),
        };
        for name in names.into_iter().filter(|name| words(name).any(|word| is_forbidden(&word))) {
            found.entry(place.clone()).or_default().push(name);
        }
    }
    let report: Vec<_> = found.iter().map(|(place, names)| format!("{place}: {names:?}")).collect();
    assert!(report.is_empty(), "{}", report.join("\n"));
}

fn is_forbidden(word: &str) -> bool {
    FORBIDDEN.contains(&word)
}

/// The words of a name or of a sentence, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    let mut before_is_lower = false;
    for char in text.chars() {
        let starts = !char.is_alphanumeric() || (char.is_uppercase() && before_is_lower);
        if starts {
            words.push(String::new());
        }
        if char.is_alphanumeric() {
            words.last_mut().unwrap().extend(char.to_lowercase());
        }
        before_is_lower = char.is_lowercase();
    }
    words.into_iter()
}

/// Every identifier, and every text in a log macro.
fn rust_names(tokens: TokenStream) -> Vec<String> {
    let mut names = Vec::new();
    let mut last = [String::new(), String::new()];
    for token in tokens {
        match token {
            TokenTree::Ident(name) => {
                last = [std::mem::take(&mut last[1]), name.to_string()];
                names.push(last[1].clone());
            }
            TokenTree::Group(group) => {
                let logs = ["trace", "debug", "info", "warn", "error", "event"];
                if last[0] == "tracing" && logs.contains(&last[1].as_str()) {
                    names.extend(group.stream().into_iter().filter_map(|token| match token {
                        TokenTree::Literal(text) => Some(text.to_string()),
                        _ => None,
                    }));
                }
                names.extend(rust_names(group.stream()));
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
    // Comments of documentation are attributes of that name: what follows is a text and no name.
    names.retain(|name| name != "doc");
    names
}

fn lua_names(text: &str) -> Vec<String> {
    let code = text.lines().map(crate::lua::code);
    let names = code.flat_map(|line| {
        let words = line.split(|char: char| !(char.is_ascii_alphanumeric() || char == '_'));
        words.map(str::to_owned).collect::<Vec<_>>()
    });
    names.collect()
}

#[test]
fn a_word_is_found_in_names_of_every_spelling() {
    let found = |text: &str| {
        rust_names(text.parse().unwrap())
            .iter()
            .any(|name| words(name).any(|word| is_forbidden(&word)))
    };
    assert!(
        found("fn tell_all() {}")
            && found("struct LastWish;")
            && found("const GRAVE_ROOM: u8 = 1;")
    );
    assert!(found("tracing::warn!(count = 1, \"nobody was told\");"));
    assert!(!found("fn teller() { let text = \"told\"; }"));
}
