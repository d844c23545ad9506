-- Version 1. Times are Unix milliseconds. Later versions only add tables, columns and indexes.

-- What was to be signed, written before any signature existed.
CREATE TABLE intents (
    id              INTEGER PRIMARY KEY,
    issuer          TEXT    NOT NULL,
    kind            TEXT    NOT NULL,
    serial          TEXT    NOT NULL,
    subject         TEXT    NOT NULL,
    names           TEXT    NOT NULL,   -- JSON array
    key_fingerprint TEXT    NOT NULL,   -- hexadecimal
    not_before      INTEGER NOT NULL,
    not_after       INTEGER NOT NULL,
    caller          TEXT    NOT NULL,
    role            TEXT    NOT NULL,
    created_at      INTEGER NOT NULL,
    text            BLOB    NOT NULL,   -- the to-be-signed bytes
    UNIQUE (issuer, serial)
);

-- What was released, in the order of its release.
CREATE TABLE certificates (
    id          INTEGER PRIMARY KEY,
    intent      INTEGER NOT NULL UNIQUE REFERENCES intents (id),
    released_at INTEGER NOT NULL,
    certificate BLOB    NOT NULL
);

-- Digests to be signed with raw keys; the signature comes later.
CREATE TABLE digests (
    id         INTEGER PRIMARY KEY,
    issuer     TEXT    NOT NULL,
    scheme     TEXT    NOT NULL,
    digest     BLOB    NOT NULL,
    caller     TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    created_at INTEGER NOT NULL
);

CREATE TABLE signatures (
    digest      INTEGER PRIMARY KEY REFERENCES digests (id),
    released_at INTEGER NOT NULL,
    signature   BLOB    NOT NULL
);

-- The clients' names for their operations. Exactly one of intent and digest is set.
CREATE TABLE operations (
    caller  TEXT NOT NULL,
    key     TEXT NOT NULL,
    request BLOB NOT NULL,              -- SHA-256 of the request
    intent  INTEGER REFERENCES intents (id),
    digest  INTEGER REFERENCES digests (id),
    PRIMARY KEY (caller, key),
    CHECK ((intent IS NULL) <> (digest IS NULL))
) WITHOUT ROWID;

-- The first serial number of each SSH authority that is not reserved.
CREATE TABLE ssh_serials (
    issuer TEXT    PRIMARY KEY,
    next   INTEGER NOT NULL
) WITHOUT ROWID;

-- The audit log: each entry is one line of JSON without its line end, each hash covers all before.
CREATE TABLE audit (
    seq   INTEGER PRIMARY KEY,
    time  INTEGER NOT NULL,
    entry BLOB    NOT NULL,
    hash  BLOB    NOT NULL
);
