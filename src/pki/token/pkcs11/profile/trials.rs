//! What else a ceremony depends on: which promises a token keeps, what it lets the user and the security
//! officer do, and what it leaves of a pair that is not whole.

use std::{collections::BTreeMap, fmt};

use cryptoki::{
    error::Error,
    mechanism::Mechanism,
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
    session::{Session as RawSession, UserType},
    slot::Slot,
};
use serde::{Deserialize, Serialize};

use super::{
    super::{Module, Session, auth_pin, failure::token_error},
    Said,
    attributes::Bench,
    has, kept, tidy,
};
use crate::{
    keys::KeyAlgorithm,
    secret::Secret,
    token::{Input, TokenError},
};

/// Something that is tried.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trial {
    /// Copy a key whose CKA_COPYABLE is false.
    CopyUncopyable,
    /// Destroy a key whose CKA_DESTROYABLE is false.
    DestroyIndestructible,
    /// Give random bytes.
    GiveRandom,
    /// Make a second pair with a CKA_ID that is there.
    IdTwice,
    /// Initialize a token that was initialized before.
    Initialize,
    /// Set the user's PIN as security officer.
    InitializePin,
    /// Make a second pair with a label that is there.
    LabelTwice,
    /// Set a PIN that is longer than the longest.
    LongPin,
    /// Set the longest PIN that it says it takes.
    LongestPin,
    /// Destroy one half of a pair, and keep the other.
    LoneHalf,
    /// Change the label of a key whose CKA_MODIFIABLE is false.
    ModifyUnmodifiable,
    /// Show private objects to the security officer.
    OfficerSeesPrivate,
    /// Leave one half of a pair, when the template of the other was refused.
    OrphanAfterRefusal,
    /// Take what only the token may say (CKA_ALWAYS_SENSITIVE) in a template.
    ReadOnlyInTemplate,
    /// Set a PIN that is shorter than the shortest.
    ShortPin,
    /// Set the shortest PIN that it says it takes.
    ShortestPin,
    /// Sign 48 bytes, as a digest, with a P-256 key.
    SignLongDigest,
    /// Sign with a key whose CKA_SIGN is false.
    SignUnsigning,
    /// Let the security officer say that a key is trusted.
    TrustByOfficer,
    /// Let the user say that a key is trusted.
    TrustByUser,
    /// Wrap a key that only trusted keys wrap, under one that is trusted.
    WrapByTrusted,
    /// Wrap such a key under one that is not trusted.
    WrapByUntrusted,
    /// Take a wrong PIN.
    WrongPin,
}

/// What the user may do.
pub(super) fn of_user(
    session: &mut Session,
    algorithm: KeyAlgorithm,
) -> Result<BTreeMap<Trial, Said>, TokenError> {
    let bench = Bench::new(session, algorithm)?;
    let writer = &bench.writer;
    let renamed = Attribute::Label(b"raw/probe".to_vec());
    let kept = bench.pair(&[Attribute::Modifiable(false)]);
    let mut trials = BTreeMap::from([
        (Trial::GiveRandom, Said::of(writer.generate_random_vec(8))),
        (
            Trial::ModifyUnmodifiable,
            with(&kept, |private| Said::of(writer.update_attributes(private, &[renamed]))),
        ),
        (Trial::LabelTwice, twice(&bench, Attribute::Id(b"other".to_vec()))),
        (Trial::IdTwice, twice(&bench, Attribute::Label(b"raw/probe".to_vec()))),
    ]);
    let kept = bench.pair(&[Attribute::Copyable(false)]);
    let copied =
        with(&kept, |private| Said::of(writer.copy_object(private, &[Attribute::Token(false)])));
    trials.insert(Trial::CopyUncopyable, copied);
    // It goes with the session, if it is as it says.
    let kept = bench.pair(&[Attribute::Token(false), Attribute::Destroyable(false)]);
    let destroyed = with(&kept, |private| Said::of(writer.destroy_object(private)));
    trials.insert(Trial::DestroyIndestructible, destroyed);
    let kept = bench.pair(&[Attribute::Sign(false)]);
    trials.insert(
        Trial::SignUnsigning,
        with(&kept, |private| sign(session, writer, algorithm, private)),
    );
    if algorithm == KeyAlgorithm::EcP256 {
        let signed = with(&bench.pair(&[]), |private| {
            Said::of(writer.sign(&Mechanism::Ecdsa, private, &[7; 48]))
        });
        trials.insert(Trial::SignLongDigest, signed);
    }
    tidy(writer)?;
    trials.extend(halves(&bench)?);
    trials.insert(Trial::TrustByUser, trusts(writer, &wrapping_key(writer, true)));
    tidy(writer)?;
    Ok(trials)
}

/// What is left of a pair that is not whole.
fn halves(bench: &Bench) -> Result<BTreeMap<Trial, Said>, TokenError> {
    let writer = &bench.writer;
    let left = || {
        let found = kept(writer).map_err(token_error)?;
        Ok::<_, TokenError>(if found.is_empty() { nothing_left() } else { Said::Done })
    };
    let mut trials = BTreeMap::new();
    let lone = match bench.pair(&[]) {
        Ok((_, private)) => match writer.destroy_object(private) {
            Ok(()) => left()?,
            Err(error) => Said::refused(&error),
        },
        Err(error) => Said::untried(&error),
    };
    trials.insert(Trial::LoneHalf, lone);
    tidy(writer)?;
    let taken = bench.pair(&[Attribute::AlwaysSensitive(true)]);
    let orphan = match &taken {
        Ok(_) => Said::Untried("it was not refused".to_owned()),
        Err(_) => left()?,
    };
    trials.insert(Trial::ReadOnlyInTemplate, Said::of(taken));
    trials.insert(Trial::OrphanAfterRefusal, orphan);
    tidy(writer)?;
    Ok(trials)
}

impl Module {
    /// Initializes a token once more, as a ceremony does it for the first time.
    pub(super) fn initialize_again(
        &self,
        slot: Slot,
        label: &str,
        officer: &Secret,
        user: &Secret,
    ) -> Result<BTreeMap<Trial, Said>, TokenError> {
        let made = self.0.pkcs11.init_token(slot, &auth_pin(officer), label);
        if made.is_err() {
            return Ok(BTreeMap::from([(Trial::Initialize, Said::of(made))]));
        }
        let session = self.0.pkcs11.open_rw_session(slot).map_err(token_error)?;
        session.login(UserType::So, Some(&auth_pin(officer))).map_err(token_error)?;
        let set = session.init_pin(&auth_pin(user));
        session.logout().map_err(token_error)?;
        Ok(BTreeMap::from([(Trial::Initialize, Said::Done), (Trial::InitializePin, Said::of(set))]))
    }

    /// What the security officer may do; and what the user may do with what that one trusts.
    pub(super) fn trials_of_officer(
        &self,
        slot: Slot,
        officer: &Secret,
        user: &Secret,
        algorithm: KeyAlgorithm,
    ) -> Result<BTreeMap<Trial, Said>, TokenError> {
        // A private key that there is to be seen.
        let session = self.scratch_session(slot, user)?;
        let kept = Bench::new(&session, algorithm)?.pair(&[]);
        drop(session);
        let session = self.0.pkcs11.open_rw_session(slot).map_err(token_error)?;
        session.login(UserType::So, Some(&auth_pin(officer))).map_err(token_error)?;
        let seen = match &kept {
            Ok(_) => match session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]) {
                Ok(found) if found.is_empty() => Said::Refused("none is found".to_owned()),
                found => Said::of(found),
            },
            Err(error) => Said::untried(error),
        };
        let mut trials = BTreeMap::from([(Trial::OfficerSeesPrivate, seen)]);
        let trusted = wrapping_key(&session, true);
        trials.insert(Trial::TrustByOfficer, trusts(&session, &trusted));
        session.logout().map_err(token_error)?;
        session.login(UserType::User, Some(&auth_pin(user))).map_err(token_error)?;
        let under = self.scratch_session(slot, user)?;
        let bench = Bench::new(&under, algorithm)?;
        let kept = bench.pair(&[Attribute::Extractable(true), Attribute::WrapWithTrusted(true)]);
        let wrap = |under: &Result<ObjectHandle, Error>| match under {
            Ok(under) => with(&kept, |private| wrapped(&session, *under, private)),
            Err(error) => Said::untried(error),
        };
        trials.insert(Trial::WrapByUntrusted, wrap(&wrapping_key(&session, false)));
        trials.insert(Trial::WrapByTrusted, wrap(&trusted));
        tidy(&session)?;
        session.logout().map_err(token_error)?;
        Ok(trials)
    }
}

/// What is done with the private half of a pair, if there is one.
fn with(
    pair: &Result<(ObjectHandle, ObjectHandle), Error>,
    act: impl FnOnce(ObjectHandle) -> Said,
) -> Said {
    match pair {
        Ok((_, private)) => act(*private),
        Err(error) => Said::untried(error),
    }
}

/// A pair beside another that has the same names, but for this.
fn twice(bench: &Bench, other: Attribute) -> Said {
    match bench.pair(&[]) {
        Ok(_) => Said::of(bench.pair(&[other])),
        Err(error) => Said::untried(&error),
    }
}

fn sign(
    session: &Session,
    writer: &RawSession,
    algorithm: KeyAlgorithm,
    private: ObjectHandle,
) -> Said {
    let scheme = algorithm.default_scheme();
    match session.mechanisms.signing(scheme, Input::Message(b"Chancery probe 1\0")) {
        Ok((mechanism, bytes)) => Said::of(writer.sign(&mechanism, private, &bytes)),
        Err(error) => Said::Untried(error.to_string()),
    }
}

/// An AES key that wraps, and that everybody sees; it goes with its session.
fn wrapping_key(session: &RawSession, trusted: bool) -> Result<ObjectHandle, Error> {
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Value(vec![7; 32]),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Wrap(true),
    ];
    let trusted = trusted.then_some(Attribute::Trusted(true));
    let template: Vec<Attribute> = template.into_iter().chain(trusted).collect();
    session.create_object(&template)
}

/// Whether a key that was to be trusted is.
fn trusts(session: &RawSession, key: &Result<ObjectHandle, Error>) -> Said {
    match key {
        Ok(key) => match has(session, *key, &Attribute::Trusted(true)) {
            Ok(true) => Said::Done,
            Ok(false) => Said::Ignored,
            Err(error) => Said::refused(&error),
        },
        Err(error) => Said::refused(error),
    }
}

/// Under a key, by each mechanism that wraps private keys; the refusal that says most.
fn wrapped(session: &RawSession, under: ObjectHandle, private: ObjectHandle) -> Said {
    let said = [Mechanism::AesKeyWrapPad, Mechanism::AesKeyWrap]
        .map(|mechanism| Said::of(session.wrap_key(&mechanism, under, private)));
    let missing = Said::Refused("CKR_MECHANISM_INVALID".to_owned());
    let [first, second] = said;
    if second == Said::Done || first == missing { second } else { first }
}

fn nothing_left() -> Said {
    Said::Refused("nothing is left".to_owned())
}

/// What was tried, as a question.
impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CopyUncopyable => "copies a key that is not copyable",
            Self::DestroyIndestructible => "destroys a key that is not destroyable",
            Self::GiveRandom => "gives random bytes",
            Self::IdTwice => "makes two keys with one CKA_ID",
            Self::Initialize => "is initialized once more",
            Self::InitializePin => "lets the security officer set the user's PIN",
            Self::LabelTwice => "makes two keys with one label",
            Self::LoneHalf => "keeps one half of a pair without the other",
            Self::LongPin => "takes a PIN longer than it says",
            Self::LongestPin => "takes a PIN as long as it says",
            Self::ModifyUnmodifiable => "renames a key that is not modifiable",
            Self::OfficerSeesPrivate => "shows private objects to the security officer",
            Self::OrphanAfterRefusal => "leaves one half when the other's template is refused",
            Self::ReadOnlyInTemplate => "takes CKA_ALWAYS_SENSITIVE in a template",
            Self::ShortPin => "takes a PIN shorter than it says",
            Self::ShortestPin => "takes a PIN as short as it says",
            Self::SignLongDigest => "signs 48 bytes with a P-256 key",
            Self::SignUnsigning => "signs with a key whose CKA_SIGN is false",
            Self::TrustByOfficer => "lets the security officer trust a key",
            Self::TrustByUser => "lets the user trust a key",
            Self::WrapByTrusted => "wraps under a trusted key what only those wrap",
            Self::WrapByUntrusted => "wraps under another key what only trusted ones wrap",
            Self::WrongPin => "takes a wrong PIN",
        })
    }
}
