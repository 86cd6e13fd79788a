"""A headless Chromium that tests and benchmarks drive as a reader would: with a mouse, fingers and keys.

It is controlled through two pipes, in the Chrome DevTools Protocol: JSON messages that end with NUL.
Source: https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DESKTOP = (1280, 800)
PHONE = (390, 844)

_PATIENCE = 60.0
"""Seconds for an answer."""

_KEYS = {"Enter": ("Enter", 13, "\r"), "Tab": ("Tab", 9, ""), "Escape": ("Escape", 27, "")} | {
    f"Arrow{way}": (f"Arrow{way}", code, "") for way, code in (("Left", 37), ("Up", 38), ("Right", 39), ("Down", 40))
}


def find_chromium() -> str | None:
    """Return the program, or None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile, and end it after the block.

    Raises
    ------
    FileNotFoundError
        It is not installed.
    """
    program = find_chromium()
    if program is None:
        raise FileNotFoundError("Chromium is not installed")
    commands_in, commands_out = os.pipe()
    answers_in, answers_out = os.pipe()
    # Chromium reads from descriptor 3 and writes to 4; these must not be among those yet.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (commands_in, answers_out)]
    flags = ["--headless=new", "--no-sandbox", "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    flags += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-gpu"]
    flags += ["--autoplay-policy=user-gesture-required", "--force-color-profile=srgb", "--hide-scrollbars"]
    process = subprocess.Popen(
        [program, *flags, "about:blank"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: (os.dup2(ends[0], 3), os.dup2(ends[1], 4)),
        pass_fds=(3, 4),
        start_new_session=True,
    )
    for end in (commands_in, answers_out, *ends):
        os.close(end)
    try:
        yield Browser(commands_out, answers_in)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(commands_out)
        os.close(answers_in)


class Browser:
    """The connection to Chromium, through which all pages talk."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._numbers = itertools.count(1)
        self._unread = b""
        self._events: deque[dict[str, Any]] = deque()
        self.pages: dict[str, Page] = {}

    def open(self, address: str, size: tuple[int, int] = DESKTOP, *, dark: bool = False, **options: Any) -> Page:
        """Open a page, and wait until it is painted."""
        target = self.call("Target.createTarget", url="about:blank", newWindow=True)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session, target)
        page.begin(address, size, dark=dark, **options)
        return page

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._commands, content) :]
        while True:
            answer = self._next(_PATIENCE)
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                result: dict[str, Any] = answer["result"]
                return result

    def wait(self, seconds: float) -> None:
        """Take in what happens for some time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self._next(left)
            except TimeoutError:
                return

    def _next(self, seconds: float) -> dict[str, Any]:
        """Return the next message, after giving an event to its page."""
        end = time.monotonic() + seconds
        while b"\0" not in self._unread:
            if not select.select([self._answers], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            content = os.read(self._answers, 1 << 20)
            assert content, "Chromium ended"
            self._unread += content
        line, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if (page := self.pages.get(message.get("sessionId", ""))) is not None and "method" in message:
            page.events.append(message)
        return message


class Page:
    """A page in a window of its own, with everything that happened in it."""

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self.browser, self.session, self.target = browser, session, target
        self.events: list[dict[str, Any]] = []

    def begin(
        self,
        address: str,
        size: tuple[int, int],
        *,
        dark: bool,
        touch: bool = False,
        ratio: float = 1.0,
        downloads: Path | None = None,
        reduced_motion: bool = False,
        marker: str = "map-painted",
    ) -> None:
        """Set the page up and load it."""
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        width, height = size
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=ratio, mobile=touch
        )
        if touch:
            self.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
        self.call(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"},
            ],
        )
        self.load(address, downloads, marker)

    def load(self, address: str, downloads: Path | None = None, marker: str = "map-painted") -> None:
        """Load a page in place of the present one, if any, and forget what happened in that."""
        if downloads is not None:
            self.browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
        self.call("Page.bringToFront")
        self.events.clear()
        self.call("Page.navigate", url=address)
        painted = f"performance.getEntriesByName({marker!r}).length > 0"
        self.until(f"document.URL === {json.dumps(address)} && {painted}")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self.browser.call(method, self.session, **parameters)

    def __call__(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, (script, result["exceptionDetails"])
        return result["result"].get("value")

    def until(self, script: str, seconds: float = 30) -> Any:
        """Wait until an expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self(script)):
            assert time.monotonic() < end, f"{script} did not become true; {self.errors}"
            self.browser.wait(0.02)
        return value

    def settle(self) -> None:
        """Wait until the page has drawn what it was asked for."""
        self("new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(then))))")

    @property
    def errors(self) -> list[str]:
        """What the console shows as an error or warning, and exceptions that nobody caught."""
        found = []
        for event in self.events:
            content = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(json.dumps(content["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and content["entry"]["level"] in ("error", "warning"):
                found.append(f"{content['entry']['text']} {content['entry'].get('url', '')}")
            elif event["method"] == "Runtime.consoleAPICalled" and content["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(content["args"]))
        return found

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for, itself included."""
        sent = [event for event in self.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]

    def middle(self, selector: str) -> tuple[float, float]:
        """Return where the middle of an element is, scrolled into view."""
        box = self(
            f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
            " found.scrollIntoView({block: 'nearest'}); const box = found.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2, box.width]; })()"
        )
        assert box[2] > 0, f"{selector} is not visible"
        return box[0], box[1]

    def click(self, where: str | tuple[float, float]) -> None:
        """Click an element or a place with the mouse."""
        self.drag([self.middle(where) if isinstance(where, str) else where])

    def move(self, where: tuple[float, float]) -> None:
        """Move the mouse."""
        self._mouse("mouseMoved", where)
        self.settle()

    def drag(self, places: Sequence[tuple[float, float]], *, shift: bool = False) -> None:
        """Press the mouse button, move through places, and release it."""
        modifiers = 8 if shift else 0
        self._mouse("mouseMoved", places[0], modifiers=modifiers)
        self._mouse("mousePressed", places[0], button="left", buttons=1, clickCount=1, modifiers=modifiers)
        for place in places[1:]:
            self._mouse("mouseMoved", place, button="left", buttons=1, modifiers=modifiers)
        self._mouse("mouseReleased", places[-1], button="left", clickCount=1, modifiers=modifiers)
        self.settle()

    def wheel(self, where: tuple[float, float], lines: float) -> None:
        """Turn the wheel."""
        self._mouse("mouseWheel", where, deltaX=0, deltaY=lines)
        self.settle()

    def _mouse(self, kind: str, where: tuple[float, float], **options: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=where[0], y=where[1], **options)

    def touch(self, *fingers: Sequence[tuple[float, float]]) -> None:
        """Put fingers down, move each through its places, and lift them."""
        points = [[{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(step)] for step in zip(*fingers, strict=True)]
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=points[0])
        for step in points[1:]:
            self.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=step)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.settle()

    def press(self, *keys: str, shift: bool = False) -> None:
        """Press keys one after another: names such as ``Enter``, or characters."""
        for key in keys:
            name, code, text = _KEYS.get(key, (key, ord(key.upper()[0]), key))
            options = {"key": name, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
            self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **options)
            self.call("Input.dispatchKeyEvent", type="keyUp", **options)
        self.settle()

    def type(self, text: str) -> None:
        """Type a text at once, as from the clipboard."""
        self.call("Input.insertText", text=text)
        self.settle()

    def screenshot(self, path: Path) -> None:
        """Write what the page looks like as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """Close the page."""
        self.browser.call("Target.closeTarget", targetId=self.target)
        del self.browser.pages[self.session]


Opener = Callable[..., Page]
