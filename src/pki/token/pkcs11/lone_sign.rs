//! C_Sign without C_SignInit. A key with CKA_ALWAYS_AUTHENTICATE wants C_Login between the two
//! (PKCS#11 2.40 section 5.6, C_Login), and cryptoki calls them in one.
#![expect(unsafe_code, reason = "a function of the module is called by its C type")]

use std::{path::Path, ptr};

use cryptoki::{
    context::Function,
    error::{Error, Result, Rv, RvError},
    session::Session,
};
use cryptoki_sys::{CK_BYTE, CK_FUNCTION_LIST, CK_RV, CK_SESSION_HANDLE, CK_ULONG};
use libloading::Library;

/// C_Sign of a module.
pub(super) struct LoneSign {
    sign: Sign,
    /// Keeps the module loaded, and so the function where it is.
    _library: Library,
}

type Sign = unsafe extern "C" fn(
    CK_SESSION_HANDLE,
    *mut CK_BYTE,
    CK_ULONG,
    *mut CK_BYTE,
    *mut CK_ULONG,
) -> CK_RV;

type GetFunctionList = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;

impl LoneSign {
    /// Takes the function out of a module that this process has loaded and initialized already.
    pub(super) fn of(module: &Path) -> Result<Self> {
        // SAFETY: it is loaded already, so that nothing of it runs now: the system counts one more
        // user of it.
        let library = unsafe { Library::new(module) }.map_err(Error::LibraryLoading)?;
        let mut list = ptr::null_mut();
        {
            // SAFETY: PKCS#11 section 5.4 gives the function this type.
            let get = unsafe { library.get::<GetFunctionList>(b"C_GetFunctionList\0") }
                .map_err(Error::LibraryLoading)?;
            // SAFETY: the argument points to a place for a pointer.
            Rv::from(unsafe { get(&raw mut list) }).into_result(Function::GetFunctionList)?;
        }
        // SAFETY: a list that was given without an error is good while the module is loaded.
        let sign = unsafe { list.as_ref() }.and_then(|list| list.C_Sign);
        let absent = Error::Pkcs11(RvError::FunctionNotSupported, Function::Sign);
        Ok(Self { sign: sign.ok_or(absent)?, _library: library })
    }

    /// Ends what C_SignInit began in this session of the same module. The signature has at most
    /// `LONGEST` bytes.
    pub(super) fn sign(&self, session: &Session, data: &[u8]) -> Result<Vec<u8>> {
        let mut data = data.to_vec();
        let mut signature = vec![0; LONGEST];
        let (input, mut length) = (CK_ULONG::try_from(data.len())?, CK_ULONG::try_from(LONGEST)?);
        // SAFETY: the session is open while it is borrowed, both buffers are as long as is said,
        // and the length has a place to be told.
        let outcome = unsafe {
            let (data, signature) = (data.as_mut_ptr(), signature.as_mut_ptr());
            (self.sign)(session.handle(), data, input, signature, &raw mut length)
        };
        Rv::from(outcome).into_result(Function::Sign)?;
        signature.truncate(usize::try_from(length)?);
        Ok(signature)
    }
}

/// RSA of 4096 bits has 512.
const LONGEST: usize = 1024;
