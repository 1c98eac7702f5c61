"""Tiny wheels, and environments to install them into."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

DEMO = {
    "demo_pkg/__init__.py": "VERSION = '1.0'\n",
    "demo_pkg/data/größe, in m.txt": "1\n",
    "demo_module.py": "def main():\n    print('main')\n",
    "demo_pkg-1.0.data/data/share/demo/readme.txt": "shared\n",
    "demo_pkg-1.0.data/scripts/demo-tool": "#!python\nprint('tool')\n",
    "demo_pkg-1.0.data/scripts/demo-shell": "#!/bin/sh\necho shell\n",
    "demo_pkg-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: Demo.Pkg\nVersion: 1.0\nRequires-Dist: six\n\nHello\n",
    "demo_pkg-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py2-none-any\nTag: py3-none-any\n",
    "demo_pkg-1.0.dist-info/entry_points.txt": "[console_scripts]\ndemo-main = demo_module:main\n",
    "demo_pkg-1.0.dist-info/licenses/LICENSE": "free\n",
}
DEMO_FILE = "demo_pkg-1.0-py2.py3-none-any.whl"


def write_wheel(path: Path, files: Mapping[str, str]) -> Path:
    """A wheel of these files, with its RECORD."""
    metadata = next(name for name in files if name.endswith("/METADATA")).partition("/")[0]
    lines = []
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            lines.append(f'"{name}",sha256={digest},{len(text.encode())}\n')
        archive.writestr(f"{metadata}/RECORD", "".join(lines) + f"{metadata}/RECORD,,\n")
    return path


def make_environment(directory: Path) -> Path:
    """A virtual environment without pip; returns it."""
    venv.EnvBuilder(with_pip=False, symlinks=True).create(directory)
    return directory


def install(environment: Path, *arguments: str | Path) -> None:
    """With the running interpreter's pip, which works on another environment here, and without any index."""
    options = ("install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", "--no-compile")
    subprocess.run((sys.executable, "-m", "pip", "--python", environment / "bin/python", *options, *arguments), check=True)


def site_of(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages"))
