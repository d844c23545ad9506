//! Secrets: they cannot be printed, and their memory is cleared.

use std::{fmt, fs, io, path::Path};

use zeroize::Zeroizing;

/// A PIN or another short text that must not leave the process.
///
/// It has no `Display` and no `Serialize`, and its `Debug` says nothing of it.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Reads a secret from a file: its first line, without the line end.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is not UTF-8, is empty, or may be read or written by others than
    /// its owner's group (`o+rw`).
    pub fn from_file(path: &Path) -> io::Result<Self> {
        refuse_open_mode(path)?;
        let text = Zeroizing::new(fs::read_to_string(path)?);
        let line = text.lines().next().unwrap_or_default();
        if line.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"));
        }
        Ok(Self::new(line.to_owned()))
    }

    /// Shows the secret to the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(unix)]
fn refuse_open_mode(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o006 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("anyone can read or write it (mode {:04o}); run chmod 600", mode & 0o7777),
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn refuse_open_mode(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn only_the_first_line_of_a_closed_file_is_a_secret() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pin");
        let read = |content: &str, mode| {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Secret::from_file(&path).map_err(|error| error.kind())
        };
        for content in ["1234", "1234\n", "1234\r\nsecond"] {
            assert_eq!(read(content, 0o640).unwrap().expose(), "1234");
        }
        for content in ["", "\n", "\n1234"] {
            assert_eq!(read(content, 0o600).unwrap_err(), io::ErrorKind::InvalidData);
        }
        for mode in [0o644, 0o602] {
            assert_eq!(read("1234", mode).unwrap_err(), io::ErrorKind::PermissionDenied);
        }
    }

    #[test]
    fn a_secret_cannot_be_printed() {
        assert_eq!(format!("{:?}", Secret::new("1234".to_owned())), "Secret(…)");
    }
}
