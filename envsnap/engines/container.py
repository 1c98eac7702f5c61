"""A container as a place for guest scripts.

Files go in and out through the engine's archive calls, never through bind mounts, so that an engine on another machine, or one
in a virtual machine of its own, works like a local one.
"""

from __future__ import annotations

import codecs
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from envsnap import archive, redaction
from envsnap.engines import gpus
from envsnap.engines.connection import engine_errors
from envsnap.errors import EngineError, TargetError
from envsnap.model.gpu_request import parse_gpus
from envsnap.process import OnLine, Stream
from envsnap.target import GuestResult, GuestScript, fill, guest_files

if TYPE_CHECKING:
    from docker import APIClient
    from docker.errors import APIError

LABEL = "dev.envsnap.guest"
INSIDE = "/run/envsnap"
_SHARED_MEMORY = "1g"  # what NGC's own start message asks for; data loaders fail with docker's 64 MB
_CHUNK = 1 << 20
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerTarget:
    """Runs guest scripts in an image, each in a fresh container without network that is removed whatever happens.

    The image's entrypoint is kept and `python` is what its PATH says: what is checked is what a user of the image gets.

    Attributes:
        image: reference or ID in the engine's store.
        python: a path in the image, or a name on its PATH.
        gpus: as docker's `--gpus`.
        user: as docker's `--user` ("1000:1000"); None for the image's own.
    """

    client: APIClient
    image: str
    python: str = "python"
    gpus: str = "none"
    user: str | None = None

    @property
    def description(self) -> str:
        return f"image {self.image}"

    def run_guest(
        self,
        script: GuestScript,
        arguments: Sequence[str],
        *,
        outputs: Path,
        inputs: Mapping[str, Path] | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        on_line: OnLine | None = None,
    ) -> GuestResult:
        """See `envsnap.target.Target`."""
        given = inputs or {}
        places = {"out": f"{INSIDE}/out"} | {name: f"{INSIDE}/in/{name}" for name in given}
        command = [self.python, "-B", f"{INSIDE}/guest", script, *(fill(argument, places) for argument in arguments)]
        with new_container(self.client, self.image, command, gpus_asked=self.gpus, user=self.user, env=env) as container:
            with engine_errors(f"cannot give {self.description} its inputs"):
                self.client.put_archive(container, "/", archive.pack(_luggage(given)))
            log, timed_out = follow(self.client, container, timeout_s=timeout_s, on_line=on_line, gpus_asked=self.gpus)
            with engine_errors(f"cannot read what {self.description} did"):
                state = self.client.inspect_container(container)["State"]
                with files_of(self.client, container, places["out"]) as chunks:
                    archive.unpack(chunks, outputs)
        if state["ExitCode"] in (_NOT_EXECUTABLE, _NOT_FOUND) and not timed_out:
            raise TargetError(
                f"cannot run {self.python} in {self.description}",
                why=redaction.text(log.strip().splitlines()[-1]) if log.strip() else f"exit code {state['ExitCode']}",
                hint="--python python3, or the path of an interpreter in it",
            )
        if state.get("OOMKilled"):
            log += "\nended by the kernel: out of memory"
        return GuestResult(returncode=int(state["ExitCode"]), outputs=outputs, log=log, timed_out=timed_out)


def _luggage(inputs: Mapping[str, Path]) -> Iterator[archive.Entry]:
    root = INSIDE.lstrip("/")
    for directory, mode in ((root, 0o755), (f"{root}/guest", 0o755), (f"{root}/in", 0o755), (f"{root}/out", 0o777)):
        yield archive.Entry(directory, None, mode)
    yield from (archive.Entry(f"{root}/guest/{name}", path, 0o644) for name, path in guest_files().items())
    for name, source in inputs.items():
        yield from archive.entries_of(f"{root}/in/{name}", source)


@contextmanager
def new_container(
    client: APIClient,
    image: str,
    command: Sequence[str],
    *,
    entrypoint: Sequence[str] | None = None,
    gpus_asked: str = "none",
    user: str | None = None,
    env: Mapping[str, str] | None = None,
    ulimits: Mapping[str, int] | None = None,
) -> Iterator[str]:
    """A created container, not yet started; removed on the way out, also after an interrupt.

    Raises:
        TargetError: the engine does not have the image.
        EngineError: it could not be created.
    """
    from docker.errors import APIError, ImageNotFound
    from docker.types import DeviceRequest, LogConfig, Ulimit

    request = parse_gpus(gpus_asked)
    devices = [DeviceRequest(count=request.count, device_ids=list(request.devices), capabilities=[["gpu"]])] if request else None
    with engine_errors(f"cannot create a container of {image}"):
        try:
            container: str = client.create_container(
                image,
                list(command),
                entrypoint=list(entrypoint) if entrypoint is not None else None,
                user=user,
                environment=dict(env or {}),
                labels={LABEL: "1"},
                use_config_proxy=False,
                host_config=client.create_host_config(
                    network_mode="none",
                    init=True,
                    shm_size=_SHARED_MEMORY,
                    device_requests=devices,
                    log_config=LogConfig(type="none"),
                    ulimits=[Ulimit(name=name, soft=value, hard=value) for name, value in (ulimits or {}).items()],
                ),
            )["Id"]
        except ImageNotFound as error:
            raise TargetError(f"the engine has no image {image}", hint="pull or build it first") from error
        except APIError as error:
            if refused := gpus.refusal(gpus_asked, _said(error)):
                raise refused from error
            raise
    try:
        yield container
    finally:
        with engine_errors(f"cannot remove the container {container[:12]}"):
            client.remove_container(container, v=True, force=True)


def follow(
    client: APIClient, container: str, *, timeout_s: float | None = None, on_line: OnLine | None = None, gpus_asked: str = "none"
) -> tuple[str, bool]:
    """Start a container, read what it says until it ends, kill it at its time limit.

    Returns:
        Both streams as they came, and whether the time limit ended it.

    Raises:
        TargetError: it does not start because of the GPUs asked for.
        EngineError: it does not start for another reason.
    """
    from docker.errors import APIError

    lines = Lines(on_line)
    with (
        engine_errors(f"cannot run the container {container[:12]}"),
        _attached(client, container) as output,
    ):
        try:
            client.start(container)
        except APIError as error:
            raise gpus.refusal(gpus_asked, _said(error)) or _not_started(_said(error)) from error
        with after(timeout_s, lambda: client.kill(container)) as expired:
            for stream, chunk in frames(output):
                lines.feed(stream, chunk)
        client.wait(container)
    return lines.finish(), expired.is_set()


@contextmanager
def files_of(client: APIClient, container: str, path: str) -> Iterator[Iterator[bytes]]:
    """A file or directory of a container as a tar stream, which may be left before its end.

    Raises:
        docker.errors.NotFound: there is none.
    """
    with _streamed(client, f"containers/{container}/archive", {"path": path}) as chunks:
        yield chunks


@contextmanager
def all_files_of(client: APIClient, container: str) -> Iterator[Iterator[bytes]]:
    """All files of a container as one tar stream, which may be left before its end; what the engine itself mounts is among them, empty."""
    with _streamed(client, f"containers/{container}/export", {}) as chunks:
        yield chunks


@contextmanager
def _streamed(client: APIClient, path: str, params: Mapping[str, str]) -> Iterator[Iterator[bytes]]:
    """docker-py's own calls keep their connection until it was read to the end, and the engine removes no container meanwhile."""
    import requests
    from docker.errors import create_api_error_from_http_exception

    url = f"{client.base_url}/v{client.api_version}/{path}"
    with client.get(url, params=dict(params), headers={"Accept-Encoding": "identity"}, stream=True, timeout=client.timeout) as response:
        try:
            response.raise_for_status()
        except requests.HTTPError as error:
            create_api_error_from_http_exception(error)
        yield response.iter_content(_CHUNK)


def require_gpus(client: APIClient, image: str, asked: str) -> None:
    """Let the engine start a container with them: its `info` cannot tell what its hooks and the host really give.

    Raises:
        TargetError: it cannot give them.
    """
    from docker.errors import APIError

    if parse_gpus(asked) is None:
        return
    with new_container(client, image, [], entrypoint=["true"], gpus_asked=asked) as container, engine_errors("cannot ask for GPUs"):
        try:
            client.start(container)
        except APIError as error:
            # An image without that program got as far as its GPUs.
            if refused := gpus.refusal(asked, _said(error)):
                raise refused from error


def takes_limits(client: APIClient, image: str, ulimits: Mapping[str, int]) -> bool:
    """Let the engine start a container with them. An image without the program that is asked for got as far as its limits."""
    from docker.errors import APIError

    with new_container(client, image, [], entrypoint=["true"], ulimits=ulimits) as container, engine_errors("cannot ask for limits"):
        try:
            client.start(container)
        except APIError as error:
            return "rlimit" not in _said(error)
    return True


def _said(error: APIError) -> str:
    return error.explanation or str(error)


def _not_started(said: str) -> EngineError | TargetError:
    if "executable file not found" in said or "no such file or directory" in said:
        return TargetError("the image cannot run that", why=redaction.text(said))
    return EngineError("the container does not start", why=redaction.text(said))


@contextmanager
def _attached(client: APIClient, container: str) -> Iterator[Any]:
    """The socket with a container's multiplexed output."""
    socket = client.attach_socket(container, params={"stdout": 1, "stderr": 1, "stream": 1})
    try:
        yield socket
    finally:
        socket._response.close()  # noqa: SLF001  # docker-py offers no other way to give the connection back


def frames(socket: Any) -> Iterator[tuple[Stream, bytes]]:
    from docker.utils.socket import STDOUT, frames_iter_no_tty

    for number, chunk in frames_iter_no_tty(socket):
        yield "stdout" if number == STDOUT else "stderr", cast("bytes", chunk)


@contextmanager
def after(timeout_s: float | None, end: Callable[[], object]) -> Iterator[threading.Event]:
    """End something when the time is over; its output then ends, and whoever reads it goes on."""
    expired = threading.Event()

    def act() -> None:
        expired.set()
        with suppress(Exception):  # it may have ended by itself just now
            end()

    timer = threading.Timer(timeout_s, act) if timeout_s is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield expired
    finally:
        if timer is not None:
            timer.cancel()


class Lines:
    """Two interleaved byte streams as lines."""

    def __init__(self, on_line: OnLine | None) -> None:
        self._on_line = on_line
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
        self._partial: dict[Stream, str] = {"stdout": "", "stderr": ""}
        self._log: list[str] = []

    def feed(self, stream: Stream, chunk: bytes) -> None:
        text = self._partial[stream] + self._decoders[stream].decode(chunk)
        *lines, self._partial[stream] = text.split("\n")
        for line in lines:
            self._emit(stream, line)

    def finish(self) -> str:
        for stream, rest in self._partial.items():
            if rest:
                self._emit(stream, rest)
        return "\n".join(self._log)

    def _emit(self, stream: Stream, line: str) -> None:
        line = line.rstrip("\r")
        self._log.append(line)
        if self._on_line is not None:
            self._on_line(stream, line)
