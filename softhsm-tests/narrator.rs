//! Tells a story in the terminal: what was run, what answered. Coloured only for people.

use std::{
    io::{IsTerminal, Write, stdout},
    time::Instant,
};

use crate::failure::{Doing, Failure};

/// How many lines of an answer are shown.
const LINES: usize = 6;

/// How much of a line is shown, in characters.
const WIDTH: usize = 92;

/// The teller; writes to standard output.
#[derive(Debug)]
pub struct Narrator {
    colour: bool,
    chapter: usize,
    began: Instant,
}

impl Narrator {
    /// Begins with a title.
    ///
    /// # Errors
    ///
    /// Nobody listens: standard output is closed.
    pub fn begin(title: &str) -> Result<Self, Failure> {
        let colour = stdout().is_terminal();
        let narrator = Self { colour, chapter: 0, began: Instant::now() };
        narrator.line(&narrator.paint(Paint::Bold, title))?;
        Ok(narrator)
    }

    /// Begins the next step and says in one sentence what happens.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn chapter(&mut self, sentence: &str) -> Result<(), Failure> {
        self.chapter += 1;
        let title = format!("{:2}. {sentence}", self.chapter);
        self.line("")?;
        self.line(&self.paint(Paint::Bold, &title))
    }

    /// Says what comes next within a step.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn say(&self, sentence: &str) -> Result<(), Failure> {
        self.line(&format!("    {sentence}"))
    }

    /// Shows a command as a person would type it.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn command(&self, command: &str) -> Result<(), Failure> {
        self.line(&format!("    {} {command}", self.paint(Paint::Cyan, "$")))
    }

    /// Shows the first lines of an answer.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn answer(&self, text: &str) -> Result<(), Failure> {
        let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        for line in lines.iter().take(LINES) {
            self.line(&self.paint(Paint::Dim, &format!("      {}", cut(line))))?;
        }
        match lines.len().saturating_sub(LINES) {
            0 => Ok(()),
            more => self.line(&self.paint(Paint::Dim, &format!("      … {more} more lines"))),
        }
    }

    /// Says that something is as it should be.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn good(&self, sentence: &str) -> Result<(), Failure> {
        self.line(&format!("    {} {sentence}", self.paint(Paint::Green, "✓")))
    }

    /// Shows a refusal that had to be.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn refused(&self, answer: &str) -> Result<(), Failure> {
        self.answer(answer)?;
        self.good("refused, as it must be")
    }

    /// Ends with how long it took.
    ///
    /// # Errors
    ///
    /// As [`begin`](Self::begin).
    pub fn end(&self, sentence: &str) -> Result<(), Failure> {
        self.line("")?;
        let text = format!("{sentence} ({:.1} s)", self.began.elapsed().as_secs_f32());
        self.line(&self.paint(Paint::Bold, &text))
    }

    fn line(&self, text: &str) -> Result<(), Failure> {
        let mut out = stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).doing("write to the terminal")
    }

    fn paint(&self, paint: Paint, text: &str) -> String {
        if self.colour { format!("\x1b[{}m{text}\x1b[0m", paint as u8) } else { text.to_owned() }
    }
}

/// Colours and weights (ECMA-48 section 8.3.117, SGR).
#[derive(Clone, Copy, Debug)]
enum Paint {
    Bold = 1,
    Dim = 2,
    Green = 32,
    Cyan = 36,
}

fn cut(line: &str) -> String {
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    line.chars().take(WIDTH - 1).chain(['…']).collect()
}
