//! Files for `ssh -F`: key, certificate, `ssh_config`, `known_hosts`.
