"""Passwords of keys that sign: from the environment, else from whoever sits there."""

from __future__ import annotations

import os
import sys

import click

from envsnap.errors import UsageError

PASSWORDS = ("ENVSNAP_SIGN_PASSWORD", "COSIGN_PASSWORD")


def password() -> bytes:
    """The password of an encrypted key. Raises UsageError: it is not given and nobody can be asked."""
    for name in PASSWORDS:
        if name in os.environ:  # an empty one is a password, too
            return os.environ[name].encode()
    if not sys.stdin.isatty():
        raise UsageError("the key is encrypted", why="its password is not given, and nobody can be asked", hint=f"set {PASSWORDS[0]}")
    return str(click.prompt("Password of the key", hide_input=True, default="", show_default=False, err=True)).encode()
