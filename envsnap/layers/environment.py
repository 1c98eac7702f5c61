"""The empty environment (PEP 405), and the directories that any user may write to."""

from __future__ import annotations

from collections.abc import Iterable

from envsnap.layers.writer import LayerWriter
from envsnap.model.base import Directory
from envsnap.model.layers import EnvironmentLayer, Layout
from envsnap.oci.paths import parents

_ANYONE = 0o1777
_PLAIN = Directory()


def write_environment(layer: EnvironmentLayer, layout: Layout, writer: LayerWriter) -> None:
    """The same files as the Dockerfile's step makes: no activation scripts, as nothing has to be activated in an image."""
    directories(layout, writer)
    if layer.interpreter is not None:
        for part in ("", "/bin", "/lib", f"/lib/python{layout.python}", f"/lib/python{layout.python}/site-packages"):
            writer.directory(layout.prefix + part)
        writer.symlink(f"{layout.prefix}/bin/python", "python3")
        writer.symlink(f"{layout.prefix}/bin/python3", layer.interpreter)
        writer.symlink(f"{layout.prefix}/bin/python{layout.python}", "python3")
        writer.symlink(f"{layout.prefix}/lib64", "lib")
        home = layer.interpreter.rpartition("/")[0]
        settings = f"home = {home}\ninclude-system-site-packages = false\nversion = {layer.version}\n"
        writer.file(f"{layout.prefix}/pyvenv.cfg", settings.encode())
    for path in layer.writable:
        directories_above(path.lstrip("/"), layout, writer)
        writer.directory(path.lstrip("/"), _ANYONE)


def directories(layout: Layout, writer: LayerWriter) -> None:
    """The directories above the environment: a layer that left one out would turn it into one of mode 0755 of root."""
    directories_above(layout.prefix, layout, writer)


def write_removal(paths: Iterable[str], layout: Layout, writer: LayerWriter) -> None:
    """Whiteouts, below directories as the base has them: one that a layer leaves out is made anew by some engines, with another mode."""
    for path in paths:
        directories_above(path, layout, writer)
        writer.whiteout(path)


def directories_above(path: str, layout: Layout, writer: LayerWriter) -> None:
    for above in reversed([*parents(path)]):
        directory(above, layout, writer)


def directory(path: str, layout: Layout, writer: LayerWriter) -> None:
    """One directory, as the base keeps it."""
    how = layout.directories.get(path, _PLAIN)
    writer.directory(path, how.mode, how.uid, how.gid)
