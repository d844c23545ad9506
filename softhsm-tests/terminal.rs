//! A terminal, and somebody who types at it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Child, Command},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustix::{
    fs::OFlags,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

use crate::{
    failure::{Doing, Failure},
    peers::peer,
    process::{Answer, command_line, wait_until},
};

/// What is typed, and when.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'a> {
    prompt: &'a str,
    text: &'a str,
    unseen: bool,
}

/// Types a line when the terminal has shown a prompt.
pub fn line<'a>(prompt: &'a str, text: &'a str) -> Typed<'a> {
    Typed { prompt, text, unseen: false }
}

/// Types a secret when the terminal has shown a prompt and shows no more what is typed.
pub fn secret<'a>(prompt: &'a str, text: &'a str) -> Typed<'a> {
    Typed { prompt, text, unseen: true }
}

/// Runs a program to its end at a terminal of its own, where this is typed, one after another. All
/// that the terminal showed is the answer's `stdout`.
///
/// # Errors
///
/// The program cannot be started, does not ask for what is to be typed, or does not end.
pub fn run_at_terminal(command: &Command, typed: &[Typed<'_>]) -> Result<Answer, Failure> {
    let line = command_line(command);
    let (mut keyboard, screen) = terminal()?;
    let (mut at_terminal, shown) = (with_terminal(command)?, Shown::default());
    at_terminal.stdin(screen.try_clone().doing("share a terminal")?);
    at_terminal.stdout(screen.try_clone().doing("share a terminal")?).stderr(screen);
    let mut child = Running(at_terminal.spawn().doing(format_args!("start {line}"))?);
    // What is left of the terminal on this side would keep it open.
    drop(at_terminal);
    let reader = shown.follow(keyboard.try_clone().doing("share a terminal")?);
    let mut from = 0;
    for Typed { prompt, text, unseen } in typed {
        let said = |failure: Failure| failure.said(shown.text());
        wait_until(&format!("{line}: {prompt:?}"), PATIENCE, || {
            let found = shown.text()[from..].find(prompt);
            found.iter().for_each(|at| from += at + prompt.len());
            Ok(found.is_some())
        })
        .map_err(said)?;
        wait_until(&format!("{line} to show nothing"), PATIENCE, || {
            Ok(!unseen || !shows_what_is_typed(&keyboard)?)
        })
        .map_err(said)?;
        writeln!(keyboard, "{text}").doing("type")?;
    }
    let mut status = None;
    wait_until(&format!("the end of {line}"), PATIENCE, || {
        status = child.0.try_wait().doing("ask for a child")?;
        Ok(status.is_some())
    })
    .map_err(|failure| failure.said(shown.text()))?;
    // The last words are still on their way until the terminal is closed.
    reader.join().map_err(|_| Failure::new("the terminal cannot be read"))?;
    let status = status.ok_or_else(|| Failure::new("a program ended and did not"))?;
    Ok(Answer { command: line, status, stdout: shown.text(), stderr: String::new() })
}

/// Ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a terminal has shown so far.
#[derive(Clone, Default)]
struct Shown(Arc<Mutex<Vec<u8>>>);

impl Shown {
    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads until no program has the terminal any more.
    fn follow(&self, mut terminal: File) -> thread::JoinHandle<()> {
        let shown = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(length @ 1..) = terminal.read(&mut buffer) {
                let mut bytes = shown.0.lock().unwrap_or_else(PoisonError::into_inner);
                bytes.extend_from_slice(&buffer[..length]);
            }
        })
    }
}

fn shows_what_is_typed(terminal: &File) -> Result<bool, Failure> {
    let settings = tcgetattr(terminal).doing("ask for the settings of a terminal")?;
    Ok(settings.local_modes.contains(LocalModes::ECHO))
}

/// Its two ends: of who types, and of the program.
fn terminal() -> Result<(File, File), Failure> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let keyboard = openpt(flags).doing("open a terminal")?;
    grantpt(&keyboard).and_then(|()| unlockpt(&keyboard)).doing("open a terminal")?;
    let name = ptsname(&keyboard, Vec::new()).doing("name a terminal")?;
    let name = name.to_str().doing("name a terminal")?;
    let flags = OFlags::NOCTTY.bits().cast_signed();
    let screen =
        OpenOptions::new().read(true).write(true).custom_flags(flags).open(Path::new(name));
    Ok((File::from(keyboard), screen.doing("open a terminal")?))
}

/// The same program, which has its standard input as the terminal of its session.
fn with_terminal(command: &Command) -> Result<Command, Failure> {
    let mut at_terminal = Command::new(peer("setsid")?);
    at_terminal.arg("--ctty").arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        at_terminal.current_dir(directory);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => at_terminal.env(name, value),
            None => at_terminal.env_remove(name),
        };
    }
    Ok(at_terminal)
}

const PATIENCE: Duration = Duration::from_secs(60);
