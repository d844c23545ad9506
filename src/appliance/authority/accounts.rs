//! Accounts: what the directory and the rules say of them.

use api::{
    AccountDenial, AccountReport, AccountRole, AccountWhose, DirectoryAnswer, PinnedAccount,
};
use pki::names::Upn;

use super::{Authority, IssueError};
use crate::{
    directory::{Accounts, Answer, Directory, DirectoryError, Found},
    policy::{AccountSource, Caller, CardRole, Denial, Whose, card_roles, may_ask_about},
};

impl Authority {
    /// The organisation's directory, if there is one.
    pub fn directory(&self) -> Option<&Directory> {
        self.accounts.as_ref().map(Accounts::directory)
    }

    /// What directory and rules say of an account, and which roles would give cards of it.
    ///
    /// # Errors
    ///
    /// The caller may not know, or the refusal cannot be written down. That the directory fails is a
    /// part of the report.
    pub async fn account(&self, caller: &Caller, upn: &Upn) -> Result<AccountReport, IssueError> {
        let rules = self.rules.load_full();
        if !may_ask_about(caller, upn, &rules) {
            let denial = Denial::AccountNotShown { caller: caller.id.clone() };
            return Err(self.denied(caller, "directory account", upn.as_str(), denial).await);
        }
        let asked = match &self.accounts {
            Some(accounts) => Some(accounts.find(upn).await),
            None => None,
        };
        let told = asked.as_ref().and_then(|asked| asked.as_ref().ok());
        let pinned = rules.account(upn);
        let agree = match (told.map(|told| &told.found), pinned) {
            (Some(Found::Account(found)), Some(pinned)) => Some(found.sid == pinned.sid),
            _ => None,
        };
        let roles = card_roles(upn, told, &rules).into_iter();
        let failure = asked.as_ref().and_then(|asked| asked.as_ref().err());
        Ok(AccountReport {
            upn: upn.clone(),
            roles: roles.map(|role| in_report(role, failure)).collect(),
            directory: answer(asked),
            pinned: pinned.map(|it| PinnedAccount { upn: it.upn.clone(), sid: it.sid.clone() }),
            agree,
        })
    }

    /// What the directory has under a name.
    pub(super) async fn find_account(&self, upn: &Upn) -> Result<Answer, DirectoryError> {
        match &self.accounts {
            Some(accounts) => accounts.find(upn).await,
            // Rules that want a directory are not loaded where there is none.
            None => Err(DirectoryError::Unreachable {
                url: "nowhere".to_owned(),
                what: "none is configured".to_owned(),
            }),
        }
    }
}

fn in_report(role: CardRole, failure: Option<&DirectoryError>) -> AccountRole {
    let CardRole { role, whose, decided, source } = role;
    let denied = match (decided, failure) {
        (_, Some(error)) if source == AccountSource::Directory => {
            let problem = api::Problem::from(error);
            Some(AccountDenial {
                reason: error.trouble().word().to_owned(),
                detail: problem.detail,
                hint: problem.hint.unwrap_or_default(),
            })
        }
        (Err(denial), _) => Some(AccountDenial {
            reason: denial.reason().to_owned(),
            detail: denial.to_string(),
            hint: denial.hint().into_owned(),
        }),
        (Ok(()), _) => None,
    };
    let whose = match whose {
        Whose::Others => AccountWhose::Others,
        Whose::Own => AccountWhose::Own,
    };
    AccountRole { role, whose, denied }
}

fn answer(asked: Option<Result<Answer, DirectoryError>>) -> DirectoryAnswer {
    let Answer { found, asked_at } = match asked {
        None => return DirectoryAnswer::NotConfigured {},
        Some(Err(error)) => {
            let detail = api::Problem::from(&error).detail;
            return DirectoryAnswer::Unavailable {
                reason: error.trouble().word().to_owned(),
                detail,
            };
        }
        Some(Ok(answer)) => answer,
    };
    let texts = |sids: std::collections::BTreeSet<crate::directory::AnySid>| {
        sids.iter().map(ToString::to_string).collect()
    };
    match found {
        Found::Account(account) => DirectoryAnswer::Found {
            upn: account.upn,
            sid: account.sid,
            name: account.name.to_string(),
            enabled: account.enabled,
            groups: texts(account.groups),
            protected_by: texts(account.protected_by),
            asked_at,
        },
        Found::Ambiguous => DirectoryAnswer::Ambiguous { asked_at },
        Found::Nobody => DirectoryAnswer::Nobody { asked_at },
        Found::Unfit(detail) => DirectoryAnswer::Unfit { detail, asked_at },
    }
}
