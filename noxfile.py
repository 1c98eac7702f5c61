"""What one does here, one session each: `nox -l` lists them.

All sessions but `package` run in the environment that nox itself runs in (`python3 bootstrap.py test` makes it): one
environment, installed once.
"""

from __future__ import annotations

import nox

nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "none"


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: style, mistakes, forbidden imports."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types, strictly, over the package and its tests."""
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """All tests; those that need an engine or torch say why they are skipped. Those of the rooms run side by side."""
    if session.posargs:
        session.run("pytest", *session.posargs)
        return
    session.run("pytest", "-n", "auto", "tests", "--ignore=tests/integration")
    _integration(session)


@nox.session
def unit(session: nox.Session) -> None:
    """The rooms alone: seconds, no engine, no network."""
    session.run("pytest", "tests/unit", "tests/test_architecture.py", *session.posargs)


@nox.session
def integration(session: nox.Session) -> None:
    """The real engine, the real registry, the real training environment."""
    if session.posargs:
        session.run("pytest", "tests/integration", *session.posargs)
    else:
        _integration(session)


def _integration(session: nox.Session) -> None:
    # Modules side by side: most of their time is waiting. But some tests count what is in the engine, which the others' would be, too.
    session.run("pytest", "-n", "2", "--dist", "loadfile", "--durations=30", "-m", "not alone", "tests/integration")
    session.run("pytest", "--durations=10", "-m", "alone", "tests/integration")


@nox.session
def long(session: nox.Session) -> None:
    """What takes minutes each: other frameworks, environments that live in NGC's images (their stand-ins need Python 3.12 here)."""
    session.run("pytest", "-m", "long", "tests/integration", *session.posargs, env={"ENVSNAP_TEST_LONG": "1"})
    if not session.posargs:
        words = ("tests/integration/test_assembled_faults.py", "-k", "killed_at_any_instant")
        session.run("pytest", *words, env={"ENVSNAP_TEST_KILLS": "50"})


@nox.session
def golden(session: nox.Session) -> None:
    """Write the exact expected texts of tests/cases and the JSON Schema anew; read the diff before committing it."""
    session.run("python", "tests/cases/regenerate.py")
    write = "pathlib.Path(schema.__file__).with_name('lock.schema.json').write_text(schema.schema_text(), encoding='utf-8')"
    session.run("python", "-c", f"import pathlib; from envsnap.lockfile import schema; {write}")


@nox.session
def bench(session: nox.Session) -> None:
    """Costs, as ratios to something measured in the same run: of the commands (PYTHON), or of images (images LOCK …)."""
    if session.posargs[:1] == ["images"]:
        session.run("python", "tests/bench_images.py", *session.posargs[1:])
    else:
        session.run("python", "tests/bench.py", *session.posargs)


@nox.session
def picture(session: nox.Session) -> None:
    """Record the README's picture from a real session of the demonstration."""
    session.run("python", "docs/record.py")


@nox.session(venv_backend="venv")
def package(session: nox.Session) -> None:
    """Build the wheel, install it into an environment of its own, run it from there."""
    session.install("build")
    session.run("python", "-m", "build", "--outdir", "dist", ".")
    session.install("--find-links", "dist", "--no-index", "--no-deps", "envsnap")
