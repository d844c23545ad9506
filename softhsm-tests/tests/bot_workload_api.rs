//! The SPIFFE Workload API of a bot's agent, asked by a client that is not ours.

use std::{
    fs,
    future::Future,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use futures_util::{Stream, StreamExt};
use harness::{
    Doing, Failure, Story,
    bot::Bot,
    office::Office,
    openssl::{self, openssl},
    process::run,
};
use rustix::{
    process::{Gid, Uid, geteuid},
    thread::{set_thread_gid, set_thread_groups, set_thread_uid},
};
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context, X509Svid};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);

/// Debian's `nobody` and `nogroup`.
const NOBODY: u32 = 65_534;

#[test]
fn programs_are_sent_their_identities_until_the_bot_is_locked() -> Story {
    let scene = Scene::open()?;
    block_on(async {
        // 1. Identity and bundle, as the rules give them to this user, and no other's.
        let client = connect(&scene.socket()).await?;
        let mut stream = client.stream_x509_contexts().await.doing("open a stream")?;
        let first = next(&mut stream).await?;
        let [svid] = first.svids() else { return Err(Failure::new("not one identity")) };
        assert_eq!(svid.spiffe_id().to_string(), "spiffe://example.test/service/web");
        assert_eq!(svid.hint(), Some("internal"));
        scene.verify_with_openssl(svid, &first)?;
        let bundles = client.fetch_x509_bundles().await.doing("fetch the bundles")?;
        assert_eq!(bundles, **first.bundle_set());

        // 2. The next one comes by itself, on another key.
        let second = next(&mut stream).await?;
        let [next_svid] = second.svids() else { return Err(Failure::new("not one identity")) };
        assert_ne!(next_svid.leaf(), svid.leaf());
        assert_ne!(next_svid.private_key().as_bytes(), svid.private_key().as_bytes());
        scene.verify_with_openssl(next_svid, &second)?;

        // 3. A lock ends the stream, and there is nothing to fetch.
        let lock = ["lock", "add", "bot:mesh", "--reason", "a story", "--yes"];
        run(&mut scene.office.chancery(scene.office.operator(), &lock)?)?.success()?;
        let end = loop {
            // One may have been on its way.
            match tokio::time::timeout(PATIENCE, stream.next()).await.doing("wait")? {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(matches!(end, Some(Err(WorkloadApiError::PermissionDenied(_)))), "{end:?}");
        let denied = client.fetch_x509_context().await;
        assert!(matches!(denied, Err(WorkloadApiError::PermissionDenied(_))), "{denied:?}");
        Ok(())
    })
}

#[test]
fn what_is_nobodys_is_not_for_this_user_and_the_other_way_round() -> Story {
    let scene = Scene::open()?;
    let theirs = scene.directory.path().join("theirs");
    block_on(async {
        let client = connect(&theirs).await?;
        let denied = client.fetch_x509_context().await;
        assert!(matches!(denied, Err(WorkloadApiError::NoIdentityIssued)), "{denied:?}");
        Ok(())
    })?;
    if !geteuid().is_root() {
        // Nobody but root can be somebody else, and what is to be denied was.
        return Ok(());
    }
    let ours = scene.socket();
    let asked = thread::spawn(move || {
        // The credentials of this thread alone: the kernel tells them to the agent.
        set_thread_groups(&[]).doing("leave the groups")?;
        set_thread_gid(Gid::from_raw(NOBODY)).doing("become nobody")?;
        set_thread_uid(Uid::from_raw(NOBODY)).doing("become nobody")?;
        block_on(async {
            let given = connect(&theirs).await?.fetch_x509_context().await;
            let denied = connect(&ours).await?.fetch_x509_context().await;
            Ok((given.doing("fetch as nobody")?, denied))
        })
    });
    let (given, denied) = asked.join().map_err(|_| Failure::new("the thread panicked"))??;
    let ids: Vec<_> = given.svids().iter().map(|it| it.spiffe_id().to_string()).collect();
    assert_eq!(ids, ["spiffe://example.test/service/db"]);
    assert!(matches!(denied, Err(WorkloadApiError::NoIdentityIssued)), "{denied:?}");
    Ok(())
}

struct Scene {
    office: Office,
    /// Everybody may come in here.
    directory: TempDir,
    _bot: Bot,
}

impl Scene {
    fn open() -> Result<Self, Failure> {
        let mut office = Office::prepare()?;
        fs::write(office.path("rules/mesh.toml"), RULES).doing("write the rules")?;
        office.begin()?;
        let directory = TempDir::with_prefix("chancery-").doing("make a directory")?;
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(directory.path(), mode).doing("open the directory")?;
        let at = directory.path().display().to_string();
        let own = geteuid().as_raw().to_string();
        let outputs = OUTPUTS.replace("{sockets}", &at).replace("{own}", &own);
        let mut bot = Bot::add(&office, "mesh", &["--role", "mesh"], &outputs)?;
        bot.start()?;
        for name in ["ours", "theirs"] {
            bot.wait_for_log(&format!("renewed output={name:?}"))?;
        }
        Ok(Self { office, directory, _bot: bot })
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("ours")
    }

    /// The chain leads to the bundle's root, and the key is the certificate's.
    fn verify_with_openssl(&self, svid: &X509Svid, context: &X509Context) -> Story {
        let domain = svid.spiffe_id().trust_domain();
        let bundle = context.bundle_set().get(domain);
        let bundle = bundle.ok_or_else(|| Failure::new("there is no bundle of the domain"))?;
        let [root] = bundle.authorities() else { return Err(Failure::new("not one root")) };
        let root = self.pem("root", root.as_bytes())?;
        let [leaf, between] = svid.cert_chain() else { return Err(Failure::new("not two")) };
        let (leaf, between) =
            (self.pem("leaf", leaf.as_bytes())?, self.pem("between", between.as_bytes())?);
        openssl::verify(&root, Some(&between), "sslclient", &leaf)?.success()?;
        let said = openssl::describe(&leaf)?;
        assert!(said.contains(&format!("URI:{}", svid.spiffe_id())), "{said}");
        let key = self.office.path("svid.key");
        fs::write(&key, svid.private_key().as_bytes()).doing("write the key")?;
        let mut of_key = openssl()?;
        of_key.args(["pkey", "-inform", "DER", "-pubout", "-in"]).arg(&key);
        let mut of_leaf = openssl()?;
        of_leaf.args(["x509", "-noout", "-pubkey", "-in"]).arg(&leaf);
        assert_eq!(run(&mut of_key)?.success()?.stdout, run(&mut of_leaf)?.success()?.stdout);
        Ok(())
    }

    fn pem(&self, name: &str, der: &[u8]) -> Result<PathBuf, Failure> {
        let (from, to) = (self.office.path(format!("{name}.der")), self.office.path(name));
        fs::write(&from, der).doing("write a certificate")?;
        let mut command = openssl()?;
        command.args(["x509", "-inform", "DER", "-in"]).arg(&from).arg("-out").arg(&to);
        run(&mut command)?.success()?;
        Ok(to)
    }
}

async fn connect(socket: &Path) -> Result<WorkloadApiClient, Failure> {
    let endpoint = format!("unix://{}", socket.display());
    WorkloadApiClient::connect_to(endpoint).await.doing("connect to the Workload API")
}

async fn next(
    stream: &mut (impl Stream<Item = Result<X509Context, WorkloadApiError>> + Unpin),
) -> Result<X509Context, Failure> {
    let next = tokio::time::timeout(PATIENCE, stream.next()).await.doing("wait for the next")?;
    next.ok_or_else(|| Failure::new("the stream has ended"))?.doing("read the next")
}

fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.doing("start a runtime")?.block_on(future)
}

/// Renewed after ten seconds or so.
const OUTPUTS: &str = r#"
[[output]]
name = "ours"
kind = "workload-api"
role = "mesh"
ttl = "20s"
socket = "{sockets}/ours"
[[output.rule]]
spiffe_id = "spiffe://example.test/service/db"
user = "65533"
[[output.rule]]
spiffe_id = "spiffe://example.test/service/web"
user = "{own}"
hint = "internal"

[[output]]
name = "theirs"
kind = "workload-api"
role = "mesh"
socket = "{sockets}/theirs"
[[output.rule]]
spiffe_id = "spiffe://example.test/service/db"
user = "nobody"
"#;

const RULES: &str = r#"
[[role]]
name = "mesh"
callers = ["spiffe://example.test/bot/mesh"]
issuer = "services"
default_ttl = "1h"
max_ttl = "1h"
[role.tls_client]
spiffe_ids = ["spiffe://example.test/service/*"]
"#;
