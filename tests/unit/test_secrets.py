"""What looks like a secret in what people write. The tokens are put together here, so that no scanner takes this file for a leak."""

from __future__ import annotations

import base64
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap import redaction

LETTERS = (string.ascii_letters + string.digits) * 3
JWT = ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({"alg": "HS256", "typ": "JWT"}, {"sub": "1" * 12})
)
PLANTED = {
    "GitHub Token": "ghp" + "_" + LETTERS[:36],
    "GitLab Token": "glpat" + "-" + LETTERS[:20],
    "AWS Access Key": "AK" + "IA" + "Q3EGRIAZ2N7WXC4T",
    "Private Key": "-----BEGIN " + "RSA PRIVATE KEY-----",
    "Slack Token": "xoxb" + "-123456789012-" + "abcdefghijkl",
    "Stripe Access Key": "sk" + "_live_" + LETTERS[:24],
    "SendGrid API Key": "SG" + "." + LETTERS[:22] + "." + LETTERS[:43],
    "OpenAI Token": "sk" + "-" + LETTERS[:20] + "T3Blbk" + "FJ" + LETTERS[20:40],
    "JSON Web Token": JWT + "." + LETTERS[:30],
    "token": "hf" + "_" + LETTERS[:34],
    "password in an address": "https://me:" + "s3cr3t-p4ss" + "@git.example.com/x.git",
}


@pytest.mark.parametrize("kind", PLANTED)
def test_each_kind_is_found_with_its_line_and_never_its_value(kind: str) -> None:
    found = redaction.find_secrets(f"first = 1\nkey = '{PLANTED[kind]}'\nlast = 2\n")
    assert (2, kind) in found and {secret.line for secret in found} == {2}
    assert PLANTED[kind] not in "".join(map(str, found))


@pytest.mark.parametrize("kind", PLANTED)
def test_a_line_can_be_taken_at_its_word(kind: str) -> None:
    value = PLANTED[kind]
    assert redaction.find_secrets(f"key = '{value}'  # pragma: allowlist secret\n") == ()
    assert [found.line for found in redaction.find_secrets(f"a = '{value}'  # pragma: allowlist secret\nb = '{value}'\n")][:1] == [2]


@pytest.mark.parametrize(
    "line",
    [
        "url = f'https://{user}:{password}@{host}/simple'",
        "url = 'https://user:password@host/simple'",
        "url = 'https://${USER}:${TOKEN}@host/simple'",
        "url = 'https://user:<token>@host'",
        "git clone ssh://git@github.example.com/x.git",
        "password = os.environ['PASSWORD']",
        "sha256 = '" + "0123456789abcdef" * 4 + "'",
        "api_key = None",
        "token = 'YOUR_TOKEN_HERE'",
    ],
)
def test_code_about_secrets_is_none(line: str) -> None:
    assert redaction.find_secrets(line) == ()


@given(before=st.text(max_size=200), after=st.text(max_size=200), kind=st.sampled_from(["GitHub Token", "AWS Access Key", "Private Key"]))
def test_a_planted_one_is_found_wherever_it_stands(before: str, after: str, kind: str) -> None:
    assert redaction.find_secrets(f"{before} {PLANTED[kind]} {after}") or "allowlist" in before + after
