-- Version 2: sessions, locks, and what was taken back. Times are Unix milliseconds.

-- The session that a certificate is for. In each, a key is certified once.
ALTER TABLE intents ADD COLUMN session TEXT;
CREATE INDEX intents_of_sessions ON intents (session, key_fingerprint) WHERE session IS NOT NULL;
CREATE INDEX intents_by_end ON intents (not_after);

-- What took certificates back: the end of a session, a lock, a revocation. In their order.
CREATE TABLE changes (
    id   INTEGER PRIMARY KEY,
    at   INTEGER NOT NULL,
    what TEXT    NOT NULL
);

-- Of intents, not of certificates: one whose answer was lost is taken back too.
CREATE TABLE revocations (
    intent INTEGER PRIMARY KEY REFERENCES intents (id),
    change INTEGER NOT NULL REFERENCES changes (id),
    code   TEXT    NOT NULL             -- RFC 5280 section 5.3.1, as the API spells it
);
CREATE INDEX revocations_by_change ON revocations (change);

CREATE TABLE locks (
    id            INTEGER PRIMARY KEY,
    target        TEXT    NOT NULL,
    issued_before INTEGER,
    reason        TEXT    NOT NULL,
    locked_by     TEXT    NOT NULL,
    locked_at     INTEGER NOT NULL,
    expires_at    INTEGER,
    removed_at    INTEGER
);

CREATE TABLE sessions (
    id                TEXT    PRIMARY KEY,
    state             TEXT    NOT NULL, -- waiting, open, denied, expired, ended
    role              TEXT    NOT NULL,
    requester         TEXT    NOT NULL,
    reason            TEXT    NOT NULL,
    targets           TEXT    NOT NULL, -- JSON array
    source_addresses  TEXT    NOT NULL, -- JSON array
    force_command     TEXT,
    one_use           INTEGER NOT NULL,
    certificate_roles TEXT    NOT NULL, -- JSON array
    length            INTEGER NOT NULL, -- seconds
    approvals         INTEGER NOT NULL,
    heartbeat         INTEGER,          -- seconds
    requested_at      INTEGER NOT NULL,
    waits_until       INTEGER NOT NULL,
    opened_at         INTEGER,
    ends_at           INTEGER,
    beaten_at         INTEGER,
    ended_at          INTEGER,
    end_cause         TEXT
);
CREATE INDEX sessions_by_request ON sessions (requested_at);
CREATE INDEX sessions_alive ON sessions (state) WHERE state IN ('open', 'waiting');

CREATE TABLE decisions (
    session  TEXT    NOT NULL REFERENCES sessions (id),
    approver TEXT    NOT NULL,
    approved INTEGER NOT NULL,
    reason   TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (session, approver)
) WITHOUT ROWID;

-- KRL, CRLs and bundle of one version, and the last change that they tell. A version without a time
-- of publication was begun and never finished.
CREATE TABLE publications (
    version      INTEGER PRIMARY KEY,
    change       INTEGER NOT NULL,
    begun_at     INTEGER NOT NULL,
    published_at INTEGER
);
CREATE INDEX publications_by_change ON publications (change);

-- Hosts: machines with an agent of ours, known from the token on that lets them join.
CREATE TABLE hosts (
    name       TEXT    PRIMARY KEY,
    mode       TEXT    NOT NULL,        -- as the API spells it
    secret     BLOB    NOT NULL UNIQUE, -- SHA-256 of the last join token's secret
    expires_at INTEGER NOT NULL,        -- of that token
    key        TEXT,                    -- fingerprint of the key that has used it
    joined_at  INTEGER,
    last_seen  INTEGER,
    version    INTEGER                  -- of the bundle that it has in force
) WITHOUT ROWID;

-- The versions that brought a host anything new, and the connections that it cut for them.
CREATE TABLE acknowledgements (
    host    TEXT    NOT NULL REFERENCES hosts (name) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    cut     INTEGER NOT NULL,
    PRIMARY KEY (host, version)
) WITHOUT ROWID;

-- Who is logged in on hosts by certificates, as they told.
CREATE TABLE logins (
    host       TEXT    NOT NULL REFERENCES hosts (name) ON DELETE CASCADE,
    connection TEXT    NOT NULL,        -- the host's name for it
    issuer     TEXT    NOT NULL,
    serial     TEXT    NOT NULL,
    account    TEXT    NOT NULL,
    began_at   INTEGER NOT NULL,
    ended_at   INTEGER,
    PRIMARY KEY (host, connection)
) WITHOUT ROWID;
CREATE INDEX logins_by_certificate ON logins (issuer, serial) WHERE ended_at IS NULL;

-- One-use certificates that were used.
CREATE TABLE uses (
    issuer     TEXT    NOT NULL,
    serial     TEXT    NOT NULL,
    host       TEXT    NOT NULL,
    connection TEXT    NOT NULL,
    at         INTEGER NOT NULL,
    PRIMARY KEY (issuer, serial)
) WITHOUT ROWID;

-- What a session gives in the organisation's directory while it is open, as JSON.
CREATE TABLE directory_grants (
    session TEXT PRIMARY KEY REFERENCES sessions (id),
    what    TEXT NOT NULL
) WITHOUT ROWID;

-- What is to be done there, in this order, until it has an outcome.
CREATE TABLE directory_acts (
    id         INTEGER PRIMARY KEY,
    session    TEXT    NOT NULL REFERENCES sessions (id),
    upn        TEXT    NOT NULL,
    act        TEXT    NOT NULL,        -- JSON
    created_at INTEGER NOT NULL,
    outcome    TEXT,                    -- already, done, failed, overtaken
    done_at    INTEGER
);
CREATE INDEX directory_acts_waiting ON directory_acts (id) WHERE outcome IS NULL;
