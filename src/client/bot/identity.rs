//! The bot's own certificate: joining, renewing, confirming.

use std::{fs, io, path::PathBuf, time::Duration};

use api::{
    BotJoinRequest, BotName, BotRenewRequest, BotStatus, BotToken, JoinProof, join_statement,
};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use pki::{keys::SignatureScheme, secret::Secret};
use rustls::{SignatureScheme as TlsScheme, crypto::aws_lc_rs::sign::any_supported_type};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};
use thiserror::Error;

use super::{
    bound_key::{BoundKey, BoundKeyError},
    config::{Config, Join, OidcSource},
    state::{AskError, Held, IDENTITY, Identities},
};
use crate::{
    Client,
    local_key::LocalKeyError,
    profile::Settings,
    program::{self, ProgramError},
    state::{StateDirectory, StateError},
};

/// The bot has no new certificate; what it had, it has.
#[derive(Debug, Error)]
pub(super) enum IdentityError {
    /// The bound key cannot be used.
    #[error(transparent)]
    BoundKey(#[from] BoundKeyError),
    /// The appliance refused, or cannot be reached.
    #[error(transparent)]
    Client(#[from] crate::Error),
    /// A key cannot be made.
    #[error(transparent)]
    Key(#[from] LocalKeyError),
    /// There is nothing to prove by who the bot is.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The appliance's answer cannot be used.
    #[error("the appliance's answer cannot be used: {0}")]
    Unusable(String),
}

/// There is nothing to prove by who the bot is.
#[derive(Debug, Error)]
pub(super) enum ProofError {
    /// A file holds something else.
    #[error("{}: {what}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A program gave no token.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token was used up.
    #[error("the token in {} was used up by this bot before", .path.display())]
    Used {
        /// The file.
        path: PathBuf,
        /// The bot.
        name: BotName,
    },
}

impl IdentityError {
    /// What to do about it, if there is something.
    pub(super) fn hint(&self) -> Option<String> {
        match self {
            Self::BoundKey(error) => error.hint(),
            Self::Client(error) => error.hint(),
            Self::Proof(error) => error.hint(),
            Self::State(error) => error.hint(),
            Self::Key(_) | Self::Unusable(_) => None,
        }
    }
}

impl ProofError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Used { path, name } => Some(format!(
                "an operator makes a new one with `chancery bot token {name} --out FILE`; put it in \
                 the place of {}",
                path.display()
            )),
            Self::Read { .. } => Some("[join] of the configuration names it".to_owned()),
            Self::Invalid { .. } | Self::Program(_) => None,
        }
    }
}

impl From<AskError> for IdentityError {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Key(error) => Self::Key(error),
            AskError::State(error) => Self::State(error),
        }
    }
}

/// A client that shows a certificate of the bot's own.
pub(super) fn client(
    config: &Config,
    state: &StateDirectory,
    held: &Held,
) -> Result<Client, crate::Error> {
    let settings = Settings {
        server: config.server.clone(),
        ca: config.ca.clone(),
        certificate: state.path(IDENTITY),
        key: state.path(IDENTITY),
        deadline: DEADLINE,
    };
    Client::holding(&held.certificates, held.key.expose(), &settings)
}

/// Joins as a new instance. The same key is sent again until there is an answer.
pub(super) async fn join(
    config: &Config,
    state: &StateDirectory,
    identities: &mut Identities,
    now: Timestamp,
) -> Result<(), IdentityError> {
    let client = Client::stranger(&config.server, &config.ca, DEADLINE)?;
    let used = identities.used_token.as_deref();
    // Whether there is anything to prove by is known before a key is made.
    let source = ProofSource::read(&config.join, &config.name, used).await?;
    let asked = identities.ask(state, None)?;
    let used_token = source.fingerprint();
    let proof = source.prove(&client, &config.name, &asked.csr).await?;
    let request = BotJoinRequest { name: config.name.clone(), csr: asked.csr.clone(), proof };
    let answer = client.join_as_bot(&request).await?;
    if answer.name != config.name {
        return Err(IdentityError::Unusable(format!("it is for the bot {}", answer.name)));
    }
    let held = Held::new(answer, &asked, now).map_err(IdentityError::Unusable)?;
    Ok(identities.keep(state, held, used_token)?)
}

/// Has a new key certified, by the certificate that was confirmed last. The same key is sent again
/// until there is an answer.
pub(super) async fn renew(
    config: &Config,
    state: &StateDirectory,
    identities: &mut Identities,
    now: Timestamp,
) -> Result<(), IdentityError> {
    let Some(confirmed) = identities.confirmed.clone() else { return Ok(()) };
    let client = client(config, state, &confirmed)?;
    let asked = identities.ask(state, Some(&confirmed.instance))?;
    let request = BotRenewRequest { csr: asked.csr.clone() };
    let answer = client.renew_bot(&request).await?;
    let held = Held::new(answer, &asked, now).map_err(IdentityError::Unusable)?;
    Ok(identities.keep(state, held, None)?)
}

/// Asks how things stand with the newest certificate, which confirms it. The client that asked is
/// good for more.
pub(super) async fn ask(
    config: &Config,
    state: &StateDirectory,
    identities: &mut Identities,
) -> Result<Option<(Client, BotStatus)>, IdentityError> {
    let Some(newest) = identities.newest() else { return Ok(None) };
    let client = client(config, state, newest)?;
    let status = client.bot_status().await?;
    if status.instance != newest.instance {
        return Err(IdentityError::Unusable(format!("it is for the instance {}", status.instance)));
    }
    identities.confirm(state, &status)?;
    Ok(Some((client, status)))
}

/// What proves who the bot is.
enum ProofSource<'a> {
    BoundKey(&'a BoundKey),
    Oidc(Secret),
    Token(Secret),
    X509 { certificates: String, key: PrivateKeyDer<'static>, path: PathBuf },
}

impl<'a> ProofSource<'a> {
    async fn read(
        join: &'a Join,
        name: &BotName,
        used_token: Option<&str>,
    ) -> Result<Self, ProofError> {
        match join {
            Join::BoundKey(key) => Ok(Self::BoundKey(key)),
            Join::Oidc(OidcSource::Command(command)) => {
                let printed = program::run(command, PATIENCE).await?;
                let text = String::from_utf8_lossy(&printed).trim().to_owned();
                Ok(Self::Oidc(Secret::new(text)))
            }
            Join::Oidc(OidcSource::File(path)) => {
                let text = fs::read_to_string(path).map_err(read(path))?;
                Ok(Self::Oidc(Secret::new(text.trim().to_owned())))
            }
            Join::Token { token_file } => {
                let text = Secret::new(fs::read_to_string(token_file).map_err(read(token_file))?);
                let secret = secret_of(&text, name)
                    .map_err(|what| ProofError::Invalid { path: token_file.clone(), what })?;
                let source = Self::Token(secret);
                if used_token.is_some() && source.fingerprint().as_deref() == used_token {
                    return Err(ProofError::Used { path: token_file.clone(), name: name.clone() });
                }
                Ok(source)
            }
            Join::X509 { certificate, key: path } => {
                let certificates = fs::read_to_string(certificate).map_err(read(certificate))?;
                let pem = Secret::new(fs::read_to_string(path).map_err(read(path))?);
                let key = PrivateKeyDer::from_pem_slice(pem.expose().as_bytes());
                let key = key.map_err(|error| invalid(path, error.to_string()))?;
                Ok(Self::X509 { certificates, key, path: path.clone() })
            }
        }
    }

    /// By which a token that was used is known again.
    fn fingerprint(&self) -> Option<String> {
        match self {
            Self::Token(secret) => Some(hex::encode(digest(&SHA256, secret.expose().as_bytes()))),
            Self::BoundKey(_) | Self::Oidc(_) | Self::X509 { .. } => None,
        }
    }

    async fn prove(
        self,
        client: &Client,
        name: &BotName,
        csr: &str,
    ) -> Result<JoinProof, IdentityError> {
        match self {
            Self::BoundKey(key) => {
                let challenge = client.join_challenge().await?.challenge;
                Ok(key.prove(name, &challenge, csr).await?)
            }
            Self::Oidc(token) => Ok(JoinProof::Oidc { token: token.expose().to_owned() }),
            Self::Token(secret) => Ok(JoinProof::Token { secret: secret.expose().to_owned() }),
            Self::X509 { certificates, key, path } => {
                let challenge = client.join_challenge().await?.challenge;
                let statement = join_statement(name, &challenge, csr);
                let (scheme, signature) =
                    sign(&key, &statement).map_err(|what| invalid(&path, what))?;
                let signature = STANDARD.encode(signature);
                Ok(JoinProof::X509 { challenge, certificates, signature, scheme })
            }
        }
    }
}

/// The file is what `chancery bot token` wrote, or the secret alone.
fn secret_of(text: &Secret, name: &BotName) -> Result<Secret, String> {
    let text = text.expose().trim();
    if !text.starts_with('{') {
        return match text {
            "" => Err("the file is empty".to_owned()),
            text => Ok(Secret::new(text.to_owned())),
        };
    }
    let token: BotToken = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if token.name != *name {
        return Err(format!("the token is for the bot {}", token.name));
    }
    Ok(Secret::new(token.secret))
}

fn sign(
    key: &PrivateKeyDer<'static>,
    statement: &[u8],
) -> Result<(SignatureScheme, Vec<u8>), String> {
    let key = any_supported_type(key).map_err(|error| error.to_string())?;
    let offered: Vec<_> = SCHEMES.iter().map(|(tls, _)| *tls).collect();
    let signer = key.choose_scheme(&offered).ok_or("there is no scheme for this kind of key")?;
    let scheme = SCHEMES.iter().find(|(tls, _)| *tls == signer.scheme());
    let (_, scheme) = scheme.ok_or("there is no scheme for this kind of key")?;
    let signature = signer.sign(statement).map_err(|error| error.to_string())?;
    Ok((*scheme, signature))
}

fn invalid(path: &std::path::Path, what: String) -> ProofError {
    ProofError::Invalid { path: path.to_owned(), what }
}

fn read(path: &std::path::Path) -> impl FnOnce(io::Error) -> ProofError {
    let path = path.to_owned();
    move |source| ProofError::Read { path, source }
}

/// The appliance's names of what TLS signs with.
const SCHEMES: &[(TlsScheme, SignatureScheme)] = &[
    (TlsScheme::ECDSA_NISTP256_SHA256, SignatureScheme::EcdsaP256Sha256),
    (TlsScheme::ECDSA_NISTP384_SHA384, SignatureScheme::EcdsaP384Sha384),
    (TlsScheme::ED25519, SignatureScheme::Ed25519),
    (TlsScheme::RSA_PSS_SHA256, SignatureScheme::RsaPssSha256),
];

/// How long one request may be tried again; the agent itself comes back later.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a program may take that gives a token.
const PATIENCE: Duration = Duration::from_secs(60);
