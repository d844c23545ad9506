//! Sets of serial numbers, and the shortest sections that say them.

use crate::{
    krl::{CERT_SERIAL_BITMAP, CERT_SERIAL_LIST, CERT_SERIAL_RANGE},
    serial::SshSerial,
    ssh::wire::Writer,
};

/// A set of serial numbers, as runs in ascending order that neither overlap nor touch. Never 0.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Serials(Vec<Run>);

/// Consecutive serial numbers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Run {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// A bitmap spans at most so many serial numbers: OpenSSH refuses numbers of more than 16,384 bits,
/// and with them the whole list, which locks everybody out; its own writer made such.
pub(super) const MOST_BITS: u64 = 16_000;

impl Serials {
    /// Adds serial numbers in any order.
    pub(super) fn extend(&mut self, serials: impl IntoIterator<Item = SshSerial>) {
        let runs =
            serials.into_iter().map(|serial| Run { first: serial.get(), last: serial.get() });
        self.0.extend(runs);
        self.0.sort_unstable();
        self.0.dedup_by(|next, run| run.takes_in(*next));
    }

    /// Adds a run that begins after all that are there; gives `None` for any other.
    pub(super) fn push(&mut self, run: Run) -> Option<()> {
        if run.first == 0 || run.last < run.first {
            return None;
        }
        let joined = match self.0.last_mut() {
            Some(last) if run.first <= last.last => return None,
            Some(last) => last.takes_in(run),
            None => false,
        };
        if !joined {
            self.0.push(run);
        }
        Some(())
    }

    pub(super) fn contains(&self, serial: u64) -> bool {
        let at = self.0.partition_point(|run| run.last < serial);
        self.0.get(at).is_some_and(|run| run.first <= serial)
    }

    pub(super) fn count(&self) -> u64 {
        // Without 0 there are at most 2^64 - 1.
        self.0.iter().map(|run| run.last - run.first + 1).sum()
    }

    #[cfg(test)]
    pub(super) fn runs(&self) -> &[Run] {
        &self.0
    }

    /// Writes the sections, in ascending order of their serial numbers.
    pub(super) fn write(&self, writer: &mut Writer) {
        for section in sections(&self.0) {
            section.write(writer);
        }
    }
}

impl Run {
    /// Takes in a run that does not begin before this one, if they overlap or touch.
    fn takes_in(&mut self, next: Self) -> bool {
        let joined = next.first <= self.last.saturating_add(1);
        if joined {
            self.last = self.last.max(next.last);
        }
        joined
    }
}

/// One section of serial numbers, of the runs that it says.
struct Section<'a> {
    form: Form,
    runs: &'a [Run],
}

#[derive(Clone, Copy)]
enum Form {
    Bitmap,
    List,
    Range,
}

impl Section<'_> {
    fn write(&self, writer: &mut Writer) {
        match (self.form, self.runs) {
            (Form::List, runs) => {
                writer.u8(CERT_SERIAL_LIST);
                writer.string_of(|writer| {
                    let serials = runs.iter().flat_map(|run| run.first..=run.last);
                    serials.for_each(|serial| writer.u64(serial));
                });
            }
            (Form::Range, runs) => runs.iter().for_each(|run| {
                writer.u8(CERT_SERIAL_RANGE);
                writer.string_of(|writer| {
                    writer.u64(run.first);
                    writer.u64(run.last);
                });
            }),
            (Form::Bitmap, runs) => {
                let offset = runs.first().map_or(0, |run| run.first);
                writer.u8(CERT_SERIAL_BITMAP);
                writer.string_of(|writer| {
                    writer.u64(offset);
                    writer.positive_mpint(&bitmap(offset, runs));
                });
            }
        }
    }
}

/// The number whose bit N stands for the serial number `offset + N`, big-endian.
fn bitmap(offset: u64, runs: &[Run]) -> Vec<u8> {
    // Below MOST_BITS: it fits any usize.
    let bit = |serial: u64| (serial - offset) as usize;
    let mut bytes = vec![0_u8; runs.last().map_or(0, |run| bit(run.last) / 8 + 1)];
    for bit in runs.iter().flat_map(|run| bit(run.first)..=bit(run.last)) {
        bytes[bit / 8] |= 1 << (bit % 8);
    }
    bytes.reverse();
    bytes
}

/// The sections that say the runs in the fewest bytes.
///
/// One pass from left to right, which keeps the shortest way to say all runs so far, and of lists
/// and bitmaps that may go on the one that is the shortest till then. What it gives away: a byte
/// where bits would fill bytes better, and a head where a bitmap meets its limit.
fn sections(runs: &[Run]) -> Vec<Section<'_>> {
    let mut best = Vec::with_capacity(runs.len() + 1);
    best.push(Way { form: Form::Range, from: 0, bytes: 0 });
    let (mut bitmap, mut list) = (None, None);
    for (at, &run) in runs.iter().enumerate() {
        let before = best[at].bytes + HEAD;
        let begin = |form| Some(Open { form, from: at, first: run.first, bytes: before });
        bitmap = shortest([bitmap, begin(Form::Bitmap)], run);
        list = shortest([list, begin(Form::List)], run);
        let range = Way { form: Form::Range, from: at, bytes: before + 16 };
        let ways = [bitmap, list].into_iter().flatten().filter_map(|open| open.ended_with(run));
        best.push(ways.fold(range, |best, way| if way.bytes < best.bytes { way } else { best }));
        list = list.and_then(|open| Some(Open { bytes: open.ended_with(run)?.bytes, ..open }));
    }
    trace(runs, &best)
}

/// A way to say all runs so far: in how many bytes, with which last section, and from which run on.
#[derive(Clone, Copy)]
struct Way {
    form: Form,
    from: usize,
    bytes: u64,
}

/// A section that may go on.
#[derive(Clone, Copy)]
struct Open {
    form: Form,
    from: usize,
    /// Its first serial number.
    first: u64,
    /// The bytes of all before it, of its head, and of a list's items so far.
    bytes: u64,
}

impl Open {
    /// The whole, if this run is the section's last; `None` if it cannot take it in.
    fn ended_with(self, run: Run) -> Option<Way> {
        let length = match self.form {
            // Offset, and the length and value of a number: its first bit may be no sign.
            Form::Bitmap if run.last - self.first >= MOST_BITS => return None,
            Form::Bitmap => 8 + 4 + (run.last - self.first) / 8 + 1,
            Form::List => (run.last - run.first).checked_add(1)?.checked_mul(8)?,
            // A range takes in one run, and does not go on.
            Form::Range => return None,
        };
        let bytes = self.bytes.checked_add(length)?;
        Some(Way { form: self.form, from: self.from, bytes })
    }
}

/// The section with which all is shortest; the older of two equals, which may take in more that
/// follows without another head.
fn shortest<const N: usize>(sections: [Option<Open>; N], run: Run) -> Option<Open> {
    let possible = sections.into_iter().flatten().filter_map(|it| Some((it.ended_with(run)?, it)));
    possible.min_by_key(|(way, _)| way.bytes).map(|(_, section)| section)
}

/// Follows the best way back from its end.
fn trace<'a>(runs: &'a [Run], best: &[Way]) -> Vec<Section<'a>> {
    let mut sections = Vec::new();
    let mut end = best.len() - 1;
    while end > 0 {
        let Way { form, from, .. } = best[end];
        sections.push(Section { form, runs: &runs[from..end] });
        end = from;
    }
    sections.reverse();
    sections
}

/// Section type and length.
const HEAD: u64 = 1 + 4;
