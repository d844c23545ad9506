use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2 as client;

use super::*;

#[tokio::test]
async fn a_call_must_be_one_before_it_is_looked_at_who_calls() {
    let (api, _directory) = listen(NOBODY);
    let socket = &api.settings.socket;
    api.shown.send_replace(Shown::Svids(svids(1)));
    let content = "content-type";
    for (path, without, status) in [
        ("FetchX509SVID", None, "7"),
        ("FetchX509Bundles", None, "7"),
        ("FetchX509SVID", Some(SECURITY_HEADER), "3"),
        ("FetchJWTSVID", None, "12"),
        ("FetchJWTBundles", None, "12"),
        ("ValidateJWTSVID", None, "12"),
        ("Fetch%0d%0a", None, "12"),
    ] {
        let (answer, _) = call(socket, path, without, b"\0\0\0\0\0").await;
        assert_eq!(answer.headers()["grpc-status"], status, "{path} without {without:?}");
        assert!(answer.collect().await.unwrap().to_bytes().is_empty());
    }
    let (answer, _) = call(socket, "FetchX509SVID", Some(content), b"\0\0\0\0\0").await;
    assert_eq!(answer.status(), 415);
    let (answer, _) = call(socket, "FetchX509SVID", None, b"\0what is no message").await;
    assert_eq!(answer.headers()["grpc-status"], "13");
}

#[tokio::test]
async fn a_stream_gets_each_renewal_and_ends_when_the_bot_is_locked() {
    let own = rustix::process::geteuid().as_raw().to_string();
    let (api, _directory) = listen(&own);
    let socket = api.settings.socket.clone();
    let ask = async |path| call(&socket, path, None, b"\0\0\0\0\0").await;
    let (answer, _) = ask("FetchX509SVID").await;
    assert_eq!(answer.headers()["grpc-status"], "14", "there is nothing yet");

    api.shown.send_replace(Shown::Svids(svids(1)));
    let (mut identity, _one) = ask("FetchX509SVID").await;
    let (mut bundles, _two) = ask("FetchX509Bundles").await;
    let given = message(&mut identity).await;
    assert!(contains(&given, b"spiffe://e.example/web"), "{given:?}");
    assert!(!contains(&given, b"spiffe://e.example/other"), "what another user gets: {given:?}");
    message(&mut bundles).await;

    api.shown.send_replace(Shown::Svids(svids(2)));
    assert_ne!(message(&mut identity).await, given);
    api.withdraw();
    for stream in [&mut identity, &mut bundles] {
        // The bundle stayed as it was, so that there was no second one of it.
        let end = stream.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(end["grpc-status"], "7");
        assert!(stream.frame().await.is_none());
    }
    let (answer, _) = ask("FetchX509SVID").await;
    assert_eq!(answer.headers()["grpc-status"], "7");

    api.shown.send_replace(Shown::Svids(svids(3)));
    let (mut again, _three) = ask("FetchX509SVID").await;
    message(&mut again).await;
    drop(api);
    assert!(!socket.exists());
    let end = again.frame().await.transpose();
    assert!(end.is_err() || end.unwrap().unwrap().is_trailers());
}

#[tokio::test]
async fn a_rule_can_ask_for_a_program() {
    let own = rustix::process::geteuid().as_raw().to_string();
    let program = std::env::current_exe().unwrap();
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &std::fs::read(&program).unwrap());
    let program = format!("executable = {program:?}");
    let digest = format!("sha256 = \"{}\"", hex::encode(digest));
    for (asked, granted) in [
        (&*program, true),
        (&digest, true),
        (&format!("{program}\n{digest}"), true),
        ("executable = \"/bin/true\"", false),
        (&format!("{program}\nsha256 = \"{}\"", "00".repeat(32)), false),
    ] {
        let (api, _directory) = listen(&format!("{own}\"\n{asked}\nhint = \"x"));
        api.shown.send_replace(Shown::Svids(svids(1)));
        let (answer, _) = call(&api.settings.socket, "FetchX509SVID", None, b"\0\0\0\0\0").await;
        let denied = answer.headers().get("grpc-status").map(HeaderValue::as_bytes);
        assert_eq!(denied, (!granted).then_some(&b"7"[..]), "{asked}");
    }
}

#[test]
fn a_rule_for_everybody_and_no_rule_are_refused() {
    for (rule, says) in [
        ("", "missing field `rule`"),
        ("rule = []", "no [[output.rule]]"),
        ("[[rule]]\nspiffe_id = \"spiffe://e.example/web\"", "neither user nor group"),
        ("[[rule]]\nspiffe_id = \"web\"\nuser = \"0\"", "SPIFFE id"),
        ("[[rule]]\nspiffe_id = \"spiffe://e.x/a\"\nuser = \"no such\"", "there is no user"),
        ("[[rule]]\nspiffe_id = \"spiffe://e.x/a\"\nuser = \"0\"\nsha256 = \"ab\"", "64 hex"),
        ("[[rule]]\nspiffe_id = \"spiffe://e.x/a\"\nuser = \"0\"\nexecutable = \"a\"", "absolute"),
        ("[[rule]]\nspiffe_id = \"spiffe://e.x/a\"\nuid = 0", "unknown field"),
    ] {
        let read = toml::from_str::<Settings>(&format!("socket = \"/run/s\"\n{rule}"));
        let error = read.unwrap_err().to_string();
        assert!(error.contains(says), "{rule}: {error}");
    }
}

/// Serves `spiffe://e.example/web` to one user, and `…/other` to another one.
fn listen(user: &str) -> (WorkloadApi, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let settings = format!(
        "socket = {socket:?}\n\
         [[rule]]\nspiffe_id = \"spiffe://e.example/other\"\nuser = \"{NOBODY}\"\n\
         [[rule]]\nspiffe_id = \"spiffe://e.example/web\"\nuser = \"{user}\"\n"
    );
    (WorkloadApi::listen(&toml::from_str(&settings).unwrap()).unwrap(), directory)
}

fn svids(number: u8) -> Arc<BTreeMap<SpiffeId, Svid>> {
    let one = |name: &str| {
        let svid = Svid { chain: vec![number], key: vec![number].into(), bundle: vec![7] };
        (format!("spiffe://e.example/{name}").parse().unwrap(), svid)
    };
    Arc::new([one("web"), one("other")].into())
}

/// What comes back, and the connection that it comes over.
async fn call(
    socket: &Path,
    method: &str,
    without: Option<&'static str>,
    body: &'static [u8],
) -> (Response<Incoming>, client::SendRequest<Full<Bytes>>) {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) =
        client::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let headers = [("content-type", "application/grpc"), (SECURITY_HEADER, "true")];
    let headers = headers.into_iter().filter(|(name, _)| Some(*name) != without);
    let mut request = Request::post(format!("http://localhost/SpiffeWorkloadAPI/{method}"))
        .body(Full::new(Bytes::from_static(body)))
        .unwrap();
    *request.headers_mut() = headers
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect::<HeaderMap>();
    (sender.send_request(request).await.unwrap(), sender)
}

/// The next message, without what is before it.
async fn message(answer: &mut Response<Incoming>) -> Vec<u8> {
    let mut read = Vec::new();
    loop {
        read.extend(answer.frame().await.unwrap().unwrap().into_data().unwrap());
        if let Some(([0, length @ ..], message)) = read.split_first_chunk::<5>()
            && u32::from_be_bytes(*length) as usize == message.len()
        {
            return message.to_vec();
        }
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Never the user that tests are run by.
const NOBODY: &str = "65533";
