//! The one place that turns an error into what a client gets to see.
//!
//! A client hears what it can mend. What is the appliance's own trouble goes into the log, and
//! the client hears only that asking again is worth it: such an answer is a 5xx and never a 4xx.

use api::{Problem, ProblemKind};

use crate::{
    authority::IssueError,
    directory::{DirectoryError, Trouble},
    join::Refusal,
    ledger::LedgerError,
    policy::{BadRequest, CardDenial, Denial},
    signing::SigningError,
};

impl From<BadRequest> for Problem {
    fn from(error: BadRequest) -> Self {
        let detail = error.to_string();
        match error {
            BadRequest::Attestation(error) => {
                let denial = CardDenial::from(error);
                Self::new(ProblemKind::BadKey, detail)
                    .with_reason(denial.reason())
                    .with_hint(denial.hint())
            }
            BadRequest::Csr(_) | BadRequest::Key(_) => Self::new(ProblemKind::BadKey, detail),
            BadRequest::Digest(_) => Self::new(ProblemKind::BadRequest, detail),
        }
    }
}

impl From<IssueError> for Problem {
    fn from(error: IssueError) -> Self {
        match error {
            IssueError::Denied(denial) => denial.into(),
            IssueError::Directory(error) => (&error).into(),
            IssueError::Ledger(error) => error.into(),
            IssueError::Lint(refused) => Self::new(ProblemKind::Lint, refused.to_string())
                .with_reason(refused.rule())
                .with_hint("ask for other names, another key or a shorter validity"),
            IssueError::NoIssuer { .. } | IssueError::Random => {
                tracing::error!(%error, "a granted request cannot be fulfilled");
                internal()
            }
            IssueError::Seal(error) => {
                tracing::error!(%error, "the token made a wrong signature; it was not released");
                unavailable("the token made a wrong signature, which was not released")
            }
            IssueError::Signing(error) => error.into(),
        }
    }
}

impl From<Denial> for Problem {
    fn from(denial: Denial) -> Self {
        Self::new(ProblemKind::Denied, denial.to_string())
            .with_reason(denial.reason())
            .with_hint(denial.hint())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let kind = match refusal {
            Refusal::Unreachable(_) => ProblemKind::Unavailable,
            _ => ProblemKind::Denied,
        };
        Self::new(kind, crate::describe(&refusal))
            .with_reason(refusal.reason())
            .with_hint(refusal.hint())
    }
}

impl From<&DirectoryError> for Problem {
    fn from(error: &DirectoryError) -> Self {
        // The log has said what it is.
        unavailable(match error.trouble() {
            Trouble::Refuses => "the directory does not let the appliance look accounts up",
            Trouble::Unreachable => "the directory that knows the account does not answer",
        })
        .with_reason(error.trouble().word())
    }
}

impl From<LedgerError> for Problem {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Denied(denial) => denial.into(),
            LedgerError::IdempotencyConflict { .. } => {
                Self::new(ProblemKind::IdempotencyConflict, error.to_string())
                    .with_hint("use a new key for a new request")
            }
            LedgerError::Refused(what) => {
                tracing::error!(%what, "the ledger refused a request that was granted");
                internal()
            }
            LedgerError::Unavailable(what) => {
                tracing::error!(%what, "the ledger cannot be used");
                unavailable("the ledger cannot be written; nothing is signed until it can")
            }
        }
    }
}

impl From<SigningError> for Problem {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Busy { retry_after } => {
                unavailable("more is asked for than the token can sign in time")
                    .with_retry_after(retry_after)
            }
            SigningError::Recalled => Denial::TakenBack.into(),
            SigningError::Down(what) => {
                tracing::warn!(%what, "the token is not reachable");
                unavailable("the token is not reachable; it is being opened again")
            }
            SigningError::Token(error) => {
                tracing::error!(%error, "the token refuses to sign");
                unavailable("the token refuses to sign; an operator has to see to it")
            }
        }
    }
}

/// The appliance failed, and its log says how.
pub(super) fn internal() -> Problem {
    Problem::new(ProblemKind::Internal, "the appliance failed at this request; its log says how")
}

fn unavailable(detail: &str) -> Problem {
    Problem::new(ProblemKind::Unavailable, detail)
        .with_hint("ask again with the same idempotency key")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pki::{
        keys::{BadSignature, KeyError},
        ssh,
        token::TokenError,
        x509::csr::CsrError,
    };

    use super::*;
    use crate::authority::Refused;

    #[test]
    fn every_error_has_its_problem() {
        let refused = ssh::Refused { rule: "ssh-principals", what: "there are none".to_owned() };
        let denial = Denial::NoSuchRole { role: "r".to_owned() };
        let pin = TokenError::Pin { code: "CKR_PIN_INCORRECT".into() };
        let busy = SigningError::Busy { retry_after: Duration::from_millis(2_500) };
        assert_eq!(Problem::from(busy.clone()).retry_after, Some(3));
        let conflict = LedgerError::IdempotencyConflict { key: "k".to_owned() };
        let table: Vec<(Problem, ProblemKind)> = vec![
            (BadRequest::Csr(CsrError::ProofOfPossession).into(), ProblemKind::BadKey),
            (BadRequest::Digest("short".to_owned()).into(), ProblemKind::BadRequest),
            (BadRequest::Key(KeyError::Malformed("no".to_owned())).into(), ProblemKind::BadKey),
            (IssueError::Denied(denial).into(), ProblemKind::Denied),
            (IssueError::Ledger(conflict).into(), ProblemKind::IdempotencyConflict),
            (IssueError::Directory(unreachable()).into(), ProblemKind::Unavailable),
            (LedgerError::Refused("twice".to_owned()).into(), ProblemKind::Internal),
            (LedgerError::Unavailable("full".to_owned()).into(), ProblemKind::Unavailable),
            (Refusal::OtherMethod("a bound key").into(), ProblemKind::Denied),
            (Refusal::Unreachable("issuer".to_owned()).into(), ProblemKind::Unavailable),
            (IssueError::Lint(Refused::Ssh(refused)).into(), ProblemKind::Lint),
            (IssueError::NoIssuer { issuer: "i".to_owned() }.into(), ProblemKind::Internal),
            (IssueError::Random.into(), ProblemKind::Internal),
            (IssueError::Seal(BadSignature).into(), ProblemKind::Unavailable),
            (busy.into(), ProblemKind::Unavailable),
            (SigningError::Down("gone".to_owned()).into(), ProblemKind::Unavailable),
            (SigningError::Token(pin).into(), ProblemKind::Unavailable),
        ];
        for (problem, kind) in table {
            assert_eq!(problem.kind, kind, "{problem}");
            assert_eq!(problem.status, kind.status());
            assert_eq!(problem.retry_after.is_some(), kind == ProblemKind::Unavailable);
        }
    }

    fn unreachable() -> DirectoryError {
        DirectoryError::Unreachable { url: "ldaps://secret".to_owned(), what: "gone".to_owned() }
    }

    #[test]
    fn a_client_hears_the_reason_that_it_can_mend_and_no_trouble_of_ours() {
        let denied = Problem::from(Denial::NoSuchRole { role: "r".to_owned() });
        assert_eq!(denied.reason.as_deref(), Some("no-such-role"));
        let refused = ssh::Refused { rule: "ssh-principals", what: "there are none".to_owned() };
        let lint = Problem::from(IssueError::Lint(Refused::Ssh(refused)));
        assert_eq!(lint.reason.as_deref(), Some("ssh-principals"));
        let ours = [
            Problem::from(LedgerError::Unavailable("/secret/path".to_owned())),
            Problem::from(LedgerError::Refused("/secret/path".to_owned())),
            Problem::from(&unreachable()),
            Problem::from(SigningError::Down("/secret/path".to_owned())),
            Problem::from(IssueError::NoIssuer { issuer: "/secret/path".to_owned() }),
        ];
        for problem in ours {
            assert!(problem.status >= 500);
            assert!(!serde_json::to_string(&problem).unwrap().contains("secret"));
        }
    }
}
