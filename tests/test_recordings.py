"""The fake gateway is held against what the real one answered, byte for byte, in memory and on a port."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_signal.testing import (
    FakeGateway,
    SendAnswer,
    error,
    hang,
    open_fake_gateway,
    rate_limited,
    server_frame,
)

DATA = Path(__file__).parent / "data"
RECORDINGS = {
    name: json.loads((DATA / f"gateway-{name}.json").read_text()) for name in ("0.100", "0.101-pre")
}
# What each recorded gateway said of itself in /v1/about.
VERSIONS = {"0.100": "0.100", "0.101-pre": "HEAD"}
SCRIPTED_SENDS: dict[str, SendAnswer] = {
    "rate limited": rate_limited(),
    "daemon error": error(400, "scripted failure"),
    "daemon never answers (response null = nothing within 3 s)": hang(),
}
DAEMON_DOWN = {"daemon link down", "health while the daemon link is down"}
CASES = [
    pytest.param(version, case, id=f"{version} {case['case']}")
    for version, recording in RECORDINGS.items()
    for case in recording["http"]
]
TRANSPORTS = ["memory", "port"]


def script(gateway: FakeGateway, case: dict[str, Any]) -> None:
    if case["case"] in SCRIPTED_SENDS:
        gateway.script_send(SCRIPTED_SENDS[case["case"]])
    elif case["case"] in DAEMON_DOWN:
        gateway.daemon_outage()
    elif case["response"] is None:
        gateway.script("GET /v1/accounts", hang())


async def connect(gateway: FakeGateway, transport: str) -> trio.abc.Stream:
    if transport == "memory":
        return await gateway.connect("127.0.0.1", 8080)
    assert gateway.port is not None
    return await trio.open_tcp_stream("127.0.0.1", gateway.port)


async def read_for(stream: trio.abc.Stream, seconds: float) -> bytes:
    """Read all that comes within ``seconds``."""
    data = b""
    with trio.move_on_after(seconds):
        while chunk := await stream.receive_some():
            data += chunk
    return data


def normalised(answer: bytes) -> bytes:
    """Replace what the clock decides; the length of each stays as it was."""
    answer = re.sub(rb"\r\nDate: [^\r]{29}\r\n", b"\r\nDate: (date)\r\n", answer)
    return re.sub(rb'"timestamp":"\d{13}"', b'"timestamp":"(ms)"', answer)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("version", "case"), CASES)
async def test_each_recorded_answer(
    version: str, case: dict[str, Any], transport: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with open_fake_gateway("+15550001", version=VERSIONS[version]) as gateway:
        script(gateway, case)
        async with await connect(gateway, transport) as stream:
            await stream.send_all(case["request"].encode())
            answer = await read_for(stream, 3)
        assert normalised(answer) == normalised((case["response"] or "").encode())


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("version", RECORDINGS)
async def test_the_recorded_requests_one_after_the_other_on_one_connection(
    version: str, transport: str, autojump_clock: trio.testing.MockClock
) -> None:
    cases = [
        case
        for case in RECORDINGS[version]["http"]
        if case["response"] is not None and "101 Switching" not in case["response"]
    ]
    assert len(cases) >= 19
    async with open_fake_gateway("+15550001", version=VERSIONS[version]) as gateway:
        async with await connect(gateway, transport) as stream:
            for case in cases:
                script(gateway, case)
                await stream.send_all(case["request"].encode())
                answer = await read_for(stream, 1)
                assert normalised(answer) == normalised(case["response"].encode()), case["case"]
        assert len(gateway.requests) == len(cases)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("version", RECORDINGS)
async def test_recorded_frames(version: str, transport: str, autojump_clock: trio.testing.MockClock) -> None:
    frames = [base64.b64decode(frame) for frame in RECORDINGS[version]["websocket_frames_base64"]]
    upgrade = next(c for c in RECORDINGS[version]["http"] if c["case"] == "receive upgrade")
    async with open_fake_gateway("+15550001") as gateway, await connect(gateway, transport) as stream:
        await stream.send_all(upgrade["request"].encode())
        assert await read_for(stream, 1) == upgrade["response"].encode()
        for frame in frames:
            gateway.deliver_raw(frame[4:])
        assert await read_for(stream, 1) == b"".join(frames)


@pytest.mark.parametrize("version", RECORDINGS)
async def test_a_delivered_message_is_written_as_recorded(version: str) -> None:
    async with open_fake_gateway("+15550001", port=None) as gateway:
        for encoded in RECORDINGS[version]["websocket_frames_base64"]:
            frame = base64.b64decode(encoded)
            content = json.loads(frame[4:])["envelope"]["dataMessage"]
            payload = gateway.deliver(
                text=content["message"],
                timestamp=content["timestamp"],
                group=content.get("groupInfo", {}).get("groupId"),
            )
            assert server_frame(payload) == frame
