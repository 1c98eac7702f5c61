"""bases refresh: what the registries say of the catalogue's images and of newer ones, and the change of the catalogue that would follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, as_completed

from envsnap import catalog
from envsnap.catalog import images, proposal, rows
from envsnap.errors import EngineError, UsageError
from envsnap.model.base import Family, Release
from envsnap.model.catalog import Catalog, numbers
from envsnap.model.refreshed import Asked, Refreshed, Skipped
from envsnap.oci.reference import parse_reference
from envsnap.progress import Progress
from envsnap.registry.client import Registry
from envsnap.registry.push import workers

_THREADS = 8


def refresh(words: Sequence[str], family: Family | None, registry: Registry, progress: Progress, *, day: str) -> Refreshed:
    """Ask registries for the manifest and config of images, and hold them against their rows. Nothing is written.

    Args:
        words: references, known to the catalogue or not, or tags or releases of it; none for all of it, and for the releases that its
            repositories have and it lacks.
        family: of the rows that are asked for.
        day: today, "2026-11-29".

    Raises:
        EngineError: no image was told of. UsageError: a word is no name of an image.
    """
    known = catalog.load()
    references = _references(words, family, known)
    silent: dict[str, str] = {}
    drafts, unlisted = ([], []) if words else _drafts(family, registry, progress, known, day, silent)
    new = {draft.reference: draft for draft in drafts}
    found = _ask_all([*references, *new], registry, progress, known, new, day, silent)
    asked = tuple(one for one in found if isinstance(one, Asked))
    skipped = (*unlisted, *(one for one in found if isinstance(one, Skipped)))
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
        named = [row.reference for row in known.named(word) if family in (None, row.family)]
        if not named:
            parse_reference(word)
            if ":" not in word and "/" not in word:
                raise UsageError(f"the catalogue has no {word}", hint="name an image: HOST/REPOSITORY:TAG")
        references |= dict.fromkeys(named or [word])
    return list(references)


def _drafts(
    family: Family | None, registry: Registry, progress: Progress, known: Catalog, day: str, silent: dict[str, str]
) -> tuple[list[Release], list[Skipped]]:
    """Rows for the releases that the catalogue lacks, newest first, with no more than their tags say; and what was not listed.

    Args:
        silent: as of `_ask_all`.
    """
    drafts: list[Release] = []
    skipped: list[Skipped] = []
    families = [one for one in rows.FAMILIES if family in (None, one)]
    with progress.task("list the releases", total=len(families)) as task:
        for one in families:
            repository = images.repository_of(one)
            host = parse_reference(repository).registry
            try:
                tags = registry.tags(repository) if host not in silent else ()
            except EngineError as error:
                why = error.why or error.what
                if not registry.answers(repository):
                    silent[host] = why
                skipped.append(Skipped(reference=repository, why=f"new releases are not looked for: {why}"))
                tags = ()
            found = (draft for tag in dict.fromkeys(tags) if (draft := images.drafted(one, tag, day=day)) is not None)
            missing = [draft for draft in found if known.release_of(draft.reference) is None]
            drafts += sorted(missing, key=lambda draft: (numbers(draft.release), draft.reference), reverse=True)
            task.advance(1)
    return drafts, skipped


def _ask_all(
    references: Sequence[str],
    registry: Registry,
    progress: Progress,
    known: Catalog,
    new: Mapping[str, Release],
    day: str,
    silent: dict[str, str],
) -> list[Asked | Skipped]:
    """Args:
    new: reference -> draft of a row, of those that the catalogue lacks.
    silent: registry -> why it gave no answer at all: others need not wait for it again.
    """

    def ask(reference: str) -> Asked | Skipped:
        host = parse_reference(reference).registry
        if host in silent:
            return Skipped(reference=reference, why=silent[host])
        try:
            return _ask(reference, registry, known, new.get(reference), day)
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


def _ask(reference: str, registry: Registry, known: Catalog, draft: Release | None, day: str) -> Asked | Skipped:
    found = registry.resolve(reference, machine=images.MACHINE)
    said = images.called(found.config)
    row = images.row_of(found.reference, found.config, known) if draft is None else None
    before = draft or row or (images.drafted(said[0], f"{said[1]}-py3", day=day) if said is not None else None)
    if before is None or (row is None and said is None and before.family in images.NAMES):
        return Skipped(reference=reference, why="it does not say that it is one of NVIDIA's images for a framework")
    if said is not None and (said[0], said[1].partition("-")[0]) != (before.family, before.release):
        return Skipped(reference=reference, why=f"it says that it is of another release: {images.NAMES[said[0]]} is {said[1]}")
    statements = images.statements(found.config, found.machines, row)
    source = f"image config of {found.reference}@{found.digest}"
    proposed = proposal.proposed(before, statements, source=source, day=day)
    return Asked(reference=reference, digest=found.digest, row=row, statements=statements, proposed=proposed)
