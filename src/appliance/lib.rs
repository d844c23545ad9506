//! The signing appliance: policy, ledger, signing, authority, service.
//!
//! A request takes a straight line: [`service`] parses it, [`authority`] decides, prepares, writes
//! the intent down, has it signed, seals, records, and only then is there something to answer.

pub mod authority;
pub mod check;
pub mod config;
pub mod directory;
pub mod front;
pub mod join;
pub mod launcher;
pub mod ledger;
pub mod makers;
pub mod operator;
pub mod policy;
pub mod probe;
pub mod publisher;
mod sandbox;
pub mod service;
pub mod signing;
pub mod start;
pub mod worker;

/// An error with its sources, in one line: `cannot read rules: permission denied`.
pub fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
