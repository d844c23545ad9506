//! `chancery bot key`: the key that a bot joins with.

use std::path::Path;

use client::bot::{BoundKey, config::Config};
use serde::Serialize;

use crate::cli::{
    agent,
    arguments::{Global, bot::Key},
    failure::Failure,
    output::Output,
};

pub(super) async fn run(global: &Global, it: Key, output: &mut Output) -> Result<(), Failure> {
    let public_key = match it.out {
        Some(path) => BoundKey::File(path).make().await,
        None => {
            let path = global.config.as_deref().unwrap_or(Path::new(Config::FILE));
            let config =
                Config::read(path).map_err(|error| agent::failure(&error, error.hint()))?;
            let key = config.bound_key().ok_or_else(|| Failure::Usage {
                what: format!("{} does not say that the bot joins by a key", path.display()),
                hint: Some("it takes [join] method = \"bound-key\": docs/bots.md".to_owned()),
            })?;
            if it.make { key.make().await } else { key.public_key().await }
        }
    };
    let public_key = public_key.map_err(|error| agent::failure(&error, error.hint()))?;
    if output.is_json() {
        return Ok(output.line(&Made { public_key: public_key.to_pem() })?);
    }
    Ok(output.text(&public_key.to_pem())?)
}

#[derive(Serialize)]
struct Made {
    /// PEM `PUBLIC KEY`.
    public_key: String,
}
