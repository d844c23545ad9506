//! Names of hosts, networks, resources and workloads.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const SPIFFE_SCHEME: &str = "spiffe://";

pub(super) fn dns_name(text: &str) -> Result<(), &'static str> {
    match text.strip_prefix("*.") {
        Some(parent) => host_name(parent),
        None => host_name(text),
    }?;
    if text.len() > 253 { Err(DNS_LENGTH) } else { Ok(()) }
}

/// A DNS name without wildcard (RFC 1123 section 2.1).
pub(super) fn host_name(text: &str) -> Result<(), &'static str> {
    if text.is_empty() || text.len() > 253 {
        return Err(DNS_LENGTH);
    }
    if text.bytes().any(|c| c.is_ascii_uppercase()) {
        return Err("write it in lower case");
    }
    if !text.split('.').all(is_label) {
        return Err(
            "each label has 1 to 63 of a-z, 0-9 and -, none at its ends (other scripts as \
             xn--); only the whole first label may be *",
        );
    }
    // No top-level domain is a number (RFC 1123 section 2.1): what looks so is an address.
    if text.rsplit('.').next().is_some_and(|top| top.bytes().all(|c| c.is_ascii_digit())) {
        return Err("its last label is a number, as in an address");
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

pub(super) fn http_url(text: &str) -> Result<(), &'static str> {
    let Some(rest) = text.strip_prefix("http://") else {
        // RFC 5280 section 8: fetching a CRL must not need a certificate that needs the CRL.
        return Err("it begins with http:// (not https: that would need a certificate itself)");
    };
    if text.len() > 2048 {
        return Err("it has at most 2048 characters");
    }
    let Some((authority, path)) = rest.split_once('/') else {
        return Err("a path must follow the host, at least /");
    };
    let (host, port) = split_port(authority);
    if port.is_some_and(|port| port == "0" || parse_decimal::<u16>(port).is_none()) {
        return Err("the port is a number from 1 to 65535");
    }
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) if address.parse::<Ipv6Addr>().is_ok() => {}
        Some(_) => return Err("between the brackets stands an IPv6 address"),
        None if host.parse::<Ipv4Addr>().is_ok() => {}
        None => host_name(host)?,
    }
    path.split('/').try_for_each(path_segment)
}

/// Splits `host[:port]`; the colons of an IPv6 address stand in brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The characters of RFC 3986 section 3.3, and no query, fragment or dot segment: one resource has
/// one URL.
fn path_segment(segment: &str) -> Result<(), &'static str> {
    if segment == "." || segment == ".." {
        return Err("the path must not have . or .. in it");
    }
    let mut bytes = segment.bytes();
    while let Some(c) = bytes.next() {
        let right = match c {
            b'%' => [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            _ => c.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&c),
        };
        if !right {
            return Err("the path has a character that must be written as %XX, or ? or #");
        }
    }
    Ok(())
}

pub(super) fn spiffe_id(text: &str) -> Result<(), &'static str> {
    if text.len() > 2048 {
        return Err("it has at most 2048 bytes");
    }
    let Some(rest) = text.strip_prefix(SPIFFE_SCHEME) else {
        return Err("it begins with spiffe://");
    };
    let (domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let in_domain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-_".contains(&c);
    if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(in_domain) {
        return Err("the trust domain has 1 to 255 of a-z, 0-9, ., - and _");
    }
    let in_path = |c: u8| c.is_ascii_alphanumeric() || b".-_".contains(&c);
    for segment in path.split('/').skip(1) {
        if matches!(segment, "" | "." | "..") || !segment.bytes().all(in_path) {
            return Err(
                "each part of the path has letters a-z, digits, ., - and _, and is neither empty, \
                 . nor ..",
            );
        }
    }
    Ok(())
}

/// As `addr_match_cidr_list` of OpenSSH takes it: sshd refuses the whole certificate for one entry
/// with host bits.
pub(super) fn source_address(text: &str) -> Result<(), &'static str> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| "it is an IP address or a network")?;
    let Some(prefix) = prefix else { return Ok(()) };
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()) << 96, 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    };
    match parse_decimal::<u32>(prefix) {
        Some(prefix) if prefix <= width => {
            let host_bits = bits.checked_shl(prefix).unwrap_or(0);
            if host_bits == 0 { Ok(()) } else { Err("bits are set behind the network's prefix") }
        }
        _ => Err("the prefix is a number from 0 to 32 (IPv4) or 128 (IPv6)"),
    }
}

/// Digits without sign and without leading zeros.
pub(super) fn parse_decimal<T: std::str::FromStr>(text: &str) -> Option<T> {
    let plain = text.bytes().all(|c| c.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

const DNS_LENGTH: &str = "it has 1 to 253 characters";

#[cfg(test)]
mod tests {
    use crate::names::{DnsName, HttpUrl, SourceAddress, SpiffeId, tests::check};

    #[test]
    fn dns_names() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
        check::<DnsName>(
            &[
                "localhost",
                "web1.example.com",
                "*.example.com",
                "xn--bcher-kva.example",
                "1.a",
                &longest,
            ],
            &[
                "",
                ".",
                "*",
                "*.",
                "a.*.example",
                "*a.example",
                "*.*.example",
                "a..b",
                ".a",
                "a.",
                "-a.example",
                "a-.example",
                "a_b.example",
                "Web.example",
                "bücher.example",
                "a b.example",
                "a\0.example",
                "127.0.0.1",
                "1",
                "::1",
                "a/b",
                &format!("{label}a.example"),
                &format!("{longest}b"),
                &format!("*.{longest}"),
            ],
        );
    }

    #[test]
    fn http_urls() {
        check::<HttpUrl>(
            &[
                "http://pki.example/crl/issuing.crl",
                "http://pki.example/",
                "http://10.0.0.1:8080/a",
                "http://[2001:db8::1]/a",
                "http://[::1]:80/a",
                "http://pki.example/a%20b",
            ],
            &[
                "",
                "https://pki.example/a",
                "http://",
                "http://pki.example",
                "HTTP://pki.example/",
                "http:///a",
                "http://u@pki.example/",
                "http://pki.example:/a",
                "http://pki.example:0/",
                "http://pki.example:65536/",
                "http://pki.example:+80/",
                "http://*.example/",
                "http://[::1/a",
                "http://[10.0.0.1]/",
                "http://::1/a",
                "http://pki.example/a b",
                "http://pki.example/%2",
                "http://pki.example/%zz",
                "http://pki.example/a?b",
                "http://pki.example/a#b",
                "http://pki.example/../a",
                "http://pki.example/ä",
                "http://pki.example/\0",
                "ldap://pki.example/a",
                &format!("http://pki.example/{}", "a".repeat(2048)),
            ],
        );
    }

    #[test]
    fn spiffe_ids() {
        check::<SpiffeId>(
            &["spiffe://example.org", "spiffe://example.org/user/alice", "spiffe://a_b/C/d.e-f"],
            &[
                "",
                "spiffe://",
                "spiffe:///a",
                "SPIFFE://example.org",
                "http://example.org/a",
                "spiffe://Example.org/a",
                "spiffe://example.org/",
                "spiffe://example.org/a/",
                "spiffe://example.org//a",
                "spiffe://example.org/./a",
                "spiffe://example.org/..",
                "spiffe://example.org:80/a",
                "spiffe://u@example.org/a",
                "spiffe://example.org/a?b",
                "spiffe://example.org/a#b",
                "spiffe://example.org/a%20",
                "spiffe://example.org/ä",
                &format!("spiffe://{}", "a".repeat(256)),
                &format!("spiffe://a/{}", "b".repeat(2048)),
            ],
        );
        let id: SpiffeId = "spiffe://example.org/user/alice".parse().unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("example.org", "/user/alice"));
        let id: SpiffeId = "spiffe://example.org".parse().unwrap();
        assert_eq!((id.trust_domain(), id.path()), ("example.org", ""));
    }

    #[test]
    fn source_addresses() {
        check::<SourceAddress>(
            &[
                "10.0.0.1",
                "10.0.0.0/8",
                "10.0.0.1/32",
                "0.0.0.0/0",
                "::/0",
                "2001:db8::1",
                "2001:db8::/32",
                "2001:db8::1/128",
            ],
            &[
                "",
                "10.0.0.1/8",
                "10.0.0.0/33",
                "10.0.0.0/",
                "10.0.0.0/+8",
                "10.0.0.0/08",
                "10.0.0",
                "010.0.0.1",
                "host",
                "*",
                "!10.0.0.1",
                "10.0.0.1,10.0.0.2",
                "2001:db8::1/64",
                "::/129",
                "fe80::1%eth0",
                " 10.0.0.1",
                "10.0.0.0/8/8",
            ],
        );
    }
}
