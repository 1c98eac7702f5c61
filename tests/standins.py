"""What a stand-in for an NGC image has to be, from its facts in .ci/standin/ngc."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FOLDER = Path(__file__).parents[1] / ".ci/standin/ngc"
RELEASES = sorted(path.stem for path in FOLDER.glob("[0-9]*.toml"))


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Attributes: python: "3.12". env, labels: all that the image has, but PATH and labels of envsnap's own. said: the release's file."""

    python: str
    ubuntu: str
    env: dict[str, str]
    labels: dict[str, str]
    said: dict[str, Any]


def facts_of(release: str) -> Facts:
    said = tomllib.loads((FOLDER / f"{release}.toml").read_text(encoding="utf-8"))
    common = tomllib.loads((FOLDER / "common.toml").read_text(encoding="utf-8"))
    site = f"/usr/local/lib/python{said['python']}/dist-packages"
    env = {**common["env"], **said["env"]}
    for name in said.get("without", ()):
        del env[name]
    env = {name: value.replace("{site}", site) for name, value in env.items()}
    labels = {"org.opencontainers.image.version": said["ubuntu"]}
    for name, value in common["labels"].items():
        if not value.startswith("$"):
            labels[name] = value
        elif value[1:] in env:
            labels[name] = env[value[1:]]
    return Facts(python=said["python"], ubuntu=said["ubuntu"], env=env, labels=labels, said=said)
