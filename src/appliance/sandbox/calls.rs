//! Seccomp: which calls of the system are refused, whatever file they concern.
//!
//! A list of what is denied: the code of a vendor calls what it likes, and a list of what is
//! allowed would end it at an update (docs/decisions/0008).

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, Error, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter, sock_filter,
};

use super::{Permits, Report};

/// The calls of a filter, each with the arguments that are refused; with none, whatever they are.
type Refused = BTreeMap<c_long, Vec<SeccompRule>>;

/// Confines calls; what the kernel does not know goes into the report.
pub(super) fn confine(permits: &Permits, report: &mut Report) -> Result<(), Error> {
    let filters = [
        filter(denied(permits)?, libc::EPERM)?,
        // What a kernel without the protocol says: libraries know it.
        filter(Refused::from([(libc::SYS_socket, sockets(permits)?)]), libc::EAFNOSUPPORT)?,
        // Its flags lie in memory, where no filter sees them. The C library takes clone then.
        filter(Refused::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)?,
        second_numbers(),
    ];
    for filter in filters {
        match apply_filter(&filter) {
            Ok(()) => {}
            Err(Error::Seccomp(error)) if error.raw_os_error() == Some(libc::ENOSYS) => {
                report.open = true;
                report.missing.push("calls: this kernel has no seccomp filters".to_owned());
                return Ok(());
            }
            Err(error) => return Err(error),
        }
    }
    let mut enforced = "calls (seccomp) without tracing, mounts, namespaces".to_owned();
    for (open, what) in [
        (!permits.executable.is_empty(), ", other programs"),
        (permits.network, ", network"),
        (permits.unix_sockets, ", UNIX sockets"),
    ] {
        enforced += if open { "" } else { what };
    }
    report.enforced.push(enforced);
    Ok(())
}

fn filter(refused: Refused, code: i32) -> Result<BpfProgram, Error> {
    let refusal = SeccompAction::Errno(code.unsigned_abs());
    let here = std::env::consts::ARCH.try_into()?;
    // A call by the numbers of another architecture (x86 of 32 bits) ends the process.
    Ok(SeccompFilter::new(refused, SeccompAction::Allow, refusal, here)?.try_into()?)
}

fn denied(permits: &Permits) -> Result<Refused, Error> {
    let mut denied: Refused = NEVER.iter().map(|call| (*call, Vec::new())).collect();
    let namespaces = NAMESPACES.iter().map(|flag| {
        let set = SeccompCmpOp::MaskedEq(u64::from(flag.unsigned_abs()));
        Ok(SeccompRule::new(vec![condition(0, set, *flag)?])?)
    });
    denied.insert(libc::SYS_clone, namespaces.collect::<Result<_, Error>>()?);
    if permits.executable.is_empty() {
        denied.extend([libc::SYS_execve, libc::SYS_execveat].map(|call| (call, Vec::new())));
    }
    Ok(denied)
}

/// The sockets that are refused.
fn sockets(permits: &Permits) -> Result<Vec<SeccompRule>, Error> {
    // Where libraries hear of devices that come and go: libusb does not start without.
    let mut allowed = vec![libc::AF_NETLINK];
    let mut refused = Vec::new();
    if permits.unix_sockets {
        allowed.push(libc::AF_UNIX);
    }
    if permits.network {
        allowed.extend([libc::AF_INET, libc::AF_INET6]);
    } else {
        refused.push(SeccompRule::new(vec![
            condition(0, SeccompCmpOp::Eq, libc::AF_NETLINK)?,
            condition(2, SeccompCmpOp::Ne, libc::NETLINK_KOBJECT_UEVENT)?,
        ])?);
    }
    let none = allowed.into_iter().map(|family| condition(0, SeccompCmpOp::Ne, family));
    refused.push(SeccompRule::new(none.collect::<Result<_, _>>()?)?);
    Ok(refused)
}

fn condition(argument: u8, operator: SeccompCmpOp, value: i32) -> Result<SeccompCondition, Error> {
    let value = u64::from(value.cast_unsigned());
    Ok(SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)?)
}

/// x86-64 has each call under a second number (x32: bit 30), which a list of calls would forget.
/// Elsewhere no call has such a number.
fn second_numbers() -> BpfProgram {
    let operation = |code: u32, jf, k| sock_filter { code: code as u16, jt: 0, jf, k };
    vec![
        // The number is the first word of struct seccomp_data.
        operation(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0),
        operation(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 1, 0x4000_0000),
        operation(
            libc::BPF_RET | libc::BPF_K,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs(),
        ),
        operation(libc::BPF_RET | libc::BPF_K, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

/// What neither the code of a token nor the appliance needs.
const NEVER: &[c_long] = &[
    // Other processes' memory and files.
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    // Large and often broken parts of the kernel; io_uring makes calls that no filter sees.
    libc::SYS_bpf,
    libc::SYS_fanotify_init,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    // Keys of the kernel.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    // File systems and namespaces.
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_quotactl,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // The machine.
    libc::SYS_acct,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_personality,
    libc::SYS_reboot,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

const NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWUTS,
];

#[cfg(test)]
mod tests {
    use std::{io::Error as SystemError, thread};

    use rustix::{
        io::Errno,
        net::{AddressFamily, Protocol, SocketType, netlink, socket},
        process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
    };

    use super::*;

    #[test]
    fn sockets_are_those_that_are_permitted_and_threads_go_on() {
        let none = outcomes(Permits::default());
        let refused = Err(Errno::AFNOSUPPORT);
        assert_eq!(none, [refused, refused, refused, refused, Ok(()), Err(Errno::PERM)]);
        let unix = outcomes(Permits { unix_sockets: true, ..Permits::default() });
        assert_eq!(unix[..4], [refused, refused, Ok(()), refused]);
        let all = outcomes(Permits { network: true, unix_sockets: true, ..Permits::default() });
        assert_eq!(all, [Ok(()), Ok(()), Ok(()), Ok(()), Ok(()), Err(Errno::PERM)]);
    }

    /// Sockets of IPv4, IPv6, UNIX, routes of the network, devices that come and go; and another
    /// process's file. Made by a thread that the confined one starts.
    fn outcomes(permits: Permits) -> [Result<(), Errno>; 6] {
        let attempt = || {
            let datagrams = |family, protocol: Option<Protocol>| {
                socket(family, SocketType::DGRAM, protocol).map(drop)
            };
            let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
            [
                datagrams(AddressFamily::INET, None),
                datagrams(AddressFamily::INET6, None),
                datagrams(AddressFamily::UNIX, None),
                datagrams(AddressFamily::NETLINK, None),
                datagrams(AddressFamily::NETLINK, Some(netlink::KOBJECT_UEVENT)),
                pidfd_getfd(own, 0, PidfdGetfdFlags::empty()).map(drop),
            ]
        };
        let confined = thread::spawn(move || {
            confine(&permits, &mut Report::default()).map_err(SystemError::other).unwrap();
            thread::spawn(attempt).join().unwrap()
        });
        // The kernel itself refuses none of them.
        assert_eq!(attempt(), [Ok(()); 6]);
        confined.join().unwrap()
    }
}
