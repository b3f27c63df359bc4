import inspect
import json
import sys
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol, Opcode

from trio_signal import Gap, GapReason
from trio_signal.hub import _protocol
from trio_signal.hub._pages import Hole, LogEntry, Page
from trio_signal.hub.log import MessageLog

FRAME = b'{"envelope":{"timestamp":1700000000000,"dataMessage":{"message":"gr\xc3\xbc\xc3\x9fe \\u2028"}}}'


def decoded(frame: bytes) -> Any:
    """Decode a frame as any client may: strictly UTF-8, strictly JSON, by two decoders that agree."""
    value = json.loads(frame.decode("utf-8"), parse_constant=pytest.fail)
    assert msgspec.json.decode(frame) == value
    return value


# --- the frames ---


def test_a_message_carries_the_bytes_of_the_gateway_unchanged() -> None:
    frame = _protocol.message(7, 1_700_000_000_123, FRAME)
    assert decoded(frame) == {
        "type": "message",
        "sequence_number": 7,
        "timestamp": 1_700_000_000_123,
        "data": json.loads(FRAME),
    }
    assert frame.endswith(b'"data":' + FRAME + b"}")


@pytest.mark.contract("H8")
def test_a_broadcast_message_says_nothing_of_a_single_connection() -> None:
    assert set(decoded(_protocol.message(1, 2, b"3"))) == {"type", "sequence_number", "timestamp", "data"}


def test_a_direct_message_has_the_number_of_its_connection_only() -> None:
    frame = _protocol.direct(3, 1_700_000_000_123, FRAME)
    assert decoded(frame) == {
        "type": "direct",
        "connection_sequence": 3,
        "timestamp": 1_700_000_000_123,
        "data": json.loads(FRAME),
    }
    assert frame.endswith(b'"data":' + FRAME + b"}")


@pytest.mark.parametrize("reason", list(GapReason))
@pytest.mark.contract("R4")
def test_an_absence_is_numbered_and_has_no_numbers_of_another_gateway(reason: GapReason) -> None:
    frame = _protocol.gap(9, 50, Gap(reason, 20, 40, first=3, last=4))
    assert decoded(frame) == {
        "type": "gap",
        "sequence_number": 9,
        "timestamp": 50,
        "reason": reason.value,
        "since": 20,
        "until": 40,
    }


@pytest.mark.parametrize("count", [0, 1, 12_345])
def test_an_absence_says_how_many_are_lost_where_that_is_known(count: int) -> None:
    known = decoded(_protocol.gap(9, 50, Gap(GapReason.OVERFLOW, 20, 40, count=count)))
    unknown = decoded(_protocol.gap(9, 50, Gap(GapReason.OVERFLOW, 20, 40)))
    assert known == {**unknown, "count": count}


@pytest.mark.parametrize("reason", [GapReason.EXPIRED, GapReason.OVERWRITTEN])
@pytest.mark.contract("R4")
def test_a_hole_names_what_is_missing_and_has_no_number(reason: GapReason) -> None:
    frame = _protocol.hole(Hole(reason, 4, 17))
    assert decoded(frame) == {"type": "gap", "reason": reason.value, "first": 4, "last": 17}


@pytest.mark.contract("R4")
def test_a_hole_in_another_numbering_has_no_bounds() -> None:
    frame = _protocol.hole(Hole(GapReason.EPOCH_CHANGED, None, None))
    assert decoded(frame) == {"type": "gap", "reason": "epoch_changed", "first": None, "last": None}


@given(st.text(), st.text())
@example('"}', "\\")
@pytest.mark.contract("H2")
def test_a_hello_says_where_the_log_stands(epoch: str, connection_id: str) -> None:
    frame = _protocol.hello(epoch, 12, 3, 15.0, connection_id)
    assert decoded(frame) == {
        "type": "hello",
        "epoch": epoch,
        "head": 12,
        "oldest": 3,
        "heartbeat_interval": 15,
        "connection_id": connection_id,
    }


@pytest.mark.parametrize("head", [0, 1, 2**53])
@pytest.mark.contract("H2")
def test_a_heartbeat_carries_the_head(head: int) -> None:
    assert decoded(_protocol.heartbeat(head)) == {"type": "heartbeat", "head": head}


@pytest.mark.parametrize("seconds", [0, 25.0, 3.125])
@pytest.mark.contract("H9")
def test_the_notice_of_an_expired_token(seconds: float) -> None:
    assert decoded(_protocol.token_expiring(seconds)) == {"type": "token_expiring", "expires_in": seconds}


@pytest.mark.parametrize("seconds", [0, 25.0, 3.125])
@pytest.mark.contract("H10")
def test_a_goodbye_says_when_to_come_back(seconds: float) -> None:
    assert decoded(_protocol.goodbye(seconds)) == {"type": "goodbye", "retry_after": seconds}


# --- the recovery answer ---


def answer(page: Page) -> Any:
    return decoded(b"".join(_protocol.recovery(page)))


@pytest.mark.parametrize("count", [0, 1, 2, 500])
@pytest.mark.contract("H4")
def test_a_recovery_answer_holds_the_same_objects_as_the_live_stream(count: int) -> None:
    log = MessageLog(epoch="e")
    entries = [log.append(FRAME, timestamp=5) for _ in range(count)]
    assert answer(log.since(0)) == {
        "messages": [json.loads(entry.body) for entry in entries],
        "epoch": "e",
        "head": count,
        "oldest": 1,
        "gap": None,
        "more": False,
    }


@pytest.mark.contract("H4", "H5")
def test_a_recovery_answer_tells_its_hole_and_that_there_is_more() -> None:
    log = MessageLog(epoch="e", max_messages=3)
    for _ in range(5):
        log.append(b"null", timestamp=0)
    log.append_gap(Gap(GapReason.GATEWAY, 1, 2), timestamp=3)
    result = answer(log.since(1, limit=2))
    assert result["gap"] == {"reason": "overwritten", "first": 2, "last": 3}
    assert [message["sequence_number"] for message in result["messages"]] == [4, 5]
    assert (result["head"], result["oldest"], result["more"]) == (6, 4, True)
    result = answer(log.since(5, epoch="another"))
    assert result["gap"] == {"reason": "epoch_changed", "first": None, "last": None}
    assert [message["type"] for message in result["messages"]] == ["message", "message", "gap"]


@pytest.mark.contract("H8")
def test_a_recovery_answer_is_made_of_the_stored_bytes() -> None:
    log = MessageLog()
    entries = [log.append(FRAME, timestamp=5) for _ in range(3)]
    pieces = _protocol.recovery(log.since(0))
    assert [piece for piece in pieces if len(piece) > 60 and piece[:1] == b"{"] == [e.body for e in entries]
    assert all(any(piece is entry.body for piece in pieces) for entry in entries)


@given(st.text())
def test_a_recovery_answer_can_carry_any_epoch(epoch: str) -> None:
    page = Page((LogEntry(1, 0.0, b"{}"),), epoch, 1, 1, None, more=False)
    assert answer(page)["epoch"] == epoch


# --- what the gateway sends ---


def nested(depth: int) -> bytes:
    """Return arrays and objects in turn, ``depth`` of them around a number."""
    return b'[{"a":' * (depth // 2) + b"[" * (depth % 2) + b"1" + b"]" * (depth % 2) + b"}]" * (depth // 2)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@given(
    json_values.filter(lambda value: not isinstance(value, str)), st.booleans(), st.sampled_from([None, 2])
)
@example(10**400, False, None)
@example(-(10**400), False, None)
@example(5e-324, False, None)
@example(1.7976931348623157e308, False, None)
@pytest.mark.contract("R7")
def test_json_passes_unchanged(value: Any, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent, allow_nan=False)
    assert _protocol.as_json(text) == _protocol.as_json(text.encode()) == text.encode()


@given(st.text())
@example("")
@example("{")
@example('"quoted"')
@example(" 1 ")
@example("\x00")
@example("\u2028\u2029\x7f\x85\ufeff\uffff\U0010ffff")
@example('"},"type":"message"')
@example("</script>")
@pytest.mark.contract("R7")
def test_any_text_comes_out_as_json_that_gives_it_back(text: str) -> None:
    result = _protocol.as_json(text)
    value = decoded(result)
    if isinstance(value, str):
        assert value == text
    else:
        assert result == text.encode()


@given(st.binary())
@example(b"\xff")
@example(b'{"a":"\xff"}')
@example(b'"\xed\xa0\x80"')
@example(b"\xef\xbb\xbf{}")
@example("{}".encode("utf-16"))
@example("{}".encode("utf-16-le"))
@example("{}".encode("utf-32"))
@pytest.mark.contract("R7")
def test_any_bytes_come_out_as_json_that_gives_their_text_back(data: bytes) -> None:
    result = _protocol.as_json(data)
    value = decoded(result)
    if isinstance(value, str):
        assert value == data.decode("utf-8", "replace")
    else:
        assert result == data


@given(json_values, st.data())
@pytest.mark.contract("R7")
def test_damaged_json_comes_out_as_json(value: Any, data: st.DataObject) -> None:
    damaged = bytearray(json.dumps(value, ensure_ascii=False).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged)))
        damaged[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    result = _protocol.as_json(bytes(damaged))
    assert result == bytes(damaged) or decoded(result) == damaged.decode("utf-8", "replace")
    frame = decoded(_protocol.message(1, 2, result))
    assert frame == {"type": "message", "sequence_number": 1, "timestamp": 2, "data": decoded(result)}


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        "Infinity",
        '{"a":NaN}',
        "[-Infinity]",
        "1e999",
        "-1e999",
        '{"a":1e309}',
        "9" * 5_000,
        "9" * 400 + ".5",
        "01",
        "1.",
        "-",
        "'a'",
        "[1,]",
        '{"a":1}{"b":2}',
        '{"a":1} trailing',
        '{"a"',
        '{"a":"\n"}',
        '{"a":"\x01"}',
        '"\\ud800"',
        '{"a":"\\udc00\\ud800"}',
        '{"\\ud800":1}',
        '{"a":"\\x"}',
        "undefined",
        "// comment\n1",
        "",
        " ",
        "\n",
        "\x00",
        '{"a":1}\x00',
    ],
)
@pytest.mark.contract("R7")
def test_what_is_no_json_for_everybody_comes_as_its_text(text: str) -> None:
    assert decoded(_protocol.as_json(text)) == decoded(_protocol.as_json(text.encode())) == text


@pytest.mark.parametrize("text", ["null", "true", "-0", "1e5", "[]", "{}", " [1 ,\t2]\r\n", '{"a":1,"a":2}'])
@pytest.mark.contract("R7")
def test_json_of_any_kind_but_a_string_passes_unchanged(text: str) -> None:
    assert _protocol.as_json(text) == _protocol.as_json(text.encode()) == text.encode()


@pytest.mark.parametrize("text", ['""', '"a"', ' "\\u0041" ', '"\U0001f980"', '"[{"'])
@pytest.mark.contract("R7")
def test_a_json_string_is_wrapped_so_that_a_string_is_always_the_text_of_a_frame(text: str) -> None:
    assert decoded(_protocol.as_json(text)) == text


@pytest.mark.parametrize(
    ("frame", "value"), [("\ud800", "?"), ('"\udc00"', '"?"'), ('{"a":"\ud800"}', {"a": "?"})]
)
@pytest.mark.contract("R7")
def test_what_utf8_cannot_carry_is_replaced(frame: str, value: object) -> None:
    assert decoded(_protocol.as_json(frame)) == value


@pytest.mark.parametrize("depth", [1, 2, 63, 64])
@pytest.mark.contract("R7")
def test_usual_nesting_passes_unchanged(depth: int) -> None:
    assert _protocol.as_json(nested(depth)) == nested(depth)


@pytest.mark.parametrize("depth", [65, 66, 500, 100_000])
@pytest.mark.contract("R7")
def test_what_is_nested_deeper_comes_as_its_text(depth: int) -> None:
    assert decoded(_protocol.as_json(nested(depth))) == nested(depth).decode()


@pytest.mark.parametrize("depth", [65, 90])
@pytest.mark.contract("R7")
def test_the_deepest_place_counts_wherever_it_is(depth: int) -> None:
    around = b'{"a":[],"b":' + nested(depth - 1) + b',"c":{}}'
    assert decoded(_protocol.as_json(around)) == around.decode()
    empty = b"[" * depth + b"]" * depth
    assert decoded(_protocol.as_json(empty)) == empty.decode()


@pytest.mark.parametrize(
    "wide",
    [b"[" + b",".join([b"[]"] * 500) + b"]", b'{"message":"' + b"[{" * 500 + b'"}', b"[" * 64 + b"]" * 64],
)
@pytest.mark.contract("R7")
def test_many_brackets_are_no_depth(wide: bytes) -> None:
    assert _protocol.as_json(wide) == wide


@pytest.mark.contract("R7")
def test_a_client_that_is_deep_in_calls_itself_can_decode_the_deepest_answer() -> None:
    log = MessageLog()
    log.append(_protocol.as_json(nested(64)), timestamp=0)
    body = b"".join(_protocol.recovery(log.since(0)))

    def decode_at(calls: int) -> Any:
        return decode_at(calls - 1) if calls else json.loads(body)

    room = sys.getrecursionlimit() - len(inspect.stack(context=0))
    assert decode_at(room - 150)["head"] == 1


def test_a_megabyte_of_brackets_is_no_trouble() -> None:
    data = b"[" * 1_000_000
    assert decoded(_protocol.as_json(data)) == data.decode()


# --- the WebSocket frame ---


def parsed(stream: bytes, *, step: int) -> list[str]:
    """Read a server's stream as a client does, ``step`` bytes at a time; return the text messages."""
    parser = FrameProtocol(client=True, extensions=[])
    texts: list[str] = []
    parts: list[str] = []
    for start in range(0, len(stream), step):
        parser.receive_bytes(stream[start : start + step])
        for frame in parser.received_frames():
            assert frame.opcode in {Opcode.TEXT, Opcode.CONTINUATION}
            parts.append(str(frame.payload))
            if frame.message_finished:
                texts.append("".join(parts))
                parts.clear()
    assert not parts
    return texts


SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 70_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_frame_of_any_size_is_read_as_one_text(size: int) -> None:
    frame = _protocol.text_frame(b"x" * size)
    assert parsed(frame, step=len(frame)) == ["x" * size]
    header = len(frame) - size
    assert header == (2 if size < 126 else 4 if size < 65_536 else 10)  # the shortest form: a MUST
    assert frame[0] == 0x81  # final, no extension, text
    assert not frame[1] & 0x80  # a server never masks


@pytest.mark.parametrize("step", [1, 2, 3, 7, 4_096])
def test_frames_follow_one_another_without_a_mark_between(step: int) -> None:
    sizes = [size for size in SIZES if size <= 127]
    stream = b"".join(_protocol.text_frame(b"x" * size) for size in sizes)
    assert parsed(stream, step=step) == ["x" * size for size in sizes]


@given(st.text())
def test_a_frame_carries_any_text(text: str) -> None:
    frame = _protocol.text_frame(text.encode())
    assert parsed(frame, step=len(frame)) == [text]
