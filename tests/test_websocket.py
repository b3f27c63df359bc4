"""The WebSocket under the client, against a peer that is scripted byte by byte, on streams in memory."""

import math
import os
import random
import socket
import struct
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager

import pytest
import trio
import trio.testing

from tests.peers import Dialled, Peer, answers, sends
from trio_signal import GatewayError, GatewayRefused, LinkLost, Reason
from trio_signal._link_stream import READ, LinkStream
from trio_signal._websocket import WebSocketLink, open_websocket, rejected
from trio_signal.testing import MemoryStream, close_frame, fragmented, memory_connection, server_frame
from trio_signal.testing._frames import ClientFrame, Opcode

LIMIT = 64 * 1024
BINARY, CLOSE, PING, PONG = 2, 8, 9, 10


def open_link(
    dialled: Dialled, *, headers: Iterable[tuple[bytes, bytes]] = (), max_message_size: int = LIMIT
) -> AbstractAsyncContextManager[WebSocketLink]:
    return open_websocket(
        dialled.stream,
        host="gateway.example:8080",
        resource="/base/v1/receive/+15550001",
        headers=list(headers),
        max_message_size=max_message_size,
    )


async def collect(link: WebSocketLink, into: list[bytes]) -> LinkLost:
    """Receive until the link ends and return why it did."""
    while True:
        try:
            into += await link.receive()
        except LinkLost as error:
            return error


async def fate(dialled: Dialled, *, max_message_size: int = LIMIT) -> tuple[GatewayError, list[bytes]]:
    """Open a link, receive until it ends; return why it did and what came before."""
    got: list[bytes] = []
    ends: list[GatewayError] = []
    with trio.fail_after(30):
        try:
            async with open_link(dialled, max_message_size=max_message_size) as link:
                ends.append(await collect(link, got))
        except GatewayError as error:
            ends.append(error)
    return ends[0], got


# --- the handshake ---


async def test_the_request_names_host_path_and_headers(nursery: trio.Nursery) -> None:
    dialled = Dialled(nursery, sends())
    async with open_link(dialled, headers=[(b"X-Key", b"one"), (b"X-Key", b"two"), (b"X-High", b"\xe9")]):
        pass
    lines = dialled.peer.head.split(b"\r\n")
    assert lines[0] == b"GET /base/v1/receive/+15550001 HTTP/1.1"
    assert b"Host: gateway.example:8080" in lines
    assert [line for line in lines if line.lower().startswith(b"x-")] == [
        b"X-Key: one",
        b"X-Key: two",
        b"X-High: \xe9",
    ]
    assert not [line for line in lines if line.lower().startswith(b"sec-websocket-extensions")]


async def test_frames_in_the_same_read_as_the_answer_are_not_lost(nursery: trio.Nursery) -> None:
    dialled = Dialled(nursery, sends(*(server_frame(b"%d" % n) for n in range(5)), then="end"))
    error, got = await fate(dialled)
    assert got == [b"%d" % n for n in range(5)]
    assert isinstance(error, LinkLost)
    assert error.reason is Reason.CONNECTION_LOST


@pytest.mark.parametrize("size", [100_000, 200_000, 1_000_000, 4_000_000])
async def test_a_large_message_right_behind_the_handshake_is_taken(nursery: trio.Nursery, size: int) -> None:
    text = b"x" * size
    dialled = Dialled(nursery, sends(server_frame(text), then="end"), window=8_000_000)
    error, got = await fate(dialled, max_message_size=8_000_000)
    assert [len(each) for each in got] == [size], error


async def test_one_byte_at_a_time(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        frames = server_frame(b"hello") + server_frame(b"x" * 200) + close_frame(1001, "bye")
        for byte in peer.switching() + frames:
            await peer.stream.send_all(bytes([byte]))
            await trio.testing.wait_all_tasks_blocked()
        await peer.read_frames()

    error, got = await fate(Dialled(nursery, script, window=1))
    assert got == [b"hello", b"x" * 200]
    assert "1001" in str(error)


async def test_a_silent_peer_is_left_when_the_caller_cancels(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await trio.sleep_forever()

    dialled = Dialled(nursery, script)
    with trio.move_on_after(20) as scope:
        async with open_link(dialled):
            pytest.fail("there was no handshake")
    assert scope.cancelled_caught
    with pytest.raises(trio.ClosedResourceError):
        await dialled.stream.receive_some()


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.parametrize(
    "before",
    [b"", b"H", b"HTTP/1.1 1", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConn"],
    ids=["nothing", "a byte", "half a status line", "half a head"],
)
@pytest.mark.contract("B5")
async def test_a_hang_up_in_the_handshake_is_noticed_at_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, before: bytes, how: str
) -> None:
    start = trio.current_time()
    error, _ = await fate(Dialled(nursery, answers(*filter(None, [before]), then=how)))
    assert isinstance(error, LinkLost)
    assert error.reason is Reason.ATTEMPT_FAILED
    assert "hung up" in str(error) or "does not speak WebSocket" in str(error)
    assert trio.current_time() == start


async def test_a_peer_that_closes_without_reading_is_noticed_at_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.stream.aclose()

    error, _ = await fate(Dialled(nursery, script))
    assert "hung up" in str(error)
    assert trio.current_time() == 0


@pytest.mark.parametrize("then", ["stay", "end"])
@pytest.mark.parametrize(
    "nonsense",
    [
        b"220 mail.example ESMTP\r\n\r\n",
        b"\x00\xff\xfe\r\n\r\n",
        b"\x15\x03\x03\x00\x02\x02\x46\r\n\r\n",
        b"HTTP/9.9 101 Fine\r\n\r\n",
        b"HTTP/1.1 1O1 Fine\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    ],
    ids=["smtp", "binary", "tls alert", "version", "letters in the status", "ssh"],
)
@pytest.mark.contract("B5")
async def test_what_is_no_http_is_named(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, nonsense: bytes, then: str
) -> None:
    error, _ = await fate(Dialled(nursery, answers(nonsense, then=then)))
    assert isinstance(error, LinkLost)
    assert "does not speak WebSocket" in str(error)
    assert trio.current_time() == 0


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: bm8=\r\n\r\n"
        ),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
    ids=["no accept", "wrong accept", "another protocol", "nothing"],
)
async def test_a_101_that_is_no_websocket_is_named(nursery: trio.Nursery, head: bytes) -> None:
    error, _ = await fate(Dialled(nursery, answers(head)))
    assert isinstance(error, LinkLost)
    assert "does not speak WebSocket" in str(error)


async def test_a_head_with_bare_line_feeds_is_understood_as_h11_does(nursery: trio.Nursery) -> None:
    """Where trio-websocket sees the end of the head, the first frame begins."""

    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.stream.send_all(peer.switching().replace(b"\r\n", b"\n") + server_frame(b"first"))
        await peer.stream.send_eof()
        await peer.read_frames()

    _, got = await fate(Dialled(nursery, script))
    assert got == [b"first"]


async def test_an_interim_answer_before_the_101_is_a_refusal(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        interim = b"HTTP/1.1 100 Continue\r\n\r\n"
        await peer.stream.send_all(interim + peer.switching() + server_frame(b"first"))
        await peer.read_frames()

    error, got = await fate(Dialled(nursery, script))
    assert isinstance(error, LinkLost)
    assert (error.status, got) == (100, [])


async def test_an_extension_that_nobody_asked_for_is_refused(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        answer = peer.switching()[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
        await peer.stream.send_all(answer)
        await peer.read_frames()

    error, _ = await fate(Dialled(nursery, script))
    assert "does not speak WebSocket" in str(error)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"HTTP/1.1 101 Switching Protocols\r\nX: ", "does not speak WebSocket"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 99999999\r\n\r\n", "endless"),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "endless"),
        (b"", "does not speak WebSocket"),
    ],
    ids=["head", "body with a length", "body to the end", "no line end"],
)
@pytest.mark.contract("B5")
async def test_an_endless_answer_is_cut_off(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, head: bytes, words: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.read_head()
        await peer.stream.send_all(head)
        while True:
            await peer.stream.send_all(b"x" * 10_000)

    dialled = Dialled(nursery, script)
    error, _ = await fate(dialled)
    assert isinstance(error, LinkLost)
    assert words in str(error)
    assert len(str(error)) < 300
    await dialled.finished.wait()
    assert trio.current_time() == 0


# --- refusals ---

ENDINGS = {
    "with a length": b"Content-Length: 5\r\n\r\nsorry",
    "without a body": b"Content-Length: 0\r\n\r\n",
    "in chunks": b"Transfer-Encoding: chunked\r\n\r\n5\r\nsorry\r\n0\r\n\r\n",
    "to the end": b"Connection: close\r\n\r\nsorry",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("status", [200, 301, 401, 403, 404, 408, 429, 500, 502, 503, 504])
@pytest.mark.contract("B5", "C6")
async def test_a_refusal_is_told_with_its_status(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, status: int, ending: str
) -> None:
    dialled = Dialled(nursery, answers(b"HTTP/1.1 %d Some Words\r\n" % status, ENDINGS[ending], then="end"))
    error, _ = await fate(dialled)
    assert isinstance(error, GatewayRefused if status in (401, 403) else LinkLost)
    assert getattr(error, "status") == status  # noqa: B009  (both kinds have it, their common root does not)
    assert f"HTTP {status}" in str(error)
    assert trio.current_time() == 0


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("status", [401, 429, 503])
@pytest.mark.contract("B3")
async def test_a_refusal_is_told_with_its_retry_after(
    nursery: trio.Nursery, status: int, ending: str
) -> None:
    head = (
        b"HTTP/1.1 %d Some Words\r\nServer: a proxy with a rather long name\r\nRetry-After: 120\r\n" % status
    )
    error, _ = await fate(Dialled(nursery, answers(head, ENDINGS[ending], then="end")))
    assert isinstance(error, GatewayRefused | LinkLost)
    assert error.retry_after == 120.0


async def test_a_refusal_that_ends_with_a_reset_is_still_told(nursery: trio.Nursery) -> None:
    head = b"HTTP/1.0 403 Forbidden\r\nConnection: close\r\n\r\nno"
    error, _ = await fate(Dialled(nursery, answers(head, then="reset")))
    assert isinstance(error, GatewayRefused)


@pytest.mark.parametrize(
    ("status", "hint"), [(200, "MODE=json-rpc"), (404, "path of the URL"), (401, "token="), (403, "headers=")]
)
def test_some_refusals_say_what_to_change(status: int, hint: str) -> None:
    assert hint in str(rejected(status, None))


# --- ends ---


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 1012, 1013, 3000, 4000, 4999])
@pytest.mark.contract("C6")
async def test_a_close_code_and_its_words_are_told(nursery: trio.Nursery, code: int) -> None:
    dialled = Dialled(nursery, sends(server_frame(b"last"), close_frame(code, "so long, ü"), then="end"))
    error, got = await fate(dialled)
    assert got == [b"last"]
    assert isinstance(error, LinkLost)
    assert (error.reason, error.close_code) == (Reason.CLOSED_BY_GATEWAY, code)
    assert str(code) in str(error)
    assert "so long, ü" in str(error)
    await dialled.finished.wait()
    assert [(f.opcode, f.payload[:2]) for f in dialled.peer.frames] == [
        (Opcode.CLOSE, struct.pack("!H", code))
    ]


async def test_a_close_frame_without_a_code_is_a_close(nursery: trio.Nursery) -> None:
    error, _ = await fate(Dialled(nursery, sends(close_frame(None), then="end")))
    assert isinstance(error, LinkLost)
    assert error.reason is Reason.CLOSED_BY_GATEWAY
    assert error.close_code in (None, 1005)


@pytest.mark.parametrize("how", ["end", "reset"])
@pytest.mark.contract("C6")
async def test_an_end_without_a_close_frame_is_a_loss(nursery: trio.Nursery, how: str) -> None:
    error, got = await fate(Dialled(nursery, sends(server_frame(b"one"), then=how)))
    assert got == [b"one"]
    assert isinstance(error, LinkLost)
    assert (error.reason, error.close_code) == (Reason.CONNECTION_LOST, None)


@pytest.mark.parametrize("kept", [1, 2, 3, 7])
async def test_a_torn_frame_is_a_loss_and_gives_nothing(nursery: trio.Nursery, kept: int) -> None:
    torn = server_frame(b"half a message")[:kept]
    error, got = await fate(Dialled(nursery, sends(server_frame(b"one"), torn, then="end")))
    assert got == [b"one"]
    assert isinstance(error, LinkLost)
    assert error.reason is Reason.CONNECTION_LOST


VIOLATIONS = {
    "masked": (server_frame(b"hi", mask=b"abcd"), 1002),
    "reserved bit": (bytes([0xC1, 2]) + b"hi", 1002),
    "unknown opcode": (bytes([0x83, 0]), 1002),
    "continuation of nothing": (server_frame(b"hi", 0), 1002),
    "text within a message": (server_frame(b"a", final=False) + server_frame(b"b"), 1002),
    "fragmented ping": (server_frame(b"", PING, final=False), 1002),
    "long ping": (server_frame(b"x" * 126, PING), 1002),
    "close of one byte": (server_frame(b"x", CLOSE), 1002),
    "close with an illegal code": (close_frame(1006), 1002),
    "close with words that are no UTF-8": (server_frame(b"\x03\xe8\xff", CLOSE), 1007),
    "bad UTF-8": (server_frame(b"\xff\xfe"), 1007),
    "UTF-8 cut at the end": (server_frame("ü".encode()[:1]), 1007),
    "too large": (server_frame(b"x" * (LIMIT + 1)), 1009),
    "too large in fragments": (fragmented(b"x" * (LIMIT + 3)), 1009),
}


@pytest.mark.parametrize("case", VIOLATIONS)
@pytest.mark.contract("R7")
async def test_a_violation_of_the_protocol_ends_the_link_with_its_code(
    nursery: trio.Nursery, case: str
) -> None:
    """What came before it is still given."""
    bad, code = VIOLATIONS[case]
    dialled = Dialled(nursery, sends(server_frame(b"good"), bad), window=4 * LIMIT)
    error, got = await fate(dialled)
    assert got == [b"good"]
    assert isinstance(error, LinkLost)
    await dialled.finished.wait()
    closes = [frame.payload for frame in dialled.peer.frames if frame.opcode is Opcode.CLOSE]
    assert [struct.unpack("!H", payload[:2])[0] for payload in closes] == [code]
    assert error.close_code == code
    assert error.reason is Reason.CONNECTION_LOST, "it was we who closed"


@pytest.mark.contract("R7")
async def test_a_message_many_times_too_large_ends_the_link_once(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.stream.send_all(fragmented(b"x" * 50_000, parts=50))
        await peer.read_frames()

    # Which of two tasks notices first is drawn by Trio, so once is not enough.
    for _ in range(20):
        error, got = await fate(Dialled(nursery, script), max_message_size=1_000)
        assert got == []
        assert isinstance(error, LinkLost)
        assert (error.close_code, error.reason) == (1009, Reason.CONNECTION_LOST), error


async def test_whatever_comes_the_link_ends_as_lost_or_gives_messages(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Random bytes, and good frames with random damage: no other error, no hang."""
    source = random.Random(1)
    good = (
        server_frame(b"hello") + fragmented(b"{}" * 40) + server_frame(b"", PING) + close_frame(1001, "bye")
    )
    for _ in range(300):
        data = bytearray(source.choice([good, source.randbytes(source.randrange(1, 200))]))
        for _ in range(source.randrange(4)):
            data[source.randrange(len(data))] = source.randrange(256)
        with trio.fail_after(1):
            error, _ = await fate(Dialled(nursery, sends(bytes(data), then="end")))
        assert isinstance(error, LinkLost)
        assert error.reason in (Reason.CONNECTION_LOST, Reason.CLOSED_BY_GATEWAY), (error, bytes(data))


# --- receiving ---


async def test_messages_of_every_form_come_as_they_are(nursery: trio.Nursery) -> None:
    frames = [
        server_frame(b""),
        server_frame("grün".encode()),
        server_frame(b"\x00\xff", BINARY),
        server_frame(b"x" * 126),
        server_frame(b"y" * 40_000),
    ]
    _, got = await fate(Dialled(nursery, sends(*frames, then="end")))
    assert got == [b"", "grün".encode(), b"\x00\xff", b"x" * 126, b"y" * 40_000]


async def test_fragments_with_a_ping_between_are_one_message(nursery: trio.Nursery) -> None:
    dialled = Dialled(nursery, sends(fragmented("zusammengefügt".encode()), then="end"))
    _, got = await fate(dialled)
    assert got == ["zusammengefügt".encode()]
    await dialled.finished.wait()
    assert dialled.peer.frames == [ClientFrame(Opcode.PONG, b"between")]


@pytest.mark.contract("L2")
async def test_all_that_is_there_comes_as_one_list(nursery: trio.Nursery) -> None:
    proceed = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await proceed.wait()
        await peer.stream.send_all(b"".join(server_frame(b"%d" % n) for n in range(50)))
        await peer.read_frames()

    async with open_link(Dialled(nursery, script)) as link:
        proceed.set()
        await trio.testing.wait_all_tasks_blocked()
        assert await link.receive() == [b"%d" % n for n in range(50)]


async def test_a_cancelled_receive_loses_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for n in range(100):
            await trio.sleep(0.01)
            await peer.stream.send_all(server_frame(b"%d" % n))
        await peer.stream.send_eof()
        await peer.read_frames()

    got: list[bytes] = []
    async with open_link(Dialled(nursery, script)) as link:
        while len(got) < 100:
            with trio.move_on_after(0.01):
                got += await link.receive()
    assert got == [b"%d" % n for n in range(100)]


async def test_messages_that_wait_are_given_before_the_end_is_told(nursery: trio.Nursery) -> None:
    dialled = Dialled(
        nursery, sends(*(server_frame(b"%d" % n) for n in range(30)), close_frame(1000), then="end")
    )
    async with open_link(dialled) as link:
        await trio.testing.wait_all_tasks_blocked()
        got: list[bytes] = []
        error = await collect(link, got)
    assert got == [b"%d" % n for n in range(30)]
    assert error.close_code == 1000


async def test_fragments_keep_their_place_between_whole_messages(nursery: trio.Nursery) -> None:
    frames = [
        server_frame(b"1"),
        fragmented(b"22222"),
        server_frame(b"3" * 200),
        fragmented(b"44"),
        server_frame(b"5"),
    ]
    dialled = Dialled(nursery, sends(*frames, then="end"))
    _, got = await fate(dialled)
    assert got == [b"1", b"22222", b"3" * 200, b"44", b"5"]


async def test_control_frames_inside_a_burst_are_answered_and_cost_no_message(nursery: trio.Nursery) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for n in range(20):
            burst = b"".join(server_frame(b"%d-%d" % (n, each)) for each in range(10))
            await peer.stream.send_all(burst + server_frame(b"%d" % n, PING) + burst)
        await peer.read_frames(20)
        await peer.stream.send_all(server_frame(b"last") + close_frame(1001))
        await peer.read_frames()

    dialled = Dialled(nursery, script)
    error, got = await fate(dialled)
    assert got == [b"%d-%d" % (n, each) for n in range(20) for _ in range(2) for each in range(10)] + [
        b"last"
    ]
    assert isinstance(error, LinkLost)
    assert error.close_code == 1001
    pongs = [frame.payload for frame in dialled.peer.frames if frame.opcode is Opcode.PONG]
    assert pongs == [b"%d" % n for n in range(20)]


@pytest.mark.contract("L2")
async def test_a_gateway_is_read_no_further_than_somebody_receives(nursery: trio.Nursery) -> None:
    """What nobody takes stays in the network, and then with the gateway."""
    wave, waves = b"".join(server_frame(b"x" * 500) for _ in range(200)), 20

    async def script(peer: Peer) -> None:
        await peer.accept()
        for _ in range(waves):
            await peer.stream.send_all(wave)
        await peer.read_frames()

    async with open_link(Dialled(nursery, script)) as link:
        await trio.testing.wait_all_tasks_blocked()
        assert link.stream.bytes_received < 2 * LIMIT
        got = await link.receive()
        while len(got) < 200 * waves:
            before = link.stream.bytes_received
            got += await link.receive()
            assert link.stream.bytes_received - before <= LIMIT
    assert set(got) == {b"x" * 500}


async def test_a_read_full_of_empty_messages_keeps_nobody_else_from_running(nursery: trio.Nursery) -> None:
    many = 30_000
    dialled = Dialled(nursery, sends(server_frame(b"") * many, then="end"))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    got: list[bytes] = []
    async with open_link(dialled) as link:
        nursery.start_soon(count_turns)
        while len(got) < many:
            some = await link.receive()
            assert 0 < len(some) <= 1_000
            got += some
        assert got == [b""] * many
        assert turns > many // 1_000 / 2
        with pytest.raises(LinkLost):
            await link.receive()


async def test_a_peer_that_pings_and_reads_no_pongs_is_read_no_further(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    pings = server_frame(b"x" * 100, PING) * 300

    async def script(peer: Peer) -> None:
        await peer.accept()
        while True:
            await peer.stream.send_all(pings + server_frame(b"between"))

    async with open_link(Dialled(nursery, script)) as link:
        with trio.move_on_after(3600):
            while True:
                assert set(await link.receive()) == {b"between"}
        # A window full of pongs, what was read behind the pings that these answer, and one read more.
        assert link.stream.bytes_received < 4 * LIMIT


async def test_pings_are_answered_whether_or_not_somebody_receives(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for n in range(6):
            await trio.sleep(10)
            await peer.stream.send_all(server_frame(b"%d" % n, PING))
        await trio.sleep(5)
        await peer.stream.send_all(server_frame(b"message"))
        await peer.read_frames()

    dialled = Dialled(nursery, script)
    async with open_link(dialled) as link:
        await trio.sleep(15)
        for expected in (20, 40):
            # One that was cancelled leaves it to others to read.
            with trio.move_on_after(10):
                await link.receive()
            await trio.sleep(10)
            assert link.stream.last_pong_sent == expected + 10
        assert await link.receive() == [b"message"]
        assert link.stream.last_pong_sent == 60


async def test_whoever_received_and_stops_can_still_ping_and_close(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept(server_frame(b"message"))
        await peer.read_frames(1)
        await peer.stream.send_all(server_frame(peer.frames[0].payload, PONG))
        await peer.read_frames(2)
        await peer.stream.send_all(close_frame(1000))
        await peer.stream.aclose()

    dialled = Dialled(nursery, script)
    async with open_link(dialled) as link:
        assert await link.receive() == [b"message"]
        with trio.fail_after(1):
            await link.ping()
            await link.close()
    assert [frame.opcode for frame in dialled.peer.frames] == [Opcode.PING, Opcode.CLOSE]


async def test_a_ping_while_somebody_receives(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        for n in range(3):
            await peer.read_frames(n + 1)
            pong = server_frame(peer.frames[n].payload, PONG)
            await peer.stream.send_all(server_frame(b"before") + pong + server_frame(b"behind"))
        await peer.stream.send_eof()
        await peer.read_frames()

    got: list[bytes] = []
    async with open_link(Dialled(nursery, script)) as link, trio.open_nursery() as both:
        both.start_soon(collect, link, got)
        with trio.fail_after(1):
            for n in range(3):
                await link.ping()
                # What came before the pong has been taken in by now, or is in this turn.
                await trio.lowlevel.checkpoint()
                assert got.count(b"before") == n + 1
    assert got == [b"before", b"behind"] * 3


# --- pings, goodbyes and torn writes ---


async def test_a_ping_waits_for_its_pong(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.read_frames(1)
        await trio.sleep(3)
        await peer.stream.send_all(server_frame(peer.frames[0].payload, PONG))
        await peer.read_frames()

    async with open_link(Dialled(nursery, script)) as link:
        await link.ping()
        assert trio.current_time() == 3


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.contract("R3")
async def test_a_ping_on_a_link_that_has_ended_leaves_it_to_receive_to_say_so(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery, how: str
) -> None:
    """Else whoever gives up at the ping would lose the messages that still wait."""
    end = close_frame(1012, "restart") if how == "close" else b""
    dialled = Dialled(nursery, sends(server_frame(b"last"), end, then="reset" if how == "reset" else "end"))
    async with open_link(dialled) as link:
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(3600) as scope:
            await link.ping()
        assert scope.cancelled_caught
        assert await link.receive() == [b"last"]
        with pytest.raises(LinkLost, match="1012" if how == "close" else "without a close frame"):
            await link.receive()


async def test_pings_of_the_peer_are_answered_and_noted(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await trio.sleep(54)
        await peer.stream.send_all(server_frame(b"are you there", PING))
        await peer.read_frames()

    dialled = Dialled(nursery, script)
    async with open_link(dialled) as link:
        seen: list[float | None] = []
        for _ in range(2):
            await trio.sleep(30)
            seen.append(link.stream.last_pong_sent)
        assert seen == [None, 54]
        assert link.stream.last_received == 54
    await dialled.finished.wait()
    assert dialled.peer.frames == [ClientFrame(Opcode.PONG, b"are you there")]


async def test_a_torn_write_ends_the_link(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Half a frame is on the wire: nothing may follow it, and whoever receives must hear of the end."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await trio.sleep_forever()

    # The request takes more than the window, and the script reads it all; a ping takes 10 bytes.
    dialled = Dialled(nursery, script, window=15)
    async with open_link(dialled) as link:
        with trio.move_on_after(1):
            await link.ping()
        with trio.move_on_after(1) as torn:
            await link.ping()
        assert torn.cancelled_caught
        with pytest.raises(LinkLost) as caught:
            await link.receive()
        assert caught.value.reason is Reason.CONNECTION_LOST
        assert len(await dialled.peer.stream.receive_some()) == 15


async def test_a_goodbye_is_said_and_answered(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.read_frames(1)
        await peer.stream.send_all(close_frame(1000))
        await peer.stream.aclose()

    dialled = Dialled(nursery, script)
    async with open_link(dialled) as link:
        with trio.fail_after(1):
            await link.close()
    assert dialled.peer.frames == [ClientFrame(Opcode.CLOSE, struct.pack("!H", 1000))]
    assert trio.current_time() == 0


async def test_leaving_the_block_ends_the_connection_at_once(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    dialled = Dialled(nursery, sends())
    async with open_link(dialled):
        pass
    await dialled.finished.wait()
    assert dialled.peer.frames == []
    assert trio.current_time() == 0


def raise_mine() -> None:
    raise KeyError("mine")


async def test_an_error_of_the_block_itself_comes_out_bare(nursery: trio.Nursery) -> None:
    dialled = Dialled(nursery, sends())
    with pytest.raises(KeyError, match="mine"):
        async with open_link(dialled):
            raise_mine()
    await dialled.finished.wait()


async def test_a_ping_behind_our_goodbye_ends_the_link(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """trio-websocket wants to answer it, which it may not any more."""

    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.read_frames(1)
        await peer.stream.send_all(server_frame(b"late") + server_frame(b"", PING) + close_frame(1000))
        await peer.read_frames()

    with trio.fail_after(1), pytest.raises(LinkLost, match="1000"):
        async with open_link(Dialled(nursery, script)) as link:
            await link.close()


async def test_messages_that_come_while_goodbye_is_said_are_given(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    async def script(peer: Peer) -> None:
        await peer.accept()
        await peer.read_frames(1)
        await peer.stream.send_all(server_frame(b"late") + close_frame(1000))
        await peer.stream.aclose()

    got: list[bytes] = []
    async with open_link(Dialled(nursery, script)) as link, trio.open_nursery() as both:
        both.start_soon(collect, link, got)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(1):
            await link.close()
    assert got == [b"late"]


async def test_the_last_word_is_left_out_where_a_write_is_stuck(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    proceed = trio.Event()

    async def script(peer: Peer) -> None:
        await peer.accept()
        await proceed.wait()
        await peer.stream.send_all(server_frame(b"x", mask=b"abcd"))
        await trio.sleep_forever()

    async with open_link(Dialled(nursery, script, window=15)) as link, trio.open_nursery() as pings:
        for _ in range(2):
            # The second finds no room in the window, which nobody empties.
            pings.start_soon(link.ping)
            await trio.testing.wait_all_tasks_blocked()
        proceed.set()
        with trio.fail_after(5), pytest.raises(LinkLost, match="masked") as caught:
            await link.receive()
        assert caught.value.close_code == 1002
        pings.cancel_scope.cancel()


# --- the stream below ---


async def test_the_stream_takes_note_of_what_passes(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_connection()
    stream = LinkStream(ours, LIMIT)
    assert (stream.bytes_received, stream.last_received, stream.last_pong_sent) == (0, 0, None)
    await trio.sleep(1)
    await theirs.send_all(b"HTTP/1.1 " + b"x" * 100)
    assert len(await stream.receive_some(20)) == 20
    assert len(await stream.receive_some()) == 89
    assert (stream.bytes_received, stream.last_received) == (109, 1)
    assert stream.head.startswith(b"HTTP/1.1 xxx")
    assert not stream.ended.is_set()


async def test_a_sent_byte_is_no_sign_of_life(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_connection()
    stream = LinkStream(ours, LIMIT)
    await trio.sleep(1)
    await stream.wait_send_all_might_not_block()
    await stream.send_all(b"hello")
    assert stream.last_received == 0
    assert await theirs.receive_some() == b"hello"


@pytest.mark.contract("L1", "R3")
async def test_its_end_is_no_sign_of_life(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_connection()
    stream = LinkStream(ours, LIMIT)
    await theirs.send_all(b"the last words")
    await stream.receive_some()
    await trio.sleep(1)
    await theirs.aclose()
    assert await stream.receive_some() == b""
    assert (stream.bytes_received, stream.last_received) == (14, 0)


@pytest.mark.parametrize("how", ["end", "reset", "cancel"])
async def test_the_stream_notices_its_end(autojump_clock: trio.testing.MockClock, how: str) -> None:
    ours, theirs = memory_connection()
    stream = LinkStream(ours, LIMIT)
    await trio.sleep(1)
    if how == "end":
        await theirs.send_eof()
        assert await stream.receive_some() == b""
    elif how == "reset":
        theirs.reset()
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
    else:
        with trio.move_on_after(1):
            await stream.receive_some()
    assert stream.ended.is_set()
    assert stream.bytes_received == 0


async def test_a_cancelled_send_closes_the_stream(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_connection(window=10)
    stream = LinkStream(ours, LIMIT)
    with trio.move_on_after(1) as scope:
        await stream.send_all(b"x" * 100)
    assert scope.cancelled_caught
    with pytest.raises(trio.ClosedResourceError):
        await stream.send_all(b"more")
    assert await theirs.receive_some() == b"x" * 10
    assert await theirs.receive_some() == b""


async def test_closing_the_stream_closes_what_is_under_it() -> None:
    ours, theirs = memory_connection()
    await LinkStream(ours, LIMIT).aclose()
    assert await theirs.receive_some() == b""


async def real_pair() -> tuple[LinkStream, trio.SocketStream, trio.SocketStream]:
    """Return a stream over a plain socket, that socket, and its other end."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listeners[0] as listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        theirs = await listener.accept()
    return LinkStream(ours, LIMIT), ours, theirs


async def test_a_plain_socket_is_read_when_something_has_come() -> None:
    stream, _, theirs = await real_pair()
    async with stream, theirs, trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            got.append(await stream.receive_some(3))

        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        await theirs.send_all(b"hello")
        await trio.testing.wait_all_tasks_blocked()
        assert got == [b"hel"]
        assert await stream.receive_some(READ) == b"lo"
        await theirs.send_eof()
        assert await stream.receive_some(READ) == b""
        assert stream.bytes_received == 5


async def test_a_read_that_gave_all_it_could_is_followed_by_one_that_need_not_find_anything() -> None:
    stream, _, theirs = await real_pair()
    async with stream, theirs, trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def read() -> None:
            while data := await stream.receive_some(3):
                got.append(data)

        await theirs.send_all(b"foobar")
        nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        assert got == [b"foo", b"bar"]
        await theirs.send_all(b"!")
        await trio.testing.wait_all_tasks_blocked()
        assert got == [b"foo", b"bar", b"!"]
        await theirs.send_eof()


async def test_others_get_their_turn_between_full_reads_and_may_end_them() -> None:
    stream, _, theirs = await real_pair()
    async with stream, theirs:
        await theirs.send_all(b"foobar")
        assert await stream.receive_some(3) == b"foo"
        with trio.CancelScope() as scope, trio.testing.assert_checkpoints():
            scope.cancel()
            await stream.receive_some(3)
        assert scope.cancelled_caught


@pytest.mark.contract("R7")
async def test_a_burst_is_read_in_larger_pieces_and_nothing_changes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted: list[int] = []

    def read(descriptor: int, size: int) -> bytes:
        wanted.append(size)
        return real_read(descriptor, size)

    real_read = os.read
    monkeypatch.setattr(os, "read", read)
    texts = [b"%d " % number * (100 + number % 50) for number in range(2_000)]
    head, ping = b"HTTP/1.1 101 Switching Protocols\r\n\r\n", server_frame(b"?", PING)
    burst = [server_frame(text) + (ping if number % 70 == 0 else b"") for number, text in enumerate(texts)]
    stream, ours, theirs = await real_pair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024 * 1024)
    passed, messages = bytearray(), list[bytes]()

    async def take_control() -> None:
        while data := await stream.receive_some(READ):
            passed.extend(data)

    async with stream, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, head + b"".join(burst))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(take_control)
        with trio.fail_after(30):
            while len(messages) < len(texts):
                messages += await stream.draw()
        await trio.testing.wait_all_tasks_blocked()
        assert messages == texts
        assert passed == head + ping * len(range(0, 2_000, 70))
        assert wanted[0] == READ < max(wanted)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["reset", "closed", "closed before"])
async def test_a_plain_socket_that_breaks_is_the_end(how: str) -> None:
    stream, ours, theirs = await real_pair()
    async with stream, theirs:
        if how == "closed before":
            await ours.aclose()
        expected = trio.BrokenResourceError if how == "reset" else trio.ClosedResourceError
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_expect, stream, expected)
                await trio.testing.wait_all_tasks_blocked()
                if how == "reset":
                    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    await theirs.aclose()
                elif how == "closed":
                    await ours.aclose()
        assert stream.ended.is_set()


async def _expect(stream: LinkStream, error: type[Exception]) -> None:
    with pytest.raises(error):
        await stream.receive_some(READ)


async def test_a_cancelled_read_of_a_plain_socket_loses_nothing() -> None:
    stream, _, theirs = await real_pair()
    async with stream, theirs:
        with trio.move_on_after(0) as scope:
            await stream.draw()
        assert scope.cancelled_caught
        await theirs.send_all(b"still there")
        assert await stream.receive_some(READ) == b"still there"


class Drawer:
    """Draws all the time, and knows what was given."""

    def __init__(self, stream: LinkStream) -> None:
        self.stream = stream
        self.messages: list[bytes] = []

    async def run(self) -> None:
        while messages := await self.stream.draw():
            self.messages += messages


async def established(nursery: trio.Nursery) -> tuple[LinkStream, Drawer, MemoryStream]:
    """Return a stream past its handshake that is drawn from, and its other end; nobody reads on the side."""
    ours, theirs = memory_connection(1 << 20)
    stream = LinkStream(ours, LIMIT)
    await theirs.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    await stream.receive_some()
    drawer = Drawer(stream)
    nursery.start_soon(drawer.run)
    await trio.testing.wait_all_tasks_blocked()
    return stream, drawer, theirs


async def test_a_sign_of_life_wakes_whoever_waits_for_it(autojump_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        stream, _, theirs = await established(nursery)
        heard: list[tuple[float, float]] = []

        async def wait(since: float) -> None:
            await stream.heard(since)
            heard.append((since, trio.current_time()))

        for since in (0, 2, 2.5, 7, math.inf):
            nursery.start_soon(wait, since)
        for _ in range(3):
            await trio.sleep(2.5)
            await theirs.send_all(server_frame(b"", PONG))
            # Who reads on the side takes it, as trio-websocket does.
            await stream.receive_some()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(heard) == [(0, 0), (2, 2.5), (2.5, 2.5), (7, 7.5)]
        nursery.cancel_scope.cancel()


async def test_what_was_read_is_drawn_before_it_counts_as_heard(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        stream, drawer, theirs = await established(nursery)
        given: list[int] = []

        async def wait() -> None:
            await stream.heard(1)
            given.append(len(drawer.messages))

        nursery.start_soon(wait)
        await trio.sleep(1)
        # More than is given at once.
        await theirs.send_all(server_frame(b"") * 5_000)
        await trio.testing.wait_all_tasks_blocked()
        assert given == [5_000]
        nursery.cancel_scope.cancel()


async def test_what_nobody_has_drawn_yet_is_not_heard(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_connection()
    stream = LinkStream(ours, LIMIT)
    await theirs.send_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + server_frame(b"hello"))
    await stream.receive_some()
    async with trio.open_nursery() as nursery:
        with trio.move_on_after(1) as scope:
            await stream.heard(0)
        assert scope.cancelled_caught
        nursery.start_soon(Drawer(stream).run)
        await stream.heard(0)
        assert trio.current_time() == 1
        nursery.cancel_scope.cancel()


async def test_waiting_for_a_sign_of_life_can_be_cancelled_and_begun_again(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with trio.open_nursery() as nursery:
        stream, drawer, theirs = await established(nursery)
        with trio.move_on_after(1) as scope:
            await stream.heard(1)
        assert scope.cancelled_caught
        nursery.start_soon(stream.heard, 1)
        await theirs.send_all(server_frame(b"hello"))
        await stream.heard(1)
        assert trio.current_time() == 1
        assert drawer.messages == [b"hello"]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["end", "close"])
async def test_where_nothing_more_can_come_nothing_is_heard(
    autojump_clock: trio.testing.MockClock, how: str
) -> None:
    async with trio.open_nursery() as nursery:
        stream, _, theirs = await established(nursery)
        with trio.move_on_after(10) as scope:
            nursery.start_soon(theirs.send_eof if how == "end" else stream.aclose)
            await stream.heard(0.1)
        assert scope.cancelled_caught
        nursery.cancel_scope.cancel()
