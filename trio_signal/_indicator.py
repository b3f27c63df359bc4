"""Shows that we type for as long as a block runs."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from ._errors import ClientClosed, GatewayError

_logger: Final = logging.getLogger("trio_signal.client")

#: Seconds until it is shown again; people's apps show it for 15.
AGAIN: Final = 10.0

#: Seconds for taking it away, at the end.
_LAST_ACTS: Final = 2.0

#: Shows it, or takes it away (True).
Tell = Callable[[bool], Awaitable[None]]


@asynccontextmanager
async def show_typing(tell: Tell) -> AsyncGenerator[None]:
    """Show that we type while the block runs; what the block raises leaves as it is.

    Entering and leaving are checkpoints. Cancelled, leaving still takes up to 2 s.

    Args:
        tell: shows it or takes it away. That it fails is logged.
    """
    await trio.lowlevel.checkpoint()
    over, scope = trio.Event(), trio.CancelScope(shield=True)
    problem: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep_showing, tell, over, scope)
            try:
                yield
            except BaseException as error:
                problem = error
                raise
            finally:
                over.set()
                scope.deadline = trio.current_time() + _LAST_ACTS
    except BaseExceptionGroup as group:
        # The very same object again, since the nursery copies groups; or what came just now, like Ctrl-C.
        if problem is None or isinstance(problem, trio.Cancelled):
            problem = group.exceptions[0]
    if problem is not None:
        raise problem
    # To wait for the tasks of a nursery is none.
    await trio.lowlevel.checkpoint()


async def _keep_showing(tell: Tell, over: trio.Event, scope: trio.CancelScope) -> None:
    """Show it again and again, and take it away once it is over. Ends when ``scope`` is cancelled.

    The scope is shielded, and its deadline is set as soon as the block is left, in whatever way: a request
    half way through would leave a REST gateway with two at once.
    """
    with scope:
        is_over = False
        while not is_over:
            # Once in any case: a block may be over before this task has begun.
            await _try_telling(tell, stop=False)
            with trio.move_on_after(AGAIN):
                await over.wait()
            is_over = over.is_set()
        await _try_telling(tell, stop=True)


async def _try_telling(tell: Tell, *, stop: bool) -> None:
    await trio.lowlevel.checkpoint()
    try:
        await tell(stop)
    except (GatewayError, ClientClosed) as error:
        _logger.info("that we type could not be %s: %s", "taken away" if stop else "shown", error)
