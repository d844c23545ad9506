use std::str::FromStr;

use jiff::civil::{Date, Weekday};
use serde::Deserialize;
use thiserror::Error;

use super::MIDNIGHT;

/// Hours on some days of the week: `Mon-Fri 09:00-18:00`, `Sat,Sun 10:00-14:00`, or over midnight
/// `Fri 22:00-06:00`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(in crate::policy) struct Window {
    /// The days on which it begins.
    days: Vec<Weekday>,
    /// Minutes after the midnight before it.
    pub(super) begin: i16,
    /// Minutes after that same midnight; more than `begin`, by up to a day.
    pub(super) end: i16,
}

/// A schedule cannot be read, or would never open.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(in crate::policy) enum BadSchedule {
    #[error("window {window:?}: {day:?} is no day; they are Mon, Tue, Wed, Thu, Fri, Sat and Sun")]
    Day { window: String, day: String },
    #[error("window {0:?} begins when it ends; a whole day is 00:00-24:00")]
    Empty(String),
    #[error("{0:?} is no holiday; write a date as in \"2026-12-25\"")]
    Holiday(String),
    #[error("`windows` is empty, so that it never opens")]
    NoWindow,
    #[error("{0:?} is no window; write days and hours, as in \"Mon-Fri 09:00-18:00\"")]
    Shape(String),
    #[error("window {window:?}: {time:?} is no time; they are 00:00 to 23:59, and 24:00 as an end")]
    Time { window: String, time: String },
    #[error("{0:?} is no time zone; write one of the IANA's names, as in \"Europe/Vienna\"")]
    TimeZone(String),
}

impl Window {
    /// Whether it begins on this date.
    pub(super) fn is_on(&self, date: Date) -> bool {
        self.days.contains(&date.weekday())
    }
}

impl TryFrom<String> for Window {
    type Error = BadSchedule;

    fn try_from(text: String) -> Result<Self, BadSchedule> {
        text.parse()
    }
}

impl FromStr for Window {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, BadSchedule> {
        let shape = || BadSchedule::Shape(text.to_owned());
        let bad_time =
            |time: &str| BadSchedule::Time { window: text.to_owned(), time: time.to_owned() };
        let (days, hours) = text.split_once(' ').ok_or_else(shape)?;
        let (begin, end) = hours.split_once('-').ok_or_else(shape)?;
        let days = parse_days(days)
            .map_err(|day| BadSchedule::Day { window: text.to_owned(), day: day.to_owned() })?;
        let minutes = |time| parse_time(time).ok_or_else(|| bad_time(time));
        let (first, last) = (minutes(begin)?, minutes(end)?);
        if first == last {
            return Err(BadSchedule::Empty(text.to_owned()));
        }
        if first == MIDNIGHT {
            return Err(bad_time(begin));
        }
        let end = if last < first { last + MIDNIGHT } else { last };
        Ok(Self { days, begin: first, end })
    }
}

/// Days and ranges of days between commas; a range may go over the end of the week.
fn parse_days(text: &str) -> Result<Vec<Weekday>, &str> {
    let mut days = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_day(first)?, parse_day(last)?);
        days.extend(first.cycle_forward().take(7).take_while(|day| *day != last));
        days.push(last);
    }
    Ok(days)
}

fn parse_day(text: &str) -> Result<Weekday, &str> {
    Ok(match text {
        "Mon" => Weekday::Monday,
        "Tue" => Weekday::Tuesday,
        "Wed" => Weekday::Wednesday,
        "Thu" => Weekday::Thursday,
        "Fri" => Weekday::Friday,
        "Sat" => Weekday::Saturday,
        "Sun" => Weekday::Sunday,
        other => return Err(other),
    })
}

/// Minutes after midnight of `HH:MM`, up to 24:00.
fn parse_time(text: &str) -> Option<i16> {
    let [h1, h2, b':', m1, m2] = *text.as_bytes() else { return None };
    let two = |tens: u8, ones: u8| {
        let digit = |byte: u8| byte.is_ascii_digit().then(|| i16::from(byte - b'0'));
        Some(10 * digit(tens)? + digit(ones)?)
    };
    let (hour, minute) = (two(h1, h2)?, two(m1, m2)?);
    let minutes = 60 * hour + minute;
    (minute < 60 && minutes <= MIDNIGHT).then_some(minutes)
}
