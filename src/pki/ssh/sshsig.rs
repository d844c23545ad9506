//! Signatures of texts by SSH keys, as `ssh-keygen -Y sign` makes them (OpenSSH's PROTOCOL.sshsig).

use ssh_key::SshSig;
use thiserror::Error;

use super::wire::Reader;
use crate::keys::{KeyError, PublicKey, Signature, SignatureScheme};

/// A signature, and the key that it says it is by.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TextSignature {
    key: PublicKey,
    signature: SshSig,
}

impl TextSignature {
    /// Reads the armored form, which begins with `-----BEGIN SSH SIGNATURE-----`.
    ///
    /// # Errors
    ///
    /// It is none, or by a key of another kind than Chancery verifies with.
    pub fn parse(armored: &str) -> Result<Self, TextSignatureError> {
        let signature = SshSig::from_pem(armored).map_err(|_| TextSignatureError::Malformed)?;
        let key = PublicKey::from_ssh_key_data(signature.public_key())?;
        Ok(Self { key, signature })
    }

    /// The key that it says it is by.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Verifies it for a text, under the key that it names.
    ///
    /// # Errors
    ///
    /// It is of another text, for another purpose, or wrong.
    pub fn verify(&self, namespace: &str, text: &[u8]) -> Result<(), TextSignatureError> {
        // What is reserved is empty today; a verifier must not guess what it could say.
        if self.signature.namespace() != namespace || !self.signature.reserved().is_empty() {
            return Err(TextSignatureError::Purpose);
        }
        let signed = SshSig::signed_data(namespace, self.signature.hash_alg(), text)
            .map_err(|_| TextSignatureError::Malformed)?;
        let (scheme, signature) = self.parts().ok_or(TextSignatureError::Malformed)?;
        self.key.verify(scheme, &signed, &signature).map_err(|_| TextSignatureError::Wrong)
    }

    /// The scheme and the signature as tokens make it. RSA with SHA-1 is none (PROTOCOL.sshsig
    /// section 2).
    fn parts(&self) -> Option<(SignatureScheme, Signature)> {
        let (bytes, name) = (self.signature.signature_bytes(), self.signature.algorithm());
        let (scheme, length) = match name.as_str() {
            "ecdsa-sha2-nistp256" => (SignatureScheme::EcdsaP256Sha256, 32),
            "ecdsa-sha2-nistp384" => (SignatureScheme::EcdsaP384Sha384, 48),
            "rsa-sha2-256" => {
                return Some((SignatureScheme::RsaPkcs1Sha256, Signature(bytes.into())));
            }
            "rsa-sha2-512" => {
                return Some((SignatureScheme::RsaPkcs1Sha512, Signature(bytes.into())));
            }
            "ssh-ed25519" => return Some((SignatureScheme::Ed25519, Signature(bytes.into()))),
            _ => return None,
        };
        let mut reader = Reader::new(bytes);
        let mut both = padded(reader.positive_mpint()?, length)?;
        both.extend(padded(reader.positive_mpint()?, length)?);
        reader.is_empty().then_some((scheme, Signature(both)))
    }
}

/// A number with leading zeros to so many bytes.
fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length.checked_sub(number.len())?];
    bytes.extend_from_slice(number);
    Some(bytes)
}

/// A text is not signed as it should be.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum TextSignatureError {
    /// The key is of a kind that Chancery does not verify with.
    #[error("the signature's key: {0}")]
    Key(#[from] KeyError),
    /// Not a signature at all.
    #[error("this is no SSH signature of a text, as `ssh-keygen -Y sign` makes it")]
    Malformed,
    /// The namespace is another one.
    #[error("the signature was made for another purpose")]
    Purpose,
    /// It does not verify.
    #[error("the signature is not of this text")]
    Wrong,
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::Write as _,
        path::Path,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn what_ssh_keygen_signs_is_verified_for_that_text_and_purpose_alone() {
        let directory = tempfile::tempdir().unwrap();
        for (kind, bits) in
            [("ed25519", "256"), ("ecdsa", "256"), ("ecdsa", "384"), ("rsa", "3072")]
        {
            let key = directory.path().join(format!("{kind}{bits}"));
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", kind, "-b", bits, "-N", "", "-f"])
                .arg(&key)
                .stdin(Stdio::null())
                .status()
                .expect("ssh-keygen is needed: install the package openssh-client");
            assert!(made.success());
            let line = fs::read_to_string(key.with_extension("pub")).unwrap();
            let armored = sign(&key, b"a text\n");

            let signature = TextSignature::parse(&armored).unwrap();
            assert_eq!(signature.key(), &PublicKey::from_openssh(&line).unwrap(), "{kind}");
            assert_eq!(signature.verify("purpose", b"a text\n"), Ok(()), "{kind} {bits}");
            let wrong = Err(TextSignatureError::Wrong);
            assert_eq!(signature.verify("purpose", b"another text\n"), wrong);
            assert_eq!(signature.verify("other", b"a text\n"), Err(TextSignatureError::Purpose));
            let other = TextSignature::parse(&sign(&key, b"another text\n")).unwrap();
            assert_eq!(other.verify("purpose", b"a text\n"), wrong);
        }
        assert_eq!(TextSignature::parse("no signature"), Err(TextSignatureError::Malformed));
    }

    fn sign(key: &Path, text: &[u8]) -> String {
        let mut child = Command::new("ssh-keygen")
            .args(["-q", "-Y", "sign", "-n", "purpose", "-f"])
            .arg(key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}
