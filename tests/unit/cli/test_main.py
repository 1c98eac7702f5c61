"""The command line as scripts meet it: exit codes, one JSON document, errors of three lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from msgspec.structs import replace

from envsnap import errors, lockfile
from envsnap.cli import main
from tests import samples


def envsnap(*words: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[3])
    return subprocess.run(
        [sys.executable, "-m", "envsnap.cli.main", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root, "NO_COLOR": "1", **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )


def lock_bytes(numpy: str | None = None) -> bytes:
    """A realistic lock, with another numpy on demand."""
    lock = samples.lock()
    packages = tuple(
        replace(p, version=numpy, file=(p.file or "").replace(p.version, numpy)) if numpy and p.name == "numpy" else p
        for p in lock.packages
    )
    return lockfile.dumps(lockfile.seal(replace(lock, packages=packages)))


def error(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    document = json.loads(done.stdout)
    assert set(document) == {"error"}
    body: dict[str, object] = document["error"]
    assert set(body) == {"code", "what", "why", "hint"}
    return body


def test_exit_codes_differ_and_are_the_documented_ones() -> None:
    classes = (
        errors.EnvsnapError,
        errors.UsageError,
        errors.TargetError,
        errors.InputError,
        errors.PlanError,
        errors.EngineError,
    )
    assert [one.exit_code for one in classes] == [1, 2, 3, 4, 5, 6]
    assert (errors.EXIT_OK, errors.EXIT_NO, errors.InterruptedByUser.exit_code) == (0, 7, 130)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_help_of_each_command_ends_with_an_example(name: str, tmp_path: Path) -> None:
    done = envsnap(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout.strip().splitlines()[-1].strip().startswith("Example:") or "Example:" in done.stdout.strip().splitlines()[-2]
    for option in ("--json", "--quiet", "--verbose"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (["bild"], 2, "No such command 'bild'"),
        (["plan"], 2, "Missing argument 'LOCK'"),
        (["plan", "nowhere.yaml"], 4, "cannot read the lock nowhere.yaml"),
        (["diff", "nowhere.yaml", "other.yaml"], 4, "cannot read the lock nowhere.yaml"),
        (["capture", "--python", "nowhere/python"], 3, "nowhere/python"),
        (["capture", "--python", "/bin/true"], 3, "/bin/true"),
        (["build", "--env", "1=2", "lock.yaml"], 2, "'1=2' is not NAME=VALUE"),
        (["build", "--env", "WANDB_API_KEY=abc", "lock.yaml"], 2, "WANDB_API_KEY looks like a secret"),
        (["build", "--push", "lock.yaml"], 2, "nothing to push"),
        (["build", "-t", "BAD TAG", "lock.yaml"], 2, "BAD TAG"),
        (["capture", "--python", sys.executable, "--name", "../up"], 2, "'../up' cannot name a lock"),
        (["capture", "--python", sys.executable, "-o", "lock.txt"], 2, "a lock is a .yaml file"),
        (["verify", "lock.yaml", "--python", sys.executable, "--user", "7"], 2, "--user and --attach are of images"),
        (["diff", "lock.yaml", "lock.yaml", "--python", sys.executable], 2, "two locks were given"),
        (["capture", "--wandb", ".", "--smoke"], 2, "--wandb reads what a run wrote down"),
        (["verify", "image", "--require", "L9"], 2, "'L9' is not one of"),
    ],
)
def test_bad_input_has_its_own_sentence_and_code(words: list[str], code: int, what: str, tmp_path: Path) -> None:
    (tmp_path / "lock.yaml").write_bytes(lock_bytes())
    done = envsnap(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert what in done.stderr
    assert "Traceback" not in done.stderr
    as_json = envsnap(*words, "--json", cwd=tmp_path)
    assert as_json.returncode == code
    assert error(as_json)["code"] == code


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda data: data.replace(b"\npackages:", b"\npackges:"), "packges"),
        (lambda data: data[: len(data) // 2], "lock.yaml"),
        (lambda data: data.replace(b"digest: sha256:", b"digest: sha256:0", 1).replace(b"0\n", b"\n", 1), "digest"),
        (lambda data: b"", "empty"),
        (lambda data: b"\xff\xfe" + data, "lock.yaml"),
        (lambda data: data.replace(b"envsnap: 1", b"envsnap: 9"), "newer"),
    ],
    ids=["unknown key", "truncated", "wrong digest", "empty", "binary", "newer schema"],
)
def test_a_spoilt_lock_is_an_error_that_names_the_place(spoil: Callable[[bytes], bytes], what: str, tmp_path: Path) -> None:
    (tmp_path / "lock.yaml").write_bytes(spoil(lock_bytes()))
    done = envsnap("plan", "lock.yaml", "--base", "slim", cwd=tmp_path)
    assert done.returncode == 4, done.stderr
    assert what in done.stderr
    assert "Traceback" not in done.stderr


def test_an_engine_that_is_down_comes_before_questions_about_the_base(tmp_path: Path) -> None:
    (tmp_path / "lock.yaml").write_bytes(lock_bytes())
    words, env = ("build", "lock.yaml", "--base", "no.invalid/base", "--offline"), {"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    done = envsnap(*words, "--engine", "docker", cwd=tmp_path, env=env)
    assert done.returncode == 6
    assert "cannot reach a Docker engine" in done.stderr
    # Assembling needs none: what it cannot have is the base.
    done = envsnap(*words, cwd=tmp_path, env=env)
    assert done.returncode == 6
    assert "cannot look up no.invalid/base offline" in done.stderr
    assert not (tmp_path / "images").exists()


def test_diff_answers_no_with_seven(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(lock_bytes())
    (tmp_path / "b.yaml").write_bytes(lock_bytes(numpy="2.0.1"))
    same = envsnap("diff", "a.yaml", "a.yaml", "--json", cwd=tmp_path)
    assert (same.returncode, json.loads(same.stdout)) == (0, {"equal": True, "differences": []})
    other = envsnap("diff", "a.yaml", "b.yaml", "--json", cwd=tmp_path)
    assert other.returncode == 7
    fields = {difference["field"]: difference for difference in json.loads(other.stdout)["differences"]}
    assert fields["packages.numpy.version"]["right"] == "2.0.1"
    assert {"field", "left", "right", "grade"} <= set(fields["packages.numpy.version"])


GRADES = ("breaking", "numeric", "cosmetic")


def test_diff_can_be_told_what_to_fail_on(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(lock_bytes())
    lock = lockfile.loads(lock_bytes())
    other = replace(lock, observed=replace(lock.observed, platform=replace(lock.observed.platform, kernel="6.99.0")))
    (tmp_path / "b.yaml").write_bytes(lockfile.dumps(lockfile.seal(other)))
    codes = {
        grade: envsnap("diff", "a.yaml", "b.yaml", "-q", "--fail-on", grade, cwd=tmp_path) for grade in ("breaking", "numeric", "cosmetic")
    }
    assert {grade: done.returncode for grade, done in codes.items()} == {"breaking": 0, "numeric": 0, "cosmetic": 7}


def test_settings_come_from_file_variable_and_flag_in_that_order(tmp_path: Path) -> None:
    (tmp_path / "envsnap.toml").write_text('[build]\nbase = "slim"\n')

    def base(env: dict[str, str] | None = None) -> dict[str, str]:
        rows = json.loads(envsnap("config", "--json", cwd=tmp_path, env=env).stdout)["settings"]
        return next(row for row in rows if row["setting"] == "build.base")

    assert base() == {"setting": "build.base", "value": "slim", "source": f"file {tmp_path / 'envsnap.toml'}"}
    assert base({"ENVSNAP_BUILD_BASE": "ngc"}) == {"setting": "build.base", "value": "ngc", "source": "variable ENVSNAP_BUILD_BASE"}


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        ('[build]\nbsae = "slim"\n', "build.bsae: no such option", "did you mean 'base'?"),
        ("[biuld]\n", "no command is called 'biuld'", "did you mean 'build'?"),
        ("build = 1\n", "build must be a table", "write [build]"),
        ("[build\n", "is not valid TOML", ""),
        ('[run]\ndata = "/mnt"\n', "run.data may be given more than once", 'data = ["…"]'),
        ("[run]\ndata = [[1]]\n", "run.data has a value that cannot be typed", ""),
        ("[run]\nproject = true\n", "run.project has a value that cannot be typed", ""),
        ('[run]\nenv = {A = "1"}\n', "run.env may be given more than once", ""),
        ('[plan]\nno-pyc = "yes"\n', "plan.no-pyc is true or false, not 'yes'", ""),
        ("[run]\nprint = []\n", "run.print has a value that cannot be typed", ""),
    ],
)
def test_a_misspelt_setting_is_an_error_that_offers_the_nearest(text: str, what: str, hint: str, tmp_path: Path) -> None:
    (tmp_path / "envsnap.toml").write_text(text)
    done = envsnap("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 4
    body = error(done)
    assert what in str(body["what"])
    assert hint in str(body["hint"])


@pytest.mark.parametrize(("words", "read"), [("-- du", True), ("-- du -h", True), ("-- train.py --help", True), ("--help", False)])
def test_only_help_of_its_own_is_told_without_the_settings(words: str, read: bool, tmp_path: Path) -> None:
    """What another command is given after "--" is its own."""
    (tmp_path / "envsnap.toml").write_text("[run]\nnonsense = 1\n")
    done = envsnap("run", "nofile.yaml", "--print", *words.split(), cwd=tmp_path)
    assert ("run.nonsense: no such option" in done.stderr) == read == (done.returncode == 4), done.stderr


def test_a_number_is_what_would_be_typed(tmp_path: Path) -> None:
    (tmp_path / "envsnap.toml").write_text("[capture]\npython = 3\n")
    done = envsnap("capture", cwd=tmp_path)
    assert (done.returncode, "bug" in done.stderr) == (3, False)


@pytest.mark.parametrize(
    ("setting", "pyc"), [("pyc = false", False), ("no-pyc = true", False), ("no-pyc = false", True), ("pyc = true", True)]
)
def test_either_side_of_a_flag_is_a_setting(setting: str, pyc: bool, tmp_path: Path) -> None:
    (tmp_path / "envsnap.toml").write_text(f"[plan]\n{setting}\n")
    assert main.default_map(main.group, click.Context(main.group), tmp_path) == {"plan": {"pyc": pyc}}


def test_a_setting_reaches_its_command(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.envsnap.capture]\npython = "set/in/pyproject"\n')
    done = envsnap("capture", cwd=tmp_path)
    assert done.returncode == 3
    assert "set/in/pyproject" in done.stderr


def test_json_asked_for_by_a_setting_makes_errors_json_too(tmp_path: Path) -> None:
    done = envsnap("plan", "nowhere.yaml", cwd=tmp_path, env={"ENVSNAP_PLAN_JSON": "1"})
    assert done.returncode == 4
    assert error(done)["code"] == 4


@pytest.mark.parametrize("words", ["plan --bogus", "plan", "plan a b", "bases frob", "verify-signature", "run --bogus x -- python"])
@pytest.mark.parametrize("where", ["variable", "file"])
def test_json_asked_for_by_a_setting_makes_errors_of_parsing_json_too(words: str, where: str, tmp_path: Path) -> None:
    name = words.split(maxsplit=1)[0]
    env = {f"ENVSNAP_{name.upper().replace('-', '_')}_JSON": "on"} if where == "variable" else {}
    (tmp_path / "envsnap.toml").write_text(f"[{name}]\njson = true\n" if where == "file" else "")
    done = envsnap(*words.split(), cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert error(done)["code"] == 2


@pytest.mark.parametrize(
    ("words", "env"),
    [
        ("run --bogus foo -- python train.py --json", {}),  # the command's own
        ("plan --bogus", {"ENVSNAP_PLAN_JSON": "0"}),  # a variable comes before the file
        ("plan --bogus", {"ENVSNAP_PLAN_JSON": "maybe"}),
        ("bild", {"ENVSNAP_PLAN_JSON": "1"}),
    ],
)
def test_json_that_nobody_asked_for(words: str, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "envsnap.toml").write_text("[plan]\njson = true\n")
    done = envsnap(*words.split(), cwd=tmp_path, env=env)
    assert (done.returncode, done.stdout) == (2, "")


def test_every_option_has_the_variable_of_its_spelling(tmp_path: Path) -> None:
    rows = json.loads(envsnap("config", "--json", cwd=tmp_path, env={"ENVSNAP_BUILD_TAG": "a:1", "ENVSNAP_PLAN_ENV": "A=1"}).stdout)
    changed = {row["setting"]: row["source"] for row in rows["settings"] if row["source"] != "default"}
    assert changed == {"build.tag": "variable ENVSNAP_BUILD_TAG", "plan.env": "variable ENVSNAP_PLAN_ENV"}
    (tmp_path / "lock.yaml").write_bytes(lock_bytes())
    done = envsnap("plan", "lock.yaml", cwd=tmp_path, env={"ENVSNAP_PLAN_ENV": "1=2"})
    assert (done.returncode, "'1=2' is not NAME=VALUE" in done.stderr) == (2, True)


def settings_shown(cwd: Path, env: dict[str, str]) -> dict[str, object]:
    rows = json.loads(envsnap("config", "--json", cwd=cwd, env=env).stdout)["settings"]
    return {row["setting"]: row["value"] for row in rows}


def test_a_setting_is_shown_with_one_type_whatever_set_it(tmp_path: Path) -> None:
    variables = {"PLAN_JSON": "1", "BUILD_PYC": "0", "BUILD_TAG": "a b", "CAPTURE_SMOKE_SEED": "7", "BUILD_PROJECT": "x"}
    (tmp_path / "x").mkdir()
    by_variable = settings_shown(tmp_path, {f"ENVSNAP_{name}": value for name, value in variables.items()})
    (tmp_path / "envsnap.toml").write_text(
        '[plan]\njson = true\n[build]\npyc = false\ntag = ["a", "b"]\nproject = "x"\n[capture]\nsmoke-seed = 7\n'
    )
    by_file = settings_shown(tmp_path, {})
    assert by_variable == by_file
    told = [by_file[f] for f in ("plan.json", "build.pyc", "build.tag", "capture.smoke-seed", "build.project", "render.project")]
    assert json.dumps(told) == '[true, false, ["a", "b"], 7, "x", "."]'
    assert by_file["render.env"] == []


def test_config_shows_a_setting_that_its_command_will_refuse(tmp_path: Path) -> None:
    (tmp_path / "envsnap.toml").write_text('[build]\nca-bundle = "gone.pem"\n')
    done = envsnap("config", "--json", cwd=tmp_path, env={"ENVSNAP_CAPTURE_SMOKE_SEED": "x", "ENVSNAP_RUN_ENV": "'a"})
    rows = {row["setting"]: row["value"] for row in json.loads(done.stdout)["settings"]}
    assert (done.returncode, rows["capture.smoke-seed"], rows["run.env"]) == (0, "x", "'a")
    assert rows["build.ca-bundle"] == "gone.pem"
    assert f"build.ca-bundle, file {tmp_path / 'envsnap.toml'}: cannot read --ca-bundle" in done.stderr
    assert "capture.smoke-seed, variable ENVSNAP_CAPTURE_SMOKE_SEED: Invalid value" in done.stderr
    assert "run.env, variable ENVSNAP_RUN_ENV: Invalid value" in done.stderr


def test_config_tells_which_file_is_read_and_which_is_not(tmp_path: Path) -> None:
    own, project = tmp_path / "envsnap.toml", tmp_path / "pyproject.toml"
    project.write_text('[tool.envsnap.plan]\nbase = "slim"\n')
    alone = envsnap("config", "--json", cwd=tmp_path)
    assert [json.loads(alone.stdout)[key] for key in ("file", "not_read")] == [str(project), None]
    assert alone.stderr == ""
    own.write_text("")
    both = envsnap("config", "--json", cwd=tmp_path)
    assert [json.loads(both.stdout)[key] for key in ("file", "not_read")] == [str(own), str(project)]
    assert both.stderr == f"warning: {project} is not read: {own} comes first\n"
    project.write_text("[tool")  # not envsnap's to say, as long as it does not read it
    assert envsnap("config", cwd=tmp_path).stderr == ""


def test_a_variable_of_many_values_is_quoted_as_in_a_shell(tmp_path: Path) -> None:
    (tmp_path / "lock.yaml").write_bytes(lock_bytes())
    env = {"ENVSNAP_RENDER_ENV": "'OMP_PLACES=a b' \"NCCL_DEBUG=INFO\" 1=2"}
    assert settings_shown(tmp_path, env)["render.env"] == ["OMP_PLACES=a b", "NCCL_DEBUG=INFO", "1=2"]
    done = envsnap("render", "lock.yaml", cwd=tmp_path, env=env)
    assert (done.returncode, "'1=2' is not NAME=VALUE" in done.stderr) == (2, True)  # the others were taken
    done = envsnap("render", "lock.yaml", cwd=tmp_path, env={"ENVSNAP_RENDER_ENV": "A='b"})
    assert done.returncode == 2
    assert "Invalid value for '--env': \"A='b\" is not quoted as in a shell" in done.stderr


def test_config_tells_where_a_mirror_came_from_and_not_its_password(tmp_path: Path) -> None:
    done = envsnap("config", "--json", cwd=tmp_path, env={"ENVSNAP_APT_MIRROR": "https://user:hunter2@mirror.example.com/debian"})
    rows = {row["setting"]: row for row in json.loads(done.stdout)["settings"]}
    assert rows["build.apt-mirror"]["source"] == "variable ENVSNAP_APT_MIRROR"
    assert rows["build.apt-mirror"]["value"] == "https://****@mirror.example.com/debian"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_an_answer_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(lock_bytes())
    command = f"{sys.executable} -m envsnap.cli.main diff a.yaml a.yaml >/dev/full"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3
    assert "cannot write the answer" in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("plan nope.yaml --json >/dev/full", 4),
        ("plan nope.yaml --json >&-", 4),
        ("plan nope.yaml 2>/dev/full", 4),
        ("plan nope.yaml 2>&-", 4),
        ("plan nope.yaml -vv <&- >&- 2>&-", 4),
        ("bild --json >/dev/full", 2),
        ("diff a.yaml a.yaml >&-", 3),
        ("diff a.yaml b.yaml >/dev/full 2>&-", 3),
        ("diff a.yaml b.yaml 2>/dev/full", 7),
        ("config --json >&-", 3),
        ("--help >/dev/full", 3),
        (">/dev/full", 3),
        ("--version >/dev/full", 3),
        ("--version >&-", 3),
        ("plan --help >/dev/full", 3),
        ("plan --help 2>&-", 0),
    ],
)
def test_a_full_or_closed_stream_is_no_bug(words: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(lock_bytes())
    (tmp_path / "b.yaml").write_bytes(lock_bytes(numpy="2.0.1"))
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m envsnap.cli.main {words}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("" if "2>" in words else "error: ")
    assert not [word for word in ("Traceback", "bug", "Exception ignored") if word in done.stderr]


def test_who_stops_reading_does_not_change_the_answer(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(lock_bytes())
    (tmp_path / "b.yaml").write_bytes(lock_bytes(numpy="2.0.1"))
    command = f"{{ {sys.executable} -m envsnap.cli.main diff a.yaml b.yaml; echo $? >code; }} | true"
    subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True)
    assert (tmp_path / "code").read_text() == "7\n"
    read_end, write_end = os.pipe()
    os.close(read_end)
    for words in (["--help"], ["plan", "--help"], ["--version"]):
        assert subprocess.run([sys.executable, "-m", "envsnap.cli.main", *words], cwd=tmp_path, stdout=write_end).returncode == 0
    talk = subprocess.run([sys.executable, "-m", "envsnap.cli.main", "plan", "nope.yaml"], cwd=tmp_path, stderr=write_end)
    assert talk.returncode == 4
    os.close(write_end)


def test_a_bug_is_named_as_one_without_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(click.Group, "main", broken)
    with pytest.raises(SystemExit) as end:
        main.main(["doctor"])
    assert end.value.code == 1
    told = capsys.readouterr().err
    assert "this is a bug of envsnap" in told
    assert "ZeroDivisionError" in told
    assert "Traceback" not in told


def test_interrupted_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(click.Group, "main", interrupted)
    with pytest.raises(SystemExit) as end:
        main.main(["doctor"])
    assert end.value.code == 130


def test_ctrl_c_during_the_imports_is_told_as_later(tmp_path: Path) -> None:
    """The interrupt comes while click is being imported, which is most of the start."""
    code = """if True:
        import os, signal, sys

        class Impatient:
            def find_spec(self, name, path=None, target=None):
                if name == "click":
                    os.kill(os.getpid(), signal.SIGINT)

        sys.meta_path.insert(0, Impatient())
        from envsnap.__main__ import main
        main()
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", code, "doctor", "--json"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 130
    assert error(done)["what"] == "interrupted"
    assert "Traceback" not in done.stderr
