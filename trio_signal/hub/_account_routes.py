"""What is done for the account over HTTP: messages, operations and files."""

from collections.abc import Awaitable, Callable, Generator, Hashable
from contextlib import contextmanager
from typing import Final

import trio

from ._bodies import refused
from ._exchange import Answer, HttpError, decoded
from ._fairness import Memory, Places, Share, Turns
from ._files import file_ref, open_file
from ._guard import Call, Guard
from ._hub import Hub, HubLimits
from ._letters import Letter, parse_deletion, parse_reaction, parse_send
from ._operations import operate, parse_operation
from ._parameters import single
from ._sends import cancel_after, send, unsent

#: How long a body may take to come, in seconds.
_BODY_TIMEOUT: Final = 60.0

#: The largest body of a reaction or a deletion, in bytes.
_SMALL: Final = 64 * 1024

AsyncHandler = Callable[[Call], Awaitable[Answer]]


class AccountRoutes:
    """Answers requests that go on to the gateway.

    Args:
        hub: whose client does it.
        limits: how much of everything.
        guard: who may.
    """

    def __init__(self, hub: Hub, limits: HubLimits, guard: Guard) -> None:
        self._hub: Final = hub
        self._limits: Final = limits
        self._guard: Final = guard
        self._bodies: Final = Memory(limits.max_send_total)
        # To read one body takes others their time; to read several at once would take it at once.
        self._reading: Final = trio.Lock()
        self._turns: Final = Turns()
        self._downloads: Final = Places(at_once=limits.max_downloads, parts=guard.parts)

    def table(self) -> dict[str, dict[str, AsyncHandler]]:
        """Return what there is, by path and method. A star stands for what a path leaves open."""
        return {
            "/v2/send": {"POST": self._send},
            "/v1/reactions/*": {"POST": self._react, "DELETE": self._react},
            "/v1/remote-delete/*": {"DELETE": self._delete},
            "/v1/operations": {"POST": self._operate},
            "/v1/attachments/*": {"GET": self._download},
        }

    async def _send(self, call: Call) -> Answer:
        self._begin(call)
        with self._share() as share:
            body = await self._read(call, share, self._limits.max_send_bytes)
            async with self._reading:
                letter = await parse_send(body, self._hub.account)
            del body
            return await self._deliver(call, letter, on_taken=share.give_back)

    async def _react(self, call: Call) -> Answer:
        body = await self._small_body(call)
        return await self._deliver(call, parse_reaction(body, remove=call.request.method == "DELETE"))

    async def _delete(self, call: Call) -> Answer:
        return await self._deliver(call, parse_deletion(await self._small_body(call)))

    async def _small_body(self, call: Call) -> bytes:
        """Read the body of a request whose path names the account. A checkpoint."""
        self._begin(call)
        if decoded(call.argument, "path") != self._hub.account:
            raise refused("number", "this hub serves another account")
        with self._share() as share:
            return await self._read(call, share, min(_SMALL, self._limits.max_send_bytes))

    async def _deliver(
        self, call: Call, letter: Letter, *, on_taken: Callable[[], None] = lambda: None
    ) -> Answer:
        answer = await send(
            self._hub.signal,
            letter,
            wait=self._limits.send_wait,
            hung_up=call.http.wait_hung_up,
            going_down=self._guard.wait_last_answers,
            on_taken=on_taken,
        )
        self._hub.counters.sends[answer.status] += 1
        return answer

    async def _operate(self, call: Call) -> Answer:
        """Carry out one operation of a subject's at a time, so that it cannot keep out the others.

        Its next one is not even read before this one has been answered.
        """
        subject = self._begin(call)
        # Without a key everybody is the same, but one connection asks for one thing at a time anyhow.
        if not await self._take_turn(call, call.visit if self._guard.is_open else subject):
            return unsent("it waited too long for its turn, or the hub goes down")
        with self._share() as share:
            body = await self._read(call, share, self._limits.max_send_bytes)
            async with self._reading:
                operation = parse_operation(body)
            del body
            answer = await operate(self._hub.signal, operation, going_down=self._guard.wait_last_answers)
        self._hub.counters.operations[answer.status] += 1
        return answer

    async def _take_turn(self, call: Call, who: Hashable) -> bool:
        """Wait for a turn, which ends when the request has been answered; False if it does not come."""
        taken = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_after, call.http.wait_hung_up, nursery.cancel_scope)
            nursery.start_soon(cancel_after, self._guard.wait_last_answers, nursery.cancel_scope)
            with trio.move_on_after(self._limits.send_wait):
                await self._turns.wait(who)
                call.stack.callback(self._turns.end, who)
                taken = True
            nursery.cancel_scope.cancel()
        return taken

    async def _download(self, call: Call) -> Answer:
        subject = self._guard.admit(call).subject
        place = single(call.request, "place")
        ref = file_ref(decoded(call.argument, "path"), self._hub.account if place is None else place)
        self._guard.check_open()
        if not self._downloads.has_room(subject):
            raise self._guard.later(429, "too many files at once", 1.0)
        self._downloads.begin(call.visit, subject)
        call.stack.callback(self._downloads.end, call.visit)
        answer = await open_file(self._hub.signal, ref, call.stack)
        self._hub.counters.downloads[answer.status] += 1
        return answer

    def _begin(self, call: Call) -> str:
        """Refuse who may not, and what is no JSON by its name; return whose request it is."""
        subject = self._guard.admit(call).subject
        kind = call.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise HttpError(415, "Content-Type: give application/json")
        self._guard.check_open()
        return subject

    @contextmanager
    def _share(self) -> Generator[Share]:
        """Give a share of the memory for all bodies, and take it back."""
        share = Share(self._bodies)
        try:
            yield share
        finally:
            share.give_back()

    async def _read(self, call: Call, share: Share, limit: int) -> bytes:
        def take(size: int) -> None:
            if not share.take(size):
                raise self._guard.later(429, "too many large messages at once", 1.0)

        return await call.http.read_body(limit, timeout=_BODY_TIMEOUT, take=take)
