//! The Lua files of the functions: which of each other they use, which commands they call, and what a linter reports.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use crunch_common::broker::Library;

use crate::tree;

const FOLDER: &str = "common/src/broker";

/// The files in the order in which they are combined. Each list is a block whose names are local to it, except the
/// first: all blocks see its names.
fn blocks() -> Vec<Vec<String>> {
    let text = tree::read(&format!("{FOLDER}/functions.rs"));
    let list = |name: &str| {
        let (_, rest) = text.split_once(&format!("const {name}: ")).unwrap();
        rest.split_once("];").unwrap().0.to_owned()
    };
    let files = |text: &str| -> Vec<String> {
        let names = text.split("include_str!(\"lua/").skip(1);
        names.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let shared = ["SHARED", "SHARED_BY_OTHERS"].map(|name| files(&list(name))).concat();
    let mut blocks = vec![shared, files(&list("EXCHANGE")), files(&list("AUDIT"))];
    blocks.push(files(&list("SUBMISSION")));
    blocks.extend(files(&list("VERBS")).into_iter().map(|file| vec![file]));
    blocks
}

fn read(name: &str) -> String {
    tree::read(&format!("{FOLDER}/lua/{name}"))
}

/// A line without its comment, and with its strings empty.
pub(crate) fn code(line: &str) -> String {
    let mut parts = line.split('\'');
    let mut code = String::new();
    while let Some(part) = parts.next() {
        if let Some((before, _)) = part.split_once("--") {
            return code + before;
        }
        code += part;
        parts.next();
        code.push(' ');
    }
    code
}

/// The names that a file defines for later files.
fn defined(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().map(code) {
        if let Some(rest) = line.strip_prefix("local function ") {
            names.extend(rest.split('(').next().map(|name| name.trim().to_owned()));
        } else if let Some(rest) = line.strip_prefix("local ") {
            let listed = rest.split('=').next().unwrap_or_default();
            names.extend(listed.split(',').map(|name| name.trim().to_owned()));
        }
    }
    names
}

/// The names in a file that are not members of a table.
fn used(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().map(code) {
        let mut before = ' ';
        let mut name = String::new();
        for char in line.chars().chain([' ']) {
            if char.is_ascii_alphanumeric() || char == '_' {
                name.push(char);
                continue;
            }
            if !name.is_empty() && !matches!(before, '.' | ':') {
                names.insert(std::mem::take(&mut name));
            }
            name.clear();
            before = char;
        }
    }
    names
}

#[test]
fn each_file_lists_the_files_whose_functions_it_uses() {
    let blocks = blocks();
    let mut wrong = Vec::new();
    for (number, block) in blocks.iter().enumerate() {
        for (at, name) in block.iter().enumerate() {
            let text = read(name);
            let own = defined(&text);
            let used: BTreeSet<_> = used(&text).difference(&own).cloned().collect();
            let shared = if number == 0 { &[][..] } else { &blocks[0] };
            let visible = shared.iter().chain(&block[..at]);
            let uses: Vec<_> = visible
                .filter(|other| !defined(&read(other)).is_disjoint(&used))
                .map(|other| other.trim_end_matches(".lua"))
                .collect();
            let listed = text.lines().find_map(|line| line.strip_prefix("-- Uses: "));
            if listed.unwrap_or_default() != uses.join(", ") {
                wrong.push(format!("{name}: -- Uses: {}", uses.join(", ")));
            }
        }
    }
    assert!(wrong.is_empty(), "expected\n{}", wrong.join("\n"));
}

/// Words in capitals in strings of the functions that are not commands but arguments and error codes.
const NOT_COMMANDS: [&str; 7] =
    ["COUNT", "LIMIT", "MAXLEN", "RANK", "WEIGHTS", "WITHSCORES", "WRONGTYPE"];

/// Every command that a function may call: the words of three or more capitals in strings.
fn commands() -> BTreeSet<String> {
    let mut commands = BTreeSet::new();
    for name in blocks().concat() {
        for line in read(&name).lines() {
            let line = line.split("--").next().unwrap();
            for text in line.split('\'').skip(1).step_by(2) {
                if text.len() > 2 && text.chars().all(|char| char.is_ascii_uppercase()) {
                    commands.insert(text.to_owned());
                }
            }
        }
    }
    commands
}

#[test]
fn users_that_run_functions_may_call_every_command_in_them() {
    let shipped = tree::read("docs/redis-users.conf");
    let users: Vec<_> = shipped.lines().filter(|line| line.starts_with("user crunch-")).collect();
    assert_eq!(users.len(), 3);
    let mut missing = Vec::new();
    for command in commands().iter().filter(|command| !NOT_COMMANDS.contains(&command.as_str())) {
        let permission = format!("+{}", command.to_lowercase());
        for user in &users {
            if !user.split(' ').any(|word| word == permission) {
                missing.push(format!("{permission} of {:?}", user.split(' ').nth(1)));
            }
        }
    }
    assert!(missing.is_empty(), "docs/redis-users.conf lacks {missing:?}");
}

#[test]
#[ignore = "needs luacheck; script/test installs and runs it"]
fn luacheck_finds_nothing() {
    let mut body = String::new();
    let _ = Library::edited(|text| {
        body.clone_from(&text);
        text
    });
    let mut luacheck = Command::new("luacheck")
        .args(["--std", "lua51", "--read-globals", "redis", "register_function", "--no-color"])
        .args(["--max-line-length", "160", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    luacheck.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = luacheck.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
