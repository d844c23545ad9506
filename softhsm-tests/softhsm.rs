//! A SoftHSM of one's own: a PKCS#11 token in a private directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    failure::{Doing, Failure},
    office::{PIN, TOKEN},
    peers::{file_of, peer},
    process::run,
    token::Token,
};

/// An initialized token of SoftHSM whose files lie in `directory`.
///
/// # Errors
///
/// SoftHSM is not installed, or the directory cannot be written.
pub fn token(directory: &Path) -> Result<Token, Failure> {
    let softhsm = SoftHsm::new(directory)?;
    softhsm.initialize(TOKEN, PIN)?;
    Ok(softhsm.token())
}

/// A directory of SoftHSM tokens; nothing of it is shared with the machine's own.
#[derive(Clone, Debug)]
pub struct SoftHsm {
    configuration: PathBuf,
    module: PathBuf,
}

impl SoftHsm {
    /// Lays out an empty store below `directory`.
    ///
    /// # Errors
    ///
    /// SoftHSM is not installed or the directory cannot be written.
    pub fn new(directory: &Path) -> Result<Self, Failure> {
        let module = file_of(
            "softhsm2",
            &[
                "/usr/lib/softhsm/libsofthsm2.so",
                "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
                "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
            ],
        )?;
        let (configuration, tokens) = (directory.join("softhsm2.conf"), directory.join("tokens"));
        fs::create_dir_all(&tokens).doing(format_args!("create {}", tokens.display()))?;
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        fs::write(&configuration, text).doing("write softhsm2.conf")?;
        Ok(Self { configuration, module })
    }

    /// The PKCS#11 module.
    pub fn module(&self) -> &Path {
        &self.module
    }

    /// The file that `SOFTHSM2_CONF` must name for whoever loads the module.
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Lets a program use these tokens.
    pub fn lend<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("SOFTHSM2_CONF", &self.configuration)
    }

    /// Makes an empty token.
    ///
    /// # Errors
    ///
    /// SoftHSM refuses.
    pub fn initialize(&self, label: &str, pin: &str) -> Result<(), Failure> {
        let mut command = Command::new(peer("softhsm2-util")?);
        command.args(["--init-token", "--free", "--label", label]);
        command.args(["--so-pin", pin, "--pin", pin]);
        run(self.lend(&mut command))?.success().map(drop)
    }

    /// Generates a key pair as a person would at a card: `kind` as pkcs11-tool names it
    /// (`rsa:2048`, `EC:secp256r1`), `id` in hexadecimal.
    ///
    /// # Errors
    ///
    /// pkcs11-tool refuses.
    pub fn generate(&self, token: &str, pin: &str, kind: &str, id: &str) -> Result<(), Failure> {
        let arguments = ["--keypairgen", "--key-type", kind, "--id", id, "--label", token];
        self.token().tool(token, pin, &arguments)
    }

    /// Generates a P-256 key pair with a label of its own.
    ///
    /// # Errors
    ///
    /// pkcs11-tool refuses.
    pub fn generate_labelled(
        &self,
        token: &str,
        pin: &str,
        label: &str,
        id: &str,
    ) -> Result<(), Failure> {
        let kind = ["--keypairgen", "--key-type", "EC:secp256r1"];
        self.token().tool(token, pin, &[&kind[..], &["--id", id, "--label", label]].concat())
    }

    /// The labels of the private keys in a token, in order.
    ///
    /// # Errors
    ///
    /// pkcs11-tool refuses.
    pub fn private_keys(&self, token: &str, pin: &str) -> Result<Vec<String>, Failure> {
        let mut command = Command::new(peer("pkcs11-tool")?);
        command.arg("--module").arg(&self.module).args(["--token-label", token]);
        command.args(["--login", "--pin", pin, "--list-objects", "--type", "privkey"]);
        let said = run(self.lend(&mut command))?.success()?.stdout;
        let labels = said.lines().filter_map(|line| line.trim().strip_prefix("label:"));
        let mut labels: Vec<_> = labels.map(|label| label.trim().to_owned()).collect();
        labels.sort();
        Ok(labels)
    }

    fn token(&self) -> Token {
        Token::new(&self.module).told("SOFTHSM2_CONF", &self.configuration)
    }
}
