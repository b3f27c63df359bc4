"""Ways to spoil what strangers write, and the long form of the fuzzing.

`test_fuzz_readers.py` asks every reader a share of the cases in ``make test``; :func:`soak` goes on for as
long as it is told to, and its case number n is always the same.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Final, NamedTuple

from tests import fuzz_examples as examples_of
from tests import fuzz_readers as readers

Target = Callable[[bytes], None]


class Edit(NamedTuple):
    """Take out ``cut`` bytes at a place, and put others there."""

    place: int
    cut: int
    put: bytes


#: What has broken parsers before.
SNIPPETS: Final = (
    b"",
    b"\0",
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\xff",
    b"\xed\xa0\x80",  # half a character, as no UTF-8 may hold one
    b"\xef\xbb\xbf",
    b"\\ud800",
    b"\\u0000",
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"null",
    b"true",
    b"-1",
    b"1e999",
    b"1.5",
    b"9223372036854775808",
    b"9" * 400,
    b"[" * 2000,
    b'{"a":' * 2000,
    b"%",
    b"%00",
    b"../",
    b"=",
    b"&",
    b"*",
    b"||",
    b"\x1b[2J",
    "\u202e".encode(),
    b"Content-Length: 7\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"data:",
    b"event:receive\n",
)


def edited(start: bytes, edits: Sequence[Edit]) -> bytes:
    """Return an example with some changes."""
    for place, cut, put in edits:
        at = place % (len(start) + 1)
        start = start[:at] + put + start[at + cut :]
    return start


def spoiled(random: Random, examples: Sequence[bytes]) -> bytes:
    """Return something that resembles one of some examples; now and then pure noise."""
    if random.random() < 0.05:
        return random.randbytes(random.randrange(200))
    start = random.choice(examples)
    if random.random() < 0.2:
        other = random.choice(examples)
        start = start[: random.randrange(len(start) + 1)] + other[random.randrange(len(other) + 1) :]
    edits = [
        Edit(
            random.randrange(1 << 16),
            random.choice((0, 0, 1, 2, 5, 40)),
            random.choice(SNIPPETS) if random.random() < 0.7 else random.randbytes(random.randrange(4)),
        )
        for _ in range(random.randrange(1, 7))
    ]
    return edited(start, edits)


TARGETS: Final[dict[str, tuple[Target, tuple[bytes, ...]]]] = {
    "envelopes": (readers.read_envelope, (*examples_of.FRAMES, b'{"error":"x"}')),
    "frames of a hub": (
        readers.read_hub_frames,
        (*examples_of.HUB_FRAMES, b"\n".join(examples_of.HUB_FRAMES[1:])),
    ),
    "answers to sends": (readers.read_send_answers, (*examples_of.BODIES, *examples_of.RPC_ANSWERS)),
    "answers to operations": (
        readers.read_operation_answers,
        (*examples_of.REST_RESULTS, *examples_of.RPC_ANSWERS),
    ),
    "files of signal-cli": (readers.read_file, (b'{"jsonrpc":"2.0","result":{"data":"aGVsbG8="},"id":1}',)),
    "refusals of events": (readers.read_events_refusal, examples_of.REFUSALS),
    "streams of events": (readers.read_event_stream, examples_of.STREAM),
    "HTTP responses": (readers.read_response, examples_of.RESPONSES),
    "WebSocket handshakes": (readers.read_handshake, (*examples_of.HANDSHAKES, *examples_of.RESPONSES)),
    "HTTP requests": (readers.read_request, examples_of.REQUESTS),
    "recovery parameters": (readers.read_parameters, examples_of.QUERIES),
    "bodies of routes": (readers.read_letters, (*examples_of.SENDS, *examples_of.OPERATIONS)),
    "tokens": (readers.read_token, examples_of.CLAIMS),
    "lines of standard input": (readers.read_lines, examples_of.LINES),
    "styled text": (readers.read_styled, examples_of.STYLED),
    "rows of a store": (readers.read_store, examples_of.STORED),
    "names of files": (readers.read_names, examples_of.NAMES),
}


#: What a parser that looks at something again and again chokes on. Each is repeated to a length.
SHAPES: Final = (
    b"[",
    b'{"a":',
    b'"',
    b"\\",
    b"\\\\",
    b'\\"',
    b"9",
    b"a",
    b" ",
    b"\n",
    b"\r",
    b"\r\n",
    b"{},",
    b"1,",
    b'"a":1,',
    b"*",
    b"**",
    b"*~",
    b"||`",
    b"\\*",
    b"AAAA",
    b"AAA=",
    b"a=&",
    b"%41",
    b"data:\n",
    b"data:x\n",
    b":\n",
    b"a:b\r\n",
    b"\x81\x01a",
    b".",
    b"\xff",
    "\u202e".encode(),
)

#: The longest that one case may take, in seconds: far more than it does, for the sake of busy machines.
_MOST_SECONDS: Final = 5.0


def grown(shape: bytes, size: int, start: bytes = b"") -> bytes:
    """Return a shape repeated to a size, behind the beginning of an example."""
    return start + shape * (size // len(shape))


def starts_of(example: bytes) -> tuple[bytes, ...]:
    """Return the beginnings behind which a parser is in the middle of something."""
    return b"", example[: len(example) // 2], example


def soak(count: int) -> Iterator[str | None]:
    """Try so many cases, each target in turn; yield None for each, or what went wrong with it."""
    names = list(TARGETS)
    for case in range(count):
        name = names[case % len(names)]
        target, examples = TARGETS[name]
        random = Random(f"{name} {case}")
        if case // len(names) % 200 == 199:
            # Rarely, since it is long: the same on and on.
            start = random.choice(starts_of(random.choice(examples)))
            data = grown(random.choice(SHAPES), 256 * 1024, start)
        else:
            data = spoiled(random, examples)
        yield _failure(name, case, target, data)


def _failure(name: str, case: int, target: Target, data: bytes) -> str | None:
    begun = time.perf_counter()
    try:
        target(data)
    except Exception as error:  # noqa: BLE001  (whatever it is, it is what is looked for)
        return f"{name}, case {case}: {error!r} for {data[:500]!r}"
    lasted = time.perf_counter() - begun
    return f"{name}, case {case}: {lasted:.1f} s for {len(data)} bytes" if lasted > _MOST_SECONDS else None
