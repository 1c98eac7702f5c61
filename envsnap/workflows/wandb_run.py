"""capture --wandb: a lock from what a run of W&B wrote down. It names versions, so nothing of it is proven; what fits is found."""

from __future__ import annotations

import datetime as dt
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from envsnap import __version__, lockfile, redaction
from envsnap.blobs import BlobStore
from envsnap.errors import EngineError, InputError, TargetError
from envsnap.lockfile.requirements import FromVcs, Lost, Pinned, requirement
from envsnap.model.facts import GpuDevice, GpuFacts, Platform, Problem
from envsnap.model.lock import RUN, Capture, EnvLock, LockedCuda, LockedInterpreter, LockedPackage, LockedPython, LockedSource, Observed
from envsnap.model.origins import IndexOrigin, UnknownOrigin, VcsOrigin
from envsnap.probes import interpreter, source, wandb_run
from envsnap.probes.index import PipConfig
from envsnap.probes.local import LocalPython
from envsnap.probes.releases import NotAnswered, NotThere, Release, Releases
from envsnap.probes.tree import write_files
from envsnap.progress import Progress

_OS = re.compile(r"Linux-(?P<kernel>.+?)-(?P<machine>x86_64|aarch64)(?:-with-(?P<libc>glibc|musl)(?P<version>[0-9.]*))?")
_PYTHON = re.compile(r"3\.\d{1,2}\.\d{1,2}(?:(?:a|b|rc)\d+)?\Z")
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?\Z")
_UNSEALED = "sha256:" + "0" * 64


def lock_of_run(
    directory: Path, name: str, project: Path | None, blobs: BlobStore, *, offline: bool, cache: Path, progress: Progress
) -> EnvLock:
    """The lock of a run's environment, as far as the run tells.

    Args:
        project: a clone of the run's repository; None to fetch its commit.

    Raises:
        InputError: the folder is none of a run. TargetError: it does not say what interpreter it had.
    """
    run = wandb_run.read(directory)
    problems = [*run.problems]
    python, platform = _python(run), _platform(run)
    if run.conda:
        what = f"{len(run.conda)} entries of conda are not in the lock: {', '.join(run.conda)}"
        problems.append(Problem(where="conda-environment.yaml", what=what))
    draft = EnvLock(
        envsnap=1,
        name=name,
        digest=_UNSEALED,
        python=python,
        packages=(),
        observed=Observed(digest=_UNSEALED, platform=platform, gpu=_gpu(run), cuda=LockedCuda()),
        capture=Capture(at=dt.datetime.now(dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"), tool=f"envsnap {__version__}"),
    )
    packages = _packages(run.requirements, draft, problems, offline=offline, cache=cache, progress=progress)
    withheld = {"arguments of the command line": "not kept: one looks like a secret"} if run.arguments_hold_secrets else {}
    places = [project or Path.cwd()]
    project_source = _source(run, name, places, blobs, problems, withheld, offline=offline, cache=cache, progress=progress)
    capture = replace(draft.capture, target=f"{RUN}{directory.resolve().name}", withheld=withheld, problems=tuple(problems))
    return lockfile.seal(replace(draft, packages=tuple(packages), source=project_source, capture=capture))


def _python(run: wandb_run.WandbRun) -> LockedPython:
    machine = _OS.match(run.os)
    if not _PYTHON.match(run.python) or machine is None:
        read = f"Python {run.python or 'unknown'}, operating system {run.os or 'unknown'}"
        damaged = [f"{problem.where} {problem.what}" for problem in run.problems if wandb_run.says_where(problem.where)]
        raise TargetError(
            "the run does not say what it ran on",
            why="; ".join([*damaged, read]),
            hint="wandb-metadata.json, or the .wandb file of an offline run, holds both" + (": fetch it again" if damaged else ""),
        )
    short = "".join(run.python.split(".")[:2])
    known = run.implementation == "cpython"
    soabi = f"cpython-{short}-{machine['machine']}-linux-gnu" if known else ""
    return LockedPython(
        version=run.python,
        implementation=run.implementation,
        abi=f"cp{short}" if known else "",
        kind="venv",
        interpreter=LockedInterpreter(soabi=soabi, machine=machine["machine"]),  # type: ignore[arg-type]  # the pattern has no other
    )


def _platform(run: wandb_run.WandbRun) -> Platform:
    found = _OS.match(run.os)
    assert found is not None
    libc = f"{found['libc']} {found['version']}".strip() if found["libc"] else ""
    return Platform(machine=found["machine"], kernel=found["kernel"], libc=libc, distribution="", cpu=run.cpu)


def _gpu(run: wandb_run.WandbRun) -> GpuFacts:
    if not run.gpus:
        return GpuFacts(unavailable="the run wrote none down")
    devices = [GpuDevice(name=gpu.name, compute_capability="", memory_mib=gpu.memory_bytes >> 20) for gpu in run.gpus]
    return GpuFacts(cuda_driver=run.cuda or None, devices=tuple(devices))


def _packages(
    lines: Sequence[tuple[int, str]], lock: EnvLock, problems: list[Problem], *, offline: bool, cache: Path, progress: Progress
) -> list[LockedPackage]:
    """One package for each line that names one; a problem for each line that does not, or that nobody has."""
    packages: dict[str, LockedPackage] = {}
    pinned: dict[str, Pinned] = {}
    for number, line in lines:
        where, what = f"requirements.txt:{number}", requirement(line)
        name = None if what is None else what.name
        if name is not None and (name in packages or name in pinned):
            problems.append(Problem(where=where, what=f"{name} is there twice; the first is taken"))
        elif isinstance(what, Lost):
            problems.append(Problem(where=where, what=f"left out: {what.reason}"))
        elif isinstance(what, FromVcs):
            if (package := _of_vcs(what)) is None:
                problems.append(Problem(where=where, what="left out: its address cannot be written in a lock"))
            else:
                packages[what.name] = package
        elif isinstance(what, Pinned):
            pinned[what.name] = what
    facts = interpreter.collect(LocalPython(Path(sys.executable)), framework=False, imports=False, integrity=False, progress=progress)
    releases = Releases(PipConfig.from_facts(facts.pip_config), offline=offline, cache=cache)
    supported, minor = lockfile.supported_tags(lock), ".".join(lock.python.version.split(".")[:2])
    answers = releases.find_all([(one.name, one.version) for one in pinned.values()], supported, python=minor, progress=progress)
    for one in pinned.values():
        packages[one.name] = _found(one, answers[one.name])
    return list(packages.values())


def _found(wanted: Pinned, answer: Release | NotThere | NotAnswered) -> LockedPackage:
    if not isinstance(answer, Release):
        reason = f"a run wrote down its version alone, and {answer.reason}"
        return LockedPackage(name=wanted.name, version=wanted.version, origin=UnknownOrigin(reason=reason), provenance="unproven")
    return LockedPackage(
        name=wanted.name,
        version=wanted.version,
        origin=IndexOrigin(index=answer.index, yanked=answer.yanked),
        file=answer.file,
        sha256=answer.sha256,
        tags=answer.tags,
        files=answer.files,
        provenance="unproven",
    )


def _of_vcs(wanted: FromVcs) -> LockedPackage | None:
    """The commit is known, and nothing was built of it."""
    origin = VcsOrigin(vcs=wanted.vcs, url=wanted.url, commit=wanted.commit, subdirectory=wanted.subdirectory)  # type: ignore[arg-type]
    package = LockedPackage(name=wanted.name, version="0", origin=origin, provenance="unproven")
    try:
        return msgspec.convert(msgspec.to_builtins(package), LockedPackage)
    except msgspec.ValidationError:
        return None


def _source(
    run: wandb_run.WandbRun,
    name: str,
    places: Sequence[Path],
    blobs: BlobStore,
    problems: list[Problem],
    withheld: dict[str, str],
    *,
    offline: bool,
    cache: Path,
    progress: Progress,
) -> LockedSource | None:
    """The run's commit with its patch, else the one of its upstream branch with the patch from there: whichever can be had."""
    bases: list[tuple[str, str, bytes | None]] = []
    if run.commit is not None and _COMMIT.match(run.commit):
        bases.append((run.commit, "diff.patch", run.patch))
    elif run.patch:
        problems.append(Problem(where="diff.patch", what="is left out: the run names no commit that it applies to"))
    if run.upstream is not None:
        bases.append((run.upstream[0], f"diff_{run.upstream[0]}.patch", run.upstream[1]))
    misses = []
    for commit, file, patch in bases:
        secret = redaction.find_secrets_in(patch or b"")
        kept = None if secret else patch
        draft = LockedSource(
            name=name, files=_UNSEALED, remote=run.remote, commit=commit, dirty=bool(patch), patch=blobs.put(kept) if kept else None
        )
        try:
            repository = source.find_repository(draft, places, cache, progress, offline=offline)
            with tempfile.TemporaryDirectory(prefix="envsnap-source-") as scratch:
                write_files(draft, blobs, repository, Path(scratch))
                found = replace(draft, files=source.manifest_digest(source.manifest(Path(scratch))))
        except (InputError, EngineError) as error:
            misses.append(f"commit {commit[:12]} of {run.remote or 'a repository without a remote'}: {error.why or error.what}")
            continue
        if misses:
            problems.append(Problem(where="source", what=f"{misses[0]}; taken instead: {commit[:12]} with {file}, the same files"))
        if secret:
            withheld[file] = f"what looks like a secret is in it ({secret[0]}): the source is the commit without it"
            problems.append(Problem(where=file, what=f"is left out: it holds what looks like a secret ({secret[0]})"))
        elif patch is None:
            problems.append(Problem(where="source", what="the run kept no diff.patch: whether anything was uncommitted is not known"))
        return found
    problems += [Problem(where="source", what=f"is not in the lock: {miss}") for miss in misses]
    return None
