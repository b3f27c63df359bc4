import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_signal import ConfigurationError
from trio_signal._dial import Address, parse_url

SECRET = "hunter2"


def basic(pair: str) -> str:
    return "Basic " + base64.b64encode(pair.encode()).decode()


@pytest.mark.parametrize(
    ("url", "address", "text"),
    [
        ("http://127.0.0.1:8080", ("http", "127.0.0.1", 8080, ""), "http://127.0.0.1:8080"),
        ("http://127.0.0.1", ("http", "127.0.0.1", 80, ""), "http://127.0.0.1"),
        ("https://signal.example", ("https", "signal.example", 443, ""), "https://signal.example"),
        ("https://signal.example:443/", ("https", "signal.example", 443, ""), "https://signal.example"),
        ("https://signal.example:80", ("https", "signal.example", 80, ""), "https://signal.example:80"),
        ("http://signal.example:443", ("http", "signal.example", 443, ""), "http://signal.example:443"),
        ("ws://h:1/", ("http", "h", 1, ""), "http://h:1"),
        ("wss://h", ("https", "h", 443, ""), "https://h"),
        ("HTTP://Signal.Example/A/b/", ("http", "signal.example", 80, "/A/b"), "http://signal.example"),
        ("http://h/base//", ("http", "h", 80, "/base"), "http://h"),
        ("http://h:65535/a%20b/c;d=e,f", ("http", "h", 65535, "/a%20b/c;d=e,f"), "http://h:65535"),
        ("http://[::1]:8080/x", ("http", "::1", 8080, "/x"), "http://[::1]:8080"),
        ("https://[2001:db8::7]", ("https", "2001:db8::7", 443, ""), "https://[2001:db8::7]"),
        ("http://my_gateway-1.local.", ("http", "my_gateway-1.local.", 80, ""), "http://my_gateway-1.local."),
        (
            "http://xn--bcher-kva.example",
            ("http", "xn--bcher-kva.example", 80, ""),
            "http://xn--bcher-kva.example",
        ),
        ("  http://h:8080\n", ("http", "h", 8080, ""), "http://h:8080"),
        ("http://h:/", ("http", "h", 80, ""), "http://h"),
    ],
    ids=ascii,
)
def test_a_url_is_taken_apart(url: str, address: tuple[str, str, int, str], text: str) -> None:
    parsed = parse_url(url)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.path) == address
    assert parsed.authorization is None
    assert str(parsed) == text
    assert parsed.host_header == text.split("://")[1]


@pytest.mark.parametrize(
    ("userinfo", "pair"),
    [
        ("user:pass", "user:pass"),
        ("user", "user:"),
        ("user:", "user:"),
        (":pass", ":pass"),
        ("us%40er:p%3Aa%2Fss%25", "us@er:p:a/ss%"),
        ("us:er:pass", "us:er:pass"),
        ("j%C3%BCrgen:gr%C3%BC%C3%9Fe", "jürgen:grüße"),
        ("user@home:pass", "user@home:pass"),
    ],
)
def test_user_and_password_become_a_header_and_are_shown_nowhere(userinfo: str, pair: str) -> None:
    parsed = parse_url(f"https://{userinfo}@h:8443/secret-path")
    assert parsed.authorization == basic(pair)
    assert (parsed.host, parsed.port, parsed.path) == ("h", 8443, "/secret-path")
    shown = f"{parsed} {parsed!r} {parsed.host_header}"
    assert basic(pair) not in shown
    assert "secret-path" not in shown
    assert "pass" not in shown


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (None, "NoneType is not a str"),
        (b"http://h", "bytes is not a str"),
        (8080, "int is not a str"),
        ("", "begin with http"),
        ("h:8080", "begin with http"),
        ("127.0.0.1:8080", "begin with http"),
        ("//h", "begin with http"),
        ("/path", "begin with http"),
        ("ftp://h", "begin with http"),
        ("file:///etc/passwd", "begin with http"),
        ("http:h", "begin with http"),
        ("http:/h", "begin with http"),
        ("http://", "begin with http"),
        ("http://:8080", "begin with http"),
        ("http:///path", "begin with http"),
        ("http://user@", "begin with http"),
        ("http://h:0", "port 0"),
        ("http://h:65536", "cannot be read"),
        ("http://h:-1", "cannot be read"),
        ("http://h:eighty", "cannot be read"),
        ("http://[::1", "cannot be read"),
        ("http://[::g]", "cannot be read"),
        ("http://::1", "cannot be read"),
        ("http://h h", "no name or address"),
        ("http://h\0h", "no name or address"),
        ("http://bücher.example", "xn--"),
        ("http://h%00", "no name or address"),
        ("http://h*", "no name or address"),
        ("http://h\\x", "no name or address"),
        ("http://h?token=x", "not in a query"),
        ("http://h/?token=x", "not in a query"),
        ("http://h/#x", "not in a query"),
        ("http://h/a b", "percent-encoded"),
        ("http://h/ü", "percent-encoded"),
        ("http://h/\x7f", "percent-encoded"),
        ("http://user\udcff@h", "not valid Unicode"),
        ("http://user:\udcff@h", "not valid Unicode"),
    ],
    ids=ascii,
)
def test_a_url_that_is_none_is_refused(url: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse_url(url)
    assert caught.value.argument == "url"


@pytest.mark.parametrize(
    "url",
    [
        f"http://bob:{SECRET}/x@host",
        f"http://bob:{SECRET}",
        f"http://bob:{SECRET}@ho℀st",
        f"http://bob:{SECRET}@host:port",
        f"http://bob:{SECRET}@host:0",
        f"http://bob:{SECRET}@host:99999",
        f"http://bob:{SECRET}@[::1",
        f"http://bob:{SECRET}@[::g]",
        f"http://bob:{SECRET}@ho st",
        f"http://bob:{SECRET}@",
        f"http://bob:{SECRET}\udcff@host",
        f"http://host/?token={SECRET}",
        f"http://host/ü{SECRET}",
        f"gopher://bob:{SECRET}@host",
        f"{SECRET}",
    ],
    ids=ascii,
)
def test_a_wrong_url_is_never_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_url(url)
    error: BaseException | None = caught.value
    assert SECRET not in str(error)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(
    st.text(st.sampled_from(f"http://s:w@[]%?#. -_~é{SECRET}09\0\n\t\udcff\\"), max_size=40),
    st.sampled_from(["", "http://", "https://", "ws://h:80/", "http://u:p@h", "http://["]),
)
def test_any_text_is_an_address_or_a_named_error(text: str, start: str) -> None:
    try:
        address = parse_url(start + text)
    except ConfigurationError:
        return
    assert isinstance(address, Address)
    assert 0 < address.port < 65536
    for part in (address.host, address.path, address.authorization or "", address.host_header):
        assert part.isascii()
        assert part.isprintable()
        assert " " not in part.removeprefix("Basic ")
    assert not address.path.endswith("/")
    assert parse_url(f"{address}{address.path}").host == address.host
