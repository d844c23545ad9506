//! The token worker: the one process that loads a PKCS#11 module.
