#!/usr/bin/python
# Copyright: the ferry.podman contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: checkpoint_image
short_description: Make checkpoint images of archives, send them through registries, and prune them
version_added: 0.1.0
author: the ferry.podman contributors (@ferry-podman)
description:
  - Makes an image of a checkpoint archive, so that a checkpoint travels through the registry that is there already.
    M(ferry.podman.podman_restore) and C(podman container restore) restore from it.
  - Pulls such an image, pushes it, removes it, and removes those that have been kept for long enough.
  - The image has annotations on its manifest, which tell Podman, CRI-O and containerd that it is a checkpoint, and of
    what. The index that is handed to podman has them too; a registry gets none.
  - An image that is no checkpoint is refused.
options:
  name:
    description:
      - Name of the image, with host, path and tag, as in V(registry.example:5000/ferry/db:monday).
      - Required with O(state=present) and O(state=absent).
      - With O(state=pruned) it is without a tag, as in V(registry.example:5000/ferry/db). Only images of this name are
        looked at, whatever their tag, and lose no other names. Left out, all checkpoint images of the host are.
    type: str
  state:
    description:
      - V(present), the host has the image. It is made of O(src) or O(image), or else pulled if no image has the name.
        One that has it stays, even if the registry has another by now; see O(digest).
      - V(absent), it has not. The image is gone with the name, and with those by digest that a pull has left, unless it
        has others. The copy in a registry stays.
      - V(pruned), images of checkpoints are removed that O(older_than), O(keep) or O(max_total_size) say, each for the
        images of one container by itself. The newest one of a container always stays, and so does one that a
        container uses. Images of one checkpoint, in both layouts, count as one. Those that have lost their annotations
        are not seen.
    type: str
    choices: [present, absent, pruned]
    default: present
  src:
    description:
      - Path of a checkpoint archive on the host that the module runs on, compressed or not. It is Podman's, or one that
        the kubelet's checkpoint API has made with CRI-O or containerd.
      - It is read to its end, and refused if it is damaged or holds what no checkpoint needs, before the service sees
        any of it.
      - The image's ID follows from the archive's content and its time, so the same archive gives the same image.
      - Of an archive of the kubelet, what Podman needs and it has not is added. Its container gets a network of its own
        in the place of its pod's. The host must have the image that it was made from.
    type: path
  decrypt_identity:
    description:
      - Path of a file with identities of C(age), or of a private ssh key without a passphrase, on the host that the
        module runs on. It opens O(src) where it is encrypted.
      - Images are not encrypted. What is made of O(src) lies in plain text in O(directory) meanwhile, then in the
        storage of podman, and in the registry with O(push).
    type: path
  image:
    description:
      - Name or ID of a checkpoint image on the host of the service to make the image of, in another O(layout), with
        other O(formats), or with the annotations that it has lost on its way, as in a docker-archive. It must be
        there; only what O(name) alone stands for is pulled.
      - It is read as O(src) is. With a O(name) other than its own it stays as it is. Where both are the same image,
        with one ID, it gets the annotations that it lacks.
      - With a O(name) that is its own and an ID that is not, as for an image of
        O(ferry.podman.podman_checkpoint#module:create_image) or in another O(layout), the new image gets the name. The
        old one is removed if it has no other and no container uses it.
    type: str
  layout:
    description:
      - What the image is like that is made of O(src) or O(image). Both can be restored, and made into each other.
      - V(single) is Podman's layout, one layer with the archive's members in it. Podman restores it by itself. The
        restoring host must have the image that the container was made from.
      - V(layered) has the layers of the image that the container was made from, above them the changes of its root
        filesystem as a layer, and then CRIU's files. A registry has the lower ones once, and other tools see the
        container's files. It can be restored by M(ferry.podman.podman_restore), and is to be turned into V(single) for
        others. The host must have the image that the container was made from.
    type: str
    choices: [single, layered]
    default: single
  dest:
    description:
      - Path of a checkpoint archive to make of the image, on the host that the module runs on. Its directory must
        exist. If no image has O(name), it is pulled first.
      - It is written beside its name, seen to be whole, and then moved into place, with mode C(0600).
      - A file that is there is replaced, unless it is the archive of the image, in whatever compression.
    type: path
  compress:
    description: Compression of O(dest).
    type: str
    choices: [zstd, gzip, none]
    default: zstd
  formats:
    description:
      - Whose annotations the image gets. V(podman) are Podman's, V(criu) are those that checkpointctl writes and
        containerd reads, and V(cri-o) are CRI-O's.
    type: list
    elements: str
    choices: [podman, criu, cri-o]
    default: [podman, criu, cri-o]
  push:
    description:
      - Push the image to the registry in its name. It is pushed every time, because a registry cannot be asked through
        Podman what it has.
      - A push that fails half way is an error, also where the service has answered 200 before.
    type: bool
    default: false
  digest:
    description:
      - The image must be this one, by the digest of its manifest, as RV(digest) tells after a push.
      - An image of the name that is another one is pulled anew, by this digest. Not with O(src) or O(image).
      - Without it, an image that has the name on this host is taken for the right one, and not asked for.
    type: str
  registry_tls_verify:
    description:
      - Whether the registry must prove who it is. By default the hosts' C(registries.conf) tells.
      - V(false) also for a registry that speaks plain HTTP.
    type: bool
  registry_username:
    description: User at the registry. By default what C(podman login) has left on the host of the service.
    type: str
  registry_password:
    description: Password for O(registry_username).
    type: str
  registry_auth_file:
    description:
      - Path of a file with credentials, as C(podman login --authfile) writes it (containers-auth.json), on the host
        that the module runs on. It is read with O(state=present).
      - The entry is taken that fits most of host and path in O(name), and is sent with the request. The service does
        not see the file. Programs that a file names instead (C(credHelpers), C(credsStore)) are not run.
      - Works with every Podman that this collection knows (seen with 5.4 and 5.8).
    type: path
  retries:
    description:
      - How many more times a push or pull is tried that failed for what may pass. By default podman's own choice,
        three times.
      - Servers before Podman 5.0 are not told. After a connection that breaks while it sends Podman does not try again
        (seen with 5.4 and 5.8), so the module does.
    type: int
  max_size:
    description:
      - How large O(src) or O(image) may be when it is unpacked, as in V(20G).
      - By default as large as the file system where podman keeps containers.
    type: str
  max_members:
    description: How many members O(src) may have, without those of the tars inside.
    type: int
    default: 100000
  directory:
    description:
      - Where O(src), or an image that is read, lies uncompressed meanwhile, on the host that the module runs on, in
        files without names.
      - An O(src) of Podman's own takes no room there with O(layout=single).
    type: path
    default: /var/tmp
  older_than:
    description: Age from which images are removed, in days. For example V(0.5) is twelve hours.
    type: float
  keep:
    description: How many of a container's checkpoints stay, the newest ones, V(1) or more.
    type: int
  max_total_size:
    description: How large a container's images may be together, as in V(50G), counted from the newest one.
    type: str
extends_documentation_fragment:
  - ferry.podman._connection
  - ferry.podman._attributes
  - ferry.podman._attributes.actiongroup_podman
attributes:
  check_mode:
    support: full
    details:
      - O(src) and O(image) are read and compared, as without it. Nothing is asked of a registry.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - With O(push) the image is pushed every time.
requirements:
  - podman >= 5.0 on the host of the service, so that annotations survive
  - zstandard, for archives that are compressed with zstd
  - C(age) 1.0 or newer, for O(decrypt_identity)
seealso:
  - module: ferry.podman.podman_checkpoint
  - module: ferry.podman.podman_restore
"""

EXAMPLES = r"""
- name: Send a checkpoint through a registry
  ferry.podman.checkpoint_image:
    name: registry.example:5000/ferry/db:monday
    src: /var/backup/db.tar.zst
    push: true
  register: sent

- name: Get it on another host, just that one
  ferry.podman.checkpoint_image:
    name: registry.example:5000/ferry/db:monday
    digest: "{{ sent.digest }}"  # without it, an older image of the name on node2 would be taken
  delegate_to: node2

- name: Restore from it there
  ferry.podman.podman_restore:
    image: registry.example:5000/ferry/db:monday
  delegate_to: node2

- name: Make an archive of an image again
  ferry.podman.checkpoint_image:
    name: registry.example:5000/ferry/db:monday
    dest: /var/backup/db.tar.zst

- name: Store a checkpoint next to the image of its container, whose layers the registry has already
  ferry.podman.checkpoint_image:
    name: registry.example:5000/ferry/db:layered
    src: /var/backup/db.tar.zst
    layout: layered
    push: true

- name: Make an image of what the kubelet has written
  ferry.podman.checkpoint_image:
    name: localhost/from-kubernetes/web:1
    src: /var/lib/kubelet/checkpoints/checkpoint-web_default-web-2026-11-20T10:00:00Z.tar

- name: Give an image its annotations again
  ferry.podman.checkpoint_image:
    name: localhost/from-a-docker-archive:1
    image: localhost/from-a-docker-archive:1

- name: Keep each container's last seven checkpoints, and none for longer than a month
  ferry.podman.checkpoint_image:
    state: pruned
    keep: 7
    older_than: 30
"""

RETURN = r"""
image:
  description: The image.
  returned: with O(state=present), if the host has it
  type: dict
  contains:
    id: {description: Its full ID., type: str, returned: always}
    names: {description: All names that it has on the host., type: list, elements: str, returned: always}
    digests:
      description: Digests of its manifests that the host knows. One that was compressed for a registry has another.
      type: list
      elements: str
      returned: always
    size: {description: Bytes on the host., type: int, returned: always}
    created: {description: When the archive was written., type: str, returned: always}
    checkpoint:
      description:
        - What its annotations tell, such as C(name) and C(image) of the container, C(arch), C(runtime),
          C(criu_version). What is not known is not there.
      type: dict
      returned: always
digest:
  description: Digest of the manifest in the registry.
  returned: when it was pushed, and podman tells it (>= 5.0)
  type: str
  sample: "sha256:9f2c…"
reason:
  description: Why something was changed.
  returned: when something was or would be changed
  type: str
pruned:
  description: What was removed, or would be.
  returned: with O(state=pruned)
  type: list
  elements: dict
  contains:
    id: {description: Its full ID., type: str, returned: always}
    names:
      description: The names that it had; with O(name), those of them that are of this name.
      type: list
      elements: str
      returned: always
    container: {description: Name of the container., type: str, returned: always}
    reason: {description: Why it goes., type: str, returned: always}
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from ansible.module_utils.common.text.formatters import human_to_bytes

from ansible_collections.ferry.podman.plugins.module_utils._auth import access_of
from ansible_collections.ferry.podman.plugins.module_utils._build import Recipe, built
from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError
from ansible_collections.ferry.podman.plugins.module_utils._image import LAYOUT, SINGLE
from ansible_collections.ferry.podman.plugins.module_utils._libpod import LibpodClient, RegistryAccess
from ansible_collections.ferry.podman.plugins.module_utils._lint import Limits
from ansible_collections.ferry.podman.plugins.module_utils._loading import load
from ansible_collections.ferry.podman.plugins.module_utils._module import FerryModule
from ansible_collections.ferry.podman.plugins.module_utils._oci import Image
from ansible_collections.ferry.podman.plugins.module_utils._registry import (
    REFERENCE,
    Reference,
    advised,
    is_repository,
)
from ansible_collections.ferry.podman.plugins.module_utils._retention import Kept, Rules, outdated
from ansible_collections.ferry.podman.plugins.module_utils._source import Source
from ansible_collections.ferry.podman.plugins.module_utils._stored import Stored, repository_of, unnamed
from ansible_collections.ferry.podman.plugins.module_utils._unbuild import Exported

ABSENT = "The host has no image of this name."


class Images:
    """Checkpoint images of one host."""

    def __init__(self, module: FerryModule, client: LibpodClient) -> None:
        self.module = module
        self.client = client
        self.params = module.params
        self._becomes: str | None = None  # what it would be, in check mode: its ID, or what would be pulled
        self.access = RegistryAccess()
        self._repository: str | None = None  # that pruning is about

    def stored(self, name: str) -> Stored | None:
        raw = self.client.image(name)
        return Stored(raw) if raw is not None else None

    # -- present --------------------------------------------------------------------------------------------------

    def present(self) -> None:
        reference = Reference.parse(self.params["name"])
        self.access = access_of(self.params, reference.repository, self.module.conceal)
        before = self.stored(str(reference))
        if self.params["src"] is not None or self.params["image"] is not None:
            self._make(reference, before)
        elif (reason := self._why_pull(before)) is not None:
            if self.module.check_mode:
                self._becomes = self.params["digest"] or str(reference)
            else:
                self._pull(reference)
            self._changed(reason)
        after = None if self._becomes else self.stored(str(reference))
        if after is not None:
            self._check(after)
            self.module.result["image"] = after.summary()
            if self.params["dest"] is not None:
                self._save(after)
        if self.params["push"]:
            self._push(reference, after)
        self.module.show_difference(before and before.id, self._becomes or (after and after.id))

    def _make(self, reference: Reference, before: Stored | None) -> None:
        if not self.params["formats"]:
            raise FerryError("formats is empty, and without annotations nobody would know the image for a checkpoint.")
        with self._source() as source:
            known = source.stored.facts if isinstance(source, Exported) else {}
            is_same = before is not None and isinstance(source, Exported) and source.stored.id == before.id
            with built(source, self._recipe(self.params["layout"]), self.client, known) as image:
                reason = why_load(before, image, is_same=is_same)
                if reason is None:
                    return
                self._changed(reason)
                if self.module.check_mode:
                    self._becomes = image.id
                    return
                self._load(image, source.path)
                self.client.tag_image(image.id, reference.repository, reference.tag)
        if before is not None and is_same and before.id != image.id:
            self._replaced(before)

    def _replaced(self, image: Stored) -> None:
        """Have no image without a name left, with all of the memory in it, where another form of it has its name."""
        names = self.client.image_names().get(image.id)
        if names == [] and image.id not in {container.image_id for container in self.client.each_container()}:
            self.client.remove_image(image.id)

    def _load(self, image: Image, path: str) -> None:
        """Have the host have it. The same image has one manifest, whatever its names: what it says already stays."""
        same = self.stored(image.id)
        if same is not None and why_annotate(same, image) is None:
            return
        if same is not None:
            image = replace(image, annotations={**(same.raw.get("Annotations") or {}), **image.annotations})
        load(self.client, image, f"Loading {path} as an image")
        if self.client.image(image.id) is None:
            raise FerryError(f"{path} was loaded as another image than {image.id[:12]}.")

    def _source(self) -> Source | Exported:
        if self.params["src"] is not None:
            return Source(self.params["src"], self.params["decrypt_identity"])
        stored = self.stored(self.params["image"])
        if stored is None:
            raise FerryError(f"There is no image {self.params['image']} on this host.", remedy="Pull or load it first.")
        return self._exported(stored)

    def _exported(self, image: Stored) -> Exported:
        return Exported(self.client, image, self._limits(), self.params["directory"])

    def _recipe(self, layout: str) -> Recipe:
        return Recipe(layout, tuple(self.params["formats"]), self._limits(), self.params["directory"])

    def _save(self, image: Stored) -> None:
        dest = self.params["dest"]
        if LAYOUT not in image.labels and self._makes(dest, image):
            return
        reason = f"There is no archive of the image at {dest}."
        if self.module.check_mode and not os.path.exists(dest):
            self._changed(reason)
            return
        with self._exported(image) as exported:
            if exported.is_in(dest, self._limits()):
                return
            self._changed(reason)
            if not self.module.check_mode:
                exported.save(dest, self.params["compress"], self._limits())

    def _makes(self, path: str, image: Stored) -> bool:
        """Whether the same image can be made of an archive: then the host's need not be read.

        Of the archive of an image that podman has made, it cannot.
        """
        try:
            with Source(path) as source, built(source, self._recipe(SINGLE), self.client) as other:
                return other.id == image.id
        except FerryError:
            return False

    def _limits(self) -> Limits:
        size = self.client.info().graph_root_size
        return Limits(size=as_bytes("max_size", self.params["max_size"]) or size, members=self.params["max_members"])

    def _why_pull(self, before: Stored | None) -> str | None:
        wanted = self.params["digest"]
        if before is None:
            return ABSENT
        if wanted is not None and wanted not in before.digests:
            return f"The image of this name has not the digest {wanted}."
        return None

    def _pull(self, reference: Reference) -> None:
        wanted = self.params["digest"]
        name = reference.by_digest(wanted) if wanted else str(reference)
        before = set(self.client.image_ids())
        with advised(reference, self.access):
            image_id = self.client.pull_reference(name, self.access, retry=self.params["retries"])
        pulled = self.stored(image_id)
        if pulled is None:
            raise FerryError(f"{name} was pulled, and the host has no image {image_id[:12]}.")
        if not pulled.is_checkpoint:
            self._drop(pulled, name, is_new=image_id not in before)
        self._check(pulled)
        self.client.tag_image(image_id, reference.repository, reference.tag)
        # It would keep the image when the name goes. Where it is no name, podman would take it for all of them.
        if wanted and name in self.client.image_names().get(image_id, []):
            self.client.remove_image(name)

    def _drop(self, pulled: Stored, name: str, *, is_new: bool) -> None:
        """Have nothing of a pull left; an image that was there before keeps its other names."""
        names = self.client.image_names().get(pulled.id, [])
        if is_new:
            unnamed(self.client, pulled.id, names)
        elif name in names and len(names) > 1:
            self.client.remove_image(name)

    def _check(self, image: Stored) -> None:
        if not image.is_checkpoint:
            raise FerryError(
                f"The image {self.params['name']} is no checkpoint: no annotation tells the name of a container.",
                remedy="If it is one whose annotations were lost on the way, as in a docker-archive, image: "
                f"{self.params['name']} gives them back.",
            )

    def _push(self, reference: Reference, image: Stored | None) -> None:
        if not self.module.check_mode:
            if image is None:
                raise FerryError(f"The image {reference} is gone before it could be pushed.")
            self._send(reference, image.id)
        self._changed("It is pushed.")

    def _send(self, reference: Reference, ident: str) -> None:
        with advised(reference, self.access):
            # By its ID: the name may be another image's by now.
            digest = self.client.push_image(ident, str(reference), self.access, retry=self.params["retries"])
        if digest is not None:
            self.module.result["digest"] = digest

    def _changed(self, reason: str) -> None:
        self.module.result["changed"] = True
        self.module.result.setdefault("reason", reason)

    # -- absent, pruned -------------------------------------------------------------------------------------------

    def absent(self) -> None:
        reference = Reference.parse(self.params["name"])
        before = self.stored(str(reference))
        self.module.show_difference(before and before.id, None)
        if before is None:
            return
        self._check(before)
        self._changed("The host has the image.")
        if not self.module.check_mode:
            unnamed(self.client, before.id, [str(reference)])

    def prune(self) -> None:
        self._repository = repository(self.params["name"])
        images = {image.id: image for image in self._checkpoints()}
        kept = [Kept(image.id, image.facts["name"], image.created, image.size) for image in images.values()]
        reasons = outdated(kept, self._rules(), datetime.now(timezone.utc))
        used = {container.image_id for container in self.client.each_container()} if reasons else set()
        going = {ident: reason for ident, reason in reasons.items() if ident not in used}
        self.module.result["pruned"] = [
            {
                "id": ident,
                "names": self._names(images[ident]),
                "container": images[ident].facts["name"],
                "reason": reason,
            }
            for ident, reason in going.items()
        ]
        self.module.show_difference(
            *(listed(images[ident] for ident in some) for some in (images, set(images) - set(going)))
        )
        for ident, reason in going.items():
            self._changed(reason)
            if not self.module.check_mode:
                unnamed(self.client, ident, self._names(images[ident]))

    def _names(self, image: Stored) -> list[str]:
        """Those that pruning is about."""
        return [name for name in image.known_by if self._repository in (None, repository_of(name))]

    def _checkpoints(self) -> Iterator[Stored]:
        for ident, names in sorted(self.client.image_names().items()):
            raw = self.client.image(ident)
            image = None if raw is None else Stored(raw, tuple(sorted(names)))
            if image is not None and image.is_checkpoint and (self._repository is None or self._names(image)):
                yield image

    def _rules(self) -> Rules:
        days, keep = self.params["older_than"], self.params["keep"]
        size = as_bytes("max_total_size", self.params["max_total_size"])
        try:
            return Rules(None if days is None else timedelta(days=days), keep, size)
        except (ValueError, OverflowError) as error:
            raise FerryError(f"older_than is no number of days: {days}.") from error


def repository(name: str | None) -> str | None:
    """What pruning is about.

    :raises FerryError: if the name has a tag: somebody may mean that only this one goes.
    """
    if name is None:
        return None
    if not is_repository(name):
        plain = REFERENCE.fullmatch(name)
        raise FerryError(
            f"name is {name!r}; with state: pruned it is the name that images share, without a tag.",
            remedy=f"Write {plain['repository'] if plain else 'host[:port]/path'}, which stands for all of its tags; "
            "state: absent removes one image.",
        )
    return name


def listed(images: Iterable[Stored]) -> str:
    """Text for a diff: a line for each image."""
    return "".join(f"{' '.join([image.id, *image.known_by])}\n" for image in sorted(images, key=lambda one: one.id))


def why_load(before: Stored | None, image: Image, *, is_same: bool) -> str | None:
    """Why an image that was built must be loaded, or None if the host has it as it is.

    :param is_same: it was made of the image that has the name.
    """
    if before is None:
        return ABSENT
    if before.id != image.id and is_same:
        return "The image of this name has the checkpoint in another form, and is replaced."
    if before.id != image.id:
        return "The image of this name is not of this checkpoint."
    return why_annotate(before, image)


def why_annotate(stored: Stored, image: Image) -> str | None:
    """What the annotations of the host's image lack, or None."""
    annotations = stored.raw.get("Annotations") or {}
    lost = sorted(key for key in image.annotations if key not in annotations)
    if lost:
        return f"The image has no annotation {lost[0]}."
    wrong = sorted(key for key, value in image.annotations.items() if annotations[key] != value)
    return f"The image's annotation {wrong[0]} is not what the checkpoint says." if wrong else None


LEAST = {"max_members": 1, "retries": 0, "older_than": 0, "keep": 1}


def check_options(params: dict) -> None:
    """:raises FerryError: for a number that makes no sense."""
    for option, least in LEAST.items():
        if params[option] is not None and params[option] < least:
            newest = " The newest checkpoint of a container always stays." if option == "keep" else ""
            raise FerryError(f"{option} is {params[option]}; it must be {least} or more.{newest}")


def as_bytes(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return int(human_to_bytes(text))
    except ValueError as error:
        raise FerryError(f"{option} is no size: {error}") from error


def manage(module: FerryModule) -> None:
    check_options(module.params)
    with module.client() as client:
        images = Images(module, client)
        {"present": images.present, "absent": images.absent, "pruned": images.prune}[module.params["state"]]()


def main() -> None:
    FerryModule(
        argument_spec={
            "name": {"type": "str"},
            "state": {"type": "str", "choices": ["present", "absent", "pruned"], "default": "present"},
            "src": {"type": "path"},
            "decrypt_identity": {"type": "path"},
            "image": {"type": "str"},
            "layout": {"type": "str", "choices": ["single", "layered"], "default": "single"},
            "dest": {"type": "path"},
            "compress": {"type": "str", "choices": ["zstd", "gzip", "none"], "default": "zstd"},
            "formats": {
                "type": "list",
                "elements": "str",
                "choices": ["podman", "criu", "cri-o"],
                "default": ["podman", "criu", "cri-o"],
            },
            "push": {"type": "bool", "default": False},
            "digest": {"type": "str"},
            "registry_tls_verify": {"type": "bool"},
            "registry_username": {"type": "str"},
            "registry_password": {"type": "str", "no_log": True},
            "registry_auth_file": {"type": "path"},
            "retries": {"type": "int"},
            "max_size": {"type": "str"},
            "max_members": {"type": "int", "default": 100000},
            "directory": {"type": "path", "default": "/var/tmp"},
            "older_than": {"type": "float"},
            "keep": {"type": "int"},
            "max_total_size": {"type": "str"},
        },
        required_if=[
            ("state", "present", ("name",)),
            ("state", "absent", ("name",)),
            ("state", "pruned", ("older_than", "keep", "max_total_size"), True),
        ],
        required_together=[("registry_username", "registry_password")],
        required_by={"decrypt_identity": "src"},
        mutually_exclusive=[
            ("src", "image", "digest"),
            ("src", "dest"),
            ("registry_username", "registry_auth_file"),
        ],
    ).run(manage)


if __name__ == "__main__":
    main()
