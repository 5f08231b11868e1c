"""A real browser for tests: headless Chromium, driven over the pipes of its DevTools protocol.

Chromium reads requests from file descriptor 3 and writes answers and events to descriptor 4, JSON
with a zero byte after each, so that neither a port nor a library is needed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECONDS = 60.0
"""How long anything may take before a test gives up; far more than it takes on a busy machine."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--remote-debugging-pipe",
)


def find_chromium() -> str | None:
    """The browser's executable, or None."""
    return next((path for name in _NAMES if (path := shutil.which(name))), None)


class Page:
    """The one tab of a running browser; what it logs, throws or fails to load is kept.

    Attributes:
        problems: Texts of console warnings and errors, of exceptions, and of log entries.
    """

    def __init__(self, write_to: int, read_from: int) -> None:
        self._write_to, self._read_from = write_to, read_from
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        self.problems: list[str] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        tab = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=tab, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request, and wait for its answer."""
        self._number += 1
        request = {"id": self._number, "method": method, "params": params}
        if self._session:
            request["sessionId"] = self._session
        content = json.dumps(request).encode() + b"\0"
        while content:
            content = content[os.write(self._write_to, content) :]
        end = time.monotonic() + SECONDS
        while True:
            message = self._receive(end)
            if message.get("id") == self._number:
                assert "error" not in message, f"{method}: {message['error']}"
                return dict(message["result"])

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self._read_from], [], [], left)
            assert ready, f"no answer from the browser within {SECONDS:.0f} s"
            chunk = os.read(self._read_from, 1 << 20)
            assert chunk, "the browser ended"
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(line)
        if "method" in message:
            self._events.append(message)
            self._note(message["method"], message["params"])
        return message

    def _note(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled" and params["type"] in ("warning", "error"):
            words = [str(item.get("value", item.get("description"))) for item in params["args"]]
            self.problems.append(" ".join(words))
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(str(details.get("exception", details)))
        if method == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.problems.append(params["entry"]["text"])

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is awaited."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def wait_for(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        end = time.monotonic() + SECONDS
        while not self.run(f"Boolean({expression})"):
            assert time.monotonic() < end, f"within {SECONDS:.0f} s, never: {expression}"
            time.sleep(0.02)

    def size(self, width: int, height: int = 900) -> None:
        """Give the window a size in CSS pixels; below 600 it is a telephone."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def media(self, *, scheme: str = "light", medium: str = "") -> None:
        """Set the reader's colour scheme, and ``print`` as the medium or the screen."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=medium, features=features)

    def open(self, file: Path) -> None:
        """Open a file from the disk, and wait until it is loaded; its problems start empty."""
        self._events.clear()
        self.problems.clear()
        self.call("Page.navigate", url=file.as_uri())
        end = time.monotonic() + SECONDS
        while not any(event["method"] == "Page.loadEventFired" for event in self._events):
            self._receive(end)

    def move(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x: float, y: float) -> None:
        """Click at a place in the window."""
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press ``Enter``, ``Escape`` or ``Tab``."""
        code = {"Enter": 13, "Escape": 27, "Tab": 9}[key]
        text = {"text": "\r"} if key == "Enter" else {}
        options = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **options, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **options)

    def screenshot(self, file: Path, *, is_whole: bool = True) -> bytes:
        """Write what the window shows, or the whole page, as a PNG; returns its bytes."""
        shown = self.call("Page.captureScreenshot", captureBeyondViewport=is_whole)
        content = base64.b64decode(shown["data"])
        file.write_bytes(content)
        return content

    def pdf(self, file: Path) -> bytes:
        """Write the page as a printer gets it."""
        printed = self.call("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
        content = base64.b64decode(printed["data"])
        file.write_bytes(content)
        return content


@contextmanager
def running_browser(executable: str, profile: Path) -> Iterator[Page]:
    """A browser with a profile of its own, ended afterwards.

    Args:
        executable: See `find_chromium`.
        profile: A folder that does not exist yet.
    """
    requests_out, requests_in = os.pipe()
    answers_out, answers_in = os.pipe()
    # A shell puts the two ends where the browser looks for them; Python's own way to run code
    # between fork and exec is not safe where threads are.
    command = f'exec "$@" 3<&{requests_out} 4>&{answers_in}'
    if requests_out == 4 or answers_in == 3:
        command = f'exec "$@" 13<&{requests_out} 14>&{answers_in} 3<&13 4>&14'
    with subprocess.Popen(
        ["bash", "-c", command, "bash", executable, *_OPTIONS, f"--user-data-dir={profile}"],
        pass_fds=(requests_out, answers_in),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    ) as process:
        os.close(requests_out)
        os.close(answers_in)
        try:
            yield Page(requests_in, answers_out)
        finally:
            # Without its pipe the browser ends; what does not is killed.
            os.close(requests_in)
            os.close(answers_out)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
