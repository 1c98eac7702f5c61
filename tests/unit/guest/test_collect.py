"""The collector, run as a script in real virtual environments."""

from __future__ import annotations

import ast
import base64
import contextlib
import hashlib
import importlib.machinery
import json
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap import guest, redaction
from envsnap.guest import (
    framework_probe,
    imports,
    integrity,
    libraries,
    library_versions,
    metadata,
    needs,
    os_packages,
    paths,
    pip_config,
    record,
    source_files,
)
from envsnap.guest.distributions import read_distributions
from envsnap.guest.elf import ELF_FAULTS, parse_elf, read_elf
from envsnap.guest.text import Problems, clean, hash_or_none
from envsnap.model.facts import CollectedFacts, DeviceCode, Distribution, Problem
from envsnap.model.plan import Expected, ExpectedPackage
from tests.fakes.fatbin import binary, extension

GUEST = Path(guest.__file__).parent
TOKEN = "hf_" + "A" * 34


def record_line(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}"


@dataclass(frozen=True)
class Environment:
    """A virtual environment without pip, filled by hand."""

    root: Path

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    @property
    def site(self) -> Path:
        return self.root / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"

    def add(
        self,
        name: str,
        version: str = "1.0",
        *,
        files: Mapping[str, str] | None = None,
        metadata: str = "",
        extra: Mapping[str, str] | None = None,
    ) -> Path:
        """Install a distribution as pip would; returns its dist-info."""
        info = f"{name}-{version}.dist-info"
        contents = {
            **({f"{name}.py": f"version = '{version}'\n"} if files is None else files),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{metadata}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
        }
        lines = [record_line(path, text.encode()) for path, text in contents.items()]
        contents[f"{info}/INSTALLER"] = "pip\n"
        contents.update({f"{info}/{path}": text for path, text in (extra or {}).items()})
        contents[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/INSTALLER,,", f"{info}/RECORD,,", ""])
        for path, text in contents.items():
            target = self.site / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        return self.site / info

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": os.environ["PATH"], "HOME": str(self.root), "PYTHONNOUSERSITE": "1", **(env or {})}
        command = [str(self.python), "-B", str(GUEST), "collect", *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=60)

    def facts(self, *arguments: str, env: Mapping[str, str] | None = None) -> CollectedFacts:
        done = self.run("--out", "-", *arguments, env=env)
        assert done.returncode == 0, done.stderr
        return msgspec.json.decode(done.stdout.encode(), type=CollectedFacts)

    def read(self) -> tuple[dict[str, Distribution], tuple[Problem, ...]]:
        """What the script's own functions read of the site directory, in this process and without an interpreter in it."""
        problems = Problems()
        found = read_distributions([str(self.site)], problems)
        distributions = msgspec.convert([clean(item.facts) for item in found], list[Distribution])
        return {item.name: item for item in distributions}, msgspec.convert(problems.document(), tuple[Problem, ...])


@pytest.fixture
def packages(tmp_path: Path) -> Environment:
    """A site directory alone."""
    return Environment(tmp_path / "env")


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    return Environment(tmp_path / "env")


def only(facts: CollectedFacts, name: str) -> Distribution:
    (found,) = (item for item in facts.distributions if item.name == name)
    return found


def tree(root: Path) -> dict[str, tuple[int, str]]:
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mtime_ns,
            "" if path.is_dir() else hashlib.sha256(str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()).hexdigest(),
        )
        for path in sorted(root.rglob("*"))
    }


# ----------------------------------------------------------------------------------------------------
# The whole document


def test_the_script_is_python_3_8() -> None:
    for path in GUEST.glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_an_empty_environment(environment: Environment) -> None:
    facts = environment.facts()
    assert facts.schema == 1
    assert facts.interpreter.version == sys.version.split()[0]
    assert facts.interpreter.kind == "venv"
    assert facts.interpreter.abi == "cp{}{}".format(*sys.version_info[:2]) + sys.abiflags
    assert facts.interpreter.soabi == sysconfig.get_config_var("SOABI")
    assert facts.interpreter.prefix == str(environment.root)
    assert facts.distributions == () and facts.problems == () and facts.path_oddities == ()
    assert facts.torch is None and facts.imports is None and facts.source_files is None and facts.pip_config is None
    assert facts.platform.kernel == os.uname().release and facts.platform.cpu


def test_what_metadata_says(environment: Environment) -> None:
    environment.add(
        "Demo_Project.x",
        "2.0+cu130",
        files={"demo/__init__.py": "", "demo/data.bin": "xx", "single.py": "", "_private.py": "", "demo-stubs/__init__.pyi": ""},
        metadata="Requires-Python: >=3.9\nRequires-Dist: numpy>=1\nRequires-Dist: six;\n  extra == 'old'\n\nName: not a header",
        extra={
            "REQUESTED": "",
            "WHEEL": "Wheel-Version: 1.0\nBuild: 3\nTag: cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64\nTag: py2.py3-none-any\n",
            "direct_url.json": '{"url": "https://user:pw@example.com/x.whl?sig=1", "archive_info": {"hash": "sha256=00"}}',
        },
    )
    found = only(environment.facts(), "demo-project-x")
    assert found.version == "2.0+cu130"
    assert found.location == str(environment.site)
    assert found.metadata_dir == str(environment.site / "Demo_Project.x-2.0+cu130.dist-info")
    assert (found.installer, found.requested, found.build) == ("pip", True, "3")
    assert found.tags == (
        "cp311-cp311-manylinux_2_17_x86_64",
        "cp311-cp311-manylinux2014_x86_64",
        "py2-none-any",
        "py3-none-any",
    )
    assert found.direct_url == {"url": "https://example.com/x.whl", "archive_info": {"hash": "sha256=00"}}
    assert found.requires == ("numpy>=1", "six;\nextra == 'old'")
    assert found.requires_python == ">=3.9"
    assert found.modules == ("demo", "single")
    assert found.size_bytes > 2 and found.modified is None and found.editable_paths == ()


def test_two_runs_say_the_same(environment: Environment) -> None:
    for name in ("zeta", "alpha", "mid"):
        environment.add(name)
    first, second = (msgspec.structs.replace(environment.facts("--imports", "--integrity"), seconds={}) for _ in range(2))
    assert first == second
    assert [item.name for item in first.distributions] == ["alpha", "mid", "zeta"]


def test_gpu_architectures_are_read_when_asked_for(environment: Environment) -> None:
    environment.add("kernels", files={"kernels/__init__.py": "", "kernels/_C.so": ""})
    environment.add("plain")
    (environment.site / "kernels/_C.so").write_bytes(extension([binary("sm_80", "sm_90a", "compute_90")]))
    assert only(environment.facts(), "kernels").device_code is None
    facts = environment.facts("--device-code")
    assert only(facts, "kernels").device_code == DeviceCode(cubins=("sm_80", "sm_90a"), ptx=("compute_90",))
    assert only(facts, "plain").device_code is None


def test_nothing_in_the_target_changes(environment: Environment) -> None:
    environment.add("package", files={"package/__init__.py": "import pathlib\npathlib.Path.home().joinpath('.left').write_text('x')\n"})
    before = tree(environment.root)
    facts = environment.facts("--imports", "--integrity", "--framework")
    assert facts.imports == {"package": ""}
    assert tree(environment.root) == before


def test_stdout_stays_free_and_the_document_is_private(environment: Environment, tmp_path: Path) -> None:
    environment.add("noisy", files={"noisy.py": "print('hello')\n"})
    done = environment.run("--out", str(tmp_path / "facts.json"), "--imports")
    assert done.stdout == ""
    assert (tmp_path / "facts.json").stat().st_mode & 0o077 == 0
    (tmp_path / "facts.json").read_text(encoding="ascii")


@pytest.mark.parametrize("locale", ["C", "POSIX"])
def test_names_read_the_same_in_any_locale(environment: Environment, tmp_path: Path, locale: str) -> None:
    environment.add("café".encode().decode("ascii", "ignore"), files={"pkg/ñandú.py": "", "pkg/__init__.py": ""})
    utf8 = environment.facts("--integrity", env={"PYTHONUTF8": "1"})
    ascii_only = environment.facts("--integrity", env={"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"})
    assert only(ascii_only, "caf").files == only(utf8, "caf").files
    assert only(ascii_only, "caf").modified == ()


# ----------------------------------------------------------------------------------------------------
# RECORD


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("six.py", "six.py"),
        ("pkg/./x.py", "pkg/x.py"),
        ("pkg//x.py", "pkg/x.py"),
        ("pkg/.hidden", "pkg/.hidden"),
        ("../../../share/man/x.1", "prefix:share/man/x.1"),
        ("../../../bin/tool", "prefix:bin/tool"),
        ("/p/lib/python3.11/site-packages/six.py", "six.py"),
        ("/p/etc/conf", "prefix:etc/conf"),
        ("/elsewhere/file", "/elsewhere/file"),
        ("../../../../outside", "/outside"),
    ],
)
def test_canonical_paths(path: str, canonical: str) -> None:
    location = "/p/lib/python3.11/site-packages"
    assert record.canonical_path(path, location, "/p") == canonical
    if not path.startswith("pkg/"):
        assert Path(record.installed_path(canonical, location, "/p")) == Path(os.path.normpath(Path(location) / path))


@pytest.mark.parametrize(
    ("location", "prefix"),
    [
        ("/home/u/.venv/lib/python3.11/site-packages", "/home/u/.venv"),
        ("/opt/x/lib64/python3.13t/site-packages", "/opt/x"),
        ("/usr/local/lib/python3.11/dist-packages", "/usr/local"),
        ("/usr/lib/python3/dist-packages", "/usr"),
        ("/somewhere/vendored", sys.prefix),
    ],
)
def test_prefix_of_a_location(location: str, prefix: str) -> None:
    assert paths.install_prefix(location) == prefix


def test_the_canonical_record_leaves_out_what_installers_write() -> None:
    content = [
        "a/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0",
        "a/nohash.txt,,3",
        "a/old.txt,md5=1B2M2Y8AsgTpgAmY7PhCfg,0",
    ]
    droppings = [
        *(f"a-1.dist-info/{name},sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0" for name in sorted(record.DROPPINGS)),
        "a/__pycache__/x.cpython-311.pyc,,",
        "../../../bin/a,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0",
    ]
    entries, malformed = record.read_record("\r\n".join([*droppings, *content, ""]), "/p/lib/python3.11/site-packages", "/p")
    assert malformed == []
    empty = hashlib.sha256(b"").hexdigest()
    document = f"a/__init__.py\0{empty}\na/nohash.txt\0\na/old.txt\0\n"
    assert record.canonical_digest(record.payload(entries, "a-1.dist-info")) == "sha256:" + hashlib.sha256(document.encode()).hexdigest()


@given(
    st.lists(st.tuples(st.text("ab/é_", min_size=1, max_size=8).map("x{}".format), st.binary(max_size=4)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
)
def test_the_order_of_a_record_does_not_matter(files: list[tuple[str, bytes]], random: Any) -> None:
    lines = [record_line(path, data) for path, data in files]
    shuffled = [*lines, *lines[:1]]
    random.shuffle(shuffled)
    digests = {record.canonical_digest(record.read_record("\n".join(some), "/p", "/p")[0]) for some in (lines, shuffled)}
    assert len(digests) == 1


@given(st.tuples(st.text("ab/", min_size=1, max_size=6), st.binary(max_size=3)), st.binary(min_size=4, max_size=5))
def test_another_content_is_another_digest(file: tuple[str, bytes], other: bytes) -> None:
    one, two = (record.read_record(record_line("x" + file[0], data), "/p", "/p")[0] for data in (file[1], other))
    assert record.canonical_digest(one) != record.canonical_digest(two)


@pytest.mark.parametrize(
    ("line", "ok"),
    [
        ('"a,b.py",,', True),
        ("a.py,sha512=AAAA,3", True),
        ("a.py", False),
        ("a.py,,,", False),
        (",,", False),
        ("a.py,sha256=short,3", False),
        ("a.py,nonsense,3", False),
        ("a.py,,many", False),
        ('"a.py,,', False),
        ("a\0.py,,", False),
    ],
)
def test_lines_of_a_record(line: str, ok: bool) -> None:
    entries, malformed = record.read_record(f"first.py,,\n{line}\nlast.py,,\n", "/p", "/p")
    assert malformed == ([] if ok else [2])
    assert len(entries) == (3 if ok else 2)


# ----------------------------------------------------------------------------------------------------
# Broken metadata


def put(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda info: (info / name).write_bytes(data)


def drop(name: str) -> Callable[[Path], None]:
    return lambda info: (info / name).unlink()


def make_directory(name: str) -> Callable[[Path], None]:
    def breakage(info: Path) -> None:
        (info / name).unlink(missing_ok=True)
        (info / name).mkdir()

    return breakage


def make_loop(info: Path) -> None:
    shutil.rmtree(info)
    info.symlink_to(info)


@pytest.mark.parametrize(
    ("break_it", "where", "what", "listed"),
    [
        (drop("METADATA"), "broken-1.0.dist-info", "no METADATA", False),
        (make_directory("METADATA"), "broken-1.0.dist-info/METADATA", "cannot be read", False),
        (put("METADATA", b"Version: 1.0\n\n"), "broken-1.0.dist-info/METADATA", "no usable Name", True),
        (put("METADATA", b"Name: broken\n\n"), "broken-1.0.dist-info/METADATA", "no usable Version", True),
        (put("METADATA", b"Name: two words\nVersion: 1.0\n\n"), "broken-1.0.dist-info/METADATA", "no usable Name ('two words')", True),
        (
            put("METADATA", b"Name: broken\nVersion: 1.0\nAuthor: Andr\xe9\n\n"),
            "broken-1.0.dist-info/METADATA",
            "not UTF-8 (byte 38)",
            True,
        ),
        (drop("WHEEL"), "broken-1.0.dist-info", "no WHEEL", True),
        (drop("RECORD"), "broken-1.0.dist-info", "no RECORD", True),
        (put("RECORD", b"broken.py\n\n,,\n"), "broken-1.0.dist-info/RECORD", "2 malformed lines, the first at 1", True),
        (put("RECORD", b"caf\xe9.py,,\n"), "broken-1.0.dist-info/RECORD", "not UTF-8", True),
        (put("direct_url.json", b"{"), "broken-1.0.dist-info/direct_url.json", "not a direct_url", True),
        (put("direct_url.json", b"[]"), "broken-1.0.dist-info/direct_url.json", "not a direct_url", True),
        (put("direct_url.json", b'{"url": "http://["}'), "broken-1.0.dist-info/direct_url.json", "not a direct_url", True),
        (put("direct_url.json", b'{"url": "x", "n": NaN}'), "broken-1.0.dist-info/direct_url.json", "not a direct_url", True),
        (put("direct_url.json", b'{"url":' + b"[" * 100000), "broken-1.0.dist-info/direct_url.json", "not a direct_url", True),
        (make_loop, "broken-1.0.dist-info", "cannot be listed", False),
    ],
)
def test_broken_metadata_is_one_problem(
    packages: Environment, break_it: Callable[[Path], object], where: str, what: str, listed: bool
) -> None:
    packages.add("healthy")
    break_it(packages.add("broken"))
    found, (problem,) = packages.read()
    assert problem.where.endswith(where) and what in problem.what
    assert list(found) == (["broken", "healthy"] if listed else ["healthy"])
    assert found["healthy"].files


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0\0", b"\n\n\n", b"Name\nVersion\n", b" continued: nothing\n"])
def test_hopeless_metadata_leaves_the_name_of_the_directory(packages: Environment, content: bytes) -> None:
    (packages.add("hopeless", "2.0") / "METADATA").write_bytes(content)
    found, problems = packages.read()
    assert found["hopeless"].version == "2.0"
    assert {"has no usable Name", "has no usable Version"} <= {problem.what for problem in problems}


def test_surrogates_from_metadata_reach_the_document_as_escapes(environment: Environment) -> None:
    environment.add("odd", extra={"direct_url.json": '{"url": "https://example.com/\\ud800"}', "METADATA": "Name: odd\nVersion: 1\n\n"})
    (environment.site / "odd-1.0.dist-info" / "METADATA").write_bytes(b"Name: odd\nVersion: 1\nRequires-Dist: caf\xe9\n\n")
    found = only(environment.facts(), "odd")
    assert found.requires == ("caf\\xe9",)
    assert found.direct_url == {"url": "https://example.com/\\ud800"}


def test_without_a_usable_record_files_are_unknown(packages: Environment) -> None:
    (packages.add("none") / "RECORD").unlink()
    with (packages.add("half") / "RECORD").open("a") as record:
        record.write("no comma\n")
    found, _ = packages.read()
    assert found["none"].files is None
    assert found["half"].files is None and found["half"].modules == ("half",)


def test_leftovers_and_hidden_duplicates_are_problems(environment: Environment, tmp_path: Path) -> None:
    environment.add("twice", "1.0")
    environment.add("twice", "2.0")
    (environment.site / "~orch").mkdir()
    (environment.site / "~orch-2.0.dist-info").mkdir()
    (environment.site / "archive.pth").write_text(f"{tmp_path / 'lib.zip'}\n")
    (tmp_path / "lib.zip").write_bytes(b"")
    facts = environment.facts()
    assert only(facts, "twice").version == "2.0"
    assert {(Path(problem.where).name, problem.what.split(" in /")[0]) for problem in facts.problems} == {
        ("twice-1.0.dist-info", "twice 1.0 is hidden by 2.0"),
        ("~orch", "is the leftover of an interrupted uninstall"),
        ("~orch-2.0.dist-info", "is the leftover of an interrupted uninstall"),
        ("lib.zip", "is an archive on sys.path; distributions inside it are not listed"),
    }


def test_of_two_in_one_directory_it_is_the_one_whose_files_are_there(environment: Environment) -> None:
    environment.add("twice", "1.0")
    environment.add("twice", "2.0")  # writes the module over
    assert only(environment.facts(), "twice").version == "2.0"
    (environment.site / "twice.py").write_text("version = '1.0'\n")
    facts = environment.facts()
    assert only(facts, "twice").version == "1.0" and "twice 2.0 is hidden by 1.0" in facts.problems[0].what


def test_what_no_package_brought_is_named(environment: Environment) -> None:
    environment.add("known", files={"known/__init__.py": "", "known_too.py": ""})
    for path in ("helpers.py", "folder/__init__.py", "data/notes.txt", "fast.cpython-311-x86_64-linux-gnu.so", "_private.py"):
        (environment.site / path).parent.mkdir(exist_ok=True)
        (environment.site / path).write_text("")
    (oddity,) = environment.facts().path_oddities
    suffixed = "fast.cpython-311-x86_64-linux-gnu.so, " if sys.version_info[:2] == (3, 11) else ""
    assert oddity == f"no package brought {suffixed}folder, helpers.py in {environment.site}: nothing says where from, and it stays behind"


def test_a_module_that_comes_from_elsewhere_is_named(environment: Environment, tmp_path: Path) -> None:
    environment.add("shadowed")
    (tmp_path / "front").mkdir()
    (tmp_path / "front/shadowed.py").write_text("version = 'other'\n")
    assert environment.facts("--imports").path_oddities == ()
    oddities = environment.facts("--imports", env={"PYTHONPATH": str(tmp_path / "front")}).path_oddities
    place = tmp_path / "front/shadowed.py"
    assert f"shadowed is imported from {place}, not from shadowed 1.0 in {environment.site}" in oddities


def test_a_package_that_another_of_its_name_hides_is_one_all_the_same(environment: Environment, tmp_path: Path) -> None:
    environment.add("shared", "1.0", files={"shared/__init__.py": "", "helpers/__init__.py": ""})
    front = tmp_path / "front"
    shutil.copytree(environment.site / "shared", front / "shared")
    shutil.copytree(environment.site / "shared-1.0.dist-info", front / "shared-1.0.dist-info")
    (environment.site / "loose.py").write_text("")
    oddities = environment.facts(env={"PYTHONPATH": str(front)}).path_oddities
    assert [one for one in oddities if one.startswith("no package")] == [
        f"no package brought loose.py in {environment.site}: nothing says where from, and it stays behind"
    ]


def test_a_package_that_has_written_over_another_is_named(environment: Environment) -> None:
    files = {"shared/__init__.py": "old", "shared/other.py": "old", "shared/same.py": ""}
    environment.add("pytorch-triton", "3.2.0", files=files)
    assert environment.facts().path_oddities == ()
    environment.add("triton", "3.6.0", files={**files, "shared/__init__.py": "new", "shared/other.py": "new"})
    sentence = "{} has written over shared/__init__.py and 1 more file of {}"
    assert environment.facts().path_oddities == (sentence.format("triton 3.6.0", "pytorch-triton 3.2.0"),)
    (environment.site / "shared/__init__.py").write_text("old")
    assert environment.facts().path_oddities == (sentence.format("pytorch-triton 3.2.0", "triton 3.6.0"),)


QUOTES = "'" * 3


@pytest.mark.parametrize("head", ["#!{}\n", "#!/bin/sh\n" + QUOTES + 'exec\' "{}" "$0" "$@"\n\' ' + QUOTES + "\n"])
def test_a_script_of_another_interpreter_is_named(environment: Environment, tmp_path: Path, head: str) -> None:
    info = environment.add("tool", files={"tool.py": "", "../../../bin/tool": "", "../../../bin/own": "", "../../../bin/shell": ""})
    assert info.exists()
    scripts = environment.root / "bin"
    (scripts / "tool").write_text(head.format("/other env/bin/python3.9" if "sh" in head else "/other/bin/python3.9"))
    (scripts / "own").write_text(head.format(environment.python))
    (scripts / "shell").write_text("#!/bin/sh\necho python\n")
    (oddity,) = environment.facts().path_oddities
    assert oddity.startswith("tool runs with /other") and oddity.endswith("python3.9, which is not this environment's")


def test_the_first_on_the_path_wins(environment: Environment, tmp_path: Path) -> None:
    environment.add("shared", "1.0")
    front = tmp_path / "front"
    shutil.move(environment.add("shared", "9.9"), front / "shared-9.9.dist-info")
    facts = environment.facts(env={"PYTHONPATH": str(front)})
    assert only(facts, "shared").version == "9.9"
    assert "shared 1.0 is hidden by 9.9" in facts.problems[0].what
    assert any("PYTHONPATH" in sentence for sentence in facts.path_oddities)
    assert any(str(front) in sentence and "outside the prefix" in sentence for sentence in facts.path_oddities)


# ----------------------------------------------------------------------------------------------------
# Editables and older formats

EDITABLE = '{"url": "file:///src", "dir_info": {"editable": true}}'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for path in (
        "src/pkg/__init__.py",
        "src/pkg/sub/__init__.py",
        "src/tool.py",
        "flat/pkg/__init__.py",
        "flat/tests/__init__.py",
        "flat/train.py",
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    (tmp_path / "flat" / "pyproject.toml").write_text("")
    return tmp_path


def add_editable(packages: Environment, files: Mapping[str, str], extra: Mapping[str, str] | None = None) -> Distribution:
    packages.add("pkg", files=files, extra={"direct_url.json": EDITABLE, **(extra or {})})
    return packages.read()[0]["pkg"]


def test_editable_by_pth(environment: Environment, project: Path) -> None:
    egg_info = project / "src" / "pkg.egg-info"
    egg_info.mkdir()
    (egg_info / "PKG-INFO").write_text("Name: pkg\nVersion: 0.9\n")
    environment.add("pkg", files={"__editable__.pkg-1.0.pth": f"{project / 'src'}\n"}, extra={"direct_url.json": EDITABLE})
    facts = environment.facts()
    found = only(facts, "pkg")
    assert facts.problems == ()
    assert found.editable_paths == (str(project / "src"),)
    assert found.files is None and found.modules == ("pkg", "tool") and found.version == "1.0"


def test_of_a_project_root_only_packages_are_modules(packages: Environment, project: Path) -> None:
    assert add_editable(packages, {"_pkg.pth": f"{project / 'flat'}\n"}).modules == ("pkg",)


def test_editable_by_a_finder_that_is_never_run(packages: Environment, project: Path) -> None:
    source = project / "src"
    finder = f"raise SystemExit('imported')\nMAPPING: dict[str, str] = {{'pkg': '{source}/pkg', 'tool': '{source}/tool.py'}}\n"
    finder += f"NAMESPACES: dict[str, list[str]] = {{'space': ['{project}/flat/space']}}\n"
    files = {"__editable___pkg_1_0_finder.py": finder, "__editable__.pkg-1.0.pth": "# import __editable___pkg_1_0_finder"}
    found = add_editable(packages, files)
    assert found.editable_paths == (str(source), str(project / "flat"))
    assert found.modules == ("pkg", "space", "tool")


def test_editable_by_the_editables_library(packages: Environment, project: Path) -> None:
    redirect = f"F = object()\nF.install()\nF.map_module('pkg', '{project}/src/pkg/__init__.py')\n"
    found = add_editable(packages, {"_editable_impl_pkg.py": redirect}, {"top_level.txt": "pkg\n_hidden\n"})
    assert found.editable_paths == (str(project / "src"),)
    assert found.modules == ("pkg",)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"x.py": ""}, "does not say what it puts on sys.path"),
        ({"__editable___pkg_finder.py": "MAPPING = {'pkg': '/elsewhere/library'}"}, "which no directory on sys.path can express"),
        ({"__editable___pkg_finder.py": "MAPPING = {"}, "not a finder that can be read"),
        ({"__editable___pkg_finder.py": "MAPPING = open('x')"}, "not a finder that can be read"),
        ({"pkg.pth": "/not/there\n"}, "which is not there"),
    ],
)
def test_editables_that_cannot_be_followed(packages: Environment, files: Mapping[str, str], problem: str) -> None:
    packages.add("pkg", files=files, extra={"direct_url.json": EDITABLE})
    assert any(problem in item.what for item in packages.read()[1])


def test_develop_installs_and_old_formats(environment: Environment, project: Path) -> None:
    egg_info = project / "src" / "pkg.egg-info"
    egg_info.mkdir()
    (egg_info / "PKG-INFO").write_text("Name: pkg\nVersion: 0.9\n")
    (environment.site / "pkg.egg-link").write_text(f"{project / 'src'}\n.")
    (environment.site / "easy-install.pth").write_text(f"{project / 'src'}\n")
    (environment.site / "single-3.1-py3.8.egg-info").write_text("Name: single\nVersion: 3.1\n")
    (environment.site / "nameless-2-py3.8.egg-info").mkdir()
    (environment.site / "nameless-2-py3.8.egg-info" / "PKG-INFO").write_text("\n")
    facts = environment.facts()
    assert (only(facts, "pkg").editable_paths, only(facts, "pkg").modules) == ((str(project / "src"),), ("pkg", "tool"))
    assert (only(facts, "single").version, only(facts, "single").files) == ("3.1", None)
    assert only(facts, "nameless").version == "2"


# ----------------------------------------------------------------------------------------------------
# Oddities and variables


def test_path_oddities(environment: Environment, tmp_path: Path) -> None:
    environment.add("owner", files={"owner.pth": "import sys\n"})
    (environment.site / "plain.pth").write_text("# import nothing\n")
    (environment.site / "stray.pth").write_text("import sys\n")
    (environment.site / "sitecustomize.py").write_text("")
    (environment.site / "~orch").mkdir()
    user = Path("base") / "lib" / "python{}.{}".format(*sys.version_info[:2]) / "site-packages"
    (tmp_path / user).mkdir(parents=True)
    (tmp_path / user / "something.py").write_text("")
    config = environment.root / "pyvenv.cfg"
    config.write_text(config.read_text().replace("include-system-site-packages = false", "include-system-site-packages = true"))
    oddities = environment.facts(env={"PYTHONNOUSERSITE": "", "PYTHONUSERBASE": str(tmp_path / "base")}).path_oddities
    assert f"the user's own site directory {tmp_path / user} is enabled and not empty" in oddities
    assert f"sitecustomize ({environment.site / 'sitecustomize.py'}) runs whenever the interpreter starts" in oddities
    assert f"~orch in {environment.site} is the leftover of an interrupted uninstall" in oddities
    assert "stray.pth of no package runs code whenever the interpreter starts, and stays behind" in oddities
    assert not any("owner.pth" in sentence for sentence in oddities)  # it comes with its package
    assert not any("plain.pth" in sentence for sentence in oddities)


def test_variables(environment: Environment) -> None:
    variables = {
        "NCCL_DEBUG": "INFO",
        "OMP_NUM_THREADS": "4",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "NVIDIA_TF32_OVERRIDE": "0",
        "TF_DETERMINISTIC_OPS": "1",
        "FLAGS_cudnn_deterministic": "1",
        "KERAS_BACKEND": "jax",
        "TF_CONFIG": "{}",
        "FLAGS_selected_gpus": "0",
        "PADDLE_TRAINER_ID": "1",
        "XLA_FLAGS": "https://user:pw@example.com/",
        "TORCH_TOKEN": "hush",
        "WANDB_API_KEY": "hush",
        "PIP_INDEX_URL": "https://user:pw@example.com/simple",
        "PLAIN": TOKEN,
        "EMPTY_TOKEN": "",
        "SSH_AUTH_SOCK": "/run/agent",
        "VIRTUAL_ENV": "/x",
        "CUDA_HOME": "/usr/local/cuda",
        "CUDA_VISIBLE_DEVICES": "3",
        "CUDA_VERSION": "13.0",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "PYTHONDONTWRITEBYTECODE": "1",
        "TF_VAR_region": "x",
    }
    facts = environment.facts(env=variables)
    assert facts.env == {
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "FLAGS_cudnn_deterministic": "1",
        "KERAS_BACKEND": "jax",
        "NCCL_DEBUG": "INFO",
        "NVIDIA_TF32_OVERRIDE": "0",
        "OMP_NUM_THREADS": "4",
        "PYTHONNOUSERSITE": "1",
        "TF_DETERMINISTIC_OPS": "1",
        "TORCH_TOKEN": None,
        "XLA_FLAGS": None,
    }
    assert facts.withheld == ("PIP_INDEX_URL", "PLAIN", "TORCH_TOKEN", "WANDB_API_KEY", "XLA_FLAGS")


def test_a_planted_secret_is_nowhere_in_the_document(environment: Environment) -> None:
    leak = f"import os\nraise RuntimeError(os.environ.get('PLANTED_TOKEN', 'withheld') + ' {TOKEN} https://u:plantedsecret@example.com')"
    environment.add(
        "leaky", files={"leaky.py": leak}, extra={"direct_url.json": '{"url": "https://plantedsecret@example.com/x.git", "vcs_info": {}}'}
    )
    done = environment.run(
        "--out", "-", "--imports", "--framework", env={"PLANTED_TOKEN": "plantedsecret", "MKL_X": TOKEN, "XLA_KEY_AUTH": "plantedsecret"}
    )
    facts = msgspec.json.decode(done.stdout.encode(), type=CollectedFacts)
    assert facts.imports == {"leaky": "RuntimeError: withheld **** https://****@example.com"}
    for text in (done.stdout, done.stderr):
        assert "plantedsecret" not in text and TOKEN not in text


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("ssh://git@example.com/x.git", "ssh://git@example.com/x.git"),
        ("ssh://git:pw@example.com/x.git", "ssh://example.com/x.git"),
        ("https://git@example.com/x.git", "https://example.com/x.git"),
        ("https://a@b@example.com:8443/x#frag", "https://example.com:8443/x"),
        ("https://${USER}:${PASSWORD}@example.com/x", "https://example.com/x"),
        ("file:///home/u/a%20b", "file:///home/u/a%20b"),
    ],
)
def test_urls_lose_their_credentials_as_in_redaction(url: str, public: str) -> None:
    assert metadata.public_url(url) == public == redaction.url(url)


# ----------------------------------------------------------------------------------------------------
# Pip


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ([], {"index_url": None, "extra_index_urls": [], "find_links": [], "no_index": False}),
        (
            [("global.index-url", "https://a.invalid"), ("install.index-url", "https://b.invalid"), ("global.extra-index-url", "\nx\ny")],
            {"index_url": "https://b.invalid", "extra_index_urls": ["x", "y"], "find_links": [], "no_index": False},
        ),
        (
            [(":env:.find-links", "/wheels"), ("global.find-links", "/other"), (":env:.no-index", "on"), ("freeze.index-url", "z")],
            {"index_url": None, "extra_index_urls": [], "find_links": ["/wheels"], "no_index": True},
        ),
        (
            [("/etc/pip.conf", {"global.index-url": "https://a.invalid"}), ("~/.pip/pip.conf", {"global.index-url": "https://b.invalid"})],
            {"index_url": "https://b.invalid", "extra_index_urls": [], "find_links": [], "no_index": False},
        ),
    ],
)
def test_effective_pip_options(items: list[tuple[str, Any]], expected: dict[str, Any]) -> None:
    assert pip_config.effective_pip_options(items) == {"cert": None, "certificates": None, **expected}


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert [hash_or_none(str(place)) for place in (tmp_path / "pipe", "/dev/zero", tmp_path)] == [None] * 3
    for place in (str(tmp_path / "pipe"), "/dev/zero"):
        for size in (-1, 1):
            assert integrity.look_at(place, record.Entry("x", "0" * 64, size), integrity.Meter(1)) is None


@pytest.mark.parametrize("size", [0, 1, 5, 6, 1 << 18, (1 << 18) + 1])
def test_a_file_is_hashed_whole_whatever_its_record_says(size: int, tmp_path: Path) -> None:
    for content in (b"", b"x", b"x" * 6, b"x" * (1 << 19)):
        (tmp_path / "file").write_bytes(content)
        entry = record.Entry("file", "0" * 64, size)
        assert integrity.look_at(str(tmp_path / "file"), entry, integrity.Meter(1)) == hashlib.sha256(content).hexdigest()


def test_pip_says_which_certificates_it_trusts_and_what_is_in_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    one, other = (f"-----BEGIN {kind}-----\n{kind}\n-----END {kind}-----\n" for kind in ("CERTIFICATE", "TRUSTED CERTIFICATE"))
    key = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"
    (tmp_path / "company.pem").write_text(f"# of the company\n{one}{key}{other}")
    items = [("global.cert", "/etc/other.pem"), (":env:.cert", "~/company.pem")]
    options = pip_config.effective_pip_options(items)
    assert (options["cert"], options["certificates"]) == (str(tmp_path / "company.pem"), one + other)

    hashed = tmp_path / "hashed"  # a directory as OpenSSL has it: a file, and a link by its hash
    (hashed / "java").mkdir(parents=True)
    (hashed / "a.pem").write_text(one)
    (hashed / "key.pem").write_text(key)
    (hashed / "0a.0").symlink_to("a.pem")
    assert pip_config.effective_pip_options([("global.cert", str(hashed))])["certificates"] == one

    gone = pip_config.effective_pip_options([("global.cert", str(tmp_path / "gone.pem"))])
    assert (gone["cert"], gone["certificates"]) == (str(tmp_path / "gone.pem"), None)
    monkeypatch.setattr(pip_config, "_CERTIFICATES_LIMIT_BYTES", 5)
    assert pip_config.effective_pip_options(items)["certificates"] is None


def test_what_could_be_imported_and_is_no_distribution_s(environment: Environment) -> None:
    environment.add("six", files={"six.py": "", "google/six/__init__.py": ""})
    for name in ("cv2/__init__.py", "stray.py", "native.cpython-311-x86_64-linux-gnu.so", "_private.py", "notes.txt", "google/other.py"):
        place = environment.site / name
        place.parent.mkdir(exist_ok=True)
        place.write_text("")
    site = str(environment.site)
    assert environment.facts().unowned == (f"{site}/cv2", f"{site}/native.cpython-311-x86_64-linux-gnu.so", f"{site}/stray.py")


def test_a_pip_that_cannot_be_asked_is_one_problem(environment: Environment) -> None:
    environment.add("pip", files={"pip/__init__.py": "", "pip/_internal/__init__.py": "raise RuntimeError('half an upgrade')"})
    facts = environment.facts()
    assert facts.pip_config is None
    assert [problem.where for problem in facts.problems] == ["pip"] and "half an upgrade" in facts.problems[0].what


# ----------------------------------------------------------------------------------------------------
# Integrity


def test_integrity_finds_edits_and_losses_and_ignores_byte_code_and_scripts(environment: Environment) -> None:
    info = environment.add("big", files={"big/a.py": "a = 1\n", "big/b.py": "b = 1\n", "big/c.py": "c = 1\n", "../../../bin/big": "#!x\n"})
    environment.add("small")
    with (info / "RECORD").open("a") as record:
        record.write("big/__pycache__/a.pyc,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\nbig/gone.txt,,\n")
    assert only(environment.facts("--integrity"), "big").modified == ("missing: big/gone.txt",)
    (environment.site / "big" / "a.py").write_text("a = 2\n")
    (environment.site / "big" / "b.py").write_text("b = 1 + 1\n")
    (environment.site / "big" / "c.py").unlink()
    (environment.root / "bin" / "big").write_text("#!y\n")
    done = environment.run("--out", "-", "--integrity")
    facts = msgspec.json.decode(done.stdout.encode(), type=CollectedFacts)
    assert only(facts, "big").modified == ("big/a.py", "big/b.py", "missing: big/c.py", "missing: big/gone.txt")
    assert only(facts, "small").modified == ()
    done_bytes, total = done.stderr.split()[1:3]
    assert done.stderr.startswith("progress ") and " bytes integrity" in done.stderr and int(done_bytes) <= int(total)


# ----------------------------------------------------------------------------------------------------
# Imports


def test_imports(environment: Environment) -> None:
    environment.add("fine", files={"fine/__init__.py": "import atexit, os\natexit.register(os.abort)\n"})
    environment.add("bad", files={"bad.py": "raise ValueError('first\\nsecond' + 'x' * 300)"})
    environment.add("exits", files={"exits.py": "import os; os._exit(3)"})
    environment.add("aborts", files={"aborts.py": "import os; os.abort()"})
    environment.add("leaves", files={"leaves.py": "raise SystemExit"})
    environment.add("late", files={"late.py": "import sys; assert 'fine' not in sys.modules"})
    environment.add("hostile", files={"antigravity.py": "raise ValueError", "tests/__init__.py": "raise ValueError"})
    imports = environment.facts("--imports").imports
    assert imports == {
        "aborts": "ProcessEnded: SIGABRT",
        "bad": "ValueError: first",
        "exits": "ProcessEnded: exit code 3",
        "fine": "",
        "late": "",
        "leaves": "SystemExit",
    }


def test_an_import_that_hangs_is_marked_and_the_next_ones_go_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hangs_here.py").write_text("import time; time.sleep(600)")
    (tmp_path / "works_here.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(imports, "IMPORT_TIMEOUT_S", 1.0)
    found = imports.probe_imports(["hangs_here", "works_here"])
    assert found.results == {"hangs_here": imports.HUNG, "works_here": ""}


# ----------------------------------------------------------------------------------------------------
# Torch

TORCH = """
import os, sys
from types import SimpleNamespace as S
__version__ = "9.9+fake"
version = S(git_version="abc", cuda=None)
cuda = S(nccl=S(version=None), is_available=lambda: False)
backends = S(cudnn=S(version=lambda: 92000, enabled=True))
float32 = "float32"
def get_float32_matmul_precision(): return "highest"
def ones(*shape, **options): {ones}
"""


def test_a_torch_that_cannot_compute_is_one_problem(environment: Environment) -> None:
    environment.add("torch", "9.9", files={"torch/__init__.py": TORCH.format(ones="raise RuntimeError('no kernel image')")})
    facts = environment.facts("--framework")
    assert facts.torch is not None and (facts.torch.version, facts.torch.git, facts.torch.cudnn) == ("9.9+fake", "abc", "9.20.0")
    assert facts.torch.flags == {"backends.cudnn.enabled": "True", "get_float32_matmul_precision": "highest"}
    assert [(item.where, item.what) for item in facts.problems] == [("torch", "exercise_one_device: RuntimeError: no kernel image")]


def test_a_torch_that_dies_is_one_problem_and_what_was_known_stays(environment: Environment) -> None:
    environment.add("torch", "9.9", files={"torch/__init__.py": TORCH.format(ones="os.abort()")})
    facts = environment.facts("--framework")
    assert facts.torch is not None and facts.torch.version == "9.9+fake" and facts.libraries == ()
    (problem,) = facts.problems
    assert problem.where == "torch" and problem.what.startswith("the probe ended with SIGABRT")


def test_a_torch_that_does_not_import_is_one_problem(environment: Environment) -> None:
    environment.add("torch", "9.9", files={"torch/__init__.py": "import not_there"})
    facts = environment.facts("--framework")
    (problem,) = facts.problems
    assert facts.torch is None
    assert problem.what == "the probe ended with exit code 1: ModuleNotFoundError: No module named 'not_there'"


TENSORFLOW = """
from types import SimpleNamespace as S
__version__ = "9.9"
version = S(GIT_VERSION="v9.9-0-gabc")
build = {"is_cuda_build": True, "cuda_version": "12.5.1", "cudnn_version": "9", "cuda_compute_capabilities": ["sm_90"]}
sysconfig = S(get_build_info=lambda: build)
def no_devices(kind): return []
config = S(experimental=S(tensor_float_32_execution_enabled=lambda: True), list_physical_devices=no_devices)
"""
PADDLE = """
from types import SimpleNamespace as S
__version__ = "9.9"
version = S(commit="abc", cuda=lambda: CUDA, cudnn=lambda: CUDNN)
def get_flags(name): return {{name: {{"FLAGS_use_mkldnn": False}}[name]}}
def get_default_dtype(): return "float32"
def is_compiled_with_cuda(): return False
"""


def test_tensorflow_is_asked_where_there_is_no_torch(environment: Environment) -> None:
    environment.add("tensorflow", "9.9", files={"tensorflow/__init__.py": TENSORFLOW})
    facts = environment.facts("--framework")
    assert facts.torch is None and facts.tensorflow is not None and facts.framework is facts.tensorflow
    found = facts.tensorflow
    assert (found.version, found.git, found.cuda, found.cudnn, found.arch_list) == ("9.9", "v9.9-0-gabc", "12.5.1", "9", ("sm_90",))
    assert found.flags == {"config.experimental.tensor_float_32_execution_enabled": "True"} and not found.cuda_available
    assert [item.where for item in facts.problems] == ["tensorflow"]  # it cannot compute


@pytest.mark.parametrize(("cuda", "expected"), [("'False'", None), ("False", None), ("'12.6'", "12.6")])
def test_paddle_is_asked_where_there_is_no_torch(environment: Environment, cuda: str, expected: str | None) -> None:
    environment.add("paddlepaddle", "9.9", files={"paddle/__init__.py": PADDLE.replace("CUDNN", cuda).replace("CUDA", cuda).format()})
    facts = environment.facts("--framework")
    assert facts.paddle is not None and facts.framework is facts.paddle
    assert (facts.paddle.version, facts.paddle.git, facts.paddle.cuda, facts.paddle.cudnn) == ("9.9", "abc", expected, expected)
    assert facts.paddle.flags == {"FLAGS_use_mkldnn": "False", "get_default_dtype": "float32"}


def test_of_several_frameworks_torch_is_asked(environment: Environment) -> None:
    environment.add("torch", "9.9", files={"torch/__init__.py": TORCH.format(ones="raise RuntimeError")})
    environment.add("tensorflow", "9.9", files={"tensorflow/__init__.py": "raise SystemExit('imported')"})
    facts = environment.facts("--framework")
    assert facts.torch is not None and (facts.tensorflow, facts.paddle) == (None, None)
    assert {item.where for item in facts.problems} == {"torch"}


def test_a_torch_that_hangs_is_one_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(framework_probe, "TIMEOUT_S", 0.5)
    problems = Problems()
    assert framework_probe.probe_framework(problems) == ("torch", None, [], {})
    assert problems.document() == [{"where": "torch", "what": "the probe did not finish within 0 s"}]


@pytest.mark.parametrize(
    ("text", "number", "expected"),
    [
        (library_versions.cudnn_text, 92000, "9.20.0"),
        (library_versions.cudnn_text, 90100, "9.1.0"),
        (library_versions.cudnn_text, 8907, "8.9.7"),
        (library_versions.cudnn_text, None, None),
        (library_versions.nccl_text, 22907, "2.29.7"),
        (library_versions.nccl_text, 2708, "2.7.8"),
        (library_versions.cuda_text, 13000, "13.0"),
        (library_versions.cuda_text, 12040, "12.4"),
    ],
)
def test_version_numbers(text: Callable[[int | None], str | None], number: int | None, expected: str | None) -> None:
    assert text(number) == expected


# ----------------------------------------------------------------------------------------------------
# System libraries


def make_elf(*, wide: bool, order: str, needed: list[str], soname: str = "", search: str = "", interpreter: str = "") -> bytes:
    """A file with an ELF header, PT_LOAD, PT_DYNAMIC and PT_INTERP, mapped 0x1000 above its offsets."""
    strings = b"\0"
    tags: list[tuple[int, int]] = []
    for tag, text in [*((1, name) for name in needed), (14, soname), (29, search)]:
        if text:
            tags.append((tag, len(strings)))
            strings += text.encode() + b"\0"
    base = 512
    tags += [(5, 0x1000 + base), (0, 0)]
    dynamic = b"".join(struct.pack(order + ("qQ" if wide else "iI"), *tag) for tag in tags)
    interp = interpreter.encode() + b"\0"
    body = strings + dynamic + interp
    segments = [
        (1, 0, base + len(body)),
        (2, base + len(strings), len(dynamic)),
        *([(3, base + len(strings) + len(dynamic), len(interp))] if interpreter else []),
    ]
    table = b"".join(
        struct.pack(order + "IIQQQQQQ", kind, 0, offset, offset + 0x1000, 0, size, size, 1)
        if wide
        else struct.pack(order + "8I", kind, offset, offset + 0x1000, 0, size, size, 0, 1)
        for kind, offset, size in segments
    )
    header = bytearray(64)
    header[:6] = b"\x7fELF" + bytes((2 if wide else 1, 1 if order == "<" else 2))
    struct.pack_into(order + "H", header, 18, 62)
    struct.pack_into(order + ("Q" if wide else "I"), header, 32 if wide else 28, 64)
    struct.pack_into(order + "HH", header, 54 if wide else 42, 56 if wide else 32, len(segments))
    return (bytes(header) + table).ljust(base, b"\0") + body


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_elf_of_every_class_and_byte_order(tmp_path: Path, wide: bool, order: str) -> None:
    data = make_elf(
        wide=wide, order=order, needed=["libGL.so.1", "libm.so.6"], soname="libx.so.2", search="$ORIGIN/../lib:/opt", interpreter="/ld"
    )
    (tmp_path / "x.so").write_bytes(data)
    elf = read_elf(str(tmp_path / "x.so"))
    assert elf is not None
    assert tuple(elf) == ((2 if wide else 1, 62), "libx.so.2", ("libGL.so.1", "libm.so.6"), ("$ORIGIN/../lib", "/opt"), "/ld")
    assert libraries.expanded(elf.search, "/a/b/x.so") == ["/a/b/../lib", "/opt"]


@given(st.integers(0, 700), st.binary(max_size=8))
def test_a_damaged_elf_is_no_elf_or_a_smaller_one_but_never_an_exception(at: int, junk: bytes) -> None:
    data = make_elf(wide=True, order="<", needed=["libGL.so.1"])
    damaged = data[:at] + junk + data[at + len(junk) :] if junk else data[:at]

    def read(size: int, offset: int) -> bytes:
        if offset < 0 or size < 0 or size > 1 << 62 or offset > 1 << 62:
            raise OSError
        return damaged[offset : offset + size]

    with contextlib.suppress(*ELF_FAULTS):
        parse_elf(read)


def extension_with_a_system_library() -> tuple[Path, str]:
    """A compiled module of this interpreter, and a soname that it needs beside the C library."""
    directory = Path(sysconfig.get_config_var("DESTSHARED") or "")
    loader = libraries.Loader()
    for path in sorted(directory.glob("*.so")):
        elf = read_elf(str(path))
        for soname in elf.needed if elf is not None else ():
            if needs.is_ordinary(soname) and "python" not in soname and loader.find(soname):
                return path, soname
    pytest.skip("this interpreter's own modules need no library but the C library")


def test_libraries_that_extensions_need_from_outside(environment: Environment) -> None:
    module, soname = extension_with_a_system_library()
    environment.add("native", files={"native/__init__.py": ""})
    extension = environment.site / "native" / f"ext{importlib.machinery.EXTENSION_SUFFIXES[0]}"
    shutil.copy(module, extension)
    with (environment.site / "native-1.0.dist-info" / "RECORD").open("a") as record:
        record.write(record_line(f"native/{extension.name}", extension.read_bytes()) + "\n")
    libraries = environment.facts().system_libraries
    (library,) = (item for item in libraries if item.soname == soname)
    assert library.needed_by == ("native",) and not library.mapped
    assert library.path == os.path.realpath(library.path or "")
    assert not any(item.soname.startswith(("libc.so", "libm.so", "ld-")) for item in libraries)
    # A copy inside the environment is what the extension will find: nothing is needed from outside then.
    (environment.site / "native" / soname).write_bytes(make_elf(wide=True, order="<", needed=[], soname=soname))
    assert soname not in {item.soname for item in environment.facts().system_libraries}


def test_owners_from_dpkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os_packages, "DPKG", str(tmp_path))
    (tmp_path / "info").mkdir()
    (tmp_path / "info" / "libgl1:amd64.list").write_text("/.\n/usr\n/usr/lib/x/libGL.so.1.7.0\n")
    (tmp_path / "info" / "zlib1g:amd64.list").write_text("/lib/x/libz.so.1.2.13\n")
    (tmp_path / "info" / "tool.list").write_text("/usr/lib/tool/libtool.so\n")
    (tmp_path / "status").write_text(
        "Package: libgl1\nStatus: install ok installed\nArchitecture: i386\nVersion: 0.9\n\n"
        "Package: libgl1\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.6.0-1\n\n"
        "Package: tool\nArchitecture: all\nVersion: 3\n\nPackage: zlib1g\nArchitecture: amd64\nVersion: 1:1.2\n"
    )
    paths = ["/usr/lib/x/libGL.so.1.7.0", "/usr/lib/x/libz.so.1.2.13", "/usr/lib/tool/libtool.so", "/opt/libmine.so"]
    assert os_packages.owners_of(paths) == {
        paths[0]: ("dpkg", "libgl1", "1.6.0-1", "amd64"),
        paths[1]: ("dpkg", "zlib1g", "1:1.2", "amd64"),
        paths[2]: ("dpkg", "tool", "3", "all"),
    }


@pytest.mark.parametrize(
    ("name", "injected", "ordinary"),
    [
        ("libcuda.so.1", True, False),
        ("libnvidia-ml.so.580.159.04", True, False),
        ("libnvidia-ptxjitcompiler.so.1", True, False),
        ("libcudart.so.13", False, True),
        ("libc.so.6", False, False),
        ("ld-linux-x86-64.so.2", False, False),
        ("libnsl.so.1", False, False),
        ("libnsl.so.2", False, True),
        ("libstdc++.so.6", False, True),
    ],
)
def test_what_the_driver_and_the_c_library_bring(name: str, injected: bool, ordinary: bool) -> None:
    assert (libraries.INJECTED.match(name) is not None) == injected
    assert needs.is_ordinary(name) == ordinary


# ----------------------------------------------------------------------------------------------------
# Manifest and expectation


def manifest_of(root: Path) -> dict[str, Any]:
    (root / "link").symlink_to("a.py")
    (root / "a.py").write_text("a")
    (root / "run.sh").write_text("b")
    (root / "run.sh").chmod(0o755)
    files = [["a.py", "100644", "a"], ["link", "120000", "a.py"], ["run.sh", "100755", "b"]]
    return {"root": str(root), "files": [[path, mode, hashlib.sha256(text.encode()).hexdigest()] for path, mode, text in files]}


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        (lambda root: root, ()),
        (lambda root: (root / "a.py").write_text("A"), ("a.py",)),
        (lambda root: (root / "a.py").unlink(), ("a.py",)),
        (lambda root: (root / "run.sh").chmod(0o644), ("run.sh",)),
        (lambda root: ((root / "link").unlink(), (root / "link").symlink_to("b")), ("link",)),
        (lambda root: ((root / "link").unlink(), (root / "link").write_text("a.py")), ("link",)),
        (lambda root: ((root / "a.py").unlink(), (root / "a.py").symlink_to("c"), (root / "c").write_text("a")), ("a.py",)),
    ],
)
def test_source_files(tmp_path: Path, change: Callable[[Path], object], differing: tuple[str, ...]) -> None:
    (tmp_path / "x").mkdir()
    manifest = manifest_of(tmp_path / "x")
    change(tmp_path / "x")
    canonical = json.dumps(manifest["files"], separators=(",", ":"), ensure_ascii=True).encode()
    assert source_files.check_source(manifest) == {
        "digest": "sha256:" + hashlib.sha256(canonical).hexdigest(),
        "differing": list(differing),
    }


@pytest.fixture
def built(environment: Environment, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """An environment with its expectation; call it to hold the two together."""
    environment.add("one", files={"one/__init__.py": "x = 1\n", "one/data.txt": "d"})
    environment.add("two", files={"two.py": ""})
    (tmp_path / "project").mkdir()
    (tmp_path / "manifest.json").write_text(json.dumps(manifest_of(tmp_path / "project")))
    facts = environment.facts("--source", str(tmp_path / "manifest.json"))
    assert facts.source_files is not None
    expected = Expected(
        packages=tuple(ExpectedPackage(name=item.name, version=item.version, files=item.files) for item in facts.distributions),
        imports=("one", "two"),
        source=facts.source_files.digest,
    )
    (tmp_path / "expected.json").write_bytes(msgspec.json.encode(expected))
    options = ["--expect", str(tmp_path / "expected.json"), "--out", "-"]
    full = ["--integrity", "--imports", "--source", str(tmp_path / "manifest.json")]
    return lambda *some: environment.run(*options, *(some or full))


def test_what_was_expected_is_there(built: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = built()
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "2 distributions, all as expected")


@pytest.mark.parametrize(
    ("sabotage", "sentence"),
    [
        (lambda env: (env.site / "one" / "data.txt").write_text("e"), "one 1.0: one/data.txt was modified"),
        (lambda env: (env.site / "one" / "data.txt").unlink(), "one 1.0: missing: one/data.txt"),
        (lambda env: (env.site / "two-1.0.dist-info").rename(env.site / "~two") and env.add("two", "1.0.1"), "two is 1.0.1, expected 1.0"),
        (lambda env: env.add("two", files={"two.py": "", "three.py": ""}), "two 1.0 has other files: sha256:"),
        (lambda env: env.add("extra"), "extra 1.0 is there and was not expected"),
        (lambda env: shutil.rmtree(env.site / "two-1.0.dist-info"), "two 1.0 is missing"),
        (
            lambda env: env.add("two", files={"two.py": "import libmissing"}),
            "import two: ModuleNotFoundError: No module named 'libmissing'",
        ),
        (lambda env: (env.root.parent / "project" / "a.py").write_text("changed"), "the project's file a.py is missing or differs"),
        (
            lambda env: (env.root.parent / "manifest.json").write_text(json.dumps({"root": str(env.root), "files": []})),
            "the manifest of the project's files is sha256:",
        ),
    ],
)
def test_every_difference_is_found(
    built: Callable[..., subprocess.CompletedProcess[str]],
    environment: Environment,
    sabotage: Callable[[Environment], object],
    sentence: str,
) -> None:
    sabotage(environment)
    done = built()
    assert done.returncode == 7
    assert any(line.startswith(sentence) for line in done.stderr.splitlines()), done.stderr
    assert done.stderr.splitlines()[-1].endswith((" difference", " differences"))
    msgspec.json.decode(done.stdout.encode(), type=CollectedFacts)


def test_expected_modules_are_imported_whether_or_not_a_distribution_names_them(environment: Environment, tmp_path: Path) -> None:
    (environment.site / "unowned.py").write_text("")
    (tmp_path / "expected.json").write_bytes(msgspec.json.encode(Expected(packages=(), imports=("unowned", "absent"))))
    done = environment.run("--out", "-", "--imports", "--expect", str(tmp_path / "expected.json"))
    assert done.returncode == 7
    assert [line for line in done.stderr.splitlines() if not line.startswith("progress")] == [
        "import absent: ModuleNotFoundError: No module named 'absent'",
        "1 difference",
    ]


def test_what_was_not_looked_at_is_a_difference(built: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = built("--integrity")
    assert done.returncode == 7
    assert "import one: not tried (--imports was not given)" in done.stderr
    assert "the project's files were not looked at (--source was not given)" in done.stderr


@pytest.mark.parametrize("option", ["--source", "--expect"])
@pytest.mark.parametrize("content", [None, "{", "[]", '{"root": "/", "files": [["a"]], "packages": [{}]}'])
def test_unreadable_inputs_are_wrong_arguments(environment: Environment, tmp_path: Path, option: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / "input.json").write_text(content)
    done = environment.run("--out", "-", option, str(tmp_path / "input.json"))
    assert done.returncode == 2 and done.stdout == ""
    assert f"cannot read {tmp_path / 'input.json'}" in done.stderr


# ----------------------------------------------------------------------------------------------------
# Whatever lies in a .dist-info

CONTENTS = st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass"))
NAMES = ("METADATA", "WHEEL", "RECORD", "direct_url.json", "INSTALLER", "top_level.txt", "REQUESTED")
DIRECT_URL = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30), lambda inner: st.dictionaries(st.text(max_size=8), inner, max_size=3)
).map(lambda value: json.dumps({"url": value} if not isinstance(value, dict) else value).encode())


@given(files=st.dictionaries(st.sampled_from(NAMES), CONTENTS), direct_url=DIRECT_URL, stem=st.sampled_from(["x-1.0", "x", "-", "ü-1"]))
def test_no_metadata_ends_the_collector(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], direct_url: bytes, stem: str
) -> None:
    site = tmp_path_factory.mktemp("site")
    info = site / f"{stem}.dist-info"
    info.mkdir()
    for name, content in {"direct_url.json": direct_url, **files}.items():
        (info / name).write_bytes(content)
    problems = Problems()
    found = read_distributions([str(site)], problems)
    msgspec.convert(problems.document(), tuple[Problem, ...])
    for item in found:
        msgspec.convert(clean({**item.facts, "conda": None}), Distribution)
        json.dumps(clean(item.facts), ensure_ascii=True).encode("ascii")


@given(value=DIRECT_URL)
def test_a_direct_url_never_keeps_a_password(value: bytes) -> None:
    document = {"url": "https://me:planted@host.example.com/x", "more": json.loads(value)}
    read = metadata.read_direct_url(json.dumps(document), "x", Problems())
    assert read is not None and "planted" not in read["url"]
