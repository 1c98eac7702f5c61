"""BuildKit through the `docker` command: composing its arguments and reading its plain progress. Nothing here runs anything."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from envsnap import redaction

_LAST_CLASSIC = 20
_FIRST_CLASSIC = (18, 9)
_LINE_LIMIT = 500
_STEP_LIMIT = 2000  # of a line that names a step: what it does comes after its mounts
_KEPT_LINES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Builder:
    """How BuildKit can be had.

    Attributes:
        kind: "buildx": the plugin; "classic": a `docker` of 18.09 to 20.10, which has BuildKit built in.
        version: of the plugin, or of the command line.
    """

    kind: Literal["buildx", "classic"]
    version: str

    @property
    def description(self) -> str:
        return f"buildx {self.version}" if self.kind == "buildx" else f"docker {self.version} with BuildKit built in"


def parse_buildx_version(said: str) -> Builder | None:
    """From `docker buildx version`: "github.com/docker/buildx v0.13.1 788433953af1"."""
    match = re.match(r"\S*buildx\S* v?(\d[^\s]*)", said)
    return Builder(kind="buildx", version=match[1]) if match else None


def parse_client_version(said: str) -> str | None:
    """From `docker --version`: "Docker version 20.10.24+dfsg1, build 297e128"."""
    match = re.match(r"Docker version (\d+\.\d+[^,\s]*)", said)
    return match[1] if match else None


def built_in(client: str) -> Builder | None:
    """The classic builder, where a `docker` of that version has BuildKit of its own."""
    major, minor = (int(part) for part in client.split(".")[:2])
    return Builder(kind="classic", version=client) if (major, minor) >= _FIRST_CLASSIC and major <= _LAST_CLASSIC else None


def build_command(
    builder: Builder, context: Path, *, platform: str, secrets: Mapping[str, Path], network: bool, image_file: Path, metadata_file: Path
) -> tuple[str, ...]:
    """Arguments that build `context` without a name: the image gets its tags once it was looked at.

    Args:
        network: without it no step has one.
        image_file: where the builder writes the image's ID.
        metadata_file: where buildx writes what it knows of the result; a classic builder has no such file.
    """
    options = ["--progress=plain", "--platform", platform, "--iidfile", str(image_file)]
    if not network:
        options += ["--network", "none"]
    for name, source in sorted(secrets.items()):
        options += ["--secret", f"id={name},src={source}"]
    if builder.kind == "classic":
        return ("docker", "build", *options, str(context))
    # "default" is the engine of the current context: another builder, which `docker buildx use` may have picked, sees none of its images.
    return (
        "docker",
        "buildx",
        "build",
        "--builder",
        "default",
        "--provenance=false",
        "--metadata-file",
        str(metadata_file),
        *options,
        str(context),
    )


def build_environment(builder: Builder, env: Mapping[str, str]) -> dict[str, str]:
    """The builder's environment: the caller's own, so that proxies and credentials are found."""
    return {**env, "DOCKER_BUILDKIT": "1"} if builder.kind == "classic" else dict(env)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What a builder says that it made.

    Attributes:
        image_ids: one of them is what the engine calls the image: its manifest's digest on the containerd store, else its
            config's, whichever of the two the builder writes where.
        config_digest: None where the builder does not say it.
    """

    image_ids: tuple[str, ...]
    config_digest: str | None


def read_result(image_file: Path, metadata_file: Path) -> BuildResult:
    """From the files named in `build_command`; either may be missing."""
    metadata = json.loads(metadata_file.read_bytes()) if metadata_file.is_file() else {}
    config = metadata.get("containerimage.config.digest")
    written = image_file.read_text(encoding="ascii").strip() if image_file.is_file() else None
    found = (metadata.get("containerimage.digest"), config, written)
    return BuildResult(image_ids=tuple(dict.fromkeys(item for item in found if item)), config_digest=config)


@dataclass(frozen=True, slots=True)
class Started:
    """A step was named. Attributes: place: "2/9" as (2, 9); None for steps that BuildKit adds; stage: of the Dockerfile."""

    vertex: int
    name: str
    stage: str = ""
    place: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Printed:
    """A step's own output."""

    vertex: int
    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Attributes: error: "" when it went well or came from the cache."""

    vertex: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The last word of a build that failed."""

    text: str


Event = Started | Printed | Finished | Failed

_VERTEX = re.compile(r"#(\d+) (.*)\Z", re.DOTALL)
_STEP = re.compile(r"#\d+ \[")
_NAMED = re.compile(r"\[(?:(?P<stage>\S+) +)?(?P<at>\d+)/(?P<of>\d+)\] ")
_OUTPUT = re.compile(r"\d+\.\d+ (.*)\Z", re.DOTALL)


def parse_line(line: str) -> Event | None:
    """One line of `--progress=plain`; None for what says nothing new (blank lines, transfer counts, the closing summary)."""
    if line.startswith("ERROR: "):
        return Failed(line.removeprefix("ERROR: "))
    match = _VERTEX.match(line)
    if match is None:
        return None
    vertex, rest = int(match[1]), match[2]
    if rest == "CACHED" or rest.startswith("DONE "):
        return Finished(vertex)
    if rest.startswith("ERROR"):
        return Finished(vertex, rest.removeprefix("ERROR").lstrip(": ") or "failed")
    if rest == "CANCELED":
        return None
    if output := _OUTPUT.match(rest):
        return Printed(vertex, output[1])
    if rest.startswith("["):
        named = _NAMED.match(rest)
        place = (int(named["at"]), int(named["of"])) if named else None
        return Started(vertex, rest, (named["stage"] or "") if named else "", place)
    return None


@dataclass(slots=True)
class BuildLog:
    """What a build has said so far.

    Attributes:
        names: vertex -> the step's line in the Dockerfile.
        output: vertex -> its last lines.
        said: the last lines of the whole build.
        failed: vertex that failed, None while none did; error: in BuildKit's words.
    """

    names: dict[int, str] = field(default_factory=dict)
    output: dict[int, deque[str]] = field(default_factory=dict)
    said: deque[str] = field(default_factory=lambda: deque(maxlen=4 * _KEPT_LINES))
    failed: int | None = None
    error: str = ""
    _steps: dict[str, int] = field(default_factory=dict)
    _counted: set[int] = field(default_factory=set)

    def read(self, line: str) -> Event | None:
        """Take in one line; returns what it meant."""
        limit = _STEP_LIMIT if _STEP.match(line) else _LINE_LIMIT
        if len(line) > limit:
            line = redaction.text(line)  # before the cut, which could leave half of a secret; the end may hold an exit code
            line = f"{line[: limit // 2]}…{line[-limit // 2 :]}"
        self.said.append(line)
        event = parse_line(line)
        match event:
            case Started(vertex, name, stage, place):
                self.names[vertex] = name
                if place is not None:
                    self._steps[stage] = place[1]
                    self._counted.add(vertex)
            case Printed(vertex, text):
                self.output.setdefault(vertex, deque(maxlen=_KEPT_LINES)).append(text)
            case Finished(vertex, error) if error and self.failed is None:
                self.failed, self.error = vertex, error
            case Failed(text) if not self.error:
                self.error = text
            case _:
                pass
        return event

    @property
    def total_steps(self) -> int:
        """Steps of the Dockerfile's stages seen so far."""
        return sum(self._steps.values())

    def is_step(self, vertex: int) -> bool:
        """Whether it is a line of the Dockerfile, and not BuildKit's own work."""
        return vertex in self._counted

    @property
    def failed_step(self) -> str:
        """BuildKit's name of the step that failed; "" where none did."""
        return self.names.get(self.failed, "") if self.failed is not None else ""

    @property
    def failing_output(self) -> tuple[str, ...]:
        """The last lines of the step that failed, without blank ones."""
        return tuple(text for text in self.output.get(self.failed, ()) if text.strip()) if self.failed is not None else ()

    def tail(self, lines: int = _KEPT_LINES) -> str:
        return "\n".join(list(self.said)[-lines:])
