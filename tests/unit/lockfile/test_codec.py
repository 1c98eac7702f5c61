# ruff: noqa: E501 - the tables: one case, one line
"""Lock <-> bytes: every bad input has its own sentence, and what is written is canonical."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import yaml

from envsnap.errors import InputError
from envsnap.lockfile import codec, document
from envsnap.lockfile.codec import dumps, loads
from tests import samples

Edit = Callable[[dict[str, Any]], None]


DOCUMENT = msgspec.json.encode(samples.lock())


def edited(edit: Edit) -> bytes:
    """The sample lock's document with one change; JSON is YAML, and quick to write."""
    plain = json.loads(DOCUMENT)
    edit(plain)
    return json.dumps(plain, default=str).encode() + b"\n"


def put(*path: str | int, value: Any) -> Edit:
    def edit(plain: Any) -> None:
        for part in path[:-1]:
            plain = plain[part]
        plain[path[-1]] = value

    return edit


def drop(*path: str | int) -> Edit:
    def edit(plain: Any) -> None:
        for part in path[:-1]:
            plain = plain[part]
        del plain[path[-1]]

    return edit


def index_of(name: str) -> int:
    return [package.name for package in samples.packages()].index(name)


NUMPY, PIP, THOP, TOOLS = (index_of(name) for name in ("numpy", "pip", "ultralytics-thop", "yolotools"))

OF_SYSTEM = {"kind": "system", "package": "python3-numpy", "version": "1:1.24.2-1", "arch": "amd64"}
SENTENCES: list[tuple[str, Edit, str]] = [
    ("short hash", put("packages", PIP, "sha256", value="a" * 63), f"packages[{PIP}].sha256: 63 hex digits, not 64"),
    ("upper-case hash", put("packages", PIP, "sha256", value="A" * 64), f"packages[{PIP}].sha256: its hex digits must be lower case"),
    ("no hash", put("packages", PIP, "sha256", value="zz"), f"packages[{PIP}].sha256: 'zz' is not 64 hex digits"),
    ("short digest", put("digest", value="sha256:" + "0" * 65), "digest: 65 hex digits, not 64"),
    ("other digest", put("digest", value="md5:00"), "digest: 'md5:00' does not begin with 'sha256:'"),
    ("unknown key", put("pakages", value=[]), "unknown key 'pakages'; did you mean 'packages'?"),
    ("strange key", put("zzz", value=1), "unknown key 'zzz'"),
    ("inner unknown key", put("packages", 0, "verison", value="1"), "packages[0]: unknown key 'verison'; did you mean 'version'?"),
    ("unknown key of an origin", put("packages", THOP, "origin", "comit", value="1"), f"packages[{THOP}].origin: unknown key 'comit'; did you mean 'commit'?"),
    ("unknown key of a device", put("observed", "gpu", "drivr", value="580"), "observed.gpu: unknown key 'drivr'; did you mean 'driver'?"),
    ("missing key", drop("packages", 0, "version"), "packages[0]: the key 'version' is missing"),
    ("missing top-level key", drop("python"), "the key 'python' is missing"),
    ("a number", put("packages", 0, "version", value=1.5), "packages[0].version: must be text, not a number with a fraction (put it in quotes)"),
    ("text for a switch", put("packages", 0, "requested", value="yes"), "packages[0].requested: must be true or false, not text"),
    ("mapping for a list", put("packages", value={}), "packages: must be a list, not a mapping"),
    ("null", put("packages", 0, value=None), "packages[0]: must be a mapping, not null"),
    ("number as variable", put("env", "OMP_NUM_THREADS", value=2), "env.OMP_NUM_THREADS: must be text or null, not a whole number (put it in quotes)"),
    ("name of a variable", put("env", "A B", value="x"), "env.A B: 'A B' is not the name of a variable"),
    ("null as reading", put("capture", "readings", "x", value=None), "capture.readings.x: must be a number or text, not null"),
    ("digest in a mapping", put("observed", "reference", "smoke", "gradient", "fp32", value="x"), "observed.reference.smoke.gradient.fp32: 'x' does not begin with 'sha256:'"),
    ("kind of origin", put("packages", 0, "origin", value={"kind": "web"}), "packages[0].origin.kind: 'web' is not one of index, vcs, directory, editable, wheel, base, conda, system, unknown"),
    ("no kind", put("packages", 0, "origin", value={}), "packages[0].origin: the key 'kind' is missing"),
    ("machine", put("python", "interpreter", "machine", value="sparc"), "python.interpreter.machine: 'sparc' is not one of aarch64, x86_64"),
    ("long name", put("name", value="x" * 101), "name: 101 characters; 100 at most"),
    ("path out of the tree", put("source", "untracked", 0, "path", value="../../etc/passwd"), "source.untracked[0].path: '../../etc/passwd' is not a safe relative path (it may not be absolute, nor hold '.' or '..' parts or control characters)"),
    ("shell in a version", put("packages", 0, "version", value="1; reboot"), "packages[0].version: '1; reboot' is not a version"),
    ("name of a package", put("packages", 0, "name", value="Num_Py"), "packages[0].name: 'Num_Py' is not a normalised package name (lower-case letters and digits, with '-' between them)"),
    ("wheel path", put("packages", 0, "file", value="../x.whl"), "packages[0].file: '../x.whl' is not the name of a wheel file"),
    ("tag", put("packages", THOP, "tags", value=["x-y-/../../../../evil"]), f"packages[{THOP}].tags[0]: 'x-y-/../../../../evil' is not the tag of a wheel (interpreter-ABI-platform)"),
    ("commit", put("source", "commit", value="main"), "source.commit: 'main' is not a full git object name (40 or 64 hex digits)"),
    ("soname", put("system_packages", 0, "sonames", 0, value="a b"), "system_packages[0].sonames[0]: 'a b' is not the soname of a library"),
    ("system package", put("system_packages", 0, "name", value="x;y"), "system_packages[0].name: 'x;y' is not the name of a system package"),
    ("lock name", put("name", value="../evil"), "name: '../evil' is not a lock's name (lower-case letters and digits, with single '.', '_' or '-' between them)"),
    ("a secret in an error", put("packages", 0, "name", value="ghp_" + "a" * 36), "packages[0].name: '****' is not a normalised package name (lower-case letters and digits, with '-' between them)"),
    # Rules between fields.
    ("order", lambda plain: plain["packages"].reverse(), "packages[1]: wandb comes after yolotools; the list must be sorted"),
    ("twice", lambda plain: plain["packages"].insert(0, plain["packages"][0]), "packages[1]: numpy is there twice"),
    ("not normalised", put("packages", 0, "name", value="num--py"), "packages[0].name: 'num--py' is not normalised: runs of '-' become one"),
    ("another's wheel", put("packages", 0, "file", value="torch-2.12.1-py3-none-any.whl"), "packages[0].file: 'torch-2.12.1-py3-none-any.whl' is not a wheel of numpy 2.4.6"),
    ("another version's wheel", put("packages", 0, "file", value="numpy-1.99-py3-none-any.whl"), "packages[0].file: 'numpy-1.99-py3-none-any.whl' is not a wheel of numpy 2.4.6"),
    ("index without hash", drop("packages", 0, "sha256"), "packages[0].sha256: missing; provenance 'index' needs it"),
    ("index without files", drop("packages", 0, "files"), "packages[0].files: missing; provenance 'index' needs it"),
    ("index without file", drop("packages", 0, "file"), "packages[0].file: missing; provenance 'index' needs it"),
    ("vcs without blob", drop("packages", THOP, "blob"), f"packages[{THOP}].blob: missing; provenance 'vcs' needs it"),
    ("source without blob", drop("packages", TOOLS, "blob"), f"packages[{TOOLS}].blob: missing; provenance 'source' needs it"),
    ("packed without a name", lambda plain: plain["packages"][THOP].update(file=None, provenance="unproven"), f"packages[{THOP}].file: missing; a packed wheel has a name"),
    ("claims the index", put("packages", THOP, "provenance", value="index"), f"packages[{THOP}].provenance: 'index' does not go with an origin of kind 'vcs'"),
    ("edited and proven", put("packages", 0, "modified", value=["x.py"]), "packages[0].modified: files were edited, so the provenance cannot be 'index'"),
    ("source without project", drop("source"), f"packages[{TOOLS}].provenance: 'source', but the lock has no source"),
    ("editable nowhere", drop("packages", TOOLS, "origin", "path"), f"packages[{TOOLS}].origin.path: missing; provenance 'source' needs it"),
    ("of the system, unchecked", lambda plain: plain["packages"][0].update(provenance="system", origin=OF_SYSTEM), "packages[0].origin.files: missing; provenance 'system' needs it"),
    ("branch as commit", put("packages", THOP, "origin", "commit", value="main"), f"packages[{THOP}].origin.commit: 'main' is not a full git object name (40 or 64 hex digits)"),
    ("index address", put("packages", 0, "origin", "index", value="https://u:p@h.invalid/"), "packages[0].origin.index: 'https://****@h.invalid/' may hold a name and a host only"),
    ("credentials", put("source", "remote", value="https://user:pw@git.example.com/x"), "source.remote: it carries credentials"),
    ("space in an address", put("packages", THOP, "origin", "url", value="https://git.example.com/x --upload-pack=y"), f"packages[{THOP}].origin.url: an address may not hold white space or control characters"),
    ("patch of nothing", drop("source", "commit"), "source.patch: a patch needs the commit that it applies to"),
    ("system order", lambda plain: plain["system_packages"].reverse(), "system_packages[1]: libgl1 comes after libxcb1; the list must be sorted"),
    ("nothing needed", put("system_packages", 0, "sonames", value=[]), "system_packages[0].sonames: empty"),
    ("secret by name", put("env", "WANDB_API_KEY", value="x"), "env.WANDB_API_KEY: a secret; its value must be left out (null)"),
    ("secret by value", put("env", "LANG", value="https://u:p@example.com"), "env.LANG: a secret; its value must be left out (null)"),
    ("control character", put("env", "LANG", value="C\nRUN reboot"), "env.LANG: its value holds control characters"),
    ("abi", put("python", "abi", value="cp 311"), "python.abi: 'cp 311' may hold letters, digits, '.', '_' and '-' only"),
    ("architecture", put("packages", 0, "device_code", value={"cubins": ["sm_90", "gfx942"]}), "packages[0].device_code.cubins[1]: 'gfx942' is not a GPU architecture (sm_90, compute_90)"),
    ("too many architectures", put("packages", 0, "device_code", value={"cubins": ["sm_90"] * 101}), "packages[0].device_code.cubins: 101 entries; 100 at most"),
    ("PTX among cubins", put("packages", 0, "device_code", value={"cubins": ["compute_90"]}), "packages[0].device_code.cubins: 'compute_90' does not begin with 'sm_'"),
    ("cubins among PTX", put("packages", 0, "device_code", value={"ptx": ["sm_90"]}), "packages[0].device_code.ptx: 'sm_90' does not begin with 'compute_'"),
    ("no architectures", put("packages", 0, "device_code", value={}), "packages[0].device_code: empty; it is left out of a package without any"),
    ("order of architectures", put("packages", 0, "device_code", value={"cubins": ["sm_100", "sm_90"]}), "packages[0].device_code.cubins: sm_100 sm_90 does not ascend"),
    ("an architecture twice", put("packages", 0, "device_code", value={"cubins": ["sm_90", "sm_90"]}), "packages[0].device_code.cubins: sm_90 sm_90 does not ascend"),
    ("part of nothing", put("packages", 0, "device_code", value={"cubins": ["sm_90"], "partial": ["sm_90a"]}), "packages[0].device_code.partial: 'sm_90a' is neither in 'cubins' nor in 'ptx'"),
    # Schema versions.
    ("newer", put("envsnap", value=2), "made by a newer envsnap: schema 2"),
    ("older", put("envsnap", value=0), "envsnap: unknown schema version 0"),
    ("text as schema", put("envsnap", value="1"), "envsnap: unknown schema version '1'"),
    ("no schema", drop("envsnap"), "not an envsnap lock"),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "sentence"), [case[1:] for case in SENTENCES], ids=[case[0] for case in SENTENCES])
def test_every_fault_has_its_sentence(edit: Edit, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        loads(edited(edit), "locks/x.yaml")
    assert caught.value.what == f"locks/x.yaml: {sentence}" and caught.value.hint
    assert caught.value.exit_code == 4


TEXTS: list[tuple[str, bytes, str]] = [
    ("empty", b"", "the file is empty"),
    ("blank", b"\n  \n", "the file is empty"),
    ("not UTF-8", b"envsnap: 1\n\xff\n", "not UTF-8: byte 0xff at offset 11"),
    ("comment only", b"# nothing\n", "not an envsnap lock"),
    ("a list", b"- 1\n", "not an envsnap lock"),
    ("another document", b"services: {}\n", "not an envsnap lock"),
    ("key twice", b"envsnap: 1\nenvsnap: 1\n", "line 2, column 1: the key 'envsnap' is there twice"),
    ("key twice deep inside", b"envsnap: 1\nenv:\n  A: x\n  A: y\n", "line 4, column 3: the key 'A' is there twice"),
    ("anchor", b"envsnap: &a 1\n", "line 1, column 10: anchors and aliases are not allowed"),
    ("alias", b"envsnap: 1\nname: *a\n", "line 2, column 7: anchors and aliases are not allowed"),
    ("merge key", b"envsnap: 1\n<<: {a: b}\n", "line 2, column 1: the key '<<' is not text"),
    ("number as key", b"envsnap: 1\n2: x\n", "line 2, column 1: the key '2' is not text"),
    ("list as key", b"envsnap: 1\n? [a]\n: x\n", "line 2, column 3: the key (a list or mapping) is not text"),
    ("python object", b"envsnap: !!python/object/apply:os.system [id]\n", "line 1, column 10: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is not allowed"),
    ("nesting", b"envsnap: " + b"[" * 900 + b"\n", "line 1, column 41: nested more than 32 deep"),
    ("not a number", b"envsnap: .nan\n", "line 1, column 10: .nan is not a finite number"),
    ("impossible date", b"envsnap: 2026-99-99\n", "a value is not what it looks like: month must be in 1..12"),
    ("two documents", b"envsnap: 1\n---\nenvsnap: 1\n", "line 2, column 1: expected a single document in the stream, but found another document"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "sentence"), [case[1:] for case in TEXTS], ids=[case[0] for case in TEXTS])
def test_every_bad_text_has_its_sentence(data: bytes, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        loads(data)
    assert caught.value.what == f"lock: {sentence}" and caught.value.hint


def test_yaml_syntax_errors_tell_line_and_column() -> None:
    with pytest.raises(InputError, match=r"lock: line 3, column 3: ") as caught:
        loads(b"a:\n  - [\n  }\n")
    assert caught.value.hint


def test_a_schema_version_in_quotes_is_told_from_an_unknown_one() -> None:
    with pytest.raises(InputError) as caught:
        loads(edited(put("envsnap", value="1")))
    assert caught.value.why == "it is text, and must be the number 1"


def test_a_date_is_not_text() -> None:
    with pytest.raises(InputError) as caught:
        loads(edited(put("capture", "at", value="AT")).replace(b'"AT"', b"2026-11-20"))
    assert caught.value.what == "lock: capture.at: must be text, not a date (put it in quotes)"


def test_a_text_that_is_too_long_is_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 10)
    with pytest.raises(InputError, match="lock: more than 10 bytes, which none"):
        loads(b"[" * 11)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_lock_says_so(share: float) -> None:
    data = dumps(samples.lock())
    with pytest.raises(InputError) as caught:
        loads(data[: int(len(data) * share)])
    assert "looks cut off" in caught.value.why


@pytest.mark.parametrize(
    ("edit", "part"),
    [
        (put("packages", 0, "version", value="2.4.6.0"), "digest"),
        (put("env", "OMP_NUM_THREADS", value="8"), "digest"),
        (put("source", "branch", value="x"), "digest"),
        (put("observed", "platform", "kernel", value="x"), "observed.digest"),
        (put("observed", "reference", "smoke", "map50", value=0.9), "observed.digest"),
    ],
)
def test_a_changed_part_is_told_with_the_digest_that_it_should_have(edit: Edit, part: str) -> None:
    with pytest.raises(InputError) as caught:
        loads(edited(edit))
    assert caught.value.what.startswith(f"lock: {part}: is sha256:")
    assert "was changed after it was captured" in caught.value.why


def test_what_no_digest_covers_may_change() -> None:
    loads(edited(put("capture", "host", value="elsewhere")))
    loads(edited(put("observed", "reference", "measurements", "seconds", value=99.5)))


def test_all_broken_rules_are_in_the_log() -> None:
    def edit(plain: dict[str, Any]) -> None:
        drop("packages", NUMPY, "sha256")(plain)
        drop("packages", THOP, "blob")(plain)

    with pytest.raises(InputError) as caught:
        loads(edited(edit))
    assert caught.value.why == "and 1 more"
    assert len(caught.value.log.splitlines()) == 2


@pytest.mark.parametrize("lock", [samples.lock(), samples.lock(device="cuda"), samples.lock(smoke=False)], ids=["cpu", "cuda", "no smoke"])
def test_what_is_written_is_read_back(lock: Any) -> None:
    data = dumps(lock)
    assert loads(data) == lock
    assert dumps(loads(data)) == data


def test_the_text_is_canonical() -> None:
    text = dumps(samples.lock()).decode()
    lines = text.splitlines()
    assert lines[0] == f"# {codec.HEADER}"
    assert lines[1] == "envsnap: 1"
    assert [line.split(":")[0] for line in lines[1:] if line[0].isalpha()] == [
        "envsnap", "name", "digest", "python", "packages", "system_packages", "source", "env", "observed", "capture",
    ]  # fmt: skip
    assert "&" not in text
    assert text.endswith("\n")


def test_text_that_looks_like_something_else_is_quoted_for_every_yaml() -> None:
    tricky = [
        "1e3",
        "0o17",
        "1.10",
        "on",
        "yes",
        "null",
        "~",
        "2026-11-20",
        "12:30:00",
        "0x1f",
        "=",
        "<<",
        "- x",
        "# y",
        "ä€😀",
        "",
        " ",
        "1_000",
    ]
    lock = samples.lock(capture=msgspec.structs.replace(samples.capture(), readings={f"r{n:02}": text for n, text in enumerate(tricky)}))
    text = dumps(lock).decode()
    assert loads(text.encode()).capture.readings == lock.capture.readings
    for loader in (yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        assert list(yaml.load(text, Loader=loader)["capture"]["readings"].values()) == tricky
    assert "r00: '1e3'" in text and "r01: '0o17'" in text  # numbers to YAML 1.2
    assert "ä€😀" in text


def test_long_lines_are_not_folded() -> None:
    reading = "word " * 200
    lock = samples.lock(capture=msgspec.structs.replace(samples.capture(), readings={"long": reading.strip()}))
    assert reading.strip() in dumps(lock).decode()


def test_the_json_form_of_a_lock_is_the_same_document() -> None:
    lock = samples.lock()
    assert json.loads(msgspec.json.encode(lock)) == yaml.safe_load(dumps(lock))
