# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""The exceptions of this collection.

Each one says what was being done, to what, what was found, and what to do about it.
Below the modules nothing else is raised on purpose; ``_module`` translates them, once, for Ansible.
"""

from __future__ import annotations

import typing as t


class FerryError(Exception):
    """Something that a user can be told about.

    :param message: what was being done, to what, and what was found.
    :param remedy: what the user can do about it; appended to the message.
    :param facts: JSON-serialisable values that the module returns beside ``msg``.
    """

    def __init__(self, message: str, *, remedy: str | None = None, **facts: t.Any) -> None:
        super().__init__(message if remedy is None else f"{message} {remedy}")
        self.message = message
        self.remedy = remedy
        self.facts: dict[str, t.Any] = {key: value for key, value in facts.items() if value is not None}


def described(error: Exception) -> str:
    """The text of an error for a message; one that nobody foresaw gets its name in front."""
    return str(error) if isinstance(error, FerryError) else f"{type(error).__name__}: {error}."


def facts_of(error: Exception) -> dict[str, t.Any]:
    return error.facts if isinstance(error, FerryError) else {}


class DependencyError(FerryError):
    """A Python library that this call needs is missing on this host.

    :param library: its name, as its distribution calls it.
    :param reason: what it is needed for.
    :param trace: the traceback of the failed import.
    """

    def __init__(self, library: str, reason: str, trace: str | None) -> None:
        super().__init__(f"The Python library {library} is missing {reason}.")
        self.library = library
        self.reason = reason
        self.trace = trace


class TransportError(FerryError):
    """The service could not be reached, or the connection broke.

    After this error it is not known whether the service carried the request out.
    """


class ProtocolError(TransportError):
    """Something answered, but not the way libpod does."""


class ApiError(FerryError):
    """libpod refused or failed a request.

    :param status: the HTTP status.
    :param cause: the server's innermost error text.
    """

    def __init__(self, message: str, *, status: int, cause: str, **facts: t.Any) -> None:
        super().__init__(message, status=status, cause=cause, **facts)
        self.status = status
        self.cause = cause


class NotFound(ApiError):
    """The container, image, network or volume does not exist (HTTP 404)."""


class UnsupportedParameter(FerryError):
    """A parameter that this server is too old for, and would ignore in silence."""


class ArchiveError(FerryError):
    """A checkpoint archive that is cut short, damaged, or not what it should be."""


class Refused(FerryError):
    """Found before anything was touched: the request cannot be carried out.

    :param findings: every reason, as ``_compat.Finding.as_dict`` gives them.
    """

    def __init__(self, message: str, findings: list[dict[str, t.Any]]) -> None:
        super().__init__(message, findings=findings)


class CheckpointFailed(FerryError):
    """The container could not be checkpointed; the message says in what state it was left."""


class RestoreFailed(FerryError):
    """The container could not be restored; the message says what was cleaned up."""


class RestoredAndEnded(RestoreFailed):
    """The container was restored, and its process has ended since.

    :param exit_code: 0 if it had done its work.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StartedAnew(RestoreFailed):
    """The container was restored, its process has ended, and its restart policy has started one without its memory."""


class OutcomeUnknown(RestoreFailed):
    """The service cannot be asked whether the container was restored: it may run."""


class MovedOn(OutcomeUnknown):
    """The container was restored, and somebody has taken a checkpoint of it since: it may run on a third host."""


class MigrationFailed(FerryError):
    """A move did not end on its destination; the message says where the container is now."""
