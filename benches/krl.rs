//! What it costs to say that 100,000 certificates are revoked.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use harness::{Failure, failure::Doing};
use pki::{
    keys::{KeyAlgorithm, PublicKey},
    krl::{Krl, KrlError},
    serial::SshSerial,
    token::{KeyId, KeyStore, software::SoftwareToken},
};

/// The KRL of 100,000 revoked serial numbers, every second of 200,000.
pub(crate) struct Measured {
    /// Its length in bytes.
    pub(crate) bytes: usize,
    /// How long it takes to build, from serial numbers in no order to the bytes of the file; the
    /// median.
    pub(crate) build: Duration,
}

pub(crate) fn measure() -> Result<Measured, Failure> {
    let label = "issuing/users".parse().doing("read a label")?;
    let id = KeyId::new(&[1]).doing("make a key id")?;
    let ca = SoftwareToken::default()
        .generate(KeyAlgorithm::EcP256, &label, &id)
        .doing("make a key")?
        .key
        .public_key;
    let bytes = build(&ca).doing("build a KRL")?.len();
    let mut times = [Duration::ZERO; 21];
    for time in &mut times {
        let start = Instant::now();
        black_box(build(&ca).doing("build a KRL")?);
        *time = start.elapsed();
    }
    times.sort_unstable();
    Ok(Measured { bytes, build: times[times.len() / 2] })
}

fn build(ca: &PublicKey) -> Result<Vec<u8>, KrlError> {
    // 7,919 has no factor in common with 100,000: each number comes once.
    let serials = (0..REVOKED).map(|n| n * 7_919 % REVOKED * 2 + 1);
    let mut krl = Krl::new(1, jiff::Timestamp::UNIX_EPOCH);
    krl.authority(ca).revoke_serials(serials.filter_map(SshSerial::new));
    krl.encode()
}

const REVOKED: u64 = 100_000;
