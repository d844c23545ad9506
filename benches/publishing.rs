//! How soon what is taken back is published, and known to a thousand hosts.

use std::{slice, thread, time::Duration};

use harness::{
    Failure,
    fleet::Fleet,
    https::{Https, Identity},
    office::Office,
};
use serde_json::{Value, json};

use crate::callers::{Callers, Work};

/// From a revocation to its publication, sorted.
pub(crate) struct Published {
    /// While nobody asks for certificates.
    pub(crate) alone: Vec<Duration>,
    /// While as many are issued as the token can sign.
    pub(crate) under_load: Vec<Duration>,
}

/// An office with certificates to revoke.
pub(crate) struct Publishing {
    office: Office,
    caller: Identity,
    operator: Https,
}

impl Publishing {
    pub(crate) fn open() -> Result<Self, Failure> {
        let office = Office::open()?;
        let caller = office.enrol("user/alice")?;
        let operator = office.https(Some(office.operator()))?;
        Ok(Self { office, caller, operator })
    }

    /// Revokes so many certificates, one after the other, alone and under load.
    pub(crate) fn publish(&self, times: usize) -> Result<Published, Failure> {
        let alone = self.revoke_each(self.certificates(times)?)?;
        let serials = self.certificates(times)?;
        let callers = Callers::new(&self.office, slice::from_ref(&self.caller))?;
        let under_load = thread::scope(|scope| {
            let revoking = scope.spawn(|| self.revoke_each(serials));
            while !revoking.is_finished() {
                callers.load(Work::Single { connections: LOAD }, Duration::from_secs(1))?;
            }
            revoking.join().map_err(|_| Failure::new("whoever revokes panicked"))?
        })?;
        Ok(Published { alone, under_load })
    }

    /// From the moment at which a certificate is about to be revoked until each of so many hosts
    /// has been told that its acknowledgement is recorded; sorted, over some rounds.
    pub(crate) fn tell_hosts(&self, hosts: usize, rounds: usize) -> Result<Vec<Duration>, Failure> {
        let fleet = Fleet::join(&self.office, hosts)?;
        let mut all = Vec::new();
        for serial in self.certificates(rounds)? {
            let (operator, body) = (self.operator.clone(), revocation(&serial));
            all.extend(fleet.hear_of(move || {
                operator.post("/v1/revoke", &body)?.expect_status(200).map(drop)
            })?);
        }
        all.sort_unstable();
        Ok(all)
    }

    fn revoke_each(&self, serials: Vec<String>) -> Result<Vec<Duration>, Failure> {
        let mut took = Vec::with_capacity(serials.len());
        for serial in serials {
            let revoked = self.operator.post("/v1/revoke", &revocation(&serial))?;
            let revoked = revoked.expect_status(200)?.json()?;
            let path = format!("/v1/effects/{}?wait=30", revoked["change"]);
            let effect = self.operator.get(&path)?.expect_status(200)?.json()?;
            let after = effect["published_after"].as_u64();
            let after = after.ok_or_else(|| Failure::new("it was not published in time"))?;
            took.push(Duration::from_millis(after));
        }
        took.sort_unstable();
        Ok(took)
    }

    /// The serial numbers of new ones.
    fn certificates(&self, count: usize) -> Result<Vec<String>, Failure> {
        let body = self.office.login_request("measured")?;
        let serials = (0..count).map(|_| {
            let issued = self.office.ask(&self.caller, "/v1/issue/ssh-user", &body)?;
            Ok(issued["serial"].as_str().unwrap_or_default().to_owned())
        });
        serials.collect()
    }
}

fn revocation(serial: &str) -> Value {
    json!({
        "issuer": "ssh-user",
        "serial": serial,
        "code": "key-compromise",
        "reason": "a measurement",
    })
}

/// How many connections ask for certificates meanwhile.
const LOAD: usize = 32;
