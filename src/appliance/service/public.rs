//! The public listener: health, metrics, the API's description, and what relying parties need.
//! Everything here is public or signed.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use metrics_exporter_prometheus::PrometheusHandle;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Service,
    answer::{self, Body},
    metrics, openapi,
    slots::Slots,
};
use crate::signing::State;

/// How long what changes only with a restart may be kept by others.
const FILE_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

const NO_CACHE: HeaderValue = HeaderValue::from_static("no-store");

/// What the public listener serves.
pub(super) struct Public {
    service: Arc<Service>,
    metrics: PrometheusHandle,
    /// The listeners' names and connections.
    slots: [(&'static str, Arc<Slots>); 2],
    /// By path.
    files: BTreeMap<String, File>,
}

/// A file that changes only with a restart.
struct File {
    media_type: &'static str,
    text: Bytes,
    etag: HeaderValue,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
struct Readiness {
    ready: bool,
    /// What is missing; empty when ready.
    reasons: Vec<String>,
}

impl Public {
    pub(super) fn new(
        service: Arc<Service>,
        metrics: PrometheusHandle,
        slots: [(&'static str, Arc<Slots>); 2],
    ) -> Self {
        let files = files(&service.authorities);
        Self { service, metrics, slots, files }
    }

    /// Answers one request.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Body> {
        let started = Instant::now();
        let (name, mut response) = match (self.find(request), request.method()) {
            (Some(found), &Method::GET | &Method::HEAD) => found,
            (Some((name, _)), _) => (name, answer::method_not_allowed("GET, HEAD")),
            (None, _) => ("unknown", answer::not_found(request.uri().path())),
        };
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(NO_CACHE);
        metrics::answered(name, response.status(), started.elapsed());
        response
    }

    /// What there is at the path, with its name for the metrics.
    fn find<B>(&self, request: &Request<B>) -> Option<(&'static str, Response<Body>)> {
        Some(match request.uri().path() {
            "/healthz" => ("healthz", answer::whole(StatusCode::OK, "text/plain", "ok\n")),
            "/metrics" => ("metrics", self.metrics()),
            "/readyz" => ("readyz", self.readiness()),
            path => {
                let file = self.files.get(path)?;
                ("file", file.answer(request.headers()))
            }
        })
    }

    fn readiness(&self) -> Response<Body> {
        let reasons = self.service.reasons();
        let ready = reasons.is_empty();
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        answer::json(status, &Readiness { ready, reasons })
    }

    fn metrics(&self) -> Response<Body> {
        let service = &self.service;
        for (listener, slots) in &self.slots {
            metrics::connections(listener, slots.len());
        }
        metrics::needs(
            *service.signing.state() == State::Up,
            service.signing.waiting(),
            service.ledger.healthy(),
            service.own_certificate.not_after().map_or(0, |time| time.as_second()),
        );
        answer::whole(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            self.metrics.render(),
        )
    }
}

impl File {
    fn new(media_type: &'static str, text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&text)[..16]));
        // Hexadecimal digits in quotes are always a header value.
        let etag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
        Self { media_type, text, etag }
    }

    /// Neither of the two values that are written here can fail to be.
    fn json(value: &impl Serialize) -> Self {
        Self::new("application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    fn answer(&self, headers: &HeaderMap) -> Response<Body> {
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tag| *tag == self.etag);
        let mut response = if known {
            answer::whole(StatusCode::NOT_MODIFIED, self.media_type, Bytes::new())
        } else {
            answer::whole(StatusCode::OK, self.media_type, self.text.clone())
        };
        response.headers_mut().insert(header::ETAG, self.etag.clone());
        response.headers_mut().insert(header::CACHE_CONTROL, FILE_CACHE);
        response
    }
}

/// `/openapi.json`, `/authorities`, and the authorities in the forms that relying parties read.
fn files(authorities: &api::Authorities) -> BTreeMap<String, File> {
    let mut files = BTreeMap::from([
        ("/authorities".to_owned(), File::json(authorities)),
        ("/openapi.json".to_owned(), File::json(&openapi::document())),
    ]);
    for authority in &authorities.authorities {
        for (name, suffix, file) in forms(authority) {
            files.insert(format!("/authorities/{name}{suffix}"), file);
        }
    }
    files
}

fn forms(authority: &api::Authority) -> Vec<(&str, &'static str, File)> {
    const PEM: &str = "application/x-pem-file";
    match authority {
        api::Authority::Raw { name, public_key } => {
            vec![(name, ".pem", File::new(PEM, public_key.clone()))]
        }
        api::Authority::SshHost { name, public_key }
        | api::Authority::SshUser { name, public_key } => {
            let line = format!("{}\n", public_key.trim_end());
            vec![(name, ".pub", File::new("text/plain; charset=utf-8", line))]
        }
        api::Authority::X509 { name, chain } => {
            let own = chain.first().map(String::as_str).unwrap_or_default();
            let mut forms = vec![
                (name.as_str(), ".pem", File::new(PEM, own.to_owned())),
                (name, ".chain.pem", File::new(PEM, chain.concat())),
            ];
            // RFC 2585 section 4.1 names this type for DER.
            if let Ok(der) = CertificateDer::from_pem_slice(own.as_bytes()) {
                forms.push((name, ".der", File::new("application/pkix-cert", der.to_vec())));
            }
            forms
        }
    }
}
