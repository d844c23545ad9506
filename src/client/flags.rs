//! The flags that say which appliance, and as whom: the same in all of Chancery's command lines.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{
    Client, Error,
    duration::duration,
    environment,
    profile::{Overrides, ProfileError, ProfileFile, ServerUrl, Settings},
};

/// Which appliance, and as whom.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Connection (each wins over the profile)")]
pub struct ConnectionFlags {
    /// The profile to use, instead of the file's default
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,
    /// The appliance, as https://HOST:PORT
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<ServerUrl>,
    /// PEM of the root that the appliance's certificate leads to
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM of your client certificate, then of its chain
    #[arg(long, global = true, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// PEM of your client certificate's private key
    #[arg(long, global = true, value_name = "FILE")]
    pub cert_key: Option<PathBuf>,
    #[cfg_attr(
        not(windows),
        doc = "The file of profiles [default: chancery/config.toml in $XDG_CONFIG_HOME or ~/.config]"
    )]
    #[cfg_attr(
        windows,
        doc = "The file of profiles [default: chancery\\config.toml in %APPDATA%]"
    )]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long to go on trying while the appliance is busy [default: 60s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub deadline: Option<Duration>,
}

/// There is no connection to be made.
#[derive(Debug, thiserror::Error)]
pub enum FlagsError {
    /// An identity cannot be used.
    #[error(transparent)]
    Client(#[from] Error),
    /// A profile cannot be used, or something is said nowhere.
    #[error(transparent)]
    Profile(#[from] ProfileError),
}

impl ConnectionFlags {
    /// The file of profiles. That of `--config` must be there; the one in its usual place need not.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is none.
    pub fn profile_file(&self) -> Result<ProfileFile, ProfileError> {
        match (&self.config, environment::config_file()) {
            (Some(path), _) => ProfileFile::read(path),
            (None, Some(path)) => ProfileFile::read_if_present(&path),
            (None, None) => Ok(ProfileFile::default()),
        }
    }

    /// What a connection is made with.
    ///
    /// # Errors
    ///
    /// Something is said neither by a flag nor by the file.
    pub fn settings(self, file: &ProfileFile) -> Result<Settings, ProfileError> {
        let Self { profile, server, ca, cert, cert_key, deadline, .. } = self;
        let overrides = Overrides { server, ca, certificate: cert, key: cert_key, deadline };
        file.resolve(profile.as_deref(), overrides)
    }

    /// A client of the appliance. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// As [`settings`](Self::settings), or the caller's identity cannot be used.
    pub fn client(&self) -> Result<Client, FlagsError> {
        let file = self.profile_file()?;
        Ok(Client::new(&self.clone().settings(&file)?)?)
    }
}
