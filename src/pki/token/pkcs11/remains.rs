//! What is in a token after something was interrupted: said, taken over, or destroyed.

use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};

use super::{
    Session,
    failure::token_error,
    object::{id_attribute, is_key, label_attribute},
    session::Pair,
};
use crate::{
    keys::KeyAlgorithm,
    token::{Generated, KeyId, KeyLabel, TokenError},
};

/// What an interrupted generation left under a label and a CKA_ID that nothing else has.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remains {
    /// Nothing: the token never made the key, or forgot it.
    Nothing,
    /// A part of a key pair, which nothing can be done with.
    Orphan,
    /// A private and a public key.
    Pair,
}

/// An object of a token.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectFound {
    /// CKA_CLASS by its PKCS#11 name.
    pub class: String,
    /// CKA_LABEL, as text.
    pub label: String,
    /// CKA_ID in hexadecimal.
    pub id: String,
}

impl Session {
    /// All objects that somebody put into the token, as far as the user of this session can see
    /// them: what the token says of itself in the form of objects is left out.
    ///
    /// # Errors
    ///
    /// The token's own failure.
    pub fn inventory(&self) -> Result<Vec<ObjectFound>, TokenError> {
        let mut found = Vec::new();
        for object in self.objects(Vec::new())? {
            let told = self.told(object)?;
            if !ITS_OWN.contains(&told.class.as_str()) {
                found.push(told);
            }
        }
        found.sort();
        Ok(found)
    }

    /// What an interrupted [`generate`](crate::token::KeyStore::generate) of this label and CKA_ID
    /// left.
    ///
    /// # Errors
    ///
    /// [`TokenError::KeyAmbiguous`] when something has the label or the CKA_ID and is not what a
    /// generation makes; or the token's own failure.
    pub fn remains(&self, label: &KeyLabel, id: &KeyId) -> Result<Remains, TokenError> {
        let (publics, privates) = self.left(label, id)?;
        Ok(match (publics.len(), privates.len()) {
            (0, 0) => Remains::Nothing,
            (1, 1) => Remains::Pair,
            _ => Remains::Orphan,
        })
    }

    /// Takes over the key pair that an interrupted generation left, if it passes every check that
    /// a new one passes.
    ///
    /// # Errors
    ///
    /// It is not whole, or fails a check; it stays where it is.
    pub fn adopt(
        &mut self,
        algorithm: KeyAlgorithm,
        label: &KeyLabel,
        id: &KeyId,
    ) -> Result<Generated, TokenError> {
        let (publics, privates) = self.left(label, id)?;
        let ([public], [private]) = (&publics[..], &privates[..]) else {
            return Err(TokenError::KeyMissing {
                label: label.clone(),
                what: "an interrupted generation left no whole pair".to_owned(),
            });
        };
        let mechanism = self.mechanisms.generation(algorithm)?;
        let pair = Pair { public: *public, private: *private };
        self.prove(pair, &mechanism, algorithm, label, id)
    }

    /// Destroys what an interrupted generation left.
    ///
    /// # Errors
    ///
    /// As [`remains`](Self::remains).
    pub fn discard(&mut self, label: &KeyLabel, id: &KeyId) -> Result<(), TokenError> {
        let (publics, privates) = self.left(label, id)?;
        self.forget();
        let writer = self.writer()?;
        // The private half first: an orphaned public key signs nothing.
        for object in privates.into_iter().chain(publics) {
            writer.destroy_object(object).map_err(token_error)?;
        }
        Ok(())
    }

    /// Public and private keys that have both the label and the CKA_ID.
    fn left(
        &self,
        label: &KeyLabel,
        id: &KeyId,
    ) -> Result<(Vec<ObjectHandle>, Vec<ObjectHandle>), TokenError> {
        let of = |class| {
            self.objects(vec![Attribute::Class(class), label_attribute(label), id_attribute(id)])
        };
        let (publics, privates) = (of(ObjectClass::PUBLIC_KEY)?, of(ObjectClass::PRIVATE_KEY)?);
        let labelled = self.objects(vec![label_attribute(label)])?;
        let numbered = self.objects(vec![id_attribute(id)])?;
        for object in labelled.into_iter().chain(numbered) {
            let ours = publics.contains(&object) || privates.contains(&object);
            if !ours && is_key(&self.session, object)? {
                return Err(TokenError::KeyAmbiguous {
                    label: label.clone(),
                    what: "another object has its label or CKA_ID".to_owned(),
                });
            }
        }
        Ok((publics, privates))
    }

    fn told(&self, object: ObjectHandle) -> Result<ObjectFound, TokenError> {
        let wanted = [AttributeType::Class, AttributeType::Label, AttributeType::Id];
        let attributes = self.session.get_attributes(object, &wanted).map_err(token_error)?;
        let (mut class, mut label, mut id) = (String::new(), String::new(), String::new());
        for attribute in attributes {
            match attribute {
                Attribute::Class(found) => class = found.to_string(),
                Attribute::Label(found) => label = String::from_utf8_lossy(&found).into_owned(),
                Attribute::Id(found) => id = hex::encode(found),
                _ => {}
            }
        }
        Ok(ObjectFound { class, label, id })
    }
}

/// The classes of objects that are the token's own (PKCS#11 v3.2 section 4).
const ITS_OWN: [&str; 4] = ["CKO_HW_FEATURE", "CKO_MECHANISM", "CKO_PROFILE", "CKO_VALIDATION"];
