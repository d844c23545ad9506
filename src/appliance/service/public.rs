//! The public listener: health, metrics, the API's description, and what relying parties need.
//! Everything here is public or signed.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{Path, State, rejection::PathRejection},
    middleware,
    response::Response,
    routing::get,
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
    metrics, openapi,
    slots::Slots,
};

/// How long what changes only with a restart may be kept by others.
const FILE_CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// What the public listener serves. Nobody is known here, so that no request's body is waited for.
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
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics_text))
        .route("/openapi.json", get(openapi_document))
        .route("/readyz", get(readiness))
        .fallback(answer::not_found)
        .method_not_allowed_fallback(answer::method_not_allowed)
        .layer(middleware::from_fn(answer::watch))
        .with_state(Arc::new(public))
}

/// What is needed to answer.
struct Public {
    service: Arc<Service>,
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
        let tag = format!("\"{}\"", hex::encode(&Sha256::digest(&text)[..16]));
        // Hexadecimal digits in quotes are always a header value.
        let etag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"\""));
        Self { media_type, text, etag }
    }

    /// Neither of the two values that are written here can fail to be.
    fn json(value: &impl Serialize) -> Self {
        Self::new("application/json", serde_json::to_vec(value).unwrap_or_default())
    }

    fn answer(&self, headers: &HeaderMap) -> Response {
        let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tag| *tag == self.etag);
        // A 304 tells the length of the file (RFC 9110 section 8.6); hyper sends no body with it.
        let status = if known { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let mut response = answer::whole(status, self.media_type, self.text.clone());
        response.headers_mut().insert(header::ETAG, self.etag.clone());
        response.headers_mut().insert(header::CACHE_CONTROL, FILE_CACHE);
        response
    }
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
