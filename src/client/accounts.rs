//! Users and groups of this machine, by name or number.

use std::fs;

use serde::Deserialize;

/// A user of this machine, as settings name one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(try_from = "String")]
pub(crate) struct User(pub(crate) u32);

/// A group of this machine, as settings name one.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(crate) struct Group(pub(crate) u32);

impl TryFrom<String> for User {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        user(&name).map(Self).ok_or_else(|| format!("there is no user {name:?} on this machine"))
    }
}

impl TryFrom<String> for Group {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        group(&name).map(Self).ok_or_else(|| format!("there is no group {name:?} on this machine"))
    }
}

/// The number of a user of `/etc/passwd`; a number stands for itself.
pub(crate) fn user(name: &str) -> Option<u32> {
    number("/etc/passwd", name)
}

/// The number of a group of `/etc/group`; a number stands for itself.
pub(crate) fn group(name: &str) -> Option<u32> {
    number("/etc/group", name)
}

/// passwd(5) and group(5) both have the name first and the number third.
fn number(file: &str, name: &str) -> Option<u32> {
    name.parse().ok().or_else(|| {
        let all = fs::read_to_string(file).ok()?;
        let line = all.lines().find(|line| line.split(':').next() == Some(name))?;
        line.split(':').nth(2)?.parse().ok()
    })
}
