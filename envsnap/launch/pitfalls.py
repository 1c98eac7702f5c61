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


def entrypoint(launch: Launch, sentence: str) -> tuple[str, ...]:
    """What a person has to know of it; nothing of an image that has none. Args: sentence: with {it} where it is named."""
    if not launch.entrypoint:
        return ()
    it = f"the image's entrypoint {textwrap.shorten(json.dumps(launch.entrypoint), _LONGEST, placeholder=' …')}"
    if launch.entrypoint[0].rpartition("/")[2] == _NVIDIA:
        it += ", which sets up CUDA forward compatibility on an older driver"
    return said(sentence.replace("{it}", it))


def outside(launch: Launch, command: str) -> tuple[str, ...]:
    """Of what starts a second process in a container."""
    return said(f"`{command}` starts beside the entrypoint: what that exports is not there.") if launch.entrypoint else ()
