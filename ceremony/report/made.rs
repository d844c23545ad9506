//! What was made: keys with what was read back and attempted, certificates with their fingerprints.

use crate::{
    digest::Digest,
    paper::{Block, Line, Table},
    steps::{
        back_up_key::BackedUp,
        sign_certificate::{AuthorityKind, Certificate},
    },
    transcript::{Event, Outcome},
    verify::Verified,
};

/// Keys, as the token shows them.
pub(super) fn keys(verified: &Verified) -> Vec<Block> {
    let mut table =
        Table::new([("Key", 14), ("What it is", 42), ("Read back, and attempted in vain", 44)]);
    for record in &verified.transcript {
        let (made, copy) = match &record.event {
            Event::Outcome(Outcome::KeyBackedUp(BackedUp { made, copy })) => (made, Some(copy)),
            Event::Outcome(Outcome::KeyGenerated(made)) => (made, None),
            _ => continue,
        };
        let public_key = &made.key.public_key;
        let mut is = vec![
            Line::text(public_key.algorithm()),
            Line::code(format!("CKA_LABEL {}", made.key.label)),
            Line::code(format!("CKA_ID {}", made.key.id)),
            Line::text("public key, SHA-256"),
            Line::code(public_key.fingerprint()),
            Line::text(format!("record {}", record.seq)),
        ];
        is.extend(copy.map(|copy| Line::text(format!("with a copy in {}", copy.token))));
        let mut shown: Vec<Line> = made
            .attributes
            .iter()
            .map(|(name, value)| {
                Line::code(format!("{name} {}", if *value { "true" } else { "false" }))
            })
            .collect();
        let attempts = made.attempts.iter();
        shown.extend(attempts.map(|(what, code)| Line::text(format!("{what}: {code}"))));
        table.rows.push(vec![vec![Line::strong(&made.name)], is, shown]);
    }
    section("Keys", table)
}

/// Certificates, and SSH CAs.
pub(super) fn certificates(verified: &Verified) -> Vec<Block> {
    let mut table = Table::new([("Certificate", 16), ("What is in it", 84)]);
    let plan = &verified.progress.plan;
    for record in &verified.transcript {
        let Event::Outcome(Outcome::CertificateSigned(signed)) = &record.event else { continue };
        let mut lines = Vec::new();
        if let Some(planned) = plan.certificates().find(|planned| planned.name == signed.name) {
            lines.extend(planned_content(planned));
        }
        let certificate = pki::x509::Certificate::from_der(&signed.certificate);
        let serial = certificate.map(|it| hex::encode(it.serial())).unwrap_or_default();
        lines.extend([
            Line::code(format!("serial {serial}")),
            Line::text("certificate, SHA-256"),
            Line::code(Digest::of_file(&signed.certificate)),
            Line::text(format!("record {}", record.seq)),
        ]);
        table.rows.push(vec![vec![Line::strong(&signed.name)], lines]);
    }
    let mut blocks = section("Certificates", table);
    let mut table = Table::new([("SSH CA", 24), ("Certificates of", 20), ("Public key", 56)]);
    for (name, authority) in &plan.script().ssh {
        let key = verified.progress.made.key(&authority.key);
        let key = key.map(|key| key.public_key.to_openssh()).unwrap_or_default();
        table.rows.push(vec![
            vec![Line::strong(name)],
            vec![Line::text(format!("{:?}s", authority.usage).to_lowercase())],
            vec![Line::code(key)],
        ]);
    }
    blocks.extend(section("SSH CAs", table));
    blocks
}

fn planned_content(planned: &Certificate) -> Vec<Line> {
    let Certificate { subject, not_before, not_after, kind, .. } = planned;
    let signer = match kind {
        AuthorityKind::Cross { signer, .. } | AuthorityKind::Issuing { signer, .. } => {
            signer.as_str()
        }
        AuthorityKind::Root { .. } => "itself",
    };
    vec![
        Line::code(subject),
        Line::text(format!("signed by {signer}, valid from {not_before} to {not_after}")),
    ]
}

/// A table under a heading; nothing if nothing is in it.
fn section(title: &str, table: Table) -> Vec<Block> {
    if table.rows.is_empty() {
        return Vec::new();
    }
    vec![Block::Heading(title.to_owned()), Block::Table(table)]
}
