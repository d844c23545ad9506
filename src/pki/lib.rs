//! Names, keys, tokens and certificate formats: no network, no async.
//!
//! Everything that is signed takes three steps:
//!
//! ```text
//! let prepared  = issuer.prepare(template)?;      // pure: builds the to-be-signed bytes, lints them
//! let signature = token.sign(prepared.key(), prepared.scheme(), Input::Message(prepared.bytes()))?;
//! let sealed    = prepared.seal(signature)?;      // pure: verifies under the issuer's key, assembles
//! ```
//!
//! Formats ([`x509`], [`ssh`], [`krl`], [`revocation`]) never see a token; tokens ([`token`]) never see a format.

pub mod clock;
pub mod handoff;
pub mod keys;
pub mod krl;
pub mod names;
pub mod revocation;
pub mod seal;
pub mod secret;
pub mod serial;
pub mod ssh;
pub mod token;
pub mod x509;
