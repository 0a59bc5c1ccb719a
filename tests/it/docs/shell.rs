//! The `sh` blocks of the documentation, run as they are; the output of a block is compared with the block after it.

use std::collections::HashMap;
use std::iter::Peekable;
use std::str::Chars;

use crunch_tests::{Stack, eventually, in_time};
use tokio::process::Command;

use crate::tree::read;

/// What the pages use as the address of the API and as the id of the last job.
const ADDRESS: &str = "http://127.0.0.1:8080";
const ID: &str = "01a20c36-14f1-8000-8f8f-f34074aa25aa";
/// Prefixes of commands that are not run here; `script_up` runs the first two.
const NOT_RUN: [&str; 4] = ["script/", "CRUNCH_TASKS=", "CRUNCH_WORKERS=", "npx "];
/// A handler without optimization is slow, so these jobs are smaller here.
const SMALLER: [(&str, &str); 4] = [
    ("20000000", "200000"),
    ("20 000 000", "200 000"),
    ("seq 10000", "seq 100"),
    ("\"accepted\":10000", "\"accepted\":100"),
];
/// Members whose values must equal those that the page shows; the others must only be present.
const COMPARED: [&str; 6] = ["status", "title", "type", "detail", "accepted", "refused"];

#[tokio::test]
async fn the_commands_of_the_readme_print_what_it_shows() {
    run("README.md").await;
}

#[tokio::test]
async fn the_commands_of_the_api_page_print_what_it_shows() {
    run("docs/api.md").await;
}

/// A fenced block: whether it is tagged `sh`, its text, and the text of an untagged block right after it.
struct Block {
    shell: bool,
    text: String,
    output: Option<String>,
}

fn blocks(page: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut adjacent = false;
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(tag) = line.strip_prefix("```") else {
            adjacent &= line.is_empty();
            continue;
        };
        let text: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
        let text = text.join("\n");
        match blocks.last_mut() {
            Some(last) if tag.is_empty() && adjacent => last.output = Some(text),
            _ => blocks.push(Block { shell: tag == "sh", text, output: None }),
        }
        adjacent = tag == "sh";
    }
    blocks
}

async fn run(page: &str) {
    let mut stack = Stack::start();
    let api = stack.api().await;
    let _worker = stack.worker(&api, 2).await;
    let example = stack.command("examples/primes");
    let _example = stack.spawn(example, "primes");
    Stack::wait_for_task(&api, "primes.count").await;
    Stack::wait_for_task(&api, "crunch").await;
    image::RgbImage::new(400, 300).save(stack.directory().join("photo.png")).unwrap();
    let mut session = Session { stack: &stack, url: api.url.clone(), id: String::new() };
    let mut commands = 0;
    for block in blocks(&read(page)).into_iter().filter(|block| block.shell) {
        if !NOT_RUN.iter().any(|start| block.text.starts_with(start)) {
            session.check_block(page, &block).await;
            commands += 1;
        }
    }
    assert!(commands > 2, "{page} has {commands} commands");
}

struct Session<'a> {
    stack: &'a Stack,
    url: String,
    /// The id of the last job that was submitted.
    id: String,
}

impl Session<'_> {
    async fn check_block(&mut self, page: &str, block: &Block) {
        let command = self.adapt(&block.text);
        let mut printed = self.run(&command).await;
        let shown = block.output.as_deref().map(|text| self.adapt(text)).unwrap_or_default();
        let mut wrong = difference(&shown, &printed);
        // The result of a read may not be available yet; a command with effects is not repeated.
        if wrong.is_some() && !command.contains(" -d ") && !command.contains("POST") {
            let what = format!("{page}: {command}\n{wrong:?}");
            eventually(&what, async || {
                printed = self.run(&command).await;
                wrong = difference(&shown, &printed);
                wrong.is_none().then_some(())
            })
            .await;
        }
        assert!(wrong.is_none(), "{page}: {command}\n{}\nprinted\n{printed}", wrong.unwrap());
        let submitted = members(&printed);
        self.id = submitted.get("token").map_or(self.id.clone(), |ids| ids[0].clone());
    }

    fn adapt(&self, text: &str) -> String {
        let text = text.replace(ADDRESS, &self.url).replace(ID, &self.id);
        SMALLER.iter().fold(text, |text, (large, small)| text.replace(large, small))
    }

    async fn run(&self, command: &str) -> String {
        let mut shell = Command::new("bash");
        shell.arg("-euo").arg("pipefail").arg("-c").arg(command).kill_on_drop(true);
        shell.current_dir(self.stack.directory()).env("TOKEN", &self.id);
        let output = in_time(command, shell.output()).await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Something that a page shows and that was not printed.
fn difference(shows: &str, printed: &str) -> Option<String> {
    let printed = printed.replace('\r', "");
    if shows.starts_with("HTTP/") {
        let head = printed.split("\n\n").next().unwrap_or_default().to_lowercase();
        let shown = shows.lines().take_while(|line| !line.is_empty());
        let names = shown.map(|line| line.split(": ").next().unwrap_or_default().to_lowercase());
        let missing = names.filter(|name| name != "…").find(|name| !head.contains(name));
        if missing.is_some() {
            return missing;
        }
    }
    if shows.contains("event: ") {
        return difference_of_events(shows, &printed);
    }
    difference_of_members(shows, &printed)
}

/// A stream starts with the current state of its job; an event has the members that the page shows for its name.
fn difference_of_events(shows: &str, printed: &str) -> Option<String> {
    let events = |text: &str| -> HashMap<String, String> {
        let event = |part: &str| {
            let (name, data) = part.strip_prefix("event: ")?.split_once('\n')?;
            Some((name.to_owned(), data.to_owned()))
        };
        text.split("\n\n").filter_map(event).collect()
    };
    let (shown, sent) = (events(shows), events(printed));
    let known = shown.iter().filter_map(|(name, data)| Some((data, sent.get(name)?)));
    let compared: Vec<_> = known.map(|(shown, sent)| missing_member(shown, sent)).collect();
    if compared.is_empty() {
        return Some("none of the events".to_owned());
    }
    compared.into_iter().flatten().next()
}

fn missing_member(shows: &str, printed: &str) -> Option<String> {
    let printed = members(printed);
    members(shows).into_keys().find(|name| !printed.contains_key(name))
}

fn difference_of_members(shows: &str, printed: &str) -> Option<String> {
    let all = members(printed);
    let differs = |(name, values): (String, Vec<String>)| {
        let Some(others) = all.get(&name) else {
            return Some(name);
        };
        // A running job may have ended meanwhile.
        let fixed = |value: &&String| !value.contains('…') && *value != "running";
        let compared = COMPARED.contains(&&*name);
        let missing = values.iter().filter(fixed).find(|value| !others.contains(value));
        missing.filter(|_| compared).map(|value| format!("{name}: {value}"))
    };
    members(shows).into_iter().find_map(differs)
}

/// Every member of the JSON in a text, at any depth, with its values that are not lists or objects. The text may omit
/// parts, as pages do with `…`.
fn members(text: &str) -> HashMap<String, Vec<String>> {
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if char != '"' {
            continue;
        }
        let name = string(&mut chars);
        if chars.next_if_eq(&':').is_none() {
            continue;
        }
        while chars.next_if_eq(&' ').is_some() {}
        let value = match chars.peek() {
            Some('"') => {
                chars.next();
                Some(string(&mut chars))
            }
            Some('{' | '[' | '…') | None => None,
            Some(_) => {
                let is_value = |char: &char| !matches!(char, ',' | '}' | ']' | '\n');
                Some(std::iter::from_fn(|| chars.next_if(is_value)).collect())
            }
        };
        found.entry(name).or_default().extend(value);
    }
    found
}

/// The rest of a string, with its escapes.
fn string(chars: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(char) = chars.next().filter(|&char| char != '"') {
        text.push(char);
        if char == '\\' {
            text.extend(chars.next());
        }
    }
    text
}

#[test]
fn differences_between_page_and_output_are_found() {
    let printed =
        "HTTP/1.1 202 Accepted\r\nlocation: /x\r\n\r\n{\"id\":\"a\",\"status\":\"queued\"}";
    let differs = |shows: &str| difference(shows, printed);
    assert_eq!(differs("HTTP/1.1 202 Accepted\nlocation: …\n…\n\n{\"id\":\"b\",…}"), None);
    assert!(differs("HTTP/1.1 200 OK").is_some());
    assert!(differs("HTTP/1.1 202 Accepted\nlink: x").is_some());
    assert_eq!(differs("{…,\"token\":1}").as_deref(), Some("token"));
    assert_eq!(differs("{\"status\":\"succeeded\"}").as_deref(), Some("status: succeeded"));
}
