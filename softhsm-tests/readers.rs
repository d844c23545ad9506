//! Smart card readers of one's own: a pcscd on a Unix socket of its own, whose readers are sockets
//! too, as the crate `chancery-reader` drives them. Nothing listens on the network, and no other
//! program sees the cards.
//!
//! Debian's own virtual reader, vpcd, listens on every address of the machine, and takes pcscd
//! down with it when a card is pulled in the mode in which it does not listen.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use reader::{Ask, read_message, write_message};

use crate::{
    failure::{Doing, Failure},
    peers::{file_of, ours, peer},
    process::{Daemon, run, wait_until},
    virtual_card::VirtualCard,
};

/// A pcscd with its readers; it ends when this value is dropped.
#[derive(Debug)]
pub struct Readers {
    // Dropped first: pcscd must not outlive its readers.
    pcscd: Option<Daemon>,
    readers: Vec<Reader>,
    socket: PathBuf,
}

/// A reader, empty at first.
#[derive(Debug)]
struct Reader {
    name: String,
    slot: SharedSlot,
}

type SharedSlot = Arc<Mutex<Slot>>;

/// What is in a reader.
#[derive(Debug, Default)]
struct Slot {
    card: Option<VirtualCard>,
    /// How often pcscd looked and found no card.
    absences: usize,
}

impl Readers {
    /// Starts a pcscd with readers of these names; its files go into `directory`.
    ///
    /// # Errors
    ///
    /// pcscd is not installed, the driver is not built, or the readers do not come up.
    pub fn start(directory: &Path, names: &[&str]) -> Result<Self, Failure> {
        let configuration = directory.join("readers");
        fs::create_dir_all(&configuration).doing("make a directory")?;
        let mut text = String::new();
        let mut readers = Vec::new();
        for (number, name) in names.iter().enumerate() {
            let path = directory.join(format!("reader-{number}"));
            let slot = SharedSlot::default();
            serve(bind(&path)?, &slot);
            text += &reader_entry(name, &path)?;
            // pcscd adds the numbers of the interface and of the slot.
            readers.push(Reader { name: format!("{name} {number:02X} 00"), slot });
        }
        let file = configuration.join("readers.conf");
        fs::write(&file, text).doing(format_args!("write {}", file.display()))?;
        let socket = directory.join("pcscd");
        let pcscd = start_pcscd(directory, &configuration, &socket)?;
        let readers = Self { pcscd: Some(pcscd), readers, socket };
        readers.wait_for_readers()?;
        Ok(readers)
    }

    /// The name by which programs know a reader; numbered from 0 on, as given to `start`.
    pub fn name(&self, number: usize) -> &str {
        &self.readers[number].name
    }

    /// Puts a card into a reader, and waits until pcscd sees it.
    ///
    /// # Errors
    ///
    /// It does not see it.
    pub fn insert(&self, number: usize, card: &VirtualCard) -> Result<(), Failure> {
        self.put(number, card)?;
        self.wait_for_card(number)
    }

    /// Puts a card into a reader, and does not wait: for one that is pulled as soon as it is used.
    ///
    /// # Errors
    ///
    /// pcscd does not look at the reader.
    pub fn put(&self, number: usize, card: &VirtualCard) -> Result<(), Failure> {
        let slot = &self.readers[number].slot;
        // What is in it leaves it, and the card any other reader: it is one card.
        let is_left = |it: &&SharedSlot| {
            Arc::ptr_eq(*it, slot) || lock(it).card.as_ref().is_some_and(|other| other.is(card))
        };
        let left: Vec<_> = self.readers.iter().map(|reader| &reader.slot).filter(is_left).collect();
        for slot in left {
            // Nobody is as quick as a program: a card that comes back before pcscd has looked is never
            // seen again by it.
            let seen = {
                let mut slot = lock(slot);
                slot.card = None;
                slot.absences
            };
            // Once is not enough: other parts of pcscd than the one that watches the reader ask, too.
            wait_until(
                "pcscd's look at a reader",
                PATIENCE,
                || Ok(lock(slot).absences > seen + 2),
            )?;
        }
        card.reset();
        lock(slot).card = Some(card.clone());
        Ok(())
    }

    /// Ends pcscd: nobody sees the readers any longer.
    pub fn stop(&mut self) {
        if let Some(pcscd) = self.pcscd.take() {
            pcscd.stop();
        }
    }

    /// A program that sees these readers and no others.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.lend(&mut command);
        command
    }

    /// Lets a program see these readers and no others.
    pub fn lend<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("PCSCLITE_CSOCK_NAME", &self.socket)
    }

    fn wait_for_readers(&self) -> Result<(), Failure> {
        wait_until("the readers of pcscd", PATIENCE, || {
            let listed = self.listed()?;
            Ok(self.readers.iter().all(|reader| listed.contains(&reader.name)))
        })
    }

    fn wait_for_card(&self, number: usize) -> Result<(), Failure> {
        let name = self.name(number);
        wait_until("a card in a reader", PATIENCE, || {
            let listed = self.listed()?;
            let line = listed.lines().find(|line| line.ends_with(name));
            Ok(line.is_some_and(|line| line.contains(" Yes ")))
        })
    }

    /// OpenSC's table of readers: number, whether a card is there, features, name.
    fn listed(&self) -> Result<String, Failure> {
        Ok(run(self.command(&peer("opensc-tool")?).arg("--list-readers"))?.stdout)
    }
}

/// OpenSC's PKCS#11 module, which sees any PIV card as a token.
///
/// # Errors
///
/// It is not installed.
pub fn opensc_module() -> Result<PathBuf, Failure> {
    module("opensc-pkcs11", "opensc-pkcs11.so")
}

/// Yubico's PKCS#11 module.
///
/// # Errors
///
/// It is not installed.
pub fn ykcs11_module() -> Result<PathBuf, Failure> {
    module("ykcs11", "libykcs11.so")
}

/// Debian has libraries in a directory that is named after the machine.
fn module(package: &str, name: &str) -> Result<PathBuf, Failure> {
    let directory = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    file_of(package, &[&format!("{directory}/{name}")])
}

fn bind(path: &Path) -> Result<UnixListener, Failure> {
    UnixListener::bind(path).doing(format_args!("listen on {}", path.display()))
}

fn reader_entry(name: &str, socket: &Path) -> Result<String, Failure> {
    let driver = ours("libchancery_reader.so")?;
    Ok(format!(
        "FRIENDLYNAME \"{name}\"\nDEVICENAME {}\nLIBPATH {}\nCHANNELID 1\n\n",
        socket.display(),
        driver.display()
    ))
}

/// pcscd takes its socket as systemd hands it over (sd_listen_fds(3)): as descriptor 3. Without
/// one it would make `/run/pcscd/pcscd.comm`, which is the machine's.
fn start_pcscd(directory: &Path, readers: &Path, socket: &Path) -> Result<Daemon, Failure> {
    let listener = bind(socket)?;
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(
        "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" --foreground --config \"$1\"",
    );
    command.arg(peer("pcscd")?).arg(readers);
    let input = Stdio::from(OwnedFd::from(listener));
    Daemon::start_with_input("pcscd", &mut command, input, &directory.join("pcscd.log"))
}

/// Is a reader, and the card that is in it, as long as the program runs.
fn serve(listener: UnixListener, slot: &SharedSlot) {
    let slot = Arc::clone(slot);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let slot = Arc::clone(&slot);
            // A connection that breaks is pcscd's end, or its second try.
            thread::spawn(move || answer(stream, &slot));
        }
    });
}

fn answer(mut stream: UnixStream, slot: &SharedSlot) -> io::Result<()> {
    while let Some(message) = read_message(&mut stream)? {
        let answer = answer_one(&message, slot);
        write_message(&mut stream, &answer)?;
    }
    Ok(())
}

/// An empty answer is an empty reader.
fn answer_one(message: &[u8], slot: &SharedSlot) -> Vec<u8> {
    let ask = Ask::parse(message);
    let card = {
        let mut slot = lock(slot);
        slot.absences += usize::from(slot.card.is_none() && ask == Some(Ask::Presence));
        slot.card.clone()
    };
    let Some(card) = card else { return Vec::new() };
    match ask {
        Some(Ask::Presence) => card.answer_to_reset().to_vec(),
        Some(Ask::PowerOff | Ask::PowerOn) => {
            card.reset();
            card.answer_to_reset().to_vec()
        }
        None => card.transmit(message).unwrap_or_else(|| {
            lock(slot).card = None;
            Vec::new()
        }),
    }
}

fn lock(slot: &SharedSlot) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

const PATIENCE: Duration = Duration::from_secs(20);
