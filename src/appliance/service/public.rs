//! The public listener: health, metrics, the API's description, and what relying parties need.
//! Everything here is public or signed.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    middleware,
    response::Response,
    routing::{get, post},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use metrics_exporter_prometheus::PrometheusHandle;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Service,
    answer::{self, Failure},
    metrics, ocsp, openapi,
    slots::Slots,
};
use crate::publisher::Artefact;

/// How long what changes only with a restart may be kept by others.
const FILE_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// What was revoked may change at any moment: whoever keeps it asks each time whether it has.
const LIST_CACHE: HeaderValue = HeaderValue::from_static("public, no-cache");

/// What the public listener serves. Nobody is known here: no request's body is waited for, but for
/// the few bytes of an OCSP request.
pub(super) fn router(
    service: Arc<Service>,
    metrics: PrometheusHandle,
    slots: [(&'static str, Arc<Slots>); 2],
) -> Router {
    let public = Public {
        authorities: File::json(&service.authorities),
        authority_files: authority_files(&service.authorities),
        openapi: File::json(&openapi::document()),
        service,
        metrics,
        slots,
    };
    Router::new()
        .route("/authorities", get(authorities))
        .route("/authorities/{file}", get(authority_file))
        .route("/crl/{file}", get(crl))
        .route("/healthz", get(healthz))
        .route("/krl", get(krl))
        .route("/metrics", get(metrics_text))
        .route("/ocsp/{issuer}", post(ocsp::post))
        .route("/ocsp/{issuer}/{*request}", get(ocsp::get))
        .route("/openapi.json", get(openapi_document))
        .route("/readyz", get(readiness))
        .route("/revocations", get(bundle))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .layer(middleware::from_fn(answer::watch))
        .with_state(Arc::new(public))
}

/// What is needed to answer.
pub(super) struct Public {
    pub(super) service: Arc<Service>,
    metrics: PrometheusHandle,
    /// The listeners' names and connections.
    slots: [(&'static str, Arc<Slots>); 2],
    authorities: File,
    /// By name.
    authority_files: BTreeMap<String, File>,
    openapi: File,
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
    /// What is missing, or not as it should be although it is ready.
    reasons: Vec<String>,
}

async fn authorities(State(public): State<Arc<Public>>, headers: HeaderMap) -> Response {
    public.authorities.answer(&headers)
}

async fn authority_file(
    State(public): State<Arc<Public>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Path(name) = path.map_err(answer::bad_path)?;
    match public.authority_files.get(&name) {
        Some(file) => Ok(file.answer(&headers)),
        None => Err(answer::not_found(uri).await),
    }
}

async fn bundle(State(public): State<Arc<Public>>, headers: HeaderMap) -> Response {
    list("application/json", &public.service.publisher.current().bundle, &headers)
}

/// RFC 2585 section 4.2 names this type for CRLs in DER.
async fn crl(
    State(public): State<Arc<Public>>,
    path: Result<Path<String>, PathRejection>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Path(name) = path.map_err(answer::bad_path)?;
    let publisher = &public.service.publisher;
    let (current, offline) = (publisher.current(), publisher.offline());
    let found = |issuer: &str| current.crls.get(issuer).or_else(|| offline.get(issuer)).cloned();
    match name.strip_suffix(".crl").and_then(found) {
        Some(crl) => Ok(list("application/pkix-crl", &crl, &headers)),
        None => Err(answer::not_found(uri).await),
    }
}

async fn krl(State(public): State<Arc<Public>>, headers: HeaderMap) -> Response {
    list("application/octet-stream", &public.service.publisher.current().krl, &headers)
}

async fn healthz() -> Response {
    answer::whole(StatusCode::OK, "text/plain", "ok\n")
}

async fn metrics_text(State(public): State<Arc<Public>>) -> Response {
    let service = &public.service;
    for (listener, slots) in &public.slots {
        metrics::connections(listener, slots.len());
    }
    metrics::needs(
        service.signing.signs(),
        service.signing.admitted(),
        service.ledger.healthy(),
        service.own_certificate.not_after().map_or(0, |time| time.as_second()),
    );
    let media_type = "text/plain; version=0.0.4; charset=utf-8";
    answer::whole(StatusCode::OK, media_type, public.metrics.render())
}

async fn openapi_document(State(public): State<Arc<Public>>, headers: HeaderMap) -> Response {
    public.openapi.answer(&headers)
}

async fn readiness(State(public): State<Arc<Public>>) -> Response {
    let (ready, reasons) = public.service.readiness();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer::json(status, &Readiness { ready, reasons })
}

impl File {
    fn new(media_type: &'static str, text: impl Into<Bytes>) -> Self {
        let text = text.into();
        let etag = etag(&Sha256::digest(&text).into());
        Self { media_type, text, etag }
    }

    /// Neither of the two values that are written here can fail to be.
    fn json(value: &impl Serialize) -> Self {
        Self::new("application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        unless_known(headers, self.media_type, &self.text, &self.etag, FILE_CACHE)
    }
}

/// A list that was published.
fn list(media_type: &'static str, list: &Artefact, headers: &HeaderMap) -> Response {
    unless_known(headers, media_type, &list.bytes, &etag(&list.sha256), LIST_CACHE)
}

/// The file, unless its entity tag says that it is known.
fn unless_known(
    headers: &HeaderMap,
    media_type: &'static str,
    bytes: &Bytes,
    etag: &HeaderValue,
    cache: HeaderValue,
) -> Response {
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tag| tag == etag);
    // A 304 tells the length of the file (RFC 9110 section 8.6); hyper sends no body with it.
    let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
    let mut response = answer::whole(status, media_type, bytes.clone());
    response.headers_mut().insert(header::ETAG, etag.clone());
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    response
}

/// The entity tag of a file with this hash.
fn etag(sha256: &[u8; 32]) -> HeaderValue {
    let tag = format!("\"{}\"", hex::encode(&sha256[..16]));
    // Hexadecimal digits in quotes are always a header value.
    HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The authorities in the forms that relying parties read.
fn authority_files(authorities: &api::Authorities) -> BTreeMap<String, File> {
    let forms = authorities.authorities.iter().flat_map(forms);
    forms.map(|(name, suffix, file)| (format!("{name}{suffix}"), file)).collect()
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
        api::Authority::X509 { name, chain, .. } => {
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
