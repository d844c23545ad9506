//! The messages, in the encoding of Protocol Buffers: all their fields are of one wire type.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use pki::names::SpiffeId;
use zeroize::Zeroizing;

/// An identity: key and certificates in DER.
pub(super) struct Svid {
    /// The certificate, then those between it and the root, one after the other.
    pub(super) chain: Vec<u8>,
    /// PKCS#8.
    pub(super) key: Zeroizing<Vec<u8>>,
    /// The roots of the trust domain, one after the other.
    pub(super) bundle: Vec<u8>,
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Svid(…)")
    }
}

/// What somebody gets, with the hint that comes with it.
pub(super) type Given<'a> = (&'a SpiffeId, &'a Svid, Option<&'a str>);

/// X509SVIDResponse.
pub(super) fn svids<'a>(given: impl Iterator<Item = Given<'a>>) -> Bytes {
    let mut response = Message::default();
    for (id, svid, hint) in given {
        let mut one = Message::default();
        one.field(1, id.as_str().as_bytes());
        one.field(2, &svid.chain);
        one.field(3, &svid.key);
        one.field(4, &svid.bundle);
        if let Some(hint) = hint {
            one.field(5, hint.as_bytes());
        }
        response.field(1, &one.0);
    }
    response.into_bytes()
}

/// X509BundlesResponse: each trust domain once.
pub(super) fn bundles<'a>(given: impl Iterator<Item = Given<'a>>) -> Bytes {
    let domains = given.map(|(id, svid, _)| (id.trust_domain(), &svid.bundle));
    let mut response = Message::default();
    for (domain, bundle) in domains.collect::<BTreeMap<_, _>>() {
        let mut entry = Message::default();
        entry.field(1, format!("spiffe://{domain}").as_bytes());
        entry.field(2, bundle);
        response.field(2, &entry.0);
    }
    response.into_bytes()
}

/// Fields one after the other. There may be private keys among them.
#[derive(Default)]
struct Message(Zeroizing<Vec<u8>>);

impl Message {
    /// A field of wire type 2 (LEN).
    fn field(&mut self, number: u8, content: &[u8]) {
        let mut field = Zeroizing::new(Vec::with_capacity(self.0.len() + content.len() + 11));
        field.extend_from_slice(&self.0);
        field.push(number << 3 | 2);
        let mut length = content.len();
        while length > 0x7f {
            field.push(0x80 | (length & 0x7f) as u8);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend_from_slice(content);
        // Growing in place would leave what was there before in memory that is given back.
        self.0 = field;
    }

    fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_what_protobuf_says() {
        let long = vec![7; 300];
        let svid = Svid { chain: vec![1, 2], key: vec![3].into(), bundle: long.clone() };
        let a: SpiffeId = "spiffe://e.x/a".parse().unwrap();
        let b: SpiffeId = "spiffe://e.x/b".parse().unwrap();
        let one = [
            &b"\x0a\x0espiffe://e.x/a\x12\x02\x01\x02\x1a\x01\x03\x22\xac\x02"[..],
            &long,
            b"\x2a\x02in",
        ]
        .concat();
        // Seven bits a byte, the lowest first.
        assert_eq!(one.len(), 0x4a + (2 << 7));
        let given = [(&a, &svid, Some("in"))];
        assert_eq!(svids(given.into_iter()), [b"\x0a\xca\x02", &one[..]].concat());

        let entry = [&b"\x0a\x0cspiffe://e.x\x12\xac\x02"[..], &long].concat();
        let given = [(&a, &svid, None), (&b, &svid, None)];
        let all = bundles(given.into_iter());
        assert_eq!(all, [b"\x12\xbd\x02", &entry[..]].concat(), "a trust domain stands there once");
        assert_eq!(svids([].into_iter()), Bytes::new());
    }
}
