//! `chancery-card doctor`: would this certificate log on, and why not?

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use api::{DirectoryAnswer, ListQuery};
use card::{
    Slot,
    doctor::{Asked, Evidence, Finding, Verdict, commands, judge, verdict},
    enrolment::read_certificate,
};
use client::{Client, output::Output, public::fetch};
use pki::{
    clock::{Clock, SystemClock},
    names::{Sid, Upn},
    seal::Kind,
    x509::{
        certificate::CertificateError, list::RevocationList, logon::LogonCertificate,
        read_certificates,
    },
};
use serde::Serialize;

use super::{arguments::doctor::Doctor, choice::Chosen, failure::Failure};

/// What the doctor says.
#[derive(Serialize)]
struct Report {
    verdict: Verdict,
    findings: Vec<Finding>,
    /// What the account may say to name the certificate strongly.
    alt_security_identities: Vec<String>,
    /// What an administrator of the directory runs to have it log on.
    commands: Vec<String>,
}

pub(super) async fn run(it: &Doctor, output: &mut Output) -> Result<(), Failure> {
    let client = if it.offline { None } else { it.connection.client().ok() };
    let certificate = the_certificate(it, client.as_ref()).await?;
    let mut evidence = Evidence {
        between: read_all(&it.chain)?,
        roots: None,
        list: Asked::Not("run it without --offline"),
        nt_auth: Asked::Not("export it, and name it with --ntauth FILE: see --help"),
        upn: it.what.parse().ok(),
        sid: Asked::Not("compare it with `Get-ADUser`, or name that of the account with --sid"),
        now: SystemClock.now(),
        certificate,
    };
    if !it.root.is_empty() {
        evidence.roots = Some(read_all(&it.root)?);
    } else if let Ok(settings) =
        it.connection.profile_file().and_then(|file| it.connection.clone().settings(&file))
    {
        evidence.roots = Some(read_all(&[settings.ca])?);
    }
    if !it.ntauth.is_empty() {
        evidence.nt_auth = Asked::Found(read_all(&it.ntauth)?);
    }
    if let Some(sid) = &it.sid {
        evidence.sid = Asked::Found(Ok(sid.clone()));
    } else if let (Some(client), [upn]) = (&client, evidence.certificate.upns.as_slice())
        && let Ok(upn) = upn.parse()
    {
        evidence.sid = sid_of(client, &upn).await;
    }
    if let Some(client) = &client {
        evidence.between.extend(authorities(client).await?);
    }
    if !it.offline {
        evidence.list = list(it, &evidence.certificate).await;
    }
    let findings = judge(&evidence);
    let report = Report {
        verdict: verdict(&findings),
        alt_security_identities: evidence.certificate.strong_mappings(),
        commands: commands(&evidence),
        findings,
    };
    show(&report, output)?;
    match report.verdict {
        Verdict::Good | Verdict::NotAsked => Ok(()),
        Verdict::Doubtful | Verdict::Bad => Err(Failure::WouldNotLogOn { verdict: report.verdict }),
    }
}

/// Out of a file, off a card, or the latest one that the appliance issued to an account.
async fn the_certificate(
    it: &Doctor,
    client: Option<&Client>,
) -> Result<LogonCertificate, Failure> {
    if let Ok(slot) = it.what.parse::<Slot>() {
        let der = Chosen::find(&it.card)?.with(|card| Ok(read_certificate(card, slot)?))?;
        let der = der.ok_or(Failure::NoCertificate { what: it.what.clone() })?;
        return LogonCertificate::from_der(&der)
            .map_err(|source| Failure::Certificate { path: it.what.clone().into(), source });
    }
    let path = Path::new(&it.what);
    match (it.what.parse::<Upn>(), client) {
        (Ok(upn), Some(client)) if !path.exists() => latest(client, &upn).await,
        (Ok(_), None) if !path.exists() => Err(Failure::NoRoad { what: it.what.clone() }),
        _ => {
            let all = read_all(&[path.to_owned()])?;
            let none = || Failure::NoCertificate { what: it.what.clone() };
            all.into_iter().next().ok_or_else(none)
        }
    }
}

/// The certificate that was issued last to an account, as the ledger has it.
async fn latest(client: &Client, upn: &Upn) -> Result<LogonCertificate, Failure> {
    let name = format!("UPN:{upn}");
    let mut query = ListQuery { kind: Some(Kind::SmartcardLogon), ..ListQuery::default() };
    let mut found = None;
    loop {
        let page = client.certificates(&query).await?;
        let mut mine = page.certificates.into_iter().filter(|it| it.names.contains(&name));
        found = mine.next_back().or(found);
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    let record = found.ok_or(Failure::NoCertificate { what: upn.to_string() })?;
    LogonCertificate::from_pem(&record.certificate)
        .map_err(|source| Failure::Certificate { path: upn.to_string().into(), source })
}

/// The SID that the appliance's directory has for an account, or that its rules pin.
async fn sid_of(client: &Client, upn: &Upn) -> Asked<Result<Sid, String>> {
    let Ok(report) = client.account(upn).await else {
        return Asked::Not("the appliance does not tell you: ask an operator, or use --sid");
    };
    let none = |why: &str| Asked::Found(Err(why.to_owned()));
    match report.directory {
        DirectoryAnswer::Found { enabled: false, .. } => none("the account is disabled"),
        DirectoryAnswer::Found { sid, .. } => Asked::Found(Ok(sid)),
        DirectoryAnswer::Ambiguous { .. } => none("several accounts have the name"),
        DirectoryAnswer::Nobody { .. } => none("no account has the name"),
        DirectoryAnswer::Unfit { detail, .. } => none(&detail),
        DirectoryAnswer::Unavailable { .. } => {
            Asked::Not("the appliance cannot ask its directory now: try again, or use --sid")
        }
        DirectoryAnswer::NotConfigured {} => match report.pinned {
            Some(pinned) => Asked::Found(Ok(pinned.sid)),
            None => Asked::Not("the appliance has no directory: name the account's SID with --sid"),
        },
    }
}

/// The CAs of the appliance, and those above them; the root is there only if somebody trusts it.
async fn authorities(client: &Client) -> Result<Vec<LogonCertificate>, Failure> {
    let mut all = Vec::new();
    for authority in client.authorities().await?.authorities {
        if let api::Authority::X509 { chain, .. } = authority {
            all.extend(chain.iter().filter_map(|pem| LogonCertificate::from_pem(pem).ok()));
        }
    }
    Ok(all)
}

/// The list, from where the certificate says that it is, or from where it was told to.
async fn list(
    it: &Doctor,
    certificate: &LogonCertificate,
) -> Asked<Result<RevocationList, String>> {
    let named = certificate.crl_urls.iter().find(|url| url.starts_with("http://"));
    let Some(url) = it.crl.as_ref().or(named) else {
        return Asked::Not("there is nothing to be asked for");
    };
    let fetched = fetch(url, RevocationList::MAX_LEN, PATIENCE).await;
    Asked::Found(fetched.map_err(|why| format!("{url}: {why}")).and_then(|bytes| {
        RevocationList::from_der(&bytes).map_err(|error| format!("{url} is no list: {error}"))
    }))
}

/// All certificates of files: PEM, one or several in each, DER, or LDIF of the directory.
fn read_all(paths: &[PathBuf]) -> Result<Vec<LogonCertificate>, Failure> {
    let mut all = Vec::new();
    for path in paths {
        let read = |source| Failure::Read { path: path.clone(), source };
        let bytes = fs::read(path).map_err(read)?;
        let found = read_certificates(&bytes)
            .map_err(|what| read(io::Error::new(io::ErrorKind::InvalidData, what)))?;
        let certificates = found.iter().map(|der| LogonCertificate::from_der(der));
        let bad = |source: CertificateError| Failure::Certificate { path: path.clone(), source };
        all.extend(certificates.collect::<Result<Vec<_>, _>>().map_err(bad)?);
    }
    Ok(all)
}

fn show(report: &Report, output: &mut Output) -> Result<(), Failure> {
    if output.is_json() {
        output.line(report)?;
        return Ok(());
    }
    let word = |verdict| match verdict {
        Verdict::Good => "good",
        Verdict::NotAsked => "not asked",
        Verdict::Doubtful => "DOUBTFUL",
        Verdict::Bad => "BAD",
    };
    let mut rows = Vec::new();
    for Finding { what, verdict, says, hint } in &report.findings {
        rows.push([(*what).to_owned(), word(*verdict).to_owned(), says.clone()]);
        if let Some(hint) = hint {
            rows.push([String::new(), String::new(), format!("→ {hint}")]);
        }
    }
    output.table(None, &rows)?;
    output.text("\naltSecurityIdentities of the account, each of which names it strongly:\n")?;
    for mapping in &report.alt_security_identities {
        output.text(&format!("  {mapping}\n"))?;
    }
    output.text("\nIn PowerShell, an administrator of the directory runs what is needed of:\n")?;
    for command in &report.commands {
        output.text(&format!("  {command}\n"))?;
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(15);
