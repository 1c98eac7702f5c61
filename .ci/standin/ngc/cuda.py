"""Libraries of CUDA in the places that NGC has them: the real runtime, and for the others libraries of the same names whose functions fail.

A PyTorch built for CUDA loads them all when it is imported, and calls none of them where there is no GPU. The real ones are 4 GB.
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

TOOLKIT = "targets/x86_64-linux/lib"
"""Below the toolkit's folder."""
SYSTEM = "usr/lib/x86_64-linux-gnu"
PREFIXES = {
    "nccl": "libnccl.so.",
    "cuFile": "libcufile.so.",
    "cusparseLt": "libcusparseLt.so.",
    "curand": "libcurand.so.",
    "nvshmem": "libnvshmem_host.so.",
}
"""Of functions without a version: the library that has them."""
CUDA_LIBRARY = re.compile(r"lib(cu|nv|nccl)(?!da\.)[A-Za-z0-9_]*\.so\.[0-9]+\Z")
OF_SYSTEM = re.compile(r"lib(cudnn|nccl|cusparseLt)\.")
"""What NVIDIA's Debian packages put beside the system's libraries; the rest belongs to the toolkit's folder."""


FAT_BINARY = b"\x50\xed\x55\xba\x01\x00\x10\x00"
"""How a fat binary begins: magic number, version 1, a header of 16 bytes; its length comes next."""


def without_gpu_code(content: bytes) -> bytes:
    """A shared object whose fat binaries say as before which architectures they have code for, and have zeros for that code."""
    blank = bytearray(content)
    start = blank.find(FAT_BINARY)
    while start >= 0:
        entry = start + 16
        (length,) = struct.unpack_from("<Q", blank, start + 8)
        end = entry + length
        while entry < end:
            header, size = struct.unpack_from("<IQ", blank, entry + 4)
            blank[entry + header : entry + header + size] = bytes(size)
            entry += header + size
        if entry != end or end > len(content):
            raise SystemExit(f"no fat binary at byte {start}")
        start = blank.find(FAT_BINARY, end)
    return bytes(blank)


def make_libraries(files: Iterable[Path], runtime: Path, release: str, root: Path) -> list[str]:
    """Have below `root` each CUDA library that the files need.

    Args:
        files: ELF files of torch.
        release: of the toolkit, "12.8".
        runtime: the wheel nvidia-cuda-runtime-cu12, whose library is taken as it is.

    Returns:
        Names of the libraries that are stand-ins, sorted.
    """
    needed: set[str] = set()
    functions: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for file in files:
        needed |= set(re.findall(r"\(NEEDED\).*\[(.*)\]", readelf("--dynamic", file)))
        owners = versions_needed(file)
        for symbol, version in re.findall(r" UND ([^@\s]+)@*(\S*)", readelf("--dyn-syms", file)):
            if owners.get(version):
                functions[owners[version]][version].add(symbol)
            else:
                for prefix, library in PREFIXES.items():
                    if re.match(prefix + "[A-Z_x]", symbol):
                        functions[library][""].add(symbol)
    made = []
    with zipfile.ZipFile(runtime) as archive:
        (path,) = [path for path in archive.namelist() if re.search(r"/libcudart\.so\.[0-9]+\Z", path)]
        real = path.rsplit("/", 1)[1]
        place = lay_out(release, root) / real
        place.write_bytes(archive.read(path))
    for name in sorted(filter(CUDA_LIBRARY.match, needed)):
        if name == real:
            continue
        place = root / (SYSTEM if OF_SYSTEM.match(name) else f"usr/local/cuda/{TOOLKIT}") / name
        compile_library(name, functions.get(name) or functions.get(re.sub(r"[0-9]+\Z", "", name)) or {}, place)
        made.append(name)
    return made


def lay_out(release: str, root: Path) -> Path:
    """The toolkit's folders, the links to them, and where the system's loader is told of them; returns the libraries' folder."""
    toolkit = root / "usr/local" / f"cuda-{release}"
    for folder in (toolkit / TOOLKIT, toolkit / "compat/lib", root / SYSTEM, root / "etc/ld.so.conf.d"):
        folder.mkdir(parents=True)
    (root / "usr/local/cuda").symlink_to(f"cuda-{release}")
    (toolkit / "lib64").symlink_to(TOOLKIT)
    (root / "etc/ld.so.conf.d/000_cuda.conf").write_text(f"/usr/local/cuda/{TOOLKIT}\n")
    return toolkit / TOOLKIT


def versions_needed(file: Path) -> dict[str, str]:
    """Version of symbols -> the library of CUDA that has to define it."""
    owners, library = {}, ""
    for line in readelf("--version-info", file).splitlines():
        if found := re.search(r" File: (\S+)", line):
            library = found[1]
        elif CUDA_LIBRARY.match(library) and (found := re.search(r" Name: (\S+) ", line)):
            owners[found[1]] = library
    return owners


def readelf(option: str, file: Path) -> str:
    return subprocess.run(["readelf", "--wide", option, file], capture_output=True, text=True, check=True).stdout


def compile_library(name: str, functions: dict[str, set[str]], to: Path) -> None:
    """Each function returns 1, an error in every one of CUDA's libraries.

    Args:
        functions: version of the symbols, "" for none -> their names.
    """
    every = sorted(set().union(*functions.values()))
    versioned = {version: sorted(found) for version, found in functions.items() if version}
    with tempfile.TemporaryDirectory(prefix="envsnap-standin-") as scratch:
        source, versions = Path(scratch, "library.c"), Path(scratch, "versions")
        source.write_text("".join(f"int {function}(void) {{ return 1; }}\n" for function in every) or "int unused;\n")
        versions.write_text(
            "".join(f"{version} {{ global: {' '.join(f'{one};' for one in found)} }};\n" for version, found in versioned.items())
        )
        script = [f"-Wl,--version-script={versions}"] if versioned else []
        command = ["gcc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{name}", *script, "-o", str(to), str(source)]
        subprocess.run(command, check=True)
