//! Every plan that comes with the program, on both software tokens: killed, gone on with, and come to
//! the same end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(
    clippy::print_stdout,
    reason = "the seed, with which the same is found again; the counts"
)]

#[path = "harness/machine.rs"]
mod machine;
#[path = "harness/place.rs"]
mod place;

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

use machine::{Machine, plans};
use place::*;

#[test]
fn every_plan_comes_to_the_same_end_killed_at_some_points_on_softhsm() {
    Matrix::new().kill(&Token::softhsm(), "6");
}

#[test]
fn every_plan_comes_to_the_same_end_killed_at_some_points_on_kryoptic() {
    Matrix::new().kill(&Token::kryoptic(), "4");
}

#[test]
#[ignore = "takes the better part of an hour: `make faults`"]
fn every_plan_comes_to_the_same_end_killed_at_every_point_on_softhsm() {
    Matrix::new().kill(&Token::softhsm(), "all");
}

#[test]
#[ignore = "takes the better part of an hour: `make faults`"]
fn every_plan_comes_to_the_same_end_killed_at_every_point_on_kryoptic() {
    Matrix::new().kill(&Token::kryoptic(), "all");
}

const NOT_ON_KRYOPTIC: &[(&str, &str)] = &[(
    "backup-and-restore",
    "the token has no mechanism for a key that its security officer trusts",
)];

/// A machine that has whatever a plan takes in, and the program.
struct Matrix {
    machine: Machine,
    plans: Vec<String>,
}

/// A software token, and what it has not.
struct Token {
    name: &'static str,
    /// As `--on` takes it.
    on: String,
    /// No Ed25519: Debian 12 has an OpenSSL of which Kryoptic does not take it.
    no_ed25519: bool,
    /// Plans that it cannot perform, and what it says.
    cannot: &'static [(&'static str, &'static str)],
}

impl Token {
    fn softhsm() -> Self {
        Self { name: "softhsm", on: "softhsm".to_owned(), no_ed25519: false, cannot: &[] }
    }

    fn kryoptic() -> Self {
        let on = format!("kryoptic={}", built("kryoptic/debug/libchancery_kryoptic.so"));
        Self { name: "kryoptic", on, no_ed25519: true, cannot: NOT_ON_KRYOPTIC }
    }
}

impl Matrix {
    fn new() -> Self {
        let (machine, _) = Machine::furnished();
        // Each ceremony hashes its program: without what debuggers read, that is soon done.
        let program = Path::new(env!("CARGO_BIN_EXE_chancery-ceremony"));
        peer("strip", &["-o", &machine.text("program")], &[program]).ok();
        Self { machine, plans: plans() }
    }

    /// Kills each plan on this token.
    fn kill(&self, token: &Token, faults: &str) {
        let (mut points, mut killed, mut failed) = (0, 0, Vec::new());
        for (number, plan) in (1..).zip(&self.plans) {
            println!("{number} of {}: {plan} on {}", self.plans.len(), token.name);
            let file = self.write(plan, token);
            if let Some((_, said)) = token.cannot.iter().find(|(name, _)| name == plan) {
                println!("{plan}: {} cannot: {said}", token.name);
                self.rehearse(&file, token, "1").refused(3, said);
                continue;
            }
            let begun = Instant::now();
            let answer = self.rehearse(&file, token, faults);
            let time = begun.elapsed();
            if !answer.0.status.success() {
                failed.push(format!("{plan}: {}", answer.failed()));
                println!("{}", failed.last().unwrap());
                continue;
            }
            let answer: Value = serde_json::from_str(&answer.ok()).unwrap();
            let count = |what: &str| answer["tokens"][0][what].as_u64().unwrap();
            let (writes, calls) = (count("writes"), count("calls"));
            report(plan, &answer["tokens"][0], time);
            assert!(writes >= 30 && calls >= 50 && count("killed") >= 4, "{plan}: {answer}");
            assert_eq!(answer["tokens"][0]["token"], token.name);
            (points, killed) = (points + writes + calls, killed + count("killed"));
        }
        println!("{}: killed at {killed} of {points} points", token.name);
        assert!(failed.is_empty(), "{failed:#?}");
    }

    /// The plan with keys that this token has.
    fn write(&self, plan: &str, token: &Token) -> String {
        self.machine.plan_small(plan);
        let file = format!("{plan}.toml");
        let mut text = self.machine.place.text_of(&file);
        if token.no_ed25519 {
            text = text.replace("\"ed25519\"", "\"p256\"");
        }
        self.machine.place.write(&file, &text)
    }

    fn rehearse(&self, plan: &str, token: &Token, faults: &str) -> Answer {
        let shim = built("debug/deps/libchancery_shim.so");
        let mut command = Command::new(self.machine.path("program"));
        command.args(["rehearse", plan, "--on", &token.on, "--shim", &shim, "--json"]);
        Answer::of("rehearse", command.args(["--faults", faults, "--seed", SEED]))
    }
}

/// A line of the matrix.
fn report(plan: &str, counts: &Value, time: Duration) {
    let [token, killed, writes, calls] =
        ["token", "killed", "writes", "calls"].map(|what| counts[what].to_string());
    let seed = counts.get("seed").map(|seed| format!(", seed {seed}")).unwrap_or_default();
    let token = token.trim_matches('"');
    println!(
        "{plan}: {token}: killed at {killed}, of {writes} writes and {calls} calls{seed}; {:.0} s",
        time.as_secs_f64()
    );
}

/// Another one takes other points: all of them were taken by `make faults`.
const SEED: &str = "1";
