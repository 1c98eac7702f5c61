"""Why could this change numbers? One sentence for each thing that computes, and for each switch of it.

The same sentence for a package, for its library as it was loaded, and for the version that the library itself gives: on a screen
they stand together.
"""

from __future__ import annotations

import re

_TF32 = "TF32 keeps 10 bits of a factor's fraction where fp32 has 23: products are off by about 1e-3 instead of 1e-7"
_THREADS = "sums are split over other threads and added in another order: the last digits change, and training makes them grow"
_KERNELS_OF_CPU = "math libraries choose kernels by instruction set: wider vectors and fused multiply-adds add and round in another order"
_DETERMINISM = "without it atomic additions finish in any order and two runs differ; with it other kernels compute"

_FLAG = r"(?:torch|tensorflow|paddle)\.flags\."

_THINGS: tuple[tuple[str, str], ...] = (
    # Packages by name, loaded libraries by soname, and the field of the version that was loaded.
    (
        r"nvidia-cudnn.*|libcudnn.*|cudnn",
        "cuDNN picks kernels for convolutions by heuristics of its version: another one adds in another order, maybe in another precision",
    ),
    (
        r"nvidia-cublas.*|libcublas.*|cublas",
        "cuBLAS picks kernels for matrix products by heuristics of its version: tiles and split sums change, and the last digits with them",
    ),
    (
        r"nvidia-nccl.*|libnccl.*|nccl",
        "NCCL picks ring, tree and protocol by its version: gradients of several GPUs are added in another order",
    ),
    (
        r"nvidia-(?:cufft|cusolver|cusparse|cusparselt|curand|cudss|nvshmem|cutlass)\b.*|lib(?:cufft|cusolver|cusparse|curand|cudss|nvshmem).*",
        "transforms, solvers, sparse products or random streams of the GPU come from it",
    ),
    (
        r"nvidia-cuda.*|nvidia-nv.*|lib(?:cudart|nvrtc|nvJitLink|cupti).*|runtime",
        "CUDA's runtime and compilers make code while a program runs: another version may compile it differently",
    ),
    (r"nvidia-.*", "it is part of what computes on the GPU"),
    (rf"{_FLAG}.*(?:tf32|fp32_precision|float32_matmul_precision|tensor_float_32|cu(?:blas|dnn)_switch).*", _TF32),
    (
        rf"{_FLAG}.*(?:reduced_precision|fp16_accumulation).*",
        "long sums are added in half precision, or are not: digits are lost, or are not",
    ),
    (
        rf"{_FLAG}.*cudnn\.benchmark.*",
        "with benchmark cuDNN times its kernels and takes the fastest: which one that is differs from run to run",
    ),
    (rf"{_FLAG}.*determin.*", _DETERMINISM),
    (rf"{_FLAG}.*sdp.*", "another kernel computes attention"),
    (rf"{_FLAG}.*(?:default_dtype|floatx)", "new tensors have another precision"),
    (rf"{_FLAG}.*(?:preferred|enabled|available|mkldnn|onednn).*", "another library computes, and adds in another order"),
    (rf"{_FLAG}.*", "a flag of the framework decides precision or kernels"),
    (
        r"torch|torch\.(?:version|git)|libtorch.*|libc10.*",
        "torch decides which kernels run, what is fused and how weights and random streams begin: another build may do each differently",
    ),
    (r"(?:pytorch-)?triton", "torch.compile has its kernels made by Triton: other tiles, sums in another order"),
    (r"torchvision|torchaudio", "transforms, box operations and model definitions are its own: inputs and losses can change"),
    (r"flash-attn|xformers|transformer-engine|apex", "fused attention and layers are its own"),
    (
        r"tensorflow.*|keras|tf-keras|jax|jaxlib|paddlepaddle.*|paddle\.(?:version|git)|(?:lib|_pywrap_)tensorflow.*|lib(?:paddle|phi).*",
        "the framework decides which kernels run, and their defaults",
    ),
    (
        r"numpy|scipy|mkl|libmkl.*|lib(?:scipy_)?openblas.*|onednn.*|libdnnl.*",
        "arrays on the CPU are computed by it: data preparation, metrics and random streams can change",
    ),
    (r"opencv.*|pillow|albumentations", "pictures are decoded, resized and augmented by it: what is trained on can change"),
    (r"ultralytics", "models, losses, augmentation and their defaults are its own: the training itself can change"),
    (r"intel-openmp|lib[gi]?omp.*", _THREADS),
)
_FIELDS: tuple[tuple[str, str], ...] = (
    (r"observed\.platform\.(?:cpu|instruction_sets)", _KERNELS_OF_CPU),
    (r"env\.(?:NVIDIA_TF32_OVERRIDE|TORCH_ALLOW_TF32_CUBLAS_OVERRIDE)", f"it overrules what programs set; {_TF32}"),
    (r"env\.CUBLAS_WORKSPACE_CONFIG", "it decides which kernels cuBLAS may use, and whether they are deterministic"),
    (r"env\.NCCL_.*", "it steers how NCCL adds the gradients of several GPUs, and in which order"),
    (r"env\.(?:OMP|GOMP|KMP|MKL|OPENBLAS|BLIS|NVPL|NUMEXPR|VECLIB)_.*", _THREADS),
    (r"env\.(?:ATEN_CPU_CAPABILITY|ONEDNN_.*|DNNL_.*|NPY_.*)", _KERNELS_OF_CPU),
    (r"env\.PYTHONHASHSEED", "sets and hashes are ordered by it: samples may come in another order"),
)
_STEMS = re.compile(r"(?:packages|observed\.cuda\.loaded|observed\.cuda)\.(?P<thing>.+)")
_ATTRIBUTE = re.compile(r"(?<=.)\.(?:version|sha256|owner)(?:#\d+)?\Z")
_COMPILED_THINGS = tuple((re.compile(pattern), why) for pattern, why in _THINGS)
_COMPILED_FIELDS = tuple((re.compile(pattern), why) for pattern, why in _FIELDS)


def cause(field: str) -> str:
    """The sentence for a field of a difference; "" where none is known."""
    for pattern, why in _COMPILED_FIELDS:
        if pattern.fullmatch(field):
            return why
    stem = _STEMS.fullmatch(field)
    if stem is None:
        return ""
    whole = stem["thing"]
    things = (whole, _ATTRIBUTE.sub("", whole))
    return next((why for pattern, why in _COMPILED_THINGS if any(pattern.fullmatch(thing) for thing in things)), "")
