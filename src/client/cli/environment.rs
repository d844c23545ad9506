//! What the command line learns from its environment: where configuration files are.

use std::path::PathBuf;

/// `chancery/config.toml` in the user's configuration directory (XDG Base Directory
/// Specification; `%APPDATA%` on Windows).
pub(super) fn config_file() -> Option<PathBuf> {
    let directory = if cfg!(windows) {
        variable("APPDATA")
    } else {
        variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")))
    };
    Some(directory?.join("chancery").join("config.toml"))
}

/// The specification has relative paths ignored.
#[expect(
    clippy::disallowed_methods,
    reason = "the one home of the environment: it says where the configuration file is"
)]
fn variable(name: &str) -> Option<PathBuf> {
    std::env::var(name).ok().map(PathBuf::from).filter(|path| path.is_absolute())
}
