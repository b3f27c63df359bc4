"""From a letter to the answer: a message of the hub's own client, and its outcome."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
import trio

from .._attachments import check_attachments
from .._client import SignalClient
from .._contents import Content, Reaction, RemoteDelete, Text, with_files
from .._errors import (
    AnswerError,
    BufferFull,
    Certainty,
    ClientClosed,
    ConfigurationError,
    FailedRecipient,
    StoreError,
)
from .._outcomes import Dropped, DropReason, Failed, MessageDropped, Outcome, SendFailed
from .._outgoing import OutgoingMessage, is_decided
from ._bodies import shortened, wrong
from ._exchange import Answer
from ._letters import FIELDS, Letter

_logger: Final = logging.getLogger("trio_signal.hub")

#: When to try again where the hub is full or away, in seconds.
_RETRY_AFTER: Final = (("Retry-After", "5"),)

#: Seconds that an answer waits for the disk that keeps its outcome; a hub that goes down has one left.
_COMMIT: Final = 0.5


async def send(
    signal: SignalClient,
    letter: Letter,
    *,
    wait: float = 25.0,
    hung_up: Callable[[], Awaitable[None]],
    going_down: Callable[[], Awaitable[None]] = trio.sleep_forever,
    on_taken: Callable[[], None] = lambda: None,
) -> Answer:
    """Send a letter and answer with its outcome.

    A checkpoint. What still waits after ``wait`` is dropped; what is being sent by then
    has the client's ``send_timeout`` on top. If the peer hangs up, if the hub goes down, or if
    this is cancelled, a letter that still waits is withdrawn; one that is being sent goes its way.
    With a store the answer waits until that is written down, for half a second at most.

    Args:
        signal: whose account sends it.
        letter: what to send.
        wait: how long the letter may wait for its turn, in seconds.
        hung_up: returns when the peer has hung up.
        going_down: returns when the answer must be given.
        on_taken: called when the client has the letter, within its own limits, or has refused it.
    """
    taken: OutgoingMessage | Answer = unsent_for(Dropped(DropReason.WITHDRAWN))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_after, hung_up, nursery.cancel_scope)
        nursery.start_soon(cancel_after, going_down, nursery.cancel_scope)
        taken = await _hand_over(signal, letter, wait)
        on_taken()
        if isinstance(taken, OutgoingMessage):
            await _see_through(taken)
        nursery.cancel_scope.cancel()
    if isinstance(taken, Answer):
        return taken
    if is_decided(taken) and taken.outcome is None:
        # Withdrawn, but the disk has not got it: after a kill before that, the next process would send it.
        with trio.move_on_after(_COMMIT):
            await _see_through(taken)
    outcome = taken.outcome
    if outcome is None:
        outcome = Failed(AnswerError("the hub went down before it knew what became of it"), Certainty.UNKNOWN)
    return answer_for(outcome, letter.content)


def answer_for(outcome: Outcome, content: Content) -> Answer:
    """Return the answer that tells what became of some content. Pure."""
    if isinstance(outcome, Dropped):
        return unsent_for(outcome)
    if isinstance(outcome, Failed):
        return failed(outcome.error, outcome.certainty)
    if isinstance(content, Reaction):
        return Answer(204)
    entry: dict[str, Any] = {"timestamp": str(outcome.timestamp)}
    if outcome.failed:
        entry["errors"] = {"recipients": list(map(_failed_recipient, outcome.failed))}
    return Answer(201, msgspec.json.encode(entry if isinstance(content, RemoteDelete) else [entry]))


def unsent_for(outcome: Dropped) -> Answer:
    """Return the answer that tells of a message that was given up. Pure."""
    return unsent(f"the message was dropped: {outcome.reason.value}")


def unsent(words: str) -> Answer:
    """Return the answer that says: nothing was done, ask again later. Pure."""
    told = {"error": shortened(words), "certainty": Certainty.NOT_SENT.value}
    return Answer(503, msgspec.json.encode(told), headers=_RETRY_AFTER)


def failed(error: Exception, certainty: Certainty, **more: Any) -> Answer:
    """Return the answer that tells of an attempt without success. Pure.

    Args:
        error: what went wrong.
        certainty: whether it may have been done all the same.
        more: other fields of the body.
    """
    told: dict[str, Any] = {"error": shortened(str(error)), "certainty": certainty.value} | more
    if isinstance(error, AnswerError):
        # The gateway's own words, as the gateway would have put them.
        told["error"] = shortened(error.text or str(error))
        if error.challenge_tokens:
            told["challenge_tokens"] = error.challenge_tokens
    return Answer(400 if certainty is Certainty.NOT_SENT else 504, msgspec.json.encode(told))


async def cancel_after(event: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
    """Cancel a scope when something has happened. A checkpoint."""
    await event()
    scope.cancel(reason="the peer has hung up, or the hub goes down")


async def _hand_over(signal: SignalClient, letter: Letter, wait: float) -> OutgoingMessage | Answer:
    """Give the letter to the client; return an answer where it does not take it."""
    deadline = trio.current_time() + wait
    try:
        content = await _with_files(signal, letter.content)
        # With overflow="wait" it may stand behind others whose deadlines are later.
        with trio.move_on_at(deadline):
            return await signal._accept(letter.recipient, content, deadline=deadline)  # noqa: SLF001
        return unsent_for(Dropped(DropReason.EXPIRED))
    except ConfigurationError as error:
        return wrong(error, FIELDS).answer  # noqa: ASYNC910  (_with_files() is one)
    except (BufferFull, ClientClosed) as error:
        return unsent(str(error))  # noqa: ASYNC910
    except StoreError as error:
        # Its own words name a file of this machine.
        _logger.warning("a message cannot be taken: %s", error)
        return unsent("the hub can keep no messages at the moment")  # noqa: ASYNC910


async def _with_files(signal: SignalClient, content: Content) -> Content:
    """Complete the files with what the client knows of them. A checkpoint; raises ConfigurationError."""
    await trio.lowlevel.checkpoint()
    if not isinstance(content, Text) or not content.attachments:
        return content
    limit = signal._max_attachment_bytes  # noqa: SLF001
    return with_files(content, await check_attachments(content.attachments, limit=limit))


async def _see_through(message: OutgoingMessage) -> None:
    """Wait for the message's outcome; withdraw it if that is cancelled. A checkpoint."""
    await trio.lowlevel.checkpoint_if_cancelled()
    try:
        await message.wait()
    except (MessageDropped, SendFailed):
        pass  # The message has it as its outcome.
    except ClientClosed:
        pass  # It has none here: a store keeps it, and the next process sends it.
    finally:
        message.withdraw()


def _failed_recipient(failed: FailedRecipient) -> dict[str, Any]:
    told: dict[str, Any] = {"number": failed.recipient, "reason": failed.reason}
    if failed.retry_after is not None:
        told["retry_after"] = failed.retry_after
    if failed.challenge_token:
        told["challenge_token"] = failed.challenge_token
    return told
