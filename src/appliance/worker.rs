//! The token worker: the one process that loads a PKCS#11 module.

use std::process::ExitCode;

/// Serves the process that started this one, over the socket that is standard input, until that
/// socket is closed.
pub fn main() -> ExitCode {
    todo!()
}
