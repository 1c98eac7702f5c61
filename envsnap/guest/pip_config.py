"""pip's configuration, as `pip install` of this environment would use it."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from typing import Any, Iterable

from .text import Problems, described
from .variables import without_secrets

_CERTIFICATES_LIMIT_BYTES = 16 << 20
_CERTIFICATE = re.compile(r"-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----.+?-----END \1-----", re.DOTALL)


def pip_config(problems: Problems) -> dict[str, Any] | None:
    """What `pip install` of this environment would use; None without pip, or when it cannot be asked."""
    try:
        if find_spec("pip") is None:
            return None
        from pip._internal.configuration import Configuration

        configuration = Configuration(isolated=False)
        configuration.load()
        return effective_pip_options(configuration.items())
    except Exception as error:
        problems.add("pip", f"its configuration cannot be read: {without_secrets(described(error))}")
        return None


def effective_pip_options(items: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Options after pip's own rule: [global], then [install], then variables; the later replaces the earlier.

    `items` are ("global.index-url", value), or from pip 25 on (file, {"global.index-url": value}) in the order of precedence.
    """
    flat: dict[str, Any] = {}
    for key, value in items:
        flat.update(value if isinstance(value, dict) else {key: value})
    options: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for key, value in flat.items():
            if key.startswith(section + ".") and value:
                options[key[len(section) + 1 :]] = str(value)
    cert = os.path.expanduser(options.get("cert", "")) or None
    return {
        "index_url": options.get("index-url") or None,
        "extra_index_urls": options.get("extra-index-url", "").split(),
        "find_links": options.get("find-links", "").split(),
        "no_index": options.get("no-index", "").strip().lower() in ("1", "true", "yes", "on", "y", "t"),
        "cert": cert,
        "certificates": cert and _certificates(cert),
    }


def _certificates(place: str) -> str | None:
    """The certificates of a file, or of all files of a directory, and no private key beside them; None where they cannot be read."""
    try:
        paths = {place} if os.path.isfile(place) else {os.path.realpath(os.path.join(place, name)) for name in os.listdir(place)}
        files = sorted(path for path in paths if os.path.isfile(path))
        if sum(os.path.getsize(path) for path in files) > _CERTIFICATES_LIMIT_BYTES:
            return None
        texts = []
        for path in files:
            with open(path, encoding="ascii", errors="replace") as file:
                texts += [found[0] for found in _CERTIFICATE.finditer(file.read())]
    except OSError:
        return None
    return "".join(f"{text}\n" for text in texts)
