//! Working hours: when a role may be used, and when what it grants ends.
//!
//! A window belongs to the weekday on which it begins, and lasts from one time of the wall clock to
//! another: on the night in which the clocks change it is an hour longer or shorter. A time that
//! does not exist on such a night is taken as if the clock had not been changed yet (02:30 becomes
//! 03:30), and of a time that exists twice the first counts, as RFC 5545 (section 3.3.5) has it. A
//! holiday has no windows, and those of the day before end at its midnight.

mod window;

use std::{collections::BTreeSet, ops::RangeInclusive, str::FromStr};

use jiff::{
    SignedDuration, Span, Timestamp, ToSpan, Zoned,
    civil::Date,
    tz::{TimeZone, TimeZoneDatabase},
};
use serde::Deserialize;

use self::window::{BadSchedule, Window};

/// When a role is open. Every interval includes its beginning and not its end.
#[derive(Clone, Debug)]
pub struct Schedule {
    holidays: BTreeSet<Date>,
    time_zone: TimeZone,
    windows: Vec<Window>,
}

impl Schedule {
    /// Until when it is open without a break, if it is open now: windows that adjoin are one. What
    /// is open for more than 400 days ends after that.
    pub fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let horizon = now + HORIZON;
        let mut end = self.end_of_window(now)?;
        while end < horizon
            && let Some(later) = self.end_of_window(end)
        {
            end = later;
        }
        Some(end)
    }

    /// When it opens next, after now and after the time for which it is open now; nothing if it
    /// does not within 400 days.
    pub fn next_opening(&self, now: Timestamp) -> Option<Timestamp> {
        let closed = self.open_until(now).unwrap_or(now);
        if closed >= now + HORIZON {
            return None;
        }
        let mut next: Option<Timestamp> = None;
        for date in self.dates(closed, NEIGHBOURS.end() + HORIZON.as_hours() / 24) {
            // Dates and moments may stand in another order where a change of clocks is at midnight.
            if next.is_some_and(|next| date > self.date(next, *NEIGHBOURS.end())) {
                break;
            }
            let later = self.windows_of(date).map(|(begin, _)| begin).filter(|at| *at > closed);
            next = later.chain(next).min();
        }
        next
    }

    /// A moment on the clocks of the schedule's time zone.
    pub fn local(&self, moment: Timestamp) -> Zoned {
        moment.to_zoned(self.time_zone.clone())
    }

    /// The latest end of the windows that a moment is in.
    fn end_of_window(&self, moment: Timestamp) -> Option<Timestamp> {
        let around = self.dates(moment, *NEIGHBOURS.end());
        let windows = around.flat_map(|date| self.windows_of(date));
        let open = windows.filter(|(begin, end)| (*begin..*end).contains(&moment));
        open.map(|(_, end)| end).max()
    }

    /// Dates from shortly before a moment to so many days after it.
    fn dates(&self, moment: Timestamp, days: i64) -> impl Iterator<Item = Date> {
        let last = self.date(moment, days);
        self.date(moment, *NEIGHBOURS.start()).series(1.day()).take_while(move |date| *date <= last)
    }

    /// The date so many days after that of a moment.
    fn date(&self, moment: Timestamp, days: i64) -> Date {
        let date = self.time_zone.to_datetime(moment).date();
        date.saturating_add(Span::new().days(days))
    }

    /// Begin and end of the windows that begin on a date.
    fn windows_of(&self, date: Date) -> impl Iterator<Item = (Timestamp, Timestamp)> {
        let holiday = self.holidays.contains(&date);
        let before_holiday = date.tomorrow().is_ok_and(|next| self.holidays.contains(&next));
        let windows = self.windows.iter().filter(move |window| !holiday && window.is_on(date));
        windows.filter_map(move |window| {
            let end = if before_holiday { window.end.min(MIDNIGHT) } else { window.end };
            let (begin, end) = (self.moment(date, window.begin)?, self.moment(date, end)?);
            (begin < end).then_some((begin, end))
        })
    }

    /// So many minutes of the wall clock after the beginning of a date.
    fn moment(&self, date: Date, minutes: i16) -> Option<Timestamp> {
        let date = date.checked_add(Span::new().days(minutes / MIDNIGHT)).ok()?;
        let (hour, minute) = (minutes % MIDNIGHT / 60, minutes % 60);
        let time = date.at(i8::try_from(hour).ok()?, i8::try_from(minute).ok()?, 0, 0);
        self.time_zone.to_timestamp(time).ok()
    }
}

/// `[role.schedule]` as it stands in a file of roles.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSchedule {
    time_zone: IanaZone,
    windows: Vec<Window>,
    #[serde(default)]
    holidays: Vec<Holiday>,
    /// A file beside the rules, with a holiday on each line.
    pub(super) holiday_file: Option<String>,
}

impl RawSchedule {
    /// The schedule, with the holidays of its file.
    pub(super) fn parse(self, more: BTreeSet<Date>) -> Result<Schedule, BadSchedule> {
        if self.windows.is_empty() {
            return Err(BadSchedule::NoWindow);
        }
        let holidays = self.holidays.into_iter().map(|holiday| holiday.0).chain(more).collect();
        Ok(Schedule { holidays, time_zone: self.time_zone.0, windows: self.windows })
    }
}

/// Reads a file of holidays: a date on each line; what follows a `#` is a comment.
///
/// # Errors
///
/// The number of the first line that is no date, and what is wrong with it.
pub(super) fn holidays(text: &str) -> Result<BTreeSet<Date>, (usize, BadSchedule)> {
    let lines = text.lines().zip(1..).map(|(line, number)| {
        let date = line.split('#').next().unwrap_or_default().trim();
        (date, number)
    });
    let dates = lines.filter(|(date, _)| !date.is_empty());
    dates.map(|(date, line)| Ok(date.parse::<Holiday>().map_err(|bad| (line, bad))?.0)).collect()
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct IanaZone(TimeZone);

impl TryFrom<String> for IanaZone {
    type Error = BadSchedule;

    fn try_from(name: String) -> Result<Self, BadSchedule> {
        // Not the system's files: two appliances of one ledger decide alike.
        let found = TimeZoneDatabase::bundled().get(&name).ok();
        let exact = found.filter(|zone| zone.iana_name() == Some(&name));
        exact.map(Self).ok_or(BadSchedule::TimeZone(name))
    }
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Holiday(Date);

impl TryFrom<String> for Holiday {
    type Error = BadSchedule;

    fn try_from(text: String) -> Result<Self, BadSchedule> {
        text.parse()
    }
}

impl FromStr for Holiday {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        // jiff also reads what is longer, or has no hyphens.
        let date = text.parse::<Date>().ok().filter(|date| date.to_string() == text);
        date.map(Self).ok_or_else(|| BadSchedule::Holiday(text.to_owned()))
    }
}

/// The minutes of a day.
const MIDNIGHT: i16 = 24 * 60;

/// How far a schedule looks ahead: further than any certificate is valid.
const HORIZON: SignedDuration = SignedDuration::from_hours(400 * 24);

/// The dates, counted from that of a moment, on which windows may begin that it is in: a window may
/// reach into the next day, and a change of clocks around midnight may shift it into the one after
/// that, or bring the evening back.
const NEIGHBOURS: RangeInclusive<i64> = -2..=1;

#[cfg(test)]
mod tests;
