"""A PEP 660 build backend of thirty lines, so that an editable install needs no network."""

from __future__ import annotations

import zipfile
from pathlib import Path

NAME, VERSION = "yolotools", "0.3.0"
INFO = f"{NAME}-{VERSION}.dist-info"


def get_requires_for_build_editable(config_settings: object = None) -> list[str]:
    return []


def build_editable(wheel_directory: str, config_settings: object = None, metadata_directory: str | None = None) -> str:
    file = f"{NAME}-{VERSION}-py3-none-any.whl"
    files = {
        f"__editable__.{NAME}-{VERSION}.pth": str(Path.cwd() / "src") + "\n",
        f"{INFO}/METADATA": f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n",
        f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{INFO}/entry_points.txt": "[console_scripts]\nyolotools-version = yolotools:main\n",
    }
    with zipfile.ZipFile(Path(wheel_directory) / file, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr(f"{INFO}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{INFO}/RECORD"]))
    return file
