# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

from __future__ import annotations

import pytest

from ansible_collections.ferry.podman.plugins.module_utils._addresses import addresses_of, with_addresses

LAN = {"IPAddress": "10.9.0.7", "GlobalIPv6Address": "", "MacAddress": "92:aa:bb:cc:dd:01"}


def test_address_that_podman_chose_becomes_the_containers_own(config_json) -> None:
    config = config_json(newNetworks={"lan": {"interface_name": "eth0", "aliases": ["db"]}})
    changed = with_addresses(config, {"lan": LAN})
    assert changed["newNetworks"] == {
        "lan": {
            "interface_name": "eth0",
            "aliases": ["db"],
            "static_ips": ["10.9.0.7"],
            "static_mac": "92:aa:bb:cc:dd:01",
        }
    }
    assert {**changed, "newNetworks": config["newNetworks"]} == config
    assert "static_ips" not in config["newNetworks"]["lan"]


def test_networks_that_have_nothing_to_tell_stay_as_they_are(config_json) -> None:
    options = {"static_ips": ["10.1.0.1"], "interface_name": "eth1"}
    config = config_json(newNetworks={"lan": {}, "other": options, "third": {}})
    networks = {"lan": LAN, "third": {"IPAddress": "", "MacAddress": ""}}
    changed = with_addresses(config, networks)["newNetworks"]
    assert (changed["other"], changed["third"]) == (options, {})
    assert changed["lan"]["static_ips"] == ["10.9.0.7"]


@pytest.mark.parametrize("changes", [{"newNetworks": None}, {"newNetworks": {}}])
def test_container_without_networks(config_json, changes) -> None:
    config = config_json(**changes)
    assert with_addresses(config, {"lan": LAN}) is config


def test_nothing_is_fixed_unless_it_is_asked_for(config_json) -> None:
    config = config_json()
    assert with_addresses(config, {}) is config


def test_every_address_of_a_network() -> None:
    settings = {
        "IPAddress": "10.9.0.7",
        "GlobalIPv6Address": "fd00::7",
        "SecondaryIPAddresses": [{"Addr": "10.8.0.7", "PrefixLength": 24}],
        "SecondaryIPv6Addresses": None,
    }
    assert addresses_of(settings) == ["10.9.0.7", "fd00::7", "10.8.0.7"]
