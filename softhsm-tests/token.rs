//! The PKCS#11 token of an office: its module, what that is told, and what the token lacks.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    failure::Failure,
    peers::peer,
    process::{Daemon, run},
};

/// A token that an office can have. What it needs to run ends with this value.
#[derive(Debug, Default)]
pub struct Token {
    /// The PKCS#11 module.
    pub module: PathBuf,
    /// The variables by which the module is told where its files are.
    pub environment: BTreeMap<String, String>,
    /// What the module reads beside itself and the system's libraries.
    pub readable: Vec<PathBuf>,
    /// The directories that the module writes in.
    pub writable: Vec<PathBuf>,
    /// Further lines at the top of site.toml.
    pub site: String,
    /// Further lines of `[token]` in chanceryd.toml.
    pub settings: String,
    /// Further lines of `[token.sandbox]` there.
    pub sandbox: String,
    /// The token is not initialized: the ceremony begins with that.
    pub blank: bool,
    /// The token has no Ed25519: what shall be such a key is a P-256 key.
    pub without_ed25519: bool,
    /// The programs that the token consists of.
    pub daemons: Vec<Daemon>,
}

impl Token {
    /// A token that is initialized and has all that the plan of the demonstration asks for.
    pub fn new(module: &Path) -> Self {
        Self { module: module.to_owned(), ..Self::default() }
    }

    /// As [`tell`](Self::tell).
    #[must_use]
    pub fn told(mut self, variable: &str, path: &Path) -> Self {
        self.tell(variable, path);
        self
    }

    /// Tells the module of a file or a directory. It writes there, or beside the file.
    pub fn tell(&mut self, variable: &str, path: &Path) {
        self.environment.insert(variable.to_owned(), path.display().to_string());
        let beside = path.parent().filter(|_| path.is_file());
        self.writable.push(beside.unwrap_or(path).to_owned());
    }

    /// Lets a program use the token.
    pub fn lend<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.envs(&self.environment)
    }

    /// Lets pkcs11-tool do something with the token of this label, logged in.
    ///
    /// # Errors
    ///
    /// It refuses.
    pub fn tool(&self, label: &str, pin: &str, arguments: &[&str]) -> Result<(), Failure> {
        let mut command = Command::new(peer("pkcs11-tool")?);
        command.arg("--module").arg(&self.module);
        command.args(["--token-label", label, "--login", "--pin", pin]).args(arguments);
        run(self.lend(&mut command))?.success().map(drop)
    }
}
