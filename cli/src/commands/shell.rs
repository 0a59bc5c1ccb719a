//! `completion`: the script with which a shell asks this program what fits.

use clap::Args;
use clap_complete::env::Shells;

use crate::error::Error;
use crate::exit::Exit;
use crate::output::Output;

/// A shell.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_name = "SHELL", value_parser = ["bash", "zsh", "fish", "elvish", "powershell"])]
    shell: String,
}

pub(crate) fn run(arguments: &Arguments, output: &mut Output) -> Result<Exit, Error> {
    let shells = Shells::builtins();
    let shell = shells.completer(&arguments.shell);
    let shell = shell
        .ok_or_else(|| Error::usage("this shell is not supported", "use bash, zsh or fish"))?;
    let mut script = Vec::new();
    // Found in PATH, so that the script stays valid after an update.
    shell.write_registration("COMPLETE", "crunch", "crunch", "crunch", &mut script)?;
    output.bytes(&script)?;
    Ok(Exit::Done)
}
