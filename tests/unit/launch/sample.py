"""A launch in which every text that may be somebody else's is hostile."""

from __future__ import annotations

from envsnap.model.gpu_request import GpuRequest
from envsnap.model.launch import Launch, Mount, Passed, Port

DIGEST = "sha256:" + "a" * 64
HOSTILE = (
    "it's",
    "$(touch /tmp/evil)",
    "`id`",
    "$HOME",
    "$$",
    "a\n  evil: true",
    'a"b',
    "a\\b",
    "--privileged",
    "# no comment",
    "{{x}}",
    "yes",
    "",
)
ENTRYPOINT = ("/opt/nvidia/nvidia_entrypoint.sh",)

PLAIN = Launch(name="yolo-train", image=f"registry.example.com/vision/yolo:1@{DIGEST}", command=("python", "train.py"))
FULL = Launch(
    name="yolo-train",
    image=f"registry.example.com:5000/vision/yolo:1@{DIGEST}",
    entrypoint=ENTRYPOINT,
    command=("python", *HOSTILE),
    gpus=GpuRequest(count=2),
    project=Mount(source="/home/me/yolo $x", target="/workspace/yolo"),
    data=(Mount(source='/mnt/a,b "c" $d', target="/data/it's", read_only=True), Mount(source="/runs", target="/runs")),
    user="1000:100",
    workdir="/workspace/yolo/src",
    env=(Passed(name="WANDB_API_KEY"), *(Passed(name=f"H{number}", value=value) for number, value in enumerate(HOSTILE))),
    ports=(Port(container=8888, host=80), Port(container=6006, address="127.0.0.1", protocol="udp")),
)
HOSTILE_ENTRYPOINT = ("/bin/sh", "-c", "x\nevil: true\n#SBATCH --wrap=evil\n*/ \u2028", "ä" * 500)
