"""Fetching files from a mirror: over http(s) or from a directory, with limits, retries and a hash."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import unquote, urlsplit

from envsnap import redaction, redirects
from envsnap.errors import EngineError, innermost

if TYPE_CHECKING:
    import requests

_TIMEOUT_S = (10.0, 60.0)  # to connect, between two answers
_PAUSES_S = (0.5, 2.0, 5.0)
_PIECE = 1 << 18
_HINT = "check the network, the proxy and the CA bundle, or set another mirror: --apt-mirror URL"


T = TypeVar("T")


class Missing(Exception):
    """The mirror answers that it has no such file."""


class Unsteady(EngineError):
    """What may work when it is tried again: a connection that broke, a server that is busy or at fault."""


def persistently(action: Callable[[], T], pauses_s: Sequence[float] = _PAUSES_S) -> T:
    """What `action` gives, tried again after each pause while it raises `Unsteady`."""
    for pause in pauses_s:
        try:
            return action()
        except Unsteady:
            time.sleep(pause)
    return action()


class Transfer:
    """Requests of one thread.

    Args:
        ca_bundle: certificates to trust; None for the usual ones (REQUESTS_CA_BUNDLE is heeded).
    """

    def __init__(self, ca_bundle: Path | None) -> None:
        self._ca_bundle = ca_bundle
        self._session: requests.Session | None = None

    def pieces(self, url: str, *, limit: int, what: str) -> Iterator[bytes]:
        """A file, piece by piece.

        Args:
            limit: bytes; more is refused.
            what: what cannot be done without it.

        Raises:
            Missing: there is none.
            EngineError: no answer (`Unsteady`), an answer that is no file, or too much of it.
        """
        got = 0
        for piece in self._from_directory(url, what) if url.startswith("file:") else self._from_server(url, what):
            got += len(piece)
            if got > limit:
                raise EngineError(what, why=f"{redaction.url(url)} has more than the {limit} bytes that it may have")
            yield piece

    def _from_directory(self, url: str, what: str) -> Iterator[bytes]:
        try:
            with Path(unquote(urlsplit(url).path)).open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except FileNotFoundError as error:
            raise Missing from error
        except OSError as error:
            raise EngineError(what, why=f"{error.filename}: {error.strerror}") from error

    def _from_server(self, url: str, what: str) -> Iterator[bytes]:
        import requests

        if self._session is None:
            self._session = redirects.session()
        verify = None if self._ca_bundle is None else str(self._ca_bundle)
        headers = {"Accept-Encoding": "identity"}  # what is compressed on the way would not have the size that the index says
        try:
            with redirects.get(self._session, url, timeout=_TIMEOUT_S, verify=verify, headers=headers) as response:
                if response.status_code in (404, 410):
                    raise Missing
                if response.status_code != 200:
                    kind = Unsteady if response.status_code == 429 or response.status_code >= 500 else EngineError
                    raise kind(what, why=f"{redaction.url(url)} answers {response.status_code}", hint=_HINT)
                yield from response.iter_content(_PIECE)
        except redirects.Astray as error:
            raise EngineError(what, why=f"{redaction.url(url)} {error}", hint=_HINT) from error
        except (requests.RequestException, ValueError) as error:  # requests lets some of what comes of nonsense through
            lasting = isinstance(error, requests.exceptions.SSLError | ValueError)
            raise (EngineError if lasting else Unsteady)(
                what, why=f"{redaction.url(url)}: {redaction.text(innermost(error))}", hint=_HINT
            ) from error
