//! One function for each thing that decides. The sources are Microsoft's requirements for smart-card
//! certificates, MS-PKCA, KB5014754, and what MIT Kerberos and Samba were seen to do.

use jiff::SignedDuration;
use pki::{keys::KeyAlgorithm, names::Upn, x509::logon::LogonCertificate};

use super::{Asked, Evidence, Finding, Verdict, issuer};

pub(super) fn times(it: &Evidence) -> Finding {
    let (from, until) = (it.certificate.not_before, it.certificate.not_after);
    if it.now < from {
        let hint = "compare the clocks: a KDC allows no second";
        return bad("validity", format!("it is valid only from {from} on"), hint);
    }
    if it.now > until {
        let hint = "`chancery-card renew` gets a new one";
        return bad("validity", format!("it expired at {until}"), hint);
    }
    good("validity", format!("until {until}"))
}

pub(super) fn key(it: &Evidence) -> Finding {
    match &it.certificate.key {
        Err(error) => {
            bad("key", error.to_string(), "enrol with --key rsa2048, which every KDC takes")
        }
        Ok(key) => match key.algorithm() {
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                good("key", key.algorithm().to_string())
            }
            KeyAlgorithm::Ed25519 => {
                bad("key", "ed25519: no KDC takes it".to_owned(), "enrol with --key rsa2048")
            }
            algorithm => doubtful(
                "key",
                format!("{algorithm}: Windows lists it only with the policy for ECC certificates"),
                "set `Allow ECC certificates to be used for logon and authentication`, or enrol with \
                 --key rsa2048; Samba takes RSA alone",
            ),
        },
    }
}

pub(super) fn form(it: &Evidence) -> Finding {
    if it.certificate.authority {
        let hint = "enrol anew: a CA's certificate is nobody's to log on with";
        return bad("form", "it is a CA's".to_owned(), hint);
    }
    if !it.certificate.unknown_critical.is_empty() {
        return bad(
            "form",
            format!(
                "it has critical extensions that are not known: {}",
                it.certificate.unknown_critical.join(", ")
            ),
            "have it issued without them, or not critical",
        );
    }
    good("form", "no CA's, and nothing critical that is not known".to_owned())
}

pub(super) fn key_usage(it: &Evidence) -> Finding {
    let what = "key usage";
    match it.certificate.digital_signature {
        Some(true) => good(what, "digitalSignature".to_owned()),
        Some(false) => bad(what, "no digitalSignature".to_owned(), "have it issued with it"),
        None => doubtful(
            what,
            "none: Windows takes it, MIT Kerberos and Samba do not".to_owned(),
            "have it issued with digitalSignature",
        ),
    }
}

pub(super) fn purposes(it: &Evidence) -> Finding {
    let what = "extended key usage";
    let Some(purposes) = &it.certificate.purposes else {
        return bad(
            what,
            "none: Windows lists it only with a policy".to_owned(),
            "have it issued for smart-card logon (1.3.6.1.4.1.311.20.2.2) and client \
             authentication (1.3.6.1.5.5.7.3.2)",
        );
    };
    let has = |purpose: &str| purposes.iter().any(|it| it == purpose);
    if has(PKINIT_KDC) {
        let hint = "have it revoked: whoever has it can pose as a domain controller";
        return bad(what, "it is for KDCs".to_owned(), hint);
    }
    match (has(SMARTCARD_LOGON), has(CLIENT_AUTH)) {
        (true, true) => good(what, "smart-card logon, client authentication".to_owned()),
        (true, false) => doubtful(
            what,
            "smart-card logon, but not client authentication".to_owned(),
            "have it issued with 1.3.6.1.5.5.7.3.2, too: what asks by TLS asks for it",
        ),
        (false, _) => bad(
            what,
            "not for smart-card logon: Windows does not list it".to_owned(),
            "have it issued with 1.3.6.1.4.1.311.20.2.2",
        ),
    }
}

pub(super) fn upn(it: &Evidence) -> Finding {
    let what = "account";
    if it.certificate.kerberos_name {
        let hint = "have it revoked: a KDC lets it in as that principal, whatever the UPN says";
        return bad(what, "it names a Kerberos principal".to_owned(), hint);
    }
    let only = match it.certificate.upns.as_slice() {
        [] => {
            let hint = "have it issued with one, or map it by altSecurityIdentities";
            return bad(what, "it names no account (UPN)".to_owned(), hint);
        }
        [only] => only,
        several => {
            let says = format!("it names {} accounts: {}", several.len(), several.join(", "));
            return bad(what, says, "have it revoked, and issued with one");
        }
    };
    match (only.parse::<Upn>(), &it.upn) {
        (Err(error), _) => {
            bad(what, format!("{only:?}: {error}"), "have it issued for account@domain")
        }
        (Ok(upn), Some(wanted)) if upn != *wanted => {
            bad(what, format!("it is {upn}, not {wanted}"), "take the card of that account")
        }
        (Ok(upn), _) => good(what, upn.to_string()),
    }
}

pub(super) fn sid(it: &Evidence) -> Finding {
    let what = "SID";
    if it.certificate.sid_malformed {
        let hint = "have it issued anew: domain controllers refuse what they cannot read there";
        return bad(what, "its extension for the SID cannot be read".to_owned(), hint);
    }
    let Some(sid) = &it.certificate.sid else {
        return doubtful(
            what,
            "none: domain controllers refuse it (event 39) unless the account names it".to_owned(),
            "have it issued with the SID, or write one of the strong mappings to the account",
        );
    };
    match &it.sid {
        Asked::Not(why) => not_asked(what, format!("{sid}, not compared with the directory"), why),
        Asked::Found(Err(why)) => {
            bad(what, format!("{sid}; the directory: {why}"), "look for the account there")
        }
        Asked::Found(Ok(known)) if known.as_str() == sid => {
            good(what, format!("{sid}, as the directory has it"))
        }
        Asked::Found(Ok(known)) => bad(
            what,
            format!("{sid}, but the account has {known}: it is refused (event 41)"),
            "enrol anew: the account was made anew since, or is another one",
        ),
    }
}

/// The way to a root.
pub(super) fn path(it: &Evidence) -> Vec<Finding> {
    let what = "chain";
    if it.between.is_empty() && it.roots.is_none() {
        let how = "name the CAs with --chain and the root with --root, or a profile";
        return vec![not_asked(what, "it was not followed".to_owned(), how)];
    }
    let mut at = &it.certificate;
    let mut names = Vec::new();
    let mut findings = Vec::new();
    // A root is issued by itself; no chain is as long as this.
    for _ in 0..8 {
        let Some(next) = issuer(it, at) else {
            let says =
                format!("nobody is known who issued {:?}: {:?}", at.subject_text, at.issuer_text);
            return vec![bad(what, says, "name all CAs with --chain, and the root with --root")];
        };
        if it.now < next.not_before || it.now > next.not_after {
            let says = format!(
                "the CA {:?} is valid from {} until {}",
                next.subject_text, next.not_before, next.not_after
            );
            return vec![bad(what, says, "have the CA renewed, and the certificate issued anew")];
        }
        if names.is_empty() {
            findings.extend(issuing(at, next));
        }
        names.push(next.subject_text.clone());
        let roots = it.roots.as_deref().unwrap_or_default();
        if roots.iter().any(|root| root.der() == next.der()) {
            findings.insert(0, good(what, names.join(" ← ")));
            return findings;
        }
        if next.subject == next.issuer {
            break;
        }
        at = next;
    }
    let says = format!("{} is no root that is trusted", names.last().map_or("", String::as_str));
    vec![match it.roots {
        None => not_asked(what, says, "name the root with --root, or a profile"),
        Some(_) => bad(what, says, "publish the root: certutil -dspublish -f root.cer RootCA"),
    }]
}

/// What some KDCs do not take of an issuer.
fn issuing(certificate: &LogonCertificate, issuer: &LogonCertificate) -> Option<Finding> {
    let what = "issuer";
    let rsa = issuer.key.as_ref().is_ok_and(|key| {
        matches!(
            key.algorithm(),
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096
        )
    });
    let (named, has) = (&certificate.authority_key_identifier, &issuer.subject_key_identifier);
    match (rsa, named) {
        (_, Some(named)) if has.as_ref().is_some_and(|has| has != named) => Some(doubtful(
            what,
            "it names another key of its issuer than the issuer's certificate has".to_owned(),
            "publish the issuer's certificate that goes with its key",
        )),
        (false, _) => Some(doubtful(
            what,
            "the CA's key is not RSA: Samba refuses what it signs".to_owned(),
            "take a CA with an RSA key for logons",
        )),
        (true, _) => None,
    }
}

pub(super) fn list(it: &Evidence) -> Finding {
    let what = "revocation list";
    let urls = &it.certificate.crl_urls;
    if !urls.iter().any(|url| url.starts_with("http://")) {
        let says = if urls.is_empty() {
            "it says nowhere where the list is".to_owned()
        } else {
            format!("the list is not at a plain HTTP address: {}", urls.join(", "))
        };
        return bad(what, says, "have it issued with an http:// distribution point");
    }
    let list = match &it.list {
        Asked::Not(why) => return not_asked(what, urls.join(", "), why),
        Asked::Found(Err(why)) => {
            let hint =
                "domain controllers and workstations must reach it: without it nobody logs on";
            return bad(what, why.clone(), hint);
        }
        Asked::Found(Ok(list)) => list,
    };
    match issuer(it, &it.certificate) {
        None => {
            let how = "name the issuing CA with --chain, or a profile";
            return not_asked(what, "there, but not verified".to_owned(), how);
        }
        Some(issuer) if !list.is_issued_by(issuer) => {
            let hint = "publish the list of the CA that issued the certificate";
            return bad(what, format!("it is not signed by {}", issuer.subject_text), hint);
        }
        Some(_) => {}
    }
    if let Some(since) = list.revoked_since(&it.certificate) {
        return bad(what, format!("the certificate is revoked since {since}"), "enrol anew");
    }
    if !list.critical.is_empty() {
        let says = format!("it has critical extensions ({})", list.critical.join(", "));
        return bad(what, says, "publish complete lists without them: Samba refuses these");
    }
    let Some(next) = list.next_update else {
        return bad(what, "it does not say when the next one comes".to_owned(), "publish it so");
    };
    if it.now > next {
        let hint = "publish a new one: with an old one nobody at all logs on";
        return bad(what, format!("it is stale since {next}"), hint);
    }
    // A list that ends soon and was not replaced yet is late.
    let (left, whole) = (next.duration_since(it.now), next.duration_since(list.this_update));
    if left < whole / 10 && left < SignedDuration::from_hours(24) {
        let hint = "see that the next one is published: with an old one nobody at all logs on";
        return doubtful(what, format!("it ends soon, at {next}, and there is no new one"), hint);
    }
    good(what, format!("of {}, until {next}; {} are on it", list.this_update, list.len()))
}

pub(super) fn nt_auth(it: &Evidence) -> Finding {
    let what = "NTAuth";
    let known = match &it.nt_auth {
        Asked::Not(why) => return not_asked(what, "not looked at".to_owned(), why),
        Asked::Found(known) => known,
    };
    let Some(issuer) = issuer(it, &it.certificate) else {
        let how = "name the issuing CA with --chain, or a profile";
        return not_asked(what, "whose CA it is was not followed".to_owned(), how);
    };
    if known.iter().any(|it| it.der() == issuer.der()) {
        return good(what, format!("{} is in it", issuer.subject_text));
    }
    bad(
        what,
        format!("{} is not among the {} in it", issuer.subject_text, known.len()),
        "certutil -dspublish -f issuing.cer NTAuthCA",
    )
}

/// Windows finds what it remembers for a logon without network by subject or key identifier.
pub(super) fn cache(it: &Evidence) -> Finding {
    let what = "cached logon";
    if it.certificate.subject_key_identifier.is_some() {
        return good(what, "it has a key identifier".to_owned());
    }
    doubtful(
        what,
        "it has no key identifier: <SKI> cannot name it".to_owned(),
        "have it issued with one",
    )
}

fn good(what: &'static str, says: String) -> Finding {
    Finding { what, verdict: Verdict::Good, says, hint: None }
}

fn not_asked(what: &'static str, says: String, how: &str) -> Finding {
    Finding { what, verdict: Verdict::NotAsked, says, hint: Some(how.to_owned()) }
}

fn doubtful(what: &'static str, says: String, hint: &str) -> Finding {
    Finding { what, verdict: Verdict::Doubtful, says, hint: Some(hint.to_owned()) }
}

fn bad(what: &'static str, says: String, hint: &str) -> Finding {
    Finding { what, verdict: Verdict::Bad, says, hint: Some(hint.to_owned()) }
}

const SMARTCARD_LOGON: &str = "1.3.6.1.4.1.311.20.2.2";
const CLIENT_AUTH: &str = "1.3.6.1.5.5.7.3.2";
const PKINIT_KDC: &str = "1.3.6.1.5.2.3.5";
