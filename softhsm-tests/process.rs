//! Programs that end and programs that stay.

use std::{
    fs::File,
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, kill_process};

pub use rustix::process::Signal;

use crate::failure::{Doing, Failure};

/// How long a program may take that ends by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a program may take to end after it was asked to.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a program answered that ended by itself.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Answer {
    /// The answer, if the program succeeded.
    ///
    /// # Errors
    ///
    /// It did not: the failure holds its output.
    pub fn success(self) -> Result<Self, Failure> {
        if self.status.success() {
            return Ok(self);
        }
        Err(Failure::new(format!("{}: {}", self.command, self.status)).said(self.output()))
    }

    /// The answer, if the program failed and said `why` on either output.
    ///
    /// # Errors
    ///
    /// It succeeded, or failed for another reason.
    pub fn refused(self, why: &str) -> Result<Self, Failure> {
        if self.status.success() {
            let what = format!("{}: succeeded and should have been refused", self.command);
            return Err(Failure::new(what).said(self.output()));
        }
        if !self.output().contains(why) {
            let what = format!("{}: failed, but not with {why:?}", self.command);
            return Err(Failure::new(what).said(self.output()));
        }
        Ok(self)
    }

    /// Both outputs, standard output first.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

/// Runs a program to its end without a terminal and with nothing to read.
///
/// # Errors
///
/// It cannot be started, or is not done within a minute.
pub fn run(command: &mut Command) -> Result<Answer, Failure> {
    run_with_input(command, b"")
}

/// Runs a program to its end with `input` as its standard input.
///
/// # Errors
///
/// It cannot be started, or is not done within a minute.
pub fn run_with_input(command: &mut Command, input: &[u8]) -> Result<Answer, Failure> {
    run_for(command, input, PATIENCE)
}

/// As [`run`], for what takes its time on a busy machine.
///
/// # Errors
///
/// It cannot be started, or is not done within `limit`.
pub fn run_within(limit: Duration, command: &mut Command) -> Result<Answer, Failure> {
    run_for(command, b"", limit)
}

fn run_for(command: &mut Command, input: &[u8], limit: Duration) -> Result<Answer, Failure> {
    let line = command_line(command);
    // Files, not pipes: nothing blocks, whatever the program writes, and no thread has to read.
    let (mut stdout, mut stderr) = (scratch(&[])?, scratch(&[])?);
    let mut child = command
        .stdin(scratch(input)?)
        .stdout(stdout.try_clone().doing("share a file")?)
        .stderr(stderr.try_clone().doing("share a file")?)
        .spawn()
        .doing(format_args!("start {line}"))?;
    let Some(status) = wait(&mut child, limit)? else {
        end(&mut child, Signal::KILL);
        let what = format!("{line}: not done after {} s", limit.as_secs());
        return Err(Failure::new(what).said(content(&mut stdout)? + &content(&mut stderr)?));
    };
    let (stdout, stderr) = (content(&mut stdout)?, content(&mut stderr)?);
    Ok(Answer { command: line, status, stdout, stderr })
}

/// A program that stays until this value is dropped; its output goes to a file.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    leftovers: Vec<PathBuf>,
}

impl Daemon {
    /// Starts a program; what it writes is appended to the file `log`.
    ///
    /// # Errors
    ///
    /// The program cannot be started or the file not be opened.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self, Failure> {
        Self::start_with_input(name, command, Stdio::null(), log)
    }

    /// As [`start`](Self::start), with something to read.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn start_with_input(
        name: &str,
        command: &mut Command,
        input: Stdio,
        log: &Path,
    ) -> Result<Self, Failure> {
        let line = command_line(command);
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .doing(format_args!("open {}", log.display()))?;
        let child = command
            .stdin(input)
            .stdout(file.try_clone().doing("share a file")?)
            .stderr(file)
            .spawn()
            .doing(format_args!("start {line}"))?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned(), leftovers: Vec::new() })
    }

    /// Names files that the program leaves behind, to be removed when it has ended.
    pub fn leaves(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        self.leftovers.extend(files);
    }

    /// Waits until `ready` says so of what the program has written, or of anything else.
    ///
    /// # Errors
    ///
    /// The program ended or the time is over: the failure holds what it wrote.
    pub fn wait_until(
        &mut self,
        deadline: Duration,
        ready: impl Fn(&str) -> bool,
    ) -> Result<(), Failure> {
        let until = Instant::now() + deadline;
        loop {
            let ended = self.child.try_wait().doing("ask for a child")?;
            let log = self.log()?;
            if ready(&log) {
                return Ok(());
            }
            if let Some(status) = ended {
                return Err(Failure::new(format!("{} ended: {status}", self.name)).said(log));
            }
            if Instant::now() > until {
                let what = format!("{} not ready after {deadline:?}", self.name);
                return Err(Failure::new(what).said(log));
            }
            pause();
        }
    }

    /// What the program has written so far.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self) -> Result<String, Failure> {
        let bytes = std::fs::read(&self.log).doing(format_args!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program still runs.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn running(&mut self) -> Result<bool, Failure> {
        Ok(self.child.try_wait().doing("ask for a child")?.is_none())
    }

    /// Sends the program a signal, unless it has ended.
    pub fn signal(&mut self, signal: Signal) {
        send(&mut self.child, signal);
    }

    /// Ends the program as a power cut would: SIGKILL.
    pub fn kill(mut self) {
        end(&mut self.child, Signal::KILL);
    }

    /// Asks the program to end and waits for it.
    pub fn stop(mut self) {
        end(&mut self.child, Signal::TERM);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        end(&mut self.child, Signal::TERM);
        for file in &self.leftovers {
            let _ = std::fs::remove_file(file);
        }
    }
}

/// Asks `condition` again and again until it is true.
///
/// # Errors
///
/// The deadline passed, or the condition failed: `what` says what did not come.
pub fn wait_until(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let until = Instant::now() + deadline;
    while !condition()? {
        if Instant::now() > until {
            return Err(Failure::new(format!("{what}: not within {deadline:?}")));
        }
        pause();
    }
    Ok(())
}

/// The pause between two looks at a condition.
fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// Waits for a child; `None` when it still runs after `patience`.
fn wait(child: &mut Child, patience: Duration) -> Result<Option<ExitStatus>, Failure> {
    let until = Instant::now() + patience;
    loop {
        let status = child.try_wait().doing("ask for a child")?;
        if status.is_some() || Instant::now() > until {
            return Ok(status);
        }
        pause();
    }
}

/// Signals a child by its id. A child that ended is reaped first, so that the id is its own.
fn send(child: &mut Child, signal: Signal) {
    if let Ok(None) = child.try_wait()
        && let Some(id) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
    {
        let _ = kill_process(id, signal);
    }
}

/// Signals a child, waits, and kills it if it does not listen.
fn end(child: &mut Child, signal: Signal) {
    send(child, signal);
    if !matches!(wait(child, FAREWELL), Ok(Some(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// An unnamed file that holds `content`, to be read from its start.
fn scratch(content: &[u8]) -> Result<File, Failure> {
    let mut file = tempfile::tempfile().doing("make a temporary file")?;
    file.write_all(content).and_then(|()| file.rewind()).doing("write a temporary file")?;
    Ok(file)
}

/// All that was written to a file.
fn content(file: &mut File) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).doing("read a temporary file")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The command line as a person would type it.
pub fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| quoted(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
