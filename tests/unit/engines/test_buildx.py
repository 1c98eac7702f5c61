"""Composing BuildKit's arguments and reading its plain progress."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envsnap.engines import buildx
from envsnap.engines.buildx import Builder, BuildLog, Failed, Finished, Printed, Started

BUILDX, CLASSIC = Builder(kind="buildx", version="0.13.1"), Builder(kind="classic", version="20.10.24")


def command(builder: Builder, secrets: dict[str, Path] | None = None, *, network: bool = True) -> tuple[str, ...]:
    return buildx.build_command(
        builder,
        Path("/c"),
        platform="linux/amd64",
        secrets=secrets or {},
        network=network,
        image_file=Path("/s/id"),
        metadata_file=Path("/s/meta"),
    )


def test_buildx_is_asked_at_the_engine_itself_without_provenance_or_name() -> None:
    assert command(BUILDX) == (
        *("docker", "buildx", "build", "--builder", "default", "--provenance=false", "--metadata-file", "/s/meta"),
        *("--progress=plain", "--platform", "linux/amd64", "--iidfile", "/s/id", "/c"),
    )


def test_a_classic_command_line_gets_only_what_it_knows() -> None:
    assert command(CLASSIC) == ("docker", "build", "--progress=plain", "--platform", "linux/amd64", "--iidfile", "/s/id", "/c")


@pytest.mark.parametrize("builder", [BUILDX, CLASSIC])
def test_secrets_are_named_in_a_fixed_order(builder: Builder) -> None:
    words = command(builder, {"pip": Path("/p"), "ca": Path("/a b")})
    assert [words[at + 1] for at, word in enumerate(words) if word == "--secret"] == ["id=ca,src=/a b", "id=pip,src=/p"]


@pytest.mark.parametrize("builder", [BUILDX, CLASSIC])
def test_steps_can_be_kept_from_the_network(builder: Builder) -> None:
    assert "--network" not in command(builder)
    words = command(builder, network=False)
    assert words[words.index("--network") + 1] == "none" and words[-1] == "/c"


def test_only_a_classic_builder_needs_to_be_told() -> None:
    assert buildx.build_environment(BUILDX, {"A": "1"}) == {"A": "1"}
    assert buildx.build_environment(CLASSIC, {"A": "1"}) == {"A": "1", "DOCKER_BUILDKIT": "1"}


@pytest.mark.parametrize(
    ("image", "metadata", "ids", "config"),
    [
        (None, None, (), None),
        ("sha256:c\n", None, ("sha256:c",), None),
        ("sha256:c", {"containerimage.digest": "sha256:c", "containerimage.config.digest": "sha256:c"}, ("sha256:c",), "sha256:c"),
        (
            "sha256:c",
            {"containerimage.digest": "sha256:m", "containerimage.config.digest": "sha256:c"},
            ("sha256:m", "sha256:c"),
            "sha256:c",
        ),
    ],
    ids=["nothing", "classic builder", "engine's own store", "containerd store"],
)
def test_what_was_built(
    tmp_path: Path, image: str | None, metadata: dict[str, str] | None, ids: tuple[str, ...], config: str | None
) -> None:
    if image is not None:
        (tmp_path / "id").write_text(image, encoding="ascii")
    if metadata is not None:
        (tmp_path / "meta").write_text(json.dumps(metadata), encoding="ascii")
    assert buildx.read_result(tmp_path / "id", tmp_path / "meta") == buildx.BuildResult(image_ids=ids, config_digest=config)


@pytest.mark.parametrize(
    ("said", "version"),
    [("github.com/docker/buildx v0.13.1 788433953af1", "0.13.1"), ("github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3", "0.13.1+ds1")],
)
def test_the_plugin_says_its_version(said: str, version: str) -> None:
    assert buildx.parse_buildx_version(said) == Builder(kind="buildx", version=version)


@pytest.mark.parametrize("said", ["", "docker: 'buildx' is not a docker command.", "podman version 4.3.1"])
def test_what_is_no_plugin(said: str) -> None:
    assert buildx.parse_buildx_version(said) is None


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("Docker version 20.10.24+dfsg1, build 297e128", "20.10.24+dfsg1"),
        ("Docker version 28.2.2, build e6534b4", "28.2.2"),
        ("podman version 4.3.1", None),
    ],
)
def test_the_command_line_says_its_version(said: str, version: str | None) -> None:
    assert buildx.parse_client_version(said) == version


@pytest.mark.parametrize(
    ("client", "has"),
    [("17.06.0", False), ("18.06.1", False), ("18.09.0", True), ("19.03.5", True), ("20.10.24+dfsg1", True), ("23.0.1", False)],
)
def test_which_command_lines_have_buildkit_built_in(client: str, has: bool) -> None:
    assert (buildx.built_in(client) is not None) is has


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("#5 [2/9] RUN apt-get install x", Started(5, "[2/9] RUN apt-get install x", "", (2, 9))),
        ("#5 [stage-1  2/9] RUN true", Started(5, "[stage-1  2/9] RUN true", "stage-1", (2, 9))),
        ("#1 [internal] load build definition from Dockerfile", Started(1, "[internal] load build definition from Dockerfile")),
        ("#5 12.345 Collecting torch", Printed(5, "Collecting torch")),
        ("#5 12.345 ", Printed(5, "")),
        ("#5 DONE 0.3s", Finished(5)),
        ("#5 CACHED", Finished(5)),
        ("#5 ERROR: exit code: 1", Finished(5, "exit code: 1")),
        ("#5 CANCELED", None),
        ("#11 exporting layers 8.5s done", None),
        ("ERROR: failed to solve: x", Failed("failed to solve: x")),
        ("", None),
        ("------", None),
        ("Dockerfile:2", None),
    ],
)
def test_one_line_of_progress(line: str, event: buildx.Event | None) -> None:
    assert buildx.parse_line(line) == event


@given(st.text())
def test_no_line_is_too_strange(line: str) -> None:
    BuildLog().read(line)


def read(text: str) -> BuildLog:
    log = BuildLog()
    for line in text.splitlines():
        log.read(line)
    return log


FAILURE = """#0 building with "default" instance using docker driver
#1 [internal] load build definition from Dockerfile
#1 DONE 0.0s
#4 [1/3] FROM example.com/base
#4 CACHED
#5 [2/3] RUN echo before; exit 3
#5 0.129 before
#5 0.130
#5 0.131 the reason
#5 ERROR: process "/bin/sh -c exit 3" did not complete successfully: exit code: 3
------
 > [2/3] RUN echo before; exit 3:
0.129 before
------
ERROR: failed to solve: process "/bin/sh -c exit 3" did not complete successfully: exit code: 3
"""


def test_a_failing_step_speaks_for_itself() -> None:
    log = read(FAILURE)
    assert log.failed_step == "[2/3] RUN echo before; exit 3"
    assert log.failing_output == ("before", "the reason")
    assert log.error == 'process "/bin/sh -c exit 3" did not complete successfully: exit code: 3'
    assert log.tail(1).startswith("ERROR: failed to solve")


def test_a_failure_without_a_step() -> None:
    log = read("ERROR: failed to solve: dockerfile parse error on line 2: unknown instruction: RUUN")
    assert log.failed_step == ""
    assert log.failing_output == ()
    assert log.error == "failed to solve: dockerfile parse error on line 2: unknown instruction: RUUN"


def test_of_a_long_line_both_ends_are_kept() -> None:
    log = read(f'#5 [2/3] RUN x\n#5 ERROR: process "{"x" * 2000}" did not complete successfully: exit code: 7')
    assert log.error.startswith('process "xxx')
    assert log.error.endswith("exit code: 7")
    assert len(log.error) < 600


def test_of_a_step_with_many_mounts_what_it_does_is_kept() -> None:
    mounts = "--mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt     " * 9
    log = read(f"#5 [2/3] RUN {mounts}python3 -m pip install\n#5 ERROR: exit code: 1")
    assert log.failed_step == f"[2/3] RUN {mounts}python3 -m pip install"


@pytest.mark.parametrize("before", [220, 240, 250, 480])
def test_a_cut_leaves_no_half_of_a_secret(before: int) -> None:
    token = "ghp_" + "a" * 36
    assert "ghp_" not in read(f"#5 1.0 {'x' * before} {token} {'y' * 2000}").tail()
    assert "aaa" not in read(f"#5 1.0 {'x' * 2000} {token} {'y' * before}").tail()


def test_steps_are_counted_over_all_stages() -> None:
    log = read("#4 [a 1/2] FROM x\n#5 [stage-1 1/3] FROM y\n#6 [a 2/2] RUN z\n#7 exporting to image")
    assert log.total_steps == 5
    assert [vertex for vertex in (1, 4, 5, 6, 7) if log.is_step(vertex)] == [4, 5, 6]


def test_endless_output_is_not_kept() -> None:
    log = BuildLog()
    for number in range(10_000):
        log.read(f"#5 {number}.1 " + "x" * 10_000)
    assert len(log.tail(10_000)) < 500_000
    assert len(log.output[5]) <= 60
