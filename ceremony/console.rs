//! The terminal: one line a step, said before it is done; and the words that confirm it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, Write},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use crate::{failure::Failure, name::Name};

/// Where a ceremony talks to a person.
pub struct Console {
    input: Box<dyn BufRead>,
    output: Box<dyn Write + Send>,
}

impl Console {
    /// A console of these two.
    pub fn new(input: Box<dyn BufRead>, output: Box<dyn Write + Send>) -> Self {
        Self { input, output }
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
            let mut line = String::new();
            if self.input.read_line(&mut line).map_err(Failure::Terminal)? == 0 {
                break;
            }
            let typed = line.split_whitespace().collect::<Vec<_>>().join(" ");
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

const INDENT: &str = "        ";
const SECOND: Duration = Duration::from_secs(1);
const TRIES: u32 = 3;

fn write_dot(output: &mut (impl Write + ?Sized)) -> io::Result<()> {
    output.write_all(b".")?;
    output.flush()
}
