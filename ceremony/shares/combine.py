#!/usr/bin/env python3
"""Combines shares as they are on paper: without this project's programs, and without its libraries.

    python3 combine.py 'LINES OF A SHARE' 'LINES OF ANOTHER' ...

Prints the name of the set, the secret in hexadecimal, and the PIN if it is for one. It is the second
implementation that the tests compare with, and what is left to whoever has the paper and nothing else.
The form of a share is told in shares/text.rs; the field is that of AES: x^8 + x^4 + x^3 + x + 1.
"""

import hashlib
import sys

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"

# Powers of the generator 3, and their logarithms.
POWERS, LOGARITHMS, value = [], {}, 1
for exponent in range(255):
    POWERS.append(value)
    LOGARITHMS[value] = exponent
    value ^= value << 1 ^ (0x11B if value & 0x80 else 0)


def times(a, b):
    return 0 if 0 in (a, b) else POWERS[(LOGARITHMS[a] + LOGARITHMS[b]) % 255]


def divided(a, b):
    return 0 if a == 0 else POWERS[(LOGARITHMS[a] - LOGARITHMS[b]) % 255]


def share(text):
    """The 50 bytes of a share."""
    octets = b""
    for number, line in enumerate(filter(str.strip, text.splitlines()), 1):
        bits = 0
        for character in line.replace(" ", "").upper():
            bits = bits << 5 | ALPHABET.index(character)
        line = (bits >> 10).to_bytes(10, "big")
        # The remainder of the division by the polynomial.
        rest = int.from_bytes(bytes([number]) + line, "big") << 10
        for place in reversed(range(10, 98)):
            if rest >> place & 1:
                rest ^= 0x633 << place - 10
        if rest != bits & 0x3FF:
            sys.exit(f"line {number} is wrong")
        octets += line
    if hashlib.sha256(b"chancery-ceremony-share-text-v1\0" + octets[:46]).digest()[:4] != octets[46:]:
        sys.exit("the lines are not those of one share")
    return octets


def main():
    shares = [share(text) for text in sys.argv[1:]]
    # Version and threshold, count, purpose and alphabet, length, set.
    header = bytes([shares[0][0], shares[0][1] & 0xF0]) + shares[0][2:10]
    if any(bytes([it[0], it[1] & 0xF0]) + it[2:10] != header for it in shares):
        sys.exit("the shares are of several sets")
    points = {it[1] & 15: it[10:42] for it in shares}
    if len(points) < header[0] & 15:
        sys.exit("the shares are too few")
    secret = bytearray(32)
    for x, octets in points.items():
        weight = 1
        for other in points:
            if other != x:
                weight = times(weight, divided(other, other ^ x))
        for place, octet in enumerate(octets):
            secret[place] ^= times(weight, octet)
    if hashlib.sha256(b"share-set\0" + header + secret).digest()[:4] != shares[0][42:46]:
        sys.exit("the shares do not give the secret")
    print(header[4:].hex())
    print(secret.hex())
    base = {0: 0, 1: 10, 2: 32}[header[2] & 15]
    if base:
        number, pin = int.from_bytes(secret, "big"), ""
        for _ in range(header[3]):
            number, rest = divmod(number, base)
            pin += ALPHABET[rest]
        print(pin)


main()
