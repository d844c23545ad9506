//! `chancery-ceremony bundle`, `verify` and `compare`: what proves a ceremony, and what proves that it does.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ceremony::{
    compare::{Comparison, Difference, Text},
    digest::Digest,
    evidence::{Evidence, EvidenceError, Sources, hash_of},
    failure::Failure,
    name::Name,
    plan::Plan,
    qr,
    transcript::Attendance,
    trust::Trusted,
    verify::Verified,
    words::spoken,
};
use clap::Args;
use serde_json::{Value, json};

use crate::{Answer, read, write_new};

#[derive(Args)]
pub(crate) struct BundleArguments {
    /// The transcript.
    transcript: PathBuf,
    /// The transcript of the rehearsal that it names.
    #[arg(long)]
    rehearsal: Option<PathBuf>,
    /// The site file, as it was then.
    #[arg(long)]
    site: Option<PathBuf>,
    /// The profile of the kind of token that the plan was compared with.
    #[arg(long, value_name = "FILE")]
    token_profile: Option<PathBuf>,
    /// A file to be put in: a photo, a scan, a report.
    #[arg(long = "attach", value_name = "FILE")]
    attachments: Vec<PathBuf>,
    /// A file that is too large to be put in: its hash is.
    #[arg(long = "hash-of", value_name = "FILE")]
    elsewhere: Vec<PathBuf>,
    /// The bundle of the ceremony before this one.
    #[arg(long, value_name = "BUNDLE")]
    previous: Option<PathBuf>,
    /// Where the bundle goes; must not exist.
    #[arg(short, long)]
    output: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// The transcript, or the bundle.
    transcript: PathBuf,
    /// The plan that it must be of.
    #[arg(long)]
    plan: Option<PathBuf>,
    /// The hand-off directory that it must give.
    #[arg(long)]
    handoff: Option<PathBuf>,
    /// The rehearsal that came before it.
    #[arg(long)]
    rehearsal: Option<PathBuf>,
    /// The head that was written down at the ceremony.
    #[arg(long)]
    head: Option<Digest>,
    /// The words of the head that were written down: ten, or all.
    #[arg(long)]
    words: Option<String>,
    /// The words of the plan that were approved: ten, or all.
    #[arg(long, value_name = "WORDS")]
    plan_words: Option<String>,
    /// The keys of people from elsewhere, as `ssh-keygen -Y verify` takes them: whoever did something must be
    /// among them.
    #[arg(long, value_name = "ALLOWED_SIGNERS")]
    trust: Option<PathBuf>,
    /// The bundle of the ceremony before this one, if it is a bundle.
    #[arg(long, value_name = "BUNDLE")]
    previous: Option<PathBuf>,
    /// The SHA-256 of the bundle that was written down.
    #[arg(long, value_name = "SHA256")]
    sum: Option<Digest>,
    /// Write the head as a QR code (SVG), to be printed; must not exist.
    #[arg(long, value_name = "FILE")]
    qr: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct CompareArguments {
    /// The transcript of the rehearsal.
    rehearsal: PathBuf,
    /// The transcript or the bundle of the ceremony itself.
    production: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn bundle(arguments: &BundleArguments) -> Result<Answer, Failure> {
    let previous = arguments.previous.as_deref().map(read).transpose()?;
    if let Some(content) = &previous {
        Evidence::read(content)?;
    }
    let mut sources = Sources {
        transcript: read(&arguments.transcript)?,
        rehearsal: arguments.rehearsal.as_deref().map(read).transpose()?,
        site: arguments.site.as_deref().map(read).transpose()?,
        token_profile: arguments.token_profile.as_deref().map(read).transpose()?,
        attachments: BTreeMap::new(),
        elsewhere: BTreeMap::new(),
        previous: previous.as_deref().map(Digest::of_file),
    };
    for path in &arguments.attachments {
        if sources.attachments.insert(file_name(path), read(path)?).is_some() {
            return Err(Failure::SameName(file_name(path)));
        }
    }
    for path in &arguments.elsewhere {
        let hash = hash_of(path).map_err(|source| Failure::Read { path: path.clone(), source })?;
        if sources.elsewhere.insert(file_name(path), hash).is_some() {
            return Err(Failure::SameName(file_name(path)));
        }
    }
    let evidence = Evidence::collect(sources)?;
    let content = evidence.to_bytes();
    write_new(&arguments.output, &content)?;
    let (sum, output) = (Digest::of_file(&content), arguments.output.display());
    let (files, verifier) = (evidence.files.len(), Digest::of_file(evidence.second_verifier()));
    let value = || {
        json!({
            "output": arguments.output,
            "files": files,
            "sha256": sum,
            "words": spoken(sum),
            "head": evidence.verified.head,
            "verify_py_sha256": verifier,
        })
    };
    let text = || {
        format!(
            "bundle {output}, {files} files\nwrite down its SHA-256:\nsha256 {sum}\n       {}\n\
             verify.py in it has the SHA-256\n       {verifier}",
            spoken(sum)
        )
    };
    Ok(Answer::new(arguments.json, value, text))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(crate) fn verify(arguments: &VerifyArguments) -> Result<Answer, Failure> {
    let content = read(&arguments.transcript)?;
    let (verified, evidence) = verified(&content)?;
    if let Some(path) = &arguments.previous {
        let (previous, named) = (read(path)?, evidence.as_ref().and_then(|it| it.about.previous));
        Evidence::read(&previous)?;
        let found = Digest::of_file(&previous);
        if named != Some(found) {
            return Err(EvidenceError::OtherPrevious { found }.into());
        }
    }
    if let Some(wanted) = arguments.sum {
        let found = Digest::of_file(&content);
        if found != wanted {
            return Err(EvidenceError::OtherSum { found, wanted }.into());
        }
    }
    if let Some(path) = &arguments.plan {
        verified.check_plan(&Plan::read(path)?)?;
    }
    if let Some(path) = &arguments.rehearsal {
        verified.check_rehearsal(&Verified::read(path)?)?;
    }
    if let Some(head) = arguments.head {
        verified.check_head(head)?;
    }
    if let Some(words) = &arguments.words {
        verified.check_words(words)?;
    }
    if let Some(words) = &arguments.plan_words {
        verified.check_plan_words(words)?;
    }
    if let Some(path) = &arguments.trust {
        Trusted::read(path)?.check(&verified)?;
    }
    if let Some(directory) = &arguments.handoff {
        verified.check_handoff(directory)?;
    }
    if let Some(path) = &arguments.qr {
        write_new(path, qr::to_svg(verified.head).as_bytes())?;
    }
    let text = || {
        let bundle = evidence.as_ref().map(|it| evidence_text(it, &content)).unwrap_or_default();
        format!("{}{bundle}", verified_text(&verified))
    };
    let value = || {
        let mut value = verified_json(&verified);
        value["bundle"] = evidence.as_ref().map_or(Value::Null, |it| evidence_json(it, &content));
        value
    };
    Ok(Answer::new(arguments.json, value, text))
}

pub(crate) fn compare(arguments: &CompareArguments) -> Result<Answer, Failure> {
    let (rehearsal, _) = verified(&read(&arguments.rehearsal)?)?;
    let (production, _) = verified(&read(&arguments.production)?)?;
    let comparison = Comparison::new(&rehearsal, &production);
    let unexpected = comparison.unexpected();
    let value = || json!({ "unexpected": unexpected, "comparison": comparison });
    let answer = Answer::new(arguments.json, value, || comparison_text(&comparison));
    if unexpected == 0 {
        return Ok(answer);
    }
    answer.print().map_err(Failure::Terminal)?;
    Err(Failure::Compared(unexpected))
}

fn comparison_text(comparison: &Comparison) -> String {
    let mut text = String::new();
    for (name, Text { expected, unexpected }) in &comparison.texts {
        text += &format!("{name}: {} differ with the keys\n", expected.join(", "));
        for Difference { field, rehearsal, production } in unexpected {
            let [first, second] = [rehearsal, production].map(|it| it.as_deref().unwrap_or("none"));
            text +=
                &format!("different: {name}, {field}\n  rehearsed {first}\n  done      {second}\n");
        }
    }
    comparison.steps.iter().for_each(|step| text += &format!("different: {step}\n"));
    if comparison.unexpected() == 0 {
        text += "nothing else differs: what was done is what was rehearsed";
    }
    text.trim_end().to_owned()
}

/// What was verified: a transcript, or a bundle.
pub(crate) fn verified(content: &[u8]) -> Result<(Verified, Option<Evidence>), Failure> {
    // A transcript begins with a record, a bundle with the name of its first file.
    if content.starts_with(b"{") {
        return Ok((Verified::from_bytes(content)?, None));
    }
    let evidence = Evidence::read(content)?;
    Ok((evidence.verified.clone(), Some(evidence)))
}

fn evidence_json(evidence: &Evidence, content: &[u8]) -> Value {
    json!({
        "sha256": Digest::of_file(content),
        "files": evidence.files.keys().collect::<Vec<_>>(),
        "previous": evidence.about.previous,
        "explained_by": evidence.about.tool,
        "verify_py_sha256": Digest::of_file(evidence.second_verifier()),
    })
}

fn evidence_text(evidence: &Evidence, content: &[u8]) -> String {
    let previous = match evidence.about.previous {
        Some(previous) => format!("after the bundle\n       {previous}\n"),
        None => String::new(),
    };
    let explained = if evidence.is_explained_by_this_version() {
        String::new()
    } else {
        format!("README.txt, clauses.json and verify.py are by {}\n", evidence.about.tool)
    };
    format!(
        "\nbundle of {} files: nothing is wrong\n{previous}{explained}sha256 {}\nverify.py in it \
         has the SHA-256\n       {}",
        evidence.files.len(),
        Digest::of_file(content),
        Digest::of_file(evidence.second_verifier())
    )
}

fn verified_json(verified: &Verified) -> Value {
    json!({
        "id": verified.progress.plan.script().id,
        "plan_hash": verified.progress.plan.hash(),
        "attendance": verified.progress.opened.attendance,
        "rehearsal": verified.progress.opened.rehearsal,
        "approved_by": verified.progress.opened.approvals.keys().collect::<Vec<_>>(),
        "signed_off_by": verified.progress.present(),
        "interruptions": verified.progress.interruptions,
        "exceptions": verified.progress.exceptions,
        "records": verified.records,
        "head": verified.head,
        "words": spoken(verified.head),
    })
}

fn verified_text(verified: &Verified) -> String {
    let (progress, head) = (&verified.progress, verified.head);
    let plan = &progress.plan;
    let attendance = match progress.opened.attendance {
        Attendance::Attended => "attended: each step was confirmed",
        Attendance::Rehearsed => {
            "rehearsed: the keys are gone, and nobody may use what they signed"
        }
        Attendance::Unattended => "unattended: nobody confirmed a step",
    };
    let names = |names: &mut dyn Iterator<Item = &Name>| {
        names.map(Name::as_str).collect::<Vec<_>>().join(", ")
    };
    let people = match progress.present() {
        present if present.is_empty() => String::new(),
        present => format!(
            "approved by {}; signed off by {}\n",
            names(&mut progress.opened.approvals.keys()),
            names(&mut present.iter())
        ),
    };
    let changeable = match &progress.opened.changeable_keys {
        Some(reason) => format!("the token lets attributes of keys be changed: {reason}\n"),
        None => String::new(),
    };
    let interruptions = match progress.interruptions {
        0 => String::new(),
        1 => "interrupted once, and gone on with\n".to_owned(),
        many => format!("interrupted {many} times, and gone on with\n"),
    };
    let exceptions: String =
        progress.exceptions.iter().map(|text| format!("exception: {text}\n")).collect();
    format!(
        "ceremony {}, {} records, {} keys, {} certificates: nothing is wrong\n{attendance}\n\
         {people}{changeable}{interruptions}{exceptions}plan {}\nhead {head}\n     {}",
        plan.script().id,
        verified.records,
        plan.keys().count(),
        plan.certificates().count(),
        plan.hash(),
        spoken(head)
    )
}
