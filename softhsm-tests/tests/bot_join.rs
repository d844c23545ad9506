//! How a bot proves who it is when it joins, against keys of OpenSSL's, a CA of OpenSSL's, and an
//! OpenID Connect issuer; and that nothing is used up by whoever proves nothing.

use std::{fs, path::Path};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use harness::{
    Doing, Failure, Story,
    bot::Bot,
    clock::Clock,
    https::{Https, Identity, Response},
    office::{Office, with_chain},
    oidc::{Issuer, Settings, Tls},
    openssl::{self, Ca},
};
use serde_json::{Value, json};

#[test]
fn a_bound_key_of_each_kind_lets_a_bot_in() -> Story {
    let office = Office::open()?;
    let bots = Bots::new(&office)?;
    for (name, kind, scheme, options) in KEYS {
        let key = office.path(format!("{name}-bound.key"));
        openssl::generate(kind, &key)?;
        bots.apply(name, &bound_to(&key, 0)?, 1)?.expect_status(200)?;
        let csr = bots.request(name)?;
        let proof = bots.proof_by_key(name, &csr, (&key, scheme, options))?;
        let joined = bots.join(name, &csr, &proof)?.expect_status(201)?.json()?;
        assert_eq!(joined["renewable"], true, "{name}");
        bots.use_it(&joined, name)?;
    }
    let records = office.audit_records()?;
    let how: Vec<_> = records.iter().filter(|record| record["event"] == "bot_joined").collect();
    assert_eq!(how.len(), KEYS.len());
    for (record, (_, kind, ..)) in how.iter().zip(KEYS) {
        let proof = record["proof"].as_str().unwrap_or_default();
        assert!(proof.starts_with("the bound ") && proof.len() > 64, "{kind}: {record}");
    }
    Ok(())
}

#[test]
fn a_bound_key_recovers_as_often_as_it_may_and_strangers_use_nothing_up() -> Story {
    let office = Office::open()?;
    let bots = Bots::new(&office)?;
    let (key, strange) = (office.path("bound.key"), office.path("strange-bound.key"));
    openssl::generate("ec:P-256", &key)?;
    openssl::generate("ec:P-256", &strange)?;
    bots.apply("db", &bound_to(&key, 1)?, 1)?.expect_status(200)?;
    let (p256, by_stranger) = ((&*key, P256.0, P256.1), (&*strange, P256.0, P256.1));
    let join = |csr: &str| bots.join("db", csr, &bots.proof_by_key("db", csr, p256)?);

    // 1 The first time is free; a lost answer comes again; the second time counts.
    let first = bots.request("first")?;
    let joined = join(&first)?.expect_status(201)?.json()?;
    assert_eq!(joined, join(&first)?.expect_status(201)?.json()?);
    let one = bots.use_it(&joined, "first")?;
    assert_eq!(bots.show("db")?["recoveries_left"], 1);

    // 2 Who has not the key neither uses anything up nor takes anybody's place.
    let before = bots.show("db")?;
    let csr = bots.request("strange")?;
    let good = bots.proof_by_key("db", &csr, p256)?;
    let mut of_another_csr = bots.proof_by_key("db", &first, p256)?;
    let mut without_challenge = good.clone();
    without_challenge["challenge"] = json!("x");
    let mut of_another_scheme = good.clone();
    of_another_scheme["scheme"] = json!("ed25519");
    for (csr, proof, reason) in [
        (&csr, &bots.proof_by_key("db", &csr, by_stranger)?, "proof-signature"),
        (&csr, &of_another_csr, "proof-signature"),
        (&csr, &without_challenge, "proof-challenge"),
        (&csr, &of_another_scheme, "proof-malformed"),
        (&csr, &json!({ "method": "token", "secret": "s" }), "wrong-join-method"),
        (&csr, &json!({ "method": "oidc", "token": "a.b.c" }), "wrong-join-method"),
    ] {
        refused(bots.join("db", csr, proof)?, reason)?;
    }
    bots.join("db", &csr.replacen('M', "N", 1), &good)?.expect_status(422)?;
    of_another_csr["signature"] = json!("!");
    refused(bots.join("db", &csr, &of_another_csr)?, "proof-malformed")?;
    refused(bots.join("nobody", &csr, &good)?, "no-such-bot")?;
    assert_eq!(bots.show("db")?, before);
    bots.https(&one)?.get("/v1/bot")?.expect_status(200)?;

    // 3 A recovery takes the place of the one before, and there is no third.
    let second = bots.request("second")?;
    let joined = join(&second)?.expect_status(201)?.json()?;
    let two = bots.use_it(&joined, "second")?;
    assert_eq!(bots.show("db")?["recoveries_left"], 0);
    bots.https(&one)?.get("/v1/bot")?.expect_status(403)?;
    let third = bots.request("third")?;
    refused(join(&third)?, "no-recovery-left")?;
    bots.https(&two)?.get("/v1/bot")?.expect_status(200)?;

    // 4 A lock that is removed gives one back.
    let lock = json!({ "target": "bot:db", "reason": "a story" });
    bots.operator.post("/v1/locks", &lock)?.expect_status(200)?;
    refused(join(&third)?, "locked")?;
    let unlock = json!({ "target": "bot:db", "reason": "a story" });
    bots.operator.post("/v1/locks/remove", &unlock)?.expect_status(200)?;
    assert_eq!(bots.show("db")?["recoveries_left"], 1);
    let joined = join(&third)?.expect_status(201)?.json()?;
    bots.use_it(&joined, "third")?;
    assert_eq!(bots.show("db")?["recoveries_left"], 0);
    Ok(())
}

#[test]
fn a_certificate_of_another_ca_lets_in_whom_it_names() -> Story {
    let office = Office::open()?;
    let bots = Bots::new(&office)?;
    let corp = Ca::new(office.path("corp"), "Corporate CA")?;
    let forged = Ca::new(office.path("forged"), "Corporate CA")?;
    let authorities = read(&corp.certificate())?;
    let identity = "uri:spiffe://corp.example/web/*";
    let method = json!({ "method": "x509", "authorities": authorities, "identity": identity });
    bots.apply("web", &method, 2)?.expect_status(200)?;

    let named = |path: &str| format!("subjectAltName=URI:spiffe://corp.example/{path}\n");
    let client = "extendedKeyUsage=clientAuth\n";
    let good = corp.certify("good", &(named("web/one") + client), None)?;
    let past = Clock::slow_by(40 * 24 * 60 * 60)?;
    let csr = bots.request("web")?;
    for (shown, reason) in [
        (corp.certify("expired", &(named("web/one") + client), Some(&past))?, "proof-certificate"),
        (forged.certify("forged", &(named("web/one") + client), None)?, "proof-certificate"),
        (
            corp.certify("server", &(named("web/one") + "extendedKeyUsage=serverAuth\n"), None)?,
            "proof-certificate",
        ),
        (corp.certify("other", &(named("mail/one") + client), None)?, "proof-identity"),
        (corp.certify("deeper", &(named("web/one/two") + client), None)?, "proof-identity"),
        (corp.certify("nameless", client, None)?, "proof-identity"),
        (Identity { key: office.path("web.key"), ..good.clone() }, "proof-signature"),
    ] {
        let proof = bots.proof_by_certificate("web", &csr, &shown)?;
        refused(bots.join("web", &csr, &proof)?, reason)
            .map_err(|failure| failure.said(shown.certificate.display().to_string()))?;
    }
    assert_eq!(bots.show("web")?["instances"], json!([]));

    let proof = bots.proof_by_certificate("web", &csr, &good)?;
    let joined = bots.join("web", &csr, &proof)?.expect_status(201)?.json()?;
    assert_eq!(joined["renewable"], false);
    let own = bots.use_it(&joined, "web")?;
    let renewal = json!({ "csr": bots.request("next")? });
    refused(bots.https(&own)?.post("/v1/bot/renew", &renewal)?, "not-renewable")?;
    let next = bots.request("next")?;
    let proof = bots.proof_by_certificate("web", &next, &good)?;
    bots.join("web", &next, &proof)?.expect_status(201)?;
    Ok(())
}

#[test]
fn a_token_of_the_issuer_lets_in_once_whom_it_is_of() -> Story {
    let office = Office::open()?;
    let bots = Bots::new(&office)?;
    let settings = settings(&office, "RS256");
    let issuer = Issuer::start(&office.path("issuer"), &settings)?;
    let like = |name: &str, change: &dyn Fn(&mut Settings)| {
        let mut settings = settings.clone();
        settings.name = Some(issuer.name().to_owned());
        change(&mut settings);
        Issuer::start(&office.path(name), &settings)
    };
    let other_keys = office.path("other-keys.json");
    let strange = like("strange", &|settings| settings.keys.clone_from(&other_keys))?;
    let past = Clock::slow_by(2 * 60 * 60)?;
    let late = like("late", &|settings| settings.clock = Some(past.clone()))?;
    let other = like("other", &|settings| settings.name = None)?;
    bots.apply("ci", &by_tokens_of(issuer.name()), 9)?.expect_status(200)?;

    // 1 Whatever is wrong with a token, it uses nothing up.
    let csr = bots.request("ci")?;
    let good = issuer.token(MAIN, AUDIENCE)?;
    let (signed, _) = good.rsplit_once('.').unwrap_or_default();
    let (_, payload) = signed.split_once('.').unwrap_or_default();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    for (token, reason) in [
        (issuer.token(MAIN, "urn:another")?, "proof-audience"),
        (issuer.token(BRANCH, AUDIENCE)?, "proof-claim"),
        (late.token(MAIN, AUDIENCE)?, "proof-time"),
        (strange.token(MAIN, AUDIENCE)?, "proof-signature"),
        (other.token(MAIN, AUDIENCE)?, "proof-issuer"),
        (format!("{none}.{payload}."), "proof-malformed"),
        (format!("{signed}."), "proof-signature"),
    ] {
        refused(bots.join("ci", &csr, &by_token(&token))?, reason)?;
    }
    assert_eq!(bots.show("ci")?["instances"], json!([]));

    // 2 A good one is for one key: a lost answer comes again, another key has none.
    let joined = bots.join("ci", &csr, &by_token(&good))?.expect_status(201)?.json()?;
    assert_eq!(joined, bots.join("ci", &csr, &by_token(&good))?.expect_status(201)?.json()?);
    assert_eq!(joined["renewable"], false);
    let next = bots.request("next")?;
    refused(bots.join("ci", &next, &by_token(&good))?, "join-proof-used")?;
    bots.use_it(&joined, "ci")?;
    refused(bots.join("ci", &csr, &by_token(&good))?, "join-proof-used")?;
    let fresh = issuer.token(MAIN, AUDIENCE)?;
    bots.join("ci", &next, &by_token(&fresh))?.expect_status(201)?;
    let records = office.audit_records()?;
    let recorded = records.iter().find(|record| record["event"] == "bot_joined");
    let proof = recorded.and_then(|record| record["proof"].as_str()).unwrap_or_default();
    assert!(proof.contains(issuer.name()) && proof.contains(MAIN), "{proof}");
    Ok(())
}

#[test]
fn an_issuer_is_reached_by_https_under_its_own_ca_or_not_at_all() -> Story {
    let office = Office::open()?;
    let bots = Bots::new(&office)?;
    let corp = Ca::new(office.path("corp"), "Corporate CA")?;
    let server = corp.certify("web", "subjectAltName=DNS:localhost\n", None)?;
    let tls = Some(Tls { ca: corp.certificate(), server });
    let settings = Settings { tls, ..settings(&office, "ES256") };
    let issuer = Issuer::start(&office.path("issuer"), &settings)?;
    assert!(issuer.name().starts_with("https://"), "{}", issuer.name());
    let under = |ca: Option<&Path>| {
        let mut method = by_tokens_of(issuer.name());
        if let Some(ca) = ca {
            method["ca"] = json!(read(ca)?);
        }
        Ok::<_, Failure>(method)
    };
    let mut given = under(None)?;
    given["jwks"] = issuer.published_keys()?;
    bots.apply("ours", &under(Some(&corp.certificate()))?, 1)?.expect_status(200)?;
    bots.apply("wrong", &under(Some(&office.handoff("root.pem")))?, 1)?.expect_status(200)?;
    bots.apply("system", &under(None)?, 1)?.expect_status(200)?;
    bots.apply("given", &given, 1)?.expect_status(200)?;
    let token = issuer.token(MAIN, AUDIENCE)?;
    for name in ["wrong", "system"] {
        let answer = bots.join(name, &bots.request(name)?, &by_token(&token))?;
        let problem = answer.expect_status(503)?;
        assert!(problem.header("retry-after").is_some(), "{name}");
        assert_eq!(problem.json()?["reason"], "issuer-unreachable", "{name}");
    }
    bots.join("ours", &bots.request("ours")?, &by_token(&token))?.expect_status(201)?;

    // Keys that an operator has given need no issuer.
    let token = issuer.token(MAIN, AUDIENCE)?;
    issuer.stop();
    bots.join("given", &bots.request("given")?, &by_token(&token))?.expect_status(201)?;
    Ok(())
}

#[test]
fn the_agent_joins_in_each_way() -> Story {
    let office = Office::open()?;
    let bots = Bots::new(&office)?;
    let issuer = Issuer::start(&office.path("issuer"), &settings(&office, "ES256"))?;
    let corp = Ca::new(office.path("corp"), "Corporate CA")?;
    let shown = corp.certify("web-1", "extendedKeyUsage=clientAuth\n", None)?;
    let authorities = read(&corp.certificate())?;
    let key = office.path("bound.key");
    openssl::generate("ec:P-256", &key)?;
    let token = office.path("token.jwt");
    fs::write(&token, issuer.token(MAIN, AUDIENCE)?).doing("write a token")?;
    let (certificate, its_key) = (shown.certificate.display(), shown.key.display());
    for (name, method, section) in [
        ("bound", bound_to(&key, 0)?, format!("\"bound-key\"\nkey_file = \"{}\"", key.display())),
        (
            "tokens",
            by_tokens_of(issuer.name()),
            format!("\"oidc\"\ntoken_file = \"{}\"", token.display()),
        ),
        (
            "web",
            json!({ "method": "x509", "authorities": authorities, "identity": "cn:web-*" }),
            format!("\"x509\"\ncertificate = \"{certificate}\"\nkey = \"{its_key}\""),
        ),
    ] {
        let bot = Bot::add(&office, name, &["--role", "login"], OUTPUT)?;
        bots.apply(name, &method, 1)?.expect_status(200)?;
        bot.configure(&office, &format!("[join]\nmethod = {section}\n"), OUTPUT)?;
        bot.run_once()?.success()?;
        let issued = harness::ssh::describe(&bot.path("ssh/current/key-cert.pub"))?;
        assert!(issued.contains(&format!("/bot/{name}/")), "{issued}");
        let instances = &bots.show(name)?["instances"];
        assert_eq!(instances[0]["renewable"], name == "bound", "{instances}");
    }
    Ok(())
}

#[test]
fn what_cannot_let_anybody_in_is_refused_when_it_is_registered() -> Story {
    let office = Office::open()?;
    let bots = Bots::new(&office)?;
    let mut everybody = by_tokens_of("https://issuer.example");
    everybody["claims"] = json!({ "sub": "**" });
    let key = office.path("weak.key");
    openssl::generate("rsa:1024", &key)?;
    for (method, field) in [
        (bound_to(&key, 0)?, "join.public_key"),
        (by_tokens_of("http://issuer.example"), "join.issuer"),
        (everybody, "join.claims"),
        (json!({ "method": "x509", "authorities": "", "identity": "cn:a" }), "join.authorities"),
    ] {
        let told = bots.apply("bad", &method, 1)?.expect_status(400)?.text();
        assert!(told.contains(field), "{field}: {told}");
    }
    Ok(())
}

/// An office, its operator, and strangers.
struct Bots<'a> {
    office: &'a Office,
    operator: Https,
    stranger: Https,
}

impl<'a> Bots<'a> {
    fn new(office: &'a Office) -> Result<Self, Failure> {
        let operator = office.https(Some(office.operator()))?;
        Ok(Self { office, operator, stranger: office.https(None)? })
    }

    fn apply(&self, name: &str, join: &Value, instances: u32) -> Result<Response, Failure> {
        let spec = json!({
            "name": name, "roles": ["login"], "join": join, "max_instances": instances
        });
        self.operator.post("/v1/bots", &spec)
    }

    fn show(&self, name: &str) -> Result<Value, Failure> {
        self.operator.get(&format!("/v1/bots/{name}"))?.expect_status(200)?.json()
    }

    /// A CSR for a key of this name, made once.
    fn request(&self, name: &str) -> Result<String, Failure> {
        let (key, path) =
            (self.office.path(format!("{name}.key")), self.office.path(format!("{name}.csr")));
        if !key.exists() {
            openssl::generate("ec:P-256", &key)?;
            openssl::request(&key, "/CN=bot", &[], &path)?;
        }
        read(&path)
    }

    fn join(&self, name: &str, csr: &str, proof: &Value) -> Result<Response, Failure> {
        let body = json!({ "name": name, "csr": csr, "proof": proof });
        self.stranger.post("/v1/join/bot", &body)
    }

    /// A challenge, and the signature over what must be signed.
    fn signed(
        &self,
        name: &str,
        csr: &str,
        (key, scheme, options): (&Path, &str, &[&str]),
    ) -> Result<Value, Failure> {
        let given = self.stranger.post("/v1/join/challenge", &json!({}))?;
        let challenge = given.expect_status(201)?.json()?["challenge"].clone();
        let text = challenge.as_str().unwrap_or_default();
        let statement = format!("chancery bot join 1\n{name}\n{text}\n{csr}");
        let signature = openssl::sign(key, options, statement.as_bytes())?;
        let signature = STANDARD.encode(signature);
        Ok(json!({ "challenge": challenge, "signature": signature, "scheme": scheme }))
    }

    fn proof_by_key(
        &self,
        name: &str,
        csr: &str,
        key: (&Path, &str, &[&str]),
    ) -> Result<Value, Failure> {
        let mut proof = self.signed(name, csr, key)?;
        proof["method"] = json!("bound-key");
        Ok(proof)
    }

    fn proof_by_certificate(
        &self,
        name: &str,
        csr: &str,
        identity: &Identity,
    ) -> Result<Value, Failure> {
        let mut proof = self.signed(name, csr, (&identity.key, P256.0, P256.1))?;
        proof["method"] = json!("x509");
        proof["certificates"] = json!(read(&identity.certificate)?);
        Ok(proof)
    }

    /// Confirms what was given for the key of this name.
    fn use_it(&self, given: &Value, name: &str) -> Result<Identity, Failure> {
        let certificate = self.office.path(format!("{name}.pem"));
        fs::write(&certificate, with_chain(given)).doing("write a certificate")?;
        let identity = Identity { certificate, key: self.office.path(format!("{name}.key")) };
        self.https(&identity)?.get("/v1/bot")?.expect_status(200)?;
        Ok(identity)
    }

    fn https(&self, identity: &Identity) -> Result<Https, Failure> {
        self.office.https(Some(identity))
    }
}

fn bound_to(key: &Path, recoveries: u32) -> Result<Value, Failure> {
    let public_key = openssl::public_half(key)?;
    Ok(json!({ "method": "bound-key", "public_key": public_key, "recoveries": recoveries }))
}

fn by_tokens_of(issuer: &str) -> Value {
    json!({
        "method": "oidc",
        "issuer": issuer,
        "audience": AUDIENCE,
        "claims": {
            "sub": "repo:acme/web:ref:refs/heads/*",
            "protected": "true",
            "kubernetes.io.namespace": "ci",
        },
    })
}

fn by_token(token: &str) -> Value {
    json!({ "method": "oidc", "token": token })
}

fn settings(office: &Office, algorithm: &'static str) -> Settings {
    let claims =
        |protected: bool| json!({ "protected": protected, "kubernetes.io": { "namespace": "ci" } });
    let mut clients = json!({});
    clients[MAIN] = claims(true);
    clients[BRANCH] = claims(false);
    Settings {
        algorithm,
        clients,
        clock: None,
        keys: office.path("issuer-keys.json"),
        name: None,
        tls: None,
    }
}

/// Denied, and for this reason.
fn refused(answer: Response, reason: &str) -> Story {
    let told = answer.expect_status(403)?.json()?;
    match told["reason"] == reason {
        true => Ok(()),
        false => Err(Failure::new(format!("refused, but not for {reason}")).said(told.to_string())),
    }
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).doing(format_args!("read {}", path.display()))
}

const OUTPUT: &str = r#"
[[output]]
name = "login"
kind = "ssh"
role = "login"
directory = "{at}/ssh"
hosts = ["*.example.test"]
"#;

const AUDIENCE: &str = "urn:chancery";
const MAIN: &str = "repo:acme/web:ref:refs/heads/main";
const BRANCH: &str = "repo:acme/web:ref:refs/heads/branch";

const P256: (&str, &[&str]) = ("ecdsa-p256-sha256", &["-digest", "sha256"]);

/// A bot, its kind of key, and how OpenSSL signs with it.
const KEYS: [(&str, &str, &str, &[&str]); 5] = [
    ("p256", "ec:P-256", P256.0, P256.1),
    ("p384", "ec:P-384", "ecdsa-p384-sha384", &["-digest", "sha384"]),
    ("ed25519", "ed25519", "ed25519", &[]),
    ("rsa", "rsa:2048", "rsa-pkcs1-sha256", &["-digest", "sha256"]),
    (
        "rsa-pss",
        "rsa:3072",
        "rsa-pss-sha256",
        &[
            "-digest",
            "sha256",
            "-pkeyopt",
            "rsa_padding_mode:pss",
            "-pkeyopt",
            "rsa_pss_saltlen:digest",
        ],
    ),
];
