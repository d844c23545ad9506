//! Schedules against a table, and against a walk through every minute of the wall clock.

use std::{
    cell::Cell,
    collections::{BTreeSet, HashMap},
};

use proptest::{
    collection::{btree_set, vec},
    prelude::*,
    test_runner::{Config, TestRunner},
};

use super::*;

/// Schedule, now, until when it is open and when it opens next.
type Case = (&'static str, &'static str, &'static str, &'static str);

/// `VIENNA[0]` and so on: see [`schedules`].
const TABLE: &[Case] = &[
    // Half-open: the first moment is in, the last is out.
    ("9 to 6", "2026-11-20T08:59:59.999+01", "closed", "2026-11-20T09:00+01"),
    ("9 to 6", "2026-11-20T09:00+01", "2026-11-20T18:00+01", "2026-11-23T09:00+01"),
    ("9 to 6", "2026-11-20T17:59:59.999+01", "2026-11-20T18:00+01", "2026-11-23T09:00+01"),
    ("9 to 6", "2026-11-20T18:00+01", "closed", "2026-11-23T09:00+01"),
    // A weekend with a change of the clocks in it, both ways.
    ("9 to 6", "2026-10-23T13:00+02", "2026-10-23T18:00+02", "2026-10-26T09:00+01"),
    ("9 to 6", "2027-03-26T13:00+01", "2027-03-26T18:00+01", "2027-03-30T09:00+02"),
    // Holidays: Easter Monday of 2027 above; Christmas on a Friday, and the Saturday after it.
    ("9 to 6", "2026-12-25T12:00+01", "closed", "2026-12-28T09:00+01"),
    // The night before a holiday ends at midnight, the night that begins on it does not begin.
    ("nights", "2026-12-24T23:00+01", "2026-12-25T00:00+01", "2026-12-26T22:00+01"),
    ("nights", "2026-12-25T23:00+01", "closed", "2026-12-26T22:00+01"),
    // A night of eight hours is one of seven and of nine when the clocks change.
    ("nights", "2027-03-27T22:00+01", "2027-03-28T06:00+02", "2027-03-28T22:00+02"),
    ("nights", "2026-10-24T22:00+02", "2026-10-25T06:00+01", "2026-10-25T22:00+01"),
    // What adjoins or overlaps is one.
    ("shifts", "2026-11-20T07:00+01", "2026-11-21T04:00+01", "2026-11-27T06:00+01"),
    ("always", "2026-11-20T07:00+01", "2026-12-25T00:00+01", "2026-12-26T00:00+01"),
    // 02:30 does not exist on 28 March and becomes 03:30; it exists twice on 25 October.
    ("at 02:30", "2027-03-28T03:29+02", "closed", "2027-03-28T03:30+02"),
    ("at 02:30", "2027-03-28T03:30+02", "2027-03-28T03:45+02", "2027-04-04T02:30+02"),
    ("at 02:30", "2026-10-25T02:30+02", "2026-10-25T02:45+02", "2026-11-01T02:30+01"),
    ("at 02:30", "2026-10-25T02:30+01", "closed", "2026-11-01T02:30+01"),
    // 02:30 to 03:15 becomes 03:30 to 03:15: nothing.
    ("into nothing", "2027-03-28T03:10+02", "closed", "2027-04-04T02:30+02"),
    ("never", "2026-11-20T07:00+01", "closed", "never"),
    ("for ever", "2026-11-20T07:00+01", "2027-12-26T00:00+01", "never"),
];

#[test]
fn every_moment_of_the_table() {
    for (name, now, until, next) in TABLE {
        let schedule = load(&schedules()[name]).unwrap();
        let now: Timestamp = now.parse().unwrap();
        let shown = |moment: Option<Timestamp>, none: &str| {
            moment.map_or(none.to_owned(), |moment| {
                schedule.local(moment).strftime("%Y-%m-%dT%H:%M%:::z").to_string()
            })
        };
        let found =
            (shown(schedule.open_until(now), "closed"), shown(schedule.next_opening(now), "never"));
        assert_eq!((found.0.as_str(), found.1.as_str()), (*until, *next), "{name} at {now}");
    }
}

fn schedules() -> HashMap<&'static str, String> {
    let every_day: Vec<_> = (0..430).map(|day| day.days()).collect();
    let all = every_day.iter().map(|days| {
        let date = Date::constant(2026, 11, 1).checked_add(*days).unwrap();
        format!("\"{date}\"")
    });
    let all = all.collect::<Vec<_>>().join(",");
    let vienna = |windows: &str, holidays: &str| {
        format!("time_zone = \"Europe/Vienna\"\nwindows = [{windows}]\nholidays = [{holidays}]")
    };
    let christmas = "\"2026-12-25\"";
    HashMap::from([
        ("9 to 6", vienna("\"Mon-Fri 09:00-18:00\"", "\"2026-12-25\", \"2027-03-29\"")),
        ("nights", vienna("\"Sun-Sat 22:00-06:00\"", christmas)),
        (
            "shifts",
            vienna("\"Fri 14:00-22:00\", \"Fri 06:00-14:00\", \"Fri 21:00-04:00\"", christmas),
        ),
        ("always", vienna("\"Mon-Sun 00:00-24:00\"", christmas)),
        ("at 02:30", vienna("\"Sun 02:30-02:45\"", "")),
        ("into nothing", vienna("\"Sun 02:30-03:15\"", "")),
        ("never", vienna("\"Mon-Fri 09:00-18:00\"", &all)),
        ("for ever", vienna("\"Mon-Sun 00:00-24:00\"", "")),
    ])
}

#[test]
fn what_is_no_schedule_is_refused_with_its_line_and_its_reason() {
    let good = "time_zone = \"Europe/Vienna\"\nwindows = [\n  \"Mon-Fri 09:00-18:00\",\n]\n\
                holidays = [\"2026-12-25\"]";
    load(good).unwrap();
    for (from, to, line, what) in [
        ("Europe/Vienna", "Europe/Wien", 1, "\"Europe/Wien\" is no time zone"),
        ("Europe/Vienna", "europe/vienna", 1, "is no time zone"),
        ("Europe/Vienna", "Etc/Unknown", 1, "is no time zone"),
        ("Europe/Vienna", "../../etc/passwd", 1, "is no time zone"),
        ("Mon-Fri", "Mo-Fr", 2, "\"Mo\" is no day"),
        ("Mon-Fri", "Mon,", 2, "\"\" is no day"),
        ("Mon-Fri", "Mon - Fri", 2, "\"\" is no time"),
        ("Mon-Fri 09", "09", 2, "is no window"),
        ("09:00-18:00", "09:00", 2, "is no window"),
        ("09:00-", "9:00-", 2, "\"9:00\" is no time"),
        ("09:00-", "09:60-", 2, "\"09:60\" is no time"),
        ("-18:00", "-24:01", 2, "\"24:01\" is no time"),
        ("09:00-", "24:00-", 2, "\"24:00\" is no time"),
        ("-18:00", "-09:00", 2, "begins when it ends"),
        ("2026-12-25", "2026-13-25", 5, "\"2026-13-25\" is no holiday"),
        ("2026-12-25", "20261225", 5, "is no holiday"),
        ("2026-12-25", "2026-12-25T08:00", 5, "is no holiday"),
        ("holidays", "holydays", 5, "unknown field `holydays`"),
        ("  \"Mon-Fri 09:00-18:00\",\n", "", 0, "never opens"),
    ] {
        assert!(good.contains(from), "{from}");
        let error = load(&good.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(what), "{to}: {error}");
        assert!(line == 0 || error.contains(&format!("at line {line},")), "{to}: {error}");
    }
    let file = "# Austria\n2026-12-25 # Christmas\n\n2026-12-26\n";
    let read = holidays(file).unwrap();
    assert_eq!(read, BTreeSet::from([Date::constant(2026, 12, 25), Date::constant(2026, 12, 26)]));
    let wrong = holidays("2026-12-25\n25.12.2026\n").unwrap_err();
    assert_eq!(wrong, (2, BadSchedule::Holiday("25.12.2026".to_owned())));
}

/// R15: schedules in zones whose clocks change by an hour, by half an hour, at midnight, before
/// midnight, and never, around each change of 2026 and 2027.
#[test]
fn a_walk_through_every_minute_says_the_same() {
    let changes: Vec<(TimeZone, Timestamp)> = ZONES.iter().flat_map(|name| changes(name)).collect();
    assert!(changes.len() > 40, "{}", changes.len());
    let (windows, days) = (vec(window(), 1..5), btree_set(-6_i64..9, 0..3));
    let cells = Cell::new(0);
    let mut runner =
        TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(120) });
    let cases = (0..changes.len(), windows, days);
    let compared = runner.run(&cases, |(change, windows, holidays)| {
        let (zone, change) = &changes[change];
        let date = |days: i64| zone.to_datetime(*change).date() + days.days();
        let schedule = Schedule {
            // The last one ends what would be open throughout the walk.
            holidays: holidays.into_iter().chain([12]).map(date).collect(),
            time_zone: zone.clone(),
            windows,
        };
        let walk = Walk::new(&schedule, *change);
        for minute in walk.minutes() {
            let now = walk.moment(minute) + SignedDuration::from_millis(minute as i64 % 60 * 997);
            let context = || format!("{} {:?} at {now}", zone.iana_name().unwrap(), schedule);
            prop_assert_eq!(schedule.open_until(now), walk.open_until(minute), "{}", context());
            prop_assert_eq!(schedule.next_opening(now), walk.next_opening(minute), "{}", context());
            cells.set(cells.get() + 1);
        }
        Ok(())
    });
    compared.unwrap();
    assert!(cells.get() >= 50_000, "only {}", cells.get());
}

const ZONES: &[&str] = &[
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Havana",
    "America/New_York",
    "America/Nuuk",
    "America/Santiago",
    "Asia/Beirut",
    "Asia/Kathmandu",
    "Atlantic/Azores",
    "Australia/Lord_Howe",
    "Europe/Dublin",
    "Europe/Vienna",
    "Pacific/Chatham",
    "UTC",
];

/// The changes of a zone's clocks in 2026 and 2027, and one moment at which nothing changes.
fn changes(name: &str) -> Vec<(TimeZone, Timestamp)> {
    let zone = TimeZoneDatabase::bundled().get(name).unwrap();
    let [from, to]: [Timestamp; 2] =
        ["2026-01-01T00:00Z", "2028-01-01T00:00Z"].map(|time| time.parse().unwrap());
    let all = zone.following(from).map(|change| change.timestamp());
    let mut moments: Vec<_> = all.take_while(|moment| *moment < to).collect();
    moments.push("2026-06-17T00:00Z".parse().unwrap());
    moments.into_iter().map(|moment| (zone.clone(), moment)).collect()
}

/// Windows; many begin or end in the hours around midnight, in which clocks are changed.
fn window() -> impl Strategy<Value = Window> {
    let minute = || prop_oneof![0_i16..240, 1320_i16..1440, 0_i16..1440, Just(0)];
    let days = btree_set(0_usize..7, 1..8);
    (days, minute(), minute(), 0_i16..3).prop_map(|(days, begin, end, whole)| {
        const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let days: Vec<_> = days.into_iter().map(|day| DAYS[day]).collect();
        let time = |minute: i16| format!("{:02}:{:02}", minute / 60, minute % 60);
        let hours = match (begin == end || whole == 0, whole) {
            (true, 1) => "00:00-24:00".to_owned(),
            (true, _) => format!("{}-24:00", time(begin)),
            (false, _) => format!("{}-{}", time(begin), time(end)),
        };
        format!("{} {hours}", days.join(",")).parse().unwrap()
    })
}

/// What the clocks show minute by minute, and from that whether it is open: without dates, weeks
/// or searches of the code under test.
struct Walk {
    begin: Timestamp,
    open: Vec<bool>,
}

/// Days of the walk before and after the change of clocks. The outer ones are only looked at from
/// the inner ones: they have their windows and holidays, too.
const BEFORE: i64 = 8;
const AFTER: i64 = 24;

impl Walk {
    fn new(schedule: &Schedule, change: Timestamp) -> Self {
        let begin = change - SignedDuration::from_hours(24 * BEFORE);
        let minutes = usize::try_from((BEFORE + AFTER) * 1440).unwrap();
        let clock = Clock::new((0..minutes).map(|minute| {
            let moment = at(begin, minute);
            moment.as_second() + i64::from(schedule.time_zone.to_offset(moment).seconds())
        }));
        let mut open = vec![false; minutes];
        for day in clock.shown[0].div_euclid(1440)..=clock.shown[minutes - 1].div_euclid(1440) {
            for (from, to) in hours_of(schedule, day) {
                let (from, to) = (clock.position(from), clock.position(to));
                (from..to).for_each(|minute| open[minute] = true);
            }
        }
        Self { begin, open }
    }

    /// The minutes to be compared: each thirtieth, and those on both sides of every opening and closing.
    fn minutes(&self) -> Vec<usize> {
        let inner = 3 * 1440..usize::try_from((BEFORE + 7) * 1440).unwrap();
        inner
            .filter(|&minute| {
                let change = |at: usize| self.open[at] != self.open[at - 1];
                minute % 30 == 0 || change(minute) || change(minute + 1)
            })
            .collect()
    }

    fn moment(&self, minute: usize) -> Timestamp {
        at(self.begin, minute)
    }

    fn open_until(&self, minute: usize) -> Option<Timestamp> {
        self.open[minute].then(|| self.moment(self.first(minute, false)))
    }

    fn next_opening(&self, minute: usize) -> Option<Timestamp> {
        Some(self.moment(self.first(self.first(minute, false), true)))
    }

    fn first(&self, from: usize, open: bool) -> usize {
        (from..self.open.len()).find(|&minute| self.open[minute] == open).unwrap()
    }
}

fn at(begin: Timestamp, minute: usize) -> Timestamp {
    begin + SignedDuration::from_mins(i64::try_from(minute).unwrap())
}

/// What the wall clock shows in each minute of the walk, in minutes since 1970 began on it.
struct Clock {
    shown: Vec<i64>,
    first: HashMap<i64, usize>,
}

impl Clock {
    fn new(seconds: impl Iterator<Item = i64>) -> Self {
        let shown: Vec<i64> = seconds.map(|seconds| seconds.div_euclid(60)).collect();
        let minutes = shown.iter().enumerate().rev();
        let first = minutes.map(|(minute, shown)| (*shown, minute)).collect();
        Self { shown, first }
    }

    /// The first minute in which the clock shows this. If it never does, a clock that is not put
    /// forward shows it so many minutes after the change. Outside of the walk: its nearest end.
    fn position(&self, wanted: i64) -> usize {
        if let Some(found) = self.first.get(&wanted) {
            return *found;
        }
        let Some(passed) = self.shown.iter().position(|shown| *shown > wanted) else {
            return self.shown.len();
        };
        let Some(before) = passed.checked_sub(1) else { return 0 };
        before + usize::try_from(wanted - self.shown[before]).unwrap()
    }
}

/// The windows that begin on a day (counted from 1970), by what the wall clock shows.
fn hours_of(schedule: &Schedule, day: i64) -> Vec<(i64, i64)> {
    let date = |day: i64| Date::constant(1970, 1, 1) + day.days();
    if schedule.holidays.contains(&date(day)) {
        return Vec::new();
    }
    let holiday_follows = schedule.holidays.contains(&date(day + 1));
    let windows = schedule.windows.iter().filter(|window| window.is_on(date(day)));
    windows
        .map(|window| {
            let end = i64::from(window.end);
            let end = if holiday_follows { end.min(1440) } else { end };
            (day * 1440 + i64::from(window.begin), day * 1440 + end)
        })
        .collect()
}

fn load(text: &str) -> Result<Schedule, String> {
    let raw: RawSchedule = toml::from_str(text).map_err(|error| error.to_string())?;
    raw.parse(BTreeSet::new()).map_err(|error| error.to_string())
}
