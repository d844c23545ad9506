//! A host of an office: it has joined, its agent runs, and its sshd asks the agent.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use serde_json::Value;

use crate::{
    failure::{Doing, Failure},
    https::Identity,
    office::Office,
    peers::{ours, peer},
    process::{Answer, Daemon, run, wait_until},
    ssh::{self, Login},
    sshd::{Settings, Sshd},
};

/// What hosts may have, and sessions on them: a file beside the rules of the stories.
pub const RULES: &str = r#"
[[role]]
name = "host-client"
callers = ["spiffe://example.test/host/*"]
issuer = "services"
default_ttl = "24h"
max_ttl = "24h"
[role.tls_client]

[[role]]
name = "host-ssh"
callers = ["spiffe://example.test/host/*"]
issuer = "ssh-host"
default_ttl = "168h"
max_ttl = "168h"
[role.ssh_host]
principals = ["{name}"]

[[role]]
name = "session-login"
callers = ["spiffe://example.test/user/*"]
issuer = "ssh-user"
default_ttl = "1h"
max_ttl = "8h"
[role.ssh_user]
principals = ["{name}"]
extensions = ["permit-pty"]

[[role]]
name = "access"
callers = ["spiffe://example.test/user/*"]
default_ttl = "1h"
max_ttl = "8h"
[role.session]
certificates = ["session-login"]
targets = ["*.example.test"]
"#;

/// How long the agent may take for what it does at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host; sshd and agent end with this value.
#[derive(Debug)]
pub struct Host {
    name: String,
    directory: PathBuf,
    sshd: Sshd,
    agent: Daemon,
}

impl Host {
    /// A host that has joined, with its files in a directory of the office. `principal` may log in
    /// to the one account that there is.
    ///
    /// # Errors
    ///
    /// The appliance refuses it, or a program is missing.
    pub fn join(office: &Office, name: &str, principal: &str) -> Result<Self, Failure> {
        let directory = office.path(name);
        fs::create_dir(&directory).doing("make a directory")?;
        let token = directory.join("token");
        let mut add = office.chancery(office.operator(), &["host", "add", name, "--out"])?;
        run(add.arg(&token))?.success()?;
        let mut join = Command::new(ours("chancery")?);
        join.args(["host", "join", "--server"])
            .arg(format!("https://localhost:{}", office.api().port()))
            .arg("--ca")
            .arg(office.handoff("root.pem"))
            .arg("--token-file")
            .arg(&token)
            .arg("--state-directory")
            .arg(directory.join("state"));
        run(&mut join)?.success()?;
        ssh::generate("ed25519", &directory.join("host_key"))?;
        write(&directory.join("host.toml"), &configuration(&directory, principal)?)?;
        let agent = start_agent(&directory)?;
        wait_for_files(&directory, &agent)?;
        let sshd = start_sshd(&directory)?;
        let ca = fs::read_to_string(office.handoff("ssh-host.pub")).doing("read a CA")?;
        write(&directory.join("known_hosts"), &format!("@cert-authority {name} {ca}"))?;
        Ok(Self { name: name.to_owned(), directory, sshd, agent })
    }

    /// A way to log in with a key and its certificate, both in the office's directory.
    pub fn login(&self, key: &Path) -> Login {
        Login {
            key: key.to_owned(),
            certificate: PathBuf::from(format!("{}-cert.pub", key.display())),
            known_hosts: self.directory.join("known_hosts"),
            user: self.sshd.user().to_owned(),
            host: self.name.clone(),
            port: self.sshd.port(),
        }
    }

    /// Who the agent is to the appliance: certificate and key are in one file.
    pub fn identity(&self) -> Identity {
        let file = self.directory.join("state/identity.pem");
        Identity { certificate: file.clone(), key: file }
    }

    /// A connection that stays until somebody ends it; with `options` of ssh.
    ///
    /// # Errors
    ///
    /// It does not come about.
    pub fn stay(&self, key: &Path, options: &[String], log: &str) -> Result<Daemon, Failure> {
        // Nobody ends the command if the connection does: it ends itself, some time.
        let mut command = self.login(key).command(options, "echo arrived; sleep 120")?;
        let mut ssh = Daemon::start("ssh", &mut command, &self.directory.join(log))?;
        ssh.wait_until(PATIENCE, |said| said.contains("arrived"))?;
        Ok(ssh)
    }

    /// What the agent says of itself.
    ///
    /// # Errors
    ///
    /// It does not answer.
    pub fn status(&self) -> Result<Value, Failure> {
        let mut command = Command::new(ours("chancery")?);
        command.args(["host", "status", "--json", "--socket"]);
        let answer = run(command.arg(self.directory.join("socket")))?.success()?;
        serde_json::from_str(&answer.stdout).doing("read the agent's status")
    }

    /// Waits until so many are logged in by certificates.
    ///
    /// # Errors
    ///
    /// They are not.
    pub fn wait_for_connections(&self, count: usize) -> Result<(), Failure> {
        wait_until(&format!("{count} connections"), PATIENCE, || {
            let status = self.status()?;
            let all = status["connections"].as_array().into_iter().flatten();
            Ok(all.filter(|it| it["logged_in"] == true).count() == count)
        })
    }

    /// What the doctor says.
    ///
    /// # Errors
    ///
    /// It cannot be asked.
    pub fn doctor(&self) -> Result<Answer, Failure> {
        let mut command = Command::new(ours("chancery")?);
        command.args(["host", "doctor", "--sshd"]).arg(peer("sshd")?);
        command.arg("--config").arg(self.directory.join("host.toml"));
        run(command.arg("--sshd-config").arg(self.sshd.configuration()))
    }

    /// What the agent has logged.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn log(&self) -> Result<String, Failure> {
        self.agent.log()
    }
}

fn configuration(directory: &Path, principal: &str) -> Result<String, Failure> {
    let user = run(Command::new(peer("id")?).arg("-un"))?.success()?.stdout.trim().to_owned();
    let at = directory.display();
    Ok(format!(
        "state_directory = \"{at}/state\"\nsocket = \"{at}/socket\"\ncommand_user = \"{user}\"\n\
         client_role = \"host-client\"\n\
         [files]\nuser_ca = \"{at}/user_ca\"\nrevoked_keys = \"{at}/krl\"\n\
         [host_certificate]\nrole = \"host-ssh\"\nkeys = [\"{at}/host_key\"]\n\
         reload = [\"/usr/bin/env\", \"true\"]\n\
         [accounts]\n{user} = [\"{principal}\"]\n"
    ))
}

fn start_agent(directory: &Path) -> Result<Daemon, Failure> {
    let mut command = Command::new(ours("chancery")?);
    command.args(["host", "run", "--config"]).arg(directory.join("host.toml"));
    Daemon::start("agent", &mut command, &directory.join("agent.log"))
}

/// sshd reads its CAs when somebody logs in, its own certificate when it starts.
fn wait_for_files(directory: &Path, agent: &Daemon) -> Result<(), Failure> {
    let all = ["user_ca", "krl", "host_key-cert.pub"];
    wait_until("the files of sshd", PATIENCE, || {
        Ok(all.iter().all(|name| directory.join(name).exists())
            && agent.log()?.contains("revocations are in force"))
    })
}

fn start_sshd(directory: &Path) -> Result<Sshd, Failure> {
    // sshd demands that its command and all directories above are root's: env is.
    let command = format!(
        "/usr/bin/env {} host principals --user %u --certificate %k --socket {}/socket",
        ours("chancery")?.display(),
        directory.display()
    );
    let settings = Settings {
        trusted_user_ca_keys: Some(directory.join("user_ca")),
        revoked_keys: Some(directory.join("krl")),
        host_key: Some(directory.join("host_key")),
        host_certificate: Some(directory.join("host_key-cert.pub")),
        principals_command: Some(command),
        ..Settings::default()
    };
    fs::create_dir(directory.join("sshd")).doing("make a directory")?;
    Sshd::start(&directory.join("sshd"), &settings)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).doing(format_args!("write {}", path.display()))
}
