"""The smoke script without torch: its data, its file layout, its isolation, and what it says where it cannot run."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
import venv
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envsnap.guest import smoke, smoke_errors, smoke_host, smoke_shapes, smoke_tensors, smoke_torch, smoke_wandb
from envsnap.model.parity import SmokeRun

GUEST = Path(smoke.__file__).parent
# Of seed 0. The data must never change: references made with an older release would no longer be comparable.
SHAPES_DIGEST = "sha256:c553c5ff2f31f320262b3d7e1ea1011b56d0a1ec4efdbc8f4278d81050b50aba"


# --------------------------------------------------------------------------------------------------------------- the data


def test_the_data_set_is_the_same_everywhere(tmp_path: Path) -> None:
    pictures = smoke_shapes.make_pictures(0)
    smoke_shapes.write_dataset(str(tmp_path), pictures)
    assert smoke_shapes.dataset_digest(str(tmp_path), pictures) == SHAPES_DIGEST
    assert pictures != smoke_shapes.make_pictures(1)


def test_a_changed_label_shows_in_the_digest(tmp_path: Path) -> None:
    swapped = smoke_shapes.make_pictures(0, swap_first_label=True)
    smoke_shapes.write_dataset(str(tmp_path / "swapped"), swapped)
    assert smoke_shapes.dataset_digest(str(tmp_path / "swapped"), swapped) != SHAPES_DIGEST

    pictures = smoke_shapes.make_pictures(0)
    smoke_shapes.write_dataset(str(tmp_path / "edited"), pictures)
    label = tmp_path / "edited" / "val" / "labels" / "003.txt"
    label.write_text(label.read_text().replace("1 ", "0 ", 1))
    assert smoke_shapes.dataset_digest(str(tmp_path / "edited"), pictures) != SHAPES_DIGEST


def test_every_label_frames_its_object() -> None:
    for picture in smoke_shapes.make_pictures(3)["train"]:
        kind, *numbers = picture.label.split()
        x, y, width, height = (float(number) * smoke_shapes.SIDE for number in numbers)
        assert min(x - width / 2, y - height / 2) >= 0
        assert max(x + width / 2, y + height / 2) <= smoke_shapes.SIDE
        centre = (int(y) * smoke_shapes.SIDE + int(x)) * 3
        assert picture.pixels[centre : centre + 3] == (bytes((240, 20, 20)) if kind == "0" else bytes((20, 240, 20)))
        corner = (round(y - height / 2) * smoke_shapes.SIDE + round(x - width / 2)) * 3
        assert (picture.pixels[corner] == 240) == (kind == "0")  # a disc leaves the corners of its box to the ground


def read_png(data: bytes) -> tuple[int, int, bytes]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, parts, kinds = 8, b"", []
    width = height = 0
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, body = data[place + 4 : place + 8], data[place + 8 : place + 8 + length]
        assert struct.unpack_from(">I", data, place + 8 + length) == (zlib.crc32(kind + body),)
        kinds.append(kind)
        if kind == b"IHDR":
            width, height, *rest = struct.unpack(">IIBBBBB", body)
            assert rest == [8, 2, 0, 0, 0]
        parts += body if kind == b"IDAT" else b""
        place += 12 + length
    assert kinds[0] == b"IHDR" and kinds[-1] == b"IEND"
    rows = zlib.decompress(parts)
    stride = width * 3 + 1
    assert len(rows) == stride * height and not any(rows[::stride])  # filter 0 in every row
    return width, height, b"".join(rows[start + 1 : start + stride] for start in range(0, len(rows), stride))


@settings(deadline=None)
@given(st.integers(1, 12).flatmap(lambda side: st.tuples(st.just(side), st.binary(min_size=side * side * 3, max_size=side * side * 3))))
def test_png_holds_the_pixels(case: tuple[int, bytes]) -> None:
    side, pixels = case
    assert read_png(smoke_shapes.png(pixels, side)) == (side, side, pixels)


# ------------------------------------------------------------------------------------------------------ the configuration


def test_the_training_is_the_agreed_one() -> None:
    agreed = {
        "epochs": 20, "imgsz": 64, "batch": 8, "nbs": 8, "optimizer": "AdamW", "lr0": 2e-3, "lrf": 0.1, "momentum": 0.9,
        "weight_decay": 0.0, "warmup_epochs": 1.0, "warmup_bias_lr": 0.0, "cls": 1.5, "amp": False, "workers": 0, "patience": 0,
        "max_det": 10, "close_mosaic": 0, "val": False, "plots": False, "auto_augment": "", "deterministic": True,
    }  # fmt: skip
    assert agreed.items() <= smoke_torch.TRAINING.items()
    assert smoke_torch.BATCH_NORM_MOMENTUM == 0.2
    assert smoke_torch.TRAINING["epochs"] * smoke_shapes.PICTURES["train"] // smoke_torch.TRAINING["batch"] == 160


def test_nothing_is_drawn_at_random_but_the_weights() -> None:
    random = {"hsv_h", "hsv_s", "hsv_v", "degrees", "translate", "scale", "shear", "perspective", "flipud", "fliplr", "bgr", "mosaic"}
    random |= {"mixup", "cutmix", "copy_paste", "erasing"}
    assert {name for name in random if smoke_torch.TRAINING[name] != 0.0} == set()


# ------------------------------------------------------------------------------------------------------------ the tensors


def raw(shape: tuple[int, ...], dtype: str, fill: int) -> smoke_tensors.RawTensor:
    count = smoke_tensors.ITEM_BYTES[dtype]
    for size in shape:
        count *= size
    return smoke_tensors.RawTensor(dtype, shape, bytes([fill]) * count)


tensors = st.dictionaries(
    st.text(min_size=1, max_size=20).filter(lambda name: name != "__metadata__"),
    st.builds(
        raw,
        st.lists(st.integers(0, 4), max_size=4).map(tuple),
        st.sampled_from(sorted(smoke_tensors.ITEM_BYTES)),
        st.integers(0, 255),
    ),
    max_size=6,
)


@settings(deadline=None)
@given(tensors)
def test_tensors_survive_the_file(state: dict[str, smoke_tensors.RawTensor]) -> None:
    packed = smoke_tensors.pack_tensors(state)
    assert smoke_tensors.unpack_tensors(packed) == state
    assert smoke_tensors.pack_tensors(dict(reversed(state.items()))) == packed
    (length,) = struct.unpack_from("<Q", packed)
    assert (8 + length) % 8 == 0  # as the format asks for


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(smoke_errors.Unable, match=r"^anchor: "):
        smoke_tensors.unpack_tensors(data)


@settings(deadline=None)
@given(tensors.filter(bool), st.data())
def test_a_damaged_file_never_raises_anything_else(state: dict[str, smoke_tensors.RawTensor], data: st.DataObject) -> None:
    packed = bytearray(smoke_tensors.pack_tensors(state))
    for _ in range(data.draw(st.integers(1, 4))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = smoke_tensors.unpack_tensors(bytes(packed))
    except smoke_errors.Unable:
        return
    assert all(len(tensor.data) == len(raw(tensor.shape, tensor.dtype, 0).data) for tensor in found.values())


def file_of(header: str | bytes, body: bytes = b"") -> bytes:
    text = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + body


def entry(shape: Any, offsets: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


HOSTILE = {
    "header longer than the file": struct.pack("<Q", 1 << 40) + b"{}",
    "header over the limit": struct.pack("<Q", smoke_tensors.MAX_HEADER_BYTES + 1) + b" " * (smoke_tensors.MAX_HEADER_BYTES + 2),
    "not JSON": file_of("{"),
    "not UTF-8": file_of(b"\xff\xff"),
    "not an object": file_of("[]"),
    "nested without end": file_of("[" * 200_000),
    "a name twice": file_of('{"a":1,"a":2}'),
    "an entry that is text": file_of('{"a":"b"}'),
    "a missing key": file_of('{"a":{"dtype":"F32","shape":[]}}'),
    "an unknown type": file_of(json.dumps({"a": entry([1], [0, 4], "F64")}), b"1234"),
    "a type that is an object": file_of(json.dumps({"a": entry([1], [0, 4], {})}), b"1234"),
    "a shape that is text": file_of(json.dumps({"a": entry("1", [0, 4])}), b"1234"),
    "a shape of truth values": file_of(json.dumps({"a": entry([True], [0, 4])}), b"1234"),
    "a negative size": file_of(json.dumps({"a": entry([-1, -1], [0, 4])}), b"1234"),
    "a fraction": file_of(json.dumps({"a": entry([1.0], [0, 4])}), b"1234"),
    "not a number": file_of('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,NaN]}}', b"1234"),
    "three offsets": file_of(json.dumps({"a": entry([1], [0, 4, 4])}), b"1234"),
    "offsets behind the end": file_of(json.dumps({"a": entry([2], [0, 8])}), b"1234"),
    "offsets that do not fit the shape": file_of(json.dumps({"a": entry([2], [0, 4])}), b"1234"),
    "tensors that overlap": file_of(json.dumps({"a": entry([1], [0, 4]), "b": entry([1], [0, 4])}), b"1234"),
    "a gap": file_of(json.dumps({"a": entry([1], [4, 8])}), b"12345678"),
    "bytes that belong to nothing": file_of(json.dumps({"a": entry([1], [0, 4])}), b"12345"),
    "many dimensions": file_of(json.dumps({"a": entry([1] * 9, [0, 4])}), b"1234"),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_weights_are_refused(data: bytes) -> None:
    with pytest.raises(smoke_errors.Unable, match=r"^anchor: "):
        smoke_tensors.unpack_tensors(data)


def test_metadata_of_other_writers_is_passed_over() -> None:
    header = {"__metadata__": {"format": "pt"}, "a": entry([1], [0, 4])}
    assert smoke_tensors.unpack_tensors(file_of(json.dumps(header), b"1234")) == {"a": smoke_tensors.RawTensor("F32", (1,), b"1234")}


# ------------------------------------------------------------------------------------------------------- what it looks at


def test_the_processor_is_read_with_what_libraries_dispatch_on() -> None:
    x86 = "processor\t: 0\nmodel name\t: Example CPU 9000\nflags\t\t: fpu avx2 avx512f sse4_1 fma amx_bf16 rtm\nbugs\t\t: x\n"
    assert smoke_host.processor(x86) == ("Example CPU 9000", "amx_bf16 avx2 avx512f fma sse4_1")
    assert smoke_host.processor("Features\t: fp asimd sve2 bf16\n") == ("", "asimd bf16 sve2")
    assert smoke_host.processor("") == ("", "")


def test_a_wandb_run_is_summarised() -> None:
    records: list[dict[str, Any]] = [
        {"type": "run", "run": {}},
        {"type": "history", "history": {"item": {"_step": 0, "epoch": 1, "train/box_loss": 2.5}}},
        {"type": "history", "history": {"item": {"_step": 1, "epoch": 2, "val/box_loss": 2.0}}},
    ]
    assert smoke_wandb.summarise_wandb(records) == {"rows": 2, "keys": ["epoch", "train/box_loss", "val/box_loss"], "exit_code": None}
    assert smoke_wandb.summarise_wandb([*records, {"type": "exit", "exit": {"exit_code": 1}}])["exit_code"] == 1
    assert smoke_wandb.summarise_wandb([])["rows"] == 0


def test_no_variable_of_the_caller_reaches_the_libraries(tmp_path: Path) -> None:
    code = f"""
import json, os, sys
sys.path.insert(0, {str(GUEST.parent.parent)!r})
from envsnap.guest import smoke
smoke.isolate({str(tmp_path)!r}, "")
print(json.dumps([dict(os.environ), os.getcwd()]))
"""
    foreign = {"WANDB_API_KEY": "planted", "WANDB_BASE_URL": "https://example.com", "ULTRALYTICS_API_KEY": "planted", "RANK": "3"}
    foreign |= {"WORLD_SIZE": "4", "PYTEST_CURRENT_TEST": "x", "GITHUB_ACTIONS": "true", "YOLO_VERBOSE": "1", "NVIDIA_TF32_OVERRIDE": "0"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **foreign}, capture_output=True, check=True)
    environment, directory = json.loads(done.stdout)
    assert "planted" not in environment.values() and not {"RANK", "WORLD_SIZE", "PYTEST_CURRENT_TEST", "GITHUB_ACTIONS"} & set(environment)
    assert environment["WANDB_MODE"] == "offline" and environment["YOLO_OFFLINE"] == "1" and environment["YOLO_AUTOINSTALL"] == "0"
    assert environment["NVIDIA_TF32_OVERRIDE"] == "0"  # it belongs to what is measured
    assert all(Path(environment[name]).is_relative_to(tmp_path) for name in ("HOME", "YOLO_CONFIG_DIR", "WANDB_DIR", "MPLCONFIGDIR"))
    assert Path(directory) == tmp_path


# ------------------------------------------------------------------------------------------------------ where it cannot run


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter with nothing installed."""
    root = tmp_path_factory.mktemp("bare")
    venv.create(root, with_pip=False)
    return root


def install(root: Path, **modules: str) -> None:
    for name, code in modules.items():
        (root / f"{name}.py").write_text(code)


def environment_with(tmp_path: Path, **modules: str) -> Path:
    root = tmp_path / "env"
    venv.create(root, with_pip=False)
    install(next((root / "lib").glob("python*/site-packages")), **modules)
    return root


def run_script(root: Path, out: Path, *arguments: str) -> SmokeRun:
    scratch = out.parent / "scratch"
    scratch.mkdir()
    done = subprocess.run(
        [root / "bin" / "python", GUEST, "smoke", "--out", out, *arguments], env={**os.environ, "TMPDIR": str(scratch)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    assert list(scratch.iterdir()) == []
    return msgspec.json.decode((out / "smoke.json").read_bytes(), type=SmokeRun)


def test_without_torch_it_says_absent(bare: Path, tmp_path: Path) -> None:
    run = run_script(bare, tmp_path / "out", "--seed", "3")
    assert (run.status, run.reason, run.seed) == ("absent", "torch is not installed in this environment", 3)


def test_without_torchvision_it_says_absent(tmp_path: Path) -> None:
    run = run_script(environment_with(tmp_path, torch=""), tmp_path / "out")
    assert (run.status, run.reason) == ("absent", "torchvision is not installed in this environment")


def test_a_torch_that_does_not_import_is_a_failure(tmp_path: Path) -> None:
    broken = "raise OSError('libcudart.so.13: cannot open shared object file')"
    run = run_script(environment_with(tmp_path, torch=broken, torchvision=""), tmp_path / "out")
    assert run.status == "failed"
    assert run.reason.endswith("do not import: OSError: libcudart.so.13: cannot open shared object file")


def test_a_kit_comes_behind_the_environment(tmp_path: Path) -> None:
    root = environment_with(tmp_path, torch="", torchvision="")
    kit = tmp_path / "kit"
    kit.mkdir()
    install(kit, torch="raise ImportError('torch of the kit')", ultralytics="raise ImportError('ultralytics of the kit')")
    run = run_script(root, tmp_path / "out", "--kit", str(kit))
    assert run.reason.endswith("ImportError: ultralytics of the kit")


def test_a_cpu_is_never_taken_for_a_gpu(tmp_path: Path) -> None:
    torch = """
class cuda:
    is_available = staticmethod(lambda: False)
    def init(): raise RuntimeError("Found no NVIDIA driver on your system.")
"""
    root = environment_with(tmp_path, torch=torch, torchvision="", ultralytics="")
    run = run_script(root, tmp_path / "out", "--device", "cuda")
    assert (run.status, run.device_asked, run.device_used) == ("failed", "cuda", "")
    assert run.reason == "CUDA was asked for, but torch cannot use a GPU: RuntimeError: Found no NVIDIA driver on your system."


def test_fewer_gpus_than_asked_for_is_a_failure(tmp_path: Path) -> None:
    torch = "class cuda:\n    is_available = staticmethod(lambda: True)\n    device_count = staticmethod(lambda: 1)\n"
    root = environment_with(tmp_path, torch=torch, torchvision="", ultralytics="")
    run = run_script(root, tmp_path / "out", "--device", "cuda", "--gpus", "4")
    assert (run.status, run.reason) == ("failed", "4 GPUs were asked for, torch sees 1")


@pytest.mark.parametrize("anchor", ["missing", "hostile"])
def test_an_anchor_that_is_none_is_a_failure(tmp_path: Path, anchor: str) -> None:
    (tmp_path / "hostile").write_bytes(b"\x80\x04pickle?")
    root = environment_with(tmp_path, torch="", torchvision="")
    run = run_script(root, tmp_path / "out", "--anchor", str(tmp_path / anchor))
    assert run.status == "failed" and run.reason.startswith("anchor: ")


# ------------------------------------------------------------------------------------------------------ other frameworks


SIGHTLESS = {
    "tensorflow": "class config:\n    list_physical_devices = staticmethod(lambda kind: ['GPU:0'] * SEEN)\n",
    "paddle": (
        "def is_compiled_with_cuda(): return True\nclass device:\n    class cuda:\n        device_count = staticmethod(lambda: SEEN)\n"
    ),
}


@pytest.mark.parametrize("framework", SIGHTLESS)
def test_without_another_framework_it_says_absent(bare: Path, tmp_path: Path, framework: str) -> None:
    run = run_script(bare, tmp_path / "out", "--framework", framework)
    assert (run.status, run.reason) == ("absent", f"{framework} is not installed in this environment")


@pytest.mark.parametrize("framework", SIGHTLESS)
def test_another_framework_that_does_not_import_is_a_failure(tmp_path: Path, framework: str) -> None:
    root = environment_with(tmp_path, **{framework: "raise ImportError('libcudart.so.12')"})
    run = run_script(root, tmp_path / "out", "--framework", framework)
    assert (run.status, run.reason) == ("failed", f"{framework} and wandb do not import: ImportError: libcudart.so.12")


@pytest.mark.parametrize("framework", SIGHTLESS)
@pytest.mark.parametrize(("seen", "told"), [(0, "CUDA was asked for, but {} sees no GPU"), (1, "2 GPUs were asked for, {} sees 1")])
def test_another_framework_never_takes_a_cpu_for_a_gpu(tmp_path: Path, framework: str, seen: int, told: str) -> None:
    root = environment_with(tmp_path, wandb="", **{framework: SIGHTLESS[framework].replace("SEEN", str(seen))})
    run = run_script(root, tmp_path / "out", "--framework", framework, "--device", "cuda", "--gpus", "2")
    assert (run.status, run.device_used, run.reason) == ("failed", "", told.format(framework))
