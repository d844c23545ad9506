//! Key objects: their templates, and what is read back from them.

use cryptoki::{
    mechanism::MechanismType,
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::Session,
    types::Ulong,
};

use super::failure::token_error;
use crate::{
    keys::{KeyAlgorithm, KeyError, PublicKey},
    token::{KeyId, KeyLabel, TokenError},
};

/// CKA_LABEL of our keys.
pub(super) fn label_attribute(label: &KeyLabel) -> Attribute {
    Attribute::Label(label.to_string().into_bytes())
}

/// CKA_ID of our keys.
pub(super) fn id_attribute(id: &KeyId) -> Attribute {
    Attribute::Id(id.as_bytes().to_vec())
}

/// The public half of a new key. The hardened one cannot be changed later, and does not say what
/// it is for: whoever has a public key verifies by himself, and tpm2-pkcs11 makes a key that
/// decrypts of one whose public half is to verify.
pub(super) fn public_template(
    algorithm: KeyAlgorithm,
    label: &KeyLabel,
    id: &KeyId,
    hardened: bool,
) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(key_type(algorithm)),
        Attribute::Token(true),
        label_attribute(label),
        id_attribute(id),
    ];
    match algorithm {
        KeyAlgorithm::EcP256 => template.push(Attribute::EcParams(P256_PARAMETERS.to_vec())),
        KeyAlgorithm::EcP384 => template.push(Attribute::EcParams(P384_PARAMETERS.to_vec())),
        KeyAlgorithm::Ed25519 => template.push(Attribute::EcParams(ED25519_NAME.to_vec())),
        KeyAlgorithm::Rsa2048 => template.extend(rsa_parameters(2048)),
        KeyAlgorithm::Rsa3072 => template.extend(rsa_parameters(3072)),
        KeyAlgorithm::Rsa4096 => template.extend(rsa_parameters(4096)),
    }
    if hardened {
        template.extend([Attribute::Modifiable(false), Attribute::Wrap(false)]);
    } else {
        template.push(Attribute::Verify(true));
    }
    template
}

/// The private half of a new key: sensitive, never extractable, only signs. What is not said is
/// the module's to choose, and some choose badly (SoftHSM: CKA_SENSITIVE=F, CKA_UNWRAP=T).
pub(super) fn private_template(
    algorithm: KeyAlgorithm,
    label: &KeyLabel,
    id: &KeyId,
    hardened: bool,
) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(key_type(algorithm)),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        label_attribute(label),
        id_attribute(id),
    ];
    if hardened {
        template.extend([
            Attribute::Copyable(false),
            Attribute::Decrypt(false),
            Attribute::Derive(false),
            Attribute::Modifiable(false),
            Attribute::SignRecover(false),
            Attribute::Unwrap(false),
            Attribute::WrapWithTrusted(true),
        ]);
    }
    template
}

/// Whether an object is a key of any class. A certificate may share its key's CKA_ID (PKCS#11
/// section 4.6.3), so that it is no rival.
pub(super) fn is_key(session: &Session, object: ObjectHandle) -> Result<bool, TokenError> {
    let found = session.get_attributes(object, &[AttributeType::Class]).map_err(token_error)?;
    Ok(!found.contains(&Attribute::Class(ObjectClass::CERTIFICATE)))
}

/// Reads a public key object.
pub(super) fn read_public_key(
    session: &Session,
    object: ObjectHandle,
) -> Result<Result<PublicKey, KeyError>, TokenError> {
    let wanted = [
        AttributeType::KeyType,
        AttributeType::EcParams,
        AttributeType::EcPoint,
        AttributeType::Modulus,
        AttributeType::PublicExponent,
    ];
    let attributes = session.get_attributes(object, &wanted).map_err(token_error)?;
    Ok(public_key(&attributes))
}

fn public_key(attributes: &[Attribute]) -> Result<PublicKey, KeyError> {
    let mut parameters: &[u8] = &[];
    let mut point: &[u8] = &[];
    let (mut modulus, mut exponent): (&[u8], &[u8]) = (&[], &[]);
    let mut kind = None;
    for attribute in attributes {
        match attribute {
            Attribute::KeyType(value) => kind = Some(*value),
            Attribute::EcParams(value) => parameters = value,
            Attribute::EcPoint(value) => point = value,
            Attribute::Modulus(value) => modulus = value,
            Attribute::PublicExponent(value) => exponent = value,
            _ => {}
        }
    }
    match kind {
        Some(KeyType::RSA) => PublicKey::from_rsa(modulus, exponent),
        Some(KeyType::EC) if parameters == P256_PARAMETERS => {
            PublicKey::from_point(KeyAlgorithm::EcP256, unwrap_point(point, 65))
        }
        Some(KeyType::EC) if parameters == P384_PARAMETERS => {
            PublicKey::from_point(KeyAlgorithm::EcP384, unwrap_point(point, 97))
        }
        Some(KeyType::EC_EDWARDS) if [ED25519_NAME, ED25519_OID].contains(&parameters) => {
            PublicKey::from_point(KeyAlgorithm::Ed25519, unwrap_point(point, 32))
        }
        _ => Err(KeyError::Unsupported(format!(
            "a key of type {kind:?} with parameters {}",
            hex::encode(parameters)
        ))),
    }
}

/// CKA_EC_POINT is a DER OCTET STRING (PKCS#11 2.40), but some modules give the bare point, which
/// also begins with 04: only the length tells.
fn unwrap_point(point: &[u8], length: usize) -> &[u8] {
    match point {
        [0x04, _, bare @ ..] if point.len() == length + 2 => bare,
        _ => point,
    }
}

/// The flags of a private key, in the order in which they are checked. An attribute that the
/// token does not tell is left out.
pub(super) fn read_flags(
    session: &Session,
    object: ObjectHandle,
) -> Result<Vec<(&'static str, bool)>, TokenError> {
    let types: Vec<AttributeType> = FLAGS.iter().map(|flag| flag.kind).collect();
    let attributes = session.get_attributes(object, &types).map_err(token_error)?;
    let mut found = Vec::new();
    for flag in FLAGS {
        found.extend(attributes.iter().find_map(|attribute| flag.value(attribute)));
    }
    Ok(found)
}

/// The names of all flags that [`read_flags`] asks for.
pub(super) fn all_flags() -> impl Iterator<Item = &'static str> {
    FLAGS.iter().map(|flag| flag.name)
}

/// What every signing key must be, whoever made it.
pub(super) fn check_signing_flags(found: &[(&'static str, bool)]) -> Result<(), String> {
    for (name, wanted) in [("CKA_SENSITIVE", true), ("CKA_EXTRACTABLE", false), ("CKA_SIGN", true)]
    {
        require(found, name, wanted)?;
    }
    Ok(())
}

/// Whether a key wants a login of its own for each signature.
pub(super) fn authenticates_always(found: &[(&'static str, bool)]) -> bool {
    found.contains(&("CKA_ALWAYS_AUTHENTICATE", true))
}

/// What a key that was generated in this token must be. CKA_NEVER_EXTRACTABLE is the one that
/// counts: CKA_EXTRACTABLE may have been true once.
pub(super) fn check_generated_flags(found: &[(&'static str, bool)]) -> Result<(), String> {
    check_signing_flags(found)?;
    if authenticates_always(found) {
        return Err("CKA_ALWAYS_AUTHENTICATE is true: it wants the PIN for each signature".into());
    }
    for name in
        ["CKA_ALWAYS_SENSITIVE", "CKA_LOCAL", "CKA_NEVER_EXTRACTABLE", "CKA_PRIVATE", "CKA_TOKEN"]
    {
        require(found, name, true)?;
    }
    // A token that does not know a usage cannot be used so.
    for name in ["CKA_DECRYPT", "CKA_DERIVE", "CKA_SIGN_RECOVER", "CKA_UNWRAP"] {
        if found.contains(&(name, true)) {
            return Err(format!("{name} is true"));
        }
    }
    Ok(())
}

fn require(found: &[(&'static str, bool)], name: &str, wanted: bool) -> Result<(), String> {
    match found.iter().find(|(known, _)| *known == name) {
        Some((_, value)) if *value == wanted => Ok(()),
        Some((_, value)) => Err(format!("{name} is {value}")),
        None => Err(format!("the token does not tell {name}")),
    }
}

/// Checks that the token made the key by the mechanism asked for, where it tells.
pub(super) fn check_origin(
    session: &Session,
    object: ObjectHandle,
    asked: MechanismType,
) -> Result<Result<(), String>, TokenError> {
    Ok(match read_generator(session, object)? {
        Some(made) if made != asked => Err(format!("CKA_KEY_GEN_MECHANISM is {made}, not {asked}")),
        _ => Ok(()),
    })
}

/// CKA_KEY_GEN_MECHANISM, where the token tells it.
pub(super) fn read_generator(
    session: &Session,
    object: ObjectHandle,
) -> Result<Option<MechanismType>, TokenError> {
    let found =
        session.get_attributes(object, &[AttributeType::KeyGenMechanism]).map_err(token_error)?;
    Ok(match found.first() {
        Some(Attribute::KeyGenMechanism(made)) => Some(*made),
        _ => None,
    })
}

/// CKA_KEY_TYPE of a kind of key.
pub(super) fn key_type(algorithm: KeyAlgorithm) -> KeyType {
    match algorithm {
        KeyAlgorithm::EcP256 | KeyAlgorithm::EcP384 => KeyType::EC,
        KeyAlgorithm::Ed25519 => KeyType::EC_EDWARDS,
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => KeyType::RSA,
    }
}

fn rsa_parameters(bits: u32) -> [Attribute; 2] {
    [Attribute::ModulusBits(Ulong::new(bits.into())), Attribute::PublicExponent(vec![1, 0, 1])]
}

/// A boolean attribute, and how to take it out of cryptoki's enum.
struct Flag {
    name: &'static str,
    kind: AttributeType,
}

impl Flag {
    fn value(&self, attribute: &Attribute) -> Option<(&'static str, bool)> {
        match attribute {
            _ if attribute.attribute_type() != self.kind => None,
            Attribute::AlwaysAuthenticate(value)
            | Attribute::AlwaysSensitive(value)
            | Attribute::Copyable(value)
            | Attribute::Decrypt(value)
            | Attribute::Derive(value)
            | Attribute::Extractable(value)
            | Attribute::Local(value)
            | Attribute::Modifiable(value)
            | Attribute::NeverExtractable(value)
            | Attribute::Private(value)
            | Attribute::Sensitive(value)
            | Attribute::Sign(value)
            | Attribute::SignRecover(value)
            | Attribute::Token(value)
            | Attribute::Unwrap(value)
            | Attribute::WrapWithTrusted(value) => Some((self.name, *value)),
            _ => None,
        }
    }
}

const FLAGS: &[Flag] = &[
    Flag { name: "CKA_SENSITIVE", kind: AttributeType::Sensitive },
    Flag { name: "CKA_EXTRACTABLE", kind: AttributeType::Extractable },
    Flag { name: "CKA_SIGN", kind: AttributeType::Sign },
    Flag { name: "CKA_ALWAYS_AUTHENTICATE", kind: AttributeType::AlwaysAuthenticate },
    Flag { name: "CKA_ALWAYS_SENSITIVE", kind: AttributeType::AlwaysSensitive },
    Flag { name: "CKA_LOCAL", kind: AttributeType::Local },
    Flag { name: "CKA_NEVER_EXTRACTABLE", kind: AttributeType::NeverExtractable },
    Flag { name: "CKA_PRIVATE", kind: AttributeType::Private },
    Flag { name: "CKA_TOKEN", kind: AttributeType::Token },
    Flag { name: "CKA_DECRYPT", kind: AttributeType::Decrypt },
    Flag { name: "CKA_DERIVE", kind: AttributeType::Derive },
    Flag { name: "CKA_SIGN_RECOVER", kind: AttributeType::SignRecover },
    Flag { name: "CKA_UNWRAP", kind: AttributeType::Unwrap },
    Flag { name: "CKA_COPYABLE", kind: AttributeType::Copyable },
    Flag { name: "CKA_MODIFIABLE", kind: AttributeType::Modifiable },
    Flag { name: "CKA_WRAP_WITH_TRUSTED", kind: AttributeType::WrapWithTrusted },
];

/// DER of the OID 1.2.840.10045.3.1.7.
const P256_PARAMETERS: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// DER of the OID 1.3.132.0.34.
const P384_PARAMETERS: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// DER of PrintableString "edwards25519" (PKCS#11 3.0 section 2.3.10): the form that every module
/// takes.
const ED25519_NAME: &[u8] = b"\x13\x0cedwards25519";
/// DER of the OID 1.3.101.112 (RFC 8410): the other form.
const ED25519_OID: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_come_bare_or_in_an_octet_string() {
        let bare = [&[0x04][..], &[0x41; 64]].concat();
        let wrapped = [&[0x04, 0x41][..], &bare].concat();
        assert_eq!(unwrap_point(&bare, 65), bare);
        assert_eq!(unwrap_point(&wrapped, 65), bare);
    }

    #[test]
    fn one_wrong_flag_makes_a_key_unfit() {
        let good: Vec<(&str, bool)> =
            FLAGS.iter().map(|flag| (flag.name, REQUIRED_TRUE.contains(&flag.name))).collect();
        assert_eq!(check_generated_flags(&good), Ok(()));
        // What hardening adds is recorded, not required: some tokens do not know it.
        let optional = ["CKA_COPYABLE", "CKA_MODIFIABLE", "CKA_WRAP_WITH_TRUSTED"];
        for (index, (name, value)) in good.iter().enumerate() {
            let mut turned = good.clone();
            turned[index].1 = !value;
            assert_eq!(check_generated_flags(&turned).is_ok(), optional.contains(name), "{name}");
            let mut untold = good.clone();
            untold.remove(index);
            let needed = REQUIRED_TRUE.contains(name) || *name == "CKA_EXTRACTABLE";
            assert_eq!(check_generated_flags(&untold).is_err(), needed, "{name}");
        }
    }

    const REQUIRED_TRUE: &[&str] = &[
        "CKA_ALWAYS_SENSITIVE",
        "CKA_LOCAL",
        "CKA_NEVER_EXTRACTABLE",
        "CKA_PRIVATE",
        "CKA_SENSITIVE",
        "CKA_SIGN",
        "CKA_TOKEN",
    ];
}
