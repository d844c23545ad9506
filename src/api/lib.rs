//! The contract of the appliance: requests, answers and problems, shared by appliance and clients.
//!
//! | method and path | request | answer |
//! |---|---|---|
//! | `POST /v1/issue/ssh-user` | [`SshUserRequest`] | [`Issued`] |
//! | `POST /v1/issue/ssh-host` | [`SshHostRequest`] | [`Issued`] |
//! | `POST /v1/issue/x509` | [`X509Request`] | [`Issued`] |
//! | `POST /v1/issue/smartcard` | [`SmartcardRequest`] | [`Issued`] |
//! | `POST /v1/sign` | [`SignRequest`] | [`Signed`] |
//! | `POST /v1/batch` | lines of [`BatchItem`] | lines of [`BatchResult`], in order |
//! | `GET /v1/certificates` | [`ListQuery`] | [`CertificatePage`] |
//! | `GET /v1/certificates/{issuer}/{serial}` | | [`CertificateRecord`] |
//! | `GET /v1/authorities` | | [`Authorities`] |
//! | `POST /v1/sessions` | [`SessionRequest`] | [`Session`] |
//! | `GET /v1/sessions` | [`SessionQuery`] | [`Sessions`] |
//! | `GET /v1/sessions/{id}` | | [`Session`] |
//! | `POST /v1/sessions/{id}/approve`, `…/deny` | [`Because`] | [`Session`] |
//! | `POST /v1/sessions/{id}/heartbeat` | | [`Session`] |
//! | `POST /v1/sessions/{id}/end` | [`Because`] | [`SessionEnded`] |
//! | `GET /v1/directory/accounts/{upn}` | | [`AccountReport`] |
//! | `POST /v1/locks/preview` | [`LockPreview`] | [`LockEffect`] |
//! | `POST /v1/locks` | [`LockRequest`] | [`Locked`] |
//! | `GET /v1/locks` | | [`Locks`] |
//! | `POST /v1/locks/remove` | [`UnlockRequest`] | [`Locks`] that were removed |
//! | `POST /v1/revoke` | [`RevokeRequest`] | [`Revoked`] |
//! | `GET /v1/cards` | [`CardQuery`] | [`Cards`] |
//! | `GET /v1/cards/{serial}` | | [`CardRecord`] |
//! | `POST /v1/cards/{serial}/release`, `…/remove` | [`Because`] | [`CardChanged`] |
//! | `GET /v1/effects/{change}` | [`EffectQuery`] | [`Effect`] |
//! | `GET /v1/revocations` | [`BundleQuery`] | [`RevocationBundle`], or 204 |
//! | `POST /v1/revocations/acknowledge` | [`Acknowledgement`] | 204 |
//! | `POST /v1/hosts` | [`HostRequest`] | [`JoinToken`] |
//! | `GET /v1/hosts` | | [`Hosts`] |
//! | `POST /v1/hosts/{name}/remove` | [`Because`] | [`Host`] |
//! | `POST /v1/join` | [`JoinRequest`], without a client certificate | [`Joined`] |
//! | `POST /v1/bots` | [`BotSpec`] | [`BotApplied`] |
//! | `GET /v1/bots` | | [`Bots`] |
//! | `GET /v1/bots/{name}` | | [`Bot`] |
//! | `POST /v1/bots/{name}/token` | [`BotTokenRequest`] | [`BotToken`] |
//! | `POST /v1/bots/{name}/remove` | [`Because`] | [`Bot`] that was removed |
//! | `POST /v1/join/challenge` | nothing, without a client certificate | [`Challenge`] |
//! | `POST /v1/join/bot` | [`BotJoinRequest`], without a client certificate | [`BotIdentity`] |
//! | `POST /v1/bot/renew` | [`BotRenewRequest`], from an instance | [`BotIdentity`] |
//! | `GET /v1/bot` | from an instance | [`BotStatus`] |
//! | `POST /v1/logins` | [`LoginReport`], from a host | 204 |
//! | `POST /v1/consume` | [`ConsumeRequest`], from a host | 204 |
//!
//! Requests are strict: an unknown field is an error. Errors are RFC 9457 problems
//! ([`Problem`]), whose `type` is one of [`ProblemKind`] and never changes its meaning.

mod answer;
mod bot;
mod card;
mod directory;
mod host;
mod lock;
mod problem;
mod request;
mod revocation;
mod session;

pub use answer::{
    Authorities, Authority, BatchOutcome, BatchResult, CertificatePage, CertificateRecord, Issued,
    Signed,
};
pub use bot::{
    Bot, BotApplied, BotIdentity, BotInstance, BotInstanceState, BotJoinRequest, BotName,
    BotNameError, BotRenewRequest, BotRole, BotSpec, BotStatus, BotToken, BotTokenRequest, Bots,
    Challenge, JoinMethod, JoinProof, join_statement,
};
pub use card::{
    Card, CardCertificate, CardChanged, CardKey, CardQuery, CardRecord, CardState, CardTaken, Cards,
};
pub use directory::{
    AccountDenial, AccountReport, AccountRole, AccountWhose, DirectoryAnswer, LogonAccount,
    LogonSource, PinnedAccount,
};
pub use host::{
    ConsumeRequest, Host, HostMode, HostRequest, Hosts, JoinRequest, JoinToken, Joined, Login,
    LoginReport,
};
pub use lock::{
    BadLockTarget, Lock, LockEffect, LockPreview, LockRequest, LockTarget, Locked, Locks,
    RevocationReason, RevokeRequest, Revoked, UnlockRequest,
};
pub use problem::{Problem, ProblemKind};
pub use request::{
    BatchItem, CardAttestation, ListQuery, Operation, SignRequest, SmartcardRequest,
    SshHostRequest, SshUserRequest, X509Request,
};
pub use revocation::{
    Acknowledgement, BundleQuery, CutConnection, Effect, EffectQuery, HostEffect, RevocationBundle,
};
pub use session::{
    Because, Decision, EndCause, Session, SessionEnded, SessionQuery, SessionRequest, SessionState,
    Sessions,
};

/// The request header that names an operation, so that asking again gives the same certificate.
///
/// 1 to 128 printable ASCII characters, chosen by the client, unique per caller. The same key with
/// another body is refused with [`ProblemKind::IdempotencyConflict`].
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// The media type of problems (RFC 9457 section 6.1).
pub const PROBLEM_JSON: &str = "application/problem+json";

/// The media type of batches: one JSON text a line.
pub const NDJSON: &str = "application/x-ndjson";

/// The most items that one batch may have.
pub const BATCH_ITEMS: usize = 1_000;

/// The longest certificate of a card's attestation, in characters of PEM: a card's object has no
/// room for more than 3 KiB of DER.
pub const ATTESTATION_LEN: usize = pki::x509::attestation::Claim::MAX_LEN;

/// The longest body of a single request, in bytes.
pub const BODY_LEN: usize = 64 * 1024;

/// The longest body of a batch, in bytes.
pub const BATCH_LEN: usize = 4 * 1024 * 1024;
