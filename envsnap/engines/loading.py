"""Giving an engine an image as an archive, and looking whether it has it: what it says about that proves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from envsnap import redaction
from envsnap.engines.connection import NO_SPACE, engine_errors, failure
from envsnap.engines.container import new_container
from envsnap.errors import EngineError, TargetError

if TYPE_CHECKING:
    from docker import APIClient

_SILENCE_S = 3600  # an engine says nothing while it unpacks a layer of some GB onto a slow disk


class NotTaken(EngineError):
    """The engine was given an image, and does not have it afterwards: the layers that were left out may not be there."""


def send(client: APIClient, chunks: Iterator[bytes], what: str) -> None:
    """Stream an archive to the engine (`POST /images/load`).

    Raises:
        NotTaken: the engine refuses it.
        EngineError: it does not answer, or its disk is full. What `chunks` raises passes through.
    """
    url = f"{client.base_url}/v{client.api_version}/images/load"
    headers = {"Content-Type": "application/x-tar"}
    with engine_errors(what), client.post(url, data=chunks, headers=headers, stream=True, timeout=_SILENCE_S) as response:
        if response.status_code != 200:
            raise _refused(what, response.text)
        for line in response.iter_lines():
            event: Mapping[str, Any] = json.loads(line) if line else {}
            if "error" in event:
                raise _refused(what, str(event["error"]))


def _refused(what: str, said: str) -> EngineError:
    if any(phrase in said.lower() for phrase in NO_SPACE[0]):
        return failure(what, said)
    return NotTaken(what, why=redaction.text(said.strip()))


def layers_in_common(client: APIClient, diff_ids: Sequence[str]) -> int:
    """How many layers, from the lowest, the engine has already, below whatever image."""
    most = 0
    with engine_errors("cannot ask the engine for its images"):
        for entry in client.images():
            found = inspect(client, entry["Id"])
            most = max(most, _common(rootfs(found), diff_ids)) if found is not None else most
            if most == len(diff_ids):
                break
    return most


def inspect(client: APIClient, reference: str) -> Mapping[str, Any] | None:
    """The engine's description of an image; None when it has none. docker-py's errors pass through."""
    from docker.errors import ImageNotFound

    try:
        found: Mapping[str, Any] = client.inspect_image(reference)  # type: ignore[no-untyped-call]
    except ImageNotFound:
        return None
    return found


def rootfs(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The layers' diff_ids in an engine's description of an image."""
    return tuple((found.get("RootFS") or {}).get("Layers") or ())


def opens(client: APIClient, image_id: str) -> bool:
    """Whether a container can be made of an image. On the containerd store it may be listed while its layers are not there."""
    try:
        with new_container(client, image_id, ["true"]):
            return True
    except (EngineError, TargetError):
        return False


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count
