//! Certificates that are broken on purpose, at the level of DER: each rule is broken by at least
//! one of them, and named by the lint.

use const_oid::ObjectIdentifier;
use der::{
    Decode, Encode, Reader, SliceReader,
    asn1::{AnyRef, OctetString},
};
use x509_cert::ext::Extension;

use super::*;
use crate::x509::{algorithm::tlv, lint, oid};

#[test]
fn every_broken_rule_is_named() {
    let mut hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::EcP256);
    let drafts = Drafts::new(&mut hierarchy);
    for (kind, rule, breaks) in cases() {
        let mut draft = drafts.of(kind);
        breaks(&mut draft);
        let refused = drafts.issuer(kind).resume(draft.to_der()).expect_err(rule);
        assert!(refused.0.iter().any(|finding| finding.rule == rule), "{rule}: {refused}");
    }
}

#[test]
fn unbroken_bytes_are_taken_up_again_with_the_same_summary() {
    use Kind::{Issuing, Kdc, OcspSigner, SmartcardLogon, TlsClient, TlsServer};

    let mut hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::EcP256);
    let drafts = Drafts::new(&mut hierarchy);
    for kind in [Issuing, Kdc, OcspSigner, SmartcardLogon, TlsClient, TlsServer] {
        let prepared = drafts.issuer(kind).resume(drafts.of(kind).to_der()).unwrap();
        assert_eq!(prepared.summary().kind, kind);
        assert_eq!(prepared.bytes(), drafts.of(kind).to_der());
    }
    let prepared = hierarchy.issuing.prepare(hierarchy.template(smartcard_logon())).unwrap();
    let resumed = hierarchy.issuing.resume(prepared.bytes().to_vec()).unwrap();
    assert_eq!(resumed.summary(), prepared.summary());
    assert_eq!(resumed.summary().names, ["UPN:alice@win.example.test", "SID:S-1-5-21-1-2-3-1104"],);
}

#[test]
fn templates_that_break_a_rule_are_not_prepared() {
    let mut hierarchy = Hierarchy::new(KeyAlgorithm::Rsa2048, KeyAlgorithm::Rsa2048);
    let ed25519 = issuing_key(&mut hierarchy.token, KeyAlgorithm::Ed25519, "edwards");
    type Case = (&'static str, fn(&mut Template));
    let cases: [Case; 10] = [
        ("validity-order", |t| t.not_after = t.not_before - SignedDuration::from_secs(1)),
        ("validity-within-issuer", |t| t.not_after = at("2036-01-01T00:00:01Z")),
        ("template-encodable", |t| t.not_before = at("1969-12-31T23:59:59Z")),
        ("certificate-policies-unique", |t| {
            t.policies = vec![parse("1.3.6.1.4.1.99999.1"), parse("1.3.6.1.4.1.99999.1")];
        }),
        ("certificate-policies-not-any", |t| t.policies = vec![parse("2.5.29.32.0")]),
        ("kdc-dns-name", |t| {
            t.profile = Profile::Kdc { dns_names: BTreeSet::new(), realm: None };
        }),
        ("tls-server-name", |t| {
            t.profile = Profile::TlsServer {
                dns_names: BTreeSet::new(),
                addresses: BTreeSet::new(),
                spiffe_id: None,
            };
        }),
        ("subject-present", |t| t.profile = Profile::Issuing { path_len: 0 }),
        ("path-length-within-issuer", |t| t.profile = Profile::Issuing { path_len: 0 }),
        ("root-signs-itself-once", |t| t.profile = Profile::Root { path_len: None }),
    ];
    for (rule, breaks) in cases {
        let mut template = hierarchy.template(smartcard_logon());
        breaks(&mut template);
        let refused = hierarchy.issuing.prepare(template).expect_err(rule);
        assert!(refused.0.iter().any(|finding| finding.rule == rule), "{rule}: {refused}");
    }

    let refused = |rule: &str, issuer: &Issuer, template: Template| {
        let refused = issuer.prepare(template).expect_err(rule);
        assert!(refused.0.iter().any(|finding| finding.rule == rule), "{rule}: {refused}");
    };
    let issuer = &hierarchy.issuing;
    let smartcard = hierarchy.template(smartcard_logon());
    let own = template(tls_client(), issuer.key().key().public_key.clone());
    refused("subject-key-not-issuers", issuer, own);
    let edwards = template(smartcard_logon(), ed25519.key().public_key.clone());
    refused("windows-key-algorithm", issuer, edwards);
    let pss = issuer.clone().with_scheme(SignatureScheme::RsaPssSha256);
    refused("windows-signature-rsa-pkcs1", &pss, smartcard.clone());
    let unfit = issuer.clone().with_scheme(SignatureScheme::Ed25519);
    refused("signature-algorithm-fits-key", &unfit, hierarchy.template(tls_client()));
    let unpublished = Issuer::new(
        issuer.certificate_der().to_vec(),
        issuer.key().clone(),
        Publication::default(),
    );
    refused("windows-crl-distribution-point", &unpublished.unwrap(), smartcard);
    let aspirant = Issuer::self_signed(parse("CN=Other Root"), ed25519);
    refused("root-signs-itself-once", &aspirant, hierarchy.template(tls_client()));
    refused("root-certifies-own-key", &aspirant, root_template(issuer));
}

/// The lint would find a builder that changes what it was asked for.
#[test]
fn bytes_that_say_something_else_than_the_template_are_refused() {
    let hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let asked = hierarchy.template(tls_client());
    let bytes = hierarchy.issuing.prepare(asked.clone()).unwrap().bytes().to_vec();
    let changes: [fn(&mut Template); 7] = [
        |t| t.policies = vec![parse("1.3.6.1.4.1.99999.1")],
        |t| {
            t.profile = Profile::TlsClient {
                spiffe_id: parse("spiffe://example.test/bot/deploy"),
                dns_names: set(&["deploy.example.test", "other.example.test"]),
            };
        },
        |t| t.serial = X509Serial::from_random([0x33; 16]),
        |t| t.not_before -= SignedDuration::from_secs(1),
        |t| t.not_after += SignedDuration::from_secs(1),
        |t| t.profile = tls_server(),
        |t| t.public_key = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256).subject_key,
    ];
    assert!(lint::check(&bytes, &hierarchy.issuing, Some(&asked)).is_ok());
    for change in changes {
        let mut other = asked.clone();
        change(&mut other);
        let refused = lint::check(&bytes, &hierarchy.issuing, Some(&other)).unwrap_err();
        assert_eq!(refused.0.iter().map(|f| f.rule).collect::<Vec<_>>(), ["template-kept"]);
    }
}

#[test]
fn a_certificate_that_is_no_cas_makes_no_issuer() {
    let mut hierarchy = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256);
    let key = issuing_key(&mut hierarchy.token, KeyAlgorithm::EcP256, "leaf");
    let leaf = hierarchy.issuing.prepare(template(tls_client(), key.key().public_key.clone()));
    let leaf = seal(&mut hierarchy.token, leaf.unwrap()).bytes().to_vec();
    let other = hierarchy.issuing.key().clone();
    let new = |der: &[u8], key: &IssuingKey| {
        Issuer::new(der.to_vec(), key.clone(), Publication::default()).unwrap_err().to_string()
    };
    assert!(new(&leaf, &key).contains("CA:TRUE"));
    assert!(new(&leaf, &other).contains("is for another key than issuing/issuing"));
    assert!(new(&leaf[..leaf.len() - 1], &key).contains("cannot be read"));
}

/// Subject, validity and the like by their place in the TBSCertificate.
const VERSION: usize = 0;
const SERIAL: usize = 1;
const SIGNATURE: usize = 2;
const ISSUER: usize = 3;
const VALIDITY: usize = 4;
const SUBJECT: usize = 5;
const KEY: usize = 6;

type Case = (Kind, &'static str, fn(&mut Draft));

fn cases() -> Vec<Case> {
    [common_cases(), name_cases(), extension_cases(), smartcard_cases(), other_cases()].concat()
}

fn common_cases() -> Vec<Case> {
    use Kind::TlsClient;

    vec![
        (TlsClient, "der-strict", |d| d.fields[SERIAL] = vec![0x02, 0x81, 0x01, 0x05]),
        (TlsClient, "der-strict", |d| d.fields.push(vec![0x05, 0x00])),
        (TlsClient, "der-strict", |d| {
            // UTCTime must end with Z.
            d.fields[VALIDITY] = hex::decode("301e170d2606011200002b170d2606021200005a").unwrap();
        }),
        (TlsClient, "version-3", |d| d.fields[VERSION] = hex::decode("a003020101").unwrap()),
        (TlsClient, "serial-sixteen-octets", |d| d.fields[SERIAL] = vec![0x02, 0x01, 0x05]),
        (TlsClient, "serial-sixteen-octets", |d| d.fields[SERIAL] = tlv(2, &[0x85; 16])),
        (TlsClient, "serial-sixteen-octets", |d| d.fields[SERIAL] = tlv(2, &[0x35; 16])),
        (TlsClient, "signature-algorithm-is-issuers", |d| {
            // sha1WithRSAEncryption
            d.fields[SIGNATURE] = hex::decode("300d06092a864886f70d0101050500").unwrap();
        }),
        (TlsClient, "issuer-name-is-issuers-subject", |d| d.fields[ISSUER] = name(CN, b"Other CA")),
        (TlsClient, "validity-order", |d| {
            d.fields[VALIDITY] = validity(b"260602120000Z", b"260601120000Z");
        }),
        (TlsClient, "validity-within-issuer", |d| {
            d.fields[VALIDITY] = validity(b"260601120000Z", b"360101000001Z");
        }),
        (TlsClient, "validity-representable", |d| {
            let end = tlv(0x18, b"99991231235959Z");
            d.fields[VALIDITY] = tlv(0x30, &[tlv(0x17, b"260601120000Z"), end].concat());
        }),
        (TlsClient, "der-strict", |d| {
            // 2026 as GeneralizedTime (RFC 5280 section 4.1.2.5 wants UTCTime).
            let end = tlv(0x18, b"20260602120000Z");
            d.fields[VALIDITY] = tlv(0x30, &[tlv(0x17, b"260601120000Z"), end].concat());
        }),
        (TlsClient, "unique-identifiers-absent", |d| {
            d.fields.push(hex::decode("81020001").unwrap())
        }),
        (TlsClient, "subject-key-readable", |d| {
            let point = d.fields[KEY].len() - 1;
            d.fields[KEY][point] ^= 1;
        }),
        (TlsClient, "subject-key-identifier-of-key", |d| {
            d.fields[KEY] = Hierarchy::new(KeyAlgorithm::EcP256, KeyAlgorithm::EcP256)
                .subject_key
                .spki_der()
                .to_vec();
        }),
        (TlsClient, "profile-known", |d| d.remove(oid::EXTENDED_KEY_USAGE)),
    ]
}

fn name_cases() -> Vec<Case> {
    use Kind::SmartcardLogon;

    vec![
        (SmartcardLogon, "subject-present", |d| d.fields[SUBJECT] = vec![0x30, 0x00]),
        (SmartcardLogon, "extension-criticality", |d| d.fields[SUBJECT] = vec![0x30, 0x00]),
        (SmartcardLogon, "subject-attribute-printable", |d| {
            d.fields[SUBJECT] = name(CN, b"alice\0@win.example.test");
        }),
        (SmartcardLogon, "subject-attribute-printable", |d| {
            d.fields[SUBJECT] = name(CN, b"alice\x1b[2J");
        }),
        (SmartcardLogon, "subject-attribute-length", |d| d.fields[SUBJECT] = name(CN, &[b'a'; 65])),
        (SmartcardLogon, "subject-attribute-length", |d| d.fields[SUBJECT] = name(CN, b"")),
        (SmartcardLogon, "subject-attribute-string", |d| {
            // TeletexString
            d.fields[SUBJECT] = attribute(CN, 0x14, b"alice");
        }),
        (SmartcardLogon, "subject-attribute-string", |d| d.fields[SUBJECT] = name(CN, b"\xff")),
        (SmartcardLogon, "subject-attribute-known", |d| {
            // emailAddress
            d.fields[SUBJECT] = name(ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.1"), b"a@b");
        }),
    ]
}

fn extension_cases() -> Vec<Case> {
    use Kind::{SmartcardLogon, TlsClient};

    vec![
        (TlsClient, "extension-known", |d| {
            // Netscape certificate type
            d.add(ObjectIdentifier::new_unwrap("2.16.840.1.113730.1.1"), "03020780");
        }),
        (SmartcardLogon, "extension-known", |d| {
            // Application policies of version 1 (ESC15)
            d.add(ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.21.10"), "3000");
        }),
        (TlsClient, "extension-unique", |d| {
            let again = d.extension(oid::KEY_USAGE).clone();
            d.extensions.push(again);
        }),
        (TlsClient, "extension-der-strict", |d| d.set(oid::KEY_USAGE, "03020080")),
        (TlsClient, "extension-der-strict", |d| d.set(oid::AUTHORITY_KEY_IDENTIFIER, "04")),
        (SmartcardLogon, "extension-allowed", |d| d.add(oid::BASIC_CONSTRAINTS, "3000")),
        (TlsClient, "svid-basic-constraints", |d| d.remove(oid::BASIC_CONSTRAINTS)),
        (TlsClient, "svid-basic-constraints", |d| d.set(oid::BASIC_CONSTRAINTS, "3003020100")),
        (TlsClient, "extension-allowed", |d| d.add(oid::NTDS_CA_SECURITY, SID_VECTOR)),
        (TlsClient, "extension-criticality", |d| d.extension(oid::KEY_USAGE).critical = false),
        (TlsClient, "extension-criticality", |d| {
            d.extension(oid::SUBJECT_ALTERNATIVE_NAME).critical = false;
        }),
        (TlsClient, "extension-criticality", |d| {
            d.extension(oid::EXTENDED_KEY_USAGE).critical = true;
        }),
        (TlsClient, "key-usage-exact", |d| d.remove(oid::KEY_USAGE)),
        // digitalSignature, keyEncipherment
        (SmartcardLogon, "key-usage-exact", |d| d.set(oid::KEY_USAGE, "030205a0")),
        // digitalSignature, keyCertSign
        (SmartcardLogon, "key-usage-exact", |d| d.set(oid::KEY_USAGE, "03020284")),
        (TlsClient, "extended-key-usage-exact", |d| d.add_usage("1.3.6.1.5.5.7.3.9")),
        (TlsClient, "extended-key-usage-exact", |d| d.add_usage("2.5.29.37.0")),
        (TlsClient, "subject-key-identifier-of-key", |d| d.remove(oid::SUBJECT_KEY_IDENTIFIER)),
        (TlsClient, "authority-key-identifier-is-issuers", |d| {
            d.remove(oid::AUTHORITY_KEY_IDENTIFIER);
        }),
        (TlsClient, "authority-key-identifier-is-issuers", |d| {
            d.set(oid::AUTHORITY_KEY_IDENTIFIER, "3006800411223344");
        }),
        (TlsClient, "crl-distribution-point-http", |d| {
            // ldap://x
            d.set(oid::CRL_DISTRIBUTION_POINTS, "3010300ea00ca00a86086c6461703a2f2f78");
        }),
        (TlsClient, "crl-distribution-point-http", |d| d.set(oid::CRL_DISTRIBUTION_POINTS, "3000")),
        (TlsClient, "authority-information-access-http", |d| {
            // id-ad-timeStamping
            let value = hex::encode(d.extension(oid::AUTHORITY_INFO_ACCESS).extn_value.as_bytes());
            d.set(
                oid::AUTHORITY_INFO_ACCESS,
                &value.replace("2b06010505073001", "2b06010505073003"),
            );
        }),
        (TlsClient, "certificate-policies-plain", |d| d.add(oid::CERTIFICATE_POLICIES, "3000")),
        (TlsClient, "certificate-policies-unique", |d| {
            d.add(oid::CERTIFICATE_POLICIES, "300c300406022a03300406022a03");
        }),
    ]
}

fn smartcard_cases() -> Vec<Case> {
    use Kind::SmartcardLogon;

    vec![
        // The five that general linters miss: UPN as IA5String, SID as UTF8String, SID with
        // another tag, OCSPSigning in a leaf, NUL in the common name (above).
        (SmartcardLogon, "upn-utf8-string", |d| d.replace_in_names("a0180c16", "a0181616")),
        (SmartcardLogon, "sid-extension-encoding", |d| {
            d.set(oid::NTDS_CA_SECURITY, &SID_VECTOR.replace("a0150413", "a0150c13"));
        }),
        (SmartcardLogon, "sid-extension-encoding", |d| {
            d.set(oid::NTDS_CA_SECURITY, &SID_VECTOR.replace("3025a023", "30253023"));
        }),
        (SmartcardLogon, "extended-key-usage-exact", |d| d.add_usage("1.3.6.1.5.5.7.3.9")),
        (SmartcardLogon, "sid-extension-encoding", |d| {
            // S-1-5-21-1-2-3-0500, an administrator in disguise
            d.set(oid::NTDS_CA_SECURITY, &SID_VECTOR.replace("31313034", "30353030"));
        }),
        (SmartcardLogon, "extension-criticality", |d| {
            d.extension(oid::NTDS_CA_SECURITY).critical = true;
        }),
        (SmartcardLogon, "smartcard-logon-sid", |d| d.remove(oid::NTDS_CA_SECURITY)),
        (SmartcardLogon, "windows-crl-distribution-point", |d| {
            d.remove(oid::CRL_DISTRIBUTION_POINTS);
        }),
        (SmartcardLogon, "smartcard-logon-upn-exactly-one", |d| {
            d.remove(oid::SUBJECT_ALTERNATIVE_NAME)
        }),
        (SmartcardLogon, "smartcard-logon-upn-exactly-one", |d| {
            let names = [upn("alice@win.example.test"), upn("bob@win.example.test")].concat();
            d.set_names(&names);
        }),
        (SmartcardLogon, "alternative-name-unique", |d| {
            d.set_names(&[upn("alice@win.example.test"), upn("alice@win.example.test")].concat());
        }),
        (SmartcardLogon, "smartcard-logon-upn-only", |d| {
            d.set_names(
                &[upn("alice@win.example.test"), tlv(0x82, b"dc1.win.example.test")].concat(),
            );
        }),
        (SmartcardLogon, "krb5-principal-is-krbtgt", |d| {
            // RFC 4556 names: alice's UPN, bob's principal, and two accounts on one card.
            let bob = "a02806062b0601050202a01e301ca0071b0557494e2e58a111300fa003020101a10830061b\
                       04626f6221";
            d.set_names(&[upn("alice@win.example.test"), hex::decode(bob).unwrap()].concat());
        }),
        (SmartcardLogon, "upn-well-formed", |d| d.set_names(&upn("alice"))),
        (SmartcardLogon, "upn-well-formed", |d| d.set_names(&upn("alice\0@win.example.test"))),
        (SmartcardLogon, "upn-well-formed", |d| d.set_names(&upn("alice@bob@win.example.test"))),
        (SmartcardLogon, "alternative-name-known", |d| {
            d.set_names(&tlv(0x81, b"alice@example.test"))
        }),
        (SmartcardLogon, "alternative-name-present", |d| d.set_names(&[])),
        // Smart-card logon alone: without clientAuth
        (SmartcardLogon, "extended-key-usage-exact", |d| {
            d.set(oid::EXTENDED_KEY_USAGE, "300c060a2b060104018237140202");
        }),
        // id-pkinit-KPKdc makes it a domain controller's
        (SmartcardLogon, "kdc-dns-name", |d| d.add_usage("1.3.6.1.5.2.3.5")),
        // CA:TRUE makes it a CA's
        (SmartcardLogon, "extension-allowed", |d| d.add(oid::BASIC_CONSTRAINTS, "30030101ff")),
        (SmartcardLogon, "extension-der-strict", |d| {
            d.set(oid::CERTIFICATE_TEMPLATE, "300706022a030c0131");
        }),
    ]
}

fn other_cases() -> Vec<Case> {
    use Kind::{Issuing, Kdc, OcspSigner, TlsClient, TlsServer};

    vec![
        (Issuing, "extension-criticality", |d| {
            d.extension(oid::BASIC_CONSTRAINTS).critical = false
        }),
        (Issuing, "extension-allowed", |d| {
            d.add(oid::EXTENDED_KEY_USAGE, "300a06082b06010505070309")
        }),
        (Issuing, "key-usage-exact", |d| d.set(oid::KEY_USAGE, "03020186")),
        (Issuing, "subject-present", |d| d.fields[SUBJECT] = vec![0x30, 0x00]),
        (Issuing, "root-signs-itself-once", |d| d.fields[SUBJECT] = d.fields[ISSUER].clone()),
        (OcspSigner, "ocsp-signer-no-check", |d| d.remove(oid::OCSP_NO_CHECK)),
        (OcspSigner, "extension-criticality", |d| d.extension(oid::OCSP_NO_CHECK).critical = true),
        (OcspSigner, "extension-der-strict", |d| d.set(oid::OCSP_NO_CHECK, "0400")),
        (OcspSigner, "extension-allowed", |d| d.add(oid::SUBJECT_ALTERNATIVE_NAME, "3003820161")),
        (TlsServer, "extension-allowed", |d| d.add(oid::OCSP_NO_CHECK, "0500")),
        (Kdc, "kdc-names-only", |d| {
            d.set_names(&[tlv(0x82, b"dc1.example.test"), upn("alice@example.test")].concat());
        }),
        (Kdc, "krb5-principal-is-krbtgt", |d| d.replace_in_names("6b7262746774", "6b7262746775")),
        (Kdc, "windows-crl-distribution-point", |d| d.remove(oid::CRL_DISTRIBUTION_POINTS)),
        (TlsClient, "tls-client-spiffe-exactly-one", |d| {
            d.set_names(&tlv(0x82, b"deploy.example.test"));
        }),
        (TlsClient, "tls-client-names-only", |d| {
            let id = tlv(0x86, b"spiffe://example.test/bot/deploy");
            d.set_names(&[id, tlv(0x87, &[127, 0, 0, 1])].concat());
        }),
        (TlsClient, "alternative-name-spiffe", |d| {
            d.set_names(&tlv(0x86, b"https://example.test/"))
        }),
        (TlsServer, "alternative-name-dns", |d| {
            d.set_names(&tlv(0x82, b"www.example.test\0.evil"))
        }),
        (TlsServer, "alternative-name-dns", |d| {
            d.set_names(&tlv(0x82, b"under_score.example.test"))
        }),
        (TlsServer, "alternative-name-ip", |d| d.set_names(&tlv(0x87, &[127, 0, 0]))),
        (TlsServer, "tls-server-names-only", |d| d.set_names(&upn("alice@win.example.test"))),
        (TlsServer, "tls-server-spiffe-at-most-one", |d| {
            let ids =
                [tlv(0x86, b"spiffe://a.test/service/a"), tlv(0x86, b"spiffe://a.test/service/b")];
            d.set_names(&ids.concat());
        }),
    ]
}

const CN: ObjectIdentifier = oid::COMMON_NAME;
const SID_VECTOR: &str =
    "3025a023060a2b060104018237190201a0150413532d312d352d32312d312d322d332d31313034";

/// To-be-signed bytes of each kind, in parts.
struct Drafts {
    issuing: Issuer,
    root: Issuer,
    drafts: Vec<(Kind, Draft)>,
}

impl Drafts {
    fn new(hierarchy: &mut Hierarchy) -> Self {
        let mut drafts: Vec<_> = leaves()
            .into_iter()
            .map(|profile| {
                let kind = profile.kind();
                let prepared = hierarchy.issuing.prepare(hierarchy.template(profile)).unwrap();
                (kind, Draft::new(prepared.bytes()))
            })
            .collect();
        let template = issuing_template(hierarchy.subject_key.clone());
        let issuing = hierarchy.root.prepare(template).unwrap();
        drafts.push((Kind::Issuing, Draft::new(issuing.bytes())));
        let template = ocsp_signer_template(hierarchy.subject_key.clone());
        let signer = hierarchy.issuing.prepare(template).unwrap();
        drafts.push((Kind::OcspSigner, Draft::new(signer.bytes())));
        Self { issuing: hierarchy.issuing.clone(), root: hierarchy.root.clone(), drafts }
    }

    fn of(&self, kind: Kind) -> Draft {
        self.drafts.iter().find(|(of, _)| *of == kind).unwrap().1.clone()
    }

    fn issuer(&self, kind: Kind) -> &Issuer {
        if kind == Kind::Issuing { &self.root } else { &self.issuing }
    }
}

/// A TBSCertificate in parts: the encoded fields before the extensions, and the extensions.
#[derive(Clone)]
struct Draft {
    fields: Vec<Vec<u8>>,
    extensions: Vec<Extension>,
}

impl Draft {
    fn new(bytes: &[u8]) -> Self {
        let content = AnyRef::from_der(bytes).unwrap().value();
        let mut reader = SliceReader::new(content).unwrap();
        let fields = (VERSION..=KEY).map(|_| reader.tlv_bytes().unwrap().to_vec()).collect();
        let extensions = AnyRef::from_der(reader.tlv_bytes().unwrap()).unwrap().value();
        Self { fields, extensions: Vec::from_der(extensions).unwrap() }
    }

    fn to_der(&self) -> Vec<u8> {
        let extensions = tlv(0xa3, &self.extensions.to_der().unwrap());
        tlv(0x30, &[self.fields.concat(), extensions].concat())
    }

    fn extension(&mut self, oid: ObjectIdentifier) -> &mut Extension {
        self.extensions.iter_mut().find(|extension| extension.extn_id == oid).unwrap()
    }

    fn remove(&mut self, oid: ObjectIdentifier) {
        self.extensions.retain(|extension| extension.extn_id != oid);
    }

    fn add(&mut self, extn_id: ObjectIdentifier, value: &str) {
        let extn_value = OctetString::new(hex::decode(value).unwrap()).unwrap();
        let critical = extn_id == oid::BASIC_CONSTRAINTS;
        self.extensions.push(Extension { extn_id, critical, extn_value });
    }

    fn set(&mut self, oid: ObjectIdentifier, value: &str) {
        let value = hex::decode(value).unwrap();
        let extension = self.extension(oid);
        assert_ne!(extension.extn_value.as_bytes(), value, "the case breaks nothing");
        extension.extn_value = OctetString::new(value).unwrap();
    }

    fn add_usage(&mut self, usage: &str) {
        let extension = self.extension(oid::EXTENDED_KEY_USAGE);
        let mut usages =
            Vec::<ObjectIdentifier>::from_der(extension.extn_value.as_bytes()).unwrap();
        usages.push(ObjectIdentifier::new_unwrap(usage));
        extension.extn_value = OctetString::new(usages.to_der().unwrap()).unwrap();
    }

    fn set_names(&mut self, names: &[u8]) {
        self.set(oid::SUBJECT_ALTERNATIVE_NAME, &hex::encode(tlv(0x30, names)));
    }

    fn replace_in_names(&mut self, from: &str, to: &str) {
        let extension = self.extension(oid::SUBJECT_ALTERNATIVE_NAME);
        let names = hex::encode(extension.extn_value.as_bytes());
        assert!(names.contains(from), "{names}");
        self.set(oid::SUBJECT_ALTERNATIVE_NAME, &names.replace(from, to));
    }
}

fn name(oid: ObjectIdentifier, text: &[u8]) -> Vec<u8> {
    attribute(oid, 0x0c, text)
}

/// A Name of one attribute.
fn attribute(oid: ObjectIdentifier, string_type: u8, text: &[u8]) -> Vec<u8> {
    let pair = [oid.to_der().unwrap(), tlv(string_type, text)].concat();
    tlv(0x30, &tlv(0x31, &tlv(0x30, &pair)))
}

fn validity(not_before: &[u8], not_after: &[u8]) -> Vec<u8> {
    tlv(0x30, &[tlv(0x17, not_before), tlv(0x17, not_after)].concat())
}

/// A GeneralName with a UPN, whatever its text.
fn upn(text: &str) -> Vec<u8> {
    let value = tlv(0xa0, &tlv(0x0c, text.as_bytes()));
    tlv(0xa0, &[oid::USER_PRINCIPAL_NAME.to_der().unwrap(), value].concat())
}

#[test]
fn findings_are_told_in_one_line() {
    let findings = lint::Findings(vec![
        lint::Finding { rule: "a-rule", what: "this".to_owned() },
        lint::Finding { rule: "b-rule", what: "that".to_owned() },
    ]);
    assert_eq!(findings.to_string(), "a-rule: this; b-rule: that");
}
