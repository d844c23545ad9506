//! Each kind of key: made as a ceremony makes it, and by a template that says no more than it must.

use std::collections::BTreeMap;

use cryptoki::object::Attribute;
use serde::{Deserialize, Serialize};

use super::{
    super::{
        Session,
        failure::token_error,
        object::{private_template, public_template, read_flags},
    },
    Said, names, tidy,
};
use crate::{
    keys::KeyAlgorithm,
    token::{KeyStore as _, TokenError},
};

/// What a token makes of a kind of key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyProfile {
    /// It was made as a ceremony makes it, read back, and signed a challenge.
    pub made: Said,
    /// The private key's attributes then, by their PKCS#11 names.
    pub attributes: BTreeMap<String, bool>,
    /// What must be refused, and what came of it.
    pub misuse: BTreeMap<String, Said>,
    /// Both halves could be destroyed.
    pub destroyed: Said,
    /// The private key's attributes where the template says nothing of them; empty where no such key is
    /// made, and for all but the smallest key of a type, which the others are like.
    pub defaults: BTreeMap<String, bool>,
}

/// Makes such keys, and destroys them.
pub(super) fn profile(
    session: &mut Session,
    algorithm: KeyAlgorithm,
) -> Result<KeyProfile, TokenError> {
    let mut profile = KeyProfile {
        made: Said::Done,
        attributes: BTreeMap::new(),
        misuse: BTreeMap::new(),
        destroyed: Said::Untried("there is none".to_owned()),
        defaults: BTreeMap::new(),
    };
    let (label, id) = names()?;
    match session.generate(algorithm, &label, &id) {
        Ok(generated) => {
            profile.attributes = named(&generated.attributes);
            for attempt in session.attempt_misuse(&generated.key, true)? {
                let said = attempt.refused.map_or(Said::Done, Said::Refused);
                profile.misuse.insert(attempt.what.to_owned(), said);
            }
            profile.destroyed = match session.destroy(&generated.key) {
                Ok(()) => Said::Done,
                Err(error) => Said::Refused(error.to_string()),
            };
        }
        Err(error) => {
            profile.made = Said::Refused(error.to_string());
            // A token that is gone made nothing of it.
            session.session.get_session_info().map_err(token_error)?;
        }
    }
    if SMALLEST.contains(&algorithm) {
        profile.defaults = defaults(session, algorithm)?;
    }
    tidy(&session.writer()?)?;
    Ok(profile)
}

/// What the module chooses where nobody says anything.
fn defaults(
    session: &Session,
    algorithm: KeyAlgorithm,
) -> Result<BTreeMap<String, bool>, TokenError> {
    let Ok(mechanism) = session.mechanisms.generation(algorithm) else {
        return Ok(BTreeMap::new());
    };
    let (label, id) = names()?;
    let writer = session.writer()?;
    let mut private = private_template(algorithm, &label, &id, false);
    let chosen = |it: &Attribute| {
        matches!(it, Attribute::Extractable(_) | Attribute::Sensitive(_) | Attribute::Sign(_))
    };
    private.retain(|attribute| !chosen(attribute));
    let public = public_template(algorithm, &label, &id, false);
    match writer.generate_key_pair(&mechanism, &public, &private) {
        Ok((_, private)) => Ok(named(&read_flags(&writer, private)?)),
        Err(_) => Ok(BTreeMap::new()),
    }
}

/// One of each CKK_ type.
const SMALLEST: [KeyAlgorithm; 3] =
    [KeyAlgorithm::EcP256, KeyAlgorithm::Ed25519, KeyAlgorithm::Rsa2048];

fn named(attributes: &[(&'static str, bool)]) -> BTreeMap<String, bool> {
    attributes.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}
