# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The frame of every module, and the only file that knows AnsibleModule: options in, exceptions translated out."""

from __future__ import annotations

import contextlib
import traceback
import typing as t
from collections.abc import Iterator

from ansible.module_utils.basic import AnsibleModule, env_fallback, missing_required_lib

from ansible_collections.ferry.podman.plugins.module_utils._compat import Finding
from ansible_collections.ferry.podman.plugins.module_utils._errors import DependencyError, FerryError
from ansible_collections.ferry.podman.plugins.module_utils._host import LocalHost
from ansible_collections.ferry.podman.plugins.module_utils._libpod import Container, Json, LibpodClient
from ansible_collections.ferry.podman.plugins.module_utils._transport import Transport

# Must be kept in sync with doc_fragments/_connection.py.
CONNECTION: Json = {
    "url": {
        "type": "str",
        "default": "unix:///run/podman/podman.sock",
        "fallback": (env_fallback, ["CONTAINER_HOST"]),
    },
    "identity": {"type": "path", "fallback": (env_fallback, ["CONTAINER_SSHKEY"])},
    "known_hosts": {"type": "path"},
    "timeout": {"type": "int", "default": 600},
}


class FerryModule:
    """One run of a module.

    :param argument_spec: the options besides those of the connection.
    :param constraints: what AnsibleModule takes about how options go together.
    """

    def __init__(self, argument_spec: Json, **constraints: t.Any) -> None:
        self._module = AnsibleModule(
            argument_spec={**CONNECTION, **argument_spec}, supports_check_mode=True, **constraints
        )
        self.params: Json = self._module.params
        self.check_mode: bool = self._module.check_mode
        self.result: Json = {"changed": False}

    @contextlib.contextmanager
    def client(self) -> Iterator[LibpodClient]:
        """The service that the connection options name."""
        with self.connect(self.params["url"], self.params["identity"], self.params["known_hosts"]) as client:
            yield client

    @contextlib.contextmanager
    def connect(
        self,
        url: str,
        identity: str | None,
        known_hosts: str | None,
        jump: str | None = None,
        timeout: float | None = None,
    ) -> Iterator[LibpodClient]:
        """:param timeout: seconds, if not those of the options.
        :raises FerryError: if the URL or the connection is no good.
        """
        with Transport(
            url, timeout or self.params["timeout"], identity=identity, known_hosts=known_hosts, jump=jump
        ) as transport:
            yield LibpodClient(transport)

    @property
    def local_host(self) -> LocalHost:
        """Programs of the host that the module runs on."""

        def run(command: list[str]) -> tuple[int, str, str]:
            try:
                return t.cast("tuple[int, str, str]", self._module.run_command(command, handle_exceptions=False))
            except OSError as error:
                return 127, "", str(error)

        return LocalHost(run)

    def conceal(self, secret: str) -> None:
        """Have a secret that is no option's value blotted out of everything that is printed."""
        self._module.no_log_values.add(secret)

    def warn(self, findings: t.Iterable[Finding]) -> None:
        self.warn_of([finding.as_dict() for finding in findings])

    def warn_of(self, findings: list[Json]) -> None:
        for finding in findings:
            self._module.warn(f"[{finding['code']}] {finding['message']} {finding['remedy']}")

    def show_difference(self, before: t.Any, after: t.Any) -> None:
        """Have the change shown where diff mode is on."""
        self.result["diff"] = {"before": before, "after": after}

    def run(self, action: t.Callable[[FerryModule], None]) -> None:
        """Do it, and leave: the only way out of every module."""
        try:
            action(self)
        except DependencyError as error:
            self._module.fail_json(
                msg=missing_required_lib(error.library, reason=error.reason),
                exception=error.trace,
                **self.result,
            )
        except FerryError as error:
            self._module.fail_json(msg=str(error), exception=traceback.format_exc(), **{**self.result, **error.facts})
        self._module.exit_json(**self.result)


def select_containers(client: LibpodClient, params: Json, wanted: t.Callable[[Container], bool]) -> list[str]:
    """The names that ``name``, ``all`` or ``latest`` stand for. An empty list of names stands for none.

    :param wanted: which of all containers ``all`` means.
    :raises FerryError: if none of the three is given, or ``latest`` finds no container.
    """
    if params["name"] is not None:
        return list(dict.fromkeys(params["name"]))
    # Not by required_one_of, which takes the default of a switch for an answer.
    if not params["all"] and not params["latest"]:
        raise FerryError("No container is selected.", remedy="Give name, all or latest.")
    if params["latest"]:
        listed = client.containers()
        if not listed:
            raise FerryError("There is no container on this host, so there is no latest one.")
        return [max(listed, key=lambda entry: str(entry["Created"]))["Id"]]
    return [container.name for container in client.each_container() if wanted(container)]
