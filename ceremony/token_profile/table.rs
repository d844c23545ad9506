//! A profile as people read it.

use std::{collections::BTreeMap, fmt};

use pki::token::pkcs11::{AttributeProfile, KeyProfile, Said, SessionLimit};

use super::ProfileFile;

impl fmt::Display for ProfileFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let profile = &self.profile;
        let token = &profile.token;
        writeln!(f, "{}", token.identity)?;
        writeln!(
            f,
            "{} {}, PKCS#11 {}, hardware {}, firmware {}",
            token.library,
            token.library_version,
            token.pkcs11_version,
            token.hardware_version,
            token.firmware_version
        )?;
        let (least, most) = token.pin_length;
        let most = if most == 0 { "any length".to_owned() } else { most.to_string() };
        writeln!(f, "PINs of {least} to {most} bytes, it says")?;
        let says = match token.session_limit {
            SessionLimit::AtMost(count) => format!("at most {count}"),
            SessionLimit::Unlimited => "any number".to_owned(),
            SessionLimit::Untold => "nothing".to_owned(),
        };
        writeln!(f, "{} of 64 sessions were open at once; it says {says}", profile.sessions)?;
        writeln!(f, "\nKEYS")?;
        for (algorithm, key) in &profile.keys {
            writeln!(f, "  {:<10} {}", algorithm.to_string(), told(key))?;
        }
        writeln!(f, "\nATTRIBUTES of a private key")?;
        let head = ["made true", "made false", "set true", "set false"];
        writeln!(f, "  {:<22} {}", "", row(head.map(str::to_owned)))?;
        for (name, attribute) in &profile.attributes {
            let AttributeProfile { made_true, made_false, set_true, set_false } = attribute;
            let cells = [made_true, made_false, set_true, set_false].map(short);
            writeln!(f, "  {name:<22} {}", row(cells))?;
        }
        writeln!(f, "\nTHE TOKEN")?;
        for (trial, said) in &profile.trials {
            writeln!(f, "  {:<52} {said}", trial.to_string())?;
        }
        let (wrong, right) = &profile.flags_after_wrong_pin;
        writeln!(f, "\nflags after a wrong PIN: {}", wrong.join(", "))?;
        writeln!(f, "and after the right one:  {}", right.join(", "))?;
        write!(f, "\nMECHANISMS\n ")?;
        token.mechanisms.iter().try_for_each(|mechanism| write!(f, " {}", mechanism.name))
    }
}

/// A kind of key in a line.
fn told(key: &KeyProfile) -> String {
    let mut text = key.made.to_string();
    let misused = |(what, said): (&String, &Said)| (*said == Said::Done).then(|| what.clone());
    let misused: Vec<String> = key.misuse.iter().filter_map(misused).collect();
    if !misused.is_empty() {
        text += &format!("; lets everybody {}", misused.join(", "));
    }
    if matches!(key.destroyed, Said::Refused(_)) {
        text += &format!("; destroyed: {}", key.destroyed);
    }
    let chosen = by_default(&key.defaults);
    if !chosen.is_empty() {
        text += &format!("; by default {chosen}");
    }
    text
}

/// What a template must say, because the module chooses badly where it does not.
fn by_default(defaults: &BTreeMap<String, bool>) -> String {
    let bad = [
        ("CKA_DECRYPT", true),
        ("CKA_DERIVE", true),
        ("CKA_EXTRACTABLE", true),
        ("CKA_MODIFIABLE", true),
        ("CKA_SENSITIVE", false),
        ("CKA_UNWRAP", true),
    ];
    let chosen = bad.iter().filter(|(name, value)| defaults.get(*name) == Some(value));
    let chosen: Vec<String> = chosen.map(|(name, value)| format!("{name}={value}")).collect();
    chosen.join(", ")
}

fn row(cells: [String; 4]) -> String {
    let cells = cells.map(|cell| format!("{cell:<30}"));
    cells.concat().trim_end().to_owned()
}

/// In a cell.
fn short(said: &Said) -> String {
    match said {
        Said::Done => "yes".to_owned(),
        Said::Ignored => "ignored".to_owned(),
        Said::Refused(code) => code.trim_start_matches("CKR_").to_owned(),
        Said::Untried(_) => "-".to_owned(),
    }
}
