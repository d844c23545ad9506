//! The agent of a host: a machine whose sshd lets people in by certificates of the appliance.
//!
//! ```text
//!   appliance ── bundle, authorities ──▶ agent ── files ──▶ sshd: RevokedKeys, TrustedUserCAKeys,
//!        ▲                                 │                      HostCertificate
//!        └── acknowledged, logins, used ───┤
//!                                          │◀── "who may log in?" ── chancery host principals
//!                                          └── SIGTERM ─▶ connections whose certificate is over
//! ```
//!
//! What must be in force is worked out from what is known (`revocation`), then the files are made
//! to say so, again and again (`agent`): what applied a bundle also repairs a damaged file, closes
//! a host that hears nothing, and opens it again.

mod agent;
pub mod config;
mod connections;
pub mod doctor;
pub mod join;
pub mod principals;
mod renewal;
mod reports;
mod revocation;
mod socket;
mod state;
mod trust;

pub use agent::{Agent, AgentError};
pub use socket::{Answer, Ask, AskError, ConnectionStatus, Status, ask};
pub use state::MembershipError;
