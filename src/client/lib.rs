//! The typed client of the appliance, and what it needs on the caller's machine.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use client::{Client, profile};
//!
//! let file = profile::ProfileFile::read("/etc/chancery/config.toml".as_ref())?;
//! let settings = file.resolve(Some("office"), profile::Overrides::default())?;
//! let client = Client::new(&settings)?;
//! for authority in client.authorities().await?.authorities {
//!     println!("{authority:?}");
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(target_os = "linux")]
mod accounts;
#[cfg(target_os = "linux")]
pub mod bot;
#[cfg(target_os = "linux")]
pub mod config_file;
mod connection;
pub mod duration;
pub mod environment;
mod error;
pub mod files;
pub mod flags;
#[cfg(target_os = "linux")]
pub mod host;
pub mod identity;
#[cfg(target_os = "linux")]
mod install;
#[cfg(target_os = "linux")]
mod life;
pub mod local_key;
pub mod local_rsa_key;
pub mod output;
pub mod pkcs12;
#[cfg(target_os = "linux")]
mod process;
pub mod profile;
#[cfg(target_os = "linux")]
mod program;
pub mod public;
pub mod session;
#[cfg(unix)]
pub mod session_key;
#[cfg(unix)]
pub mod ssh_agent;
#[cfg(target_os = "linux")]
pub mod state;

pub use connection::{BatchAnswers, Client, random_key};
pub use error::{Error, TlsFault, chain};
