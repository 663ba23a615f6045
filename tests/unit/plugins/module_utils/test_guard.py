# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._errors import OutcomeUnknown, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._guard import (
    BOTH_WAYS,
    INWARDS,
    Guard,
    parents_and_addresses,
)
from ansible_collections.ferry.podman.plugins.module_utils._transport import Transport

KEY = "0123456789abcdef" * 4
TABLE = "netdev ferry_0123456789ab"


@pytest.fixture
def local():
    with Transport("unix:///nonexistent", 5) as transport:
        yield transport


def test_rules_replace_those_of_an_earlier_try(local) -> None:
    lines = Guard(local, KEY, ["eth1"], ["10.9.0.7"]).script(BOTH_WAYS).splitlines()
    assert lines[:3] == [f"add table {TABLE}", f"delete table {TABLE}", f"add table {TABLE}"]


def test_rules_drop_what_is_for_the_container_and_what_it_sends(local) -> None:
    assert Guard(local, KEY, ["eth1"], ["10.9.0.7"]).script(BOTH_WAYS).splitlines()[3:] == [
        f"add set {TABLE} ipv4 {{ type ipv4_addr; flags timeout; }}",
        f"add element {TABLE} ipv4 {{ 10.9.0.7 timeout 600s }}",
        f"add set {TABLE} ipv6 {{ type ipv6_addr; flags timeout; }}",
        f'add chain {TABLE} ingress0 {{ type filter hook ingress device "eth1" priority -300; }}',
        f"add rule {TABLE} ingress0 ip daddr @ipv4 drop",
        f"add rule {TABLE} ingress0 ip6 daddr @ipv6 drop",
        f'add chain {TABLE} egress0 {{ type filter hook egress device "eth1" priority -300; }}',
        f'add rule {TABLE} egress0 ip saddr @ipv4 fwd to "lo"',
        f'add rule {TABLE} egress0 ip6 saddr @ipv6 fwd to "lo"',
    ]


@pytest.mark.parametrize(
    ("addresses", "elements"),
    [
        (["10.9.0.7"], ["ipv4 { 10.9.0.7 timeout 600s }"]),
        (["2001:db8::7"], ["ipv6 { 2001:db8::7 timeout 600s }"]),
        (
            ["2001:db8::7", "10.9.0.7", "10.9.0.8"],
            ["ipv4 { 10.9.0.7 timeout 600s }", "ipv4 { 10.9.0.8 timeout 600s }", "ipv6 { 2001:db8::7 timeout 600s }"],
        ),
    ],
)
def test_addresses_are_in_the_set_of_their_family(local, addresses, elements) -> None:
    lines = Guard(local, KEY, ["eth1"], addresses).script(BOTH_WAYS).splitlines()
    prefix = f"add element {TABLE} "
    assert [line[len(prefix) :] for line in lines if line.startswith(prefix)] == elements


def test_every_device_has_a_chain_of_its_own(local) -> None:
    script = Guard(local, KEY, ["eth1", "bond0.7"], ["10.9.0.7"]).script(BOTH_WAYS)
    assert f'add chain {TABLE} ingress0 {{ type filter hook ingress device "eth1"' in script
    assert f'add chain {TABLE} ingress1 {{ type filter hook ingress device "bond0.7"' in script


def test_guard_is_set_and_removed(local, programs, tmp_path) -> None:
    noted = programs("nft", f"cat >>{tmp_path}/script")
    guard = Guard(local, KEY, ["eth1"], ["10.9.0.7"])
    with guard:
        assert (tmp_path / "script").read_text() == guard.script(BOTH_WAYS)
        (tmp_path / "script").write_text("")
    assert (tmp_path / "script").read_text() == f"add table {TABLE}\ndelete table {TABLE}\n"
    assert noted.read_text().split() == ["-f", "-", "-f", "-"]
    assert guard.left is None


def test_kernel_without_an_egress_hook_lets_out_what_the_container_sends(local, programs, tmp_path) -> None:
    programs("nft", f"tee {tmp_path}/script | grep -q egress && echo Error: egress >&2 && exit 1; exit 0")
    guard = Guard(local, KEY, ["eth1"], ["10.9.0.7"])
    with guard:
        assert (tmp_path / "script").read_text() == guard.script(INWARDS)
        assert guard.until is not None
        assert guard.unheard_until == 0.0


def test_container_that_is_reached_on_other_networks_too_is_heard(local, programs) -> None:
    programs("nft", "exit 0")
    guard = Guard(local, KEY, ["eth1"], ["10.9.0.7"], elsewhere=True)
    with guard:
        assert guard.until is not None
        assert guard.unheard_until == 0.0


def test_nobody_hears_a_container_that_is_guarded_both_ways(local, programs) -> None:
    programs("nft", "exit 0")
    guard = Guard(local, KEY, ["eth1"], ["10.9.0.7"])
    with guard:
        assert guard.unheard_until == guard.until
    assert guard.unheard_until == 0.0


@pytest.mark.parametrize(("devices", "addresses"), [([], ["10.9.0.7"]), (["eth1"], []), ([], [])])
def test_nothing_to_guard_needs_no_nft(local, programs, devices, addresses) -> None:
    noted = programs("nft", "exit 1")
    with Guard(local, KEY, devices, addresses):
        pass
    assert not noted.exists()


def test_guard_that_cannot_be_set_is_told(local, programs) -> None:
    programs("nft", "echo Error: No such device >&2; exit 1")
    with pytest.raises(TransportError, match="nft failed: Error: No such device"):
        Guard(local, KEY, ["eth1"], ["10.9.0.7"]).__enter__()


def test_missing_nft_is_told(local, monkeypatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(TransportError, match="nft could not be run"):
        Guard(local, KEY, ["eth1"], ["10.9.0.7"]).__enter__()


def test_guard_that_cannot_be_removed_does_not_decide_about_the_container(local, programs) -> None:
    programs("nft", "exit 0")
    guard = Guard(local, KEY, ["eth1"], ["10.9.0.7"])
    with guard:
        programs("nft", "echo gone >&2; exit 1")
    assert "gone" in guard.left


def test_guard_of_another_host_is_set_there(programs, connect, tmp_path) -> None:
    noted = programs("ssh", f'case "$*" in *nft*) cat >>{tmp_path}/script ;; esac')
    transport = connect("ssh://root@node2/run/podman/podman.sock").transport
    guard = Guard(transport, KEY, ["eth1"], ["10.9.0.7"])
    with guard:
        assert (tmp_path / "script").read_text() == guard.script(BOTH_WAYS)
    assert noted.read_text().splitlines()[-2:] == ["node2", "nft -f -"]


REMOVED = f"add table {TABLE}\ndelete table {TABLE}\n"


def test_nft_waits_on_the_other_host_to_remove_it(programs, connect, tmp_path) -> None:
    programs("ssh", f'case "$*" in *nft*) cat >{tmp_path}/script.$$; echo $$ >>{tmp_path}/runs ;; esac')
    guard = Guard(connect("ssh://root@node2/run/podman/podman.sock").transport, KEY, ["eth1"], ["10.9.0.7"])
    with guard:
        guard.remove()
        setting, removing = (tmp_path / "runs").read_text().split()
    assert (tmp_path / f"script.{removing}").read_text() == REMOVED != (tmp_path / f"script.{setting}").read_text()
    assert len((tmp_path / "runs").read_text().split()) == 2
    assert guard.until is guard.left is None


def test_another_nft_removes_it_where_the_one_that_waits_fails(programs, connect, tmp_path) -> None:
    once = f"grep -qx 'delete table {TABLE}' {tmp_path}/script && [ $(wc -l <{tmp_path}/script) = 2 ]"
    fails = f"{once} && [ ! -e {tmp_path}/failed ] && touch {tmp_path}/failed && exit 1"
    programs("ssh", f'case "$*" in *nft*) cat >{tmp_path}/script; {fails} ;; esac; exit 0')
    guard = Guard(connect("ssh://root@node2/run/podman/podman.sock").transport, KEY, ["eth1"], ["10.9.0.7"])
    with guard:
        pass
    assert (tmp_path / "failed").exists()
    assert (tmp_path / "script").read_text() == REMOVED
    assert guard.until is guard.left is None


def test_nft_that_waits_is_ended_where_the_guard_has_to_stay(programs, connect, tmp_path) -> None:
    programs("ssh", f'case "$*" in *nft*) cat >{tmp_path}/script && touch {tmp_path}/done ;; esac')
    guard = Guard(connect("ssh://root@node2/run/podman/podman.sock").transport, KEY, ["eth1"], ["10.9.0.7"])
    with pytest.raises(OutcomeUnknown), guard:
        (tmp_path / "done").unlink()
        raise OutcomeUnknown("Nobody knows.")
    assert guard.until is not None
    assert not (tmp_path / "done").exists()


# -- what is guarded ------------------------------------------------------------------------------------------

MACVLAN = {"driver": "macvlan", "network_interface": "eth1"}
BOTH = {"IPAddress": "10.9.0.7", "GlobalIPv6Address": "2001:db8::7"}


@pytest.mark.parametrize(
    ("networks", "known", "devices", "addresses"),
    [
        ({"lan": BOTH}, {"lan": MACVLAN}, ["eth1"], ["10.9.0.7", "2001:db8::7"]),
        ({"lan": {"IPAddress": "10.9.0.7"}}, {"lan": {**MACVLAN, "driver": "ipvlan"}}, ["eth1"], ["10.9.0.7"]),
        ({"lan": {"IPAddress": "10.9.0.7", "GlobalIPv6Address": ""}}, {"lan": MACVLAN}, ["eth1"], ["10.9.0.7"]),
        ({"lan": {"IPAddress": "", "GlobalIPv6Address": "2001:db8::7"}}, {"lan": MACVLAN}, ["eth1"], ["2001:db8::7"]),
        ({"lan": BOTH}, {"lan": {"driver": "bridge", "network_interface": "podman0"}}, [], []),
        ({"lan": BOTH}, {"lan": {"driver": "macvlan"}}, [], []),
        ({"lan": BOTH}, {"lan": {"driver": "macvlan", "network_interface": ""}}, [], []),
        ({"lan": BOTH}, {"lan": None}, [], []),
        ({"lan": BOTH}, {}, [], []),
        ({}, {"lan": MACVLAN}, [], []),
        (
            {"b": {"IPAddress": "10.1.0.1"}, "a": {"IPAddress": "10.2.0.1"}, "c": {"IPAddress": "10.3.0.1"}},
            {"b": MACVLAN, "a": MACVLAN, "c": {"driver": "ipvlan", "network_interface": "bond0"}},
            ["bond0", "eth1"],
            ["10.1.0.1", "10.2.0.1", "10.3.0.1"],
        ),
    ],
)
def test_addresses_that_move_along_are_guarded(networks, known, devices, addresses) -> None:
    assert parents_and_addresses(networks, known) == (devices, addresses)
