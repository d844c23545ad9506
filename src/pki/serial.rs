//! Serial numbers: 16 random bytes for X.509, a counter that starts at 1 for SSH.

use std::{fmt, num::NonZeroU64, str::FromStr};

use thiserror::Error;

/// An X.509 serial number: 16 octets, positive, of 126 random bits (RFC 5280 section 4.1.2.2).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct X509Serial([u8; 16]);

impl X509Serial {
    /// A serial number out of 16 random bytes.
    ///
    /// The first two bits are fixed to `01`: the DER integer is positive and always 16 octets
    /// long, and no random bit is lost to an encoding of another length.
    pub fn from_random(mut random: [u8; 16]) -> Self {
        random[0] = random[0] & 0x3f | 0x40;
        Self(random)
    }

    /// The octets of the DER integer.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for X509Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// An SSH certificate serial number: never 0, because a KRL cannot revoke 0.
pub type SshSerial = NonZeroU64;

/// The serial number of any certificate: 32 hexadecimal digits for X.509, decimal for SSH.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Serial {
    /// Of an SSH certificate; unique per CA.
    Ssh(SshSerial),
    /// Of an X.509 certificate; unique per issuer.
    X509(X509Serial),
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh(serial) => serial.fmt(f),
            Self::X509(serial) => serial.fmt(f),
        }
    }
}

impl FromStr for Serial {
    type Err = ParseSerialError;

    fn from_str(text: &str) -> Result<Self, ParseSerialError> {
        let mut bytes = [0; 16];
        if text.len() == 32 && hex::decode_to_slice(text, &mut bytes).is_ok() {
            return Ok(Self::X509(X509Serial(bytes)));
        }
        // Rust's numbers may begin with + and 0; a serial number has one text.
        if !text.starts_with(|c: char| matches!(c, '1'..='9')) {
            return Err(ParseSerialError);
        }
        text.parse().map(Self::Ssh).map_err(|_| ParseSerialError)
    }
}

/// The text is no serial number.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("a serial number is 32 hexadecimal digits (X.509) or a decimal number above 0 (SSH)")]
pub struct ParseSerialError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x509_serials_are_positive_and_sixteen_octets_whatever_the_random_bytes() {
        for byte in [0x00, 0x3f, 0x40, 0x7f, 0x80, 0xff] {
            let serial = X509Serial::from_random([byte; 16]);
            assert_eq!(serial.as_bytes()[0] & 0xc0, 0x40);
            assert_eq!(serial.as_bytes()[1..], [byte; 15]);
        }
    }

    #[test]
    fn serials_are_read_back_from_their_text() {
        let x509 = Serial::X509(X509Serial::from_random([7; 16]));
        let ssh = Serial::Ssh(SshSerial::MIN);
        for serial in [x509, ssh] {
            assert_eq!(serial.to_string().parse(), Ok(serial));
        }
        for text in ["0", "", "+1", "01", "-1", "1 ", "18446744073709551616", &"g".repeat(32)] {
            assert_eq!(text.parse::<Serial>(), Err(ParseSerialError), "{text:?}");
        }
    }
}
