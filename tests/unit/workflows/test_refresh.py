"""bases refresh, asked of a registry on loopback: what it proposes, what it skips, and how it stops."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from envsnap import catalog
from envsnap.catalog import rows
from envsnap.cli import main
from envsnap.errors import EngineError, InterruptedByUser, UsageError
from envsnap.oci.documents import OCI_INDEX
from envsnap.progress import SILENT, Progress
from envsnap.registry.client import Registry
from envsnap.registry.patience import Patience
from envsnap.workflows.refresh import refresh
from tests.fakes import images, registry
from tests.fakes.registry import FakeRegistry

KNOWN = catalog.load()
DAY = "2031-12-31"  # when the releases that are made up here are out
FAST = Patience(attempts=2, first_attempts=1, pause_s=0.01, connect_s=1, read_s=1)
ROW = KNOWN.named("nvcr.io/nvidia/pytorch:26.06-py3")[0]
ENV = {"NVIDIA_PYTORCH_VERSION": "26.06", "CUDA_VERSION": "13.3.0.035", "NCCL_VERSION": "2.30.4", "PYTORCH_VERSION": "2.13.0a0+8145d63"}


@pytest.fixture
def server() -> Iterator[FakeRegistry]:
    with registry.running() as running:
        yield running


@pytest.fixture
def client() -> Iterator[Registry]:
    client = Registry({"DOCKER_CONFIG": "/nonexistent"}, patience=FAST)
    yield client
    client.close()


def put(server: FakeRegistry, name: str, env: dict[str, str], *, index: bool = True) -> str:
    """An image with these variables under a name, for both machines where it has an index."""
    repository, _, tag = name.partition(":")
    config = {"Env": [f"{key}={value}" for key, value in env.items()]}
    entries = []
    for architecture in ("amd64", "arm64"):
        made = images.image(b"layer", architecture=architecture, config=config)
        server.blobs |= {(repository, digest): data for digest, data in made.blobs.items()}
        found = (made.manifest.media_type, made.manifest.raw)
        for key in (made.manifest.digest, tag) if architecture == "amd64" else (made.manifest.digest,):
            server.manifests[repository, key] = found
        entries.append({**made.manifest.descriptor.document(), "platform": {"os": "linux", "architecture": architecture}})
    if index:
        raw = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
        server.manifests[repository, tag] = (OCI_INDEX, raw)
    return f"{server.address}/{name}"


def test_an_image_that_says_more_than_its_row(server: FakeRegistry, client: Registry) -> None:
    name = put(server, "mirror/pytorch:26.06-py3", {**ENV, "CUDNN_VERSION": "9.99.0.1", "CUDA_DRIVER_VERSION": "610.43.02"})
    found = refresh([name], None, client, SILENT, day=DAY)
    (asked,) = found.asked
    assert (asked.row, found.skipped) == (ROW, ())
    assert asked.proposed.cudnn == "9.99.0.1"
    assert asked.proposed.pull_bytes == len(b"layer")
    said = {one.field: one.standing for one in asked.statements}
    assert said == {
        "release": "as catalogued",
        "cuda": "as catalogued",
        "cudnn": "contradicts",
        "nccl": "as catalogued",
        "torch": "as catalogued",
        "driver_bundled": "as catalogued",
        "arches": "as catalogued",
        "pull_bytes": "fills",
    }
    assert '+  cudnn: "9.99.0.1"\n' in found.diff
    assert f"image config of {name}@{asked.digest}, {DAY}; 9.23.0.39 before (aligned" in found.diff


def test_a_release_that_the_catalogue_lacks_is_a_new_row(server: FakeRegistry, client: Registry) -> None:
    name = put(server, "pytorch:31.01-py3", {**ENV, "NVIDIA_PYTORCH_VERSION": "31.01"}, index=False)
    found = refresh([name], None, client, SILENT, day=DAY)
    (asked,) = found.asked
    assert asked.row is None
    new = asked.proposed
    assert (new.reference, new.release, new.as_of, new.cuda) == ("nvcr.io/nvidia/pytorch:31.01-py3", "31.01", DAY, "13.3.0")
    assert new.arches == ("x86_64",)
    assert all(new.evidence_for(field) for field in new.values if field not in ("reference", "release"))
    assert '+- reference: "nvcr.io/nvidia/pytorch:31.01-py3"' in found.diff


def test_what_cannot_be_asked_is_named_and_the_others_are_asked(server: FakeRegistry, client: Registry) -> None:
    there = put(server, "pytorch:26.06-py3", ENV)
    plain = put(server, "python:3.12", {"PYTHON_VERSION": "3.12.3"})
    gone, closed = f"{server.address}/pytorch:26.05-py3", "127.0.0.1:1/pytorch:26.06-py3"
    found = refresh([gone, closed, there, plain], None, client, SILENT, day=DAY)
    assert [one.reference for one in found.asked] == [there]
    skipped = {one.reference: one.why for one in found.skipped}
    assert list(skipped) == [gone, closed, plain]
    assert skipped[gone] == f"{server.address} has no pytorch:26.05-py3"
    assert "does not answer" in skipped[closed]
    assert "NVIDIA" in skipped[plain]


def test_an_image_of_another_release_changes_no_row(server: FakeRegistry) -> None:
    put(server, "nvidia/pytorch:26.06-py3", {**ENV, "NVIDIA_PYTORCH_VERSION": "26.05"})
    client = Registry({"DOCKER_CONFIG": "/nonexistent"}, mirrors={"nvcr.io": [server.address]}, patience=FAST)
    with pytest.raises(EngineError) as raised:
        refresh([ROW.reference], None, client, SILENT, day=DAY)
    assert "NVIDIA_PYTORCH_VERSION is 26.05" in raised.value.why
    client.close()


def test_when_nobody_answers_a_registry_is_not_waited_for_again_and_again(client: Registry) -> None:
    references = [f"127.0.0.1:1/pytorch:{number}" for number in range(200)]
    asked: list[str] = []
    resolve = client.resolve

    def counting(reference: str, *, machine: str) -> Any:
        asked.append(reference)
        return resolve(reference, machine=machine)

    client.resolve = counting  # type: ignore[method-assign]
    with pytest.raises(EngineError, match="any of 200 images"):
        refresh(references, None, client, SILENT, day=DAY)
    assert 0 < len(asked) < 100


def test_a_family_a_release_and_words_that_are_none(server: FakeRegistry) -> None:
    put(server, "nvidia/tensorflow:22.03-tf1-py3", {"NVIDIA_TENSORFLOW_VERSION": "22.03-tf1", "TENSORFLOW_VERSION": "1.15.5"})
    client = Registry({"DOCKER_CONFIG": "/nonexistent"}, mirrors={"nvcr.io": [server.address]}, patience=FAST)
    found = refresh(["22.03"], "tensorflow", client, SILENT, day=DAY)
    assert [one.reference for one in found.asked] == ["nvcr.io/nvidia/tensorflow:22.03-tf1-py3"]
    assert found.skipped == ()
    for word in ("99.99", "no such name"):
        with pytest.raises(UsageError):
            refresh([word], None, client, SILENT, day=DAY)
    client.close()


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue of one release."""
    monkeypatch.setattr(catalog, "load", lambda: replace(KNOWN, releases=(ROW,)))


def test_releases_that_are_newer_or_missing_are_found(server: FakeRegistry, few: None) -> None:
    put(server, "nvidia/pytorch:26.06-py3", ENV)
    for release in ("31.01", "31.12", "19.05"):
        put(server, f"nvidia/pytorch:{release}-py3", {**ENV, "NVIDIA_PYTORCH_VERSION": release})
    put(server, "nvidia/pytorch:31.02-py3", {**ENV, "NVIDIA_PYTORCH_VERSION": "31.01"})
    put(server, "nvidia/pytorch:31.03-py3", {"PYTHON_VERSION": "3.12"})
    put(server, "nvidia/pytorch:31.04-py3", {"NVIDIA_TENSORFLOW_VERSION": "31.04-tf2"})
    for tag in ("latest", "31.05-py3-igpu", "32.01-py3", "31.13-py3", "31.05", "x31.05-py3", "31.05-tf2-py3"):
        put(server, f"nvidia/pytorch:{tag}", ENV)
    server.page = 2
    client = Registry({"DOCKER_CONFIG": "/nonexistent"}, mirrors={"nvcr.io": [server.address]}, patience=FAST)
    found = refresh([], "pytorch", client, SILENT, day=DAY)
    client.close()
    at = "nvcr.io/nvidia/pytorch:"
    assert [one.reference.removeprefix(at) for one in found.asked] == ["26.06-py3", "31.12-py3", "31.01-py3", "19.05-py3"]
    assert {one.reference.removeprefix(at): one.why for one in found.skipped} == {
        "31.02-py3": "it says that it is of another release: NVIDIA_PYTORCH_VERSION is 31.01",
        "31.03-py3": "it does not say that it is one of NVIDIA's images for a framework",
        "31.04-py3": "it says that it is of another release: NVIDIA_TENSORFLOW_VERSION is 31.04-tf2",
    }
    new = found.asked[1]
    assert (new.row, new.proposed.release, new.proposed.cuda, new.proposed.python) == (None, "31.12", "13.3.0", None)
    assert new.proposed.evidence_for("cuda") == f"image config of {at}31.12-py3@{new.digest}, {DAY}"
    assert found.diff.count("+- reference: ") == 3 and f'+- reference: "{at}19.05-py3"' in found.diff


def test_each_family_has_its_form_of_tags(server: FakeRegistry, few: None) -> None:
    put(server, "nvidia/tensorflow:31.01-tf2-py3", {"NVIDIA_TENSORFLOW_VERSION": "31.01-tf2", "TENSORFLOW_VERSION": "2.30.0"})
    put(server, "nvidia/tensorflow:31.01-py3", {"NVIDIA_TENSORFLOW_VERSION": "31.01"})
    put(server, "nvidia/paddlepaddle:31.01-py3", {"CUDA_VERSION": "13.9.0.001"})  # says nowhere what it is
    put(server, "nvidia/pytorch:26.06-py3", ENV)
    client = Registry({"DOCKER_CONFIG": "/nonexistent"}, mirrors={"nvcr.io": [server.address]}, patience=FAST)
    found = refresh([], None, client, SILENT, day=DAY)
    client.close()
    new = {one.proposed.reference.removeprefix("nvcr.io/nvidia/"): one.proposed for one in found.asked if one.row is None}
    assert list(new) == ["tensorflow:31.01-tf2-py3", "paddlepaddle:31.01-py3"] and found.skipped == ()
    assert (new["tensorflow:31.01-tf2-py3"].tensorflow, new["paddlepaddle:31.01-py3"].cuda) == ("2.30.0", "13.9.0")


def test_where_the_list_is_denied_the_known_rows_are_asked_for(
    server: FakeRegistry, client: Registry, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = put(server, "nvidia/pytorch:26.06-py3", ENV)
    monkeypatch.setattr(catalog, "load", lambda: replace(KNOWN, releases=(replace(ROW, reference=name),)))
    monkeypatch.setattr("envsnap.catalog.images.repository_of", lambda family: f"{server.address}/nvidia/{family}")
    server.lists = False
    found = refresh([], "pytorch", client, SILENT, day=DAY)
    assert [one.reference for one in found.asked] == [name]
    (skipped,) = found.skipped
    assert skipped.reference == f"{server.address}/nvidia/pytorch"
    assert skipped.why == f"new releases are not looked for: {server.address} denies access to nvidia/pytorch"


def test_a_registry_that_lists_nothing_is_not_waited_for_again(client: Registry, few: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "load", lambda: replace(KNOWN, releases=(replace(ROW, reference="127.0.0.1:1/nvidia/pytorch:26.06-py3"),)))
    monkeypatch.setattr("envsnap.catalog.images.repository_of", lambda family: f"127.0.0.1:1/nvidia/{family}")
    monkeypatch.setattr(client, "resolve", lambda *_, **__: pytest.fail("it was asked again"))
    with pytest.raises(EngineError, match=r"nothing was told of 127\.0\.0\.1:1/nvidia/pytorch:26\.06-py3"):
        refresh([], None, client, SILENT, day=DAY)


class Interrupting:
    """Progress that is interrupted at its first step."""

    @contextmanager
    def task(self, title: str, **more: object) -> Iterator[Any]:  # the protocol's
        yield self

    def advance(self, amount: int) -> None:  # the protocol's
        raise InterruptedByUser("interrupted")


def test_an_interruption_ends_what_is_under_way() -> None:
    stopped, asked = threading.Event(), []

    class Slow:
        def resolve(self, reference: str, *, machine: str) -> Any:  # the client's
            asked.append(reference)
            if len(asked) > 1:
                stopped.wait(10)
            raise EngineError("no")

        def answers(self, reference: str) -> bool:  # the client's
            return True

        def close(self) -> None:
            stopped.set()

    references = [f"example.com/pytorch:{number}" for number in range(50)]
    with pytest.raises(InterruptedByUser):
        refresh(references, None, cast("Registry", Slow()), cast("Progress", Interrupting()), day=DAY)
    assert stopped.is_set()
    assert len(asked) < 30


# ---- the command


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)

    def bases(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main.main(["bases", *words])
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return bases


def test_stdout_is_the_diff_alone_and_it_applies(server: FakeRegistry, run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    name = put(server, "pytorch:26.06-py3", {**ENV, "CUDNN_VERSION": "9.99.0.1"})
    code, out, err = run("refresh", name, f"{server.address}/gone:1")
    assert code == 0
    assert out.startswith("--- a/envsnap/catalog/data/ngc-pytorch.yaml\n")
    assert f"skipped {server.address}/gone:1: {server.address} has no gone:1" in err
    assert "cudnn is 9.99.0.1 (CUDNN_VERSION); the catalogue says 9.23.0.39" in err
    for family in rows.FAMILIES:
        (tmp_path / rows.path(family)).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / rows.path(family)).write_text(rows.text(family), encoding="utf-8")
    subprocess.run(["git", "apply", "--check", "-"], cwd=tmp_path, input=out.encode(), check=True)
    code, told, _ = run("refresh", name, "-o", "change.diff")
    assert (code, (tmp_path / "change.diff").read_text()) == (0, out)
    assert told.startswith("wrote change.diff   1 row to change")
    code, document, _ = run("refresh", name, "--json")
    assert json.loads(document)["diff"] == out
    assert json.loads(document)["images"][0]["proposed"]["cudnn"] == "9.99.0.1"


def test_nothing_to_change_is_nothing_on_stdout(
    server: FakeRegistry, client: Registry, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = put(server, "pytorch:26.06-py3", ENV)
    (asked,) = refresh([name], None, client, SILENT, day=DAY).asked
    releases = [asked.proposed if row == ROW else row for row in KNOWN.of_family("pytorch")]
    texts = {family: rows.text(family) for family in rows.FAMILIES} | {"pytorch": rows.with_rows(rows.text("pytorch"), releases)}
    monkeypatch.setattr(rows, "text", lambda family: texts[family])
    monkeypatch.setattr(catalog, "load", lambda: replace(KNOWN, releases=tuple(releases)))
    code, out, err = run("refresh", name)
    assert (code, out) == (0, "")
    assert "0 filled, 0 contradicted: nothing to change" in err


def test_when_none_answered(server: FakeRegistry, run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("refresh", f"{server.address}/gone:1")[0] == 6
    assert json.loads(run("refresh", f"{server.address}/gone:1", "--json")[1])["error"]["code"] == 6


MISPLACED = [("list", "--deep"), ("inspect", "x:1", "--family", "pytorch"), ("list", "-o", "x"), ("refresh", "99.99")]


@pytest.mark.parametrize("words", MISPLACED)
def test_options_that_are_for_something_else(run: Callable[..., tuple[int, str, str]], words: tuple[str, ...]) -> None:
    assert run(*words)[0] == 2
