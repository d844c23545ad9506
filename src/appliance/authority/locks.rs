//! Locks and revocations: only operators set them.

use std::sync::Arc;

use api::{LockEffect, LockPreview, LockRequest, Locked, RevokeRequest, Revoked, UnlockRequest};

use super::{Authority, IssueError};
use crate::policy::{Caller, Denial, Lock, Locks};

impl Authority {
    /// Sets a lock. When this returns, not one signature more is made for its target; what was
    /// issued is revoked, sessions have ended.
    ///
    /// # Errors
    ///
    /// The caller is no operator, or it cannot be written down.
    pub async fn lock(&self, caller: &Caller, request: LockRequest) -> Result<Locked, IssueError> {
        let (operation, on) = ("lock add", request.target.to_string());
        self.only_operators(caller, operation, &on).await?;
        let now = self.clock.now();
        if request.issued_before.is_some_and(|time| time > now) {
            return Err(self.denied(caller, operation, &on, Denial::IssuedBeforeInFuture).await);
        }
        let reason = self.reason(caller, operation, &on, request.reason).await?;
        let request = LockRequest { reason, ..request };
        let locked = self.ledger.lock(request, caller.id.as_str(), now).await?;
        let api::Lock { id, ref target, issued_before, expires_at, .. } = locked.lock;
        let lock = Lock { id, target: target.clone(), issued_before, expires_at };
        self.flights.ground(|subject| lock.hits(subject)).await;
        Ok(locked)
    }

    /// What a lock would hit.
    ///
    /// # Errors
    ///
    /// The caller is no operator, or the ledger cannot be read.
    pub async fn preview_lock(
        &self,
        caller: &Caller,
        request: LockPreview,
    ) -> Result<LockEffect, IssueError> {
        self.only_operators(caller, "lock preview", &request.target.to_string()).await?;
        Ok(self.ledger.preview(request, self.clock.now()).await?)
    }

    /// Removes the locks on a target; returns them.
    ///
    /// # Errors
    ///
    /// The caller is no operator, or it cannot be written down.
    pub async fn unlock(
        &self,
        caller: &Caller,
        request: UnlockRequest,
    ) -> Result<api::Locks, IssueError> {
        let (operation, on) = ("lock remove", request.target.to_string());
        self.only_operators(caller, operation, &on).await?;
        let reason = self.reason(caller, operation, &on, request.reason).await?;
        let request = UnlockRequest { reason, ..request };
        Ok(self.ledger.unlock(request, caller.id.as_str(), self.clock.now()).await?)
    }

    /// The locks in force, the latest first.
    ///
    /// # Errors
    ///
    /// The caller is no operator, or the ledger cannot be read.
    pub async fn list_locks(&self, caller: &Caller) -> Result<api::Locks, IssueError> {
        self.only_operators(caller, "lock", "list").await?;
        Ok(self.ledger.locks(self.clock.now()).await?)
    }

    /// Revokes one certificate, given out or not; `None` if there is no such serial number.
    ///
    /// # Errors
    ///
    /// The caller is no operator, or it cannot be written down.
    pub async fn revoke(
        &self,
        caller: &Caller,
        request: RevokeRequest,
    ) -> Result<Option<Revoked>, IssueError> {
        self.only_operators(caller, "revoke", &request.issuer).await?;
        let reason = self.reason(caller, "revoke", &request.issuer, request.reason).await?;
        let request = RevokeRequest { reason, ..request };
        let (issuer, serial) = (request.issuer.clone(), request.serial.clone());
        let revoked = self.ledger.revoke(request, caller.id.as_str(), self.clock.now()).await?;
        self.flights.ground(|it| it.issuer == issuer && it.serial == serial).await;
        Ok(revoked)
    }

    /// The locks, for decisions.
    pub fn locks(&self) -> Arc<Locks> {
        self.ledger.standing_locks()
    }

    /// Refuses everybody but operators, and records it.
    ///
    /// # Errors
    ///
    /// The caller is none, or the refusal cannot be written down.
    pub async fn only_operators(
        &self,
        caller: &Caller,
        operation: &str,
        on: &str,
    ) -> Result<(), IssueError> {
        if caller.is_operator() {
            return Ok(());
        }
        let denial = Denial::NotAnOperator { caller: caller.id.clone() };
        Err(self.denied(caller, operation, on, denial).await)
    }
}
