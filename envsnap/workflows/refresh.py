"""bases refresh: what the registries say of the catalogue's images, and the change of the catalogue that would follow."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, as_completed

from envsnap import catalog
from envsnap.catalog import images, proposal
from envsnap.errors import EngineError, UsageError
from envsnap.model.base import Family, Release
from envsnap.model.catalog import Catalog
from envsnap.model.refreshed import Asked, Refreshed, Skipped
from envsnap.oci.reference import parse_reference
from envsnap.progress import Progress
from envsnap.registry.client import Registry
from envsnap.registry.push import workers

_THREADS = 8


def refresh(words: Sequence[str], family: Family | None, registry: Registry, progress: Progress, *, day: str) -> Refreshed:
    """Ask registries for the manifest and config of images, and hold them against their rows. Nothing is written.

    Args:
        words: references, known to the catalogue or not, or tags or releases of it; none for all of it.
        family: of the rows that are asked for.
        day: today, "2026-11-29".

    Raises:
        EngineError: no image was told of. UsageError: a word is no name of an image.
    """
    known = catalog.load()
    references = _references(words, family, known)
    found = _ask_all(references, registry, progress, known, day)
    asked = tuple(one for one in found if isinstance(one, Asked))
    skipped = tuple(one for one in found if isinstance(one, Skipped))
    if not asked:
        raise EngineError(
            f"nothing was told of {references[0] if len(references) == 1 else f'any of {len(references)} images'}",
            why=skipped[0].why,
            hint="--registry-mirror HOST=MIRROR asks a mirror;   envsnap bases refresh REF   asks for one",
        )
    return Refreshed(diff=proposal.diff(one.proposed for one in asked), asked=asked, skipped=skipped)


def _references(words: Sequence[str], family: Family | None, known: Catalog) -> list[str]:
    if not words:
        return [row.reference for row in (known.of_family(family) if family is not None else known.releases)]
    references: dict[str, None] = {}
    for word in words:
        rows = [row.reference for row in known.named(word) if family in (None, row.family)]
        if not rows:
            parse_reference(word)
            if ":" not in word and "/" not in word:
                raise UsageError(f"the catalogue has no {word}", hint="name an image: HOST/REPOSITORY:TAG")
        references |= dict.fromkeys(rows or [word])
    return list(references)


def _ask_all(references: Sequence[str], registry: Registry, progress: Progress, known: Catalog, day: str) -> list[Asked | Skipped]:
    silent: dict[str, str] = {}  # registry -> why it gave no answer at all: others need not wait for it again

    def ask(reference: str) -> Asked | Skipped:
        host = parse_reference(reference).registry
        if host in silent:
            return Skipped(reference=reference, why=silent[host])
        try:
            return _ask(reference, registry, known, day)
        except EngineError as error:
            why = error.why or error.what
            if not registry.answers(reference):
                silent[host] = why
            return Skipped(reference=reference, why=why)

    title = "ask the registries" if len(references) > 1 else f"ask for {references[0]}"
    with progress.task(title, total=len(references)) as task, workers(_THREADS) as pool:
        futures: list[Future[Asked | Skipped]] = [pool.submit(ask, reference) for reference in references]
        try:
            for future in as_completed(futures):
                future.result()
                task.advance(1)
        except BaseException:
            for future in futures:
                future.cancel()
            registry.close()
            raise
    return [future.result() for future in futures]


def _ask(reference: str, registry: Registry, known: Catalog, day: str) -> Asked | Skipped:
    found = registry.resolve(reference, machine=images.MACHINE)
    row = images.row_of(found.reference, found.config, known)
    said = images.called(found.config)
    if row is None and said is None:
        return Skipped(reference=reference, why="it does not say that it is one of NVIDIA's images for a framework")
    statements = images.statements(found.config, found.machines, row)
    if another := next((one for one in statements if one.field == "release" and one.standing == "contradicts"), None):
        return Skipped(reference=reference, why=f"it says that it is of another release: {another.by} is {another.value}")
    if row is None:
        assert said is not None
        family, tag = said
        before = Release(
            family=family,
            reference=f"nvcr.io/nvidia/{family}:{tag}-py3",
            release=tag.partition("-")[0],
            as_of=day,
        )
    else:
        before = row
    source = f"image config of {found.reference}@{found.digest}"
    proposed = proposal.proposed(before, statements, source=source, day=day)
    return Asked(reference=reference, digest=found.digest, row=row, statements=statements, proposed=proposed)
