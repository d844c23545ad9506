//! What is signed in a rehearsal of a key ceremony is for nobody to use.

use super::*;
use crate::x509::{IssuerError, csr, csr::Csr};

#[test]
fn a_rehearsed_certificate_is_marked_and_makes_no_issuer() {
    let mut token = SoftwareToken::default();
    let key = issuing_key(&mut token, KeyAlgorithm::EcP256, "root");
    let root = Issuer::self_signed(parse("CN=Test Root,O=Example,C=DE"), key.clone());
    let plain = seal(&mut token, root.prepare(root_template(&root)).unwrap());
    let root = root.rehearsing();
    let marked = seal(&mut token, root.prepare(root_template(&root)).unwrap());

    assert!(!Certificate::is_poisoned(plain.bytes()));
    assert!(Certificate::is_poisoned(marked.bytes()));
    let issuer = |der: &[u8]| Issuer::new(der.to_vec(), key.clone(), publication("root"));
    issuer(plain.bytes()).unwrap();
    assert_eq!(issuer(marked.bytes()).unwrap_err(), IssuerError::Rehearsed);

    // Nor does the one kind take up what the other made.
    let rehearsed =
        Issuer::rehearsed(marked.bytes().to_vec(), key.clone(), publication("root")).unwrap();
    let subject = issuing_key(&mut token, KeyAlgorithm::EcP256, "issuing").key().public_key.clone();
    let template = issuing_template(subject);
    let marked = seal(&mut token, rehearsed.prepare(template.clone()).unwrap());
    let real = issuer(plain.bytes()).unwrap();
    let plain = seal(&mut token, real.prepare(template).unwrap());
    assert!(rehearsed.recognise(marked.bytes()).is_some());
    assert!(real.recognise(marked.bytes()).is_none());
    assert!(rehearsed.recognise(plain.bytes()).is_none());
    assert!(real.recognise(plain.bytes()).is_some());
}

#[test]
fn a_certificate_tells_who_signed_it() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let read = |issuer: &Issuer| Certificate::from_der(issuer.certificate_der()).unwrap();
    let (root, issuing) = (read(&hierarchy.root), read(&hierarchy.issuing));
    issuing.check_signed_by(&root).unwrap();
    root.check_signed_by(&root).unwrap();
    assert!(root.is_self_issued() && !issuing.is_self_issued());
    assert_eq!((root.ca_path_length(), issuing.ca_path_length()), (Ok(None), Ok(Some(0))));
    let error = root.check_signed_by(&issuing).unwrap_err();
    assert!(error.contains("its issuer is"), "{error}");
    // The name alone is not enough.
    let impostor = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let error = issuing.check_signed_by(&read(&impostor.root)).unwrap_err();
    assert!(error.contains("does not verify"), "{error}");
    assert!(issuing.is_named(&parse("CN=Test Issuing CA,O=Example,C=DE")));
    assert!(!issuing.is_named(&parse("CN=Test Issuing CA,O=Example")));
    let leaf = { hierarchy }.issue(tls_client());
    let leaf = Certificate::from_der(leaf.bytes()).unwrap();
    assert!(leaf.ca_path_length().unwrap_err().contains("not a CA's"));
}

#[test]
fn a_ca_asks_for_its_certificate_by_name() {
    let mut token = SoftwareToken::default();
    let key = issuing_key(&mut token, KeyAlgorithm::EcP384, "issuing");
    let public_key = key.key().public_key.clone();
    let subject = parse("CN=Test Issuing CA,O=Example,C=DE");
    let request = csr::PreparedRequest::named(public_key.clone(), &subject).unwrap();
    let input = Input::Message(request.bytes());
    let signature = token.sign(key.key(), request.scheme(), input).unwrap();
    let pem = request.seal(&signature).unwrap();
    let read = Csr::from_pem(&pem).unwrap();
    assert_eq!((read.public_key, read.subject.as_str()), (public_key, subject.as_str()));
}
