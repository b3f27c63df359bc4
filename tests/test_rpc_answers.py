"""The table of signal-cli's answers (contract O6), over old and new versions, and over anything else."""

import json
import math
from typing import Any, Final, NamedTuple, TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_signal import AnswerError, Certainty, Failed, FailedRecipient, LinkLost, RequestFailed, Sent
from trio_signal.gateways import SendResult
from trio_signal.gateways._rpc_answers import read_rpc_answer, read_rpc_result, unreadable

PEER: Final = "+15550002"
UUID: Final = "2c9e0000-0000-4000-8000-000000000002"
REQUEST: Final = "r1"

#: What json.loads() gives.
Json: TypeAlias = Any


class Meaning(NamedTuple):
    """What an answer means, in one line of a table: the certainty of a failure, and what follows from it."""

    certainty: str
    retry: bool = False
    refused: bool = False
    rate_limited: bool = False
    tokens: tuple[str, ...] = ()
    wait: float | None = None


NOT_SENT: Final = Meaning("not_sent")
UNKNOWN: Final = Meaning("unknown")
LIMITED: Final = Meaning("unknown", rate_limited=True)


def read(body: Json, *, status: int = 200, wait: float | None = None) -> SendResult:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_rpc_answer(status, raw, wait=wait, request=REQUEST)


def result(value: Json) -> Json:
    return {"jsonrpc": "2.0", "result": value, "id": REQUEST}


def error(code: Json, message: Json = "words", data: Json = None, request: Json = REQUEST) -> Json:
    return {"jsonrpc": "2.0", "error": {"code": code, "message": message, "data": data}, "id": request}


def entry(kind: Json = "SUCCESS", number: str | None = PEER, **more: Json) -> Json:
    return {"recipientAddress": {"uuid": UUID, "number": number, "username": None}, "type": kind, **more}


def sent(*entries: Json, **more: Json) -> Json:
    return {"timestamp": 1_795_302_674_123, "results": list(entries), **more}


def meaning_of(given: SendResult) -> Meaning:
    assert isinstance(given.outcome, Failed)
    return Meaning(
        given.outcome.certainty.value,
        given.retry,
        given.refused,
        given.rate_limited,
        given.challenge_tokens,
        given.retry_after,
    )


def error_of(given: SendResult) -> AnswerError:
    assert isinstance(given.outcome, Failed)
    assert isinstance(given.outcome.error, AnswerError)
    return given.outcome.error


# --- What was sent. ---


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    "value",
    [
        # 0.13.19 and later.
        sent(entry()),
        # A member of a group is named with it.
        sent(entry(groupId="Z3JvdXA=")),
        # Before: no results, or none told.
        {"timestamp": 1_795_302_674_123},
        sent(),
        {"timestamp": 1_795_302_674_123, "results": None},
        # What a later one may add.
        sent(entry(newField=[1]), newField={}),
    ],
)
def test_a_result_without_failures_is_sent(value: Json) -> None:
    assert read(result(value)) == SendResult(Sent(1_795_302_674_123))


@pytest.mark.contract("O6")
@pytest.mark.parametrize("timestamp", [None, "1795302674123", -1, True, 1.5, [], "absent"])
def test_a_success_without_a_timestamp_is_sent_all_the_same(timestamp: Json) -> None:
    value = sent(entry())
    value["timestamp"] = timestamp
    if timestamp == "absent":
        del value["timestamp"]
    assert read(result(value)) == SendResult(Sent(0))


@pytest.mark.contract("O6")
def test_who_was_not_reached_is_named_with_all_that_is_told() -> None:
    value = sent(
        entry(),
        entry("UNREGISTERED_FAILURE", "+15550003"),
        entry("NETWORK_FAILURE", None),
        # Since 0.14.3 a plain limit tells its time as well.
        entry("RATE_LIMIT_FAILURE", "+15550004", retryAfterSeconds=30),
        {"recipientAddress": {"username": "ada.01"}, "type": None},
        {"type": "IDENTITY_FAILURE"},
        "nonsense",
    )
    assert read(result(value)) == SendResult(
        Sent(
            1_795_302_674_123,
            (
                FailedRecipient("+15550003", "UNREGISTERED_FAILURE"),
                FailedRecipient(UUID, "NETWORK_FAILURE"),
                FailedRecipient("+15550004", "RATE_LIMIT_FAILURE", 30.0),
                FailedRecipient("ada.01", "unknown"),
                FailedRecipient("", "IDENTITY_FAILURE"),
                FailedRecipient("", "unknown"),
            ),
        ),
        retry_after=30.0,
    )


@pytest.mark.contract("O6")
def test_a_challenge_pauses_the_queue_though_others_were_reached() -> None:
    value = sent(
        entry(),
        entry("RATE_LIMIT_FAILURE", token="t1", retryAfterSeconds=60),
        entry("RATE_LIMIT_FAILURE", token="t1", retryAfterSeconds=90),
        entry("RATE_LIMIT_FAILURE", token="", retryAfterSeconds=0),
    )
    given = read(result(value))
    assert isinstance(given.outcome, Sent)
    assert [failed.challenge_token for failed in given.outcome.failed] == ["t1", "t1", None]
    assert (given.rate_limited, given.retry_after, given.challenge_tokens) == (True, 90.0, ("t1",))


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("kinds", "meaning"),
    [
        (("UNREGISTERED_FAILURE",), NOT_SENT),
        (("IDENTITY_FAILURE", "UNREGISTERED_FAILURE"), NOT_SENT),
        (("INVALID_PRE_KEY_FAILURE",), NOT_SENT),
        (("NETWORK_FAILURE",), UNKNOWN),
        (("UNREGISTERED_FAILURE", "NETWORK_FAILURE"), UNKNOWN),
        (("SOMETHING_NEW",), UNKNOWN),
        ((None,), UNKNOWN),
        (("RATE_LIMIT_FAILURE",), LIMITED),
        (("RATE_LIMIT_FAILURE", "UNREGISTERED_FAILURE"), LIMITED),
    ],
)
def test_nobody_reached_is_a_failure_wherever_it_stands(kinds: tuple[str, ...], meaning: Meaning) -> None:
    value = sent(*(entry(kind) for kind in kinds))
    assert meaning_of(read(result(value))) == meaning
    # In an error it is the data, or in the data.
    assert meaning_of(read(error(-1, "Failed to send message", value))) == meaning
    assert meaning_of(read(error(-1, "Failed to send message", {"response": value}))) == meaning
    told = error_of(read(error(-1, "Failed to send message", {"response": value})))
    assert [failed.reason for failed in told.failed] == [kind or "unknown" for kind in kinds]


# --- Errors. ---


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("code", "text", "meaning"),
    [
        (-32700, "Unexpected end-of-input", NOT_SENT),
        (-32600, "invalid request", NOT_SENT),
        (-32601, "Method not implemented", NOT_SENT),
        (-32602, "Specified account does not exist", NOT_SENT),
        (-4, "Failed to send message due to untrusted identities", NOT_SENT),
        (-6, "Captcha rejected", NOT_SENT),
        (-1, "Invalid group id: x", NOT_SENT),
        (-1, "The user +1 is not registered.", NOT_SENT),
        (-1, "Failed to send message", UNKNOWN),
        (-1, "Failed to send message: timeout (IOException)", UNKNOWN),
        (-1, "Failed to send message: [429] Rate limit exceeded (RateLimitException)", LIMITED),
        (-3, "Link request error: Connection closed!", UNKNOWN),
        (-3, "[413] too much", LIMITED),
        (-5, "Failed to send message due to rate limiting", LIMITED),
        (-5, "", LIMITED),
        (-32603, "An internal server error has occurred.", UNKNOWN),
        (-32603, "Failed to send message: [429] (RateLimitException)", LIMITED),
        (-7, "of the future", UNKNOWN),
        (-2, "due to rate limiting", LIMITED),
        (None, "words", UNKNOWN),
        ("-1", "words", UNKNOWN),
        (True, "words", UNKNOWN),
        (-32602, "[429] in the words of what was never sent", NOT_SENT),
    ],
)
def test_errors(code: Json, text: str, meaning: Meaning) -> None:
    given = read(error(code, text))
    assert meaning_of(given) == meaning
    told = error_of(given)
    assert told.text == text
    assert told.code == (code if type(code) is int else None)
    assert text in str(told)


@pytest.mark.contract("O6")
@pytest.mark.parametrize("nested", [True, False])
def test_a_rate_limit_tells_the_longest_wait_and_what_to_solve(nested: bool) -> None:
    value = sent(
        entry("RATE_LIMIT_FAILURE", token="t1", retryAfterSeconds=60),
        entry("RATE_LIMIT_FAILURE", token="t2", retryAfterSeconds=86400),
        entry("RATE_LIMIT_FAILURE", token="", retryAfterSeconds=None),
    )
    given = read(error(-5, "due to rate limiting", {"response": value} if nested else value), wait=5)
    assert meaning_of(given) == Meaning("unknown", rate_limited=True, tokens=("t1", "t2"), wait=86400.0)
    assert error_of(given).challenge_tokens == ("t1", "t2")


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    "data",
    [None, [], "x", 5, {}, {"response": None}, {"results": None}, {"results": [None]}, {"response": []}],
)
def test_a_rate_limit_without_details_is_one_all_the_same(data: Json) -> None:
    assert meaning_of(read(error(-5, "x", data), wait=5)) == LIMITED._replace(wait=5)


@pytest.mark.contract("O6")
@pytest.mark.parametrize("seconds", [0, -1, True, "60", None, [], 10**400, 1e300, math.pi * 1e12])
def test_a_wait_that_is_none_is_not_waited_for(seconds: Json) -> None:
    value = sent(entry("RATE_LIMIT_FAILURE", retryAfterSeconds=seconds))
    assert meaning_of(read(error(-5, "x", value))).wait is None


def test_an_error_before_the_id_was_read_has_none() -> None:
    assert meaning_of(read(error(-32700, "Unexpected character", request=None))) == NOT_SENT
    assert meaning_of(read(error(-32603, "internal", request=None))) == UNKNOWN
    body = error(-32600)
    del body["id"]
    assert meaning_of(read(body)) == NOT_SENT


def test_a_null_beside_the_other_is_nothing() -> None:
    assert read(result(sent(entry())) | {"error": None}) == read(result(sent(entry())))
    assert meaning_of(read(error(-1) | {"result": None})) == NOT_SENT


@pytest.mark.parametrize(
    ("code", "text", "advice"),
    [
        (-32602, "Specified account does not exist", "link or register it on the daemon"),
        (-32602, "Method requires valid account parameter", "say whose this is"),
        (-4, "untrusted", "trust it on the daemon"),
        (-6, "rejected", "the captcha was not accepted"),
    ],
)
def test_errors_that_somebody_can_mend_say_how(code: int, text: str, advice: str) -> None:
    assert advice in str(error_of(read(error(code, text))))


def test_words_are_shortened_and_printable() -> None:
    told = error_of(read(error(-1, "a\n\x1b[31mb\u2028" + "x" * 1000)))
    assert told.text.startswith("a  [31mb x")
    assert len(told.text) <= 500
    assert error_of(read(error(-1, {"no": "text"}))).text == ""


# --- What is no JSON-RPC. ---


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (201, UNKNOWN),
        (204, UNKNOWN),
        (301, NOT_SENT),
        (307, NOT_SENT),
        (400, NOT_SENT),
        (401, Meaning("not_sent", refused=True)),
        (403, Meaning("not_sent", refused=True)),
        (404, NOT_SENT),
        (405, NOT_SENT),
        (408, UNKNOWN),
        (413, NOT_SENT),
        (415, NOT_SENT),
        (421, NOT_SENT),
        (425, UNKNOWN),
        (429, LIMITED),
        (500, UNKNOWN),
        (502, UNKNOWN),
        (503, Meaning("not_sent", retry=True)),
        (504, UNKNOWN),
        (599, UNKNOWN),
    ],
)
def test_statuses(status: int, meaning: Meaning) -> None:
    for body in (b"", b"<html>no</html>", json.dumps(result(sent(entry()))).encode()):
        given = read(body, status=status, wait=7)
        assert meaning_of(given) == meaning._replace(wait=7)
        assert error_of(given).status == status
        assert f"HTTP {status}" in str(error_of(given))


def test_a_status_says_the_words_that_came_with_it() -> None:
    assert "no room" in str(error_of(read(b"no room", status=507)))
    assert error_of(read(error(-1, "words"), status=500)).text == "words"
    assert "--http=0.0.0.0" in str(error_of(read(b"", status=421)))
    assert "use the address that it redirects to" in str(error_of(read(b"", status=302)))


@pytest.mark.contract("O6", "O5")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no json",
        b"\xff",
        b"[" * 100_000,
        [],
        [result(sent(entry()))],
        None,
        5,
        {},
        {"id": REQUEST},
        result(None),
        result(5),
        result([]),
        result({}),
        result({"results": []}),
        result({"results": "x"}),
        # An answer to something else.
        result(sent(entry())) | {"id": "another"},
        result(sent(entry())) | {"id": None},
        error(-1, request="another"),
        {"jsonrpc": "2.0", "error": "words", "id": REQUEST},
        {"jsonrpc": "2.0", "error": [], "result": sent(entry()), "id": REQUEST},
    ],
)
def test_what_cannot_be_read_is_unknown(body: Json) -> None:
    given = read(body)
    assert meaning_of(given) == UNKNOWN
    assert isinstance(given.outcome, Failed)
    assert isinstance(given.outcome.error, LinkLost)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "recipientAddress": JSON | st.fixed_dictionaries({}, optional={"number": JSON, "uuid": JSON}),
        "type": JSON | st.sampled_from(["SUCCESS", "NETWORK_FAILURE", "RATE_LIMIT_FAILURE"]),
        "token": JSON,
        "retryAfterSeconds": JSON,
    },
)
VALUE = JSON | st.fixed_dictionaries(
    {}, optional={"timestamp": JSON, "results": JSON | st.lists(JSON | ENTRY, max_size=4)}
)
ERROR = JSON | st.fixed_dictionaries(
    {},
    optional={
        "code": JSON | st.sampled_from([-1, -3, -4, -5, -6, -32603, -32602]),
        "message": JSON,
        "data": VALUE | st.fixed_dictionaries({"response": VALUE}),
    },
)
ANSWER = JSON | st.fixed_dictionaries(
    {}, optional={"result": VALUE, "error": ERROR, "id": JSON | st.just(REQUEST)}
)


@pytest.mark.contract("O6")
@given(ANSWER, st.integers(100, 999) | st.just(200))
@example(result({"timestamp": 10**30, "results": [{"token": 5, "retryAfterSeconds": 10**400}]}), 200)
def test_any_answer_gives_a_meaning(body: Json, status: int) -> None:
    given = read(body, status=status)
    assert isinstance(given.outcome, Sent | Failed)
    if isinstance(given.outcome, Sent):
        assert status == 200
        assert 0 <= given.outcome.timestamp < 2**63
    if given.retry or given.refused:
        assert isinstance(given.outcome, Failed)
        assert given.outcome.certainty is Certainty.NOT_SENT
    assert given.retry_after is None or 0 < given.retry_after < math.inf
    assert all(isinstance(token, str) and token for token in given.challenge_tokens)
    assert given.rate_limited or not given.challenge_tokens


@given(st.binary(max_size=50), st.integers(100, 999))
def test_any_bytes_give_a_meaning(body: bytes, status: int) -> None:
    assert isinstance(read_rpc_answer(status, body, wait=None, request=REQUEST).outcome, Failed)


# --- Operations. ---


@pytest.mark.contract("A1")
@pytest.mark.parametrize("value", [None, 5, [], {}, {"groupId": "x"}])
def test_the_result_of_an_operation(value: Json) -> None:
    assert read_rpc_result(200, json.dumps(result(value)).encode(), request=REQUEST) == value


@pytest.mark.contract("A1")
@pytest.mark.parametrize(
    ("status", "body", "certainty", "code"),
    [
        (200, error(-6, "Captcha rejected"), Certainty.NOT_SENT, -6),
        (200, error(-3, "Connection closed!"), Certainty.UNKNOWN, -3),
        (200, error(-1, "Unknown device link uri."), Certainty.NOT_SENT, -1),
        (401, b"", Certainty.NOT_SENT, None),
        (503, b"", Certainty.NOT_SENT, None),
        (500, b"", Certainty.UNKNOWN, None),
    ],
)
def test_the_failure_of_an_operation(status: int, body: Json, certainty: Certainty, code: int | None) -> None:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(RequestFailed) as caught:
        read_rpc_result(status, raw, request=REQUEST)
    assert caught.value.certainty is certainty
    assert isinstance(caught.value.error, AnswerError)
    assert caught.value.error.code == code


@pytest.mark.contract("A1")
@pytest.mark.parametrize("body", [b"", b"{}", b'{"result":1,"id":"another"}'])
def test_an_operation_whose_answer_cannot_be_read(body: bytes) -> None:
    with pytest.raises(RequestFailed, match="cannot be read") as caught:
        read_rpc_result(200, body, request=REQUEST)
    assert caught.value.certainty is Certainty.UNKNOWN


# --- The last of each range ---


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("status", "meaning"),
    [(299, UNKNOWN), (300, NOT_SENT), (399, NOT_SENT), (400, NOT_SENT), (499, NOT_SENT), (500, UNKNOWN)],
)
def test_redirections_and_faults_of_the_request_end_where_http_says(status: int, meaning: Meaning) -> None:
    given = read({}, status=status)
    assert meaning_of(given) == meaning
    assert ("redirects" in str(error_of(given))) == (status in {300, 399})


def test_what_came_with_http_200_says_so() -> None:
    assert error_of(read(error(-3))).status == 200
    assert error_of(read(result(sent(entry("UNREGISTERED_FAILURE"))))).status == 200


@pytest.mark.parametrize("code", [None, -3])
def test_the_error_names_its_code_if_it_has_one(code: int | None) -> None:
    told = "signal-cli answered with an error" if code is None else f"signal-cli answered with error {code}"
    assert str(error_of(read(error(code, "words")))) == f"{told}: words"


@pytest.mark.parametrize(
    ("seconds", "wait"), [(0.5, 0.5), (1, 1.0), (999_999_999, 999_999_999.0), (1e9, None), (10**9 + 1, None)]
)
def test_the_longest_and_the_shortest_wait(seconds: Json, wait: float | None) -> None:
    assert read(result(sent(entry("RATE_LIMIT_FAILURE", retryAfterSeconds=seconds)))).retry_after == wait


@pytest.mark.parametrize(
    ("timestamp", "read_as"), [(0, 0), (1, 1), (2**63 - 1, 2**63 - 1), (2**63, 0), (2**63 + 1, 0)]
)
def test_the_largest_and_the_smallest_timestamp(timestamp: int, read_as: int) -> None:
    assert read(result(sent(entry()) | {"timestamp": timestamp})).outcome == Sent(read_as)


def test_as_many_words_are_kept_as_of_the_other_gateways() -> None:
    assert error_of(read(error(-3, "x" * 600))).text == "x" * 500


@pytest.mark.contract("O6")
@pytest.mark.parametrize("mark", ["due to rate limiting", "[429]", "[413]", "RateLimitException"])
def test_the_words_for_a_rate_limit_under_another_code(mark: str) -> None:
    assert meaning_of(read(error(-1, f"Failed: {mark} (something)"))) == LIMITED


def test_who_was_not_reached_is_named_by_what_is_a_text() -> None:
    given = read(
        result(sent(entry(), entry("NETWORK_FAILURE") | {"recipientAddress": {"number": 5, "uuid": UUID}}))
    )
    assert isinstance(given.outcome, Sent)
    assert [failed.recipient for failed in given.outcome.failed] == [UUID]


def test_what_was_done_with_a_result_that_nobody_can_read_is_unknown() -> None:
    assert unreadable().certainty is Certainty.UNKNOWN
    assert "cannot be read" in str(unreadable())
