//! What an output gives at one time: files that belong together.

use std::fmt;

use zeroize::Zeroizing;

pub(super) use crate::life::Life;

/// Key, certificate and CA of one issuance, as files. They are put in place together, or not.
#[derive(Debug)]
pub(super) struct Bundle {
    /// The files.
    pub(super) files: Vec<BundleFile>,
    /// From when to when it is good.
    pub(super) life: Life,
}

/// A file of a bundle.
pub(super) struct BundleFile {
    /// Its name in the bundle's directory.
    pub(super) name: &'static str,
    /// What is in it.
    pub(super) contents: Zeroizing<Vec<u8>>,
    /// Whether it is for the output's readers alone: it has a private key.
    pub(super) secret: bool,
}

/// Without what is in it, which may be a private key.
impl fmt::Debug for BundleFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BundleFile").field("name", &self.name).finish_non_exhaustive()
    }
}
