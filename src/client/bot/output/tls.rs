//! Files for TLS: PEM, and PKCS#12 if asked for.
