# Copyright: the ferry.podman contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Private to this collection: nothing here is an interface for others.

"""What a host does for memory that comes to it beside the archive, and channels that bring it there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import select
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.ferry.podman.plugins.module_utils._errors import FerryError, TransportError
from ansible_collections.ferry.podman.plugins.module_utils._transport import Transport

MEMORY = "/run/ferry.podman"
"""Where a file system in memory is mounted for CRIU's images."""

CHECKPOINT = "checkpoint"
"""The directory with the images of the dump that stops the container."""

RECEIVE = (
    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin; export PATH LC_ALL=C; umask 077; "
    "read -r what place id dir name how || exit 2; "
    "case $what:$place in unlink:/*/volumes/*/_data) ;; unlink:*) exit 2 ;; "
    "*:/run/ferry.podman|*:/ferry.podman|*:/*/ferry.podman) ;; *) exit 2 ;; esac; "
    "case $place/$dir/$name/$how in *[!a-zA-Z0-9._/-]*|*/..*) exit 2 ;; esac; "
    "case $dir in */*) exit 2 ;; esac; "
    "case $id in *[!0-9a-f]*) exit 2 ;; ????????????*) ;; *) exit 2 ;; esac; "
    "d=$place/$id/$dir; "
    "wipe() { for f in $*; do [ ! -f $f ] || true >$f; done; }; "
    "case $what in "
    "make) mkdir -p $place || exit 3; "
    "if [ $place = /run/ferry.podman ]; then exec 9>>/run/ferry.podman.lock; flock -w 30 9 || exit 3; "
    "mountpoint -q $place || mount -t tmpfs -o mode=700,size=90% ferry.podman $place || exit 3; "
    "while read -r k v u; do case $k in MemAvailable:) free=$v ;; esac; done </proc/meminfo; "
    "else exec 9<$place; flock -w 30 9 || exit 3; "
    "free=$(df -Pk $place | { read -r x; read -r x x x v x; echo $v; }); fi; "
    "[ $free -ge 0 ] || exit 3; wipe $place/$id/*/*; rm -rf $place/$id || exit 3; "
    "for o in $place/*/claim; do n=0; read -r n 2>/dev/null <$o || continue; u=$(du -sk ${o%/claim} 2>/dev/null); "
    "u=${u%%[!0-9]*}; [ ${n:-0} -le ${u:-0} ] || free=$((free - n + ${u:-0})); done; "
    "if [ $name -gt $free ]; then echo short $free; exit; fi; "
    "mkdir -p $d && echo $name >$place/$id/claim || exit 3; "
    "[ ! -d /sys/fs/selinux ] || chcon -R --reference=$how $place/$id || exit 3; echo made ;; "
    "file) set -C; case $how in zstd) zstd -dcq >$d/$name ;; *) cat >$d/$name ;; esac || exit 3; "
    "stat -c %s $d/$name ;; "
    "round) wipe $d/*; rm -rf $d; mkdir $d || exit 3; "
    "case $name in -) ;; *) ln -s ../$name $d/parent || exit 3 ;; esac; echo begun ;; "
    "tar) tar -xf - -C $d && cd $d && stat -c %s:%n * || exit 3 ;; "
    "nowhere) cat >/dev/null; echo done ;; "
    "unlink) cd $place && xargs -0 -r rm -rf -- || exit 3; echo unlinked ;; "
    "drop) wipe $place/$id/*/*; rm -rf $place/$id || exit 3; rmdir $place 2>/dev/null; echo dropped ;; "
    "*) exit 2 ;; esac"
)
"""One line for sh; a forced command of an ssh key may be just this. It reads what to do from its first line of input:

- ``make PLACE ID DIR KIB REFERENCE``: an empty directory for a container's images, with a claim on so many KiB that
  counts for others that ask; ``made``, or ``short`` and what is left. It gets the SELinux label of the reference.
- ``round PLACE ID DIR PARENT``: one more directory, whose images are what has changed since those of the parent; ``-``
  for none. ``begun``.
- ``file PLACE ID DIR NAME HOW``: the rest of the input is the file; how is ``none`` or ``zstd``. Its size.
- ``tar PLACE ID DIR``: the rest of the input is a tar of files. The size and name of every file that is there now.
- ``nowhere PLACE ID``: the rest of the input is thrown away, to measure the link.
- ``unlink PLACE``: the rest of the input are names of files in a volume, each with a zero byte behind it, which are
  removed; ``unlinked``.
- ``drop PLACE ID``: nothing of it stays.

What is removed is emptied first: who still writes to it, over a link that was cut, keeps no memory then. Without quotes
and backslashes, as ``_host.PROBE``.
"""

MAKE_LIMIT = 60.0
"""Seconds in which a directory must be there or gone."""

PIPE = 1024 * 1024
"""Bytes that the pipe to ssh takes, where the kernel allows it; fewer turns between the two."""

F_SETPIPE_SZ = 1031
POLL = 0.2


class Short(FerryError):
    """A place has not enough room.

    :param free: bytes that are left there.
    """

    def __init__(self, place: str, free: int) -> None:
        super().__init__(f"{place} has {free // 1_000_000} MB left.")
        self.free = free


class Receiver:
    """One host that images are put on.

    :param transport: to its service; the host is the service's.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def make(self, place: str, ident: str, size: int, reference: str) -> None:
        """Have an empty directory for a container's images; what an earlier run left of it is gone then.

        :param size: bytes that it will take at most, and what comes of them.
        :param reference: a path whose SELinux label it gets.
        :raises Short: if there is not so much room.
        :raises TransportError: if the host cannot, or must not, do it.
        """
        answer = self._ask(f"make {place} {ident} {CHECKPOINT} {size // 1024} {reference}").split()
        if answer[:1] == ["short"] and answer[1].lstrip("-").isdecimal():
            raise Short(place, int(answer[1]) * 1024)
        if answer != ["made"]:
            raise TransportError(f"No directory could be made in {place}: {' '.join(answer)}")

    def begin_round(self, place: str, ident: str, directory: str, parent: str | None) -> None:
        """Have one more directory beside the others.

        :param parent: the name of that with the images before; None for none.
        :raises TransportError: if it cannot be made.
        """
        answer = self._ask(f"round {place} {ident} {directory} {parent or '-'} -")
        if answer != "begun":
            raise TransportError(f"No directory {directory} could be made in {place}: {answer}")

    def drop(self, place: str, ident: str) -> None:
        """:raises TransportError: if it cannot be removed."""
        answer = self._ask(f"drop {place} {ident} {CHECKPOINT} - -")
        if answer != "dropped":
            raise TransportError(f"{place}/{ident} could not be removed: {answer}")

    def _ask(self, line: str) -> str:
        if self._transport.forward is not None:
            return self._transport.forward.run(RECEIVE, line + "\n", MAKE_LIMIT)
        try:
            done = subprocess.run(
                ["sh", "-c", RECEIVE],
                input=line + "\n",
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=MAKE_LIMIT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise TransportError(f"sh could not be run: {error}") from error
        return done.stdout.strip() if done.returncode == 0 else f"exit status {done.returncode} {done.stdout.strip()}"

    def channel(self) -> Channel:
        """A channel over the connection that is there already.

        :raises TransportError: if there is none.
        """
        if self._transport.forward is None:
            raise TransportError("The destination is not reached over ssh.")
        said = tempfile.TemporaryFile()
        return Channel(self._transport.forward.begin(RECEIVE, said), said, self._transport.timeout)


class Channel:
    """One stream to a process on the other host.

    :param said: takes what it says of errors.
    :param timeout: seconds in which it must take the next byte, or give its answer.
    """

    def __init__(self, process: subprocess.Popen[bytes], said: t.IO[bytes], timeout: float) -> None:
        self._process = process
        self._said = said
        self._timeout = timeout
        self._aborted = False
        self._input = t.cast("t.IO[bytes]", process.stdin)
        self._pipe = self._input.fileno()
        os.set_blocking(self._pipe, False)
        with contextlib.suppress(OSError):
            # More than fs.pipe-max-size is refused to users other than root.
            fcntl.fcntl(self._pipe, F_SETPIPE_SZ, PIPE)

    def send(self, data: bytes) -> None:
        """:raises TransportError: if the other side does not take it."""
        view = memoryview(data)
        while view:
            view = view[self._patiently(functools.partial(os.write, self._pipe, view)) :]

    def send_file(self, descriptor: int, offset: int, size: int) -> int:
        """Send a part of a file without copying it; how many bytes went, which can be fewer.

        :raises TransportError: if the other side does not take it.
        """
        return self._patiently(lambda: os.sendfile(self._pipe, descriptor, offset, size))

    def _patiently(self, action: t.Callable[[], int]) -> int:
        end = time.monotonic() + self._timeout
        while not self._aborted:
            try:
                return action()
            except BlockingIOError:
                if time.monotonic() > end:
                    raise TransportError(
                        f"The destination has taken nothing of the memory for {self._timeout:.0f} s."
                    ) from None
                self._wait_for_room()
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise TransportError(f"The memory could not be sent: {error}") from error
                raise self._broken() from None
        raise TransportError("The memory was not sent any further.")

    def _wait_for_room(self) -> None:
        poll = select.poll()
        poll.register(self._pipe, select.POLLOUT)
        poll.poll(POLL * 1000)

    def finish(self) -> str:
        """Tell it that this was all, and return its answer.

        :raises TransportError: if it does not answer, or says that it failed.
        """
        self._input.close()
        self._process.stdin = None
        try:
            answer = self._process.communicate(timeout=self._timeout)[0]
        except subprocess.TimeoutExpired:
            raise TransportError(
                f"The destination has not said for {self._timeout:.0f} s that it has the memory."
            ) from None
        if self._process.returncode != 0:
            raise self._broken()
        self._said.close()
        return answer.decode(errors="replace").strip()

    def _broken(self) -> TransportError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        self._said.seek(0)
        said = self._said.read(4096).decode(errors="replace").strip()
        status = f"exit status {self._process.returncode}"
        return TransportError(f"The destination could not receive the memory: {said or status}.")

    def abort(self) -> None:
        """End it, whatever it is at; never raises. Who is sending on another thread gets an error."""
        self._aborted = True
        with contextlib.suppress(OSError):
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
