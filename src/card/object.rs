//! The data objects of a card.

use std::fmt;

/// The number of a data object (SP 800-73-4 part 1, table 3; Yubico's are 5FFFxx).
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct ObjectId(pub(crate) u32);

impl ObjectId {
    /// Who holds the card: the CHUID.
    pub const HOLDER_ID: Self = Self(0x5f_c102);
    /// What the card can: the CCC.
    pub const CAPABILITIES: Self = Self(0x5f_c107);
    /// Printed information, where Yubico's programs keep the management key; read with the PIN.
    pub const PRINTED: Self = Self(0x5f_c109);
    /// How many retired keys there are.
    pub const KEY_HISTORY: Self = Self(0x5f_c10c);
    /// How Yubico's programs administer the card.
    pub const ADMINISTRATION: Self = Self(0x5f_ff00);
    /// The names that Windows gave to keys, by Yubico's minidriver.
    pub const CONTAINER_MAP: Self = Self(0x5f_ff10);

    /// As GET DATA and PUT DATA name it.
    pub(crate) fn bytes(self) -> [u8; 3] {
        let [_, high, middle, low] = self.0.to_be_bytes();
        [high, middle, low]
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06X}", self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
