//! Key ceremonies: a plan is linted and rehearsed, performed on a token, and recorded.
//!
//! ```text
//! plan ──lint──► dry run on software keys ──► run: confirm, intent, act, result ──► transcript ──► hand-off
//!                                              ▲                 └─► interrupted ─┐       └──► verify, offline
//!                                              └──────────────── resume ◄─────────┘
//! ```
//!
//! A [`plan::Plan`] says what is made; a [`site::Site`] says on which token. [`run`] performs it and
//! writes [`journal`]s, each of which becomes the [`transcript`]; from that alone the [`handoff`] is
//! made: whoever has the transcript can [`verify`] both, without token and network. [`progress`] has
//! the rules of what may follow what, for whoever writes and whoever reads; [`steps`] has what each
//! kind of step is.

pub mod clauses;
pub mod compare;
pub mod console;
pub mod custody;
pub mod digest;
pub mod dry_run;
pub mod environment;
pub mod evidence;
pub mod failure;
pub mod handoff;
pub mod inventory;
pub mod journal;
pub mod machine;
pub mod made;
pub mod name;
pub mod paper;
pub mod pattern;
pub mod people;
pub mod plan;
pub mod progress;
pub mod qr;
pub mod rehearsal;
pub mod report;
pub mod run;
pub mod script;
pub mod second_opinion;
pub mod secrets;
pub mod shares;
pub mod site;
mod stand_in;
pub mod status;
pub mod steps;
pub mod token_profile;
pub mod transcript;
pub mod trust;
pub mod verify;
pub mod words;
