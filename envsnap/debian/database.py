"""dpkg's database for packages that dpkg did not install: stanzas of `status`, and the files of `info/` and `triggers/`.

As dpkg would write them (its source, lib/dpkg/parse.c, dump.c, trignote.c), so that `dpkg -l`, `dpkg -S`, `dpkg -V`, apt and scanners see
what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from envsnap.debian.control import Stanza, dump
from envsnap.debian.deb import Deb

STATUS = "var/lib/dpkg/status"
INFO = "var/lib/dpkg/info"
TRIGGERS = "var/lib/dpkg/triggers"
WriteFile = Callable[[str, bytes, int], object]
"""Writes a file of a layer: path, content, mode."""
_ORDER = (
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Config-Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Description",
)
_SCRIPTS = ("preinst", "postinst", "prerm", "postrm", "config")


@dataclass(slots=True)
class Installed:
    """What dpkg has to know of one package. Attributes: paths, md5: filled in while its files are written; keys as in the package."""

    deb: Deb
    paths: list[str] = field(default_factory=list)
    md5: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.deb.fields["Package"]

    @property
    def full_name(self) -> str:
        """With its architecture where several may be installed side by side."""
        return f"{self.name}:{self.deb.fields['Architecture']}" if self.deb.fields.get("Multi-Arch") == "same" else self.name

    @property
    def conffiles(self) -> tuple[str, ...]:
        """Absolute paths of its configuration files."""
        return tuple(line.strip() for line in self.deb.text("conffiles").splitlines() if line.startswith("/"))

    def stanza(self) -> str:
        """For `status`."""
        fields: Stanza = dict(self.deb.fields)
        fields["Status"] = "install ok installed"
        known = [(path, self.md5[path.lstrip("/")]) for path in self.conffiles if path.lstrip("/") in self.md5]
        if known:
            fields["Conffiles"] = "".join(f"\n {path} {md5}" for path, md5 in known)
        ordered = {name: fields.pop(name) for name in _ORDER if name in fields}
        return dump(ordered | fields)

    def info(self) -> Iterator[tuple[str, bytes, int]]:
        """Path, content and mode of each file below `INFO`."""
        made = {"list": "".join(f"/{path}\n" for path in (".", *self.paths)).encode(), "md5sums": self._md5sums()}
        shipped = {name: data for name, data in self.deb.control.items() if name not in ("control", "md5sums")}
        for name, data in sorted((made | shipped).items()):
            yield f"{INFO}/{self.full_name}.{name}", data, 0o755 if name in _SCRIPTS else 0o644

    def _md5sums(self) -> bytes:
        """As the package has it, without what was left out; dpkg makes one, too, for a package without."""
        shipped = self.deb.text("md5sums")
        if shipped:
            return "".join(line for line in shipped.splitlines(keepends=True) if line[34:].rstrip("\n") in self.md5).encode()
        return "".join(f"{md5}  {path}\n" for path, md5 in self.md5.items() if f"/{path}" not in self.conffiles).encode()


def write(file: WriteFile, before: bytes, packages: Sequence[Installed]) -> None:
    """The database with new packages in it. Args: before: the base's `status`; b"" for none."""
    own = before.decode("utf-8", "surrogateescape").split("\n\n")
    stanzas = [text.strip("\n") for text in (*own, *(package.stanza() for package in packages)) if text.strip()]
    ordered = sorted(stanzas, key=lambda text: text.split("\n", 1)[0])  # "Package: …" comes first
    file(STATUS, "".join(f"{text}\n\n" for text in ordered).encode("utf-8", "surrogateescape"), 0o644)
    for package in packages:
        for path, data, mode in package.info():
            file(path, data, mode)


def write_triggers(file: WriteFile, packages: Sequence[Installed]) -> None:
    """What packages want to be told of (deb-triggers(5)): paths in one file, names in one each."""
    paths: list[str] = []
    names: dict[str, list[str]] = {}
    for package in packages:
        for line in package.deb.text("triggers").splitlines():
            words = line.split("#")[0].split()
            if len(words) == 2 and words[0] in ("interest", "interest-await", "interest-noawait"):
                suffix = "/noawait" if words[0] == "interest-noawait" else ""
                if words[1].startswith("/"):
                    paths.append(f"{words[1]} {package.full_name}{suffix}\n")
                else:
                    names.setdefault(words[1], []).append(f"{package.full_name}{suffix}\n")
    file(f"{TRIGGERS}/File", "".join(paths).encode(), 0o644)
    file(f"{TRIGGERS}/Unincorp", b"", 0o644)
    for name, lines in sorted(names.items()):
        file(f"{TRIGGERS}/{name}", "".join(lines).encode(), 0o644)
