//! The bare token: `C_Sign` on P-256 in a process of its own, on some sessions at once.
//!
//! The key is found once in each session, and the message is hashed in software: the fastest way
//! to use the token, with nothing around it.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

use harness::{Failure, failure::Doing, office::Office};
use pki::{
    handoff::Handoff,
    keys::SignatureScheme,
    secret::Secret,
    token::{
        Input, KeyRef, Token,
        pkcs11::{Module, Session},
    },
};

/// The process that signs with the bare token.
pub(crate) struct RawToken {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl RawToken {
    /// Starts it for the token of this office, with so many sessions.
    pub(crate) fn start(office: &Office, sessions: usize) -> Result<Self, Failure> {
        let mut command = Command::new(env::current_exe().doing("find this program")?);
        command.arg("raw").arg(&office.token().module);
        command.arg(office.path("handoff")).arg(office.path("pin")).arg(sessions.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = office.token().lend(&mut command).spawn().doing("start the bare token")?;
        let missing = || Failure::new("a pipe is missing");
        let questions = child.stdin.take().ok_or_else(missing)?;
        let answers = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        Ok(Self { child, questions, answers })
    }

    /// Signatures a second, measured for so long.
    pub(crate) fn rate(&mut self, duration: Duration) -> Result<f64, Failure> {
        writeln!(self.questions, "{}", duration.as_millis()).doing("ask the bare token")?;
        let mut line = String::new();
        self.answers.read_line(&mut line).doing("ask the bare token")?;
        line.trim().parse().doing(format_args!("read the bare token's rate {line:?}"))
    }
}

impl Drop for RawToken {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What that process is told.
#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    module: PathBuf,
    handoff: PathBuf,
    pin_file: PathBuf,
    sessions: usize,
}

/// Reads durations in milliseconds, a line each, and answers with rates.
pub(crate) fn answer(arguments: &Arguments) -> Result<(), Failure> {
    let handoff = Handoff::read(&arguments.handoff).doing("read the hand-off")?;
    let key = &handoff.ssh.get(AUTHORITY).ok_or_else(|| Failure::new("no SSH user CA"))?.key;
    let pin = Secret::from_file(&arguments.pin_file).doing("read the PIN")?;
    let module = Module::load(&arguments.module).doing("load the module")?;
    let mut sessions = (0..arguments.sessions)
        .map(|_| module.open(&handoff.token, &pin).doing("open a session"))
        .collect::<Result<Vec<_>, _>>()?;
    for line in std::io::stdin().lines() {
        let milliseconds = line.doing("read a line")?.parse().doing("read a duration")?;
        println!("{}", rate(&mut sessions, key, Duration::from_millis(milliseconds))?);
    }
    Ok(())
}

fn rate(sessions: &mut [Session], key: &KeyRef, duration: Duration) -> Result<f64, Failure> {
    let begin = Barrier::new(sessions.len());
    let sign = |session: &mut Session| -> Result<f64, Failure> {
        begin.wait();
        let start = Instant::now();
        let mut signatures = 0_u32;
        while start.elapsed() < duration {
            let scheme = SignatureScheme::EcdsaP256Sha256;
            let digest = scheme.digest(MESSAGE).unwrap_or_default();
            session.sign(key, scheme, Input::Digest(&digest)).doing("sign")?;
            signatures += 1;
        }
        Ok(f64::from(signatures) / start.elapsed().as_secs_f64())
    };
    thread::scope(|scope| {
        let threads = sessions.iter_mut().map(|session| scope.spawn(|| sign(session)));
        threads
            .collect::<Vec<_>>()
            .into_iter()
            .map(|thread| thread.join().map_err(|_| Failure::new("a thread ended")).flatten())
            .sum()
    })
}

/// The SSH user CA of the demonstration's plan: P-256.
const AUTHORITY: &str = "ssh-user";

/// As long as the to-be-signed bytes of an SSH user certificate.
const MESSAGE: &[u8] = &[0x5a; 480];
