"""Why could this change numbers? Each thing that computes has its own sentence, and it is the right one's."""

from __future__ import annotations

import pytest

from envsnap.parity.causes import cause

OF_ONE_THING = [
    ("cuDNN", ("packages.nvidia-cudnn-cu13.version", "observed.cuda.cudnn", "observed.cuda.loaded.libcudnn_ops.so.9.version")),
    ("cuBLAS", ("packages.nvidia-cublas-cu12.version", "observed.cuda.cublas", "observed.cuda.loaded.libcublasLt.so.13.sha256")),
    ("NCCL", ("packages.nvidia-nccl-cu13.version", "observed.cuda.nccl", "observed.cuda.loaded.libnccl.so.2")),
    ("CUDA's runtime", ("packages.nvidia-cuda-runtime.version", "observed.cuda.runtime", "observed.cuda.loaded.libcudart.so.13.version")),
    ("torch decides", ("packages.torch.version", "observed.cuda.torch.git", "observed.cuda.torch", "observed.cuda.loaded.libc10.so.owner")),
    ("TF32", ("observed.cuda.torch.flags.backends.cuda.matmul.allow_tf32", "observed.cuda.torch.flags.get_float32_matmul_precision")),
    ("TF32", ("env.NVIDIA_TF32_OVERRIDE", "env.TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")),
    (
        "atomic",
        ("observed.cuda.torch.flags.backends.cudnn.deterministic", "observed.cuda.torch.flags.are_deterministic_algorithms_enabled"),
    ),
    ("fastest", ("observed.cuda.torch.flags.backends.cudnn.benchmark",)),
    ("instruction set", ("observed.platform.instruction_sets", "observed.platform.cpu", "env.ATEN_CPU_CAPABILITY")),
    ("threads", ("env.OMP_NUM_THREADS", "env.MKL_NUM_THREADS", "observed.cuda.loaded.libgomp-a34b3233.so.1.sha256")),
    ("Triton", ("packages.triton.version", "packages.pytorch-triton.version")),
    ("pictures", ("packages.opencv-python-headless.version", "packages.pillow.version")),
    (
        "CPU",
        ("packages.numpy.version", "observed.cuda.loaded.libscipy_openblas64_-ff651d7f.so.sha256", "observed.cuda.loaded.libmkl_core.so.2"),
    ),
]


@pytest.mark.parametrize(("told", "fields"), OF_ONE_THING, ids=[told for told, _ in OF_ONE_THING])
def test_a_thing_has_one_sentence_wherever_it_differs(told: str, fields: tuple[str, ...]) -> None:
    sentences = {cause(field) for field in fields}
    assert all(told in sentence for sentence in sentences), sentences
    if fields[0].startswith(("packages", "observed.cuda.torch.flags")):
        assert len(sentences) == 1


def test_different_things_have_different_sentences() -> None:
    fields = ("packages.torch.version", "packages.nvidia-cudnn-cu13.version", "packages.nvidia-cublas.version", "packages.numpy.version")
    assert len({cause(field) for field in fields}) == len(fields)


@pytest.mark.parametrize("field", ["packages.requests.version", "python.version", "env.LANG", "source.files", "observed.cuda", ""])
def test_of_the_rest_nothing_is_claimed(field: str) -> None:
    assert cause(field) == ""
