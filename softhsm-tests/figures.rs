//! What a process has: its open files, its threads, its children, its memory.

use std::fs;

use crate::failure::{Doing, Failure};

/// How many files a process has open.
///
/// # Errors
///
/// It ended.
pub fn descriptors(process: u32) -> Result<usize, Failure> {
    count(&format!("/proc/{process}/fd"))
}

/// How many threads a process has.
///
/// # Errors
///
/// It ended.
pub fn threads(process: u32) -> Result<usize, Failure> {
    count(&format!("/proc/{process}/task"))
}

/// The children of a process, dead ones that nobody asked for included.
///
/// # Errors
///
/// It ended.
pub fn children(process: u32) -> Result<Vec<u32>, Failure> {
    let directory = format!("/proc/{process}/task");
    let mut children = Vec::new();
    for thread in fs::read_dir(&directory).doing(format_args!("read {directory}"))? {
        let path = thread.doing(format_args!("read {directory}"))?.path().join("children");
        // A thread may end meanwhile; its children become another's.
        let own = fs::read_to_string(path).unwrap_or_default();
        children.extend(own.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    Ok(children)
}

/// How much memory of a process is in use, in KiB.
///
/// # Errors
///
/// It ended.
pub fn resident(process: u32) -> Result<u64, Failure> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).doing(format_args!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let figure = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok());
    figure.ok_or_else(|| Failure::new(format!("{path} has no VmRSS")).said(status))
}

fn count(directory: &str) -> Result<usize, Failure> {
    Ok(fs::read_dir(directory).doing(format_args!("read {directory}"))?.count())
}
