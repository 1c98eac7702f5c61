"""What the operating system's package manager installed: whose it is, whether it is as it came, and a wheel of it."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from envsnap.guest import os_packages, pack, system_distributions
from envsnap.guest.distributions import Installed, read_distributions
from envsnap.guest.expectation import package_differences
from envsnap.guest.os_packages import SystemPackage
from envsnap.guest.record import Entry, canonical_digest
from envsnap.guest.shadowing import executing_pth, loose_modules
from envsnap.guest.text import Problems
from envsnap.guest.wheel import Refused

METADATA = "Metadata-Version: 2.1\nName: Demo\nVersion: 1.0\n"
EGG = {
    "Demo-1.0.egg-info/PKG-INFO": METADATA,
    "Demo-1.0.egg-info/top_level.txt": "demo\n",
    "Demo-1.0.egg-info/entry_points.txt": "[console_scripts]\ndemo = demo:main\n",
    "demo/__init__.py": "def main(): pass\n",
    "demo/part.py": "A = 1\n",
}
PACKAGE = {"manager": "dpkg", "package": "python3-demo", "version": "1.0-2", "arch": "all"}


@dataclass
class System:
    """A dpkg of its own, and a site directory whose packages it knows."""

    root: Path
    status: list[str] = field(default_factory=list)

    @property
    def site(self) -> Path:
        return self.root / "usr/lib/python3/dist-packages"

    @property
    def info(self) -> Path:
        return self.root / "dpkg/info"

    def install(self, name: str, files: dict[str, str], *, sums: bool = True, elsewhere: dict[str, str] | None = None) -> None:
        """As dpkg does. Args: files: in the site directory. elsewhere: below the root."""
        places = {self.site / path: text for path, text in files.items()}
        places.update({self.root / path: text for path, text in (elsewhere or {}).items()})
        for place, text in places.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        self.info.mkdir(parents=True, exist_ok=True)
        folders = {parent for place in places for parent in place.parents if parent.is_relative_to(self.root)}
        (self.info / f"{name}.list").write_text("".join(f"{path}\n" for path in sorted((*folders, *places))))
        if sums:
            lines = (f"{hashlib.md5(text.encode()).hexdigest()}  {str(place)[1:]}\n" for place, text in places.items())
            (self.info / f"{name}.md5sums").write_text("".join(lines))
        plain, _, arch = name.partition(":")
        self.status.append(f"Package: {plain}\nStatus: install ok installed\nArchitecture: {arch or 'all'}\nVersion: 1.0-2\n")
        (self.root / "dpkg/status").write_text("\n".join(self.status))
        os_packages.dpkg_lists.cache_clear()

    def distributions(self) -> list[Installed]:
        return read_distributions([str(self.site)], Problems())

    def owner(self, *, integrity: bool = True, name: str = "demo") -> dict[str, object] | None:
        return system_distributions.of_system(self.distributions(), integrity=integrity).get(name)

    def packed(self, *modified: str, files: str | None = None) -> dict[str, bytes]:
        """What is in the wheel. Args: files: their digest when they were looked at."""
        (found,) = (found for found in self.distributions() if found.name == "demo")
        owner = {**PACKAGE, "files": files}
        place, modules = found.facts["metadata_dir"], found.facts["modules"]
        wanted = pack.Packable("demo", "1.0", found.location, place, modified=modified, modules=modules, system=owner)
        wheel = io.BytesIO()
        pack.pack_system(wanted, wheel)
        with zipfile.ZipFile(wheel) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    monkeypatch.setattr(os_packages, "DPKG", str(tmp_path.resolve() / "dpkg"))
    return System(tmp_path.resolve())


def digest(files: dict[str, str]) -> str:
    return canonical_digest(Entry(path, hashlib.sha256(text.encode()).hexdigest(), -1) for path, text in files.items())


def test_an_egg_of_a_package_is_its_files_as_they_came(system: System) -> None:
    system.install(
        "python3-demo", EGG, elsewhere={"usr/share/doc/python3-demo/copyright": "free\n", "usr/bin/demo": "#!/usr/bin/python3\n"}
    )
    assert system.owner() == {**PACKAGE, "files": digest(EGG), "modified": []}
    assert system.owner(integrity=False) == {**PACKAGE, "files": None, "modified": None}
    (system.root / "usr/share/doc/python3-demo/copyright").unlink()  # an image without documentation
    assert system.owner() == {**PACKAGE, "files": digest(EGG), "modified": []}


def test_a_package_of_one_architecture_and_an_egg_that_is_a_file(system: System) -> None:
    files = {"Demo-1.0.egg-info": METADATA, "demo.py": "A = 1\n"}
    system.install("python3-demo:amd64", files)
    assert system.owner() == {**PACKAGE, "arch": "amd64", "files": digest(files), "modified": []}


def test_a_record_from_before_the_distribution_s_changes_is_nothing_against_it(system: System) -> None:
    info = {"Demo-1.0.dist-info/METADATA": METADATA, "Demo-1.0.dist-info/WHEEL": "Tag: py3-none-any\n"}
    stale = {"Demo-1.0.dist-info/RECORD": "demo.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\ndemo_tests.py,,\n"}
    files = {**info, **stale, "demo.py": "A = 1\n"}
    system.install("python3-demo", files)
    assert system.owner() == {**PACKAGE, "files": digest(files), "modified": []}


def test_what_was_edited_lost_and_added_is_named(system: System) -> None:
    system.install("python3-demo", {**EGG, "demo/gone.py": ""})
    system.install("python3-demo-more", {"demo/more.py": "of another package\n"})
    (system.site / "demo/part.py").write_text("A = 2\n")
    (system.site / "demo/gone.py").unlink()
    (system.site / "demo/mine.py").write_text("B = 1\n")
    (system.site / "demo/__pycache__").mkdir()
    (system.site / "demo/__pycache__/part.cpython-311.pyc").write_text("")
    owner = system.owner()
    assert owner is not None and owner["modified"] == ["added: demo/mine.py", "demo/part.py", "missing: demo/gone.py"]
    assert owner["files"] == digest({**EGG, "demo/part.py": "A = 2\n", "demo/mine.py": "B = 1\n"})


def test_what_pip_installed_over_it_is_not_the_package_s(system: System) -> None:
    system.install("python3-demo", EGG)
    (system.site / "Demo-1.0.egg-info/PKG-INFO").write_text(METADATA + "Author: somebody else\n")
    assert system.owner() is None


def test_what_no_package_has_is_nobody_s(system: System) -> None:
    system.install("python3-other", {"other.py": ""})
    for path, text in EGG.items():
        (system.site / path).parent.mkdir(parents=True, exist_ok=True)
        (system.site / path).write_text(text)
    assert system.owner() is None


def test_of_a_package_without_digests_nothing_is_claimed(system: System) -> None:
    system.install("python3-demo", EGG, sums=False)
    assert system.owner() == {**PACKAGE, "files": None, "modified": None}


def test_dpkg_s_lists_are_read_once(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("demo", "other", "third"):
        system.install(f"python3-{name}", {f"{name}-1.0.egg-info": f"Name: {name}\nVersion: 1.0\n", f"{name}.py": ""})
    read: list[str] = []
    listed = os.listdir

    def counted(path: str) -> list[str]:
        read.append(str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", counted)
    found = system_distributions.of_system(system.distributions(), integrity=True)
    os_packages.owners_of(["/usr/lib/libz.so.1"])
    assert sorted(found) == ["demo", "other", "third"] and read.count(str(system.info)) == 1


def test_what_the_system_brought_without_metadata_is_not_nobody_s(system: System) -> None:
    system.install("python3-demo", EGG)
    system.install("python3-bare", {"bare.py": "", "bare.pth": "import bare\n"})
    half = {"Half-1.dist-info/METADATA": "Name: half\nVersion: 1\n", "Half-1.dist-info/top_level.txt": "half\n", "half/__init__.py": ""}
    system.install(
        "python3-half", {**half, "Half-1.dist-info/RECORD": "Half-1.dist-info/METADATA,,\nhalf/__init__.py\n"}
    )  # as Debian's blinker
    (system.site / "mine.py").write_text("")
    (system.site / "mine.pth").write_text("import mine\n")
    names, found = sorted(path.name for path in system.site.iterdir()), system.distributions()
    assert loose_modules(str(system.site), names, found, ()) == [
        f"no package brought mine.py in {system.site}: nothing says where from, and it stays behind",
        f"no distribution has bare.py in {system.site}, which the operating system brought: it stays behind",
    ]
    said = ["mine.pth of no package runs code whenever the interpreter starts, and stays behind"]
    assert executing_pth(str(system.site), names, found, Problems()) == said


@pytest.mark.parametrize(("system", "said"), [(None, 1), ({"modified": None}, 1), ({"modified": ["demo.py"]}, 1), ({"modified": []}, 0)])
def test_an_image_s_own_package_is_held_against_its_package_manager(system: dict[str, object] | None, said: int) -> None:
    there = {"name": "demo", "version": "1.0", "files": None, "modified": ["demo.py"], "system": system}
    assert len(list(package_differences([{"name": "demo", "version": "1.0"}], {"distributions": [there]}))) == said


# ---- a wheel of it


def test_a_wheel_has_what_the_package_has_there_and_a_dist_info(system: System) -> None:
    system.install("python3-demo", {**EGG, "Other-1.egg-info/PKG-INFO": "Name: Other\nVersion: 1\n"}, elsewhere={"usr/bin/demo": ""})
    inside = system.packed()
    assert sorted(inside) == [
        "demo-1.0.dist-info/METADATA",
        "demo-1.0.dist-info/RECORD",
        "demo-1.0.dist-info/WHEEL",
        "demo-1.0.dist-info/entry_points.txt",
        "demo-1.0.dist-info/top_level.txt",
        "demo/__init__.py",
        "demo/part.py",
    ]
    assert b"Tag: py3-none-any" in inside["demo-1.0.dist-info/WHEEL"] and inside["demo/part.py"] == b"A = 1\n"


def test_a_wheel_has_the_modules_that_another_package_has(system: System) -> None:
    system.install("python3-demo", {**EGG, "Demo-1.0.egg-info/top_level.txt": "demo\ndemo_kit\nabsent\n"})
    system.install("python3-demo-kit", {"demo_kit/__init__.py": "", "demo_kit/deep/a.py": "A = 2\n", "demo_kit2.py": "", "other.py": ""})
    inside = system.packed()
    assert sorted(name for name in inside if "dist-info" not in name) == [
        "demo/__init__.py",
        "demo/part.py",
        "demo_kit/__init__.py",
        "demo_kit/deep/a.py",
    ]
    assert b"demo_kit/deep/a.py,sha256=" in inside["demo-1.0.dist-info/RECORD"]


def test_a_wheel_has_the_edits_too(system: System) -> None:
    system.install("python3-demo", {**EGG, "demo/gone.py": "", "demo/fast.so": "\x7fELF"})
    (system.site / "demo/gone.py").unlink()
    (system.site / "demo/mine.py").write_text("B = 1\n")
    inside = system.packed("added: demo/mine.py", "missing: demo/gone.py")
    assert inside["demo/mine.py"] == b"B = 1\n" and "demo/gone.py" not in inside
    assert b"Root-Is-Purelib: false" in inside["demo-1.0.dist-info/WHEEL"]  # by its extension: an egg has no tags


def test_what_changed_since_it_was_looked_at_is_refused(system: System) -> None:
    system.install("python3-demo", EGG)
    (system.site / "demo/mine.py").write_text("B = 1\n")
    looked_at = digest({**EGG, "demo/mine.py": "B = 1\n"})
    assert system.packed("added: demo/mine.py", files=looked_at)["demo/mine.py"] == b"B = 1\n"
    (system.site / "demo/mine.py").write_text("B = 2\n")
    with pytest.raises(Refused, match="changed while they were captured"):
        system.packed("added: demo/mine.py", files=looked_at)


def test_a_link_to_a_directory_is_refused_by_name(system: System) -> None:
    system.install("python3-demo", EGG)
    (system.root / "usr/share/demo").mkdir(parents=True)
    (system.site / "demo/static").symlink_to(system.root / "usr/share/demo")
    with (system.info / "python3-demo.list").open("a") as file:
        file.write(f"{system.site}/demo/static\n")
    os_packages.dpkg_lists.cache_clear()
    with pytest.raises(Refused, match="demo/static is a link to a directory"):
        system.packed()


# ---- rpm


def test_rpm_is_asked_once_for_all_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []
    sha256, md5 = "a" * 64, "b" * 32
    answer = (
        f"python3-six\tnoarch\t8\t{sha256}\t/usr/lib/python3.9/site-packages/six.py\n"
        "python3-six\tnoarch\t8\t\t/usr/lib/python3.9/site-packages/six.egg-info\n"
        f"old\tx86_64\t(none)\t{md5}\t/usr/lib/old.py\n"
        "package gone.noarch is not installed\n"
    )

    def output_of(command: Sequence[str]) -> str:
        asked.append(command)
        return answer

    monkeypatch.setattr(os_packages, "output_of", output_of)
    six, old = SystemPackage("rpm", "python3-six", "1.16.0-1", "noarch"), SystemPackage("rpm", "old", "1-1", "x86_64")
    gone = SystemPackage("rpm", "gone", "1-1", "noarch")
    assert os_packages.rpm_brought([six, old, gone]) == {
        six: ("sha256", {"/usr/lib/python3.9/site-packages/six.py": sha256}),
        old: ("md5", {"/usr/lib/old.py": md5}),
    }
    assert [command[-3:] for command in asked] == [["gone.noarch", "old.x86_64", "python3-six.noarch"]]
