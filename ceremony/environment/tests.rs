//! Systems of files in a directory, of which each check finds what it looks for.

use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A machine as a ceremony wants one.
fn quiet() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let files = [
        ("proc/sys/kernel/ostype", "Linux\n"),
        ("proc/sys/kernel/osrelease", "6.1.0\n"),
        ("proc/sys/kernel/random/entropy_avail", "256\n"),
        ("proc/swaps", "Filename\tType\tSize\tUsed\tPriority\n"),
        ("proc/cpuinfo", "flags\t: fpu vme de\n"),
        ("proc/net/route", "Iface\tDestination\tGateway\n"),
        ("sys/class/net/lo/flags", "0x9\n"),
        ("sys/class/net/eth0/flags", "0x1002\n"),
        ("sys/class/rfkill/rfkill0/soft", "1\n"),
    ];
    files.iter().for_each(|(path, content)| write(&root, path, content));
    root
}

fn write(root: &TempDir, path: &str, content: &str) {
    let path = root.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn look(root: &TempDir) -> Environment {
    Environment::of_system(root.path(), 0, vec![1 << 30, 1 << 30]).unwrap()
}

#[test]
fn nothing_is_found_on_a_quiet_machine() {
    let environment = look(&quiet());
    assert_eq!(environment.findings, BTreeMap::new());
    assert_eq!(environment.kernel, "Linux 6.1.0");
    assert!(environment.to_string().contains("free for the journals: 1024 MiB, 1024 MiB"));
}

#[test]
fn each_check_finds_what_it_looks_for() {
    let route = "Iface\tDestination\neth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n";
    let zeros = "0".repeat(32);
    let route6 =
        format!("{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 00000003 eth0\n");
    let local6 = format!("{zeros} 00 {zeros} 00 {zeros} ffffffff 00000001 00000000 00200200 lo\n");
    let table = [
        ("sys/class/net/eth0/flags", "0x1003\n", Check::Network, "eth0 is up"),
        ("sys/class/net/wlan0/flags", "\n", Check::Network, "wlan0 is up"),
        ("proc/net/route", route, Check::Network, "default route by eth0"),
        ("proc/net/ipv6_route", &route6, Check::Network, "default route (IPv6) by eth0"),
        ("sys/class/rfkill/rfkill0/soft", "0\n", Check::Radio, "can send"),
        ("proc/swaps", "Filename\n/dev/sda2 partition 1 0 -2\n", Check::Swap, "/dev/sda2"),
        ("proc/sys/kernel/random/entropy_avail", "12\n", Check::Entropy, "12 bits"),
        ("proc/cpuinfo", "flags : fpu hypervisor\n", Check::VirtualMachine, "a hypervisor"),
    ];
    for (path, content, check, found) in table {
        let root = quiet();
        write(&root, path, content);
        let environment = look(&root);
        assert_eq!(environment.findings.len(), 1, "{path}: {environment}");
        let said = &environment.findings[&check];
        assert!(said.contains(found), "{path}: {said}");
    }
    let root = quiet();
    write(&root, "proc/net/ipv6_route", &local6);
    assert_eq!(look(&root).findings, BTreeMap::new());
}

#[test]
fn a_time_zone_is_told_from_the_link() {
    for (zone, fine) in [("Etc/UTC", true), ("Europe/Berlin", false)] {
        let root = quiet();
        fs::create_dir(root.path().join("etc")).unwrap();
        let link = format!("/usr/share/zoneinfo/{zone}");
        symlink(link, root.path().join("etc/localtime")).unwrap();
        let environment = look(&root);
        assert_eq!(environment.time_zone, zone);
        assert_eq!(environment.findings.is_empty(), fine, "{environment}");
    }
}

#[test]
fn too_little_room_for_one_of_the_journals_is_found() {
    let environment = Environment::of_system(quiet().path(), 0, vec![1 << 30, 1 << 20]).unwrap();
    assert!(environment.findings[&Check::Space].contains("1048576 bytes"));
}

#[test]
fn only_what_is_demanded_is_refused() {
    let root = quiet();
    write(&root, "proc/swaps", "Filename\n/swapfile file 1 0 -2\n");
    let environment = look(&root);
    let demands = |checks: &[Check]| Demands { refuse: checks.iter().copied().collect() };
    assert!(environment.refused(&demands(&[Check::Network, Check::Radio])).is_empty());
    assert_eq!(environment.refused(&demands(&[Check::Swap])).len(), 1);
}

#[test]
fn a_check_has_the_name_that_plans_give_it() {
    for check in [Check::CoreDumps, Check::TimeZone, Check::VirtualMachine, Check::Network] {
        let written = serde_json::to_string(&check).unwrap();
        assert_eq!(written, format!("\"{check}\""));
    }
}

#[test]
fn this_machine_is_looked_at_and_odd_variables_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let variables = names(&["LC_ALL", "LD_PRELOAD", "PATH", "SOFTHSM2_CONF"]);
    let journals = [directory.path().join("a"), directory.path().join("b")];
    let environment = Environment::look(&journals, &variables, &names(&["SOFTHSM2_CONF"])).unwrap();
    assert_eq!(environment.findings[&Check::Variables], "LD_PRELOAD");
    assert_eq!(environment.free.len(), 2);
}
