//! Cards: only operators take them from their holders.

use api::{Because, CardChanged};

use super::{Authority, IssueError};
use crate::{ledger::cards::Taking, policy::Caller};

impl Authority {
    /// Takes a card from its holder: released, it may become another's; removed, it gets no
    /// certificate any more. When this returns, not one signature more is made for its last holder
    /// and it. Nothing if there is no such card.
    ///
    /// # Errors
    ///
    /// The caller is no operator, gives no reason, or it cannot be written down.
    pub async fn take_card(
        &self,
        caller: &Caller,
        serial: u32,
        taking: Taking,
        because: Because,
    ) -> Result<Option<CardChanged>, IssueError> {
        let operation = match taking {
            Taking::Release => "card release",
            Taking::Remove => "card remove",
        };
        let on = serial.to_string();
        self.only_operators(caller, operation, &on).await?;
        let reason = self.reason(caller, operation, &on, because.reason).await?;
        let (by, now) = (caller.id.as_str(), self.clock.now());
        let Some(taken) = self.ledger.take_card(serial, taking, by, &reason, now).await? else {
            return Ok(None);
        };
        let revoked = taken.revoked;
        let hits =
            |issuer: &str, serial: &str| revoked.iter().any(|it| it.0 == issuer && it.1 == serial);
        self.flights.ground(|subject| hits(&subject.issuer, &subject.serial)).await;
        Ok(Some(taken.changed))
    }
}
