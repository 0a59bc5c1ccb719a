//! Lists in the documentation name everything that the code has: a route, a setting, a problem, a metric, an option, a
//! member, a function, a field or a key that is added to the code is added to its page too.

use crate::tree::{files, read};

/// The texts in quotes of a part of a file.
fn quoted(text: &str, quote: char) -> Vec<String> {
    text.split(quote).skip(1).step_by(2).map(str::to_owned).collect()
}

/// The part of a text between two others, without them.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("there is no {start:?}"));
    rest.split_once(end).unwrap_or_else(|| panic!("there is no {end:?} behind {start:?}")).0
}

/// The files of a folder with this extension, one after the other, each without its tests.
fn sources(folder: &str, extension: &str) -> String {
    let is_source = |path: &String| path.ends_with(extension) && !path.contains("/tests");
    let texts = files(folder).into_iter().filter(is_source).map(|path| read(&path));
    texts.map(|text| text.split("#[cfg(test)]").next().unwrap().to_owned()).collect()
}

fn routes() -> Vec<String> {
    let text = read("api/src/routes.rs");
    let names = quoted(between(&text, "fn table(", "configured.chain"), '"');
    names.into_iter().filter(|name| name.starts_with('/')).collect()
}

fn settings() -> Vec<String> {
    let folders = ["common/src", "otel/src", "api/src", "worker/src"];
    let text: String = folders.iter().map(|folder| sources(folder, ".rs")).collect();
    let parts = text.split("env = \"").skip(1);
    parts.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// Those of the command line; what it says about others is no name in quotes.
fn cli_variables() -> Vec<String> {
    let is_name = |text: &String| {
        text.starts_with("CRUNCH_") && text.chars().all(|c| c.is_ascii_uppercase() || c == '_')
    };
    quoted(&read("cli/src/config.rs"), '"').into_iter().filter(is_name).collect()
}

/// As `crunch --help` lists them; those of `crunch context` with their first word.
fn commands() -> Vec<String> {
    let help = |arguments: &[&str]| {
        let output =
            std::process::Command::new(crunch_tests::binary("crunch")).args(arguments).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let names = |help: &str| -> Vec<String> {
        let lines = between(help, "Commands:\n", "\n\n").lines();
        // A description may go on in a further line, which is indented more.
        let first =
            lines.filter_map(|line| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')));
        first.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    let contexts = names(&help(&["context", "--help"]));
    let contexts = contexts.iter().map(|name| format!("context {name}"));
    names(&help(&["--help"])).into_iter().filter(|name| name != "context").chain(contexts).collect()
}

/// Every option of every command of the command line.
fn cli_options() -> Vec<String> {
    let text = commands().into_iter().map(|command| {
        let output = std::process::Command::new(crunch_tests::binary("crunch"))
            .args(command.split(' ').chain(["--help"]))
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    });
    let text: String = text.collect();
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
    let options = words.filter(|word| word.starts_with("--") && word.len() > 2);
    let options: std::collections::BTreeSet<_> = options.collect();
    options
        .into_iter()
        .filter(|name| !["--help", "--version"].contains(name))
        .map(str::to_owned)
        .collect()
}

fn problems() -> Vec<String> {
    let text = read("api/src/problem.rs");
    let kinds = between(&text, "kinds! {", "\n}").lines();
    let kinds = kinds.filter(|line| line.trim_start().starts_with(|c: char| c.is_uppercase()));
    kinds.map(|line| quoted(line, '"').swap_remove(0)).collect()
}

fn metrics() -> Vec<String> {
    let text = ["common/src/telemetry/metrics.rs", "api/src/metrics/shared.rs"].map(read);
    let names = text.concat();
    let names = names.split('"').filter(|part| part.starts_with("crunch_"));
    let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    names.filter(|name| is_name(name) && *name != "crunch_").map(str::to_owned).collect()
}

fn options() -> Vec<String> {
    quoted(between(&read("api/src/submit/names.rs"), "NAMES: [", "];"), '"')
}

/// Those that `http::submit` expects.
fn members() -> Vec<String> {
    quoted(between(&read("tests/it/http/submit.rs"), "MEMBERS: [", "];"), '"')
}

fn functions() -> Vec<String> {
    let text = sources("common/src/broker/lua", ".lua");
    let text = text.replace("register_function('", "register('");
    let parts = text.split("register('").skip(1);
    parts.map(|rest| rest.split('\'').next().unwrap().to_owned()).collect()
}

fn fields() -> Vec<String> {
    let text = read("common/src/broker/lua/core.lua");
    quoted(between(&text, "local OPTIONAL = {", "}"), '\'')
}

/// As the page spells them; those of tasks are in the first partition only.
fn keys() -> Vec<String> {
    let text = read("common/src/broker/lua/keys.lua");
    let part = |token: &str| match token {
        "p" => "crunch:{p}".to_owned(),
        "queue" => "<q>".to_owned(),
        "worker" => "<w>".to_owned(),
        "bucket" => "<n>".to_owned(),
        _ if token.starts_with('\'') => token.trim_matches('\'').to_owned(),
        _ => format!("<{token}>"),
    };
    let key = |line: &str| {
        let expression = line.strip_prefix("function key.")?.split_once(" return ")?.1;
        let key: String = expression.strip_suffix(" end")?.split(" .. ").map(part).collect();
        Some(if key.contains(":tasks") { key.replace("{p}", "{0}") } else { key })
    };
    text.lines().filter_map(key).collect()
}

#[test]
fn the_documentation_lists_everything() {
    let lists = [
        ("docs/api.md", "## All routes", routes(), 25),
        ("docs/configuration.md", "# Configuration", settings(), 35),
        ("docs/cli.md", "# The command line", commands(), 28),
        ("docs/cli.md", "# The command line", cli_options(), 30),
        ("docs/cli.md", "## Environment", cli_variables(), 6),
        ("docs/api.md", "## Problems", problems(), 30),
        ("docs/metrics.md", "# Metrics", metrics(), 28),
        ("docs/api.md", "### Options", options(), 10),
        ("docs/api.md", "## The job document", members(), 20),
        ("docs/redis-schema.md", "## Functions", functions(), 15),
        ("docs/redis-schema.md", "## Fields of a job", fields(), 10),
        ("docs/redis-schema.md", "## Keys", keys(), 25),
    ];
    let mut missing = Vec::new();
    for (page, heading, names, at_least) in lists {
        assert!(names.len() >= at_least, "{page}: only {names:?} of {heading}");
        let text = read(page);
        let (_, list) = text.split_once(&format!("{heading}\n")).unwrap();
        // The title of a page has all of it.
        let end = if heading.starts_with("##") { "\n##" } else { "\0" };
        let list = list.split(end).next().unwrap();
        for name in names.iter().filter(|name| !list.contains(&format!("`{name}`"))) {
            missing.push(format!("{page}: {heading} does not list `{name}`"));
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn the_table_of_metrics_lists_no_others() {
    let exported = metrics();
    let listed = crate::monitoring::queries::table().into_keys();
    let others: Vec<_> = listed.filter(|name| !exported.contains(name)).collect();
    assert!(others.is_empty(), "docs/metrics.md lists {others:?}, which no process exports");
}
