# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors
"""The lab's images: a shared base layer, one more layer each, written as an archive that podman loads."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from . import layers, paths, recipe
from .apt import Mirror
from .layers import Layer, PrivateApt
from .run import run

CREATED = "2023-11-14T22:13:20Z"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
POSTGRES_UID = 101


@dataclass(frozen=True)
class Image:
    """What one image has on top of the base, and how it starts."""

    name: str
    config: dict[str, object]
    packages: tuple[str, ...] = ()
    folders: dict[str, int] = field(default_factory=dict)
    # Programs that are not in the PATH by themselves.
    tools: str = ""


IMAGES = (
    Image("counter", {"Entrypoint": ["/usr/local/bin/counter"]}),
    Image(
        "keeper",
        {
            "Entrypoint": ["/usr/bin/python3", "-I", "-u", "/usr/local/bin/keeper"],
            "Cmd": ["10"],
            "ExposedPorts": {"7000/tcp": {}},
        },
    ),
    Image(
        "redis",
        {
            "Entrypoint": ["/usr/bin/redis-server", "/etc/redis.conf"],
            "ExposedPorts": {"6379/tcp": {}},
            "WorkingDir": "/data",
        },
        ("redis-server",),
        {"data": 0},
    ),
    Image(
        "nginx",
        {
            "Entrypoint": ["/usr/sbin/nginx", "-c", "/etc/nginx.conf"],
            "ExposedPorts": {"80/tcp": {}},
            "StopSignal": "SIGQUIT",
        },
        ("nginx",),
        {"var/lib/nginx": 0, "var/log/nginx": 0},
    ),
    Image(
        "postgres",
        {
            "Entrypoint": ["/usr/local/bin/postgres-server"],
            "ExposedPorts": {"5432/tcp": {}},
            "User": "postgres",
            "StopSignal": "SIGINT",
            "WorkingDir": "/var/lib/postgresql",
        },
        ("postgresql",),
        {"var/lib/postgresql": POSTGRES_UID, "run/postgresql": POSTGRES_UID},
        "usr/lib/postgresql/*/bin/*",
    ),
)


def archive() -> Path:
    return paths.images() / recipe.images_name() / "images.tar"


def reference(image: Image) -> str:
    return f"localhost/lab/{image.name}:latest"


def _base(work: Path, debs: dict[str, Path], packages: list[str]) -> Layer:
    target = work / "base"
    target.mkdir()
    for package in sorted(packages, key=lambda name: (name != "base-files", name)):
        layers.unpack(debs[package], target)
    layers.link_busybox(target)
    # base-files has a directory here, and turns it into this link when it is installed.
    (target / "var/run").rmdir()
    (target / "var/run").symlink_to("/run")
    _add_files("base", target)
    return layers.pack(target, work / "layer.tar")


def _add_files(name: str, target: Path) -> None:
    run(
        ["cp", "-r", "--preserve=mode", f"{paths.FILES / 'images' / name}/.", str(target)],
        f"adding the files of {name}",
    )


def _top(work: Path, image: Image, debs: dict[str, Path], packages: list[str]) -> Layer:
    target = work / image.name
    target.mkdir()
    for package in packages:
        layers.unpack(debs[package], target)
    for tool in sorted(target.glob(image.tools)) if image.tools else ():
        (target / "usr/local/bin").mkdir(parents=True, exist_ok=True)
        (target / "usr/local/bin" / tool.name).symlink_to("/" / tool.relative_to(target))
    for folder, owner in image.folders.items():
        (target / folder).mkdir(parents=True, exist_ok=True)
        os.chown(target / folder, owner, owner)
    _add_files(image.name, target)
    return layers.pack(target, work / "layer.tar")


def _configuration(image: Image, stack: list[Layer]) -> bytes:
    """The image's own JSON; its digest is the image's ID, everywhere."""
    environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
    document = {
        "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "created": CREATED,
        "config": {"Env": environment, **image.config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in stack]},
        "history": [{"created": CREATED, "created_by": "the lab of ferry.podman"} for _layer in stack],
    }
    return json.dumps(document, sort_keys=True).encode()


def _write_archive(work: Path, stacks: dict[str, list[Layer]]) -> Path:
    """The docker-archive format: the one that podman load takes several images from."""
    manifest = []
    for image in IMAGES:
        text = _configuration(image, stacks[image.name])
        name = hashlib.sha256(text).hexdigest() + ".json"
        (work / name).write_bytes(text)
        manifest.append(
            {
                "Config": name,
                "RepoTags": [reference(image)],
                "Layers": [layer.path.name for layer in stacks[image.name]],
            }
        )
    (work / "manifest.json").write_text(json.dumps(manifest))
    with tarfile.open(work / "images.tar", "w") as tar:
        for path in [work / "manifest.json", *sorted(work.glob("*.json")), *sorted(work.glob("*.tar"))]:
            if path.name != "images.tar" and path.name not in tar.getnames():
                tar.add(path, path.name)
    return work / "images.tar"


def build(mirror: Mirror) -> None:
    """Build all images; the directory gets its name last, so half a set is never used."""
    final = archive().parent
    work = final.with_name(final.name + ".part")
    run(["rm", "-rf", "--one-file-system", str(work)], f"removing {work}")
    work.mkdir(parents=True)
    apt = PrivateApt(work / "apt", mirror)
    shared = [name for name in apt.closure(recipe.BASE_PACKAGES) if layers.wanted(name)]
    debs = apt.download([*recipe.BASE_PACKAGES, *(name for image in IMAGES for name in image.packages)])
    base = _base(work, debs, shared)
    stacks = {}
    for image in IMAGES:
        own = apt.closure([*recipe.BASE_PACKAGES, *image.packages]) if image.packages else []
        stacks[image.name] = [base, _top(work, image, debs, [p for p in own if layers.wanted(p) and p not in shared])]
    _write_archive(work, stacks)
    for path in work.iterdir():
        if path.name != "images.tar":
            run(["rm", "-rf", str(path)], f"removing {path}")
    work.rename(final)
