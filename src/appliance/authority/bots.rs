//! Bots: what their instances are given for themselves, and how they stand.

use std::net::IpAddr;

use api::{Because, Bot, BotName, BotRole, BotSpec};
use jiff::SignedDuration;
use pki::{
    keys::PublicKey,
    x509::{Recognised, csr::Csr},
};

use super::{Authority, IssueError, Issuer, random, spiffe_id};
use crate::{
    ledger::{
        Released,
        bots::{Adopted, Adoption, Held, InstanceStanding, Joining, Lineage, Proof, Shown},
    },
    policy::{
        BotDenial, Caller, Denial, Grant, Instance, Lock, Role, Subject, check_address, find_role,
    },
    signing::Priority,
};

/// Validity of an instance's own certificate, unless the bot has its own.
const IDENTITY_TTL: u32 = 60 * 60;

/// Somebody has proven to be a bot.
#[derive(Clone, Debug)]
pub struct ProvenBot {
    /// The bot, as it was when the proof was verified.
    pub spec: BotSpec,
    /// What the proof uses up.
    pub proof: Proof,
    /// The proof in words.
    pub words: String,
    /// From where.
    pub from: IpAddr,
}

/// An instance's own certificate.
#[derive(Clone, Debug)]
pub struct OwnCertificate {
    /// The certificate.
    pub released: Released,
    /// The instance.
    pub instance: Instance,
    /// From 1.
    pub generation: u64,
    /// Whether the instance may renew it.
    pub renewable: bool,
}

impl Authority {
    /// Refuses a bot whose roles are none of the rules', or are not given to it.
    ///
    /// # Errors
    ///
    /// The first that is not.
    pub fn check_bot_roles(&self, spec: &BotSpec) -> Result<(), Denial> {
        let principal = spiffe_id(&self.trust_domain, "bot", spec.name.as_str());
        let principal = principal.map_err(|_| nameless(&spec.name))?;
        let (bot, rules) = (Caller::new(principal), self.rules.load());
        spec.roles.iter().try_for_each(|role| find_role(&bot, role, &rules).map(drop))
    }

    /// Makes a new instance of a bot, and certifies its key.
    ///
    /// # Errors
    ///
    /// The proof is used up, the bot is locked or asks from elsewhere, or as
    /// [`issue`](Self::issue).
    pub async fn join_bot(
        &self,
        proven: ProvenBot,
        csr: Csr,
    ) -> Result<OwnCertificate, IssueError> {
        check_address(&proven.spec, proven.from).map_err(Denial::from)?;
        let ProvenBot { spec, proof, words, from } = proven;
        let instance = Instance::new(spec.name.clone(), random()?);
        let grant = self.bot_grant(&instance, &spec, csr.public_key)?;
        let joining = Joining { spec, instance, proof, words, from };
        let lineage = Lineage::Join(Box::new(joining));
        let released = self.fulfil(&self.own, grant, (None, Some(lineage)), Priority::Bot).await?;
        self.own_certificate(released).await
    }

    /// Gives an instance its next certificate. One that is not the newest any more, and asks with a
    /// new key, is a copy's: then the instance is locked.
    ///
    /// # Errors
    ///
    /// The instance does not renew or is gone, its certificate is not the newest, or as
    /// [`issue`](Self::issue).
    pub async fn renew_bot(&self, shown: &Shown, csr: Csr) -> Result<OwnCertificate, IssueError> {
        let caller = Caller::new(shown.caller.clone());
        let outcome = self.try_renew_bot(shown, csr).await;
        self.audited(&caller, "renew", Grant::BOT_ROLE, outcome).await
    }

    async fn try_renew_bot(&self, shown: &Shown, csr: Csr) -> Result<OwnCertificate, IssueError> {
        let standing = self.settle(shown).await?;
        match standing.held {
            Held::Confirmed => {}
            Held::Discarded | Held::Superseded => {
                return Err(self.lock_clone(shown, &csr.public_key.fingerprint()).await);
            }
            held => return Err(refusal(held, shown)),
        }
        if !standing.renewable {
            let bot = shown.instance.bot.clone();
            return Err(Denial::from(BotDenial::NotRenewable { bot }).into());
        }
        let grant = self.bot_grant(&shown.instance, &standing.spec, csr.public_key)?;
        let lineage = Lineage::Renewal(shown.clone());
        let caller = Caller::new(shown.caller.clone());
        let released = self.fulfil(&caller, grant, (None, Some(lineage)), Priority::Bot).await?;
        self.own_certificate(released).await
    }

    /// How an instance stands that asks for anything. A certificate that was pending is in use from
    /// now on.
    ///
    /// # Errors
    ///
    /// It is locked or gone, asks from elsewhere, or shows a certificate that is not the one in use.
    pub async fn stand(&self, shown: &Shown) -> Result<InstanceStanding, IssueError> {
        let standing = self.settle(shown).await?;
        match standing.held {
            Held::Confirmed => Ok(standing),
            held => Err(refusal(held, shown)),
        }
    }

    /// Confirms what was pending, and takes up what the ledger has lost.
    async fn settle(&self, shown: &Shown) -> Result<InstanceStanding, IssueError> {
        let now = self.clock.now();
        let subject = Subject {
            caller: shown.caller.to_string(),
            role: Grant::BOT_ROLE.to_owned(),
            issuer: self.own_issuer.clone(),
            serial: shown.serial.clone(),
            key: shown.key.clone(),
            issued_at: now,
            ..Subject::default()
        };
        if let Some(lock) = self.locks().hit(&subject, now) {
            return Err(Denial::Locked { target: lock.target.clone() }.into());
        }
        let mut standing = self.read_standing(shown).await?;
        // Whoever has a copy is found out from wherever it asks.
        if matches!(standing.held, Held::Discarded | Held::Superseded) {
            return Ok(standing);
        }
        check_address(&standing.spec, shown.from).map_err(Denial::from)?;
        if standing.held == Held::Unknown {
            match self.adopt(shown).await? {
                Adopted::Older => {
                    return Ok(InstanceStanding { held: Held::Superseded, ..standing });
                }
                Adopted::Taken => standing = self.read_standing(shown).await?,
            }
        }
        if standing.held == Held::Pending {
            self.ledger.confirm(shown, &self.own_issuer, now).await?;
            standing.held = Held::Confirmed;
            standing.confirmed = standing.generation;
        }
        Ok(standing)
    }

    async fn read_standing(&self, shown: &Shown) -> Result<InstanceStanding, IssueError> {
        let Shown { instance, serial, .. } = shown;
        let found = self.ledger.instance_standing(instance, &self.own_issuer, serial).await?;
        Ok(found.ok_or_else(|| Denial::from(nameless(&instance.bot)))?)
    }

    /// Takes up a certificate that the ledger does not know: nothing is signed before its intent is
    /// durable, so that the ledger must have gone back to an older copy.
    async fn adopt(&self, shown: &Shown) -> Result<Adopted, IssueError> {
        let recognised = match self.issuers.get(&self.own_issuer) {
            Some(Issuer::X509 { issuer, .. }) => issuer.recognise(&shown.certificate),
            Some(Issuer::Ssh(_)) | None => None,
        };
        let Some(Recognised { text, sealed }) = recognised else {
            return Err(refusal(Held::Stray, shown));
        };
        let adoption = Adoption {
            shown: shown.clone(),
            issuer: self.own_issuer.clone(),
            text,
            summary: sealed.summary().clone(),
            own: self.own.id.to_string(),
        };
        let adopted = self.ledger.adopt(adoption, self.clock.now()).await?;
        tracing::warn!(
            caller = %shown.caller,
            serial = shown.serial,
            outcome = ?adopted,
            "the ledger did not know a certificate of a bot that the appliance has signed: it was \
             restored from an older copy"
        );
        Ok(adopted)
    }

    /// Locks an instance whose identity somebody has copied. When this returns, not one signature
    /// more is made for it.
    async fn lock_clone(&self, shown: &Shown, key: &str) -> IssueError {
        let locking = self.ledger.lock_clone(
            shown.clone(),
            (&self.own_issuer, key),
            self.own.id.as_str(),
            self.clock.now(),
        );
        let locked = match locking.await {
            Ok(locked) => locked.lock,
            Err(error) => return error.into(),
        };
        metrics::counter!("chancery_bot_clones_total").increment(1);
        tracing::warn!(caller = %shown.caller, reason = locked.reason, "a bot was copied");
        let api::Lock { id, target, reason: seen, .. } = locked;
        let lock = Lock { id, target, issued_before: None, expires_at: None };
        self.flights.ground(|subject| lock.hits(subject)).await;
        let (caller, target) = (shown.caller.clone(), lock.target);
        Denial::from(BotDenial::Cloned { caller, target, seen }).into()
    }

    /// Forgets a bot, and takes back all that it has. When this returns, not one signature more is
    /// made for it. Nothing if there is no such bot.
    ///
    /// # Errors
    ///
    /// The caller is no operator, gives no reason, or it cannot be written down.
    pub async fn remove_bot(
        &self,
        caller: &Caller,
        bot: &BotName,
        because: Because,
    ) -> Result<Option<Bot>, IssueError> {
        let operation = "bot remove";
        self.only_operators(caller, operation, bot.as_str()).await?;
        let reason = self.reason(caller, operation, bot.as_str(), because.reason).await?;
        let removed =
            self.ledger.remove_bot(bot, caller.id.as_str(), &reason, self.clock.now()).await?;
        let target = api::LockTarget::Bot(bot.to_string());
        let its = Lock { id: 0, target, issued_before: None, expires_at: None };
        self.flights.ground(|subject| its.hits(subject)).await;
        Ok(removed)
    }

    /// The roles that a bot was given and the rules give to it, and until when they are open.
    pub fn bot_roles(&self, caller: &Caller, spec: &BotSpec) -> Vec<BotRole> {
        let (rules, now) = (self.rules.load(), self.clock.now());
        let role = |role: &Role| match role.closes_at(now) {
            Ok(closes_at) => {
                BotRole { role: role.name.clone(), closes_at, opens_at: None, open: true }
            }
            Err(denial) => {
                let opens_at = match denial {
                    Denial::OutsideSchedule { next_opening, .. } => next_opening,
                    _ => None,
                };
                let opens_at = opens_at.map(|opening| opening.timestamp());
                BotRole { role: role.name.clone(), closes_at: None, opens_at, open: false }
            }
        };
        let given = spec.roles.iter().filter_map(|name| find_role(caller, name, &rules).ok());
        given.map(role).collect()
    }

    /// What is known of the calling bot, if it is one.
    pub(super) async fn calling_bot(&self, caller: &Caller) -> Result<Option<BotSpec>, IssueError> {
        match Instance::named(&caller.id) {
            Some(instance) => Ok(self.ledger.bot_spec(&instance.bot).await?),
            None => Ok(None),
        }
    }

    fn bot_grant(
        &self,
        instance: &Instance,
        spec: &BotSpec,
        public_key: PublicKey,
    ) -> Result<Grant, IssueError> {
        if self.rules.load().is_own(&public_key) {
            return Err(Denial::OwnKey.into());
        }
        let id = instance.spiffe_id(&self.trust_domain).map_err(|_| nameless(&instance.bot));
        let ttl = spec.identity_ttl.unwrap_or(IDENTITY_TTL);
        let ttl = SignedDuration::from_secs(ttl.into());
        Ok(Grant::bot(&self.own_issuer, id.map_err(Denial::from)?, public_key, ttl))
    }

    async fn own_certificate(&self, released: Released) -> Result<OwnCertificate, IssueError> {
        let summary = released.summary();
        let serial = summary.serial.to_string();
        let (generation, renewable) = self.ledger.generation(released.issuer(), &serial).await?;
        let ids = summary.names.iter().filter_map(|name| name.strip_prefix("URI:"));
        let instance = ids.filter_map(Instance::recorded).next();
        let issuer = || IssueError::NoIssuer { issuer: released.issuer().to_owned() };
        let instance = instance.ok_or_else(issuer)?;
        Ok(OwnCertificate { released, instance, generation, renewable })
    }
}

fn refusal(held: Held, shown: &Shown) -> IssueError {
    Denial::from(held.denial(&shown.caller, &shown.instance)).into()
}

fn nameless(bot: &BotName) -> BotDenial {
    BotDenial::NoSuchBot { bot: bot.to_string() }
}
