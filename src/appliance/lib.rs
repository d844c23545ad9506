//! The signing appliance: policy, ledger, signing, authority, service.
//!
//! A request takes a straight line: [`service`] parses it, [`authority`] decides, prepares, writes
//! the intent down, has it signed, seals, records, and only then is there something to answer.

pub mod authority;
pub mod config;
pub mod ledger;
pub mod policy;
pub mod service;
pub mod signing;
pub mod worker;
