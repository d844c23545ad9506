//! Key ceremonies: a plan is linted and rehearsed, performed on a token, and recorded.
//!
//! ```text
//! plan ──lint──► rehearsal on software keys ──► run: confirm, intent, act, result ──► transcript ──► hand-off
//!                                                                                        └──► verify, offline
//! ```
//!
//! A [`plan::Plan`] says what is made; a [`site::Site`] says on which token. [`run`] performs it and
//! writes a [`transcript`], from which alone the [`handoff`] is made: whoever has the transcript can
//! [`verify`] both, without token and network.

pub mod console;
pub mod digest;
pub mod failure;
pub mod handoff;
pub mod made;
pub mod name;
pub mod plan;
pub mod rehearsal;
pub mod run;
pub mod site;
pub mod transcript;
pub mod verify;
pub mod words;
