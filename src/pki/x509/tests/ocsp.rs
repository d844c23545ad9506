//! OCSP requests and responses before the real `openssl ocsp` and `ocsptool`.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    thread,
};

use base64ct::{Base64, Encoding as _};
use proptest::{collection::vec, prelude::*, sample::Index};
use tempfile::TempDir;

use super::*;
use crate::{
    seal::Rejected,
    token::PublicationKey,
    x509::{
        crl::Reason,
        lint,
        ocsp::{
            Refusal, Request, RequestError, Responder, ResponderError, ResponseError, Status,
            Summary,
        },
    },
};

#[test]
fn openssl_takes_what_is_said_of_each_certificate() {
    use KeyAlgorithm::{EcP256, EcP384, Ed25519, Rsa2048};

    for (issuer, signer, hash) in [
        (Rsa2048, EcP256, "-sha1"),
        (Rsa2048, Rsa2048, "-sha256"),
        (EcP256, EcP384, "-sha256"),
        (EcP384, Ed25519, "-sha1"),
    ] {
        let mut world = World::new(issuer, signer);
        let said = world.ask(&[hash], &[GOOD, REVOKED, UNKNOWN]);
        for line in [
            "Response verify OK".to_owned(),
            format!("0x{GOOD}: good\n\tThis Update: Jun  1 12:00:00 2026 GMT\n\t"),
            "Next Update: Jun  1 12:10:00 2026 GMT\n".to_owned(),
            format!("0x{REVOKED}: revoked\n"),
            "Reason: keyCompromise\n\tRevocation Time: Jun  1 11:00:00 2026 GMT\n".to_owned(),
            format!("0x{UNKNOWN}: unknown\n"),
        ] {
            assert!(said.contains(&line), "{line:?} is not in\n{said}");
        }
        // It asks with a nonce, and says so when the response has none or another.
        assert!(!said.contains("WARNING"), "{said}");
        world.ocsptool();
    }
}

#[test]
fn a_request_without_a_nonce_gets_a_response_without_one() {
    let mut world = World::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let said = world.ask(&["-no_nonce"], &[GOOD]);
    assert!(said.contains("Response verify OK") && said.contains("good\n"), "{said}");
    let shown = world.openssl(&["ocsp", "-respin", "response.der", "-text", "-noverify"]);
    let shown = text(&shown);
    let expected =
        ["Responder Id: ", "OCSP Signing", "OCSP No Check", "X509v3 Key Usage: critical"];
    for line in expected {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    assert!(!shown.contains("Nonce"), "{shown}");
}

#[test]
fn a_lookup_in_the_path_of_a_url_is_the_request_itself() {
    let world = World::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let der = world.request(&["-sha256"], &[GOOD, REVOKED]);
    let base64 = Base64::encode_string(&der);
    let escaped = base64.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
    let request = Request::from_der(&der).unwrap();
    assert_eq!(Request::from_path(&base64).as_ref(), Ok(&request));
    assert_eq!(Request::from_path(&escaped), Ok(request.clone()));
    let serials: Vec<_> = request.serials().map(|serial| serial.to_string()).collect();
    assert_eq!(serials, [GOOD.to_lowercase(), REVOKED.to_lowercase()]);
    assert_eq!(request.nonce().unwrap().len(), 16);
    for path in ["%", "%2", "%zz", "%ff", "é", "=", &format!("{base64}=")] {
        assert_eq!(Request::from_path(path), Err(RequestError::Base64), "{path:?}");
    }
}

#[test]
fn a_request_that_is_malformed_too_long_or_demands_what_is_not_known_is_refused() {
    let world = World::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let one = world.request(&["-sha256"], &[GOOD]);
    assert!(Request::from_der(&one).is_ok());
    for length in 0..one.len() {
        assert!(Request::from_der(&one[..length]).is_err(), "{length} bytes");
    }
    let malformed = |der: &[u8]| matches!(Request::from_der(der), Err(RequestError::Malformed(_)));
    assert!(malformed(&[one.as_slice(), &[0]].concat()));
    assert_eq!(Request::from_der(&[0; 4097]), Err(RequestError::TooLong));
    let serials: Vec<_> = (10..27).map(|n| format!("41{n}{}", "00".repeat(14))).collect();
    let serials: Vec<_> = serials.iter().map(String::as_str).collect();
    assert_eq!(
        Request::from_der(&world.request(&["-sha256"], &serials)),
        Err(RequestError::TooLong)
    );
    let most = Request::from_der(&world.request(&["-sha256"], &serials[..16])).unwrap();
    assert_eq!(most.certificates().len(), 16);

    let nonce = |length: usize| with_extension(&one, NONCE, false, &octets(length));
    for length in [1, 16, 32, 128] {
        assert_eq!(Request::from_der(&nonce(length)).unwrap().nonce().unwrap().len(), length);
    }
    for length in [0, 129] {
        assert_eq!(Request::from_der(&nonce(length)), Err(RequestError::Nonce), "{length}");
    }
    let critical_nonce = with_extension(&one, NONCE, true, &octets(16));
    assert!(Request::from_der(&critical_nonce).is_ok());
    assert!(malformed(&with_extension(&one, NONCE, false, &[7; 16])));
    let other = "1.3.6.1.5.5.7.48.1.4";
    assert!(Request::from_der(&with_extension(&one, other, false, &[5, 0])).is_ok());
    let critical = with_extension(&one, other, true, &[5, 0]);
    assert_eq!(Request::from_der(&critical), Err(RequestError::Critical));
}

#[test]
fn requests_with_noise_or_any_byte_changed_never_panic_and_are_answered_or_refused() {
    let mut world = World::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let der = world.request(&["-sha256"], &[GOOD, REVOKED]);
    let responder = world.responder();
    let config = ProptestConfig::with_cases(4000);
    proptest!(config, |(at: Index, cut: Index, noise in vec(any::<u8>(), 0..8), more in vec(any::<u8>(), 0..200))| {
        prop_assert!(Request::from_der(&more).is_err());
        let mut changed = der.clone();
        let at = at.index(changed.len());
        let end = at + cut.index((changed.len() - at).min(8));
        changed.splice(at..end, noise);
        if let Ok(request) = Request::from_der(&changed) {
            prop_assert!((1..=16).contains(&request.certificates().len()));
            let prepared = responder.prepare(&request, &statuses(), NOW(), NEXT());
            // What does not verify comes back, and nothing else does.
            if let Ok(prepared) = prepared {
                let Rejected(_) = prepared.seal(crate::keys::Signature(vec![7; 64])).unwrap_err();
            }
        }
    });
    proptest!(|(path in "\\PC{0,60}")| {
        prop_assert!(Request::from_path(&path).is_err());
    });
}

#[test]
fn another_issuers_certificates_and_unknown_hashes_are_not_answered() {
    let mut world = World::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let responder = world.responder();
    let prepare = |world: &World, arguments: &[&str]| {
        let request = Request::from_der(&world.request(arguments, &[GOOD])).unwrap();
        responder.prepare(&request, &statuses(), NOW(), NEXT()).map(|prepared| *prepared.summary())
    };
    let expected = Summary { this_update: NOW(), next_update: NEXT(), has_nonce: true };
    assert_eq!(prepare(&world, &["-sha1"]), Ok(expected));
    assert_eq!(prepare(&world, &["-sha512"]), Err(ResponseError::AnotherIssuer));
    let other = World::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    assert_eq!(prepare(&other, &["-sha1"]), Err(ResponseError::AnotherIssuer));
}

#[test]
fn a_signer_answers_only_while_its_certificate_is_valid() {
    let mut world = World::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let responder = world.responder();
    let request = Request::from_der(&world.request(&["-sha1"], &[GOOD])).unwrap();
    let prepare = |from: Timestamp, until: Timestamp| {
        responder.prepare(&request, &statuses(), from, until).map(|prepared| *prepared.summary())
    };
    let second = SignedDuration::from_secs(1);
    let end = responder.not_after();
    assert_eq!(end, NOW() + SignedDuration::from_hours(24));
    assert_eq!(prepare(end, end + second).unwrap().next_update, end);
    let not_valid = ResponseError::SignerNotValid { not_before: NOW(), not_after: end };
    assert_eq!(prepare(end + second, end + second), Err(not_valid.clone()));
    assert_eq!(prepare(NOW() - second, end), Err(not_valid));
    let refused = prepare(NOW() + second, NOW());
    assert!(matches!(refused, Err(ResponseError::Malformed(_))), "{refused:?}");
}

#[test]
fn a_responder_stands_on_a_signers_certificate_of_its_issuer_alone() {
    let mut world = World::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let (key, good) = (world.key.clone(), world.signer.clone());
    let leaf = world.hierarchy.issue(tls_client()).bytes().to_vec();
    let issuing = &world.hierarchy.issuing;
    assert!(Responder::new(key.clone(), good.clone(), issuing).is_ok());
    let other = publication_key(&mut SoftwareToken::default(), KeyAlgorithm::EcP256);
    let refused = Responder::new(other, good.clone(), issuing).unwrap_err();
    assert!(matches!(refused, ResponderError::Misfit { .. }), "{refused}");
    let refused = Responder::new(key.clone(), leaf, issuing).unwrap_err();
    assert!(matches!(refused, ResponderError::Misfit { .. }), "{refused}");
    let root = &world.hierarchy.root;
    let refused = Responder::new(key.clone(), good.clone(), root).unwrap_err();
    assert!(matches!(refused, ResponderError::Certificate(_)), "{refused}");
    for bit in 0..8 * good.len() {
        let mut flipped = good.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let refused = Responder::new(key.clone(), flipped, issuing).unwrap_err();
        assert!(matches!(refused, ResponderError::Certificate(_)), "bit {bit}: {refused}");
    }
}

#[test]
fn an_ocsp_signer_is_named_lives_short_and_has_no_other_name() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let refused = |change: fn(&mut Template)| -> lint::Findings {
        let mut template = ocsp_signer_template(hierarchy.subject_key.clone());
        change(&mut template);
        hierarchy.issuing.prepare(template).unwrap_err()
    };
    assert_eq!(refused(|it| it.subject = None).0[0].rule, "subject-present");
    let long = |it: &mut Template| it.not_after += SignedDuration::from_hours(30 * 24 + 1);
    assert_eq!(refused(long).0[0].rule, "ocsp-signer-short-life");
}

#[test]
fn openssl_understands_each_refusal() {
    let world = World::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    for (refusal, said) in [
        (Refusal::MalformedRequest, "malformedrequest (1)"),
        (Refusal::InternalError, "internalerror (2)"),
        (Refusal::TryLater, "trylater (3)"),
        (Refusal::Unauthorized, "unauthorized (6)"),
    ] {
        fs::write(world.path().join("response.der"), refusal.to_der()).unwrap();
        let output = world.openssl(&["ocsp", "-respin", "response.der"]);
        assert!(text(&output).contains(&format!("Responder Error: {said}")), "{output:?}");
    }
}

const GOOD: &str = "41000000000000000000000000000001";
const REVOKED: &str = "41000000000000000000000000000002";
const UNKNOWN: &str = "41000000000000000000000000000003";

fn statuses() -> BTreeMap<X509Serial, Status> {
    let serial = |text: &str| match parse(text) {
        crate::serial::Serial::X509(serial) => serial,
        other => panic!("{other} is no serial number of X.509"),
    };
    let (at, reason) = (at("2026-06-01T11:00:00Z"), Reason::KeyCompromise);
    [(serial(GOOD), Status::Good), (serial(REVOKED), Status::Revoked { at, reason })].into()
}

const NEXT: fn() -> Timestamp = || at("2026-06-01T12:10:00Z");

/// An issuing CA, its delegated signer, and programs that ask.
struct World {
    directory: TempDir,
    hierarchy: Hierarchy,
    key: PublicationKey,
    signer: Vec<u8>,
}

impl World {
    fn new(issuer: KeyAlgorithm, signer: KeyAlgorithm) -> Self {
        let mut hierarchy = Hierarchy::new(issuer, KeyAlgorithm::EcP256);
        let key = publication_key(&mut hierarchy.token, signer);
        let template = ocsp_signer_template(key.key().public_key.clone());
        let prepared = hierarchy.issuing.prepare(template).unwrap();
        let signer = seal(&mut hierarchy.token, prepared).bytes().to_vec();
        let world = Self { directory: tempfile::tempdir().unwrap(), hierarchy, key, signer };
        let [root, issuing] = [&world.hierarchy.root, &world.hierarchy.issuing]
            .map(|issuer| crate::x509::to_pem(issuer.certificate_der()));
        fs::write(world.path().join("issuing.pem"), &issuing).unwrap();
        fs::write(world.path().join("trusted.pem"), root + &issuing).unwrap();
        world
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn responder(&mut self) -> Responder {
        Responder::new(self.key.clone(), self.signer.clone(), &self.hierarchy.issuing).unwrap()
    }

    /// The request that openssl writes, DER.
    fn request(&self, arguments: &[&str], serials: &[&str]) -> Vec<u8> {
        let serials: Vec<_> = serials.iter().map(|serial| format!("0x{serial}")).collect();
        let asked = ["ocsp"].iter().chain(arguments).copied().chain(["-issuer", "issuing.pem"]);
        let asked: Vec<_> = asked.chain(serials.iter().flat_map(|it| ["-serial", it])).collect();
        let output = self.openssl(&[asked.as_slice(), &["-reqout", "request.der"]].concat());
        assert!(output.status.success(), "{output:?}");
        fs::read(self.path().join("request.der")).unwrap()
    }

    /// Lets openssl ask over HTTP and gives what it says; the response stays in `response.der`.
    fn ask(&mut self, arguments: &[&str], serials: &[&str]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/ocsp/issuing", listener.local_addr().unwrap());
        let serials: Vec<_> = serials.iter().map(|serial| format!("0x{serial}")).collect();
        let mut command = openssl(self.path());
        command.arg("ocsp").args(arguments).args(["-issuer", "issuing.pem"]);
        for serial in &serials {
            command.args(["-serial", serial]);
        }
        command.args(["-url", &url, "-CAfile", "trusted.pem", "-respout", "response.der"]);
        let asking = thread::spawn(move || command.output().expect("openssl runs"));
        self.answer(listener.accept().unwrap().0);
        let output = asking.join().unwrap();
        assert!(output.status.success(), "{output:?}");
        text(&output)
    }

    /// Answers one POST.
    fn answer(&mut self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let line = line.trim_end().to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let request = Request::from_der(&body).unwrap();
        let responder = self.responder();
        let prepared = responder.prepare(&request, &statuses(), NOW(), NEXT()).unwrap();
        let message = Input::Message(prepared.bytes());
        let (key, scheme) = (prepared.key().key(), prepared.scheme());
        let signature = self.hierarchy.token.sign(key, scheme, message).unwrap();
        let sealed = prepared.seal(signature).unwrap();
        let head = "HTTP/1.0 200 OK\r\nContent-Type: application/ocsp-response\r\n";
        write!(stream, "{head}Content-Length: {}\r\n\r\n", sealed.bytes().len()).unwrap();
        stream.write_all(sealed.bytes()).unwrap();
    }

    fn openssl(&self, arguments: &[&str]) -> Output {
        openssl(self.path()).args(arguments).output().expect("openssl runs")
    }

    /// GnuTLS verifies the response in `response.der`.
    fn ocsptool(&self) {
        let output = Command::new("faketime")
            .args(["2026-06-01 12:01:00", "ocsptool", "--verify-response"])
            .args(["--load-trust", "issuing.pem", "--infile", "response.der"])
            .current_dir(self.path())
            .env("TZ", "UTC")
            .output()
            .expect("faketime and ocsptool of gnutls-bin are needed");
        assert!(text(&output).contains("Success"), "{output:?}");
    }
}

/// `openssl` at a moment when the certificates are good.
fn openssl(directory: &Path) -> Command {
    let mut command = Command::new("faketime");
    command.args(["2026-06-01 12:01:00", "openssl"]).current_dir(directory).env("TZ", "UTC");
    command
}

fn text(output: &Output) -> String {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&said).into_owned()
}

fn publication_key(token: &mut SoftwareToken, algorithm: KeyAlgorithm) -> PublicationKey {
    let label = KeyLabel::new(Purpose::Publication, "lists").unwrap();
    let id = KeyId::new(b"lists").unwrap();
    PublicationKey::new(token.generate(algorithm, &label, &id).unwrap().key).unwrap()
}

const NONCE: &str = "1.3.6.1.5.5.7.48.1.2";

/// The DER of an OCTET STRING.
fn octets(length: usize) -> Vec<u8> {
    crate::x509::algorithm::tlv(0x04, &vec![7; length])
}

/// A request for the certificate of another one, with this one extension.
fn with_extension(request: &[u8], id: &str, critical: bool, value: &[u8]) -> Vec<u8> {
    use der::{
        Decode as _, Encode as _, Reader as _, SliceReader,
        asn1::{AnyRef, OctetString},
    };

    use crate::x509::algorithm::{SEQUENCE, tlv};

    let inside = |der: &[u8]| AnyRef::from_der(der).unwrap().value().to_vec();
    let (request, extn_value) = (inside(request), OctetString::new(value).unwrap());
    let list = inside(&request);
    let list = SliceReader::new(&list).unwrap().tlv_bytes().unwrap().to_vec();
    let extn_id = id.parse().unwrap();
    let extension = x509_cert::ext::Extension { extn_id, critical, extn_value };
    let extensions = tlv(0xa2, &vec![extension].to_der().unwrap());
    tlv(SEQUENCE, &tlv(SEQUENCE, &[list, extensions].concat()))
}
