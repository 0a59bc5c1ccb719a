//! The command `crunch`: what an operator and a script do with an API, over HTTP only.
//!
//! It uses nothing of the other crates: everything it does, any client can do with `docs/api.md`.

mod client;
mod clock;
mod commands;
mod completion;
mod config;
mod documents;
mod error;
mod exit;
mod follow;
mod format;
mod ndjson;
mod output;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::commands::Arguments;
use crate::error::Error;
use crate::output::{Output, log};

fn main() -> ExitCode {
    // Ends the process if a shell asks for completions.
    clap_complete::CompleteEnv::with_factory(Arguments::command).complete();
    let arguments = Arguments::parse();
    let mut output = Output::of_process(arguments.json, arguments.acts());
    let outcome = commands::run(arguments, &mut output).and_then(|exit| {
        output.flush()?;
        Ok(exit)
    });
    match outcome {
        Ok(exit) => exit.into(),
        // The reader of a pipe has what it wanted, as `head` does.
        Err(Error::Output(cause)) if cause.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            // What was printed before belongs to what was done before.
            let _ = output.flush();
            log::error(&error);
            error.exit().into()
        }
    }
}
