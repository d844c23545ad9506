//! Another time than the machine's, for programs that are started in it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use crate::{
    failure::{Doing, Failure},
    peers::file_of,
};

/// A clock that goes as the machine's does, and is apart from it.
#[derive(Clone, Debug)]
pub struct Clock {
    /// What is loaded before a program, as `LD_PRELOAD` takes it.
    library: String,
    /// Seconds after the machine's clock.
    offset: i64,
}

impl Clock {
    /// A clock that shows `moment` now, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// faketime is not installed.
    pub fn showing(moment: i64) -> Result<Self, Failure> {
        Ok(Self { library: library()?, offset: moment - now()? })
    }

    /// A clock that is slow by so many seconds.
    ///
    /// # Errors
    ///
    /// faketime is not installed.
    pub fn slow_by(seconds: u32) -> Result<Self, Failure> {
        Ok(Self { library: library()?, offset: -i64::from(seconds) })
    }

    /// A program that sees this clock.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.lend(&mut command);
        command
    }

    /// Lets a program see this clock. Those that it starts with an environment of their own see the
    /// machine's, and time passes alike for both.
    pub fn lend(&self, command: &mut Command) {
        command.envs(self.variables());
    }

    /// What a program's environment must say for that.
    pub fn variables(&self) -> [(&'static str, String); 4] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("FAKETIME", self.offset()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ]
    }

    fn offset(&self) -> String {
        format!("{:+}s", self.offset)
    }

    /// What the library leaves behind of a program that may not remove files.
    pub fn leftovers(&self, process: u32) -> [PathBuf; 2] {
        ["faketime_shm_", "sem.faketime_sem_"]
            .map(|name| Path::new("/dev/shm").join(format!("{name}{process}")))
    }

    /// What it shows, since 1970.
    ///
    /// # Errors
    ///
    /// It shows a time before 1970.
    pub fn time(&self) -> Result<Duration, Failure> {
        let shown = u64::try_from(now()? + self.offset).doing("tell the time")?;
        Ok(Duration::from_secs(shown))
    }
}

/// What is loaded before a program. Not by the program `faketime`, which ends where one that was
/// killed had its process id before.
fn library() -> Result<String, Failure> {
    let arch = std::env::consts::ARCH;
    let path = format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1");
    Ok(file_of("faketime", &[&path])?.display().to_string())
}

/// Seconds since 1970 by the machine's clock.
#[expect(clippy::disallowed_methods, reason = "the clock to be apart from")]
fn now() -> Result<i64, Failure> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).doing("tell the time")?;
    i64::try_from(since.as_secs()).doing("tell the time")
}
