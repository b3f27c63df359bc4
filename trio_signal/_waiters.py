"""Tasks that wait to be given something."""

from typing import Final, Generic, TypeVar

import trio

T = TypeVar("T")


class Waiters(Generic[T]):
    """Tasks that wait, oldest first, each for one thing.

    A memory channel without room does the same, and a parking lot where nothing is given, at five times the
    cost.
    """

    def __init__(self) -> None:
        #: Where each task finds what it was given.
        self._tasks: Final[dict[trio.lowlevel.Task, list[T]]] = {}

    def __bool__(self) -> bool:
        """Say whether a task waits."""
        return bool(self._tasks)

    # Ctrl-C in the midst of these would leave a task among those that wait which does not.
    @trio.lowlevel.enable_ki_protection
    def give(self, thing: T) -> bool:
        """Wake the task that waits longest and give it this; say whether one waits. Not a checkpoint."""
        for task, given in self._tasks.items():
            del self._tasks[task]
            given.append(thing)
            trio.lowlevel.reschedule(task)
            return True
        return False

    @trio.lowlevel.enable_ki_protection
    async def wait(self) -> T:
        """Wait until this task is given something, and return it. A checkpoint; cancelled, it got nothing."""
        task, tasks = trio.lowlevel.current_task(), self._tasks
        given = tasks[task] = []

        def stop_waiting(_: object) -> trio.lowlevel.Abort:
            del tasks[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(stop_waiting)
        return given[0]
