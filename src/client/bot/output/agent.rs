//! An ssh-agent socket: the key is in memory, or in a PKCS#11 token, and never in a file.
