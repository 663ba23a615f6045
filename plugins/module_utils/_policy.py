# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What a checkpoint asks of the host that restores it, held against what the user allows. Pure.

spec.dump goes to the OCI runtime as it is: podman puts its own files, network and cgroup in and compares nothing else
with the container's configuration. So both documents are read here, the way Go reads them: whatever the case of a key.
CRIU's images are not: who can forge those needs no spec, and a signature alone tells who made them.
"""

from __future__ import annotations

import itertools
import typing as t
from collections.abc import Iterator
from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._archive import Contents
from ansible_collections.ferry.podman.plugins.module_utils._compat import Finding
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError
from ansible_collections.ferry.podman.plugins.module_utils._libpod import HostInfo

Json = dict[str, t.Any]

CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
)
"""What podman gives to every container (containers/common pkg/config)."""

NAMESPACES = {
    "pid": "pidNsCtr",
    "network": "netNsCtr",
    "ipc": "ipcNsCtr",
    "uts": "utsNsCtr",
    "mount": "",
    "cgroup": "cgroupNsCtr",
}
"""Which a container has of its own, and the key of config.dump that names a container to share it with."""

VIRTUAL = frozenset(("proc", "sysfs", "tmpfs", "devpts", "mqueue", "cgroup", "cgroup2"))
"""Types of mounts that show nothing of the host's files."""

NETWORK_NAMESPACES = ("/run/netns/", "/var/run/netns/")

DANGEROUS = ("org.criu.", "cdi.k8s.io/", "run.oci.", "org.systemd.property.")
"""Prefixes of annotations that runtimes act upon: CRIU's settings, devices, programs and units of the host."""

MOST = 100
"""Findings that are told; a checkpoint may have been made to have more than anybody reads."""

PODMANS_OWN = frozenset(("org.systemd.property.KillSignal", "org.systemd.property.TimeoutStopUSec"))


@dataclass(frozen=True)
class Policy:
    """What a checkpoint may ask for; by default what every container of podman has."""

    privileged: bool = False
    host_namespaces: tuple[str, ...] = ()
    bind_mounts: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    device_nodes: bool = False
    capabilities: tuple[str, ...] = CAPABILITIES
    unconfined: bool = False
    hooks: tuple[str, ...] = ()
    annotations: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    no_new_privileges: bool = False

    @classmethod
    def of(cls, given: Json) -> Policy:
        """From the option's values."""
        values: Json = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        return cls(**values)


def size_findings(contents: Contents, host: HostInfo) -> list[Finding]:
    """Whether there is room for what is to be unpacked."""
    needed, free = contents.size_of(""), host.graph_root_free
    if free is None or needed <= free:
        return []
    return [
        Finding(
            "archive_too_large",
            f"The archive takes {needed} bytes when it is unpacked, and {host.graph_root} has {free} left.",
            "Free space there; with max_size, only that size counts.",
        )
    ]


def policy_findings(contents: Contents, host: HostInfo, policy: Policy | None) -> list[Finding]:
    """What a checkpoint asks for beyond a policy: blockers. Without one, the same is told as notices.

    :raises ArchiveError: if the documents are not as podman writes them.
    """
    judge = _Judge(contents, host, policy or Policy(), "notice" if policy is None else "blocker")
    return list(itertools.islice(judge.findings(), MOST))


@dataclass(frozen=True)
class _Judge:
    contents: Contents
    host: HostInfo
    policy: Policy
    severity: str

    @property
    def spec(self) -> Json:
        return _object(self.contents.documents.get("spec.dump"))

    @property
    def config(self) -> Json:
        return _object(self.contents.config)

    @property
    def linux(self) -> Json:
        return _object(_get(self.spec, "linux"))

    @property
    def process(self) -> Json:
        return _object(_get(self.spec, "process"))

    def findings(self) -> Iterator[Finding]:
        privileged = bool(_get(self.config, "privileged"))
        if privileged and not self.policy.privileged:
            yield self._found("spec_privileged", "The checkpoint is of a privileged container.", "privileged")
        # What comes with being privileged is told once.
        if not privileged:
            yield from self._capabilities()
            yield from self._devices()
            yield from self._confinement()
        yield from self._namespaces()
        yield from self._mounts()
        yield from self._hooks()
        yield from self._annotations()
        yield from self._secrets()
        yield from self._pid_files()
        if self.contents.devices and not self.policy.device_nodes:
            shown = ", ".join(self.contents.devices)
            yield self._found("archive_device", f"Tars in the archive hold device nodes: {shown}.", "device_nodes")
        if self.policy.no_new_privileges and not _get(self.process, "noNewPrivileges"):
            message = "The checkpoint's processes can gain privileges: it was made without no-new-privileges."
            yield self._found("spec_new_privileges", message, "no_new_privileges")

    def _found(self, code: str, message: str, option: str) -> Finding:
        told = (
            f"Allow it with policy.{option}" if option != "no_new_privileges" else "Leave out policy.no_new_privileges"
        )
        remedy = f"{told} if that is meant, and you trust who made the archive."
        return Finding(code, message, remedy, severity=self.severity)

    def _namespaces(self) -> Iterator[Finding]:
        own = {str(_get(entry, "type")): _get(entry, "path") for entry in _objects(_get(self.linux, "namespaces"))}
        for kind, shared in NAMESPACES.items():
            if kind in self.policy.host_namespaces or (shared and _get(self.config, shared)):
                continue
            path = own.get(kind)
            if kind not in own:
                message = f"The checkpoint uses the host's {kind} namespace."
                yield self._found("spec_namespace", message, "host_namespaces")
            elif path and not (kind == "network" and str(path).startswith(NETWORK_NAMESPACES)):
                message = f"The checkpoint joins the {kind} namespace {path!r} of the host."
                yield self._found("spec_namespace", message, "host_namespaces")

    def _mounts(self) -> Iterator[Finding]:
        for kind, source in self._sources():
            if kind == "bind" and self._is_podmans(source):
                continue
            if kind != "bind" or not _is_below(source, [*self._volumes(), *self.policy.bind_mounts]):
                name = source if kind == "bind" else f"{source} as {kind}"
                yield self._found("spec_mount", f"The checkpoint mounts {name!r} of the host.", "bind_mounts")

    def _sources(self) -> Iterator[tuple[str, str]]:
        for mount in _objects(_get(self.spec, "mounts")):
            kind, options = str(_get(mount, "type") or ""), _texts(_get(mount, "options"))
            is_bind = kind == "bind" or "bind" in options or "rbind" in options
            if is_bind or kind not in VIRTUAL:
                yield ("bind" if is_bind else kind), str(_get(mount, "source") or "")
        for overlay in _objects(_get(self.config, "overlayVolumes")):
            yield "bind", str(_get(overlay, "source") or "")

    def _volumes(self) -> list[str]:
        """Where the container's volumes are on this host."""
        store = self.host.raw.get("store") or {}
        base = store.get("volumePath") or f"{store.get('graphRoot')}/volumes"
        names = [str(_get(volume, "volumeName")) for volume in _objects(_get(self.config, "namedVolumes"))]
        return [f"{base}/{name}/_data" for name in names if name.strip(".") and "/" not in name]

    def _devices(self) -> Iterator[Finding]:
        devices = _objects(_get(self.linux, "devices"))
        for path in [str(_get(device, "path")) for device in devices]:
            if path not in self.policy.devices:
                yield self._found("spec_device", f"The checkpoint has the device {path!r}.", "devices")
        # A rule about one of these is allowed, or told, with the device.
        named = {_numbers(device) for device in devices}
        for rule in _objects(_get(_object(_get(self.linux, "resources")), "devices")):
            if _get(rule, "allow") and _numbers(rule) not in named:
                shown = " ".join(_numbers(rule))
                yield self._found("spec_device", f"The checkpoint may use the device {shown!r}.", "devices")
        for name in _texts(_get(self.config, "cdiDevices")):
            if name not in self.policy.devices:
                yield self._found("spec_device", f"The checkpoint has the CDI device {name!r}.", "devices")

    def _capabilities(self) -> Iterator[Finding]:
        sets = _object(_get(self.process, "capabilities"))
        asked = {name for value in sets.values() for name in _texts(value)}
        allowed = {_capability(name) for name in self.policy.capabilities}
        for name in sorted(asked):
            if _capability(name) not in allowed:
                yield self._found("spec_capability", f"The checkpoint has the capability {name!r}.", "capabilities")

    def _confinement(self) -> Iterator[Finding]:
        if self.policy.unconfined:
            return
        seccomp = _object(_get(self.linux, "seccomp"))
        permits = _get(seccomp, "defaultAction") in (None, "", "SCMP_ACT_ALLOW", "SCMP_ACT_LOG")
        if permits and not _objects(_get(seccomp, "syscalls")):
            yield self._found("spec_unconfined", "The checkpoint runs without seccomp.", "unconfined")
        security = self.host.raw["host"].get("security") or {}
        profile, label = (str(_get(self.process, key) or "") for key in ("apparmorProfile", "selinuxLabel"))
        if security.get("apparmorEnabled") and profile in ("", "unconfined"):
            yield self._found("spec_unconfined", "The checkpoint runs without an AppArmor profile.", "unconfined")
        if security.get("selinuxEnabled") and (not label or ":spc_t:" in label or ":unconfined_t:" in label):
            yield self._found("spec_unconfined", "The checkpoint runs without an SELinux label.", "unconfined")

    def _hooks(self) -> Iterator[Finding]:
        for moment, hooks in _object(_get(self.spec, "hooks")).items():
            for path in [str(_get(hook, "path")) for hook in _objects(hooks)]:
                if path not in self.policy.hooks:
                    message = f"The checkpoint has the hook {path!r} ({moment}), a program that runs on the host."
                    yield self._found("spec_hook", message, "hooks")

    def _annotations(self) -> Iterator[Finding]:
        for key in _object(_get(self.spec, "annotations")):
            if key.startswith(DANGEROUS) and key not in PODMANS_OWN and key not in self.policy.annotations:
                message = f"The checkpoint has the annotation {key!r}, which the runtime acts upon."
                yield self._found("spec_annotation", message, "annotations")

    def _secrets(self) -> Iterator[Finding]:
        for name in [str(_get(secret, "name")) for secret in _objects(_get(self.config, "secrets"))]:
            if name not in self.policy.secrets:
                message = f"The checkpoint gets the secret {name!r} of the host."
                yield self._found("spec_secret", message, "secrets")

    def _pid_files(self) -> Iterator[Finding]:
        for key in ("conmonPidFile", "pid_file"):
            path = str(_get(self.config, key) or "")
            if path and not self._is_podmans(path) and not _is_below(path, self.policy.bind_mounts):
                message = f"The checkpoint has podman write a process ID to {path!r} of the host."
                yield self._found("spec_pid_file", message, "bind_mounts")

    def _is_podmans(self, path: str) -> bool:
        """Whether a path is in the directory of this container, or of one that it shares namespaces with."""
        idents = [_get(self.config, key) for key in ("id", *filter(None, NAMESPACES.values()))]
        parts = path.split("/")
        return (
            path.startswith("/")
            and ".." not in parts
            and any(
                before.endswith("-containers") and ident in idents and behind == "userdata"
                for before, ident, behind in zip(parts, parts[1:], parts[2:])
            )
        )


def _get(where: Json, key: str) -> t.Any:
    """A value as Go finds it, which does not distinguish keys by case.

    :raises ArchiveError: if it is there twice.
    """
    found = [value for name, value in where.items() if name.casefold() == key.casefold()]
    if len(found) > 1:
        raise ArchiveError(f"The archive has the key {key} twice in one place, where podman would take the last.")
    return found[0] if found else None


def _object(value: t.Any) -> Json:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ArchiveError("The archive's spec.dump or config.dump is not as podman writes it.")
    return value


def _list(value: t.Any) -> list[t.Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ArchiveError("The archive's spec.dump or config.dump is not as podman writes it.")
    return value


def _objects(value: t.Any) -> list[Json]:
    return [_object(entry) for entry in _list(value)]


def _texts(value: t.Any) -> list[str]:
    return [str(entry) for entry in _list(value)]


def _numbers(device: Json) -> tuple[str, ...]:
    found = (_get(device, key) for key in ("type", "major", "minor"))
    return tuple("any" if part is None else str(part) for part in found)


def _capability(name: str) -> str:
    upper = name.upper()
    return upper[len("CAP_") :] if upper.startswith("CAP_") else upper


def _is_below(path: str, allowed: t.Iterable[str]) -> bool:
    """Whether a path is one of these, or below one of them."""
    if not path.startswith("/") or ".." in path.split("/"):
        return False
    bases = [base.rstrip("/") for base in allowed]
    return any(path == (base or "/") or path.startswith(f"{base}/") for base in bases)
