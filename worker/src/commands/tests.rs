//! Valid and invalid files, and the problems that are reported.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crunch_common::backoff::Backoff;
use crunch_common::job::{OnConflict, Priority, Unique};
use crunch_common::task::{Indexes, TaskDescriptor};
use tempfile::TempDir;

use super::*;

/// A directory with a tasks file.
struct Folder(TempDir);

impl Folder {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tasks.toml"), text).unwrap();
        Self(folder)
    }

    fn add(&self, file: &str, mode: u32) {
        let path = self.0.path().join(file);
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self) -> Result<Registry, String> {
        self.join(Registry::default())
    }

    /// Returns the tasks, or the problems without the directory's path.
    fn join(&self, mut registry: Registry) -> Result<Registry, String> {
        let commands = Commands::read(&self.0.path().join("tasks.toml"), 1024, 4).unwrap();
        let here = format!("{}/", self.0.path().display());
        let joined = commands.join(&mut registry);
        joined.map(|_| registry).map_err(|error| error.to_string().replace(&here, ""))
    }
}

/// The problems reported for a file, one per line.
fn problems(text: &str) -> Vec<String> {
    let error = Folder::with(text).read().expect_err("the file has problems");
    error.lines().map(str::to_owned).collect()
}

/// The problem reported for a task with this line in it, as line 4.
fn problem(line: &str) -> String {
    let text = format!("[[task]]\nname = 'a'\ncommand = ['sh']\n{line}\n");
    let problems = problems(&text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].strip_prefix("tasks.toml:4: ").expect("the problem is on line 4").to_owned()
}

fn descriptor(registry: &Registry, name: &str) -> TaskDescriptor {
    registry.find(&name.parse().unwrap()).unwrap().descriptor.clone()
}

#[test]
fn every_key_finds_its_place() {
    let folder = Folder::with(
        r#"
        builtin = false

        [[task]]
        name = "word.count"
        command = ["sh", "count.sh"]
        description = "Counts words."
        queue = "text"
        timeout = "90s"
        max_attempts = 5
        backoff = { base = "500ms", max = "1h" }
        priority = "high"
        retention = "7d"
        accepts = ["application/json", "text/plain; charset=utf-8"]
        content_type = "text/csv"
        max_payload = 1_048_576
        max_result = 2_097_152
        indexes = ["customer", "region"]
        group = "/customer/id"
        start_within = "30m"
        unique = { fields = ["/customer"], on_conflict = "replace", max_wait = "5m" }
        cwd = "sub"
        inherit_env = ["NOT_SET_ANYWHERE"]

        [task.env]
        LANG = "C.UTF-8"
        "#,
    );
    std::fs::create_dir(folder.0.path().join("sub")).unwrap();
    let registry = folder.read().unwrap();
    let expected = TaskDescriptor {
        queue: "text".parse().unwrap(),
        description: "Counts words.".to_owned(),
        accepts: vec!["application/json".parse().unwrap(), "text/plain".parse().unwrap()],
        content_type: "text/csv".parse().unwrap(),
        timeout: Duration::from_secs(90),
        max_attempts: 5,
        backoff: Backoff { base: Duration::from_millis(500), max: Duration::from_secs(3600) },
        priority: Priority::High,
        retention_ms: Some(604_800_000),
        max_payload: 1_048_576,
        max_result: Some(2_097_152),
        indexes: Indexes::new(["customer", "region"]).unwrap(),
        group: Some("/customer/id".parse().unwrap()),
        start_within_ms: Some(1_800_000),
        unique: Some(
            Unique::by_fields(["/customer".parse().unwrap()])
                .on_conflict(OnConflict::Replace)
                .max_wait(Duration::from_secs(300)),
        ),
        ..TaskDescriptor::new("word.count".parse().unwrap())
    };
    assert_eq!(descriptor(&registry, "word.count"), expected);
    assert_eq!(registry.queues(), ["text".parse().unwrap()]);
    assert!(!Commands::read(&folder.0.path().join("tasks.toml"), 1, 4).unwrap().builtin);
}

#[test]
fn what_is_not_said_has_its_default() {
    let registry = Folder::with("[[task]]\nname = 'a'\ncommand = ['sh']\n").read().unwrap();
    assert_eq!(descriptor(&registry, "a"), TaskDescriptor::new("a".parse().unwrap()));
    assert!(Folder::with("").read().unwrap().descriptors().is_empty());
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let text = "\
builtin = 'no'
speed = 9

[[task]]
name = 'word.count'
command = 'python3 word_count.py'
timeout = '1 minute'

[[task]]
name = 'Image'
command = ['sh']
timout = '5s'
[[task]]
priority = 'highest'
[[task]]
name = 'word.count'
command = ['sh']
";
    let expected = [
        "tasks.toml:1: builtin: expected true or false, found \"no\"",
        "tasks.toml:2: unknown key \"speed\"; known keys: builtin, limit, schedule, server, task",
        "tasks.toml:6: command: expected a list of words, such as [\"python3\", \"word_count.py\"]: no shell splits it",
        "tasks.toml:7: timeout: expected a whole number and a unit, such as \"500ms\", \"30s\", \"10m\", \"24h\" or \"7d\"",
        "tasks.toml:10: name: \"Image\": must be 1 to 64 characters of a-z, 0-9, '_', '.' and '-', starting with a letter or a digit",
        "tasks.toml:12: unknown key \"timout\"; known keys: accepts, backoff, command, content_type, cwd, description, env, group, indexes, inherit_env, max_attempts, max_payload, max_result, name, payload_schema, priority, queue, result_schema, retention, start_within, timeout, unique",
        "tasks.toml:13: name is missing",
        "tasks.toml:13: command is missing",
        "tasks.toml:14: priority: \"highest\": expected one of urgent, high, normal, low",
        "tasks.toml:16: task \"word.count\" is declared twice (first at line 5); names must be unique in one worker",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn a_name_that_the_code_has_is_taken() {
    let folder = Folder::with(
        "[[task]]\ncommand = ['sh']\nname = 'crunch'\n[[task]]\nname = 'mine'\ncommand = ['sh']\n",
    );
    let mut registry = Registry::default();
    for task in crate::tasks::builtin() {
        registry.add(task).unwrap();
    }
    registry.add(Task::blocking("mine", |_, (): ()| Ok(()))).unwrap();
    let error = folder.join(registry).unwrap_err();
    let expected = [
        "tasks.toml:3: task \"crunch\" is declared twice (it ships with the worker, unless the file sets builtin = false); names must be unique in one worker",
        "tasks.toml:5: task \"mine\" is declared twice (first in the worker's own code); names must be unique in one worker",
    ];
    assert_eq!(error.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn values_out_of_their_range_are_refused() {
    let cases = [
        ("timeout = 30", "timeout: expected a whole number and a unit"),
        ("timeout = '0s'", "timeout: expected at least 1ms"),
        ("timeout = '400d'", "timeout: expected at most a year (366d)"),
        ("retention = '0d'", "retention: expected at least 1ms"),
        ("start_within = '0s'", "start_within: expected at least 1ms"),
        ("unique = 'customer'", "unique: expected"),
        (
            "unique = { fields = ['customer'] }",
            "unique: fields: \"customer\": expected a JSON Pointer",
        ),
        ("unique = { for = '0s' }", "unique: for: expected at least 1ms"),
        ("unique = { for = '1h', until = 'end' }", "unique: for: excludes until"),
        (
            "unique = { on_conflict = 'ignore' }",
            "unique: on_conflict: \"ignore\": expected one of existing",
        ),
        ("unique = { keys = 'a' }", "unique: unknown key \"keys\"; known keys: fields, for, key"),
        ("indexes = ['a', 'a']", "indexes: \"a\" is listed twice"),
        ("indexes = ['a', 'b', 'c', 'd']", "indexes: at most 3 labels can be indexed"),
        ("indexes = 'a'", "indexes: expected a list"),
        ("group = 'customer'", "group: \"customer\": expected a JSON Pointer of at most 256 bytes"),
        ("group = ['/a']", "group: expected"),
        ("max_attempts = 0", "max_attempts: expected a whole number from 1 to 100, found 0"),
        ("max_attempts = -1", "max_attempts: expected a whole number from 1 to 100, found -1"),
        ("max_attempts = 1.5", "max_attempts: expected a whole number from 1 to 100, found 1.5"),
        ("max_payload = 67_108_865", "max_payload: expected a whole number from 0 to 67108864"),
        ("queue = 'Text'", "queue: \"Text\": must be 1 to 64 characters"),
        ("accepts = []", "accepts: expected a list"),
        ("accepts = ['json']", "accepts: \"json\": expected a media type"),
        ("accepts = 'text/plain'", "accepts: expected a list such as"),
        ("content_type = ''", "content_type: \"\": expected a media type"),
        ("description = 7", "description: expected text in quotes, found 7"),
        ("backoff = '1s'", "backoff: expected a table, found \"1s\""),
        ("backoff = { base = 1 }", "backoff: base: expected a whole number and a unit"),
        ("backoff = { least = '1s' }", "backoff: unknown key \"least\"; known keys: base, max"),
        ("backoff = { base = '1h' }", "backoff: base (3600s) is longer than max (600s)"),
        ("cwd = 'nowhere'", "cwd: "),
        ("env = ['A']", "env: expected a table, found a list"),
        ("env = { A = 1 }", "env: expected text in quotes, found 1"),
        ("env = { 'A=B' = '1' }", "env: \"A=B\" cannot be the name of a variable"),
        ("env = { CRUNCH_TASK = 'x' }", "env: CRUNCH_TASK is set by the worker"),
        ("env = { CRUNCH_REDIS_URL = 'x' }", "env: CRUNCH_REDIS_URL is never given to a command"),
        ("inherit_env = ['CRUNCH_REDIS_URL']", "inherit_env: CRUNCH_REDIS_URL is never given"),
        ("inherit_env = 'A'", "inherit_env: expected a list"),
        ("processes = 2", "unknown key \"processes\"; known keys: accepts"),
        ("env = { CRUNCH_IN_FD = '9' }", "env: CRUNCH_IN_FD is set by the worker"),
        ("payload_schema = {}", "payload_schema: expected text in quotes, found a table"),
        ("result_schema = 'none.json'", "result_schema: "),
    ];
    for (line, expected) in cases {
        let problem = problem(line);
        assert!(problem.starts_with(expected), "{line}: {problem}");
    }
}

#[test]
fn a_server_has_the_values_of_the_file_and_defaults() {
    let text = "[[server]]\ncommand = ['sh']\n[[server]]\nname = 'models'\ncommand = ['sh']\nprocesses = 3\n\
                concurrency = 5\nmax_jobs = 7\nmax_memory = '2GiB'\nstart_timeout = '5m'\nidle_exit = '1h'\n\
                [[server.task]]\nname = 'a'\ntimeout = '5s'\n";
    let folder = Folder::with(text);
    let commands = Commands::read(&folder.0.path().join("tasks.toml"), 1024, 4).unwrap();
    assert_eq!(commands.most_children(), 2 * (4 + 3));
    let servers = commands.join(&mut Registry::default()).unwrap().servers;
    let [first, second] = &servers[..] else { panic!("{servers:?}") };
    assert_eq!((&first.name[..], first.processes, first.concurrency), ("server-1", 4, None));
    assert_eq!((first.max_jobs, first.max_memory, first.idle_exit), (None, None, None));
    assert_eq!((&first.start_timeout, first.tasks.len()), (&Duration::from_secs(60), 0));
    assert_eq!((&second.name[..], second.processes, second.concurrency), ("models", 3, Some(5)));
    assert_eq!((second.max_jobs, second.max_memory), (Some(7), Some(2 << 30)));
    assert_eq!(second.start_timeout, Duration::from_secs(300));
    assert_eq!(second.idle_exit, Some(Duration::from_secs(3600)));
    let task = second.tasks[&"a".parse().unwrap()].clone();
    assert_eq!(task.timeout, Some(Duration::from_secs(5)));
}

#[test]
fn everything_that_is_wrong_with_a_server_is_reported() {
    let text = "[[server]]\nname = 's'\ncommand = ['no-such-program']\nprocesses = 0\n[[server]]\nname = 's'\n\
                command = ['sh']\nqueue = 'q'\nmax_memory = '2GB'\n[[server.task]]\nname = 'a'\ncommand = ['sh']\n\
                [[server.task]]\nname = 'a'\n[[server]]\nname = 's'\ncommand = ['sh']\n";
    let found = problems(text);
    let expected = [
        "tasks.toml:3: command: no program \"no-such-program\" in PATH",
        "tasks.toml:4: processes: expected a whole number from 1 to 256, found 0",
        "tasks.toml:8: unknown key \"queue\"; known keys: command, concurrency, cwd, env",
        "tasks.toml:9: max_memory: expected a number of bytes, or a size such as",
        "tasks.toml:12: task: unknown key \"command\"; known keys: accepts",
        "tasks.toml:13: task: \"a\" is there twice",
        "tasks.toml:15: there are two servers \"s\"; give one another name",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn mistakes_of_several_lines_are_found_on_theirs() {
    let text = "[[task]]\nname = 'a'\ncommand = ['sh']\ninherit_env = [\n  'A',\n  7,\n]\n[task.env]\nB = 'b'\nC = true\n";
    let expected = [
        "tasks.toml:6: inherit_env: expected text in quotes, found 7",
        "tasks.toml:10: env: expected text in quotes, found true",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn text_that_is_no_toml_is_reported_with_its_line() {
    let invalid = problems("[[task]]\nname = 'a'\ncommand = [sh]\n");
    assert!(invalid[0].starts_with("tasks.toml:3: not TOML: "), "{invalid:?}");
    assert_eq!(
        problems("[task]\nname = 'a'\n"),
        ["tasks.toml:1: task: write [[task]], with double brackets"]
    );
    let twice = problems("[[task]]\nname = 'a'\nname = 'b'\n");
    assert!(twice[0].starts_with("tasks.toml:3: not TOML: "), "{twice:?}");
}

#[test]
fn a_program_must_be_there_and_executable() {
    let read = |word: &str| {
        let folder = Folder::with(&format!("[[task]]\nname = 'a'\ncommand = ['{word}']\n"));
        folder.add("tool", 0o755);
        folder.add("notes", 0o644);
        let here = format!("{}/", folder.0.path().display());
        folder.read().map(|_| ()).map_err(|error| error.replace(&here, ""))
    };
    assert_eq!(read("./tool"), Ok(()));
    assert_eq!(read("/bin/sh"), Ok(()));
    let error = |word: &str| read(word).unwrap_err();
    assert_eq!(
        error("tool"),
        "tasks.toml:3: command: no program \"tool\" in PATH; to run the one next to this file, write \"./tool\""
    );
    assert_eq!(
        error("./notes"),
        "tasks.toml:3: command: ./notes is not executable; run chmod +x on it, or put its interpreter first"
    );
    assert!(error("./gone").starts_with("tasks.toml:3: command: no program ./gone: No such file"));
    assert!(
        error("no-such-program")
            .starts_with("tasks.toml:3: command: no program \"no-such-program\" in PATH (/")
    );
    assert_eq!(error("./"), "tasks.toml:3: command: ./ is not a file");
    assert_eq!(error(""), "tasks.toml:3: command: the first word names the program; it is empty");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_its_variable() {
    let error = Commands::read(Path::new("/nowhere/tasks.toml"), 1, 4).unwrap_err().to_string();
    assert_eq!(
        error,
        "CRUNCH_TASKS=/nowhere/tasks.toml: cannot be read: No such file or directory (os error 2)"
    );
}

#[test]
fn a_command_sees_little_of_the_workers_environment() {
    let text =
        "[[task]]\nname = 'a'\ncommand = ['sh']\ninherit_env = ['TOKEN']\nenv = { LANG = 'C' }\n";
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(std::ffi::OsString, std::ffi::OsString)> {
        pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
    };
    let worker = pairs(&[
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/root"),
        ("USER", "u"),
        ("LANG", "de"),
        ("LC_ALL", "de"),
        ("LC_TIME", "de"),
        ("TZ", "UTC"),
        ("TMPDIR", "/t"),
        ("TOKEN", "x"),
        ("OTHER", "x"),
        ("CRUNCH_REDIS_URL", "redis://"),
        ("CRUNCH_LOG", "x"),
    ]);
    let context = FileContext { folder: "/".into(), environment: worker, max_result: 1, slots: 4 };
    let document = DeTable::parse(text).unwrap();
    let tasks = table::tables("task", document.get_ref().get("task").unwrap()).unwrap();
    let mut entries = Table::new(tasks[0].0, 0..0);
    let environment = declaration::environment(&mut entries, &context);
    let expected = pairs(&[
        ("PATH", "/usr/bin:/bin"),
        ("HOME", "/root"),
        ("USER", "u"),
        ("LANG", "de"),
        ("LC_ALL", "de"),
        ("LC_TIME", "de"),
        ("TZ", "UTC"),
        ("TMPDIR", "/t"),
        ("TOKEN", "x"),
        ("LANG", "C"),
    ]);
    assert_eq!(environment, expected);
}

#[test]
fn a_schema_is_read_from_the_file_beside() {
    let line = "[[task]]\nname = 'a'\ncommand = ['sh']\npayload_schema = 'in/p.json'\n";
    let folder = Folder::with(line);
    std::fs::create_dir(folder.0.path().join("in")).unwrap();
    std::fs::write(folder.0.path().join("in/p.json"), "{ \"type\": \"object\" }\n").unwrap();
    let declared = descriptor(&folder.read().unwrap(), "a");
    assert_eq!(declared.payload_schema.unwrap().as_str(), "{ \"type\": \"object\" }");
    assert_eq!(declared.result_schema, None);
}

#[test]
fn a_schema_that_cannot_be_used_is_reported_with_its_file_and_why() {
    let read = |key: &str, schema: &str| {
        let text = format!("[[task]]\nname = 'a'\ncommand = ['sh']\n{key} = 's.json'\n");
        let folder = Folder::with(&text);
        std::fs::write(folder.0.path().join("s.json"), schema).unwrap();
        folder.read().unwrap_err()
    };
    let large = format!("{{\"title\": \"{}\"}}", "x".repeat(100_000));
    let cases = [
        ("{", "not JSON: EOF while parsing an object at line 1"),
        ("{\"type\": \"text\"}", "not a JSON Schema: /type: "),
        (
            "{\"$ref\": \"https://example.com/s.json\"}",
            "$ref \"https://example.com/s.json\" refers outside the file",
        ),
        (&large, "65537 bytes; a schema has at most 65536"),
    ];
    for (schema, why) in cases {
        for key in ["payload_schema", "result_schema"] {
            let error = read(key, schema);
            let expected = format!("tasks.toml:4: {key}: s.json: {why}");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
