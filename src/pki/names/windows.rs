//! Names of Windows accounts and Kerberos realms.

use unicode_normalization::is_nfc;
use unicode_security::{GeneralSecurityProfile, MixedScript};

use crate::names::internet::{host_name, parse_decimal};

/// No KDC refuses a strange account name, so this must: what looks like another account's name is
/// no name (facts of Unicode TR 39: allowed characters, one script).
pub(super) fn upn(text: &str) -> Result<(), &'static str> {
    let Some((account, domain)) = text.split_once('@') else {
        return Err("it has the form account@domain");
    };
    if !(1..=64).contains(&account.chars().count()) {
        return Err("the account has 1 to 64 characters");
    }
    if account.starts_with(['.', ' ']) || account.ends_with(['.', ' ']) {
        return Err("the account neither begins nor ends with a dot or a space");
    }
    if !account.chars().all(in_account) {
        return Err("the account has only letters, digits and '.-_!#^~+ and space");
    }
    if !is_nfc(account) {
        return Err("the account must be in Unicode normalization form C");
    }
    if !account.is_single_script() {
        return Err("the account mixes scripts, so that it may look like another");
    }
    host_name(&domain.to_ascii_lowercase()).map_err(|_| "what follows the @ is a DNS domain")
}

fn in_account(c: char) -> bool {
    match c {
        '\0'..='\x7f' => c.is_ascii_alphanumeric() || "'.-_!#^~+ ".contains(c),
        _ => c.identifier_allowed(),
    }
}

pub(super) fn sid(text: &str) -> Result<(), &'static str> {
    const FORM: &str = "it has the form S-1-5-21-A-B-C-RID, of numbers below 4294967296";

    let mut parts =
        text.strip_prefix("S-1-5-21-").ok_or(FORM)?.split('-').map(parse_decimal::<u32>);
    let (Some(Some(_)), Some(Some(_)), Some(Some(_)), Some(Some(rid)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(FORM);
    };
    if rid < 1000 {
        return Err("its RID is below 1000: a built-in account or group gets no certificate");
    }
    Ok(())
}

pub(super) fn realm(text: &str) -> Result<(), &'static str> {
    if text.bytes().any(|c| c.is_ascii_lowercase()) {
        return Err("write it in upper case");
    }
    host_name(&text.to_ascii_lowercase()).map_err(|_| "it is an upper-case DNS name")
}

#[cfg(test)]
mod tests {
    use crate::names::{Realm, Sid, Upn, tests::check};

    #[test]
    fn user_principal_names() {
        let longest = format!("{}@example.com", "ä".repeat(64));
        check::<Upn>(
            &[
                "alice@example.com",
                "Alice.Smith@WIN.Example.com",
                "o'brien@corp.example",
                "robert smith@corp.example",
                "müller@example.com",
                "алиса@example.com",
                "山田@example.com",
                "a+b@corp",
                &longest,
            ],
            &[
                "",
                "alice",
                "@example.com",
                "alice@",
                "alice@b@example.com",
                "alice@@example.com",
                "alice@example.com\0",
                "alice\0@example.com",
                "alice\0.bob@example.com",
                "al\nice@example.com",
                " alice@example.com",
                "alice @example.com",
                ".alice@example.com",
                "alice.@example.com",
                "a/b@example.com",
                "a\\b@example.com",
                "a*@example.com",
                "a\"@example.com",
                "a,b@example.com",
                "a;b@example.com",
                "alice@*.example.com",
                "alice@-example.com",
                "alice@exämple.com",
                "alice@10.0.0.1",
                // Not NFC: u and a combining diaeresis.
                "mu\u{308}ller@example.com",
                // Cyrillic а before Latin letters.
                "\u{430}lice@example.com",
                // Zero-width space, right-to-left override, full-width a, no-break space, Kelvin.
                "al\u{200b}ice@example.com",
                "\u{202e}ecila@example.com",
                "\u{ff41}lice@example.com",
                "al\u{a0}ice@example.com",
                "\u{212a}ate@example.com",
                "al\u{85}ice@example.com",
                &format!("{}@example.com", "a".repeat(65)),
            ],
        );
        let upn: Upn = "Alice@WIN.Example.com".parse().unwrap();
        assert_eq!((upn.account(), upn.domain().as_str()), ("Alice", "win.example.com"));
    }

    #[test]
    fn sids() {
        check::<Sid>(
            &["S-1-5-21-1-2-3-1104", "S-1-5-21-0-0-0-1000", "S-1-5-21-4294967295-2-3-4294967295"],
            &[
                "",
                "S-1-5-21-1-2-3-500",
                "S-1-5-21-1-2-3-999",
                "S-1-5-21-1-2-3",
                "S-1-5-18",
                "S-1-5-21-1-2-3-1104-5",
                "S-1-5-32-544",
                "s-1-5-21-1-2-3-1104",
                "S-1-5-21-01-2-3-1104",
                "S-1-5-21-1-2-3-01104",
                "S-1-5-21-+1-2-3-1104",
                "S-1-5-21-4294967296-2-3-1104",
                "S-1-5-21-1--3-1104",
                "S-1-5-21-1-2-3-1104 ",
                "S-1-5-21-1-2-3-1104\0",
                "S-2-5-21-1-2-3-1104",
                "S-1-5-21-1-2-3-0x500",
            ],
        );
    }

    #[test]
    fn realms() {
        check::<Realm>(
            &["EXAMPLE.COM", "WIN.EXAMPLE.TEST", "EXAMPLE"],
            &["", "example.com", "Example.COM", "EXAMPLE..COM", "*.EXAMPLE", "A/B", "A@B", "A\0"],
        );
    }
}
