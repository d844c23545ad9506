//! Users and groups of this machine, by name or number.

use std::fs;

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
