from __future__ import annotations

import io
import sys

import pytest

from envsnap.cli import keys
from envsnap.errors import UsageError


def test_the_password_of_envsnap_comes_before_cosigns_and_an_empty_one_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COSIGN_PASSWORD", "theirs")
    monkeypatch.delenv("ENVSNAP_SIGN_PASSWORD", raising=False)
    assert keys.password() == b"theirs"
    monkeypatch.setenv("ENVSNAP_SIGN_PASSWORD", "")
    assert keys.password() == b""


def test_where_nobody_can_be_asked_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in keys.PASSWORDS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("secret\n"))  # a pipe is no person
    with pytest.raises(UsageError, match="encrypted"):
        keys.password()
