//! What anyone may fetch, by plain HTTP: revocation lists. Whoever takes one verifies its signature.

use std::time::Duration;

use reqwest::redirect;

/// Fetches a file of at most `longest` bytes; in words, why it cannot.
///
/// # Errors
///
/// Nobody answers in time, or answers something else.
pub async fn fetch(url: &str, longest: usize, patience: Duration) -> Result<Vec<u8>, String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(patience)
        // Nothing here goes by TLS, and without certificates nothing could.
        .tls_backend_preconfigured(no_tls().map_err(|error| error.to_string())?)
        .build()
        .map_err(|error| error.to_string())?;
    let mut response = client.get(url).send().await.map_err(why)?;
    if !response.status().is_success() {
        return Err(format!("HTTP status {}", response.status()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(why)? {
        if bytes.len() + chunk.len() > longest {
            return Err(format!("it is longer than {longest} bytes"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn no_tls() -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = rustls::crypto::aws_lc_rs::default_provider().into();
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

fn why(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    crate::chain(&error.without_url())
}
