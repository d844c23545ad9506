//! A kubeconfig whose user is an exec credential plugin.
