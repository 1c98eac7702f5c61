"""run and export as people and scripts meet them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from envsnap import process
from envsnap.cli import main
from envsnap.engines.docker import DockerEngine
from envsnap.model.facts import GpuFacts
from envsnap.workflows import local, run, this_host
from tests.fakes import layered

NAME = "registry.example.com/vision/yolo:1"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, and an image in a cache of its own; no engine answers, and there is no GPU."""
    (tmp_path / "yolo").mkdir()
    monkeypatch.chdir(tmp_path / "yolo")
    monkeypatch.setenv("ENVSNAP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setattr("os.getgid", lambda: 100)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(this_host, "_gpus", lambda: GpuFacts(unavailable="no NVIDIA driver"))
    image, _, _ = layered.make_image(tmp_path / "cache/blobs")
    local.remember(image, [NAME], tmp_path / "cache", place="registry")
    return tmp_path


def envsnap(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main.main(words)
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


def test_print_is_for_a_shell(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = envsnap(
        capsys, "run", NAME, "--print", "-p", "8888:8888", "--", "python", "train.py", "--name", "it's", "-p", "--json"
    )
    assert code == 0
    assert out.startswith("docker run --rm --init --interactive \\\n    --ipc=host \\\n    --ulimit memlock=-1 --ulimit stack=67108864")
    assert out.endswith(f"{NAME} python train.py --name 'it'\"'\"'s' -p --json\n")  # what follows -- is the command's
    assert "--user 1000:100" in out and f"source={home}/yolo,target=/workspace/yolo" in out
    assert "GPUs: none" in err


def test_print_as_a_document(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")
    code, out, err = envsnap(capsys, "run", "--json", "--print", NAME, "--gpus", "all", "--no-project", "--", "true")
    document = json.loads(out)
    assert (code, document["gpus"], document["user"], document["mounts"], document["passed"]) == (
        0,
        "all",
        "1000:100",
        [],
        ["WANDB_API_KEY"],
    )
    assert document["argv"][:2] == ["docker", "run"] and document["argv"][-2:] == [NAME, "true"]
    assert "0123456789abcdef" not in out + err


@pytest.mark.parametrize("words", [("run", NAME, "--print"), ("export", NAME, "--format", "compose")])
def test_text_for_another_program_is_whole_however_quiet(home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    _, loud, said = envsnap(capsys, *words)
    code, out, err = envsnap(capsys, *words, "-q")
    assert (code, out, err) == (0, loud, "") and out and said


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("run",), 2, "Missing argument"),
        (
            ("run", NAME, "python", "train.py", "--epochs", "3"),
            2,
            "No such option '--epochs'. Options of the command that is to run follow after --",
        ),
        (("run", NAME, "--print", "nvidia-smi", "-q"), 2, "There are options among the words of 'nvidia-smi'"),
        (("run", NAME, "--print", "python", "-p", "80", "--", "x"), 2, "There are options among the words of 'python'"),
        (("run", NAME), 6, "cannot reach a Docker engine"),
        (("run", NAME, "--json"), 2, "--print --json"),
        (("run", "nowhere.yaml", "--print"), 4, "cannot read the lock"),
        (("run", NAME, "--print", "--gpus", "some"), 2, "--gpus some: not understood"),
        (("run", NAME, "--print", "--data", "nowhere"), 3, "there is no"),
        (("run", NAME, "--print", "--project", ".", "--no-project"), 2, "leave one of the two out"),
        (("run", NAME, "--print", "--env", "HF_TOKEN=hf_x"), 2, "looks like a secret"),
        (("export", NAME), 2, "Missing option '--format'"),
        (("export", NAME, "--format", "helm"), 2, "'helm' is not one of 'compose', 'devcontainer', 'k8s', 'slurm'"),
        (("export", NAME, "--format", "slurm"), 2, "which command"),
        (("export", NAME, "--format", "compose", "-o", "."), 2, "is a directory"),
    ],
)
def test_what_is_refused(home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, what: str) -> None:
    found, out, err = envsnap(capsys, *words)
    assert (found, what in out + err) == (code, True), err
    assert "docker run" not in out


def test_the_command_becomes_docker(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the environment that the values of variables are in, and after every check."""
    became: list[Any] = []
    monkeypatch.setattr(DockerEngine, "require", lambda _: None)
    monkeypatch.setattr(DockerEngine, "root", lambda _: ("/var/lib/docker", True))
    monkeypatch.setattr(DockerEngine, "is_rootless", lambda _: False)
    monkeypatch.setattr(DockerEngine, "takes", lambda *_: True)
    monkeypatch.setattr(run, "_for_engine", lambda *_: NAME)
    monkeypatch.setattr("shutil.which", lambda *_, **__: "/usr/bin/docker")
    monkeypatch.setattr(process, "become", lambda argv, env: became.append((argv, env["WANDB_MODE"])))
    monkeypatch.setenv("WANDB_MODE", "offline")
    envsnap(capsys, "run", NAME, "--", "true")
    ((argv, mode),) = became
    assert argv[:2] == ["docker", "run"] and argv[-2:] == [NAME, "true"] and mode == "offline"
    assert "--tty" not in argv and argv[argv.index("--env") + 1 :].count("WANDB_MODE") == 1


def test_export_to_a_file(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = envsnap(capsys, "export", NAME, "--format", "compose", "-o", "deploy/compose.yaml", "--", "python", "train.py")
    assert (code, out) == (0, "wrote deploy/compose.yaml\n")
    service = yaml.safe_load((home / "yolo/deploy/compose.yaml").read_text())["services"]["yolo"]
    assert service["image"].startswith(f"{NAME}@sha256:") and service["command"] == ["python", "train.py"]
    assert service["volumes"][0]["source"] in ("..", "./..")


def test_what_was_there_before(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file it is said that it goes; a link still leads to it; anything else is left alone."""
    words = ("export", NAME, "--format", "k8s", "-o")
    (home / "job.yaml").write_text("mine")
    Path("link.yaml").symlink_to(home / "job.yaml")
    assert "link.yaml was there, and is replaced" in envsnap(capsys, *words, "link.yaml")[2]
    assert yaml.safe_load((home / "job.yaml").read_text())["kind"] == "Job" and Path("link.yaml").is_symlink()
    assert "replaced" not in envsnap(capsys, *words, "link.yaml")[2] + envsnap(capsys, *words, "new.yaml")[2]
    os.mkfifo("pipe")
    Path("to-pipe").symlink_to("pipe")
    for name in ("pipe", "to-pipe"):
        code, _, err = envsnap(capsys, *words, name)
        assert (code, "what is there is no file" in err) == (2, True)
    assert Path("pipe").is_fifo() and Path("to-pipe").is_symlink()
    Path("round").symlink_to("round")
    assert envsnap(capsys, *words, "round")[0] == 0 and Path("round").is_file()


def test_export_as_a_document(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = envsnap(capsys, "export", NAME, "--format", "k8s", "--json")
    document = json.loads(out)
    assert (code, document["format"], document["file"], document["warnings"]) == (0, "k8s", None, [])
    assert yaml.safe_load(document["text"])["kind"] == "Job"
    code, out, _ = envsnap(capsys, "export", NAME, "--format", "k8s", "-o", "job.yaml", "--json")
    assert json.loads(out)["file"] == "job.yaml" and (home / "yolo/job.yaml").is_file()


@pytest.mark.parametrize(
    "words",
    [(NAME, "--", "bash", "-q"), (NAME, "bash", "x"), (NAME, "bash", "--", "-q"), ("--", NAME, "-q"), (NAME, "--gpus", "none", "--")],
)
def test_a_command_is_whole(home: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, _ = envsnap(capsys, "run", "--print", *words)
    command = [word for word in words if word not in (NAME, "--", "--gpus", "none")]
    assert (code, out.split()[out.split().index(NAME) + 1 :]) == (0, command)


def test_the_variables_of_print_and_format(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As the options are spelt."""
    monkeypatch.setenv("ENVSNAP_RUN_PRINT", "1")
    monkeypatch.setenv("ENVSNAP_EXPORT_FORMAT", "k8s")
    assert envsnap(capsys, "run", NAME)[1].startswith("docker run")
    assert "kind: Job" in envsnap(capsys, "export", NAME)[1]


def test_a_flag_is_stronger_than_a_file(home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("envsnap.toml").write_text('[run]\nproject = "."\n')
    assert "--mount" in envsnap(capsys, "run", NAME, "--print")[1]
    assert "--mount" not in envsnap(capsys, "run", NAME, "--print", "--no-project")[1]
    monkeypatch.setenv("ENVSNAP_RUN_NO_PROJECT", "1")
    assert "--mount" not in envsnap(capsys, "run", NAME, "--print")[1]
    assert "--mount" in envsnap(capsys, "run", NAME, "--print", "--project", ".")[1]


def completed(words: str) -> str:
    """What a shell is told of the last of them."""
    env = {"_ENVSNAP_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    return CliRunner(env=env).invoke(main.group, prog_name="envsnap").output.strip()


@pytest.mark.parametrize("before", ["run x", "run x bash"])
def test_directories_are_completed(before: str) -> None:
    assert completed(f"envsnap {before} --gpus 1 --data /m") == "dir,/m"


@pytest.mark.parametrize(
    "before",
    ["plan", "verify", "run", "push", "save", "export", "relock", "bases import", "capture --python", "diff --python", "verify --python"],
)
def test_files_are_completed_wherever_one_may_stand(before: str) -> None:
    assert completed(f"envsnap {before} lock") == "file,lock"
