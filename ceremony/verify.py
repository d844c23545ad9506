#!/usr/bin/env python3
"""Verifies the transcript or the evidence bundle of a key ceremony.

    verify.py FILE [--head HEX] [--sha256 HEX] [--json]
    verify.py --batch              reads paths from standard input, answers a line of JSON for each

This is a second verifier: it shares no code with the program that writes transcripts. It needs Python
3.11 and nothing besides its standard library, ssh-keygen and openssl; neither token nor network.

What is checked, in this order; the first bad record or file is named:
  1. the container: a tar archive that has one form only
  2. the chain: each line is the one text of what it says, and is bound to all before it
  3. the records: they are those of a ceremony, one after the other as the plan in the first one says;
     confirmed, approved and signed by as many distinct people as it says; each key with its attributes
     and failed misuse; each certificate just as the plan, the keys and the intent say
  4. the rehearsal of the same plan by the same program, in the same way
  5. the files: each is the one that was put in, and says what the records say
  6. the signatures: of people by ssh-keygen, of certificates by openssl

Exit codes: 0 nothing is wrong, 2 bad input, 5 something is wrong.
"""

import argparse
import base64
import hashlib
import json
import math
import re
import subprocess
import sys
import tempfile
import tomllib
from datetime import datetime, timezone
from pathlib import Path


class Bad(Exception):
    """Something is wrong; says what, and where."""


def require(holds, what):
    if not holds:
        raise Bad(what)


def readable(holds):
    """What is read has the form that it must have; whoever reads it says what it is."""
    if not holds:
        raise ValueError


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def tagged(domain, *parts):
    """SHA-256 of a text that says what is hashed, a zero byte, and that."""
    return sha256(domain.encode() + b"\0" + b"".join(parts))


# ---- 1. The container ----------------------------------------------------------------------------

BLOCK = 512


def tar_header(name, size, seconds):
    """The one header that a file of this name may have (POSIX ustar)."""
    fields = [
        (0, name), (100, b"0000644"), (108, b"0000000"), (116, b"0000000"),
        (124, b"%011o" % size), (136, b"%011o" % seconds), (148, b" " * 8), (156, b"0"),
        (257, b"ustar\0"), (263, b"00"),
    ]
    header = bytearray(BLOCK)
    for at, text in fields:
        header[at:at + len(text)] = text
    header[148:155] = b"%06o\0" % sum(header)
    return bytes(header)


def read_archive(content):
    """Names and contents in their order, and the time of all of them."""
    files, at, seconds = {}, 0, None
    while True:
        header = content[at:at + BLOCK]
        require(len(header) == BLOCK, "the archive is cut off, or is none")
        if header == bytes(BLOCK):
            require(content[at:] == bytes(2 * BLOCK) and files, "the archive does not end as it should")
            return files, seconds
        odd = f"file {len(files) + 1} of the archive has a header that was changed, or is out of its order"
        name = header[:100].split(b"\0")[0]
        digits = [header[124:135], header[136:147]]
        require(all(re.fullmatch(rb"[0-7]{11}", it) for it in digits), odd)
        size, time = (int(it, 8) for it in digits)
        require(header == tar_header(name, size, time) and name, odd)
        require(seconds in (None, time) and (not files or list(files)[-1].encode() < name), odd)
        try:
            name = name.decode()
        except UnicodeDecodeError:
            raise Bad(odd) from None
        body, at = content[at + BLOCK:at + BLOCK + size], at + BLOCK + -(-size // BLOCK) * BLOCK
        require(len(content) >= at, "the archive is cut off, or is none")
        padding = content[at - (-size % BLOCK):at]
        require(not any(padding), f"{name} of the archive is followed by what does not belong there")
        files[name], seconds = body, time


# ---- 2. The chain --------------------------------------------------------------------------------

def parse_line(line, number):
    """What a line says, which must be its one text: no spaces, no field twice, no fractions."""
    def pairs(items):
        require(len({name for name, _ in items}) == len(items), "a field is there twice")
        return dict(items)

    def no(text):
        raise Bad(f"{text} is no number of a record")

    try:
        value = json.loads(line, object_pairs_hook=pairs, parse_float=no, parse_constant=no)
        same = one_text(value) == line
    except (ValueError, Bad, RecursionError):
        raise Bad(f"line {number} is no record") from None
    require(same, f"line {number}: this is not how a record is written")
    return value


def one_text(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def next_head(head, line):
    length = len(line).to_bytes(8, "big")
    return tagged("chancery-ceremony-rec-v1", bytes.fromhex(head), length, line)


def read_chain(content):
    """The records of a whole transcript, and the head after each of them."""
    *lines, rest = content.split(b"\n")
    records, heads, ended = [], [], False
    for number, line in enumerate(lines, 1):
        require(not ended, f"line {number} follows the end of the transcript")
        value = parse_line(line, number)
        if matches(value, TRAILER) is None:
            stated = heads and value["head"] == heads[-1]
            require(stated, f"line {number} does not state the head of the chain: "
                            "it or the line before was changed")
            ended = True
            continue
        wrong = matches(value, RECORD)
        require(wrong is None, f"line {number} is no record: {wrong}")
        require(value["seq"] == number,
                f"line {number} has another number: a record was left out, added, or moved")
        if number == 1:
            require(value["event"] == "opened", "line 1 is not the opening")
            opened = value["data"]
            hashes = [bytes.fromhex(opened[it]) for it in ("plan_hash", "site_hash")]
            before = tagged("chancery-ceremony-start-v1", *hashes, opened["tool"].encode())
        else:
            before = heads[-1]
        head = next_head(value["prev"], line)
        if value["prev"] != before:
            # A line that the next one goes on from is as it was written: then the one before it is not.
            goes_on = number > 1 and number < len(lines) and head.encode() in lines[number][:200]
            changed = number - 1 if goes_on else number
            raise Bad(f"line {changed} was changed: the hash chain does not go on from it")
        records.append(value)
        heads.append(head)
    require(records, "there is no whole record")
    require(not rest, f"line {len(lines) + 1} is not whole: the ceremony was interrupted while it was written")
    if not ended or records[-1]["event"] != "closed":
        said = records[-1]["data"].get("reason", "it was interrupted")
        raise Bad(f"the ceremony did not come to its end, after {len(records)} whole records: {said}")
    return records, heads


# ---- The forms of what is written down -----------------------------------------------------------
# A form is a pattern for a text, a type, a list of one form, a map of forms (a name with ? may be
# missing; the order counts), {"*": form} for a map of any names in order, or Either.

class Either:
    def __init__(self, *forms):
        self.forms = forms


def matches(value, form):
    """None if the value has the form; else what is wrong with it."""
    if isinstance(form, Either):
        return None if any(matches(value, it) is None for it in form.forms) else f"{short(value)} is of no kind"
    if isinstance(form, re.Pattern):
        right = isinstance(value, str) and form.fullmatch(value)
        return None if right else f"{short(value)} is not of the form {form.pattern}"
    if isinstance(form, type):
        return None if type(value) is form else f"{short(value)} is no {form.__name__}"
    if isinstance(form, list):
        if not isinstance(value, list):
            return f"{short(value)} is no list"
        return next(filter(None, (matches(it, form[0]) for it in value)), None)
    if not isinstance(value, dict):
        return f"{short(value)} has no fields"
    if "*" in form:
        if list(value) != sorted(value):
            return f"{short(value)} is not in order"
        return next(filter(None, (matches(it, form["*"]) for it in value.values())), None)
    names = [name.rstrip("?") for name in form if not name.endswith("?") or name[:-1] in value]
    if list(value) != names:
        return f"{short(value)} has not the fields {', '.join(names)}"
    wrong = (matches(value[name], form.get(name, form.get(name + "?"))) for name in names)
    return next(filter(None, wrong), None)


def short(value):
    return json.dumps(value, ensure_ascii=False)[:60]


HASH = re.compile("[0-9a-f]{64}")
HEX = re.compile("([0-9a-f]{2})*")
NAME = re.compile("[a-z0-9-]{1,32}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z")
LABEL = re.compile("(issuing|join|login|publication|raw)/[a-z0-9-]{1,32}")
KEY_ID = re.compile("([0-9a-f]{2}){1,20}")
PEM = re.compile("-----BEGIN PUBLIC KEY-----\n([A-Za-z0-9+/=]{1,64}\n)+-----END PUBLIC KEY-----\n")
SSH_KEY = re.compile("(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384)) [A-Za-z0-9+/=]+")
SSH_SIGNATURE = re.compile("-----BEGIN SSH SIGNATURE-----\n([A-Za-z0-9+/=]+\n)+-----END SSH SIGNATURE-----\n")
URL = re.compile(r"http://[!-~]+")
REASON = re.compile("affiliation-changed|ca-compromise|cessation-of-operation|key-compromise|"
                    "privilege-withdrawn|superseded|unspecified")
ALGORITHM = re.compile("p256|p384|ed25519|rsa2048|rsa3072|rsa4096")

TOKEN_IDENTITY = {"label": str, "serial?": str, "manufacturer?": str, "model?": str}
KEY_REF = {"label": LABEL, "id": KEY_ID, "public_key": PEM}
MODULE = {"path": str, "sha256": HASH}
PLANNED_KEY = {"name": NAME, "algorithm": ALGORITHM, "label": LABEL}
PLANNED_CERTIFICATE = {
    "name": NAME, "key": NAME,
    "kind": Either({"root": {"path_length": Either(int, type(None))}},
                   {"issuing": {"signer": NAME, "path_length": int}},
                   {"cross": {"of": NAME, "signer": NAME, "path_length": int}}),
    "subject": str, "not_before": TIME, "not_after": TIME,
    "publication": {"crl_url?": URL, "issuer_url?": URL, "ocsp_url?": URL}, "smart_cards?": bool,
}
PLANNED_CRL = {
    "name": NAME, "signer": NAME, "number": int, "next_update": TIME,
    "revoked": [{"serial": re.compile("[4-7][0-9a-f]{31}"), "at": TIME, "reason": REASON}], "previous?": str,
}
PATTERN = re.compile("[!-~]([ -~]{0,62}[!-~])?")
SET_ID = re.compile("[0-9a-f]{12}")
PIN_FORM = {"alphabet": re.compile("digits|letters-and-digits"), "length": int}
PURPOSE = Either({"so-pin": PIN_FORM}, {"user-pin": PIN_FORM}, re.compile("wrapping-key"))
PIN_OWNER = re.compile("security-officer|user")
SHARE_SET = {"terms": {"set": SET_ID, "purpose": PURPOSE, "threshold": int, "count": int},
             "holders": [NAME], "commitment": HASH, "checks": [HASH]}
PLANNED_SHARES = {"set": NAME, "purpose": PURPOSE, "threshold": int, "holders": [NAME],
                  "secret": re.compile("new|shares")}
PEOPLE = {
    "roles": {"*": int},
    "persons": {"*": {"role": NAME, "key": SSH_KEY}},
    "quorum": {"approve": {"*": int}, "confirm": {"*": int}},
}


# ---- 3. The records ------------------------------------------------------------------------------

class Ceremony:
    """A ceremony as its records tell it. Each record must be one that can follow."""

    def __init__(self, records, heads):
        self.records, self.heads = records, heads
        self.opened = records[0]["data"]
        self.plan = self.opened["plan"]
        self.people = self.plan.get("people", {"roles": {}, "persons": {}, "quorum": {"approve": {}, "confirm": {}}})
        self.done, self.intent, self.in_doubt, self.token_made = 0, None, False, None
        self.running, self.session, self.confirmed = True, False, False
        self.looked, self.present, self.compared, self.signed_off = False, [], [], []
        # The break that is not over: when it began, who was there, when the machine was looked at after it.
        self.pause = None
        self.token, self.keys, self.certificates, self.serials = None, {}, {}, set()
        self.sets, self.in_force, self.copies = {}, {}, {}
        # Keys of other machines (SubjectPublicKeyInfo); certificates that were signed here; requests
        # and revocation lists that were.
        self.foreign, self.signed_here, self.requests, self.crls = {}, [], {}, {}
        # What other programs verify, by the line that it belongs to: they are slow, and come last.
        self.claims = []
        self.line, self.ended, self.time = 1, False, instant(records[0]["time"])

    def fail(self, wanted):
        raise Bad(f"line {self.line} is not {wanted}")

    def need(self, holds, wanted):
        if not holds:
            self.fail(wanted)

    def replay(self):
        self.admit(lambda _: self.begin(), None)
        for record in self.records[1:]:
            self.line += 1
            self.admit(self.push, record)
        self.need(self.ended and self.done == len(self.plan["steps"]), "the end of the plan")

    def admit(self, take, record):
        """What cannot be read, or is of what is not there, is refused as anything else that is wrong."""
        try:
            take(record)
        except KeyError as missing:
            self.fail(f"after {missing} was made")
        except (IndexError, TypeError, ValueError):
            self.fail("a record that can be read: a key, a certificate or a list in it is none")

    def step(self):
        """The kind of the step that is next or under way, and what the plan says of it."""
        if self.done == len(self.plan["steps"]):
            return None, None
        step = self.plan["steps"][self.done]
        return (step, None) if isinstance(step, str) else next(iter(step.items()))

    def begin(self):
        opened, people = self.opened, self.people
        plan_hash = tagged("chancery-ceremony-plan-v1", one_text(self.plan))
        require(opened["plan_hash"] == plan_hash, f"line 1: the plan has the hash {plan_hash}, not {opened['plan_hash']}")
        linters = opened["linters"]
        self.need(len(linters) >= 2 and all(linters), "an opening that names two lints or parsers")
        self.need(not self.records[0].get("who") and "step" not in self.records[0], "the opening")
        steps = self.plan["steps"]
        closing = steps[-1:] in ([it] for it in CLOSING)
        once = sum(steps.count(it) for it in CLOSING) == 1
        signed_off = steps[-2:-1] == ["sign-off"] or not people["persons"]
        self.need(closing and once and signed_off, "a plan that ends as it should")
        self.need("people" not in self.plan or people["persons"], "a plan with people, or none at all")
        refuse = self.plan.get("machine", {"refuse": [""]})["refuse"]
        self.need(refuse and refuse == sorted(set(refuse)), "a plan that refuses machines, or none at all")
        roles = {person["role"] for person in people["persons"].values()}
        keys = [person["key"] for person in people["persons"].values()]
        self.need(roles <= set(people["roles"]) and len(set(keys)) == len(keys), "a plan of distinct people")
        approvals = opened.get("approvals", {})
        holds = {
            "attended": "rehearsal" in opened,
            "rehearsed": not approvals,
            "unattended": not people["persons"] and not approvals and not self.has_steps(OF_PEOPLE_ALONE),
        }
        faithful = opened.get("faithful") in (None, self.rehearsed())
        self.need(holds[opened["attendance"]] and faithful, "an opening with the rehearsal and the people that it takes")
        if opened["attendance"] == "attended":
            self.enough(people["quorum"]["approve"], list(approvals), "an opening with enough approvals")
            for name, signature in approvals.items():
                self.signed(name, f"chancery-ceremony: approve\nplan {plan_hash}\n", signature)

    def push(self, record):
        event, data, who = record["event"], record["data"], record.get("who", [])
        self.need(not self.ended, "the end")
        time = instant(record["time"])
        self.need(time >= self.time, "later than the line before it")
        self.time = time
        kind, planned = self.step()
        wanted = self.done + 1 if event in OF_A_STEP or event == "token" and self.token_made else None
        self.need(record.get("step") == wanted, "a record of the plan's next step")
        known = all(name in self.people["persons"] for name in who)
        self.need(known and len(set(who)) == len(who), "a record by people of the plan")
        self.need(not who or event in OF_PEOPLE, "a record by people of the plan")
        if event in SAID:
            self.need(not is_secret(data[SAID[event]]), "a text without a key or a password in it")
        if event == "exception":
            return
        if event == "resumed":
            # Who goes on after a break interrupts nothing.
            self.in_doubt = self.intent is not None and not self.token_made and not self.pause
            self.running, self.confirmed = True, False
            self.go()
            for handed in self.sets.values():
                # What was not read back until now may be anybody's.
                handed["state"] = "doubtful" if handed["state"] == "given" else handed["state"]
            return
        self.need(self.running, "the resumption")
        if event == "stopped":
            self.running = False
        elif event == "environment":
            self.look_at_machine(data)
        elif not self.looked:
            self.fail("the check of the machine")
        elif event == "present":
            self.call_roll(who)
        elif self.wants_roll_call():
            self.fail("the roll call")
        elif event == "clock":
            self.compare_clock(who, instant(data["reads"]))
        elif self.wants_clock():
            self.fail("the comparison of the clock")
        elif event == "signed-off" and kind == "sign-off":
            self.sign_off(who, data["signature"], record["prev"])
        elif event == "token":
            self.open_token(data["identity"], data["library"], data.get("given_by"))
        elif event == "confirmed":
            self.confirm(who)
        elif event == "closed" and kind in CLOSING:
            self.need(self.has_session(kind), "the opened token")
            self.advance()
            self.ended = True
        elif event == "intent" and kind in KINDS:
            self.intend(KINDS[kind], planned, data)
        elif event == "decided" and kind in KINDS:
            self.decide(KINDS[kind], data)
        elif event == "outcome" and kind in KINDS:
            self.conclude(KINDS[kind], planned, data)
        else:
            self.fail("a record of the plan's next step")

    def go(self):
        """Nobody is there any more, and nobody is logged in."""
        self.session, self.looked, self.present, self.compared = False, False, [], []

    def has_steps(self, kinds):
        return any((step if isinstance(step, str) else next(iter(step))) in kinds for step in self.plan["steps"])

    def rehearsed(self):
        return self.opened["attendance"] == "rehearsed"

    def poisons(self):
        """Whether certificates are marked so that nobody can use them."""
        return self.rehearsed() and "faithful" not in self.opened

    def key(self, name):
        """The SubjectPublicKeyInfo of a key, wherever the key is."""
        return self.foreign[name] if name in self.foreign else spki(self.keys[name])

    def attended(self):
        return self.opened["attendance"] == "attended"

    def wants_roll_call(self):
        return self.attended() and bool(self.people["persons"]) and not self.present

    def wants_clock(self):
        return self.attended() and len(self.compared) < min(max(len(self.present), 1), 2)

    def has_session(self, kind):
        return self.session or kind in WITHOUT_TOKEN or kind == "token-init" and not self.token_made

    def enough(self, wanted, names, what):
        """So many distinct people of each role."""
        roles = [self.people["persons"].get(name, {}).get("role") for name in set(names)]
        self.need(all(roles.count(role) >= least for role, least in wanted.items()), what)

    def look_at_machine(self, found):
        self.need(not self.looked, "a check that was asked for")
        self.check_machine(found)
        self.looked = True
        if self.pause:
            self.pause["back"] = self.time

    def check_machine(self, found):
        refused = set(self.plan.get("machine", {"refuse": []})["refuse"]) & set(found["findings"])
        self.need(self.rehearsed() or not refused, "a machine as the plan demands it")

    def call_roll(self, who):
        self.need(self.wants_roll_call() and who, "a roll call that was asked for")
        self.enough(self.people["roles"], who, "the presence of enough people")
        self.present = who

    def compare_clock(self, who, reads):
        self.need(self.wants_clock(), "a comparison that was asked for")
        several = bool(self.people["persons"])
        theirs = len(who) == several and set(who) <= set(self.present) and who not in self.compared
        self.need(theirs or not several and not who, "a comparison by another person who is present")
        self.need(abs(reads[0] - self.time[0]) <= 300, "a clock that another one agrees with")
        self.compared.append(who)

    def sign_off(self, who, signature, head):
        self.need(self.has_session("sign-off"), "the opened token")
        self.need(len(who) == 1 and who[0] in self.present, "the signature of somebody who is present")
        self.need(who[0] not in self.signed_off, "the signature of another person")
        text = f"chancery-ceremony: sign off\nplan {self.opened['plan_hash']}\nhead {head}\n"
        self.signed(who[0], text, signature)
        self.signed_off.append(who[0])
        if set(self.present) <= set(self.signed_off):
            self.advance()

    def open_token(self, identity, library, given):
        kind, _ = self.step()
        self.need(not self.has_session(kind), "a record of the plan's next step")
        software = SOFTWARE.search(f"{identity.get('manufacturer', '')} {library}".lower())
        meant = self.opened["attendance"] == "rehearsed" or "software_token" in self.opened
        self.need(meant or not software, "a token that protects its keys")
        self.need((self.token_made or self.token) in (None, identity), "the token of this ceremony")
        self.need(self.is_given_by_whom_it_may(given), "a PIN by the custodians who have it")
        self.session, self.token = True, identity
        if self.token_made:
            self.advance()

    def is_given_by_whom_it_may(self, given):
        """By enough shares of the set in force; or, if its change is in doubt, of the one to take its
        place. What was in force before this ceremony, no record says."""
        in_force = self.in_force.get("user-pin")
        if given is None:
            return in_force is None
        shares = given["shares"]
        once = shares == sorted(set(shares))
        known = [it["set"]["terms"] for it in self.sets.values() if it["set"]["terms"]["set"] == given["set"]]
        if not known:
            return in_force is None and once and len(shares) >= 2
        changing = self.in_doubt and (self.intent.get("owner"), self.intent.get("set")) == ("user", given["set"])
        enough = once and len(shares) == known[0]["threshold"]
        enough = enough and all(1 <= share <= known[0]["count"] for share in shares)
        return enough and (in_force == given["set"] or changing)

    def put_in_force(self, terms):
        """The shares of this set give a PIN of the token from here on."""
        if isinstance(terms["purpose"], dict):
            self.in_force[next(iter(terms["purpose"]))] = terms["set"]

    def confirm(self, who):
        self.need(self.attended() and not self.confirmed, "a confirmation that was asked for")
        self.enough(self.people["quorum"]["confirm"], who, "a confirmation by enough people")
        several = bool(self.people["persons"])
        self.need(set(who) <= set(self.present) and bool(who) == several, "a confirmation by enough people")
        self.need(self.has_session(self.step()[0]), "the opened token")
        self.confirmed = True

    def intend(self, kind, planned, intent):
        self.need(self.intent is None, "the outcome of what was intended")
        self.need(self.has_session(self.step()[0]), "the opened token")
        self.need(self.confirmed or not self.attended(), "the confirmation of the step")
        self.need(list(intent) == [kind.intent], "the intent to do the planned step")
        kind.check_intent(self, planned, intent[kind.intent])
        self.intent = intent[kind.intent]
        if isinstance(kind, TakeBreak):
            self.pause = {"began": self.time, "left": self.present, "back": None}
            self.go()

    def decide(self, kind, decision):
        self.need(self.in_doubt, "a record without an interruption before it")
        fits = kind.decisions if self.rehearsed() else getattr(kind, "decisions_of_ceremonies", kind.decisions)
        self.need(decision in fits, "a decision of what was interrupted")
        self.need(self.has_session(self.step()[0]), "the opened token")
        self.need(self.confirmed or not self.attended(), "the confirmation of the step")
        self.in_doubt = False

    def conclude(self, kind, planned, outcome):
        self.need(self.intent is not None and not self.in_doubt and not self.token_made,
                  "an intent, or a decision, before an outcome")
        (name, made), = outcome.items()
        self.need(name in kind.outcomes, "the outcome of the planned step")
        more = kind.check_outcome(self, planned, self.intent, made, name)
        if not self.token_made and not more:
            self.advance()

    def advance(self):
        self.done += 1
        self.intent, self.in_doubt, self.token_made, self.confirmed, self.pause = None, False, None, False, None
        if self.opened["attendance"] == "rehearsed" and self.step()[0] == "sign-off":
            self.done += 1

    def signed(self, name, text, signature):
        """Somebody of the plan signed this text: ssh-keygen will tell."""
        self.need(name in self.people["persons"], "a record by people of the plan")
        key, line = self.people["persons"][name]["key"], self.line
        self.claims.append((line, lambda: check_ssh_signature(name, key, text, signature)))

    def prove(self, before=sys.maxsize):
        """Lets other programs verify what was claimed in lines before this one, in their order."""
        for line, claim in self.claims:
            if line < before:
                wrong = claim()
                require(wrong is None, f"line {line}: {wrong}")
        self.claims = [it for it in self.claims if it[0] >= before]


SOFTWARE = re.compile(r"(?<![^\W_])(kryoptic|mozilla|nss|softhsm)")

# What people say in their own words.
SAID = {"aborted": "reason", "exception": "text", "resumed": "reason"}
CLOSING = ("close", "export", "hand-off")
# Steps before which the token need not be open; and those that nobody else can do.
WITHOUT_TOKEN = ("break", "check-environment", "human")
OF_PEOPLE_ALONE = ("break", "human")
OF_A_STEP = ("closed", "confirmed", "decided", "intent", "outcome", "signed-off")
OF_PEOPLE = ("aborted", "clock", "confirmed", "exception", "present", "signed-off")


def instant(text):
    """Seconds and nanoseconds of a point in time."""
    whole, _, fraction = text[:-1].partition(".")
    try:
        time = datetime.fromisoformat(whole).replace(tzinfo=timezone.utc)
    except ValueError:
        raise Bad(f"{text} is no point in time") from None
    return int(time.timestamp()), int(fraction.ljust(9, "0") or 0)


# ---- The kinds of steps: one class each, and a line in KINDS -------------------------------------

class TokenInit:
    intent, intended = "initialize-token", {"label": str}
    outcomes = {"token-initialized": TOKEN_IDENTITY}
    decisions = ["repeat", "finish-token"]

    def check_intent(self, ceremony, planned, intent):
        before = ceremony.plan["steps"][:ceremony.done]
        early = all((step if isinstance(step, str) else next(iter(step))) in WITHOUT_TOKEN for step in before)
        ceremony.need(early, "the first step with the token")

    def check_outcome(self, ceremony, planned, intent, made, _):
        ceremony.need(made["label"] == intent["label"], "the token that was initialized")
        ceremony.token_made = made


class GenerateKey:
    intent = "generate-key"
    intended = {"name": NAME, "algorithm": ALGORITHM, "label": LABEL, "id": KEY_ID}
    outcomes = {"key-generated": {
        "name": NAME, "key": KEY_REF, "attributes": {"*": bool}, "attempts": {"*": str}}}
    decisions = ["repeat", "adopt-key", {"destroy-and-repeat": {"found": "orphan"}},
                 {"destroy-and-repeat": {"found": "pair"}}]

    ATTRIBUTES = {"CKA_EXTRACTABLE": False, "CKA_SENSITIVE": True, "CKA_SIGN": True}
    ATTEMPTS = ["copy it as an extractable key", "read its private value",
                "use it for another purpose than to sign", "wrap it under another key"]
    CHANGES = ["make it extractable", "make it not sensitive"]

    def check_intent(self, ceremony, planned, intent):
        name = planned["name"]
        hashed = bytes.fromhex(ceremony.opened["plan_hash"])
        key_id = tagged("chancery-ceremony-key-v1", hashed, name.encode())[:16]
        ceremony.need(intent == {**planned, "id": key_id}, "the intent to make the planned key")
        others = [key["label"] for key in ceremony.keys.values()]
        ceremony.need(name not in ceremony.keys and planned["label"] not in others, "another key")

    def check_outcome(self, ceremony, planned, intent, made, _):
        key = made["key"]
        same = made["name"] == planned["name"] and key["id"] == intent["id"] and key["label"] == intent["label"]
        ceremony.need(same and algorithm_of(spki(key)) == planned["algorithm"], "the planned key")
        self.check_kept(ceremony, made)
        ceremony.need(spki(key) not in map(spki, ceremony.keys.values()), "another key than the others")
        ceremony.keys[made["name"]] = key

    def check_kept(self, ceremony, made):
        fit = all(made["attributes"].get(name) is value for name, value in self.ATTRIBUTES.items())
        ceremony.need(fit, "a key that signs, and never leaves its token")
        changes = [] if "changeable_keys" in ceremony.opened else self.CHANGES
        refused = all(made["attempts"].get(what) for what in self.ATTEMPTS + changes)
        ceremony.need(refused, "a key that was attempted to be misused, in vain")


class BackUpKey(GenerateKey):
    """A key that is made with a copy in another token."""
    intent = "back-up-key"
    COPY = {"token": TOKEN_IDENTITY, "attributes": {"*": bool}, "attempts": {"*": str}}
    outcomes = {"key-backed-up": {"made": GenerateKey.outcomes["key-generated"], "copy": COPY}}
    decisions = [it for it in GenerateKey.decisions if it != "adopt-key"]

    def check_intent(self, ceremony, planned, intent):
        super().check_intent(ceremony, planned["key"], intent)

    def check_outcome(self, ceremony, planned, intent, made, name):
        copy = made["copy"]
        ceremony.need(copy["token"] != ceremony.token, "a copy in another token")
        ceremony.copies[made["made"]["name"]] = copy["token"]
        self.check_kept(ceremony, copy)
        super().check_outcome(ceremony, planned["key"], intent, made["made"], name)


class DestroyKey:
    intent, intended = "destroy-key", {"name": NAME, "key": KEY_REF}
    outcomes = {"key-destroyed": {"name": NAME, "key": KEY_REF, "left": [{"class": str, "label": str, "id": str}]}}
    decisions = ["repeat"]

    def check_intent(self, ceremony, planned, intent):
        wanted = {"name": planned["key"], "key": ceremony.keys.get(planned["key"])}
        ceremony.need(intent == wanted, "the intent to destroy the planned key")

    def check_outcome(self, ceremony, planned, intent, destroyed, _):
        key = destroyed["key"]
        same = destroyed["name"] == planned["key"] and key == ceremony.keys.get(planned["key"])
        ceremony.need(same, "the key that was to be destroyed")
        gone = all(it["label"] != key["label"] and it["id"] != key["id"] for it in destroyed["left"])
        ceremony.need(gone, "a token that has nothing of the key")
        del ceremony.keys[destroyed["name"]]


class SignCertificate:
    intent = "sign-certificate"
    intended = {"name": NAME, "serial": re.compile("[0-7][0-9a-f]{31}"), "to_be_signed": HEX}
    outcomes = {"certificate-signed": {"name": NAME, "signature": HEX, "certificate": HEX}}
    decisions = ["sign-again"]

    def check_intent(self, ceremony, planned, intent):
        wanted = "the certificate as the plan gives it"
        ceremony.need(planned["name"] == intent["name"] and planned["name"] not in ceremony.certificates, wanted)
        ceremony.need(intent["serial"] not in ceremony.serials, "a serial number of its own")
        ceremony.serials.add(intent["serial"])
        text = to_be_signed(ceremony, planned, bytes.fromhex(intent["serial"]))
        ceremony.need(text.hex() == intent["to_be_signed"], wanted)

    def check_outcome(self, ceremony, planned, intent, signed, _):
        der = bytes.fromhex(signed["certificate"])
        text, algorithm, signature = (whole for _, _, whole in children(only(der, 0x30)))
        right = text.hex() == intent["to_be_signed"] and signed["name"] == planned["name"]
        right = right and algorithm == SIGNED_WITH[algorithm_of(signer_key(ceremony, planned))]
        right = right and raw_signature(algorithm, only(signature, 0x03)[1:]) == signed["signature"]
        ceremony.need(right, "the certificate that was sealed")
        ceremony.certificates[planned["name"]] = (planned, der)
        ceremony.signed_here.append(planned["name"])
        claim_chain(ceremony, planned)


def claim_chain(ceremony, planned):
    """The certificate and those above it are one chain: openssl will tell."""
    chain, time, poisoned = list(up(ceremony, planned)), ceremony.time[0], ceremony.poisons()
    ceremony.claims.append((ceremony.line, lambda: check_certificate(chain, time, poisoned)))


class UseKey:
    """A key of an earlier ceremony; in a rehearsal, another one stands in for it."""
    intent, intended = "use-key", {"name": NAME, "label": LABEL, "id": KEY_ID}
    outcomes = {"key-found": {"name": NAME, "key": KEY_REF}}
    decisions = GenerateKey.decisions
    decisions_of_ceremonies = ["repeat"]

    def check_intent(self, ceremony, planned, intent):
        key = planned["key"]
        wanted = {"name": planned["name"], "label": key["label"], "id": key["id"]}
        ceremony.need(intent == wanted, "the intent to find the planned key")
        others = [it["label"] for it in ceremony.keys.values()]
        ceremony.need(planned["name"] not in ceremony.keys and key["label"] not in others, "another key")

    def check_outcome(self, ceremony, planned, intent, found, _):
        key, wanted = found["key"], planned["key"]
        same = key == wanted
        if ceremony.rehearsed():
            same = (key["label"], key["id"]) == (wanted["label"], wanted["id"])
            same = same and algorithm_of(spki(key)) == algorithm_of(spki(wanted))
        ceremony.need(same and found["name"] == planned["name"], "the key of the earlier ceremony")
        ceremony.keys[found["name"]] = key


class TakeCertificate:
    """A certificate that is signed elsewhere; in a rehearsal, another one stands in for it."""
    intended = {"name": NAME}
    taken = {"name": NAME, "certificate": HEX}
    decisions = ["repeat"]

    def check_intent(self, ceremony, planned, intent):
        name = planned["certificate"]["name"]
        ceremony.need(intent["name"] == name and name not in ceremony.certificates,
                      "the intent to take the planned certificate in")

    def check_outcome(self, ceremony, planned, intent, taken, _):
        certificate, der = planned["certificate"], bytes.fromhex(taken["certificate"])
        wanted = "the planned certificate"
        same = ceremony.rehearsed() or planned.get("der") in (None, taken["certificate"])
        ceremony.need(taken["name"] == certificate["name"] and same, wanted)
        tbs, _, _ = (whole for _, _, whole in children(only(der, 0x30)))
        version, serial, _, issuer, dates, subject, key, *_ = (whole for _, _, whole in children(only(tbs, 0x30)))
        if certificate["key"] not in ceremony.keys and certificate["key"] not in ceremony.foreign:
            # Another machine's: called as its certificate is.
            ceremony.need(certificate["key"] == certificate["name"], wanted)
            ceremony.foreign[certificate["key"]] = key
        above = ceremony.certificates[signer_of(certificate)][0] if signer_of(certificate) else certificate
        right = key == ceremony.key(certificate["key"]) and subject == name_der(certificate["subject"])
        right = right and issuer == name_der(above["subject"]) and version == tlv(0xA0, tlv(0x02, b"\x02"))
        right = right and dates == dates_der(certificate)
        if ceremony.rehearsed():
            right = right and tbs == to_be_signed(ceremony, certificate, only(serial, 0x02))
        else:
            right = right and oid(POISON) not in tbs
        ceremony.need(right, wanted)
        ceremony.certificates[certificate["name"]] = (certificate, der)
        claim_chain(ceremony, certificate)


class UseCertificate(TakeCertificate):
    intent, outcomes = "use-certificate", {"certificate-used": TakeCertificate.taken}


class ImportCertificate(TakeCertificate):
    intent, outcomes = "import-certificate", {"certificate-imported": TakeCertificate.taken}

    def check_intent(self, ceremony, planned, intent):
        super().check_intent(ceremony, planned, intent)
        ceremony.need(intent["name"] in ceremony.requests, "after it was asked for")


class ImportRequest:
    intent, intended = "import-request", {"name": NAME}
    outcomes = {"request-imported": {"name": NAME, "public_key_sha256": HASH}}
    decisions = ["repeat"]

    def check_intent(self, ceremony, planned, intent):
        ceremony.need(intent["name"] == planned["name"], "the intent to take the planned request in")

    def check_outcome(self, ceremony, planned, intent, imported, _):
        name, text = planned["name"], planned["request"]
        info, _, _ = (whole for _, _, whole in children(only(der_of(text), 0x30)))
        _, _, key, _ = (whole for _, _, whole in children(only(info, 0x30)))
        right = imported == {"name": name, "public_key_sha256": sha256(key)}
        ceremony.need(right and name not in ceremony.foreign, "the key of the planned request")
        ceremony.foreign[name] = key
        ceremony.claims.append((ceremony.line, lambda: check_request(text)))


class RequestCertificate:
    intent, intended = "request-certificate", {"name": NAME, "to_be_signed": HEX}
    outcomes = {"certificate-requested": {"name": NAME, "signature": HEX, "request": str}}
    decisions = ["sign-again"]

    def check_intent(self, ceremony, planned, intent):
        key = spki(ceremony.keys[planned["key"]])
        text = tlv(0x30, tlv(0x02, b"\0"), name_der(planned["subject"]), key, tlv(0xA0))
        wanted = {"name": planned["name"], "to_be_signed": text.hex()}
        ceremony.need(intent == wanted, "the request as the plan gives it")

    def check_outcome(self, ceremony, planned, intent, requested, _):
        text = requested["request"]
        der = der_of(text)
        info, algorithm, signature = (whole for _, _, whole in children(only(der, 0x30)))
        right = info.hex() == intent["to_be_signed"] and requested["name"] == planned["name"]
        right = right and algorithm == SIGNED_WITH[algorithm_of(spki(ceremony.keys[planned["key"]]))]
        right = right and raw_signature(algorithm, only(signature, 0x03)[1:]) == requested["signature"]
        right = right and pem(der, "CERTIFICATE REQUEST") == text
        ceremony.need(right, "the request that was sealed")
        ceremony.requests[planned["name"]] = text
        ceremony.claims.append((ceremony.line, lambda: check_request(text)))


class SignCrl:
    intent, intended = "sign-crl", {"name": NAME, "this_update": TIME, "to_be_signed": HEX}
    outcomes = {"crl-signed": {"name": NAME, "signature": HEX, "crl": HEX}}
    decisions = ["sign-again"]

    REASONS = {"key-compromise": 1, "ca-compromise": 2, "affiliation-changed": 3, "superseded": 4,
               "cessation-of-operation": 5, "privilege-withdrawn": 9, "unspecified": 0}

    def check_intent(self, ceremony, planned, intent):
        name, this_update = planned["name"], intent["this_update"]
        same = intent["name"] == name and name not in ceremony.crls and "." not in this_update
        ceremony.need(same and planned["number"] > 0, "the list as the plan gives it")
        above = ceremony.certificates[planned["signer"]][0]
        key = spki(ceremony.keys[above["key"]])
        entries = sorted(planned["revoked"], key=lambda entry: entry["serial"])
        revoked = [self.entry(entry, this_update) for entry in entries]
        number = planned["number"].to_bytes(9, "big").lstrip(b"\0")
        number = b"\0" + number if number[0] > 127 else number
        extensions = [extension("2.5.29.35", tlv(0x30, tlv(0x80, key_identifier(key)))),
                      extension("2.5.29.20", tlv(0x02, number))]
        text = tlv(0x30, tlv(0x02, b"\x01"), SIGNED_WITH[algorithm_of(key)], name_der(above["subject"]),
                   time_der(this_update), time_der(planned["next_update"]),
                   tlv(0x30, *revoked) if revoked else b"", tlv(0xA0, tlv(0x30, *extensions)))
        ceremony.need(text.hex() == intent["to_be_signed"], "the list as the plan gives it")

    def entry(self, entry, this_update):
        code = self.REASONS[entry["reason"]]
        reason = extension("2.5.29.21", tlv(0x0A, bytes([code])))
        at = min(entry["at"], this_update, key=instant)
        return tlv(0x30, tlv(0x02, bytes.fromhex(entry["serial"])), time_der(at),
                   tlv(0x30, reason) if code else b"")

    def check_outcome(self, ceremony, planned, intent, signed, _):
        der, issuer = bytes.fromhex(signed["crl"]), ceremony.certificates[planned["signer"]]
        text, algorithm, signature = (whole for _, _, whole in children(only(der, 0x30)))
        right = text.hex() == intent["to_be_signed"] and signed["name"] == planned["name"]
        right = right and algorithm == SIGNED_WITH[algorithm_of(spki(ceremony.keys[issuer[0]["key"]]))]
        right = right and raw_signature(algorithm, only(signature, 0x03)[1:]) == signed["signature"]
        ceremony.need(right, "the list that was sealed")
        ceremony.crls[planned["name"]] = der
        ceremony.claims.append((ceremony.line, lambda: check_crl(der, issuer[1])))
        if "previous" in planned:
            before, above = self.before(planned["previous"]), given_certificate(ceremony.plan, planned["signer"])
            ceremony.need(above, "a list after one that its signer signed")
            ceremony.claims.append((ceremony.line, lambda: check_crl(before, above)))

    def before(self, text):
        found = re.fullmatch("-----BEGIN X509 CRL-----\n([A-Za-z0-9+/=\n]+)-----END X509 CRL-----\n?", text)
        readable(found)
        return base64.b64decode(found[1].replace("\n", ""), validate=True)


def given_certificate(plan, name):
    """A certificate that an earlier ceremony made, as the plan has it; in a rehearsal, another stands in for it."""
    steps = [step["use-certificate"] for step in plan["steps"] if "use-certificate" in step]
    return next((bytes.fromhex(step["der"]) for step in steps if step["certificate"]["name"] == name), None)


class SplitShares:
    intent, intended = "split-shares", {"name": NAME}
    outcomes = {"shares-given": {"name": NAME, "set": SHARE_SET}}
    decisions = ["split-anew"]

    def check_intent(self, ceremony, planned, intent):
        ceremony.need(intent["name"] == planned["set"], "the intent to split the planned secret")

    def check_outcome(self, ceremony, planned, intent, given, _):
        terms, holders = given["set"]["terms"], given["set"]["holders"]
        sound = len(set(holders)) == len(holders) == terms["count"] == len(given["set"]["checks"])
        sound = sound and 2 <= terms["threshold"] <= terms["count"] <= 15
        forms = terms["purpose"].values() if isinstance(terms["purpose"], dict) else []
        sound = sound and all(6 <= form["length"] <= 48 for form in forms)
        same = given["name"] == planned["set"] and terms["purpose"] == planned["purpose"]
        same = same and terms["threshold"] == planned["threshold"] and holders == planned["holders"]
        known = [it["set"]["terms"]["set"] for it in ceremony.sets.values()]
        ceremony.need(sound and same and terms["set"] not in known, "the planned set of shares")
        ceremony.sets[given["name"]] = {"set": given["set"], "state": "given"}


class VerifyShares:
    intent, intended = "verify-shares", {"name": NAME}
    outcomes = {**SplitShares.outcomes, "shares-verified": {"set": SET_ID, "shares": int, "combined": int}}
    decisions = ["split-anew"]

    def check_intent(self, ceremony, planned, intent):
        ceremony.need(intent["name"] == planned["set"], "the intent to verify the planned shares")

    def check_outcome(self, ceremony, planned, intent, made, name):
        """True if the step goes on: shares that became doubtful were given anew."""
        handed = ceremony.sets.get(planned["set"])
        ceremony.need(handed, "shares that were handed out")
        if handed["state"] == "doubtful":
            ceremony.need(name == "shares-given", "the shares that were handed out")
            SplitShares().check_outcome(ceremony, self.split(ceremony, planned), intent, made, name)
            return True
        ceremony.need(name == "shares-verified", "the shares that were read back")
        terms = handed["set"]["terms"]
        every = math.comb(terms["count"], terms["threshold"])
        all_of_them = made == {"set": terms["set"], "shares": terms["count"], "combined": every}
        ceremony.need(all_of_them, "every share of the set, and every choice of them")
        handed["state"] = "verified"
        # The secret is the token's PIN already.
        if self.split(ceremony, planned)["secret"] == "shares":
            ceremony.put_in_force(terms)
        return False

    def split(self, ceremony, planned):
        """What the plan says of the step that handed these shares out."""
        split = [step["split-shares"] for step in ceremony.plan["steps"] if "split-shares" in step]
        return next(it for it in split if it["set"] == planned["set"])


class RotatePin:
    intent, intended = "rotate-pin", {"set": SET_ID, "owner": PIN_OWNER}
    outcomes = {"pin-rotated": {"set": SET_ID, "owner": PIN_OWNER}}
    decisions = ["pin-is-former", "pin-is-new"]

    OWNERS = {"so-pin": "security-officer", "user-pin": "user"}

    def check_intent(self, ceremony, planned, intent):
        handed = ceremony.sets.get(planned["set"], {"state": None})
        ceremony.need(handed["state"] == "verified", "after shares were read back")
        terms = handed["set"]["terms"]
        owner = self.OWNERS.get(next(iter(terms["purpose"])))
        ceremony.need(intent == {"set": terms["set"], "owner": owner}, "the intent to set the planned PIN")

    def check_outcome(self, ceremony, planned, intent, rotated, _):
        ceremony.need(rotated == intent, "the PIN that was to be set")
        ceremony.put_in_force(ceremony.sets[planned["set"]]["set"]["terms"])


class RestoreDrill:
    """The copy of a key signs in its stead; in a rehearsal, another key may stand in for the copy."""
    intent, intended = "drill-restore", {"name": NAME, "key": KEY_REF}
    outcomes = {"restore-drilled": {"name": NAME, "copy": BackUpKey.COPY}}
    decisions = ["repeat"]

    def check_intent(self, ceremony, planned, intent):
        wanted = {"name": planned["key"], "key": ceremony.keys.get(planned["key"])}
        ceremony.need(intent == wanted, "the intent to let the copy of the planned key sign")

    def check_outcome(self, ceremony, planned, intent, drilled, _):
        name, copy = drilled["name"], drilled["copy"]
        ceremony.need(name == planned["key"], "the copy of the planned key")
        stands_in = "token" in planned and ceremony.rehearsed()
        known = copy["token"] if stands_in else planned.get("token", ceremony.copies.get(name))
        ceremony.need(copy["token"] == known != ceremony.token, "the token that has the copy")
        kept = {**copy, "attempts": {**dict.fromkeys(GenerateKey.CHANGES, "not tried"), **copy["attempts"]}}
        GenerateKey().check_kept(ceremony, kept)


class Human:
    intent, intended = "let-people-act", {"text": str}
    outcomes = {"done-by-people": {"by?": NAME, "values": {"*": str}}}
    decisions = ["repeat"]

    LETTERS = {"A": "[A-Z]", "9": "[0-9]", "*": "[A-Z0-9]"}

    def check_intent(self, ceremony, planned, intent):
        ceremony.need(intent == {"text": planned["text"]}, "the intent to let people do what is planned")

    def check_outcome(self, ceremony, planned, intent, done, _):
        by, values = done.get("by"), done["values"]
        ceremony.need(by in ceremony.present if by else not ceremony.present, "what somebody read who is present")
        fields = {field["name"]: field.get("pattern") for field in planned["record"]}
        all_of_them = fields.keys() == values.keys() and len(fields) == len(planned["record"])
        ceremony.need(all_of_them and all(self.takes(fields[name], value) for name, value in values.items()),
                      "all that the plan wants written down, in its form")
        ceremony.need(not any(map(is_secret, values.values())), "a text without a key or a password in it")

    def takes(self, pattern, value):
        if not is_readable(value):
            return False
        form = None if pattern is None else "".join(self.LETTERS.get(it, re.escape(it)) for it in pattern)
        return form is None or re.fullmatch(form, value) is not None


def is_readable(text):
    """One line that can be read aloud."""
    visible = all(ord(letter) > 31 and not 127 <= ord(letter) < 160 for letter in text)
    return 1 <= len(text) <= 240 and visible and all(text.split(" "))


class TakeBreak:
    intent, intended = "take-break", {"reason": str}
    outcomes = {"break-over": {"seconds": int, "left": [NAME], "back": [NAME]}}
    decisions = []

    def check_intent(self, ceremony, planned, intent):
        ceremony.need(intent == planned and ceremony.done > 0, "the intent to take the planned break")

    def check_outcome(self, ceremony, planned, intent, over, _):
        pause = ceremony.pause
        ceremony.need(pause["back"], "a break, and the machine looked at after it")
        seconds, nanoseconds = (back - began for back, began in zip(pause["back"], pause["began"]))
        wanted = {"seconds": seconds - (nanoseconds < 0), "left": pause["left"], "back": ceremony.present}
        ceremony.need(over == wanted, "the end of the break, as the records before it say")


class CheckEnvironment:
    intent, intended = "check-environment", {}
    decisions = ["repeat"]

    def check_intent(self, ceremony, planned, intent):
        pass

    def check_outcome(self, ceremony, planned, intent, found, _):
        ceremony.check_machine(found)


CHECKS = ["core-dumps", "entropy", "network", "radio", "space", "swap", "time-zone", "variables", "virtual-machine"]
ENVIRONMENT = {"euid": int, "kernel": str, "time_zone": str, "free": [int], "entropy": int,
               "findings": {f"{check}?": str for check in CHECKS}}
CheckEnvironment.outcomes = {"environment-checked": ENVIRONMENT}

KINDS = {
    "break": TakeBreak(),
    "check-environment": CheckEnvironment(),
    "human": Human(),
    "restore-drill": RestoreDrill(),
    "destroy-key": DestroyKey(),
    "back-up-key": BackUpKey(),
    "generate-key": GenerateKey(),
    "import-certificate": ImportCertificate(),
    "import-request": ImportRequest(),
    "pin-rotate": RotatePin(),
    "request-certificate": RequestCertificate(),
    "shares-verify": VerifyShares(),
    "sign-certificate": SignCertificate(),
    "sign-crl": SignCrl(),
    "split-shares": SplitShares(),
    "token-init": TokenInit(),
    "use-certificate": UseCertificate(),
    "use-key": UseKey(),
}

STEP = Either(re.compile("check-environment|close|export|hand-off|sign-off|token-init"), {"break": {"reason": str}},
              {"human": {"text": str, "record": [{"name": NAME, "pattern?": PATTERN}]}},
              {"restore-drill": {"key": NAME, "token?": TOKEN_IDENTITY}}, {"generate-key": PLANNED_KEY},
              {"back-up-key": {"key": PLANNED_KEY}}, {"destroy-key": {"key": NAME}},
              {"import-certificate": {"certificate": PLANNED_CERTIFICATE}},
              {"import-request": {"name": NAME, "request": str}}, {"pin-rotate": {"set": NAME}},
              {"request-certificate": {"name": NAME, "key": NAME, "subject": str}},
              {"shares-verify": {"set": NAME}}, {"sign-certificate": PLANNED_CERTIFICATE},
              {"sign-crl": PLANNED_CRL}, {"split-shares": PLANNED_SHARES},
              {"use-certificate": {"certificate": PLANNED_CERTIFICATE, "der": HEX}},
              {"use-key": {"name": NAME, "key": KEY_REF, "transcript": HASH}})
PLAN = {"schema": re.compile("chancery-ceremony/1"), "id": NAME, "steps": [STEP],
        "ssh": {"*": {"key": NAME, "usage": re.compile("host|user")}}, "people?": PEOPLE, "machine?": {"refuse": [re.compile("|".join(CHECKS))]}}
OPENED = {
    "tool": str, "tool_sha256": HASH, "boot": str,
    "attendance": re.compile("attended|rehearsed|unattended"), "faithful?": bool, "rehearsal?": HASH,
    "approvals?": {"*": SSH_SIGNATURE}, "plan_hash": HASH, "site_hash": HASH,
    "changeable_keys?": str, "software_token?": str, "token_profile?": HASH, "linters": [str], "module": MODULE, "plan": PLAN,
}
TOKEN = {"identity": TOKEN_IDENTITY, "hardware_version": str, "firmware_version": str, "library": str,
         "flags": [str], "given_by?": {"set": SET_ID, "shares": [int]}}
RESUMED = {"reason": str, "boot": str, "journals": [{"records": int, "torn": HEX}]}
EVENTS = {
    "aborted": {"reason": str}, "clock": {"reads": TIME}, "closed": {}, "confirmed": {},
    "decided": Either(*(re.compile(it) for kind in KINDS.values() for it in kind.decisions if isinstance(it, str)),
                      {"destroy-and-repeat": {"found": re.compile("orphan|pair")}}),
    "environment": ENVIRONMENT,
    "exception": {"text": str},
    "intent": Either(*({kind.intent: kind.intended} for kind in KINDS.values())),
    "opened": OPENED,
    "outcome": Either(*({name: form} for kind in KINDS.values() for name, form in kind.outcomes.items())),
    "present": {}, "resumed": RESUMED, "signed-off": {"signature": SSH_SIGNATURE},
    "stopped": {"reason": str}, "token": TOKEN,
}
RECORD = Either(*(
    {"seq": int, "prev": HASH, "time": TIME, "step?": int, "who?": [NAME], "event": re.compile(event), "data": form}
    for event, form in EVENTS.items()
))
TRAILER = {"head": HASH}


# ---- Keys and certificates (X.690, RFC 5280) -----------------------------------------------------

def tlv(tag, *contents):
    content = b"".join(contents)
    length = len(content).to_bytes(4, "big").lstrip(b"\0")
    return bytes([tag]) + (bytes([len(content)]) if len(content) < 128 else bytes([128 + len(length)]) + length) + content


def children(content):
    """Tag, content and whole encoding of each element."""
    at = 0
    while at < len(content):
        tag, length, start = content[at], content[at + 1], at + 2
        if length > 127:
            start += length - 128
            length = int.from_bytes(content[at + 2:start], "big")
        readable(start + length <= len(content))
        yield tag, content[start:start + length], content[at:start + length]
        at = start + length


def only(der, tag):
    """The content of the one element that this is."""
    (found, content, whole), = children(der)
    readable(found == tag and whole == tlv(tag, content))
    return content


def oid(text):
    first, second, *rest = map(int, text.split("."))
    content = bytearray()
    for arc in [40 * first + second, *rest]:
        septets = [arc & 127]
        while arc := arc >> 7:
            septets.append(128 | arc & 127)
        content += bytes(reversed(septets))
    return tlv(0x06, bytes(content))


RSA = tlv(0x30, oid("1.2.840.113549.1.1.1"), tlv(0x05))
CURVES = {tlv(0x30, oid("1.2.840.10045.2.1"), oid("1.2.840.10045.3.1.7")): "p256",
          tlv(0x30, oid("1.2.840.10045.2.1"), oid("1.3.132.0.34")): "p384",
          tlv(0x30, oid("1.3.101.112")): "ed25519"}
RSA_SHA256 = tlv(0x30, oid("1.2.840.113549.1.1.11"), tlv(0x05))
SIGNED_WITH = {"p256": tlv(0x30, oid("1.2.840.10045.4.3.2")), "p384": tlv(0x30, oid("1.2.840.10045.4.3.3")),
               "ed25519": tlv(0x30, oid("1.3.101.112")),
               "rsa2048": RSA_SHA256, "rsa3072": RSA_SHA256, "rsa4096": RSA_SHA256}
SIZES = {SIGNED_WITH["p256"]: 32, SIGNED_WITH["p384"]: 48}


def spki(key):
    return base64.b64decode("".join(key["public_key"].splitlines()[1:-1]))


def parts_of(der):
    """Algorithm and bits of a SubjectPublicKeyInfo."""
    (_, _, algorithm), (_, bits, _) = children(only(der, 0x30))
    return algorithm, bits[1:]


def algorithm_of(der):
    algorithm, bits = parts_of(der)
    if algorithm == RSA:
        modulus, exponent = (int.from_bytes(it, "big") for _, it, _ in children(only(bits, 0x30)))
        readable(modulus % 2 and exponent % 2 and exponent > 2**16)
        return f"rsa{modulus.bit_length()}"
    return CURVES.get(algorithm)


def raw_signature(algorithm, bits):
    """A signature as a token makes it, in hexadecimal: r and s of one size for ECDSA."""
    if algorithm not in SIZES:
        return bits.hex()
    numbers = (int.from_bytes(it, "big") for _, it, _ in children(only(bits, 0x30)))
    return "".join(it.to_bytes(SIZES[algorithm], "big").hex() for it in numbers)


def signer_of(planned):
    kind, = planned["kind"].values()
    return kind.get("signer")


def signer_key(ceremony, planned):
    """The key in the token that signs a certificate."""
    signer = signer_of(planned)
    above = ceremony.certificates[signer][0] if signer else planned
    return spki(ceremony.keys[above["key"]])


def up(ceremony, planned):
    """The certificate and those above it, DER, up to the root."""
    while True:
        yield ceremony.certificates[planned["name"]][1]
        if not signer_of(planned):
            return
        planned = ceremony.certificates[signer_of(planned)][0]


ATTRIBUTES = {"CN": ("2.5.4.3", 0x0C), "serialNumber": ("2.5.4.5", 0x13), "C": ("2.5.4.6", 0x13),
              "L": ("2.5.4.7", 0x0C), "ST": ("2.5.4.8", 0x0C), "O": ("2.5.4.10", 0x0C),
              "OU": ("2.5.4.11", 0x0C), "DC": ("0.9.2342.19200300.100.1.25", 0x16)}


def name_der(text):
    """A distinguished name (RFC 4514 writes the last part first)."""
    parts = re.findall(r"([A-Za-z]+)=((?:[^\\,]|\\.)*)(?:,|$)", text)
    encoded = []
    for kind, value in reversed(parts):
        number, tag = ATTRIBUTES[kind]
        value = re.sub(r"\\(.)", r"\1", value)
        encoded.append(tlv(0x31, tlv(0x30, oid(number), tlv(tag, value.encode()))))
    return tlv(0x30, *encoded)


def time_der(text):
    """UTCTime until 2049, GeneralizedTime from 2050 on."""
    digits = re.sub("[^0-9]", "", text)
    readable(digits >= "1950")
    return tlv(0x17, f"{digits[2:]}Z".encode()) if digits < "2050" else tlv(0x18, f"{digits}Z".encode())


def extension(number, value, critical=False):
    return tlv(0x30, oid(number), tlv(0x01, b"\xff") if critical else b"", tlv(0x04, value))


def key_identifier(der):
    return hashlib.sha1(parts_of(der)[1]).digest()


POISON = "1.3.6.1.4.1.11129.2.4.3"


def extensions(planned, key, above, signer, poisons):
    """What the certificate of a CA says besides names, dates and the key."""
    kind, = planned["kind"].values()
    length = kind["path_length"]
    room = b"" if length is None else tlv(0x02, bytes([length]))
    yield extension("2.5.29.19", tlv(0x30, tlv(0x01, b"\xff"), room), critical=True)
    yield extension("2.5.29.15", tlv(0x03, b"\x01\x06"), critical=True)
    yield extension("2.5.29.14", tlv(0x04, key_identifier(key)))
    if above:
        yield from extensions_of_signer(above, signer)
    if poisons:
        yield extension(POISON, tlv(0x05), critical=True)


def extensions_of_signer(above, signer):
    yield extension("2.5.29.35", tlv(0x30, tlv(0x80, key_identifier(signer))))
    urls = {name: tlv(0x86, url.encode()) for name, url in above["publication"].items()}
    if "crl_url" in urls:
        point = tlv(0x30, tlv(0xA0, tlv(0xA0, urls["crl_url"])))
        yield extension("2.5.29.31", tlv(0x30, point))
    access = [tlv(0x30, oid(f"1.3.6.1.5.5.7.48.{arc}"), urls[name])
              for arc, name in ((1, "ocsp_url"), (2, "issuer_url")) if name in urls]
    if access:
        yield extension("1.3.6.1.5.5.7.1.1", tlv(0x30, *access))


def to_be_signed(ceremony, planned, serial):
    """The TBSCertificate that the plan gives for the keys that were made."""
    signer = signer_of(planned)
    above = ceremony.certificates[signer][0] if signer else None
    if above:
        (room,), (length,) = ([kind["path_length"] for kind in it["kind"].values()] for it in (above, planned))
        ceremony.need(room is None or length < room, "a CA for which its signer has room")
    key = ceremony.key(planned["key"])
    signing = ceremony.key(above["key"]) if above else key
    return tlv(0x30,
               tlv(0xA0, tlv(0x02, b"\x02")), tlv(0x02, serial), SIGNED_WITH[algorithm_of(signing)],
               name_der((above or planned)["subject"]),
               dates_der(planned),
               name_der(planned["subject"]), key,
               tlv(0xA3, tlv(0x30, *extensions(planned, key, above, signing, ceremony.poisons()))))


def dates_der(planned):
    return tlv(0x30, time_der(planned["not_before"]), time_der(planned["not_after"]))


# ---- 6. What other programs verify ---------------------------------------------------------------

NAMESPACE = "chancery-ceremony"


def run(arguments, text=b""):
    """What a program answered; whether it was content."""
    try:
        answer = subprocess.run(arguments, input=text, capture_output=True, timeout=60)
    except FileNotFoundError:
        print(f"error: {arguments[0]} is not installed", file=sys.stderr)
        sys.exit(2)
    return answer.returncode == 0, answer.stdout.decode(errors="replace") + answer.stderr.decode(errors="replace")


def check_ssh_signature(name, key, text, signature):
    with tempfile.TemporaryDirectory() as directory:
        signers, signed = Path(directory, "allowed_signers"), Path(directory, "signature")
        signers.write_text(f'{name} namespaces="{NAMESPACE}" {key}\n')
        signed.write_text(signature)
        holds, _ = run(["ssh-keygen", "-Y", "verify", "-f", signers, "-I", name, "-n", NAMESPACE, "-s", signed],
                       text.encode())
    return None if holds else f"the signature is not of this ceremony, or not by {name}"


def pem(der, label="CERTIFICATE"):
    text = base64.b64encode(der).decode()
    lines = [text[at:at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----\n"])


def der_of(text):
    """What is in a PEM text."""
    found = re.search("-----BEGIN [A-Z ]+-----([A-Za-z0-9+/=\\s]+)-----END", text)
    readable(found)
    return base64.b64decode(found[1])


def check_request(text):
    """Whoever asks has the key."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "request.csr")
        file.write_text(text)
        _, said = run(["openssl", "req", "-verify", "-noout", "-in", file])
    return None if "verify OK" in said else "the request is not signed by the key in it"


def check_crl(crl, issuer):
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, name) for name in ("list.der", "issuer.pem")]
        files[0].write_bytes(crl)
        files[1].write_text(pem(issuer))
        _, said = run(["openssl", "crl", "-inform", "DER", "-noout", "-in", files[0], "-CAfile", files[1]])
    return None if "verify OK" in said else "openssl does not verify the revocation list"


def check_certificate(chain, seconds, poisoned):
    """Its own first, then those above it up to the root, which is trusted for its signature alone.
    Those of a rehearsal have a critical extension that openssl does not take."""
    own, *between, root = chain if len(chain) > 1 else [chain[0], chain[0]]
    with tempfile.TemporaryDirectory() as directory:
        files = [Path(directory, name) for name in ("root.pem", "between.pem", "own.pem")]
        for file, content in zip(files, [[root], between, [own]]):
            file.write_text("".join(map(pem, content)))
        untrusted = ["-untrusted", files[1]] if between else []
        untrusted += ["-ignore_critical"] if poisoned else []
        holds, said = run(["openssl", "verify", "-x509_strict", "-check_ss_sig", "-attime", str(seconds),
                           "-trusted", files[0], *untrusted, files[2]])
    return None if holds else f"openssl does not verify the certificate: {said.strip().splitlines()[-1]}"


# ---- 4. and 5. The rehearsal, and the files of a bundle ------------------------------------------

def verify_transcript(content):
    """The ceremony, but for what other programs verify: those are its claims."""
    records, heads = read_chain(content)
    ceremony = Ceremony(records, heads)
    try:
        ceremony.replay()
    except Bad:
        ceremony.prove(before=ceremony.line)
        raise
    return ceremony


def is_secret(text):
    """A private key, or a long run of letters and digits as no language has."""
    def random(word):
        count = [len(re.findall(kind, word)) for kind in ("[0-9]", "[a-z]", "[A-Z]")]
        mixed = len(word) >= 20 and count[0] >= 2 and count[1] >= 4 and count[2] >= 4
        return mixed or len(word) >= 32 and count[0] >= 4 and re.fullmatch("[0-9a-fA-F]+", word)

    return PRIVATE in text.encode() or any(map(random, re.findall(r"[A-Za-z0-9+/=_-]+", text)))


PRIVATE = b"PRIVATE" + b" KEY-----"


def verify_rehearsal(content, ceremony):
    """The rehearsal that the transcript names, but for what other programs verify."""
    rehearsal = in_file("rehearsal.jsonl", lambda: verify_transcript(content))
    named = ceremony.opened.get("rehearsal")
    require(named == rehearsal.heads[-1],
            f"rehearsal.jsonl: the transcript does not name the rehearsal with the head {rehearsal.heads[-1]}")
    same = all(rehearsal.opened[it] == ceremony.opened[it] for it in ("plan_hash", "tool", "tool_sha256"))
    require(same and rehearsal.opened["attendance"] == "rehearsed",
            "rehearsal.jsonl: it is no rehearsal of this plan by this program")
    return rehearsal


def in_file(name, act):
    try:
        return act()
    except Bad as bad:
        raise Bad(f"{name}: {bad}") from None


def verify_bundle(content):
    archived, seconds = read_archive(content)
    prefix = next(iter(archived)).split("/")[0] + "/"
    for name in archived:
        require(name.startswith(prefix), f"{name} does not belong there")
    files = {name[len(prefix):]: body for name, body in archived.items()}
    require("transcript.jsonl" in files, "transcript.jsonl is missing")
    ceremony = in_file("transcript.jsonl", lambda: verify_transcript(files["transcript.jsonl"]))
    require(ceremony.opened["attendance"] != "rehearsed", "transcript.jsonl: it is of a rehearsal")
    require("rehearsal" not in ceremony.opened or "rehearsal.jsonl" in files, "rehearsal.jsonl is missing")
    rehearsal = None
    if "rehearsal.jsonl" in files:
        rehearsal = verify_rehearsal(files["rehearsal.jsonl"], ceremony)
    check_sums(files)
    if "token-profile.json" in files:
        named = ceremony.opened.get("token_profile")
        require(named == sha256(files["token-profile.json"]), "token-profile.json is not what it must be")
    if "site.toml" in files:
        site = tagged("chancery-ceremony-site-v1", files["site.toml"])
        require(site == ceremony.opened["site_hash"], "site.toml is not what it must be")
    expected = derived(ceremony)
    for name, body in expected.items():
        require(name in files, f"{name} is missing")
        require(body is None or files[name] == body, f"{name} is not what it must be")
    check_about(files["bundle.json"], ceremony)
    if "handoff/handoff.toml" in expected:
        check_hand_off(files["handoff/handoff.toml"], ceremony)
    check_clauses(files["clauses.json"], ceremony)
    for name in files:
        known = name in expected or name in GIVEN or re.fullmatch(ATTACHMENT, name)
        require(known, f"{name} does not belong there")
        require(PRIVATE not in files[name], f"{name} has a private key in it")
    whole = prefix == ceremony.plan["id"] + "/" and seconds == ceremony.time[0]
    require(whole, "the archive is not what it must be")
    in_file("transcript.jsonl", ceremony.prove)
    if rehearsal:
        in_file("rehearsal.jsonl", rehearsal.prove)
    return ceremony


GIVEN = ("SHA256SUMS", "kept-elsewhere.sha256", "rehearsal.jsonl", "site.toml", "token-profile.json", "transcript.jsonl")
ATTACHMENT = "attachments/[A-Za-z0-9_][A-Za-z0-9._-]{0,47}"


def sums(hashes):
    return "".join(f"{value}  {name}\n" for name, value in sorted(hashes.items())).encode()


def read_sums(content, name):
    lines = content.decode(errors="replace").splitlines()
    read = {it[66:]: it[:64] for it in lines}
    require(read and sums(read) == content, f"{name} is not what it must be")
    return read


def check_sums(files):
    require("SHA256SUMS" in files, "SHA256SUMS is missing")
    listed = read_sums(files["SHA256SUMS"], "SHA256SUMS")
    for name, body in files.items():
        if name != "SHA256SUMS":
            require(name in listed, f"{name} does not belong there")
            require(listed[name] == sha256(body), f"{name} has not the hash that SHA256SUMS says")
    for name in listed:
        require(name in files and name != "SHA256SUMS", f"{name} is missing")
    if "kept-elsewhere.sha256" in files:
        read_sums(files["kept-elsewhere.sha256"], "kept-elsewhere.sha256")


def pretty(value):
    return (json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def derived(ceremony):
    """The files that follow from the records; None where only their hash, or what they say, does."""
    opened, plan = ceremony.opened, ceremony.plan
    files = {"README.txt": None, "bundle.json": None, "clauses.json": None, "head.svg": None,
             "verify.py": None, "plan.json": one_text(plan)}
    if plan["steps"][-1] == "hand-off":
        files["handoff/handoff.toml"] = None
    elif plan["steps"][-1] == "export":
        about = {"id": plan["id"], "plan": opened["plan_hash"], "transcript": ceremony.heads[-1]}
        files["handoff/ceremony.toml"] = "".join(f'{it} = "{about[it]}"\n' for it in about).encode()
    files["heads.txt"] = "".join(
        [f"plan {opened['plan_hash']}\nsite {opened['site_hash']}\nstart {ceremony.records[0]['prev']}\n"]
        + [f"{number} {head}\n" for number, head in enumerate(ceremony.heads, 1)]).encode()
    exceptions = [record for record in ceremony.records if record["event"] in EXCEPTIONAL]
    files["exceptions.json"] = pretty(exceptions)
    persons = ceremony.people["persons"]
    if persons:
        files["people/allowed_signers"] = "".join(
            f'{name} namespaces="{NAMESPACE}" {person["key"]}\n' for name, person in persons.items()).encode()
        files["people/approval.txt"] = f"chancery-ceremony: approve\nplan {opened['plan_hash']}\n".encode()
    for name, signature in opened.get("approvals", {}).items():
        files[f"people/{name}.approval"] = signature.encode()
    for record in ceremony.records:
        if record["event"] == "signed-off":
            name = record["who"][0]
            text = f"chancery-ceremony: sign off\nplan {opened['plan_hash']}\nhead {record['prev']}\n"
            files[f"people/{name}.sign-off.txt"] = text.encode()
            files[f"people/{name}.sign-off"] = record["data"]["signature"].encode()
    for record in ceremony.records:
        if record["event"] == "outcome":
            (outcome, made), = record["data"].items()
            made = made["made"] if outcome == "key-backed-up" else made
            if outcome in ("key-backed-up", "key-found", "key-generated"):
                files[f"keys/{made['name']}.pem"] = made["key"]["public_key"].encode()
    for name, (_, der) in ceremony.certificates.items():
        files[f"certificates/{name}.der"] = der
        files[f"certificates/{name}.pem"] = files[f"handoff/{name}.pem"] = pem(der).encode()
        if name in ceremony.signed_here:
            files[f"certificates/{name}.tbs.der"] = next(children(only(der, 0x30)))[2]
    for name, der in ceremony.crls.items():
        files[f"crls/{name}.crl"] = files[f"handoff/{name}.crl"] = der
        files[f"crls/{name}.tbs.der"] = next(children(only(der, 0x30)))[2]
    for name, text in ceremony.requests.items():
        files[f"requests/{name}.csr"] = files[f"handoff/{name}.csr"] = text.encode()
    for name, handed in ceremony.sets.items():
        files[f"shares/{name}.json"] = pretty(handed["set"])
    if plan["steps"][-1] == "close":
        return {name: body for name, body in files.items() if not name.startswith("handoff/")}
    for name, authority in plan["ssh"].items():
        line = ssh_key(spki(ceremony.keys[authority["key"]]))
        files[f"handoff/{name}.pub"] = f"{line} {name}\n".encode()
    return files


EXCEPTIONAL = ("decided", "exception", "resumed", "stopped")


def ssh_key(der):
    """A public key as OpenSSH writes it (RFC 4253 section 6.6, RFC 5656, RFC 8709)."""
    kind, (_, bits) = algorithm_of(der), parts_of(der)
    if kind.startswith("rsa"):
        modulus, exponent = (number for _, number, _ in children(only(bits, 0x30)))
        parts = [b"ssh-rsa", exponent, modulus]
    elif kind == "ed25519":
        parts = [b"ssh-ed25519", bits]
    else:
        curve = b"nistp" + kind[1:].encode()
        parts = [b"ecdsa-sha2-" + curve, curve, bits]
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return f"{parts[0].decode()} {base64.b64encode(blob).decode()}"


def check_about(content, ceremony):
    try:
        about = json.loads(content)
    except ValueError:
        about = None
    form = {"ceremony": NAME, "head": HASH, "plan": HASH, "previous?": HASH,
            "schema": re.compile("chancery-ceremony-bundle/1"), "tool": str}
    right = matches(about, form) is None and pretty(about) == content
    right = right and about["ceremony"] == ceremony.plan["id"] and about["head"] == ceremony.heads[-1]
    require(right and about["plan"] == ceremony.opened["plan_hash"], "bundle.json is not what it must be")


def check_hand_off(content, ceremony):
    """The keys and chains that the appliance is to trust are those of the records."""
    plan, keys = ceremony.plan, ceremony.keys
    of = {key["label"]: key for key in keys.values()}
    x509, cross = {}, {}
    for name, (planned, _) in ceremony.certificates.items():
        if "cross" in planned["kind"]:
            cross[name] = f"{name}.pem"
        if "cross" in planned["kind"] or planned["key"] not in keys:
            continue
        chain, above = [f"{name}.pem"], planned
        while signer_of(above):
            chain.append(f"{signer_of(above)}.pem")
            above = ceremony.certificates[signer_of(above)][0]
        x509[name] = {"chain": chain, "key": keys[planned["key"]], "online": "issuing" in planned["kind"]}
    wanted = {
        "ceremony": {"id": plan["id"], "plan": ceremony.opened["plan_hash"], "transcript": ceremony.heads[-1]},
        "token": ceremony.token,
        "x509": x509,
        "ssh": {name: {"usage": it["usage"], "key": keys[it["key"]]} for name, it in plan["ssh"].items()},
        "publication": next((key for label, key in of.items() if label.startswith("publication/")), None),
        "raw": {label[4:]: key for label, key in of.items() if label.startswith("raw/")},
    }
    crls = {it["sign-crl"]["name"]: it["sign-crl"]["signer"] for it in plan["steps"] if type(it) is dict and "sign-crl" in it}
    crls = {name: {"file": f"{name}.crl", "issuer": f"{signer}.pem"} for name, signer in crls.items()}
    wanted |= {"cross": cross} if cross else {}
    wanted |= {"crls": crls} if crls else {}
    try:
        found = tomllib.loads(content.decode())
    except ValueError:
        found = None
    require(found == wanted, "handoff/handoff.toml is not what it must be")


def check_clauses(content, ceremony):
    """Every demand once, with records that are there. What answers what is for auditors to judge."""
    try:
        clauses = json.loads(content)
        numbers = [clause["number"] for clause in clauses]
        there = all(0 < number <= len(ceremony.records) for clause in clauses for number in clause["records"])
    except (ValueError, TypeError, KeyError):
        numbers, there = [], False
    right = there and numbers == [f"B{number}" for number in range(1, 23)]
    require(right, "clauses.json is not what it must be")


# ---- The command line ----------------------------------------------------------------------------

def verify(path, head=None, wanted_sum=None):
    """What was verified; Bad if something is wrong."""
    content = Path(path).read_bytes()
    bundle = not content.startswith(b"{")
    ceremony = verify_bundle(content) if bundle else verify_transcript(content)
    ceremony.prove()
    require(head in (None, ceremony.heads[-1]), f"the transcript's head is {ceremony.heads[-1]}, not {head}")
    found = sha256(content)
    require(wanted_sum in (None, found), f"the SHA-256 of the file is {found}, not {wanted_sum}")
    return {
        "id": ceremony.plan["id"], "plan_hash": ceremony.opened["plan_hash"], "head": ceremony.heads[-1],
        "attendance": ceremony.opened["attendance"], "records": len(ceremony.records),
        "keys": len(ceremony.keys), "certificates": len(ceremony.certificates),
        "approved_by": sorted(ceremony.opened.get("approvals", {})), "signed_off_by": sorted(ceremony.signed_off),
        "bundle": bundle, "sha256": found,
    }


def batch():
    """For tests: many files, one process."""
    for path in sys.stdin:
        try:
            answer = {"ok": True, **verify(path.rstrip("\n"))}
        except Bad as bad:
            answer = {"ok": False, "error": str(bad)}
        print(json.dumps(answer), flush=True)
    return 0


def main():
    parser = argparse.ArgumentParser(description="Verifies the transcript or the bundle of a key ceremony.")
    parser.add_argument("file", nargs="?", help="the transcript, or the bundle")
    parser.add_argument("--head", help="the head that was written down at the ceremony")
    parser.add_argument("--sha256", help="the SHA-256 of the bundle that was written down")
    parser.add_argument("--json", action="store_true", help="answer in JSON")
    parser.add_argument("--batch", action="store_true", help="read paths from standard input, answer in JSON")
    arguments = parser.parse_args()
    if arguments.batch:
        return batch()
    if arguments.file is None:
        parser.error("name a transcript or a bundle")
    try:
        said = verify(arguments.file, arguments.head, arguments.sha256)
    except OSError as error:
        print(f"error: {error}\n\nhint: name the transcript or the bundle of a ceremony", file=sys.stderr)
        return 2
    except Bad as bad:
        print(f"error: {bad}\n\nhint: do not use these keys before you know why", file=sys.stderr)
        return 5
    if arguments.json:
        print(json.dumps(said))
    else:
        print(f"ceremony {said['id']}, {said['records']} records, {said['keys']} keys, "
              f"{said['certificates']} certificates: nothing is wrong\n"
              f"plan {said['plan_hash']}\nhead {said['head']}\nsha256 {said['sha256']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
