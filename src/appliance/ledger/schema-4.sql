-- Version 4: cards. Times are Unix milliseconds.

-- Cards that have attested a key, and whose they are.
CREATE TABLE cards (
    serial        INTEGER PRIMARY KEY,
    state         TEXT    NOT NULL,     -- held, released, removed
    sid           TEXT    NOT NULL,     -- of the holder, or of the last one
    holder        TEXT    NOT NULL,     -- as that account is called
    firmware      TEXT    NOT NULL,
    form_factor   TEXT,
    registered_at INTEGER NOT NULL,     -- with this holder
    registered_by TEXT    NOT NULL,
    taken_at      INTEGER,              -- from the holder
    taken_by      TEXT,
    taken_reason  TEXT
);

-- What a card has said of a key that a certificate is for.
CREATE TABLE card_keys (
    intent          INTEGER PRIMARY KEY REFERENCES intents (id),
    card            INTEGER NOT NULL REFERENCES cards (serial),
    slot            TEXT    NOT NULL,
    firmware        TEXT    NOT NULL,
    pin_policy      TEXT    NOT NULL,
    touch_policy    TEXT    NOT NULL,
    form_factor     TEXT,
    attestation_key TEXT    NOT NULL    -- SHA-256 of its SubjectPublicKeyInfo, hexadecimal
);
CREATE INDEX card_keys_by_card ON card_keys (card);
