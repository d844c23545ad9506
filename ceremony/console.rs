//! The terminal: one line a step, said before it is done; the words that confirm it; and what is
//! typed or shown without staying there.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, Write},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::{failure::Failure, name::Name};

/// Where a ceremony talks to a person.
pub struct Console {
    input: Box<dyn BufRead>,
    output: Box<dyn Write + Send>,
    /// Both are a terminal, which can be told not to show what is typed, and to forget.
    terminal: bool,
}

impl Console {
    /// A console of these two.
    pub fn new(input: Box<dyn BufRead>, output: Box<dyn Write + Send>) -> Self {
        Self { input, output, terminal: false }
    }

    /// A console of standard input and output, or of two that stand for them.
    pub fn standard(input: Box<dyn BufRead>, output: Box<dyn Write + Send>) -> Self {
        let terminal = isatty(io::stdin()) && isatty(io::stdout());
        Self { input, output, terminal }
    }

    /// Whether something can be shown and taken away again.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Shows a text on a screen of its own until a line is typed; nothing of it stays.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn show_and_forget(&mut self, text: &str) -> Result<(), Failure> {
        let shown =
            write!(self.output, "{ALTERNATE_SCREEN}{text}").and_then(|()| self.output.flush());
        let read = shown.and_then(|()| self.input.read_line(&mut String::new()));
        let gone = write!(self.output, "{FORGET}").and_then(|()| self.output.flush());
        read.and(gone).map_err(Failure::Terminal)
    }

    /// Reads a line that a terminal does not show while it is typed; none, if nobody types any more.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn read_hidden(&mut self, prompt: &str) -> Result<Option<Zeroizing<String>>, Failure> {
        let unseen = self.terminal.then(Unseen::new).transpose().map_err(Failure::Terminal)?;
        let asked = write!(self.output, "{INDENT}{prompt} > ").and_then(|()| self.output.flush());
        asked.map_err(Failure::Terminal)?;
        let mut line = Zeroizing::new(String::with_capacity(LONG));
        let read = self.input.read_line(&mut line).map_err(Failure::Terminal)?;
        drop(unseen);
        // The line end that was typed was not shown, either.
        writeln!(self.output).map_err(Failure::Terminal)?;
        Ok((read > 0).then_some(line))
    }

    /// Says a line.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn say(&mut self, line: &str) -> Result<(), Failure> {
        writeln!(self.output, "{line}")
            .and_then(|()| self.output.flush())
            .map_err(Failure::Terminal)
    }

    /// Says more about the line before.
    ///
    /// # Errors
    ///
    /// The terminal is gone.
    pub fn add(&mut self, details: &str) -> Result<(), Failure> {
        details.lines().try_for_each(|line| self.say(&format!("{INDENT}{line}")))
    }

    /// Asks for these words, and takes nothing else. A slip of the finger costs a try, of which
    /// there are three, and not the ceremony.
    ///
    /// # Errors
    ///
    /// Something else was typed, or nothing; the terminal is gone.
    pub fn confirm(&mut self, words: &str) -> Result<(), Failure> {
        self.ask(&format!("to confirm, type: {words}"), |typed| {
            typed.eq_ignore_ascii_case(words).then_some(())
        })
    }

    /// Asks these people for their words, until they are enough; gives who typed theirs.
    ///
    /// # Errors
    ///
    /// As [`confirm`](Self::confirm).
    pub fn confirm_by(
        &mut self,
        people: &BTreeMap<Name, String>,
        enough: impl Fn(&BTreeSet<Name>) -> bool,
    ) -> Result<BTreeSet<Name>, Failure> {
        for (name, words) in people {
            self.add(&format!("to confirm, {name} types: {words}"))?;
        }
        let mut confirmed = BTreeSet::new();
        while confirmed.is_empty() || !enough(&confirmed) {
            let name = self.ask("", |typed| {
                let mut others = people.iter().filter(|(name, _)| !confirmed.contains(*name));
                others.find(|(_, words)| typed.eq_ignore_ascii_case(words)).map(|(name, _)| name)
            })?;
            self.add(&format!("{name} confirmed"))?;
            confirmed.insert(name.clone());
        }
        Ok(confirmed)
    }

    /// Asks a question until what is typed is an answer to it; three times at most.
    ///
    /// # Errors
    ///
    /// No answer; the terminal is gone.
    pub fn ask<T>(
        &mut self,
        question: &str,
        mut answer: impl FnMut(&str) -> Option<T>,
    ) -> Result<T, Failure> {
        self.add(question)?;
        for _ in 0..TRIES {
            let asked = write!(self.output, "{INDENT}> ").and_then(|()| self.output.flush());
            asked.map_err(Failure::Terminal)?;
            let mut line = Zeroizing::new(String::with_capacity(LONG));
            if self.input.read_line(&mut line).map_err(Failure::Terminal)? == 0 {
                break;
            }
            let typed = Zeroizing::new(line.split_whitespace().collect::<Vec<_>>().join(" "));
            if let Some(answer) = answer(&typed) {
                return Ok(answer);
            }
        }
        Err(Failure::NotConfirmed)
    }

    /// Does what may take minutes (an RSA key in hardware), with a dot for each second.
    pub fn wait<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let output = &mut self.output;
        thread::scope(|scope| {
            let (done, waiting) = channel::<()>();
            scope.spawn(move || {
                let mut dots = 0;
                while waiting.recv_timeout(SECOND) == Err(RecvTimeoutError::Timeout) {
                    // A terminal that is gone is noticed by the next line; the key matters more.
                    dots += usize::from(write_dot(output).is_ok());
                }
                if dots > 0 {
                    let _ = writeln!(output);
                }
            });
            let result = act();
            drop(done);
            result
        })
    }
}

/// While it lives, the terminal does not show what is typed.
struct Unseen(Termios);

impl Unseen {
    fn new() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut unseen = before.clone();
        unseen.local_modes.remove(LocalModes::ECHO);
        tcsetattr(io::stdin(), OptionalActions::Flush, &unseen)?;
        Ok(Self(before))
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// xterm's screen without a history; and: cleared, with what a terminal keeps above it, and left.
const ALTERNATE_SCREEN: &str = "\x1b[?1049h\x1b[2J\x1b[H";
const FORGET: &str = "\x1b[2J\x1b[3J\x1b[?1049l";
/// As long as nothing that is typed: a text that grows leaves copies of itself behind.
const LONG: usize = 512;
const INDENT: &str = "        ";
const SECOND: Duration = Duration::from_secs(1);
const TRIES: u32 = 3;

fn write_dot(output: &mut (impl Write + ?Sized)) -> io::Result<()> {
    output.write_all(b".")?;
    output.flush()
}
