//! An office of one's own: a ceremony was held in SoftHSM, the appliance serves, and callers have
//! their identities. Everything lies in one temporary directory and goes with it.

use std::{
    fs,
    io::{Read, Write},
    mem,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    clock::Clock,
    failure::{Doing, Failure},
    https::{Https, Identity, Request, Response},
    openssl,
    peers::{ours, peer, source_tree},
    process::{Answer, Daemon, run},
    shim::{self, Shim},
    softhsm, ssh,
    token::Token,
    virtual_card::VirtualCard,
};

/// The token's label, which the plan of the demonstration takes.
pub const TOKEN: &str = "chancery";

/// The SPIFFE trust domain of all callers.
pub const TRUST_DOMAIN: &str = "example.test";

/// The token's user PIN.
pub(crate) const PIN: &str = "chancery-demo";

/// The first operator.
const OPERATOR: &str = "olivia";

/// How long the appliance may take to start on a busy machine.
const READY: Duration = Duration::from_secs(30);

/// An office; the appliance ends and the directory goes when this value is dropped.
#[derive(Debug)]
pub struct Office {
    appliance: Option<Daemon>,
    listening: Listening,
    operator: Identity,
    token: Token,
    /// The most files that the appliance may have open, if that is limited.
    files: Option<u32>,
    /// What its programs see of the time, if not the machine's clock.
    clock: Option<Clock>,
    directory: TempDir,
}

/// Where the appliance listens.
#[derive(Clone, Copy, Debug)]
struct Listening {
    api: SocketAddr,
    public: SocketAddr,
}

impl Office {
    /// An office at work: the ceremony was held, the first operator has a certificate, the
    /// appliance serves.
    ///
    /// # Errors
    ///
    /// One of the programs refuses or is missing.
    pub fn open() -> Result<Self, Failure> {
        let mut office = Self::prepare()?;
        office.begin()?;
        Ok(office)
    }

    /// As [`open`](Self::open), on another token than SoftHSM.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and those of `token`.
    pub fn open_on(token: impl FnOnce(&Path) -> Result<Token, Failure>) -> Result<Self, Failure> {
        let mut office = Self::prepare_on(token)?;
        office.begin()?;
        Ok(office)
    }

    /// As [`open`](Self::open), with a module between appliance and token that fails as it is told.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_with_shim() -> Result<(Self, Shim), Failure> {
        let mut office = Self::prepare()?;
        let shim = office.put_shim()?;
        office.begin()?;
        Ok((office, shim))
    }

    /// An office before the ceremony: an empty token, a site file, a configuration file, rules.
    ///
    /// # Errors
    ///
    /// SoftHSM is missing, or the directory cannot be written.
    pub fn prepare() -> Result<Self, Failure> {
        Self::prepare_on(softhsm::token)
    }

    /// As [`prepare`](Self::prepare), on the token that `token` makes in a directory of its own.
    ///
    /// # Errors
    ///
    /// Those of `token`, or a directory cannot be written.
    pub fn prepare_on(
        token: impl FnOnce(&Path) -> Result<Token, Failure>,
    ) -> Result<Self, Failure> {
        let directory = TempDir::with_prefix("chancery-").doing("make a temporary directory")?;
        let root = directory.path();
        fs::create_dir(root.join("token")).doing("make a directory")?;
        let token = token(&root.join("token"))?;
        write_private(&root.join("pin"), PIN)?;
        copy_rules(&root.join("rules"))?;
        let nowhere = (Ipv4Addr::LOCALHOST, 0).into();
        let listening = Listening { api: nowhere, public: nowhere };
        let operator = identity(root, OPERATOR);
        let (files, clock) = (None, None);
        let office = Self { appliance: None, listening, operator, token, files, clock, directory };
        office.configure()?;
        Ok(office)
    }

    /// Puts a module between the office and its token that fails as it is told.
    ///
    /// # Errors
    ///
    /// The shim is not built, or a file cannot be written.
    pub fn put_shim(&mut self) -> Result<Shim, Failure> {
        let shim = Shim::new(&self.path("shim"), &self.token.module)?;
        self.change_token(|token| {
            token.readable.push(mem::replace(&mut token.module, shim.module().to_owned()));
            token.tell(shim::ENVIRONMENT, shim.directory());
        })?;
        Ok(shim)
    }

    /// Reaches the token in another way from now on: the site file and the configuration file say
    /// how.
    ///
    /// # Errors
    ///
    /// They cannot be written.
    pub fn change_token(&mut self, change: impl FnOnce(&mut Token)) -> Result<(), Failure> {
        change(&mut self.token);
        self.configure()
    }

    fn configure(&self) -> Result<(), Failure> {
        write(&self.path("site.toml"), &site(&self.token))?;
        write(&self.path("chanceryd.toml"), &configuration(&self.token))
    }

    /// Does what is done once: the ceremony, the first operator's certificate, the start.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn begin(&mut self) -> Result<(), Failure> {
        self.hold_ceremony()?;
        self.add_operator()?;
        self.start()
    }

    /// Performs the plan of the demonstration in the token, as far as the token can.
    ///
    /// # Errors
    ///
    /// The ceremony stops.
    pub fn hold_ceremony(&self) -> Result<Answer, Failure> {
        let mut command = self.program("chancery-ceremony")?;
        command.current_dir(self.directory.path()).arg("run").arg(self.plan()?);
        command.args(["--site", "site.toml", "--journal", "transcript.jsonl"]);
        command.args(["--handoff", "handoff", "--unattended"]);
        run(&mut command)?.success()
    }

    /// The plan of the demonstration, or what the token can do of it.
    fn plan(&self) -> Result<PathBuf, Failure> {
        let demonstration = source_tree().join("ceremony/plans/demo.toml");
        if !self.token.blank && !self.token.without_ed25519 {
            return Ok(demonstration);
        }
        let mut plan = fs::read_to_string(&demonstration).doing("read the plan")?;
        if self.token.blank {
            let first = "[[steps]]\ndo = \"token-init\"\n\n[[steps]]\n";
            plan = plan.replacen("[[steps]]\n", first, 1);
        }
        if self.token.without_ed25519 {
            plan = plan.replace("\"ed25519\"", "\"p256\"");
        }
        let path = self.path("plan.toml");
        write(&path, &plan)?;
        Ok(path)
    }

    /// Gives the first operator a client certificate, on the machine itself.
    ///
    /// # Errors
    ///
    /// The appliance refuses.
    pub fn add_operator(&self) -> Result<Answer, Failure> {
        make_request(&self.operator, &self.path("operator.csr"))?;
        let arguments = ["operator", "add", OPERATOR, "--csr", "operator.csr"];
        let mut command = self.chanceryd(&arguments)?;
        let answer = run(command.args(["--config", "chanceryd.toml"]))?.success()?;
        write(&self.operator.certificate, &answer.stdout)?;
        Ok(answer)
    }

    /// Starts the appliance on ports that the system gives, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn start(&mut self) -> Result<(), Failure> {
        let told = self.path("state/listening.json");
        if told.exists() {
            fs::remove_file(&told).doing("remove listening.json")?;
        }
        let mut command = Command::new(ours("chanceryd")?);
        command.current_dir(self.directory.path()).args(["serve", "--config", "chanceryd.toml"]);
        self.clock.iter().for_each(|clock| clock.lend(&mut command));
        if let Some(files) = self.files {
            command = with_limit(&command, files)?;
        }
        let mut daemon = Daemon::start("chanceryd", &mut command, &self.path("chanceryd.log"))?;
        let id = daemon.id();
        daemon.leaves(self.clock.iter().flat_map(|clock| clock.leftovers(id)));
        daemon.wait_until(READY, |_| told.exists())?;
        self.listening = read_listening(&told)?;
        let public = self.public();
        daemon.wait_until(READY, |_| {
            http_get(public, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })?;
        self.appliance = Some(daemon);
        Ok(())
    }

    /// Lets the appliance listen where it does now also after its next start, so that agents find
    /// it.
    ///
    /// # Errors
    ///
    /// The configuration cannot be written.
    pub fn keep_port(&self) -> Result<(), Failure> {
        let port = format!("api = \"{}\"", self.api());
        let text = self.configured()?.replace("api = \"127.0.0.1:0\"", &port);
        write(&self.path("chanceryd.toml"), &text)
    }

    /// Trusts the makers of these cards, from its next start on.
    ///
    /// # Errors
    ///
    /// OpenSSL refuses, or a file cannot be written.
    pub fn trust_cards(&self, cards: &[&VirtualCard]) -> Result<(), Failure> {
        let mut makers = String::new();
        for card in cards {
            let der = self.path("maker.der");
            fs::write(&der, card.attestation_root()).doing("write a root")?;
            let mut convert = openssl::openssl()?;
            convert.args(["x509", "-inform", "DER", "-in"]).arg(&der);
            makers += &run(&mut convert)?.success()?.stdout;
        }
        write(&self.path("makers.pem"), &makers)?;
        let table = "\n[attestation]\nanchors = [\"makers.pem\"]\n";
        if self.configured()?.contains(table) { Ok(()) } else { self.configure_also(table) }
    }

    /// Adds tables to the configuration file, which count from the appliance's next start on.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn configure_also(&self, tables: &str) -> Result<(), Failure> {
        write(&self.path("chanceryd.toml"), &(self.configured()? + tables))
    }

    fn configured(&self) -> Result<String, Failure> {
        fs::read_to_string(self.path("chanceryd.toml")).doing("read the configuration")
    }

    /// From its next start on, the appliance may have so many files open and no more.
    pub fn limit_files(&mut self, files: u32) {
        self.files = Some(files);
    }

    /// Sets the clock of all programs that are started from now on.
    pub fn set_clock(&mut self, clock: Clock) {
        self.clock = Some(clock);
    }

    /// One of our programs, at the office's time.
    fn program(&self, name: &str) -> Result<Command, Failure> {
        let program = ours(name)?;
        let clock = self.clock.as_ref();
        Ok(clock.map_or_else(|| Command::new(&program), |clock| clock.command(&program)))
    }

    /// The appliance's program in the office's directory.
    ///
    /// # Errors
    ///
    /// It is not built.
    pub fn chanceryd(&self, arguments: &[&str]) -> Result<Command, Failure> {
        let mut command = self.program("chanceryd")?;
        command.current_dir(self.directory.path()).args(arguments);
        Ok(command)
    }

    /// A path in the office's directory.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What a user asks `/v1/issue/ssh-user` for: a certificate for the key NAME and NAME.pub, which
    /// is made if it is not there.
    ///
    /// # Errors
    ///
    /// ssh-keygen refuses.
    pub fn login_request(&self, name: &str) -> Result<Value, Failure> {
        let key = self.path(name);
        if !key.exists() {
            ssh::generate("ed25519", &key)?;
        }
        let public_key = fs::read_to_string(key.with_extension("pub")).doing("read a key")?;
        Ok(json!({ "role": "login", "public_key": public_key }))
    }

    /// The records of the audit directory, in their order.
    ///
    /// # Errors
    ///
    /// A file cannot be read, or a line of it is no record.
    pub fn audit_records(&self) -> Result<Vec<Value>, Failure> {
        let mut files = Vec::new();
        for entry in fs::read_dir(self.path("audit")).doing("list the audit directory")? {
            files.push(entry.doing("list the audit directory")?.path());
        }
        files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
        let mut records = Vec::new();
        for file in files {
            for line in fs::read_to_string(&file).doing("read the audit log")?.lines() {
                records.push(serde_json::from_str(line).doing("read a record")?);
            }
        }
        Ok(records)
    }

    /// A file of the ceremony's hand-off.
    pub fn handoff(&self, name: &str) -> PathBuf {
        self.path("handoff").join(name)
    }

    /// The token.
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// Makes a P-256 key in the token without a ceremony, as `flags` of pkcs11-tool say, and lets
    /// the hand-off name it as that of the SSH CA `ssh-user`, in the place of the ceremony's.
    ///
    /// # Errors
    ///
    /// pkcs11-tool refuses, or the hand-off cannot be written.
    pub fn smuggle_key(&self, flags: &[&str]) -> Result<(), Failure> {
        let (label, id) = ("issuing/smuggled", "5eed");
        let make = ["--keypairgen", "--key-type", "EC:secp256r1", "--label", label, "--id", id];
        self.token.tool(TOKEN, PIN, &[&make[..], flags].concat())?;
        let der = self.path("smuggled.der").display().to_string();
        let read = ["--read-object", "--type", "pubkey", "--id", id, "--output-file", &der];
        self.token.tool(TOKEN, PIN, &read)?;
        let public_key = openssl::public_key_pem(Path::new(&der))?;
        let path = self.handoff("handoff.toml");
        let text = fs::read_to_string(&path).doing("read the hand-off")?;
        let mut handoff: toml::Table = toml::from_str(&text).doing("read the hand-off")?;
        let key = [("label", label), ("id", id), ("public_key", &public_key)];
        let key: toml::Table =
            key.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        handoff["ssh"]["ssh-user"]["key"] = key.into();
        write(&path, &handoff.to_string())
    }

    /// The first operator.
    pub fn operator(&self) -> &Identity {
        &self.operator
    }

    /// Where the API is, for mutual TLS.
    pub fn api(&self) -> SocketAddr {
        self.listening.api
    }

    /// Where the public listener is, for plain HTTP.
    pub fn public(&self) -> SocketAddr {
        self.listening.public
    }

    /// An HTTP client of the API that shows `identity`, or nothing.
    ///
    /// # Errors
    ///
    /// The identity's files cannot be read.
    pub fn https(&self, identity: Option<&Identity>) -> Result<Https, Failure> {
        let https = Https::new(self.api(), "localhost", &self.handoff("root.pem"), identity)?;
        Ok(self.clock.iter().fold(https, |https, clock| https.by(clock)))
    }

    /// Sends a request that must be granted, and gives the answer.
    ///
    /// # Errors
    ///
    /// It is refused.
    pub fn ask(&self, identity: &Identity, path: &str, body: &Value) -> Result<Value, Failure> {
        let expected = if path == "/v1/sign" { 200 } else { 201 };
        self.https(Some(identity))?.post(path, body)?.expect_status(expected)?.json()
    }

    /// Gives a caller a client certificate, as the operator would: `id` is the path of its SPIFFE
    /// id, `user/alice`.
    ///
    /// # Errors
    ///
    /// The appliance refuses.
    pub fn enrol(&self, id: &str) -> Result<Identity, Failure> {
        self.enrol_for(id, None)
    }

    /// As [`enrol`](Self::enrol), for `ttl` seconds.
    ///
    /// # Errors
    ///
    /// The appliance refuses.
    pub fn enrol_for(&self, id: &str, ttl: Option<u32>) -> Result<Identity, Failure> {
        let identity = identity(self.directory.path(), &id.replace('/', "-"));
        let request = make_request(&identity, &self.path("caller.csr"))?;
        let mut body = json!({
            "role": "enrol",
            "csr": request,
            "spiffe_id": format!("spiffe://{TRUST_DOMAIN}/{id}"),
        });
        if let Some(ttl) = ttl {
            body["ttl"] = ttl.into();
        }
        let issued = self.ask(&self.operator, "/v1/issue/x509", &body)?;
        write(&identity.certificate, &with_chain(&issued))?;
        Ok(identity)
    }

    /// The client as `identity`'s owner types it: where the appliance is and who calls, it reads
    /// in the caller's own profile.
    ///
    /// # Errors
    ///
    /// The client is not built, or the profile cannot be written.
    pub fn chancery(&self, identity: &Identity, arguments: &[&str]) -> Result<Command, Failure> {
        self.as_caller("chancery", identity, arguments)
    }

    /// Another of our programs that calls the appliance, as [`chancery`](Self::chancery).
    ///
    /// # Errors
    ///
    /// As [`chancery`](Self::chancery).
    pub fn as_caller(
        &self,
        program: &str,
        identity: &Identity,
        arguments: &[&str],
    ) -> Result<Command, Failure> {
        let home = identity.certificate.with_extension("config");
        let profile = home.join("chancery/config.toml");
        fs::create_dir_all(home.join("chancery")).doing("make a directory")?;
        write(
            &profile,
            &format!(
                "default = \"office\"\n\n[profiles.office]\nserver = \"https://localhost:{}\"\n\
                 ca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n\
                 card_role = \"card\"\n",
                self.api().port(),
                self.handoff("root.pem").display(),
                identity.certificate.display(),
                identity.key.display(),
            ),
        )?;
        let mut command = self.program(program)?;
        command.current_dir(self.directory.path()).env("XDG_CONFIG_HOME", &home).args(arguments);
        command.env("XDG_STATE_HOME", home.join("state"));
        Ok(command)
    }

    /// The running appliance.
    ///
    /// # Errors
    ///
    /// It was killed.
    pub fn appliance(&mut self) -> Result<&mut Daemon, Failure> {
        self.appliance.as_mut().ok_or_else(|| Failure::new("the appliance was killed"))
    }

    /// Ends the appliance as a power cut would.
    pub fn kill(&mut self) {
        if let Some(appliance) = self.appliance.take() {
            appliance.kill();
        }
    }

    /// Starts the appliance again on the same state, on other ports.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn restart(&mut self) -> Result<(), Failure> {
        if let Some(appliance) = self.appliance.take() {
            appliance.stop();
        }
        self.start()
    }
}

/// The certificate of an answer, followed by its chain.
pub fn with_chain(issued: &Value) -> String {
    let chain = issued["chain"].as_array().into_iter().flatten();
    let certificates = std::iter::once(&issued["certificate"]).chain(chain);
    certificates.filter_map(Value::as_str).map(|pem| format!("{}\n", pem.trim_end())).collect()
}

/// The same command, which may have so many files open; the process id stays its own.
fn with_limit(command: &Command, files: u32) -> Result<Command, Failure> {
    let mut limited = Command::new(peer("prlimit")?);
    limited.arg(format!("--nofile={files}")).arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        limited.current_dir(directory);
    }
    Ok(limited)
}

fn site(token: &Token) -> String {
    format!(
        "module = {module:?}\npin_file = \"pin\"\nso_pin_file = \"pin\"\n\
         software_token = \"nothing of value is behind these keys\"\n{site}\n\
         [token]\nlabel = \"{TOKEN}\"\n\n[environment]\n{environment}",
        module = token.module,
        site = token.site,
        environment = variables(token),
    )
}

/// The environment as lines of a TOML table.
fn variables(token: &Token) -> String {
    token.environment.iter().map(|(name, value)| format!("{name} = {value:?}\n")).collect()
}

/// The appliance's configuration file.
fn configuration(token: &Token) -> String {
    format!(
        r#"trust_domain = "{TRUST_DOMAIN}"
handoff = "handoff"
rules = "rules"
state_directory = "state"
audit_directory = "audit"

[listen]
api = "127.0.0.1:0"
public = "127.0.0.1:0"

# One client stands for many in most stories.
[limits]
strangers = 10000
rate = 1000000
burst = 1000000

[token]
module = {module:?}
label = "{TOKEN}"
pin_file = "pin"
{settings}
[token.environment]
{environment}
[token.sandbox]
readable = {readable:?}
writable = {writable:?}
{sandbox}
[tls]
issuer = "services"
dns_names = ["localhost"]
addresses = ["127.0.0.1"]
client_authorities = ["services"]

[publication.issuing]
crl_url = "http://pki.example.test/issuing.crl"
issuer_url = "http://pki.example.test/issuing.cer"

[publication.services]
crl_url = "http://pki.example.test/services.crl"
"#,
        module = token.module,
        settings = token.settings,
        sandbox = token.sandbox,
        readable = token.readable,
        writable = token.writable,
        environment = variables(token),
    )
}

/// The appliance says where it listens once it does.
fn read_listening(path: &Path) -> Result<Listening, Failure> {
    let text = fs::read_to_string(path).doing("read listening.json")?;
    let told: Value = serde_json::from_str(&text).doing("read listening.json")?;
    let address = |name: &str| {
        let text = told[name].as_str().unwrap_or_default();
        text.parse().doing(format_args!("read {name:?} of listening.json"))
    };
    Ok(Listening { api: address("api")?, public: address("public")? })
}

/// Gets a path of the public listener, as text with the head.
///
/// # Errors
///
/// Nobody listens there, or nothing readable came.
pub fn http_get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(READY))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Sends a request to the public listener.
///
/// # Errors
///
/// Nobody listens there, or nothing readable came.
pub fn http_send(address: SocketAddr, request: &Request<'_>) -> Result<Response, Failure> {
    let mut stream = TcpStream::connect(address).doing(request)?;
    stream.set_read_timeout(Some(READY)).doing(request)?;
    stream.write_all(&request.bytes()).doing(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).doing(request)?;
    Response::parse(&answer)
}

fn identity(directory: &Path, name: &str) -> Identity {
    Identity {
        certificate: directory.join(format!("{name}.caller.pem")),
        key: directory.join(format!("{name}.caller.key")),
    }
}

/// Makes a caller's key and a request for it; gives the request (PEM).
fn make_request(identity: &Identity, path: &Path) -> Result<String, Failure> {
    openssl::generate("ec:P-256", &identity.key)?;
    openssl::request(&identity.key, "/CN=caller", &[], path)?;
    fs::read_to_string(path).doing(format_args!("read {}", path.display()))
}

fn copy_rules(to: &Path) -> Result<(), Failure> {
    fs::create_dir_all(to).doing(format_args!("create {}", to.display()))?;
    for name in ["accounts.toml", "roles.toml"] {
        let from = source_tree().join("softhsm-tests/rules").join(name);
        fs::copy(&from, to.join(name)).doing(format_args!("copy {}", from.display()))?;
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).doing(format_args!("write {}", path.display()))
}

fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    write(path, text)?;
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, mode).doing(format_args!("protect {}", path.display()))
}
