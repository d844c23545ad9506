//! `README.txt` of a bundle: what is in it, and what an auditor types to see for themselves.

use super::Files;
use crate::{
    plan::{AuthorityKind, Certificate},
    verify::Verified,
    words::spoken,
};

/// The text, with commands that can be typed as they stand.
pub(super) fn readme(verified: &Verified, files: &Files) -> String {
    let plan = &verified.progress.plan;
    let (id, hash, head) = (&plan.script().id, plan.hash(), verified.head);
    let ended = verified.transcript.last().map(|record| format!("{:.0}", record.time));
    let mut text = format!(
        "EVIDENCE OF THE KEY CEREMONY {id}\n\n\
         It ended at {ended}. The plan has the hash\n  {hash}\n  {}\n\
         and the transcript the head\n  {head}\n  {}\n\
         Compare the head, or its words, with what was written down in the room: against a bundle that\n\
         was written anew by somebody who had the keys, nothing else helps.\n\n",
        spoken(hash),
        spoken(head),
        ended = ended.unwrap_or_default(),
    );
    text += CONTENTS;
    text += "\nTO SEE FOR YOURSELF, in the directory that `tar xf` makes of the bundle:\n\n";
    text += "All of it, by a program that is short enough to be read (Python 3.11, ssh-keygen, openssl):\n\n  \
             python3 verify.py ../BUNDLE\n\nThe files are those that were put in:\n\n  \
             sha256sum --check SHA256SUMS\n\n";
    text += &format!(
        "The plan has the hash {}… that was approved:\n\n  \
         (printf 'chancery-ceremony-plan-v1\\0'; cat plan.json) | sha256sum\n\n",
        &hash.to_string()[..16]
    );
    text += &people(files);
    text += "Each certificate is signed by the one above it, and says what was to be signed:\n\n";
    plan.certificates()
        .for_each(|certificate| text += &certificate_commands(verified, certificate));
    text += KEEPING;
    text
}

fn people(files: &Files) -> String {
    let mut text = String::new();
    let mut verify = |name: &str, signature: &str, signed: &str| {
        text += &format!(
            "  ssh-keygen -Y verify -f people/allowed_signers -I {name} -n chancery-ceremony \\\n    \
             -s {signature} < {signed}\n"
        );
    };
    for file in files.keys().filter_map(|name| name.strip_prefix("people/")) {
        if let Some(name) = file.strip_suffix(".approval") {
            verify(name, &format!("people/{file}"), "people/approval.txt");
        }
        if let Some(name) = file.strip_suffix(".sign-off") {
            verify(name, &format!("people/{file}"), &format!("people/{file}.txt"));
        }
    }
    if text.is_empty() { text } else { format!("The people approved and signed:\n\n{text}\n") }
}

fn certificate_commands(verified: &Verified, certificate: &Certificate) -> String {
    let plan = &verified.progress.plan;
    let (mut root, mut between) = (certificate, String::new());
    while let Some(above) = plan.signer(root) {
        root = above;
        if matches!(root.kind, AuthorityKind::Issuing { .. }) {
            between += &format!(" -untrusted certificates/{}.pem", root.name);
        }
    }
    let (name, root) = (&certificate.name, &root.name);
    let time = certificate.not_before.as_second();
    format!(
        "  openssl verify -x509_strict -check_ss_sig -attime {time} \\\n    \
         -trusted certificates/{root}.pem{between} certificates/{name}.pem\n  \
         openssl asn1parse -inform DER -in certificates/{name}.der -strparse 4 -noout \\\n    \
         -out - | cmp - certificates/{name}.tbs.der\n  \
         openssl x509 -in certificates/{name}.pem -noout -text\n\n"
    )
}

const CONTENTS: &str = "\
WHAT IS IN IT

  transcript.jsonl       every record, each bound to all before it; everything else follows from it
  rehearsal.jsonl        the rehearsal of the same plan, whose head the transcript names
  plan.json              the plan, as it was approved: these very bytes have the hash
  token-profile.json     what such a token does, if the plan was compared with that; its hash is in the transcript
  site.toml              where it was done, if it was given: its hash is in the transcript
  heads.txt              the head after each record, as screens and films show it
  head.svg               the head of all, as a QR code
  people/                whose key is whose, what was signed, and the signatures
  keys/                  public keys
  certificates/          what was to be signed (.tbs.der), and the certificates (.der, .pem)
  crls/                  revocation lists (.crl, DER), and what was to be signed
  requests/              certificate requests that went out
  shares/                who has which share of a PIN, and how it is recognised; no values
  handoff/               what the appliance reads, or what was written for others
  exceptions.json        what happened that the plan does not have
  clauses.json           which records answer which demand of the Baseline Requirements
  attachments/           photos, scans, reports, as they were given
  kept-elsewhere.sha256  hashes of what was too large (films): sha256sum --check tells
  bundle.json            what this bundle is of, and the bundle before it
  SHA256SUMS             the hash of each file
  verify.py              a second verifier, in Python
";

const KEEPING: &str = "\
TO BE KEPT until two years after the keys were destroyed, or after their last certificate expired or
was revoked, whichever is later (BR 5.4.3). Nothing in it is secret.
";
