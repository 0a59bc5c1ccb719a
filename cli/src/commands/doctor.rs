//! `doctor`: what is wrong with a set-up, as far as a client can see it, and what to do about each fault.
//!
//! It changes nothing: requests that would need a right to change something name a job that does not exist.

mod connection;
mod redis;
mod work;

use std::time::Duration;

use serde::Serialize;

use crate::client::Client;
use crate::config::{ConnectionArguments, Target};
use crate::error::Error;
use crate::exit::Exit;
use crate::output::{Cell, Output, Style, Table};

/// What takes longer is a fault.
const LIMIT: Duration = Duration::from_secs(10);

/// How good something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// It works, and may not for long, or not as its operator thinks.
    Warning,
    Fault,
}

/// What one check found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    state: State,
    detail: String,
    /// What to do; null if nothing is to be done.
    remedy: Option<String>,
}

/// What all checks found.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, detail: impl Into<String>) {
        self.0.push(Finding { check, state: State::Ok, detail: detail.into(), remedy: None });
    }

    fn warning(
        &mut self,
        check: &'static str,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, State::Warning, detail, remedy);
    }

    fn fault(&mut self, check: &'static str, detail: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, State::Fault, detail, remedy);
    }

    fn error(&mut self, check: &'static str, error: &Error) {
        self.fault(check, error.to_string(), error.remedy());
    }

    fn add(
        &mut self,
        check: &'static str,
        state: State,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (detail, remedy) = (detail.into(), Some(remedy.into()));
        self.0.push(Finding { check, state, detail, remedy });
    }

    /// Adds that everything is right, if nothing was found since there were `before` findings.
    fn ok_unless_found(&mut self, before: usize, check: &'static str, detail: impl Into<String>) {
        if self.0.len() == before {
            self.ok(check, detail);
        }
    }
}

pub(crate) fn run(connection: &ConnectionArguments, output: &mut Output) -> Result<Exit, Error> {
    let mut findings = Findings::default();
    examine(connection, &mut findings);
    print(&findings, output)?;
    let has_fault = findings.0.iter().any(|finding| finding.state == State::Fault);
    Ok(if has_fault { Exit::Failed } else { Exit::Done })
}

/// Later checks need what earlier ones found to be right.
fn examine(arguments: &ConnectionArguments, findings: &mut Findings) {
    let client = Target::of(arguments).and_then(|target| {
        // A fault is reported at once.
        Client::new(target, Duration::ZERO).map(|client| client.impatient(LIMIT))
    });
    let client = match client {
        Ok(client) => client,
        Err(error) => return findings.error("configuration", &error),
    };
    let target = &client.target;
    let origin = target.context.as_ref().map(|name| format!(", from the context {name}"));
    findings.ok("configuration", format!("{}{}", target.url, origin.unwrap_or_default()));
    if !connection::answers(&client, findings) {
        return;
    }
    connection::is_encrypted(&client, findings);
    let is_ready = redis::is_ready(&client, findings);
    if !connection::key_reads(&client, findings) {
        return;
    }
    connection::versions(&client, findings);
    connection::scopes(&client, findings);
    let is_usable = redis::nodes(&client, findings);
    if is_ready && is_usable {
        work::examine(&client, findings);
    }
}

fn print(findings: &Findings, output: &mut Output) -> Result<(), Error> {
    if output.json {
        return Ok(findings.0.iter().try_for_each(|finding| output.own_document(finding))?);
    }
    let mut table = Table::new(&["CHECK", "STATE", "FINDING"]);
    for Finding { check, state, detail, remedy } in &findings.0 {
        let state = match state {
            State::Ok => Cell::text("ok").styled(Style::Good),
            State::Warning => Cell::text("warning").styled(Style::Busy),
            State::Fault => Cell::text("FAULT").styled(Style::Bad),
        };
        table.row([Cell::text(*check), state, Cell::text(detail)]);
        if let Some(remedy) = remedy {
            table.row([
                Cell::text(""),
                Cell::text("").styled(Style::Dim),
                Cell::text(format!("→ {remedy}")),
            ]);
        }
    }
    Ok(output.whole_table(&table)?)
}
