//! A bot's files let ssh log in to a real sshd, which shows a certificate too.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{
    Doing, Failure, Story,
    bot::Bot,
    office::Office,
    peers::peer,
    process::{Answer, run},
    ssh,
    sshd::{Settings, Sshd},
};
use serde_json::json;

#[test]
fn ssh_logs_in_with_the_files_of_a_bot() -> Story {
    let office = Office::open()?;
    let certified = certified_host_key(&office)?;
    let mut sshd = sshd(&office, "host", Some(certified.clone()), "deploy")?;
    let bot = bot(&office, "deploy", sshd.user())?;
    bot.run_once()?.success()?;

    let configuration = bot.path("ssh/current/ssh_config");
    let answer = login(&configuration, &sshd)?.success()?;
    assert_eq!(answer.stdout, "42\n");
    let described = ssh::describe(&bot.path("ssh/current/key-cert.pub"))?;
    let serial = described.split("Serial: ").nth(1).and_then(|rest| rest.lines().next());
    sshd.wait_for_log(&format!("(serial {})", serial.unwrap_or("that is missing")))?;

    // The account is another's.
    let other = self::sshd(&office, "bobs", Some(certified), "bob")?;
    login(&configuration, &other)?.refused("Permission denied")?;

    // A host that the authority has not certified is not talked to, whatever it lets in.
    let stranger = self::sshd(&office, "stranger", None, "deploy")?;
    login(&configuration, &stranger)?.refused("Host key verification failed")?;
    Ok(())
}

fn bot(office: &Office, name: &str, user: &str) -> Result<Bot, Failure> {
    let output = format!(
        "[[output]]\nname = \"ssh\"\nkind = \"ssh\"\nrole = \"login\"\ndirectory = \"{{at}}/ssh\"\n\
         hosts = [\"*.example.test\"]\nuser = \"{user}\"\nhost_authorities = [\"ssh-host\"]\n"
    );
    Bot::add(office, name, &["--role", "login"], &output)
}

/// Logs in by nothing but the configuration, to a host that DNS does not know.
fn login(configuration: &Path, sshd: &Sshd) -> Result<Answer, Failure> {
    let mut command = Command::new(peer("ssh")?);
    command.arg("-F").arg(configuration).args(["-p", &sshd.port().to_string()]);
    command.args(["-o", "HostName=127.0.0.1", "-o", "HostKeyAlias=web1.example.test"]);
    run(command.args(["web1.example.test", "echo $((6 * 7))"]))
}

fn sshd(
    office: &Office,
    name: &str,
    host_key: Option<PathBuf>,
    principal: &str,
) -> Result<Sshd, Failure> {
    let directory = office.path(name);
    fs::create_dir(&directory).doing("make a directory")?;
    let certificate = host_key.as_ref().map(|key| key.with_file_name("host_key-cert.pub"));
    let settings = Settings {
        trusted_user_ca_keys: Some(office.handoff("ssh-user.pub")),
        authorized_principals: vec![principal.to_owned()],
        host_key,
        host_certificate: certificate,
        ..Settings::default()
    };
    Sshd::start(&directory, &settings)
}

/// A host key with a certificate of the appliance beside it.
fn certified_host_key(office: &Office) -> Result<PathBuf, Failure> {
    let key = office.path("host_key");
    ssh::generate("ed25519", &key)?;
    let public_key = fs::read_to_string(key.with_extension("pub")).doing("read a key")?;
    let body = json!({
        "role": "host", "public_key": public_key, "principals": ["web1.example.test"],
    });
    let issued = office.ask(&office.enrol("host/web1")?, "/v1/issue/ssh-host", &body)?;
    let certificate = issued["certificate"].as_str().unwrap_or_default();
    fs::write(office.path("host_key-cert.pub"), certificate).doing("write a certificate")?;
    Ok(key)
}
