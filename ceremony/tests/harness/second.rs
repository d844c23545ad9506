//! The verifier in Python.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(dead_code, reason = "each story takes what it needs")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::place::{Answer, manifest};

/// What it answers to these arguments.
pub(crate) fn second_verifier(arguments: &[&str]) -> Answer {
    let mut command = Command::new("python3");
    Answer::of("python3", command.arg(manifest("verify.py")).args(arguments))
}

/// One that stays, and verifies one file after the other.
pub(crate) struct Second {
    child: Child,
    paths: ChildStdin,
    answers: BufReader<ChildStdout>,
    directory: TempDir,
}

impl Second {
    pub(crate) fn start() -> Self {
        let mut command = Command::new("python3");
        command.arg(manifest("verify.py")).arg("--batch");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (paths, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let directory = tempfile::tempdir().unwrap();
        Self { child, paths, answers: BufReader::new(answers), directory }
    }

    /// Whether anything is wrong with this content, and what.
    pub(crate) fn verify(&mut self, content: &[u8]) -> Result<(), String> {
        let path = self.directory.path().join("file");
        fs::write(&path, content).unwrap();
        writeln!(self.paths, "{}", path.display()).unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        match answer["error"].as_str() {
            Some(error) => Err(error.to_owned()),
            None => {
                assert_eq!(answer["ok"], true, "an answer of verify.py");
                Ok(())
            }
        }
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
