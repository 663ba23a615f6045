# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""What the modules refuse, and that they touch nothing then."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from helpers import SCRATCH, Box, Json, Node, Result

ARCHIVE = f"{SCRATCH}/a.tar.zst"


@contextlib.contextmanager
def untouched(host: Node, *boxes: Box) -> Iterator[None]:
    """See that nothing came, nothing went, and these live on as they did."""

    def everything() -> tuple[object, ...]:
        images = host.podman("images", "--all", "--quiet", "--no-trunc")
        return host.names(), host.volumes(), images, host.files(), [box.life for box in boxes]

    before = everything()
    yield
    assert everything() == before


def compare(results: list[Result], expected: list[str]) -> None:
    """Each result is a failure that says what is expected."""
    assert len(results) == len(expected)
    for result, text in zip(results, expected):
        assert result.failed and not result.changed, f"not refused: {text}"
        assert text in result.msg, f"{text!r} is not in {result.msg!r}"


def test_options_of_checkpoint(host: Node) -> None:
    box, other = host.start(), host.start()
    both = f"{box.name}, {other.name}"
    cases: list[tuple[Json, str]] = [
        ({"dest": ARCHIVE, "create_image": "it"}, "mutually exclusive: dest|create_image"),
        ({"pre_checkpoint": True, "with_previous": True}, "mutually exclusive: pre_checkpoint|with_previous"),
        ({"pre_checkpoint": True, "create_image": "it"}, "mutually exclusive: pre_checkpoint|create_image"),
        ({"all": True}, "mutually exclusive: name|all|latest"),
        ({"ignore_volumes": True}, "ignore_volumes has a meaning only with dest."),
        ({"ignore_volumes": True, "create_image": "it"}, "ignore_volumes has a meaning only with dest."),
        ({"ignore_rootfs": True}, "ignore_rootfs has a meaning only with dest or create_image."),
        ({"dest": ARCHIVE, "compress": "lz4"}, "value of compress must be one of: zstd, gzip, none, got: lz4"),
        ({"dest": ARCHIVE, "compress_level": 20}, "compress_level 20 is not from 1 to 19, the range of zstd."),
        ({"dest": ARCHIVE, "compress": "gzip", "compress_level": 0}, "is not from 1 to 9, the range of gzip."),
        ({"retries": -1}, "retries is -1; it must be 0 or more."),
        ({"dest": "/no/such/directory/a"}, "cannot be written: No such file or directory. Give a path in an existing"),
        ({"name": [box.name, other.name], "dest": ARCHIVE}, "dest must be a directory for several containers"),
        (
            {"name": [box.name, other.name], "create_image": "it"},
            f"create_image takes one container; these are {both}.",
        ),
        ({"name": [box.name, "it-nobody"]}, 'no container with name or ID "it-nobody" found'),
        ({"pre_checkpoint": True, "dest": ARCHIVE}, "[no_memory_tracking]"),
        ({"with_previous": True}, "[no_memory_tracking]"),
        ({"with_previous": True}, "[previous_absent]"),
    ]
    with untouched(host, box, other):
        results = host.modules("podman_checkpoint", *({"name": box.name, **options} for options, _text in cases))
    compare(results, [text for _options, text in cases])
    assert results[-1].codes == ["no_memory_tracking", "previous_absent"]
    compare(host.modules("podman_checkpoint", {}), ["No container is selected. Give name, all or latest."])
    box.counts_on()


def test_states_that_cannot_be_checkpointed(host: Node) -> None:
    paused, exited, throw_away = host.start(), host.start(), host.start("counter", "--rm")
    host.podman("pause", paused.id)
    host.podman("stop", "--time", "0", exited.id)
    host.podman("create", "--name", "it-created", "localhost/lab/counter")
    created = host.box("it-created")
    dependent = host.start(network=f"container:{throw_away.id}")
    frozen = host.start()
    host.checkpoint(frozen.name)
    cases: list[tuple[Json, list[str]]] = [
        ({"name": paused.name}, ["not_running"]),
        ({"name": exited.name, "dest": ARCHIVE}, ["not_running"]),
        ({"name": created.name, "dest": ARCHIVE}, ["not_running"]),
        ({"name": throw_away.name}, ["auto_remove"]),
        ({"name": throw_away.name, "create_image": "it"}, ["auto_remove"]),
        ({"name": dependent.name, "dest": ARCHIVE}, ["dependencies"]),
        ({"name": dependent.name, "create_image": "it"}, ["dependencies"]),
        ({"name": frozen.name, "dest": ARCHIVE}, ["checkpointed"]),
        # Every reason at once, and one is enough to touch none.
        ({"name": [dependent.name, paused.name, throw_away.name]}, ["not_running", "auto_remove"]),
    ]
    with untouched(host, paused, exited, throw_away, created, dependent, frozen):
        results = host.modules("podman_checkpoint", *(options for options, _codes in cases))
        for result, (options, codes) in zip(results, cases):
            assert result.failed and result.codes == codes, (options, result.msg)
            assert "is refused, nothing was touched" in result.msg
        checked = host.module("podman_checkpoint", name=dependent.name, dest=ARCHIVE, check=True)
        assert checked.codes == ["dependencies"]
    throw_away.counts_on()


def test_options_of_restore(host: Node) -> None:
    box = host.start()
    host.checkpoint(box.name)
    misplaced = "only with src or image; a restore in place changes nothing."
    cases: list[tuple[Json, str]] = [
        ({"tcp_established": True, "tcp_close": True}, "mutually exclusive: tcp_established|tcp_close"),
        ({"new_name": "it-new", "tcp_established": True}, "mutually exclusive: new_name|tcp_established"),
        ({"src": ARCHIVE}, "mutually exclusive: name|all|latest|src|image"),
        ({"previous": ARCHIVE}, "required by 'previous'"),
        *(
            ({option: value}, f"{option}: {misplaced}")
            for option, value in {
                "new_name": "it-new",
                "publish": "80",
                "pod": "it-pod",
                "ignore_rootfs": True,
                "ignore_volumes": True,
            }.items()
        ),
        ({"name": "it-nobody"}, 'no container with name or ID "it-nobody" found'),
    ]
    with untouched(host, box):
        results = host.modules("podman_restore", *({"name": box.name, **options} for options, _text in cases))
        compare(results, [text for _options, text in cases])
        rest = host.modules("podman_restore", {}, {"src": ARCHIVE}, {"src": ARCHIVE, "new_name": ["it-a", "it-a"]})
        needed = "No container is selected. Give name, all or latest."
        compare(rest, [needed, f"The archive {ARCHIVE} cannot be read: No such file", "a name twice: it-a, it-a"])
        assert box.status == "exited"
    host.restore(box.name)
    box.counts_on()


def test_states_that_cannot_be_restored(host: Node) -> None:
    never, consumed, stale, paused, running = (host.start() for _number in range(5))
    host.checkpoint(consumed.name, stale.name)
    host.restore(consumed.name)
    # A start throws the memory away, but not the files of the checkpoint.
    host.podman("start", stale.id)
    host.podman("stop", "--time", "0", never.id, consumed.id, stale.id)
    host.podman("pause", paused.id)
    assert host.exists(f"{stale.userdata}/checkpoint/inventory.img")
    with untouched(host, never, consumed, stale, paused, running):
        boxes = (never, consumed, stale, paused)
        results = host.modules("podman_restore", *({"name": box.name} for box in boxes), {"name": running.name})
        codes = [result.codes for result in results[:-1]]
        assert codes == [["no_checkpoint"], ["no_checkpoint"], ["stale_checkpoint"], ["paused"]]
        compare(results[:-1], ["nothing was touched"] * 4)
        assert not results[-1].failed and not results[-1].changed
        assert host.restore(all=True).containers == []


def test_everything_that_an_archive_needs(host: Node) -> None:
    host.podman("network", "create", "it-net")
    host.later("podman", "network", "rm", "--force", "it-net")
    host.run("podman", "secret", "create", "it-secret", "-", stdin="hush")
    host.later("podman", "secret", "rm", "it-secret")
    box = host.start("counter", "--volume", "it-data:/data", "--secret", "it-secret", network="it-net")
    host.checkpoint(box.name, dest=ARCHIVE)
    with untouched(host, box):
        refused = host.module("podman_restore", src=ARCHIVE)
        assert refused.codes == ["id_in_use", "volume_exists"]
        clones = host.module("podman_restore", src=ARCHIVE, new_name=["it-a", "it-b"])
        assert clones.codes == ["volumes_shared", "volume_exists"]
        taken = host.module("podman_restore", src=ARCHIVE, new_name=box.name, ignore_volumes=True)
        assert taken.codes == ["name_in_use"]
    box.remove()
    host.podman("network", "rm", "it-net")
    host.podman("secret", "rm", "it-secret")
    host.podman("volume", "create", "--ignore", "it-data")
    host.podman("run", "--detach", "--name", box.name, "--network", "none", "localhost/lab/counter")
    squatter = host.box(box.name)
    with untouched(host, squatter):
        for check in (False, True):
            refused = host.module("podman_restore", src=ARCHIVE, check=check)
            assert refused.codes == ["name_in_use", "volume_exists", "network_absent", "secret_absent"]
            assert "nothing was touched" in refused.msg


def test_image_of_the_archive(host: Node) -> None:
    reference = "localhost/it/only-here:1"
    made = host.podman("create", "localhost/lab/counter")
    host.podman("commit", "--quiet", "--change", "LABEL only=here", made, reference)
    host.podman("rm", made)
    box = host.start(reference)
    host.checkpoint(box.name, dest=ARCHIVE)
    box.remove()
    host.podman("rmi", reference)
    with untouched(host):
        assert host.module("podman_restore", src=ARCHIVE).codes == ["image_absent"]
    host.podman("tag", "localhost/lab/redis", reference)
    host.later("podman", "rmi", reference)
    with untouched(host):
        refused = host.module("podman_restore", src=ARCHIVE)
        assert refused.codes == ["image_differs"]
        assert "The name is that of the image" in refused.msg


def test_pods(host: Node) -> None:
    host.podman("pod", "create", "--name", "it-pod", "--network", "none")
    host.later("podman", "pod", "rm", "--force", "--time", "0", "it-pod")
    name = "it-in-pod"
    host.podman("run", "--detach", "--name", name, "--pod", "it-pod", "localhost/lab/counter")
    inside, outside = host.box(name), host.start()
    host.checkpoint(outside.name, dest=f"{SCRATCH}/outside")
    host.checkpoint(inside.name, dest=f"{SCRATCH}/inside")
    inside.remove()
    outside.remove()
    cases: list[tuple[Json, list[str]]] = [
        ({"src": f"{SCRATCH}/inside"}, ["pod_required"]),
        ({"src": f"{SCRATCH}/inside", "pod": "it-nowhere"}, ["pod_absent"]),
        ({"src": f"{SCRATCH}/outside", "pod": "it-pod"}, ["not_in_pod"]),
    ]
    with untouched(host):
        results = host.modules("podman_restore", *(options for options, _codes in cases))
        assert [result.codes for result in results] == [codes for _options, codes in cases]
    host.restore(src=f"{SCRATCH}/inside", pod="it-pod")
    inside.counts_on()


def test_previous_that_is_none(host: Node) -> None:
    box = host.start()
    host.checkpoint(box.name, dest=ARCHIVE)
    box.remove()
    with untouched(host):
        refused = host.module("podman_restore", src=ARCHIVE, previous=ARCHIVE)
        assert refused.failed and f"{ARCHIVE} is not a pre-checkpoint." in refused.msg
