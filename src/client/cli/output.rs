//! Output, as all of Chancery's command lines have it.

pub(super) use client::output::{Output, complain, printable, time};
