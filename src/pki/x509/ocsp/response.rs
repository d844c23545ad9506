//! Responses, built and read back.

use std::{collections::BTreeMap, time::Duration};

use der::{
    Choice, Decode, Encode, Sequence,
    asn1::{AnyRef, GeneralizedTime, Null, OctetString},
};
use jiff::Timestamp;
use x509_cert::ext::{Extension, pkix::CrlReason};

use super::{
    super::{algorithm, extension},
    Request, ResponseError, Status, Summary,
};
use crate::{
    keys::{PublicKey, Signature, SignatureScheme},
    serial::X509Serial,
};

/// What is to be said.
pub(super) struct Answers<'a> {
    pub(super) request: &'a Request,
    pub(super) statuses: &'a BTreeMap<X509Serial, Status>,
    pub(super) this_update: Timestamp,
    pub(super) next_update: Timestamp,
}

impl Answers<'_> {
    /// The DER ResponseData, read back to be what was to be said, and what it says.
    pub(super) fn to_be_signed(
        &self,
        signer: &PublicKey,
    ) -> Result<(Vec<u8>, Summary), ResponseError> {
        let malformed = |error: der::Error| ResponseError::Malformed(error.to_string());
        if self.next_update.as_second() < self.this_update.as_second() {
            return Err(ResponseError::Malformed("it ends before it begins".to_owned()));
        }
        let data = self.data(signer).map_err(malformed)?;
        let bytes = data.to_der().map_err(malformed)?;
        if ResponseData::from_der(&bytes).map_err(malformed)? != data {
            return Err(ResponseError::Malformed("it is read otherwise than written".to_owned()));
        }
        let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap_or(time);
        let summary = Summary {
            this_update: whole(self.this_update),
            next_update: whole(self.next_update),
            has_nonce: self.request.nonce().is_some(),
        };
        Ok((bytes, summary))
    }

    fn data(&self, signer: &PublicKey) -> der::Result<ResponseData<'_>> {
        let this_update = time(self.this_update)?;
        let next_update = time(self.next_update)?;
        let responses = self.request.certificates().iter().map(|id| {
            let status = id.serial().and_then(|serial| self.statuses.get(&serial));
            Ok(SingleResponse {
                cert_id: AnyRef::from_der(id.der())?,
                cert_status: self.status(status)?,
                this_update,
                next_update: Some(next_update),
            })
        });
        let nonce = self.request.nonce().map(extension::ocsp_nonce).transpose()?;
        Ok(ResponseData {
            responder_key_hash: OctetString::new(signer.key_identifier())?,
            produced_at: this_update,
            responses: responses.collect::<der::Result<_>>()?,
            response_extensions: nonce.map(|nonce| vec![nonce]),
        })
    }

    /// A time of revocation after that of the response is written as the time of the response.
    fn status(&self, status: Option<&Status>) -> der::Result<CertStatus> {
        Ok(match status {
            None => CertStatus::Unknown(Null),
            Some(Status::Good) => CertStatus::Good(Null),
            Some(Status::Revoked { at, reason }) => CertStatus::Revoked(RevokedInfo {
                revocation_time: time((*at).min(self.this_update))?,
                revocation_reason: reason.code(),
            }),
        })
    }
}

/// The whole response (RFC 6960 section 4.2.1): the signed data, the signature and the signer's
/// certificate, in the OCTET STRING of a successful one.
pub(crate) fn assemble(
    bytes: &[u8],
    scheme: SignatureScheme,
    signature: &Signature,
    certificate_der: &[u8],
) -> Vec<u8> {
    use algorithm::{BIT_STRING, SEQUENCE, tlv};

    let value = algorithm::encode_signature(scheme, signature);
    // No bits of the last octet are unused.
    let bit_string = tlv(BIT_STRING, &[&[0], value.as_slice()].concat());
    let certificates = tlv(CONTEXT_0, &tlv(SEQUENCE, certificate_der));
    let identifier = algorithm::identifier(scheme);
    let basic = tlv(SEQUENCE, &[bytes, identifier, &bit_string, &certificates].concat());
    let response_bytes = [BASIC_RESPONSE, &tlv(OCTET_STRING, &basic)].concat();
    let response_bytes = tlv(CONTEXT_0, &tlv(SEQUENCE, &response_bytes));
    tlv(SEQUENCE, &[SUCCESSFUL, &response_bytes].concat())
}

/// RFC 6960 section 4.2.1, of version 1 and with the responder named by its key.
#[derive(Debug, Eq, PartialEq, Sequence)]
struct ResponseData<'a> {
    /// SHA-1 of the signer's key: the `byKey` of ResponderID.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    responder_key_hash: OctetString,
    produced_at: GeneralizedTime,
    responses: Vec<SingleResponse<'a>>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    response_extensions: Option<Vec<Extension>>,
}

#[derive(Debug, Eq, PartialEq, Sequence)]
struct SingleResponse<'a> {
    cert_id: AnyRef<'a>,
    cert_status: CertStatus,
    this_update: GeneralizedTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    next_update: Option<GeneralizedTime>,
}

#[derive(Choice, Debug, Eq, PartialEq)]
enum CertStatus {
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    Good(Null),
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Revoked(RevokedInfo),
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT")]
    Unknown(Null),
}

#[derive(Debug, Eq, PartialEq, Sequence)]
struct RevokedInfo {
    revocation_time: GeneralizedTime,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    revocation_reason: Option<CrlReason>,
}

/// In whole seconds (RFC 6960 section 4.2.2.1).
fn time(time: Timestamp) -> der::Result<GeneralizedTime> {
    let seconds = u64::try_from(time.as_second()).map_err(|_| der::ErrorKind::DateTime)?;
    GeneralizedTime::from_unix_duration(Duration::from_secs(seconds))
}

const CONTEXT_0: u8 = 0xa0;
const OCTET_STRING: u8 = 0x04;
/// ENUMERATED 0.
const SUCCESSFUL: &[u8] = &[0x0a, 0x01, 0x00];
/// id-pkix-ocsp-basic, 1.3.6.1.5.5.7.48.1.1, as DER.
const BASIC_RESPONSE: &[u8] = b"\x06\x09\x2b\x06\x01\x05\x05\x07\x30\x01\x01";
