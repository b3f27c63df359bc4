"""``trio-signal`` as its users run it: processes, pipes, signals, a real port; real time passes."""

import json
import os
import shlex
import signal
import ssl
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest
import trio
import trustme

from trio_signal.testing import FakeGateway, hang, open_fake_gateway, slow

from ..programs import Finished, environment, run_program, started

PEER = "+15550002"


def given(gateway: FakeGateway) -> list[str]:
    return ["--gateway", gateway.url, "--account", gateway.account]


def letter(name: str) -> str:
    return json.dumps({"recipient": PEER, "text": name, "id": name})


async def shell(command: str, gateway: FakeGateway) -> Finished:
    """Run a shell command, in which ``PROGRAM`` stands for ours."""
    program = f"{shlex.quote(sys.executable)} -m trio_signal"
    with trio.fail_after(30):
        done = await trio.run_process(
            ["bash", "-c", f"set -o pipefail; {command.replace('PROGRAM', program)}"],
            env=environment({"TRIO_SIGNAL_GATEWAY": gateway.url, "TRIO_SIGNAL_ACCOUNT": gateway.account}),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


def events(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.contract("C5", "O4")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_drains(number: signal.Signals) -> None:
    async with open_fake_gateway(answer_delay=0.1) as gateway:
        async with started("daemon", "--json", "--stdin", *given(gateway)) as daemon:
            for name in "abcde":
                await daemon.say(letter(name))
            await gateway.wait_received(1)
            daemon.signal(number)
            ended = await daemon.end()
        assert [send.message for send in gateway.received] == list("abcde")
    assert (ended.code, ended.err) == (0, "")
    told = events(ended.out)
    assert [each["id"] for each in told if each["event"] == "outcome"] == list("abcde")
    assert told[-1]["event"] == "daemon_stopped"
    assert (told[-1]["accepted"], told[-1]["sent"], told[-1]["unsent"]) == (5, 5, 0)


@pytest.mark.contract("C5")
async def test_a_gateway_that_dies_during_the_drain_does_not_hold_up_the_end() -> None:
    async with open_fake_gateway() as gateway:
        gateway.script_send(hang())
        async with started(
            "daemon", "--json", "--stdin", "--close-timeout", "0.5", *given(gateway)
        ) as daemon:
            for name in "abc":
                await daemon.say(letter(name))
            await gateway.wait_received(1)
            began = trio.current_time()
            daemon.signal(signal.SIGTERM)
            await daemon.event("daemon_stopping")
            gateway.kill()
            ended = await daemon.end()
            assert trio.current_time() - began < 3
    assert (ended.code, ended.err) == (3, "")
    outcomes = {each["id"]: each for each in events(ended.out) if each["event"] == "outcome"}
    assert (outcomes["a"]["outcome"], outcomes["a"]["certainty"]) == ("failed", "unknown")
    assert [outcomes[name]["reason"] for name in "bc"] == ["closed", "closed"]


@pytest.mark.contract("C5")
async def test_a_second_ctrl_c_ends_it_at_once() -> None:
    async with open_fake_gateway() as gateway:
        gateway.script_send(hang())
        async with started("daemon", "--json", "--stdin", *given(gateway)) as daemon:
            await daemon.say(letter("a"))
            await gateway.wait_received(1)
            daemon.signal(signal.SIGINT)
            await daemon.event("daemon_stopping")
            began = trio.current_time()
            daemon.signal(signal.SIGINT)
            ended = await daemon.end()
            assert trio.current_time() - began < 2.5
    assert (ended.code, ended.err) == (3, "")
    assert "daemon_cancelled" in ended.out


@pytest.mark.contract("R3", "O4")
async def test_a_gateway_that_restarts_is_met_again_and_gets_what_waited() -> None:
    async with open_fake_gateway() as gateway:
        async with started("daemon", "--json", "--stdin", *given(gateway)) as daemon:
            await daemon.event("connection_status_changed", current="connected")
            gateway.kill()
            await daemon.event("reconnection_attempt", attempt=2)
            await daemon.say(letter("a"))
            await daemon.say(letter("b"))
            await gateway.start()
            assert (await daemon.event("gap"))["reason"] == "gateway"
            await daemon.event("outcome", id="a", outcome="sent")
            await daemon.event("outcome", id="b", outcome="sent")
            daemon.signal(signal.SIGTERM)
            assert (await daemon.end()).code == 0
        assert [send.message for send in gateway.received] == ["a", "b"]


@pytest.mark.parametrize("source", ["< /dev/null", "<&-", "< lines"])
async def test_standard_input_may_be_anything(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines").write_text(f"{letter('a')}\n")
    async with open_fake_gateway() as gateway:
        async with started("daemon", "--json", "--stdin", *given(gateway), redirect=source) as daemon:
            await gateway.wait_received(source == "< lines")
            await gateway.wait_connected()
            await daemon.event("input_ended")
            daemon.signal(signal.SIGTERM)
            ended = await daemon.end()
    assert (ended.code, ended.err) == (0, "")
    assert events(ended.out)[-1]["event"] == "daemon_stopped"
    assert events(ended.out)[-1]["sent"] == (source == "< lines")


async def test_what_is_written_after_the_stop_is_for_the_next_one_on_the_same_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "lines"
    os.mkfifo(pipe)
    async with open_fake_gateway() as gateway:
        gateway.script_send(slow(0.5))
        command = ("daemon", "--json", "--stdin", *given(gateway))
        with pipe.open("r+b", buffering=0) as lines:
            async with started(*command, redirect=f"<{pipe}") as daemon:
                lines.write(f"{letter('a')}\n".encode())
                await gateway.wait_received(1)
                daemon.signal(signal.SIGTERM)
                await daemon.event("daemon_stopping")
                lines.write(f"{letter('b')}\n".encode())
                assert (await daemon.end()).code == 0
            async with started(*command, redirect=f"<{pipe}") as daemon:
                await daemon.event("outcome", id="b", outcome="sent")
                daemon.signal(signal.SIGTERM)
                assert (await daemon.end()).code == 0
    assert [send.message for send in gateway.received] == ["a", "b"]


async def test_standard_input_that_another_program_made_non_blocking_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    try:
        async with open_fake_gateway() as gateway:
            command = ("daemon", "--json", "--stdin", *given(gateway))
            async with started(*command, redirect=f"<&{reader}", pass_fds=(reader,)) as daemon:
                await daemon.event("connection_status_changed", current="connected")
                os.write(writer, f"{letter('a')}\n".encode())
                await daemon.event("outcome", id="a", outcome="sent")
    finally:
        os.close(reader)
        os.close(writer)


async def test_a_log_whose_reader_is_gone_ends_no_daemon() -> None:
    async with open_fake_gateway() as gateway:
        async with started("daemon", "--stdin", *given(gateway), redirect="> >(head -n 1)") as daemon:
            assert "daemon_started" in (await daemon.line() or "")
            # The one reader has ended with its one line; what is logged now goes nowhere.
            await daemon.say(letter("a"))
            await gateway.wait_received(1)
            await daemon.say(letter("b"))
            await gateway.wait_received(2)
            daemon.signal(signal.SIGTERM)
            ended = await daemon.end()
    assert (ended.code, ended.out.count("\n"), ended.err) == (0, 1, "")


@pytest.mark.contract("R5", "D1")
async def test_what_a_log_whose_reader_is_gone_could_not_tell_is_told_by_the_next_process(
    tmp_path: Path,
) -> None:
    async with open_fake_gateway() as gateway:
        command = ("daemon", "--json", "--stdin", "--store", str(tmp_path / "bot.db"), *given(gateway))
        async with started(*command) as daemon:
            await gateway.wait_connected()
            daemon.signal(signal.SIGTERM)
            assert (await daemon.end()).code == 0
        async with started(*command, redirect="> >(head -n 1)") as daemon:
            assert "daemon_started" in (await daemon.line() or "")
            await gateway.wait_connected()
            gateway.deliver(text="to nobody")
            came = time.time()
            await daemon.say(letter("a"))
            await gateway.wait_received(1)
            await trio.sleep(0.2)
            daemon.signal(signal.SIGKILL)
            await daemon.wait()
        async with started(*command) as daemon:
            await daemon.event("outcome", id="a", outcome="sent")
            gap = await daemon.event("gap")
            since, until = (datetime.fromisoformat(gap[side]).timestamp() for side in ("since", "until"))
            assert since <= came <= until


async def test_a_log_that_nobody_reads_holds_nothing_up() -> None:
    async with open_fake_gateway() as gateway:
        async with started("daemon", "--stdin", "--show-text", *given(gateway)) as daemon:
            await gateway.wait_connected()
            for _ in range(50):
                gateway.deliver(text="x" * 20_000)
            await gateway.wait_delivered()
            # Its pipe is full by now; a daemon that was stuck in writing would send nothing.
            await daemon.say(letter("a"))
            await gateway.wait_received(1)
            daemon.signal(signal.SIGTERM)
            with trio.fail_after(5):
                assert await daemon.wait() == 0


async def test_closed_standard_streams_are_no_trap() -> None:
    # The number of a closed stream would be given to a socket, and text be written into that.
    async with open_fake_gateway() as gateway:
        assert (await shell("PROGRAM status >&- 2>&- <&-", gateway)).code == 0
        assert (await shell("PROGRAM send +15550002 >&- 2>&- <&-", gateway)).code == 2
        async with started("daemon", *given(gateway), redirect=">&- 2>&- <&-") as daemon:
            await gateway.wait_connected()
            gateway.deliver(text="hi")
            await gateway.wait_delivered()
            daemon.signal(signal.SIGTERM)
            assert await daemon.end() == Finished(0, "", "")
        assert gateway.handshakes == 2


async def test_listen_ends_as_soon_as_its_reader_has_enough() -> None:
    async with open_fake_gateway() as gateway, trio.open_nursery() as nursery:

        async def talk() -> None:
            await gateway.wait_connected()
            gateway.deliver(text="one")

        nursery.start_soon(talk)
        # Nothing follows the one message, so the end can come only from noticing that the reader is gone.
        done = await shell("PROGRAM listen --json | head -n 1", gateway)
        assert done.code == 0, done
        assert [each["text"] for each in events(done.out)] == ["one"]


async def test_an_own_authority_is_trusted_when_it_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate = authority.issue_cert("127.0.0.1")
    for chain in certificate.cert_chain_pems:
        chain.write_to_path(str(tmp_path / "server.pem"), append=True)
    certificate.private_key_pem.write_to_path(str(tmp_path / "server.pem"), append=True)
    context.load_cert_chain(tmp_path / "server.pem")
    async with open_fake_gateway(ssl_context=context) as gateway:
        trusting = [*given(gateway), "--ca-file", str(tmp_path / "ca.pem")]
        assert (await run_program("send", *trusting, PEER, "hi")).code == 0
        assert (await run_program("status", *trusting)).code == 0
        for arguments in (("send", PEER, "hi"), ("daemon", "--json"), ("status",)):
            refused = await run_program(arguments[0], *given(gateway), *arguments[1:])
            assert refused.code == 1
            assert "does not verify" in refused.out + refused.err
            assert "Traceback" not in refused.err


async def test_the_form_for_people_and_a_password_in_the_url() -> None:
    async with open_fake_gateway(base_path="/deep") as gateway:
        url = gateway.url.replace("http://", "http://user:hunter2@")
        env = {"TRIO_SIGNAL_GATEWAY": url, "TRIO_SIGNAL_ACCOUNT": gateway.account}
        async with started("daemon", "--log-level", "debug", env=env) as daemon:
            while "current=connected" not in (await daemon.line() or "current=connected"):
                pass
            daemon.signal(signal.SIGTERM)
            ended = await daemon.end()
        gateway.kill()
        status = await run_program("status", env=env)
    assert (ended.code, status.code) == (0, 1)
    assert "connection_resilience=enabled" in ended.out
    assert "\x1b" not in ended.out
    assert "hunter2" not in ended.out + ended.err + status.out + status.err
    assert "/deep" not in ended.out + ended.err + status.out + status.err


@pytest.mark.contract("O1", "O4", "R3")
async def test_the_demo_balances() -> None:
    """Twice at once: one in a pipe, one that believes to have a terminal."""
    results: dict[str, subprocess.CompletedProcess[bytes]] = {}

    async def play(kind: str, command: list[str]) -> None:
        results[kind] = await trio.run_process(
            command, env=environment({"TERM": "xterm"}), capture_stdout=True, capture_stderr=True, check=False
        )

    inside = f"import pty, sys; sys.exit(pty.spawn([{sys.executable!r}, '-m', 'trio_signal', 'demo']) >> 8)"
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, "pipe", [sys.executable, "-m", "trio_signal", "demo"])
            nursery.start_soon(play, "terminal", [sys.executable, "-c", inside])
    for kind, done in results.items():
        text = done.stdout.decode()
        assert done.returncode == 0, f"{kind}: {text}"
        assert "The ledger balances" in text
        assert " FAIL " not in text
        assert ("\x1b[?25l" in text) is (kind == "terminal")
