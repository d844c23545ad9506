-- Version 3: bots. Times are Unix milliseconds.

CREATE TABLE bots (
    name              TEXT    PRIMARY KEY,
    spec              TEXT    NOT NULL, -- JSON, as the API has it
    added_at          INTEGER NOT NULL,
    added_by          TEXT    NOT NULL,
    free_joins        INTEGER NOT NULL, -- by its bound key: the first of each instance it may have
    recoveries_left   INTEGER NOT NULL, -- by its bound key, after those
    secret            BLOB,             -- SHA-256 of the last join token's secret
    secret_expires_at INTEGER,
    secret_key        TEXT              -- fingerprint of the key that has used it
) WITHOUT ROWID;

-- Lineages of renewals.
CREATE TABLE bot_instances (
    id          TEXT    PRIMARY KEY,    -- 32 hexadecimal digits
    bot         TEXT    NOT NULL REFERENCES bots (name) ON DELETE CASCADE,
    key         TEXT    NOT NULL,       -- fingerprint of the key that it joined with
    proof       TEXT    NOT NULL,       -- how it proved to be the bot, in words
    renewable   INTEGER NOT NULL,
    joined_at   INTEGER NOT NULL,
    seen_at     INTEGER,                -- when a certificate of its own was last confirmed
    replaced_at INTEGER                 -- when another took its place
) WITHOUT ROWID;
CREATE INDEX bot_instances_by_key ON bot_instances (bot, key);

-- The own certificates of instances; those that were superseded or discarded only until they expire.
CREATE TABLE bot_certificates (
    intent     INTEGER PRIMARY KEY REFERENCES intents (id),
    instance   TEXT    NOT NULL REFERENCES bot_instances (id) ON DELETE CASCADE,
    generation INTEGER NOT NULL,
    state      TEXT    NOT NULL,        -- pending, confirmed, superseded, discarded
    seen_at    INTEGER,                 -- when it was first used, and from where
    seen_from  TEXT
);
CREATE INDEX bot_certificates_of_instances ON bot_certificates (instance);

-- Tokens of other issuers that were used to join, until they expire: each is good for one key.
CREATE TABLE bot_proofs (
    token      BLOB    PRIMARY KEY,     -- SHA-256
    key        TEXT    NOT NULL,
    expires_at INTEGER NOT NULL
) WITHOUT ROWID;
