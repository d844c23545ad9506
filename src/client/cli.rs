//! The command line: arguments, commands, output.

#[cfg(target_os = "linux")]
mod agent;
mod arguments;
mod batch;
mod bot;
mod card;
mod directory;
mod effect;
mod failure;
mod host;
mod inspect;
mod kdc;
mod lock;
mod names;
mod output;
mod request;
mod session;
mod setup;
mod sign;
#[cfg(unix)]
mod ssh;
mod terminal;
mod windows;

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::Parser;
use client::{Client, environment};

#[cfg(unix)]
use arguments::session::SessionCommand;
use arguments::{
    Arguments, Command, Global, ProfileCommand, Request, directory::DirectoryCommand,
    windows::WindowsCommand,
};
use failure::Failure;
use output::Output;

/// Runs one command line, and says on the terminal what became of it.
pub(crate) async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error),
    };
    let mut output = Output::new(arguments.json);
    match perform(arguments, &mut output).await {
        Ok(code) => code,
        Err(failure) => failure.report(&mut output),
    }
}

async fn perform(arguments: Arguments, output: &mut Output) -> Result<ExitCode, Failure> {
    let Arguments { global, command, .. } = arguments;
    match command {
        Command::Batch(batch) => return batch::run(&connect(global)?, &batch, output).await,
        Command::Bot(it) => return bot::run(global, it, output).await,
        Command::Card(it) => return card::run(&connect(global)?, it, output).await,
        Command::Ca(ca) => inspect::authorities(&connect(global)?, &ca, output).await?,
        Command::Csr(csr) => setup::signing_request(&csr, output)?,
        Command::Directory(DirectoryCommand::Check(it)) => {
            return directory::check(&connect(global)?, &it, output).await;
        }
        Command::Host(host) => return host::run(global, host, output).await,
        Command::Kdc(it) => kdc::run(|| connect(global), it, output).await?,
        Command::Lock(it) => return lock::run(&connect(global)?, it, output).await,
        Command::List(list) => inspect::list(&connect(global)?, &list, output).await?,
        Command::Profile(ProfileCommand::Add { name }) => {
            setup::add_profile(global, &name, output)?
        }
        Command::Profile(ProfileCommand::List) => setup::list_profiles(global, output)?,
        Command::Request(Request::Smartcard(it)) => {
            request::smartcard(&connect(global)?, it, output).await?;
        }
        Command::Request(Request::Ssh(it)) => request::ssh(&connect(global)?, it, output).await?,
        Command::Request(Request::SshHost(it)) => {
            request::ssh_host(&connect(global)?, it, output).await?;
        }
        Command::Request(Request::X509(it)) => request::x509(&connect(global)?, it, output).await?,
        Command::Revoke(it) => return lock::revoke(&connect(global)?, it, output).await,
        #[cfg(unix)]
        Command::Session(SessionCommand::Exec(it)) => return Err(ssh::exec(it)),
        Command::Session(it) => return session::run(&connect(global)?, it, output).await,
        #[cfg(unix)]
        Command::SessionSsh(it) => return ssh::run(global, it).await,
        Command::Show(show) => inspect::show(&connect(global)?, &show, output).await?,
        Command::Sign(sign) => sign::run(&connect(global)?, sign, output).await?,
        Command::Windows(WindowsCommand::Bootstrap(it)) => {
            windows::bootstrap(&connect(global)?, &it, output).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn connect(global: Global) -> Result<Client, Failure> {
    Ok(global.client()?)
}

fn config_path(global: &Global) -> Result<PathBuf, Failure> {
    global.config.clone().or_else(environment::config_file).ok_or_else(|| Failure::Usage {
        what: match cfg!(windows) {
            true => "APPDATA is not set".to_owned(),
            false => "neither XDG_CONFIG_HOME nor HOME is set".to_owned(),
        },
        hint: Some("name the file with --config FILE".to_owned()),
    })
}
