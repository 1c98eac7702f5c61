"""A `Launch` as a batch script of Slurm, whose tasks run in the image by pyxis and enroot."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from envsnap.errors import UsageError
from envsnap.launch import counted, pitfalls
from envsnap.model.launch import Launch, Mount

_SEPARATORS = frozenset(",:+\\")  # beside white space: of the option for mounts and of the table that enroot makes of it
_UNITS = {-1: "unlimited"}
_ULIMIT = {"memlock": "l", "stack": "s"}


def text(launch: Launch, *, registry: str) -> str:
    """One task on one node.

    Args:
        registry: that the image's name begins with; "" for the default one.

    Raises:
        UsageError: GPUs by index, which Slurm gives as it likes; no command; a user; a path that pyxis cannot be told.
    """
    if not launch.command:
        raise UsageError(
            "which command is the job?",
            why="a batch script has nobody at its shell",
            hint="envsnap export … --format slurm -- python train.py",
        )
    if launch.user:
        raise UsageError(f"--user {launch.user}: a task of Slurm's runs as who submits it", hint="leave --user out")
    return "".join(f"{line}\n" for line in _lines(launch, registry))


def image(reference: str, registry: str) -> str:
    """As enroot names it: "#" after the registry, and a digest in the place of the tag, which the registry takes as well."""
    name, _, digest = reference.partition("@")
    rest = name.removeprefix(f"{registry}/") if registry else name
    if digest:
        head, colon, tag = rest.rpartition(":")
        rest = f"{head if colon and '/' not in tag else rest}:{digest}"
    return f"{registry}#{rest}" if registry else rest


def _lines(launch: Launch, registry: str) -> Iterator[str]:
    yield "#!/bin/bash"
    yield f"#SBATCH --job-name={launch.name}"
    yield "#SBATCH --nodes=1"
    yield "#SBATCH --ntasks=1"
    if launch.gpus is not None:
        yield f"#SBATCH --gpus-per-node={counted.gpus(launch, scheduler='Slurm', unit='a job')}"
    yield f"#SBATCH --output={launch.name}-%j.log"
    yield from (f"# {line}" for line in _notes(launch))
    yield "set -euo pipefail"
    for name, value in launch.ulimits.items():
        wanted = _UNITS.get(value, str(value >> 10))  # ulimit counts in KiB
        yield f"ulimit -S -{_ULIMIT[name]} {wanted} || echo 'the limit {name} stays at' \"$(ulimit -{_ULIMIT[name]})\" >&2"
    options = [f"--container-image={image(launch.image, registry)}", "--container-writable"]
    if launch.entrypoint:
        options.append("--container-entrypoint")
    if launch.mounts:
        options.append(f"--container-mounts={','.join(map(_mount, launch.mounts))}")
    if launch.workdir:
        options.append(f"--container-workdir={launch.workdir}")
    if names := [one.name for one in launch.env if one.value is None]:
        options.append(f"--container-env={','.join(names)}")
    # Set for the command alone: srun and enroot have a PATH and a HOME of their own.
    values = [f"{one.name}={one.value}" for one in launch.env if one.value is not None]
    words = [*(["env", *values] if values else []), *launch.command]
    if words[0].startswith("-"):  # an argument of the image's entrypoint, and no option of srun's
        words.insert(0, "--")
    yield " \\\n    ".join(["exec srun", *map(shlex.quote, options), shlex.join(words)])


def _notes(launch: Launch) -> Iterator[str]:
    yield from pitfalls.entrypoint(
        launch,
        "--container-entrypoint: without it pyxis leaves out {it}, unless the cluster is set up otherwise. So does `apptainer exec`;"
        " `apptainer run` does not.",
    )
    yield from pitfalls.said(
        "Limits go from here to the tasks (PropagateResourceLimits of slurm.conf), up to the node's own: LimitMEMLOCK in slurmd's unit.",
        "Shared memory is the node's: enroot gives a container no /dev/shm of its own.",
    )
    names = [one.name for one in launch.env if one.value is None]
    if names:
        yield from pitfalls.said(
            f"From the environment of whoever submits (sbatch --export=ALL, the default): {', '.join(names)}.",
            "No value is in this file.",
        )
    yield from pitfalls.said("The user inside is the one who submits.")
    if launch.ports:
        yield from pitfalls.said("The network is the node's: what listens in the container listens there.")


def _mount(one: Mount) -> str:
    for path in (one.source, one.target):
        if set(path) & _SEPARATORS or any(map(str.isspace, path)):
            raise UsageError(
                f"pyxis cannot be told to mount {path!r}",
                why="commas, colons, plus signs, backslashes and spaces have a meaning there",
                hint="name it by a link",
            )
    return f"{one.source}:{one.target}{':ro' if one.read_only else ''}"
