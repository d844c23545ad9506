//! PIV cards (SP 800-73-4, and Yubico's extensions): what is on them, making one ready,
//! putting a key and its certificate on it.
//!
//! ```no_run
//! # fn run() -> Result<(), card::CardError> {
//! let readers = card::Readers::open()?;
//! for reader in readers.list()? {
//!     let mut connection = readers.connect(&reader)?;
//!     let card = connection.piv()?;
//!     println!("{reader}: {:?} {:?}", card.version(), card.serial());
//! }
//! # Ok(())
//! # }
//! ```

mod apdu;
mod certificate_object;
mod chance;
mod connection;
mod container_map;
mod credentials;
pub mod doctor;
pub mod enrolment;
mod error;
pub mod escrow;
mod holder;
pub mod init;
pub mod inspect;
mod kept_key;
mod key_kind;
mod management_key;
mod metadata;
mod object;
mod pin;
mod piv;
mod slot;
mod tlv;
pub mod wipe;

pub use apdu::Status;
pub use certificate_object::CertificateObject;
pub use chance::code;
pub use connection::{Connection, Look, Presence, ReaderName, Readers};
pub use container_map::ContainerMap;
pub use credentials::{Credentials, ManagementAccess};
pub use error::CardError;
pub use escrow::{Escrow, EscrowError};
pub use holder::{Capabilities, HolderId};
pub use key_kind::KeyKind;
pub use management_key::{ManagementKey, ManagementKeyAlgorithm};
pub use metadata::{KeyMetadata, ManagementKeyMetadata, PinMetadata};
pub use object::ObjectId;
pub use pin::{Pin, PinError, Puk};
pub use piv::{PivCard, Version};
pub use slot::{ParseSlotError, Slot};
pub use tlv::Malformed;
