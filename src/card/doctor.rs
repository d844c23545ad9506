//! Would this certificate log on to Windows, and why not? Everything that decides is brought as
//! evidence; the judgement is pure. What a KDC does not look at and should is judged, too.

mod rules;

use jiff::Timestamp;
use pki::{
    names::{Sid, Upn},
    x509::{list::RevocationList, logon::LogonCertificate},
};
use serde::Serialize;

/// All that is known about a certificate and its surroundings.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The certificate.
    pub certificate: LogonCertificate,
    /// CAs that may stand between it and a root; its issuer must be among them, or a root.
    pub between: Vec<LogonCertificate>,
    /// Roots that workstations and domain controllers trust; `None` when nobody said.
    pub roots: Option<Vec<LogonCertificate>>,
    /// Its revocation list.
    pub list: Asked<Result<RevocationList, String>>,
    /// The certificates in NTAuthCertificates.
    pub nt_auth: Asked<Vec<LogonCertificate>>,
    /// The account that it is to be for.
    pub upn: Option<Upn>,
    /// The SID that the directory has for the account.
    pub sid: Asked<Result<Sid, String>>,
    /// Now.
    pub now: Timestamp,
}

/// Something that may not have been looked at.
#[derive(Clone, Debug)]
pub enum Asked<T> {
    /// What was found.
    Found(T),
    /// Why it was not looked at, and how it would be.
    Not(&'static str),
}

/// What is to be said of one thing that decides.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub what: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// In words.
    pub says: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// How something stands, the worst last.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it must be.
    Good,
    /// It was not looked at.
    NotAsked,
    /// Some let it in and some do not.
    Doubtful,
    /// It does not log on.
    Bad,
}

/// All findings, in the order in which a KDC would come upon them.
pub fn judge(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = vec![
        rules::times(evidence),
        rules::key(evidence),
        rules::form(evidence),
        rules::key_usage(evidence),
        rules::purposes(evidence),
        rules::upn(evidence),
        rules::sid(evidence),
    ];
    findings.extend(rules::path(evidence));
    findings.push(rules::list(evidence));
    findings.push(rules::nt_auth(evidence));
    findings.push(rules::cache(evidence));
    findings
}

/// The worst of all.
pub fn verdict(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Bad)
}

/// The issuer's certificate, if it is there: by name and signature.
pub fn issuer<'a>(evidence: &'a Evidence, of: &LogonCertificate) -> Option<&'a LogonCertificate> {
    let roots = evidence.roots.iter().flatten();
    evidence.between.iter().chain(roots).find(|candidate| of.is_issued_by(candidate))
}

/// What an administrator of Active Directory runs, in PowerShell, to have this certificate log on:
/// the strong mappings of the account, and the CA in the directory.
pub fn commands(evidence: &Evidence) -> Vec<String> {
    let mut commands = Vec::new();
    let [upn] = evidence.certificate.upns.as_slice() else { return commands };
    // Only what is a UPN goes into a command.
    let Ok(upn) = upn.parse::<Upn>() else { return commands };
    let quoted = |text: &str| text.replace('\'', "''");
    let account =
        format!("Get-ADUser -Filter \"UserPrincipalName -eq '{}'\"", quoted(&upn.to_string()),);
    for mapping in evidence.certificate.strong_mappings() {
        commands.push(format!(
            "{account} | Set-ADUser -Add @{{altSecurityIdentities='{}'}}",
            quoted(&mapping)
        ));
    }
    commands.push("certutil -dspublish -f issuing.cer NTAuthCA".to_owned());
    commands.push("certutil -dspublish -f root.cer RootCA".to_owned());
    commands
}

#[cfg(test)]
mod tests;
