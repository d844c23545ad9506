//! The agent of a bot: joins once, renews for ever, and gives what it is given to other programs.
//!
//! ```text
//!   appliance ── own certificate ──▶ identity ── client ──▶ outputs ──▶ directories: one bundle each
//!        ▲                                                     │
//!        └── join, renew, confirm                              └──────▶ sockets: ssh-agent, SPIFFE
//! ```
//!
//! An output makes a new key, has it certified, and puts the whole bundle in the place of the old
//! one (`bundle`), or serves it from memory.

mod agent;
mod bound_key;
mod bundle;
pub mod config;
mod health;
mod hook;
mod identity;
mod output;
mod place;
mod schedule;
mod socket;
mod state;
mod status;
mod token;
mod workload_api;

pub use agent::{Agent, AgentError, OnceError};
pub use bound_key::{BoundKey, BoundKeyError};
pub use output::kubernetes::{CredentialError, credential as kubernetes_credential};
pub use state::stored_status;
pub use status::{Counts, IdentityStatus, OutputStatus, Status};
