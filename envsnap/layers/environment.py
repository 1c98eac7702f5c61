"""The empty environment (PEP 405), and the directories that any user may write to."""

from __future__ import annotations

from envsnap.layers.writer import LayerWriter
from envsnap.model.layers import EnvironmentLayer, Layout
from envsnap.oci.paths import parents

_ANYONE = 0o1777


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
        writer.directory(path.lstrip("/"), _ANYONE)


def directories(layout: Layout, writer: LayerWriter) -> None:
    """The directories above the environment: a layer that left one out would turn it into one of mode 0755 of root."""
    for path in reversed([*parents(layout.prefix)]):
        how = layout.opt if path == "opt" else None
        writer.directory(path, how.mode if how else 0o755, how.uid if how else 0, how.gid if how else 0)
