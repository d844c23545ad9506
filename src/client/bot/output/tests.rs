use super::*;

#[test]
fn the_settings_of_each_kind_are_read_strictly() {
    for (kind, settings, says) in [
        ("ssh", "hosts = [\"*.example\", \"10.0.0.*\"]\nuser = \"deploy\"", None),
        ("ssh", "hosts = []", Some("name those that the bot logs in to")),
        ("ssh", "hosts = [\"!web\"]", Some("host pattern")),
        ("ssh", "hosts = [\"web\"]\nuser = \"a\\nProxyCommand sh\"", Some("control characters")),
        ("ssh", "hosts = [\"web\"]\nport = 22", Some("unknown field `port`")),
        ("tls", "", None),
        ("tls", "dns_names = [\"www.example\"]\naddresses = [\"192.0.2.7\"]", None),
        ("tls", "dns_names = [\"Www.example\"]", Some("DNS name")),
        ("spiffe", "spiffe_id = \"spiffe://e.example/bot/web\"", None),
        ("spiffe", "spiffe_id = \"https://e.example/bot/web\"", Some("SPIFFE id")),
        ("spiffe", "addresses = [\"192.0.2.7\"]", Some("unknown field `addresses`")),
        ("database", "system = \"postgresql\"\nhost = \"db\"\nuser = \"web\"", None),
        ("database", "system = \"oracle\"\nhost = \"db\"\nuser = \"web\"", Some("unknown variant")),
        ("database", "system = \"mysql\"\nhost = \"db\"", Some("missing field `user`")),
        (
            "database",
            "system = \"mysql\"\nhost = \"db\"\nuser = \"web\"\nservice = \"web\"",
            Some("of PostgreSQL alone"),
        ),
        (
            "database",
            "system = \"postgresql\"\nhost = \"db\"\nuser = \"web\"\nservice = \"a]\"",
            Some("bracket"),
        ),
        ("kubernetes", "server = \"https://k8s.example:6443\"", None),
        ("kubernetes", "server = \"http://k8s.example\"", Some("https://")),
        (
            "kubernetes",
            "server = \"https://k8s.example\"\ncluster_ca = \"/ca\"\nauthorities = [\"services\"]",
            Some("either cluster_ca or authorities"),
        ),
        ("kubernetes", "server = \"https://k8s.example\"\ncluster_ca = \"ca\"", Some("absolute")),
    ] {
        let table = format!("directory = \"/var/lib/out\"\n{settings}").parse().unwrap();
        match (Kind::read(kind, table), says) {
            (Ok(_), None) => (),
            (Err(what), Some(says)) => assert!(what.contains(says), "{settings}: {what}"),
            (read, _) => panic!("{kind}: {settings}: {read:?}"),
        }
    }
}
