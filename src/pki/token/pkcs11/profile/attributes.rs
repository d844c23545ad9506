//! What becomes of each attribute of a private key: in the template, and when it is set afterwards.

use std::collections::BTreeMap;

use cryptoki::{
    error::Error,
    mechanism::Mechanism,
    object::{Attribute, ObjectHandle},
    session::Session as RawSession,
};
use serde::{Deserialize, Serialize};

use super::{
    super::{
        Session,
        object::{private_template, public_template},
    },
    Said, has, names, tidy,
};
use crate::{
    keys::KeyAlgorithm,
    token::{KeyId, KeyLabel, TokenError},
};

/// What becomes of an attribute.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeProfile {
    /// A template says true.
    pub made_true: Said,
    /// A template says false.
    pub made_false: Said,
    /// It is set to true, on a key that was made with false.
    pub set_true: Said,
    /// It is set to false, on a key that was made with true.
    pub set_false: Said,
}

/// Makes keys with each attribute, sets it on others, and destroys them.
pub(super) fn profile(
    session: &Session,
    algorithm: KeyAlgorithm,
) -> Result<BTreeMap<String, AttributeProfile>, TokenError> {
    let bench = Bench::new(session, algorithm)?;
    let mut attributes = BTreeMap::new();
    for (name, attribute) in ATTRIBUTES {
        let profile = AttributeProfile {
            made_true: bench.made(&attribute(true)),
            made_false: bench.made(&attribute(false)),
            set_true: bench.set(&attribute(false), &attribute(true)),
            set_false: bench.set(&attribute(true), &attribute(false)),
        };
        attributes.insert((*name).to_owned(), profile);
        tidy(&bench.writer)?;
    }
    Ok(attributes)
}

/// Where keys are made that nobody needs.
pub(super) struct Bench {
    pub(super) writer: RawSession,
    mechanism: Mechanism<'static>,
    algorithm: KeyAlgorithm,
    pub(super) label: KeyLabel,
    pub(super) id: KeyId,
}

impl Bench {
    pub(super) fn new(session: &Session, algorithm: KeyAlgorithm) -> Result<Self, TokenError> {
        let (label, id) = names()?;
        let mechanism = session.mechanisms.generation(algorithm)?;
        Ok(Self { writer: session.writer()?, mechanism, algorithm, label, id })
    }

    /// A key pair of the shortest template that every token takes, but for these attributes.
    pub(super) fn pair(&self, with: &[Attribute]) -> Result<(ObjectHandle, ObjectHandle), Error> {
        let mut private = private_template(self.algorithm, &self.label, &self.id, false);
        let public = public_template(self.algorithm, &self.label, &self.id, false);
        let kinds: Vec<_> = with.iter().map(Attribute::attribute_type).collect();
        private.retain(|attribute| !kinds.contains(&attribute.attribute_type()));
        private.extend(with.iter().cloned());
        self.writer.generate_key_pair(&self.mechanism, &public, &private)
    }

    /// A key pair with this attribute; what nobody can destroy goes with the session.
    fn lasting(&self, attribute: &Attribute) -> Result<(ObjectHandle, ObjectHandle), Error> {
        if matches!(attribute, Attribute::Destroyable(false)) {
            return self.pair(&[Attribute::Token(false), attribute.clone()]);
        }
        self.pair(std::slice::from_ref(attribute))
    }

    fn made(&self, attribute: &Attribute) -> Said {
        match self.lasting(attribute) {
            Ok((_, private)) => self.told(private, attribute),
            Err(error) => Said::refused(&error),
        }
    }

    fn set(&self, made: &Attribute, attribute: &Attribute) -> Said {
        if matches!(attribute, Attribute::Destroyable(false)) {
            return Said::Untried("nobody could destroy it any more".to_owned());
        }
        match self.lasting(made) {
            Ok((_, private)) => {
                let change = std::slice::from_ref(attribute);
                match self.writer.update_attributes(private, change) {
                    Ok(()) => self.told(private, attribute),
                    Err(error) => Said::refused(&error),
                }
            }
            Err(error) => Said::untried(&error),
        }
    }

    fn told(&self, private: ObjectHandle, attribute: &Attribute) -> Said {
        match has(&self.writer, private, attribute) {
            Ok(true) => Said::Done,
            Ok(false) => Said::Ignored,
            Err(error) => Said::refused(&error),
        }
    }
}

/// An attribute's PKCS#11 name, and how it is said.
type Named = (&'static str, fn(bool) -> Attribute);

const ATTRIBUTES: &[Named] = &[
    ("CKA_COPYABLE", Attribute::Copyable),
    ("CKA_DECRYPT", Attribute::Decrypt),
    ("CKA_DERIVE", Attribute::Derive),
    ("CKA_DESTROYABLE", Attribute::Destroyable),
    ("CKA_EXTRACTABLE", Attribute::Extractable),
    ("CKA_MODIFIABLE", Attribute::Modifiable),
    ("CKA_PRIVATE", Attribute::Private),
    ("CKA_SENSITIVE", Attribute::Sensitive),
    ("CKA_SIGN", Attribute::Sign),
    ("CKA_SIGN_RECOVER", Attribute::SignRecover),
    ("CKA_UNWRAP", Attribute::Unwrap),
    ("CKA_WRAP_WITH_TRUSTED", Attribute::WrapWithTrusted),
];
