"""Chromium, and the programs that a page in it is tested against."""

import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Self

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, sync_playwright

from ..programs import environment

#: Seconds after which a test gives up what it waits for.
PATIENCE = 15.0

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str:
    """Return the path of a Chromium that is installed here."""
    for name in _NAMES:
        if path := shutil.which(name):
            return path
    raise FileNotFoundError(f"none of {', '.join(_NAMES)} is installed; `make test-real` brings one")


@contextmanager
def open_chromium() -> Generator[Browser]:
    """Run Chromium without a window for the length of a ``with``."""
    with sync_playwright() as playwright:
        # Without a sandbox it runs as root too, as in a container; it meets nothing but our own page.
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """A page in a browser of its own, and everything that it did beside being shown."""

    def __init__(self, context: BrowserContext) -> None:
        context.set_default_timeout(PATIENCE * 1000)
        # Runs before anything of the page, and is no part of what its policy is about.
        context.add_init_script(
            "window.violations = [];"
            "addEventListener('securitypolicyviolation', (event) => violations.push(event.blockedURI));"
        )
        self.page: Page = context.new_page()
        self.complaints: list[str] = []
        self.crashes: list[str] = []
        self.dialogs: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.crashes.append(str(error)))
        self.page.on("dialog", self._note_dialog)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def _note_dialog(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def open(self, url: str) -> Self:
        """Load the page."""
        self.page.goto(url)
        return self

    def text(self, selector: str) -> str:
        """Return an element's text with plain spaces."""
        return (self.page.text_content(selector) or "").replace("\u00a0", " ")

    def wait_state(self, state: str, *, of: str = "link") -> None:
        """Wait until the link (or ``own``, the page's own client) is shown in this state."""
        self.page.wait_for_selector(f"#{of}-state[data-state={state}]")

    def wait_text(self, selector: str, text: str) -> None:
        """Wait until an element's text has this in it."""
        self.until(lambda: text in self.text(selector), f"{selector} to say {text!r}")

    def until(self, condition: Callable[[], bool], what: str = "") -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited {PATIENCE} s in vain for {what or condition}"
            self.page.wait_for_timeout(20)

    def feed(self) -> list[str]:
        """Return what stands among the messages, oldest first: their texts, and gaps by their first words."""
        rows: list[str] = self.page.eval_on_selector_all(
            "#messages > li:not(.note)",
            "rows => rows.map((row) => (row.querySelector('.text') ?? row.querySelector('b')).textContent)",
        )
        return rows[::-1]

    def wait_feed(self, *rows: str) -> None:
        """Wait until this and nothing else stands among the messages, oldest first."""
        self.until(lambda: self.feed() == list(rows), f"the feed to be {rows}")

    @property
    def violations(self) -> list[str]:
        """What the page's policy has prevented."""
        found: list[str] = self.page.evaluate("window.violations")
        return found


class Part:
    """One of the programs of `hub_program`, which runs and takes orders."""

    def __init__(self, role: str, url: str = "", **options: object) -> None:
        given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.real.hub_program", role, f"--url={url}", *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
        self._unread = b""
        self.url: str = self.hear()["url"]

    def hear(self) -> dict[str, Any]:
        """Wait for the next thing that it says."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + PATIENCE
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the program says nothing"
            data = os.read(self._process.stdout.fileno(), 65536)
            assert data, "the program has ended"
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def do(self, **order: object) -> None:
        """Give it an order, and wait until that is done."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        self.hear()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def open_part(role: str, url: str = "", **options: object) -> Generator[Part]:
    """Run a program for the length of a ``with``."""
    part = Part(role, url, **options)
    try:
        yield part
    finally:
        part.kill()
