"""Headless Chromium, driven over its debugging pipe: no driver, no port, nothing to install beside it."""

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

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 60


class Browser:
    """One tab.

    Args:
        commands: Where its commands go.
        messages: Where its answers and events come from.
    """

    def __init__(self, commands: int, messages: int) -> None:
        self._commands, self._messages = commands, messages
        self._number, self._buffer = 0, b""
        self._session: str | None = None
        self._loaded = 0
        self.requested: list[str] = []
        """Every address that it asked for."""
        self.said: list[str] = []
        """What stands on its console, errors and refusals among it."""
        target = self._do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._do(f"{domain}.enable")

    def resize(self, width: int, height: int = 900, *, dark: bool = False) -> None:
        """Make the window as large as that, and of the light or the dark mode."""
        self._do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._do("Emulation.setEmulatedMedia", features=[scheme])

    def allow_scripts(self, allowed: bool) -> None:
        """Let pages run scripts, or not."""
        self._do("Emulation.setScriptExecutionDisabled", value=not allowed)

    def open(self, address: str) -> None:
        """Go to an address and wait until the page is there."""
        before = self._loaded
        self._do("Page.navigate", url=address)
        self._await_load(before)

    def click(self, selector: str) -> None:
        """Click an element that leads to another page, and wait until that is there."""
        place = self.look(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            f" return [r.x + r.width / 2, r.y + r.height / 2]; }})(document.querySelector({json.dumps(selector)}))"
        )
        before = self._loaded
        for kind in ("mousePressed", "mouseReleased"):
            self._do("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)
        self._await_load(before)

    def type(self, selector: str, text: str) -> None:
        """Put text in the place of what stands in a field."""
        self.look(f"(e => {{ e.focus(); e.select(); }})(document.querySelector({json.dumps(selector)}))")
        if text:
            self._do("Input.insertText", text=text)
        else:
            for kind in ("keyDown", "keyUp"):
                self._do("Input.dispatchKeyEvent", type=kind, key="Delete", code="Delete", windowsVirtualKeyCode=46)

    def look(self, expression: str) -> Any:
        """The value of an expression on the page."""
        answer = self._do("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def text(self, selector: str = "body") -> str:
        """What a reader sees of an element."""
        return str(self.look(f"document.querySelector({json.dumps(selector)}).innerText"))

    def picture(self, file: Path) -> None:
        """Write the whole page as a PNG."""
        shot = self._do("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def _await_load(self, before: int) -> None:
        until = time.monotonic() + SECONDS
        while self._loaded == before:
            self._receive(until)

    def _do(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        until = time.monotonic() + SECONDS
        while True:
            message = self._receive(until)
            if message.get("id") == self._number:
                assert "result" in message, message
                return dict(message["result"])

    def _receive(self, until: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._messages], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            self._buffer += (part := os.read(self._messages, 1 << 20))
            assert part, "the browser is gone"
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, told: dict[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded += 1
        elif event == "Network.requestWillBeSent":
            self.requested.append(told["request"]["url"])
        elif event == "Log.entryAdded":
            self.said.append(f"{told['entry']['level']}: {told['entry']['text']}")
        elif event in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.said.append(json.dumps(told))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A browser for as long as the block lasts.

    Args:
        folder: For its profile and its log.
    """
    assert CHROMIUM is not None
    (reads, commands), (messages, writes) = os.pipe(), os.pipe()
    # It reads commands from descriptor 3 and writes to 4.
    program = f'exec "$@" 3<&{reads} 4>&{writes}'
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe"]
    options += [f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-c", program, "bash", CHROMIUM, *options], pass_fds=(reads, writes), stdout=log, stderr=log
        )
    os.close(reads)
    os.close(writes)
    try:
        yield Browser(commands, messages)
    finally:
        os.close(commands)  # then it ends by itself
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(messages)
