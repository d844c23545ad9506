//! Whom a certificate is for: read from the certificate itself, since that is what counts.

use std::net::IpAddr;

use api::Issued;
use der::DecodePem;
use x509_cert::{
    Certificate,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

/// The principals of an SSH certificate, or the subject alternative names of an X.509 one. A UPN
/// is not shown: it is in another form, and the one that was asked for.
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
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
        GeneralName::IpAddress(octets) => address(octets.as_bytes()).map(|it| it.to_string()),
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
