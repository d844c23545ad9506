//! An ssh-agent that shows one identity at a time and signs what logs in, nothing else.
//!
//! The few messages of the agent protocol (draft-ietf-sshm-ssh-agent) are written out here:
//! `ssh-agent-lib` (0.6) stands on ssh-key 0.6, and would bring a second copy of each RustCrypto
//! crate for the three messages that this agent speaks. It lists one certificate and signs with its
//! key what SSH user authentication signs: whoever reaches the socket can neither add nor read a
//! key, and a signature over a file or a Git commit cannot be had.

use std::{
    collections::BTreeSet,
    future::Future,
    io,
    sync::{Arc, PoisonError, RwLock},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use pki::{
    keys::{PublicKey, Signature},
    ssh::signature_blob,
    token::TokenError,
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixListener,
    task::JoinSet,
};

/// A private key that logs in: in this process's memory, or in a token.
pub trait LoginKey: Send + Sync + 'static {
    /// Its public half.
    fn public_key(&self) -> &PublicKey;

    /// Signs by the key's default scheme.
    fn sign(&self, data: &[u8]) -> impl Future<Output = Result<Signature, TokenError>> + Send;
}

/// An agent for some users of this machine, with one identity or none.
#[derive(Debug)]
pub struct Agent<K> {
    identity: RwLock<Option<Arc<Identity<K>>>>,
    users: BTreeSet<u32>,
}

/// A key and its certificate.
#[derive(Debug)]
pub struct Identity<K> {
    key: K,
    /// The certificate as its line has it, decoded.
    certificate: Vec<u8>,
    comment: String,
}

/// A certificate is not one for the key.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// It is for another key, or for hosts.
    #[error("the certificate is not a user certificate for the key that was sent")]
    Other,
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable(#[source] ssh_key::Error),
}

impl<K: LoginKey> Agent<K> {
    /// An agent without an identity, which only these users (by their ids) may talk to.
    pub fn new(users: BTreeSet<u32>) -> Self {
        Self { identity: RwLock::default(), users }
    }

    /// Shows this identity from now on, instead of the one before: that is dropped once what it
    /// signs right now is signed.
    pub fn show(&self, identity: Identity<K>) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(identity));
    }

    /// Shows nothing and signs nothing from now on.
    pub fn withdraw(&self) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Serves until it is dropped; then the connections end.
    ///
    /// # Errors
    ///
    /// The socket takes no connections any more.
    pub async fn serve(self: Arc<Self>, listener: &UnixListener) -> io::Result<()> {
        // Dropping the set ends its tasks.
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            while connections.try_join_next().is_some() {}
            // The kernel says who connected, whatever becomes of the socket's permissions.
            match stream.peer_cred() {
                Ok(peer) if self.users.contains(&peer.uid()) => {
                    connections.spawn(Arc::clone(&self).talk(stream));
                }
                Ok(peer) => tracing::warn!(uid = peer.uid(), "not a user of this ssh-agent"),
                // It has gone.
                Err(_) => {}
            }
        }
    }

    async fn talk(self: Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        // ssh going away, or saying what is no message, ends a connection and nothing else.
        while let Ok(message) = read_message(&mut stream).await {
            let answer = self.answer(&message).await.unwrap_or_else(|| vec![FAILURE]);
            if write_message(&mut stream, &answer).await.is_err() {
                return;
            }
        }
    }

    /// The answer to a message; `None` is a refusal.
    async fn answer(&self, message: &[u8]) -> Option<Vec<u8>> {
        let (&kind, mut rest) = message.split_first()?;
        match kind {
            REQUEST_IDENTITIES => Some(identities(self.identity().as_deref())),
            SIGN_REQUEST => {
                let (blob, data) = (take_string(&mut rest)?, take_string(&mut rest)?);
                let identity = self.identity()?;
                let wanted = blob == identity.certificate && is_user_authentication(data, blob);
                let signed = identity.signature(wanted.then_some(data)?).await?;
                // What was withdrawn meanwhile is not handed out.
                self.identity().map(|_| signed)
            }
            _ => None,
        }
    }

    fn identity(&self) -> Option<Arc<Identity<K>>> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl<K: LoginKey> Identity<K> {
    /// A key with its certificate, of which `comment` is the name in ssh's messages.
    ///
    /// # Errors
    ///
    /// The certificate is no user certificate for the key.
    pub fn new(key: K, line: &str, comment: &str) -> Result<Self, CertificateError> {
        let parsed =
            ssh_key::Certificate::from_openssh(line).map_err(CertificateError::Unreadable)?;
        let certified = ssh_key::PublicKey::from(parsed.public_key().clone())
            .to_bytes()
            .map_err(CertificateError::Unreadable)?;
        let is_for_users = parsed.cert_type() == ssh_key::certificate::CertType::User;
        if certified != key.public_key().openssh_blob() || !is_for_users {
            return Err(CertificateError::Other);
        }
        let blob = line.split_whitespace().nth(1).unwrap_or_default();
        let certificate = STANDARD.decode(blob).map_err(|_| CertificateError::Other)?;
        Ok(Self { key, certificate, comment: comment.to_owned() })
    }

    async fn signature(&self, data: &[u8]) -> Option<Vec<u8>> {
        let signature = match self.key.sign(data).await {
            Ok(signature) => signature,
            Err(error) => {
                tracing::error!(identity = self.comment, %error, "the key did not sign");
                return None;
            }
        };
        let scheme = self.key.public_key().default_scheme();
        let mut answer = vec![SIGN_RESPONSE];
        put_string(&mut answer, &signature_blob(scheme, &signature));
        Some(answer)
    }
}

fn identities<K>(shown: Option<&Identity<K>>) -> Vec<u8> {
    let mut answer = vec![IDENTITIES_ANSWER];
    answer.extend(u32::from(shown.is_some()).to_be_bytes());
    if let Some(identity) = shown {
        put_string(&mut answer, &identity.certificate);
        put_string(&mut answer, identity.comment.as_bytes());
    }
    answer
}

/// Whether this is what a client signs to authenticate with this key (RFC 4252 section 7; with the
/// host key behind it, PROTOCOL of OpenSSH, section 3.1).
fn is_user_authentication(data: &[u8], blob: &[u8]) -> bool {
    user_authentication(data).is_some_and(|key| key == blob)
}

/// The key that user authentication by a certificate of our kind names.
fn user_authentication(mut data: &[u8]) -> Option<&[u8]> {
    let session = take_string(&mut data)?;
    let request = *data.split_off_first()?;
    let _user = take_string(&mut data)?;
    let service = take_string(&mut data)?;
    let method = take_string(&mut data)?;
    let signed = *data.split_off_first()?;
    let algorithm = take_string(&mut data)?;
    let key = take_string(&mut data)?;
    match method {
        b"publickey" => {}
        b"publickey-hostbound-v00@openssh.com" => _ = take_string(&mut data)?,
        _ => return None,
    }
    let complete = !session.is_empty() && signed == 1 && data.is_empty();
    // The name of a certificate's kind is its first field (PROTOCOL.certkeys).
    let named = service == b"ssh-connection" && Some(algorithm) == take_string(&mut { key });
    (complete && named && request == USERAUTH_REQUEST).then_some(key)
}

async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    if length > LONGEST_MESSAGE {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length as usize];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let mut framed = Vec::new();
    put_string(&mut framed, message);
    stream.write_all(&framed).await?;
    stream.flush().await
}

/// Takes a `string` of RFC 4251 section 5 from the front.
fn take_string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_be_bytes(*bytes.split_off(..4)?.first_chunk()?);
    bytes.split_off(..usize::try_from(length).ok()?)
}

/// Writes a `string` of RFC 4251 section 5. What is written here is short.
fn put_string(to: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.extend(length.to_be_bytes());
    to.extend(bytes);
}

/// SSH_MSG_USERAUTH_REQUEST (RFC 4252 section 6).
const USERAUTH_REQUEST: u8 = 50;

// The messages of draft-ietf-sshm-ssh-agent, section 6.1.
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// As OpenSSH has it (`AGENT_MAX_LEN`).
const LONGEST_MESSAGE: u32 = 256 * 1_024;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use super::*;
    use crate::session_key::SessionKey;

    #[tokio::test]
    async fn a_signature_is_given_for_user_authentication_only() {
        let agent = agent();
        let sign = async |data: &[u8], blob: &[u8]| {
            let mut message = vec![SIGN_REQUEST];
            put_string(&mut message, blob);
            put_string(&mut message, data);
            message.extend(0_u32.to_be_bytes());
            agent.answer(&message).await
        };
        let identity = agent.identity().unwrap();
        let certificate = &identity.certificate;
        let (plain, bound) = ("publickey", "publickey-hostbound-v00@openssh.com");
        let good = authentication(plain, "ssh-connection", certificate, false);
        let answer = sign(&good, certificate).await.unwrap();
        let mut signature = &answer[5..];
        assert_eq!(take_string(&mut signature), Some(&b"ssh-ed25519"[..]));
        let signature = Signature(take_string(&mut signature).unwrap().to_vec());
        let public_key = identity.key.public_key();
        assert_eq!(public_key.verify(public_key.default_scheme(), &good, &signature), Ok(()));
        let bound_good = authentication(bound, "ssh-connection", certificate, true);
        assert!(sign(&bound_good, certificate).await.is_some());

        for refused in [
            b"SSHSIG and what follows".to_vec(),
            Vec::new(),
            authentication(plain, "ssh-userauth", certificate, false),
            authentication("hostbased", "ssh-connection", certificate, false),
            authentication(plain, "ssh-connection", b"another key", false),
            authentication(plain, "ssh-connection", certificate, true),
            authentication(bound, "ssh-connection", certificate, false),
            [&good[..], b"x"].concat(),
            good[..good.len() - 1].to_vec(),
        ] {
            assert_eq!(sign(&refused, certificate).await, None, "{refused:?}");
        }
        assert_eq!(sign(&good, b"another key").await, None);

        agent.withdraw();
        assert_eq!(sign(&good, certificate).await, None);
        let nothing = [IDENTITIES_ANSWER, 0, 0, 0, 0];
        assert_eq!(agent.answer(&[REQUEST_IDENTITIES]).await.unwrap(), nothing);
    }

    #[tokio::test]
    async fn what_is_no_message_of_ours_is_refused() {
        let agent = agent();
        for kind in 0..=u8::MAX {
            let answered = agent.answer(&[kind]).await.is_some();
            assert_eq!(answered, kind == REQUEST_IDENTITIES, "{kind}");
        }
        assert_eq!(agent.answer(&[]).await, None);
        assert_eq!(agent.answer(&[SIGN_REQUEST, 0xff, 0xff, 0xff, 0xff, 1]).await, None);
    }

    #[tokio::test]
    async fn a_message_that_is_too_long_or_cut_off_ends_the_connection() {
        let agent = Arc::new(agent());
        let cut_off = [&[0, 0, 0, 9][..], &[REQUEST_IDENTITIES]].concat();
        for said in [(LONGEST_MESSAGE + 1).to_be_bytes().to_vec(), vec![0xff; 8], cut_off] {
            let (mut client, served) = tokio::io::duplex(64);
            let talking = tokio::spawn(Arc::clone(&agent).talk(served));
            client.write_all(&said).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer, b"", "{said:?}");
            talking.await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_is_no_user_of_the_agent_is_not_answered() {
        let directory = tempfile::tempdir().unwrap();
        let agent = agent();
        let others = Agent::new([rustix::process::geteuid().as_raw() + 1].into());
        *others.identity.write().unwrap() = agent.identity();
        let socket = directory.path().join("agent");
        let listener = UnixListener::bind(&socket).unwrap();
        let serving = tokio::spawn(async move { Arc::new(others).serve(&listener).await });
        let list = add(&socket, &["-L".as_ref()]).await;
        assert!(!list.status.success(), "{list:?}");
        assert_eq!(list.stdout, b"");
        serving.abort();
    }

    #[test]
    fn another_keys_certificate_and_one_for_hosts_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (key, other) = (SessionKey::generate().unwrap(), SessionKey::generate().unwrap());
        let line = certify(directory.path(), &other, &[]);
        assert!(matches!(Identity::new(key, &line, ""), Err(CertificateError::Other)));
        let key = SessionKey::generate().unwrap();
        let line = certify(directory.path(), &key, &["-h"]);
        assert!(matches!(Identity::new(key, &line, ""), Err(CertificateError::Other)));
        let key = SessionKey::generate().unwrap();
        let bare = key.public_line();
        assert!(matches!(Identity::new(key, &bare, ""), Err(CertificateError::Unreadable(_))));
    }

    /// `ssh-add -L` and `-T` are a client of the protocol that is not ours.
    #[tokio::test]
    async fn ssh_add_lists_the_certificate_and_can_neither_add_nor_sign_data() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let key = SessionKey::generate().unwrap();
        let line = certify(directory.path(), &key, &[]);
        let agent = Agent::new([rustix::process::geteuid().as_raw()].into());
        agent.show(Identity::new(key, &line, "chancery").unwrap());
        let listener = UnixListener::bind(at("agent")).unwrap();
        let serving = tokio::spawn(async move { Arc::new(agent).serve(&listener).await });

        let list = add(&at("agent"), &["-L".as_ref()]).await;
        let listed = String::from_utf8(list.stdout).unwrap();
        let expected: Vec<_> = line.split_whitespace().take(2).chain(["chancery"]).collect();
        assert_eq!(listed.split_whitespace().collect::<Vec<_>>(), expected);
        fs::write(at("session-cert.pub"), &line).unwrap();
        let test = add(&at("agent"), &["-T".as_ref(), at("session-cert.pub").as_ref()]).await;
        assert!(!test.status.success(), "it signed data that authenticates nobody");
        let added = add(&at("agent"), &[at("ca").as_ref()]).await;
        assert!(!added.status.success(), "it took a key");
        serving.abort();
    }

    async fn add(socket: &Path, arguments: &[&std::ffi::OsStr]) -> std::process::Output {
        let mut command = tokio::process::Command::new("ssh-add");
        command.args(arguments).env("SSH_AUTH_SOCK", socket).output().await.unwrap()
    }

    fn agent() -> Agent<SessionKey> {
        let directory = tempfile::tempdir().unwrap();
        let key = SessionKey::generate().unwrap();
        let line = certify(directory.path(), &key, &[]);
        let agent = Agent::new(BTreeSet::new());
        agent.show(Identity::new(key, &line, "").unwrap());
        agent
    }

    fn certify(directory: &Path, key: &SessionKey, flags: &[&str]) -> String {
        fs::write(directory.join("key.pub"), key.public_line()).unwrap();
        if !directory.join("ca").exists() {
            keygen(directory, &["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
        }
        let sign = ["-q", "-s", "ca", "-I", "id", "-n", "alice"];
        keygen(directory, &[&sign[..], flags, &["key.pub"]].concat());
        fs::read_to_string(directory.join("key-cert.pub")).unwrap()
    }

    fn keygen(directory: &Path, arguments: &[&str]) {
        let output =
            Command::new("ssh-keygen").current_dir(directory).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn authentication(method: &str, service: &str, key: &[u8], host: bool) -> Vec<u8> {
        let mut data = Vec::new();
        put_string(&mut data, b"session id");
        data.push(USERAUTH_REQUEST);
        put_string(&mut data, b"alice");
        put_string(&mut data, service.as_bytes());
        put_string(&mut data, method.as_bytes());
        data.push(1);
        put_string(&mut data, b"ssh-ed25519-cert-v01@openssh.com");
        put_string(&mut data, key);
        if host {
            put_string(&mut data, b"host key");
        }
        data
    }
}
