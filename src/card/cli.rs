//! The command line: arguments, commands, output.

mod appliance;
mod arguments;
mod batch;
mod choice;
mod doctor;
mod enrolment;
mod escrow;
mod failure;
mod init;
mod inspect;
mod list;
mod order;
mod secrets;
mod session;
mod stop;
mod terminal;
mod upkeep;

use std::{ffi::OsString, process::ExitCode};

use card::Readers;
use clap::Parser;
use client::output::Output;

use arguments::{Arguments, Command};
use failure::Failure;

/// Runs one command line, and says on the terminal what became of it.
pub(crate) async fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error),
    };
    let mut output = Output::new(arguments.json);
    match perform(arguments.command, &mut output).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(&mut output),
    }
}

async fn perform(command: Command, output: &mut Output) -> Result<(), Failure> {
    match command {
        Command::Batch(it) => batch::run(&it, output).await,
        Command::Doctor(it) => doctor::run(&it, output).await,
        Command::Enroll(it) => appliance::enroll(&it, output).await,
        Command::Init(it) => init::run(&it, output),
        Command::Inspect(it) => inspect::run(&it, output),
        Command::Install(it) => enrolment::put_certificate(&it, output),
        Command::List => list::run(&Readers::open()?, output),
        Command::Renew(it) => appliance::renew(&it, output).await,
        Command::Request(it) => enrolment::make_request(&it, output),
        Command::Session(it) => session::run(&it, output).await,
        Command::Unblock(it) => upkeep::unblock(&it, output),
        Command::Wipe(it) => upkeep::take_off(&it, output),
    }
}
