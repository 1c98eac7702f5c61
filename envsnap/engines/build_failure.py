"""What a failed build says to a person: the step, its telling lines, and what usually helps."""

from __future__ import annotations

import re
from collections.abc import Sequence

from envsnap import redaction
from envsnap.engines.buildx import BuildLog
from envsnap.engines.connection import NO_SPACE, Remedies, remedy
from envsnap.errors import EXIT_NO, EngineError

_STEP_LENGTH = 60
_LINE_LENGTH = 200
_WHY_LINES = 3

_PLACE = re.compile(r"\A\[[^\]]*\] ")
_MOUNT = re.compile(r"--mount=\S+ ")
# What a shell line does before its own work: `set -e;`, `[ ! -e FILE ] || export A=b;`, `for attempt in 1 2 3; do status=0;`.
_PREPARATION = re.compile(r"\ARUN (?:set -\w+; |\[ [^\]]*\] \|\| [^;]*; |export [^;]*; |for attempt in [^;]*; do |status=0; )+")

_ERROR = re.compile(r"\s*(?:ERROR|error|E): (?!Exception:\Z)|W: Failed to fetch ")
_EXCEPTION = re.compile(r"(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt|Timeout)(?:: .*)?\Z")
_PROGRESS = re.compile(r"progress \d+ \d+ ")  # how guest scripts count
_WRAPPING = re.compile(r'\A(?:failed to solve: )?(?:process ".*" did not complete successfully: )?', re.DOTALL)

_NOT_THE_LOCK = "the image is not the lock: see above; -v shows the log"
_IN_STEPS: Remedies = (
    NO_SPACE,
    (("do not match the hashes",), "an index or proxy gives other bytes than the captured ones: --pip-conf FILE   names the index to ask"),
    (
        ("certificate verify failed", "certificate verification failed", "certificate_verify_failed"),
        "--ca-bundle FILE   lends the build the certificates of your proxy or mirror",
    ),
    (
        (
            "timed out",
            "temporary failure in name resolution",
            "temporary failure resolving",
            "could not resolve",
            "name or service not known",
            "connection reset",
            "connection refused",
            "network is unreachable",
            "no route to host",
        ),
        "check the network and the proxy, then build again: steps that are done are not repeated",
    ),
)


def build_failure(log: BuildLog, returncode: int) -> EngineError:
    """Which step failed, with its own telling words; the whole output is in `log`.

    Args:
        returncode: the builder's own, for a builder that says nothing.
    """
    vertex = redaction.text(log.failed_step)  # before anything is cut, which could leave half of a secret
    output = [redaction.text(line) for line in log.failing_output]
    reason = redaction.text(_WRAPPING.sub("", log.error))
    if output:
        why, hint = " · ".join(telling_lines(output)), _hint(vertex, output, reason)
    else:
        why, hint = reason or f"the builder ended with code {returncode}", remedy(reason)
    return EngineError(
        f"the build failed at step {step_name(vertex)}" if vertex else "the build failed",
        why=why,
        hint=hint,
        log=redaction.text(log.tail()),
    )


def step_name(vertex: str) -> str:
    """The beginning of an instruction, by which it is found again in the Dockerfile.

    Args:
        vertex: BuildKit's name of the step, "[builder 3/9] RUN --mount=type=cache,target=/c set -e; python3 -m pip …".
    """
    instruction = _MOUNT.sub("", _PLACE.sub("", " ".join(vertex.split())))
    return _shorten(_PREPARATION.sub("RUN ", instruction), _STEP_LENGTH)


def telling_lines(output: Sequence[str]) -> tuple[str, ...]:
    """At most three lines that say best why a step failed.

    Those that apt and pip mark as errors, with what is indented below them; else the last exception; else the last lines.
    """
    said = [line for line in output if line.strip() and not _PROGRESS.match(line)]
    chosen = _errors(said) or _last_exception(said) or said
    return tuple(_shorten(" ".join(line.split()), _LINE_LENGTH) for line in chosen[-_WHY_LINES:])


def _errors(said: Sequence[str]) -> list[str]:
    found, within = [], False
    for line in said:
        within = bool(_ERROR.match(line)) or (within and line[:1].isspace())
        if within:
            found.append(line)
    return found


def _last_exception(said: Sequence[str]) -> list[str]:
    return [line for line in said if _EXCEPTION.match(line)][-1:]


def _hint(vertex: str, output: Sequence[str], reason: str) -> str:
    if "/guest collect " in vertex and reason == f"exit code: {EXIT_NO}":
        return _NOT_THE_LOCK
    return remedy("\n".join(output), _IN_STEPS)


def _shorten(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1].rstrip() + "…"
