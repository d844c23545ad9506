"""Lints files by pkilint, all in one process: each argument is LINTER=FILE. Prints what was found, as JSON."""

import contextlib
import importlib
import io
import json
import sys

ARGUMENTS = {
    "cabf": ("lint_cabf_serverauth_cert", ["-d"]),
    "crl": ("lint_crl", ["-t", "ARL", "-p", "PKIX"]),
    "pkix": ("lint_pkix_cert", []),
}


def lint(linter, path):
    module, arguments = ARGUMENTS[linter]
    main = importlib.import_module(f"pkilint.bin.{module}").main
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        main(["lint", *arguments, "-s", "NOTICE", "-f", "JSON", path])
    # A file that is none of its kind has said so, and gives no JSON.
    results = json.loads(output.getvalue())["results"]
    return [finding for result in results for finding in result["finding_descriptions"]]


jobs = [argument.partition("=") for argument in sys.argv[1:]]
print(json.dumps([[linter, path, lint(linter, path)] for linter, _, path in jobs]))
