"""A Chromium without a window, spoken to by its own protocol over two pipes: no driver needed."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

Message = dict[str, Any]

# The browser reads its protocol from descriptor 3 and writes it to 4.
_ON_3_AND_4 = """
import os, sys
for given, wanted in zip(sys.argv[1:3], (3, 4)):
    os.dup2(int(given), wanted)
os.execv(sys.argv[3], sys.argv[3:])
"""


def found() -> str | None:
    """Returns the path of a Chromium, or of Chrome; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Yields the address at which Python's plain file server shows a folder."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        [*command, "--directory", folder], stdout=-1, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout
            found = re.search(r"port (\d+)", server.stdout.readline())
            assert found
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            server.terminate()


@contextlib.contextmanager
def opened(profile: Path) -> Iterator[Page]:
    """Yields a tab; the test is skipped where there is no browser."""
    program = found()
    if program is None:
        pytest.skip(f"none of {', '.join(NAMES)} on the search path")
    page = Page(program, profile)
    try:
        yield page
    finally:
        page.close()


class Page:
    """One tab of a browser of its own.

    Attributes:
        events: What the browser told so far unasked: requests, errors, messages of scripts.
    """

    def __init__(self, program: str, profile: Path) -> None:
        """Starts the browser; `profile` is an empty folder for what it keeps."""
        read, to_write = os.pipe()
        to_read, write = os.pipe()
        flags = [
            "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={profile}",
            "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1100,800",
            "--disable-background-networking", "--disable-component-update",
            "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
        ]  # fmt: skip
        if os.geteuid() == 0:
            flags.append("--no-sandbox")  # It refuses the sandbox to root.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _ON_3_AND_4, str(read), str(write), program, *flags],
            pass_fds=(read, write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._to, self._from = to_write, to_read
        self._buffer, self._number, self._session = b"", 0, None
        self.events: list[Message] = []
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self._session = attached["sessionId"]
            for domain in ("Page", "Runtime", "Network", "DOM", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Ends the browser."""
        self._session = None
        # One that has ended already gives no answer; one that does not end is killed.
        with contextlib.suppress(OSError, RuntimeError, subprocess.TimeoutExpired):
            self.call("Browser.close")
            self._process.wait(timeout=20)
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def call(self, method: str, **parameters: Any) -> Message:
        """Returns the answer to a method of the protocol."""
        self._number += 1
        message: Message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 120
        while True:
            answer = self._received(deadline)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, address: str) -> None:
        """Goes to an address, forgets what was told before, and returns when it is loaded."""
        self.events.clear()
        self.call("Page.navigate", url=address)
        deadline = time.monotonic() + 300
        while not self.told("Page.loadEventFired"):
            self.events.append(self._received(deadline))

    def run(self, script: str) -> Any:
        """Returns what an expression of the page's gives, promises awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if failed := answer.get("exceptionDetails"):
            raise RuntimeError(failed.get("exception", failed).get("description", str(failed)))
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = 300) -> Any:
        """Returns what an expression gives as soon as it is true."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(script)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{script} in {self.run('document.body.innerText')!r}")
            time.sleep(0.05)
        return value

    def choose(self, selector: str, file: Path) -> None:
        """Gives a file to a file input, as its dialogue does."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(file)], nodeId=node)

    def drop(self, selector: str, file: Path) -> None:
        """Drags a file over the middle of an element and drops it there."""
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.run(f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({box})")
        data = {"items": [], "files": [str(file)], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Presses and releases a key."""
        told = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
        self.call("Input.dispatchKeyEvent", type="keyUp", **told)

    def type(self, selector: str, text: str) -> None:
        """Puts a text in the place of what a field holds, as a paste does."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def resize(self, width: int, height: int = 900) -> None:
        """Sets the size of the page in pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def shoot(self, file: Path) -> None:
        """Writes what the page looks like, a PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def told(self, method: str) -> list[Message]:
        """Returns the parameters of all events of one kind so far."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def _received(self, deadline: float) -> Message:
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], deadline - time.monotonic())[0]:
                raise TimeoutError("Chromium does not answer.")
            if not (more := os.read(self._from, 1 << 16)):
                raise RuntimeError("Chromium ended.")
            self._buffer += more
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)
