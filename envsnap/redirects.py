"""Where an index or a mirror leads from one address to another: followed by our own rules, for requests has few. A registry's rules are
others (`registry.host`); what requests must not do by itself is the same.

So many steps and no more, none from an encrypted address to one that is not; what comes with a redirect is not read, and a login goes to
the host that it is for and to no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

from envsnap import redaction

if TYPE_CHECKING:
    import requests

MAX_STEPS = 10
STATUSES = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_SHOWN = 200  # characters of what is no address


class Astray(Exception):
    """Where an answer leads is not to be followed; the message goes on from whose answer it is: "leads to …"."""


def session() -> requests.Session:
    """It takes no answer for a redirect: requests reads all of one even where it follows none, and stumbles over where it leads."""
    import requests

    class Session(requests.Session):
        def get_redirect_target(self, resp: requests.Response) -> None:
            """Nowhere."""

    return Session()


def get(of: requests.Session, url: str, **options: Any) -> requests.Response:
    """What is at the end of the way that begins at `url`, its body still to be read.

    Args:
        of: as `session` makes them. options: as of `requests.Session.get`.

    Raises:
        Astray: it has no end, or must not be gone. Whatever `requests.Session.get` raises.
    """
    for _ in range(MAX_STEPS + 1):
        response = of.get(url, stream=True, allow_redirects=False, **options)
        location = response.headers.get("Location", "")
        if response.status_code not in STATUSES or not location:
            return response
        response.close()
        url = _next(url, location)
    raise Astray("leads from one place to another without end")


def with_login(url: str, of: str) -> str:
    """`url` with the login of the address `of`, where it goes to the same host, in the same way or encrypted from then on, and has none."""
    try:
        parts, known = urlsplit(url), urlsplit(of)
        here, there = (known.hostname, known.scheme, _port(known)), (parts.hostname, parts.scheme, _port(parts))
    except ValueError:  # what is no address is told by whoever asks there
        return url
    login, at, _ = known.netloc.rpartition("@")
    encrypted_since = here[1:] == ("http", 80) and there == (here[0], "https", 443)
    if not at or "@" in parts.netloc or not (here == there or encrypted_since):
        return url
    return urlunsplit(parts._replace(netloc=f"{login}@{parts.netloc}"))


def _next(url: str, location: str) -> str:
    """Where an answer leads. A login that the answer itself names is not used. Raises Astray."""
    try:
        parts = urlsplit(urljoin(url, location))
        _port(parts)
    except ValueError as error:
        raise Astray(f"leads to {redaction.text(location)[:_SHOWN]!r}, which is no address") from error
    target = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Astray(f"leads to {redaction.url(redaction.text(target))[:_SHOWN]}, which is no address of the web")
    if parts.scheme != "https" and urlsplit(url).scheme == "https":
        raise Astray(f"leads to {redaction.url(redaction.text(target))[:_SHOWN]}, which is not encrypted")
    return with_login(target, url)


def _port(parts: SplitResult) -> int | None:
    """Raises ValueError: it is none."""
    return parts.port or _PORTS.get(parts.scheme)
