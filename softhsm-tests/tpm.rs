//! A TPM 2.0 of one's own: swtpm, the resource manager that a TPM needs, the message bus by which
//! that is reached, and tpm2-pkcs11 in front. All listen on UNIX sockets in one directory.

use std::{fs, path::Path, process::Command, time::Duration};

use crate::{
    failure::{Doing, Failure},
    peers::{file_of, peer},
    process::{Daemon, run, wait_until},
    token::Token,
};

/// How long each of the programs may take to start.
const READY: Duration = Duration::from_secs(20);

/// Why a ceremony takes keys from a token that lets their attributes be changed.
const CHANGEABLE: &str =
    "tpm2-pkcs11 keeps attributes in its own database; the TPM lets no private key out";

/// A blank token of tpm2-pkcs11 whose files lie in `directory`.
///
/// # Errors
///
/// A program is not installed or does not start, or the directory cannot be written.
pub fn token(directory: &Path) -> Result<Token, Failure> {
    let module = file_of(
        "libtpm2-pkcs11-1",
        &[
            "/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
            "/usr/lib/aarch64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
        ],
    )?;
    let store = directory.join("store");
    fs::create_dir(&store).doing("make a directory")?;
    let (tpm, bus) = (start_tpm(directory)?, start_bus(directory)?);
    let manager = start_resource_manager(directory)?;
    let mut token = Token::new(&module).told("TPM2_PKCS11_STORE", &store);
    let manager_address = "tabrmd:bus_type=session".to_owned();
    token.environment.insert("TPM2_PKCS11_TCTI".to_owned(), manager_address);
    token.environment.insert(BUS.to_owned(), bus_address(directory));
    Ok(Token {
        site: format!("changeable_keys = \"{CHANGEABLE}\"\n"),
        sandbox: "unix_sockets = true\n".to_owned(),
        blank: true,
        without_ed25519: true,
        daemons: vec![manager, bus, tpm],
        ..token
    })
}

fn start_tpm(directory: &Path) -> Result<Daemon, Failure> {
    let (state, socket) = (directory.join("tpm"), directory.join("swtpm.sock"));
    fs::create_dir(&state).doing("make a directory")?;
    let mut command = Command::new(peer("swtpm")?);
    command.args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"]);
    command.arg(format!("dir={}", state.display())).arg("--server");
    command.arg(format!("type=unixio,path={}", socket.display())).arg("--ctrl");
    command.arg(format!("type=unixio,path={}.ctrl", socket.display()));
    let mut daemon = Daemon::start("swtpm", &mut command, &directory.join("swtpm.log"))?;
    daemon.wait_until(READY, |_| socket.exists())?;
    Ok(daemon)
}

/// A bus that is no other program's; the system's own would want root.
fn start_bus(directory: &Path) -> Result<Daemon, Failure> {
    let mut command = Command::new(peer("dbus-daemon")?);
    command.args(["--session", "--nofork"]);
    command.arg(format!("--address={}", bus_address(directory)));
    let mut daemon = Daemon::start("dbus-daemon", &mut command, &directory.join("bus.log"))?;
    daemon.wait_until(READY, |_| directory.join("bus").exists())?;
    Ok(daemon)
}

/// A TPM holds three keys at once. The kernel's resource manager, or this one, lets each program
/// have as many as it likes.
fn start_resource_manager(directory: &Path) -> Result<Daemon, Failure> {
    let mut command = Command::new(peer("tpm2-abrmd")?);
    command.args(["--session", "--allow-root", "--tcti"]);
    command.arg(format!("swtpm:path={}", directory.join("swtpm.sock").display()));
    command.env(BUS, bus_address(directory));
    let log = directory.join("tpm2-abrmd.log");
    let daemon = Daemon::start("tpm2-abrmd", &mut command, &log)?;
    wait_until("tpm2-abrmd on the bus", READY, || {
        let mut question = Command::new(peer("dbus-send")?);
        question.arg(format!("--bus={}", bus_address(directory)));
        question.args(["--print-reply=literal", "--dest=org.freedesktop.DBus", "/"]);
        question.args(["org.freedesktop.DBus.NameHasOwner", "string:com.intel.tss2.Tabrmd"]);
        Ok(run(&mut question)?.success()?.stdout.contains("true"))
    })?;
    Ok(daemon)
}

fn bus_address(directory: &Path) -> String {
    format!("unix:path={}", directory.join("bus").display())
}

/// The environment variable that names the bus.
const BUS: &str = "DBUS_SESSION_BUS_ADDRESS";
