use std::{
    env,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use jiff::SignedDuration;
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::bot::bundle::Life;

const NAMES: [&str; 3] = ["tls.key", "tls.crt", "ca.crt"];
const CHILD: &str = "CHANCERY_TEST_PLACE";

#[test]
fn a_bundle_is_whole_for_its_readers_and_the_one_before_can_come_back() {
    let directory = directory();
    let place = open(&directory, "").unwrap();
    assert_eq!(place.current().unwrap(), None);
    for number in 1..=4 {
        place.check().unwrap();
        place.put(&bundle(number), &record(number)).unwrap();
        assert_eq!(place.current().unwrap(), Some(record(number)));
        assert_eq!(read(directory.path()), Ok(number));
    }
    let plain = fs::read_to_string(directory.path().join("tls.key")).unwrap();
    assert_eq!(plain, content(4));
    let mode = |name| fs::metadata(directory.path().join(name)).unwrap().mode() & 0o7777;
    let modes = ["tls.key", "tls.crt", "current/bundle.json"].map(mode);
    assert_eq!(modes, [0o600, 0o644, 0o644]);
    assert_eq!(bundles(&directory), [3, 4], "no more than the one before is kept");

    assert_eq!(place.put_back(now()).unwrap(), Some(record(3)));
    assert_eq!(read(directory.path()), Ok(3));
    assert_eq!(place.put_back(now()).unwrap(), None, "there is no other before it");
    place.put(&bundle(5), &record(5)).unwrap();
    let late = record(3).not_after + SignedDuration::from_secs(1);
    assert_eq!(place.put_back(late).unwrap(), None, "what has expired does not come back");

    place.withdraw().unwrap();
    assert_eq!(place.current().unwrap(), None);
    assert_eq!(bundles(&directory), [0_u64; 0]);
    assert!(fs::read(directory.path().join("tls.key")).is_err());
    place.put(&bundle(6), &record(6)).unwrap();
    assert_eq!(read(directory.path()), Ok(6));
}

#[test]
fn readers_are_those_of_the_settings_and_no_others() {
    assert!(rustix::process::geteuid().is_root(), "only root gives files to others: run it so");
    let directory = directory();
    let settings = "owner = \"1234\"\ngroup = \"2345\"\n\
                    readers = [\"user:nobody\", \"user:7\", \"group:9\"]";
    let place = open(&directory, settings).unwrap();
    place.put(&bundle(1), &record(1)).unwrap();
    let key = fs::metadata(directory.path().join("tls.key")).unwrap();
    assert_eq!((key.uid(), key.gid(), key.mode() & 0o7777), (1234, 2345, 0o640));
    let read_as = |user: &str, group: &str, name: &str| {
        let words = ["--reuid", user, "--regid", group, "--clear-groups", "cat"];
        let mut command = Command::new("setpriv");
        command.args(words).arg(directory.path().join("current").join(name));
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    };
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (user, group, may) in [
        ("1234", "1", true),
        ("7", "1", true),
        ("8", "9", true),
        ("8", "2345", true),
        ("nobody", "1", true),
        ("8", "1", false),
    ] {
        assert_eq!(read_as(user, group, "tls.key"), may, "{user} {group}");
        assert!(read_as(user, group, "tls.crt"));
    }
    let unknown = open(&self::directory(), "readers = [\"user:no-such\"]").unwrap_err();
    assert!(unknown.to_string().contains("there is no user \"no-such\""), "{unknown}");
}

#[test]
fn nobody_leads_the_agent_elsewhere() {
    let (directory, elsewhere) = (directory(), directory());
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o775)).unwrap();
    assert!(matches!(open(&directory, ""), Err(PlaceError::Open { mode: 0o775, .. })));
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();

    let link = directory.path().join("link");
    symlink(elsewhere.path(), &link).unwrap();
    assert!(matches!(open_at(&link, ""), Err(PlaceError::System { what: "open", .. })));

    symlink(elsewhere.path(), directory.path().join(BUNDLES)).unwrap();
    assert!(matches!(open(&directory, ""), Err(PlaceError::System { what: "make", .. })));
    fs::remove_file(directory.path().join(BUNDLES)).unwrap();

    let place = open(&directory, "").unwrap();
    assert!(matches!(open(&directory, ""), Err(PlaceError::Busy(_))), "one agent writes");
    fs::write(directory.path().join("tls.key"), "of somebody").unwrap();
    let refused = place.put(&bundle(1), &record(1));
    assert!(matches!(refused, Err(PlaceError::InTheWay(_))), "{refused:?}");
    assert_eq!(fs::read(directory.path().join("tls.key")).unwrap(), b"of somebody");
    assert_eq!(place.current().unwrap(), None);
    fs::remove_file(directory.path().join("tls.key")).unwrap();
    // A link where the new bundle goes is not followed: the bundle goes elsewhere or nowhere.
    symlink(elsewhere.path(), directory.path().join(".bundles/1")).unwrap();
    symlink(elsewhere.path().join("x"), directory.path().join(NEXT)).unwrap();
    place.put(&bundle(1), &record(1)).unwrap();
    assert_eq!(read(directory.path()), Ok(1));
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);

    fs::rename(directory.path(), elsewhere.path().join("moved")).unwrap();
    fs::create_dir(directory.path()).unwrap();
    assert!(matches!(place.check(), Err(PlaceError::Moved(_))));
}

#[test]
fn a_full_disk_leaves_the_old_bundle_and_is_seen_before_the_work() {
    const SELF: &str =
        "bot::place::tests::a_full_disk_leaves_the_old_bundle_and_is_seen_before_the_work";
    if let Some(directory) = env::var_os(CHILD) {
        let place = open_at(Path::new(&directory), "").unwrap();
        assert!(matches!(place.check(), Err(PlaceError::System { what: "write", .. })));
        let refused = place.put(&bundle(2), &record(2));
        assert!(matches!(refused, Err(PlaceError::System { what: "write", .. })));
        return;
    }
    let directory = directory();
    open(&directory, "").unwrap().put(&bundle(1), &record(1)).unwrap();
    // Files may grow no further, and the signal that says so is not heard: to the child, the disk
    // is full.
    let script = "trap '' XFSZ; exec prlimit --fsize=1024 \"$0\" --exact \"$1\"";
    let mut child = Command::new("/bin/sh");
    child.args(["-c", script]).arg(env::current_exe().unwrap()).arg(SELF);
    let output = child.env(CHILD, directory.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((read(directory.path()), bundles(&directory)), (Ok(1), vec![1]));
}

#[test]
#[expect(clippy::print_stdout, reason = "shown when the test fails")]
fn a_kill_at_any_moment_leaves_a_whole_bundle_to_every_reader() {
    const SELF: &str =
        "bot::place::tests::a_kill_at_any_moment_leaves_a_whole_bundle_to_every_reader";
    if let Some(directory) = env::var_os(CHILD) {
        return put_for_ever(Path::new(&directory));
    }
    let directory = directory();
    open(&directory, "").unwrap().put(&bundle(1), &record(1)).unwrap();
    let (stop, reads, overtaken) =
        (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
    let path = directory.path().to_owned();
    let mut latest = 0;
    thread::scope(|scope| {
        let _stop = StopOnDrop(stop.clone());
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let before = number(&path);
                    match read(&path) {
                        Ok(_) => reads.fetch_add(1, Ordering::Relaxed),
                        // Two swaps while one reader read: it was slower than any renewal.
                        Err(_) if number(&path) > before + 1 => {
                            overtaken.fetch_add(1, Ordering::Relaxed)
                        }
                        Err(why) => panic!("bundle {before}: {why}"),
                    };
                }
            });
        }
        for round in 0..40_u64 {
            let mut child = Command::new(env::current_exe().unwrap())
                .args(["--exact", SELF])
                .env(CHILD, &path)
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            let begun = number(&path);
            while number(&path) == begun {
                assert!(child.try_wait().unwrap().is_none(), "the child ended");
                thread::yield_now();
            }
            // The kill shall come at a moment that nothing here depends on.
            thread::sleep(Duration::from_micros(round * round * 37 % 30_000));
            child.kill().unwrap();
            child.wait().unwrap();
            latest = number(&path);
            assert_eq!(read(&path), read(&path), "round {round}");
        }
    });
    let (reads, overtaken) = (reads.load(Ordering::Relaxed), overtaken.into_inner());
    println!("{latest} bundles, {reads} reads, {overtaken} overtaken");
    assert!(latest > 40 && reads > 1_000, "{latest} bundles, {reads} reads: this was no test");
    let place = open(&directory, "").unwrap();
    assert!(bundles(&directory).len() <= KEPT);
    let names: BTreeSet<_> = names(place.directory.as_fd()).unwrap().into_iter().collect();
    let expected = [".bundles", ".lock", "current", "tls.key", "tls.crt", "ca.crt"];
    assert_eq!(names, expected.map(str::to_owned).into());
}

/// In a process of its own, until it is killed.
fn put_for_ever(directory: &Path) {
    let place = open_at(directory, "").unwrap();
    for next in number(directory) + 1.. {
        place.check().unwrap();
        place.put(&bundle(next), &record(next)).unwrap();
    }
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads as a program does that wants one bundle: which one it is, if all files say the same.
fn read(directory: &Path) -> Result<u64, String> {
    let current = File::open(directory.join("current")).map_err(|error| error.to_string())?;
    let mut found = BTreeSet::new();
    for name in NAMES {
        let file = openat(&current, name, READ, Mode::empty());
        let mut text = String::new();
        let read = file.map_err(io::Error::from).map(File::from);
        let read = read.and_then(|mut file| file.read_to_string(&mut text));
        read.map_err(|error| format!("{name}: {error}"))?;
        found.insert(text);
    }
    let [text] = &Vec::from_iter(found)[..] else { return Err("files of two bundles".to_owned()) };
    let number = text.lines().next().and_then(|line| line.parse().ok()).unwrap_or_default();
    if *text == content(number) { Ok(number) } else { Err("a part of a file".to_owned()) }
}

/// Which bundle counts.
fn number(directory: &Path) -> u64 {
    let target = fs::read_link(directory.join("current")).unwrap();
    target.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn bundles(directory: &TempDir) -> Vec<u64> {
    let entries = fs::read_dir(directory.path().join(BUNDLES)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    BTreeSet::from_iter(names.map(|name| name.parse::<u64>().unwrap())).into_iter().collect()
}

fn bundle(number: u64) -> Bundle {
    let file = |name| BundleFile {
        name,
        contents: Zeroizing::new(content(number).into_bytes()),
        secret: name == "tls.key",
    };
    let Record { not_before, not_after, .. } = record(number);
    Bundle { files: NAMES.map(file).into(), life: Life { not_before, not_after } }
}

fn content(number: u64) -> String {
    format!("{number}\n").repeat(1_000)
}

fn record(number: u64) -> Record {
    let (not_before, text) = (now(), String::new());
    let not_after = now() + SignedDuration::from_hours(1);
    let (instance, made_from) = (text.clone(), text);
    Record { id: number.to_string(), instance, made_from, not_before, not_after, due: not_after }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn open(directory: &TempDir, more: &str) -> Result<Place, PlaceError> {
    open_at(directory.path(), more)
}

fn open_at(directory: &Path, more: &str) -> Result<Place, PlaceError> {
    let text = format!("directory = {directory:?}\n{more}");
    Place::open(&toml::from_str(&text).unwrap())
}
