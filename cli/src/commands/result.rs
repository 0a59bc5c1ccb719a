//! `result` and `payload`: bytes, as they were sent.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::value::RawValue;

use super::Session;
use crate::client::{Answer, Request};
use crate::documents::{Job, read};
use crate::error::Error;
use crate::exit::Exit;
use crate::follow;
use crate::format;
use crate::output::{is_text, log};

/// A job, and where its bytes go.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The job
    #[arg(value_name = "ID")]
    id: String,
    /// Write to this file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(crate) fn payload(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    let answer = session.client.send(&Request::get(&["jobs", &arguments.id, "payload"]))?;
    write(session, &answer, arguments.output.as_deref(), ("payload", &arguments.id))
}

pub(crate) fn result(session: &mut Session<'_>, arguments: &Arguments) -> Result<Exit, Error> {
    print(session, &arguments.id, arguments.output.as_deref())
}

/// Prints the result of a job that has ended.
pub(super) fn print(session: &mut Session<'_>, id: &str, to: Option<&Path>) -> Result<Exit, Error> {
    match session.client.send(&Request::get(&["jobs", id, "result"])) {
        Ok(answer) if answer.status == 202 => Err(Error::usage(
            format!("job {id} has not ended"),
            format!("wait for it: crunch wait {id}"),
        )),
        Ok(answer) => write(session, &answer, to, ("result", id)),
        // These are answers about the job, not about the request.
        Err(Error::Problem(problem)) if matches!(problem.slug(), "job-failed" | "job-canceled") => {
            let document: Box<RawValue> = session.client.read(&Request::get(&["jobs", id]))?;
            Err(follow::failure(&read::<Job>(&document)?))
        }
        Err(error) => Err(error),
    }
}

fn write(
    session: &mut Session<'_>,
    answer: &Answer,
    to: Option<&Path>,
    (what, id): (&str, &str),
) -> Result<Exit, Error> {
    let bytes = &answer.body;
    if let Some(path) = to {
        return write_file(bytes, path);
    }
    if session.output.is_terminal && !is_text(bytes) {
        let content_type = answer.headers.get("content-type").and_then(|it| it.to_str().ok());
        return Err(Error::usage(
            format!(
                "the {what} of job {id} is not text for a terminal: {} of {}",
                format::bytes(bytes.len() as u64),
                content_type.unwrap_or("an unknown type")
            ),
            format!("write it to a file: crunch {what} {id} -o FILE; or into a pipe"),
        ));
    }
    session.output.bytes(bytes)?;
    if session.output.is_terminal {
        session.output.line("")?;
    }
    Ok(Exit::Done)
}

/// A new file is written whole, or not at all.
fn write_file(bytes: &[u8], path: &Path) -> Result<Exit, Error> {
    let failed = |cause| Error::file("write", path, cause);
    // A device, a pipe or a link is written to, and not replaced by a file; a file that exists keeps its mode.
    if path.symlink_metadata().is_ok() {
        std::fs::write(path, bytes).map_err(failed)?;
        return Ok(Exit::Done);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::Builder::new()
        .permissions(PermissionsExt::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")))
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    log::hint(&format!("{} in {}", format::bytes(bytes.len() as u64), path.display()));
    Ok(Exit::Done)
}
