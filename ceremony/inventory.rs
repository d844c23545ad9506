//! The inventory: what a token has, beside what the transcripts of its ceremonies say together.

use std::collections::BTreeMap;

use pki::token::{
    KeyId, KeyRef, Token as _, TokenError,
    pkcs11::{Module, ObjectFound, Session, TokenIdentity},
};

use crate::{
    console::Console,
    custody::Use,
    digest::Digest,
    failure::Failure,
    name::Name,
    run::pins::{OpenToken, custody, open},
    site::Site,
    transcript::{Attendance, Event, Outcome, TokenFound},
    verify::Verified,
};

/// What a token has now.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Inventory {
    /// The token.
    pub token: TokenFound,
    /// All objects that its user can see.
    pub objects: Vec<ObjectFound>,
    /// The ceremonies that it was compared with, the earliest first: their heads.
    pub against: Vec<Digest>,
    /// Where it is not what the transcripts say together; empty without any.
    pub differences: Vec<String>,
}

impl Inventory {
    /// Logs in, and lists what is there; compares it with what these ceremonies made and destroyed, one
    /// after the other, if any are given.
    ///
    /// # Errors
    ///
    /// The token cannot be opened, or fails.
    pub fn take(site: &Site, against: &[Verified], console: &mut Console) -> Result<Self, Failure> {
        let ceremonies = in_order(against);
        let module = Module::load(&site.module()?.path)?;
        let last = ceremonies.last().map(|verified| verified.progress.opened.attendance);
        let attendance = last.unwrap_or(Attendance::Attended);
        let mut latest_first = ceremonies.iter().rev();
        let shares = latest_first.find_map(|it| it.progress.made.set_in_force(Use::User));
        let mut custody = custody(site, attendance, console);
        let OpenToken { found: token, mut session, .. } =
            open(&module, site, None, shares, &mut custody)?;
        let objects = session.inventory()?;
        let differences = if ceremonies.is_empty() {
            Vec::new()
        } else {
            differences(&ceremonies, &token, &mut session, &objects)?
        };
        let against = ceremonies.iter().map(|verified| verified.head).collect();
        Ok(Self { token, objects, against, differences })
    }
}

/// Each ceremony once, the earliest first.
fn in_order(ceremonies: &[Verified]) -> Vec<&Verified> {
    let began = |verified: &Verified| verified.transcript.first().map(|record| record.time);
    let mut ordered: Vec<&Verified> = ceremonies.iter().collect();
    ordered.sort_by_key(|verified| (began(verified), verified.head));
    ordered.dedup_by_key(|verified| verified.head);
    ordered
}

fn differences(
    ceremonies: &[&Verified],
    token: &TokenFound,
    session: &mut Session,
    objects: &[ObjectFound],
) -> Result<Vec<String>, Failure> {
    let (keys, mut differences) = expected(ceremonies, &token.identity);
    for (key, ceremony) in keys.values() {
        match session.find(key) {
            Ok(()) => {}
            Err(
                error @ (TokenError::KeyAmbiguous { .. }
                | TokenError::KeyMissing { .. }
                | TokenError::KeyUnfit { .. }),
            ) => differences.push(format!("{error}; it is of the ceremony {ceremony}")),
            Err(error) => return Err(error.into()),
        }
    }
    for ObjectFound { class, label, id } in objects {
        let half = ["CKO_PRIVATE_KEY", "CKO_PUBLIC_KEY"].contains(&class.as_str());
        let known = keys
            .values()
            .any(|(key, _)| key.label.to_string() == *label && key.id.to_string() == *id);
        if !half || !known {
            differences.push(format!("{class} {label:?} with CKA_ID {id:?} is of no ceremony"));
        }
    }
    Ok(differences)
}

/// The keys that must be in this token after these ceremonies, by their CKA_ID, and which ceremony each
/// is of; and what cannot be, whatever is in it.
fn expected<'a>(
    ceremonies: &[&'a Verified],
    token: &TokenIdentity,
) -> (BTreeMap<&'a KeyId, (&'a KeyRef, &'a Name)>, Vec<String>) {
    let (mut keys, mut differences) = (BTreeMap::new(), Vec::new());
    for verified in ceremonies {
        let made = &verified.progress.made;
        let id = &verified.progress.plan.script().id;
        let own = made.token.as_ref() == Some(token);
        let there = made.keys_in(token);
        if !own && there.is_empty() {
            differences
                .push(format!("it is another token than that of the ceremony {id}: {token}"));
        }
        for record in verified.transcript.iter().filter(|_| own) {
            match &record.event {
                Event::Outcome(Outcome::TokenInitialized(_)) => keys.clear(),
                Event::Outcome(Outcome::KeyDestroyed(destroyed)) => {
                    keys.remove(&destroyed.key.id);
                }
                _ => {}
            }
        }
        for key in there {
            // A later ceremony that used it does not make it its own.
            keys.entry(&key.id).or_insert((key, id));
        }
    }
    (keys, differences)
}
