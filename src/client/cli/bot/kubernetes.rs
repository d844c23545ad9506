//! `chancery bot kubernetes-credential`: what kubectl runs.

use client::bot;
use pki::clock::{Clock, SystemClock};

use crate::cli::{agent, arguments::bot::KubernetesCredential, failure::Failure, output::Output};

pub(super) fn credential(it: &KubernetesCredential, output: &mut Output) -> Result<(), Failure> {
    let credential = bot::kubernetes_credential(&it.directory, SystemClock.now());
    let credential = credential.map_err(|error| agent::failure(&error, error.hint()))?;
    Ok(output.text(&format!("{}\n", *credential))?)
}
