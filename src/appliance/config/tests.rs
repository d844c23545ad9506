use std::fs;

use super::*;

const FILE: &str = r#"trust_domain = "example.org"
handoff = "handoff"
rules = "rules"
state_directory = "state"
audit_directory = "audit"

[listen]
api = "127.0.0.1:8443"
public = "127.0.0.1:8080"

[token]
module = "/usr/lib/softhsm/libsofthsm2.so"
label = "chancery"
pin_file = "pin"
environment = { SOFTHSM2_CONF = "./softhsm2.conf", PLAIN = "as it is" }

[token.sandbox]
readable = ["/opt/vendor"]
writable = ["tokens"]

[tls]
issuer = "tls"
dns_names = ["chancery.example.org"]
client_authorities = ["tls"]
"#;

#[test]
fn every_configuration_that_is_shipped_can_be_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hsm-config");
    let mut read = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path().join("chanceryd.toml");
        let credentials = Some(Path::new("/run/credentials/chanceryd.service"));
        let config = Config::read(&path, Overrides::default(), credentials).unwrap();
        assert!(config.token.module.is_absolute(), "{}", path.display());
        read += 1;
    }
    assert!(read >= 10, "only {read} in {}", folder.display());
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = read(FILE, Overrides::default(), None).unwrap();
    let directory = config.handoff.parent().unwrap();
    assert!(directory.is_absolute());
    assert_eq!(config.token.pin_file, directory.join("pin"));
    assert_eq!(config.token.module, Path::new("/usr/lib/softhsm/libsofthsm2.so"));
    let softhsm = directory.join("softhsm2.conf");
    assert_eq!(Path::new(&config.token.environment["SOFTHSM2_CONF"]), softhsm);
    assert_eq!(config.token.environment["PLAIN"], "as it is");
    let sandbox = config.token.sandbox;
    assert_eq!(sandbox.readable, [Path::new("/opt/vendor")]);
    assert_eq!(sandbox.writable, [directory.join("tokens")]);
    assert_eq!(sandbox.enforcement, Enforcement::Required);
    assert!(!sandbox.network && !sandbox.unix_sockets && !sandbox.may_execute);
}

#[test]
fn flags_win_over_the_file_and_stand_in_for_it() {
    let without = FILE.replace("api = \"127.0.0.1:8443\"\n", "").replace("label =", "#");
    let flags = Overrides {
        module: Some("/other.so".into()),
        token_label: Some("other".into()),
        pin_file: Some("/run/pin".into()),
        state_directory: Some("/state".into()),
        audit_directory: Some("/audit".into()),
        listen_api: Some("127.0.0.1:1".parse().unwrap()),
        listen_public: Some("127.0.0.1:2".parse().unwrap()),
    };
    let config = read(&without, flags, None).unwrap();
    assert_eq!(config.token.module, Path::new("/other.so"));
    assert_eq!(config.token.label, "other");
    assert_eq!(config.token.pin_file, Path::new("/run/pin"));
    assert_eq!(config.state_directory, Path::new("/state"));
    assert_eq!(config.audit_directory, Path::new("/audit"));
    assert_eq!((config.listen.api.port(), config.listen.public.port()), (1, 2));
}

#[test]
fn a_pin_comes_as_a_credential_of_systemd() {
    let file = FILE.replace("pin_file = \"pin\"", "pin_credential = \"token-pin\"");
    let given = Some(Path::new("/run/credentials/chanceryd.service"));
    let config = read(&file, Overrides::default(), given).unwrap();
    let wanted = Path::new("/run/credentials/chanceryd.service/token-pin");
    assert_eq!(config.token.pin_file, wanted);
}

#[test]
fn an_error_names_file_line_key_and_what_to_do() {
    let cases = [
        ("rules = \"rules\"\n", "rolls = \"rules\"\n", Some(3), "unknown field `rolls`"),
        ("rules = \"rules\"\n", "", Some(1), "missing field `rules`"),
        ("example.org\"\nh", "-\"\nh", Some(1), "DNS name \"-\""),
        ("127.0.0.1:8443", "localhost", Some(8), "invalid socket address"),
        ("[token]", "[limits]\nrate = 0\n[token]", Some(12), "expected a nonzero u32"),
        ("[tls]", "[revocation]\ncrl_lifetime = \"169h\"\n[tls]", Some(22), "to 168h, not 169h"),
        ("label = \"chancery\"\n", "", None, "token.label: it is not set"),
        ("pin_file = \"pin\"\n", "sessions = 0\npin_file = \"pin\"\n", Some(14), "1 to 64"),
        ("pin_file", "keep_alive_seconds = 0\npin_file", Some(14), "1 to 3600"),
        ("pin_file", "pin_credential", Some(14), "systemd gave no credentials"),
        ("pin_file", "pin_credential = \"a\"\npin_file", Some(14), "one of them is enough"),
        ("dns_names = [\"chancery.example.org\"]", "", None, "tls.dns_names: it is not set"),
        ("authorities = [\"tls\"]", "authorities = []", Some(24), "nobody could connect"),
        ("[tls]", "[attestation]\nanchors = []\n[tls]", Some(22), "no card could be trusted"),
        ("[tls]", "[attestation]\nroots = []\n[tls]", Some(22), "unknown field `roots`"),
    ];
    for (from, to, line, what) in cases {
        assert!(FILE.contains(from), "{from}");
        let error = read(&FILE.replacen(from, to, 1), Overrides::default(), None).unwrap_err();
        assert_eq!(error.line, line, "{error}");
        assert!(error.what.contains(what), "{error}");
        let place = line.map_or("chanceryd.toml: ".into(), |n| format!("chanceryd.toml:{n}: "));
        assert!(error.to_string().contains(&place), "{error}");
    }
    for (directory, what) in [
        ("url = \"ldap://dc1.corp.example\"", "directory.url: the password would cross"),
        ("url = \"ldaps://dc1.corp.example\"", "directory.ca_file: it is not set"),
        ("url = \"ldaps://dc1.corp.example/DC=corp\"", "is no directory"),
        ("url = \"https://dc1.corp.example\"", "is no directory"),
        ("url = \"ldap://127.0.0.1\"\nca_file = \"ca\"", "it is for TLS"),
        ("url = \"ldaps://dc1\"\nstart_tls = true\nca_file = \"ca\"", "leave one of them out"),
        ("url = \"ldap://[::1]\"", "is no directory"),
        ("url = \"ldap://localhost\"\ntimeout_seconds = 0", "it is 1 to 60"),
        ("url = \"ldap://localhost\"\nlook_up_timeout_seconds = 9", "it is 1 to 8"),
        ("url = \"ldap://localhost\"\ncache_seconds = 601", "it is 0 to 600"),
        ("url = \"ldap://localhost\"\nprotected_groups = [\"512\"]", "is no SID"),
        ("url = \"ldap://localhost\"\nsid_attribute = \"\"", "an attribute's name"),
        ("url = \"ldap://localhost\"\nmember_attribute = \"a)(b\"", "an attribute's name"),
        ("url = \"ldap://localhost\"\ndisabled = { attribute = \"a\", flag = 0 }", "nothing"),
        ("url = \"ldap://localhost\"\ndisabled = { attribute = \"a\" }", "did not match"),
    ] {
        let rest = "bind_dn = \"CN=a\"\nbase_dn = \"DC=b\"\npassword_file = \"c\"";
        let text = format!("{FILE}\n[directory]\n{directory}\n{rest}\n");
        let error = read(&text, Overrides::default(), None).unwrap_err();
        assert!(error.what.contains(what), "{directory}: {error}");
    }
    let unset = read(&FILE.replace("label =", "#"), Overrides::default(), None).unwrap_err();
    let hint = unset.hint.unwrap();
    assert_eq!(hint, "set token.label in the file, or give --token-label");
}

fn read(
    text: &str,
    overrides: Overrides,
    credentials: Option<&Path>,
) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chanceryd.toml");
    fs::write(&path, text).unwrap();
    Config::read(&path, overrides, credentials)
}
