"""The hub's page in Chromium, against a hub and a gateway that are processes of their own."""

import json
import re
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from trio_signal.hub import make_token

from .browser import Part, Tab, open_chromium, open_part

OpenTab = Callable[..., Tab]


@pytest.fixture(scope="module")
def chromium() -> Generator[Browser]:
    with open_chromium() as browser:
        yield browser


@pytest.fixture
def open_tab(chromium: Browser) -> Iterator[OpenTab]:
    """Open tabs that share nothing. Whatever they show, nothing of it may crash or be against the policy."""
    tabs: list[Tab] = []
    with ExitStack() as contexts:

        def open_one(**options: Any) -> Tab:
            context = chromium.new_context(**options)
            contexts.callback(context.close)
            tabs.append(Tab(context))
            return tabs[-1]

        yield open_one
        for tab in tabs:
            assert (tab.crashes, tab.dialogs, tab.violations) == ([], [], [])


@pytest.fixture
def gateway() -> Iterator[Part]:
    with open_part("gateway") as part:
        yield part


@pytest.fixture
def hub(gateway: Part) -> Iterator[Part]:
    with open_part("hub", gateway.url) as part:
        yield part


@pytest.fixture
def proxy(hub: Part) -> Iterator[Part]:
    with open_part("proxy", hub.url) as part:
        yield part


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return new_key(tmp_path / "key")


def new_key(path: Path) -> Path:
    path.write_text(secrets.token_hex(32))
    path.chmod(0o600)
    return path


def token_of(key_file: Path) -> str:
    return make_token(key_file.read_text(), "a reader", ttl=3600)


LONG = "x" * 4000
STRANGE: list[Any] = [
    {
        "envelope": {
            "sourceName": "N" * 500,
            "sourceNumber": "+1" + "5" * 300,
            "dataMessage": {"message": LONG},
        }
    },
    {"envelope": {"dataMessage": {"message": "lines\n" * 500, "groupInfo": {"groupName": "G" * 500}}}},
    {"envelope": {"dataMessage": {"message": "Z" + "\u0300\u0316" * 200}}},
    {"unheard of": [LONG, {"deep": {"deeper": None}}]},
    "no JSON at all \x07 <b>",
]


# --- what it shows ---


def test_it_loads_from_the_hub_alone_and_shows_that_all_is_well(hub: Part, open_tab: OpenTab) -> None:
    tab = open_tab()
    with tab.page.expect_response(hub.url + "/") as answered:
        tab.open(hub.url)
    policy = answered.value.header_value("content-security-policy") or ""
    assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
    tab.wait_state("CONNECTED")
    tab.wait_state("CONNECTED", of="own")
    assert tab.text("#link-state") == tab.text("#own-state") == "Connected"
    assert tab.text("#link-spoken") == "Link to the gateway: connected"
    assert tab.text("#account").startswith("+15550001")
    tab.wait_text("#clients", "(this page)")
    assert tab.text("#clients-count") == "1"
    assert tab.page.title().startswith("Connected: +15550001")
    assert {url.split("://")[1].split("/")[0] for url in tab.requests if not url.startswith("data:")} == {
        hub.url.removeprefix("http://")
    }
    assert tab.complaints == []


@pytest.mark.contract("L4")
def test_a_lost_link_is_seen_with_its_countdown_and_its_gap(gateway: Part, open_tab: OpenTab) -> None:
    with open_part("hub", gateway.url, delay=3.0) as hub:
        tab = open_tab().open(hub.url)
        tab.wait_state("CONNECTED")
        gateway.do(texts=["before"])
        tab.wait_feed("before")
        gateway.do(up=False)
        tab.wait_state("RECONNECTING")
        tab.until(lambda: tab.text("#link-next").startswith("in "))
        assert int(tab.text("#link-attempt")) >= 1
        assert tab.text("#link-error") != "none"
        assert tab.page.title().startswith("Not connected (reconnecting)")
        assert tab.text("#link-spoken") == "Link to the gateway: lost, trying again"
        # The page's own connection is another, and stands.
        assert tab.text("#own-state") == "Connected"
        gateway.do(up=True)
        tab.wait_state("CONNECTED")
        gateway.do(texts=["after"])
        tab.wait_feed("before", "Gap at #2", "after")
        tab.wait_text("#gaps", "the gateway keeps nothing while the hub is away")
        assert tab.text("#gaps-count") == "1"
        spans = "spans => spans.map((span) => span.dataset.state)"
        shown: list[str] = tab.page.eval_on_selector_all("#strip [data-state]", spans)
        assert set(shown) == {"CONNECTED", "DISCONNECTED", "RECONNECTING", "SYNCING"}
        assert shown[-1] == "CONNECTED"
        tab.page.click("summary")
        assert re.search("the connection was lost|closed by the other side", tab.text("#changes"))


@pytest.mark.contract("R2", "H4")
def test_a_page_that_was_away_gets_exactly_what_it_missed(
    gateway: Part, hub: Part, proxy: Part, open_tab: OpenTab
) -> None:
    away, present = open_tab().open(proxy.url), open_tab().open(hub.url)
    for tab in (away, present):
        tab.wait_state("CONNECTED", of="own")
    gateway.do(texts=["1", "2", "3"])
    away.wait_feed("1", "2", "3")
    proxy.do(closed=True)
    away.wait_state("RECONNECTING", of="own")
    gateway.do(texts=["4", "5", "6"])
    present.wait_feed("1", "2", "3", "4", "5", "6")
    assert away.feed() == ["1", "2", "3"]
    proxy.do(closed=False)
    away.wait_state("CONNECTED", of="own")
    away.wait_feed("1", "2", "3", "4", "5", "6")
    tagged = away.page.eval_on_selector_all(
        "#messages > li:has(.tag)", "rows => rows.map((row) => row.querySelector('.text').textContent)"
    )
    assert tagged == ["6", "5", "4"]
    assert "3 messages fetched from the log" in away.text("#messages")
    gateway.do(texts=["7"])
    away.wait_feed("1", "2", "3", "4", "5", "6", "7")


@pytest.mark.contract("R4", "H5")
def test_what_the_hub_no_longer_had_is_a_gap_in_its_place(gateway: Part, open_tab: OpenTab) -> None:
    with open_part("hub", gateway.url, keep=3) as hub, open_part("proxy", hub.url) as proxy:
        tab = open_tab().open(proxy.url)
        tab.wait_state("CONNECTED", of="own")
        gateway.do(texts=["1"])
        tab.wait_feed("1")
        proxy.do(closed=True)
        tab.wait_state("RECONNECTING", of="own")
        gateway.do(texts=["2", "3", "4", "5", "6"])
        proxy.do(closed=False)
        tab.wait_feed("1", "Gap #2 to #3", "4", "5", "6")
        assert "more came than the hub keeps" in tab.text("#messages .gap")


def test_a_hub_that_does_not_answer_is_not_called_connected(
    hub: Part, proxy: Part, open_tab: OpenTab
) -> None:
    tab = open_tab().open(proxy.url)
    tab.wait_state("CONNECTED")
    proxy.do(closed=True)
    tab.wait_state("UNKNOWN")
    assert "last known: Connected" in tab.text("#link-since")
    assert "The hub does not answer" in tab.text("#alarm")
    assert tab.text("#link-spoken") == "Link to the gateway: unknown, the hub does not answer"
    proxy.do(closed=False)
    tab.wait_state("CONNECTED")
    assert tab.page.is_hidden("#alarm")


def test_the_feed_is_bounded_and_can_be_paused(gateway: Part, hub: Part, open_tab: OpenTab) -> None:
    tab = open_tab().open(hub.url)
    tab.wait_state("CONNECTED", of="own")
    gateway.do(texts=[str(number) for number in range(230)])
    tab.wait_feed(*(str(number) for number in range(30, 230)))
    tab.page.click("#pause")
    gateway.do(texts=["new", "newer"])
    tab.wait_text("#pause", "Go on, 2 new")
    assert tab.feed()[-1] == "229"
    tab.page.click("#pause")
    tab.wait_feed(*(str(number) for number in range(32, 230)), "new", "newer")
    assert tab.text("#pause") == "Pause"
    # A page that is opened now begins with as many.
    late = open_tab().open(hub.url)
    late.wait_feed(*(str(number) for number in range(32, 230)), "new", "newer")


# --- whom it trusts ---

EVIL = [
    "<script>window.evil = 1</script>",
    '<img src="x" onerror="window.evil = 1">',
    "<svg onload='window.evil = 1'><animate onbegin='window.evil = 1' attributeName='x'/></svg>",
    '<a href="javascript:window.evil=1">press</a> javascript:window.evil=1',
    "</p></li></ol><iframe srcdoc='<script>parent.evil = 1</script>'></iframe>",
    "{{constructor.constructor('window.evil = 1')()}} ${window.evil = 1}",
    "\u202egnp.exe\u202c \u2066\u2067\u2068 open \u2069\u2069\u2069\u2069 \u200f\u202ethe end",
    "nul \x00 escape \x1b[31m bell \x07 line\u2028separator",
]


@pytest.mark.parametrize("place", ["message", "sourceName", "groupName", "raw"])
def test_nothing_in_a_message_can_run(place: str, gateway: Part, hub: Part, open_tab: OpenTab) -> None:
    frames: list[Any] = []
    for text in EVIL:
        letter: dict[str, Any] = {"message": text if place == "message" else "hi"}
        if place == "groupName":
            letter |= {"groupInfo": {"groupName": text}}
        envelope: dict[str, Any] = {"sourceNumber": "+15550002", "sourceName": "Eve", "dataMessage": letter}
        if place == "sourceName":
            envelope["sourceName"] = text
        frames.append(text if place == "raw" else {"envelope": envelope})
    tab = open_tab().open(hub.url)
    tab.wait_state("CONNECTED", of="own")
    tab.page.evaluate("window.evil = 0")
    gateway.do(frames=frames)
    tab.until(lambda: tab.page.locator("#messages > li").count() == len(EVIL))
    assert tab.page.evaluate("window.evil") == 0
    assert tab.page.locator("#messages :is(script, img, iframe, a, animate, b)").count() == 0
    shown = tab.text("#messages")
    for text in EVIL[:6]:
        assert text[:60] in shown
    assert "\x1b" not in shown
    assert tab.complaints == []


def test_direction_marks_reach_no_further_than_their_message(
    gateway: Part, hub: Part, open_tab: OpenTab
) -> None:
    tab = open_tab().open(hub.url)
    tab.wait_state("CONNECTED", of="own")
    name = "\u202eeve\u2069\u2069\u202e"
    letter = {"message": "\u202e\u2067abc", "groupInfo": {"groupName": "\u202egroup"}}
    gateway.do(
        frames=[{"envelope": {"sourceNumber": "+15550002", "sourceName": name, "dataMessage": letter}}]
    )
    tab.until(lambda: len(tab.feed()) == 1)
    places: list[float] = tab.page.eval_on_selector_all(
        "#messages .about > *", "parts => parts.map((part) => part.getBoundingClientRect().left)"
    )
    assert len(places) == 5
    assert places == sorted(places)
    isolated = "parts => parts.map((part) => [getComputedStyle(part).unicodeBidi, part.dir])"
    assert tab.page.eval_on_selector_all("#messages .outside", isolated) == [["isolate", "auto"]] * 4


@pytest.mark.contract("H9")
def test_with_a_key_there_is_a_form_and_nothing_else(
    gateway: Part, key_file: Path, open_tab: OpenTab
) -> None:
    token = token_of(key_file)
    with open_part("hub", gateway.url, key_file=key_file) as hub:
        tab = open_tab().open(hub.url)
        tab.page.wait_for_selector("#token:focus")
        assert tab.page.locator("main:visible").inner_text().split("\n")[0] == "trio_signal hub"
        assert "15550001" not in tab.page.content()
        assert tab.page.locator("#panels").count() == 0

        tab.page.fill("#token", "not a token")
        tab.page.keyboard.press("Enter")
        tab.wait_text("#token-fault", "This is no token")
        tab.page.fill("#token", "eyJhbGciOiJub25lIn0.e30.")
        tab.page.keyboard.press("Enter")
        tab.wait_text("#token-fault", "does not accept this token")
        assert tab.page.input_value("#token") == ""

        tab.page.fill("#token", token)
        tab.page.keyboard.press("Enter")
        tab.wait_state("CONNECTED", of="own")
        gateway.do(texts=["for readers only"])
        tab.wait_feed("for readers only")
        tab.wait_text("#clients", "a reader (this page)")
        assert any("/websocket?ticket=" in url for url in tab.requests)
        assert_nowhere(tab, token)

        tab.page.click("#sign-out")
        tab.page.wait_for_selector("#token:focus")
        assert "for readers only" not in tab.page.content()
        assert "15550001" not in tab.page.content() + tab.page.title()
        assert_nowhere(tab, token)
        tab.page.reload()
        tab.page.wait_for_selector("#token:focus")


def assert_nowhere(tab: Tab, token: str) -> None:
    """Nobody who looks at URLs, storage or the page finds the token, nor a large part of it."""
    kept = tab.page.evaluate(
        "async () => JSON.stringify([location.href, {...localStorage}, {...sessionStorage}, document.cookie,"
        "history.state, (await indexedDB.databases()).length, (await caches.keys()).length,"
        "[...document.querySelectorAll('input')].map((input) => input.value),"
        "performance.getEntries().map((entry) => entry.name)])"
    )
    for place in (kept, tab.page.content(), json.dumps(tab.requests), json.dumps(tab.complaints)):
        assert token[-40:] not in place


def test_a_token_that_is_no_longer_good_brings_the_form_back(
    gateway: Part, key_file: Path, tmp_path: Path, open_tab: OpenTab
) -> None:
    with open_part("hub", gateway.url, key_file=key_file) as hub:
        tab = open_tab().open(hub.url)
        tab.page.fill("#token", token_of(key_file))
        tab.page.keyboard.press("Enter")
        tab.wait_state("CONNECTED", of="own")
        hub.kill()
        other = new_key(tmp_path / "other")
        with open_part("hub", gateway.url, key_file=other, port=hub.port):
            tab.wait_text("#token-fault", "does not accept this token any more")
            assert tab.page.locator("#panels").count() == 0
            tab.page.fill("#token", token_of(other))
            tab.page.keyboard.press("Enter")
            tab.wait_state("CONNECTED", of="own")


# --- who can read and work it ---


def test_everything_is_reached_by_keyboard_in_a_sensible_order(
    gateway: Part, hub: Part, open_tab: OpenTab
) -> None:
    tab = open_tab().open(hub.url)
    tab.wait_state("CONNECTED", of="own")
    gateway.do(texts=["hi"])
    tab.wait_feed("hi")
    tab.wait_text("#clients", "(this page)")
    reached: list[str] = []
    for _ in range(6):
        tab.page.keyboard.press("Tab")
        name, ring = tab.page.evaluate(_FOCUS)
        assert ring != "none", f"no ring around {name}"
        reached.append(name)
    assert reached == ["a", "15", "summary", "clients", "pause", "messages"]
    tab.page.keyboard.press("Shift+Tab")
    while tab.page.evaluate("document.activeElement.id") != "pause":
        tab.page.keyboard.press("Shift+Tab")
    tab.page.keyboard.press("Enter")
    assert tab.text("#pause") == "Go on"
    tab.page.focus("#ranges input:checked")
    tab.page.keyboard.press("ArrowRight")
    assert tab.page.eval_on_selector("#ranges input:checked", "input => input.value") == "60"


_FOCUS = """() => {
    const focused = document.activeElement;
    const shown = focused.matches(".ranges input") ? focused.nextElementSibling : focused;
    return [focused.id || focused.value || focused.localName, getComputedStyle(shown).outlineStyle];
}"""

_TEXTS = """const texts = [...document.querySelectorAll("body *")].filter((node) =>
    [...node.childNodes].some(({nodeType, data}) => nodeType === 3 && data.trim()) && node.checkVisibility());
"""

_SIZES = (
    "() => {"
    + _TEXTS
    + """
    return texts.map((node) => [parseFloat(getComputedStyle(node).fontSize), node.outerHTML.slice(0, 80)]);
}"""
)

_CONTRASTS = (
    "() => {"
    + _TEXTS
    + """
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const linear = (part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const ground = (node) => {
        for (; node; node = node.parentElement) {
            const colour = rgb(getComputedStyle(node).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        return [255, 255, 255];
    };
    return texts.map((node) => {
        const style = getComputedStyle(node);
        const colour = node.namespaceURI.endsWith("svg") ? style.fill : style.color;
        const [a, b] = [light(rgb(colour)), light(ground(node))];
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.outerHTML.slice(0, 80)];
    });
}"""
)

_OUTSIDE = """(width) => [...document.querySelectorAll("main *")]
    .filter((node) => node.getBoundingClientRect().right > width)
    .map((node) => node.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_it_is_legible(width: int, scheme: Any, gateway: Part, hub: Part, open_tab: OpenTab) -> None:
    tab = open_tab(viewport={"width": width, "height": 740}, color_scheme=scheme, reduced_motion="reduce")
    tab.open(hub.url)
    tab.wait_state("CONNECTED", of="own")
    gateway.do(up=False)
    gateway.do(up=True)
    gateway.do(frames=STRANGE)
    tab.until(lambda: len(tab.feed()) == len(STRANGE) + 1)
    tab.wait_text("#clients", "(this page)")
    tab.page.click("summary")
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.page.evaluate(_OUTSIDE, width) == []
    assert [each for each in tab.page.evaluate(_SIZES) if each[0] < 14] == []
    assert [each for each in tab.page.evaluate(_CONTRASTS) if each[0] < 4.5] == []
    assert (
        tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(243, 244, 246)",
            "dark": "rgb(12, 15, 19)",
        }[scheme]
    )
    assert tab.page.evaluate("document.getAnimations().length") == 0


def test_the_form_is_legible_too(gateway: Part, key_file: Path, open_tab: OpenTab) -> None:
    with open_part("hub", gateway.url, key_file=key_file) as hub:
        tab = open_tab(viewport={"width": 360, "height": 640}, color_scheme="dark").open(hub.url)
        tab.page.wait_for_selector("#token:focus")
        tab.page.keyboard.press("Enter")
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert [each for each in tab.page.evaluate(_SIZES) if each[0] < 14] == []
        assert [each for each in tab.page.evaluate(_CONTRASTS) if each[0] < 4.5] == []


def test_states_differ_by_word_and_shape_too(gateway: Part, hub: Part, open_tab: OpenTab) -> None:
    tab = open_tab().open(hub.url)
    seen: list[tuple[str, str | None]] = []
    for up, state in ((True, "CONNECTED"), (False, "RECONNECTING")):
        gateway.do(up=up)
        tab.wait_state(state)
        seen.append((tab.text("#link-state span"), tab.page.get_attribute("#link-state use", "href")))
    assert seen == [("Connected", "#glyph-connected"), ("Reconnecting", "#glyph-reconnecting")]


# --- everybody together ---


@pytest.mark.contract("H2", "H3", "H5", "R1", "R3", "R4")
def test_everybody_agrees_after_the_hub_was_killed(gateway: Part, open_tab: OpenTab) -> None:
    with open_part("hub", gateway.url) as hub, open_part("clients", hub.url) as clients:
        told = Told(clients)
        told.wait(lambda: told.states == ["CONNECTED"] * 3)
        tabs = [open_tab().open(hub.url) for _ in range(2)]
        for tab in tabs:
            tab.wait_state("CONNECTED", of="own")
        gateway.do(texts=["1", "2", "3"])
        told.wait(lambda: told.got == [["1", "2", "3"]] * 3)
        for tab in tabs:
            tab.wait_feed("1", "2", "3")
        hub.kill()
        told.wait(lambda: "CONNECTED" not in told.states)
        with open_part("hub", gateway.url, port=hub.port):
            gateway.do(texts=["4"])
            told.wait(lambda: told.states == ["CONNECTED"] * 3)
            for tab in tabs:
                tab.wait_state("CONNECTED", of="own")
            gateway.do(texts=["5", "6"])
            for tab in tabs:
                tab.wait_feed("1", "2", "3", "Gap", "4", "5", "6")
                assert "the hub began a new log" in tab.text("#messages .gap")
                assert re.search(r"Back after .*1 gap\.", tab.text("#messages"))
            told.wait(lambda: told.got == [["1", "2", "3", "gap: epoch_changed", "4", "5", "6"]] * 3)


class Told:
    """What the three clients of the program `clients` have said so far."""

    def __init__(self, clients: Part) -> None:
        self._clients = clients
        self.states = ["DISCONNECTED"] * 3
        self.got: list[list[str]] = [[], [], []]

    def wait(self, condition: Callable[[], bool]) -> None:
        """Listen until it holds."""
        while not condition():
            said = self._clients.hear()
            name: int = said["client"]
            if "state" in said:
                self.states[name] = said["state"]
            else:
                self.got[name].append(said["got"])
