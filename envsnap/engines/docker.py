"""The Docker engine: docker-py for its API, BuildKit through the `docker` command."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from envsnap import archive, process, redaction
from envsnap.engines import buildx, loading
from envsnap.engines.abilities import describe_engine, disk_ability, gpu_ability, uses_containerd_store
from envsnap.engines.build_failure import build_failure
from envsnap.engines.connection import NO_SOCKET, connect, engine_errors, failure
from envsnap.engines.container import ContainerTarget, all_files_of, files_of, new_container, require_gpus, takes_limits
from envsnap.engines.images import Layers, config_digest_of, pushed_digest, read_image
from envsnap.engines.interface import BuildInputs, EngineImage, Pushed
from envsnap.engines.inventory import look_inside
from envsnap.engines.running import RunningContainer
from envsnap.errors import EngineError, TargetError
from envsnap.model.base import BaseInventory
from envsnap.model.host import Ability, State
from envsnap.oci.image import Image
from envsnap.progress import Progress, Task

if TYPE_CHECKING:
    from docker import APIClient

_GET_BUILDKIT = "install Docker's buildx plugin (package docker-buildx or docker-buildx-plugin)"
_COMMAND_TIMEOUT_S = 30
_FILE_LIMIT_BYTES = 64 << 20


class DockerEngine:
    """See `envsnap.engines.interface.Engine`. Connects at the first call that needs the engine."""

    name: Literal["docker"] = "docker"

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = dict(env)
        self._config_digests: dict[str, str] = {}

    @cached_property
    def _client(self) -> APIClient:
        return connect(self._env)

    def close(self) -> None:
        """Give back the connections; the engine may be used again."""
        client = self.__dict__.pop("_client", None)
        if client is not None:
            client.close()

    # What it can do

    def abilities(self) -> tuple[Ability, ...]:
        try:
            with engine_errors("cannot ask the engine"):
                version, info = self._client.version(), self._client.info()
        except EngineError as error:
            state: State = "missing" if NO_SOCKET in error.why else "broken"
            return (Ability(name="engine", state=state, found=error.why or error.what, hint=error.hint), self._buildkit_ability())
        return (
            Ability(name="engine", state="ok", found=describe_engine(version, info)),
            self._buildkit_ability(),
            gpu_ability(info),
            disk_ability(str(info.get("DockerRootDir", "")), local=self._client.base_url.startswith("http+docker://")),
        )

    def is_there(self) -> bool:
        try:
            self.require()
        except EngineError:
            return False
        return True

    def gpus(self) -> Ability:
        """Whether containers can be given GPUs. Raises EngineError: it does not answer."""
        with engine_errors("cannot ask the engine"):
            return gpu_ability(self._client.info())

    def root(self) -> tuple[str, bool]:
        """Where it keeps its images, and whether that is a disk of this machine. Raises EngineError: it does not answer."""
        with engine_errors("cannot ask the engine"):
            return str(self._client.info().get("DockerRootDir", "")), self._client.base_url.startswith("http+docker://")

    def is_rootless(self) -> bool:
        """Whether it runs as an ordinary user, who is root in its containers. Raises EngineError: it does not answer."""
        with engine_errors("cannot ask the engine"):
            return any("rootless" in str(option) for option in self._client.info().get("SecurityOptions") or ())

    def takes(self, image: str, ulimits: Mapping[str, int]) -> bool:
        """Whether it starts a container of an image that it has with these limits, as docker names them: -1 for none.

        What may raise a limit is not in its `info`: an engine without privileges may not.

        Raises:
            TargetError: it does not have the image. EngineError: it does not answer.
        """
        return takes_limits(self._client, image, ulimits)

    def _buildkit_ability(self) -> Ability:
        builder = self._builder()
        if isinstance(builder, str):
            return Ability(name="BuildKit", state="missing", found=builder, hint=_GET_BUILDKIT)
        return Ability(name="BuildKit", state="ok", found=builder.description)

    def _builder(self) -> buildx.Builder | str:
        """How to build with BuildKit here, or why not."""
        if shutil.which("docker", path=self._env.get("PATH")) is None:
            return "no docker command on PATH"
        plugin = self._say("docker", "buildx", "version")
        if plugin and (builder := buildx.parse_buildx_version(plugin)):
            return builder
        client = buildx.parse_client_version(self._say("docker", "--version"))
        if client is None:
            return "the docker command on PATH is not Docker's"
        return buildx.built_in(client) or f"docker {client} has no buildx plugin"

    def _say(self, *command: str) -> str:
        """What a program prints; "" when it fails."""
        try:
            done = process.run(command, env=self._env, timeout_s=_COMMAND_TIMEOUT_S)
        except process.NotStarted:
            return ""
        return done.stdout.decode("utf-8", "replace").strip() if done.ok else ""

    def require(self, *, build: bool = False) -> None:
        with engine_errors("cannot ask the engine"):
            self._client.ping()
        if build:
            self._require_builder()

    def _require_builder(self) -> buildx.Builder:
        builder = self._builder()
        if isinstance(builder, str):
            raise EngineError("cannot build: no BuildKit", why=builder, hint=_GET_BUILDKIT)
        return builder

    # Images

    def image(self, reference: str) -> EngineImage | None:
        from docker.errors import ImageNotFound

        with engine_errors(f"cannot look up {reference}"):
            try:
                found: dict[str, Any] = self._client.inspect_image(reference)  # type: ignore[no-untyped-call]
            except ImageNotFound:
                return None
        return read_image(found, config_digest=self._config_digest(found["Id"]))

    def labelled(self, label: str, value: str) -> dict[str, tuple[str, ...]]:
        """ID -> diff_ids of those that have a label with a value, and a name. What `image` would tell of each is not cheap everywhere."""
        with engine_errors("cannot list the engine's images"):
            listed: list[dict[str, Any]] = self._client.images(filters={"label": f"{label}={value}"})
            named = (str(one["Id"]) for one in listed if one.get("RepoTags") or one.get("RepoDigests"))
            return {name: loading.rootfs(found) for name in named if (found := loading.inspect(self._client, name)) is not None}

    @cached_property
    def _containerd_store(self) -> bool:
        with engine_errors("cannot ask the engine"):
            return uses_containerd_store(self._client.info())

    def _config_digest(self, image_id: str) -> str:
        """An image's ID is its config digest, except on the containerd store: there the manifest has to be read.

        No call of the API answers a manifest, so the engine has to write the image out, layers first. That is done once for
        each image that this process did not build, and takes as long as `docker save`.
        """
        if not self._containerd_store:
            return image_id
        if image_id not in self._config_digests:
            with engine_errors(f"cannot read the manifest of {image_id[:19]}"):
                saved: Iterator[bytes] = self._client.get_image(image_id)
                self._config_digests[image_id] = config_digest_of(saved)
        return self._config_digests[image_id]

    def pull(self, reference: str, progress: Progress) -> EngineImage:
        what = f"cannot pull {reference}"
        repository, tag = _repository_and_tag(reference)
        with progress.task(f"pull {reference}", unit="bytes") as task, engine_errors(what):
            layers = Layers(task)
            for event in self._client.pull(repository, tag=tag, stream=True, decode=True):
                if "error" in event:
                    raise failure(what, str(event["error"]))
                layers.read(event)
        image = self.image(reference)
        if image is None:
            raise EngineError(what, why="the engine says that it did, and does not have it")
        return image

    def inventory(self, reference: str) -> BaseInventory:
        image = self.image(reference)
        if image is None:
            raise EngineError(f"cannot look inside {reference}", why="the engine does not have it", hint=f"docker pull {reference}")
        return look_inside(self._client, image.image_id, architecture=image.config.architecture)

    @contextmanager
    def files(self, reference: str) -> Iterator[Iterator[bytes]]:
        with (
            new_container(self._client, reference, ["none"]) as container,
            engine_errors(f"cannot read the files of {reference}"),
            all_files_of(self._client, container) as chunks,
        ):
            yield chunks

    def tag(self, image_id: str, reference: str) -> None:
        repository, tag = _repository_and_tag(reference)
        with engine_errors(f"cannot tag {reference}"):
            self._client.tag(image_id, repository, tag, force=True)

    def untag(self, reference: str) -> None:
        from docker.errors import ImageNotFound

        with engine_errors(f"cannot untag {reference}"), contextlib.suppress(ImageNotFound):
            self._client.remove_image(reference)

    def push(self, reference: str, progress: Progress) -> Pushed:
        what = f"cannot push {reference}"
        repository, tag = _repository_and_tag(reference)
        digest = ""
        with progress.task(f"push {reference}", unit="bytes") as task, engine_errors(what):
            layers = Layers(task)
            for event in self._client.push(repository, tag=tag, stream=True, decode=True):
                if "error" in event:
                    raise failure(what, str(event["error"]))
                digest = pushed_digest(event) or digest
                layers.read(event)
        if not digest:
            raise EngineError(what, why="the registry answered no digest")
        return Pushed(digest=digest, uploaded_bytes=layers.uploaded_bytes)

    # Images that were put together elsewhere

    def find(self, image: Image) -> EngineImage | None:
        image_id = self._id_of(image)
        if image_id is None:
            return None
        with engine_errors(f"cannot look up {image_id[:19]}"):
            found = loading.inspect(self._client, image_id)
        if found is None or found["Id"] != image_id or loading.rootfs(found) != image.config.diff_ids:
            return None
        if self._containerd_store and not loading.opens(self._client, image_id):
            return None
        return read_image(found, config_digest=image.config.digest)

    def _id_of(self, image: Image) -> str | None:
        """What the engine calls an image once it has it. Either digest covers all that the image is."""
        if not self._containerd_store:
            return image.config.digest
        if image.manifest is None:
            return None
        self._config_digests[image.manifest.digest] = image.manifest.config.digest
        return image.manifest.digest

    def layers_there(self, image: Image) -> int:
        return loading.layers_in_common(self._client, image.config.diff_ids)

    def load(self, image: Image, archive: Iterator[bytes]) -> EngineImage:
        what = f"cannot load {image.config.digest[:19]} into the engine"
        if self._id_of(image) is None:
            why = "it has a containerd store, which finds an image by its manifest, and the manifest of this one is not known"
            raise EngineError(what, why=why, hint="push the base to a registry, and build upon that")
        loading.send(self._client, archive, what)
        found = self.find(image)
        if found is None:
            raise loading.NotTaken(what, why="the engine took it without a complaint, and does not have it")
        return found

    def save(self, reference: str) -> Iterator[bytes]:
        with engine_errors(f"cannot save {reference}"):
            yield from self._client.get_image(reference)

    # Building

    def build(self, context: Path, inputs: BuildInputs, progress: Progress) -> EngineImage:
        builder = self._require_builder()
        log = buildx.BuildLog()
        with (
            tempfile.TemporaryDirectory(prefix="envsnap-build-") as scratch,
            progress.task(f"build {context.name}", unit="steps") as task,
        ):
            image_file, metadata_file = Path(scratch, "image"), Path(scratch, "metadata.json")
            command = buildx.build_command(
                builder,
                context,
                platform=inputs.platform,
                secrets=inputs.secrets,
                network=inputs.network,
                image_file=image_file,
                metadata_file=metadata_file,
            )
            try:
                done = process.run(
                    command, env=buildx.build_environment(builder, self._env), on_line=lambda _, line: _report(log, log.read(line), task)
                )
            except process.NotStarted as error:
                raise EngineError("cannot build", why=str(error), hint=_GET_BUILDKIT) from error
            if not done.ok:
                raise build_failure(log, done.returncode)
            result = buildx.read_result(image_file, metadata_file)
        if result.config_digest:
            self._config_digests |= dict.fromkeys(result.image_ids, result.config_digest)
        image = next((found for image_id in result.image_ids if (found := self.image(image_id))), None)
        if image is None:
            raise EngineError("the build says that it succeeded, and there is no image", log=redaction.text(log.tail()))
        require_as_asked(image, inputs)
        for reference in inputs.tags:
            self.tag(image.image_id, reference)
        tagged = self.image(image.image_id)
        assert tagged is not None
        return tagged

    # Running

    def read_file(self, reference: str, path: str) -> bytes | None:
        from docker.errors import NotFound

        with new_container(self._client, reference, ["none"]) as container, engine_errors(f"cannot read {path} of {reference}"):
            try:
                with files_of(self._client, container, path) as chunks:
                    return archive.read_single(chunks, max_bytes=_FILE_LIMIT_BYTES)
            except NotFound:
                return None

    def target(self, reference: str, *, gpus: str = "none", user: str | None = None, python: str = "python") -> ContainerTarget:
        if self.image(reference) is None:
            raise TargetError(f"the engine has no image {reference}", hint="envsnap build   or docker pull")
        require_gpus(self._client, reference, gpus)
        return ContainerTarget(client=self._client, image=reference, gpus=gpus, user=user, python=python)

    def running(self, container: str, *, python: str = "python") -> RunningContainer:
        """A container that runs already.

        Raises:
            TargetError: there is none of that name or ID, or it does not run.
        """
        from docker.errors import NotFound

        with engine_errors(f"cannot look up the container {container}"):
            try:
                found: dict[str, Any] = self._client.inspect_container(container)
            except NotFound:
                raise TargetError(f"the engine has no container {container}", hint="docker ps lists those that run") from None
        state = found["State"]
        if not state["Running"] or state.get("Paused"):
            image = str(found["Config"]["Image"])
            hint = f"docker start {container}, or --image {image} for what it was made of"
            raise TargetError(f"the container {container} does not run", why=f"it is {state['Status']}", hint=hint)
        return RunningContainer(client=self._client, container=container, python=python)

    def image_of(self, container: str) -> str:
        """ID of the image that a container was made of."""
        with engine_errors(f"cannot look up the container {container}"):
            return str(self._client.inspect_container(container)["Image"])


def _report(log: buildx.BuildLog, event: buildx.Event | None, task: Task) -> None:
    match event:
        case buildx.Started(_, name):
            task.total(log.total_steps or None)
            task.status(redaction.text(name))
        case buildx.Finished(vertex, "") if log.is_step(vertex):
            task.advance(1)
        case buildx.Printed(_, text) if text.strip():
            task.status(redaction.text(text.strip()))
        case _:
            pass


def require_as_asked(image: EngineImage, inputs: BuildInputs) -> None:
    """Raises EngineError unless a built image is for the platform and has the labels that were asked for."""
    if (platform := f"{image.config.os}/{image.config.architecture}") != inputs.platform:
        raise EngineError(f"the build gave an image for {platform}", why=f"{inputs.platform} was asked for")
    for name, wanted in inputs.labels.items():
        if (found := image.config.labels.get(name)) != wanted:
            said = "is missing" if found is None else f"is {found}"
            raise EngineError("the build gave another image than asked for", why=f"its label {name} {said}, expected {wanted}")


def _repository_and_tag(reference: str) -> tuple[str, str]:
    """As docker-py's calls want them; the second may be a digest."""
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(reference)
    return repository, tag or "latest"
