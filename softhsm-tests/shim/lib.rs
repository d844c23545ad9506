//! A PKCS#11 module that forwards every call to another module, and fails as a [`Plan`] tells it:
//! error codes, hangs, crashes, wrong signatures, lost sessions, a removed device, few sessions, a
//! slow token, a PIN with few tries. It writes down what was called, and whether two threads were
//! in one session at once.
//!
//! The variable [`ENVIRONMENT`] names its directory. The plan in it is looked at in each call, so
//! that faults come and go while a program runs.

mod attempts;
mod forward;
mod module;
mod plan;

pub use cryptoki_sys as pkcs11;
pub use plan::{Action, Attempt, CALLS, DONE, ENVIRONMENT, Fault, OVERLAPS, PLAN, Plan, TRIES};
