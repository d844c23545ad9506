//! Programs for Windows, run by Wine: no desktop, no network but this machine's, one Windows for all
//! stories, which `make windows` makes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::{
    failure::{Doing, Failure},
    office::Office,
    peers::{file_of, source_tree},
};

/// One of our programs for Windows, as a command of this machine.
///
/// # Errors
///
/// It is not built, or Wine is not installed.
pub fn program(name: &str) -> Result<Command, Failure> {
    let built = source_tree().join("target/windows");
    let exe = built.join("x86_64-pc-windows-gnu/debug").join(format!("{name}.exe"));
    let (windows, lacking) = (built.join("wine"), built.join("lacking"));
    for file in [&exe, &windows.join("system.reg"), &lacking.join("bcryptprimitives.dll")] {
        if !file.is_file() {
            let what = format!("{} is not built", file.display());
            return Err(Failure::new(what).hint("run `make windows`, or `make test`"));
        }
    }
    SERVED
        .get_or_init(|| serve(&windows).map_err(|failure| failure.to_string()))
        .clone()
        .map_err(Failure::new)?;
    let mut command = Command::new(file_of("wine64", &["/usr/lib/wine/wine64"])?);
    command.arg(exe).env("WINEPREFIX", windows).env("WINEPATH", drive(&lacking)?);
    // No messages of Wine's own, no .NET, no browser, no entries in a menu.
    command.env("WINEDEBUG", "-all").env("DISPLAY", "");
    command.env("WINEDLLOVERRIDES", "mscoree=;mshtml=;winemenubuilder.exe=");
    Ok(command)
}

/// Whether Wine's server was started for the stories of this process.
static SERVED: OnceLock<Result<(), String>> = OnceLock::new();

/// Starts Wine's server, which stays for half a minute after its last program. The one that a
/// program starts shuts down after three seconds, and resets the connections of others meanwhile.
fn serve(windows: &Path) -> Result<(), Failure> {
    let file = file_of("wineserver", &["/usr/lib/wine/wineserver64"])?;
    let mut command = Command::new(file);
    command.arg("--persistent=30").env("WINEPREFIX", windows).env("WINEDEBUG", "-all");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // Status 2: one is there already.
    let status = command.status().doing("start Wine's server")?;
    match status.code() {
        Some(0 | 2) => Ok(()),
        _ => Err(Failure::new(format!("Wine's server ended with {status}"))),
    }
}

/// The client for Windows in the office's directory, as `caller`, without a profile.
///
/// # Errors
///
/// As [`program`].
pub fn chancery(
    office: &Office,
    caller: &crate::https::Identity,
    words: &[&str],
) -> Result<Command, Failure> {
    let mut command = program("chancery")?;
    command.current_dir(office.path("")).args(words);
    command.arg("--server").arg(format!("https://localhost:{}", office.api().port()));
    command.args(["--ca", "handoff/root.pem"]);
    command.arg("--cert").arg(drive(&caller.certificate)?);
    command.arg("--cert-key").arg(drive(&caller.key)?);
    Ok(command)
}

/// A path of this machine as Wine's Windows has it.
///
/// # Errors
///
/// The path cannot be made absolute.
pub fn drive(path: &Path) -> Result<PathBuf, Failure> {
    let path = std::path::absolute(path).doing(format_args!("find {}", path.display()))?;
    Ok(PathBuf::from(format!("Z:{}", path.display().to_string().replace('/', "\\"))))
}
