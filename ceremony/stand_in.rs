//! Stand-ins: in a rehearsal, the keys and certificates of earlier ceremonies and of other machines
//! are not there.
//!
//! A key that should be in the token is made in the rehearsal's. A certificate is made anew, with the
//! same subject and the same validity, for a key of the rehearsal. What only another machine could
//! sign is signed by a key whose seed follows from the plan, so that a verification can make it
//! again.

use pki::{
    keys::Signature,
    seal::Prepared,
    serial::X509Serial,
    token::{Input, KeyRef, Token, TokenError, software::SoftwareToken},
};

use crate::{
    digest::Digest,
    failure::Failure,
    made::{Made, MadeError, foreign},
    name::Name,
    plan::{Certificate, Plan},
};

/// Makes the certificate that stands in for this one. `token` has the keys that are in the token.
pub(crate) fn certificate(
    made: &Made,
    plan: &Plan,
    certificate: &Certificate,
    token: &mut dyn Token,
) -> Result<Vec<u8>, Failure> {
    let made = with_key(made, plan, certificate)?;
    let prepared = prepare(&made, plan, certificate)?;
    let signer = plan.signer(certificate).unwrap_or(certificate);
    let signature = if made.key(&signer.key).is_ok() {
        sign(&prepared, token)?
    } else {
        sign(&prepared, &mut of_another_machine(plan, &signer.key)?.0)?
    };
    Ok(prepared.seal(signature)?.bytes().to_vec())
}

/// Takes up the certificate that stands in for this one, if it is that.
pub(crate) fn take(
    made: &mut Made,
    plan: &Plan,
    certificate: &Certificate,
    der: &[u8],
) -> Result<bool, MadeError> {
    *made = with_key(made, plan, certificate)?;
    let prepared = prepare(made, plan, certificate)?;
    let issuer = made.issuer(certificate, plan.signer(certificate))?;
    let same = issuer.recognise(der).is_some_and(|found| found.text == prepared.bytes());
    if same {
        made.add_certificate(certificate, der.to_vec())?;
    }
    Ok(same)
}

/// The serial numbers of stand-ins are of no importance.
fn prepare(made: &Made, plan: &Plan, certificate: &Certificate) -> Result<Prepared, MadeError> {
    let hash = plan.hash();
    let parts = [&hash.as_bytes()[..], certificate.name.as_str().as_bytes()];
    let digest = Digest::of("chancery-ceremony-stand-in-serial-v1", &parts);
    let serial = std::array::from_fn(|index| digest.as_bytes()[index]);
    made.prepare(certificate, plan.signer(certificate), X509Serial::from_random(serial))
}

/// With the key that the certificate is for, where that is in no token here.
fn with_key(made: &Made, plan: &Plan, certificate: &Certificate) -> Result<Made, MadeError> {
    let mut made = made.clone();
    if made.public_key(&certificate.key).is_err() {
        let (_, key) = of_another_machine(plan, &certificate.key)?;
        made.add_foreign(certificate.key.clone(), key.public_key);
    }
    Ok(made)
}

/// A key that anybody has who has the plan.
fn of_another_machine(plan: &Plan, name: &Name) -> Result<(SoftwareToken, KeyRef), MadeError> {
    let hash = plan.hash();
    let parts = [&hash.as_bytes()[..], name.as_str().as_bytes()];
    let seed = Digest::of("chancery-ceremony-stand-in-v1", &parts);
    let (label, id) = foreign(name)?;
    Ok(SoftwareToken::stand_in(&label, &id, seed.as_bytes())?)
}

fn sign(prepared: &Prepared, token: &mut dyn Token) -> Result<Signature, TokenError> {
    let input = Input::Message(prepared.bytes());
    token.sign(prepared.key().key(), prepared.scheme(), input)
}
