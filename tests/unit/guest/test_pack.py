"""Packing what is installed, and installing that again with pip."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import platform
import re
import subprocess
import sys
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import msgspec
import pytest

from envsnap.guest import modules, pack, paths, record
from envsnap.guest.text import Problems
from envsnap.guest.wheel import ANY, Refused
from envsnap.model.facts import CollectedFacts, Distribution
from envsnap.probes.pack import wheel_file_name
from tests.fakes import wheels

needs_pip = pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="this interpreter has no pip")


def distribution(site: Path, metadata: str = "demo_pkg-1.0.dist-info", **fields: object) -> Distribution:
    found = {"name": "demo-pkg", "version": "1.0", "tags": ("py2-none-any", "py3-none-any"), **fields}
    return Distribution(location=str(site), metadata_dir=str(site / metadata), **found)  # type: ignore[arg-type]


def packable(found: Distribution) -> pack.Packable:
    fields = {name: getattr(found, name) for name in pack.Packable._fields}
    return pack.Packable(**{**fields, "modified": found.modified or ()})


def packed_installed(found: Distribution) -> bytes:
    wheel = io.BytesIO()
    pack.pack_installed(packable(found), wheel)
    return wheel.getvalue()


def packed_editable(found: Distribution) -> bytes:
    wheel = io.BytesIO()
    pack.pack_editable(packable(found), wheel)
    return wheel.getvalue()


def collected(environment: Path) -> Distribution:
    """The demo package as the collector itself finds it."""
    out = environment.parent / "facts.json"
    guest = Path(record.__file__).parent
    subprocess.run([environment / "bin/python", "-B", guest, "collect", "--integrity", "--out", out], check=True, capture_output=True)
    facts = msgspec.json.decode(out.read_bytes(), type=CollectedFacts)
    return next(found for found in facts.distributions if found.name == "demo-pkg")


def canonical_record(site: Path) -> str:
    """`Distribution.files`, by the collector itself."""
    metadata = "demo_pkg-1.0.dist-info"
    text = (site / metadata / "RECORD").read_text(encoding="utf-8")
    entries, malformed = record.read_record(text, str(site), paths.install_prefix(str(site)))
    assert not malformed
    return record.canonical_digest(record.payload(entries, metadata))


def files_of(environment: Path) -> dict[str, bytes]:
    """All that an installation put there, without what names the environment or the way it came."""
    home = str(environment).encode()
    ours = re.compile(r"demo|share/")
    files = {str(path.relative_to(environment)): path for path in sorted(environment.rglob("*")) if path.is_file()}
    left_out = ("RECORD", "direct_url.json", ".pyc")
    return {
        name: path.read_bytes().replace(home, b"ENV") for name, path in files.items() if ours.search(name) and not name.endswith(left_out)
    }


def names_in(wheel: bytes) -> list[str]:
    return zipfile.ZipFile(io.BytesIO(wheel)).namelist()


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the demo package, as pip installed it; tests only read it."""
    if importlib.util.find_spec("pip") is None:
        pytest.skip("this interpreter has no pip")
    directory = tmp_path_factory.mktemp("pack")
    environment = wheels.make_environment(directory / "env")
    wheels.install(environment, wheels.write_wheel(directory / wheels.DEMO_FILE, wheels.DEMO))
    return environment


@pytest.fixture
def copied(installed: Path, tmp_path: Path) -> Path:
    """The site directory of a copy that a test may change."""
    subprocess.run(["cp", "-a", installed, tmp_path / "env"], check=True)
    return wheels.site_of(tmp_path / "env")


def test_what_is_installed_from_it_is_what_was_installed(installed: Path, tmp_path: Path) -> None:
    found = distribution(wheels.site_of(installed))
    wheel = tmp_path / wheel_file_name(found.name, found.version, found.tags or (ANY,))
    wheel.write_bytes(packed_installed(found))
    again = wheels.make_environment(tmp_path / "env")
    wheels.install(again, wheel)

    assert wheel.name == wheels.DEMO_FILE
    assert canonical_record(wheels.site_of(again)) == canonical_record(wheels.site_of(installed))
    assert files_of(again) == files_of(installed)
    assert "bin/demo-main" in files_of(again)
    tool = subprocess.run([again / "bin/demo-tool"], capture_output=True, text=True, check=True)
    assert tool.stdout == "tool\n"
    assert (again / "share/demo/readme.txt").read_text() == "shared\n"


def test_the_comparison_can_fail(installed: Path, copied: Path) -> None:
    with (copied / "demo_pkg-1.0.dist-info/RECORD").open("a") as record:
        record.write("demo_pkg/more.py,,\n")
    assert canonical_record(copied) != canonical_record(wheels.site_of(installed))


def test_the_same_files_give_the_same_bytes(copied: Path) -> None:
    packed = packed_installed(distribution(copied))
    (copied / "demo_pkg/__init__.py").touch()
    record = copied / "demo_pkg-1.0.dist-info/RECORD"
    record.write_text("".join(reversed(record.read_text().splitlines(keepends=True))))

    assert packed_installed(distribution(copied)) == packed
    archive = zipfile.ZipFile(io.BytesIO(packed))
    assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
    assert {member.date_time[0] for member in archive.infolist()} == {1980}


def test_a_file_s_size_stands_before_it(installed: Path, tmp_path: Path) -> None:
    """And not after it alone, as of what is written to a stream: uv refuses to unpack that."""
    wanted = {**packable(distribution(wheels.site_of(installed)))._asdict(), "kind": "installed"}
    found = pack.packed(0, wanted, str(tmp_path))
    wheel = tmp_path / "0.whl"
    assert found["sha256"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    assert {info.flag_bits & 8 for info in zipfile.ZipFile(wheel).infolist()} == {0}
    assert wheel.read_bytes() == packed_installed(distribution(wheels.site_of(installed)))


def test_what_installers_add_is_left_to_them(installed: Path) -> None:
    wheel = packed_installed(distribution(wheels.site_of(installed)))
    assert sorted(names_in(wheel)) == sorted([*wheels.DEMO, "demo_pkg-1.0.dist-info/RECORD"])
    assert zipfile.ZipFile(io.BytesIO(wheel)).read("demo_pkg-1.0.data/scripts/demo-tool") == b"#!python\nprint('tool')\n"


def test_the_shell_form_of_a_shebang_is_made_neutral_too(copied: Path) -> None:
    prefix = copied.parents[2]
    script = prefix / "bin/demo-tool"
    script.write_text(f"#!/bin/sh\n'''exec' \"{prefix}/bin/python3.11\" \"$0\" \"$@\"\n' '''\nprint('tool')\n")
    record = copied / "demo_pkg-1.0.dist-info/RECORD"
    record.write_text(re.sub(r"(bin/demo-tool),[^\n]*", r"\1,,", record.read_text()))
    wheel = packed_installed(distribution(copied))
    assert zipfile.ZipFile(io.BytesIO(wheel)).read("demo_pkg-1.0.data/scripts/demo-tool") == b"#!python\nprint('tool')\n"


def test_edits_additions_and_losses_are_in_the_wheel(copied: Path, tmp_path: Path) -> None:
    (copied / "demo_module.py").write_text("def main(): print('edited')\n")
    (copied / "demo_pkg/plugins").mkdir()
    (copied / "demo_pkg/plugins/mine.py").write_text("ADDED = 1\n")
    gone = next(copied / name for name in wheels.DEMO if name.startswith("demo_pkg/") and not name.endswith("__init__.py"))
    gone.unlink()
    found = collected(copied.parents[2])
    lost = str(gone.relative_to(copied))
    assert found.modified == tuple(sorted(["demo_module.py", "added: demo_pkg/plugins/mine.py", f"missing: {lost}"]))
    assert found.actual_files != found.files

    wheel = tmp_path / wheel_file_name(found.name, found.version, found.tags or (ANY,))
    with wheel.open("wb") as file:
        assert pack.pack_installed(packable(found), file).files == found.actual_files
    again = wheels.make_environment(tmp_path / "again")
    wheels.install(again, wheel)
    # The console scripts of the copy name the environment that it was copied from.
    left, right = files_of(again), files_of(copied.parents[2])
    assert left.keys() == right.keys()
    assert {name for name in left if left[name] != right[name]} <= {name for name in left if name.startswith("bin/")}
    assert canonical_record(wheels.site_of(again)) == found.actual_files
    assert collected(again).modified == ()


def test_an_unmodified_package_keeps_its_digest(installed: Path) -> None:
    found = collected(installed)
    assert (found.modified, found.actual_files) == ((), found.files)
    assert pack.pack_installed(packable(found), io.BytesIO()).files == found.files == canonical_record(wheels.site_of(installed))


def test_a_working_tree_elsewhere_becomes_an_ordinary_wheel(copied: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree/src"
    (tree / "demo_pkg/__pycache__").mkdir(parents=True)
    (tree / "demo_pkg/__init__.py").write_text("HERE = 'tree'\n")
    (tree / "demo_pkg/__pycache__/x.cpython-311.pyc").write_bytes(b"x")
    (tree / "demo_pkg/built.so").write_bytes(b"ELF")
    (tree / "demo_module.py").write_text("def main(): ...\n")
    (tree / "other.py").write_text("NOT_OURS = 1\n")
    found = distribution(copied, editable_paths=(str(tree),), modules=("demo_module", "demo_pkg"))
    with (tmp_path / "0.whl").open("wb") as file:
        result = pack.pack_working_tree(packable(found), file)
    # What was built in place fits no other interpreter.
    assert result.tags == ("cp{0}{1}-cp{0}{1}-linux_{2}".format(*sys.version_info[:2], platform.machine()),)
    wheel = (tmp_path / "0.whl").rename(tmp_path / wheel_file_name(found.name, found.version, result.tags))
    again = wheels.make_environment(tmp_path / "again")
    wheels.install(again, wheel)

    site = wheels.site_of(again)
    assert {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file() and "dist-info" not in str(path)} >= {
        "demo_module.py",
        "demo_pkg/__init__.py",
        "demo_pkg/built.so",
    }
    assert not (site / "other.py").exists()
    assert canonical_record(site) == result.files


def test_a_namespace_that_several_distributions_share_is_packed(copied: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree/src"
    (tree / "company/vision/data").mkdir(parents=True)
    (tree / "company/vision/__init__.py").write_text("HERE = 'tree'\n")
    (tree / "company/vision/data/labels.txt").write_text("cat\n")
    (tree / "notes/2026").mkdir(parents=True)
    (tree / "notes/2026/plan.txt").write_text("no module\n")
    assert modules.modules_of_directory(str(tree), Problems()) == {"company"}
    found = distribution(copied, editable_paths=(str(tree),), modules=("company",))
    wheel = io.BytesIO()
    pack.pack_working_tree(packable(found), wheel)
    assert {"company/vision/__init__.py", "company/vision/data/labels.txt"} <= set(names_in(wheel.getvalue()))
    assert not [name for name in names_in(wheel.getvalue()) if name.startswith("notes")]


def test_a_working_tree_without_its_modules_is_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="none of its modules can be found"):
        pack.pack_working_tree(packable(distribution(copied, editable_paths=(str(tmp_path),), modules=("gone",))), io.BytesIO())


@pytest.mark.parametrize("module", ["../secret", "a/b", ".", ""])
def test_a_module_that_is_no_name_is_not_looked_for(copied: Path, tmp_path: Path, module: str) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/m.py").write_text("")
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/key").write_text("key")
    wheel = io.BytesIO()
    pack.pack_working_tree(packable(distribution(copied, editable_paths=(str(tmp_path / "tree"),), modules=(module, "m"))), wheel)
    assert not [name for name in names_in(wheel.getvalue()) if "key" in name]


def test_links_of_a_working_tree_are_followed_and_broken_ones_refused(copied: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree/m"
    tree.mkdir(parents=True)
    (tree / "__init__.py").write_text("")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/data.txt").write_text("shared\n")
    (tree / "linked").symlink_to(tmp_path / "shared")
    found = distribution(copied, editable_paths=(str(tmp_path / "tree"),), modules=("m",))
    wheel = io.BytesIO()
    pack.pack_working_tree(packable(found), wheel)
    assert "m/linked/data.txt" in names_in(wheel.getvalue())
    (tree / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Refused, match=r"gone cannot be read"):
        pack.pack_working_tree(packable(found), io.BytesIO())
    (tree / "gone").unlink()
    (tree / "round").symlink_to(tree)
    with pytest.raises(Refused, match="round in a circle"):
        pack.pack_working_tree(packable(found), io.BytesIO())


def test_a_file_that_changed_since_it_was_looked_at_is_refused(copied: Path) -> None:
    (copied / "demo_module.py").write_text("def main(): print('edited')\n")
    found = collected(copied.parents[2])
    (copied / "demo_module.py").write_text("def main(): print('edited again')\n")
    with pytest.raises(Refused, match="changed while they were captured"):
        pack.pack_installed(packable(found), io.BytesIO())


def test_an_edited_file_is_refused_by_name(copied: Path) -> None:
    (copied / "demo_module.py").write_text("def main(): ...\n")
    with pytest.raises(Refused, match=r"demo_module\.py is not what its RECORD says"):
        packed_installed(distribution(copied))


def test_a_missing_file_is_refused_by_name(copied: Path) -> None:
    (copied / "demo_module.py").unlink()
    with pytest.raises(Refused, match=r"demo_module\.py of its RECORD cannot be read"):
        packed_installed(distribution(copied))


@pytest.mark.parametrize("path", ["../../../../outside", "/etc/hostname", "demo_pkg/../../../../../outside"])
def test_a_record_that_leaves_the_environment_is_refused(copied: Path, path: str) -> None:
    with (copied / "demo_pkg-1.0.dist-info/RECORD").open("a") as record:
        record.write(f"{path},,\n")
    with pytest.raises(Refused, match="lies outside its environment"):
        packed_installed(distribution(copied))


def test_without_a_record_nothing_is_guessed(copied: Path) -> None:
    (copied / "demo_pkg-1.0.dist-info/RECORD").unlink()
    with pytest.raises(Refused, match="it has no RECORD"):
        packed_installed(distribution(copied))


def test_an_editable_is_packed_without_its_code(copied: Path, tmp_path: Path) -> None:
    (copied / "demo_pkg-1.0.dist-info/direct_url.json").write_text('{"url": "file:///home/me/secret"}')
    found = distribution(copied, editable_paths=("/home/me/project",))
    packed = packed_editable(found)

    own = [name for name in wheels.DEMO if name.startswith("demo_pkg-1.0.dist-info/")]
    assert sorted(names_in(packed)) == sorted([*own, "demo_pkg-1.0.dist-info/RECORD"])
    assert b"secret" not in packed
    wheel = tmp_path / wheel_file_name(found.name, found.version, found.tags or (ANY,))
    wheel.write_bytes(packed)
    again = wheels.make_environment(tmp_path / "again")
    wheels.install(again, wheel)
    assert (again / "bin/demo-main").exists()


@needs_pip
def test_an_egg_info_becomes_a_dist_info(tmp_path: Path) -> None:
    egg = tmp_path / "Demo.Pkg.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 1.2\nName: Demo.Pkg\nVersion: 1.0\n\nHello\n")
    (egg / "requires.txt").write_text("six>=1.0\n\n[gui:python_version < '4']\nidna\n")
    (egg / "top_level.txt").write_text("demo_module\n")
    (egg / "entry_points.txt").write_text("[console_scripts]\ndemo-main = demo_module:main\n")
    (egg / "SOURCES.txt").write_text("demo_module.py\n")
    found = distribution(tmp_path, "Demo.Pkg.egg-info", tags=(), editable_paths=(str(tmp_path),))
    wheel = tmp_path / wheel_file_name(found.name, found.version, found.tags or (ANY,))
    wheel.write_bytes(packed_editable(found))
    environment = wheels.make_environment(tmp_path / "env")
    wheels.install(environment, wheel)

    assert wheel.name == "demo_pkg-1.0-py3-none-any.whl"
    metadata = HeaderParser().parsestr((wheels.site_of(environment) / "demo_pkg-1.0.dist-info/METADATA").read_text())
    assert metadata["Metadata-Version"] == "2.1"
    assert metadata.get_all("Provides-Extra") == ["gui"]
    first, second = metadata.get_all("Requires-Dist", [])
    assert first == "six>=1.0"
    assert second.startswith("idna") and 'extra == "gui"' in second
    assert metadata.get_payload() == "Hello\n"
    assert (environment / "bin/demo-main").exists()


def test_requirements_that_are_there_are_not_said_twice(tmp_path: Path) -> None:
    egg = tmp_path / "demo_pkg.egg-info"
    egg.mkdir()
    text = "Metadata-Version: 2.1\nName: demo-pkg\nVersion: 1.0\nRequires-Dist: six\n\n"
    (egg / "PKG-INFO").write_text(text)
    (egg / "requires.txt").write_text("six\n")
    packed = packed_editable(distribution(tmp_path, "demo_pkg.egg-info"))
    assert zipfile.ZipFile(io.BytesIO(packed)).read("demo_pkg-1.0.dist-info/METADATA") == text.encode()


def test_an_editable_without_readable_metadata_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="PKG-INFO cannot be read"):
        packed_editable(distribution(tmp_path, "demo_pkg.egg-info"))


def test_names_of_packed_wheels() -> None:
    name = wheel_file_name("my-ext.mod", "1.0+local.1", ("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64"))
    assert name == "my_ext_mod-1.0+local.1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
