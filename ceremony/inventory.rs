//! The inventory: what a token has, beside what a transcript says that it should have.

use pki::token::{
    Token as _, TokenError,
    pkcs11::{Module, ObjectFound, Session},
};

use crate::{
    console::Console,
    custody::Use,
    failure::Failure,
    run::pins::{OpenToken, custody, open},
    site::Site,
    transcript::{Attendance, TokenFound},
    verify::Verified,
};

/// What a token has now.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Inventory {
    /// The token.
    pub token: TokenFound,
    /// All objects that its user can see.
    pub objects: Vec<ObjectFound>,
    /// Where it is not what the transcript says; empty without a transcript.
    pub differences: Vec<String>,
}

impl Inventory {
    /// Logs in, and lists what is there; compares it with what a ceremony made, if one is given.
    ///
    /// # Errors
    ///
    /// The token cannot be opened, or fails.
    pub fn take(
        site: &Site,
        against: Option<&Verified>,
        console: &mut Console,
    ) -> Result<Self, Failure> {
        let module = Module::load(&site.module()?.path)?;
        let attendance = against.map_or(Attendance::Attended, |it| it.progress.opened.attendance);
        let shares = against.and_then(|it| it.progress.made.set_in_force(Use::User));
        let mut custody = custody(site, attendance, console);
        let OpenToken { found: token, mut session, .. } =
            open(&module, site, None, shares, &mut custody)?;
        let objects = session.inventory()?;
        let differences = match against {
            Some(verified) => differences(verified, &token, &mut session, &objects)?,
            None => Vec::new(),
        };
        Ok(Self { token, objects, differences })
    }
}

fn differences(
    verified: &Verified,
    token: &TokenFound,
    session: &mut Session,
    objects: &[ObjectFound],
) -> Result<Vec<String>, Failure> {
    let made = &verified.progress.made;
    let mut differences = Vec::new();
    let keys = made.keys_in(&token.identity);
    if made.token.as_ref() != Some(&token.identity) && keys.is_empty() {
        differences.push(format!("it is another token: {}", token.identity));
    }
    let mut expected = Vec::new();
    for key in keys {
        match session.find(key) {
            Ok(()) => {}
            Err(
                error @ (TokenError::KeyAmbiguous { .. }
                | TokenError::KeyMissing { .. }
                | TokenError::KeyUnfit { .. }),
            ) => differences.push(error.to_string()),
            Err(error) => return Err(error.into()),
        }
        expected.push((key.label.to_string(), key.id.to_string()));
    }
    for ObjectFound { class, label, id } in objects {
        let half = ["CKO_PRIVATE_KEY", "CKO_PUBLIC_KEY"].contains(&class.as_str());
        if !half || !expected.contains(&(label.clone(), id.clone())) {
            differences.push(format!("{class} {label:?} with CKA_ID {id:?} is of no ceremony"));
        }
    }
    Ok(differences)
}
