import socket
import ssl
from typing import TypeVar

import pytest
import trio

from trio_signal import (
    AnswerError,
    BufferFull,
    Certainty,
    CertificateError,
    ClientClosed,
    ConfigurationError,
    DropReason,
    FailedRecipient,
    GatewayError,
    GatewayRefused,
    InvalidTransition,
    LinkLost,
    MessageDropped,
    ObserverLagged,
    PermanentError,
    Reason,
    RecordedError,
    RequestFailed,
    SendFailed,
    SignalError,
    TooManyUnacknowledged,
    UnknownAccount,
    WrongGatewayMode,
)
from trio_signal._errors import (
    TRANSIENT_STATUSES,
    Remedy,
    forget_frames,
    remedy_for,
    remedy_for_status,
    told,
)

RAISED = LinkLost("it was raised")

RETRY, RENEW, GIVE_UP = Remedy.RETRY, Remedy.RENEW_CREDENTIALS, Remedy.GIVE_UP


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """Return the error as ``raise error from cause`` leaves it."""
    error.__cause__ = cause
    error.__suppress_context__ = True
    return error


def during(error: BaseException, context: BaseException, *, hidden: bool = False) -> BaseException:
    """Return the error as raising it (``hidden``: ``from None``) while ``context`` was handled leaves it."""
    error.__context__ = context
    error.__suppress_context__ = hidden
    return error


@pytest.mark.contract("C6")
@pytest.mark.parametrize("status", range(100, 600))
def test_every_status_has_its_remedy(status: int) -> None:
    if status in {401, 403}:
        expected = RENEW
    elif status in {408, 425, 429, 500, 502, 503, 504} or status > 500:
        expected = RETRY
    else:
        expected = GIVE_UP
    assert remedy_for_status(status) is expected
    assert remedy_for(LinkLost("refused", status=status)) is expected
    assert remedy_for(caused(RuntimeError("outer"), LinkLost("refused", status=status))) is expected


TRANSIENT = [
    OSError(113, "No route to host"),
    ConnectionRefusedError(111, "Connection refused"),
    ConnectionResetError(104, "Connection reset by peer"),
    TimeoutError(110, "Connection timed out"),
    socket.gaierror(-2, "Name or service not known"),
    socket.gaierror(-3, "Temporary failure in name resolution"),
    trio.BrokenResourceError("the stream broke"),
    trio.ClosedResourceError("the stream was closed"),
    trio.EndOfChannel(),
    trio.TooSlowError(),
    ssl.SSLError(1, "wrong version number"),
    ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
    EOFError(),
    LinkLost("no answer"),
    LinkLost("busy", retry_after=5.0),
    AnswerError("the gateway answered HTTP 404", status=404),
    ValueError("nobody thought of it"),
]


@pytest.mark.contract("C6")
@pytest.mark.parametrize("error", TRANSIENT, ids=repr)
def test_what_is_not_known_to_be_hopeless_is_tried_again(error: Exception) -> None:
    assert remedy_for(error) is RETRY
    assert remedy_for(caused(LinkLost("cannot connect"), error)) is RETRY
    assert remedy_for(during(LinkLost("cannot connect"), error)) is RETRY


@pytest.mark.contract("C6")
@pytest.mark.parametrize("code", [None, *range(1000, 1016), 3000, 3999, 4000, 4401, 4999])
def test_a_connection_closed_in_whatever_way_is_tried_again(code: int | None) -> None:
    error = LinkLost("closed", reason=Reason.CLOSED_BY_GATEWAY, close_code=code)
    assert remedy_for(error) is RETRY
    assert error.close_code == code


HOPELESS = [
    PermanentError("never"),
    WrongGatewayMode("mode normal"),
    UnknownAccount("not here"),
    CertificateError("expired"),
    ssl.SSLCertVerificationError("certificate verify failed"),
    ConfigurationError("url", "wrong"),
]


@pytest.mark.contract("C6")
@pytest.mark.parametrize("error", HOPELESS, ids=repr)
def test_what_trying_again_cannot_mend_is_given_up(error: Exception) -> None:
    assert remedy_for(error) is GIVE_UP
    assert remedy_for(caused(LinkLost("no TLS"), error)) is GIVE_UP
    assert remedy_for(caused(RuntimeError(), caused(OSError(), error))) is GIVE_UP
    assert remedy_for(during(LinkLost("no TLS"), error)) is GIVE_UP


@pytest.mark.contract("C6")
@pytest.mark.parametrize(
    "error", [*HOPELESS, GatewayRefused("no", status=401), LinkLost("no", status=404)], ids=repr
)
def test_an_error_that_was_hidden_on_purpose_decides_nothing(error: Exception) -> None:
    assert remedy_for(during(LinkLost("the token callable failed"), error, hidden=True)) is RETRY


@pytest.mark.contract("C6")
@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_asked_for_anew(status: int) -> None:
    error = GatewayRefused("no", status=status, retry_after=3.0)
    assert (error.status, error.retry_after) == (status, 3.0)
    assert remedy_for(error) is RENEW
    assert remedy_for(caused(OSError(), error)) is RENEW


@pytest.mark.contract("C6")
def test_the_outermost_error_that_says_something_decides() -> None:
    refused = GatewayRefused("no", status=401)
    assert remedy_for(caused(CertificateError("expired"), refused)) is GIVE_UP
    assert remedy_for(caused(refused, CertificateError("expired"))) is RENEW
    assert remedy_for(caused(LinkLost("busy", status=503), UnknownAccount("no"))) is RETRY
    assert remedy_for(caused(LinkLost("cannot connect"), LinkLost("gone", status=404))) is GIVE_UP


def test_causes_that_go_in_circles_end() -> None:
    one, two = LinkLost("one"), LinkLost("two")
    caused(one, two)
    caused(two, one)
    assert remedy_for(one) is RETRY
    assert remedy_for(caused(two, two)) is RETRY


# --- Groups ---


def test_one_error_tells_itself() -> None:
    error = ValueError("x")
    assert told(error) is error


@pytest.mark.contract("C6")
def test_of_a_group_the_gateways_error_is_told() -> None:
    lost, refused, other = LinkLost("gone"), GatewayRefused("no", status=401), OSError("x")
    assert told(ExceptionGroup("", [other, lost])) is lost
    assert told(ExceptionGroup("", [refused, lost])) is refused
    assert told(ExceptionGroup("", [other, ExceptionGroup("", [ValueError(), lost]), refused])) is lost
    assert told(ExceptionGroup("", [ExceptionGroup("", [other, ValueError()]), ValueError()])) is other


# --- Errors that are kept ---

Error = TypeVar("Error", bound=BaseException)


def raised(error: Error) -> Error:
    """Return the error with the frames that it came through."""
    try:
        raise error
    except type(error) as same:
        return same


def test_an_error_that_is_kept_loses_the_frames_of_all_that_is_behind_it() -> None:
    first = raised(TimeoutError())
    cause = raised(during(OSError("x"), first))
    leaves = raised(OSError("y")), raised(ValueError())
    group = raised(ExceptionGroup("", leaves))
    error = raised(during(caused(LinkLost("gone"), cause), group))
    everything = [error, cause, first, group, *leaves]
    assert all(each.__traceback__ is not None for each in everything)
    forget_frames(error, handled=None)
    assert [each.__traceback__ for each in everything] == [None] * 6
    # What happened can still be told.
    assert (error.__cause__, error.__context__, cause.__context__) == (cause, group, first)
    assert group.exceptions == leaves


def test_errors_that_go_in_circles_lose_their_frames_too() -> None:
    one, two = raised(LinkLost("one")), raised(LinkLost("two"))
    caused(one, two)
    caused(two, one)
    forget_frames(one, handled=None)
    assert (one.__traceback__, two.__traceback__) == (None, None)
    assert one.__cause__ is two


def test_what_was_being_handled_before_is_left_alone() -> None:
    handled = raised(ValueError("somebody else's"))
    frames = handled.__traceback__
    cause = raised(during(OSError("x"), handled))
    error = raised(during(caused(LinkLost("gone"), cause), handled))
    forget_frames(error, handled=handled)
    assert (error.__context__, error.__cause__, cause.__context__) == (None, cause, None)
    forget_frames(caused(LinkLost("gone"), handled), handled=handled)
    assert handled.__traceback__ is frames is not None


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_an_error_does_not_lead_to_a_group_of_nothing_but_itself(depth: int) -> None:
    error = LinkLost("gone")
    group = ExceptionGroup[Exception]("", [error])
    for _ in range(1, depth):
        group = ExceptionGroup("", [group])
    during(caused(error, group), group)
    forget_frames(error, handled=None)
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize("place", [0, 1])
def test_an_error_leads_to_the_group_that_tells_more_than_itself(place: int) -> None:
    error, others = LinkLost("gone"), list[Exception]([OSError("x"), OSError("y")])
    others.insert(place, error)
    group, another = ExceptionGroup("", others[:2]), ExceptionGroup("", others[2:])
    during(caused(error, another), group)
    forget_frames(error, handled=None)
    assert (error.__cause__, error.__context__) == (another, group)


# --- The classes ---


def test_the_family_tree_is_as_the_module_draws_it() -> None:
    children: dict[type[Exception], set[type[Exception]]] = {
        SignalError: {
            ConfigurationError,
            InvalidTransition,
            BufferFull,
            ClientClosed,
            ObserverLagged,
            MessageDropped,
            GatewayError,
        },
        GatewayError: {LinkLost, GatewayRefused, AnswerError, PermanentError, SendFailed},
        PermanentError: {WrongGatewayMode, UnknownAccount, CertificateError},
        ValueError: {ConfigurationError, InvalidTransition},
    }
    for parent, expected in children.items():
        for child in expected:
            assert parent in child.__bases__


def test_errors_hold_what_a_caller_needs() -> None:
    link = LinkLost("gone", reason=Reason.NO_ANSWER, status=503, retry_after=2.5, close_code=1012)
    assert (link.reason, link.status, link.retry_after, link.close_code) == ("no_answer", 503, 2.5, 1012)
    assert LinkLost("gone").reason is Reason.ATTEMPT_FAILED
    answer = AnswerError("told off", status=429, text="slow down", challenge_tokens=("t",))
    assert (str(answer), answer.status, answer.text, answer.challenge_tokens) == (
        "told off",
        429,
        "slow down",
        ("t",),
    )
    assert (AnswerError("x").status, AnswerError("x").text, AnswerError("x").challenge_tokens) == (
        None,
        "",
        (),
    )
    assert ObserverLagged(7).missed == 7
    assert "7 state changes" in str(ObserverLagged(7))
    assert str(ConfigurationError("url", "it is wrong")) == "url: it is wrong"
    assert MessageDropped(DropReason.CLOSED).reason == "closed"


# --- What errors tell. ---

SOMEBODY = FailedRecipient("+15550100", "UNREGISTERED_FAILURE")


@pytest.mark.parametrize(
    ("error", "text", "told"),
    [
        (ConfigurationError("url", "no URL"), "url: no URL", {"argument": "url"}),
        (ObserverLagged(5), "5 state changes", {"missed": 5}),
        (TooManyUnacknowledged(7), "7 events have been taken since", {"count": 7}),
        (ClientClosed(), "the client has been closed", {}),
        (
            LinkLost("it broke", reason=Reason.HOLE, status=503, retry_after=2.0, close_code=1012),
            "it broke",
            {"reason": Reason.HOLE, "status": 503, "retry_after": 2.0, "close_code": 1012},
        ),
        (LinkLost("refused", nobody_listens=True), "refused", {"nobody_listens": True}),
        (
            LinkLost(message="it broke"),
            "it broke",
            {"status": None, "retry_after": None, "close_code": None, "nobody_listens": False},
        ),
        (
            GatewayRefused("not you", status=403, retry_after=1.0),
            "not you",
            {"status": 403, "retry_after": 1.0},
        ),
        (GatewayRefused(message="not you", status=401), "not you", {"status": 401, "retry_after": None}),
        (
            AnswerError("no", status=400, code=-5, text="t", challenge_tokens=("c",), failed=(SOMEBODY,)),
            "no",
            {"status": 400, "code": -5, "text": "t", "challenge_tokens": ("c",), "failed": (SOMEBODY,)},
        ),
        (AnswerError(message="no"), "no", {"status": None, "code": None, "text": "", "failed": ()}),
        (
            RequestFailed(RAISED, Certainty.NOT_SENT),
            "it was raised (nothing was done)",
            {"error": RAISED, "certainty": Certainty.NOT_SENT},
        ),
        (
            RequestFailed(RAISED, Certainty.UNKNOWN),
            "it was raised (whether it was done is unknown)",
            {"error": RAISED, "certainty": Certainty.UNKNOWN},
        ),
        (
            SendFailed(RAISED, Certainty.NOT_SENT),
            "it was raised (it was not sent)",
            {"error": RAISED, "certainty": Certainty.NOT_SENT},
        ),
        (
            RecordedError("it was raised", "LinkLost", failed=(SOMEBODY,)),
            "it was raised",
            {"kind": "LinkLost", "failed": (SOMEBODY,)},
        ),
    ],
    ids=range(15),
)
def test_an_error_says_what_it_was_made_of(error: SignalError, text: str, told: dict[str, object]) -> None:
    assert str(error).startswith(text)
    assert {name: getattr(error, name) for name in told} == told


@pytest.mark.contract("C6")
def test_the_statuses_that_pass_are_those_of_the_contract() -> None:
    assert {408, 425, 429, 500, 502, 503, 504} == TRANSIENT_STATUSES
