//! A tar archive (POSIX ustar) that has one form only: the same files give the same bytes, and any
//! other bytes are refused. Every tar program reads it.

use std::collections::BTreeMap;

use thiserror::Error;

/// Files by their names, which are in order and end in no directory of their own.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The archive of these files, all of which were last changed at this second (Unix time).
pub fn write(files: &Files, seconds: u64) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, content) in files {
        archive.extend(header(name, content.len(), seconds));
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    archive.extend([0; 2 * BLOCK]);
    archive
}

/// Reads an archive that [`write()`] wrote, and the time of its files.
///
/// # Errors
///
/// It is none, or has another form; the first file at which it has is named.
pub fn read(archive: &[u8]) -> Result<(Files, u64), ArchiveError> {
    let mut files = Files::new();
    let (mut rest, mut time) = (archive, None);
    loop {
        let number = files.len() + 1;
        let (block, following) = rest.split_at_checked(BLOCK).ok_or(ArchiveError::Short)?;
        if block == [0; BLOCK] {
            let ended = following == [0; BLOCK];
            return match time {
                Some(time) if ended => Ok((files, time)),
                _ => Err(ArchiveError::End),
            };
        }
        let odd = || ArchiveError::Header { number };
        let (name, size, seconds) = fields(block).ok_or_else(odd)?;
        let in_order = files.last_key_value().is_none_or(|(last, _)| *last < name);
        let same_time = time.is_none_or(|time| time == seconds);
        if !in_order || !same_time || header(&name, size, seconds) != *block {
            return Err(odd());
        }
        let padded = following.split_at_checked(size.next_multiple_of(BLOCK));
        let (padded, following) = padded.ok_or(ArchiveError::Short)?;
        let (content, padding) = padded.split_at(size);
        if padding.iter().any(|byte| *byte != 0) {
            return Err(ArchiveError::Padding { name });
        }
        files.insert(name, content.to_vec());
        (rest, time) = (following, Some(seconds));
    }
}

/// Whether a file of this name fits: a header has so much room.
pub fn fits(name: &str) -> bool {
    name.len() <= NAME
}

/// The header of a file that everybody may read (POSIX.1-2017, pax, ustar Interchange Format).
fn header(name: &str, size: usize, seconds: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, &format!("{seconds:011o}"));
    // The checksum counts itself as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = header.iter().copied().map(u32::from).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

/// Name, size and time of a header, if it has them where a header of ours does.
fn fields(block: &[u8]) -> Option<(String, usize, u64)> {
    let text = |range: std::ops::Range<usize>| {
        let field = &block[range];
        let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
        std::str::from_utf8(&field[..end]).ok()
    };
    let name = text(0..NAME)?;
    let size = usize::from_str_radix(text(124..136)?, 8).ok()?;
    let seconds = u64::from_str_radix(text(136..148)?, 8).ok()?;
    // What has more digits than a header has room for is written by nobody.
    let room = size < 1 << 33 && seconds < 1 << 33;
    (room && !name.is_empty()).then(|| (name.to_owned(), size, seconds))
}

const BLOCK: usize = 512;
const NAME: usize = 100;

/// The bytes are no archive as this program writes it.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// Something follows the end, or there is nothing before it.
    #[error("the archive does not end as it should")]
    End,
    /// A header has another form.
    #[error("file {number} of the archive has a header that was changed, or is out of its order")]
    Header {
        /// Which, from 1.
        number: usize,
    },
    /// There is something between two files.
    #[error("{name} of the archive is followed by what does not belong there")]
    Padding {
        /// Which.
        name: String,
    },
    /// It ends in the middle.
    #[error("the archive is cut off, or is none")]
    Short,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        let long = "x".repeat(NAME);
        [("a.txt", &b"one"[..]), ("b/c", b""), (&long, &[7; BLOCK])]
            .map(|(name, content)| (name.to_owned(), content.to_vec()))
            .into()
    }

    #[test]
    fn what_was_written_is_read() {
        let archive = write(&files(), 1_800_000_000);
        assert_eq!(read(&archive).unwrap(), (files(), 1_800_000_000));
        assert_eq!(archive.len() % BLOCK, 0);
    }

    #[test]
    fn each_changed_byte_that_is_no_content_is_refused() {
        let archive = write(&files(), 1);
        let contents = [BLOCK..BLOCK + 3, 4 * BLOCK..5 * BLOCK];
        for at in (0..archive.len()).filter(|at| !contents.iter().any(|range| range.contains(at))) {
            for bit in 0..8 {
                let mut changed = archive.clone();
                changed[at] ^= 1 << bit;
                assert!(read(&changed).is_err(), "byte {at}, bit {bit}");
            }
        }
        for cut in 0..archive.len() {
            assert!(read(&archive[..cut]).is_err(), "{cut} bytes");
        }
        assert!(read(&[&archive[..], &[0; BLOCK]].concat()).is_err());
        assert!(read(&write(&Files::new(), 1)).is_err());
    }
}
