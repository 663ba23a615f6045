# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: the ferry.podman contributors

"""A page in Chromium without a window, by the browser's own protocol over two pipes."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import typing as t
from collections.abc import Iterator

Json = dict[str, t.Any]
SECONDS = 60.0

# As root it has no sandbox of its own; it shows only what tests have made. Nothing is to be asked of the network.
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def program() -> str | None:
    return shutil.which("chromium")


class Browser:
    """:param requests: addresses that the page has asked for.
    :param complaints: what the console says.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._pending = b""
        self._last = 0
        self._session: str | None = None
        self._events: list[Json] = []
        self.requests: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime", "Accessibility"):
            self.call(f"{domain}.enable")

    def open(self, path: pathlib.Path) -> None:
        self.requests, self.complaints, self._events = [], [], []
        self.call("Page.navigate", url=path.as_uri())
        end = time.monotonic() + SECONDS
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            if time.monotonic() > end:
                raise TimeoutError(f"{path} was not loaded in {SECONDS:.0f} s.")
            self._note(self._message())

    def look(self, width: int, *, height: int = 900, dark: bool = False, media: str = "screen") -> None:
        """Have the page as wide as this."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])

    def value(self, expression: str) -> t.Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"]))
        return result["result"].get("value")

    def roles(self) -> list[str]:
        """What those are told who do not see the page."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [node["role"]["value"] for node in nodes if not node["ignored"] and "role" in node]

    def picture(self, height: float | None = None) -> bytes:
        """PNG of the page, or of what is above this height."""
        wide, high = self.value("[innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": wide, "height": min(height or high, high), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(shot["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True)["data"])

    def call(self, method: str, **parameters: t.Any) -> Json:
        self._last += 1
        request: Json = {"id": self._last, "method": method, "params": parameters}
        if self._session is not None and not method.startswith(("Target.", "Browser.")):
            request["sessionId"] = self._session
        _write_all(self._to, json.dumps(request).encode() + b"\0")
        while True:
            message = self._message()
            if message.get("id") == self._last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return t.cast(Json, message["result"])
            self._note(message)

    def _message(self) -> Json:
        while b"\0" not in self._pending:
            received = os.read(self._from, 1 << 20)
            if not received:
                raise RuntimeError("The browser has ended.")
            self._pending += received
        message, _, self._pending = self._pending.partition(b"\0")
        return t.cast(Json, json.loads(message))

    def _note(self, message: Json) -> None:
        method, told = message.get("method"), message.get("params", {})
        if method is None:
            return
        self._events.append(message)
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        elif method == "Log.entryAdded":
            self.complaints.append(told["entry"]["text"])
        elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
            self.complaints.append(json.dumps(told))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """It is ended in any case, with all its processes."""
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True))
        its_in, to_browser = _pipe(stack)
        from_browser, its_out = _pipe(stack)
        command = [program() or "chromium", *OPTIONS, f"--user-data-dir={home}", "about:blank"]
        process = subprocess.Popen(
            # The browser wants its pipes to be 3 and 4.
            ["bash", "-c", f'exec "$@" 3<&{its_in} 4>&{its_out}', "browser", *command],
            pass_fds=(its_in, its_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": home},
        )
        stack.callback(_end, process)
        os.close(its_in)
        os.close(its_out)
        yield Browser(to_browser, from_browser)


def _pipe(stack: contextlib.ExitStack) -> tuple[int, int]:
    """Both ends above the numbers that the browser's ends are given."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10))
        os.close(end)
        stack.callback(_close, ends[-1])
    return ends[0], ends[1]


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
