//! Files for clients of PostgreSQL and MySQL.
