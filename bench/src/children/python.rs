//! A Python with the modules that the benchmark runs, and what a worker runs them with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The environment.
pub(super) struct Python {
    pub(super) program: PathBuf,
}

impl Python {
    /// Makes a virtual environment beside this program with the pinned packages, unless it is there: with NumPy alone,
    /// or also with the other task systems.
    pub(super) fn install(with_peers: bool) -> Self {
        let pins = fs::read_to_string(modules().join("requirements.txt")).unwrap();
        let wanted = |line: &&str| with_peers || line.starts_with("numpy==");
        let packages: Vec<_> = pins.lines().filter(wanted).collect();
        let folder = std::env::current_exe().unwrap().with_file_name("bench-python");
        let (program, stamp) = (folder.join("bin/python"), folder.join("installed"));
        let installed = fs::read_to_string(&stamp).unwrap_or_default();
        if !packages.iter().all(|package| installed.lines().any(|line| line == *package)) {
            run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            run(Command::new(&program).args(pip).args(&packages));
            fs::write(stamp, packages.join("\n")).unwrap();
        }
        Self { program }
    }

    /// The file of a worker with children that have the tasks of `tasks.py`.
    pub(super) fn server(&self, options: &str) -> String {
        let package = modules().join("../../sdk/python/src");
        format!(
            "builtin = false\n[[server]]\ncommand = [{:?}, \"-m\", \"crunch\", \"tasks\"]\ncwd = {:?}\n\
             env = {{ PYTHONPATH = {package:?} }}\n{options}\n",
            self.program,
            modules(),
        )
    }

    /// The file of a worker that starts a program for each job.
    pub(super) fn command(&self, task: &str) -> String {
        let program = modules().join("once.py");
        format!(
            "builtin = false\n[[task]]\nname = {task:?}\ncommand = [{:?}, {program:?}]\n",
            self.program
        )
    }
}

/// The folder of the modules.
pub(super) fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python")
}

fn run(command: &mut Command) {
    let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
