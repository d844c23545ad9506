//! What the directory knows of accounts: which SID goes with a user principal name, where the
//! account is, and in which groups. A requester says none of it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use pki::{
    clock::Clock,
    names::{Sid, Upn},
};
use tokio::sync::Semaphore;

use super::{
    AnySid, Directory, DirectoryError, EntryName,
    connection::{Connection, Entry, is_disabled},
};
use crate::describe;

/// What there is under a user principal name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Found {
    /// One account.
    Account(Box<FoundAccount>),
    /// More than one account.
    Ambiguous,
    /// No account.
    Nobody,
    /// An account that can have no certificate, for this reason.
    Unfit(String),
}

/// An account as the directory has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FoundAccount {
    /// Its user principal name, as the directory writes it.
    pub upn: Upn,
    /// Its objectSid.
    pub sid: Sid,
    /// Its distinguished name.
    pub name: EntryName,
    /// Whether its owner may log on with it.
    pub enabled: bool,
    /// The groups that it is in, also by way of others: those that its tickets would have.
    pub groups: BTreeSet<AnySid>,
    /// The groups that name it as a member.
    pub member_of: Vec<EntryName>,
    /// Those of its groups whose members are protected.
    pub protected_by: BTreeSet<AnySid>,
}

/// An answer, and when the directory gave it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What there is.
    pub found: Found,
    /// Since when that is known.
    pub asked_at: Timestamp,
}

/// Looks accounts up. What was found is good for a while: one card asks for an account often, and a
/// batch of cards asks for many.
pub struct Accounts {
    directory: Directory,
    clock: Arc<dyn Clock>,
    /// Accounts that were found, by the name that was asked for.
    known: Mutex<HashMap<Upn, Answer>>,
    /// So many are asked for at once.
    places: Semaphore,
}

impl Accounts {
    /// Accounts of a directory.
    pub fn new(directory: Directory, clock: Arc<dyn Clock>) -> Self {
        Self { directory, clock, known: Mutex::default(), places: Semaphore::new(AT_ONCE) }
    }

    /// The directory that is asked.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// What there is under a name. An account may be known from before, but from no longer ago than
    /// the settings allow; that there is none is asked each time.
    ///
    /// # Errors
    ///
    /// The directory does not answer, or refuses.
    pub async fn find(&self, upn: &Upn) -> Result<Answer, DirectoryError> {
        if let Some(known) = self.known(upn) {
            count("known");
            return Ok(known);
        }
        let limit = self.directory.0.settings.look_up_timeout;
        let waiting = tokio::time::timeout(limit, self.places.acquire());
        let Ok(Ok(_place)) = waiting.await else {
            count("failed");
            let what = "too many accounts are asked for at once".to_owned();
            let url = self.directory.0.settings.url.to_string();
            return Err(DirectoryError::Unreachable { url, what });
        };
        // The time before the question: the answer is that of no earlier moment.
        let asked_at = self.clock.now();
        match self.directory.look_up(upn).await {
            Ok(found) => {
                count(match &found {
                    Found::Account(_) => "found",
                    Found::Ambiguous | Found::Nobody | Found::Unfit(_) => "refused",
                });
                let answer = Answer { found, asked_at };
                self.keep(upn, &answer);
                Ok(answer)
            }
            Err(error) => {
                count("failed");
                tracing::error!(%upn, error = describe(&error), "an account cannot be looked up");
                Err(error)
            }
        }
    }

    fn known(&self, upn: &Upn) -> Option<Answer> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(upn).filter(|answer| self.is_fresh(answer)).cloned()
    }

    fn keep(&self, upn: &Upn, answer: &Answer) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(answer.found, Found::Account(_)) {
            known.remove(upn);
            return;
        }
        if known.len() >= MOST_KNOWN {
            known.retain(|_, answer| self.is_fresh(answer));
        }
        if known.len() < MOST_KNOWN {
            known.insert(upn.clone(), answer.clone());
        }
    }

    fn is_fresh(&self, answer: &Answer) -> bool {
        let age = self.clock.now().duration_since(answer.asked_at);
        // After a clock was set back, nothing is known of the age.
        Duration::try_from(age).is_ok_and(|age| age < self.directory.0.settings.cache)
    }
}

/// Reads an account as it is now.
pub(super) async fn look_up(
    connection: &mut Connection<'_>,
    upn: &Upn,
) -> Result<Found, DirectoryError> {
    let settings = connection.settings();
    let (name, sid) = (settings.account_attribute.as_str(), settings.sid_attribute.as_str());
    let attributes = [name, sid, settings.disabled.attribute(), MEMBER_OF];
    let entry = match connection.entry(upn, &attributes).await {
        Ok(entry) => entry,
        Err(DirectoryError::Ambiguous(_)) => return Ok(Found::Ambiguous),
        Err(DirectoryError::NoAccount(_)) => return Ok(Found::Nobody),
        Err(error) => return Err(error),
    };
    let groups = connection.values(&entry.name, TOKEN_GROUPS).await?;
    let account = read(&entry, &groups, upn, &settings.account_attribute, sid);
    Ok(match account {
        Ok(account) => {
            let disabled = is_disabled(&settings.disabled, &entry.texts(attributes[2]));
            let is_protected =
                |group: &&AnySid| settings.protected_groups.iter().any(|it| it.matches(group));
            let protected_by = account.groups.iter().filter(is_protected).cloned().collect();
            Found::Account(Box::new(FoundAccount { enabled: !disabled, protected_by, ..account }))
        }
        Err(why) => Found::Unfit(why),
    })
}

/// An account, or why it can have no certificate. Whether it is enabled or protected is not in it.
fn read(
    entry: &Entry,
    groups: &[Vec<u8>],
    asked: &Upn,
    name_attribute: &str,
    sid_attribute: &str,
) -> Result<FoundAccount, String> {
    let upn: Upn = only(entry.texts(name_attribute), name_attribute)?
        .parse()
        .map_err(|error| format!("{name_attribute}: {error}"))?;
    // Directories compare more loosely than this: some find é by e.
    if !same(&upn, asked) {
        return Err(format!("the directory calls it {upn}"));
    }
    let bytes = only(entry.values(sid_attribute), sid_attribute)?;
    let sid = AnySid::from_ldap(&bytes).map_err(|what| format!("{sid_attribute}: {what}"))?;
    let group = |bytes: &Vec<u8>| {
        AnySid::from_ldap(bytes).map_err(|what| format!("{TOKEN_GROUPS}: {what}"))
    };
    if groups.is_empty() {
        // Each account has one group at least.
        return Err(format!("the directory does not say in which groups it is ({TOKEN_GROUPS})"));
    }
    Ok(FoundAccount {
        upn,
        sid: sid.to_string().parse().map_err(|error| format!("{sid_attribute}: {error}"))?,
        name: entry.name.parse()?,
        enabled: false,
        groups: groups.iter().map(group).collect::<Result<_, _>>()?,
        // What cannot be read is no group that a role could name.
        member_of: entry.texts(MEMBER_OF).iter().filter_map(|name| name.parse().ok()).collect(),
        protected_by: BTreeSet::new(),
    })
}

fn same(one: &Upn, other: &Upn) -> bool {
    one.domain() == other.domain() && one.account().to_lowercase() == other.account().to_lowercase()
}

fn only<T>(values: Vec<T>, attribute: &str) -> Result<T, String> {
    let mut values = values.into_iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value),
        (None, _) => Err(format!("the directory does not say its {attribute}")),
        (Some(_), Some(_)) => Err(format!("it has more than one {attribute}")),
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("chancery_directory_look_ups_total", "outcome" => outcome).increment(1);
}

/// The groups that name an account, kept by the directory with the account (MS-ADA2).
const MEMBER_OF: &str = "memberOf";

/// The SIDs of all groups of an account, made up at each question (MS-ADTS 3.1.1.4.5.19).
const TOKEN_GROUPS: &str = "tokenGroups";

/// Connections at once: a directory has others to serve.
const AT_ONCE: usize = 8;

/// The most accounts that are known at once.
const MOST_KNOWN: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(values: &[(&str, &[&[u8]])]) -> Entry {
        let owned = |values: &[&[u8]]| values.iter().map(|value| value.to_vec()).collect();
        let values = values.iter().map(|(name, values)| ((*name).to_owned(), owned(values)));
        Entry::of("CN=alice,OU=Sales,DC=corp,DC=example", values.collect())
    }

    const SID: &[u8] =
        b"\x01\x05\0\0\0\0\0\x05\x15\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x50\x04\0\0";
    const BUILT_IN: &[u8] =
        b"\x01\x05\0\0\0\0\0\x05\x15\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\xf4\x01\0\0";
    const NAME: &[u8] = b"Alice@CORP.example";

    #[test]
    fn an_entry_is_an_account_as_a_whole_or_not_at_all() {
        let upn: (&str, &[&[u8]]) = ("userPrincipalName", &[NAME]);
        let sid: (&str, &[&[u8]]) = ("objectSid", &[SID]);
        let groups = vec![SID.to_vec()];
        for (values, groups, expected) in [
            (vec![upn, sid], &groups, Ok("Alice@CORP.example S-1-5-21-1-2-3-1104")),
            (
                vec![upn, ("OBJECTSID", &[SID])],
                &groups,
                Ok("Alice@CORP.example S-1-5-21-1-2-3-1104"),
            ),
            (vec![upn], &groups, Err("does not say its objectSid")),
            (vec![sid], &groups, Err("does not say its userPrincipalName")),
            (vec![upn, ("objectSid", &[SID, BUILT_IN])], &groups, Err("more than one objectSid")),
            (vec![upn, ("objectSid", &[BUILT_IN])], &groups, Err("RID is below 1000")),
            (vec![upn, ("objectSid", &[b"S-1-5-21-1-2-3-1104"])], &groups, Err("objectSid: its")),
            (
                vec![("userPrincipalName", &[b"alic\xc3\xa9@corp.example"]), sid],
                &groups,
                Err("calls it"),
            ),
            (
                vec![("userPrincipalName", &[b"alice@corp.example.org"]), sid],
                &groups,
                Err("calls it"),
            ),
            (
                vec![("userPrincipalName", &[b"al*ce@corp.example"]), sid],
                &groups,
                Err("userPrincipalName:"),
            ),
            (vec![upn, sid], &Vec::new(), Err("in which groups")),
            (
                vec![upn, sid],
                &vec![SID.to_vec(), b"no".to_vec()],
                Err("tokenGroups: it is shorter"),
            ),
        ] {
            let asked = "alice@corp.example".parse().unwrap();
            let read = read(&entry(&values), groups, &asked, "userPrincipalName", "objectSid");
            match (read, expected) {
                (Ok(account), Ok(text)) => {
                    assert_eq!(format!("{} {}", account.upn, account.sid), text);
                }
                (Err(why), Err(words)) => assert!(why.contains(words), "{words}: {why}"),
                (read, expected) => panic!("{expected:?}: {read:?}"),
            }
        }
    }
}
