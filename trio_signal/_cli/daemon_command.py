"""From the options of ``trio-signal daemon`` to the daemon, with its log on standard output."""

from collections.abc import Mapping
from typing import Any

import trio

from .._states import Backoff
from ..store import AttachmentKeeping, Store
from .connection import read_connection
from .daemon import DaemonSettings, HubSettings, run_daemon
from .lines import read_stdin
from .log import library_events, make_logger, wants_colors
from .options import HUB, HUB_OPTIONS, SHOW_TEXT, STORE, STORE_OPTIONS, UsageError
from .output import open_log_writer


def run(values: Mapping[str, Any], environ: Mapping[str, str], hub: HubSettings | None) -> int:
    """Run the daemon, and return its exit code.

    Args:
        values: what its options are set to.
        environ: the environment.
        hub: what runs beside the client; None without ``--hub``.

    Raises:
        UsageError: a file that the options name cannot be used, or options contradict each other.
    """
    _check(values)
    settings = DaemonSettings(
        where=read_connection(values, environ),
        buffer_size=values["buffer_size"],
        # A pipe can wait, and so can a hub's clients, who must not push out what others have handed over.
        overflow=values["overflow"] or ("wait" if values["stdin"] or hub is not None else "drop_oldest"),
        max_in_flight=values["max_in_flight"],
        delivery=values["delivery"],
        settle_timeout=values["settle_timeout"],
        close_timeout=values["close_timeout"],
        backoff=Backoff(jitter=not values["no_jitter"]),
        show_text=values["show_text"],
        hub=hub,
        store=_store(values),
    )
    return trio.run(_run, settings, values, wants_colors(environ))


def _check(values: Mapping[str, Any]) -> None:
    """Refuse an option that would have no effect."""
    with_hub = values[HUB.name] is not None
    if with_hub and values["show_text"]:
        raise UsageError(
            f"{SHOW_TEXT.label}: with {HUB.flag} messages go to the hub's clients and not into the log; "
            "use 'trio-signal listen' on the hub"
        )
    for option in HUB_OPTIONS:
        if not with_hub and values[option.name] != option.default:
            raise UsageError(f"{option.label}: it is for a hub; give {HUB.flag} too")
    for option in STORE_OPTIONS:
        if values[STORE.name] is None and values[option.name] != option.default:
            raise UsageError(f"{option.label}: it is for a store; give {STORE.flag} too")


def _store(values: Mapping[str, Any]) -> Store | None:
    if values["store"] is None:
        return None
    attachments: AttachmentKeeping = "copy" if values["copy_attachments"] else "reference"
    return Store(values["store"], durability=values["durability"], attachments=attachments)


async def _run(settings: DaemonSettings, values: Mapping[str, Any], colors: bool) -> int:  # noqa: FBT001
    level = values["log_level"]
    async with open_log_writer() as writer:
        log = make_logger(writer.write, as_json=values["json"], level=level, colors=colors)
        with library_events(log, level=level):
            read = read_stdin if values["stdin"] else None
            code = await run_daemon(
                settings, log, read=read, written=writer.wait_written, lost=lambda: writer.lost
            )
        if writer.lost:
            log.warning("log_lines_lost", count=writer.lost)
    return code
