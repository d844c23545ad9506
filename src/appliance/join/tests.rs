//! Every proof that is taken and every reason to refuse one, with keys in a software token.

use std::collections::BTreeSet;

use api::BotSpec;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use jiff::SignedDuration;
use pki::{
    keys::KeyAlgorithm,
    serial::X509Serial,
    token::{Input, IssuingKey, KeyId, KeyRef, KeyStore, Token as _, software::SoftwareToken},
    x509::{Issuer, Profile, Publication, Template, encode_signature, to_pem},
};
use serde_json::{Value, json};

use super::*;

#[test]
fn a_bound_key_of_each_kind_proves_a_bot() {
    let mut holder = Holder::default();
    for (algorithm, schemes) in KINDS {
        let key = holder.key(*algorithm);
        let method = bound_to(&key);
        check(&method).unwrap();
        for scheme in *schemes {
            let proven = holder.join_by_key(&key, *scheme, &method).unwrap();
            assert!(proven.who.contains(&key.public_key.fingerprint()), "{}", proven.who);
            assert_eq!(proven.once, None);
        }
    }
}

#[test]
fn a_signature_proves_one_request_with_one_key() {
    let mut holder = Holder::default();
    let key = holder.key(KeyAlgorithm::EcP256);
    let method = bound_to(&key);
    let request = holder.request_by_key(&key, SignatureScheme::EcdsaP256Sha256);
    let refused = |change: &dyn Fn(&mut BotJoinRequest), at: Timestamp| {
        let mut request = request.clone();
        change(&mut request);
        holder.verify(&method, &request, at).unwrap_err()
    };
    let of_proof = |change: fn(&mut String, &mut String, &mut SignatureScheme)| {
        move |request: &mut BotJoinRequest| match &mut request.proof {
            JoinProof::BoundKey { challenge, signature, scheme } => {
                change(challenge, signature, scheme);
            }
            _ => unreachable!(),
        }
    };
    let other_challenge = holder.proofs.challenge(NOW()).unwrap().challenge;
    type Change<'a> = Box<dyn Fn(&mut BotJoinRequest) + 'a>;
    let table: Vec<(Change<'_>, &str)> = vec![
        (Box::new(|request| request.name = "other".parse().unwrap()), "proof-signature"),
        (Box::new(|request| request.csr.push('\n')), "proof-signature"),
        (
            Box::new(|request| match &mut request.proof {
                JoinProof::BoundKey { challenge, .. } => challenge.clone_from(&other_challenge),
                _ => unreachable!(),
            }),
            "proof-signature",
        ),
        (Box::new(of_proof(|challenge, _, _| challenge.clear())), "proof-challenge"),
        (Box::new(of_proof(|_, signature, _| signature.clear())), "proof-malformed"),
        (Box::new(of_proof(|_, signature, _| signature.push('!'))), "proof-malformed"),
        (
            Box::new(of_proof(|_, _, scheme| *scheme = SignatureScheme::RsaPkcs1Sha256)),
            "proof-malformed",
        ),
        (
            Box::new(|request| request.proof = JoinProof::Oidc { token: "a.b.c".to_owned() }),
            "wrong-join-method",
        ),
        (
            Box::new(|request| request.proof = JoinProof::Token { secret: "s".to_owned() }),
            "wrong-join-method",
        ),
    ];
    for (index, (change, reason)) in table.iter().enumerate() {
        assert_eq!(refused(change, NOW()).reason(), *reason, "row {index}");
    }
    let late = NOW() + SignedDuration::from_secs(60);
    assert_eq!(refused(&|_| (), late).reason(), "proof-challenge");
    let other = bound_to(&holder.key(KeyAlgorithm::EcP256));
    let refusal = holder.verify(&other, &request, NOW()).unwrap_err();
    assert_eq!(refusal, Refusal::Signature("the bound key"));
    holder.verify(&method, &request, NOW()).unwrap();
}

#[test]
fn a_one_time_secret_is_never_taken_here() {
    let mut holder = Holder::default();
    let key = holder.key(KeyAlgorithm::Ed25519);
    let mut request = holder.request_by_key(&key, SignatureScheme::Ed25519);
    request.proof = JoinProof::Token { secret: String::new() };
    check(&JoinMethod::Token {}).unwrap();
    let refused = holder.verify(&JoinMethod::Token {}, &request, NOW());
    assert_eq!(refused, Err(Refusal::OtherMethod("a one-time token")));
}

#[test]
fn a_token_of_the_issuer_proves_a_bot_with_each_algorithm() {
    let mut issuer = Holder::default();
    for (name, algorithm, scheme) in JWS {
        let key = issuer.key(*algorithm);
        let method = trusting(json!({ "keys": [jwk(&key.public_key, "k1", name)] }));
        check(&method).unwrap();
        let token = issuer.token(&key, *scheme, &header(name), &claims());
        let proven = issuer.verify(&method, &by_token(&token), NOW()).unwrap();
        assert!(proven.who.contains(ISSUER) && proven.who.contains("repo:acme/web"), "{name}");
        let until = proven.once.unwrap().until;
        assert_eq!(until.as_second(), EXPIRY + 60, "{name}");
    }
}

#[test]
fn every_wrong_token_is_refused_with_its_reason() {
    let mut issuer = Holder::default();
    let key = issuer.key(KeyAlgorithm::EcP256);
    let stranger = issuer.key(KeyAlgorithm::EcP256);
    let method = trusting(json!({ "keys": [jwk(&key.public_key, "k1", "ES256")] }));
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.to_owned(), value),
        };
        claims
    };
    let now = NOW().as_second();
    let claims_table = [
        (with("iss", json!("https://evil.example")), "proof-issuer"),
        (with("iss", json!(["https://issuer.example/acme"])), "proof-issuer"),
        (with("iss", Value::Null), "proof-issuer"),
        (with("aud", json!("other")), "proof-audience"),
        (with("aud", json!(["other", "chancer"])), "proof-audience"),
        (with("aud", Value::Null), "proof-audience"),
        (with("exp", json!(now - 60)), "proof-time"),
        (with("exp", json!(now + 86_401)), "proof-time"),
        (with("exp", Value::Null), "proof-time"),
        (with("exp", json!("tomorrow")), "proof-malformed"),
        (with("exp", json!(1e300)), "proof-malformed"),
        (with("nbf", json!(now + 61)), "proof-time"),
        (with("iat", json!(now + 61)), "proof-time"),
        (with("sub", json!("repo:acme/web:ref:refs/heads/evil")), "proof-claim"),
        (with("sub", Value::Null), "proof-claim"),
        (with("protected", json!("false")), "proof-claim"),
        (with("protected", json!(false)), "proof-claim"),
        (with("kubernetes.io", json!({ "namespace": "evil" })), "proof-claim"),
        (with("groups", json!(["a", "b"])), "proof-claim"),
        (with("groups", json!([["deployers"]])), "proof-claim"),
    ];
    let scheme = SignatureScheme::EcdsaP256Sha256;
    let verify = |issuer: &Holder, token: &str| {
        issuer.verify(&method, &by_token(token), NOW()).map_err(|refusal| refusal.reason())
    };
    for (claims, reason) in claims_table {
        let token = issuer.token(&key, scheme, &header("ES256"), &claims);
        assert_eq!(verify(&issuer, &token), Err(reason), "{claims}");
    }
    let headers = [
        (json!({ "alg": "none" }), "proof-malformed"),
        (json!({ "alg": "HS256", "kid": "k1" }), "proof-algorithm"),
        (json!({ "alg": "RS256", "kid": "k1" }), "proof-key"),
        (json!({ "alg": "ES384", "kid": "k1" }), "proof-key"),
        (json!({ "alg": "ES256", "kid": "k2" }), "proof-key"),
        (json!({ "alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false }), "proof-malformed"),
        (json!({ "kid": "k1" }), "proof-malformed"),
    ];
    for (header, reason) in headers {
        let token = issuer.token(&key, scheme, &header, &claims());
        assert_eq!(verify(&issuer, &token), Err(reason), "{header}");
    }
    // Without the name of its key a token may be of any of the issuer.
    let nameless = issuer.token(&key, scheme, &json!({ "alg": "ES256" }), &claims());
    assert!(verify(&issuer, &nameless).is_ok());

    let forged = issuer.token(&stranger, scheme, &header("ES256"), &claims());
    assert_eq!(verify(&issuer, &forged), Err("proof-signature"));
    let good = issuer.token(&key, scheme, &header("ES256"), &claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let unsigned = format!("{}.{payload}.", base64url(&json!({ "alg": "none" })));
    let swapped = format!("{header}.{}.{signature}", base64url(&with("sub", json!("x"))));
    for (token, reason) in [
        (unsigned.as_str(), "proof-malformed"),
        (&swapped, "proof-signature"),
        (&format!("{signed}."), "proof-signature"),
        (signed, "proof-malformed"),
        ("", "proof-malformed"),
        (&"a".repeat(16 * 1024 + 1), "proof-malformed"),
    ] {
        assert_eq!(verify(&issuer, token), Err(reason), "{token}");
    }
    assert!(verify(&issuer, &good).is_ok());
}

/// Whoever has an ECDSA signature has a second one: n - s verifies as s does.
#[test]
fn a_token_with_another_signature_is_the_same_token() {
    let mut issuer = Holder::default();
    let key = issuer.key(KeyAlgorithm::EcP256);
    let method = trusting(json!({ "keys": [jwk(&key.public_key, "k1", "ES256")] }));
    let mut once = BTreeSet::new();
    let mut tokens = BTreeSet::new();
    for _ in 0..2 {
        let scheme = SignatureScheme::EcdsaP256Sha256;
        let token = issuer.token(&key, scheme, &header("ES256"), &claims());
        let proven = issuer.verify(&method, &by_token(&token), NOW()).unwrap();
        once.insert(proven.once.unwrap().hash);
        tokens.insert(token);
    }
    assert_eq!((tokens.len(), once.len()), (2, 1));
}

#[test]
fn a_certificate_of_the_other_ca_proves_a_bot() {
    let mut ca = OtherCa::new();
    for identity in
        ["uri:spiffe://corp.example/web/*", "dns:*.Corp.example", "dns:web1.corp.example"]
    {
        let method = led_to(&ca.root_pem(), identity);
        check(&method).unwrap();
        let request = ca.request(NOW(), Some("web/one"));
        let proven = ca.holder.verify(&method, &request, NOW()).unwrap();
        assert!(proven.who.contains("Other Issuing"), "{}", proven.who);
        assert_eq!(proven.once, None);
    }
}

#[test]
fn every_wrong_certificate_is_refused_with_its_reason() {
    let mut ca = OtherCa::new();
    let method = led_to(&ca.root_pem(), "uri:spiffe://corp.example/web/*");
    let verify = |ca: &OtherCa, method: &JoinMethod, request: &BotJoinRequest, now| {
        ca.holder.verify(method, request, now).map_err(|refusal| refusal.reason())
    };
    let good = ca.request(NOW(), Some("web/one"));
    assert!(verify(&ca, &method, &good, NOW()).is_ok());

    // Of another CA with the same names.
    let strange = led_to(&OtherCa::new().root_pem(), "uri:spiffe://corp.example/web/*");
    assert_eq!(verify(&ca, &strange, &good, NOW()), Err("proof-certificate"));
    for identity in [
        "uri:spiffe://corp.example/web",
        "uri:spiffe://corp.example/*",
        "dns:other.example",
        "cn:web",
    ] {
        let other = led_to(&ca.root_pem(), identity);
        assert_eq!(verify(&ca, &other, &good, NOW()), Err("proof-identity"), "{identity}");
    }
    for at in [NOW() - SignedDuration::from_hours(48), NOW() + SignedDuration::from_hours(48)] {
        let request = ca.request(at, Some("web/one"));
        assert_eq!(verify(&ca, &method, &request, at), Err("proof-certificate"), "{at}");
    }
    let server = ca.request(NOW(), None);
    assert_eq!(verify(&ca, &method, &server, NOW()), Err("proof-certificate"));

    let with = |change: &dyn Fn(&mut String, &mut String)| {
        let mut request = good.clone();
        match &mut request.proof {
            JoinProof::X509 { certificates, signature, .. } => change(certificates, signature),
            _ => unreachable!(),
        }
        request
    };
    let issuing = to_pem(ca.issuing.certificate_der());
    let stolen = ca.holder.key(KeyAlgorithm::EcP256);
    let scheme = SignatureScheme::EcdsaP256Sha256;
    let JoinProof::BoundKey { challenge: other_challenge, signature: other_signature, .. } =
        ca.holder.request_by_key(&stolen, scheme).proof
    else {
        unreachable!()
    };
    let table = [
        (
            with(&|certificates, _| *certificates = certificates.replace(&issuing, "")),
            "proof-certificate",
        ),
        (
            with(&|certificates, _| *certificates = format!("{issuing}{certificates}")),
            "proof-certificate",
        ),
        (with(&|certificates, _| certificates.clear()), "proof-malformed"),
        (with(&|certificates, _| *certificates = certificates.repeat(9)), "proof-malformed"),
        (with(&|_, signature| signature.clear()), "proof-malformed"),
        (with(&|_, signature| signature.clone_from(&other_signature)), "proof-signature"),
    ];
    for (index, (request, reason)) in table.into_iter().enumerate() {
        assert_eq!(verify(&ca, &method, &request, NOW()), Err(reason), "row {index}");
    }
    // Somebody with a copy of the certificate, and a key and a challenge of their own.
    let mut copied = with(&|_, signature| signature.clone_from(&other_signature));
    if let JoinProof::X509 { challenge, .. } = &mut copied.proof {
        *challenge = other_challenge;
    }
    assert_eq!(verify(&ca, &method, &copied, NOW()), Err("proof-signature"));
}

#[test]
fn a_method_that_cannot_work_is_refused_when_it_is_registered() {
    let mut holder = Holder::default();
    let key = holder.key(KeyAlgorithm::EcP256);
    let jwks = json!({ "keys": [jwk(&key.public_key, "k1", "ES256")] });
    let oidc = |change: &dyn Fn(&mut JoinMethod)| {
        let mut method = trusting(jwks.clone());
        change(&mut method);
        method
    };
    fn parts(method: &mut JoinMethod) -> (&mut String, &mut String, &mut Value) {
        match method {
            JoinMethod::Oidc { issuer, audience, jwks: Some(jwks), .. } => (issuer, audience, jwks),
            _ => unreachable!(),
        }
    }
    let claim = |name: &'static str, text: &'static str| {
        move |method: &mut JoinMethod| match method {
            JoinMethod::Oidc { claims, .. } => {
                *claims = [(name.to_owned(), text.to_owned())].into();
            }
            _ => unreachable!(),
        }
    };
    let none = |method: &mut JoinMethod| match method {
        JoinMethod::Oidc { claims, .. } => claims.clear(),
        _ => unreachable!(),
    };
    let bound = |pem: &str| JoinMethod::BoundKey { public_key: pem.to_owned(), recoveries: 0 };
    let root = OtherCa::new().root_pem();
    let with_ca = |pem: &str| {
        let pem = pem.to_owned();
        move |method: &mut JoinMethod| match method {
            JoinMethod::Oidc { ca, .. } => *ca = Some(pem.clone()),
            _ => unreachable!(),
        }
    };
    let without_keys = |method: &mut JoinMethod| match method {
        JoinMethod::Oidc { jwks, .. } => *jwks = None,
        _ => unreachable!(),
    };
    let set = |keys: Value| move |method: &mut JoinMethod| *parts(method).2 = keys.clone();
    let secret = json!({ "keys": [{ "kty": "oct", "k": "c2VjcmV0", "alg": "HS256" }] });
    check(&oidc(&without_keys)).unwrap();
    check(&oidc(&|method| {
        without_keys(method);
        with_ca(&root)(method)
    }))
    .unwrap();
    let table = [
        (bound(""), "public_key"),
        (bound(P521), "public_key"),
        (bound(EXPONENT_3), "public_key"),
        (bound(&root), "public_key"),
        (oidc(&|method| "http://issuer.example".clone_into(parts(method).0)), "issuer"),
        (oidc(&|method| "https://issuer.example/?a".clone_into(parts(method).0)), "issuer"),
        (oidc(&|method| "issuer".clone_into(parts(method).0)), "issuer"),
        (oidc(&with_ca(&root)), "ca"),
        (
            oidc(&|method| {
                without_keys(method);
                with_ca("no PEM")(method)
            }),
            "ca",
        ),
        (oidc(&|method| parts(method).1.clear()), "audience"),
        (oidc(&none), "claims"),
        (oidc(&claim("sub", "**")), "claims"),
        (oidc(&claim("sub", "a***")), "claims"),
        (oidc(&claim("sub", "")), "claims"),
        (oidc(&set(json!({}))), "jwks"),
        (oidc(&set(json!({ "keys": [] }))), "jwks"),
        (oidc(&set(secret)), "jwks"),
        (led_to("", "cn:web"), "authorities"),
        (
            led_to("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "cn:web"),
            "authorities",
        ),
        (led_to(&root, "web"), "identity"),
        (led_to(&root, "ip:10.0.0.1"), "identity"),
        (led_to(&root, "dns:**"), "identity"),
        (led_to(&root, "dns:"), "identity"),
    ];
    for (index, (method, field)) in table.into_iter().enumerate() {
        let bad = check(&method).expect_err(&format!("row {index}, {field}"));
        assert_eq!(bad.field, field, "{bad}");
    }
}

#[test]
fn every_bot_that_the_documentation_describes_can_be_registered() {
    let blocks = include_str!("../../../docs/bots.md").split("```");
    let blocks = blocks.filter_map(|block| block.strip_prefix("toml\n[[bot]]\n"));
    let mut methods = BTreeSet::new();
    for block in blocks {
        let mut file: toml::Table = toml::from_str(&format!("[[bot]]\n{block}")).unwrap();
        for spec in file.remove("bot").unwrap().as_array().unwrap() {
            let spec: BotSpec = spec.clone().try_into().unwrap();
            check(&spec.join).unwrap_or_else(|error| panic!("{}: {error}", spec.name));
            methods.insert(Method::parse(&spec.join).unwrap().name());
        }
    }
    assert_eq!(methods.len(), 4, "{methods:?}");
}

/// Whoever has keys: a bot, an issuer of tokens, a CA.
pub(super) struct Holder {
    token: SoftwareToken,
    pub(super) proofs: Proofs,
    keys: u32,
}

impl Default for Holder {
    fn default() -> Self {
        Self { token: SoftwareToken::default(), proofs: Proofs::new().unwrap(), keys: 0 }
    }
}

impl Holder {
    pub(super) fn key(&mut self, algorithm: KeyAlgorithm) -> KeyRef {
        self.keys += 1;
        let label = format!("issuing/key-{}", self.keys).parse().unwrap();
        let id = KeyId::new(&self.keys.to_be_bytes()).unwrap();
        self.token.generate(algorithm, &label, &id).unwrap().key
    }

    fn sign(&mut self, key: &KeyRef, scheme: SignatureScheme, message: &[u8]) -> Vec<u8> {
        self.token.sign(key, scheme, Input::Message(message)).unwrap().0
    }

    /// Nothing here has to be fetched.
    fn verify(
        &self,
        method: &JoinMethod,
        request: &BotJoinRequest,
        now: Timestamp,
    ) -> Result<Proven, Refusal> {
        self.proofs.verify(method, request, now).now_or_never().unwrap()
    }

    /// Challenge and signature over the statement of [`by_token`]'s request.
    fn signature(&mut self, key: &KeyRef, scheme: SignatureScheme, now: Timestamp) -> [String; 2] {
        let request = by_token("");
        let challenge = self.proofs.challenge(now).unwrap().challenge;
        let statement = join_statement(&request.name, &challenge, &request.csr);
        let raw = pki::keys::Signature(self.sign(key, scheme, &statement));
        [challenge, STANDARD.encode(encode_signature(scheme, &raw))]
    }

    fn request_by_key(&mut self, key: &KeyRef, scheme: SignatureScheme) -> BotJoinRequest {
        let [challenge, signature] = self.signature(key, scheme, NOW());
        BotJoinRequest {
            proof: JoinProof::BoundKey { challenge, signature, scheme },
            ..by_token("")
        }
    }

    fn join_by_key(
        &mut self,
        key: &KeyRef,
        scheme: SignatureScheme,
        method: &JoinMethod,
    ) -> Result<Proven, Refusal> {
        let request = self.request_by_key(key, scheme);
        self.verify(method, &request, NOW())
    }

    /// A JWS in compact form.
    pub(super) fn token(
        &mut self,
        key: &KeyRef,
        scheme: SignatureScheme,
        header: &Value,
        claims: &Value,
    ) -> String {
        let signed = format!("{}.{}", base64url(header), base64url(claims));
        let signature = self.sign(key, scheme, signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A root, and a CA below it that certifies clients and servers.
struct OtherCa {
    holder: Holder,
    root: Issuer,
    issuing: Issuer,
}

impl OtherCa {
    fn new() -> Self {
        let mut holder = Holder::default();
        let key = IssuingKey::new(holder.key(KeyAlgorithm::EcP256)).unwrap();
        let root = Issuer::self_signed("CN=Other Root".parse().unwrap(), key.clone());
        let public_key = key.key().public_key.clone();
        let der = issue(&mut holder, &root, Profile::Root { path_len: None }, public_key, 9_000);
        let root = Issuer::new(der, key, Publication::default()).unwrap();
        let key = IssuingKey::new(holder.key(KeyAlgorithm::EcP256)).unwrap();
        let public_key = key.key().public_key.clone();
        let profile = Profile::Issuing { path_len: 0 };
        let der = issue(&mut holder, &root, profile, public_key, 8_000);
        let issuing = Issuer::new(der, key, Publication::default()).unwrap();
        Self { holder, root, issuing }
    }

    fn root_pem(&self) -> String {
        to_pem(self.root.certificate_der())
    }

    /// A request with a certificate, good for a day, of a client by its path in the trust domain, or
    /// of a server.
    fn request(&mut self, at: Timestamp, client: Option<&str>) -> BotJoinRequest {
        let key = self.holder.key(KeyAlgorithm::EcP256);
        let dns_names = BTreeSet::from(["web1.corp.example".parse().unwrap()]);
        let id = |path: &str| format!("spiffe://corp.example/{path}").parse().unwrap();
        let profile = match client {
            Some(path) => Profile::TlsClient { spiffe_id: id(path), dns_names },
            None => Profile::TlsServer {
                dns_names,
                addresses: BTreeSet::new(),
                spiffe_id: Some(id("web/one")),
            },
        };
        let der = issue(&mut self.holder, &self.issuing, profile, key.public_key.clone(), 24);
        let scheme = SignatureScheme::EcdsaP256Sha256;
        let [challenge, signature] = self.holder.signature(&key, scheme, at);
        let certificates = to_pem(&der) + &to_pem(self.issuing.certificate_der());
        BotJoinRequest {
            proof: JoinProof::X509 { challenge, certificates, signature, scheme },
            ..by_token("")
        }
    }
}

fn issue(
    holder: &mut Holder,
    issuer: &Issuer,
    profile: Profile,
    public_key: PublicKey,
    hours: i64,
) -> Vec<u8> {
    let subject = match profile {
        Profile::Issuing { .. } => Some("CN=Other Issuing".parse().unwrap()),
        _ => None,
    };
    let template = Template {
        serial: X509Serial::from_random([0x5a; 16]),
        subject,
        public_key,
        not_before: NOW(),
        not_after: NOW() + SignedDuration::from_hours(hours),
        profile,
        policies: Vec::new(),
    };
    let prepared = issuer.prepare(template).unwrap();
    let message = Input::Message(prepared.bytes());
    let signed = holder.token.sign(prepared.key().key(), prepared.scheme(), message).unwrap();
    prepared.seal(signed).unwrap().bytes().to_vec()
}

fn bound_to(key: &KeyRef) -> JoinMethod {
    JoinMethod::BoundKey { public_key: key.public_key.to_pem(), recoveries: 0 }
}

fn led_to(authorities: &str, identity: &str) -> JoinMethod {
    JoinMethod::X509 { authorities: authorities.to_owned(), identity: identity.to_owned() }
}

pub(super) fn trusting(jwks: Value) -> JoinMethod {
    let claims = [
        ("sub", "repo:acme/*:ref:refs/heads/main"),
        ("protected", "true"),
        ("run", "42"),
        ("groups", "deployers"),
        ("kubernetes.io.namespace", "ci"),
        ("kubernetes.io.serviceaccount.name", "deploy-*"),
    ];
    JoinMethod::Oidc {
        issuer: ISSUER.to_owned(),
        audience: "chancery".to_owned(),
        claims: claims.map(|(name, text)| (name.to_owned(), text.to_owned())).into(),
        jwks: Some(jwks),
        ca: None,
    }
}

pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "aud": ["other", "chancery"],
        "exp": EXPIRY,
        "nbf": NOW().as_second(),
        "iat": NOW().as_second() as f64 + 0.5,
        "jti": "1",
        "sub": "repo:acme/web:ref:refs/heads/main",
        "protected": true,
        "run": 42,
        "groups": ["all", "deployers"],
        "kubernetes.io": { "namespace": "ci", "serviceaccount": { "name": "deploy-web" } },
    })
}

pub(super) fn header(algorithm: &str) -> Value {
    json!({ "alg": algorithm, "kid": "k1", "typ": "JWT" })
}

pub(super) fn by_token(token: &str) -> BotJoinRequest {
    BotJoinRequest {
        name: "deploy".parse().unwrap(),
        csr: "-----BEGIN CERTIFICATE REQUEST-----\n".to_owned(),
        proof: JoinProof::Oidc { token: token.to_owned() },
    }
}

/// RFC 7517 of a public key.
pub(super) fn jwk(key: &PublicKey, id: &str, algorithm: &str) -> Value {
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let spki = key.spki_der();
    let point = |curve: &str, width: usize| {
        let (x, y) = spki[spki.len() - 2 * width..].split_at(width);
        json!({ "kty": "EC", "crv": curve, "x": text(x), "y": text(y) })
    };
    let mut jwk = match key.algorithm() {
        KeyAlgorithm::EcP256 => point("P-256", 32),
        KeyAlgorithm::EcP384 => point("P-384", 48),
        KeyAlgorithm::Ed25519 => {
            json!({ "kty": "OKP", "crv": "Ed25519", "x": text(&spki[spki.len() - 32..]) })
        }
        _ => {
            // RFC 4253 section 6.6: a name, the exponent, the modulus, each after its length.
            let blob = key.openssh_blob();
            let mut rest = blob.as_slice();
            let mut next = || {
                let (length, after) = rest.split_first_chunk::<4>().unwrap();
                let (field, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                rest = after;
                field.to_vec()
            };
            let [_, exponent, modulus] = [next(), next(), next()];
            json!({ "kty": "RSA", "e": text(&exponent), "n": text(&modulus[1..]) })
        }
    };
    for (name, value) in [("kid", id), ("alg", algorithm), ("use", "sig")] {
        jwk[name] = json!(value);
    }
    jwk
}

fn base64url(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

pub(super) const NOW: fn() -> Timestamp = || "2026-06-01T12:00:00Z".parse().unwrap();

/// An hour later.
const EXPIRY: i64 = 1_780_318_800;

const ISSUER: &str = "https://issuer.example/acme";

const KINDS: &[(KeyAlgorithm, &[SignatureScheme])] = &[
    (KeyAlgorithm::EcP256, &[SignatureScheme::EcdsaP256Sha256]),
    (KeyAlgorithm::EcP384, &[SignatureScheme::EcdsaP384Sha384]),
    (KeyAlgorithm::Ed25519, &[SignatureScheme::Ed25519]),
    (
        KeyAlgorithm::Rsa2048,
        &[
            SignatureScheme::RsaPkcs1Sha256,
            SignatureScheme::RsaPkcs1Sha512,
            SignatureScheme::RsaPssSha256,
            SignatureScheme::RsaPssSha384,
        ],
    ),
];

const JWS: &[(&str, KeyAlgorithm, SignatureScheme)] = &[
    ("ES256", KeyAlgorithm::EcP256, SignatureScheme::EcdsaP256Sha256),
    ("ES384", KeyAlgorithm::EcP384, SignatureScheme::EcdsaP384Sha384),
    ("EdDSA", KeyAlgorithm::Ed25519, SignatureScheme::Ed25519),
    ("RS256", KeyAlgorithm::Rsa2048, SignatureScheme::RsaPkcs1Sha256),
    ("RS512", KeyAlgorithm::Rsa2048, SignatureScheme::RsaPkcs1Sha512),
    ("PS256", KeyAlgorithm::Rsa2048, SignatureScheme::RsaPssSha256),
    ("PS384", KeyAlgorithm::Rsa2048, SignatureScheme::RsaPssSha384),
];

/// A key of a curve that nothing here verifies with.
const P521: &str = "\
-----BEGIN PUBLIC KEY-----
MIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBGQTkn0kd/HZntXvdvdz/QAzYGoLI
UxB1gmhb6yJkNEiAodYfuNPbX0ubSEmUSyS5XjZYFO6+mbrxHqli8cMr8UcAI57b
dWo+FsALZckK6/+WECRHwSnujS5r4RAxwMnKBsizwy28rUc7VNzAYftOxYAh+zp4
mkvZKR0HWVLmfVOgbvI=
-----END PUBLIC KEY-----
";

/// RSA of 2048 bits, whose exponent is too small.
const EXPONENT_3: &str = "\
-----BEGIN PUBLIC KEY-----
MIIBIDANBgkqhkiG9w0BAQEFAAOCAQ0AMIIBCAKCAQEA6ZmoasDMPnyjLsgHPl5l
82POoxk2MDNYC+1RayryzKP2uscqO6LIiC8TlnluYa8+UbHZ571dKmWs0yVsx1xz
u70+B0kuzym4S5Epg3bQFrrdMW8r/buAE+tvG2t/ero/IVkjAdPfitQwWYWIelyI
V/MYD+qctPCRywLfKWP7XKrWvpgn5bd6bmO8NUMDK9T81VD9PcP34vI3U1/CGK6M
dP5zTz9Nr8A1XKZztTOgcFdqdc9Xd+GlAFpU/Mf6dY6ik7oW7OtWM4ZQ6ET+M8Ga
HXYzpaTk5HgkGJKyLvRrzD/hYhoioJXt+zAkXlvwahUKYU4HIVI3JIETEKp2qZ5p
WwIBAw==
-----END PUBLIC KEY-----
";
