//! Where the PINs come from while a ceremony goes on: from files, or from custodians; and how one
//! takes the place of another.

use pki::{
    secret::Secret,
    token::{
        TokenError,
        pkcs11::{Module, PinOwner, Session, TokenIdentity},
    },
};

use super::Performance;
use crate::{
    console::Console,
    custody::{Custody, GivenBy, Use},
    failure::Failure,
    shares::{SetId, ShareSet, Whole},
    site::Site,
    transcript::{Attendance, Intent, TokenFound},
};

/// Which PIN people say is the token's, after the change of it was interrupted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PinInForce {
    /// The one before the change.
    Former,
    /// The one that the custodians of the new set give.
    #[default]
    New,
}

/// A session on the token, what the token said before it was opened, and the PIN.
pub(crate) struct OpenToken {
    pub(crate) found: TokenFound,
    pub(crate) session: Session,
    pub(crate) pin: Secret,
}

/// Opens a session on the token, which must be this one if one is known, with the PIN of these
/// shares, or the one that the site says.
pub(crate) fn open(
    module: &Module,
    site: &Site,
    known: Option<&TokenIdentity>,
    shares: Option<&ShareSet>,
    custody: &mut Custody<'_>,
) -> Result<OpenToken, Failure> {
    // Before the login: its flags say how many wrong tries of the PIN there were.
    let mut found = TokenFound::from(module.info(&site.token)?);
    if known.is_some_and(|known| *known != found.identity) {
        return Err(Failure::Changed("token"));
    }
    let of_site = if shares.is_none() { site.pin()? } else { None };
    let (pin, given_by) = match of_site {
        Some(pin) => (pin, None),
        None => pin(Use::User, shares, custody)?,
    };
    found.given_by = given_by;
    let session = module.open(&found.identity, &pin)?;
    Ok(OpenToken { found, session, pin })
}

/// The PIN that custodians give.
fn pin(
    wanted: Use,
    shares: Option<&ShareSet>,
    custody: &mut Custody<'_>,
) -> Result<(Secret, Option<GivenBy>), Failure> {
    let known = shares.map(std::slice::from_ref).unwrap_or_default();
    let missing = || TokenError::Pin { code: "not given: the shares are not of a PIN".to_owned() };
    let (pin, given_by) = custody.gather(Some(wanted), known)?.pin().ok_or_else(missing)?;
    Ok((pin, Some(given_by)))
}

/// How this program meets custodians at this site.
pub(crate) fn custody<'a>(
    site: &'a Site,
    attendance: Attendance,
    console: &'a mut Console,
) -> Custody<'a> {
    let rehearsed = attendance == Attendance::Rehearsed;
    Custody { console, pages: site.share_pages.as_deref(), rehearsed }
}

impl Performance<'_> {
    /// How this program meets the custodians.
    pub(crate) fn custody(&mut self) -> Custody<'_> {
        custody(&self.place.site, self.progress.opened.attendance, self.console)
    }

    /// Keeps a secret until the end of the process, so that nobody types it again.
    pub(crate) fn keep(&mut self, secret: Whole, set: SetId) {
        self.kept.push((set, secret));
    }

    /// Opens the token with the PIN that is in force, as far as anybody knows.
    pub(super) fn open_known(&mut self) -> Result<OpenToken, Failure> {
        let made = &self.progress.made;
        let token = made.token.clone();
        let new = match self.progress.in_doubt() {
            Some(Intent::RotatePin(intended))
                if intended.owner == PinOwner::User && self.pin_in_force == PinInForce::New =>
            {
                made.sets().map(|(_, it)| &it.set).find(|set| set.terms.set == intended.set)
            }
            _ => None,
        };
        let shares = new.or(made.set_in_force(Use::User)).cloned();
        let mut custody = custody(&self.place.site, self.progress.opened.attendance, self.console);
        open(&self.module, &self.place.site, token.as_ref(), shares.as_ref(), &mut custody)
    }

    /// Makes the PIN of these shares the token's, unless it is already, and logs in with it.
    pub(crate) fn change_pin(
        &mut self,
        owner: PinOwner,
        set: &ShareSet,
        in_force: PinInForce,
    ) -> Result<(), Failure> {
        let new = self.pin_of(set, owner)?;
        let opened = self.session.take().ok_or_else(super::no_session)?;
        let (token, found, user_pin) = (opened.found.identity.clone(), opened.found, opened.pin);
        // The logins of user and security officer exclude each other.
        drop(opened.session);
        let former = match (owner, in_force) {
            (_, PinInForce::New) => None,
            (PinOwner::User, PinInForce::Former) => Some(user_pin.clone()),
            (PinOwner::SecurityOfficer, PinInForce::Former) => Some(self.so_pin()?),
        };
        if let Some(former) = former {
            self.module.change_pin(&token, owner, &former, &new)?;
        }
        let pin = match owner {
            PinOwner::SecurityOfficer => {
                self.module.try_pin(&token, owner, &new)?;
                user_pin
            }
            PinOwner::User => new,
        };
        let session = self.module.open(&token, &pin)?;
        self.session = Some(OpenToken { found, session, pin });
        Ok(())
    }

    fn pin_of(&mut self, set: &ShareSet, owner: PinOwner) -> Result<Secret, Failure> {
        let kept = self.kept.iter().find(|(id, _)| *id == set.terms.set);
        if let Some(pin) = kept.and_then(|(_, secret)| set.terms.purpose.pin(secret)) {
            return Ok(pin);
        }
        let wanted = match owner {
            PinOwner::SecurityOfficer => Use::So,
            PinOwner::User => Use::User,
        };
        Ok(pin(wanted, Some(set), &mut self.custody())?.0)
    }

    /// The security officer's PIN that is in force.
    pub(super) fn so_pin(&mut self) -> Result<Secret, Failure> {
        let shares = self.progress.made.set_in_force(Use::So).cloned();
        let of_site = if shares.is_none() { self.place.site.so_pin()? } else { None };
        match of_site {
            Some(pin) => Ok(pin),
            None => Ok(pin(Use::So, shares.as_ref(), &mut self.custody())?.0),
        }
    }
}
