"""What a user installs: the templates, the data, the guest scripts and the types travel in the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    build = "import sys, hatchling.build; print(hatchling.build.build_wheel(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", build, str(place)], cwd=ROOT, check=True, capture_output=True)
    (path,) = place.glob("*.whl")
    return path


def test_the_wheel_has_all_that_runs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    here = {f"envsnap/templates/{p.relative_to(ROOT / 'templates')}" for p in (ROOT / "templates").rglob("*") if p.is_file()}
    assert here
    assert here <= names
    ours = {
        str(p.relative_to(ROOT)) for p in (ROOT / "envsnap").rglob("*") if p.is_file() and p.suffix in {".py", ".yaml", ".json", ".typed"}
    }
    assert ours <= names


def test_an_installed_envsnap_finds_its_templates(wheel: Path, tmp_path: Path) -> None:
    """From the unpacked wheel, in another directory, with no checkout in sight."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "from envsnap.render.templates import template; print(template('Dockerfile.j2').filename, template('verdict.html.j2').filename)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(path.startswith(str(tmp_path / "site" / "envsnap" / "templates")) for path in done.stdout.split())


def test_the_console_script_is_what_python_m_runs(wheel: Path) -> None:
    """It holds Ctrl-C while the command line is imported; `envsnap.cli.main` cannot guard its own imports."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        assert archive.read(name).decode().split() == ["[console_scripts]", "envsnap", "=", "envsnap.__main__:main"]
    done = subprocess.run([sys.executable, "-m", "envsnap", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()[0]) == (0, "envsnap,"), done.stderr
