"""A plan on a screen, and what was rendered and built from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from envsnap.model.base import Base
from envsnap.model.image import Foretold, ImageRecord
from envsnap.model.plan import (
    AnyStep,
    AptInstall,
    BuildPlan,
    Candidate,
    CarryInterpreter,
    Check,
    CopySource,
    ExtendBase,
    InstallPacked,
    InstallWheels,
    MakeCondaEnvironment,
    MakeEnvironment,
    RemovePackages,
    SetEnv,
)
from envsnap.report import text

_BELOW = "    "  # before what becomes of the environment on a base, which is labelled


def screen(plan: BuildPlan, width: int = text.WIDTH) -> str:
    """All that is known at once. Args: width: columns of the screen."""
    lines = [*_candidates(plan.candidates, plan, width), ""]
    why = next((candidate.reason for candidate in plan.candidates if candidate.base == plan.base), plan.base_reason)
    facts = [("why", why), ("steps", " · ".join(steps(plan))), *(("note", note) for note in plan.notes), *_hint(plan)]
    return "\n".join([*lines, *text.labelled(facts, width)])


def ways_screen(candidates: Sequence[Candidate], width: int = text.WIDTH) -> str:
    """What could carry an environment that has no plan. Args: width: as of `screen`."""
    return "\n".join(_candidates(candidates, None, width))


def _candidates(candidates: Sequence[Candidate], plan: BuildPlan | None, width: int) -> list[str]:
    """A row for each base, and below it what becomes of the environment there, where that is not as on the row above."""
    rows = [("  base", "as", "pull", "adds", "Python", "CUDA", "driver ≥"), *(_row(candidate, plan) for candidate in candidates)]
    head, *table = text.columns(rows, indent="", right=frozenset({2, 3}))
    lines, before = [head], list[str]()
    for candidate, row in zip(candidates, table, strict=True):
        below = text.labelled(_becomes(candidate), width - len(_BELOW))
        lines += [row, *(_BELOW + line for line in below if below != before)]
        before = below
    return lines


def _row(candidate: Candidate, plan: BuildPlan | None) -> tuple[str, ...]:
    base = candidate.base
    chosen = plan is not None and (base, candidate.strategy) == (plan.base, plan.strategy)
    return (
        ("> " if chosen else "  ") + base.name,
        candidate.strategy,
        "here" if candidate.pull_bytes == 0 else text.size(candidate.pull_bytes),
        text.size(candidate.added_bytes) if candidate.possible else "-",
        "carried" if candidate.carried and candidate.possible else candidate.python or "-",
        (base.release.cuda if base.release is not None else None) or "-",
        candidate.driver or "-",
    )


def _becomes(candidate: Candidate) -> list[tuple[str, str]]:
    """What becomes of the environment on a base."""
    no = [] if candidate.possible else [("no", candidate.reason)]
    breaks = [sentence for sentence in candidate.breaks if sentence != candidate.reason]
    way = [candidate.way] if candidate.way else []
    named = (("exact", candidate.exact), ("differs", candidate.differs), ("breaks", breaks), ("try", way))
    rows = [*no, *((label, "; ".join(said)) for label, said in named if said)]
    return [(label.ljust(len("differs")), said) for label, said in rows]


def _hint(plan: BuildPlan) -> list[tuple[str, str]]:
    """What a small base would save: the wheels bring CUDA themselves."""
    slim = next((candidate for candidate in plan.candidates if candidate.strategy == "slim" and candidate.possible), None)
    if plan.strategy != "ngc-venv" or slim is None:
        return []
    pulled = next((candidate.pull_bytes for candidate in plan.candidates if candidate.base == plan.base), None)
    size = ""
    if pulled:
        less = slim.pull_bytes is not None and pulled > slim.pull_bytes
        size = f", {text.size(pulled - (slim.pull_bytes or 0))} {'less ' if less else ''}to pull,"
    name = slim.base.name if slim.base.is_made_here else "slim"
    return [("hint", f"--base {name}: the same packages without NVIDIA's image{size} which they do not use")]


def image_screen(image: Foretold) -> str:
    """What is told of the image, which may take a while: its labels are as wide as the plan's."""
    by_docker = [("shell", f"Docker does {step.kind}: {step.because}") for step in image.by_docker]
    return "\n".join(text.columns([*by_docker, *_image(image)]))


def _image(image: Foretold) -> list[tuple[str, str]]:
    if image.config_digest is None:
        return [("image", f"not known yet: {image.unknown_because}"), *([("try", image.hint)] if image.hint else [])]
    told_from = ", from the installed files" if image.told_from == "installed files" else ""
    adds = f", adds {text.size(image.added_bytes)}" if image.added_bytes is not None else ""
    rows = [("image", f"{text.short(image.config_digest)} (known before the build{told_from}{adds})")]
    if image.manifest_digest is not None:
        rows.append(("", f"{text.short(image.manifest_digest)} (its manifest: what a registry will call it)"))
    return rows


def steps(plan: BuildPlan) -> list[str]:
    """The steps in a few words each."""
    blanked = sum(isinstance(step, SetEnv) for step in plan.steps)
    return [*([f"{text.plural(blanked, 'variable')} set"] if blanked else []), *(_step(s) for s in plan.steps if not isinstance(s, SetEnv))]


def _step(step: AnyStep) -> str:
    match step:
        case AptInstall(packages=packages, captured=captured):
            return text.plural(len(packages) + len(captured), "system package")
        case CarryInterpreter():
            return "interpreter carried"
        case MakeEnvironment(python=python):
            return f"an environment of {python}"
        case MakeCondaEnvironment(explicit=lines):
            return f"{text.plural(len(lines), 'package')} of conda" if lines else "conda's packages as installed"
        case ExtendBase(kept=kept):
            return f"{kept} packages of the base kept"
        case RemovePackages(packages=packages):
            return f"{len(packages)} of the base taken away"
        case InstallWheels(wheels=wheels):
            return text.plural(len(wheels), "wheel")
        case InstallPacked(packages=packages):
            return f"{len(packages)} packed here"
        case CopySource(path=path):
            return f"source at {path}"
        case Check():
            return "checked inside"
        case SetEnv(name=name):
            return name


def document(plan: BuildPlan, image: Foretold) -> dict[str, Any]:
    return {
        "base": {**_base(plan.base), "reason": plan.base_reason},
        "strategy": plan.strategy,
        **ways_document(plan.candidates),
        "steps": [{"kind": type(step).__struct_config__.tag, **msgspec.to_builtins(step)} for step in plan.steps],
        "rescued": sorted(p.name for step in plan.steps if isinstance(step, InstallPacked) for p in step.packages),
        "estimated_bytes": image.added_bytes,
        "image": {
            "manifest_digest": image.manifest_digest,
            "config_digest": image.config_digest,
            "told_from": image.told_from or None,
            "unknown_because": image.unknown_because or None,
        },
        "by_docker": [{"kind": step.kind, "because": step.because} for step in image.by_docker],
        "notes": list(plan.notes),
    }


def ways_document(candidates: Sequence[Candidate]) -> dict[str, Any]:
    """Of the ways alone, where none of them can be gone."""
    return {"candidates": [_candidate(candidate) for candidate in candidates]}


def _base(base: Base) -> dict[str, Any]:
    return {"reference": base.reference, "digest": base.digest, "family": base.family, "unknown_because": base.unknown_because or None}


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        **_base(candidate.base),
        "strategy": candidate.strategy,
        "possible": candidate.possible,
        "reason": candidate.reason,
        "python": candidate.python,
        "carried": candidate.carried,
        "driver": candidate.driver,
        "pull_bytes": candidate.pull_bytes,
        "added_bytes": candidate.added_bytes,
        "added_without": list(candidate.added_without),
        "exact": list(candidate.exact),
        "differs": list(candidate.differs),
        "breaks": list(candidate.breaks),
        "way": candidate.way or None,
    }


def rendered_screen(plan: BuildPlan, place: str, digest: str, build: str) -> str:
    """Args: build: the command of envsnap's that builds the same; all that can where the base is in no registry."""
    base = f"{plan.base.name}@{text.short(plan.base.digest)}" if plan.base.digest else plan.base.reference
    rows = [("base", base), ("steps", " · ".join(steps(plan)))]
    if plan.base.is_made_here:
        rows.append(("note", "no registry has that base: docker build finds it only once envsnap build --engine docker has made it"))
    ask_next = build if plan.base.is_made_here else f"docker build {place}"
    return "\n".join([*text.columns(rows), "", f"wrote {place}   {text.short(digest)}              next: {ask_next}"])


def built_screen(record: ImageRecord, *, cached: bool, where: str, place: str, uploaded_bytes: int | None = None) -> str:
    """Args: uploaded_bytes: None where it was sent to no registry."""
    rows = [
        ("base", record.base),
        ("image", f"{text.short(record.config_digest)}   {text.size(record.size_bytes)} in {text.plural(record.layers, 'layer')}"),
        ("took", f"{record.seconds:.1f} s" + (": all that it is made of was there already" if cached else "")),
        ("lies", where + (f", {text.size(uploaded_bytes)} uploaded" if uploaded_bytes is not None else "")),
        ("record", place),
        *(("tag", tag) for tag in record.tags),
    ]
    return "\n".join([*text.columns(rows), "", f"wrote {record.reference}              next: envsnap verify {record.reference}"])


def built_document(record: ImageRecord, *, cached: bool, uploaded_bytes: int) -> dict[str, Any]:
    return {
        "image": {
            "reference": record.reference,
            "manifest_digest": record.manifest_digest,
            "config_digest": record.config_digest,
            "size_bytes": record.size_bytes,
            "layers": record.layers,
        },
        "tags": list(record.tags),
        "engine": record.engine,
        "lock_digest": record.lock_digest,
        "seconds": record.seconds,
        "cached": cached,
        "uploaded_bytes": uploaded_bytes,
    }
