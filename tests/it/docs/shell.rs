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
/// Prefixes of commands that are not run here; `script_up` runs the first two, `sdk/python/tests/test_wheel.py` the one
/// for Python, and `cli` the last.
const NOT_RUN: [&str; 6] =
    ["script/", "CRUNCH_TASKS=", "CRUNCH_WORKERS=", "npx ", "python3 -m venv", "target/release/"];
/// The first Node that has all that the pages' programs use; an older one runs none of them.
const OLDEST_NODE: u32 = 20;
/// A handler without optimization is slow, so these jobs are smaller here.
const SMALLER: [(&str, &str); 4] = [
    ("20000000", "200000"),
    ("20 000 000", "200 000"),
    ("seq 10000", "seq 100"),
    ("\"accepted\":10000", "\"accepted\":100"),
];
/// Members whose values must equal those that the page shows; the others must only be present.
const COMPARED: [&str; 7] = ["status", "title", "type", "detail", "accepted", "refused", "steps"];

#[tokio::test]
async fn the_commands_of_the_readme_print_what_it_shows() {
    run("README.md").await;
}

#[tokio::test]
async fn the_commands_of_the_api_page_print_what_it_shows() {
    run("docs/api.md").await;
}

#[tokio::test]
async fn the_commands_of_the_quickstart_print_what_it_shows() {
    run("docs/quickstart.md").await;
}

#[tokio::test]
async fn the_commands_of_the_page_about_groups_run() {
    run("docs/flow.md").await;
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

/// The name of the file that a block shows whole: its first line is `# tasks.toml` or `// client.mjs`.
fn file_name(text: &str) -> Option<&str> {
    let line = text.lines().next()?;
    let name = line.strip_prefix("# ").or_else(|| line.strip_prefix("// "))?;
    let fits = |char: char| char.is_ascii_lowercase() || matches!(char, '_' | '.');
    (name.contains('.') && name.chars().all(fits)).then_some(name)
}

/// Whether a test can run a command.
async fn is_runnable(command: &str) -> bool {
    if command.starts_with("node ") {
        // Pages are tested without it where it is missing or old; CI has it.
        let output = Command::new("node").arg("--version").output().await;
        let version = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let version = version.unwrap_or_default();
        let major = version.trim_start_matches('v').split('.').next().and_then(|n| n.parse().ok());
        return major.is_some_and(|major: u32| major >= OLDEST_NODE);
    }
    !NOT_RUN.iter().any(|start| command.starts_with(start))
}

async fn run(page: &str) {
    let blocks = blocks(&read(page));
    let mut stack = Stack::start();
    let api = stack.api().await;
    for block in &blocks {
        if let Some(name) = file_name(&block.text) {
            let text = block.text.replace(ADDRESS, &api.url);
            std::fs::write(stack.directory().join(name), text).unwrap();
        }
    }
    let tasks = stack.directory().join("tasks.toml");
    // A variable that is empty is not set.
    let tasks = if tasks.is_file() { tasks.display().to_string() } else { String::new() };
    let _worker = stack.worker_with(&api, 2, &[("CRUNCH_TASKS", &tasks)]).await;
    let example = stack.command("examples/primes");
    let _example = stack.spawn(example, "primes");
    Stack::wait_for_task(&api, "primes.count").await;
    Stack::wait_for_task(&api, "crunch").await;
    image::RgbImage::new(400, 300).save(stack.directory().join("photo.png")).unwrap();
    let mut session = Session { stack: &stack, url: api.url.clone(), id: String::new() };
    let mut commands = 0;
    for block in blocks.iter().filter(|block| block.shell) {
        if is_runnable(&block.text).await {
            session.check_block(page, block).await;
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

#[test]
fn a_block_that_shows_a_whole_file_has_its_name_in_the_first_line() {
    assert_eq!(file_name("# tasks.toml\n[[task]]"), Some("tasks.toml"));
    assert_eq!(file_name("// client.mjs\nlet x;"), Some("client.mjs"));
    assert_eq!(file_name("# pip install standardwebhooks\nimport x"), None);
    assert_eq!(file_name("curl http://127.0.0.1:8080/tasks.toml"), None);
}
