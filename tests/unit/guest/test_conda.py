"""What conda installed, in an environment that a real conda client made from a real channel."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap import guest
from envsnap.guest import conda as reader
from envsnap.guest.conda_tree import pack_conda_tree
from envsnap.guest.text import Problems
from envsnap.layers.kept import write_kept
from envsnap.layers.writer import LayerWriter
from envsnap.model.facts import CollectedFacts
from envsnap.oci.image import EPOCH
from tests.fakes import conda, wheels

GUEST = Path(guest.__file__).parent
needs_client = pytest.mark.skipif(not conda.AVAILABLE, reason="no py-rattler, conda-package-streaming or gcc")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tests only read it."""
    directory = tmp_path_factory.mktemp("conda")
    conda.install(conda.make_channel(directory).as_uri(), directory / "an-env", directory / "cache")
    return directory / "an-env"


@pytest.fixture
def prefix(made: Path, tmp_path: Path) -> Path:
    """One at the same kind of place that a test may change."""
    conda.install((made.parent / "channel").as_uri(), tmp_path / "an-env", tmp_path / "cache")
    return tmp_path / "an-env"


def collected(prefix: Path) -> CollectedFacts:
    command = [str(prefix / "bin/python"), "-B", str(GUEST), "collect", "--integrity", "--imports", "--out", "-"]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, env=env, capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=CollectedFacts)


def site(prefix: Path) -> Path:
    return prefix / f"lib/python{conda.MINOR}/site-packages"


@needs_client
def test_conda_and_pip_are_told_apart_and_nothing_is_changed(prefix: Path) -> None:
    directory = prefix.parent
    wheels.install(prefix, wheels.write_wheel(directory / wheels.DEMO_FILE, wheels.DEMO))
    before = {path: path.lstat().st_mtime_ns for path in prefix.rglob("*")}
    facts = collected(prefix)
    assert {path: path.lstat().st_mtime_ns for path in prefix.rglob("*")} == before
    assert facts.interpreter.kind == "conda" and facts.problems == () and facts.path_oddities == ()
    assert {found.name: found.conda for found in facts.distributions} == {
        "demo-native": "demo-native",
        "demo-pkg": None,
        "demo-pure": "demo-pure",
    }
    assert [(found.name, found.modified) for found in facts.conda] == [
        (n, ()) for n in ("_libgcc_mutex", "demo-native", "demo-pure", "python")
    ]
    assert all(found.sha256 and found.md5 and found.url is None for found in facts.conda)  # the channel is a folder of this host
    assert {found.name for found in facts.conda if found.requested} == {"python", "demo-native", "demo-pure"}
    assert facts.imports == {"demo_module": "", "demo_native": "", "demo_pkg": "", "demo_pure": ""}


@needs_client
def test_edits_are_seen_in_what_is_python_and_what_is_not(prefix: Path) -> None:
    (prefix / "share/demo/where.txt").write_text("edited\n")
    (site(prefix) / "demo_pure/__init__.py").unlink()
    facts = collected(prefix)
    assert {found.name: found.modified for found in facts.conda if found.modified} == {
        "demo-native": ("share/demo/where.txt",),
        "demo-pure": (f"missing: lib/python{conda.MINOR}/site-packages/demo_pure/__init__.py",),
    }
    assert {found.name: found.modified for found in facts.distributions} == {
        "demo-native": ("prefix:share/demo/where.txt",),
        "demo-pure": ("missing: demo_pure/__init__.py",),
    }


@needs_client
@pytest.mark.parametrize("version", ["3.1", "4.0"])
def test_what_pip_put_over_a_package_is_not_condas(prefix: Path, version: str, tmp_path: Path) -> None:
    files = {
        "demo_pure/__init__.py": "VALUE = 'of pip'\n",
        f"demo_pure-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: demo-pure\nVersion: {version}\n",
        f"demo_pure-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    wheels.install(prefix, "--force-reinstall", wheels.write_wheel(tmp_path / f"demo_pure-{version}-py3-none-any.whl", files))
    facts = collected(prefix)
    found = next(found for found in facts.distributions if found.name == "demo-pure")
    assert (found.conda, found.version, found.modified) == (None, version, ())
    assert facts.path_oddities == ("conda's record of demo-pure 3.1 is outdated: pip has replaced what it installed",)


@needs_client
@pytest.mark.parametrize("length", [24, 150])
def test_the_tree_works_at_another_prefix(prefix: Path, tmp_path: Path, length: int) -> None:
    """Shorter and longer than the captured one; real binaries and scripts run there."""
    (prefix / "share/demo/where.txt").write_text(f"edited, below {prefix}\n")
    (site(prefix) / "demo_pure/__init__.py").unlink()
    new = Path(f"{tmp_path.parents[-2]}/{'x' * (length - len(str(tmp_path.parents[-2])) - 1)}")
    with (tmp_path / "tree.tar").open("wb") as file:
        digests = pack_conda_tree(file, str(new), str(prefix))
    assert len(str(new)) == length
    shutil.rmtree(new, ignore_errors=True)
    try:
        with tarfile.open(tmp_path / "tree.tar") as archive:
            archive.extractall(new, filter="tar")
        prefix.rename(tmp_path / "gone")
        script = subprocess.run([new / "bin/demo-native"], capture_output=True, text=True, check=True)
        assert script.stdout == f"{new}/share/demo\n"
        assert (new / "share/demo/where.txt").read_text() == f"edited, below {new}\n"
        there = collected(new)
        assert {found.name: (found.files, found.modified) for found in there.conda} == {
            name: (digest, ()) for name, digest in digests.items()
        }
        assert str(prefix) not in "".join(path.read_text() for path in (new / "conda-meta").iterdir())
    finally:
        shutil.rmtree(new, ignore_errors=True)


@needs_client
def test_the_tree_has_the_same_bytes_each_time_and_nothing_of_the_host_in_it(prefix: Path, tmp_path: Path) -> None:
    text = prefix / "share/demo/where.txt"
    for name, mode in (("one", 0o640), ("two", 0o666)):
        text.chmod(mode)
        with (tmp_path / name).open("wb") as file:
            pack_conda_tree(file, "/opt/envsnap/env", str(prefix))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with tarfile.open(tmp_path / "one") as archive:
        assert {(member.mtime, member.uid, member.uname) for member in archive} == {(EPOCH, 0, "")}
        assert {member.mode for member in archive} == {0o644, 0o755}


@needs_client
def test_a_link_to_condas_cache_becomes_the_file(prefix: Path, tmp_path: Path) -> None:
    """An option of conda (allow_softlinks) makes them, and its record does not say so."""
    library = (prefix / "lib/libdemo.so").rename(tmp_path / "libdemo.so")
    (prefix / "lib/libdemo.so").symlink_to(library)
    text = (prefix / f"lib/python{conda.MINOR}/site-packages/demo_native.py").rename(tmp_path / "demo_native.py")
    (prefix / f"lib/python{conda.MINOR}/site-packages/demo_native.py").symlink_to(text)
    with (tmp_path / "tree.tar").open("wb") as file:
        digests = pack_conda_tree(file, "/opt/envsnap/env", str(prefix))
    with tarfile.open(tmp_path / "tree.tar") as archive:
        for name, place in (("lib/libdemo.so", library), (f"lib/python{conda.MINOR}/site-packages/demo_native.py", text)):
            assert (archive.getmember(name).isreg(), archive.getmember(name).size) == (True, place.stat().st_size), name
        assert archive.getmember("lib/libdemo.so.1").issym()
    with (tmp_path / "tree.tar").open("rb") as file:
        names = {"{name}-{version}-{build}".format(**one.facts): digests[one.name] for one in reader.read_conda(Problems(), str(prefix))}
        write_kept(file, LayerWriter(lambda _: None), top="opt/envsnap/env", conda=names)


@needs_client
def test_a_prefix_for_which_a_binary_has_no_room_is_refused(made: Path, tmp_path: Path) -> None:
    with (tmp_path / "tree").open("wb") as file, pytest.raises(ValueError, match="has no room for the prefix"):
        pack_conda_tree(file, "/" + "long" * 100, str(made))


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://user:secret@conda.example.com/t/secret-token/private/linux-64/x-1-0.conda?a=secret", "https://conda.example.com/private/linux-64/x-1-0.conda"),
        ("https://conda.example.com/main/linux-64/x-1-0.conda", "https://conda.example.com/main/linux-64/x-1-0.conda"),
        ("file:///home/me/x-1-0.conda", None),
        ("s3://bucket/x-1-0.conda", None),
        (7, None),
    ],
)  # fmt: skip
def test_addresses_of_channels_carry_no_secret(url: Any, kept: str | None) -> None:
    assert reader.channel_url(url) == kept


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"name": "x", "version": "1", "build": 0}', "{" * 100_000, '{"name": NaN}'])
def test_a_broken_record_is_one_problem(tmp_path: Path, record: str) -> None:
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta/x-1-0.json").write_text(record)
    problems = Problems()
    assert reader.read_conda(problems, str(tmp_path)) == []
    assert [found["where"] for found in problems.document()] == ["conda-meta/x-1-0.json"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "", None, 7, "a\0b"])
def test_a_record_does_not_lead_out_of_the_prefix(tmp_path: Path, path: Any) -> None:
    record = {"name": "x", "version": "1", "build": "0", "paths_data": {"paths": [{"_path": path}]}}
    (tmp_path / "conda-meta").mkdir()
    (tmp_path / "conda-meta/x-1-0.json").write_text(json.dumps(record))
    problems = Problems()
    assert reader.read_conda(problems, str(tmp_path)) == [] and problems.document()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
FIELDS = st.sampled_from(["name", "version", "build", "url", "sha256", "md5", "files", "paths_data", "requested_spec"])
LINES = st.dictionaries(st.sampled_from(["_path", "path_type", "sha256", "sha256_in_prefix", "prefix_placeholder", "file_mode"]), JSON)


@given(record=st.dictionaries(FIELDS, JSON), lines=st.lists(LINES))
def test_no_record_ends_the_collector(tmp_path_factory: pytest.TempPathFactory, record: dict[str, Any], lines: list[Any]) -> None:
    prefix = tmp_path_factory.mktemp("prefix")
    (prefix / "conda-meta").mkdir()
    known = {"name": "x", "version": "1", "build": "0", **record, "paths_data": {"paths": lines}}
    for number, document in enumerate((record, known)):
        (prefix / f"conda-meta/{number}.json").write_text(json.dumps(document))
    packages = reader.read_conda(Problems(), str(prefix))
    reader.conda_oddities(packages, str(prefix))
    for package in packages:
        reader.conda_changes(package, str(prefix))
