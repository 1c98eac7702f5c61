"""Finding the interpreter to capture, and running the collector in it."""

from __future__ import annotations

import os
import sys
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from envsnap.errors import TargetError
from envsnap.probes.interpreter import collect, find_python
from envsnap.probes.local import LocalPython
from envsnap.process import OnLine
from envsnap.progress import SILENT, Task, Unit
from envsnap.target import GuestResult, GuestScript, Target


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("venv")
    venv.create(root, with_pip=False, symlinks=True)
    return root


# ---------------------------------------------------------------------------------------------------------------------
# Which interpreter


def test_an_explicit_interpreter_or_directory(environment: Path) -> None:
    python = environment / "bin" / "python"
    assert find_python(str(python), {}) == python
    assert find_python(str(environment), {}) == python


def test_the_link_of_a_virtual_environment_is_kept(environment: Path) -> None:
    found = find_python(str(environment), {})
    assert found.is_symlink() and found != found.resolve()


def test_a_relative_path_and_a_name_on_path(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(environment)
    assert find_python("bin/python", {}) == environment / "bin" / "python"
    assert find_python("python3", {"PATH": str(environment / "bin")}) == environment / "bin" / "python3"


def test_the_active_environment_comes_before_path(environment: Path, tmp_path: Path) -> None:
    path = {"PATH": str(Path(sys.executable).parent)}
    conda = script(tmp_path / "conda" / "bin" / "python", f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert (
        find_python(None, {"VIRTUAL_ENV": str(environment), "CONDA_PREFIX": str(tmp_path / "conda"), **path})
        == environment / "bin" / "python"
    )
    assert find_python(None, {"CONDA_PREFIX": str(tmp_path / "conda"), **path}) == conda
    assert find_python(None, path) == Path(sys.executable).parent / "python3"


@pytest.mark.parametrize(
    ("make", "what", "why"),
    [
        (lambda at: at, "no such interpreter: ", ""),
        (lambda at: at.mkdir() or at, "has no bin/python", "is not a virtual or conda environment"),
        (lambda at: at.write_text("x") and at, "not executable: ", "no permission"),
        (lambda at: script(at, "#!/bin/sh\necho Python 3.11.7\n"), "not a Python: ", "does not answer"),
        (lambda at: script(at, "#!/bin/sh\nexit 3\n"), "not a Python: ", "does not answer"),
        (lambda at: script(at, "\0not a program"), "not a Python: ", "Exec format error"),
        (lambda at: script(at, "#!/bin/sh\nprintf 'envsnap-python 3 7'\n"), "Python 3.7 is too old", "3.8 or newer"),
        (lambda at: script(at, "#!/bin/sh\nprintf 'envsnap-python 2 7'\n"), "Python 2.7 is too old", "3.8 or newer"),
    ],
)
def test_what_is_no_interpreter_gets_its_own_sentence(tmp_path: Path, make: object, what: str, why: str) -> None:
    assert callable(make)
    with pytest.raises(TargetError) as caught:
        find_python(str(make(tmp_path / "it")), {})
    assert what in caught.value.what and why in caught.value.why
    assert caught.value.hint or "old" in what


def test_a_named_environment_that_is_broken_is_not_passed_over(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="has no bin/python") as caught:
        find_python(None, {"VIRTUAL_ENV": str(tmp_path), "PATH": os.environ["PATH"]})
    assert "VIRTUAL_ENV" in caught.value.why


def test_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no environment is active"):
        find_python(None, {"PATH": str(tmp_path)})


# ---------------------------------------------------------------------------------------------------------------------
# Running guest scripts


def test_a_local_python_runs_scripts_in_its_own_environment(environment: Path, tmp_path: Path) -> None:
    target: Target = LocalPython(environment / "bin" / "python", {"PATH": "/bin", "NCCL_DEBUG": "WARN"})
    assert target.description == f"python {environment}/bin/python"
    result = target.run_guest("collect", ["--out", "{out}/facts.json"], outputs=tmp_path, env={"OMP_NUM_THREADS": "2"})
    assert (result.returncode, result.outputs, result.timed_out) == (0, tmp_path, False)
    text = (tmp_path / "facts.json").read_text()
    assert '"NCCL_DEBUG":"WARN"' in text and '"OMP_NUM_THREADS":"2"' in text and f'"prefix":"{environment}"' in text


def test_an_interpreter_that_went_away(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot run"):
        LocalPython(tmp_path / "gone").run_guest("collect", [], outputs=tmp_path)


# ---------------------------------------------------------------------------------------------------------------------
# Collecting


class Recorder:
    """A `Progress` that remembers."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.totals: dict[str, int | None] = {}

    @contextmanager
    def _task(self, title: str) -> Iterator[Task]:
        yield RecordedTask(self, title)

    def task(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> AbstractContextManager[Task]:
        self.done[title], self.totals[title] = 0, total
        return self._task(title)

    def note(self, text: str) -> None: ...
    def detail(self, text: str) -> None: ...
    def warning(self, text: str) -> None: ...


class RecordedTask:
    def __init__(self, recorder: Recorder, title: str) -> None:
        self._recorder = recorder
        self._title = title

    def advance(self, amount: int) -> None:
        self._recorder.done[self._title] += amount

    def total(self, amount: int | None) -> None: ...
    def status(self, text: str) -> None: ...


class Scripted:
    """A `Target` whose script says and writes what it is told to."""

    description = "scripted"

    def __init__(self, *, document: str | None = None, returncode: int = 0, lines: Sequence[str] = ()) -> None:
        self.document = document
        self.returncode = returncode
        self.lines = lines

    def run_guest(
        self,
        script: GuestScript,
        arguments: Sequence[str],
        *,
        outputs: Path,
        inputs: Mapping[str, Path] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        on_line: OnLine | None = None,
    ) -> GuestResult:
        for line in self.lines:
            if on_line is not None:
                on_line("stderr", line)
        if self.document is not None:
            (outputs / "facts.json").write_text(self.document)
        return GuestResult(returncode=self.returncode, outputs=outputs, log="\n".join(self.lines))


def test_collect_reads_the_document_and_forwards_progress(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    info = next((tmp_path / "env").glob("lib/*/site-packages")) / "pkg-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: pkg\nVersion: 1\n")
    (info / "RECORD").write_text("pkg-1.dist-info/METADATA,,21\npkg.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\nnot.py,,\n")
    (info.parent / "pkg.py").write_text("")
    (tmp_path / "manifest.json").write_text('{"root": "/nowhere", "files": [["a", "100644", "00"]]}')
    recorder = Recorder()
    target = LocalPython(tmp_path / "env" / "bin" / "python")
    facts = collect(target, framework=True, imports=True, integrity=True, source=tmp_path / "manifest.json", progress=recorder)
    assert facts.distributions[0].modified == ("missing: not.py",)
    assert facts.imports == {"pkg": ""}
    assert facts.source_files is not None and facts.source_files.differing == ("a",)
    assert recorder.totals["imports"] == 1


def test_progress_lines_become_tasks_and_other_lines_do_not(tmp_path: Path) -> None:
    lines = [
        "progress 10 100 bytes integrity",
        "progress 60 100 bytes integrity",
        "progress half done",
        "progress x y bytes z",
        "progress 1 2 steps imports six",
    ]
    recorder = Recorder()
    with pytest.raises(TargetError):
        collect(Scripted(lines=lines), framework=False, imports=False, integrity=True, progress=recorder)
    assert recorder.done == {"integrity": 60, "imports": 1}
    assert recorder.totals == {"integrity": 100, "imports": 2}


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (
            Scripted(returncode=1, lines=["Traceback", "KeyError: https://user:pw@example.com/", "progress 1 2 bytes x"]),
            "KeyError: https://****@example.com/",
        ),
        (Scripted(returncode=1), "ended without a word"),
        (Scripted(), "the collector's document"),
        (Scripted(document="{"), "the collector's document"),
        (Scripted(document='{"schema": 1}'), "missing required field"),
    ],
)
def test_a_collector_that_fails_is_a_target_error(target: Scripted, why: str) -> None:
    with pytest.raises(TargetError, match="cannot read scripted") as caught:
        collect(target, framework=False, imports=False, integrity=False, progress=SILENT)
    assert why in caught.value.why and "user:pw" not in caught.value.log


def test_an_unknown_key_in_the_document_is_refused(environment: Path, tmp_path: Path) -> None:
    LocalPython(environment / "bin" / "python").run_guest("collect", ["--out", "{out}/facts.json"], outputs=tmp_path)
    document = (tmp_path / "facts.json").read_text().replace('"schema":1', '"schema":1,"surprise":2')
    with pytest.raises(TargetError) as caught:
        collect(Scripted(document=document), framework=False, imports=False, integrity=False, progress=SILENT)
    assert "surprise" in caught.value.why
