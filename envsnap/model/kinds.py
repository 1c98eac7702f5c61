"""Constrained text: the alphabets that untrusted documents are held to before any other code sees them.

The patterns are deliberately narrower than the specifications where the field never needs more: a value that passes cannot
carry white space, quotes, shell syntax or control characters into a Dockerfile, a requirements file or an argument list.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeAlias

from msgspec import NODEFAULT, Meta, Struct
from msgspec.structs import FieldInfo, fields

from envsnap.oci.digest import DIGEST

Hex64: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="SHA-256, 64 lower-case hex digits")]
Digest: TypeAlias = Annotated[str, Meta(pattern=f"^{DIGEST.pattern}", description="sha256:<64 hex digits>")]
Commit: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}(?:[0-9a-f]{24})?\Z", description="full git object name")]
LockName: TypeAlias = Annotated[
    str,
    Meta(pattern=r"^[a-z0-9]+(?:[._-][a-z0-9]+)*\Z", max_length=100, description="also the image's repository name"),
]
PackageName: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z", description="normalised as PEP 503 says")]
Version: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!+._~:-]+\Z", max_length=200)]
WheelFile: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._+!-]+\.whl\Z", max_length=300)]
WheelTag: TypeAlias = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.]+-[A-Za-z0-9_.]+-[A-Za-z0-9_.]+\Z", max_length=200, description="interpreter-ABI-platform")
]
Hex32: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{32}\Z", description="MD5, 32 lower-case hex digits")]
CondaName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\Z", max_length=200, description="a package of conda")]
CondaBuild: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.+]+\Z", max_length=200, description="a build string of conda")]
CondaUrl: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^https?://[A-Za-z0-9][A-Za-z0-9._~:/%+!-]*\.(?:conda|tar\.bz2)\Z", max_length=2000, description="a package in a channel"
    ),
]
SystemName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9+._:-]*\Z", description="a package of the operating system")]
Soname: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9+._-]*\Z", max_length=200)]
Architecture: TypeAlias = Annotated[
    str, Meta(pattern=r"^(?:sm|compute)_[0-9]{2,3}[af]?\Z", description="real (sm_90) or virtual (compute_90), as nvcc names them")
]
Architectures: TypeAlias = Annotated[tuple[Architecture, ...], Meta(max_length=100)]
Glibc: TypeAlias = Annotated[str, Meta(pattern=r"^2\.[0-9]{1,3}\Z", description="a version of the GNU C library")]
Variable: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]*\Z", max_length=200)]
RelativePath: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^(?!/)(?!(?:.*/)?\.\.?(?:/|\Z))[^\x00-\x1f\x7f\\]*\Z",
        max_length=4096,
        description="'/'-separated, neither absolute nor with '.' or '..' parts; '' is the root itself",
    ),
]
Line: TypeAlias = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*\Z", max_length=4096, description="text of one line")]
AbsolutePath: TypeAlias = Annotated[str, Meta(pattern=r"^/[^\x00-\x1f\x7f]*\Z", max_length=4096)]

ARCHITECTURES: Mapping[str, str] = {"x86_64": "amd64", "aarch64": "arm64"}
"""Machine, as Linux and Python name it -> architecture, as container images name it: all that envsnap is for."""


class Value(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every value that is written to a file.

    Fields at their default are left out of documents: an optional field added later does not change the digest of a lock
    that does not use it.
    """


def plain(value: Any) -> Any:
    """A value as its document: fields in the model's order, those at their default left out, a mapping's keys sorted.

    What msgspec itself leaves out hangs on the *identity* of an empty tuple, which differs between interpreters; bytes and
    digests must not.
    """
    if isinstance(value, Struct):
        config = value.__struct_config__
        tag = {config.tag_field: config.tag} if config.tag_field is not None else {}
        items = {item.encode_name: (getattr(value, item.name), _default(item)) for item in _fields(type(value))}
        return tag | {name: plain(found) for name, (found, default) in items.items() if found != default}
    if isinstance(value, Mapping):
        return {key: plain(value[key]) for key in sorted(value)}
    if isinstance(value, frozenset):
        return [plain(item) for item in sorted(value)]
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


@cache
def _fields(kind: type[Struct]) -> tuple[FieldInfo, ...]:
    return fields(kind)  # evaluates annotations each time


def _default(item: FieldInfo) -> Any:
    return item.default_factory() if item.default_factory is not NODEFAULT else item.default
