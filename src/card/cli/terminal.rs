//! What is said to the person at the terminal, beside the output.

use std::io::{self, BufRead, IsTerminal};

/// Says how things go, on the standard error.
#[expect(clippy::print_stderr, reason = "this is where the command line speaks of progress")]
pub(super) fn tell(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// A line that is no secret; `None` when nobody is there to be asked.
pub(super) fn ask(question: &str) -> io::Result<Option<String>> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    tell(question);
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(Some(line.trim().to_owned()))
}
