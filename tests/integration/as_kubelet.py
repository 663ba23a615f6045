# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""Turns a checkpoint archive of podman into one as the kubelet writes it. Runs on a host: as_kubelet.py ENGINE FROM TO.

What CRIU has dumped stays as it is. The documents are cut down to the keys that the engines write, and the container
gets the namespaces of a pod: CRI-O's ``internal/lib/checkpoint.go``, containerd's
``internal/cri/server/container_checkpoint_linux.go``.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import sys
import tarfile
import typing as t

Json = dict[str, t.Any]
Entry = tuple[tarfile.TarInfo, bytes]

TAKEN = ("id", "name", "rootfsImageName", "runtime", "createdTime", "checkpointedTime")
SHIMS = {"crun": "io.containerd.crun.v1", "runc": "io.containerd.runc.v2"}
PATHS = {kind: f"/var/run/{kind}ns/8b1c" for kind in ("network", "ipc", "uts")}


def config_of(given: Json, engine: str, digest: str) -> Json:
    name = given["rootfsImageName"]
    kept = {key: given[key] for key in TAKEN if key in given}
    ref = given["rootfsImageID"] if engine == "cri-o" else digest
    runtime = given["runtime"] if engine == "cri-o" else SHIMS[given["runtime"]]
    return {**kept, "rootfsImage": name, "rootfsImageRef": ref, "runtime": runtime, "restored": False}


def spec_of(given: Json, engine: str, name: str) -> Json:
    spec = copy.deepcopy(given)
    prefix = "io.kubernetes." if engine == "cri-o" else "io.kubernetes.cri."
    dot = "." if engine == "cri-o" else "-"
    spec["annotations"] = {
        f"{prefix}container{dot}name": name,
        f"{prefix}{'pod.name' if dot == '.' else 'sandbox-name'}": "shop-0",
    }
    for namespace in spec["linux"]["namespaces"]:
        namespace.update({"path": PATHS[namespace["type"]]} if namespace["type"] in PATHS else {})
    return spec


def overlay_layer(diff: list[Entry], deleted: list[str]) -> bytes:
    whiteouts = []
    for path in deleted:
        head, _, last = path.strip("/").rpartition("/")
        whiteouts.append((tarfile.TarInfo(f"{head}/.wh.{last}".lstrip("/")), b""))
    return gzip.compress(packed([*whiteouts, *diff]))


def entries(data: bytes) -> list[Entry]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(info, tar.extractfile(info).read() if info.isreg() else b"") for info in tar]


def packed(several: list[Entry]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in several:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def main(engine: str, source: str, dest: str, digest: str) -> None:
    with open(source, "rb") as file:
        members = {info.name: (info, data) for info, data in entries(file.read())}
    config = json.loads(members["config.dump"][1])
    spec = json.loads(members["spec.dump"][1])
    changed = {
        "config.dump": json.dumps(config_of(config, engine, digest), indent=2).encode(),
        "spec.dump": json.dumps(spec_of(spec, engine, config["name"]), indent=2).encode(),
    }
    if engine == "containerd" and "rootfs-diff.tar" in members:
        deleted = json.loads(members.pop("deleted.files", (None, b"[]"))[1])
        changed["rootfs-diff.tar"] = overlay_layer(entries(members["rootfs-diff.tar"][1]), deleted)
    for name in ("network.status", "ctr.log"):
        members.pop(name, None)
    own = {
        "cri-o": ("bind.mounts", "io.kubernetes.cri-o.LogPath"),
        "containerd": ("status", "status.dump", "container.log"),
    }
    extra = [(tarfile.TarInfo(name), b"[]" if name == "bind.mounts" else b"{}") for name in own[engine]]
    with open(dest, "wb") as file:
        file.write(packed([*((info, changed.get(name, data)) for name, (info, data) in members.items()), *extra]))


if __name__ == "__main__":
    main(*sys.argv[1:])
