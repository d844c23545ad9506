//! `chancery lock` and `chancery revoke`: whom or what they concern, in the words of the API or as
//! flags.

use std::{fs, path::Path};

use api::{LockTarget, RevocationReason};
use clap::{Args, Subcommand};
use der::{DecodePem, Encode};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use pki::{
    clock::{Clock, SystemClock},
    keys::PublicKey,
    names::{DnsName, SpiffeId},
};
use x509_cert::{Certificate, request::CertReq};

use super::{seconds, session::EffectArguments, word};

#[derive(Debug, Subcommand)]
pub(crate) enum LockCommand {
    Preview(Preview),
    Add(Add),
    /// List the locks in force, the latest first
    List,
    Remove(Remove),
}

/// Say what a lock would hit, and do nothing
#[derive(Args, Debug)]
#[command(override_usage = "chancery lock preview [OPTIONS] <TARGET>")]
#[command(after_help = "\
Examples:
  chancery lock preview user:alice
  chancery lock preview --all --issued-before 2026-11-20T06:00:00Z")]
pub(crate) struct Preview {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only what was issued before this time: RFC 3339, or now
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) issued_before: Option<Timestamp>,
}

/// Set a lock: from the answer on, nothing is signed for its target
#[derive(Args, Debug)]
#[command(override_usage = "chancery lock add [OPTIONS] --reason <TEXT> <TARGET>")]
#[command(after_help = "\
Examples:
  chancery lock add user:alice --reason 'laptop lost' --wait
  chancery lock add --bot-instance ci/3 --reason 'runner compromised' --ttl 8h
  chancery lock add card:12345678 --reason 'left in a taxi' --ttl 7d
  chancery lock add --key ./id_ed25519.pub --reason 'in a public repository'
  chancery lock add --all --issued-before now --reason 'start anew'

What was issued to the target is revoked, its sessions end. `chancery lock remove` takes the same \
words; what was revoked stays revoked. Without a terminal, --yes is needed.")]
pub(crate) struct Add {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Only what was issued before this time: RFC 3339, or now. Later certificates are given
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) issued_before: Option<Timestamp>,
    /// Why: for the audit log, and for those who find it
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// When it ends by itself, as 8h or 7d [default: never]
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(crate) ttl: Option<u32>,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) effect: EffectArguments,
}

/// Remove the locks on a target
#[derive(Args, Debug)]
#[command(override_usage = "chancery lock remove [OPTIONS] --reason <TEXT> <TARGET>")]
#[command(after_help = "\
Example:
  chancery lock remove user:alice --reason 'laptop found'

What was revoked stays revoked: its holder asks for new certificates.")]
pub(crate) struct Remove {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Why: for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// Revoke one certificate
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  chancery revoke ssh-user 1042 --reason 'wrong principal'
  chancery revoke servers 5f0c…e1 --reason 'web1 is gone' --code cessation-of-operation --wait

It does not keep its holder from asking for another one: a lock does.")]
pub(crate) struct Revoke {
    /// The authority that signed it
    pub(crate) issuer: String,
    /// Its serial: decimal for SSH, hexadecimal for X.509
    pub(crate) serial: String,
    /// Why: for the audit log
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// What CRL and OCSP say: affiliation-changed, cessation-of-operation, key-compromise,
    /// privilege-withdrawn, superseded or unspecified
    #[arg(long, value_parser = word::<RevocationReason>, default_value = "unspecified")]
    pub(crate) code: RevocationReason,
    #[command(flatten)]
    pub(crate) effect: EffectArguments,
}

/// Whom or what a lock concerns.
#[derive(Args, Debug)]
#[group(id = "target", required = true, multiple = false)]
pub(crate) struct Target {
    /// The target in one word, as user:alice, bot:ci, serial:ssh-user/1042 or all
    #[arg(value_name = "TARGET")]
    word: Option<LockTarget>,
    /// A person
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A smart card, by its serial number: whatever is for keys that it has attested
    #[arg(long, value_name = "SERIAL")]
    card: Option<u32>,
    /// All instances of a bot
    #[arg(long, value_name = "NAME")]
    bot: Option<String>,
    /// One instance of a bot
    #[arg(long, value_name = "NAME/INSTANCE")]
    bot_instance: Option<String>,
    /// Whatever a role grants, be it certificates or sessions
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// A host: its certificates, sessions on it, and what it asks for
    #[arg(long, value_name = "NAME")]
    host: Option<DnsName>,
    /// One certificate
    #[arg(long, value_name = "ISSUER/SERIAL")]
    serial: Option<String>,
    /// A key: a file with it, with a certificate or a request for it, or the SHA-256 of its
    /// SubjectPublicKeyInfo in hexadecimal
    #[arg(long, value_name = "FILE|FINGERPRINT", value_parser = key)]
    key: Option<LockTarget>,
    /// A caller, and all whose ids are below its path
    #[arg(long, value_name = "ID")]
    spiffe: Option<SpiffeId>,
    /// All of one authority
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// Everybody and everything
    #[arg(long)]
    all: bool,
}

impl Target {
    /// The one that was given; the message says what is wrong with it.
    pub(crate) fn parse(self) -> Result<LockTarget, String> {
        let words = [
            ("user", self.user),
            ("bot", self.bot),
            ("bot-instance", self.bot_instance),
            ("role", self.role),
            ("serial", self.serial),
            ("issuer", self.issuer),
        ];
        if let Some((kind, value)) = words.into_iter().find_map(|(kind, it)| Some((kind, it?))) {
            return format!("{kind}:{value}")
                .parse()
                .map_err(|_| format!("{value:?} is no {kind} that can be locked"));
        }
        self.word
            .or(self.key)
            .or(self.card.map(LockTarget::Card))
            .or(self.host.map(LockTarget::Host))
            .or(self.spiffe.map(LockTarget::Spiffe))
            .or(self.all.then_some(LockTarget::All))
            .ok_or_else(|| "no target is given".to_owned())
    }
}

fn key(text: &str) -> Result<LockTarget, String> {
    if let Ok(target) = format!("key:{text}").parse() {
        return Ok(target);
    }
    if text.starts_with("SHA256:") {
        return Err("that is a fingerprint of OpenSSH; name the file of the key, or take the \
                    `key sha256` that `chancery show` prints"
            .to_owned());
    }
    let content = fs::read_to_string(Path::new(text))
        .map_err(|error| format!("neither 64 hexadecimal digits nor a readable file: {error}"))?;
    let key = public_key(&content).ok_or("the file holds no public key, certificate or request")?;
    Ok(LockTarget::Key(key.fingerprint()))
}

/// The key that a file is about: OpenSSH public key or certificate; PEM public key, certificate or
/// certificate signing request.
pub(super) fn public_key(text: &str) -> Option<PublicKey> {
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    if let Ok(certificate) = ssh_key::Certificate::from_openssh(line) {
        let key = ssh_key::PublicKey::from(certificate.public_key().clone());
        return PublicKey::from_openssh(&key.to_openssh().ok()?).ok();
    }
    let spki = || {
        if let Ok(certificate) = Certificate::from_pem(text) {
            return certificate.tbs_certificate().subject_public_key_info().to_der().ok();
        }
        CertReq::from_pem(text).ok()?.info.public_key.to_der().ok()
    };
    PublicKey::from_openssh(line)
        .or_else(|_| PublicKey::from_pem(text))
        .ok()
        .or_else(|| PublicKey::from_spki_der(&spki()?).ok())
}

/// A moment; without an offset it is meant in this machine's time zone.
fn time(text: &str) -> Result<Timestamp, String> {
    if text == "now" {
        return Ok(SystemClock.now());
    }
    let local = |text: &str| {
        let zoned = text.parse::<DateTime>()?.to_zoned(TimeZone::system())?;
        Ok::<_, jiff::Error>(zoned.timestamp())
    };
    text.parse()
        .or_else(|_| local(text))
        .map_err(|_| "write it as 2026-11-20T06:00:00Z, 2026-11-20 06:00, or now".to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use clap::Parser;

    use super::*;
    use crate::cli::arguments::{Arguments, Command as Verb};

    #[test]
    fn flags_and_words_name_the_same_targets() {
        for (flags, word) in [
            ("--user alice", "user:alice"),
            ("--card 12345678", "card:12345678"),
            ("--bot ci", "bot:ci"),
            ("--bot-instance ci/3", "bot-instance:ci/3"),
            ("--role dba", "role:dba"),
            ("--host db1.example", "host:db1.example"),
            ("--serial ssh-user/7", "serial:ssh-user/7"),
            ("--spiffe spiffe://e.example/user", "spiffe:spiffe://e.example/user"),
            ("--issuer ssh-user", "issuer:ssh-user"),
            ("--all", "all"),
        ] {
            assert_eq!(target(flags).map(|it| it.to_string()), Ok(word.to_owned()));
            assert_eq!(target(word).map(|it| it.to_string()), Ok(word.to_owned()));
        }
        let fingerprint = "Ab".repeat(32);
        let key = target(&format!("--key {fingerprint}")).unwrap();
        assert_eq!(key.to_string(), format!("key:{}", fingerprint.to_lowercase()));
    }

    #[test]
    fn what_is_no_target_or_two_is_refused() {
        for wrong in [
            "",
            "alice",
            "user:",
            "--user a:b",
            "--user *",
            "card:",
            "card:+7",
            "card:4294967296",
            "--bot-instance ci",
            "--serial 7",
            "--host UPPER",
            "--spiffe example.org/user",
            "--key SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
            "--key no-such-file",
            "--user alice --bot ci",
            "user:alice --all",
        ] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_files_about_a_key_give_its_one_fingerprint() {
        let directory = tempfile::tempdir().unwrap();
        let run = |program: &str, arguments: &str, last: &str| {
            let mut command = Command::new(program);
            command.current_dir(&directory).args(arguments.split(' ')).arg(last);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        let at = |name: &str| directory.path().join(name).display().to_string();
        run("openssl", "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out", "key");
        run("openssl", "pkey -in key -pubout -out", "key.pem");
        run("openssl", "req -new -key key -subj /CN=x -out", "key.csr");
        run("openssl", "req -x509 -key key -subj /CN=x -out", "key.crt");
        fs::write(at("key.pub"), run("ssh-keygen", "-i -m PKCS8 -f", "key.pem")).unwrap();
        run("ssh-keygen", "-q -t ed25519 -f ca -N", "");
        run("ssh-keygen", "-q -s ca -I id -n alice", "key.pub");

        let der = run("openssl", "pkey -in key -pubout -outform DER", "-out=/dev/stdout");
        let expected = hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der));
        for name in ["key.pem", "key.csr", "key.crt", "key.pub", "key-cert.pub"] {
            let target = target(&format!("--key {}", at(name)));
            assert_eq!(target, Ok(LockTarget::Key(expected.clone())), "{name}");
        }
        assert!(target(&format!("--key {}", at("key"))).is_err(), "a private key is not read");
    }

    #[test]
    fn times_have_an_offset_or_are_local() {
        assert_eq!(time("2026-11-20T06:00:00+01:00").unwrap().as_second(), 1_795_150_800);
        let local = "2026-11-20T06:00:00".parse::<DateTime>().unwrap();
        let expected = local.to_zoned(TimeZone::system()).unwrap().timestamp();
        assert_eq!(time("2026-11-20 06:00"), Ok(expected));
        assert!(time("now").is_ok());
        assert!(time("yesterday").is_err());
    }

    fn target(words: &str) -> Result<LockTarget, String> {
        let line = ["chancery", "lock", "preview"].into_iter().chain(words.split_whitespace());
        let arguments = Arguments::try_parse_from(line).map_err(|error| error.to_string())?;
        match arguments.command {
            Verb::Lock(LockCommand::Preview(preview)) => preview.target.parse(),
            other => panic!("{other:?}"),
        }
    }
}
