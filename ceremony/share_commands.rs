//! `chancery-ceremony share`: what custodians do between ceremonies, without a token.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use ceremony::{
    console::Console,
    custody::Custody,
    failure::Failure,
    name::Name,
    shares::{ShareSet, entropy::Entropy, page, page::Occasion},
    verify::Verified,
    words::spoken,
};
use clap::{Args, Subcommand};
use pki::clock::{Clock as _, SystemClock};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{Answer, console, write_new};

#[derive(Subcommand)]
pub(crate) enum ShareCommand {
    /// Say whether a share that its custodian types is right.
    Verify(VerifyArguments),
    /// Write the PIN or the key that enough custodians give into a file.
    Recover(RecoverArguments),
    /// Give the same PIN or key to other custodians. What the former ones have still gives it.
    Rotate(RotateArguments),
    /// Print sheets for shares that are copied by hand.
    PrintBlank(BlankArguments),
}

#[derive(Args)]
pub(crate) struct VerifyArguments {
    /// The transcript of the ceremony that gave the shares out: without it, the paper alone is judged.
    #[arg(long)]
    transcript: Option<PathBuf>,
    /// Answer in JSON on standard output; what is asked goes to standard error.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RecoverArguments {
    /// The transcript of the ceremony that gave the shares out: without it, the paper alone is judged.
    #[arg(long)]
    transcript: Option<PathBuf>,
    /// Where it goes, for its owner alone; must not exist. A key is written in hexadecimal.
    #[arg(short, long)]
    output: PathBuf,
    /// Answer in JSON on standard output; what is asked goes to standard error.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct RotateArguments {
    /// The transcript of the ceremony that gave the shares out.
    #[arg(long)]
    transcript: PathBuf,
    /// How many of the new custodians give it.
    #[arg(long)]
    threshold: u8,
    /// A new custodian; 2 to 15 of them.
    #[arg(long = "holder", value_name = "NAME", required = true)]
    holders: Vec<Name>,
    /// Where the pages are written, for printing; without it, the terminal shows each share to be copied.
    #[arg(long)]
    pages: Option<PathBuf>,
    /// Where all goes that may be known of the new set (JSON); must not exist.
    #[arg(short, long)]
    output: PathBuf,
    /// Answer in JSON on standard output; what is asked goes to standard error.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(crate) struct BlankArguments {
    /// How many sheets.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=15))]
    count: u8,
    /// Where they go (HTML); must not exist.
    #[arg(short, long)]
    output: PathBuf,
}

pub(crate) fn share(command: &ShareCommand) -> Result<Answer, Failure> {
    match command {
        ShareCommand::Verify(arguments) => verify(arguments),
        ShareCommand::Recover(arguments) => recover(arguments),
        ShareCommand::Rotate(arguments) => rotate(arguments),
        ShareCommand::PrintBlank(BlankArguments { count, output }) => {
            write_new(output, page::blank(*count).as_bytes())?;
            Ok(Answer::Text(format!("{count} blank sheet(s) in {}", output.display())))
        }
    }
}

fn verify(arguments: &VerifyArguments) -> Result<Answer, Failure> {
    let known = sets(arguments.transcript.as_deref().map(Verified::read).transpose()?.as_ref());
    let mut console = console(arguments.json);
    let share = at(&mut console, None).one(&known)?;
    let holder = known.iter().find(|set| set.terms == share.terms);
    let holder = holder.and_then(|set| set.holder(share.index)).map(Name::as_str);
    let value = || {
        json!({
            "set": share.terms.set,
            "share": share.index,
            "count": share.terms.count,
            "threshold": share.terms.threshold,
            "holder": holder,
            "by_transcript": !known.is_empty(),
        })
    };
    let text = || {
        let (index, terms) = (share.index, share.terms);
        let judged = match holder {
            Some(holder) => format!("it is the one that {holder} got"),
            None => {
                "it is whole; whether it was given out, its transcript says (--transcript)".into()
            }
        };
        format!("share {index} of {}\n{terms}\n{judged}", terms.count)
    };
    Ok(Answer::new(arguments.json, value, text))
}

fn recover(arguments: &RecoverArguments) -> Result<Answer, Failure> {
    let known = sets(arguments.transcript.as_deref().map(Verified::read).transpose()?.as_ref());
    let mut console = console(arguments.json);
    let gathered = at(&mut console, None).gather(None, &known)?;
    let (path, terms) = (&arguments.output, gathered.terms);
    let at = |source| Failure::Write { path: path.clone(), source };
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(at)?;
    let written = match terms.purpose.pin(&gathered.secret) {
        Some(pin) => file.write_all(pin.expose().as_bytes()),
        None => {
            let mut digits = Zeroizing::new([0; 64]);
            let encoded = hex::encode_to_slice(gathered.secret.expose(), &mut digits[..]);
            encoded.map_err(std::io::Error::other).and_then(|()| file.write_all(&digits[..]))
        }
    };
    written.and_then(|()| file.write_all(b"\n")).and_then(|()| file.sync_all()).map_err(at)?;
    let value = || json!({ "set": terms.set, "purpose": terms.purpose, "shares": gathered.shares, "output": path });
    let text = || {
        format!(
            "{terms}\nin {}: whoever reads it has what the custodians have; overwrite and remove it\n\
             when it has done its work, and rotate the PIN",
            path.display()
        )
    };
    Ok(Answer::new(arguments.json, value, text))
}

fn rotate(arguments: &RotateArguments) -> Result<Answer, Failure> {
    let verified = Verified::read(&arguments.transcript)?;
    let known = sets(Some(&verified));
    let mut console = console(arguments.json);
    let mut custody = at(&mut console, arguments.pages.as_deref());
    custody.check()?;
    let gathered = custody.gather(None, &known)?;
    let mut entropy = Entropy::gather(&[]).map_err(Failure::Random)?;
    let (purpose, former) = (gathered.terms.purpose, gathered.terms.set);
    let (set, shares) = ShareSet::split(
        &gathered.secret,
        purpose,
        arguments.threshold,
        &arguments.holders,
        &mut entropy,
    )?;
    let plan = &verified.progress.plan;
    let token = verified.progress.made.token.as_ref();
    let occasion = Occasion {
        ceremony: plan.script().id.clone(),
        words: spoken(plan.hash()),
        token: token.map(ToString::to_string).unwrap_or_default(),
        time: SystemClock.now(),
    };
    let handed_out = custody.hand_out(&set, &shares, &occasion).and_then(|()| {
        let read_back = custody.read_back(&set)?;
        Ok(set.check_all(&read_back)?)
    });
    // Whether or not all custodians could read theirs back: what is not on paper by now is gone.
    custody.take_away(&set)?;
    let combined = handed_out?;
    let facts = json!({ "set": set, "former": former, "combined": combined });
    write_new(&arguments.output, format!("{facts}\n").as_bytes())?;
    let text = || {
        format!(
            "{}\n{combined} choices of shares gave the secret\nin {}: what may be known of the set\n\
             the pages of set {former} still give it: collect and destroy them",
            set.terms,
            arguments.output.display()
        )
    };
    Ok(Answer::new(arguments.json, || facts.clone(), text))
}

fn at<'a>(console: &'a mut Console, pages: Option<&'a std::path::Path>) -> Custody<'a> {
    Custody { console, pages, rehearsed: false }
}

/// The sets that a ceremony gave out; none without a transcript.
fn sets(verified: Option<&Verified>) -> Vec<ShareSet> {
    let made = verified.map(|verified| &verified.progress.made);
    made.into_iter().flat_map(|made| made.sets()).map(|(_, it)| it.set.clone()).collect()
}
