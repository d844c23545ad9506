//! An issuer on this machine that publishes what a test wants, and counts who asks.

use std::sync::Mutex as Shared;

use pki::{
    keys::{KeyAlgorithm, SignatureScheme},
    token::KeyRef,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use api::JoinMethod;

use super::*;
use crate::join::{
    Proven,
    tests::{Holder, NOW, by_token, claims, header, jwk, trusting},
};

#[tokio::test]
async fn keys_are_found_kept_and_fetched_again_for_a_new_one() {
    let mut place = Place::new().await;
    let (first, second) = (place.key(), place.key());
    place.publish(&[(&first, "k1")]);
    place.join(&first, "k1", NOW()).await.unwrap();
    assert_eq!(place.asked(), 2);
    for _ in 0..3 {
        place.join(&first, "k1", NOW() + SECOND).await.unwrap();
    }
    assert_eq!(place.asked(), 2);

    // The issuer has a new key.
    place.publish(&[(&first, "k1"), (&second, "k2")]);
    let soon = NOW() + PAUSE;
    place.join(&second, "k2", soon).await.unwrap();
    assert_eq!(place.asked(), 4);
    // And takes back the old one.
    place.publish(&[(&second, "k2")]);
    let later = soon + FRESH;
    place.join(&first, "k1", later - SECOND).await.unwrap();
    let refusal = place.join(&first, "k1", later).await.unwrap_err();
    assert_eq!(refusal.reason(), "proof-key");
}

#[tokio::test]
async fn tokens_of_unknown_keys_make_one_question_a_minute() {
    let mut place = Place::new().await;
    let (good, unknown) = (place.key(), place.key());
    place.publish(&[(&good, "k1")]);
    for second in 0..120 {
        let refusal = place.join(&unknown, "k9", NOW() + SECOND * second).await.unwrap_err();
        assert_eq!(refusal.reason(), "proof-key");
    }
    assert_eq!(place.asked(), 4);
    // Who does not even say to be of the issuer has nothing fetched.
    let mut other = claims();
    other["iss"] = json!("http://127.0.0.1:1/other");
    let refusal = place.show(&good, "k1", &other, NOW() + PAUSE * 9).await.unwrap_err();
    assert_eq!((refusal.reason(), place.asked()), ("proof-issuer", 4));
}

#[tokio::test]
async fn an_issuer_that_is_down_is_known_for_an_hour_and_asked_once_a_minute() {
    let mut place = Place::new().await;
    let key = place.key();
    place.publish(&[(&key, "k1")]);
    place.join(&key, "k1", NOW()).await.unwrap();
    place.answer(CONFIGURATION, "503 Service Unavailable", "");
    place.join(&key, "k1", NOW() + STALE - SECOND).await.unwrap();
    for second in 0..3 {
        let refusal = place.join(&key, "k1", NOW() + STALE + SECOND * second).await.unwrap_err();
        assert_eq!(refusal, Refusal::Unreachable(place.issuer.clone()));
    }
    assert_eq!(place.asked(), 3);
    place.publish(&[(&key, "k1")]);
    place.join(&key, "k1", NOW() + STALE + PAUSE).await.unwrap();
    // A clock that was set back makes nothing young.
    place.answer(CONFIGURATION, "503 Service Unavailable", "");
    let refusal = place.join(&key, "k1", NOW()).await.unwrap_err();
    assert_eq!(refusal.reason(), "issuer-unreachable");
}

#[tokio::test]
async fn what_is_published_must_be_the_issuers_own_small_and_where_it_was_asked_for() {
    let mut place = Place::new().await;
    let key = place.key();
    place.publish(&[(&key, "k1")]);
    let issuer = place.issuer.clone();
    let configuration =
        |issuer: &str, keys: &str| json!({ "issuer": issuer, "jwks_uri": keys }).to_string();
    let keys_at = format!("{issuer}/keys");
    let good = configuration(&issuer, &keys_at);
    let moved = format!("302 Found\r\nLocation: {issuer}/elsewhere");
    place.answer("/elsewhere", "200 OK", &good);
    let padded = format!("{good}{}", " ".repeat(256 * 1024));
    let mut now = NOW();
    for (status, body) in [
        ("200 OK", configuration("https://other.example", &keys_at)),
        ("200 OK", configuration(&format!("{issuer}/"), &keys_at)),
        ("200 OK", configuration(&issuer, "http://issuer.example/keys")),
        ("200 OK", configuration(&issuer, &format!("{issuer}/none"))),
        ("200 OK", configuration(&issuer, &format!("{issuer}{CONFIGURATION}"))),
        ("200 OK", json!({ "issuer": issuer }).to_string()),
        ("200 OK", "no JSON".to_owned()),
        ("200 OK", padded),
        ("404 Not Found", good.clone()),
        (&moved, good.clone()),
        ("no HTTP", good.clone()),
    ] {
        place.answer(CONFIGURATION, status, &body);
        let refusal = place.join(&key, "k1", now).await.unwrap_err();
        assert_eq!(
            refusal.reason(),
            "issuer-unreachable",
            "{status} {}",
            &body[..body.len().min(99)]
        );
        now += PAUSE;
    }
    place.answer(CONFIGURATION, "200 OK", &good);
    place.join(&key, "k1", now).await.unwrap();
}

/// A web server, a bot that joins by its tokens, and the keys of both.
struct Place {
    holder: Holder,
    method: JoinMethod,
    issuer: String,
    published: Arc<Shared<Published>>,
}

#[derive(Default)]
struct Published {
    answers: HashMap<String, String>,
    asked: usize,
}

impl Place {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/acme", listener.local_addr().unwrap());
        let published = Arc::<Shared<Published>>::default();
        tokio::spawn(serve(listener, published.clone()));
        let mut method = trusting(json!({}));
        match &mut method {
            JoinMethod::Oidc { issuer, jwks, .. } => {
                issuer.clone_from(&url);
                *jwks = None;
            }
            _ => unreachable!(),
        }
        Self { holder: Holder::default(), method, issuer: url, published }
    }

    fn key(&mut self) -> KeyRef {
        self.holder.key(KeyAlgorithm::EcP256)
    }

    fn publish(&self, keys: &[(&KeyRef, &str)]) {
        let keys: Vec<_> = keys.iter().map(|(key, id)| jwk(&key.public_key, id, "ES256")).collect();
        let uri = format!("{}/keys", self.issuer);
        let configuration = json!({ "issuer": self.issuer, "jwks_uri": uri }).to_string();
        self.answer(CONFIGURATION, "200 OK", &configuration);
        self.answer("/keys", "200 OK", &json!({ "keys": keys }).to_string());
    }

    fn answer(&self, path: &str, status: &str, body: &str) {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.published.lock().unwrap().answers.insert(format!("/acme{path}"), answer);
    }

    fn asked(&self) -> usize {
        self.published.lock().unwrap().asked
    }

    async fn join(&mut self, key: &KeyRef, id: &str, now: Timestamp) -> Result<Proven, Refusal> {
        let mut claims = claims();
        claims["iss"] = json!(self.issuer);
        claims["exp"] = json!(now.as_second() + 300);
        self.show(key, id, &claims, now).await
    }

    async fn show(
        &mut self,
        key: &KeyRef,
        id: &str,
        claims: &Value,
        now: Timestamp,
    ) -> Result<Proven, Refusal> {
        let mut header = header("ES256");
        header["kid"] = json!(id);
        let token = self.holder.token(key, SignatureScheme::EcdsaP256Sha256, &header, claims);
        self.holder.proofs.verify(&self.method, &by_token(&token), now).await
    }
}

async fn serve(listener: TcpListener, published: Arc<Shared<Published>>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(stream.read_u8().await.unwrap());
        }
        let request = String::from_utf8(request).unwrap();
        let path = request.split(' ').nth(1).unwrap();
        let answer = {
            let mut published = published.lock().unwrap();
            published.asked += 1;
            let missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
            published.answers.get(path).cloned().unwrap_or_else(|| missing.to_owned())
        };
        // Who hears enough of a long answer hangs up.
        let _ = stream.write_all(answer.as_bytes()).await;
    }
}

const SECOND: SignedDuration = SignedDuration::from_secs(1);
