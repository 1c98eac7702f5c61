"""A wheel's layer against what pip installs of it."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from envsnap.errors import InputError
from envsnap.guest.distributions import read_distributions
from envsnap.guest.record import read_record
from envsnap.guest.text import Problems
from envsnap.guest.wheel import Member as PackedMember
from envsnap.guest.wheel import write_wheel as pack_wheel
from envsnap.layers import inflate
from envsnap.layers.wheel import TranscodedWheel, write_wheel
from envsnap.layers.writer import LayerWriter
from envsnap.model.base import Directory
from envsnap.model.layers import Layout
from tests.wheels import SCHEMES, File, line, make_wheel, metadata

LAYOUT = Layout(python="3.11")
FILE = "pkg-1.0-py3-none-any.whl"


def transcoded(
    wheel: bytes, layout: Layout = LAYOUT, file: str = FILE, extra: Mapping[str, bytes] = {}, *, rebuilt: bool = False
) -> tuple[TranscodedWheel, bytes]:
    """What came of a wheel, and the layer's blob."""
    out = io.BytesIO()
    writer = LayerWriter(out.write)
    sha256 = hashlib.sha256(wheel).hexdigest()
    done = write_wheel(io.BytesIO(wheel), writer, layout, file=file, sha256=sha256, extra=extra, rebuilt=rebuilt)
    writer.finish()
    return done, out.getvalue()


def tree(blob: bytes) -> dict[str, tuple[int, bytes]]:
    """Path -> mode and content of each file."""
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as archive:
        files = [(entry, archive.extractfile(entry)) for entry in archive if entry.isreg()]
        return {entry.name: (entry.mode, content.read()) for entry, content in files if content is not None}


def installed_by_pip(wheel: bytes, tmp_path: Path, file: str = FILE) -> Path:
    """An environment of its own, with the wheel in it."""
    environment, source = tmp_path / "env", tmp_path / file
    source.write_bytes(wheel)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    arguments = ["install", "--no-index", "--no-deps", "--no-compile", "--quiet", "--disable-pip-version-check", str(source)]
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin/python")]
    subprocess.run([*pip, *arguments], check=True, umask=0o022, env={**os.environ, "PIP_CONFIG_FILE": os.devnull})
    return environment


def test_files_lie_where_pip_puts_them_with_their_modes(tmp_path: Path) -> None:
    # Of a script that gives way to an entry point's, pip's RECORD keeps the line and the image has no file.
    wheel = make_wheel({path: file for path, file in SCHEMES.items() if not path.endswith("main-script.py")})
    environment = installed_by_pip(wheel, tmp_path)
    layout = Layout(python=f"{sys.version_info[0]}.{sys.version_info[1]}", prefix=str(environment).lstrip("/"))
    done, blob = transcoded(wheel, layout)
    ours = {path[len(layout.prefix) + 1 :]: found for path, found in tree(blob).items()}
    before = {"pyvenv.cfg", "bin/python", "bin/python3", "bin/activate", "bin/activate.csh", "bin/activate.fish", "bin/Activate.ps1"}
    theirs = {
        str(path.relative_to(environment)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in environment.rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    theirs = {path: found for path, found in theirs.items() if path not in before}
    added = {path for path in theirs if path.endswith(("/REQUESTED", "/direct_url.json"))}  # a wheel at a path was asked for
    stale = f"{layout.site[len(layout.prefix) + 1 :]}/pkg/__pycache__/stale.cpython-311.pyc"
    assert theirs.keys() - ours.keys() == {stale, *added}
    assert ours.keys() <= theirs.keys()
    generated = {"bin/main", "bin/second", "bin/win"}
    for path, (mode, data) in ours.items():
        assert theirs[path][0] == mode, path
        if path not in generated and not path.endswith(("/RECORD", "/INSTALLER")):
            assert theirs[path][1] == data, path
    for path in generated:
        assert ours[path][1].splitlines()[0] == theirs[path][1].splitlines()[0]
    distributions = read_distributions([str(environment / layout.site[len(layout.prefix) + 1 :])], Problems())
    assert [(found.name, found.facts["version"], found.facts["files"]) for found in distributions] == [
        (done.name, done.version, done.files)
    ]


def test_the_layers_record_holds_for_every_file() -> None:
    done, blob = transcoded(
        make_wheel(SCHEMES), extra={"__editable__.pth": b"/workspace/pkg\n", "pkg-1.0.dist-info/direct_url.json": b"{}"}
    )
    files = tree(blob)
    record = files[f"{LAYOUT.site}/pkg-1.0.dist-info/RECORD"][1].decode()
    assert record.splitlines() == sorted(record.splitlines())
    entries, malformed = read_record(record, f"/{LAYOUT.site}", f"/{LAYOUT.prefix}")
    assert not malformed
    places = {
        entry: entry.path.replace("prefix:", LAYOUT.prefix + "/") if entry.path.startswith("prefix:") else f"{LAYOUT.site}/{entry.path}"
        for entry in entries
    }
    assert sorted(places.values()) == sorted(files)
    for entry, place in places.items():
        if not place.endswith("/RECORD"):
            assert (entry.sha256, entry.size) == (hashlib.sha256(files[place][1]).hexdigest(), len(files[place][1])), place
    assert files[f"{LAYOUT.site}/pkg-1.0.dist-info/INSTALLER"][1] == b"envsnap\n"
    assert {(source.path.removeprefix(LAYOUT.site), source.size) for source in done.sources} == {
        ("/pkg/__init__.py", 10),
        ("/pkg/empty.py", 0),
        ("/pure.py", 9),
        ("/plat.py", 9),
    }


def test_the_python_of_a_wheel_is_counted_wherever_it_goes() -> None:
    """As it is counted from the wheel's directory alone, before it is hashed."""
    wheel = make_wheel(SCHEMES)
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        expected = sum(member.file_size for member in archive.infolist() if member.filename.endswith(".py"))
    assert transcoded(wheel)[0].source_bytes == expected > 0


def test_scripts_start_the_environments_interpreter() -> None:
    files = tree(transcoded(make_wheel(SCHEMES))[1])
    bin_ = f"{LAYOUT.prefix}/bin"
    assert files[f"{bin_}/tool"] == (0o755, b"#!/opt/envsnap/env/bin/python\nprint('tool')\n")
    assert files[f"{bin_}/windowed"] == (0o644, b"#!/opt/envsnap/env/bin/python\nprint('windowed')\n")
    assert files[f"{bin_}/plain"] == (0o755, b"#!python\nleft as it is\n")
    mode, script = files[f"{bin_}/main"]
    assert mode == 0o755
    ran = subprocess.run(
        [sys.executable, "-c", "import sys, types; sys.modules['pkg'] = m = types.ModuleType('pkg'); m.__path__ = []\n"
         "sys.modules['pkg.cli'] = c = types.ModuleType('pkg.cli'); c.run = types.SimpleNamespace(now=lambda: 5)\n" + script.decode()]
    )  # fmt: skip
    assert ran.returncode == 5
    assert f"{bin_}/main-script.py" not in files


def test_ancestors_are_as_the_base_has_them_and_come_first() -> None:
    layout = Layout(python="3.11", directories={"opt": Directory(mode=0o2775, uid=0, gid=50)})
    with tarfile.open(fileobj=io.BytesIO(transcoded(make_wheel({"pkg/a.py": b""}), layout)[1]), mode="r:gz") as archive:
        entries = [(entry.name, entry.isdir(), entry.mode, entry.gid) for entry in archive]
    names = [name for name, *_ in entries]
    assert entries[0] == ("opt", True, 0o2775, 50)
    assert len(set(names)) == len(names)
    for name, *_ in entries:
        folder = name.rpartition("/")[0]
        assert not folder or names.index(folder) < names.index(name)


def test_the_layer_is_this_one_for_ever() -> None:
    """A change here changes the digest of every layer that was made before. Stored, so that no zlib has a say in the wheel itself."""
    wheel = make_wheel(SCHEMES, method=zipfile.ZIP_STORED)
    done, blob = transcoded(wheel)
    assert hashlib.sha256(blob).hexdigest() == "401e44d57f16191f39795ecd219021b91610b817aeef90b244412904f1bf45f2"
    assert done.files == "sha256:f2b791dfb52b6c0f87f806fbdc1f03504d2982811a46d5fbe9780f796541e1ee"


def test_whichever_library_inflates_the_layer_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    wheel = make_wheel(SCHEMES)
    fast = transcoded(wheel)
    monkeypatch.setattr(inflate, "_engine", zlib)
    monkeypatch.setattr(inflate, "crc32_of", zlib.crc32)
    assert transcoded(wheel) == fast


def test_two_wheels_may_share_a_file_that_is_the_same_in_both() -> None:
    """A script that both have an entry point for is one, too, as the one of ray is."""

    def both(second: bytes, target: str = "tool:main") -> bytes:
        out = io.BytesIO()
        writer = LayerWriter(out.write)
        for name, shared, value in (("one", b"# shared\n", "tool:main"), ("two", second, target)):
            scripts = {f"{name}-1.0.dist-info/entry_points.txt": f"[console_scripts]\ntool = {value}\n".encode()}
            wheel = make_wheel({"nvidia/__init__.py": shared, f"nvidia/{name}.py": b"", **scripts}, name=name)
            sha256 = hashlib.sha256(wheel).hexdigest()
            write_wheel(io.BytesIO(wheel), writer, LAYOUT, file=f"{name}-1.0-py3-none-any.whl", sha256=sha256)
        writer.finish()
        return out.getvalue()

    files = tree(both(b"# shared\n"))
    assert files[f"{LAYOUT.site}/nvidia/__init__.py"] == (0o644, b"# shared\n")
    assert all(b"nvidia/__init__.py,sha256=" in files[f"{LAYOUT.site}/{name}-1.0.dist-info/RECORD"][1] for name in ("one", "two"))
    with pytest.raises(InputError) as caught:
        both(b"# other\n")
    assert caught.value.what == "refused two-1.0-py3-none-any.whl"
    assert "nvidia/__init__.py is in another wheel" in caught.value.why
    assert tree(both(b"# shared\n"))[f"{LAYOUT.prefix}/bin/tool"][0] == 0o755
    with pytest.raises(InputError) as caught:
        both(b"# shared\n", "other:main")
    assert caught.value.why == f"{LAYOUT.prefix}/bin/tool is in another wheel of the layer, too, with other content"


LIB64 = {
    "pkg-1.0.data/data/lib64/cmake/pkg.cmake": b"# found here\n",
    "pkg-1.0.data/data/lib64/both": b"same",
    "pkg-1.0.data/data/lib/both": b"same",
}


def test_what_lies_below_lib64_lands_in_lib_and_its_record_says_lib64_as_pips(tmp_path: Path) -> None:
    """A directory of that name would take the place of the environment's link."""
    wheel = make_wheel(LIB64)
    environment = installed_by_pip(wheel, tmp_path)
    assert (environment / "lib64").is_symlink() and (environment / "lib/cmake/pkg.cmake").is_file()
    layout = Layout(python=f"{sys.version_info[0]}.{sys.version_info[1]}", prefix=str(environment).lstrip("/"))
    done, blob = transcoded(wheel, layout)
    files = tree(blob)
    assert files[f"{layout.prefix}/lib/cmake/pkg.cmake"][1] == b"# found here\n" and f"{layout.prefix}/lib/both" in files
    with tarfile.open(fileobj=io.BytesIO(blob), mode="r:gz") as archive:
        assert not [name for name in archive.getnames() if f"{layout.prefix}/lib64" in name]
    ours = files[f"{layout.site}/pkg-1.0.dist-info/RECORD"][1].decode().splitlines()
    theirs = Path(f"/{layout.site}/pkg-1.0.dist-info/RECORD").read_text(encoding="utf-8").splitlines()
    said = [one for one in ours if "/lib64/" in one]
    assert len(said) == 2 and said == [one for one in theirs if "/lib64/" in one]
    (found,) = read_distributions([f"/{layout.site}"], Problems())
    assert found.facts["files"] == done.files


def test_where_lib64_is_no_link_it_is_a_directory_like_any_other() -> None:
    files = tree(transcoded(make_wheel(LIB64), Layout(python="3.11", lib64="directory"))[1])
    assert {f"{LAYOUT.prefix}/{path}" for path in ("lib64/cmake/pkg.cmake", "lib64/both", "lib/both")} <= files.keys()


def test_a_wheel_that_was_packed_here_has_the_digest_that_it_was_packed_with() -> None:
    members = [
        PackedMember("pkg/a.py", b"A = 1\n"),
        PackedMember("pkg/no-hash.txt", b"x", record_hash=""),
        PackedMember("pkg-1.0.data/data/share/x", b"x"),
        PackedMember("pkg-1.0.data/scripts/tool", b"#!python\n", executable=True),
        *(PackedMember(path, data) for path, data in metadata().items() if isinstance(data, bytes)),
    ]
    out = io.BytesIO()
    files = pack_wheel(members, "pkg-1.0.dist-info", out)
    assert transcoded(out.getvalue(), rebuilt=True)[0].files == files
    with pytest.raises(InputError) as caught:
        transcoded(out.getvalue())
    assert caught.value.why == "pkg/no-hash.txt has no hash in its RECORD"


def test_pips_wheel_gets_the_scripts_of_this_version() -> None:
    text = b"[console_scripts]\npip = pip.main:main\npip3 = pip.main:main\npip3.9 = pip.main:main\n"
    wheel = make_wheel({"pip-24.0.dist-info/entry_points.txt": text, "pip/main.py": b""}, name="pip", version="24.0")
    files = tree(transcoded(wheel, file="pip-24.0-py3-none-any.whl")[1])
    assert {path.rpartition("/")[2] for path in files if "/bin/" in path} == {"pip", "pip3", "pip3.11"}


def test_another_file_than_was_asked_for_is_refused() -> None:
    wheel = make_wheel({"pkg/a.py": b""})
    with pytest.raises(InputError, match="another file than was asked for"):
        write_wheel(io.BytesIO(wheel), LayerWriter(len), LAYOUT, file=FILE, sha256="0" * 64)


@pytest.mark.parametrize("file", ["pkg-1.0-1-py3-none-any.whl", "PKG-1.0-py2.py3-none-any.whl", "pkg-1.0.0-cp311-cp311-linux_x86_64.whl"])
def test_names_that_mean_the_same(file: str) -> None:
    assert transcoded(make_wheel({"pkg/a.py": b""}), file=file)[0].name == "pkg"


WRONG = line("pkg/a.py", b"other")
REFUSED: Mapping[str, tuple[bytes, str]] = {
    "not in RECORD": (make_wheel({"pkg/a.py": File(b"a", record="")}), "pkg/a.py is not in its RECORD"),
    "hash": (make_wheel({"pkg/a.py": File(b"12345", record=WRONG)}), "pkg/a.py is not what its RECORD says"),
    "size": (make_wheel({"pkg/a.py": File(b"1234", record=WRONG)}), "pkg/a.py has 4 bytes, and 5 in its RECORD"),
    "stored hash": (make_wheel({"pkg/a.py": File(b"12345", method=0, record=WRONG)}), "pkg/a.py is not what its RECORD says"),
    "no hash": (make_wheel({"pkg/a.py": File(b"1", record="pkg/a.py,,\n")}), "pkg/a.py has no hash in its RECORD"),
    "md5": (make_wheel({"pkg/a.py": File(b"1", record="pkg/a.py,md5=xxxx,1\n")}), "malformed line"),
    "script hash": (
        make_wheel({"pkg-1.0.data/scripts/x": File(b"#!python\n", record=line("pkg-1.0.data/scripts/x", b"#!python3"))}),
        "pkg-1.0.data/scripts/x is not what its RECORD says",
    ),
    "listed": (make_wheel({}, more_record=line("pkg/gone.py", b"")), "its RECORD has pkg/gone.py, and it has not"),
    "contradiction": (
        make_wheel({"pkg/a.py": b"1"}, more_record=line("pkg/a.py", b"2")),
        "its RECORD has 'pkg/a.py' twice, with other hashes",
    ),
    "RECORD is no text": (make_wheel({}, record=b"\xff\xfe"), "its RECORD is no UTF-8 text"),
    "RECORD is no table": (make_wheel({}, record=b"one,two\n"), "malformed line"),
    "scheme": (make_wheel({"pkg-1.0.data/etc/passwd": b""}), "pkg-1.0.data/etc/passwd belongs to no scheme"),
    "other data": (make_wheel({"other-1.0.data/purelib/x.py": b""}), "other-1.0.data/purelib/x.py belongs to no scheme"),
    "no inner path": (make_wheel({"pkg-1.0.data/purelib": b""}), "pkg-1.0.data/purelib belongs to no scheme"),
    "one place": (
        make_wheel({"a.py": b"1", "pkg-1.0.data/purelib/a.py": b"2"}),
        "a.py and pkg-1.0.data/purelib/a.py would lie at one place",
    ),
    "one place through lib64": (
        make_wheel({"pkg-1.0.data/data/lib/x": b"1", "pkg-1.0.data/data/lib64/x": b"2"}),
        "pkg-1.0.data/data/lib/x and pkg-1.0.data/data/lib64/x would lie at one place",
    ),
    "the place of its metadata through lib64": (
        make_wheel({"pkg-1.0.data/data/lib64/python3.11/site-packages/pkg-1.0.dist-info/RECORD": b""}),
        "would lie where something else is put",
    ),
    "whiteout": (make_wheel({"pkg/.wh.numpy": b""}), "pkg/.wh.numpy: it leaves the layer, or means something else there"),
    "takes a script's place": (
        make_wheel({"pkg-1.0.data/data/bin/main": b"", "pkg-1.0.dist-info/entry_points.txt": b"[console_scripts]\nmain=a:b\n"}),
        "pkg-1.0.data/data/bin/main would lie where something else is put",
    ),
    "a file and a folder": (
        make_wheel({"pkg-1.0.data/purelib/x": b"", "x/a.py": b""}),
        "x/a.py: it is a file or a link of the layer, too",
    ),
    "entry point": (
        make_wheel({"pkg-1.0.dist-info/entry_points.txt": b"[console_scripts]\n../../x = a:b\n"}),
        "its entry point '../../x' = 'a:b' is none",
    ),
    "entry point without a function": (
        make_wheel({"pkg-1.0.dist-info/entry_points.txt": b"[console_scripts]\nx = a\n"}),
        "its entry point 'x' = 'a' is none",
    ),
    "entry point with code": (
        make_wheel({"pkg-1.0.dist-info/entry_points.txt": b"[console_scripts]\nx = a:b();import os\n"}),
        "its entry point 'x'",
    ),
    "version": (make_wheel({"pkg-1.0.dist-info/WHEEL": b"Wheel-Version: 2.0\n"}), "version '2.0' of the format"),
    "metadata of another": (
        make_wheel({"pkg-1.0.dist-info/METADATA": b"Name: other\nVersion: 1.0\n"}),
        "its METADATA is that of 'other'",
    ),
    "metadata of another version": (
        make_wheel({"pkg-1.0.dist-info/METADATA": b"Name: pkg\nVersion: 1.1\n"}),
        "its METADATA is that of version '1.1'",
    ),
    "another wheel": (make_wheel({}, name="other"), "other-1.0.dist-info is the metadata of another wheel"),
    "two": (make_wheel({"pkg-2.0.dist-info/METADATA": b""}), "it has 2 .dist-info folders"),
    "large script": (
        make_wheel({"pkg-1.0.data/scripts/x": b"#!python\n" + bytes(2 << 20)}),
        "pkg-1.0.data/scripts/x has 2,097,161 bytes, too many for a script",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_named(case: str) -> None:
    wheel, why = REFUSED[case]
    with pytest.raises(InputError) as caught:
        transcoded(wheel)
    assert caught.value.what == f"refused {FILE}"
    assert why in caught.value.why


@pytest.mark.parametrize("name", ["METADATA", "WHEEL", "RECORD"])
def test_a_wheel_lacks_nothing(name: str) -> None:
    wheel = io.BytesIO(make_wheel({"pkg/a.py": b""}))
    out = io.BytesIO()
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(out, "w") as target:
        for info in source.infolist():
            if not info.filename.endswith(name):
                target.writestr(info, source.read(info))
    with pytest.raises(InputError) as caught:
        transcoded(out.getvalue())
    assert f"it has no pkg-1.0.dist-info/{name}" in caught.value.why


def test_a_name_that_is_no_wheels_is_refused() -> None:
    with pytest.raises(InputError, match=r"refused pkg\.zip"):
        transcoded(make_wheel({}), file="pkg.zip")


def test_signatures_of_a_record_that_is_gone_are_left_out() -> None:
    files = tree(transcoded(make_wheel({"pkg/a.py": b"", "pkg-1.0.dist-info/RECORD.jws": b"{}"}))[1])
    assert f"{LAYOUT.site}/pkg-1.0.dist-info/RECORD.jws" not in files
    assert f"{LAYOUT.site}/pkg/a.py" in files
