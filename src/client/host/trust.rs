//! Whose certificates sshd takes: the SSH user CAs of the appliance.

use std::collections::BTreeMap;

use api::{Authorities, Authority};
use pki::keys::{KeyError, PublicKey};

/// The SSH user CAs by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Trust(BTreeMap<String, PublicKey>);

impl Trust {
    /// Picks them from all authorities.
    pub(super) fn of(authorities: &Authorities) -> Result<Self, KeyError> {
        let mut trust = Self::default();
        for authority in &authorities.authorities {
            if let Authority::SshUser { name, public_key } = authority {
                trust.0.insert(name.clone(), PublicKey::from_openssh(public_key)?);
            }
        }
        Ok(trust)
    }

    /// The keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.0.values()
    }

    /// The name of the authority that has this key.
    pub(super) fn name_of(&self, key: &PublicKey) -> Option<&str> {
        self.0.iter().find(|(_, it)| *it == key).map(|(name, _)| name.as_str())
    }

    /// The file that `TrustedUserCAKeys` names.
    pub(super) fn file(&self) -> Vec<u8> {
        let lines = self.0.iter().map(|(name, key)| format!("{} {name}\n", key.to_openssh()));
        lines.collect::<String>().into_bytes()
    }
}
