//! A token that lies by one bit.

use super::*;
use crate::keys::Signature;

#[test]
fn a_signature_with_any_one_bit_flipped_seals_nothing() {
    let mut flipped = 0;
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::EcP384, KeyAlgorithm::Rsa2048] {
        let mut hierarchy = Hierarchy::new(algorithm, KeyAlgorithm::EcP256);
        // Windows takes RSA only. An ECDSA signature is another one each time.
        let profiles = match algorithm {
            KeyAlgorithm::Rsa2048 => leaves(),
            _ => [tls_client(), tls_server(), tls_client(), tls_server()],
        };
        for profile in profiles {
            let mut prepared = hierarchy.issuing.prepare(hierarchy.template(profile)).unwrap();
            let message = Input::Message(prepared.bytes());
            let (key, scheme) = (prepared.key().key(), prepared.scheme());
            let good = hierarchy.token.sign(key, scheme, message).unwrap();
            for bit in 0..8 * good.0.len() {
                let mut wrong = good.0.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                // The preparation comes back, and nothing else does.
                prepared = *prepared.seal(Signature(wrong)).unwrap_err().0;
                flipped += 1;
            }
            prepared.seal(good).unwrap();
        }
    }
    assert!(flipped > 10_000, "{flipped}");
}

#[test]
fn a_ca_knows_its_own_certificates_again_and_none_with_a_bit_flipped() {
    for algorithm in [KeyAlgorithm::EcP256, KeyAlgorithm::Rsa2048] {
        let mut hierarchy = Hierarchy::new(algorithm, KeyAlgorithm::EcP256);
        let sealed = hierarchy.issue(tls_client());
        let known = hierarchy.issuing.recognise(sealed.bytes()).unwrap();
        assert_eq!(known.sealed, sealed);
        let prepared = hierarchy.issuing.resume(known.text).unwrap();
        assert_eq!(prepared.summary(), sealed.summary());
        // Another CA of the same name is another CA.
        let namesake = Hierarchy::new(algorithm, KeyAlgorithm::EcP256);
        assert!(namesake.issuing.recognise(sealed.bytes()).is_none());
        assert!(hierarchy.root.recognise(sealed.bytes()).is_none());
        assert!(hierarchy.issuing.recognise(hierarchy.issuing.certificate_der()).is_none());
        for bit in 0..8 * sealed.bytes().len() {
            let mut wrong = sealed.bytes().to_vec();
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert!(hierarchy.issuing.recognise(&wrong).is_none(), "bit {bit}");
        }
    }
}
