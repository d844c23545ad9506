//! The terminal: one line a step, said before it is done; and the words that confirm it.

use std::{
    io::{self, BufRead, Write},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use crate::failure::Failure;

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
        self.add(&format!("to confirm, type: {words}"))?;
        for _ in 0..TRIES {
            let asked = write!(self.output, "{INDENT}> ").and_then(|()| self.output.flush());
            asked.map_err(Failure::Terminal)?;
            let mut line = String::new();
            if self.input.read_line(&mut line).map_err(Failure::Terminal)? == 0 {
                break;
            }
            let typed = line.split_whitespace().collect::<Vec<_>>().join(" ");
            if typed.eq_ignore_ascii_case(words) {
                return Ok(());
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
