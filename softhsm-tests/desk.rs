//! A desk at which cards are made ready: readers, the cards that are put into them, and a directory
//! with the secrets that they are to have.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    failure::{Doing, Failure},
    peers::{ours, ykman},
    process::{Answer, run},
    readers::Readers,
    terminal::{Typed, run_at_terminal},
    virtual_card::{Fault, Kind, VirtualCard},
};

/// The name by which ykman and ykcs11 know a reader for one that is a YubiKey.
pub const YUBIKEY: &str = "Yubico YubiKey OTP+FIDO+CCID";

/// The serial number of each card that is [put into](Desk::insert) the first reader.
pub const SERIAL: u32 = 12_345_678;

/// What is in the file `pin`.
pub const PIN: &str = "83621947";

/// What is in the file `puk`.
pub const PUK: &str = "55501234";

/// A directory with the files `pin` and `puk`, and readers that are empty at first. Programs run in
/// the directory, see these readers and no others, and end before both are gone.
#[derive(Debug)]
pub struct Desk {
    // Before its directory is removed.
    readers: Readers,
    directory: TempDir,
}

impl Desk {
    /// With one reader, which is a YubiKey by its name.
    ///
    /// # Errors
    ///
    /// pcscd is missing, or the directory cannot be written.
    pub fn new() -> Result<Self, Failure> {
        Self::with_readers(&[YUBIKEY])
    }

    /// With readers of these names.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_readers(names: &[&str]) -> Result<Self, Failure> {
        let directory = TempDir::with_prefix("chancery-").doing("make a temporary directory")?;
        let readers = Readers::start(directory.path(), names)?;
        let desk = Self { readers, directory };
        desk.write("pin", PIN)?;
        desk.write("puk", PUK)?;
        Ok(desk)
    }

    /// The readers.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Ends pcscd.
    pub fn stop_service(&mut self) {
        self.readers.stop();
    }

    /// Puts a card into the first reader that comes from the factory.
    ///
    /// # Errors
    ///
    /// pcscd does not see it.
    pub fn insert(&self, kind: Kind) -> Result<VirtualCard, Failure> {
        let card = VirtualCard::new(kind, SERIAL)?;
        self.readers.insert(0, &card)?;
        Ok(card)
    }

    /// Puts a card into the first reader and makes it ready: the PIN and the PUK are those in the
    /// files.
    ///
    /// # Errors
    ///
    /// `chancery-card` refuses.
    pub fn insert_ready(&self, kind: Kind) -> Result<VirtualCard, Failure> {
        let card = self.insert(kind)?;
        let init = ["init", "--from-defaults", "--pin-file", "pin", "--puk-file", "puk"];
        self.run(&init)?.success()?;
        Ok(card)
    }

    /// A run in which the card is pulled, and says so; then it is put in again and behaves.
    ///
    /// # Errors
    ///
    /// The command succeeds, or fails for another reason.
    pub fn run_and_pull(
        &self,
        card: &VirtualCard,
        fault: Fault,
        arguments: &[&str],
    ) -> Result<(), Failure> {
        card.fail(Some(fault));
        self.run(arguments)?.refused("the card was pulled")?;
        card.fail(None);
        self.readers.insert(0, card)
    }

    /// Runs `chancery-card` where nobody can be asked.
    ///
    /// # Errors
    ///
    /// It is not built.
    pub fn run(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        run(self.chancery_card()?.args(arguments))
    }

    /// Runs `chancery-card` at a terminal, where somebody types.
    ///
    /// # Errors
    ///
    /// It is not built, or does not ask for what is typed.
    pub fn typing(&self, arguments: &[&str], typed: &[Typed<'_>]) -> Result<Answer, Failure> {
        run_at_terminal(self.chancery_card()?.args(arguments), typed)
    }

    /// What `chancery-card --json` prints, by lines; it must succeed.
    ///
    /// # Errors
    ///
    /// It does not, or prints something else.
    pub fn json_lines(&self, arguments: &[&str]) -> Result<Vec<Value>, Failure> {
        let told = self.run(&[arguments, &["--json"]].concat())?.success()?.stdout;
        told.lines().map(|line| serde_json::from_str(line).doing("read JSON")).collect()
    }

    /// What `chancery-card inspect` says of the only card.
    ///
    /// # Errors
    ///
    /// There is none, or there are several.
    pub fn inspect(&self) -> Result<Value, Failure> {
        let lines = self.json_lines(&["inspect"])?;
        lines.into_iter().next().ok_or_else(|| Failure::new("inspect says nothing"))
    }

    /// Runs Yubico's program.
    ///
    /// # Errors
    ///
    /// It is not installed.
    pub fn ykman(&self, arguments: &[&str]) -> Result<Answer, Failure> {
        run(self.command(&ykman()?).args(arguments))
    }

    /// A program that runs in the directory and sees the readers.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = self.readers.command(program);
        command.current_dir(&self.directory);
        command
    }

    /// A file of the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What is in a file of the directory.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn read(&self, name: &str) -> Result<String, Failure> {
        fs::read_to_string(self.path(name)).doing(format_args!("read {name}"))
    }

    /// Writes a file that only its owner may read, as a secret must be.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        fs::write(self.path(name), text).doing(format_args!("write {name}"))?;
        let mode = fs::Permissions::from_mode(0o600);
        fs::set_permissions(self.path(name), mode).doing("close a file")
    }

    fn chancery_card(&self) -> Result<Command, Failure> {
        Ok(self.command(&ours("chancery-card")?))
    }
}
