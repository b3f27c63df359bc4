from collections import UserDict
from typing import Any

import h11
import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints

from trio_signal import ConfigurationError, LinkLost
from trio_signal._credentials import Credentials, Token
from trio_signal._errors import Remedy, remedy_for

SECRET = "s3cr3t-t0ken"
BASIC = "Basic dXNlcjpwYXNz"


async def headers_of(*arguments: Any) -> list[tuple[str, str]]:
    return await Credentials(*arguments).headers()


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Api-Key": "k", "X-Other": "o"},
        [("X-Api-Key", "k"), ("X-Other", "o")],
        (pair for pair in [("X-Api-Key", "k"), ("X-Other", "o")]),
        UserDict({"X-Api-Key": "k", "X-Other": "o"}),
    ],
    ids=["mapping", "pairs", "iterator", "another mapping"],
)
async def test_headers_go_with_every_request(headers: Any) -> None:
    credentials = Credentials(headers, None, None)
    for _ in range(2):
        assert await credentials.headers() == [("X-Api-Key", "k"), ("X-Other", "o")]
    assert not credentials.can_renew
    assert not await credentials.renew()


async def test_a_name_may_come_twice() -> None:
    pairs = [("X-Tag", "a"), ("x-tag", "b"), ("X-Empty", "")]
    assert await headers_of(pairs, None, None) == pairs


async def test_a_token_and_a_password_become_an_authorization() -> None:
    assert await headers_of({"X": "y"}, SECRET, None) == [("X", "y"), ("Authorization", f"Bearer {SECRET}")]
    assert await headers_of({"X": "y"}, None, BASIC) == [("X", "y"), ("Authorization", BASIC)]
    assert await headers_of({"Authorization": "Digest x"}, None, None) == [("Authorization", "Digest x")]
    assert await headers_of({}, None, None) == []


# --- Tokens that are asked for ---


class Source:
    """Gives one token after the other, and counts."""

    def __init__(self, *tokens: Any) -> None:
        self.tokens = list(tokens)
        self.calls = 0

    def now(self) -> Any:
        self.calls += 1
        token = self.tokens.pop(0)
        if isinstance(token, Exception):
            raise token
        return token

    async def later(self) -> Any:
        await trio.lowlevel.checkpoint()
        return self.now()


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_callable_is_asked_once_and_anew_when_told(is_async: bool) -> None:
    source = Source("one", "two")
    credentials = Credentials({}, source.later if is_async else source.now, None)
    assert credentials.can_renew
    assert source.calls == 0
    for _ in range(3):
        assert await credentials.headers() == [("Authorization", "Bearer one")]
    assert source.calls == 1
    assert await credentials.renew()
    assert await credentials.headers() == [("Authorization", "Bearer two")]
    assert source.calls == 2


BAD_TOKENS = [
    ValueError(SECRET),
    ConfigurationError("x", SECRET),
    None,
    b"bytes",
    5,
    "",
    " ",
    f"{SECRET}\n",
    f"{SECRET} ",
    f"{SECRET}\r\nX: y",
    f"{SECRET}ü",
    f"{SECRET}\udcff",
]


@pytest.mark.contract("C6")
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("bad", BAD_TOKENS, ids=ascii)
async def test_a_callable_that_fails_is_a_failed_attempt_and_tells_no_secret(
    bad: object, is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(bad, bad, "good")
    credentials = Credentials({}, source.later if is_async else source.now, None)
    for attempt in (credentials.headers, credentials.renew):
        with pytest.raises(LinkLost, match=r"^the token callable (failed|gave)") as caught:
            await attempt()
        assert remedy_for(caught.value) is Remedy.RETRY
        assert SECRET not in str(caught.value)
    assert SECRET not in caplog.text
    # The next attempt asks again.
    assert await credentials.headers() == [("Authorization", "Bearer good")]


async def test_a_callable_that_fails_later_leaves_the_token_before_it() -> None:
    credentials = Credentials({}, Source("one", ValueError()).now, None)
    await credentials.headers()
    with pytest.raises(LinkLost):
        await credentials.renew()
    assert await credentials.headers() == [("Authorization", "Bearer one")]


async def never() -> str:
    await trio.sleep_forever()
    raise AssertionError


async def test_a_callable_may_be_cancelled(autojump_clock: MockClock) -> None:
    credentials = Credentials({}, never, None)
    for attempt in (credentials.headers, credentials.renew):
        with trio.move_on_after(5) as scope:
            await attempt()
        assert scope.cancelled_caught


@pytest.mark.contract("C6")
async def test_a_callable_that_never_answers_is_a_failed_attempt(autojump_clock: MockClock) -> None:
    credentials = Credentials({}, never, None)
    start = trio.current_time()
    with pytest.raises(LinkLost, match=r"gave nothing within 20 s") as caught:
        await credentials.headers()
    assert trio.current_time() - start == 20
    assert remedy_for(caught.value) is Remedy.RETRY


@pytest.mark.parametrize("token", [None, SECRET, lambda: SECRET], ids=["none", "text", "callable"])
async def test_asking_is_a_checkpoint_whatever_there_is(token: Token | None) -> None:
    credentials = Credentials({}, token, None)
    for _ in range(2):
        with assert_checkpoints():
            await credentials.headers()
        with assert_checkpoints():
            await credentials.renew()


# --- What is refused, and how ---


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ("X: y", "give a mapping"),
        (b"X: y", "give a mapping"),
        (5, "give a mapping"),
        (None, "give a mapping"),
        (["X"], "pair"),
        (["Xy"], "pair"),
        ([("X",)], "pair"),
        ([("X", "y", "z")], "pair"),
        ([5], "pair"),
        ({"": "y"}, "no header name"),
        ({"X Y": "y"}, "no header name"),
        ({"X:": "y"}, "no header name"),
        ({"X\n": "y"}, "no header name"),
        ({"Ü": "y"}, "no header name"),
        ({5: "y"}, "no header name"),
        ({"Host": SECRET}, "Host is set by the protocol"),
        ({"connection": SECRET}, "set by the protocol"),
        ({"UPGRADE": SECRET}, "set by the protocol"),
        ({"Content-Length": SECRET}, "set by the protocol"),
        ({"Content-Type": SECRET}, "set by the protocol"),
        ({"Transfer-Encoding": SECRET}, "set by the protocol"),
        ({"Sec-WebSocket-Key": SECRET}, "set by the protocol"),
        ({"X-Key": f"{SECRET}\r\nY: z"}, "value of X-Key"),
        ({"X-Key": f"{SECRET}\0"}, "value of X-Key"),
        ({"X-Key": f" {SECRET}"}, "value of X-Key"),
        ({"X-Key": f"{SECRET}\t"}, "value of X-Key"),
        ({"X-Key": f"{SECRET}ü"}, "value of X-Key"),
        ({"X-Key": f"{SECRET}\x7f"}, "value of X-Key"),
        ({"X-Key": SECRET.encode()}, "value of X-Key"),
        ({"X-Key": None}, "value of X-Key"),
        ({"X-Key": 5}, "value of X-Key"),
    ],
    ids=ascii,
)
def test_a_wrong_header_is_refused_by_name_and_never_shown(headers: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        Credentials(headers, None, None)
    assert caught.value.argument == "headers"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "token",
    ["", " ", f"{SECRET}\n", f" {SECRET}", f"{SECRET} x", f"{SECRET}ü", SECRET.encode(), 5, True, [SECRET]],
    ids=ascii,
)
def test_a_wrong_token_is_refused_and_never_shown(token: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^token: ") as caught:
        Credentials({}, token, None)
    assert caught.value.argument == "token"
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "token", "authorization", "argument"),
    [
        ({"authorization": SECRET}, "t", None, "headers"),
        ({"AUTHORIZATION": SECRET}, lambda: "t", None, "headers"),
        ({"Authorization": SECRET}, None, BASIC, "headers"),
        ({}, SECRET, BASIC, "token"),
        ({}, lambda: SECRET, BASIC, "token"),
    ],
    ids=["header and token", "header and callable", "header and URL", "token and URL", "callable and URL"],
)
def test_two_authorizations_are_one_too_many(
    headers: dict[str, str], token: Token | None, authorization: str | None, argument: str
) -> None:
    with pytest.raises(ConfigurationError, match="choose one") as caught:
        Credentials(headers, token, authorization)
    assert caught.value.argument == argument
    assert SECRET not in str(caught.value)


def test_the_repr_shows_nothing() -> None:
    assert repr(Credentials({"X": SECRET}, SECRET, None)) == "<Credentials>"
    assert SECRET not in str(Credentials({"X": SECRET}, SECRET, None))


@given(st.one_of(st.text(max_size=20), st.text(st.characters(max_codepoint=255), max_size=20)), st.booleans())
def test_what_is_accepted_the_protocol_libraries_accept_too(text: str, as_name: bool) -> None:
    pair = (text, "value") if as_name else ("X-Name", text)
    try:
        Credentials([pair], None, None)
    except ConfigurationError:
        return
    h11.Request(method="GET", target="/", headers=[("Host", "h"), pair])
    request = httpx.Request("GET", "http://h/", headers=[pair])
    assert request.headers[pair[0]] == pair[1]


@given(st.one_of(st.text(max_size=20), st.text(st.characters(max_codepoint=127), max_size=20)))
def test_a_token_that_is_accepted_fits_a_header(text: str) -> None:
    try:
        credentials = Credentials({}, text, None)
    except ConfigurationError:
        return
    sent = trio.run(credentials.headers)
    h11.Request(method="GET", target="/", headers=[("Host", "h"), *sent])
    assert sent == [("Authorization", f"Bearer {text}")]
