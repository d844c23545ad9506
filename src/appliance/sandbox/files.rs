//! Landlock (Documentation/userspace-api/landlock.rst of Linux): which files may be opened, which
//! TCP ports connected to, and which processes sent signals.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, Scope, path_beneath_rules,
};

use super::{Permits, Report};

/// Confines files; what the kernel does not know goes into the report.
pub(super) fn confine(permits: &Permits, report: &mut Report) -> Result<(), RulesetError> {
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN))?;
    if !permits.network {
        // No port is named below, so that none can be bound or connected to.
        ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN))?;
    }
    if !permits.neighbours {
        ruleset = ruleset.scope(Scope::from_all(KNOWN))?;
    }
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(KNOWN) & !BitFlags::from(AccessFs::Execute);
    // Helpers that the module starts must open /dev/null, and it can be written by all.
    let null = AccessFs::ReadFile | AccessFs::WriteFile;
    let status = ruleset
        .create()?
        .add_rules(path_beneath_rules(["/dev/null"], null))?
        .add_rules(path_beneath_rules(&permits.readable, read))?
        .add_rules(path_beneath_rules(&permits.writable, write))?
        .add_rules(path_beneath_rules(&permits.executable, read | AccessFs::Execute))?
        .restrict_self()?;
    tell(permits, &status, report);
    Ok(())
}

fn tell(permits: &Permits, status: &RestrictionStatus, report: &mut Report) {
    let LandlockStatus::Available { effective_abi, .. } = status.landlock else {
        report.open = true;
        report.missing.push(
            "files: this kernel has no Landlock (Linux 5.13 has it; the kernel's parameter lsm= \
             may leave it out)"
                .to_owned(),
        );
        return;
    };
    report.enforced.push(format!("files (Landlock {effective_abi})"));
    let network = (ABI::V4, "TCP connections by Landlock (Linux 6.7)", !permits.network);
    let neighbours = (ABI::V6, "signals and abstract sockets (Linux 6.12)", !permits.neighbours);
    let more = [
        (ABI::V3, "truncation of files (Linux 6.2)", true),
        network,
        (ABI::V5, "ioctl of devices (Linux 6.10)", true),
        neighbours,
    ];
    for (since, what, wanted) in more {
        if wanted && effective_abi < since {
            report.missing.push(what.to_owned());
        }
    }
}

/// The newest Landlock whose rights were thought of above. From 9 on it also confines the UNIX
/// sockets that have a path, and whoever raises this has to name those of the daemons.
const KNOWN: ABI = ABI::V6;
