"""One secret of each kind, good for nothing. Put together here, so that no scanner takes this file for a leak."""

from __future__ import annotations

import base64
import json
import string

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
    "W&B key": "wandb.login(key=" + "0123456789abcdef0123456789abcdef01234567" + ")",
    "password in an address": "https://me:" + "s3cr3t-p4ss" + "@git.example.com/x.git",
}


def token(place: str) -> str:
    """A token of its own for each place, to tell which of them leaks."""
    return "ghp" + "_" + (place * 6)[:20].ljust(36, "0")
