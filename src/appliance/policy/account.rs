use std::{collections::BTreeSet, str::FromStr};

use pki::names::{NameError, Upn};
use serde::{Deserialize, Serialize};

use super::{Caller, pattern::NAME};
use crate::directory::Act;

/// `[role.session.directory]`: what an open session gives its requester in the organisation's
/// directory. Its end takes back the same.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryRule {
    account: AccountPattern,
    /// The account is disabled unless a session is open.
    #[serde(default)]
    enable_account: bool,
    /// The account is a member of these groups, by distinguished name, while a session is open.
    #[serde(default)]
    groups: BTreeSet<String>,
}

impl DirectoryRule {
    /// What a session of this caller gives; nothing if the caller's name is none of an account.
    pub(super) fn grant(&self, caller: &Caller) -> Option<DirectoryGrant> {
        Some(DirectoryGrant {
            upn: self.account.0.replace(NAME, caller.name()).parse().ok()?,
            enable_account: self.enable_account,
            groups: self.groups.clone(),
        })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !self.enable_account && self.groups.is_empty() {
            return Err("directory: neither `enable_account` nor `groups` is set".to_owned());
        }
        match self.groups.iter().find(|group| !is_distinguished_name(group)) {
            Some(group) => {
                Err(format!("directory: {group:?} is no group; write CN=Group,DC=corp,DC=example"))
            }
            None => Ok(()),
        }
    }
}

/// A user principal name; `{name}` in it is the caller's.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
struct AccountPattern(String);

impl TryFrom<String> for AccountPattern {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl FromStr for AccountPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.replace(NAME, "name").parse::<Upn>()?;
        Ok(Self(text.to_owned()))
    }
}

/// What a session gives in the directory.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DirectoryGrant {
    /// To which account.
    pub upn: Upn,
    /// It is enabled.
    pub enable_account: bool,
    /// It is a member of these groups, by distinguished name.
    pub groups: BTreeSet<String>,
}

impl DirectoryGrant {
    /// What is done when it opens.
    pub fn on_open(&self) -> Vec<Act> {
        let groups = self.groups.iter().cloned().map(|group| Act::AddToGroup { group });
        groups.chain(self.enable_account.then_some(Act::EnableAccount)).collect()
    }

    /// What is done at its end: it is taken back, first the account.
    pub fn on_end(&self) -> Vec<Act> {
        let groups = self.groups.iter().cloned().map(|group| Act::RemoveFromGroup { group });
        self.enable_account.then_some(Act::DisableAccount).into_iter().chain(groups).collect()
    }

    /// What is left of it without what another session still gives.
    #[must_use]
    pub fn without(mut self, other: &Self) -> Self {
        if self.upn == other.upn {
            self.enable_account &= !other.enable_account;
            self.groups.retain(|group| !other.groups.contains(group));
        }
        self
    }
}

/// `attribute=value` in each part; more the directory knows better.
fn is_distinguished_name(text: &str) -> bool {
    text.contains('=') && !text.contains(|c: char| c.is_control())
}
