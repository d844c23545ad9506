//! The unit that `chancery bot install` writes, as systemd itself judges it.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test stops and tells where things are not as it says")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{
    peers::peer,
    process::{Answer, run},
};
use tempfile::TempDir;

#[test]
fn a_unit_is_shown_written_and_kept_and_systemd_finds_nothing_wrong_with_it() {
    let scene = Scene::new();
    let shown = scene.install(&["--user", "daemon"]).success().unwrap();
    assert!(shown.stderr.contains("this would be written to"), "{}", shown.stderr);
    assert!(!scene.unit("chancery-bot").exists());

    let written = scene.install(&["--user", "daemon", "--write"]).success().unwrap();
    assert!(written.stdout.contains("written"), "{}", written.stdout);
    let unit = fs::read_to_string(scene.unit("chancery-bot")).unwrap();
    assert_eq!(unit, shown.stdout);
    assert!(unit.contains("\nUser=daemon\n") && unit.contains("\nCapabilityBoundingSet=\n"));
    assert!(unit.contains(&format!("\nReadWritePaths={}\n", scene.path("state").display())));
    let again = scene.install(&["--user", "daemon", "--write"]).success().unwrap();
    assert!(again.stdout.contains("unchanged"), "{}", again.stdout);

    // What this command wrote it replaces, and what somebody else wrote it does not.
    let other = scene.install(&["--group", "nogroup", "--write"]).success().unwrap();
    assert!(other.stdout.contains("written"), "{}", other.stdout);
    fs::write(scene.unit("mine"), "[Service]\nExecStart=/bin/true\n").unwrap();
    scene.install(&["--name", "mine", "--write"]).refused("was not written by this").unwrap();

    for (name, flags, exposure) in
        [("as-another", &["--user", "daemon"][..], "20"), ("as-root", &[], "30")]
    {
        let words = [flags, &["--write", "--name", name]].concat();
        scene.install(&words).success().unwrap();
        let unit = scene.unit(name);
        let verified = analyze(&["verify"], &unit).success().unwrap();
        assert_eq!(verified.output(), "", "systemd warns");
        let threshold = format!("--threshold={exposure}");
        analyze(&["security", "--offline=true", "--no-pager", &threshold], &unit)
            .success()
            .unwrap();
    }
}

#[test]
fn what_the_agent_writes_may_be_written_and_nothing_else() {
    let scene = Scene::new();
    let at = scene.0.path().display().to_string();
    let outputs = format!(
        "[[output]]\nname = \"ssh\"\nkind = \"ssh\"\nrole = \"r\"\nhosts = [\"*\"]\n\
         directory = \"/run/ci/ssh\"\n\
         [[output]]\nname = \"api\"\nkind = \"workload-api\"\nrole = \"r\"\n\
         socket = \"/run/ci/api.sock\"\n[[output.rule]]\nspiffe_id = \"spiffe://e.example/w\"\nuser = \"daemon\"\n\
         [[output]]\nname = \"tls\"\nkind = \"tls\"\nrole = \"r\"\n\
         directory = \"{at}/a 50%\"\nowner = \"web\"\n"
    );
    scene.add(&outputs);
    let shown = scene.install(&[]).success().unwrap();
    for line in [
        "RuntimeDirectory=ci ci/ssh".to_owned(),
        "RuntimeDirectoryPreserve=restart".to_owned(),
        format!("ReadWritePaths=\"{at}/a 50%%\" {at}/state"),
        "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_KILL CAP_SYS_PTRACE"
            .to_owned(),
        "PrivateTmp=no".to_owned(),
    ] {
        assert!(shown.stdout.lines().any(|it| it == line), "{line}: {}", shown.stdout);
    }
    assert!(shown.stderr.contains(&format!("note: {at}/a 50% is not there")), "{}", shown.stderr);
    scene.install(&["--write"]).success().unwrap();
    let verified = analyze(&["verify"], &scene.unit("chancery-bot")).success().unwrap();
    assert_eq!(verified.output(), "", "systemd warns");

    let key = "[join]\nmethod = \"bound-key\"\n[join.key]\nmodule = \"/m.so\"\n\
               token = { label = \"t\" }\npin_file = \"/pin\"\nname = \"ci\"\n";
    fs::write(scene.path("token.toml"), scene.joining_by(key)).unwrap();
    let shown = scene.install(&["--config", "token.toml"]).success().unwrap();
    assert!(shown.stdout.contains("\nPrivateDevices=no\n"), "{}", shown.stdout);
    assert!(shown.stderr.contains("note: what the token's module needs"), "{}", shown.stderr);

    // Only root gives files away.
    let refused = scene.install(&["--user", "daemon"]).refused("is to belong to web").unwrap();
    assert!(refused.stderr.contains("hint: leave --user away"), "{}", refused.stderr);
}

#[test]
fn what_cannot_be_a_service_is_refused_before_anything_is_written() {
    let scene = Scene::new();
    for (flags, why) in [
        (&["--name", "../x"][..], "only letters, digits"),
        (&["--user", "a b"], "only letters, digits"),
        (&["--config", "none.toml"], "cannot read"),
    ] {
        scene.install(&[flags, &["--write"]].concat()).refused(why).unwrap();
    }
    let config = fs::read_to_string(scene.path("bot.toml")).unwrap();
    fs::write(scene.path("bot.toml"), config.replace("name =", "nane =")).unwrap();
    scene.install(&["--write"]).refused("unknown field").unwrap();
    assert_eq!(fs::read_dir(scene.path("units")).unwrap().count(), 0);
}

/// A machine with an agent's configuration.
struct Scene(TempDir);

impl Scene {
    fn new() -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::create_dir(scene.path("units")).unwrap();
        fs::create_dir(scene.path("state")).unwrap();
        let at = scene.0.path().display();
        let config = format!(
            "server = \"https://pki.example\"\nca = \"{at}/root.pem\"\nname = \"ci\"\n\
             state_directory = \"{at}/state\"\n\
             [join]\nmethod = \"token\"\ntoken_file = \"{at}/ci.token\"\n"
        );
        fs::write(scene.path("bot.toml"), config).unwrap();
        scene
    }

    fn add(&self, outputs: &str) {
        let config = fs::read_to_string(self.path("bot.toml")).unwrap();
        fs::write(self.path("bot.toml"), config + outputs).unwrap();
    }

    /// The configuration with another way to join.
    fn joining_by(&self, join: &str) -> String {
        let config = fs::read_to_string(self.path("bot.toml")).unwrap();
        let (head, rest) = config.split_once("[join]").unwrap();
        let outputs = rest.find("[[output]]").map_or("", |at| &rest[at..]);
        format!("{head}{join}{outputs}")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn unit(&self, name: &str) -> PathBuf {
        self.path("units").join(format!("{name}.service"))
    }

    fn install(&self, flags: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.current_dir(self.0.path()).args(["bot", "install", "--directory", "units"]);
        if !flags.contains(&"--config") {
            command.args(["--config", "bot.toml"]);
        }
        run(command.args(flags)).unwrap()
    }
}

fn analyze(words: &[&str], unit: &Path) -> Answer {
    run(Command::new(peer("systemd-analyze").unwrap()).args(words).arg(unit)).unwrap()
}
