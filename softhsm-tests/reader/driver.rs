//! The functions that pcscd calls, by the names and types of its `ifdhandler.h`. A reader is known
//! by its logical unit number; no two calls come at once for one reader.

use std::{
    collections::BTreeMap,
    ffi::{CStr, OsStr},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    ptr, slice,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use libc::{c_char, c_int, c_long, c_uchar, c_ulong};

use crate::channel::{Ask, Channel};

/// As pcscd hands it over by value.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct IoHeader {
    /// T=0 or T=1.
    pub(crate) protocol: c_ulong,
    /// Not used.
    pub(crate) length: c_ulong,
}

/// Opens a reader; the name is the path of its socket.
///
/// # Safety
///
/// `name` is a string with a NUL at its end.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn IFDHCreateChannelByName(
    lun: c_ulong,
    name: *const c_char,
) -> c_long {
    // SAFETY: pcscd hands over the string of its configuration file.
    let name = unsafe { CStr::from_ptr(name) };
    let path = PathBuf::from(OsStr::from_bytes(name.to_bytes()));
    readers().insert(lun, Arc::new(Mutex::new(Channel::new(path))));
    SUCCESS
}

/// A reader without a name is none.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn IFDHCreateChannel(_lun: c_ulong, _channel: c_ulong) -> c_long {
    COMMUNICATION_ERROR
}

/// Closes a reader.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn IFDHCloseChannel(lun: c_ulong) -> c_long {
    readers().remove(&lun);
    SUCCESS
}

/// Says what the driver can: many readers, each with one slot, at once.
///
/// # Safety
///
/// `value` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn IFDHGetCapabilities(
    lun: c_ulong,
    tag: c_ulong,
    length: *mut c_ulong,
    value: *mut c_uchar,
) -> c_long {
    let answer = match tag {
        TAG_POLLING_THREAD_WITH_TIMEOUT => (wait as *const ()).addr().to_ne_bytes().to_vec(),
        TAG_ATR => ask(lun, &[Ask::Presence as u8]),
        TAG_SIMULTANEOUS_ACCESS => vec![16],
        TAG_SLOTS_NUMBER | TAG_THREAD_SAFE => vec![1],
        _ => return ERROR_TAG,
    };
    // SAFETY: as promised to this function.
    unsafe { put(&answer, value, length) }
}

/// Nothing can be set.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn IFDHSetCapabilities(
    _lun: c_ulong,
    _tag: c_ulong,
    _length: c_ulong,
    _value: *const c_uchar,
) -> c_long {
    ERROR_TAG
}

/// Takes whatever protocol the card offers: nothing is lost on a socket.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn IFDHSetProtocolParameters(
    _lun: c_ulong,
    _protocol: c_ulong,
    _flags: c_uchar,
    _pts1: c_uchar,
    _pts2: c_uchar,
    _pts3: c_uchar,
) -> c_long {
    SUCCESS
}

/// Gives power, takes it, resets; answers with the ATR.
///
/// # Safety
///
/// `atr` points to `length` bytes.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn IFDHPowerICC(
    lun: c_ulong,
    action: c_ulong,
    atr: *mut c_uchar,
    length: *mut c_ulong,
) -> c_long {
    let power = if action == POWER_DOWN { Ask::PowerOff } else { Ask::PowerOn };
    let answer = ask(lun, &[power as u8]);
    match power {
        Ask::PowerOff => SUCCESS,
        _ if answer.is_empty() => ERROR_POWER_ACTION,
        // SAFETY: as promised to this function.
        _ => unsafe { put(&answer, atr, length) },
    }
}

/// Hands a command to the card.
///
/// # Safety
///
/// `command` points to `command_length` bytes, `response` to `response_length`.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn IFDHTransmitToICC(
    lun: c_ulong,
    send: IoHeader,
    command: *const c_uchar,
    command_length: c_ulong,
    response: *mut c_uchar,
    response_length: *mut c_ulong,
    received: *mut IoHeader,
) -> c_long {
    let Ok(length) = usize::try_from(command_length) else { return COMMUNICATION_ERROR };
    // SAFETY: as promised to this function.
    let command = unsafe { slice::from_raw_parts(command, length) };
    let answer = ask(lun, command);
    if answer.is_empty() {
        // SAFETY: pcscd hands over a length of its own.
        unsafe { response_length.write(0) };
        return COMMUNICATION_ERROR;
    }
    if !received.is_null() {
        // SAFETY: pcscd hands over a header of its own, if any.
        unsafe { received.write(send) };
    }
    // SAFETY: as promised to this function.
    unsafe { put(&answer, response, response_length) }
}

/// Readers have no display and no keys.
///
/// # Safety
///
/// `returned` points to a number.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn IFDHControl(
    _lun: c_ulong,
    _code: c_ulong,
    _sent: *const c_uchar,
    _sent_length: c_ulong,
    _answer: *mut c_uchar,
    _answer_length: c_ulong,
    returned: *mut c_ulong,
) -> c_long {
    // SAFETY: as promised to this function.
    unsafe { returned.write(0) };
    ERROR_NOT_SUPPORTED
}

/// Whether a card is in the reader.
#[unsafe(no_mangle)]
pub(crate) extern "C" fn IFDHICCPresence(lun: c_ulong) -> c_long {
    if ask(lun, &[Ask::Presence as u8]).is_empty() { ICC_NOT_PRESENT } else { ICC_PRESENT }
}

/// What pcscd does between two looks into a reader. Without it, it sleeps for 400 ms.
extern "C" fn wait(_lun: c_ulong, _timeout: c_int) -> c_long {
    thread::sleep(BETWEEN_LOOKS);
    SUCCESS
}

/// Asks the card of a reader; another reader's is not kept waiting.
fn ask(lun: c_ulong, message: &[u8]) -> Vec<u8> {
    let channel = readers().get(&lun).cloned();
    channel.map_or_else(Vec::new, |channel| {
        channel.lock().unwrap_or_else(PoisonError::into_inner).ask(message)
    })
}

/// Writes an answer where pcscd wants it.
///
/// # Safety
///
/// `to` points to `length` bytes.
unsafe fn put(answer: &[u8], to: *mut c_uchar, length: *mut c_ulong) -> c_long {
    // SAFETY: as promised to this function.
    let room = unsafe { *length };
    let Some(written) = c_ulong::try_from(answer.len()).ok().filter(|written| *written <= room)
    else {
        return ERROR_INSUFFICIENT_BUFFER;
    };
    // SAFETY: there is room for the answer, and it lies elsewhere.
    unsafe {
        ptr::copy_nonoverlapping(answer.as_ptr(), to, answer.len());
        length.write(written);
    }
    SUCCESS
}

fn readers() -> MutexGuard<'static, BTreeMap<c_ulong, Arc<Mutex<Channel>>>> {
    READERS.lock().unwrap_or_else(PoisonError::into_inner)
}

static READERS: Mutex<BTreeMap<c_ulong, Arc<Mutex<Channel>>>> = Mutex::new(BTreeMap::new());

const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

// ifdhandler.h.
const TAG_ATR: c_ulong = 0x0303;
const TAG_POLLING_THREAD_WITH_TIMEOUT: c_ulong = 0x0fb3;
const TAG_SIMULTANEOUS_ACCESS: c_ulong = 0x0faf;
const TAG_SLOTS_NUMBER: c_ulong = 0x0fae;
const TAG_THREAD_SAFE: c_ulong = 0x0fad;
const POWER_DOWN: c_ulong = 501;
const SUCCESS: c_long = 0;
const ERROR_TAG: c_long = 600;
const ERROR_NOT_SUPPORTED: c_long = 606;
const ERROR_POWER_ACTION: c_long = 608;
const COMMUNICATION_ERROR: c_long = 612;
const ICC_PRESENT: c_long = 615;
const ICC_NOT_PRESENT: c_long = 616;
const ERROR_INSUFFICIENT_BUFFER: c_long = 618;
