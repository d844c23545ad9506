//! PIV cards: keys and logon certificates in their slots.
//!
//! This crate holds nothing yet; smart-card certificates are requested with `chancery request
//! smartcard`, from a CSR that the card's own tool made.
