"""The smoke-train on either side: the reference of a capture, and the run that is held against it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from envsnap.blobs import BlobStore
from envsnap.errors import TargetError
from envsnap.model.facts import CollectedFacts, Problem
from envsnap.model.frameworks import TITLES, Framework, frameworks_of
from envsnap.model.lock import KitPackage, LockedPython, Measurements, Reference, Smoke
from envsnap.model.parity import SmokeRun
from envsnap.progress import Progress
from envsnap.smoke import kit
from envsnap.smoke.run import run_smoke
from envsnap.target import Target

BESIDE: Mapping[Framework, tuple[str, ...]] = {
    "torch": ("torchvision",)
}  # what the environment must have itself, too; other packages can be lent


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A reference, or the sentence why there is none."""

    reference: Reference | None
    problem: Problem | None = None


def make(
    target: Target,
    python: Path | None,
    facts: CollectedFacts,
    *,
    seed: int,
    offline: bool,
    blobs: BlobStore,
    cache: Path,
    progress: Progress,
) -> Finding:
    """Train twice in the same environment: the first run is the reference, the second tells whether it repeats bit for bit.

    Args:
        offline: nothing that the environment lacks can be lent, since an index would have to be asked for it.

    Raises:
        TargetError: the environment has a framework but cannot train.
    """
    installed = {distribution.name for distribution in facts.distributions}
    frameworks = frameworks_of(installed)
    if not frameworks:
        return _none(f"no {', '.join(TITLES.values())} here: only what is installed can be judged later, not what it computes")
    framework = frameworks[0]
    if len(frameworks) > 1:
        progress.note(f"{' and '.join(TITLES[one] for one in frameworks)} are here: the smoke-train is {TITLES[framework]}'s")
    if missing := [name for name in BESIDE.get(framework, ()) if name not in installed]:
        return _none(f"{' and '.join(missing)} not installed: only what is installed can be judged later, not what it computes")
    lent = kit.resolve(python, framework, facts, cache, progress, offline=offline)
    if isinstance(lent, kit.NoKit):
        return _none(lent.reason)
    device = "cuda" if facts.framework is not None and facts.framework.cuda_available else "cpu"
    with tempfile.TemporaryDirectory(prefix="envsnap-smoke-") as scratch:
        first, second = Path(scratch, "first"), Path(scratch, "second")
        run = _run(target, first, framework=framework, seed=seed, device=device, lent=lent.directory, progress=progress)
        again = _run(
            target,
            second,
            framework=framework,
            seed=seed,
            device=device,
            lent=lent.directory,
            progress=progress,
            anchor=first / run.weights,
        )
        gradients = {precision: (first / name).read_bytes() for precision, name in run.gradients.items()}
        repeats = {precision: (second / name).read_bytes() for precision, name in again.gradients.items()}
        exact = (run.losses, run.state, gradients) == (again.losses, again.state, repeats)
        anchor = blobs.put((first / run.weights).read_bytes())
        smoke = _smoke(run, framework, {precision: blobs.put(data) for precision, data in gradients.items()}, self_exact=exact)
    measured = Measurements(step_ms=median(run.step_ms), seconds=run.seconds, peak_memory_mib=run.peak_memory_mib)
    return Finding(reference=Reference(smoke=smoke, anchor=anchor, kit=lent.packages, measurements=measured))


def repeat(
    target: Target,
    reference: Reference,
    *,
    device: str,
    anchor: Path | None,
    lent: Path | None,
    outputs: Path,
    negative_control: str,
    progress: Progress,
) -> SmokeRun:
    """The same training and the same anchored step as `reference`, in `target`; what went wrong is in the run's status."""
    threads = reference.smoke.key.get("threads")
    return run_smoke(
        target,
        framework=reference.smoke.framework,
        seed=reference.smoke.seed,
        device=device,
        gpus=reference.smoke.gpus if device == "cuda" else 0,
        threads=int(threads) if threads else None,
        anchor=anchor,
        kit=lent,
        keep_weights=False,
        negative_control=negative_control,
        outputs=outputs,
        progress=progress,
    )


def kit_for(packages: tuple[KitPackage, ...], python: LockedPython, cache: Path, progress: Progress) -> Path | None:
    """The packages that were lent at capture, by hash; None when none were."""
    return kit.restore(packages, python, cache, progress) if packages else None


def _run(
    target: Target,
    outputs: Path,
    *,
    framework: Framework,
    seed: int,
    device: str,
    lent: Path | None,
    progress: Progress,
    anchor: Path | None = None,
) -> SmokeRun:
    outputs.mkdir()
    run = run_smoke(
        target,
        framework=framework,
        seed=seed,
        device=device,
        gpus=1 if device == "cuda" else 0,
        threads=None,
        anchor=anchor,
        kit=lent,
        keep_weights=anchor is None,
        outputs=outputs,
        progress=progress,
    )
    if run.status != "ok":
        raise TargetError(
            "the environment cannot do the smoke-train", why=run.reason, hint="mend the environment, or capture it without --smoke"
        )
    return run


def _smoke(run: SmokeRun, framework: Framework, gradients: Mapping[str, str], *, self_exact: bool) -> Smoke:
    return Smoke(
        framework=framework,
        seed=run.seed,
        device="cuda" if run.device_used == "cuda" else "cpu",
        gpus=run.gpus,
        key=run.key,
        steps=run.steps,
        losses=run.losses,
        state=run.state,
        map50=run.map50,
        gradient=gradients,
        self_exact=self_exact,
        wandb_rows=run.wandb.rows if run.wandb is not None else 0,
        labels=run.labels,
    )


def _none(why: str) -> Finding:
    return Finding(reference=None, problem=Problem(where="smoke", what=why))
