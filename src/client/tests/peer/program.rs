//! The command line, as a caller with an identity runs it.

use tokio::process::Command;

use crate::server::Pki;

/// Runs a command to its end: exit code, output, standard error.
pub(crate) async fn chancery(pki: &Pki, port: u16, arguments: &[&str]) -> (i32, String, String) {
    let output = command(pki, port, arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A command that is ready to be run.
pub(crate) fn command(pki: &Pki, port: u16, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command
        .args(["--server", &format!("https://127.0.0.1:{port}"), "--ca", "ca.pem"])
        .args(["--cert", "client.pem", "--cert-key", "client.key"])
        .args(arguments)
        .current_dir(pki.path(""))
        .env("TZ", "UTC");
    command
}
