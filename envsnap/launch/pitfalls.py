"""What goes wrong with an image elsewhere than under `docker run`, in sentences for the head of a file. docs/run.md has the sources."""

from __future__ import annotations

import json
import textwrap

from envsnap.model.launch import Launch

_WIDTH = 110
_LONGEST = 200  # of what an image says of itself
_NVIDIA = "nvidia_entrypoint.sh"


def said(*sentences: str) -> tuple[str, ...]:
    """Sentences as lines, each sentence on lines of its own."""
    return tuple(line for one in sentences for line in textwrap.wrap(one, _WIDTH, break_long_words=False, break_on_hyphens=False))


def entrypoint(launch: Launch, replaced_by: str, instead: str) -> tuple[str, ...]:
    """What replaces an image's entrypoint, and what does not; nothing of an image that has none."""
    if not launch.entrypoint:
        return ()
    what = textwrap.shorten(json.dumps(launch.entrypoint), _LONGEST, placeholder=" …")
    nvidia = launch.entrypoint[0].rpartition("/")[2] == _NVIDIA
    sets = ", which sets up CUDA forward compatibility on an older driver" if nvidia else ""
    return said(f"{replaced_by} would replace the image's entrypoint {what}{sets}: {instead}")


def outside(launch: Launch, command: str) -> tuple[str, ...]:
    """Of what starts a second process in a container."""
    return said(f"`{command}` starts beside the entrypoint: what that exports is not there.") if launch.entrypoint else ()
