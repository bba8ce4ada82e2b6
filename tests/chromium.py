"""A page in headless Chromium, told what to do over a pipe: what it logs and asks for, how wide it is."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run")
_TIMEOUT = 120  # seconds, after which a browser that hangs is stopped


class Page:
    """One tab. `logged`: what its console and the browser say of it; `requests`: every address asked for."""

    def __init__(self, commands: Any, replies: Any):
        self._commands, self._replies = commands, replies
        self._session: str | None = None
        self._number = 0
        self.logged: list[str] = []
        self.requests: list[str] = []
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, path: Path, width: int, height: int = 900) -> None:
        """Loads the file in a window of that size, to its end."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **metrics)
        self._call("Page.navigate", url=path.resolve().as_uri())
        self._read(until=lambda message: message.get("method") == "Page.loadEventFired")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"]["value"]

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        picture = self._call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(picture["data"]))

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        reply = self._read(until=lambda message: message.get("id") == number)
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def _read(self, until: Any) -> dict[str, Any]:
        while True:
            message = self._next()
            parameters = message.get("params", {})
            match message.get("method"):
                case "Network.requestWillBeSent":
                    self.requests.append(parameters["request"]["url"])
                case "Log.entryAdded":
                    self.logged.append(parameters["entry"]["text"])
                case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                    self.logged.append(json.dumps(parameters))
            if until(message):
                return message

    def _next(self) -> dict[str, Any]:
        data = bytearray()
        while (byte := self._replies.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("Expected Chromium to answer, got the end of its pipe.")
            data += byte
        return json.loads(data)


@contextlib.contextmanager
def chromium_page(profile: Path) -> Iterator[Page]:
    """A page of a browser of its own, whose profile is in the folder `profile`."""
    to_browser, commands = os.pipe()
    replies, from_browser = os.pipe()
    # It reads from descriptor 3 and writes to 4.
    shell = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
    browser = [BROWSER, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    command = ["bash", "-c", shell, str(to_browser), str(from_browser), *browser]
    process = subprocess.Popen(
        ["timeout", "-k", "5", str(_TIMEOUT), *command],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "XDG_RUNTIME_DIR": str(profile)},
    )
    os.close(to_browser)
    os.close(from_browser)
    with os.fdopen(commands, "wb") as write, os.fdopen(replies, "rb") as read:
        try:
            yield Page(write, read)
        finally:
            process.terminate()
            process.wait(30)
