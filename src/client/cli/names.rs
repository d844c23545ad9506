//! Whom a certificate is for: read from the certificate itself, since that is what counts.

use std::net::IpAddr;

use api::Issued;
use der::{DecodePem, asn1::ObjectIdentifier};
use x509_cert::{
    Certificate,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// The principals of an SSH certificate, or the subject alternative names of an X.509 one, written
/// as the ledger has them (`DNS:web.example`).
pub(super) fn of(issued: &Issued) -> String {
    let names = match ssh_key::Certificate::from_openssh(&issued.certificate) {
        Ok(certificate) => certificate.valid_principals().to_vec(),
        Err(_) => alternative_names(&issued.certificate),
    };
    names.join(", ")
}

fn alternative_names(pem: &str) -> Vec<String> {
    let Ok(certificate) = Certificate::from_pem(pem) else { return Vec::new() };
    match certificate.tbs_certificate().get_extension::<SubjectAltName>() {
        Ok(Some((_, names))) => names.0.iter().filter_map(text).collect(),
        _ => Vec::new(),
    }
}

fn text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(format!("DNS:{name}")),
        GeneralName::IpAddress(octets) => Some(format!("IP:{}", address(octets.as_bytes())?)),
        GeneralName::OtherName(name) if name.type_id == UPN => {
            name.value.decode_as::<String>().ok().map(|upn| format!("UPN:{upn}"))
        }
        GeneralName::UniformResourceIdentifier(uri) => Some(format!("URI:{uri}")),
        _ => None,
    }
}

/// RFC 5280 section 4.2.1.6: four octets, or sixteen.
fn address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

/// szOID_NT_PRINCIPAL_NAME (MS-WCCE 2.2.2.7.7.2).
const UPN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.311.20.2.3");

#[cfg(test)]
mod tests {
    use std::{fs, path::Path, process::Command};

    use super::*;

    #[test]
    fn names_that_openssl_and_ssh_keygen_wrote_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let names = "subjectAltName=DNS:web.example,IP:192.0.2.7,IP:2001:db8::1,\
                     URI:spiffe://example.org/service/web,\
                     otherName:1.3.6.1.4.1.311.20.2.3;UTF8:alice@corp.example";
        run(
            at,
            "openssl",
            "req -x509 -nodes -newkey ed25519 -subj /CN=x -out c.pem -addext",
            names,
        );
        let read = of(&issued(&at.join("c.pem")));
        assert_eq!(
            read,
            "DNS:web.example, IP:192.0.2.7, IP:2001:db8::1, URI:spiffe://example.org/service/web, \
             UPN:alice@corp.example"
        );

        run(at, "ssh-keygen", "-q -t ed25519 -f ca -N", "");
        run(at, "ssh-keygen", "-q -s ca -I id -n alice,deploy", "ca.pub");
        assert_eq!(of(&issued(&at.join("ca-cert.pub"))), "alice, deploy");
    }

    fn run(directory: &Path, program: &str, arguments: &str, last: &str) {
        let mut command = Command::new(program);
        command.current_dir(directory).args(arguments.split(' ')).arg(last);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn issued(path: &Path) -> Issued {
        let certificate = fs::read_to_string(path).unwrap();
        serde_json::from_value(serde_json::json!({
            "kind": "ssh_user", "issuer": "i", "serial": "1", "certificate": certificate,
            "not_before": "2026-01-01T00:00:00Z", "not_after": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }
}
