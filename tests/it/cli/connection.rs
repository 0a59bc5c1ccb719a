//! Which API is used with which key: contexts, files of keys, and what a key for reading allows.

use std::os::unix::fs::PermissionsExt;

use crunch_tests::{Api, Stack};
use serde_json::json;

use super::fake::{Fake, answer, page};
use super::{Crunch, write_private};

/// An API that requires keys, and one key for each of these scopes.
pub(super) async fn with_keys<const N: usize>(scopes: [&str; N]) -> (Stack, Api, [String; N]) {
    let mut stack = Stack::start();
    let file = stack.directory().join("keys.json").display().to_string();
    let mut keys = Vec::new();
    for scopes in scopes {
        let mut command = stack.command("test-api");
        command.args(["keys", "create", "--file", &file, "--name", "n", "--scopes", scopes]);
        let output = command.output().await.unwrap();
        keys.push(String::from_utf8(output.stdout).unwrap().trim().to_owned());
    }
    let environment = [("CRUNCH_API_KEYS", file.as_str()), ("CRUNCH_API_UNKNOWN_TASKS", "accept")];
    let api = stack.api_with(&environment).await;
    (stack, api, keys.try_into().unwrap())
}

#[tokio::test]
async fn a_key_comes_from_the_environment_a_file_or_a_context() {
    let (_stack, api, [key]) = with_keys(["admin"]).await;
    let crunch = Crunch::of(&api);
    let none = crunch.run(&["jobs"]).await;
    assert_eq!(none.code, 4);
    assert!(none.err.contains("CRUNCH_API_KEY"), "{}", none.err);
    assert_eq!(Crunch::of(&api).with("CRUNCH_API_KEY", &key).prints(&["jobs"]).await, "");

    let file = crunch.path("key").display().to_string();
    write_private(&crunch.path("key"), &format!("{key}\n"));
    assert_eq!(crunch.prints(&["jobs", "--key-file", &file]).await, "");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let open = crunch.run(&["jobs", "--key-file", &file]).await;
    assert_eq!(open.code, 2);
    assert!(open.err.contains("chmod 600"), "{}", open.err);

    let crunch = Crunch::new();
    let add = ["context", "add", "here", "--url", &api.url, "--key-stdin"];
    assert_eq!(crunch.run_with_input(&add, key.as_bytes()).await.code, 0);
    assert_eq!(crunch.prints(&["jobs"]).await, "");
    let contexts = crunch.path(".config/crunch/contexts.toml");
    assert_eq!(std::fs::metadata(contexts).unwrap().permissions().mode() & 0o777, 0o600);
    // The key of a context is not sent to another address.
    assert_eq!(crunch.run(&["jobs", "--url", &api.url]).await.code, 4);
}

#[tokio::test]
async fn what_the_command_line_names_is_before_the_environment() {
    let (_stack, api, [admin, reader]) = with_keys(["admin", "read"]).await;
    let crunch = Crunch::of(&api).with("CRUNCH_API_KEY", &reader);
    write_private(&crunch.path("admin"), &admin);
    let file = crunch.path("admin").display().to_string();
    let id = crunch.prints(&["submit", "t", "--key-file", &file]).await.trim().to_owned();
    assert_eq!(crunch.run(&["cancel", &id]).await.code, 4, "the key of the environment");

    crunch.prints(&["context", "add", "here", "--url", &api.url, "--key-file", &file]).await;
    // Also over the address of the environment.
    let canceled = crunch.prints(&["cancel", &id, "--context", "here"]).await;
    assert_eq!(canceled, format!("{id}\tcanceled\n"));
    let elsewhere = Crunch::new().with("CRUNCH_CONTEXT", "no.such.context");
    let run = elsewhere.run(&["jobs", "--url", &api.url, "--key-file", &file]).await;
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    // The context that is used without being named is behind the environment.
    let home = crunch.path("").display().to_string();
    let current = Crunch::new().with("HOME", &home).with("CRUNCH_API_KEY", &reader);
    assert_eq!(current.prints(&["jobs", "-n", "1"]).await.lines().count(), 1);
    assert_eq!(current.run(&["delete", &id]).await.code, 4);
    let both = Crunch::of(&api).with("CRUNCH_CONTEXT", "here").run(&["jobs"]).await;
    assert!(both.code == 2 && both.err.contains("an address and a context"), "{}", both.err);
}

#[tokio::test]
async fn a_context_has_nothing_of_the_environment() {
    let crunch = Crunch::new();
    for name in ["env.key", "own.key"] {
        write_private(&crunch.path(name), "crk_a_b");
    }
    let path = |name: &str| crunch.path(name).display().to_string();
    let (env, own) = (path("env.key"), path("own.key"));
    let crunch = crunch
        .with("CRUNCH_API_KEY_FILE", &env)
        .with("CRUNCH_URL", "http://env.example")
        .with("CRUNCH_CA_FILE", &env);
    assert_eq!(crunch.run(&["context", "add", "a"]).await.code, 2, "it needs an address");
    crunch.prints(&["context", "add", "a", "--url", "http://a"]).await;
    crunch.prints(&["context", "add", "b", "--url", "http://b", "--key-file", &own]).await;
    let list = crunch.run(&["context", "list", "--json"]).await.documents();
    let of = |at: usize| (list[at]["key_file"].clone(), list[at]["ca_file"].clone());
    assert_eq!(of(0), (json!(null), json!(null)));
    assert_eq!(of(1), (json!(own), json!(null)));
}

#[tokio::test]
async fn an_empty_variable_is_not_set() {
    let (_stack, api, _worker) = Stack::simple(1).await;
    let mut crunch = Crunch::new();
    for name in [
        "CRUNCH_URL",
        "CRUNCH_CONTEXT",
        "CRUNCH_API_KEY",
        "CRUNCH_API_KEY_FILE",
        "CRUNCH_CA_FILE",
        "CRUNCH_RETRY_FOR",
        "HTTP_PROXY",
        "ALL_PROXY",
    ] {
        crunch = crunch.with(name, "");
    }
    let run = crunch.run(&["queues", "--url", &api.url]).await;
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let wrong = Crunch::of(&api).with("CRUNCH_RETRY_FOR", "soon").run(&["queues"]).await;
    assert!(wrong.code == 2 && wrong.err.contains("CRUNCH_RETRY_FOR is soon"), "{}", wrong.err);
}

#[tokio::test]
async fn a_proxy_is_chosen_by_the_scheme_of_the_address() {
    let api = Fake::start(|_| page(&json!([]), None)).await;
    let proxy = Fake::start(|_| answer("502 Bad Gateway", "", "")).await;
    let uses_proxy = async |environment: &[(&str, &str)]| {
        let before = proxy.heads().len();
        let mut crunch = Crunch::new();
        for (name, value) in environment {
            crunch = crunch.with(name, value);
        }
        let run = crunch.run(&["jobs", "--url", &api.url, "--retry-for", "0"]).await;
        let used = proxy.heads().len() > before;
        assert_eq!(run.code, if used { 6 } else { 0 }, "{environment:?}: {}", run.err);
        used
    };
    assert!(uses_proxy(&[("HTTP_PROXY", &proxy.url)]).await);
    assert!(uses_proxy(&[("http_proxy", &proxy.url)]).await);
    assert!(uses_proxy(&[("ALL_PROXY", &proxy.url), ("NO_PROXY", "b.example")]).await);
    assert!(!uses_proxy(&[("HTTPS_PROXY", &proxy.url)]).await);
    assert!(!uses_proxy(&[("HTTP_PROXY", &proxy.url), ("NO_PROXY", "127.0.0.1")]).await);
    let secure = Crunch::new().with("HTTPS_PROXY", &proxy.url);
    let before = proxy.heads().len();
    let run = secure.run(&["jobs", "--url", "https://a.example", "--retry-for", "0"]).await;
    assert_eq!(run.code, 6);
    assert!(proxy.heads()[before].starts_with("CONNECT a.example:443 "), "{:?}", proxy.heads());
    let wrong = Crunch::new().with("HTTP_PROXY", "gopher://user:secret@a").run(&["jobs"]).await;
    assert!(wrong.code == 2 && !wrong.err.contains("secret"), "{}", wrong.err);
}

#[tokio::test]
async fn contexts_are_added_selected_and_removed() {
    let crunch = Crunch::new();
    for (name, url) in [("one", "http://127.0.0.1:1"), ("two", "https://two.example.com/")] {
        crunch.prints(&["context", "add", name, "--url", url]).await;
    }
    assert_eq!(
        crunch.prints(&["context", "list"]).await,
        "*\tone\thttp://127.0.0.1:1\t\n\ttwo\thttps://two.example.com\t\n"
    );
    crunch.prints(&["context", "use", "two"]).await;
    let list = crunch.run(&["context", "list", "--json"]).await.documents();
    let expected = json!({ "name": "two", "current": true, "url": "https://two.example.com",
        "key": false, "key_file": null, "ca_file": null });
    assert_eq!((list.len(), &list[1]), (2, &expected));
    crunch.prints(&["context", "remove", "two"]).await;
    for (arguments, says) in [
        (&["context", "use", "two"][..], "known: one"),
        (&["jobs", "--context", "three"], "there is no context three"),
        (&["jobs", "--context", "one", "--url", "http://a"], "an address and a context"),
        (&["context", "add", "bad", "--url", "ftp://a"], "not the address of an API"),
        (&["context", "add", "bad"], "needs an address"),
    ] {
        let run = crunch.run(arguments).await;
        assert!(run.code == 2 && run.err.contains(says), "{arguments:?}: {}", run.err);
    }
    let away = crunch.run(&["jobs", "--context", "one", "--retry-for", "0s"]).await;
    assert_eq!(away.code, 6);
}

#[tokio::test]
async fn a_key_for_reading_sees_everything_and_changes_nothing() {
    let (stack, api, [reader, admin]) = with_keys(["read", "admin"]).await;
    let mut stack = stack;
    let _worker = stack.worker_process(1, &[]);
    let own = |key: &str| Crunch::of(&api).with("CRUNCH_API_KEY", key);
    let (reader, admin) = (own(&reader), own(&admin));
    let id = admin.prints(&["submit", "t", "-d", "1"]).await.trim().to_owned();
    for command in ["jobs", "queues", "workers", "tasks", "errors", "system"] {
        let run = reader.run(&[command]).await;
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{command}");
    }
    for command in [["get", &id], ["attempts", &id], ["logs", &id], ["payload", &id]] {
        assert_eq!(reader.run(&command).await.code, 0, "{command:?}");
    }
    assert_eq!(reader.run(&["wait", &id, "--timeout", "50ms"]).await.code, 7);
    for command in [
        &["submit", "t"][..],
        &["cancel", &id],
        &["retry", &id],
        &["delete", &id],
        &["pause", "t"],
        &["resume", "t"],
        &["purge", "t", "--yes"],
        &["redrive", "t"],
        &["cancel", "--status", "queued", "--dry-run"],
    ] {
        let run = reader.run(command).await;
        assert_eq!(run.code, 4, "{command:?}: {}", run.err);
        assert!(run.err.contains("crunch doctor"), "{command:?}: {}", run.err);
    }
    assert_eq!(api.process.log().matches("panicked").count(), 0);
    assert_eq!(admin.prints(&["cancel", &id]).await, format!("{id}\tcanceled\n"));
}

#[tokio::test]
async fn an_api_with_a_certificate_of_its_own_is_trusted_by_a_file() {
    let mut stack = Stack::start();
    let generated = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = stack.directory().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = file("certificate.pem", generated.cert.pem());
    let key = file("key.pem", generated.signing_key.serialize_pem());
    let environment =
        [("CRUNCH_API_TLS_CERT", certificate.as_str()), ("CRUNCH_API_TLS_KEY", key.as_str())];
    let api = stack.api_with(&environment).await;
    let crunch = Crunch::of(&api);

    let run = crunch.run(&["jobs", "--ca-file", &certificate]).await;
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let refused = crunch.run(&["jobs", "--retry-for", "1h"]).await;
    assert!(refused.code == 6 && refused.err.contains("ertificate"), "{}", refused.err);
    assert_eq!(crunch.run(&["jobs", "--ca-file", &key]).await.code, 2);
}
