//! Sessions: finding, signing, generating, destroying.

use cryptoki::{
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::SessionState,
    slot::Slot,
};

use super::{
    Module,
    failure::token_error,
    lone_sign::LoneSign,
    mechanism::Mechanisms,
    object::{
        authenticates_always, check_generated_flags, check_origin, check_signing_flags,
        id_attribute, is_key, label_attribute, private_template, public_template, read_flags,
        read_public_key,
    },
};
use crate::{
    keys::{KeyAlgorithm, Signature, SignatureScheme},
    secret::Secret,
    token::{Generated, Input, KeyId, KeyLabel, KeyRef, KeyStore, Purpose, Token, TokenError},
};

/// A logged-in session on one token, for one thread.
pub struct Session {
    pub(super) session: cryptoki::session::Session,
    pub(super) module: Module,
    pub(super) slot: Slot,
    pub(super) mechanisms: Mechanisms,
    /// Private keys found before. Handles are good as long as the session is (PKCS#11 section
    /// 5.7.1); after any failure they are looked for again.
    found: Vec<(KeyRef, Private)>,
    /// For keys that want a login for each signature.
    logins: Option<Logins>,
    /// The token has not refused C_GenerateRandom.
    gives_random: bool,
}

/// Does something around a login: it is handed C_Login, and calls it once or refuses.
pub type LoginGuard = dyn Fn(&dyn Fn() -> Result<(), TokenError>) -> Result<(), TokenError> + Send;

struct Logins {
    pin: Secret,
    guard: Box<LoginGuard>,
    lone_sign: LoneSign,
}

/// A private key that is fit to sign with.
#[derive(Clone, Copy)]
struct Private {
    handle: ObjectHandle,
    /// CKA_ALWAYS_AUTHENTICATE.
    authenticates_always: bool,
}

/// Both halves of a key pair.
#[derive(Clone, Copy)]
pub(super) struct Pair {
    pub(super) public: ObjectHandle,
    pub(super) private: ObjectHandle,
}

impl Token for Session {
    fn find(&mut self, key: &KeyRef) -> Result<(), TokenError> {
        self.private(key).map(|_| ())
    }

    fn sign(
        &mut self,
        key: &KeyRef,
        scheme: SignatureScheme,
        input: Input<'_>,
    ) -> Result<Signature, TokenError> {
        input.check(scheme)?;
        if !scheme.fits(key.public_key.algorithm()) {
            let algorithm = key.public_key.algorithm();
            return Err(TokenError::MechanismMissing { what: format!("{scheme} by {algorithm}") });
        }
        let (mechanism, bytes) = self.mechanisms.signing(scheme, input)?;
        let Private { handle, authenticates_always } = self.private(key)?;
        let made = if authenticates_always {
            self.sign_after_login(key, &mechanism, handle, &bytes)
        } else {
            self.session.sign(&mechanism, handle, &bytes).map_err(token_error)
        };
        if made.is_err() {
            self.found.clear();
        }
        made.map(Signature)
    }
}

impl KeyStore for Session {
    fn vacant(&mut self, label: &KeyLabel, id: &KeyId) -> Result<(), TokenError> {
        for attribute in [label_attribute(label), id_attribute(id)] {
            if !self.objects(vec![attribute])?.is_empty() {
                return Err(TokenError::KeyExists { label: label.clone() });
            }
        }
        Ok(())
    }

    fn generate(
        &mut self,
        algorithm: KeyAlgorithm,
        label: &KeyLabel,
        id: &KeyId,
    ) -> Result<Generated, TokenError> {
        self.vacant(label, id)?;
        let mechanism = self.mechanisms.generation(algorithm)?;
        let writer = self.writer()?;
        let pair = generate_pair(&writer, &mechanism, algorithm, label, id)?;
        self.prove(pair, &mechanism, algorithm, label, id).map_err(|error| {
            self.found.clear();
            undo(&writer, pair, label, error)
        })
    }

    fn destroy(&mut self, key: &KeyRef) -> Result<(), TokenError> {
        let (pair, _) = self.locate(key)?;
        self.found.clear();
        let writer = self.writer()?;
        // The private half first: an orphaned public key signs nothing.
        writer.destroy_object(pair.private).map_err(token_error)?;
        writer.destroy_object(pair.public).map_err(token_error)
    }
}

impl Session {
    pub(super) fn new(
        session: cryptoki::session::Session,
        module: Module,
        slot: Slot,
        mechanisms: Mechanisms,
    ) -> Self {
        let (found, logins, gives_random) = (Vec::new(), None, true);
        Self { session, module, slot, mechanisms, found, logins, gives_random }
    }

    /// Random bytes of the token; none where it gives none, or not to this user.
    ///
    /// # Errors
    ///
    /// The token is gone.
    pub fn random(&self, count: u32) -> Result<Vec<u8>, TokenError> {
        match self.session.generate_random_vec(count).map_err(token_error) {
            Ok(bytes) => Ok(bytes),
            Err(error @ (TokenError::Context { .. } | TokenError::Session { .. })) => Err(error),
            Err(_) => Ok(Vec::new()),
        }
    }

    /// Whether a key that was found wants a login for each signature (CKA_ALWAYS_AUTHENTICATE).
    pub fn wants_pin(&self) -> bool {
        self.found.iter().any(|(_, private)| private.authenticates_always)
    }

    /// Keeps the PIN for keys that want a login for each signature; `guard` is around each of
    /// these logins. Without it, they do not sign.
    ///
    /// # Errors
    ///
    /// The module has no C_Sign.
    pub fn keep_pin(&mut self, pin: Secret, guard: Box<LoginGuard>) -> Result<(), TokenError> {
        let lone_sign = LoneSign::of(&self.module.0.path).map_err(token_error)?;
        self.logins = Some(Logins { pin, guard, lone_sign });
        Ok(())
    }

    /// Makes a call that keeps an idle session alive and tells whether it is; `key` is one that is
    /// known to be there.
    ///
    /// C_GetSessionInfo tells of a lost login, but most modules answer it themselves. Random bytes
    /// are what no module can have in its memory, so that this call does cross to the token: objects
    /// are answered from a cache by some (nethsm-pkcs11, nShield). A token that gives no random
    /// bytes, or not to this user, is asked for the key.
    ///
    /// # Errors
    ///
    /// The session is dead, or the token.
    pub fn keep_alive(&mut self, key: &KeyRef) -> Result<(), TokenError> {
        let state = self.session.get_session_info().map_err(token_error)?.session_state();
        if !matches!(state, SessionState::RoUser | SessionState::RwUser) {
            let (call, code) = ("C_GetSessionInfo".into(), "no login".to_owned());
            return Err(TokenError::Session { call, code });
        }
        if self.gives_random {
            match self.session.generate_random_vec(8).map_err(token_error) {
                Ok(_) => return Ok(()),
                Err(error @ TokenError::Context { .. }) => return Err(error),
                // Refused, perhaps: what a dead session does not answer, either.
                Err(_) => {}
            }
        }
        self.half(key, ObjectClass::PRIVATE_KEY, "private")?;
        self.gives_random = false;
        Ok(())
    }

    /// The one key pair that has this label, and is fit to sign with: for whoever is yet to learn
    /// which key that is. A CA's key is never taken so, but by its pinned public key.
    ///
    /// # Errors
    ///
    /// As [`Token::find`].
    pub fn look_up(&self, label: &KeyLabel) -> Result<KeyRef, TokenError> {
        let class = Attribute::Class(ObjectClass::PUBLIC_KEY);
        let public = match self.objects(vec![class, label_attribute(label)])?[..] {
            [object] => object,
            [] => {
                let what = "no public key has this label".to_owned();
                return Err(TokenError::KeyMissing { label: label.clone(), what });
            }
            _ => {
                let what = "more than one public key has this label".to_owned();
                return Err(TokenError::KeyAmbiguous { label: label.clone(), what });
            }
        };
        let unfit = |what: String| TokenError::KeyUnfit { label: label.clone(), what };
        let public_key = read_public_key(&self.session, public)?
            .map_err(|error| unfit(format!("its public key: {error}")))?;
        let told =
            self.session.get_attributes(public, &[AttributeType::Id]).map_err(token_error)?;
        let id = match told.first() {
            Some(Attribute::Id(id)) => KeyId::new(id).map_err(|error| unfit(error.to_string()))?,
            _ => return Err(unfit("the token does not tell CKA_ID".to_owned())),
        };
        let key = KeyRef { label: label.clone(), id, public_key };
        self.locate(&key)?;
        Ok(key)
    }

    /// Destroys what is left of a key for logging in, be it one half: its certificates were in the
    /// memory of a process that is gone. Tells whether there was anything.
    ///
    /// # Errors
    ///
    /// The label is one of another purpose, or the token fails.
    pub fn clear(&mut self, label: &KeyLabel) -> Result<bool, TokenError> {
        if label.purpose() != Purpose::Login {
            let what = "keys of its purpose are not cleared away".to_owned();
            return Err(TokenError::KeyUnfit { label: label.clone(), what });
        }
        self.found.clear();
        let objects = self.objects(vec![label_attribute(label)])?;
        let writer = self.writer()?;
        for object in &objects {
            writer.destroy_object(*object).map_err(token_error)?;
        }
        Ok(!objects.is_empty())
    }

    fn sign_after_login(
        &self,
        key: &KeyRef,
        mechanism: &Mechanism<'_>,
        handle: ObjectHandle,
        bytes: &[u8],
    ) -> Result<Vec<u8>, TokenError> {
        let logins = self.logins.as_ref().ok_or_else(|| TokenError::KeyUnfit {
            label: key.label.clone(),
            what: "CKA_ALWAYS_AUTHENTICATE is true: it wants the PIN for each signature".to_owned(),
        })?;
        self.session.sign_init(mechanism, handle).map_err(token_error)?;
        self.module.log_in_again(self.slot, &self.session, &logins.pin, &*logins.guard)?;
        logins.lone_sign.sign(&self.session, bytes).map_err(token_error)
    }

    fn private(&mut self, key: &KeyRef) -> Result<Private, TokenError> {
        if let Some((_, private)) = self.found.iter().find(|(known, _)| known == key) {
            return Ok(*private);
        }
        let (pair, authenticates_always) = self.locate(key)?;
        let private = Private { handle: pair.private, authenticates_always };
        self.found.push((key.clone(), private));
        Ok(private)
    }

    /// Finds both halves, and checks that the private one is fit to sign with; tells whether it
    /// wants a login for each signature.
    fn locate(&self, key: &KeyRef) -> Result<(Pair, bool), TokenError> {
        let pair = self.pair(key)?;
        let flags = read_flags(&self.session, pair.private)?;
        check_signing_flags(&flags)
            .map_err(|what| TokenError::KeyUnfit { label: key.label.clone(), what })?;
        Ok((pair, authenticates_always(&flags)))
    }

    /// Finds both halves by CKA_ID and public key, and checks that they are alone.
    pub(super) fn pair(&self, key: &KeyRef) -> Result<Pair, TokenError> {
        let public = self.half(key, ObjectClass::PUBLIC_KEY, "public")?;
        let unfit = |what: String| TokenError::KeyUnfit { label: key.label.clone(), what };
        match read_public_key(&self.session, public)? {
            Ok(found) if found == key.public_key => {}
            Ok(found) => {
                return Err(unfit(format!(
                    "its public key is {}, not the pinned {}",
                    found.fingerprint(),
                    key.public_key.fingerprint()
                )));
            }
            Err(error) => return Err(unfit(format!("its public key: {error}"))),
        }
        let private = self.half(key, ObjectClass::PRIVATE_KEY, "private")?;
        let pair = Pair { public, private };
        self.refuse_rivals(key, pair)?;
        Ok(pair)
    }

    /// The one object of the class that has the key's CKA_ID; its label must be the key's, too.
    fn half(
        &self,
        key: &KeyRef,
        class: ObjectClass,
        name: &str,
    ) -> Result<ObjectHandle, TokenError> {
        let by_id = vec![Attribute::Class(class), id_attribute(&key.id)];
        match self.objects(by_id)?[..] {
            [object] => Ok(object),
            [] => Err(TokenError::KeyMissing {
                label: key.label.clone(),
                what: format!("no {name} key has the CKA_ID {}", key.id),
            }),
            _ => Err(TokenError::KeyAmbiguous {
                label: key.label.clone(),
                what: format!("more than one {name} key has the CKA_ID {}", key.id),
            }),
        }
    }

    /// Labels and ids are no keys of a table: tokens let several objects have the same.
    fn refuse_rivals(&self, key: &KeyRef, pair: Pair) -> Result<(), TokenError> {
        let labelled = self.objects(vec![label_attribute(&key.label)])?;
        if !labelled.contains(&pair.public) || !labelled.contains(&pair.private) {
            return Err(TokenError::KeyMissing {
                label: key.label.clone(),
                what: format!("the key with CKA_ID {} has another label", key.id),
            });
        }
        let same_id = self.objects(vec![id_attribute(&key.id)])?;
        for object in labelled.into_iter().chain(same_id) {
            if object != pair.public && object != pair.private && is_key(&self.session, object)? {
                return Err(TokenError::KeyAmbiguous {
                    label: key.label.clone(),
                    what: "another object has its label or CKA_ID".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Lets every key be looked for again.
    pub(super) fn forget(&mut self) {
        self.found.clear();
    }

    pub(super) fn objects(
        &self,
        template: Vec<Attribute>,
    ) -> Result<Vec<ObjectHandle>, TokenError> {
        self.session.find_objects(&template).map_err(token_error)
    }

    /// A session that may change the token: the login is shared with it.
    pub(super) fn writer(&self) -> Result<cryptoki::session::Session, TokenError> {
        self.module.0.pkcs11.open_rw_session(self.slot).map_err(token_error)
    }

    /// Reads a new key back, through this other session, and lets it sign a fresh challenge.
    pub(super) fn prove(
        &mut self,
        pair: Pair,
        mechanism: &Mechanism<'_>,
        algorithm: KeyAlgorithm,
        label: &KeyLabel,
        id: &KeyId,
    ) -> Result<Generated, TokenError> {
        let unfit = |what: String| TokenError::KeyUnfit { label: label.clone(), what };
        let public_key = read_public_key(&self.session, pair.public)?
            .map_err(|error| unfit(format!("its public key: {error}")))?;
        if public_key.algorithm() != algorithm {
            return Err(unfit(format!("it is {}, not {algorithm}", public_key.algorithm())));
        }
        public_key.check_offered().map_err(|error| unfit(error.to_string()))?;
        let attributes = read_flags(&self.session, pair.private)?;
        check_generated_flags(&attributes).map_err(unfit)?;
        let asked = mechanism.mechanism_type();
        check_origin(&self.session, pair.private, asked)?.map_err(unfit)?;

        let key = KeyRef { label: label.clone(), id: id.clone(), public_key };
        if self.locate(&key)?.0.private != pair.private {
            return Err(unfit("another private key has its CKA_ID".to_owned()));
        }
        self.prove_possession(&key)?;
        Ok(Generated { key, attributes })
    }

    /// Lets a key sign a fresh challenge, and verifies the signature.
    ///
    /// # Errors
    ///
    /// As [`Token::sign`]; or the signature is not the key's.
    pub fn prove_possession(&mut self, key: &KeyRef) -> Result<(), TokenError> {
        let mut challenge = [0; 32];
        aws_lc_rs::rand::fill(&mut challenge).map_err(|_| TokenError::Refused {
            call: "the system's random generator".into(),
            code: "a failure".to_owned(),
        })?;
        // Begins with a text that no certificate, digest or checkpoint begins with.
        let message = [b"Chancery proof of possession 1\0".as_slice(), &challenge].concat();
        let scheme = key.public_key.default_scheme();
        let signature = self.sign(key, scheme, Input::Message(&message))?;
        key.public_key.verify(scheme, &message, &signature).map_err(|error| TokenError::KeyUnfit {
            label: key.label.clone(),
            what: format!("proof of possession: {error}"),
        })
    }
}

/// Tries the hardened template; a token that does not know one of its attributes gets the core.
/// The flags that are read back afterwards decide, whichever template it was.
fn generate_pair(
    session: &cryptoki::session::Session,
    mechanism: &Mechanism<'_>,
    algorithm: KeyAlgorithm,
    label: &KeyLabel,
    id: &KeyId,
) -> Result<Pair, TokenError> {
    let generate = |hardened| {
        session.generate_key_pair(
            mechanism,
            &public_template(algorithm, label, id, hardened),
            &private_template(algorithm, label, id, hardened),
        )
    };
    let (public, private) = match generate(true) {
        Err(Error::Pkcs11(RvError::AttributeTypeInvalid, _)) => generate(false),
        result => result,
    }
    .map_err(token_error)?;
    Ok(Pair { public, private })
}

/// Destroys what was made, so that a key that failed its checks cannot be used by mistake.
fn undo(
    session: &cryptoki::session::Session,
    pair: Pair,
    label: &KeyLabel,
    error: TokenError,
) -> TokenError {
    let private = session.destroy_object(pair.private);
    let public = session.destroy_object(pair.public);
    match private.and(public) {
        Ok(()) => error,
        Err(left) => TokenError::KeyUnfit {
            label: label.clone(),
            what: format!("{error}; and it could not be destroyed: {}", token_error(left)),
        },
    }
}
