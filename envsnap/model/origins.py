"""Where a locked package came from, as far as it is known; what proves it is the package's `provenance`."""

from __future__ import annotations

from typing import Literal

from envsnap.model.kinds import Digest, Line, RelativePath, SystemName, Value


class Origin(Value, frozen=True, kw_only=True, tag_field="kind"):
    """Where a package came from; the subclasses are the kinds."""


class IndexOrigin(Origin, frozen=True, kw_only=True, tag="index"):
    """Attributes:
    index: None for the default index, else "name@host" without scheme, path secrets or credentials;
        "file" for a file:// index; "find-links" for a find-links folder or page.
    yanked: the index has withdrawn the file since.
    """

    index: str | None = None
    yanked: bool = False


class VcsOrigin(Origin, frozen=True, kw_only=True, tag="vcs"):
    vcs: Literal["git", "hg", "svn", "bzr"]
    url: str
    commit: str
    subdirectory: RelativePath | None = None


class DirectoryOrigin(Origin, frozen=True, kw_only=True, tag="directory"):
    """Installed from a local directory. `path` is relative to the source root, None when it lies elsewhere."""

    path: RelativePath | None = None


class EditableOrigin(Origin, frozen=True, kw_only=True, tag="editable"):
    """Attributes:
    path: the project's directory relative to the source root; None when it lies elsewhere.
    import_paths: what it puts on sys.path, relative to the source root, in order ("src", "").
    """

    path: RelativePath | None = None
    import_paths: tuple[RelativePath, ...] = ()


class WheelOrigin(Origin, frozen=True, kw_only=True, tag="wheel"):
    """Installed from one wheel file by path or URL (credentials removed)."""

    url: str


class BaseOrigin(Origin, frozen=True, kw_only=True, tag="base"):
    reference: str


class CondaOrigin(Origin, frozen=True, kw_only=True, tag="conda"):
    url: str
    build: str


class SystemOrigin(Origin, frozen=True, kw_only=True, tag="system"):
    """A package of the captured operating system.

    Attributes:
        files: digest of what it has in the site directory, in the form of the canonical RECORD; None where its package manager keeps no
            digests of them.
    """

    package: SystemName
    version: Line
    arch: Line
    files: Digest | None = None


class UnknownOrigin(Origin, frozen=True, kw_only=True, tag="unknown"):
    """Attributes:
    reason: one sentence: why nothing is known.
    """

    reason: str


AnyOrigin = (
    IndexOrigin | VcsOrigin | DirectoryOrigin | EditableOrigin | WheelOrigin | BaseOrigin | CondaOrigin | SystemOrigin | UnknownOrigin
)
