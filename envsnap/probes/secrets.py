"""Files that hold what looks like a secret, in a directory of any size: git's own search picks the few that are worth a closer look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from envsnap import redaction
from envsnap.probes.git import Repository

# Wider than `redaction.find_secrets`, which decides; a kind that is missing here is never looked at.
_SUSPECT = (
    r"gh[pousr]_[A-Za-z0-9]{30}|github_pat_|gl[a-z]+-[A-Za-z0-9_-]{16}|hf_[A-Za-z0-9]{30}|nvapi-[A-Za-z0-9_-]{20}|A(KI|SI|BI|CC)A[0-9A-Z]{16}"
    r"|xox[a-z]-|wandb_v1_|pypi-Ag|npm_[A-Za-z0-9]{30}|sk-[A-Za-z0-9_-]{30}|SG\.[A-Za-z0-9_-]{22}\.|[rs]k_live_|AIza[A-Za-z0-9_-]{30}"
    r"|AccountKey=|eyJ[A-Za-z0-9_=-]{10}|PRIVATE KEY|hooks\.slack\.com|[Aa][Ww][Ss].*[\"'][0-9a-zA-Z/+]{40}[\"']"
    r"|[Ww][Aa][Nn][Dd][Bb].*[0-9A-Fa-f]{40}|://[^ /@]+:[^ /@]{6,}@"
)


def secrets_below(directory: Path) -> Iterator[tuple[str, redaction.Secret]]:
    """Path and first find of each file, in git's order; links are not followed.

    Raises:
        NotStarted: there is no git on PATH.
    """
    listed = Repository(directory).ask("grep", "--no-index", "-zlaE", "-e", _SUSPECT, "--", ".") or ""
    for path in filter(None, listed.split("\0")):
        file = directory / path
        if not file.is_symlink() and (found := redaction.find_secrets_in(file.read_bytes())):
            yield os.fspath(path), found[0]
