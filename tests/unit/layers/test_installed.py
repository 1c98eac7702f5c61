"""The diff_id of a wheel's layer without the wheel: from its end, its RECORD, and what pip installed of it."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap.errors import InputError
from envsnap.layers.installed import InstalledMembers, OtherContent, sizes
from envsnap.layers.wheel import read_member_sources, read_sources, write_members, write_wheel
from envsnap.layers.writer import LayerWriter
from envsnap.model.layers import Layout
from tests.wheels import SCHEMES, File, make_wheel

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
LAYOUT = Layout(python=PYTHON)
FILE = "pkg-1.0-py3-none-any.whl"
FIRST_LINES = (b"#!python", b"#!python3", b"#!pythonw", b"#!python -s", b"#!python\r")
WHOLE: Mapping[str, File | bytes] = {
    **{path: file for path, file in SCHEMES.items() if not path.endswith(("main-script.py", "scripts/tool"))},
    **{
        f"pkg-1.0.data/scripts/tool-{number}": File(first + b"\nprint('tool')\n", stat.S_IFREG | 0o755)
        for number, first in enumerate(FIRST_LINES)
    },
    "pkg/folder/": File(b"", stat.S_IFDIR | 0o755),
    "pkg-1.0.dist-info/INSTALLER": b"of where it was packed\n",
    "pkg-1.0.dist-info/RECORD.jws": b"of another RECORD\n",
}


class Installed:
    """A wheel, and an environment with it."""

    def __init__(self, place: Path, members: Mapping[str, File | bytes]) -> None:
        self.wheel, self.prefix = make_wheel(members), place / "env"
        (place / FILE).write_bytes(self.wheel)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", self.prefix], check=True)
        options = ("install", "--no-index", "--no-deps", "--quiet", "--disable-pip-version-check", str(place / FILE))
        command = [sys.executable, "-m", "pip", "--python", str(self.prefix / "bin/python"), *options]
        subprocess.run(command, check=True, env={**os.environ, "PIP_CONFIG_FILE": os.devnull})

    @property
    def site(self) -> Path:
        return self.prefix / f"lib/python{PYTHON}/site-packages"

    def moved(self, prefix: Path) -> Installed:
        """A copy that may be changed."""
        moved = copy.copy(self)
        shutil.copytree(self.prefix, prefix, symlinks=True)
        moved.prefix = prefix
        return moved

    def open(self, place: str) -> Iterator[bytes]:
        try:
            yield (self.prefix / place.removeprefix(f"{LAYOUT.prefix}/")).read_bytes()
        except OSError as error:
            raise OtherContent(f"{place} is missing") from error

    def members(self) -> InstalledMembers:
        with zipfile.ZipFile(io.BytesIO(self.wheel)) as archive:
            record, end = archive.read("pkg-1.0.dist-info/RECORD"), self.wheel[archive.start_dir :]
        return InstalledMembers(end, len(self.wheel), record, self.open, site=LAYOUT.site, file=FILE)

    def told(self) -> tuple[str, int]:
        writer = LayerWriter(lambda _: None)
        write_members(self.members(), writer, LAYOUT, file=FILE)
        return writer.finish()

    def made(self) -> tuple[str, int]:
        writer = LayerWriter(lambda _: None)
        write_wheel(io.BytesIO(self.wheel), writer, LAYOUT, file=FILE, sha256=hashlib.sha256(self.wheel).hexdigest())
        return writer.finish()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Every scheme, mode and kind of name; byte code of pip's is beside the modules, and in the place of a shipped one."""
    return Installed(tmp_path_factory.mktemp("whole"), WHOLE)


def test_it_is_that_of_the_layer_that_is_made_of_the_wheel(whole: Installed) -> None:
    assert (whole.site / "pkg/__pycache__").exists()
    assert len([script for script in whole.prefix.glob("bin/tool-*") if script.read_bytes().startswith(b"#!/")]) == len(FIRST_LINES)
    assert whole.told() == whole.made()


def test_an_installer_may_put_several_lines_where_the_first_one_was(whole: Installed, tmp_path: Path) -> None:
    """As it is done where the interpreter's path is long."""
    installed = whole.moved(tmp_path / "env")
    for script in installed.prefix.glob("bin/tool-*"):
        rest = script.read_bytes().partition(b"\n")[2]
        script.write_bytes(b"#!/bin/sh\n'''exec' /far/away/python \"$0\" \"$@\"\n' '''\n" + rest)
    assert installed.told() == whole.made()


def test_a_first_line_that_nobody_knows_stays_unknown(tmp_path: Path) -> None:
    installed = Installed(tmp_path, {"pkg-1.0.data/scripts/tool": File(b"#!python -X frozen_modules\nprint()\n", stat.S_IFREG | 0o755)})
    with pytest.raises(OtherContent, match="a line that cannot be told"):
        installed.told()


def edit(path: str) -> Callable[[Installed], object]:
    def change(installed: Installed) -> None:
        file = installed.prefix / path.replace("SITE", f"lib/python{PYTHON}/site-packages")
        file.write_bytes(file.read_bytes()[:-2] + b"!\n")

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (edit("SITE/pkg/__init__.py"), "pkg/__init__.py is not as it was installed"),
        (edit("SITE/pkg-1.0.dist-info/METADATA"), "METADATA is not as it was installed"),
        (edit("share/pkg/data.txt"), "share/pkg/data.txt is not as it was installed"),
        (edit("bin/native"), "scripts/native is not as it was installed"),
        (edit("bin/tool-0"), "scripts/tool-0 is not as it was installed"),
        (lambda it: (it.site / "pkg/large.bin").write_bytes(b"0123456789" * 300_001), "pkg/large.bin is not as it was installed"),
        (lambda it: (it.site / "pkg/large.bin").write_bytes(b""), "pkg/large.bin is not as it was installed"),
        (lambda it: (it.site / "pure.py").unlink(), "pure.py is missing"),
    ],
)
def test_what_was_edited_or_is_missing_is_named(whole: Installed, tmp_path: Path, change: Callable[[Installed], object], said: str) -> None:
    installed = whole.moved(tmp_path / "env")
    change(installed)
    with pytest.raises(OtherContent, match=said):
        installed.told()


def test_content_is_held_against_record_and_not_the_checksum_alone(whole: Installed, tmp_path: Path) -> None:
    """The end of a wheel is not proven: one that has the checksums of other files changes nothing."""
    installed = whole.moved(tmp_path / "env")
    with zipfile.ZipFile(io.BytesIO(whole.wheel)) as archive:
        rows = archive.read("pkg-1.0.dist-info/RECORD").decode().splitlines(keepends=True)
    row = next(line for line in rows if line.startswith("pkg/__init__.py,"))
    installed.wheel = make_wheel({**WHOLE, "pkg/__init__.py": File(b"VALUE = 2\n", record=row)})
    (installed.site / "pkg/__init__.py").write_bytes(b"VALUE = 2\n")
    with pytest.raises(InputError) as refused:
        installed.told()
    assert refused.value.why == "pkg/__init__.py is not what its RECORD says"
    with pytest.raises(InputError):
        list(read_member_sources(installed.members(), LAYOUT, file=FILE, largest=1 << 20))


def test_names_that_leave_the_prefix_are_refused_before_anything_is_opened(whole: Installed) -> None:
    installed = copy.copy(whole)
    installed.wheel = make_wheel({"../../etc/passwd": b"x"})
    with pytest.raises(InputError, match="refused"):
        installed.members()


def test_sources_for_byte_code_are_the_same(whole: Installed) -> None:
    sha256 = hashlib.sha256(whole.wheel).hexdigest()
    of_wheel = list(read_sources(io.BytesIO(whole.wheel), LAYOUT, file=FILE, sha256=sha256, largest=1 << 20))
    assert list(read_member_sources(whole.members(), LAYOUT, file=FILE, largest=1 << 20)) == of_wheel


def test_sizes_are_those_of_the_wheel() -> None:
    wheel = make_wheel({"pkg.py": b"12345", "data.bin": bytes(100)})
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        end, content = wheel[archive.start_dir :], sum(info.file_size for info in archive.infolist())
    assert sizes(end, len(wheel), FILE) == (content, 5)
    for torn, size in ((end[:-1], len(wheel)), (end, len(wheel) + 1), (end[1:], len(wheel))):
        with pytest.raises(InputError):
            sizes(torn, size, FILE)


DIRECTORY = make_wheel({"pkg.py": b"12345"})[-600:]


@given(st.lists(st.tuples(st.integers(0, len(DIRECTORY) - 1), st.integers(0, 255)), max_size=4), st.integers(0, len(DIRECTORY)))
def test_an_end_of_any_bytes_is_read_or_refused(changes: list[tuple[int, int]], size: int) -> None:
    data = bytearray(DIRECTORY)
    for place, value in changes:
        data[place] = value
    for end in (bytes(data), bytes(data[size:])):
        with contextlib.suppress(InputError):
            sizes(end, 600 + size, FILE)
