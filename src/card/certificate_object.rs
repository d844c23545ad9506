//! The objects that hold certificates.

use crate::{
    Malformed,
    tlv::{Elements, element},
};

/// A certificate as it lies on the card (SP 800-73-4 part 1, appendix A): DER, or compressed by
/// gzip, which not every reader of cards understands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CertificateObject {
    /// DER.
    Plain(Vec<u8>),
    /// Compressed, of so many bytes.
    Compressed(usize),
}

impl CertificateObject {
    /// Reads the object's value.
    ///
    /// # Errors
    ///
    /// There is no certificate in it, or it is packed in a way that is not known.
    pub fn read(value: &[u8]) -> Result<Self, Malformed> {
        let elements = Elements::read(value)?;
        let certificate = elements.need(CERTIFICATE)?;
        if certificate.is_empty() {
            return Err(Malformed::new("the certificate is empty"));
        }
        // Yubico's certificate of F9 comes without the information.
        match elements.find(INFORMATION) {
            None | Some([0]) => Ok(Self::Plain(certificate.to_vec())),
            Some([1]) => Ok(Self::Compressed(certificate.len())),
            Some(other) => Err(Malformed::new(format!(
                "the certificate is packed in an unknown way ({})",
                hex::encode(other)
            ))),
        }
    }

    /// The value of the object that holds this certificate, uncompressed.
    pub fn write(certificate: &[u8]) -> Vec<u8> {
        [element(CERTIFICATE, certificate), element(INFORMATION, &[0]), element(0xfe, &[])].concat()
    }
}

const CERTIFICATE: u8 = 0x70;
const INFORMATION: u8 = 0x71;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_read_as_it_was_written() {
        let written = CertificateObject::write(&[7; 1_000]);
        assert_eq!(CertificateObject::read(&written), Ok(CertificateObject::Plain(vec![7; 1_000])));
    }

    #[test]
    fn an_object_is_read_with_and_without_its_information() {
        let read = |value: &[u8]| CertificateObject::read(value);
        assert_eq!(read(b"\x70\x01\x07"), Ok(CertificateObject::Plain(vec![7])));
        assert_eq!(read(b"\x70\x01\x07\x71\x01\x01\xfe\x00"), Ok(CertificateObject::Compressed(1)));
        for value in
            [&b""[..], b"\x70\x00", b"\x71\x01\x00", b"\x70\x05\x07", b"\x70\x01\x07\x71\x01\x02"]
        {
            assert!(read(value).is_err(), "{value:02x?}");
        }
    }
}
