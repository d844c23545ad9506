-- Version 5: what cards have said, word for word, and whose account a certificate logs on to. Times are
-- Unix milliseconds.

-- The attestation that was accepted (DER): its statement and its intermediate. Absent of what was
-- accepted before this version.
ALTER TABLE card_keys ADD COLUMN statement BLOB;
ALTER TABLE card_keys ADD COLUMN intermediate BLOB;

-- A key that a card has attested once is the card's, also where it is certified without its word.
CREATE INDEX intents_of_logon_keys ON intents (key_fingerprint) WHERE kind = 'smartcard_logon';

CREATE TABLE logon_accounts (
    intent   INTEGER PRIMARY KEY REFERENCES intents (id),
    upn      TEXT    NOT NULL,
    sid      TEXT    NOT NULL,
    -- In the directory, and when that was asked; both absent where the rules pin the account.
    entry    TEXT,
    asked_at INTEGER,
    CHECK ((entry IS NULL) = (asked_at IS NULL))
);
