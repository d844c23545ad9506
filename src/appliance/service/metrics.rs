//! What `/metrics` tells.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http::StatusCode;
use metrics::{
    SharedString, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use pki::seal::Kind;

/// Seconds, from a signature of a fast token to a request that waits until its deadline.
const LATENCIES: [f64; 14] =
    [0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 4.0, 10.0];

/// Jobs that shared one transaction or one message.
const BATCHES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// How often the recorder tidies up, between two looks at `/metrics`.
pub(super) const UPKEEP: Duration = Duration::from_secs(5);

/// The recorder of this process; there can be only one.
pub(super) fn recorder() -> Result<PrometheusHandle, metrics_exporter_prometheus::BuildError> {
    static RECORDER: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
    let mut recorder = RECORDER.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*recorder {
        return Ok(handle.clone());
    }
    let handle = PrometheusBuilder::new()
        .set_buckets(&LATENCIES)?
        .set_buckets_for_metric(Matcher::Suffix("_jobs".to_owned()), &BATCHES)?
        .install_recorder()?;
    describe();
    *recorder = Some(handle.clone());
    Ok(handle)
}

fn describe() {
    describe_counter!("chancery_bot_clones_total", "Instances of bots locked for a copy of them");
    describe_counter!("chancery_bot_joins_total", "Joins of bots, by how they proved who they are");
    describe_counter!("chancery_bot_renewals_total", "Renewals of instances of bots");
    describe_counter!("chancery_batch_items_total", "Items of batches, by the status of each");
    describe_counter!("chancery_certificates_total", "Certificates given out, by kind");
    describe_counter!("chancery_connections_refused_total", "Connections refused for want of room");
    describe_counter!(
        "chancery_directory_acts_total",
        "Acts of the directory hook that came to an end, by outcome"
    );
    describe_counter!(
        "chancery_rate_limited_total",
        "Requests and items of batches refused because their client asks too often"
    );
    describe_counter!("chancery_raw_signatures_total", "Signatures over digests given out");
    describe_counter!("chancery_requests_total", "Requests, by endpoint and status");
    describe_counter!("chancery_tls_failures_total", "TLS handshakes that failed, by reason");
    describe_counter!(
        "chancery_wrong_signatures_total",
        "Signatures of the token that did not verify and were not given out"
    );
    describe_counter!("chancery_ocsp_total", "OCSP requests, by outcome");
    describe_counter!("chancery_publications_failed_total", "Publications that are tried again");
    describe_gauge!("chancery_connections", "Open connections, by listener");
    describe_gauge!("chancery_crl_bytes", "Length of the CRL, by issuer");
    describe_gauge!("chancery_directory_up", "1 when the directory did or refused the last act");
    describe_gauge!("chancery_krl_bytes", "Length of the KRL");
    describe_gauge!("chancery_ledger_up", "1 when ledger and audit log can be written");
    describe_gauge!(
        "chancery_offline_crl_not_after",
        "Expiry of the CRL of a CA that is offline, Unix seconds, by issuer"
    );
    describe_gauge!("chancery_offline_crl_number", "Number of that CRL, by issuer");
    describe_gauge!(
        "chancery_publication_not_after",
        "Expiry of what expires first of bundle and CRLs, Unix seconds"
    );
    describe_gauge!("chancery_publication_version", "Version of the bundle in force");
    describe_gauge!("chancery_revoked_certificates", "Revoked certificates that are published");
    describe_gauge!(
        "chancery_signing_waiting",
        "Signatures that were admitted and are not made yet"
    );
    describe_gauge!("chancery_tls_not_after", "Expiry of the own TLS certificate, Unix seconds");
    describe_gauge!("chancery_token_state", "1 for the state that a token is in");
    describe_gauge!("chancery_token_up", "1 when a token signs");
    describe_histogram!(
        "chancery_applied_seconds",
        "Time from a change to the acknowledgement of each host"
    );
    describe_histogram!("chancery_ledger_transaction_jobs", "Jobs that shared one transaction");
    describe_histogram!(
        "chancery_publication_seconds",
        "Time from the oldest change in a version until KRL, CRLs and bundle are published"
    );
    describe_histogram!("chancery_request_seconds", "Time to the head of the answer, by endpoint");
}

/// A request was answered.
pub(super) fn answered(endpoint: &str, status: StatusCode, took: Duration) {
    let endpoint = SharedString::from(Arc::<str>::from(endpoint));
    let status = status_text(status);
    counter!("chancery_requests_total", "endpoint" => endpoint.clone(), "status" => status)
        .increment(1);
    histogram!("chancery_request_seconds", "endpoint" => endpoint).record(took.as_secs_f64());
}

/// An item of a batch was answered.
pub(super) fn batch_item(status: u16) {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    counter!("chancery_batch_items_total", "status" => status_text(status)).increment(1);
}

/// A certificate was given out, for the first time or again.
pub(super) fn issued(kind: Kind) {
    let kind = match kind {
        Kind::Issuing => "issuing",
        Kind::Kdc => "kdc",
        Kind::OcspSigner => "ocsp_signer",
        Kind::Root => "root",
        Kind::SmartcardLogon => "smartcard_logon",
        Kind::SshHost => "ssh_host",
        Kind::SshUser => "ssh_user",
        Kind::TlsClient => "tls_client",
        Kind::TlsServer => "tls_server",
    };
    counter!("chancery_certificates_total", "kind" => kind).increment(1);
}

/// Somebody joined as a bot.
pub(super) fn bot_joined(method: &'static str) {
    counter!("chancery_bot_joins_total", "method" => method).increment(1);
}

/// An instance of a bot was given its next certificate, for the first time or again.
pub(super) fn bot_renewed() {
    counter!("chancery_bot_renewals_total").increment(1);
}

/// A signature over a digest was given out, for the first time or again.
pub(super) fn signed() {
    counter!("chancery_raw_signatures_total").increment(1);
}

/// A request or an item of a batch was refused: its client asks too often.
pub(super) fn rate_limited() {
    counter!("chancery_rate_limited_total").increment(1);
}

/// A TLS handshake failed.
pub(super) fn handshake_failed(reason: &'static str) {
    counter!("chancery_tls_failures_total", "reason" => reason).increment(1);
}

/// A listener has so many connections.
pub(super) fn connections(listener: &'static str, count: usize) {
    gauge!("chancery_connections", "listener" => listener)
        .set(u32::try_from(count).unwrap_or(u32::MAX));
}

/// What the appliance needs is there, or not.
pub(super) fn needs(token_up: bool, waiting: usize, ledger_up: bool, tls_not_after: i64) {
    gauge!("chancery_token_up").set(u8::from(token_up));
    gauge!("chancery_signing_waiting").set(u32::try_from(waiting).unwrap_or(u32::MAX));
    gauge!("chancery_ledger_up").set(u8::from(ledger_up));
    #[expect(clippy::cast_precision_loss, reason = "exact for the next 285 million years")]
    gauge!("chancery_tls_not_after").set(tls_not_after as f64);
}

/// The status as a label that costs nothing, for those that there are.
fn status_text(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        201 => "201",
        204 => "204",
        304 => "304",
        400 => "400",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        415 => "415",
        422 => "422",
        429 => "429",
        503 => "503",
        _ => "500",
    }
}
