"""Names of images, and which registry they lead to."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from envsnap.errors import UsageError
from envsnap.oci.digest import DIGEST

_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?\Z")
_IMAGE_ID = re.compile(r"[0-9a-f]{64}\Z")
_REPOSITORY_LIMIT = 255
_AMBIGUOUS = "library/sha256"  # "sha256:…" would be taken for an ID


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A name of an image, taken apart.

    Attributes:
        registry: as docker names it, also for credentials ("localhost:5000"); the default registry by its short name.
        repository: with the default registry's "library/" where that is implied.
        tag: "latest" where the name has neither tag nor digest; "" beside a digest without a tag.
    """

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""


def parse_reference(text: str) -> Reference:
    """Take a name apart as docker does.

    Raises:
        UsageError: it is not a name. What reads names from documents of others says so in its own words.
    """
    from docker.auth import INDEX_NAME, resolve_index_name, split_repo_name

    name, _, digest = text.partition("@")
    rest, tag = name, ""
    if ":" in name.rsplit("/", 1)[-1]:
        rest, _, tag = name.rpartition(":")
    registry, repository = split_repo_name(rest) if rest else ("", "")
    registry = resolve_index_name(registry)
    if registry == INDEX_NAME and "/" not in repository:
        repository = f"library/{repository}"
    if not digest and not tag and ":" not in name.rsplit("/", 1)[-1]:
        tag = "latest"
    valid = (
        _HOST.match(registry)
        and _REPOSITORY.match(repository)
        and len(repository) <= _REPOSITORY_LIMIT
        and not _IMAGE_ID.match(rest)
        and (TAG.match(tag) if tag else digest)
        and (DIGEST.match(digest) if "@" in text else True)
    )
    if not valid:
        raise UsageError(f"{text!r} is not the name of an image", hint="HOST/REPOSITORY:TAG or HOST/REPOSITORY@sha256:…")
    return Reference(registry=registry, repository=repository, tag=tag, digest=digest)


def is_id(text: str) -> bool:
    """Whether it is a digest that stands for an image where it is, as engines take it: with "sha256:" or without."""
    return bool(DIGEST.match(text) or _IMAGE_ID.match(text))


def names_registry(text: str) -> bool:
    """Whether a name says itself which registry it leads to; "myorg/yolo:1" leaves that to the default one."""
    from docker.auth import split_repo_name

    return bool(split_repo_name(text)[1] != text)


def require_tag(text: str) -> Reference:
    """What a person wants an image to be called, held to all that an engine will say of it later.

    Raises:
        UsageError: it is not a name, or one that can be given to no image.
    """
    reference = parse_reference(text)
    if reference.digest:
        raise UsageError(f"{text} holds a digest", why="a digest is what an image gets, not what it is given", hint="HOST/REPOSITORY:TAG")
    if reference.repository == _AMBIGUOUS:
        raise UsageError(f"{text} reads like a digest", why="engines refuse that name", hint="HOST/REPOSITORY:TAG")
    return reference


def familiar(text: str) -> str:
    """A name as people and docker say it: without the default registry, and its "library/", which a short one implies.

    What is no name, or would be another one without it, stays as it is.
    """
    from docker.auth import INDEX_NAME

    for implied in (f"{INDEX_NAME}/library/", f"{INDEX_NAME}/"):
        short = text.removeprefix(implied)
        try:
            if short != text and parse_reference(short) == parse_reference(text):
                return short
        except UsageError:
            continue
    return text


def same_repository(left: str, right: str) -> bool:
    """Whether two names lead to one repository of one registry, whatever their tags and digests; what is no name leads nowhere."""
    try:
        ours, theirs = parse_reference(left), parse_reference(right)
    except UsageError:
        return False
    return (ours.registry, ours.repository) == (theirs.registry, theirs.repository)


def api_host(registry: str) -> str:
    """Where a registry answers: the default one does so under another name than the one in references."""
    from docker.auth import INDEX_NAME, INDEX_URL

    return urlsplit(INDEX_URL).netloc if registry == INDEX_NAME else registry


def is_loopback(host: str) -> bool:
    """Whether "localhost:5000" or its like is this machine, which docker, too, trusts without encryption."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:  # brackets around what is no address
        return False
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def with_digest(reference: str, digest: str) -> str:
    """The same repository at a digest, as docker names it locally: "localhost:5000/debian@sha256:…".

    A tag and another digest are dropped.
    """
    name = reference.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return f"{repository if colon and '/' not in tag else name}@{digest}"
