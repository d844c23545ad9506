//! `chancery bot`: bots as operators see them.

mod apply;
#[cfg(target_os = "linux")]
mod install;
#[cfg(target_os = "linux")]
mod key;
#[cfg(target_os = "linux")]
mod kubernetes;
#[cfg(target_os = "linux")]
mod run;
mod unlock;

use std::{path::Path, process::ExitCode};

use api::{
    Because, Bot, BotInstance, BotInstanceState, BotName, BotSpec, BotToken, BotTokenRequest,
    JoinMethod, Lock, LockTarget, ProblemKind,
};
use client::{Client, Error, files};
use jiff::SignedDuration;

use super::{
    arguments::{
        Global,
        bot::{Add, BotCommand, Remove, Show, Token, TokenArguments},
    },
    connect,
    failure::Failure,
    output::{Output, time},
};

pub(super) async fn run(
    global: Global,
    command: BotCommand,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    match command {
        BotCommand::Add(it) => add(&connect(global)?, *it, output).await?,
        BotCommand::Apply(it) => apply::run(&connect(global)?, &it, output).await?,
        #[cfg(target_os = "linux")]
        BotCommand::Install(it) => install::run(&global, &it, output)?,
        #[cfg(target_os = "linux")]
        BotCommand::Key(it) => key::run(&global, it, output).await?,
        #[cfg(target_os = "linux")]
        BotCommand::KubernetesCredential(it) => kubernetes::credential(&it, output)?,
        BotCommand::List => list(&connect(global)?, output).await?,
        BotCommand::Remove(it) => remove(&connect(global)?, it, output).await?,
        #[cfg(target_os = "linux")]
        BotCommand::Run(it) => run::run(&global, &it, output).await?,
        BotCommand::Show(it) => show(&connect(global)?, &it, output).await?,
        #[cfg(target_os = "linux")]
        BotCommand::Status => return run::status(&global, output),
        BotCommand::Token(it) => token(&connect(global)?, &it, output).await?,
        BotCommand::Unlock(it) => unlock::run(&connect(global)?, it, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds a bot that is not there yet.
async fn add(client: &Client, it: Add, output: &mut Output) -> Result<(), Failure> {
    let Add { name, roles, method, limits, token } = it;
    let join = method.read()?;
    let place = Place::of(&token, &name, &join)?;
    match client.bot(&name).await {
        Err(Error::Problem(problem)) if problem.kind == ProblemKind::NotFound => (),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(is_there(&name)),
    }
    let spec = BotSpec {
        name,
        roles: roles.into_iter().collect(),
        join,
        max_instances: limits.max_instances,
        identity_ttl: limits.identity_ttl,
        max_ttl: limits.max_ttl,
        source_addresses: limits.source_addresses.into_iter().collect(),
    };
    let applied = client.apply_bot(&spec).await?;
    match place {
        Some(Place::Output) => return hand_over(client, &spec.name, &token, output).await,
        _ => output.show(&applied.bot, description)?,
    }
    if place.is_some() {
        hand_over(client, &spec.name, &token, output).await?;
    }
    next(&spec.join, output)
}

fn is_there(name: &BotName) -> Failure {
    Failure::Usage {
        what: format!("there is a bot {name} already"),
        hint: Some(format!(
            "`chancery bot show {name}` shows it, `bot apply FILE` changes it, `bot token {name}` \
             makes a token for another instance"
        )),
    }
}

/// Where a token is to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    File,
    Output,
}

impl Place {
    /// None for a bot that joins by something else; a file that is there already is refused
    /// before a token is made in vain.
    fn of(
        token: &TokenArguments,
        name: &BotName,
        join: &JoinMethod,
    ) -> Result<Option<Self>, Failure> {
        if !matches!(join, JoinMethod::Token {}) {
            if token.ttl.is_some() || token.out.is_some() {
                let what = format!(
                    "--token-ttl and --out are for a token; {name} joins by its {}",
                    method(join)
                );
                return Err(Failure::Usage { what, hint: None });
            }
            return Ok(None);
        }
        let path = token.path(name);
        if path.as_os_str() == "-" {
            return Ok(Some(Self::Output));
        }
        files::refuse_existing(&path)?;
        Ok(Some(Self::File))
    }
}

async fn token(client: &Client, it: &Token, output: &mut Output) -> Result<(), Failure> {
    // The appliance says of a bot that joins by something else.
    Place::of(&it.token, &it.name, &JoinMethod::Token {})?;
    hand_over(client, &it.name, &it.token, output).await
}

/// Makes a token, and puts it where it was asked for and nowhere else.
async fn hand_over(
    client: &Client,
    name: &BotName,
    arguments: &TokenArguments,
    output: &mut Output,
) -> Result<(), Failure> {
    let request = BotTokenRequest { ttl: arguments.ttl };
    let token = client.bot_token(name, &request).await?;
    let path = arguments.path(name);
    if path.as_os_str() == "-" {
        return Ok(output.line(&token)?);
    }
    write_token(&path, &token)?;
    // What a program wants to know is in the file; the secret stands nowhere else.
    if !output.is_json() {
        output.rows(&[
            ("token", path.display().to_string()),
            ("valid until", time(token.expires_at)),
        ])?;
    }
    Ok(())
}

fn write_token(path: &Path, token: &BotToken) -> Result<(), Failure> {
    let text = serde_json::to_vec(token).map_err(Error::Encode)?;
    Ok(files::write_private(path, &text)?)
}

/// What is to be done on the bot's machine.
fn next(join: &JoinMethod, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        return Ok(());
    }
    let bring = match join {
        JoinMethod::BoundKey { .. } => "write /etc/chancery/bot.toml, with its key in [join]",
        JoinMethod::Oidc { .. } => {
            "write /etc/chancery/bot.toml, with the file or the command that gives its token in \
             [join]"
        }
        JoinMethod::Token {} => {
            "bring the token there, and write /etc/chancery/bot.toml with token_file in [join]"
        }
        JoinMethod::X509 { .. } => {
            "write /etc/chancery/bot.toml, with its certificate and key in [join]"
        }
    };
    Ok(output.text(&format!(
        "\nnext, on its machine: {bring};\nthen `chancery bot install` makes a service of it\n"
    ))?)
}

async fn list(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let all = client.bots().await?;
    if output.is_json() {
        return Ok(output.line(&all)?);
    }
    let rows: Vec<_> = all.bots.iter().map(row).collect();
    output.table(Some(["NAME", "ROLES", "JOINS BY", "INSTANCES", "LAST HEARD OF"]), &rows)?;
    Ok(())
}

fn row(bot: &Bot) -> [String; 5] {
    let seen = bot.instances.iter().filter_map(|instance| instance.last_seen).max();
    [
        bot.spec.name.to_string(),
        roles(bot),
        method(&bot.spec.join).to_owned(),
        instances(bot),
        seen.map(time).unwrap_or_default(),
    ]
}

async fn show(client: &Client, it: &Show, output: &mut Output) -> Result<(), Failure> {
    let bot = client.bot(&it.name).await?;
    if output.is_json() {
        return Ok(output.line(&bot)?);
    }
    output.rows(&description(&bot))?;
    let rows: Vec<_> = bot.instances.iter().map(instance_row).collect();
    if !rows.is_empty() {
        output.text("\n")?;
        let heads = ["INSTANCE", "STATE", "GENERATION", "JOINED", "LAST HEARD OF", "VALID UNTIL"];
        output.table(Some(heads), &rows)?;
    }
    let locks = client.locks().await?.locks;
    let locks: Vec<_> = locks.iter().filter(|lock| concerns(lock, &it.name, None)).collect();
    if locks.is_empty() {
        return Ok(());
    }
    output.text("\n")?;
    for lock in locks {
        output.rows(&[
            ("locked", lock.target.to_string()),
            ("since", format!("{}, by {}", time(lock.locked_at), lock.locked_by)),
            ("reason", lock.reason.clone()),
        ])?;
    }
    Ok(output.text(&format!(
        "\nnext: when that is settled, `chancery bot unlock {} --reason …`\n",
        it.name
    ))?)
}

/// Whether a lock names a bot or, of its instances, this one or any.
fn concerns(lock: &Lock, name: &BotName, instance: Option<&str>) -> bool {
    match &lock.target {
        LockTarget::Bot(of) => of == name.as_str() && instance.is_none(),
        LockTarget::BotInstance(of, id) => {
            of == name.as_str() && instance.is_none_or(|instance| instance == id)
        }
        _ => false,
    }
}

async fn remove(client: &Client, it: Remove, output: &mut Output) -> Result<(), Failure> {
    let bot = client.remove_bot(&it.name, &Because { reason: it.reason }).await?;
    output.show(&bot, |bot| vec![("removed", bot.spec.name.to_string())])?;
    Ok(())
}

fn description(bot: &Bot) -> Vec<(&'static str, String)> {
    let spec = &bot.spec;
    let seconds = |it: Option<u32>| it.map(length).unwrap_or_default();
    let addresses = spec.source_addresses.iter().map(ToString::to_string);
    vec![
        ("bot", spec.name.to_string()),
        ("roles", roles(bot)),
        ("joins by", proof(bot)),
        ("instances", instances(bot)),
        ("its certificate", seconds(spec.identity_ttl)),
        ("what it is given", seconds(spec.max_ttl)),
        ("only from", addresses.collect::<Vec<_>>().join(", ")),
        ("added", format!("{}, by {}", time(bot.added_at), bot.added_by)),
    ]
}

fn instance_row(instance: &BotInstance) -> [String; 6] {
    [
        instance.id.clone(),
        state(instance.state).to_owned(),
        instance.generation.to_string(),
        time(instance.joined_at),
        instance.last_seen.map(time).unwrap_or_default(),
        time(instance.not_after),
    ]
}

fn roles(bot: &Bot) -> String {
    bot.spec.roles.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// How many live, and whether some are locked.
fn instances(bot: &Bot) -> String {
    let count = |state| bot.instances.iter().filter(|it| it.state == state).count();
    let live = count(BotInstanceState::Live);
    match count(BotInstanceState::Locked) {
        0 => format!("{live} of {}", bot.spec.max_instances),
        locked => format!("{live} of {}, {locked} locked", bot.spec.max_instances),
    }
}

/// The way to join, as the API has it.
fn method(join: &JoinMethod) -> &'static str {
    match join {
        JoinMethod::BoundKey { .. } => "bound-key",
        JoinMethod::Oidc { .. } => "oidc",
        JoinMethod::Token {} => "token",
        JoinMethod::X509 { .. } => "x509",
    }
}

fn proof(bot: &Bot) -> String {
    let word = method(&bot.spec.join);
    match &bot.spec.join {
        JoinMethod::BoundKey { recoveries, .. } => {
            let left = bot.recoveries_left.unwrap_or(*recoveries);
            format!("{word}, {left} of {recoveries} recoveries left")
        }
        JoinMethod::Oidc { issuer, audience, claims, .. } => {
            let claims = claims.iter().map(|(name, value)| format!("{name}={value}"));
            format!("{word}, {issuer} for {audience}: {}", claims.collect::<Vec<_>>().join(", "))
        }
        JoinMethod::Token {} => word.to_owned(),
        JoinMethod::X509 { identity, .. } => format!("{word}, {identity}"),
    }
}

fn state(state: BotInstanceState) -> &'static str {
    match state {
        BotInstanceState::Expired => "expired",
        BotInstanceState::Live => "live",
        BotInstanceState::Locked => "locked",
        BotInstanceState::Replaced => "replaced",
    }
}

/// A length of time as it is typed: `1h 30m`.
fn length(seconds: u32) -> String {
    format!("{:#}", SignedDuration::from_secs(seconds.into()))
}
