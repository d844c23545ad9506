//! Listeners, TLS, callers, and the endpoints.
