//! What must not be written down: a last look at what goes into the evidence.

use crate::{failure::Failure, transcript::Event};

/// Checks what people say before it is written down for everybody.
///
/// # Errors
///
/// There is something in it that looks like a key or a password.
pub fn check_said(event: &Event) -> Result<(), Failure> {
    match event.said() {
        Some(text) if is_secret_shaped(text) => Err(Failure::SecretText),
        _ => Ok(()),
    }
}

/// Whether a private key, in the armor in which programs write them, is in this content.
pub fn private_key(content: &[u8]) -> bool {
    // The short look first: attachments are large.
    content.split(|byte| *byte == b' ').any(|part| part.starts_with(b"KEY-----"))
        && content.windows(ARMOR.len()).any(|part| part == ARMOR)
}

/// Whether a text that a person wrote has something in it that looks like a key, a PIN of a machine's
/// making, or a password: a long run of letters and digits as no language has.
pub fn is_secret_shaped(text: &str) -> bool {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || "+/=_-".contains(c)));
    private_key(text.as_bytes()) || words.into_iter().any(is_random)
}

fn is_random(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.bytes().filter(kind).count();
    let hexadecimal = word.bytes().all(|c| c.is_ascii_hexdigit()) && word.len() >= 32;
    let mixed = word.len() >= 20
        && has(u8::is_ascii_digit) >= 2
        && has(u8::is_ascii_lowercase) >= 4
        && has(u8::is_ascii_uppercase) >= 4;
    mixed || hexadecimal && has(u8::is_ascii_digit) >= 4
}

/// The end of the first line of a private key (RFC 7468 section 10, PROTOCOL.key).
const ARMOR: &[u8] = b"PRIVATE KEY-----";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_passwords_are_told_from_what_people_write() {
        let secret = [
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "the PIN is 0f1e2d3c4b5a69788796a5b4c3d2e1f0, keep it",
            "wrapped with dGhpcyBpcyBhIHNlY3JldCBrZXk0Mg==",
        ];
        let open = [
            "bag 0012345678 of safe 2 was opened at 09:30",
            "power loss in the building",
            "the seal CH-2026-000123-A is broken, replaced by CH-2026-000124-B",
            "SoftHSM of /usr/lib/softhsm/libsofthsm2.so",
        ];
        assert!(secret.iter().all(|text| is_secret_shaped(text)));
        assert!(!open.iter().any(|text| is_secret_shaped(text)));
    }
}
