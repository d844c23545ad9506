//! `chancery ca`, `list` and `show`: what the appliance has and has done.

use api::{Authority, CertificateRecord, ListQuery, LogonSource};
use client::Client;
use der::{DecodePem, Encode};
use pki::{keys::PublicKey, ssh::known_hosts_line};
use serde::Serialize;
use x509_cert::Certificate;

use super::{
    arguments::{Ca, List, Show},
    failure::Failure,
    output::{Output, time},
};

pub(super) async fn authorities(
    client: &Client,
    it: &Ca,
    output: &mut Output,
) -> Result<(), Failure> {
    let all = client.authorities().await?;
    let Some(name) = &it.name else {
        output.json_only(&all)?;
        if !output.is_json() {
            let rows: Vec<_> = all.authorities.iter().map(summary).collect();
            output.table(Some(["NAME", "KIND", "KEY"]), &rows)?;
        }
        return Ok(());
    };
    let authority = all.authorities.iter().find(|it| self::name(it) == name).ok_or_else(|| {
        let known: Vec<_> = all.authorities.iter().map(self::name).collect();
        usage(
            &format!("there is no authority {name:?}"),
            &format!("there are: {}", known.join(", ")),
        )
    })?;
    if output.is_json() {
        return Ok(output.line(authority)?);
    }
    output.text(&form(authority, it)?)?;
    Ok(())
}

pub(super) async fn list(client: &Client, it: &List, output: &mut Output) -> Result<(), Failure> {
    let mut left = it.limit.unwrap_or(u64::MAX);
    let mut after = it.after;
    let mut heads = Some(["ID", "KIND", "ISSUER", "SERIAL", "NAMES", "CALLER", "VALID UNTIL"]);
    while left > 0 {
        let query = ListQuery {
            kind: it.kind,
            issuer: it.issuer.clone(),
            caller: it.caller.clone(),
            after,
            limit: Some(u32::try_from(left).unwrap_or(u32::MAX).min(PAGE)),
        };
        let page = client.certificates(&query).await?;
        if output.is_json() {
            page.certificates.iter().try_for_each(|it| output.line(it))?;
        } else {
            let rows: Vec<_> = page.certificates.iter().map(row).collect();
            output.table(heads.take(), &rows)?;
        }
        left = left.saturating_sub(page.certificates.len() as u64);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(())
}

pub(super) async fn show(client: &Client, it: &Show, output: &mut Output) -> Result<(), Failure> {
    let record = client.certificate(&it.issuer, &it.serial).await?;
    if it.certificate && !output.is_json() {
        return Ok(output.text(&format!("{}\n", record.certificate.trim_end()))?);
    }
    output.show(&record, |record| {
        let mut rows = vec![
            ("serial", record.serial.clone()),
            ("issuer", record.issuer.clone()),
            ("kind", word(&record.kind)),
            ("subject", record.subject.clone()),
            ("names", record.names.join(", ")),
            ("valid from", time(record.not_before)),
            ("valid until", time(record.not_after)),
            ("issued", time(record.issued_at)),
            ("caller", record.caller.clone()),
            ("role", record.role.clone()),
            ("key sha256", record.key_fingerprint.clone()),
            ("ledger id", record.id.to_string()),
        ];
        rows.extend(record.session.clone().map(|session| ("session", session)));
        rows.extend(record.revoked_at.map(|at| ("revoked", time(at))));
        rows.extend(record.revocation.map(|code| ("reason", word(&code))));
        if let Some(account) = &record.account {
            rows.push(("account", format!("{}, {}", account.upn, account.sid)));
            rows.push((
                "  says",
                match &account.source {
                    LogonSource::Directory { entry, asked_at } => {
                        format!("the directory, {entry}, asked {}", time(*asked_at))
                    }
                    LogonSource::Rules {} => "the rules".to_owned(),
                },
            ));
        }
        if let Some(key) = &record.card {
            rows.extend([
                ("card", format!("{}, firmware {}", key.card, key.firmware)),
                ("slot", key.slot.to_string()),
                ("PIN", key.pin_policy.to_string()),
                ("touch", key.touch_policy.to_string()),
            ]);
        }
        rows
    })?;
    Ok(())
}

fn row(record: &CertificateRecord) -> [String; 7] {
    [
        record.id.to_string(),
        word(&record.kind),
        record.issuer.clone(),
        record.serial.clone(),
        record.names.join(","),
        record.caller.clone(),
        match record.revoked_at {
            Some(_) => "revoked".to_owned(),
            None => time(record.not_after),
        },
    ]
}

fn name(authority: &Authority) -> &str {
    match authority {
        Authority::Raw { name, .. }
        | Authority::SshHost { name, .. }
        | Authority::SshUser { name, .. }
        | Authority::X509 { name, .. } => name,
    }
}

fn summary(authority: &Authority) -> [String; 3] {
    let (kind, key) = match authority {
        Authority::Raw { public_key, .. } => ("raw", algorithm(PublicKey::from_pem(public_key))),
        Authority::SshHost { public_key, .. } => {
            ("ssh_host", algorithm(PublicKey::from_openssh(public_key)))
        }
        Authority::SshUser { public_key, .. } => {
            ("ssh_user", algorithm(PublicKey::from_openssh(public_key)))
        }
        Authority::X509 { chain, .. } => ("x509", algorithm(certified_key(chain))),
    };
    [name(authority).to_owned(), kind.to_owned(), key]
}

/// The key of an authority's own certificate, the first of its chain.
fn certified_key(chain: &[String]) -> Result<PublicKey, String> {
    let own = chain.first().ok_or("no certificate")?;
    let own = Certificate::from_pem(own).map_err(|error| error.to_string())?;
    let spki = own.tbs_certificate().subject_public_key_info().to_der();
    let spki = spki.map_err(|error| error.to_string())?;
    PublicKey::from_spki_der(&spki).map_err(|error| error.to_string())
}

fn algorithm<E: std::fmt::Display>(key: Result<PublicKey, E>) -> String {
    key.map_or_else(|error| error.to_string(), |key| word(&key.algorithm()))
}

/// The authority in the form that was asked for: by itself the one that others configure.
fn form(authority: &Authority, it: &Ca) -> Result<String, Failure> {
    let text = match authority {
        Authority::X509 { chain, .. } if !it.ssh && it.known_hosts.is_empty() => {
            return Ok(chain.iter().map(|pem| format!("{}\n", pem.trim_end())).collect());
        }
        Authority::Raw { public_key, .. } if !it.ssh && it.known_hosts.is_empty() => public_key,
        Authority::SshHost { public_key, .. } if !it.pem => {
            let Some((first, more)) = it.known_hosts.split_first() else {
                return Ok(format!("{}\n", public_key.trim_end()));
            };
            let key = PublicKey::from_openssh(public_key).map_err(|error| {
                usage(&format!("the key of {}: {error}", name(authority)), "ask its operators")
            })?;
            return Ok(format!("{}\n", known_hosts_line(first, more, &key, "")));
        }
        Authority::SshUser { public_key, .. } if !it.pem && it.known_hosts.is_empty() => public_key,
        _ => {
            return Err(usage(
                &format!("{} has no such form", name(authority)),
                "--pem is for X.509 authorities and raw keys, --ssh for SSH authorities, \
                 --known-hosts for SSH host authorities",
            ));
        }
    };
    Ok(format!("{}\n", text.trim_end()))
}

/// The word that the API has for a value.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn usage(what: &str, hint: &str) -> Failure {
    Failure::Usage { what: what.to_owned(), hint: Some(hint.to_owned()) }
}

/// The longest page that the appliance gives.
const PAGE: u32 = 1_000;
