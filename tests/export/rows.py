"""Rows of the table that check.sh prints."""

import sys


def row(shown, found, demanded, passed):
    print(f"| {shown} | {found} | {demanded} | {'ok' if passed else 'FAILED'} |", flush=True)


def log(*text):
    print(*text, file=sys.stderr, flush=True)
