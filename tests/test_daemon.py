import json
import logging
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_signal import Backoff, ObserverLagged, StateChanges
from trio_signal._cli.connection import Connection
from trio_signal._cli.exits import Exit
from trio_signal._cli.lines import MAX_LINE, BadLine, LineSplitter, parse_line
from trio_signal._cli.log import library_events, make_logger, wants_colors
from trio_signal.testing import error, hang, open_fake_gateway, partial, rate_limited

from .daemons import PEER, running
from .programs import run_program, started

SECRET = "s3cret-t0ken"
GROUP = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="


# --- what it tells ---


async def test_it_tells_how_it_was_configured(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, base_path="/hidden-path") as gateway:
        async with running(gateway, buffer_size=7, overflow="error", backoff=Backoff(maximum=8.0)) as daemon:
            await gateway.wait_connected()
        [started_event] = [each for each in daemon.events if each["event"] == "daemon_started"]
        assert daemon.events[0] == started_event
        assert (
            started_event.items()
            >= {
                "connection_resilience": "enabled",
                "reconnection_backoff": "exponential_1s_to_8s",
                "reconnection_jitter": True,
                "message_buffer_size": 7,
                "overflow": "error",
                "delivery": "at_most_once",
                "gateway": "http://127.0.0.1:8080",
                "account": gateway.account,
            }.items()
        )
    assert "hidden-path" not in json.dumps(daemon.events)


async def test_the_defaults_are_the_ones_that_were_asked_for() -> None:
    async with (
        open_fake_gateway() as gateway,
        started("daemon", "--json", "--gateway", gateway.url, "--account", gateway.account) as process,
    ):
        event = await process.event("daemon_started")
        assert event["connection_resilience"] == "enabled"
        assert event["reconnection_backoff"] == "exponential_1s_to_60s"
        assert event["message_buffer_size"] == 100
        process.signal(signal.SIGTERM)
        assert (await process.end()).code == 0


@pytest.mark.contract("C1", "C2")
async def test_every_change_of_state_is_told_in_order_and_none_is_missed(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, running(gateway) as daemon:
        for number in range(1, 6):
            await gateway.wait_handshakes(number)
            await trio.sleep(0.5)
            gateway.drop()
        gateway.refuse(2)
        await gateway.wait_handshakes(6)
        await trio.sleep(1)
    told = daemon.told("connection_status_changed", "previous", "current", "reason")
    assert [previous for previous, _, _ in told] == [
        "disconnected",
        *(current for _, current, _ in told[:-1]),
    ]
    lost = [
        ("connected", "disconnected", "connection_lost"),
        ("disconnected", "reconnecting", "retry"),
    ]
    up = [("reconnecting", "syncing", "link_up"), ("syncing", "connected", "synchronised")]
    failed = [("reconnecting", "disconnected", "attempt_failed"), ("disconnected", "reconnecting", "retry")]
    assert told == [
        ("disconnected", "reconnecting", "start"),
        *(5 * (up + lost)),
        *(2 * failed),
        *up,
        ("connected", "disconnected", "client_closed"),
    ]
    assert daemon.told("reconnection_attempt", "attempt", "delay") == [
        (1, 0.0),
        (2, 2.0),
        (3, 4.0),
        (4, 8.0),
        (5, 16.0),
        (6, 32.0),
        (7, 60.0),
        (8, 60.0),
    ]


async def test_changes_that_came_too_fast_are_counted(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = StateChanges.__anext__
    calls = 0

    async def lagging(self: StateChanges) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            await trio.lowlevel.checkpoint()
            raise ObserverLagged(17)
        return await honest(self)

    monkeypatch.setattr(StateChanges, "__anext__", lagging)
    async with open_fake_gateway(port=None) as gateway, running(gateway) as daemon:
        await gateway.wait_connected()
        await trio.sleep(1)
    assert daemon.told("connection_status_missed", "changes") == [17]
    assert daemon.told("connection_status_changed", "current")[-2:] == ["connected", "disconnected"]


async def test_it_tells_that_messages_came_but_not_what_they_say(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        for show_text in (False, True):
            async with running(gateway, show_text=show_text) as daemon:
                await gateway.wait_connected()
                gateway.deliver(text="private words", timestamp=1_795_302_700_000)
                gateway.deliver(text="private words", group=GROUP, timestamp=1_795_302_700_001)
                await trio.sleep(1)
            assert daemon.told("message_received", "message_timestamp", "kind", "sender", "group") == [
                (1_795_302_700_000, "message", PEER, False),
                (1_795_302_700_001, "message", PEER, True),
            ]
            assert ("private words" in json.dumps(daemon.events)) is show_text


@pytest.mark.contract("R3")
async def test_it_tells_gaps_what_it_cannot_read_and_challenges(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, running(gateway) as daemon:
        await gateway.wait_connected()
        gateway.deliver_raw("secret garbage")
        gateway.deliver_error("rate limited")
        gateway.script_send(rate_limited(("challenge-1", ""), retry_after=30))
        daemon.input.line(recipient=PEER, text="hi", id="a")
        await gateway.wait_received(1)
        await trio.sleep(1)
        gateway.drop()
        await trio.sleep(5)
    [(reason, since, until, count)] = daemon.told("gap", "reason", "since", "until", "count")
    assert (reason, count) == ("gateway", None)
    assert since < until
    assert since.endswith("Z")
    assert [size for _, size in daemon.told("undecodable", "error", "size")] == [14, 24]
    assert daemon.told("undecodable", "error")[1] == "rate limited"
    assert daemon.told("challenge_required", "tokens", "paused_for") == [(["challenge-1"], 30.0)]
    assert "secret garbage" not in json.dumps(daemon.events)


async def test_the_librarys_warnings_are_events_and_debug_shows_all_of_it(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, hide=["/v1/accounts"]) as gateway:
        async with running(gateway) as daemon:
            await gateway.wait_connected()
        [(message, logger)] = daemon.told("library", "message", "logger")
        assert "/v1/accounts" in message
        assert logger == "trio_signal.gateway"
        async with running(gateway, level="debug") as daemon:
            await gateway.wait_connected()
        assert "trio_signal.status" in daemon.told("library", "logger")
        async with running(gateway, level="warning") as daemon:
            await gateway.wait_connected()
        assert {event["event"] for event in daemon.events} == {"library"}


async def test_it_runs_on_signal_cli_as_on_any_gateway(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, kind="signal-cli") as gateway:
        async with running(gateway) as daemon:
            await gateway.wait_connected()
            daemon.input.line(recipient=PEER, text="one", id="a")
            gateway.deliver(text="hello")
            await trio.sleep(5)
            await gateway.restart(down_for=30)
            await gateway.wait_connected()
            gateway.deliver(text="again")
            await trio.sleep(5)
        assert daemon.told("outcome", "id", "outcome") == [("a", "sent")]
        assert daemon.told("message_received", "kind") == ["message"] * 2
        assert daemon.told("gap", "reason") == ["gateway"]
        assert daemon.code == Exit.OK


# --- what it sends ---


@pytest.mark.contract("O1", "O4")
async def test_it_sends_the_lines_of_its_input_and_tells_each_outcome(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.script_send(error(400, "Unregistered user"))
        async with running(gateway) as daemon:
            daemon.input.line(recipient=PEER, text="one", id="a")
            daemon.input.raw(b'\n{"recipient": "+1555')
            daemon.input.raw(b'0002", "text": "two", "id": "b"}\n{"recipient": "+15550002", "text": "three"}')
            daemon.input.end()
            await gateway.wait_received(3)
            await trio.sleep(1)
            assert daemon.told("input_ended", "level") == ["info"]
            assert not daemon.ended.is_set()
        assert [send.message for send in gateway.received] == ["one", "two", "three"]
        first, second, third = [event for event in daemon.events if event["event"] == "outcome"]
    assert first.items() >= {"id": "a", "outcome": "failed", "certainty": "not_sent"}.items()
    assert "Unregistered user" in first["error"]
    assert second.items() >= {"id": "b", "outcome": "sent"}.items()
    assert second["message_timestamp"] == gateway.received[1].timestamp
    assert third["outcome"] == "sent"
    assert third["id"]
    [ledger] = [event for event in daemon.events if event["event"] == "daemon_stopped"]
    assert (
        ledger.items()
        >= {"accepted": 3, "sent": 2, "dropped": 0, "failed": 1, "pending": 0, "unsent": 0}.items()
    )
    assert daemon.code == Exit.OK


async def test_bad_lines_are_reported_without_their_content_and_skipped(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, running(gateway) as daemon:
        daemon.input.raw(b"private nonsense\n")
        daemon.input.line(recipient=PEER)
        daemon.input.line(recipient=PEER, text="x", colour="private")
        daemon.input.line(recipient="private", text="x", id="d")
        daemon.input.line(recipient=PEER, text="", id="e")
        daemon.input.raw(b"\xff\xfe\n" + b"[" * 100_000 + b"\n")
        daemon.input.line(recipient=PEER, text="good", id="f")
        await gateway.wait_received(1)
        await trio.sleep(1)
    told = daemon.told("line_skipped", "line", "id", "problem")
    assert [(line, message_id) for line, message_id, _ in told] == [
        (1, None),
        (2, None),
        (3, None),
        (4, "d"),
        (5, "e"),
        (6, None),
        (7, None),
    ]
    problems = [problem for _, _, problem in told]
    assert "missing required field `text`" in problems[1]
    assert "unknown field `colour`" in problems[2]
    assert all('write one like {"recipient": ' in problems[number] for number in (0, 1, 2, 5, 6))
    assert "its recipient is no number" in problems[3]
    assert "empty" in problems[4]
    assert "private" not in json.dumps(daemon.events)
    assert daemon.told("outcome", "id", "outcome") == [("f", "sent")]


async def test_a_full_buffer_is_told_by_its_policy(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.refuse(None)
        async with running(gateway, overflow="drop_oldest", buffer_size=2, close_timeout=1.0) as daemon:
            for name in "abcd":
                daemon.input.line(recipient=PEER, text=name, id=name)
                await trio.sleep(0.1)
            assert daemon.told("outcome", "id", "outcome", "reason") == [("b", "dropped", "overflow")]
        async with running(gateway, overflow="error", buffer_size=2, close_timeout=1.0) as daemon:
            for name in "abcd":
                daemon.input.line(recipient=PEER, text=name, id=name)
                await trio.sleep(0.1)
            assert daemon.told("line_skipped", "id") == ["d"]
        async with running(gateway, overflow="drop_newest", buffer_size=2, close_timeout=1.0) as daemon:
            for name in "abcd":
                daemon.input.line(recipient=PEER, text=name, id=name)
                await trio.sleep(0.1)
            assert daemon.told("outcome", "id", "outcome", "reason") == [("d", "dropped", "overflow")]


async def test_a_group_message_that_some_did_not_get_names_them(autojump_clock: MockClock) -> None:
    group = "group." + "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE9"
    async with open_fake_gateway(port=None, version="0.101") as gateway:
        gateway.script_send(partial([{"number": "+15550009", "reason": "UNREGISTERED_FAILURE"}]))
        async with running(gateway) as daemon:
            daemon.input.line(recipient=group, text="hi", id="a")
            await gateway.wait_received(1)
            await trio.sleep(1)
    assert daemon.told("outcome", "failed") == [
        [{"recipient": "+15550009", "reason": "UNREGISTERED_FAILURE"}],
    ]


async def test_input_that_breaks_is_told_and_the_daemon_goes_on(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway, running(gateway) as daemon:
        daemon.input.failure = OSError(9, "Bad file descriptor")
        daemon.input.line(recipient=PEER, text="before", id="a")
        daemon.input.end()
        await gateway.wait_received(1)
        await trio.sleep(1)
        assert daemon.told("input_failed", "error") == ["Bad file descriptor"]
        assert daemon.told("outcome", "outcome") == ["sent"]


# --- how it ends ---


@pytest.mark.contract("C5")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_sends_what_waits(number: signal.Signals, autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, answer_delay=1.0) as gateway:
        async with running(gateway) as daemon:
            for name in "abcde":
                daemon.input.line(recipient=PEER, text=name, id=name)
            await trio.sleep(0.5)
            assert await daemon.stop(number) == Exit.OK
        assert [send.message for send in gateway.received] == list("abcde")
        assert daemon.told("outcome", "id", "outcome") == [(name, "sent") for name in "abcde"]
        assert daemon.told("daemon_stopping", "signal", "pending", "within") == [(number.name, 5, 10.0)]
        assert daemon.events[-1]["event"] == "daemon_stopped"
        assert gateway.connections == ()


@pytest.mark.contract("C5", "O1")
async def test_what_could_not_be_sent_in_time_is_named_and_the_exit_code_says_so(
    autojump_clock: MockClock,
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.script_send(hang())
        async with running(gateway, close_timeout=5.0) as daemon:
            for name in "abc":
                daemon.input.line(recipient=PEER, text=name, id=name)
            await trio.sleep(0.5)
            began = trio.current_time()
            assert await daemon.stop() == Exit.NOT_SENT
            assert 5.0 <= trio.current_time() - began < 7.0
    outcomes = {event["id"]: event for event in daemon.events if event["event"] == "outcome"}
    assert outcomes["a"].items() >= {"outcome": "failed", "certainty": "unknown"}.items()
    assert outcomes["b"].items() >= {"outcome": "dropped", "reason": "closed"}.items()
    assert outcomes["c"].items() >= {"outcome": "dropped", "reason": "closed"}.items()
    assert daemon.told("daemon_stopped", "accepted", "dropped", "failed", "pending", "unsent") == [
        (3, 2, 1, 0, 3)
    ]


@pytest.mark.contract("C5")
async def test_a_second_signal_ends_it_at_once(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.script_send(hang())
        async with running(gateway, close_timeout=60.0) as daemon:
            daemon.input.line(recipient=PEER, text="a", id="a")
            daemon.input.line(recipient=PEER, text="b", id="b")
            await gateway.wait_received(1)
            signal.raise_signal(signal.SIGINT)
            await trio.sleep(3)
            assert not daemon.ended.is_set()
            began = trio.current_time()
            assert await daemon.stop(signal.SIGINT) == Exit.NOT_SENT
            assert trio.current_time() - began < 2
    assert daemon.told("daemon_cancelled", "signal") == ["SIGINT"]
    assert daemon.told("outcome", "id", "outcome") == [("a", "failed"), ("b", "dropped")]
    assert daemon.events[-1]["event"] == "daemon_stopped"


async def test_lines_that_were_read_but_found_no_room_before_the_end_are_told_too(
    autojump_clock: MockClock,
) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.refuse(None)
        async with running(gateway, overflow="wait", buffer_size=1, close_timeout=1.0) as daemon:
            lines = [json.dumps({"recipient": PEER, "text": name, "id": name}) for name in "abcde"]
            daemon.input.raw("\n".join([*lines, "nonsense", ""]).encode())
            await trio.sleep(1)
            assert daemon.told("outcome", "id") == []
            assert await daemon.stop() == Exit.NOT_SENT
    dropped = daemon.told("outcome", "id", "outcome", "reason")
    assert sorted(dropped) == [(name, "dropped", "closed") for name in "abcde"]
    assert daemon.told("line_skipped", "line") == [6]
    assert daemon.told("daemon_stopped", "accepted", "unsent") == [(2, 5)]


@pytest.mark.contract("C5")
async def test_lines_that_were_read_and_find_room_are_still_sent(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None, answer_delay=0.1) as gateway:
        async with running(gateway, overflow="wait", buffer_size=1) as daemon:
            lines = [json.dumps({"recipient": PEER, "text": name, "id": name}) for name in "abcd"]
            daemon.input.raw("\n".join([*lines, '{"recipient": "half a li']).encode())
            await gateway.wait_received(1)
            daemon.input.line(recipient=PEER, text="never read", id="e")
            assert await daemon.stop() == Exit.OK
        assert [send.message for send in gateway.received] == list("abcd")
    assert daemon.told("line_skipped") == []


async def test_a_stop_before_the_first_connection_is_clean(autojump_clock: MockClock) -> None:
    async with open_fake_gateway(port=None) as gateway:
        gateway.silence(on="any", times=None)
        async with running(gateway) as daemon:
            await trio.sleep(1)
            assert await daemon.stop() == Exit.OK


@pytest.mark.contract("C6")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"accounts": ["+15550007"]}, "does not have the account"),
        ({"mode": "native"}, "start it with MODE=json-rpc"),
        ({"require_header": ("Authorization", "Bearer right")}, "401"),
    ],
)
async def test_a_gateway_that_cannot_serve_ends_it_with_one_sentence(
    options: dict[str, Any], words: str, autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None, **options) as gateway, running(gateway, token=SECRET) as daemon:
        daemon.input.line(recipient=PEER, text="a", id="a")
        await daemon.ended.wait()
    assert daemon.code == Exit.FAILED
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert SECRET not in captured.err + json.dumps(daemon.events)


async def test_a_bad_argument_that_only_the_library_knows_is_a_usage_error(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_fake_gateway(port=None) as gateway, running(gateway, buffer_size=0) as daemon:
        await daemon.ended.wait()
    assert daemon.code == Exit.USAGE
    assert daemon.events == []
    assert "--buffer-size (environment variable TRIO_SIGNAL_BUFFER_SIZE): " in capsys.readouterr().err


async def test_a_wrong_token_file_ends_it_and_an_expired_one_does_not(
    autojump_clock: MockClock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    current = "wrong"

    async def token() -> str:
        await trio.lowlevel.checkpoint()
        return current

    # Reading the real file takes a thread, and so real time, which the test's clock does not wait for.
    monkeypatch.setattr(Connection, "lasting_token", property(lambda _: token))
    wanted = ("Authorization", f"Bearer {SECRET}")
    async with open_fake_gateway(port=None, require_header=wanted) as gateway:
        async with running(gateway) as daemon:
            await daemon.ended.wait()
        assert daemon.code == Exit.FAILED
        assert "401" in capsys.readouterr().err
        current = SECRET
        async with running(gateway) as daemon:
            await trio.sleep(1)
            current = "expired"
            gateway.drop()
            await trio.sleep(10)
            assert "refused" in daemon.told("connection_status_changed", "reason")
            current = SECRET
            await trio.sleep(20)
            assert daemon.told("connection_status_changed", "current")[-1] == "connected"
        assert daemon.code == Exit.OK
    assert SECRET not in capsys.readouterr().err + json.dumps(daemon.events)


# --- lines ---


def split(*pieces: bytes) -> list[tuple[int, bytes]]:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    return [*lines, *splitter.end()]


def test_lines_come_out_whole_and_numbered_however_they_come_in() -> None:
    text = b"one\n\n  \ntwo\nthree"
    whole = [(1, b"one"), (4, b"two"), (5, b"three")]
    assert split(text) == whole
    assert split(*(bytes([byte]) for byte in text)) == whole
    assert split(b"one\n") == [(1, b"one")]
    assert split() == []


def test_a_line_that_is_too_long_is_an_error_and_takes_no_more_memory() -> None:
    splitter = LineSplitter()
    for _ in range(40):
        assert list(splitter.feed(b"x" * 65_536)) == []
    [(number, line)] = splitter.feed(b"x\n")
    assert number == 1
    assert len(line) < MAX_LINE + 100_000
    with pytest.raises(BadLine, match="over 1048576 bytes"):
        parse_line(line)
    assert list(splitter.feed(b"next\n")) == [(2, b"next")]


# --- the form for people ---


def human(action: Callable[[Any], None], *, colors: bool = False) -> str:
    lines: list[str] = []
    action(make_logger(lines.append, as_json=False, level="info", colors=colors))
    return "".join(lines)


def test_the_form_for_people_is_one_safe_line() -> None:
    text = human(lambda log: log.warning("gap", reason="a\nb\x1b[2J", count=None, size=3))
    assert text.count("\n") == 1
    assert "reason=" in text
    assert "a\\nb\\x1b[2J" in text
    assert "size=3" in text
    assert "count" not in text
    assert "\x1b" not in text
    assert "\x1b[" in human(lambda log: log.info("gap"), colors=True)


def test_a_traceback_shows_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(token: str) -> None:
        raise ValueError("boom")

    lines: list[str] = []
    for as_json in (False, True):
        log = make_logger(lines.append, as_json=as_json, level="info")
        with library_events(log, level="info"):
            try:
                fail(SECRET)
            except ValueError:
                logging.getLogger("trio_signal.supervisor").exception("unexpected error in a connection")
    text = "".join(lines)
    assert text.count("ValueError: boom") == 2
    assert SECRET not in text


def test_colours_need_a_terminal_that_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert wants_colors({"TERM": "xterm"})
    assert not wants_colors({"TERM": "xterm", "NO_COLOR": "1"})
    assert not wants_colors({"TERM": "dumb"})
    monkeypatch.setattr("sys.stdout.isatty", lambda: False)
    assert not wants_colors({"TERM": "xterm"})


# --- as a process ---


async def test_a_daemon_that_reads_its_token_from_a_file_and_its_messages_from_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(SECRET)
    async with open_fake_gateway(require_header=("Authorization", f"Bearer {SECRET}")) as gateway:
        given = ["--gateway", gateway.url, "--account", gateway.account]
        given += ["--token-file", str(tmp_path / "token")]
        async with started("daemon", "--json", "--stdin", "--log-level", "debug", *given) as process:
            await process.say(json.dumps({"recipient": PEER, "text": "hi", "id": "a"}))
            assert (await process.event("outcome", id="a"))["outcome"] == "sent"
            process.signal(signal.SIGTERM)
            ended = await process.end()
    assert (ended.code, ended.err) == (0, "")
    assert SECRET not in ended.out


@pytest.mark.threat("T14")
async def test_no_token_comes_out_whatever_goes_wrong() -> None:
    async with open_fake_gateway(require_header=("Authorization", "Bearer right")) as gateway:
        env = {
            "TRIO_SIGNAL_GATEWAY": gateway.url,
            "TRIO_SIGNAL_ACCOUNT": gateway.account,
            "TRIO_SIGNAL_TOKEN": SECRET,
            "TRIO_SIGNAL_LOG_LEVEL": "debug",
            "TRIO_SIGNAL_TIMEOUT": "3",
        }
        for arguments in (("daemon",), ("send", PEER, "hi"), ("listen",), ("status",)):
            ended = await run_program(*arguments, env=env)
            assert ended.code == 1, arguments
            assert "401" in ended.out + ended.err
            assert SECRET not in ended.out + ended.err
