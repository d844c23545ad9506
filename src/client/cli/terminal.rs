//! What is said to the person at the terminal, beside the output.

use std::io::{self, BufRead, IsTerminal};

/// Says how things go, on the standard error.
#[expect(clippy::print_stderr, reason = "this is where the command line speaks of progress")]
pub(super) fn tell(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// Whether a person is there to be asked.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a question; anything but `y` or `yes` is a no.
pub(super) fn agrees(question: &str) -> io::Result<bool> {
    tell(format!("{question} [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
