//! `chancery directory`: what is known of the accounts of smart cards.

use std::process::ExitCode;

use api::{AccountReport, AccountRole, AccountWhose, DirectoryAnswer};
use client::Client;

use super::{
    arguments::directory::Check,
    failure::{Failure, REFUSED},
    output::{Output, complain, time},
};

pub(super) async fn check(
    client: &Client,
    it: &Check,
    output: &mut Output,
) -> Result<ExitCode, Failure> {
    let report = client.account(&it.upn).await?;
    let complaint = complaint(&report);
    if output.is_json() {
        output.line(&report)?;
    } else {
        output.rows(&rows(&report))?;
        let roles: Vec<_> = report.roles.iter().map(row).collect();
        if !roles.is_empty() {
            output.text("\n")?;
            output.table(Some(["ROLE", "GIVES THE CARD TO", "OR NOT, SINCE"]), &roles)?;
        }
    }
    match complaint {
        Some((what, hint)) => {
            complain(&what, Some(&hint));
            Ok(ExitCode::from(REFUSED))
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

fn rows(report: &AccountReport) -> Vec<(&'static str, String)> {
    let mut rows = vec![("account", report.upn.to_string())];
    rows.push(("directory", said(&report.directory)));
    if let DirectoryAnswer::Found { upn, sid, name, enabled, groups, protected_by, asked_at } =
        &report.directory
    {
        rows.extend([
            ("UPN", upn.to_string()),
            ("SID", sid.to_string()),
            ("name", name.clone()),
            ("enabled", if *enabled { "yes" } else { "no" }.to_owned()),
            ("groups", groups.join(" ")),
            ("protected by", protected_by.join(" ")),
            ("asked", time(*asked_at)),
        ]);
    }
    let pinned = report.pinned.as_ref();
    rows.push(("pinned", pinned.map_or("no".to_owned(), |it| format!("{} {}", it.upn, it.sid))));
    rows.extend(report.agree.map(|agree| ("agree", if agree { "yes" } else { "NO" }.to_owned())));
    rows
}

fn said(answer: &DirectoryAnswer) -> String {
    match answer {
        DirectoryAnswer::Ambiguous { .. } => "more than one account is called so".to_owned(),
        DirectoryAnswer::Found { .. } => "has the account".to_owned(),
        DirectoryAnswer::Nobody { .. } => "no account is called so".to_owned(),
        DirectoryAnswer::NotConfigured {} => "the appliance has none".to_owned(),
        DirectoryAnswer::Unavailable { reason, detail } => format!("{detail} ({reason})"),
        DirectoryAnswer::Unfit { detail, .. } => format!("no card for the account: {detail}"),
    }
}

fn row(role: &AccountRole) -> [String; 3] {
    let whose = match role.whose {
        AccountWhose::Others => "those who enrol for others",
        AccountWhose::Own => "its owner",
    };
    let denied = role.denied.as_ref().map(|it| format!("{}: {}", it.reason, it.detail));
    [role.role.clone(), whose.to_owned(), denied.unwrap_or_default()]
}

/// What is wrong, and what to do about it.
fn complaint(report: &AccountReport) -> Option<(String, String)> {
    if report.agree == Some(false) {
        let what = format!("directory and rules disagree about the SID of {}", report.upn);
        let hint = "find out which is right: the account may have been made anew; then mend \
                    [[account]] in the rules, or remove it";
        return Some((what, hint.to_owned()));
    }
    if report.roles.iter().any(|role| role.denied.is_none()) {
        return None;
    }
    let what = format!("no role gives a card of {}", report.upn);
    let hint = match report.roles.iter().find_map(|role| role.denied.as_ref()) {
        Some(denied) => denied.hint.clone(),
        None => "no [role.smartcard_logon] in the rules has such a name in its upns".to_owned(),
    };
    Some((what, hint))
}
