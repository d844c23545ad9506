//! Where a ceremony can be killed, and in which of these places it is.

use std::{fmt, path::Path, str::FromStr};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

use crate::journal::{PowerLoss, Written};

/// In how many of the places where a ceremony can be killed it is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Faults {
    /// In every one.
    All,
    /// In none.
    None,
    /// In so many, spread over all of them: chance takes one of each stretch.
    Spread(usize),
}

/// Where a ceremony is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Point {
    /// When this PKCS#11 function is called for so many times.
    Call(Function, usize),
    /// When a journal is written.
    Write(PowerLoss),
}

/// The functions that the shim counts together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Function {
    /// All others.
    Any,
    Finalize,
    Initialize,
}

impl Faults {
    /// The same ones for the same seed.
    pub(super) fn choose(self, points: &[Point], seed: u64) -> Vec<Point> {
        match self {
            Self::All => points.to_vec(),
            Self::None => Vec::new(),
            Self::Spread(most) => {
                let (count, mut chance) = (most.min(points.len()), StdRng::seed_from_u64(seed));
                let stretch = |number: usize| number * points.len() / count;
                let one = |number| chance.random_range(stretch(number)..stretch(number + 1));
                (0..count).map(one).map(|at| points[at]).collect()
            }
        }
    }
}

/// The places where the journals are written, so many lines in all.
pub(super) fn writes(lines: u64) -> Vec<Point> {
    let each = |at| {
        [Written::Nothing, Written::Half, Written::Whole]
            .map(|written| Point::Write(PowerLoss { at, written }))
    };
    (1..=lines).flat_map(each).collect()
}

/// The calls that a shim noted, as places to be killed in.
pub(super) fn calls(log: &str) -> Vec<Point> {
    let (mut any, mut first, mut last) = (0, 0, 0);
    let functions = log.lines().filter_map(|line| line.split(' ').nth(1));
    functions
        .map(|function| {
            let (function, count) = match function {
                "C_Finalize" => (Function::Finalize, &mut last),
                "C_Initialize" => (Function::Initialize, &mut first),
                _ => (Function::Any, &mut any),
            };
            *count += 1;
            Point::Call(function, *count)
        })
        .collect()
}

/// `all`, or a number.
impl FromStr for Faults {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("all", _) => Ok(Self::All),
            (_, Ok(most)) => Ok(Self::Spread(most)),
            _ => Err("use all, or a number".to_owned()),
        }
    }
}

/// What the shim is told: see softhsm-tests/shim.
pub(super) fn shim_plan(real: &Path, fault: Option<Point>) -> String {
    let mut plan = format!("module = {real:?}\n");
    if let Some(Point::Call(function, count)) = fault {
        let function = match function {
            Function::Any => "",
            Function::Finalize => "function = \"C_Finalize\"\n",
            Function::Initialize => "function = \"C_Initialize\"\n",
        };
        let ever = i64::MAX;
        plan += &format!(
            "[[faults]]\n{function}from = {count}\nevery = {ever}\ntimes = 1\naction = \"crash\"\n"
        );
    }
    plan
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(Function::Any, count) => write!(f, "the {count}. PKCS#11 call"),
            Self::Call(Function::Finalize, count) => write!(f, "the {count}. C_Finalize"),
            Self::Call(Function::Initialize, count) => write!(f, "the {count}. C_Initialize"),
            Self::Write(loss) => write!(f, "the journal's line {loss}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_and_the_same_for_the_same_seed() {
        let points = writes(100);
        let chosen = Faults::Spread(30).choose(&points, 7);
        assert_eq!(chosen, Faults::Spread(30).choose(&points, 7));
        assert_ne!(chosen, Faults::Spread(30).choose(&points, 8));
        for (stretch, point) in points.chunks(10).zip(&chosen) {
            assert!(stretch.contains(point), "{point}");
        }
        assert_eq!(Faults::All.choose(&points, 7), points);
        assert_eq!(Faults::Spread(1000).choose(&points, 7), points);
        assert!(Faults::Spread(0).choose(&points, 7).is_empty());
        assert!(Faults::Spread(3).choose(&[], 7).is_empty());
    }
}
