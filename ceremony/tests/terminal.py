"""Runs a ceremony in a terminal of its own (a pty) and types what custodians type: a line end where they
are to look at their shares or have copied them, then each line of the shares as it was shown.

Prints as JSON how the program ended, the lines that were shown, and every byte of the terminal (hex).
"""

import json
import os
import pty
import re
import select
import sys
import time

LINE = re.compile(rb"\r?\n\d   ((?:[0-9A-Z]{4} ){4}  [0-9A-Z]{2})(?=\r?\n)")
ASKED = re.compile(rb"then types? Enter|line \d > ")

process, terminal = pty.fork()
if process == 0:
    os.execv(sys.argv[1], sys.argv[1:])
output, seen, shown, typed = b"", 0, [], 0
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    if not select.select([terminal], [], [], 1)[0]:
        continue
    try:
        part = os.read(terminal, 1 << 16)
    except OSError:
        break
    if not part:
        break
    output += part
    while asked := ASKED.search(output, seen):
        shown += [line.decode() for line in LINE.findall(output, seen, asked.end())]
        seen = asked.end()
        if asked[0].endswith(b"Enter"):
            answer = ""
        else:
            answer, typed = shown[typed], typed + 1
        os.write(terminal, f"{answer}\n".encode())
_, status = os.waitpid(process, 0)
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "shown": shown, "output": output.hex()}))
