use std::{collections::HashSet, sync::Arc};

use ldap3::{
    Ldap, LdapConnAsync, LdapConnSettings, LdapError, LdapResult, Mod, ResultEntry, Scope,
    SearchEntry, SearchOptions, ldap_escape,
};
use pki::{names::Upn, secret::Secret};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs as provider};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{Act, Applied, DirectoryError, is_for_now};
use crate::config::{self, Disabled};

/// A connection to the directory, as the account that may change others.
pub(super) struct Connection<'a> {
    ldap: Ldap,
    settings: &'a config::Directory,
}

/// An account, as the directory has it.
struct Account {
    name: String,
    /// The values of the attribute that says whether it is disabled.
    disabled: Vec<String>,
}

/// What a search has found.
pub(super) struct Entry {
    /// Its distinguished name.
    pub(super) name: String,
    values: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    fn new(found: ResultEntry) -> Self {
        let SearchEntry { dn, attrs, bin_attrs } = SearchEntry::construct(found);
        // Binary values that are UTF-8 by chance stand among the texts.
        let texts = attrs.into_iter().map(|(name, values)| {
            (name, values.into_iter().map(String::into_bytes).collect::<Vec<_>>())
        });
        Self { name: dn, values: texts.chain(bin_attrs).collect() }
    }

    #[cfg(test)]
    pub(super) fn of(name: &str, values: Vec<(String, Vec<Vec<u8>>)>) -> Self {
        Self { name: name.to_owned(), values }
    }

    /// The values of an attribute; none if it is missing.
    pub(super) fn values(&self, attribute: &str) -> Vec<Vec<u8>> {
        let own = self.values.iter().filter(|(name, _)| name.eq_ignore_ascii_case(attribute));
        own.flat_map(|(_, values)| values.clone()).collect()
    }

    /// Those that are text.
    pub(super) fn texts(&self, attribute: &str) -> Vec<String> {
        let values = self.values(attribute).into_iter();
        values.filter_map(|value| String::from_utf8(value).ok()).collect()
    }
}

impl<'a> Connection<'a> {
    pub(super) async fn open(
        settings: &'a config::Directory,
        password: &Secret,
    ) -> Result<Self, DirectoryError> {
        let mut how = LdapConnSettings::new().set_starttls(settings.start_tls);
        if settings.url.is_ldaps() || settings.start_tls {
            how = how.set_config(Arc::new(tls(settings)?));
        }
        let url = settings.url.to_string();
        let opened = LdapConnAsync::with_settings(how, &url).await;
        let (driver, ldap) = opened.map_err(|error| unreachable(settings, error))?;
        tokio::spawn(async move {
            if let Err(error) = driver.drive().await {
                tracing::debug!(%error, "the connection to the directory broke");
            }
        });
        let mut connection = Self { ldap, settings };
        connection.bind(password).await?;
        Ok(connection)
    }

    async fn bind(&mut self, password: &Secret) -> Result<(), DirectoryError> {
        let bound = self.ldap.simple_bind(&self.settings.bind_dn, password.expose()).await;
        let answer = bound.map_err(|error| unreachable(self.settings, error))?;
        match answer.rc {
            0 => Ok(()),
            _ if is_for_now(&answer) => Err(refused("to log in", answer)),
            // Whatever it is that the directory dislikes, each further try may lock the account.
            _ => Err(DirectoryError::Password {
                bind_dn: self.settings.bind_dn.clone(),
                path: self.settings.password_file.clone(),
                answer: Some(Box::new(answer)),
            }),
        }
    }

    pub(super) async fn apply(&mut self, upn: &Upn, act: &Act) -> Result<Applied, DirectoryError> {
        let account = self.find(upn).await?;
        match act {
            Act::AddToGroup { group } => self.set_member(group, &account.name, true).await,
            Act::DisableAccount => self.set_disabled(upn, account, true).await,
            Act::EnableAccount => self.set_disabled(upn, account, false).await,
            Act::RemoveFromGroup { group } => self.set_member(group, &account.name, false).await,
        }
    }

    async fn find(&mut self, upn: &Upn) -> Result<Account, DirectoryError> {
        let attribute = self.settings.disabled.attribute();
        let entry = self.entry(upn, &[attribute]).await?;
        Ok(Account { disabled: entry.texts(attribute), name: entry.name })
    }

    pub(super) fn settings(&self) -> &'a config::Directory {
        self.settings
    }

    /// The one entry with this user principal name.
    pub(super) async fn entry(
        &mut self,
        upn: &Upn,
        attributes: &[&str],
    ) -> Result<Entry, DirectoryError> {
        let name = &self.settings.account_attribute;
        let filter = format!("({name}={})", ldap_escape(upn.as_str()));
        let base = &self.settings.base_dn;
        let mut options = SearchOptions::new();
        options.sizelimit = 2;
        let searching = self.ldap.with_search_options(options).search(
            base,
            Scope::Subtree,
            &filter,
            attributes,
        );
        let found = searching.await.map_err(|error| unreachable(self.settings, error))?;
        let mut entries = found.0.into_iter().map(Entry::new);
        match (entries.next(), entries.next(), found.1.rc) {
            (Some(_), Some(_), _) => Err(DirectoryError::Ambiguous(upn.clone())),
            (Some(entry), None, 0) => Ok(entry),
            (None, None, 0) => Err(DirectoryError::NoAccount(upn.clone())),
            _ => Err(refused(format!("to look for {upn}"), found.1)),
        }
    }

    /// The values of an attribute that is made up for each question, and for one entry only.
    pub(super) async fn values(
        &mut self,
        name: &str,
        attribute: &str,
    ) -> Result<Vec<Vec<u8>>, DirectoryError> {
        let searching = self.ldap.search(name, Scope::Base, "(objectClass=*)", [attribute]);
        let found = searching.await.map_err(|error| unreachable(self.settings, error))?;
        match (found.0.into_iter().map(Entry::new).next(), found.1.rc) {
            (Some(entry), 0) => Ok(entry.values(attribute)),
            _ => Err(refused(format!("to read {attribute} of {name}"), found.1)),
        }
    }

    async fn set_disabled(
        &mut self,
        upn: &Upn,
        account: Account,
        disabled: bool,
    ) -> Result<Applied, DirectoryError> {
        let what = if disabled { format!("to disable {upn}") } else { format!("to enable {upn}") };
        let attribute = self.settings.disabled.attribute().to_owned();
        let changes = match changed_values(&self.settings.disabled, &account.disabled, disabled) {
            Some(change) => change.modifications(&attribute),
            None => return Ok(Applied::Already),
        };
        let answer = self.ldap.modify(&account.name, changes).await;
        let answer = answer.map_err(|error| unreachable(self.settings, error))?;
        match answer.rc {
            0 => Ok(Applied::Changed),
            // Somebody else changed it just now: noSuchAttribute, attributeOrValueExists.
            16 | 20 => {
                let account = self.find(upn).await?;
                match changed_values(&self.settings.disabled, &account.disabled, disabled) {
                    Some(_) => Err(refused(what, LdapResult { rc: BUSY, ..answer })),
                    None => Ok(Applied::Already),
                }
            }
            _ => Err(refused(what, answer)),
        }
    }

    async fn set_member(
        &mut self,
        group: &str,
        account: &str,
        member: bool,
    ) -> Result<Applied, DirectoryError> {
        if self.is_member(group, account).await? == member {
            return Ok(Applied::Already);
        }
        let attribute = self.settings.member_attribute.as_str();
        let (what, change) = if member {
            ("add", Mod::Add(attribute, HashSet::from([account])))
        } else {
            ("remove", Mod::Delete(attribute, HashSet::from([account])))
        };
        let answer = self.ldap.modify(group, vec![change]).await;
        let answer = answer.map_err(|error| unreachable(self.settings, error))?;
        if answer.rc == 0 {
            return Ok(Applied::Changed);
        }
        // Directories have several answers for what is so already: look instead of guessing.
        if self.is_member(group, account).await? == member {
            return Ok(Applied::Already);
        }
        Err(refused(format!("to {what} {account} as a member of {group}"), answer))
    }

    async fn is_member(&mut self, group: &str, account: &str) -> Result<bool, DirectoryError> {
        let comparing = self.ldap.compare(group, &self.settings.member_attribute, account);
        let answer = comparing.await.map_err(|error| unreachable(self.settings, error))?.0;
        match answer.rc {
            COMPARE_TRUE => Ok(true),
            // A group without members has no such attribute.
            COMPARE_FALSE | NO_SUCH_ATTRIBUTE => Ok(false),
            _ => Err(refused(format!("to look into {group}"), answer)),
        }
    }
}

/// What is taken from an attribute and what is put there, in one step: if somebody else has
/// changed it meanwhile, the directory refuses.
#[derive(Debug, Eq, PartialEq)]
struct Change {
    old: Option<String>,
    new: Option<String>,
}

impl Change {
    fn modifications(self, attribute: &str) -> Vec<Mod<String>> {
        let of = |value: String| HashSet::from([value]);
        let old = self.old.map(|value| Mod::Delete(attribute.to_owned(), of(value)));
        let new = self.new.map(|value| Mod::Add(attribute.to_owned(), of(value)));
        old.into_iter().chain(new).collect()
    }
}

/// Whether these values say that the account is disabled.
pub(super) fn is_disabled(disabled: &Disabled, values: &[String]) -> bool {
    changed_values(disabled, values, true).is_none()
}

/// The change that disables or enables; none if it is so already.
fn changed_values(disabled: &Disabled, values: &[String], wanted: bool) -> Option<Change> {
    match disabled {
        Disabled::Flag { flag, .. } => {
            let old = values.first();
            let number = old.and_then(|value| value.parse::<u32>().ok()).unwrap_or(0);
            let changed = if wanted { number | flag } else { number & !flag };
            (changed != number)
                .then(|| Change { old: old.cloned(), new: Some(changed.to_string()) })
        }
        Disabled::Value { value, .. } => match (values.contains(value), wanted) {
            (true, true) | (false, false) => None,
            // Another value of the same attribute may mean something else: it goes, too.
            (false, true) => {
                Some(Change { old: values.first().cloned(), new: Some(value.clone()) })
            }
            (true, false) => Some(Change { old: Some(value.clone()), new: None }),
        },
    }
}

/// TLS as everywhere here; the directory's name is that of the URL.
pub(super) fn tls(settings: &config::Directory) -> Result<ClientConfig, DirectoryError> {
    let path = settings.ca_file.clone().unwrap_or_default();
    let bad = |what: String| DirectoryError::CaFile { path: path.clone(), what };
    let mut roots = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(&path).map_err(|error| bad(error.to_string()))?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| bad(error.to_string()))?;
        roots.add(certificate).map_err(|error| bad(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(bad("it has no certificate".to_owned()));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()));
    let builder =
        builder.with_safe_default_protocol_versions().map_err(|error| bad(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn unreachable(settings: &config::Directory, error: LdapError) -> DirectoryError {
    // The library's messages have those of their sources in them.
    DirectoryError::Unreachable { url: settings.url.to_string(), what: error.to_string() }
}

fn refused(what: impl Into<String>, answer: LdapResult) -> DirectoryError {
    DirectoryError::Refused { what: what.into(), answer: Box::new(answer) }
}

/// Results of RFC 4511, appendix A.
const COMPARE_FALSE: u32 = 5;
const COMPARE_TRUE: u32 = 6;
const NO_SUCH_ATTRIBUTE: u32 = 16;
const BUSY: u32 = 51;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_is_set_and_cleared_and_all_others_stay() {
        let flag = Disabled::Flag { attribute: "userAccountControl".to_owned(), flag: 2 };
        let change = |old: &str, new: &str| {
            let value = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            Some(Change { old: value(old), new: value(new) })
        };
        let found = |values: &[&str], wanted| {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            changed_values(&flag, &values, wanted)
        };
        assert_eq!(found(&["512"], true), change("512", "514"));
        assert_eq!(found(&["66050"], false), change("66050", "66048"));
        assert_eq!((found(&["514"], true), found(&["512"], false)), (None, None));
        assert_eq!(found(&[], true), change("", "2"));
        let value =
            Disabled::Value { attribute: "nsAccountLock".to_owned(), value: "TRUE".to_owned() };
        let found = |values: &[&str], wanted| {
            let values: Vec<_> = values.iter().map(|value| (*value).to_owned()).collect();
            changed_values(&value, &values, wanted)
        };
        assert_eq!(found(&[], true), change("", "TRUE"));
        assert_eq!(found(&["FALSE"], true), change("FALSE", "TRUE"));
        assert_eq!(found(&["TRUE"], false), change("TRUE", ""));
        assert_eq!((found(&["TRUE"], true), found(&["FALSE"], false)), (None, None));
    }
}
