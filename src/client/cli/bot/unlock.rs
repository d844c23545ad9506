//! `chancery bot unlock`: all that keeps a bot from going on, in one step.

use api::{JoinMethod, Locks, UnlockRequest};
use client::Client;

use super::{Place, concerns, hand_over};
use crate::cli::{arguments::bot::Unlock, failure::Failure, lock, output::Output, terminal::tell};

pub(super) async fn run(client: &Client, it: Unlock, output: &mut Output) -> Result<(), Failure> {
    let (name, instance) = (&it.bot.name, it.bot.instance.as_deref());
    let join = client.bot(name).await?.spec.join;
    let place = Place::of(&it.token, name, &join)?;
    let mut targets: Vec<_> = client
        .locks()
        .await?
        .locks
        .into_iter()
        .filter(|lock| concerns(lock, name, instance))
        .map(|lock| lock.target)
        .collect();
    targets.sort();
    targets.dedup();
    if targets.is_empty() {
        tell("there is no such lock; `chancery lock list` shows those in force");
        return Ok(());
    }
    let mut removed = Vec::new();
    for target in targets {
        let request = UnlockRequest { target, reason: it.reason.clone() };
        removed.extend(client.unlock(&request).await?.locks);
    }
    if place != Some(Place::Output) {
        lock::list(&Locks { locks: removed }, output)?;
    }
    if place.is_some() {
        hand_over(client, name, &it.token, output).await?;
    }
    if !output.is_json() && place != Some(Place::Output) {
        output.text(&format!("\nnext: {}\n", how_it_goes_on(&join)))?;
    }
    Ok(())
}

/// What was revoked stays revoked.
fn how_it_goes_on(join: &JoinMethod) -> &'static str {
    match join {
        JoinMethod::BoundKey { .. } => {
            "its agent joins anew within a minute; it was given a recovery for that"
        }
        JoinMethod::Oidc { .. } | JoinMethod::X509 { .. } => "its agent joins anew within a minute",
        JoinMethod::Token {} => {
            "put the token where token_file of its agent's configuration says; the agent joins \
             anew within a minute"
        }
    }
}
