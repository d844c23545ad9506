//! Every dependency's licence is one that `deny.toml` allows, whether cargo-deny is there or not.

use std::{collections::BTreeSet, fs, process::Command};

use harness::{Doing, Failure, Story, peers::source_tree, process::run};
use serde_json::Value;
use spdx::{Expression, ParseMode};

#[test]
fn all_dependencies_have_an_allowed_licence() -> Story {
    let allowed = allowed()?;
    let rustc = run(Command::new("rustc").arg("-vV"))?.success()?.stdout;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    let mut packages = dependencies("Cargo.toml", host)?;
    assert!(packages.len() > 50, "cargo metadata lists only {} dependencies", packages.len());
    packages.extend(dependencies("softhsm-tests/kryoptic/Cargo.toml", host)?);
    packages.extend(dependencies("Cargo.toml", WINDOWS)?);
    assert!(packages.iter().any(|it| it["name"] == "windows-sys"), "Windows has its own");
    let refused: Vec<_> =
        packages.iter().filter(|package| !is_allowed(package, &allowed)).collect();
    let list = |package: &&Value| {
        format!("{} {}: {}", package["name"], package["version"], package["license"])
    };
    assert!(refused.is_empty(), "{:#?}", refused.iter().map(list).collect::<Vec<_>>());
    Ok(())
}

fn allowed() -> Result<BTreeSet<String>, Failure> {
    let text = fs::read_to_string(source_tree().join("deny.toml")).doing("read deny.toml")?;
    let rules: toml::Table = toml::from_str(&text).doing("read deny.toml")?;
    let allowed = rules["licenses"]["allow"].as_array().into_iter().flatten();
    Ok(allowed.filter_map(|licence| licence.as_str().map(str::to_owned)).collect())
}

/// What `make windows` builds for.
const WINDOWS: &str = "x86_64-pc-windows-gnu";

/// The packages from elsewhere that a build of this workspace for a platform takes.
fn dependencies(manifest: &str, platform: &str) -> Result<Vec<Value>, Failure> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(source_tree()).args(["metadata", "--locked", "--format-version", "1"]);
    command.args(["--filter-platform", platform, "--manifest-path", manifest]);
    let answer = run(&mut command)?.success()?;
    let metadata: Value = serde_json::from_str(&answer.stdout).doing("read cargo metadata")?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    Ok(packages.into_iter().filter(|package| !package["source"].is_null()).collect())
}

fn is_allowed(package: &Value, allowed: &BTreeSet<String>) -> bool {
    let licence = package["license"].as_str().unwrap_or_default();
    // Crates.io took "MIT/Apache-2.0" for years.
    Expression::parse_mode(licence, ParseMode::LAX)
        .is_ok_and(|expression| expression.evaluate(|term| allowed.contains(&term.to_string())))
}
