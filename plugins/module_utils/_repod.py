# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A pod's own definition as the request that makes the same pod elsewhere, and whether it did. Pure.

The definition is podman's (``podConfig`` in libpod/pod.go), the request ``PodSpecGenerator``
(pkg/specgen/podspecgen.go). Most of what a pod was asked for is in the definition of its infra container.
"""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.ferry.podman.plugins.module_utils._libpod import Json
from ansible_collections.ferry.podman.plugins.module_utils._recreate import (
    DEFAULT_PARENTS,
    ORIGIN,
    SHORT_ID,
    Recipe,
    differences,
    plain_mount,
)

SHARES = {
    "sharesIpc": "ipc",
    "sharesNet": "net",
    "sharesPid": "pid",
    "sharesUts": "uts",
    "sharesUser": "user",
    "sharesMnt": "mnt",
    "sharesCgroupNS": "cgroup",
}
KNOWN = (
    *SHARES,
    *("id", "name", "hostname", "labels", "cgroupParent", "sharesCgroup", "hasInfra", "created", "CreateCommand"),
    *("ExitPolicy", "RestartPolicy", "RestartRetries", "lockID", "ResourceLimits", "namespace"),
)
FROM_INFRA = {
    **{name: name for name in ("portmappings", "Networks", "network_options", "dns_server", "dns_search")},
    **{name: name for name in ("dns_option", "hostadd", "sysctl", "mounts", "volumes", "overlay_volumes")},
    **{name: name for name in ("image_volumes", "shm_size", "shm_size_systemd", "netns", "pidns", "utsns")},
    **{name: name for name in ("userns", "idmappings")},
    "base_hosts_file": "hostsFile",
    "use_image_resolve_conf": "no_manage_resolv_conf",
    "use_image_hostname": "no_manage_hostname",
    "use_image_hosts": "no_manage_hosts",
}
"""What the request takes from that for the infra container, and what it is called there."""

PAUSE_IMAGE = "localhost/podman-pause:"
"""What podman makes infra containers from where it does not without an image; its tag is podman's version."""

NOT_COMPARED = (
    *("Id", "Created", "State", "InfraContainerID", "NumContainers", "Containers", "LockNumber", "CgroupPath"),
    *("CreateCommand", "Labels", "mounts", "SharedNamespaces"),
)


OF_NO_MATTER = (
    *("Name", "Rootfs", "Path", "Args", "Config.Env", "Config.Labels", "Config.Umask", "Config.sdNotifyMode"),
    *("Config.Timezone", "Config.Entrypoint"),
)
"""Of an infra container, which only waits; the command line sets some for it that the API does not."""


def unknown_pod_fields(config: Json) -> list[str]:
    """Fields of a definition that this file does not know, and that have a value: they would be lost."""
    return sorted(f"pod.{name}" for name, value in config.items() if value and name not in KNOWN)


@dataclass(frozen=True)
class PodRecipe:
    """What a pod is made from.

    :param config: its definition.
    :param inspected: the answer of the inspect call to it.
    :param infra: what its infra container is made from, if it has one.
    """

    config: Json
    inspected: Json
    infra: Recipe | None

    @property
    def labels(self) -> dict[str, str]:
        """Those of the pod, without the one that this collection adds."""
        return {key: value for key, value in (self.config.get("labels") or {}).items() if key != ORIGIN}

    @property
    def shared(self) -> list[str]:
        """Namespaces that its containers join."""
        return sorted(name for key, name in SHARES.items() if self.config.get(key))

    def request(self) -> Json:
        """Of the create call."""
        config = self.config
        parent = config.get("cgroupParent") or ""
        limits = {key: value for key, value in (config.get("ResourceLimits") or {}).items() if value}
        wanted: Json = {
            "name": config["name"],
            "hostname": config.get("hostname"),
            "labels": {**self.labels, ORIGIN: config["id"]},
            "exit_policy": config.get("ExitPolicy"),
            "restart_policy": config.get("RestartPolicy"),
            "restart_tries": config.get("RestartRetries"),
            "share_parent": bool(config.get("sharesCgroup")),
            "pod_create_command": config.get("CreateCommand"),
            "resource_limits": limits or None,
            "cgroup_parent": parent if parent not in DEFAULT_PARENTS else None,
            **(self._infra(self.infra) if self.infra is not None else {"no_infra": True}),
        }
        return {key: value for key, value in wanted.items() if value is not None}

    def _infra(self, infra: Recipe) -> Json:
        made = infra.request("")
        config = infra.config
        name, image = str(config["name"]), str(config.get("rootfsImageName") or "")
        podmans_own = bool(config.get("defaultPause")) or not image or image.startswith(PAUSE_IMAGE)
        return {
            **{ours: made.get(theirs) for theirs, ours in FROM_INFRA.items()},
            # Podman asks for a default set where there is none.
            "shared_namespaces": self.shared or ["none"],
            "infra_name": name if name != f"{self.config['id'][:SHORT_ID]}-infra" else None,
            "infra_image": None if podmans_own else image,
            "infra_command": None if podmans_own else config.get("entrypoint"),
            "security_opt": infra.inspected["HostConfig"].get("SecurityOpt") or None,
            "ipcns": made["ipcns"] if made["ipcns"].get("nsmode") == "host" else None,
        }

    def differences(self, made: Json, infra: Json | None) -> list[str]:
        """Names of the fields in which the pod that was made is not the same.

        :param made: the answer of the inspect call to it.
        :param infra: the same for its infra container.
        """
        before, after = self._compared(self.inspected), self._compared(made)
        found = [f"pod.{name}" for name, value in before.items() if after.get(name) != value]
        if self.infra is not None:
            names = differences(self.infra, infra or {"Config": {}, "HostConfig": {}, "Id": ""})
            found += [f"infra.{name}" for name in names if name not in OF_NO_MATTER]
        return sorted(found)

    @staticmethod
    def _compared(raw: Json) -> Json:
        found = {key: value for key, value in raw.items() if value and key not in NOT_COMPARED}
        found["Labels"] = {key: value for key, value in (raw.get("Labels") or {}).items() if key != ORIGIN}
        found["SharedNamespaces"] = sorted(raw.get("SharedNamespaces") or [])
        found["mounts"] = sorted((plain_mount(mount) for mount in raw.get("mounts") or []), key=repr)
        return found
