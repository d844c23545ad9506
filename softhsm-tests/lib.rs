//! What the stories stand on: real peers, each started in a directory of its own, on the loopback
//! interface, with no rights but the caller's, and ended by its process id.
//!
//! A peer that is not installed is a failure that names the package, never a skipped test. Nothing
//! here waits for a time to pass: it waits for a condition, up to a deadline.

pub mod agent;
pub mod bot;
pub mod chance;
pub mod clock;
pub mod desk;
pub mod failure;
pub mod figures;
pub mod fleet;
pub mod https;
pub mod kdc;
pub mod keep_alive;
pub mod kryoptic;
pub mod kubernetes;
pub mod load;
pub mod logon;
pub mod mariadb;
pub mod narrator;
pub mod office;
pub mod oidc;
pub mod openssl;
pub mod p11_kit;
pub mod peers;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod readers;
pub mod samba;
pub mod server_tls;
pub mod shim;
pub mod slapd;
pub mod softhsm;
pub mod ssh;
pub mod sshd;
pub mod terminal;
pub mod token;
pub mod tpm;
mod unprivileged;
pub mod virtual_card;
pub mod windows;

pub use failure::{Doing, Failure, Story};
