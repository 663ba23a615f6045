# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import contextlib

import hypothesis
import pytest
from hypothesis import strategies as st

from ansible_collections.ferry.podman.plugins.module_utils import _criu
from ansible_collections.ferry.podman.plugins.module_utils._errors import ArchiveError

READERS = {
    _criu.STATS_MAGIC: _criu.statistics,
    _criu.PSTREE_MAGIC: _criu.processes,
    _criu.FILES_MAGIC: _criu.sockets,
    _criu.CORE_MAGIC: _criu.command,
}
every_reader = pytest.mark.parametrize(
    ("magic", "read"), READERS.items(), ids=lambda value: getattr(value, "__name__", "")
)


# -- images ---------------------------------------------------------------------------------------------------


def test_image_of_nothing_but_entries_takes_little_memory(protobuf, monkeypatch) -> None:
    monkeypatch.setattr(_criu, "MOST_NOTED", 10)
    with pytest.raises(ArchiveError, match="more than 10 processes"):
        _criu.processes(protobuf.image(_criu.PSTREE_MAGIC, *[b""] * 11))
    with pytest.raises(ArchiveError, match="more than 10 sockets"):
        _criu.sockets(protobuf.image(_criu.FILES_MAGIC, *[protobuf.message((4, b""))] * 11))
    assert _criu.sockets(protobuf.image(_criu.FILES_MAGIC, *[protobuf.message((1, 1))] * 11)) == []


def test_message_of_nothing_but_kinds_of_fields_is_refused(protobuf) -> None:
    message = protobuf.message(*((number, 0) for number in range(1, _criu.MOST_KEYS + 2)))
    with pytest.raises(ArchiveError, match="more than 1000 kinds of fields"):
        _criu.sockets(protobuf.image(_criu.FILES_MAGIC, message))


def test_statistics_of_a_dump(protobuf) -> None:
    dump = protobuf.message((1, 100712), (2, 151034), (3, 70000), (4, 60000), (5, 9000), (6, 17), (7, 2511), (8, 1))
    assert _criu.statistics(protobuf.image(_criu.STATS_MAGIC, protobuf.message((1, dump)), first=0x55105940)) == {
        "freezing_time": 100712,
        "frozen_time": 151034,
        "memdump_time": 70000,
        "memwrite_time": 60000,
        "pages_scanned": 9000,
        "pages_skipped_parent": 17,
        "pages_written": 2511,
    }


def test_statistics_of_a_restore(protobuf) -> None:
    restore = protobuf.message((1, 1), (2, 2), (3, 3), (4, 4), (5, 5))
    assert _criu.statistics(protobuf.image(_criu.STATS_MAGIC, protobuf.message((2, restore)), first=0x55105940)) == {
        "pages_compared": 1,
        "pages_skipped_cow": 2,
        "forking_time": 3,
        "restore_time": 4,
        "pages_restored": 5,
    }


def test_figures_that_criu_does_not_write_are_absent(protobuf) -> None:
    image = protobuf.image(_criu.STATS_MAGIC, protobuf.message((1, protobuf.message((2, 5)))))
    assert _criu.statistics(image) == {"frozen_time": 5}


@pytest.mark.parametrize("messages", [[], [b""]])
def test_empty_statistics(protobuf, messages) -> None:
    assert _criu.statistics(protobuf.image(_criu.STATS_MAGIC, *messages)) == {}


@pytest.mark.parametrize("threads", [((5, 1), (5, 21), (5, 300)), ((5, b"\x01\x15\xac\x02"),)])
def test_threads_may_be_packed_or_not(protobuf, threads) -> None:
    tree = protobuf.image(_criu.PSTREE_MAGIC, protobuf.message((1, 1), (2, 0), (3, 1), (4, 1), *threads))
    assert _criu.processes(tree) == [{"pid": 1, "ppid": 0, "threads": 3}]


def test_processes_are_in_the_order_of_the_tree(protobuf) -> None:
    messages = [protobuf.message((1, pid), (2, pid // 10)) for pid in (1, 30, 7)]
    assert [process["pid"] for process in _criu.processes(protobuf.image(_criu.PSTREE_MAGIC, *messages))] == [1, 30, 7]


def test_command_is_that_of_the_leader(protobuf) -> None:
    task = protobuf.message((1, 1), (2, 0), (6, b"postgres"))
    core = protobuf.image(_criu.CORE_MAGIC, protobuf.message((1, 1), (2, b"registers"), (3, task)))
    assert _criu.command(core) == "postgres"


def test_core_of_a_thread_has_no_command(protobuf) -> None:
    assert _criu.command(protobuf.image(_criu.CORE_MAGIC, protobuf.message((1, 1), (2, b"registers")))) is None
    assert _criu.command(protobuf.image(_criu.CORE_MAGIC)) is None


def test_command_may_be_any_bytes(protobuf) -> None:
    task = protobuf.message((6, b"caf\xe9"))
    assert (
        _criu.command(protobuf.image(_criu.CORE_MAGIC, protobuf.message((3, task)))) == "caf\N{REPLACEMENT CHARACTER}"
    )


def test_fixed_size_fields_are_skipped(protobuf) -> None:
    entry = protobuf.message((1, 7)) + b"\x31" + bytes(8) + b"\x3d" + bytes(4) + protobuf.message((2, 3))
    assert _criu.processes(protobuf.image(_criu.PSTREE_MAGIC, entry)) == [{"pid": 7, "ppid": 3, "threads": 0}]


def file_entry(protobuf, number: int, *fields) -> bytes:
    return protobuf.message((1, 4), (2, 9), (number, protobuf.message(*fields)))


def test_sockets(protobuf) -> None:
    mapped = (0, 0, 0xFFFF0000, 0x0100007F)
    image = protobuf.image(
        _criu.FILES_MAGIC,
        protobuf.message((1, 1), (2, 3), (3, b"regular")),
        file_entry(
            protobuf, 4, (3, 2), (5, 6), (6, 1), (7, 6379), (8, 51004), (11, 0x7800630A), (12, b"\x8a\xc6\x81\xf0\x0f")
        ),
        file_entry(protobuf, 4, (3, 10), (5, 17), (6, 7), (7, 53), (8, 0), *((11, word) for word in mapped)),
        file_entry(protobuf, 16, (4, 10), (11, b"/run/x.sock\0")),
        file_entry(protobuf, 16, (4, 1), (11, b"\0abstract")),
        file_entry(protobuf, 16, (4, 7), (11, b"")),
    )
    tcp, udp, *unix = _criu.sockets(image)
    assert (tcp["protocol"], tcp["state"], tcp["local_address"], tcp["local_port"]) == (
        "tcp",
        "established",
        "10.99.0.120",
        6379,
    )
    assert (tcp["remote_address"], tcp["remote_port"], tcp["path"]) == ("10.99.0.254", 51004, None)
    assert (udp["protocol"], udp["state"], udp["local_address"], udp["remote_address"]) == (
        "udp",
        "unconnected",
        "127.0.0.1",
        None,
    )
    assert [(each["state"], each["path"]) for each in unix] == [
        ("listen", "/run/x.sock"),
        ("established", "@abstract"),
        ("unconnected", None),
    ]


def test_addresses_of_a_big_endian_processor(protobuf) -> None:
    image = protobuf.image(_criu.FILES_MAGIC, file_entry(protobuf, 4, (5, 6), (6, 10), (11, 0x0A630078)))
    assert _criu.sockets(image, big_endian=True)[0]["local_address"] == "10.99.0.120"


@every_reader
@pytest.mark.parametrize("image", [b"", b"\x19\x43\x56\x54", bytes(8), b"\x19\x43\x56\x54" + bytes(4)])
def test_other_file_is_no_image(magic, read, image) -> None:
    with pytest.raises(ArchiveError, match="is cut short|is not such an image of CRIU"):
        read(image)


@every_reader
def test_image_of_another_kind_is_refused(protobuf, magic, read) -> None:
    for other in READERS:
        if other != magic:
            with pytest.raises(ArchiveError, match="is not such an image"):
                read(protobuf.image(other))


def test_image_that_ends_anywhere_is_refused(protobuf) -> None:
    image = protobuf.image(_criu.PSTREE_MAGIC, protobuf.message((1, 300), (2, 1), (5, 300)))
    for length in range(len(image)):
        # Behind the two magic numbers an empty list of entries ends.
        with contextlib.nullcontext() if length == 8 else pytest.raises(ArchiveError):
            assert _criu.processes(image[:length]) == []


@pytest.mark.parametrize(
    "message",
    [
        b"\x08",  # a number that is not there
        b"\x08" + b"\x80" * 4,  # one without an end
        b"\x08" + b"\xff" * 20 + b"\x01",  # one that is too long
        b"\x2a\x05abc",  # fewer bytes than said
        b"\x2a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",  # far fewer
        b"\x0b",  # a group, which protobuf has given up
        b"\x0f",  # a kind that never was
        b"\x09abc",  # eight bytes that are three
        b"\x0a\x01x",  # the PID as text
        b"\x2a\x01\x80",  # packed threads without an end
    ],
)
def test_broken_message_is_refused(protobuf, message) -> None:
    with pytest.raises(ArchiveError):
        _criu.processes(protobuf.image(_criu.PSTREE_MAGIC, message))


def test_number_in_the_place_of_a_message_is_refused(protobuf) -> None:
    with pytest.raises(ArchiveError, match="not a message"):
        _criu.statistics(protobuf.image(_criu.STATS_MAGIC, protobuf.message((1, 5))))


@every_reader
@hypothesis.given(data=st.binary(max_size=200))
def test_hostile_image_is_refused_or_read(protobuf, magic, read, data) -> None:
    for image in (data, protobuf.image(magic)[:8] + data, protobuf.image(magic, data)):
        with contextlib.suppress(ArchiveError):
            read(image)


# -- logs -----------------------------------------------------------------------------------------------------

DUMP_LOG = """\
(00.000000) Version: 4.1 (gitid 0)
(00.000009) Running on node1 Linux 6.12.0 #1 SMP x86_64
(00.000317) Warn  (criu/kerndat.c:1470): CRIU was built without libnftables support
(00.011873) Seized task 84231, state 1
(00.012002) ----------------------------------------
(00.012345)      1: Error (criu/sk-inet.c:191): In-flight connection (l)
(00.012351)      1: Error (criu/sk-inet.c:1100): inet: Can't dump sockets
(00.012399) Unlock network
(00.012511) Unfreezing tasks into 1
(00.012601) Error (criu/cr-dump.c:2111): Dumping FAILED.
"""


def test_errors_of_a_log_are_its_relevant_lines() -> None:
    assert _criu.relevant_lines(DUMP_LOG) == [
        "Error (criu/sk-inet.c:191): In-flight connection (l)",
        "Error (criu/sk-inet.c:1100): inet: Can't dump sockets",
        "Error (criu/cr-dump.c:2111): Dumping FAILED.",
    ]


@pytest.mark.parametrize(
    ("line", "relevant"),
    [
        (
            "(00.1)  77: Error (criu/files-reg.c:1831): Can't find file",
            "Error (criu/files-reg.c:1831): Can't find file",
        ),
        ("iptables-restore: error while loading libraries", "iptables-restore: error while loading libraries"),
        ("Error: unknown option", "Error: unknown option"),
    ],
)
def test_error_is_known_in_every_form(line, relevant) -> None:
    assert _criu.relevant_lines(f"(00.1) before\n{line}\n(00.2) after\n") == [relevant]


def test_log_without_errors_is_told_by_its_end() -> None:
    log = "(00.000001) one\n\n(00.000002)     12: two\n(00.000003) Terrors and errorless\nfour\n"
    assert _criu.relevant_lines(log) == ["two", "Terrors and errorless", "four"]


def test_of_many_errors_the_last_ones_count() -> None:
    log = "".join(f"(00.{number:06}) Error (criu/x.c:{number}): failed\n" for number in range(40))
    lines = _criu.relevant_lines(log)
    assert len(lines) == 12
    assert lines[-1] == "Error (criu/x.c:39): failed"
    assert len(_criu.relevant_lines(log, most=2)) == 2


def test_empty_log_has_no_relevant_lines() -> None:
    assert _criu.relevant_lines("") == _criu.relevant_lines("\n \n") == []


def test_connection_in_flight_passes() -> None:
    assert _criu.is_transient(_criu.relevant_lines(DUMP_LOG))


@pytest.mark.parametrize(
    "lines", [[], ["Error (criu/sk-inet.c:100): Connected TCP socket, consider using --tcp-established"]]
)
def test_other_failures_stay(lines) -> None:
    assert not _criu.is_transient(lines)
