# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The calls to the libpod API that this collection makes, and what they answer.

No Ansible here. Parameters and answers are podman's: ``pkg/api/handlers/libpod/containers.go`` and
``pkg/api/server/register_*.go``.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import time
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from ansible_collections.ferry.podman.plugins.module_utils._errors import (
    ApiError,
    FerryError,
    NotFound,
    ProtocolError,
    TransportError,
    UnsupportedParameter,
)
from ansible_collections.ferry.podman.plugins.module_utils._transport import Transport

try:
    import requests
    from urllib3.exceptions import HTTPError as Urllib3Error
except ImportError:
    # Transport reports it before anything here is used.
    pass

PATH_VERSION = "v5.0.0"
"""In every path; podman validates nothing about it, but below 5 it answers with the inspect format of version 4."""

PARAMETER_SINCE: dict[str, tuple[int, int, int]] = {
    "pod": (4, 3, 0),
    "ignoreStaticMAC": (4, 4, 0),
    "restartPolicy": (5, 1, 0),
    "tcpClose": (5, 7, 0),
}
"""Parameters that older servers ignore without a word (gorilla/schema is told to), and since when they count."""

OLDEST = (4, 4, 0)
"""The oldest podman whose checkpoint API these calls fit."""

DIGEST_SINCE = (5, 0, 0)
"""Since when a push surely tells the digest of what it has pushed."""

GO_MODE_DIRECTORY = 1 << 31
"""The bit of a directory in Go's FileMode."""

PUSHES_AGAIN = 3
"""How often a push is tried again where nobody says; podman's own number."""

PUSH_PAUSE = 1.0
"""Seconds before it is."""

CUT_OFF = ("broken pipe", "use of closed network connection", "unexpected EOF")
"""The registry has gone while podman was sending; podman does not try again after that by itself."""

TAR = {"Content-Type": "application/x-tar"}
BLOCK = 1024 * 1024

Version = tuple[int, int, int]
Json = dict[str, t.Any]


def parse_version(text: str) -> Version:
    """Read the first three numbers of a version such as ``5.4.2`` or ``6.0.0-rc1``.

    :raises ProtocolError: if the text does not begin with a number.
    """
    numbers: list[int] = []
    for part in text.replace("-", ".").replace("+", ".").replace("~", ".").split(".")[:3]:
        if not part.isdecimal():
            break
        numbers.append(int(part))
    if not numbers:
        raise ProtocolError(f"{text!r} is not a version of podman.")
    return t.cast(Version, tuple((numbers + [0, 0])[:3]))


@dataclass(frozen=True)
class HostInfo:
    """What ``/info`` and the headers tell about a host. Sizes are bytes."""

    podman: Version
    raw: Json

    @property
    def _host(self) -> Json:
        return t.cast(Json, self.raw["host"])

    @property
    def runtime(self) -> str:
        """The service's default OCI runtime; the API uses no other one (libpod/runtime_ctr.go)."""
        return str(self._host["ociRuntime"]["name"])

    @property
    def runtime_version(self) -> str:
        return str(self._host["ociRuntime"].get("version", ""))

    @property
    def runtime_has_criu(self) -> bool | None:
        """crun names ``+CRIU`` among its features; runc does not tell."""
        return "+CRIU" in self.runtime_version if self.runtime == "crun" else None

    @property
    def arch(self) -> str:
        """As Go calls it, such as amd64."""
        return str(self._host["arch"])

    @property
    def rootless(self) -> bool:
        return bool(self._host["security"]["rootless"])

    @property
    def graph_root(self) -> str:
        return str(self.raw["store"]["graphRoot"])

    @property
    def graph_root_size(self) -> int | None:
        """Bytes of the file system where podman keeps containers; None where it does not tell."""
        return int(self.raw["store"].get("graphRootAllocated") or 0) or None

    @property
    def graph_root_free(self) -> int | None:
        """Bytes that are free where podman keeps containers; None where it does not tell."""
        size = self.graph_root_size
        return None if size is None else size - int(self.raw["store"].get("graphRootUsed") or 0)

    @property
    def temporary_directory(self) -> str:
        """Where the service spools archives, in and out."""
        return str(self.raw["store"].get("imageCopyTmpDir") or "/var/tmp")

    def summary(self) -> Json:
        """The values that users compare hosts by."""
        host, store = self._host, self.raw["store"]
        return {
            "podman_version": ".".join(map(str, self.podman)),
            "arch": host["arch"],
            "kernel": host["kernel"],
            "distribution": host.get("distribution"),
            "cgroup_version": host["cgroupVersion"],
            "cgroup_manager": host["cgroupManager"],
            "network_backend": host.get("networkBackend"),
            "rootless": self.rootless,
            "selinux_enabled": host["security"].get("selinuxEnabled"),
            "apparmor_enabled": host["security"].get("apparmorEnabled"),
            "runtime": {
                "name": self.runtime,
                "path": host["ociRuntime"].get("path"),
                "version": self.runtime_version.split("\n", 1)[0],
                "has_criu": self.runtime_has_criu,
            },
            "graph_root": self.graph_root,
            "graph_root_free": store.get("graphRootAllocated", 0) - store.get("graphRootUsed", 0),
            "temporary_directory": self.temporary_directory,
            "memory_free": host.get("memFree"),
        }


@dataclass(frozen=True)
class RestartPolicy:
    """What podman does when the container's process ends."""

    name: str
    retries: int

    @property
    def active(self) -> bool:
        return self.name not in ("", "no")


NEVER = "0001-01-01"
"""How podman's times begin that have not come."""


@dataclass(frozen=True)
class Container:
    """One answer of the container inspect call."""

    raw: Json

    @property
    def _state(self) -> Json:
        return t.cast(Json, self.raw["State"])

    @property
    def id(self) -> str:
        return str(self.raw["Id"])

    @property
    def name(self) -> str:
        return str(self.raw["Name"])

    @property
    def image(self) -> str:
        return str(self.raw.get("ImageName") or "")

    @property
    def image_id(self) -> str:
        return str(self.raw.get("Image") or "")

    @property
    def status(self) -> str:
        return str(self._state["Status"])

    @property
    def exit_code(self) -> int:
        return int(self._state.get("ExitCode") or 0)

    @property
    def has_ended(self) -> bool:
        """Whether podman has seen its process end. Not if its host stopped first (resetContainerState in podman)."""
        return not str(self._state.get("FinishedAt") or NEVER).startswith(NEVER)

    @property
    def running(self) -> bool:
        return self.status == "running"

    @property
    def checkpointed(self) -> bool:
        """Stopped by a checkpoint. Cleared by a reboot and by a start (container_internal.go)."""
        return bool(self._state.get("Checkpointed")) and not self.running

    @property
    def restored(self) -> bool:
        """Whether it runs from a checkpoint. Cleared by every start (``init`` in container_internal.go)."""
        return bool(self._state.get("Restored"))

    @property
    def was_restored(self) -> bool:
        """Whether it ever was, whatever became of it: podman before 5 has it as created after its host stopped."""
        return not str(self._state.get("RestoredAt") or NEVER).startswith(NEVER)

    @property
    def checkpoint_path(self) -> str | None:
        """Where the last checkpoint since the last start lies; also set by one that left it running."""
        return t.cast("str | None", self._state.get("CheckpointPath") or None)

    @property
    def started_at(self) -> str:
        return str(self._state.get("StartedAt", ""))

    @property
    def bundle(self) -> str | None:
        """The directory with dump.log, restore.log and the checkpoint; None before the first start."""
        path = self.raw.get("OCIConfigPath")
        return os.path.dirname(path) if path else None

    @property
    def log_driver(self) -> str:
        return str((self.raw["HostConfig"].get("LogConfig") or {}).get("Type") or "")

    @property
    def has_health_check(self) -> bool:
        return bool((self.raw["Config"].get("Healthcheck") or {}).get("Test"))

    @property
    def process_files(self) -> list[str]:
        """Where conmon notes its own process and the container's, on the service's host."""
        return [str(self.raw[key]) for key in ("ConmonPidFile", "PidFile") if self.raw.get(key)]

    @property
    def auto_remove(self) -> bool:
        return bool(self.raw["HostConfig"].get("AutoRemove"))

    @property
    def restart_policy(self) -> RestartPolicy:
        policy = self.raw["HostConfig"].get("RestartPolicy") or {}
        return RestartPolicy(str(policy.get("Name") or ""), int(policy.get("MaximumRetryCount") or 0))

    @property
    def ulimits(self) -> list[Json]:
        """In the form of the OCI runtime specification."""
        limits = self.raw["HostConfig"].get("Ulimits") or []
        return [{"type": limit["Name"], "soft": limit["Soft"], "hard": limit["Hard"]} for limit in limits]

    @property
    def upper_directory(self) -> str | None:
        """The container's own layer, with the storage driver overlay."""
        return t.cast("str | None", ((self.raw.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir"))

    @property
    def lower_directories(self) -> list[str]:
        """Those of the image's layers, the topmost first, with the storage driver overlay."""
        found = ((self.raw.get("GraphDriver") or {}).get("Data") or {}).get("LowerDir") or ""
        return [path for path in str(found).split(":") if path]

    @property
    def mounts(self) -> list[Json]:
        return self.raw.get("Mounts") or []

    @property
    def labels(self) -> dict[str, str]:
        return self.raw["Config"].get("Labels") or {}

    @property
    def stop_timeout(self) -> int:
        """Seconds that its process has to end by itself."""
        return int(self.raw["Config"].get("StopTimeout") or 0)

    @property
    def annotations(self) -> dict[str, str]:
        return self.raw["Config"].get("Annotations") or {}

    @property
    def runtime(self) -> str:
        return str(self.raw.get("OCIRuntime", ""))

    @property
    def dependencies(self) -> list[str]:
        return list(self.raw.get("Dependencies") or [])

    @property
    def pod(self) -> str | None:
        return t.cast("str | None", self.raw.get("Pod") or None)

    @property
    def is_infra(self) -> bool:
        return bool(self.raw.get("IsInfra"))

    @property
    def volumes(self) -> list[str]:
        """Names of the named and anonymous volumes."""
        return [mount["Name"] for mount in self.raw.get("Mounts") or [] if mount.get("Type") == "volume"]

    @property
    def addresses(self) -> list[str]:
        """Of IPv4 and IPv6, on all its networks."""
        keys = ("IPAddress", "GlobalIPv6Address")
        return [settings[key] for settings in self.networks.values() for key in keys if settings.get(key)]

    @property
    def networks(self) -> dict[str, Json]:
        """Settings of each network that it is on. Podman calls all that it makes itself bridge, macvlan too."""
        return self.joined_networks if self.raw["HostConfig"].get("NetworkMode") == "bridge" else {}

    @property
    def joined_networks(self) -> dict[str, Json]:
        """The same, those of its pod included. Podman names its own way of networking, as host, like a network."""
        mode = str(self.raw["HostConfig"].get("NetworkMode"))
        if mode != "bridge" and not mode.startswith("container:"):
            return {}
        return t.cast("dict[str, Json]", (self.raw.get("NetworkSettings") or {}).get("Networks") or {})

    @property
    def ports(self) -> list[str]:
        """The ports of its host that it publishes, as ``address:port/protocol``. Those of a pod are its infra's."""
        published = (self.raw.get("NetworkSettings") or {}).get("Ports") or {}
        own = self.raw["HostConfig"].get("PortBindings") or {}
        found = set()
        for port, bindings in [*published.items(), *own.items()]:
            for binding in bindings or []:
                if str(binding.get("HostPort") or "").isdecimal():
                    address = binding.get("HostIp") or "0.0.0.0"
                    host = f"[{address}]" if ":" in address else address
                    found.add(f"{host}:{binding['HostPort']}/{port.partition('/')[2] or 'tcp'}")
        return sorted(found)

    def summary(self) -> Json:
        """What the info module returns of every container: its checkpoint, and what it takes up on its host."""
        return {
            "id": self.id,
            "name": self.name,
            "image": self.image,
            "image_id": self.image_id,
            "status": self.status,
            "runtime": self.runtime,
            "pod": self.pod,
            "labels": self.labels,
            "volumes": self.volumes,
            "ports": self.ports,
            "checkpointed": self.checkpointed,
            "checkpointed_at": self._state.get("CheckpointedAt") if self.checkpointed else None,
            "checkpoint_path": self.checkpoint_path,
            "checkpoint_log": self._state.get("CheckpointLog") or None,
            "restored": self.restored,
            "restored_at": self._state.get("RestoredAt") if self.restored else None,
            "restore_log": self._state.get("RestoreLog") or None,
        }


@dataclass(frozen=True)
class CheckpointOptions:
    """Query parameters of the checkpoint call. What it lacks, the client does."""

    keep: bool = False
    leave_running: bool = False
    tcp_established: bool = False
    ignore_rootfs: bool = False
    pre_checkpoint: bool = False
    with_previous: bool = False
    file_locks: bool = False
    create_image: str | None = None

    @property
    def runtime_flags(self) -> list[str]:
        """The same for the runtime itself, as podman gives them to it."""
        flags = {"--tcp-established": self.tcp_established, "--file-locks": self.file_locks}
        return [flag for flag, is_set in flags.items() if is_set]

    def query(self) -> Json:
        return _query(
            keep=self.keep,
            leaveRunning=self.leave_running,
            tcpEstablished=self.tcp_established,
            ignoreRootFS=self.ignore_rootfs,
            preCheckpoint=self.pre_checkpoint,
            withPrevious=self.with_previous,
            fileLocks=self.file_locks,
            createImage=self.create_image,
        )


@dataclass(frozen=True)
class RestoreOptions:
    """Query parameters of the restore call."""

    name: str | None = None
    keep: bool = False
    tcp_established: bool = False
    tcp_close: bool = False
    ignore_rootfs: bool = False
    ignore_volumes: bool = False
    ignore_static_ip: bool = False
    ignore_static_mac: bool = False
    file_locks: bool = False
    pod: str | None = None
    publish: list[str] = field(default_factory=list)

    def query(self) -> Json:
        return _query(
            name=self.name,
            keep=self.keep,
            tcpEstablished=self.tcp_established,
            tcpClose=self.tcp_close,
            ignoreRootFS=self.ignore_rootfs,
            ignoreVolumes=self.ignore_volumes,
            ignoreStaticIP=self.ignore_static_ip,
            ignoreStaticMAC=self.ignore_static_mac,
            fileLocks=self.file_locks,
            pod=self.pod,
            # One value with spaces: of a repeated parameter the server keeps the last.
            publishPorts=" ".join(self.publish),
        )


@dataclass(frozen=True)
class RegistryAccess:
    """How a service is to talk to a registry.

    :param tls_verify: None leaves it to the service's own ``registries.conf``.
    :param username: None leaves the credentials to what ``podman login`` has left on the service's host.
    """

    tls_verify: bool | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    identity_token: str | None = field(default=None, repr=False)

    def query(self) -> Json:
        return {} if self.tls_verify is None else {"tlsVerify": "true" if self.tls_verify else "false"}

    def headers(self) -> dict[str, str]:
        if self.username is None:
            return {}
        known = {"username": self.username, "password": self.password or ""}
        if self.identity_token is not None:
            known["identitytoken"] = self.identity_token
        return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(known).encode()).decode()}


def _query(**values: t.Any) -> Json:
    return {key: "true" if value is True else value for key, value in values.items() if value}


class Stream:
    """The body of an answer, read as it arrives. Use it as a context manager.

    :param doing: what is being done, for errors.
    """

    def __init__(self, response: requests.Response, doing: str) -> None:
        self._response = response
        self._doing = doing

    def read(self, size: int = BLOCK) -> bytes:
        """Return at most ``size`` bytes, and none at the end.

        :raises TransportError: if the connection breaks or stays silent for too long.
        """
        try:
            return t.cast(bytes, self._response.raw.read(size))
        except (Urllib3Error, OSError) as error:
            raise TransportError(f"{self._doing}: the answer broke off: {error}.") from error

    def chunks(self) -> Iterator[bytes]:
        while block := self.read():
            yield block

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._response.close()


class LibpodClient:
    """A libpod service, spoken to over a transport."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._version: Version | None = None

    # -- the host ---------------------------------------------------------------------------------------------

    @property
    def version(self) -> Version:
        """The server's podman version, asked for once.

        :raises FerryError: if it is older than this collection knows.
        """
        if self._version is None:
            self._version = self._ask_version()
        return self._version

    def _ask_version(self) -> Version:
        response = self._request("GET", "/_ping", "Asking for podman's version")
        text = response.headers.get("Libpod-API-Version")
        if text is None:
            raise ProtocolError(f"{self.transport.url} answers, but not as a libpod service does.")
        version = parse_version(text)
        if version < OLDEST:
            raise FerryError(
                f"{self.transport.url} is podman {text}.",
                remedy=f"This collection needs podman {'.'.join(map(str, OLDEST))} or newer.",
            )
        return version

    def info(self) -> HostInfo:
        return HostInfo(self.version, self._get("/info", "Asking for the host's facts"))

    @functools.cached_property
    def host(self) -> HostInfo:
        """The same, asked once: podman runs four programs for each answer, and what moves need of it stays."""
        return self.info()

    # -- containers -------------------------------------------------------------------------------------------

    def containers(self) -> list[Json]:
        """Every container that is not a pod's infra container, in the list format."""
        found = self._get("/containers/json", "Listing containers", {"all": "true"})
        return [entry for entry in t.cast("list[Json]", found) if not entry.get("IsInfra")]

    def container(self, name: str) -> Container:
        """:raises NotFound: if there is none of that name or ID."""
        return Container(self._get(f"/containers/{_part(name)}/json", f"Inspecting container {name}"))

    def find_container(self, name: str) -> Container | None:
        with contextlib.suppress(NotFound):
            return self.container(name)
        return None

    def checkpoint(self, container: Container, options: CheckpointOptions) -> Json:
        """Checkpoint in place or into an image; answers with CRIU's statistics (microseconds) where there are any."""
        params = {**options.query(), "printStats": "true"}
        doing = f"Checkpointing container {container.name}"
        return t.cast(Json, self._post(f"/containers/{container.id}/checkpoint", doing, params))

    def export_checkpoint(self, container: Container, options: CheckpointOptions) -> Stream:
        """Checkpoint into an uncompressed tar. Nothing arrives before the server has written all of it."""
        params = self.check_supported({**options.query(), "export": "true"})
        doing = f"Checkpointing container {container.name}"
        response = self._request("POST", f"/containers/{container.id}/checkpoint", doing, params=params, stream=True)
        return Stream(response, doing)

    def restore(self, name: str, options: RestoreOptions, doing: str) -> Json:
        """Restore a local container, or a checkpoint image given by its full ID."""
        params = {**options.query(), "printStats": "true"}
        return t.cast(Json, self._post(f"/containers/{_part(name)}/restore", doing, params))

    def import_checkpoint(self, archive: t.Iterable[bytes], options: RestoreOptions, doing: str) -> Json:
        """Restore from an archive. If its iterator raises, the server never sees the end and restores nothing."""
        params = {**options.query(), "import": "true", "printStats": "true"}
        return t.cast(Json, self._post("/containers/import/restore", doing, params, archive))

    def is_alive(self, container: Container) -> bool:
        """Whether it has processes; its status is behind them for a moment."""
        doing = f"Listing the processes of container {container.name}"
        try:
            self._request("GET", f"/containers/{container.id}/top", doing, params={"stream": "false"})
        except ApiError:
            return False
        return True

    def changes(self, container: Container) -> list[Json]:
        """What differs from the image: ``Path`` and ``Kind`` (0 modified, 1 added, 2 deleted)."""
        doing = f"Listing the changed files of container {container.name}"
        found = self._get(f"/containers/{container.id}/changes", doing, {"diffType": "container"})
        return t.cast("list[Json]", found or [])

    def copy_out(self, name: str, path: str) -> Stream:
        """A tar of one path of a container, running or not. Every owner in it is root."""
        doing = f"Reading {path} of container {name}"
        response = self._request("GET", f"/containers/{_part(name)}/archive", doing, params={"path": path}, stream=True)
        return Stream(response, doing)

    def copy_in(self, container: Container, path: str, archive: bytes) -> None:
        """Unpack a tar into a directory of a container, with the owners that it has."""
        self.copy_in_chunks(container, path, iter([archive]))

    def copy_in_chunks(self, container: Container, path: str, chunks: t.Iterable[bytes]) -> None:
        """The same for a stream. If it raises, the server never sees its end and fails."""
        doing = f"Writing into {path} of container {container.name}"
        # Without this parameter everything would be given to the container's user.
        params = {"path": path, "copyUIDGID": "false"}
        self._request("PUT", f"/containers/{container.id}/archive", doing, params=params, body=chunks)

    def export_rootfs(self, container: Container) -> Stream:
        """A tar of the container's whole root filesystem, with its owners."""
        doing = f"Reading the files of container {container.name}"
        return Stream(self._request("GET", f"/containers/{container.id}/export", doing, stream=True), doing)

    def mount(self, container: Container) -> str:
        """Mount the root filesystem on the service's host and return where."""
        doing = f"Mounting container {container.name}"
        # The path alone, not as JSON.
        return self._request("POST", f"/containers/{container.id}/mount", doing).text.strip()

    def unmount(self, container: Container) -> None:
        self._request("POST", f"/containers/{container.id}/unmount", f"Unmounting container {container.name}")

    def is_directory(self, container: Container, path: str) -> bool:
        """Whether a path inside the container, running or not, is a directory."""
        doing = f"Looking at {path} of container {container.name}"
        response = self._request("HEAD", f"/containers/{container.id}/archive", doing, params={"path": path})
        mode = json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))["mode"]
        return bool(mode & GO_MODE_DIRECTORY)

    def update_restart_policy(self, container: Container, policy: RestartPolicy) -> None:
        params = {"restartPolicy": policy.name}
        if policy.name == "on-failure" and policy.retries:
            params["restartRetries"] = str(policy.retries)
        # Limits that are not repeated here are gone for the next start (seen with 5.4 and 5.8).
        body = {"r_limits": container.ulimits}
        doing = f"Setting the restart policy of container {container.name}"
        path = f"/containers/{container.id}/update"
        self._request("POST", path, doing, params=self.check_supported(params), json_body=body)

    def create_container(self, spec: Json) -> str:
        """Create, but do not start; returns the ID."""
        doing = f"Creating container {spec.get('name', '')}"
        return str(self._json(self._request("POST", "/containers/create", doing, json_body=spec), doing)["Id"])

    def start(self, container: Container) -> None:
        """Start it; nothing happens if it runs.

        :raises ApiError: if its process could not be started; it has not run then.
        """
        self._request("POST", f"/containers/{container.id}/start", f"Starting container {container.name}")

    def initialize(self, container: Container) -> None:
        """Prepare everything for its process: mounts, network, cgroup. The process itself does not run yet."""
        self._request("POST", f"/containers/{container.id}/init", f"Preparing container {container.name}")

    def stop(self, container: Container) -> None:
        """Stop it by its own signal, and after its own timeout by force; nothing happens if it does not run."""
        params = {"ignore": "true"}
        self._request("POST", f"/containers/{container.id}/stop", f"Stopping container {container.name}", params=params)

    def commit(self, container: Container, repository: str, tag: str) -> str:
        """Make an image of its root filesystem, with owners and deletions, and return the ID."""
        params = {"container": container.id, "repo": repository, "tag": tag, "pause": "false", "format": "oci"}
        doing = f"Making an image of the files of container {container.name}"
        return str(self._json(self._request("POST", "/commit", doing, params=params), doing)["Id"])

    def events(self, container_id: str) -> list[Json]:
        """What the host remembers of a container, oldest first, also of one that is gone; ``Action`` and ``Actor``."""
        params = {"stream": "false", "since": "1", "filters": json.dumps({"container": [container_id]})}
        doing = f"Reading the events of container {container_id[:12]}"
        response = self._request("GET", "/events", doing, params=params)
        try:
            return [json.loads(line) for line in response.text.splitlines() if line]
        except ValueError:
            raise ProtocolError(f"{doing} at {self.transport.url}: the answer is not JSON.") from None

    def remove_container(self, name: str, *, force: bool = True, volumes: bool = True) -> None:
        """Remove it; nothing happens if it is not there.

        :param force: even if it runs.
        :param volumes: its anonymous volumes too.
        """
        params = {"force": "true" if force else "false", "ignore": "true", "volumes": "true" if volumes else "false"}
        self._request("DELETE", f"/containers/{_part(name)}", f"Removing container {name}", params=params)

    def pause(self, container: Container) -> None:
        self._request("POST", f"/containers/{container.id}/pause", f"Pausing container {container.name}")

    def unpause(self, container: Container) -> None:
        self._request("POST", f"/containers/{container.id}/unpause", f"Unpausing container {container.name}")

    def run_health_check(self, container: Container) -> Json:
        """Run the container's own health check once, now; answers with ``Status`` and ``Log``.

        :raises ApiError: if it has none, or does not run.
        """
        doing = f"Checking the health of container {container.name}"
        return t.cast(Json, self._get(f"/containers/{container.id}/healthcheck", doing))

    # -- what containers need ---------------------------------------------------------------------------------

    def image(self, name: str) -> Json | None:
        return self._find(f"/images/{_part(name)}/json", f"Inspecting image {name}")

    def save_image(self, name: str) -> Stream:
        """An archive of the image that keeps its ID."""
        doing = f"Saving image {name}"
        response = self._request(
            "GET", f"/images/{_part(name)}/get", doing, params={"format": "docker-archive"}, stream=True
        )
        return Stream(response, doing)

    def load_image(self, archive: t.Iterable[bytes], doing: str) -> None:
        self._post("/images/load", doing, {}, archive)

    def push_image(
        self,
        name: str,
        destination: str,
        access: RegistryAccess,
        *,
        compression: str = "zstd",
        retry: int | None = None,
    ) -> str | None:
        """Push in the format that keeps annotations.

        :param destination: host, path and tag in the registry.
        :param compression: of the layers that the registry has not yet: zstd or gzip.
        :param retry: how often it is tried again, by podman as far as the server can be told, and from here after
            what podman does not take for passing; None for podman's own choice.
        :return: the digest of the manifest in the registry; None from servers before 5.0, which may not tell it.
        :raises ApiError: if it was not pushed, also where the server has answered 200 before.
        """
        doing = f"Pushing an image as {destination}"
        params = {
            "destination": destination,
            "format": "oci",
            "compressionFormat": compression,
            # A layer that the registry has already stays as it is there.
            "forceCompressionFormat": "false",
            "quiet": "false",
        }
        told = self._push(f"/images/{_part(name)}/push", doing, params, access, retry)
        digest = t.cast("str | None", told.get("manifestdigest"))
        if digest is None and self.version >= DIGEST_SINCE:
            # A service that is stopped ends its answer as if it were done.
            raise ProtocolError(f"{doing} at {self.transport.url}: the answer ends without the digest.")
        return digest

    def _push(self, path: str, doing: str, params: Json, access: RegistryAccess, retry: int | None) -> Json:
        for _again in range(PUSHES_AGAIN if retry is None else retry):
            try:
                return self._registry(path, doing, params, access, retry)
            except ApiError as error:
                if not any(words in error.cause for words in CUT_OFF):
                    raise
                time.sleep(PUSH_PAUSE)
        return self._registry(path, doing, params, access, retry)

    def pull_reference(self, reference: str, access: RegistryAccess, *, retry: int | None = None) -> str:
        """Pull an image anew and return its ID.

        :param reference: with a tag or a digest; never one with another name.
        :param retry: how often podman tries again, as far as the server can be told; None for its own choice.
        :raises ApiError: if it was not pulled, also where the server has answered 200 before.
        """
        doing = f"Pulling {reference}"
        told = self._registry("/images/pull", doing, {"reference": reference, "quiet": "false"}, access, retry)
        if not told.get("id"):
            raise ProtocolError(f"{doing} at {self.transport.url}: the answer ends without the image's ID.")
        return str(told["id"])

    def _registry(self, path: str, doing: str, params: Json, access: RegistryAccess, retry: int | None) -> Json:
        """A request whose answer is a stream of JSON lines: what they told, each key's last value.

        :raises ApiError: if one tells an error.
        """
        params = {**params, **access.query(), **({} if retry is None else {"retry": str(retry)})}
        response = self._request("POST", path, doing, params=params, headers=access.headers())
        told: Json = {}
        for line in filter(None, response.text.splitlines()):
            try:
                told.update(json.loads(line))
            except (ValueError, TypeError):
                raise ProtocolError(
                    f"{doing} at {self.transport.url}: the answer is not JSON: {line[:200]!r}."
                ) from None
            if told.get("error"):
                raise ApiError(f"{doing} failed: {told['error']}.", status=500, cause=str(told["error"]))
        return told

    def tag_image(self, name: str, repository: str, tag: str) -> None:
        """:param repository: host and path."""
        params = {"repo": repository, "tag": tag}
        self._request("POST", f"/images/{_part(name)}/tag", f"Tagging image {name}", params=params)

    def remove_image(self, name: str) -> None:
        with contextlib.suppress(NotFound):
            self._request("DELETE", f"/images/{_part(name)}", f"Removing image {name}")

    def volume(self, name: str) -> Json | None:
        return self._find(f"/volumes/{_part(name)}/json", f"Inspecting volume {name}")

    def create_volume(self, volume: Json) -> None:
        """:param volume: as another host's volume inspect call answers.

        :raises ApiError: if there is one of that name.
        """
        kept = {key: volume[key] for key in ("Name", "Driver", "Labels", "Options") if volume.get(key)}
        self._request("POST", "/volumes/create", f"Creating volume {volume['Name']}", json_body=kept)

    def volumes(self) -> list[Json]:
        found = self._get("/volumes/json", "Listing volumes")
        return t.cast("list[Json]", found or [])

    def volume_names(self) -> set[str]:
        return {volume["Name"] for volume in self.volumes()}

    def each_container(self) -> Iterator[Container]:
        """Every container but pods' infra containers; one that is removed meanwhile is left out."""
        for entry in self.containers():
            container = self.find_container(entry["Id"])
            if container is not None:
                yield container

    def remove_volume(self, name: str) -> None:
        """:raises ApiError: if a container uses it."""
        with contextlib.suppress(NotFound):
            self._request("DELETE", f"/volumes/{_part(name)}", f"Removing volume {name}")

    def network(self, name: str) -> Json | None:
        return self._find(f"/networks/{_part(name)}/json", f"Inspecting network {name}")

    def create_network(self, network: Json) -> None:
        """:param network: as another host's network inspect call answers."""
        self._request("POST", "/networks/create", f"Creating network {network['name']}", json_body=network)

    def remove_network(self, name: str) -> None:
        """:raises ApiError: if a container uses it."""
        with contextlib.suppress(NotFound):
            self._request("DELETE", f"/networks/{_part(name)}", f"Removing network {name}")

    def secret_names(self) -> set[str]:
        found = self._get("/secrets/json", "Listing secrets")
        return {secret["Spec"]["Name"] for secret in t.cast("list[Json]", found or [])}

    def pod(self, name: str) -> Json | None:
        return self._find(f"/pods/{_part(name)}/json", f"Inspecting pod {name}")

    def labelled_pod(self, label: str) -> Json | None:
        """The first pod with a label, given as ``KEY=VALUE``."""
        found = self._get("/pods/json", "Listing pods", {"filters": json.dumps({"label": [label]})})
        return self.pod(found[0]["Id"]) if found else None

    def create_pod(self, spec: Json) -> str:
        """Create, but do not start; returns the ID."""
        doing = f"Creating pod {spec['name']}"
        return str(self._json(self._request("POST", "/pods/create", doing, json_body=spec), doing)["Id"])

    def remove_pod(self, name: str, *, force: bool = True) -> None:
        """Remove it with all of its containers; nothing happens if it is not there.

        :param force: even if they run.
        """
        params = {"force": "true" if force else "false"}
        with contextlib.suppress(NotFound):
            self._request("DELETE", f"/pods/{_part(name)}", f"Removing pod {name}", params=params)

    # -- what a move weighs -----------------------------------------------------------------------------------

    def processes(self, container: Container) -> list[tuple[int, int]]:
        """Of each process of a running container, its ID on the host and the bytes of memory that it has."""
        doing = f"Listing the processes of container {container.name}"
        params = {"stream": "false", "ps_args": "hpid,rss"}
        found = self._get(f"/containers/{container.id}/top", doing, params)
        rows = [row for row in found.get("Processes") or [] if len(row) == 2 and all(map(str.isdecimal, row))]
        return [(int(pid), int(size) * 1024) for pid, size in rows]

    def layer_size(self, container: Container) -> int:
        """Bytes of the files that the container has made or changed."""
        doing = f"Asking for the size of container {container.name}"
        found = self._get(f"/containers/{container.id}/json", doing, {"size": "true"})
        return int(found.get("SizeRw") or 0)

    def volume_sizes(self) -> dict[str, int]:
        """Bytes of every volume, by name."""
        found = self._get("/system/df", "Asking for the sizes of volumes")
        return {volume["VolumeName"]: int(volume["Size"]) for volume in found.get("Volumes") or []}

    def image_ids(self) -> list[str]:
        return list(self.image_names())

    def image_names(self) -> dict[str, list[str]]:
        """All that each image's ID is known by here: names with a tag, and those with a digest, which inspect hides."""
        found = t.cast("list[Json]", self._get("/images/json", "Listing images") or [])
        return {image["Id"]: image.get("Names") or [] for image in found}

    def file_mode(self, name: str, path: str) -> int | None:
        """Type and mode, as Go's FileMode, of a path inside a container, running or not; None if it is not there."""
        doing = f"Looking at {path} of container {name}"
        try:
            response = self._request("HEAD", f"/containers/{_part(name)}/archive", doing, params={"path": path})
        except NotFound:
            return None
        return int(json.loads(base64.b64decode(response.headers["X-Docker-Container-Path-Stat"]))["mode"])

    # -- requests ---------------------------------------------------------------------------------------------

    def _get(self, path: str, doing: str, params: Json | None = None) -> t.Any:
        return self._json(self._request("GET", path, doing, params=params), doing)

    def _find(self, path: str, doing: str) -> Json | None:
        with contextlib.suppress(NotFound):
            return t.cast(Json, self._get(path, doing))
        return None

    def _post(self, path: str, doing: str, params: Json, body: t.Iterable[bytes] | None = None) -> t.Any:
        return self._json(self._request("POST", path, doing, params=self.check_supported(params), body=body), doing)

    def check_supported(self, params: Json) -> Json:
        """:raises UnsupportedParameter: for what this server would ignore in silence."""
        for key in params:
            since = PARAMETER_SINCE.get(key)
            if since is not None and self.version < since:
                raise UnsupportedParameter(
                    f"{self.transport.url} is podman {'.'.join(map(str, self.version))}, "
                    f"which ignores {key}; it is known since {'.'.join(map(str, since))}."
                )
        return params

    def _request(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        params: Json | None = None,
        body: t.Iterable[bytes] | None = None,
        json_body: Json | None = None,
        headers: dict[str, str] | None = None,
        stream: bool = False,
    ) -> requests.Response:
        try:
            response = self.transport.session.request(
                method,
                f"http://libpod/{PATH_VERSION}/libpod{path}",
                params=params,
                data=body,
                json=json_body,
                headers=TAR if body is not None else headers,
                # For both: urllib3 sends on a connection that it uses again under the one for connecting.
                timeout=self.transport.timeout,
                allow_redirects=False,
                stream=stream,
            )
        except requests.RequestException as error:
            raise self._unreachable(doing, error) from error
        except (Urllib3Error, OSError) as error:
            raise self._unreachable(doing, error) from error
        # 304 says that it runs, or is stopped, already.
        if response.status_code >= 300 and response.status_code != 304:
            raise _api_error(doing, response)
        return response

    def _unreachable(self, doing: str, error: Exception) -> TransportError:
        text = str(error)
        remedy = None
        if "timed out" in text:
            text = f"no answer within {self.transport.timeout:.0f} s"
            remedy = "The service may still be at it: look before trying again, and raise the option timeout."
        elif "FileNotFoundError" in text or "Connection refused" in text:
            if self.transport.is_local:
                text = "no podman service listens there"
                remedy = "Start it: systemctl enable --now podman.socket."
            else:
                text = "the ssh connection has ended"
        elif "PermissionError" in text:
            text = "permission denied"
            remedy = "The rootful socket needs root: use become."
        elif "Connection aborted" in text or "Connection broken" in text:
            text = "the connection broke off"
            remedy = "Look whether podman.socket is up there." if not self.transport.is_local else None
        return TransportError(f"{doing} at {self.transport.url}: {text}.", remedy=remedy)

    def _json(self, response: requests.Response, doing: str) -> t.Any:
        try:
            return response.json()
        except ValueError:
            raise ProtocolError(
                f"{doing} at {self.transport.url}: the answer is not JSON: {response.text[:200]!r}."
            ) from None


def _part(name: str) -> str:
    """One segment of a path: a name may hold slashes and colons, as images' do."""
    return quote(name, safe="")


def _api_error(doing: str, response: requests.Response) -> ApiError:
    try:
        answer = json.loads(response.text)
        cause, message = str(answer["cause"]), str(answer["message"])
    except (ValueError, KeyError, TypeError):
        # The router answers 404 and 405 in plain text.
        cause = message = response.text.strip()[:500] or f"HTTP {response.status_code} without a text"
    except requests.RequestException as error:
        cause = message = f"HTTP {response.status_code}, and the text broke off: {error}"
    # Of a container that is being removed podman says that it is not there, as its own error.
    kind = NotFound if response.status_code == 404 or cause == "no such container" else ApiError
    return kind(f"{doing} failed: {message}.", status=response.status_code, cause=cause)
