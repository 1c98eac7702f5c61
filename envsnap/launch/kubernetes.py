"""A `Launch` as a Kubernetes Job (batch/v1)."""

from __future__ import annotations

import re

from envsnap.errors import UsageError
from envsnap.launch import counted, pitfalls
from envsnap.launch.commented import Commented, Node, comment, dump
from envsnap.model.launch import Launch, Mount, Passed

_MEMLOCK = (
    "Limits (memlock, stack) cannot be set for a pod: a container has those of the container runtime on its node, as of"
    " LimitMEMLOCK=infinity in containerd's unit. RDMA without it needs the capability IPC_LOCK, and so root."
)
_DATA = "The directory of a workstation is not on a node: each of these is a claim that has the same files (kubectl get pvc)."


def text(launch: Launch) -> str:
    """The image's own copy of the project runs: a node has no other.

    Raises:
        UsageError: a user by name, whom Kubernetes does not know; GPUs by index, which its scheduler gives as it likes.
    """
    volumes: dict[str, Node] = {"shm": {"emptyDir": {"medium": "Memory"} | _limit(launch)}}
    mounts: list[Node] = [{"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108  # in the container
    for number, (one, claim) in enumerate(zip(launch.data, _claims(launch.data), strict=True), 1):
        volumes[f"data-{number}"] = {"persistentVolumeClaim": {"claimName": claim} | _read_only(one)}
        mounts.append({"name": f"data-{number}", "mountPath": one.target} | _read_only(one))
    container: dict[str, Node] = {"name": launch.name, "image": launch.image, "imagePullPolicy": "IfNotPresent"}
    if launch.command:
        note = pitfalls.entrypoint(launch, "`args:` is what {it}, runs. `command:` would take its place.")
        container["args"] = Commented(note, tuple(map(literal, launch.command)))
    if launch.workdir:
        container["workingDir"] = launch.workdir
    if launch.env:
        container["env"] = Commented(_secrets(launch), tuple(_variable(one, launch) for one in launch.env))
    if launch.ports:
        container["ports"] = tuple({"containerPort": one.container, "protocol": one.protocol.upper()} for one in launch.ports)
    if launch.gpus is not None:
        container["resources"] = {"limits": {"nvidia.com/gpu": counted.gpus(launch, scheduler="the scheduler of Kubernetes", unit="a pod")}}
    shm = pitfalls.said("In place of --ipc=host: a pod has 64 MB of shared memory. What is in it counts as memory of the container.")
    container["volumeMounts"] = Commented(shm, tuple(mounts))
    pod: dict[str, Node] = {"restartPolicy": "Never"}
    if launch.user:
        pod["securityContext"] = _user(launch.user)
    pod["containers"] = (container,)
    listed = tuple({"name": name} | volume for name, volume in volumes.items() if isinstance(volume, dict))
    pod["volumes"] = Commented(pitfalls.said(_DATA) if launch.data else (), listed)
    head = pitfalls.said(_MEMLOCK) + pitfalls.outside(launch, "kubectl exec")
    job: dict[str, Node] = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": launch.name},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    return "".join(f"{line}\n" for line in comment(head)) + dump(job)


def literal(value: str) -> str:
    """Kubernetes reads "$(NAME)" in arguments and values as a variable's, and "$$" as a dollar."""
    return value.replace("$", "$$")


def _limit(launch: Launch) -> dict[str, Node]:
    return {} if launch.shm_size is None else {"sizeLimit": str(launch.shm_size)}


def _read_only(one: Mount) -> dict[str, Node]:
    return {"readOnly": True} if one.read_only else {}


def _claims(mounts: tuple[Mount, ...]) -> list[str]:
    """A claim's name (RFC 1123) for each, from where it is mounted; two directories have two, and a number tells them apart."""
    names: list[str] = []
    for one in mounts:
        name = "-".join(re.findall(r"[a-z0-9]+", one.target.lower()))[:57].strip("-") or "data"
        numbered = (f"{name}-{number}" for number in range(2, len(mounts) + 2))
        names.append(next(found for found in (name, *numbered) if found not in names))
    return names


def _user(user: str) -> Node:
    number, _, group = ("0" if user == "root" else user).partition(":")
    if not all(re.fullmatch(r"[0-9]{1,10}", one) for one in (number, group or "0")):
        raise UsageError(f"--user {user}: Kubernetes knows users by number", hint="--user UID[:GID]")
    groups: dict[str, Node] = {"runAsGroup": int(group), "fsGroup": int(group)} if group else {}
    return {"runAsUser": int(number)} | groups


def _secrets(launch: Launch) -> tuple[str, ...]:
    names = [one.name for one in launch.env if one.value is None]
    if not names:
        return ()
    made = f"kubectl create secret generic {launch.name} --from-env-file=<(env | grep -E '^({'|'.join(names)})=')"
    return (*pitfalls.said("From a secret, made so that no value is seen in the list of processes:"), f"  {made}")


def _variable(one: Passed, launch: Launch) -> Node:
    if one.value is not None:
        return {"name": one.name, "value": literal(one.value)}
    return {"name": one.name, "valueFrom": {"secretKeyRef": {"name": launch.name, "key": one.name, "optional": True}}}
