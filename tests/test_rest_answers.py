import json
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trio_signal import (
    AnswerError,
    Certainty,
    Failed,
    FailedRecipient,
    LinkLost,
    Sent,
    SignalError,
)
from trio_signal.gateways import SendResult
from trio_signal.gateways._rest_answers import read_answer

ACCOUNT = "+15550001"
PEER = "+15550002"
GROUP = "group.QUFFQ0F3UUZCZ2NJQ1FvTERBME9EeEFSRWhNVUZSWVhHQmthR3h3ZEhoOD0="
DATA = Path(__file__).parent / "data"
PIECE = 6

#: What json.loads() gives.
Json: TypeAlias = Any


@pytest.mark.contract("O6")
def test_of_a_reaction_the_gateway_tells_nothing_more() -> None:
    result = read_answer(204, b"", recipient=PEER, wait=None, is_reaction=True)
    assert result == SendResult(Sent(0))


def read(status: int, body: bytes | str, *, recipient: str = PEER, wait: float | None = None) -> SendResult:
    return read_answer(
        status, body.encode() if isinstance(body, str) else body, recipient=recipient, wait=wait
    )


class Meaning(NamedTuple):
    """What an answer means, in one line of a table: the certainty of a failure, and what follows from it."""

    certainty: str
    retry: bool = False
    refused: bool = False
    rate_limited: bool = False
    tokens: tuple[str, ...] = ()


NOT_SENT = Meaning("not_sent")
UNKNOWN = Meaning("unknown")
RETRY = Meaning("not_sent", retry=True)
REFUSED = Meaning("not_sent", refused=True)
LIMITED = Meaning("unknown", rate_limited=True)


def meaning(result: SendResult) -> Meaning:
    assert isinstance(result.outcome, Failed)
    return Meaning(
        result.outcome.certainty.value,
        result.retry,
        result.refused,
        result.rate_limited,
        result.challenge_tokens,
    )


# --- Answers: the recordings ---


class Recorded(NamedTuple):
    """One exchange as it was recorded."""

    gateway: str
    case: str
    status: int
    body: bytes


def recorded_sends() -> list[Recorded]:
    """Return every recorded exchange on /v2/send that had an answer."""
    found: list[Recorded] = []
    for path in sorted(DATA.glob("gateway-*.json")):
        for exchange in json.loads(path.read_text(encoding="utf-8"))["http"]:
            if " /v2/send " in exchange["request"].split("\r\n")[0] and exchange["response"] is not None:
                head, body = exchange["response"].split("\r\n\r\n", 1)
                found.append(Recorded(path.stem, exchange["case"], int(head.split(" ")[1]), body.encode()))
    return found


RECORDED_MEANINGS: dict[str, Meaning | None] = {
    "send ok": None,
    "send ok, two recipients": None,
    "send to a group": None,
    "malformed group id (goes to the daemon as a username)": None,
    "malformed JSON": NOT_SENT,
    "empty body": NOT_SENT,
    "no recipients": NOT_SENT,
    "no number": NOT_SENT,
    "bad attachment": NOT_SENT,
    "number and username mixed": NOT_SENT,
    "GET on send": NOT_SENT,
    "rate limited": LIMITED._replace(tokens=("token-1",)),
    "daemon error": UNKNOWN,
    "daemon link down": RETRY,
}


@pytest.mark.contract("O6")
@pytest.mark.parametrize("recorded", recorded_sends(), ids=lambda r: f"{r.gateway}: {r.case}")
def test_every_recorded_answer_means_what_the_gateway_meant(recorded: Recorded) -> None:
    result = read(recorded.status, recorded.body)
    expected = RECORDED_MEANINGS[recorded.case]
    if expected is not None:
        assert meaning(result) == expected
        return
    answer: Json = json.loads(recorded.body)
    timestamp = int((answer[0] if recorded.body.startswith(b"[") else answer)["timestamp"])
    assert timestamp > 1_700_000_000_000
    assert result == SendResult(Sent(timestamp))


def test_both_recordings_hold_every_kind_of_answer() -> None:
    assert sorted(r.case for r in recorded_sends()) == sorted([*RECORDED_MEANINGS] * 2)


# --- Answers: the table ---


def error(text: str, **more: object) -> str:
    return json.dumps({"error": text, **more})


LIMIT_TEXT = (
    "Failed to send message due to rate limiting. Use the attached challenge tokens to lift the rate limit "
    "restrictions via the '/v1/accounts/{number}/rate-limit-challenge' endpoint."
)

TABLE: list[tuple[str, int, bytes | str, Meaning]] = [
    # Section 2 of the measurements: refused by the gateway before anything goes to Signal.
    ("unknown account", 400, error("Specified account does not exist"), NOT_SENT),
    ("invalid request", 400, error("Couldn't process request - invalid request"), NOT_SENT),
    (
        "no recipient",
        400,
        error("Couldn't process request - please provide at least one recipient"),
        NOT_SENT,
    ),
    ("no number", 400, error("Couldn't process request - please provide a valid number"), NOT_SENT),
    ("bad base64", 400, error("illegal base64 data at input byte 0"), NOT_SENT),
    ("bad group", 400, error("Invalid identifier group.AAAA"), NOT_SENT),
    (
        "mixed",
        400,
        error(
            "Signal Messenger phone numbers and usernames cannot be specified together in one request! "
            "Please split them up into multiple REST API calls."
        ),
        NOT_SENT,
    ),
    ("untrusted (0.101)", 400, error("Unable to complete request due to untrusted recipient keys"), NOT_SENT),
    ("wrong path", 404, "404 page not found", NOT_SENT),
    # Section 7: what signal-cli says, of which only the words are passed on.
    ("io failure", 400, error("write tcp 127.0.0.1:1234->127.0.0.1:6001: write: broken pipe"), UNKNOWN),
    ("end of file", 400, error("EOF"), UNKNOWN),
    ("network failure of the only recipient", 400, error("Failed to send message"), UNKNOWN),
    ("some other error", 400, error("scripted failure"), UNKNOWN),
    ("code 0", 400, error("unexpected end of JSON input"), UNKNOWN),
    ("a known text in the middle only", 400, error("wrapped: Specified account does not exist"), UNKNOWN),
    ("no text at all", 400, error(""), UNKNOWN),
    ("an empty 400", 400, b"", UNKNOWN),
    ("a 400 that is no JSON", 400, "Bad Request", UNKNOWN),
    ("two documents", 400, 'Bad Request\n{"error":"websocket: not a websocket handshake"}', UNKNOWN),
    (
        "limit with data absent",
        400,
        error("due to rate limiting (Couldn't parse JSON for more details"),
        LIMITED,
    ),
    ("limit in words", 400, error("Failed to send message due to rate limiting"), LIMITED),
    ("limit 429 in words", 400, error("StatusCode: 429 [429] Rate limit"), LIMITED),
    ("limit 413 in words", 400, error("[413] Rate limit exceeded: 413"), LIMITED),
    ("limit as an exception", 400, error("org.example.RateLimitException: no"), LIMITED),
    (
        "limit with a token",
        429,
        error(LIMIT_TEXT, challenge_tokens=["a"], account=ACCOUNT),
        LIMITED._replace(tokens=("a",)),
    ),
    (
        "limit with tokens",
        429,
        error(LIMIT_TEXT, challenge_tokens=["a", "", "b", None, 5], account=ACCOUNT),
        LIMITED._replace(tokens=("a", "b")),
    ),
    ("limit with an empty token", 429, error(LIMIT_TEXT, challenge_tokens=[""], account=ACCOUNT), LIMITED),
    ("limit with a null", 429, error(LIMIT_TEXT, challenge_tokens=None), LIMITED),
    ("limit with a text", 429, error(LIMIT_TEXT, challenge_tokens="abc"), LIMITED),
    ("limit without tokens", 429, error(LIMIT_TEXT, account=ACCOUNT), LIMITED),
    ("limit of a proxy", 429, "<html>slow down</html>", LIMITED),
    ("limit without a word", 429, b"", LIMITED),
    # Section 6: the gateway's own link to signal-cli is down. It says so with nothing at all.
    ("link down", 500, b"", RETRY),
    ("link down, with a line end", 500, b"\r\n", RETRY),
    ("another 500", 500, error("Specified account does not exist"), UNKNOWN),
    ("a 500 in HTML", 500, "<html>", UNKNOWN),
    # Contract O6 and C6: the rest of HTTP.
    ("no credentials", 401, error("unauthorized"), REFUSED),
    ("wrong credentials", 403, b"", REFUSED),
    ("no gateway behind the proxy", 503, "<html>", RETRY),
    ("no gateway, no word", 503, b"", RETRY),
    ("request timeout", 408, b"", UNKNOWN),
    ("bad gateway", 502, b"", UNKNOWN),
    ("gateway timeout", 504, "<html>", UNKNOWN),
    ("not implemented", 501, b"", UNKNOWN),
    ("version not supported", 505, b"", UNKNOWN),
    ("an invention of a proxy", 599, b"", UNKNOWN),
    ("too large for a proxy", 413, "<html>", NOT_SENT),
    ("wrong method", 405, b"", NOT_SENT),
    ("moved", 301, "<a href=/v2/send>", NOT_SENT),
    ("moved, keep the method", 308, b"", NOT_SENT),
    # A success that is none of ours: somebody took it for something else.
    ("ok", 200, '{"timestamp":"5"}', UNKNOWN),
    ("accepted", 202, '{"timestamp":"5"}', UNKNOWN),
    ("no content", 204, b"", UNKNOWN),
    ("partial", 206, '[{"timestamp":"5"}]', UNKNOWN),
    # 201, but nobody can say what it means.
    ("created, no body", 201, b"", UNKNOWN),
    ("created, HTML", 201, "<html>", UNKNOWN),
    ("created, null", 201, "null", UNKNOWN),
    ("created, a number", 201, "5", UNKNOWN),
    ("created, an empty list", 201, "[]", UNKNOWN),
    ("created, a list of lists", 201, "[[]]", UNKNOWN),
    ("created, an object of something else", 201, '{"id":5}', UNKNOWN),
    ("created, cut off", 201, '{"timestamp":"17953', UNKNOWN),
    ("created, not UTF-8", 201, b'{"timestamp":"\xff"}', UNKNOWN),
]


@pytest.mark.contract("O5", "O6")
@pytest.mark.parametrize(
    ("status", "body", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
@pytest.mark.parametrize("recipient", [PEER, GROUP], ids=["person", "group"])
def test_the_table_of_answers(status: int, body: bytes | str, expected: Meaning, recipient: str) -> None:
    result = read(status, body, recipient=recipient)
    assert meaning(result) == expected
    if status != 201:
        assert isinstance(result.outcome, Failed)
        assert isinstance(result.outcome.error, AnswerError)
        assert result.outcome.error.status == status
        assert result.outcome.error.challenge_tokens == expected.tokens


@pytest.mark.contract("O6")
@pytest.mark.parametrize("status", [*range(300, 600)])
def test_retry_after_is_passed_on_with_every_status(status: int) -> None:
    assert read(status, b"", wait=7.5).retry_after == 7.5
    assert read(status, b"").retry_after is None


# --- Answers: 201 ---


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ('"1795300291244"', 1795300291244),
        ("1795300291244", 1795300291244),
        ('"0"', 0),
        ("0", 0),
        ('""', 0),
        ("null", 0),
        ("true", 0),
        ("-5", 0),
        ('"-5"', 0),
        ("1.5", 0),
        ('"soon"', 0),
        ('"٣"', 0),
        ('"²"', 0),
        (f'"{"9" * 5000}"', 0),
        ("{}", 0),
        ("[]", 0),
    ],
    ids=lambda t: ascii(t)[:30],
)
@pytest.mark.parametrize("form", ['{{"timestamp":{}}}', '[{{"timestamp":{}}}]'], ids=["0.100", "0.101"])
def test_a_sent_message_has_a_timestamp_or_zero(timestamp: str, expected: int, form: str) -> None:
    result = read(201, form.format(timestamp), wait=5.0)
    assert result == SendResult(Sent(expected))
    assert isinstance(result.outcome, Sent)
    assert type(result.outcome.timestamp) is int


def failed_recipients(*entries: object) -> str:
    return json.dumps([{"timestamp": "200", "errors": {"recipients": entries}}])


REASONS = {
    "UNREGISTERED_FAILURE": "not_sent",
    "IDENTITY_FAILURE": "not_sent",
    "RATE_LIMIT_FAILURE": "not_sent",
    "INVALID_PRE_KEY_FAILURE": "not_sent",
    "NETWORK_FAILURE": "unknown",
}


@pytest.mark.contract("O6")
@pytest.mark.parametrize(("reason", "certainty"), REASONS.items())
@pytest.mark.parametrize("recipient", [PEER, "00000000-0000-4000-8000-000000000003", "ada.01"])
def test_one_recipient_who_is_named_as_failed_did_not_get_it(
    reason: str, certainty: str, recipient: str
) -> None:
    result = read(
        201, failed_recipients({"number": PEER, "uuid": "u-3", "reason": reason}), recipient=recipient
    )
    assert meaning(result) == Meaning(certainty)
    assert isinstance(result.outcome, Failed)
    assert reason in str(result.outcome.error)


@pytest.mark.contract("O6")
def test_a_group_of_which_some_did_not_get_it_was_sent_and_names_them() -> None:
    body = failed_recipients(
        {"number": "+15550003", "uuid": "u-3", "reason": "UNREGISTERED_FAILURE"},
        {"uuid": "u-4", "reason": "RATE_LIMIT_FAILURE"},
        {"username": "ada.01"},
        {"number": "", "reason": 5},
        {},
    )
    assert read(201, body, recipient=GROUP).outcome == Sent(
        200,
        (
            FailedRecipient("+15550003", "UNREGISTERED_FAILURE"),
            FailedRecipient("u-4", "RATE_LIMIT_FAILURE"),
            FailedRecipient("ada.01", "unknown"),
            FailedRecipient("", "5"),
            FailedRecipient("", "unknown"),
        ),
    )


@pytest.mark.contract("O6")
@pytest.mark.parametrize("entry", [{}, "text", None, {"reason": None}], ids=repr)
def test_a_failure_that_names_no_reason_is_one_of_which_nothing_is_known(entry: object) -> None:
    assert meaning(read(201, failed_recipients(entry))) == UNKNOWN


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("reasons", "expected"),
    [
        (["UNREGISTERED_FAILURE", "NETWORK_FAILURE"], UNKNOWN),
        (["NETWORK_FAILURE", "UNREGISTERED_FAILURE"], UNKNOWN),
        (["IDENTITY_FAILURE", "UNREGISTERED_FAILURE"], NOT_SENT),
    ],
)
def test_of_several_failures_the_least_certain_decides(reasons: list[str], expected: Meaning) -> None:
    result = read(201, failed_recipients(*({"number": PEER, "reason": reason} for reason in reasons)))
    assert meaning(result) == expected
    assert isinstance(result.outcome, Failed)
    assert all(reason in str(result.outcome.error) for reason in reasons)


@pytest.mark.parametrize("errors", ["null", "{}", '{"recipients":null}', '{"recipients":[]}'])
def test_no_failures_in_whatever_form_are_none(errors: str) -> None:
    assert read(201, f'{{"timestamp":"5","errors":{errors}}}').outcome == Sent(5)


# --- Answers: words ---


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (400, '{"error":"Grüße 👋"}', "Grüße 👋"),
        (400, '{"error":" a\\nb\\u0000c\\u001b[31m "}', "a b c [31m"),
        (400, '{"error":{"a":1}}', '{"error":{"a":1}}'),
        (400, "plain", "plain"),
        (400, b"\xff\xfe", "\ufffd\ufffd"),
        (404, "404 page not found\n", "404 page not found"),
        (500, b"", ""),
    ],
)
def test_the_gateways_own_words_are_kept_and_made_printable(
    status: int, body: bytes | str, text: str
) -> None:
    outcome = read(status, body).outcome
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, AnswerError)
    assert outcome.error.text == text
    assert text in str(outcome.error)


@pytest.mark.parametrize("body", ["x" * 10**6, '{"error":"' + "é" * 10**6 + '"}', "é" * 10**6])
def test_the_words_are_shortened(body: str) -> None:
    outcome = read(400, body).outcome
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, AnswerError)
    assert len(outcome.error.text) == 500
    assert len(str(outcome.error)) < 600


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (500, b"", r"lost its connection to signal-cli \(HTTP 500\)"),
        (301, b"", r"redirects sends \(HTTP 301\); use the address"),
        (502, b"", r"^the gateway answered HTTP 502$"),
        (400, error("no such thing"), r"^the gateway answered HTTP 400: no such thing$"),
        (201, b"", r"took the message \(HTTP 201\), but its answer cannot be read"),
    ],
)
def test_the_error_says_what_happened(status: int, body: bytes | str, words: str) -> None:
    outcome = read(status, body).outcome
    assert isinstance(outcome, Failed)
    with pytest.raises((AnswerError, LinkLost), match=words):
        raise outcome.error


# --- Answers: anything ---

NAMES = st.sampled_from(
    ["timestamp", "errors", "recipients", "error", "challenge_tokens", "reason", "number", "uuid", "username"]
)
JSON: st.SearchStrategy[Json] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(max_size=8),
        st.just("NETWORK_FAILURE"),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=4)),
    max_leaves=12,
)


def check_sanity(result: SendResult, status: int) -> None:
    """Check what must hold whatever was answered."""
    outcome = result.outcome
    if isinstance(outcome, Sent):
        assert status == 201
        assert outcome.timestamp >= 0
        assert type(outcome.timestamp) is int
        assert all(isinstance(f.recipient, str) and isinstance(f.reason, str) for f in outcome.failed)
        assert result == SendResult(outcome)
        return
    assert isinstance(outcome.error, SignalError)
    assert str(outcome.error).isprintable()
    assert not result.retry or status in {500, 503}
    assert result.refused == (status in {401, 403})
    assert not result.rate_limited or status in {400, 429}
    assert all(isinstance(token, str) and token for token in result.challenge_tokens)
    if outcome.certainty is Certainty.NOT_SENT and not result.retry:
        assert status == 201 or 300 <= status < 500
        assert status not in {408, 429}
    # Trying again by ourselves is for what has certainly not been sent.
    assert not (result.retry and outcome.certainty is Certainty.UNKNOWN)


STATUSES = st.one_of(st.integers(100, 599), st.sampled_from([201, 400, 429, 500, 503]))


@given(STATUSES, st.binary(max_size=200), st.sampled_from([PEER, GROUP]))
@example(201, b"[" * 100_000, PEER)
@example(400, b'{"a":' * 100_000, PEER)
@example(201, b'{"timestamp":' + b"9" * 5000 + b"}", PEER)
@example(201, b'{"timestamp":1e999}', PEER)
@example(201, b'{"\\ud800":1}', PEER)
@pytest.mark.contract("O6", "O5")
def test_no_bytes_at_all_raise_or_claim_a_success(status: int, body: bytes, recipient: str) -> None:
    check_sanity(read(status, body, recipient=recipient), status)


@given(STATUSES, JSON, st.sampled_from([PEER, GROUP]))
@pytest.mark.contract("O6", "O5")
def test_no_json_at_all_raises_or_claims_a_success(status: int, answer: Json, recipient: str) -> None:
    check_sanity(read(status, json.dumps(answer), recipient=recipient), status)


@given(JSON, st.booleans())
@pytest.mark.contract("O6")
def test_a_created_answer_with_a_timestamp_and_any_errors_is_understood(errors: Json, wrapped: bool) -> None:
    entry = {"timestamp": "200", "errors": errors}
    result = read(201, json.dumps([entry] if wrapped else entry), recipient=GROUP)
    assert isinstance(result.outcome, Sent)
    assert result.outcome.timestamp == 200


@given(st.one_of(JSON, st.from_regex(r"[0-9]{1,21}", fullmatch=True)), st.integers(0, 2))
@example("200", 0)
@example("200", 2)
@example("9" * 20, 1)
@example("", 1)
@example(None, 1)
@pytest.mark.contract("O6")
def test_what_else_stands_beside_a_timestamp_changes_nothing(timestamp: Json, count: int) -> None:
    entry = {"timestamp": timestamp}
    plain, more = ([each] * count if count else each for each in (entry, {**entry, "new": None}))
    assert read(201, json.dumps(plain)) == read(201, json.dumps(more))
    assert isinstance(read(201, json.dumps(plain)).outcome, Sent)


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("body", "timestamp"),
    [
        (b' [ {"timestamp" : "7"} ] \r\n', 7),
        (b'{"timestamp":"6","timestamp":"7"}', 7),
        (b'{"time\\u0073tamp":"7"}', 7),
        (b'[{"timestamp":"7"},{"timestamp":"8"}]', 7),
        (b'[{"timestamp":"7"},8]', 7),
        (b'{"timestamp":7}', 7),
        (b'{"timestamp":"+7"}', 0),
        (b'{"timestamp":"\xd9\xa7"}', 0),
        (b"[]", None),
        (b"[[]]", None),
        (b'["timestamp"]', None),
        (b'[8,{"timestamp":"7"}]', None),
        (b'{"timestamp":"\xff"}', None),
        (b'{"timestamp":"7","x":"\xff"}', None),
        (b'{"timestamp":"7"}{}', None),
        (b'{"timestamp":"7"', None),
        (b'\xef\xbb\xbf{"timestamp":"7"}', None),
    ],
)
def test_a_created_answer_of_any_spelling_means_one_thing(body: bytes, timestamp: int | None) -> None:
    outcome = read(201, body).outcome
    if timestamp is None:
        assert isinstance(outcome, Failed)
        assert outcome.certainty is Certainty.UNKNOWN
    else:
        assert outcome == Sent(timestamp)


# --- The last of each range ---


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    "text",
    [
        "Specified account does not exist",
        "Couldn't process request - something",
        "illegal base64 data at input byte 4",
        "Invalid identifier group.x",
        "Invalid group id",
        "Signal Messenger phone numbers and usernames cannot be specified together",
        "Unable to complete request due to untrusted recipient keys",
        "User is not registered",
        "Unregistered user",
    ],
)
def test_what_the_gateway_refuses_before_sending_was_not_sent(text: str) -> None:
    assert meaning(read(400, json.dumps({"error": text}))) == NOT_SENT
    # Only how it begins decides: the same words elsewhere may be about anything.
    assert meaning(read(400, json.dumps({"error": f"Failed: {text}"}))) == UNKNOWN


@pytest.mark.contract("O6")
@pytest.mark.parametrize(
    ("status", "certainty"),
    [(299, UNKNOWN), (300, NOT_SENT), (399, NOT_SENT), (499, NOT_SENT), (501, UNKNOWN)],
)
def test_redirections_and_faults_of_the_request_end_where_http_says(status: int, certainty: Meaning) -> None:
    result = read(status, "")
    assert meaning(result) == certainty
    assert isinstance(result.outcome, Failed)
    assert ("redirects" in str(result.outcome.error)) == (status in {300, 399})


def test_who_was_named_as_failed_is_an_error_of_the_answer_that_named_him() -> None:
    outcome = read(201, created(recipients=[{"number": PEER, "reason": "IDENTITY_FAILURE"}])).outcome
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, AnswerError)
    assert outcome.error.status == 201


def created(timestamp: Json = "1795302684386", *, recipients: Json = ()) -> str:
    return json.dumps({"timestamp": timestamp, "errors": {"recipients": recipients}})


@pytest.mark.parametrize(
    ("told", "wait"),
    [(0, 0.0), (2.5, 2.5), (999_999_999, 999_999_999.0), (1e9, None), (-1, None), (-0.5, None), ("5", None)],
)
def test_how_long_a_failed_recipient_has_to_wait(told: Json, wait: float | None) -> None:
    entry = {"number": PEER, "reason": "RATE_LIMIT_FAILURE", "retry_after": told}
    outcome = read(201, created(recipients=[entry]), recipient=GROUP).outcome
    assert isinstance(outcome, Sent)
    assert [failed.retry_after for failed in outcome.failed] == [wait]


@pytest.mark.parametrize(("told", "token"), [("abc", "abc"), ("", None), (5, None), (None, None)])
def test_what_a_failed_recipient_has_to_solve(told: Json, token: str | None) -> None:
    entry = {"number": PEER, "reason": "PROOF_REQUIRED_FAILURE", "challenge_token": told}
    outcome = read(201, created(recipients=[entry]), recipient=GROUP).outcome
    assert isinstance(outcome, Sent)
    assert [failed.challenge_token for failed in outcome.failed] == [token]


@pytest.mark.parametrize(
    ("timestamp", "read_as"),
    [
        ("9" * 19, 10**19 - 1),
        ("9" * 20, 0),
        (2**63 - 1, 2**63 - 1),
        (2**63, 0),
        (1, 1),
        (0, 0),
        (-1, 0),
        (True, 0),
    ],
)
def test_the_largest_and_the_smallest_timestamp(timestamp: Json, read_as: int) -> None:
    assert read(201, created(timestamp)).outcome == Sent(read_as)


def test_of_an_answer_that_is_no_json_as_many_words_are_kept_as_of_one_that_is() -> None:
    # Four bytes are the longest character.
    outcome = read(400, ("\N{GRINNING FACE}" * 600).encode()).outcome
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, AnswerError)
    assert outcome.error.text == "\N{GRINNING FACE}" * 500
