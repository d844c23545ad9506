//! What command lines learn from their environment: where configuration files are, where state is
//! kept, and where sockets go.

use std::path::PathBuf;

/// `chancery/config.toml` in the user's configuration directory (XDG Base Directory
/// Specification; `%APPDATA%` on Windows).
pub fn config_file() -> Option<PathBuf> {
    let directory = if cfg!(windows) {
        variable("APPDATA")
    } else {
        variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))
    };
    Some(directory?.join("chancery").join("config.toml"))
}

/// `chancery` in the user's directory for state (`%LOCALAPPDATA%` on Windows): what outlives a
/// command, and can be lost.
pub fn state_directory() -> Option<PathBuf> {
    let directory = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else {
        variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))
    };
    Some(directory?.join("chancery"))
}

/// Where a socket may lie that is this user's alone and goes with the machine's next start.
#[cfg(unix)]
pub fn runtime_directory() -> PathBuf {
    variable("XDG_RUNTIME_DIR").filter(|path| path.is_dir()).unwrap_or_else(std::env::temp_dir)
}

/// The specification has relative paths ignored.
#[expect(
    clippy::disallowed_methods,
    reason = "the one home of the environment: it says where files are"
)]
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var(name).ok().map(PathBuf::from).filter(|path| path.is_absolute())
}
