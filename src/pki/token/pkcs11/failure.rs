//! What a return value of PKCS#11 means to whoever called.

use std::borrow::Cow;

use cryptoki::{
    context::Function,
    error::{Error, RvError},
};

use crate::token::TokenError;

/// Tells the kinds apart: what a new session mends, what a new process mends, and what only
/// a person can.
pub(super) fn token_error(error: Error) -> TokenError {
    match error {
        Error::Pkcs11(value, function) => from_return_value(value, call_name(function)),
        Error::LibraryLoading(error) => {
            TokenError::NoToken(format!("the PKCS#11 module cannot be loaded: {error}"))
        }
        // The module broke the protocol (a missing function, a value out of range).
        other => TokenError::Refused { call: "the PKCS#11 module".into(), code: other.to_string() },
    }
}

fn from_return_value(value: RvError, call: &'static str) -> TokenError {
    use RvError as Rv;

    let (call, code) = (Cow::Borrowed(call), code_name(value));
    match value {
        // The session or what it held is gone, the token is not.
        Rv::Cancel
        | Rv::FunctionCanceled
        | Rv::FunctionFailed
        | Rv::KeyHandleInvalid
        | Rv::ObjectHandleInvalid
        | Rv::OperationActive
        | Rv::OperationNotInitialized
        | Rv::SessionClosed
        | Rv::SessionHandleInvalid
        | Rv::UserNotLoggedIn => TokenError::Session { call, code },
        // Seen when a token goes away; the module recovers only through C_Finalize.
        Rv::CantLock
        | Rv::CryptokiNotInitialized
        | Rv::DeviceError
        | Rv::DeviceMemory
        | Rv::DeviceRemoved
        | Rv::GeneralError
        | Rv::HostMemory
        | Rv::MutexBad
        | Rv::MutexNotLocked
        | Rv::SlotIdInvalid
        | Rv::TokenNotPresent
        | Rv::TokenNotRecognized
        | Rv::UnknownErrorCode(_)
        | Rv::VendorDefined(_) => TokenError::Context { call, code },
        Rv::PinExpired
        | Rv::PinIncorrect
        | Rv::PinInvalid
        | Rv::PinLenRange
        | Rv::PinLocked
        | Rv::PinTooWeak
        | Rv::UserPinNotInitialized => TokenError::Pin { code },
        Rv::CurveNotSupported | Rv::MechanismInvalid | Rv::MechanismParamInvalid => {
            TokenError::MechanismMissing { what: format!("{call} ({code})") }
        }
        Rv::SessionCount => TokenError::NoSession { call },
        _ => TokenError::Refused { call, code },
    }
}

fn call_name(function: Function) -> &'static str {
    match function {
        Function::CopyObject => "C_CopyObject",
        Function::CreateObject => "C_CreateObject",
        Function::DestroyObject => "C_DestroyObject",
        Function::FindObjects => "C_FindObjects",
        Function::FindObjectsInit => "C_FindObjectsInit",
        Function::GenerateKeyPair => "C_GenerateKeyPair",
        Function::GenerateRandom => "C_GenerateRandom",
        Function::GetAttributeValue => "C_GetAttributeValue",
        Function::GetMechanismInfo => "C_GetMechanismInfo",
        Function::GetMechanismList => "C_GetMechanismList",
        Function::GetSessionInfo => "C_GetSessionInfo",
        Function::GetSlotList => "C_GetSlotList",
        Function::GetTokenInfo => "C_GetTokenInfo",
        Function::InitPIN => "C_InitPIN",
        Function::InitToken => "C_InitToken",
        Function::Initialize => "C_Initialize",
        Function::Login => "C_Login",
        Function::OpenSession => "C_OpenSession",
        Function::SetPIN => "C_SetPIN",
        Function::Sign => "C_Sign",
        Function::SignInit => "C_SignInit",
        Function::UnwrapKey => "C_UnwrapKey",
        Function::WrapKey => "C_WrapKey",
        _ => "a PKCS#11 function",
    }
}

/// `CKR_PIN_INCORRECT` of `PinIncorrect`: the name that a person finds in the vendor's manual.
pub(super) fn code_name(value: RvError) -> String {
    match value {
        RvError::UnknownErrorCode(number) | RvError::VendorDefined(number) => {
            format!("return value 0x{number:08x}")
        }
        named => {
            let mut name = "CKR".to_owned();
            for letter in format!("{named:?}").chars() {
                if letter.is_ascii_uppercase() {
                    name.push('_');
                }
                name.push(letter.to_ascii_uppercase());
            }
            name
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_return_value_is_of_one_kind() {
        for (value, kind, code) in [
            (RvError::SessionHandleInvalid, "session", "CKR_SESSION_HANDLE_INVALID"),
            (RvError::KeyHandleInvalid, "session", "CKR_KEY_HANDLE_INVALID"),
            (RvError::UserNotLoggedIn, "session", "CKR_USER_NOT_LOGGED_IN"),
            (RvError::DeviceError, "context", "CKR_DEVICE_ERROR"),
            (RvError::TokenNotPresent, "context", "CKR_TOKEN_NOT_PRESENT"),
            (RvError::CryptokiNotInitialized, "context", "CKR_CRYPTOKI_NOT_INITIALIZED"),
            (RvError::VendorDefined(0x8000_0001), "context", "return value 0x80000001"),
            (RvError::PinIncorrect, "pin", "CKR_PIN_INCORRECT"),
            (RvError::PinLocked, "pin", "CKR_PIN_LOCKED"),
            (RvError::MechanismInvalid, "mechanism", "CKR_MECHANISM_INVALID"),
            (RvError::TemplateInconsistent, "refused", "CKR_TEMPLATE_INCONSISTENT"),
            (RvError::SessionCount, "count", "CKR_SESSION_COUNT"),
        ] {
            let error = token_error(Error::Pkcs11(value, Function::SignInit));
            let found = match &error {
                TokenError::Session { call, .. } if call == "C_SignInit" => "session",
                TokenError::Context { call, .. } if call == "C_SignInit" => "context",
                TokenError::Pin { .. } => "pin",
                TokenError::MechanismMissing { .. } => "mechanism",
                TokenError::NoSession { call } if call == "C_SignInit" => "count",
                TokenError::Refused { call, .. } if call == "C_SignInit" => "refused",
                _ => "another",
            };
            assert_eq!(found, kind, "{value:?}");
            assert!(error.to_string().contains(code), "{error}");
        }
    }
}
