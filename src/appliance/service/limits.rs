use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZero,
    time::Duration,
};

use api::{Problem, ProblemKind};
use governor::{
    NotUntil, Quota, RateLimiter,
    clock::{Clock, MonotonicClock},
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};
use pki::names::SpiffeId;

use super::metrics;
use crate::{
    config,
    policy::{Caller, SpiffePattern},
};

/// How often each client may ask. What is refused here is not recorded, and costs next to nothing.
///
/// A client is a SPIFFE id, and not a certificate: a new certificate brings no new requests. Each
/// instance of a bot is one, and the patterns are for the bot.
#[derive(Debug)]
pub(super) struct Limits<C: Clock = MonotonicClock> {
    clock: C,
    some: Vec<(SpiffePattern, Limiter<C>)>,
    others: Limiter<C>,
    /// Of each address, and all together: a name would cost them nothing.
    strangers: (Limiter<C, IpAddr>, OneLimiter<C>),
    /// Questions about certificates: of each address, and of all.
    ocsp: (Limiter<C, IpAddr>, OneLimiter<C>),
}

type Limiter<C, K = String> =
    RateLimiter<K, HashMapStateStore<K>, C, NoOpMiddleware<<C as Clock>::Instant>>;

type OneLimiter<C> = RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<<C as Clock>::Instant>>;

impl<C: Clock + Clone> Limits<C> {
    pub(super) fn new(limits: &config::Limits, clock: C) -> Self {
        let limiter = |rate: NonZero<u32>, burst: NonZero<u32>| {
            let quota = Quota::per_second(rate).allow_burst(burst);
            RateLimiter::hashmap_with_clock(quota, clock.clone())
        };
        let some = limits.clients.iter();
        let strangers = |rate: NonZero<u32>| {
            Quota::per_second(rate).allow_burst(rate.saturating_mul(STRANGERS_AT_ONCE))
        };
        let of_one = strangers(limits.strangers);
        let of_all = strangers(limits.strangers.saturating_mul(STRANGERS_OF_ALL));
        Self {
            some: some.map(|some| (some.id.clone(), limiter(some.rate, some.burst))).collect(),
            others: limiter(limits.rate, limits.burst),
            strangers: (
                RateLimiter::hashmap_with_clock(of_one, clock.clone()),
                RateLimiter::direct_with_clock(of_all, clock.clone()),
            ),
            ocsp: (
                RateLimiter::hashmap_with_clock(OCSP_OF_ONE, clock.clone()),
                RateLimiter::direct_with_clock(OCSP_OF_ALL, clock.clone()),
            ),
            clock,
        }
    }

    /// Counts a request of this client, whose name stands for it if it has no id.
    pub(super) fn admit(&self, id: Option<&SpiffeId>, name: &str) -> Result<(), Problem> {
        self.take(id, name).map_err(too_often)
    }

    /// Counts a request of somebody who has shown no certificate. Bots that prove who they are each
    /// time anew join for ever: nobody else's requests may keep them out.
    pub(super) fn admit_stranger(&self, address: IpAddr) -> Result<(), Problem> {
        let (of_one, of_all) = &self.strangers;
        let wait = |until: NotUntil<_>| too_often(until.wait_time_from(self.clock.now()));
        of_one.check_key(&site(address)).map_err(wait)?;
        of_all.check().map_err(wait)
    }

    /// Counts a question about certificates that costs a signature.
    pub(super) fn admit_ocsp(&self, address: IpAddr) -> Result<(), Problem> {
        let (of_one, of_all) = &self.ocsp;
        let wait = |until: NotUntil<_>| too_often(until.wait_time_from(self.clock.now()));
        of_one.check_key(&address).map_err(wait)?;
        of_all.check().map_err(wait)
    }

    /// Counts an item of a batch. It may have to wait for its turn, as long as patience lasts.
    pub(super) async fn pace(
        &self,
        caller: &Caller,
        patience: &mut Duration,
    ) -> Result<(), Problem> {
        while let Err(wait) = self.take(Some(caller.principal()), caller.id.as_str()) {
            *patience = patience.checked_sub(wait).ok_or_else(|| too_often(wait))?;
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    /// Forgets the clients that may have their whole burst again.
    pub(super) fn forget_idle(&self) {
        let limiters = self.some.iter().map(|(_, limiter)| limiter);
        for limiter in limiters.chain([&self.others]) {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
        for limiter in [&self.ocsp.0, &self.strangers.0] {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    /// Counts once, or says how long to wait.
    fn take(&self, id: Option<&SpiffeId>, name: &str) -> Result<(), Duration> {
        let own = self.some.iter().find(|(pattern, _)| id.is_some_and(|id| pattern.matches(id)));
        let limiter = own.map_or(&self.others, |(_, limiter)| limiter);
        limiter.check_key(&name.to_owned()).map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// Questions of one address; it may be that of a proxy, which asks for many.
const OCSP_OF_ONE: Quota = per_second(50, 200);

const OCSP_OF_ALL: Quota = per_second(200, 400);

const fn per_second(rate: u32, burst: u32) -> Quota {
    const fn number(number: u32) -> NonZero<u32> {
        match NonZero::new(number) {
            Some(number) => number,
            None => NonZero::<u32>::MIN,
        }
    }

    Quota::per_second(number(rate)).allow_burst(number(burst))
}

/// As many may join at the same moment, times what may join each second.
const STRANGERS_AT_ONCE: NonZero<u32> = NonZero::new(10).unwrap();

/// As many addresses may ask as often as one may.
const STRANGERS_OF_ALL: NonZero<u32> = NonZero::new(10).unwrap();

/// What one site has: whoever has an IPv6 address has all of its /64 (RFC 4291 section 2.5.4).
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn too_often(wait: Duration) -> Problem {
    metrics::rate_limited();
    let detail = "this client asks more often than it may; nothing was done";
    Problem::new(ProblemKind::TooManyRequests, detail)
        .with_hint("ask again after the time that is said, or let an operator raise the limit")
        .with_retry_after(wait)
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const LIMITS: &str = r#"
        rate = 2
        burst = 3
        clients = [
            { id = "spiffe://example.test/bot/*", rate = 1, burst = 1 },
            { id = "spiffe://example.test/bot/fast", rate = 9, burst = 9 },
        ]
    "#;

    #[test]
    fn a_client_has_its_burst_and_then_its_rate_and_others_have_theirs() {
        let (limits, clock) = limits();
        let ask = |name: &str| limits.admit(None, name).map_err(|problem| problem.retry_after);
        assert_eq!([ask("a"), ask("a"), ask("a")], [Ok(()); 3]);
        assert_eq!(ask("a"), Err(Some(1)), "half a second, in whole seconds");
        assert_eq!(ask("b"), Ok(()));
        clock.advance(Duration::from_millis(499));
        assert_eq!(ask("a"), Err(Some(1)));
        clock.advance(Duration::from_millis(1));
        assert_eq!([ask("a"), ask("a")], [Ok(()), Err(Some(1))]);
        clock.advance(Duration::from_secs(10));
        assert_eq!(
            [ask("a"), ask("a"), ask("a"), ask("a")],
            [Ok(()), Ok(()), Ok(()), Err(Some(1))]
        );
    }

    #[test]
    fn the_first_pattern_that_matches_counts() {
        let (limits, _clock) = limits();
        let ask = |id: &str| {
            let id: SpiffeId = id.parse().unwrap();
            limits.admit(Some(&id), id.as_str()).is_ok()
        };
        for (id, wanted) in [("bot/a", 1), ("bot/b", 1), ("bot/fast", 1), ("user/a", 3)] {
            let id = format!("spiffe://example.test/{id}");
            let granted = (0..10).filter(|_| ask(&id)).count();
            assert_eq!(granted, wanted, "{id}");
        }
    }

    #[test]
    fn strangers_have_a_limit_for_each_site_and_one_together() {
        let (limits, clock) = limits();
        let ask = |address: &str| limits.admit_stranger(address.parse().unwrap());
        let asked = |address: &str| (0..200).filter(|_| ask(address).is_ok()).count();
        assert_eq!(asked("192.0.2.1"), 100);
        assert_eq!(ask("192.0.2.1").unwrap_err().retry_after, Some(1));
        assert!(ask("192.0.2.2").is_ok(), "nobody else feels it");
        assert_eq!((asked("2001:db8::1"), asked("2001:db8::1:2")), (100, 0), "one site");
        assert!(limits.admit(None, "a").is_ok());
        clock.advance(Duration::from_millis(100));
        assert!(ask("192.0.2.1").is_ok() && ask("192.0.2.1").is_err());
        let all: usize = (10..250).map(|last| asked(&format!("198.51.100.{last}"))).sum();
        assert!((700..1_000).contains(&all), "{all} besides those before");
        assert!(limits.admit(None, "a").is_ok());
    }

    #[test]
    fn clients_that_have_gone_are_forgotten() {
        let (limits, clock) = limits();
        for number in 0..1000 {
            assert!(limits.admit(None, &number.to_string()).is_ok());
        }
        limits.forget_idle();
        assert_eq!(limits.others.len(), 1000);
        clock.advance(Duration::from_secs(2));
        assert!(limits.admit(None, "new").is_ok());
        limits.forget_idle();
        assert_eq!(limits.others.len(), 1);
    }

    fn limits() -> (Limits<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Limits::new(&toml::from_str(LIMITS).unwrap(), clock.clone()), clock)
    }
}
