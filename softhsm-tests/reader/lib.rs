//! A driver of pcscd (IFD handler, version 3) for readers that are Unix sockets: whoever listens on
//! the socket that `DEVICENAME` names is the card, or the empty reader.
//!
//! Each message is two bytes of length (big endian) and so many bytes. What is asked is an
//! [`Ask`] or a command APDU; the answer is the ATR or the response APDU, and empty when no card
//! is there.

mod channel;
mod driver;

pub use channel::{Ask, read_message, write_message};
