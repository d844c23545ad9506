//! What the transcript says of the machine and of the program itself.

use std::{fs, io};

use crate::digest::Digest;

/// The id of this boot: another one tells that the machine was off meanwhile.
///
/// # Errors
///
/// The system does not tell it.
pub fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// SHA-256 of the program that runs, as `sha256sum` prints it.
///
/// # Errors
///
/// Its file cannot be read.
pub fn program() -> io::Result<Digest> {
    Digest::of_reader(fs::File::open("/proc/self/exe")?)
}
