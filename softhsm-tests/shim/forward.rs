//! The functions, one by one: most only forward.
#![expect(non_snake_case, reason = "PKCS#11 gives the names")]

use std::{
    ffi::c_void,
    slice, thread,
    time::{Duration, Instant},
};

use cryptoki_sys::*;

use crate::{
    attempts,
    module::{Change, module},
};

/// The one symbol by which a PKCS#11 module is known.
///
/// # Safety
///
/// `list` is null or points to a place for a pointer.
#[unsafe(no_mangle)]
unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    if list.is_null() {
        return CKR_ARGUMENTS_BAD;
    }
    if module().is_none() {
        return CKR_GENERAL_ERROR;
    }
    // SAFETY: not null, so that the caller promises the place. Nobody writes through the pointer
    // (PKCS#11 section 5.4).
    unsafe { *list = (&raw const LIST).cast_mut() };
    CKR_OK
}

unsafe extern "C" fn C_Initialize(arguments: *mut c_void) -> CK_RV {
    let Some(module) = module() else { return CKR_GENERAL_ERROR };
    module.call("C_Initialize", |module| {
        for (place, attempt) in module.plan().attempts.iter().enumerate() {
            module.note(&format!("attempt-{place}"), attempts::outcome(attempt));
        }
        match module.real().C_Initialize {
            // SAFETY: the caller's argument, as the caller promises it to be.
            Some(initialize) => unsafe { initialize(arguments) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    })
}

unsafe extern "C" fn C_Finalize(reserved: *mut c_void) -> CK_RV {
    let Some(module) = module() else { return CKR_GENERAL_ERROR };
    module.call("C_Finalize", |module| {
        module.finalized();
        match module.real().C_Finalize {
            // SAFETY: the caller's argument, as the caller promises it to be.
            Some(finalize) => unsafe { finalize(reserved) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    })
}

unsafe extern "C" fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let Some(module) = module() else { return CKR_GENERAL_ERROR };
    module.call("C_GetTokenInfo", |module| {
        let Some(get) = module.real().C_GetTokenInfo else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the caller's arguments, as the caller promises them to be.
        let outcome = unsafe { get(slot, info) };
        // SAFETY: the caller promises null or a structure, which the module has filled.
        if let (CKR_OK, Some(info)) = (outcome, unsafe { info.as_mut() }) {
            let plan = module.plan();
            if let Some(most) = plan.sessions {
                info.ulMaxSessionCount = CK_ULONG::try_from(most).unwrap_or(CK_ULONG::MAX);
            }
            if let Some(tries) = plan.pin_tries {
                info.flags &= !(CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY);
                info.flags |= pin_flags(module.wrong_pins(), tries);
            }
        }
        outcome
    })
}

fn pin_flags(wrong: u32, tries: u32) -> CK_FLAGS {
    match tries.saturating_sub(wrong) {
        0 => CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_LOCKED,
        1 => CKF_USER_PIN_COUNT_LOW | CKF_USER_PIN_FINAL_TRY,
        _ if wrong > 0 => CKF_USER_PIN_COUNT_LOW,
        _ => 0,
    }
}

unsafe extern "C" fn C_OpenSession(
    slot: CK_SLOT_ID,
    flags: CK_FLAGS,
    application: *mut c_void,
    notify: CK_NOTIFY,
    session: *mut CK_SESSION_HANDLE,
) -> CK_RV {
    let Some(module) = module() else { return CKR_GENERAL_ERROR };
    module.call("C_OpenSession", |module| {
        if !module.has_room() {
            return CKR_SESSION_COUNT;
        }
        let Some(open) = module.real().C_OpenSession else { return CKR_FUNCTION_NOT_SUPPORTED };
        // SAFETY: the caller's arguments, as the caller promises them to be.
        let outcome = unsafe { open(slot, flags, application, notify, session) };
        // SAFETY: the caller promises null or a place for a handle, which the module has filled.
        if let (CKR_OK, Some(session)) = (outcome, unsafe { session.as_mut() }) {
            *session = module.opened(*session, slot);
        }
        outcome
    })
}

unsafe extern "C" fn C_CloseSession(session: CK_SESSION_HANDLE) -> CK_RV {
    let Some(module) = module() else { return CKR_GENERAL_ERROR };
    module.call_in("C_CloseSession", session, |module, real, _| {
        module.closed(session);
        match module.real().C_CloseSession {
            // SAFETY: a handle that the real module gave.
            Some(close) => unsafe { close(real) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    })
}

unsafe extern "C" fn C_CloseAllSessions(slot: CK_SLOT_ID) -> CK_RV {
    let Some(module) = module() else { return CKR_GENERAL_ERROR };
    module.call("C_CloseAllSessions", |module| {
        module.all_closed(slot);
        match module.real().C_CloseAllSessions {
            // SAFETY: it takes no pointer.
            Some(close) => unsafe { close(slot) },
            None => CKR_FUNCTION_NOT_SUPPORTED,
        }
    })
}

unsafe extern "C" fn C_Login(
    session: CK_SESSION_HANDLE,
    user: CK_USER_TYPE,
    pin: *mut CK_UTF8CHAR,
    length: CK_ULONG,
) -> CK_RV {
    let Some(module) = module() else { return CKR_GENERAL_ERROR };
    // The login of a key with CKA_ALWAYS_AUTHENTICATE has its own faults and is counted apart.
    let name = if user == CKU_CONTEXT_SPECIFIC { "C_Login(context)" } else { "C_Login" };
    module.call_in(name, session, |module, real, _| {
        let Some(login) = module.real().C_Login else { return CKR_FUNCTION_NOT_SUPPORTED };
        let tries = module.plan().pin_tries.filter(|_| user == CKU_USER);
        if tries.is_some_and(|tries| module.wrong_pins() >= tries) {
            return CKR_PIN_LOCKED;
        }
        // SAFETY: the caller's arguments, as the caller promises them to be.
        let outcome = unsafe { login(real, user, pin, length) };
        match outcome {
            CKR_OK if tries.is_some() => module.set_wrong_pins(0),
            CKR_PIN_INCORRECT if tries.is_some() => module.set_wrong_pins(module.wrong_pins() + 1),
            _ => {}
        }
        outcome
    })
}

unsafe extern "C" fn C_Sign(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    data_length: CK_ULONG,
    signature: *mut CK_BYTE,
    length: *mut CK_ULONG,
) -> CK_RV {
    let Some(module) = module() else { return CKR_GENERAL_ERROR };
    // Who gives no place asks for the length only: neither slow nor faulty, and not counted.
    let asks = signature.is_null();
    let name = if asks { "C_Sign(length)" } else { "C_Sign" };
    let input = if data.is_null() {
        &[]
    } else {
        // SAFETY: the caller promises so many bytes of input where it gives any.
        unsafe { slice::from_raw_parts(data, data_length as usize) }
    };
    module.sign_in(name, session, input, |module, real, change| {
        let Some(sign) = module.real().C_Sign else { return CKR_FUNCTION_NOT_SUPPORTED };
        let until = Instant::now() + Duration::from_millis(module.plan().signature_ms);
        // SAFETY: the caller's arguments, as the caller promises them to be.
        let outcome = unsafe { sign(real, data, data_length, signature, length) };
        if !asks {
            thread::sleep(until.saturating_duration_since(Instant::now()));
        }
        if let (CKR_OK, Some(change)) = (outcome, change) {
            // SAFETY: the token has just written that many bytes of signature, and their number.
            unsafe { spoil(signature, length, change) };
        }
        outcome
    })
}

/// Makes a signature wrong.
///
/// # Safety
///
/// `length` points to the number of bytes that `signature` points to.
unsafe fn spoil(signature: *mut CK_BYTE, length: *mut CK_ULONG, change: Change) {
    // SAFETY: as the caller promises; the byte in the middle of one or more is one of them.
    unsafe {
        match change {
            Change::Flip if *length > 0 => *signature.add(*length as usize / 2) ^= 1,
            Change::Flip => {}
            Change::Shorten => *length = (*length).saturating_sub(1),
        }
    }
}

macro_rules! forward {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        unsafe extern "C" fn $name($($argument: $kind),*) -> CK_RV {
            let Some(module) = module() else { return CKR_GENERAL_ERROR };
            module.call(stringify!($name), |module| match module.real().$name {
                // SAFETY: the caller's arguments, as the caller promises them to be.
                Some(function) => unsafe { function($($argument),*) },
                None => CKR_FUNCTION_NOT_SUPPORTED,
            })
        }
    )*};
}

macro_rules! forward_in_session {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {$(
        unsafe extern "C" fn $name(session: CK_SESSION_HANDLE, $($argument: $kind),*) -> CK_RV {
            let Some(module) = module() else { return CKR_GENERAL_ERROR };
            module.call_in(stringify!($name), session, |module, real, _| {
                match module.real().$name {
                    // SAFETY: a handle that the real module gave; the rest are the caller's
                    // arguments, as the caller promises them to be.
                    Some(function) => unsafe { function(real, $($argument),*) },
                    None => CKR_FUNCTION_NOT_SUPPORTED,
                }
            })
        }
    )*};
}

forward! {
    C_GetInfo(a: *mut CK_INFO);
    C_GetSlotList(a: CK_BBOOL, b: *mut CK_SLOT_ID, c: *mut CK_ULONG);
    C_GetSlotInfo(a: CK_SLOT_ID, b: *mut CK_SLOT_INFO);
    C_GetMechanismList(a: CK_SLOT_ID, b: *mut CK_MECHANISM_TYPE, c: *mut CK_ULONG);
    C_GetMechanismInfo(a: CK_SLOT_ID, b: CK_MECHANISM_TYPE, c: *mut CK_MECHANISM_INFO);
    C_InitToken(a: CK_SLOT_ID, b: *mut CK_UTF8CHAR, c: CK_ULONG, d: *mut CK_UTF8CHAR);
    C_WaitForSlotEvent(a: CK_FLAGS, b: *mut CK_SLOT_ID, c: *mut c_void);
}

forward_in_session! {
    C_InitPIN(a: *mut CK_UTF8CHAR, b: CK_ULONG);
    C_SetPIN(a: *mut CK_UTF8CHAR, b: CK_ULONG, c: *mut CK_UTF8CHAR, d: CK_ULONG);
    C_GetSessionInfo(a: *mut CK_SESSION_INFO);
    C_GetOperationState(a: *mut CK_BYTE, b: *mut CK_ULONG);
    C_SetOperationState(a: *mut CK_BYTE, b: CK_ULONG, c: CK_OBJECT_HANDLE, d: CK_OBJECT_HANDLE);
    C_Logout();
    C_CreateObject(a: *mut CK_ATTRIBUTE, b: CK_ULONG, c: *mut CK_OBJECT_HANDLE);
    C_CopyObject(a: CK_OBJECT_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG, d: *mut CK_OBJECT_HANDLE);
    C_DestroyObject(a: CK_OBJECT_HANDLE);
    C_GetObjectSize(a: CK_OBJECT_HANDLE, b: *mut CK_ULONG);
    C_GetAttributeValue(a: CK_OBJECT_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG);
    C_SetAttributeValue(a: CK_OBJECT_HANDLE, b: *mut CK_ATTRIBUTE, c: CK_ULONG);
    C_FindObjectsInit(a: *mut CK_ATTRIBUTE, b: CK_ULONG);
    C_FindObjects(a: *mut CK_OBJECT_HANDLE, b: CK_ULONG, c: *mut CK_ULONG);
    C_FindObjectsFinal();
    C_EncryptInit(a: *mut CK_MECHANISM, b: CK_OBJECT_HANDLE);
    C_Encrypt(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_EncryptUpdate(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_EncryptFinal(a: *mut CK_BYTE, b: *mut CK_ULONG);
    C_DecryptInit(a: *mut CK_MECHANISM, b: CK_OBJECT_HANDLE);
    C_Decrypt(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_DecryptUpdate(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_DecryptFinal(a: *mut CK_BYTE, b: *mut CK_ULONG);
    C_DigestInit(a: *mut CK_MECHANISM);
    C_Digest(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_DigestUpdate(a: *mut CK_BYTE, b: CK_ULONG);
    C_DigestKey(a: CK_OBJECT_HANDLE);
    C_DigestFinal(a: *mut CK_BYTE, b: *mut CK_ULONG);
    C_SignInit(a: *mut CK_MECHANISM, b: CK_OBJECT_HANDLE);
    C_SignUpdate(a: *mut CK_BYTE, b: CK_ULONG);
    C_SignFinal(a: *mut CK_BYTE, b: *mut CK_ULONG);
    C_SignRecoverInit(a: *mut CK_MECHANISM, b: CK_OBJECT_HANDLE);
    C_SignRecover(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_VerifyInit(a: *mut CK_MECHANISM, b: CK_OBJECT_HANDLE);
    C_Verify(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: CK_ULONG);
    C_VerifyUpdate(a: *mut CK_BYTE, b: CK_ULONG);
    C_VerifyFinal(a: *mut CK_BYTE, b: CK_ULONG);
    C_VerifyRecoverInit(a: *mut CK_MECHANISM, b: CK_OBJECT_HANDLE);
    C_VerifyRecover(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_DigestEncryptUpdate(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_DecryptDigestUpdate(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_SignEncryptUpdate(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_DecryptVerifyUpdate(a: *mut CK_BYTE, b: CK_ULONG, c: *mut CK_BYTE, d: *mut CK_ULONG);
    C_GenerateKey(a: *mut CK_MECHANISM, b: *mut CK_ATTRIBUTE, c: CK_ULONG, d: *mut CK_OBJECT_HANDLE);
    C_GenerateKeyPair(a: *mut CK_MECHANISM, b: *mut CK_ATTRIBUTE, c: CK_ULONG, d: *mut CK_ATTRIBUTE, e: CK_ULONG, f: *mut CK_OBJECT_HANDLE, g: *mut CK_OBJECT_HANDLE);
    C_WrapKey(a: *mut CK_MECHANISM, b: CK_OBJECT_HANDLE, c: CK_OBJECT_HANDLE, d: *mut CK_BYTE, e: *mut CK_ULONG);
    C_UnwrapKey(a: *mut CK_MECHANISM, b: CK_OBJECT_HANDLE, c: *mut CK_BYTE, d: CK_ULONG, e: *mut CK_ATTRIBUTE, f: CK_ULONG, g: *mut CK_OBJECT_HANDLE);
    C_DeriveKey(a: *mut CK_MECHANISM, b: CK_OBJECT_HANDLE, c: *mut CK_ATTRIBUTE, d: CK_ULONG, e: *mut CK_OBJECT_HANDLE);
    C_SeedRandom(a: *mut CK_BYTE, b: CK_ULONG);
    C_GenerateRandom(a: *mut CK_BYTE, b: CK_ULONG);
    C_GetFunctionStatus();
    C_CancelFunction();
}

/// Version 2.40: callers of 3.x find no C_GetInterface, and take this.
static LIST: CK_FUNCTION_LIST = CK_FUNCTION_LIST {
    version: CK_VERSION { major: 2, minor: 40 },
    C_Initialize: Some(C_Initialize),
    C_Finalize: Some(C_Finalize),
    C_GetInfo: Some(C_GetInfo),
    C_GetFunctionList: Some(C_GetFunctionList),
    C_GetSlotList: Some(C_GetSlotList),
    C_GetSlotInfo: Some(C_GetSlotInfo),
    C_GetTokenInfo: Some(C_GetTokenInfo),
    C_GetMechanismList: Some(C_GetMechanismList),
    C_GetMechanismInfo: Some(C_GetMechanismInfo),
    C_InitToken: Some(C_InitToken),
    C_InitPIN: Some(C_InitPIN),
    C_SetPIN: Some(C_SetPIN),
    C_OpenSession: Some(C_OpenSession),
    C_CloseSession: Some(C_CloseSession),
    C_CloseAllSessions: Some(C_CloseAllSessions),
    C_GetSessionInfo: Some(C_GetSessionInfo),
    C_GetOperationState: Some(C_GetOperationState),
    C_SetOperationState: Some(C_SetOperationState),
    C_Login: Some(C_Login),
    C_Logout: Some(C_Logout),
    C_CreateObject: Some(C_CreateObject),
    C_CopyObject: Some(C_CopyObject),
    C_DestroyObject: Some(C_DestroyObject),
    C_GetObjectSize: Some(C_GetObjectSize),
    C_GetAttributeValue: Some(C_GetAttributeValue),
    C_SetAttributeValue: Some(C_SetAttributeValue),
    C_FindObjectsInit: Some(C_FindObjectsInit),
    C_FindObjects: Some(C_FindObjects),
    C_FindObjectsFinal: Some(C_FindObjectsFinal),
    C_EncryptInit: Some(C_EncryptInit),
    C_Encrypt: Some(C_Encrypt),
    C_EncryptUpdate: Some(C_EncryptUpdate),
    C_EncryptFinal: Some(C_EncryptFinal),
    C_DecryptInit: Some(C_DecryptInit),
    C_Decrypt: Some(C_Decrypt),
    C_DecryptUpdate: Some(C_DecryptUpdate),
    C_DecryptFinal: Some(C_DecryptFinal),
    C_DigestInit: Some(C_DigestInit),
    C_Digest: Some(C_Digest),
    C_DigestUpdate: Some(C_DigestUpdate),
    C_DigestKey: Some(C_DigestKey),
    C_DigestFinal: Some(C_DigestFinal),
    C_SignInit: Some(C_SignInit),
    C_Sign: Some(C_Sign),
    C_SignUpdate: Some(C_SignUpdate),
    C_SignFinal: Some(C_SignFinal),
    C_SignRecoverInit: Some(C_SignRecoverInit),
    C_SignRecover: Some(C_SignRecover),
    C_VerifyInit: Some(C_VerifyInit),
    C_Verify: Some(C_Verify),
    C_VerifyUpdate: Some(C_VerifyUpdate),
    C_VerifyFinal: Some(C_VerifyFinal),
    C_VerifyRecoverInit: Some(C_VerifyRecoverInit),
    C_VerifyRecover: Some(C_VerifyRecover),
    C_DigestEncryptUpdate: Some(C_DigestEncryptUpdate),
    C_DecryptDigestUpdate: Some(C_DecryptDigestUpdate),
    C_SignEncryptUpdate: Some(C_SignEncryptUpdate),
    C_DecryptVerifyUpdate: Some(C_DecryptVerifyUpdate),
    C_GenerateKey: Some(C_GenerateKey),
    C_GenerateKeyPair: Some(C_GenerateKeyPair),
    C_WrapKey: Some(C_WrapKey),
    C_UnwrapKey: Some(C_UnwrapKey),
    C_DeriveKey: Some(C_DeriveKey),
    C_SeedRandom: Some(C_SeedRandom),
    C_GenerateRandom: Some(C_GenerateRandom),
    C_GetFunctionStatus: Some(C_GetFunctionStatus),
    C_CancelFunction: Some(C_CancelFunction),
    C_WaitForSlotEvent: Some(C_WaitForSlotEvent),
};
