//! The revocation list of a root that is offline: ceremonies sign it, the appliance gives it out
//! where certificates say that it is, and OpenSSL judges a leaf by the lists of its whole chain.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harness::{
    Doing, Failure, Story,
    clock::Clock,
    office::{Office, http_get},
    openssl::{describe, fetch_crl, openssl},
    peers::{ours, source_tree},
    process::{Answer, Signal, run, wait_until},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// The first of October 2044, three months before the lists end.
const OCTOBER_2044: i64 = 2_358_892_800;

#[test]
fn a_ca_on_the_list_of_its_root_is_refused_with_all_below_it() -> Story {
    let mut bench = Bench::open()?;
    let services = bench.office.handoff("services.pem");
    let text = describe(&services)?;
    assert!(text.contains("URI:http://pki.example.test/crl/root.crl"), "{text}");
    let leaf = bench.office.enrol("user/alice")?.certificate;
    bench.judge(&leaf)?.success()?;

    // The next list, with the CA that signed the leaf.
    let second = bench.next_list("second", 2, &serial(&services)?)?;
    bench.give(&second)?;
    bench.reload()?;
    bench.is_served(&second)?;
    bench.judge(&leaf)?.refused("certificate revoked")?;
    let metrics = http_get(bench.office.public(), "/metrics").doing("read the metrics")?;
    for gauge in ["number{issuer=\"root\"} 2\n", "not_after{issuer=\"root\"} 2366755200\n"] {
        assert!(metrics.contains(&format!("chancery_offline_crl_{gauge}")), "{metrics}");
    }
    let records = bench.office.audit_records()?;
    let loaded = records.iter().filter(|it| it["event"] == "offline_crl_loaded");
    let numbers: Vec<_> = loaded.map(|it| it["number"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2)]);
    Ok(())
}

#[test]
fn no_list_is_given_out_that_is_older_or_of_another_root() -> Story {
    let mut bench = Bench::open()?;
    let second = bench.next_list("second", 2, &"5a".repeat(16))?;
    bench.give(&second)?;
    bench.reload()?;
    bench.is_served(&second)?;

    // While it serves, the list before goes on being given out, and the log says why.
    let first = bench.office.handoff("root.crl");
    let elsewhere = Bench::after_ceremony()?;
    let stranger = elsewhere.office.handoff("root.crl");
    let twin = bench.next_list("twin", 2, &"5b".repeat(16))?;
    let refused = [
        (&first, "its number is 1, and list 2 was given out"),
        (&stranger, "it is no revocation list (DER) of an offline CA of the hand-off"),
        (&twin, "another list with the number 2 was given out"),
    ];
    for (list, why) in refused {
        bench.give(list)?;
        bench.reload()?;
        bench.office.appliance()?.wait_until(PATIENCE, |log| log.contains(why))?;
        bench.is_served(&second)?;
        bench.check()?.refused(why)?;
    }
    // Nor does it start with one; it still knows the number when the file is gone.
    bench.office.kill();
    let serve = ["serve", "--config", "chanceryd.toml"];
    let told = run(&mut bench.office.chanceryd(&serve)?)?.refused("copy the last list there")?;
    assert_eq!(told.status.code(), Some(78), "{}", told.output());
    fs::remove_file(bench.given()).doing("remove a list")?;
    bench.check()?.refused("its number is 1, and list 2 was given out")?;
    bench.give(&second)?;
    bench.check()?.success()?;
    bench.office.start()?;
    bench.is_served(&second)?;

    // Nobody here can sign the next.
    bench.office.set_clock(Clock::showing(OCTOBER_2044)?);
    let told = bench.check()?.success()?.output();
    let warning = "the CRL of root, which is offline, ends at 2044-12-31T00:00:00Z";
    assert!(told.contains("warning: ") && told.contains(warning), "{told}");
    Ok(())
}

/// An office whose root has signed a list, and a directory for the next.
struct Bench {
    office: Office,
}

impl Bench {
    fn open() -> Result<Self, Failure> {
        let mut bench = Self::after_ceremony()?;
        fs::create_dir(bench.office.path("lists")).doing("make a directory")?;
        let path = bench.office.path("chanceryd.toml");
        let text = fs::read_to_string(&path).doing("read the configuration")?;
        fs::write(&path, format!("offline_crls = \"lists\"\n{text}")).doing("configure")?;
        bench.office.add_operator()?;
        bench.office.start()?;
        Ok(bench)
    }

    fn after_ceremony() -> Result<Self, Failure> {
        let bench = Self { office: Office::prepare()? };
        let path = source_tree().join("ceremony/plans/demo.toml");
        let plan = fs::read_to_string(path).doing("read the plan")?;
        let list = "[crls.root]\nsigner = \"root\"\nnumber = 1\n\
                    next_update = 2044-12-31T00:00:00Z\n\n[ssh]";
        let sign = "[[steps]]\ndo = \"sign-crl\"\ncrl = \"root\"\n\n[[steps]]\ndo = \"hand-off\"";
        let plan = plan
            .replace("pki.example.test/root.crl", "pki.example.test/crl/root.crl")
            .replacen("[ssh]", list, 1)
            .replacen("[[steps]]\ndo = \"hand-off\"", sign, 1);
        bench.perform("plan", &plan, "handoff")?;
        Ok(bench)
    }

    /// Holds a ceremony in the token of the office.
    fn perform(&self, name: &str, plan: &str, outputs: &str) -> Story {
        let file = format!("{name}.toml");
        fs::write(self.office.path(&file), plan).doing("write a plan")?;
        let journal = format!("{name}.jsonl");
        let mut command = Command::new(ours("chancery-ceremony")?);
        command.current_dir(self.office.path(".")).args(["run", &file, "--unattended"]);
        command.args(["--site", "site.toml", "--journal", &journal, "--handoff", outputs]);
        run(&mut command)?.success().map(drop)
    }

    /// A ceremony signs the list after the hand-off's: a file (DER).
    fn next_list(&self, name: &str, number: u64, revoked: &str) -> Result<PathBuf, Failure> {
        let path = source_tree().join("ceremony/plans/root-crl.toml");
        let plan = fs::read_to_string(path).doing("read the plan")?;
        let first = self.office.handoff("root.crl");
        fs::copy(&first, self.office.path("root.crl")).doing("copy a list")?;
        let nothing = "0".repeat(64);
        let handoff = fs::read_to_string(self.office.handoff("handoff.toml")).doing("read it")?;
        let handoff: toml::Table = toml::from_str(&handoff).doing("read the hand-off")?;
        let head = handoff["ceremony"]["transcript"].as_str().unwrap_or_default();
        let plan = plan
            .replace("offline-root.jsonl", "plan.jsonl")
            .replace(&format!("head = \"{nothing}\""), &format!("head = \"{head}\""))
            .replace(&nothing, &sha256(&first)?)
            .replace("number = 2", &format!("number = {number}"))
            .replace("2028-01-01", "2044-12-31")
            .replace(&"5a".repeat(16), revoked);
        self.perform(name, &plan, name)?;
        Ok(self.office.path(name).join("root.crl"))
    }

    /// Puts a list where the appliance looks for newer ones, whole at once.
    fn give(&self, list: &Path) -> Story {
        let unfinished = self.office.path("lists/root.part");
        fs::copy(list, &unfinished).doing("copy a list")?;
        fs::rename(&unfinished, self.given()).doing("rename a list")
    }

    fn given(&self) -> PathBuf {
        self.office.path("lists/root.crl")
    }

    fn reload(&mut self) -> Story {
        self.office.appliance()?.signal(Signal::HUP);
        Ok(())
    }

    fn check(&self) -> Result<Answer, Failure> {
        run(&mut self.office.chanceryd(&["check", "chanceryd.toml"])?)
    }

    fn is_served(&self, list: &Path) -> Story {
        let wanted = fs::read(list).doing("read a list")?;
        let pem = self.office.path("served.pem");
        wait_until("a list to be given out", PATIENCE, || {
            fetch_crl(&self.office, "root", &pem)?;
            Ok(fs::read(pem.with_extension("der")).doing("read a list")? == wanted)
        })
    }

    /// What OpenSSL says of a leaf, with the lists of all CAs above it.
    fn judge(&self, leaf: &Path) -> Result<Answer, Failure> {
        let mut command = openssl()?;
        command.args(["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-crl_check_all"]);
        command.arg("-CAfile").arg(self.office.handoff("root.pem"));
        command.arg("-untrusted").arg(self.office.handoff("services.pem"));
        for issuer in ["root", "services"] {
            let list = self.office.path(format!("{issuer}.crl.pem"));
            fetch_crl(&self.office, issuer, &list)?;
            command.arg("-CRLfile").arg(list);
        }
        run(command.arg(leaf))
    }
}

fn serial(certificate: &Path) -> Result<String, Failure> {
    let mut command = openssl()?;
    let said =
        run(command.args(["x509", "-noout", "-serial", "-in"]).arg(certificate))?.success()?;
    Ok(said.stdout.trim().trim_start_matches("serial=").to_ascii_lowercase())
}

fn sha256(file: &Path) -> Result<String, Failure> {
    let said = run(openssl()?.args(["dgst", "-sha256", "-r"]).arg(file))?.success()?.stdout;
    Ok(said.split_whitespace().next().unwrap_or_default().to_owned())
}
