use std::collections::VecDeque;

use jiff::Timestamp;

/// What is new in a version for those who had another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// Nothing was taken back between the two.
    None,
    /// The oldest of the changes between them was made then.
    Since(Timestamp),
    /// The one before is too long ago to say.
    Unknown,
}

/// Which of the last versions brought news, for those who ask how long these took to reach a host.
#[derive(Debug)]
pub(super) struct History {
    /// The version before the first one that is remembered.
    before: u64,
    /// Versions with the time of the oldest change that is new in them.
    versions: VecDeque<(u64, Option<Timestamp>)>,
}

impl History {
    pub(super) fn new(first: u64) -> Self {
        Self { before: first.saturating_sub(1), versions: VecDeque::new() }
    }

    pub(super) fn add(&mut self, version: u64, oldest: Option<Timestamp>) {
        self.versions.push_back((version, oldest));
        if self.versions.len() > LENGTH
            && let Some((forgotten, _)) = self.versions.pop_front()
        {
            self.before = forgotten;
        }
    }

    /// What is new in `version` for those who had `before`.
    pub(super) fn news(&self, before: u64, version: u64) -> News {
        if before < self.before {
            return News::Unknown;
        }
        let new = self.versions.iter().filter(|(it, _)| (before + 1..=version).contains(it));
        new.filter_map(|(_, oldest)| *oldest).min().map_or(News::None, News::Since)
    }
}

/// A few hours, at one change each second.
const LENGTH: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_news_are_those_between_two_versions() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let mut history = History::new(5);
        for (version, oldest) in [(5, Some(1)), (6, None), (7, Some(30)), (8, Some(20))] {
            history.add(version, oldest.map(time));
        }
        let cases = [
            (4, 8, News::Since(time(1))),
            (5, 8, News::Since(time(20))),
            (5, 7, News::Since(time(30))),
            (5, 6, News::None),
            (8, 8, News::None),
            (9, 8, News::None),
            (3, 8, News::Unknown),
        ];
        for (before, version, wanted) in cases {
            assert_eq!(history.news(before, version), wanted, "{before}..={version}");
        }
        for version in 9..9 + LENGTH as u64 {
            history.add(version, Some(time(40)));
        }
        assert_eq!(history.news(5, 8), News::Unknown, "forgotten");
        assert_eq!(history.news(8, 9), News::Since(time(40)));
    }
}
