# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""A container's own definition as the request that makes the same container elsewhere, and whether it did. Pure.

The definition is podman's (``ContainerConfig`` in libpod/container_config.go), the same that a checkpoint archive has
as config.dump. The request is ``SpecGenerator`` (pkg/specgen/specgen.go). Podman has this mapping too (``ConfigToSpec``
in pkg/specgen/generate/container.go, for ``podman container clone``), and loses a part: limits, system controls, mount
of an init, secrets in the environment. An inspect answer alone has neither system controls nor masked paths, device
rules, entries of passwd, nor which addresses are fixed.

Nothing is left out in silence: a field that this file does not know refuses, and what was made is compared.
"""

from __future__ import annotations

import typing as t
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, Json, LibpodClient

ORIGIN = "ferry.origin"
"""The annotation of a container that was made by a cold move: the ID that it had where it comes from."""

SHORT_ID = 12


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


AS_IT_IS = {
    "entrypoint": "entrypoint",
    "command": "command",
    "labels": "labels",
    "stdin": "stdin",
    "stopSignal": "stop_signal",
    "timeout": "timeout",
    "sdnotifyMode": "sdnotifyMode",
    "timezone": "timezone",
    "passwd": "manage_password",
    "passwd_entry": "passwd_entry",
    "group_entry": "group_entry",
    "HostUsers": "hostusers",
    "init_container_type": "init_container_type",
    "CreateCommand": "containerCreateCommand",
    "restart_policy": "restart_policy",
    "restart_retries": "restart_tries",
    "createWorkingDir": "create_working_dir",
    "chroot_directories": "chroot_directories",
    "volatile": "volatile",
    "shmSizeSystemd": "shm_size_systemd",
    "privileged": "privileged",
    "user": "user",
    "groups": "groups",
    "label_nested": "label_nested",
    "umask": "umask",
    "readWriteTmpfs": "read_write_tmpfs",
    "cgroupsMode": "cgroups_mode",
    "newPortMappings": "portmappings",
    "dnsServer": "dns_server",
    "dnsSearch": "dns_search",
    "dnsOption": "dns_option",
    "hostsAdd": "hostadd",
    "baseHostsFile": "base_hosts_file",
    "UseImageResolvConf": "use_image_resolve_conf",
    "useImageHostname": "use_image_hostname",
    "UseImageHosts": "use_image_hosts",
    "network_options": "network_options",
    "healthcheck": "healthconfig",
    "healthcheck_on_failure_action": "health_check_on_failure_action",
    "startupHealthCheck": "startupHealthConfig",
    "healthLogDestination": "healthLogDestination",
    "healthMaxLogCount": "healthMaxLogCount",
    "healthMaxLogSize": "healthMaxLogSize",
    "storageOpts": "storage_opts",
    "device_host_src": "devices",
}
"""Fields of the definition whose value the request takes as it is, and what they are called there."""

ZERO_COUNTS = ("healthMaxLogCount", "healthMaxLogSize", "timeout")
"""Of these, the ones whose zero is not the same as their absence."""

MAPPED = _names(
    "spec name idMappingsOptions rootfsImageID rootfsImageName RawImageName ShmDir NOShmShare NoShm namedVolumes "
    "overlayVolumes ctrImageVolumes secrets secret_env labelopts exposedPorts newNetworks orderedNetworks "
    "networkMode userVolumes shmSize stopTimeout cgroupParent logPath logTag logSize logDriver logLabels runtime "
    "systemd pod ipcNsCtr netNsCtr pidNsCtr userNsCtr utsNsCtr cgroupNsCtr Dependencies noCgroups conmonPidFile "
    "pid_file"
)
"""Fields that have a function here."""

OF_THE_HOST = _names(
    "id lockID namespace staticDir mounts secretsPath createNetNS postConfigureNetNS createdTime cgroupManager "
    "pause defaultPause isService kubeExitCodePropagation ProcessLabel MountLabel mountAllDevices networks"
)
"""Fields that podman makes anew for each container."""

OF_INFRA = _names("rootfs rootfs_overlay")
"""Fields that podman gives the infra container of a pod by itself."""

SPEC_KNOWN = {
    "": _names("ociVersion process root hostname mounts annotations linux"),
    "process": _names(
        "terminal user args env cwd capabilities rlimits noNewPrivileges apparmorProfile oomScoreAdj selinuxLabel"
    ),
    "root": _names("path readonly"),
    "linux": _names(
        "uidMappings gidMappings sysctl resources cgroupsPath namespaces devices seccomp rootfsPropagation "
        "maskedPaths readonlyPaths mountLabel personality intelRdt"
    ),
}
"""What is understood of the OCI specification inside the definition."""

MASKED = ("acpi", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list", "timer_stats")
HIDDEN = (*(f"/proc/{name}" for name in MASKED), "/sys/firmware", "/sys/fs/selinux")
"""Paths that every podman since 4.4 hides (libpod/define/config.go); newer ones hide more."""

MORE_HIDDEN = ("/sys/devices/virtual/powercap", "/proc/interrupts", "/sys/dev/block")
READ_ONLY = tuple(f"/proc/{name}" for name in ("asound", "bus", "fs", "irq", "sys", "sysrq-trigger"))

DEFAULT_PARENTS = ("", "/libpod_parent", "machine.slice", "user.slice")
PER_NETWORK = ("static_ips", "aliases", "static_mac", "interface_name", "options")
PODMANS_OWN = ("/run/podman-init", "/dev", "/proc", "/sys")
SYSTEM = ("/dev/", "/proc/", "/sys/")
SHARED = {"ipc": "ipcns", "net": "netns", "pid": "pidns", "user": "userns", "uts": "utsns", "cgroup": "cgroupns"}
SECCOMP = "io.podman.annotations.seccomp"
LABEL = "io.podman.annotations.label"
REMOVE = "io.podman.annotations.autoremove"
REMOVE_IMAGE = "io.podman.annotations.autoremove-image"
INIT = "io.podman.annotations.init"
SANDBOX = "io.kubernetes.cri-o.SandboxID"
"""Podman gives it to the containers of a pod: the ID of the infra container."""


def unknown_fields(config: Json) -> list[str]:
    """Fields of a definition that this file does not know, and that have a value: they would be lost."""
    known = MAPPED | OF_THE_HOST | frozenset(AS_IT_IS) | (OF_INFRA if config.get("pause") else frozenset())
    found = [name for name, value in config.items() if name not in known and value]
    spec = config.get("spec") or {}
    for part, names in SPEC_KNOWN.items():
        inside = spec.get(part) if part else spec
        found += [
            f"spec.{part}.{name}".replace("..", ".")
            for name, value in (inside or {}).items()
            if value and name not in names
        ]
    found += [f"orderedNetworks.{name}" for entry in config.get("orderedNetworks") or [] for name in _strange(entry)]
    return sorted(found)


def _strange(network: Json) -> list[str]:
    return [name for name, value in network.items() if value and name not in (*PER_NETWORK, "name")]


def sharing(config: Json) -> list[str]:
    """IDs of other containers that a container cannot be without."""
    shared = [str(config[f"{kind}NsCtr"]) for kind in SHARED if config.get(f"{kind}NsCtr")]
    return sorted({*shared, *(config.get("Dependencies") or [])})


def fixed_addresses(config: Json) -> dict[str, list[str]]:
    """Addresses that the container was made with, by network; others it gets anew at each start."""
    return {name: list(options.get("static_ips") or []) for name, options in networks_of(config).items()}


def mounted_at(config: Json) -> frozenset[str]:
    """Paths inside a container where something was asked to be mounted."""
    return frozenset(config.get("userVolumes") or [])


def networks_of(config: Json) -> dict[str, Json]:
    """Options of each network, by its name; podman 6 has a list of another name."""
    ordered = config.get("orderedNetworks")
    if ordered:
        return {entry["name"]: {key: value for key, value in entry.items() if key != "name"} for entry in ordered}
    return config.get("newNetworks") or {}


@dataclass(frozen=True)
class Recipe:
    """What a container is made from.

    :param config: its definition.
    :param inspected: the answer of the inspect call to the container, for what podman works out from the definition.
    :param policy: its restart policy and how often it is tried, where the definition has another one at the moment.
    :param anonymous: names of its volumes that podman has named itself.
    :param not_filled: names of volumes that podman must not fill from the image, because they are empty.
    :param infra: ID of its pod's infra container.
    :param inherited: paths where that mounts something, which podman gives to all containers of the pod by itself.
    :param names: of containers by their IDs, for what it depends on.
    """

    config: Json
    inspected: Json
    policy: tuple[str, int] | None = None
    anonymous: frozenset[str] = frozenset()
    not_filled: frozenset[str] = frozenset()
    infra: str = ""
    inherited: frozenset[str] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)

    # -- the request

    def request(self, image: str, pod: str = "") -> Json:
        """Of the create call.

        :param image: ID or name on the host that it is sent to.
        :param pod: name of the pod there.
        """
        config = self.config
        wanted: Json = {
            "name": config["name"],
            "image": image,
            "raw_image_name": config.get("RawImageName") or config.get("rootfsImageName") or "",
            "image_volume_mode": "ignore",
            "pod": pod or None,
            **{ours: config[theirs] for theirs, ours in AS_IT_IS.items() if _counts(config, theirs)},
            **self._process(),
            **self._namespaces(),
            **self._storage(),
            **self._network(),
            **self._security(),
            **self._limits(),
            **self._log(),
            **self._life(),
        }
        return {key: value for key, value in wanted.items() if value is not None}

    @property
    def _spec(self) -> Json:
        return t.cast(Json, self.config.get("spec") or {})

    @property
    def _linux(self) -> Json:
        return t.cast(Json, self._spec.get("linux") or {})

    @property
    def _in_process(self) -> Json:
        return t.cast(Json, self._spec.get("process") or {})

    @property
    def annotations(self) -> dict[str, str]:
        """Those of the container, without the one that this collection adds."""
        return _own_annotations(self._spec.get("annotations") or {})

    @property
    def environment(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self._in_process.get("env") or [] if "=" in entry)

    @property
    def limits(self) -> list[Json]:
        """Of its processes, in the form of the OCI specification."""
        return self._in_process.get("rlimits") or []

    def _process(self) -> Json:
        process = self._in_process
        hostname = str(self._spec.get("hostname") or "")
        return {
            "env": self.environment,
            # Else variables of the image that were unset come back.
            "unsetenvall": True,
            "terminal": bool(process.get("terminal")),
            "work_dir": process.get("cwd") or "/",
            "hostname": hostname if self._names_itself and hostname else None,
            "annotations": {**self.annotations, ORIGIN: self.config["id"]},
            "stop_timeout": self.config.get("stopTimeout", 0),
            "init": True if self.annotations.get(INIT) == "TRUE" else None,
            "systemd": "always" if self.config.get("systemd") else "false",
            "secret_env": {name: secret["name"] for name, secret in (self.config.get("secret_env") or {}).items()},
            "personality": self._linux.get("personality"),
        }

    @property
    def _names_itself(self) -> bool:
        own = str(self._spec.get("hostname") or "") != self.config["id"][:SHORT_ID]
        return own and not self.config.get("utsNsCtr")

    def _life(self) -> Json:
        name, retries = self.policy or (self.config.get("restart_policy"), self.config.get("restart_retries"))
        runtime = self.config.get("runtime")
        return {
            "restart_policy": name or None,
            "restart_tries": retries or None,
            "remove": True if self.annotations.get(REMOVE) == "TRUE" else None,
            "removeImage": True if self.annotations.get(REMOVE_IMAGE) == "TRUE" else None,
            "oci_runtime": runtime or None,
            "dependencyContainers": [self.names.get(ident, ident) for ident in self._depends_on] or None,
        }

    @property
    def _depends_on(self) -> list[str]:
        return [ident for ident in self.config.get("Dependencies") or [] if ident != self.infra]

    def _namespaces(self) -> Json:
        """Podman tells how each one is shared in words; that of users it makes from the mappings."""
        host = self.inspected["HostConfig"]
        modes = {
            "pidns": host.get("PidMode"),
            "ipcns": host.get("IpcMode"),
            "utsns": host.get("UTSMode"),
            "cgroupns": host.get("CgroupMode"),
            "netns": host.get("NetworkMode"),
        }
        given = {key: self._mode(str(mode or "private")) for key, mode in modes.items()}
        mappings = self.config.get("idMappingsOptions") or {}
        if mappings.get("UIDMap") or mappings.get("GIDMap"):
            given.update(userns={"nsmode": "private"}, idmappings=mappings)
        for kind, key in SHARED.items():
            if self.config.get(f"{kind}NsCtr"):
                given[key] = self._joined(str(self.config[f"{kind}NsCtr"]))
        return given

    def _mode(self, mode: str) -> Json:
        kind, _colon, value = mode.partition(":")
        return {"nsmode": {"ns": "path"}.get(kind, kind), **({"value": value} if value else {})}

    def _joined(self, ident: str) -> Json:
        if ident == self.infra:
            return {"nsmode": "pod"}
        return {"nsmode": "container", "value": self.names.get(ident, ident)}

    # -- files

    def _storage(self) -> Json:
        config = self.config
        mounts = [mount for mount in self._spec.get("mounts") or [] if self._asked_for(mount)]
        return {
            "mounts": [mount for mount in mounts if mount["destination"] not in self.inherited] or None,
            "volumes": [self._volume(volume) for volume in self._own("namedVolumes")] or None,
            "overlay_volumes": [_overlay(volume) for volume in self._own("overlayVolumes")] or None,
            "image_volumes": [_image_volume(volume) for volume in self._own("ctrImageVolumes")] or None,
            "secrets": [_secret(secret) for secret in config.get("secrets") or []] or None,
            "shm_size": config.get("shmSize") if self._own_shm else None,
            "rootfs_propagation": self._linux.get("rootfsPropagation"),
            "read_only_filesystem": True if (self._spec.get("root") or {}).get("readonly") else None,
        }

    def _own(self, kind: str) -> list[Json]:
        return [volume for volume in self.config.get(kind) or [] if volume["dest"] not in self.inherited]

    def _asked_for(self, mount: Json) -> bool:
        """Podman mounts some paths by itself. Of --volumes-from it forgets which ones were asked for."""
        place = str(mount["destination"])
        if place in (self.config.get("userVolumes") or []):
            return True
        return mount.get("type") == "bind" and place not in PODMANS_OWN and not place.startswith(SYSTEM)

    @property
    def _own_shm(self) -> bool:
        return str(self.inspected["HostConfig"].get("IpcMode")) in ("private", "shareable", "")

    def _volume(self, volume: Json) -> Json:
        name, options = volume["volumeName"], list(volume.get("options") or [])
        if name in self.not_filled and "nocopy" not in options:
            options = [option for option in options if option != "copy"] + ["nocopy"]
        return {
            "Name": name,
            "Dest": volume["dest"],
            "Options": options,
            "IsAnonymous": name in self.anonymous,
            "SubPath": volume.get("subPath") or volume.get("SubPath") or "",
        }

    # -- network

    def _network(self) -> Json:
        networks = {name: self._on_network(options) for name, options in networks_of(self.config).items()}
        exposed = self.config.get("exposedPorts") or {}
        return {
            "Networks": networks or None,
            "expose": {port: ",".join(protocols) for port, protocols in exposed.items()} or None,
        }

    def _on_network(self, options: Json) -> Json:
        # Podman gives every container its short ID and its host name as aliases.
        own = (self.config["id"][:SHORT_ID], self._spec.get("hostname"))
        aliases = [alias for alias in options.get("aliases") or [] if alias not in own]
        return {**{key: value for key, value in options.items() if value}, "aliases": aliases}

    # -- security

    def _security(self) -> Json:
        annotations, linux = self.annotations, self._linux
        return {
            "seccomp_profile_path": annotations.get(SECCOMP),
            # Without an option podman notes that SELinux is off on its host.
            "selinux_opts": self.config.get("labelopts") if LABEL in annotations else None,
            "apparmor_profile": self._in_process.get("apparmorProfile") if self._confined_by_hand else None,
            "no_new_privileges": True if self._in_process.get("noNewPrivileges") else None,
            "sysctl": linux.get("sysctl"),
            "mask": [path for path in linux.get("maskedPaths") or [] if path not in (*HIDDEN, *MORE_HIDDEN)] or None,
            "unmask": self._unmasked() or None,
            "procfs_opts": self._proc_options() or None,
            **self._capabilities(),
        }

    @property
    def _confined_by_hand(self) -> bool:
        profile = str(self._in_process.get("apparmorProfile") or "")
        # The default one carries podman's version, and is loaded by podman itself.
        return bool(profile) and not profile.startswith("containers-default-")

    def _capabilities(self) -> Json:
        if self.config.get("privileged"):
            return {}
        host = self.inspected["HostConfig"]
        capabilities = self._in_process.get("capabilities") or {}
        effective, bounding = (set(capabilities.get(kind) or []) for kind in ("effective", "bounding"))
        # A user that is not root has those that were asked for.
        asked = effective if effective != bounding else set()
        return {
            "cap_add": sorted({*(host.get("CapAdd") or []), *asked}) or None,
            "cap_drop": host.get("CapDrop") or None,
        }

    def _unmasked(self) -> list[str]:
        linux = self._linux
        if self.config.get("privileged"):
            return []
        masked, read_only = linux.get("maskedPaths"), linux.get("readonlyPaths")
        if masked is None and read_only is None:
            return ["ALL"]
        missing = [path for path in HIDDEN if path not in (masked or [])]
        return missing + [path for path in READ_ONLY if path not in (read_only or [])]

    def _proc_options(self) -> list[str]:
        usual = {"nosuid", "noexec", "nodev", "rprivate", "ro", "rw"}
        own = set(self.config.get("userVolumes") or [])
        mounts = [mount for mount in self._spec.get("mounts") or [] if mount["destination"] == "/proc"]
        found = [option for mount in mounts if "/proc" not in own for option in mount.get("options") or []]
        return [option for option in found if option not in usual and "bind" not in option]

    # -- limits

    def _limits(self) -> Json:
        resources = dict(self._linux.get("resources") or {})
        rules = resources.pop("devices", None) or []
        parent = self.config.get("cgroupParent") or ""
        return {
            "resource_limits": resources or None,
            "device_cgroup_rule": self._rules(rules) or None,
            "r_limits": [_limit(limit) for limit in self.limits] or None,
            "oom_score_adj": self._in_process.get("oomScoreAdj"),
            "intelRdt": self._linux.get("intelRdt"),
            "cgroup_parent": parent if parent not in DEFAULT_PARENTS and not self.config.get("pod") else None,
        }

    def _rules(self, rules: Iterable[Json]) -> list[Json]:
        """Those that no device of its own explains."""
        own = {(dev["type"], dev["major"], dev["minor"]) for dev in self._linux.get("devices") or []}
        allowed = [rule for rule in rules if rule.get("allow")]
        return [rule for rule in allowed if (rule.get("type"), rule.get("major"), rule.get("minor")) not in own]

    def _log(self) -> Json:
        config = self.config
        path = str(config.get("logPath") or "")
        own = config.get("staticDir") and path.startswith(str(config["staticDir"]))
        found = {
            "driver": config.get("logDriver") or None,
            "path": path if path and not own else None,
            "size": config.get("logSize") or None,
            "options": {"tag": config["logTag"]} if config.get("logTag") else None,
            "labels": config.get("logLabels") or None,
        }
        return {"log_configuration": {key: value for key, value in found.items() if value is not None}}


def _own_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in annotations.items() if key not in (ORIGIN, SANDBOX)}


def _counts(config: Json, name: str) -> bool:
    value = config.get(name)
    return bool(value) or (name in ZERO_COUNTS and value is not None) or value is False


def _limit(limit: Json) -> Json:
    # Podman adds the prefix, also where it is there.
    return {**limit, "type": str(limit["type"]).replace("RLIMIT_", "").lower()}


def _overlay(volume: Json) -> Json:
    return {"source": volume["source"], "destination": volume["dest"], "options": volume.get("options") or []}


def _image_volume(volume: Json) -> Json:
    return {
        "Source": volume["source"],
        "Destination": volume["dest"],
        "ReadWrite": bool(volume.get("rw")),
        "SubPath": volume.get("subPath") or "",
    }


def _secret(secret: Json) -> Json:
    kept = {key: secret.get(key) or 0 for key in ("UID", "GID", "Mode")}
    return {"Source": secret["name"], "Target": secret.get("Target") or "", **kept}


def find_made(client: LibpodClient, name: str, origin: str) -> Container | None:
    """What a cold move has made of a container.

    :param origin: the ID that it had where it comes from.
    """
    found = client.find_container(name)
    return found if found is not None and found.annotations.get(ORIGIN) == origin else None


# -- did it become the same? ------------------------------------------------------------------------------------

NOT_COMPARED = _names(
    "Id Created State Image ImageDigest ImageName ResolvConfPath HostnamePath HostsPath StaticDir OCIConfigPath "
    "ConmonPidFile PidFile RestartCount Driver MountLabel ProcessLabel ExecIDs GraphDriver NetworkSettings "
    "lockNumber SizeRw SizeRootFs Pod Dependencies Namespace KubeExitCodePropagation Config.Hostname Config.Image "
    "Config.Env Config.Annotations Config.CreateCommand Config.sdNotifySocket HostConfig.Annotations "
    "HostConfig.ContainerIDFile HostConfig.CgroupManager HostConfig.CgroupParent HostConfig.RestartPolicy "
    "HostConfig.Binds HostConfig.Ulimits HostConfig.LogConfig.Path HostConfig.NetworkMode HostConfig.IpcMode "
    "HostConfig.PidMode HostConfig.UTSMode HostConfig.UsernsMode HostConfig.CgroupMode HostConfig.VolumesFrom"
)
"""Of an inspect answer, what is the host's or of the moment, and what is compared in another way below."""

IN_ORDER = ("Cmd", "Entrypoint", "Args", "Test", "Dns", "DnsSearch", "DnsOptions")


def differences(recipe: Recipe, made: Json) -> list[str]:
    """Names of the fields in which the container that was made is not the one that it was made after.

    :param made: the answer of the inspect call to the new container, which has never run.
    """
    before, after = dict(_compared(recipe.inspected)), dict(_compared(made))
    # A newer podman tells more of every container.
    found = [name for name, value in before.items() if after.get(name) != value]
    found += [name for name, value in after.items() if name not in before and name in _siblings(recipe.inspected)]
    found += [name for name, pair in _compared_otherwise(recipe, made).items() if pair[0] != pair[1]]
    return sorted(set(found))


def _siblings(raw: Json) -> set[str]:
    """Every field that the older answer has, also where it is empty."""
    return {name for name, _value in _leaves(raw, "")}


def _compared(raw: Json) -> Iterator[tuple[str, t.Any]]:
    """Every field that has a value, in a form that can be compared."""
    for name, value in _leaves(raw, ""):
        settled = _settled(name, value)
        if settled:
            yield name, settled


def _leaves(raw: Json, above: str) -> Iterator[tuple[str, t.Any]]:
    for key, value in raw.items():
        name = f"{above}{key}"
        if name in NOT_COMPARED:
            continue
        if name in ("Config", "HostConfig", "HostConfig.LogConfig"):
            yield from _leaves(value or {}, f"{name}.")
        else:
            yield name, value


def _settled(name: str, value: t.Any) -> t.Any:
    if name == "Mounts":
        return sorted((plain_mount(mount) for mount in value or []), key=repr)
    if name == "HostConfig.Tmpfs":
        return {path: sorted({*options.split(",")} - {"rw"}) for path, options in (value or {}).items()}
    if name == "HostConfig.LogConfig.Size":
        # Of a log without a limit some versions say 0 and others -1.
        return value if value not in ("0B", "-1B") else ""
    if name == "Config.Secrets":
        return sorted(({**secret, "ID": ""} for secret in value or []), key=repr)
    if name == "HostConfig.PidsLimit":
        return max(int(value or 0), 0)
    if isinstance(value, list) and name.rpartition(".")[2] not in IN_ORDER:
        return sorted((_plain(entry) for entry in value), key=repr)
    return _plain(value)


def _plain(value: t.Any) -> t.Any:
    """Without what is empty: podman's versions do not agree on whether they tell it."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if _plain(inner)}
    return value


def plain_mount(mount: Json) -> Json:
    """One of an inspect answer, in a form that can be compared."""
    options = [option for option in mount.get("Options") or [] if option != "nocopy"]
    # Where podman keeps a volume is its own affair.
    source = "" if mount.get("Type") == "volume" else mount.get("Source")
    return t.cast(Json, _plain({**mount, "Source": source, "Options": sorted(options)}))


def _compared_otherwise(recipe: Recipe, made: Json) -> dict[str, tuple[t.Any, t.Any]]:
    host = made["HostConfig"]
    request = recipe.request("")
    environment = dict(entry.split("=", 1) for entry in made["Config"].get("Env") or [] if "=" in entry)
    secrets = set(recipe.config.get("secret_env") or {})
    annotations = _own_annotations(made["Config"].get("Annotations") or {})
    policy = host.get("RestartPolicy") or {}
    networks = (made.get("NetworkSettings") or {}).get("Networks") or {}
    return {
        "Config.Env": (recipe.environment, {key: value for key, value in environment.items() if key not in secrets}),
        "Config.Annotations": (recipe.annotations, annotations),
        "Config.Hostname": (request.get("hostname", made["Config"]["Hostname"]), made["Config"]["Hostname"]),
        "HostConfig.RestartPolicy": (
            (request.get("restart_policy") or "no", request.get("restart_tries") or 0),
            (policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0),
        ),
        # Of a container that runs podman tells what its own defaults add, too.
        "HostConfig.Ulimits": (_limits(recipe.limits), _limits(host.get("Ulimits") or [])),
        "NetworkSettings.Networks": (
            {name: sorted(options["aliases"]) for name, options in (request.get("Networks") or {}).items()},
            _aliases(made, networks) if request.get("Networks") else {},
        ),
        **_namespaces_compared(recipe, host),
    }


def _limits(limits: Iterable[Json]) -> list[tuple[str, int, int]]:
    """In the form of the OCI specification, or in that of an inspect answer."""
    small = ({key.lower(): value for key, value in limit.items()} for limit in limits)
    # What has no limit is a number without a sign in the one and -1 in the other.
    named = ((str(limit.get("type") or limit.get("name")), limit["soft"], limit["hard"]) for limit in small)
    return sorted((name, *(value if value < 1 << 63 else -1 for value in values)) for name, *values in named)  # type: ignore[misc]


def _aliases(made: Json, networks: Mapping[str, Json]) -> dict[str, list[str]]:
    own = (made["Id"][:SHORT_ID], made["Config"]["Hostname"])
    return {
        name: sorted(alias for alias in network.get("Aliases") or [] if alias not in own)
        for name, network in networks.items()
    }


def _namespaces_compared(recipe: Recipe, host: Json) -> dict[str, tuple[t.Any, t.Any]]:
    """Modes alone: of containers that are joined the IDs differ."""
    before = recipe.inspected["HostConfig"]
    names = ("NetworkMode", "IpcMode", "PidMode", "UTSMode", "UsernsMode", "CgroupMode")
    return {f"HostConfig.{name}": (_kind(before.get(name)), _kind(host.get(name))) for name in names}


def _kind(mode: t.Any) -> str:
    return str(mode or "").partition(":")[0]
