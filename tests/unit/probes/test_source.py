"""The source probe on real git repositories."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from envsnap.blobs import BlobStore
from envsnap.errors import InputError
from envsnap.lockfile import dumps
from envsnap.model.lock import LockedFile, LockedSource
from envsnap.probes import source, untracked
from envsnap.probes.git import GitError, Repository
from envsnap.progress import Silent
from tests import samples
from tests.fakes.secrets import PLANTED

IDENTITY = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@example.com",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@example.com",
    "GIT_ALLOW_PROTOCOL": "file",
}


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IDENTITY.items():
        monkeypatch.setenv(name, value)


class Project:
    """A repository under test, beside the store of its lock."""

    def __init__(self, root: Path, blobs: BlobStore) -> None:
        self.root = root
        self.blobs = blobs
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str) -> str:
        return subprocess.run(("git", *arguments), cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def commit(self, files: Mapping[str, str | bytes] | None = None) -> str:
        self.write(files or {})
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "x")
        return self.git("rev-parse", "HEAD")

    def read(self, *editables: Path, project: Path | None = None) -> source.SourceProbe:
        return source.read_source(project or self.root, editables, self.blobs, "demo")


Materialised = Callable[[source.SourceProbe], Path]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "demo.blobs")


@pytest.fixture
def project(tmp_path: Path, blobs: BlobStore) -> Project:
    return Project(tmp_path / "project", blobs)


@pytest.fixture
def materialised(tmp_path: Path, blobs: BlobStore) -> Materialised:
    def write(probe: source.SourceProbe) -> Path:
        assert probe.source is not None
        destination = tmp_path / "out"
        source.materialise(probe.source, blobs, probe.root if probe.source.commit else None, destination)
        return destination

    return write


def files_of(directory: Path) -> dict[str, tuple[str, str]]:
    """Everything below a directory but .git, as the manifest sees it."""
    return {path: (mode, digest) for path, mode, digest in source.manifest(directory) if ".git" not in Path(path).parts}


# What travels


def test_a_clean_commit(project: Project, materialised: Materialised) -> None:
    commit = project.commit({"train.py": "print()\n", "pkg/__init__.py": ""})
    probe = project.read()

    assert probe.source is not None
    assert (probe.source.commit, probe.source.branch, probe.source.dirty, probe.source.patch) == (commit, "main", False, None)
    assert (probe.root, probe.problems) == (project.root, ())
    assert files_of(materialised(probe)) == files_of(project.root)


def test_every_kind_of_change_travels(project: Project, materialised: Materialised) -> None:
    binary = bytes(range(256)) * 8
    project.commit(
        {"edit.py": "a\n" * 50, "delete.py": "x", "old name.py": "moved\n" * 9, "mode.sh": "#!/bin/sh\n", "blob.bin": binary, "keep": "k"}
    )
    project.write(
        {"edit.py": "a\n" * 49 + "b", "blob.bin": binary[::-1], "neu/ü mlaut.py": "new", "staged.py": "s", "sp ace/\ttab": b"left"}
    )
    (project.root / "delete.py").unlink()
    (project.root / "old name.py").rename(project.root / "new name.py")
    (project.root / "mode.sh").chmod(0o755)
    (project.root / "tool").write_text("#!/bin/sh\n")
    (project.root / "tool").chmod(0o755)
    (project.root / "keep").unlink()
    (project.root / "keep").symlink_to("edit.py")
    (project.root / "link").symlink_to("/mnt/data")
    project.git("add", "staged.py", "new name.py")
    probe = project.read()

    assert probe.source is not None
    assert probe.source.dirty
    assert [problem.what for problem in probe.problems] == ["left out: the name cannot be written in a lock"]
    (project.root / "sp ace/\ttab").unlink()
    out = materialised(probe)
    assert files_of(out) == files_of(project.root)
    assert (out / "link").readlink() == Path("/mnt/data")
    assert os.access(out / "tool", os.X_OK)


def test_archive_attributes_filters_and_line_ends_take_no_part(project: Project, materialised: Materialised, tmp_path: Path) -> None:
    project.commit(
        {
            ".gitattributes": "secret.py export-ignore\nv.py export-subst\n*.bat text eol=crlf\n*.flt filter=evil diff=evil\n*.id ident\n",
            "secret.py": "needed",
            "v.py": "v = '$Format:%H$'\n",
            "run.bat": "a\nb\n",
            "x.flt": "one\n",
            "y.id": "$Id$\n",
        }
    )
    witness = tmp_path / "ran"
    for key in (
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "diff.evil.command",
        "diff.evil.textconv",
        "core.fsmonitor",
    ):
        project.git("config", key, f"touch {witness};")
    project.git("config", "filter.evil.required", "true")
    project.write({"x.flt": "two\n", "run.bat": "a\r\nc\r\n", "y.id": "$Id: 123 $\nmore\n"})
    out = materialised(project.read())

    assert (out / "secret.py").read_text() == "needed"
    assert (out / "v.py").read_text() == "v = '$Format:%H$'\n"
    assert (out / "x.flt").read_text() == "two\n"
    assert (out / "run.bat").read_bytes() == b"a\nc\n"
    assert (out / "y.id").read_text() == "$Id$\nmore\n"
    assert not witness.exists()


def test_the_witness_of_the_filter_test_can_fail(project: Project, tmp_path: Path) -> None:
    project.commit({".gitattributes": "* filter=evil\n", "x": "one\n"})
    project.git("config", "filter.evil.clean", f"touch {tmp_path / 'ran'}; cat")
    project.write({"x": "two\n"})
    project.git("diff", "HEAD")
    assert (tmp_path / "ran").exists()


def test_user_settings_do_not_change_the_patch(project: Project) -> None:
    project.commit({"a.py": "x\n" * 30, "ü.py": "1\n"})
    project.write({"a.py": "x\n" * 15 + "y\n" + "x\n" * 15, "ü.py": "2\n"})
    plain = project.read().source
    for key, value in {
        "diff.noprefix": "true",
        "diff.context": "9",
        "core.quotePath": "false",
        "diff.algorithm": "histogram",
        "color.ui": "always",
    }.items():
        project.git("config", key, value)
    assert project.read().source == plain


def test_ignored_files_stay_behind(project: Project) -> None:
    project.commit({".gitignore": "runs/\n*.pt\n", "a.py": ""})
    project.write({".envsnapignore": "scratch/\n", "runs/1/log": "x", "best.pt": "x", "scratch/notes": "x", "new.py": "x"})
    found = project.read().source
    assert found is not None
    assert [file.path for file in found.untracked] == [".envsnapignore", "new.py"]


def test_the_environment_of_the_project_is_never_packed(project: Project) -> None:
    project.commit({"a.py": ""})
    project.write(
        {".venv/pyvenv.cfg": "home = /usr", ".venv/lib/site.py": "x", "conda/conda-meta/history": "", "conda/lib/x.py": "x", "b.py": ""}
    )
    found = project.read().source
    assert found is not None
    assert [file.path for file in found.untracked] == ["b.py"]


def test_what_python_needs_of_an_editable_although_git_ignores_it(project: Project) -> None:
    project.commit({".gitignore": "*.so\n_version.py\nbuild/\nnotes.py\n", "pyproject.toml": "", "src/pkg/__init__.py": ""})
    project.write(
        {"src/pkg/_ext.so": b"ELF\0", "src/pkg/_version.py": "v = 1", "build/lib/pkg/_ext.so": b"ELF\0", "notes.py": "", "other.so": b"\0"}
    )

    plain, found = project.read().source, project.read(project.root / "src").source
    assert plain is not None and found is not None
    assert plain.untracked == ()
    assert [file.path for file in found.untracked] == ["src/pkg/_ext.so", "src/pkg/_version.py"]


def test_a_nested_repository_travels_as_files(project: Project, materialised: Materialised) -> None:
    project.commit({"a.py": ""})
    inner = Project(project.root / "vendor/yolo", project.blobs)
    inner.commit({".gitignore": "*.log\n", "yolo.py": "1"})
    inner.write({"yolo.py": "2", "more.py": "", "x.log": ""})
    out = materialised(project.read())
    assert sorted(files_of(out)) == ["a.py", "vendor/yolo/.gitignore", "vendor/yolo/more.py", "vendor/yolo/yolo.py"]
    assert (out / "vendor/yolo/yolo.py").read_text() == "2"


def test_submodules_with_their_own_changes(project: Project, materialised: Materialised, tmp_path: Path) -> None:
    leaf, library = Project(tmp_path / "leaf", project.blobs), Project(tmp_path / "library", project.blobs)
    leaf.commit({"leaf.py": "leaf"})
    library.commit({"lib.py": "1\n"})
    library.git("submodule", "add", "-q", str(leaf.root), "deep/leaf")
    library.commit()
    project.commit({"a.py": ""})
    project.git("submodule", "add", "-q", str(library.root), "third/library")
    project.git("submodule", "update", "-q", "--init", "--recursive")
    project.commit()
    project.write({"third/library/lib.py": "2\n", "third/library/new.py": "new"})
    probe = project.read()

    assert probe.source is not None
    first, second = probe.source.submodules
    assert (first.path, second.path) == ("third/library", "third/library/deep/leaf")
    assert first.patch is not None and second.patch is None
    assert [file.path for file in first.untracked] == ["new.py"]
    assert first.remote == str(library.root)
    assert probe.source.patch is None and probe.source.untracked == ()
    assert files_of(materialised(probe)) == files_of(project.root)


def test_git_lfs_content_travels_where_it_is_at_hand(project: Project, materialised: Materialised) -> None:
    def pointer(data: bytes) -> str:
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\nsize {len(data)}\n"

    checked_out, stored, edited, gone = b"a" * 5000, b"b" * 5000, b"c" * 5000, b"d" * 5000
    project.commit(
        {"a.bin": pointer(checked_out), "b.bin": pointer(stored), "c.bin": pointer(edited), "d.bin": pointer(gone), "e.bin": pointer(gone)}
    )
    name = hashlib.sha256(stored).hexdigest()
    project.write({"a.bin": checked_out, "c.bin": b"edited", f".git/lfs/objects/{name[:2]}/{name[2:4]}/{name}": stored})
    (project.root / "e.bin").unlink()
    probe = project.read()

    assert probe.source is not None
    assert [file.path for file in probe.source.lfs] == ["a.bin", "b.bin"]
    assert [(problem.where, problem.what[:35]) for problem in probe.problems] == [("d.bin", "its git-lfs content is not at hand:")]
    out = materialised(probe)
    assert (out / "a.bin").read_bytes() == checked_out
    assert (out / "b.bin").read_bytes() == stored
    assert (out / "c.bin").read_bytes() == b"edited"
    assert (out / "d.bin").read_text() == pointer(gone)
    assert not (out / "e.bin").exists()


def test_lfs_content_that_vanished_is_refused(project: Project, materialised: Materialised) -> None:
    data = b"a" * 5000
    project.commit({"a.bin": f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(data).hexdigest()}\nsize 5000\n"})
    project.write({"a.bin": data})
    probe = project.read()
    project.write({"a.bin": b"b" * 5000})
    with pytest.raises(InputError, match=r"git-lfs content of a\.bin"):
        materialised(probe)


# What is said of it


def test_a_detached_head_has_no_branch(project: Project) -> None:
    project.git("checkout", "-q", "--detach", project.commit({"a": ""}))
    found = project.read().source
    assert found is not None and found.branch is None


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("https://me:hunter2@example.com/a/b.git", "https://example.com/a/b.git"),
        ("git@example.com:a/b.git", "git@example.com:a/b.git"),
        ("ssh://git@example.com/a/b", "ssh://git@example.com/a/b"),
    ],
)
def test_the_remote_without_credentials(project: Project, address: str, kept: str) -> None:
    project.commit({"a": ""})
    project.git("remote", "add", "upstream", address)
    found = project.read().source
    assert found is not None and found.remote == kept


def test_origin_is_preferred_and_of_several_others_none(project: Project) -> None:
    project.commit({"a": ""})
    project.git("remote", "add", "one", "https://example.com/one")
    project.git("remote", "add", "two", "https://example.com/two")
    without = project.read().source
    project.git("remote", "add", "origin", "https://example.com/three")
    found = project.read().source
    assert without is not None and without.remote is None
    assert found is not None and found.remote == "https://example.com/three"


def test_a_directory_inside_the_repository_is_the_same_project(project: Project) -> None:
    project.commit({"sub/a.py": "", "b.py": ""})
    assert project.read(project=project.root / "sub") == project.read()


def test_reading_changes_nothing(project: Project) -> None:
    project.commit({"a.py": "1", "b.py": "2"})
    os.utime(project.root / "a.py", (1, 1))  # git would love to refresh its index
    project.write({"b.py": "3", "new": ""})

    def state() -> dict[str, tuple[int, bytes]]:
        return {str(path): (path.lstat().st_mtime_ns, path.read_bytes()) for path in project.root.rglob("*") if path.is_file()}

    before = state()
    project.read()
    assert state() == before
    project.git("status")
    assert state() != before


def test_two_reads_are_equal(project: Project) -> None:
    project.commit({"a.py": "1"})
    project.write({"a.py": "2", "new": "x", "other": "y"})
    assert project.read() == project.read()


@pytest.mark.parametrize("place", ["lockfiles/demo", "lockfiles/other", "demo", "deep/er/x"])
def test_a_second_capture_does_not_see_the_first(project: Project, place: str) -> None:
    project.commit({"a.py": "1", "fine.yaml": "rate: 1\n"})
    project.write({"new.py": "", "fine.yaml": "rate: 2\n", "lockfiles/mine.yaml": "rate: 3\n"})
    first = project.read()
    assert first.source is not None and [file.path for file in first.source.untracked] == ["lockfiles/mine.yaml", "new.py"]
    project.write({f"{place}.yaml": dumps(samples.lock()), f"{place}.blobs/sha256/{'0' * 64}": "x"})
    project.write({"images/demo/Dockerfile": "", "images/demo/lock.yaml": "", "images/demo/source/a.py": ""})
    assert project.read() == first
    project.git("add", "-A", f"{place}.yaml", f"{place}.blobs")
    assert project.read() == first


def test_a_hook_that_starts_us_does_not_steer_us(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project.commit({"a.py": "1"})
    other = Project(tmp_path / "other", project.blobs)
    other.commit({"b.py": ""})
    expected = project.read()
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git/index"))
    assert project.read() == expected


# What is not git


def test_no_repository_and_no_editable_is_no_source(tmp_path: Path, blobs: BlobStore) -> None:
    (tmp_path / "plain").mkdir()
    assert source.read_source(tmp_path / "plain", [tmp_path], blobs, "demo") == source.SourceProbe()


@pytest.mark.parametrize("initialised", [False, True])
def test_without_a_commit_the_editables_are_the_source(
    tmp_path: Path, blobs: BlobStore, materialised: Materialised, initialised: bool
) -> None:
    root = tmp_path / "plain"
    names = ["pkg/src/mod/__init__.py", "pkg/pyproject.toml", "pkg/build/lib/mod.py", "pkg/src/mod/build/__init__.py", "data.csv"]
    names += ["pkg/.venv/pyvenv.cfg", "pkg/.venv/x.py", "pkg/src/mod/__pycache__/a.pyc", "pkg/src/mod.egg-info/PKG-INFO"]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    if initialised:
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    probe = source.read_source(root, [root / "pkg", root / "pkg/src"], blobs, "demo")

    assert probe.source is not None and probe.root == root
    assert probe.source.commit is None and probe.source.dirty
    assert sorted(files_of(materialised(probe))) == ["pkg/pyproject.toml", "pkg/src/mod/__init__.py", "pkg/src/mod/build/__init__.py"]


def test_a_repository_that_git_refuses_is_a_problem(project: Project) -> None:
    project.commit({"a.py": ""})
    (project.root / ".git/HEAD").write_text("nonsense")
    probe = project.read()
    assert probe.source is None
    assert probe.problems[0].where == "git"


def test_no_git_program_is_a_problem(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    probe = project.read()
    assert probe.source is None
    assert "git: No such file" in probe.problems[0].what


def test_a_work_tree_elsewhere_is_refused(project: Project, tmp_path: Path) -> None:
    project.commit({"a.py": ""})
    (tmp_path / "elsewhere").mkdir()
    project.git("config", "core.worktree", str(tmp_path / "elsewhere"))
    assert project.read().source is None


# Secrets and sizes

TOKEN = "ghp_" + "a1B2" * 9


def test_files_that_look_like_secrets_stay_and_are_named(project: Project) -> None:
    project.commit({"a.py": ""})
    named = [".env", ".env.local", "certs/key.pem", "id_rsa", ".netrc", "credentials.json"]
    project.write(
        dict.fromkeys(named, "x") | {"notes.py": f"token = '{TOKEN}'", ".env.example": "KEY=", "fine.py": "url = f'http://{user}@host'"}
    )
    probe = project.read()

    assert probe.source is not None
    assert [file.path for file in probe.source.untracked] == [".env.example", "fine.py"]
    assert sorted(probe.withheld) == sorted([*named, "notes.py"])
    assert {problem.where for problem in probe.problems} == set(probe.withheld)


def test_a_token_in_a_change_leaves_that_change_behind(project: Project, materialised: Materialised) -> None:
    project.commit({"train.py": "key = None\n", "other.py": "1\n"})
    project.write({"train.py": f"key = '{TOKEN}'\n", "other.py": "2\n"})
    probe = project.read()

    assert list(probe.withheld) == ["train.py"]
    out = materialised(probe)
    assert (out / "train.py").read_text() == "key = None\n"
    assert (out / "other.py").read_text() == "2\n"
    assert not any(TOKEN.encode() in path.read_bytes() for path in project.blobs.root.rglob("*") if path.is_file())


def test_a_line_that_says_so_holds_no_secret(project: Project) -> None:
    project.commit({"train.py": "key = None\n"})
    allowed = f"key = '{TOKEN}'  # pragma: allowlist secret\n"
    project.write({"train.py": allowed, "new.py": allowed})
    probe = project.read()
    assert probe.source is not None and not probe.withheld
    assert probe.source.patch is not None and [file.path for file in probe.source.untracked] == ["new.py"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (f"key = '{TOKEN}'\n", "key = None\n"),
        (b"\0" + TOKEN.encode(), b"\0none"),
        (f"key = '{TOKEN}'\n".encode("utf-16"), "key = None\n".encode("utf-16")),
    ],
)
def test_a_change_that_takes_a_secret_away_travels_without_it(
    project: Project, materialised: Materialised, before: str | bytes, after: str | bytes
) -> None:
    project.commit({"train.py": before, "other.py": "1\n"})
    project.write({"train.py": after, "other.py": "2\n"})
    probe = project.read()
    assert (probe.withheld, probe.problems) == ({}, ())
    assert files_of(materialised(probe)) == files_of(project.root)
    assert not tokens_below(project.blobs.root) and not tokens_below(materialised(probe))


def test_a_secret_beside_a_change_leaves_it_behind(project: Project) -> None:
    project.commit({"train.py": f"key = '{TOKEN}'\nrate = 1\n"})
    project.write({"train.py": f"key = '{TOKEN}'\nrate = 2\n"})
    assert list(project.read().withheld) == ["train.py"] and not tokens_below(project.blobs.root)


def test_a_secret_in_a_compressed_change_leaves_it_behind(project: Project) -> None:
    project.commit({"state.bin": b"\0" * 99, "fine.bin": b"\0" * 99})
    project.write({"state.bin": b"\0" * 99 + TOKEN.encode(), "fine.bin": b"\0" * 98})
    probe = project.read()
    assert probe.source is not None and probe.source.patch is not None
    assert list(probe.withheld) == ["state.bin"]
    assert b"fine.bin" in project.blobs.read(probe.source.patch) and b"state.bin" not in project.blobs.read(probe.source.patch)


def tokens_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize("value", PLANTED.values(), ids=PLANTED)
def test_every_kind_is_found_in_a_commit(project: Project, value: str) -> None:
    project.commit({"a.py": "", "b.py": f"one = 1\nkey = '{value}'\n"})
    [problem] = project.read().problems
    assert problem.where == "b.py" and "line 2" in problem.what


def test_what_is_committed_is_named_and_stays(project: Project) -> None:
    project.commit({"a.py": f"one = 1\nkey = '{TOKEN}'\n", "b.py": f"key = '{TOKEN}'  # pragma: allowlist secret\n", "c.py": ""})
    problems = {problem.where: problem.what for problem in project.read().problems}
    assert list(problems) == ["a.py"] and "line 2: GitHub Token" in problems["a.py"] and TOKEN not in problems["a.py"]


def test_envsnapignore_keeps_files_out(project: Project) -> None:
    project.commit({".envsnapignore": "data/\n*.bin\n!keep.bin\n", "a.py": ""})
    project.write({"data/large.csv": "1", "x.bin": "x", "keep.bin": "x", "new.py": ""})
    probe = project.read()
    assert probe.source is not None
    assert [file.path for file in probe.source.untracked] == ["keep.bin", "new.py"] and probe.problems == ()


@pytest.mark.parametrize("kind", ["no git", "no commit", "commit"])
def test_what_to_ignore_is_the_same_with_and_without_git(project: Project, kind: str) -> None:
    ignore = {".gitignore": "data/\n*.so\ngen*.py\n", ".envsnapignore": "out/\ngen_large.py\n"}
    if kind == "commit":
        project.commit({"README": ""})
    elif kind == "no git":
        shutil.rmtree(project.root / ".git")
    project.write({"pkg/pyproject.toml": "", "pkg/mod/__init__.py": ""} | ignore)
    project.write(dict.fromkeys(["pkg/data/big.csv", "pkg/out/x", "pkg/mod/fast.so", "pkg/mod/gen.py", "pkg/mod/gen_large.py"], ""))
    probe = project.read(project.root / "pkg")
    assert probe.source is not None and probe.problems == ()
    files = [file.path for file in probe.source.untracked if file.path not in ignore]
    assert files == ["pkg/mod/__init__.py", "pkg/mod/fast.so", "pkg/mod/gen.py", "pkg/pyproject.toml"]


def test_what_is_not_in_git_is_listed_before_it_is_packed(project: Project) -> None:
    notes: list[str] = []

    details: list[str] = []

    class Noting(Silent):
        def detail(self, text: str) -> None:
            details.append(text.split(maxsplit=1)[0])

        def note(self, text: str) -> None:
            assert notes or not any(project.blobs.root.rglob("*"))  # nothing is kept yet
            notes.append(text)

    project.commit({"a.py": ""})
    secret = {"new.py": f"key = '{TOKEN}'"}
    project.write({f"f{number}.py": "x" * number for number in range(1, 9)} | {"big.csv": "x" * 200_000, "g.py": "x" * 1200} | secret)
    source.read_source(project.root, [], project.blobs, "x", Noting())
    assert notes[0].startswith("not in git, and packed: 10 files, 0.2 MB: big.csv (0.2 MB), g.py (1.2 kB), f8.py (8 B)")
    assert notes[0].endswith("and 4 more") and details == ["f4.py", "f3.py", "f2.py", "f1.py"]  # none is named that stays behind


def test_a_secret_that_is_written_while_files_are_packed_stays_too(project: Project) -> None:
    class Late(Silent):
        def note(self, text: str) -> None:
            project.write({"new.py": f"key = '{TOKEN}'"})

    project.commit({"a.py": ""})
    project.write({"new.py": "x"})
    probe = source.read_source(project.root, [], project.blobs, "x", Late())
    assert probe.source is not None and probe.source.untracked == ()
    assert list(probe.withheld) == ["new.py"]


def test_large_files_stay_behind_by_name_and_code_goes_first(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untracked, "FILE_LIMIT_BYTES", 1000)
    monkeypatch.setattr(untracked, "TOTAL_LIMIT_BYTES", 1500)
    project.commit({"a": ""})
    project.write({"huge.bin": b"x" * 1001, "aa.jpg": b"x" * 900, "bb.jpg": b"x" * 901, "zz.py": b"x" * 300})
    probe = project.read()

    assert probe.source is not None
    assert [file.path for file in probe.source.untracked] == ["aa.jpg", "zz.py"]
    assert [problem.where for problem in probe.problems] == ["huge.bin", "source"]
    assert probe.problems[1].what.startswith("1 left out, the largest")


# Hostile locks


def changed(probe: source.SourceProbe, **fields: object) -> LockedSource:
    assert probe.source is not None
    return msgspec.structs.replace(probe.source, **fields)


def test_a_changed_blob_is_refused(project: Project, materialised: Materialised) -> None:
    project.commit({"a.py": "1\n"})
    project.write({"a.py": "2\n"})
    probe = project.read()
    assert probe.source is not None and probe.source.patch is not None
    project.blobs.path(probe.source.patch).write_bytes(b"changed")
    with pytest.raises(InputError, match="was changed"):
        materialised(probe)


def test_files_that_are_not_the_captured_ones_are_refused(project: Project, tmp_path: Path) -> None:
    project.commit({"a.py": "1\n"})
    draft = changed(project.read(), files="sha256:" + "1" * 64)
    with pytest.raises(InputError, match="not those that were captured"):
        source.materialise(draft, project.blobs, project.root, tmp_path / "out")


@pytest.mark.parametrize(
    "patch",
    [
        "--- /dev/null\n+++ b/../outside\n@@ -0,0 +1 @@\n+x\n",
        "--- /dev/null\n+++ b/.git/hooks/post-checkout\n@@ -0,0 +1 @@\n+x\n",
        "--- /dev/null\n+++ b//etc/outside\n@@ -0,0 +1 @@\n+x\n",
        "--- /dev/null\n+++ b/link/outside\n@@ -0,0 +1 @@\n+x\n",
        "not a patch",
    ],
)
def test_a_hostile_patch_is_refused(project: Project, tmp_path: Path, patch: str) -> None:
    (project.root / "link").symlink_to(tmp_path)
    project.commit({"a.py": "1\n"})
    draft = changed(project.read(), patch=project.blobs.put(patch.encode()))
    with pytest.raises(InputError):
        source.materialise(draft, project.blobs, project.root, tmp_path / "out")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "path", ["../outside", "/outside", "a/../../outside", ".git/config", "sub/.GIT/config", "link/outside", "a.py/x", "x//y"]
)
def test_a_hostile_path_is_refused(project: Project, tmp_path: Path, path: str) -> None:
    (project.root / "link").symlink_to(tmp_path)
    project.commit({"a.py": "1\n"})
    file = LockedFile(path=path, blob=project.blobs.put(b"x"))  # structs do not check what was not decoded
    with pytest.raises(InputError, match="refused"):
        source.materialise(changed(project.read(), untracked=(file,)), project.blobs, project.root, tmp_path / "out")
    assert not (tmp_path / "outside").exists()


def test_a_hostile_tree_object_is_refused(project: Project, tmp_path: Path) -> None:
    project.commit({"a.py": "1\n"})
    probe = project.read()
    blob = bytes.fromhex(project.git("hash-object", "-w", "a.py"))
    (tmp_path / "tree").write_bytes(b"100644 ..\0" + blob)
    tree = project.git("hash-object", "-t", "tree", "-w", "--literally", str(tmp_path / "tree"))
    commit = project.git("commit-tree", tree, "-m", "x")
    with pytest.raises(InputError, match="refused"):
        source.materialise(changed(probe, commit=commit), project.blobs, project.root, tmp_path / "out")


# Finding the commit again


def test_the_first_repository_that_has_the_commit(project: Project, tmp_path: Path) -> None:
    found = project.commit({"a.py": ""})
    other = Project(tmp_path / "other", project.blobs)
    other.commit({"b.py": ""})
    locked = LockedSource(name="demo", files="sha256:" + "0" * 64, commit=found)
    assert source.find_repository(locked, [tmp_path / "gone", other.root, project.root], tmp_path / "cache") == project.root


def test_the_commit_is_fetched_with_its_submodules(project: Project, tmp_path: Path) -> None:
    library = Project(tmp_path / "library", project.blobs)
    library.commit({"lib.py": "1"})
    project.commit({"a.py": ""})
    project.git("submodule", "add", "-q", str(library.root), "library")
    project.commit()
    project.git("remote", "add", "origin", project.root.as_uri())
    project.write({"a.py": "dirty"})
    probe = project.read()
    assert probe.source is not None
    expected = files_of(project.root)
    project.write({"a.py": ""})
    project.commit({"later.py": ""})

    store = source.find_repository(probe.source, [], tmp_path / "cache")
    source.materialise(probe.source, project.blobs, store, tmp_path / "out")
    assert files_of(tmp_path / "out") == expected
    project.root.rename(tmp_path / "moved")
    assert source.find_repository(probe.source, [], tmp_path / "cache") == store


@pytest.mark.parametrize(
    "remote", ["ext::sh -c true", "-upload-pack=x", "http://example.invalid/x", "ssh://-oProxyCommand=x/y", "-x:y", "fd::3", "../x"]
)
def test_remotes_that_must_not_be_asked(tmp_path: Path, remote: str) -> None:
    locked = LockedSource(name="demo", files="sha256:" + "0" * 64, commit="1" * 40, remote=remote)
    with pytest.raises(InputError, match="not at hand") as caught:
        source.find_repository(locked, [], tmp_path / "cache")
    assert "is not an https, ssh, git or file address" in caught.value.why
    assert "--no-source" in caught.value.hint


def test_a_remote_without_the_commit(project: Project, tmp_path: Path) -> None:
    project.commit({"a.py": ""})
    locked = LockedSource(name="demo", files="sha256:" + "0" * 64, commit="1" * 40, remote=str(project.root))
    with pytest.raises(InputError, match="111111111111 is not at hand"):
        source.find_repository(locked, [], tmp_path / "cache")


def test_a_missing_object_is_named(project: Project) -> None:
    files = Repository(project.root).tree(project.commit({"a.py": "1"}))
    (project.root / ".git/objects" / files[0].object[:2] / files[0].object[2:]).unlink()
    with pytest.raises(GitError, match=r"of 'a\.py' is missing"):
        list(Repository(project.root).contents(files))
