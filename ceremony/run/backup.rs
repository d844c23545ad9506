//! The backup token while a ceremony goes on.

use pki::token::{
    KeyId, KeyRef, TokenError,
    pkcs11::{Opening, Session, TokenIdentity},
};

use super::Performance;
use crate::{
    failure::Failure,
    plan::Key,
    run::pins::OpenToken,
    shares::{Whole, entropy::Entropy},
};

impl Performance<'_> {
    /// The backup token, which is another one than the token.
    pub(crate) fn backup_token(&self) -> Result<TokenIdentity, Failure> {
        let backup = self.place.site.backup()?;
        let found = self.module.identify(&backup.token)?;
        if self.progress.made.token.as_ref() == Some(&found) {
            let said = "the backup token is the token itself".to_owned();
            return Err(TokenError::NoToken(said).into());
        }
        Ok(found)
    }

    /// A session on the backup token.
    pub(crate) fn backup_session(&self) -> Result<Session, Failure> {
        let token = self.backup_token()?;
        Ok(self.module.open(&token, &self.place.site.backup()?.pin()?)?)
    }

    /// Makes a key pair in the token, and a copy in the backup token.
    pub(crate) fn generate_with_copy(&mut self, key: &Key, id: &KeyId) -> Result<KeyRef, Failure> {
        let of_token = self.session()?.random(32)?;
        let transport = Whole::random(&mut Entropy::gather(&of_token).map_err(Failure::Random)?);
        let so_pin = self.so_pin()?;
        let (token, pin) = (self.backup_token()?, self.place.site.backup()?.pin()?);
        let OpenToken { found, session, pin: user_pin } =
            self.session.take().ok_or_else(super::no_session)?;
        // The logins of user and security officer exclude each other.
        drop(session);
        let source = Opening { token: &found.identity, so_pin: Some(&so_pin), pin: &user_pin };
        let backup = Opening { token: &token, so_pin: None, pin: &pin };
        let names = (&key.label, id);
        let made = self.module.generate_with_copy(
            &source,
            &backup,
            transport.expose(),
            key.algorithm,
            names,
        );
        let session = self.module.open(&found.identity, &user_pin)?;
        self.session = Some(OpenToken { found, session, pin: user_pin });
        made.map_err(|error| self.discard_both(key, id, error))
    }

    /// What is not whole is destroyed, in both tokens.
    fn discard_both(&mut self, key: &Key, id: &KeyId, error: TokenError) -> Failure {
        let here = self.session().and_then(|it| Ok(it.discard(&key.label, id)?));
        let there = self.backup_session().and_then(|mut it| Ok(it.discard(&key.label, id)?));
        match here.and(there) {
            Ok(()) => error.into(),
            Err(left) => Failure::Left { label: key.label.clone(), error, left: Box::new(left) },
        }
    }
}
