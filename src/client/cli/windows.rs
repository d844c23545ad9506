//! `chancery windows`: what Windows needs to know of the appliance.

mod script;

use api::Authority;
use client::{Client, files};
use pki::names::HttpUrl;

use self::script::{Plan, Trusted};
use super::{arguments::windows::Bootstrap, failure::Failure, output::Output};

/// Prints the script; with `--out`, writes it as Windows has its scripts.
pub(super) async fn bootstrap(
    client: &Client,
    it: &Bootstrap,
    output: &mut Output,
) -> Result<(), Failure> {
    let all = client.authorities().await?.authorities;
    let (chain, said) = authority(&all, &it.authority)?;
    let crl_url = match (&it.crl_url, said) {
        (Some(url), _) => url.clone(),
        (None, Some(url)) => url,
        (None, None) => {
            return Err(usage(
                &format!("certificates of {} name no CRL, and Windows demands one", it.authority),
                "set crl_url in [publication] of the appliance, or give --crl-url",
            ));
        }
    };
    let plan = Plan {
        authority: it.authority.clone(),
        chain: chain.iter().map(|pem| Trusted::read(pem)).collect::<Result<_, _>>()?,
        crl_url,
        gpo: it.gpo.clone(),
        ecc: it.ecc,
        lock_on_removal: it.lock_on_removal,
        what_if: it.what_if,
    };
    let script = plan.script();
    let Some(path) = &it.out else { return Ok(output.text(&script)?) };
    files::write_public(path, script.replace('\n', "\r\n").as_bytes())?;
    output.rows(&[("script", path.display().to_string())])?;
    Ok(())
}

/// The certificates of an X.509 authority, and where its CRL is.
fn authority<'a>(
    all: &'a [Authority],
    wanted: &str,
) -> Result<(&'a [String], Option<HttpUrl>), Failure> {
    let x509 = all.iter().filter_map(|authority| match authority {
        Authority::X509 { name, chain, crl_url } => Some((name, chain, crl_url)),
        _ => None,
    });
    let found = x509.clone().find(|(name, ..)| *name == wanted);
    let (_, chain, crl_url) = found.ok_or_else(|| {
        let names: Vec<_> = x509.map(|(name, ..)| name.as_str()).collect();
        usage(
            &format!("there is no X.509 authority {wanted:?}"),
            &format!("there are: {}", names.join(", ")),
        )
    })?;
    let crl_url =
        crl_url.as_deref().map(str::parse).transpose().map_err(|error| {
            usage(&format!("the appliance's answer: {error}"), "ask its operators")
        })?;
    Ok((chain, crl_url))
}

fn usage(what: &str, hint: &str) -> Failure {
    Failure::Usage { what: what.to_owned(), hint: Some(hint.to_owned()) }
}
