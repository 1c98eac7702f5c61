"""Files of other tools: their shape, that each value arrives as it is, and that nothing else does."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from msgspec.structs import replace

from envsnap.errors import UsageError
from envsnap.launch import compose, devcontainer, kubernetes, slurm
from envsnap.model.gpu_request import GpuRequest
from envsnap.model.launch import Launch, Mount, Passed, Port
from tests.unit.launch.sample import DIGEST, FULL, HOSTILE, HOSTILE_ENTRYPOINT, PLAIN

Shape = Mapping[str, Any]
COMPOSE: Shape = {  # of the Compose specification, the keys that are used
    "services": {
        "*": {
            **dict.fromkeys(("image", "ipc", "user", "working_dir"), str),
            "init": bool,
            "shm_size": int,
            "command": [str],
            "environment": [str],
            "ports": [str],
            "ulimits": {"*": int},
            "volumes": [{"type": str, "source": str, "target": str, "read_only": bool, "bind": {"create_host_path": bool}}],
            "deploy": {
                "resources": {
                    "reservations": {"devices": [{"driver": str, "count": (int, str), "device_ids": [str], "capabilities": [str]}]}
                }
            },
        }
    }
}
KUBERNETES: Shape = {  # of Job in batch/v1, likewise
    "apiVersion": str,
    "kind": str,
    "metadata": {"name": str},
    "spec": {
        "backoffLimit": int,
        "template": {
            "spec": {
                "restartPolicy": str,
                "securityContext": {"runAsUser": int, "runAsGroup": int, "fsGroup": int},
                "containers": [
                    {
                        **dict.fromkeys(("name", "image", "imagePullPolicy", "workingDir"), str),
                        "args": [str],
                        "env": [{"name": str, "value": str, "valueFrom": {"secretKeyRef": {"name": str, "key": str, "optional": bool}}}],
                        "ports": [{"containerPort": int, "protocol": str}],
                        "resources": {"limits": {"nvidia.com/gpu": int}},
                        "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
                    }
                ],
                "volumes": [
                    {
                        "name": str,
                        "emptyDir": {"medium": str, "sizeLimit": str},
                        "persistentVolumeClaim": {"claimName": str, "readOnly": bool},
                    }
                ],
            }
        },
    },
}
DEVCONTAINER: Shape = {  # of the Development Container specification, likewise
    **dict.fromkeys(("name", "image", "workspaceMount", "workspaceFolder", "containerUser", "remoteUser"), str),
    "runArgs": [str],
    "mounts": [str],
    "forwardPorts": [int],
    "hostRequirements": {"gpu": bool},
    "overrideCommand": bool,
}


def require_shape(found: Any, shape: Any, place: str = "") -> None:
    """No key that the format does not have, and no other type."""
    if isinstance(shape, dict):
        assert isinstance(found, dict), place
        for key, value in found.items():
            assert key in shape or "*" in shape, f"{place}.{key}: no such key"
            require_shape(value, shape.get(key, shape.get("*")), f"{place}.{key}")
    elif isinstance(shape, list):
        assert isinstance(found, list) and found, place
        for value in found:
            require_shape(value, shape[0], f"{place}[]")
    else:
        assert type(found) in (shape if isinstance(shape, tuple) else (shape,)), f"{place}: {found!r}"


def without_comments(text: str) -> Any:
    """A devcontainer.json of ours: comments are at its head."""
    return json.loads("\n".join(line for line in text.splitlines() if not line.startswith("//")))


VARIANTS = [
    PLAIN,
    FULL,
    replace(FULL, entrypoint=HOSTILE_ENTRYPOINT),
    replace(FULL, shm_size=1 << 30, project=None),
    replace(FULL, command=()),
]


@pytest.mark.parametrize("launch", VARIANTS)
def test_each_file_has_its_format(launch: Launch) -> None:
    require_shape(yaml.safe_load(compose.text(launch)), COMPOSE)
    require_shape(yaml.safe_load(kubernetes.text(launch)), KUBERNETES)
    require_shape(without_comments(devcontainer.text(launch)), DEVCONTAINER)


def test_a_wrong_key_or_type_is_seen() -> None:
    for spoilt in ({"entrypoint": ["sh"]}, {"user": 1000}):
        document = yaml.safe_load(compose.text(FULL))
        document["services"]["yolo-train"] |= spoilt
        with pytest.raises(AssertionError):
            require_shape(document, COMPOSE)


# Compose


def interpolated(value: str, env: Mapping[str, str]) -> str:
    """As Compose reads it."""
    return re.sub(r"\$(\$|[A-Za-z_]\w*|\{[^}]*\})", lambda found: "$" if found[1] == "$" else env.get(found[1], ""), value)


def test_compose() -> None:
    service = yaml.safe_load(compose.text(FULL))["services"]["yolo-train"]
    assert [interpolated(word, {"HOME": "evil"}) for word in service["command"]] == ["python", *HOSTILE]
    assert "WANDB_API_KEY" in service["environment"]
    values = [interpolated(one, {"HOME": "evil"}).partition("=")[2] for one in service["environment"][1:]]
    assert values == list(HOSTILE)
    assert service["deploy"]["resources"]["reservations"]["devices"] == [{"driver": "nvidia", "count": 2, "capabilities": ["gpu"]}]
    assert (service["ipc"], service["ulimits"], service["init"]) == ("host", {"memlock": -1, "stack": 67108864}, True)
    assert interpolated(service["volumes"][0]["source"], {}) == "/home/me/yolo $x"
    assert service["volumes"][1]["read_only"] and "read_only" not in service["volumes"][2]
    assert "entrypoint" not in service


@pytest.mark.parametrize(
    ("gpus", "said"),
    [(GpuRequest(count=-1), {"count": "all"}), (GpuRequest(devices=("0", "GPU-1")), {"device_ids": ["0", "GPU-1"]})],
)
def test_gpus_of_compose(gpus: GpuRequest, said: dict[str, Any]) -> None:
    service = yaml.safe_load(compose.text(replace(FULL, gpus=gpus)))["services"]["yolo-train"]
    assert service["deploy"]["resources"]["reservations"]["devices"] == [{"driver": "nvidia", **said, "capabilities": ["gpu"]}]


def test_compose_without_gpus_reserves_none() -> None:
    service = yaml.safe_load(compose.text(PLAIN))["services"]["yolo-train"]
    assert "deploy" not in service and "user" not in service and "environment" not in service


# Kubernetes


def expanded(value: str, env: Mapping[str, str]) -> str:
    """As the kubelet reads it: "$$" is a dollar, "$(NAME)" a variable where there is one."""
    return re.sub(r"\$(\$|\([^)]*\))", lambda found: "$" if found[1] == "$" else env.get(found[1][1:-1], found[0]), value)


def test_kubernetes() -> None:
    job = yaml.safe_load(kubernetes.text(FULL))
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    assert container["image"].endswith(DIGEST) and container["imagePullPolicy"] == "IfNotPresent"
    assert [expanded(word, {"touch /tmp/evil": "evil"}) for word in container["args"]] == ["python", *HOSTILE]
    assert "command" not in container
    assert container["resources"] == {"limits": {"nvidia.com/gpu": 2}}
    assert pod["securityContext"] == {"runAsUser": 1000, "runAsGroup": 100, "fsGroup": 100}
    key, *others = container["env"]
    assert key == {"name": "WANDB_API_KEY", "valueFrom": {"secretKeyRef": {"name": "yolo-train", "key": "WANDB_API_KEY", "optional": True}}}
    assert [expanded(one["value"], {}) for one in others] == list(HOSTILE)
    volumes = {one["name"]: one for one in pod["volumes"]}
    assert volumes["shm"]["emptyDir"] == {"medium": "Memory"}
    assert {one["mountPath"]: one["name"] for one in container["volumeMounts"]} == {
        "/dev/shm": "shm",
        "/data/it's": "data-1",
        "/runs": "data-2",
    }
    assert volumes["data-1"]["persistentVolumeClaim"] == {"claimName": "data-it-s", "readOnly": True}
    assert "/home/me" not in kubernetes.text(FULL)


def test_kubernetes_tells_the_pitfalls() -> None:
    said = "\n".join(line for line in kubernetes.text(FULL).splitlines() if line.strip().startswith("#"))
    for word in (
        "`command:` would take its place",
        "nvidia_entrypoint.sh",
        "forward\n",
        "memlock",
        "`kubectl exec`",
        "--ipc=host",
        "secret generic",
    ):
        assert word in said, word
    assert "`command:`" not in kubernetes.text(PLAIN)  # it has no entrypoint to lose


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"user": "somebody"}, "knows users by number"),
        ({"user": "1000:users"}, "knows users by number"),
        ({"user": "9" * 5000}, "knows users by number"),
        ({"gpus": GpuRequest(devices=("0", "2"))}, "scheduler of Kubernetes"),
        ({"gpus": GpuRequest(count=-1)}, "a pod asks for a number"),
    ],
)
def test_what_kubernetes_cannot_say(change: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        kubernetes.text(replace(FULL, **change))


def test_two_directories_are_two_claims() -> None:
    targets = ("/data/a_b", "/data/a-b", "/数据", "/資料", "/data-2", "/" + "x" * 99, "/" + "x" * 98)
    data = tuple(Mount(source="/mnt", target=target) for target in targets)
    pod = yaml.safe_load(kubernetes.text(replace(FULL, data=data)))["spec"]["template"]["spec"]
    names = [one["persistentVolumeClaim"]["claimName"] for one in pod["volumes"] if "persistentVolumeClaim" in one]
    assert names[:4] == ["data-a-b", "data-a-b-2", "data", "data-2"]
    assert len(set(names)) == len(targets) and all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", one) and len(one) < 64 for one in names)


def test_root_and_a_size_of_shared_memory_in_kubernetes() -> None:
    pod = yaml.safe_load(kubernetes.text(replace(FULL, user="root", shm_size=1 << 30)))["spec"]["template"]["spec"]
    assert pod["securityContext"] == {"runAsUser": 0}
    assert pod["volumes"][0]["emptyDir"] == {"medium": "Memory", "sizeLimit": "1073741824"}


# Development containers


def test_devcontainer() -> None:
    launch = replace(FULL, gpus=GpuRequest(count=-1))
    document = without_comments(devcontainer.text(launch))
    assert document["overrideCommand"] is False
    assert document["workspaceMount"] == "type=bind,source=${localWorkspaceFolder},target=/workspace/yolo"
    assert document["workspaceFolder"] == "/workspace/yolo/src"
    assert (document["hostRequirements"], document["forwardPorts"]) == ({"gpu": True}, [8888, 6006])
    words = document["runArgs"]
    assert ("--gpus" in words, "--ipc=host" in words, "memlock=-1" in words) == (False, True, True)
    assert words[words.index("--env") + 1] == "WANDB_API_KEY"
    assert {f"H{number}={value}" for number, value in enumerate(HOSTILE)} <= set(words)
    assert document["containerUser"] == document["remoteUser"] == "1000:100"


def test_a_number_of_gpus_is_docker_s_own_option() -> None:
    document = without_comments(devcontainer.text(replace(FULL, gpus=GpuRequest(devices=("0", "2")))))
    assert document["runArgs"][document["runArgs"].index("--gpus") + 1] == '"device=0,2"' and "hostRequirements" not in document


@pytest.mark.parametrize(
    "change",
    [
        {"env": (Passed(name="A", value="${localEnv:WANDB_API_KEY}"),)},
        {"data": (Mount(source="/mnt/${env:HOME}", target="/data"),)},
        {"workdir": "/workspace/yolo/${env:HOME}"},
    ],
)
def test_what_devcontainer_would_take_for_a_variable(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="cannot hold"):
        devcontainer.text(replace(FULL, **change))


@pytest.mark.parametrize("source", ["/home/me/a,b", '/home/me/a"b'])
def test_a_folder_that_the_tool_would_not_name_as_it_is(source: str) -> None:
    with pytest.raises(UsageError, match="cannot open"):
        devcontainer.text(replace(FULL, project=Mount(source=source, target="/workspace/yolo")))


def test_devcontainer_says_which_port_a_port_is_here() -> None:
    same = (Port(container=8888), Port(container=80, host=80))
    assert "forwardPorts:" in devcontainer.text(FULL) and "forwardPorts:" not in devcontainer.text(replace(FULL, ports=same))


def test_devcontainer_speaks_of_names_where_there_are_some() -> None:
    values = tuple(one for one in FULL.env if one.value is not None)
    assert "A name alone" in devcontainer.text(FULL) and "A name alone" not in devcontainer.text(replace(FULL, env=values))


# Slurm

BATCH = replace(
    FULL,
    user="",
    data=(Mount(source="/mnt/$(x)'", target="/data", read_only=True),),
    project=Mount(source="/home/me/yolo", target="/workspace/yolo"),
)


def run_as_slurm(text: str, place: Path) -> list[str]:
    """The words that srun is called with."""
    (place / "srun").write_text('#!/bin/sh\nfor word; do printf "%s\\0" "$word"; done\n')
    (place / "srun").chmod(0o755)
    done = subprocess.run(["bash", "-c", text], env={"PATH": f"{place}:/usr/bin:/bin"}, capture_output=True, cwd=place, check=True)
    return done.stdout.decode().split("\0")[:-1]


def test_slurm(tmp_path: Path) -> None:
    text = slurm.text(BATCH, registry="registry.example.com:5000")
    assert text.startswith("#!/bin/bash\n#SBATCH --job-name=yolo-train\n") and "#SBATCH --gpus-per-node=2\n" in text
    words = run_as_slurm(text, tmp_path)
    assert words[: words.index("env")] == [
        f"--container-image=registry.example.com:5000#vision/yolo:{DIGEST}",
        "--container-writable",
        "--container-entrypoint",
        "--container-mounts=/home/me/yolo:/workspace/yolo,/mnt/$(x)':/data:ro",
        "--container-workdir=/workspace/yolo/src",
        "--container-env=WANDB_API_KEY",
    ]
    values = [f"H{number}={value}" for number, value in enumerate(HOSTILE)]
    assert words[words.index("env") + 1 :] == [*values, "python", *HOSTILE]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["srun"]


def test_arguments_of_an_entrypoint_are_none_of_srun_s(tmp_path: Path) -> None:
    text = slurm.text(replace(BATCH, env=(), command=("--uid=root", "x")), registry="")
    assert run_as_slurm(text, tmp_path)[-3:] == ["--", "--uid=root", "x"]
    assert run_as_slurm(slurm.text(PLAIN, registry=""), tmp_path)[-2:] == ["python", "train.py"]


def test_limits_are_asked_for_and_not_insisted_on(tmp_path: Path) -> None:
    text = slurm.text(PLAIN, registry="registry.example.com")
    assert "ulimit -S -l unlimited ||" in text and "ulimit -S -s 65536 ||" in text  # KiB
    assert run_as_slurm(f"ulimit -Hs 1024; {text}", tmp_path)[-2:] == ["python", "train.py"]


def test_slurm_tells_the_pitfalls() -> None:
    said = "\n".join(line for line in slurm.text(BATCH, registry="").splitlines() if line.startswith("# "))
    for word in ("--container-entrypoint", "nvidia_entrypoint.sh", "apptainer", "LimitMEMLOCK", "/dev/shm", "WANDB_API_KEY"):
        assert word in said, word
    assert "--container-entrypoint" not in slurm.text(PLAIN, registry="")


def test_a_hostile_entrypoint_is_said_in_comments_alone(tmp_path: Path) -> None:
    text = slurm.text(replace(BATCH, entrypoint=HOSTILE_ENTRYPOINT), registry="")
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert len(directives) == 5 and not any("evil" in line for line in directives)
    assert run_as_slurm(text, tmp_path)[-len(HOSTILE) :] == list(HOSTILE)


@pytest.mark.parametrize(
    ("reference", "registry", "name"),
    [
        ("nvcr.io/nvidia/pytorch:26.07-py3", "nvcr.io", "nvcr.io#nvidia/pytorch:26.07-py3"),
        (f"localhost:5000/a/b:1@{DIGEST}", "localhost:5000", f"localhost:5000#a/b:{DIGEST}"),
        (f"localhost:5000/a/b@{DIGEST}", "localhost:5000", f"localhost:5000#a/b:{DIGEST}"),
        ("team/yolo:1", "", "team/yolo:1"),
        (f"ubuntu@{DIGEST}", "", f"ubuntu:{DIGEST}"),
    ],
)
def test_images_as_enroot_names_them(reference: str, registry: str, name: str) -> None:
    assert slurm.image(reference, registry) == name


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"command": ()}, "which command"),
        ({"user": "1000"}, "runs as who submits"),
        ({"gpus": GpuRequest(count=-1)}, "a number of GPUs"),
        ({"gpus": GpuRequest(devices=("0",))}, "Slurm says which"),
        ({"data": (Mount(source="/mnt/a,b", target="/data"),)}, "cannot be told to mount"),
        ({"data": (Mount(source="/mnt", target="/da:ta"),)}, "cannot be told to mount"),
        ({"data": (Mount(source="/mnt/a b", target="/data"),)}, "cannot be told to mount"),
        ({"data": (Mount(source="/mnt/a\\040b", target="/data"),)}, "cannot be told to mount"),
    ],
)
def test_what_slurm_cannot_say(change: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        slurm.text(replace(BATCH, **change), registry="")


# All


@pytest.mark.parametrize(
    "write", [compose.text, kubernetes.text, devcontainer.text, lambda launch: slurm.text(replace(BATCH, env=launch.env), registry="")]
)
def test_no_file_knows_a_value_that_is_passed_by_name(write: Callable[[Launch], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef0123456789abcdef01234567")
    text = write(FULL)
    assert "WANDB_API_KEY" in text and "0123456789abcdef" not in text
