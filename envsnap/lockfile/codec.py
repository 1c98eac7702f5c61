"""`EnvLock` <-> the bytes of a lockfile. Opens no file; every error names the place (`packages[12].sha256: …`)."""

from __future__ import annotations

from typing import Any

import msgspec

from envsnap.errors import InputError
from envsnap.lockfile import digest, document, validate
from envsnap.lockfile.explain import explain
from envsnap.model.kinds import plain
from envsnap.model.lock import EnvLock

SCHEMA = 1
HEADER = f"envsnap lock, schema {SCHEMA}. docs/lockfile-format.md describes it. Do not edit: its digests would no longer match."


def loads(data: bytes, place: str = "lock") -> EnvLock:
    """Read a lock that nobody has to trust: narrow YAML, the schema, the rules between fields, and both digests.

    Args:
        place: how to call the document in errors, for example its path.

    Raises:
        InputError: the first thing that is wrong, by place; further ones in `log`.
    """
    parsed = document.parse(data, place)
    _check_schema(parsed, place)
    try:
        lock = msgspec.convert(parsed, EnvLock)
    except msgspec.ValidationError as error:
        raise InputError(f"{place}: {explain(error, parsed)}", why=_cut_off(parsed, data), hint=document.RESTORE) from error
    if found := validate.problems(lock):
        why = f"and {len(found) - 1} more" if len(found) > 1 else ""
        raise InputError(f"{place}: {found[0]}", why=why, hint=document.RESTORE, log="\n".join(found))
    _check_digests(lock, place)
    return lock


def dumps(lock: EnvLock) -> bytes:
    """The canonical bytes of a sealed lock: a struct's keys in the model's order, a mapping's sorted."""
    return document.render(plain(lock), HEADER)


def _check_schema(parsed: Any, place: str) -> None:
    if not isinstance(parsed, dict) or "envsnap" not in parsed:
        raise InputError(
            f"{place}: not an envsnap lock", why="the key 'envsnap', its schema version, is missing", hint="envsnap capture writes locks"
        )
    schema = parsed["envsnap"]
    if isinstance(schema, bool) or not isinstance(schema, int) or schema < SCHEMA:
        why = f"it is text, and must be the number {SCHEMA}" if schema == str(SCHEMA) else f"this envsnap reads schema {SCHEMA}"
        raise InputError(f"{place}: envsnap: unknown schema version {schema!r}", why=why, hint=document.RESTORE)
    if schema > SCHEMA:
        raise InputError(
            f"{place}: made by a newer envsnap: schema {schema}",
            why=f"this envsnap reads schema {SCHEMA}",
            hint="upgrade envsnap, then try again",
        )


def _cut_off(parsed: dict[str, Any], data: bytes) -> str:
    if "capture" not in parsed:
        return "its last part, 'capture', is missing: the file looks cut off"
    return document.cut_off(data)


def _check_digests(lock: EnvLock, place: str) -> None:
    _check_digest(f"{place}: digest", f"{', '.join(digest.IMAGE_PARTS)}: something in these parts", lock.digest, digest.lock_digest(lock))
    _check_digest(
        f"{place}: observed.digest", "observed: something in this part", lock.observed.digest, digest.observed_digest(lock.observed)
    )


def _check_digest(place: str, part: str, stated: str, actual: str) -> None:
    if stated != actual:
        raise InputError(
            f"{place}: is {stated}, but the content's is {actual}", why=f"{part} was changed after it was captured", hint=document.RESTORE
        )
