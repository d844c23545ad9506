//! `chancery-card batch`: cards for many people, one after another, as they are put into a reader.

mod desk;
pub(super) mod error;
mod letter;
mod making;
mod people;
mod results;

use std::{collections::BTreeSet, path::PathBuf, pin::pin, time::Duration};

use card::{CardError, ReaderName};
use client::{Client, output::Output, session::is_passing};
use pki::{
    clock::{Clock, SystemClock},
    x509::cms::Recipient,
};
use serde::Serialize;
use tokio::time::sleep;

use super::{
    appliance::terms, arguments::batch::Batch, choice::Chosen, escrow::recipients,
    failure::Failure, order::Terms, stop::Stop, terminal::tell,
};
use desk::Desk;
use error::BatchError;
use letter::{Letters, make_directory};
use making::{Fate, fate};
use people::Person;
use results::{Record, Results, State};

/// A batch at work.
struct Work<'a> {
    it: &'a Batch,
    client: Client,
    letters: Letters,
    people: Vec<Person>,
    recipients: Vec<Recipient>,
    results: Results,
    /// By number: of whom the appliance was asked whether they may have a card.
    asked: BTreeSet<usize>,
    /// By number: with whom it went wrong in this run.
    failed: BTreeSet<usize>,
}

/// How it stands at the end.
#[derive(Serialize)]
struct Summary {
    people: usize,
    done: usize,
    failed: usize,
    results: PathBuf,
}

pub(super) async fn run(it: &Batch, output: &mut Output) -> Result<(), Failure> {
    // 1. Whatever can be wrong without a card is found before one is touched.
    let people = people::read(&it.people, it.slot)?;
    if let Some(upn) = it.new_card.iter().find(|upn| people.iter().all(|it| it.upn != **upn)) {
        return Err(BatchError::Nobody(upn.to_string()).into());
    }
    let recipients = recipients(&it.escrow_to)?;
    let client = it.connection.client()?;
    terms(&it.connection, &it.grant, None, people[0].upn.clone())?;
    let mut stop = Stop::listen().map_err(Failure::Signals)?;
    let mut desk = Desk::open(it.reader.as_deref())?;
    make_directory(&it.escrow)?;
    let letters = Letters::open(&it.letters, &it.help_desk)?;
    let path = it.results.clone().unwrap_or_else(|| it.people.with_extension("results.ndjson"));
    let results = Results::open(&path)?;
    let (asked, failed) = (BTreeSet::new(), BTreeSet::new());
    let mut work = Work { it, client, letters, people, recipients, results, asked, failed };
    for upn in &it.new_card {
        let person = work.people.iter().find(|person| person.upn == *upn).cloned();
        person.map_or(Ok(()), |person| work.note(&person, None, State::GivenUp).map(drop))?;
    }

    // 2. One card after another.
    let stopped = work.go_through(&mut desk, &mut stop, output).await?;

    // 3. How it stands.
    let done = work.people.iter().filter(|person| work.results.is_done(&person.upn)).count();
    let (all, failed) = (work.people.len(), work.failed.len());
    let summary = Summary { people: all, done, failed, results: path };
    if done < all {
        output.json_only(&summary)?;
        let why = if stopped { "; it was stopped" } else { "" };
        return Err(BatchError::NotAll { done, all, why }.into());
    }
    Ok(output.show_line(&summary, &format!("{done} of {all} cards are done"))?)
}

impl Work<'_> {
    /// Comes back when nobody is waited for any longer, or when it is asked to stop: then with `true`.
    async fn go_through(
        &mut self,
        desk: &mut Desk,
        stop: &mut Stop,
        output: &mut Output,
    ) -> Result<bool, Failure> {
        let mut prompted = None;
        while let Some(next) = self.next() {
            // 1. Who would get no certificate needs no card.
            if self.card_of(next).is_none()
                && self.asked.insert(next)
                && let Some(why) = self.would_be_refused(next).await?
            {
                self.fail(next, None, why, None, output)?;
                continue;
            }
            // 2. The next card.
            if prompted != Some(next) {
                tell(self.prompt(next));
                prompted = Some(next);
            }
            let reader = tokio::select! {
                reader = inserted(desk) => reader?,
                () = stop.wanted() => return Ok(true),
            };
            let (person, chosen, serial) = match self.look_when_ready(&reader).await {
                Ok(found) => found,
                Err(failure) if fate(&failure) == Fate::Stop => return Err(failure),
                Err(failure) => {
                    tell(format!("{reader}: not this card: {}", failure.text()));
                    failure.hint().inspect(|hint| tell(format!("  {hint}")));
                    continue;
                }
            };
            prompted = None;
            // 3. All of it. What is begun is not left because of a signal.
            let who = self.people[person].upn.clone();
            tell(format!("{}: {who}: YubiKey {serial} in {reader}", self.place(person)));
            let mut stopping = false;
            let made = {
                let mut making = pin!(self.make(person, &chosen, serial));
                loop {
                    tokio::select! {
                        made = &mut making => break made,
                        () = stop.wanted(), if !stopping => {
                            stopping = true;
                            tell("it stops when this card is done");
                        }
                    }
                }
            };
            match made {
                Ok(state) => self.finish(person, serial, state, output)?,
                Err(failure) => match fate(&failure) {
                    Fate::Card => tell(format!(
                        "{who}: {}; insert YubiKey {serial} again, now or later",
                        failure.text()
                    )),
                    Fate::Person => {
                        self.fail(person, Some(serial), failure.text(), failure.hint(), output)?;
                    }
                    Fate::Stop => return Err(failure),
                },
            }
            if stopping {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A card that was just put in may not answer yet, or be read by another program meanwhile.
    async fn look_when_ready(&self, reader: &ReaderName) -> Result<(usize, Chosen, u32), Failure> {
        for _ in 0..LOOKS {
            match self.look_at(reader) {
                Err(Failure::Card(CardError::InUse(_) | CardError::Mute(_))) => sleep(PAUSE).await,
                found => return found,
            }
        }
        self.look_at(reader)
    }

    /// Who is waited for: first those who have no card yet, then those whose card was pulled.
    fn next(&self) -> Option<usize> {
        let open =
            || (0..self.people.len()).filter(|it| self.is_open(*it) && !self.failed.contains(it));
        open().find(|it| self.card_of(*it).is_none()).or_else(|| open().next())
    }

    /// What is asked for.
    fn prompt(&self, next: usize) -> String {
        let (place, upn) = (self.place(next), &self.people[next].upn);
        let wanted = self.card_of(next).or(self.people[next].serial);
        let Some(serial) = wanted else {
            let begun = (0..self.people.len()).filter(|it| self.is_open(*it)).find_map(|it| {
                let serial = self.card_of(it)?;
                Some(format!(", or YubiKey {serial} to go on with {}", self.people[it].upn))
            });
            return format!("{place}: {upn}: insert a new card{}", begun.unwrap_or_default());
        };
        format!("{place}: {upn}: insert YubiKey {serial}")
    }

    /// `3 of 40`.
    fn place(&self, person: usize) -> String {
        format!("{} of {}", person + 1, self.people.len())
    }

    fn is_open(&self, person: usize) -> bool {
        !self.results.is_done(&self.people[person].upn)
    }

    /// The card that was begun for a person.
    fn card_of(&self, person: usize) -> Option<u32> {
        self.results.card_of(&self.people[person].upn)
    }

    /// Why the appliance would not give the person a card, as far as it says before.
    async fn would_be_refused(&self, person: usize) -> Result<Option<String>, Failure> {
        let terms = self.terms(person)?;
        let report = match self.client.account(&terms.upn).await {
            Ok(report) => report,
            Err(error) if matches!(error, client::Error::Problem(_)) && !is_passing(&error) => {
                return Ok(Some(Failure::from(error).text()));
            }
            Err(error) => return Err(error.into()),
        };
        let mut of_role = report.roles.iter().filter(|it| it.role == terms.role).peekable();
        if of_role.peek().is_none() || of_role.any(|it| it.denied.is_none()) {
            return Ok(None);
        }
        let denied = report.roles.iter().find(|it| it.role == terms.role);
        let denied = denied.and_then(|it| it.denied.as_ref());
        Ok(denied.map(|it| format!("{} ({})", it.detail, it.reason)))
    }

    fn terms(&self, person: usize) -> Result<Terms, Failure> {
        terms(&self.it.connection, &self.it.grant, None, self.people[person].upn.clone())
    }

    /// Writes a step down.
    fn note(
        &mut self,
        person: &Person,
        serial: Option<u32>,
        state: State,
    ) -> Result<Record, Failure> {
        let record = Record { at: SystemClock.now(), upn: person.upn.clone(), serial, state };
        self.results.append(record.clone())?;
        Ok(record)
    }

    fn finish(
        &mut self,
        person: usize,
        serial: u32,
        state: State,
        output: &mut Output,
    ) -> Result<(), Failure> {
        self.failed.remove(&person);
        let record = self.note(&self.people[person].clone(), Some(serial), state)?;
        let (place, letter) = (self.place(person), self.letters.path(serial));
        let text = format!(
            "{place}: {} has YubiKey {serial}; the letter is {}",
            record.upn,
            letter.display()
        );
        Ok(output.show_line(&record, &text)?)
    }

    fn fail(
        &mut self,
        person: usize,
        serial: Option<u32>,
        why: String,
        hint: Option<String>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        self.failed.insert(person);
        let state = State::Failed { why: why.clone() };
        let record = self.note(&self.people[person].clone(), serial, state)?;
        let text = format!("{}: {} has no card: {why}", self.place(person), record.upn);
        output.show_line(&record, &text)?;
        hint.inspect(|hint| tell(format!("  {hint}")));
        Ok(())
    }
}

/// Comes back with the reader into which a card was put.
async fn inserted(desk: &mut Desk) -> Result<ReaderName, Failure> {
    loop {
        if let Some(reader) = desk.inserted()? {
            return Ok(reader);
        }
        sleep(PAUSE).await;
    }
}

/// Between two looks at the readers: nobody changes a card as quickly.
const PAUSE: Duration = Duration::from_millis(200);

/// How often a card that does not answer is looked at again: for some seconds.
const LOOKS: usize = 15;
