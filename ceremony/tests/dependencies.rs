//! The ceremony runs on a machine without a network, and has no code for one.

use std::{collections::BTreeSet, process::Command};

/// Crates that speak to a network, or exist to.
const NETWORK: [&str; 16] = [
    "async-std",
    "axum",
    "curl",
    "h2",
    "hyper",
    "mio",
    "native-tls",
    "openssl",
    "quinn",
    "reqwest",
    "rustls",
    "smol",
    "socket2",
    "tokio",
    "tower",
    "ureq",
];

#[test]
fn no_crate_of_a_network_is_linked_in() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "chancery-ceremony", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).unwrap();
    let crates: BTreeSet<&str> = tree.lines().filter_map(|it| it.split(' ').next()).collect();
    assert!(crates.contains("chancery-pki"), "this is no dependency tree:\n{tree}");
    let network: Vec<&str> = NETWORK.into_iter().filter(|name| crates.contains(name)).collect();
    assert_eq!(network, Vec::<&str>::new(), "see `cargo tree -p chancery-ceremony -i CRATE`");
}
