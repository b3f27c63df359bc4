"""The search for secrets in all logs finds what it should, and changes nothing for those who log."""

import logging
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Final

import pytest

from tests.canaries import EAR, FORMS, secrets_in
from tests.programs import environment
from trio_signal.hub import make_token
from trio_signal.hub.auth import Identity, Tickets

ROOT: Final = Path(__file__).parent.parent

TOKEN: Final = make_token(b"k" * 32, "me", ttl=60)
TICKET: Final = Tickets().issue(Identity("me", None))

SECRETS: Final = {
    "a JSON Web Token": f"refused {TOKEN} of me",
    "the value of an Authorization header": "(b'authorization', b'Bearer abc.def')",
    "a password in a URL": "GET http://me:word@127.0.0.1:80/x",
    "a ticket in a URL": "GET /websocket?since=1&ticket=abc",
    "a private key": "-----BEGIN EC PRIVATE KEY-----",
    "what may be a ticket or a key": f"issued {TICKET!r}",
    "a secret of the tests' own": "the header X-Key is s3cret-header",
}

HARMLESS: Final = (
    "",
    "connected to http://127.0.0.1:8080/base?since=1&epoch=Kx3vQ8sLw2mTz0aR as +15550100",
    "WWW-Authenticate: Bearer",
    "give a token: Authorization: Bearer <token>",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 is a digest",
    "01234567-89ab-cdef-0123-456789abcdef at 12:30:00+00:00",
    "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0=",
    "[::1]:8080 and http://[::1]:8080/ are addresses",
)


class Shown(logging.Handler):
    """Keeps what a handler would show."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.mark.parametrize("kind", FORMS)
def test_each_form_of_a_secret_is_found(kind: str) -> None:
    assert kind in secrets_in(SECRETS[kind])


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_is_not_taken_for_one(text: str) -> None:
    assert secrets_in(text) == []


@pytest.mark.parametrize("name", ["trio_signal.hub", "trio-websocket", "httpx", "anything"])
@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.ERROR])
def test_every_logger_is_heard_at_every_level_even_if_nobody_listens(name: str, level: int) -> None:
    with EAR.expecting() as leaks:
        logging.getLogger(name).log(level, "the token is %s", TOKEN)
    assert [leak.startswith(f"the logger {name} shows a JSON Web Token") for leak in leaks] == [True]


def test_tracebacks_fields_and_arguments_are_looked_through() -> None:
    logger = logging.getLogger("trio_signal.hub")
    with EAR.expecting() as leaks:
        try:
            raise ValueError(TOKEN)
        except ValueError:
            logger.debug("it went wrong", exc_info=True)
        logger.debug("who", extra={"token": TOKEN})
        logger.debug("%(token)s", {"token": TOKEN})
        logger.debug("where", stack_info=True)
    assert len(leaks) == 3


def test_what_others_get_is_what_they_would_have_got(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("a.library")
    shown = Shown()
    shown.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(shown)
    try:
        logger.debug("not wanted")
        logger.warning("wanted")
        with caplog.at_level(logging.DEBUG, "a.library"):
            logger.debug("wanted too")
            try:
                raise ValueError("x")
            except ValueError:
                logger.debug("with its traceback", exc_info=True)
    finally:
        logger.removeHandler(shown)
    assert shown.lines[:2] == ["WARNING wanted", "DEBUG wanted too"]
    assert shown.lines[2].startswith("DEBUG with its traceback\nTraceback (most recent call last):\n")
    assert [record.getMessage() for record in caplog.records] == [
        "wanted",
        "wanted too",
        "with its traceback",
    ]


def test_a_test_that_expects_a_leak_takes_no_other_one() -> None:
    with EAR.expecting() as outer:
        EAR.read(TOKEN, "somebody")
        with EAR.expecting() as inner:
            EAR.read(TICKET, "somebody else")
        assert (len(inner), len(EAR.take())) == (1, 1)
    assert outer == []


def test_the_test_in_which_a_secret_is_shown_fails(tmp_path: Path) -> None:
    """A session of its own, with the same settings."""
    (tmp_path / "test_leaks.py").write_text(
        dedent(f"""
        import logging, pytest

        @pytest.fixture
        def early():
            logging.getLogger("x").debug("{TICKET}")

        def test_silent(): logging.getLogger("x").debug("nothing of it")
        def test_logged(): logging.getLogger("x").debug("{TOKEN}")
        def test_printed(): print("{TOKEN}")
        def test_set_up(early): pass
        def test_silent_again(): pass
        """)
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run(  # a session within this one would share its ear
        [*command, "-p", "tests.conftest", f"--rootdir={tmp_path}", "-rA", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    told = set(re.findall(r"^(PASSED|FAILED|ERROR) \S+::(\w+)", done.stdout, re.MULTILINE))
    assert told >= {
        ("PASSED", "test_silent"),
        ("FAILED", "test_logged"),
        ("ERROR", "test_printed"),
        ("ERROR", "test_set_up"),
        ("PASSED", "test_silent_again"),
    }, done.stdout
    assert ("FAILED", "test_silent") not in told
    assert "the logger x shows a JSON Web Token" in done.stdout
