//! Sessions: asked for, decided on, and ended.

use api::{Because, Session, SessionEnded, SessionQuery, SessionRequest, Sessions};

use super::{Authority, IssueError, random};
use crate::{
    ledger::{NewDecision, NewSession},
    policy::{
        Caller, Denial, Rules, Standing, certificate_roles, check_reason, decide_approval,
        decide_session, find_role, is_approver,
    },
};

impl Authority {
    /// Opens a session, or lets it wait for its approvals.
    ///
    /// # Errors
    ///
    /// Policy or a lock refuses it, or it cannot be written down.
    pub async fn request_session(
        &self,
        caller: &Caller,
        request: SessionRequest,
    ) -> Result<Session, IssueError> {
        let role = request.role.clone();
        let outcome = self.try_request_session(caller, request).await;
        self.audited(caller, "session request", &role, outcome).await
    }

    async fn try_request_session(
        &self,
        caller: &Caller,
        request: SessionRequest,
    ) -> Result<Session, IssueError> {
        let bot = self.calling_bot(caller).await?;
        let (rules, locks, now) = (self.rules.load_full(), self.locks(), self.clock.now());
        let standing =
            Standing { account: None, bot: bot.as_ref(), locks: &locks, session: None, now };
        let grant = decide_session(caller, request, &rules, standing)?;
        let role = find_role(caller, &grant.role, &rules)?;
        let new = NewSession {
            id: session_id()?,
            certificate_roles: certificate_roles(role).into_iter().collect(),
            closes_at: role.closes_at(now)?,
            grant,
            now,
        };
        Ok(self.ledger.request_session(new).await?)
    }

    /// Approves or denies a session.
    ///
    /// # Errors
    ///
    /// The caller may not, the session does not wait, or it cannot be written down.
    pub async fn decide_session(
        &self,
        caller: &Caller,
        session: &str,
        approved: bool,
        because: Because,
    ) -> Result<Session, IssueError> {
        let operation = if approved { "session approve" } else { "session deny" };
        let outcome = self.try_decide_session(caller, session, approved, because).await;
        self.audited(caller, operation, session, outcome).await
    }

    async fn try_decide_session(
        &self,
        caller: &Caller,
        session: &str,
        approved: bool,
        because: Because,
    ) -> Result<Session, IssueError> {
        let found = self.find_session(caller, session).await?;
        let bot = self.calling_bot(caller).await?;
        let (rules, locks, now) = (self.rules.load_full(), self.locks(), self.clock.now());
        let standing =
            Standing { account: None, bot: bot.as_ref(), locks: &locks, session: None, now };
        let role = decide_approval(caller, &found.role, &found.requester, &rules, standing)?;
        let decision = NewDecision {
            session: found.id,
            approver: caller.id.to_string(),
            approved,
            reason: check_reason(&because.reason).map(|()| because.reason)?,
            closes_at: if approved { role.closes_at(now)? } else { None },
            now,
        };
        Ok(self.ledger.decide_session(decision).await?)
    }

    /// Notes that a session of the caller is still needed.
    ///
    /// # Errors
    ///
    /// It is not open or not the caller's, or it cannot be written down.
    pub async fn beat(&self, caller: &Caller, session: &str) -> Result<Session, IssueError> {
        let outcome = self.try_beat(caller, session).await;
        self.audited(caller, "session heartbeat", session, outcome).await
    }

    async fn try_beat(&self, caller: &Caller, session: &str) -> Result<Session, IssueError> {
        let found = self.find_session(caller, session).await?;
        if found.requester != caller.id.as_str() {
            return Err(Denial::no_such_session(caller, session).into());
        }
        Ok(self.ledger.beat(session, self.clock.now()).await?)
    }

    /// Ends a session: its requester, an approver of its role, or an operator. When this returns,
    /// nothing more is signed for it, and what was is revoked.
    ///
    /// # Errors
    ///
    /// It is over, not to be seen by the caller, or it cannot be written down.
    pub async fn end_session(
        &self,
        caller: &Caller,
        session: &str,
        because: Because,
    ) -> Result<SessionEnded, IssueError> {
        let outcome = self.try_end_session(caller, session, &because.reason).await;
        let ended = self.audited(caller, "session end", session, outcome).await?;
        self.flights.ground(|subject| subject.session.as_deref() == Some(session)).await;
        Ok(ended)
    }

    async fn try_end_session(
        &self,
        caller: &Caller,
        session: &str,
        reason: &str,
    ) -> Result<SessionEnded, IssueError> {
        self.find_session(caller, session).await?;
        check_reason(reason)?;
        let (by, now) = (caller.id.as_str(), self.clock.now());
        Ok(self.ledger.end_session(session, by, reason, now).await?)
    }

    /// Ends the sessions whose time is over, or whose heartbeat is missing.
    ///
    /// # Errors
    ///
    /// It cannot be written down.
    pub async fn end_due_sessions(&self) -> Result<(), IssueError> {
        let ended = self.ledger.end_due_sessions(self.clock.now()).await?;
        let is_over =
            |session: &Option<String>| session.as_ref().is_some_and(|id| ended.contains(id));
        self.flights.ground(|subject| is_over(&subject.session)).await;
        Ok(())
    }

    /// A session that the caller may see.
    ///
    /// # Errors
    ///
    /// There is none; that one of others exists is not told.
    pub async fn session(&self, caller: &Caller, id: &str) -> Result<Session, IssueError> {
        let outcome = self.find_session(caller, id).await;
        self.audited(caller, "session show", id, outcome).await
    }

    async fn find_session(&self, caller: &Caller, id: &str) -> Result<Session, IssueError> {
        let found = self.ledger.session(id).await?;
        let found = found.filter(|session| may_see(caller, session, &self.rules.load()));
        Ok(found.ok_or_else(|| Denial::no_such_session(caller, id))?)
    }

    /// The sessions that the caller may see, the latest first.
    ///
    /// # Errors
    ///
    /// The ledger cannot be read.
    pub async fn sessions(
        &self,
        caller: &Caller,
        query: SessionQuery,
    ) -> Result<Sessions, IssueError> {
        let mut found = self.ledger.sessions(query).await?;
        let rules = self.rules.load();
        found.sessions.retain(|session| may_see(caller, session, &rules));
        Ok(found)
    }
}

/// Its requester, the approvers of its role, and operators.
fn may_see(caller: &Caller, session: &Session, rules: &Rules) -> bool {
    session.requester == caller.id.as_str()
        || caller.is_operator()
        || rules.role(&session.role).is_some_and(|role| is_approver(caller, role))
}

/// `s-` and 80 random bits.
fn session_id() -> Result<String, IssueError> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let random: [u8; 16] = random()?;
    let letter = |byte: u8| char::from(LETTERS[usize::from(byte % 32)]);
    Ok(["s-".to_owned(), random.into_iter().map(letter).collect()].concat())
}
