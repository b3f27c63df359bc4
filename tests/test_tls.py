"""TLS to the gateway: own authorities, certificates that do not verify, handshakes that never end."""

import datetime as dt
import logging
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import httpx2
import pytest
import trio
import trustme
from trio.testing import MockClock

from tests.peers import Detour, Peer
from tests.scene import (
    CONNECTED,
    DISCONNECTED,
    EXACT,
    connected,
    logged,
    record,
    send_all,
    settled,
)
from trio_signal import (
    CertificateError,
    GatewayError,
    LinkLost,
    Reason,
    SignalClient,
    StateChange,
    StateChanges,
    open_signal_client,
)
from trio_signal._connections import Connections
from trio_signal._dial import open_stream, parse_url
from trio_signal._http import Request
from trio_signal.testing import FakeGateway, MemoryStream, memory_connection, open_fake_gateway

HOST = "gateway.example"
URL = f"https://{HOST}:8443"
NOW = dt.datetime.now(dt.UTC)
DAY = dt.timedelta(days=1)


class Authority:
    """An own certificate authority, and what it has signed."""

    def __init__(self) -> None:
        # Any, since trustme's annotations name a library that need not be there.
        self._ca: Any = trustme.CA()

    def client(self) -> ssl.SSLContext:
        """What a client passes as ``ssl_context=`` to trust this authority."""
        return self.trust(ssl.create_default_context())

    def server(self, *names: str, **validity: dt.datetime) -> ssl.SSLContext:
        return self.certify(
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), *(names or (HOST, "127.0.0.1")), **validity
        )

    def trust(self, context: ssl.SSLContext) -> ssl.SSLContext:
        self._ca.configure_trust(context)
        return context

    def certify(self, context: ssl.SSLContext, *names: str, **validity: dt.datetime) -> ssl.SSLContext:
        """Give a context a new certificate, in place of any that it has."""
        self._ca.issue_cert(*names, **validity).configure_cert(context)
        return context


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


PAST = {"not_before": NOW - 9 * DAY, "not_after": NOW - DAY}
FUTURE = {"not_before": NOW + DAY, "not_after": NOW + 9 * DAY}

BAD_CERTIFICATES: dict[str, tuple[Callable[[Authority], ssl.SSLContext], str]] = {
    "expired": (lambda authority: authority.server(HOST, **PAST), "expired"),
    "not yet valid": (lambda authority: authority.server(HOST, **FUTURE), "not yet valid"),
    "another host": (lambda authority: authority.server("other.example"), "mismatch"),
    "unknown authority": (lambda _: Authority().server(), "issuer"),
}


class Tap(trio.abc.Stream):
    """Passes everything through and keeps what was written."""

    def __init__(self, stream: trio.abc.Stream, written: bytearray) -> None:
        self._stream = stream
        self._written = written

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self._written += data
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


# --- what works ---


@pytest.mark.parametrize("scheme", ["https", "wss", "HTTPS"])
async def test_everything_goes_over_tls_with_an_own_authority(
    autojump_clock: MockClock, authority: Authority, scheme: str
) -> None:
    written = bytearray()
    async with open_fake_gateway(port=None, ssl_context=authority.server(), base_path="/base") as gateway:

        async def connect(host: str, port: int) -> trio.abc.Stream:
            assert (host, port) == (HOST, 8443)
            return Tap(await gateway.connect(host, port), written)

        async with open_signal_client(
            f"{scheme}://{HOST}:8443/base",
            gateway.account,
            connect=connect,
            ssl_context=authority.client(),
            token="s3cret",
        ) as signal:
            await signal.wait_state(CONNECTED)
            gateway.deliver(text="hello")
            message = await anext(signal.receive_messages())
            await (await signal.send_message(message.reply_to, "over TLS")).wait()
        assert [request.path for request in gateway.requests] == [
            "/base/v1/about",
            "/base/v1/accounts",
            f"/base/v1/receive/{gateway.account}",
            "/base/v2/send",
        ]
        assert {request.headers["authorization"] for request in gateway.requests} == {"Bearer s3cret"}
        assert {request.headers["host"] for request in gateway.requests} == {f"{HOST}:8443"}
    assert len(written) > 1000
    assert b"s3cret" not in written
    assert b"Authorization" not in written


async def test_over_tcp_a_connection_for_sends_is_kept(
    autojump_clock: MockClock, authority: Authority
) -> None:
    """A TLS server says things on its own account (session tickets); that is no sign of the end."""
    dialled = 0

    async def connect(host: str, port: int) -> trio.abc.Stream:
        nonlocal dialled
        dialled += 1
        return await trio.open_tcp_stream(host, port)

    async with open_fake_gateway(ssl_context=authority.server()) as gateway:
        async with open_signal_client(
            gateway.url, gateway.account, connect=connect, ssl_context=authority.client()
        ) as signal:
            await signal.wait_state(CONNECTED)
            assert dialled == 2, "one for look-ups, one for the WebSocket"
            for message in await send_all(signal, "abcdefghij"):
                await message.wait()
            assert dialled == 2
        assert [send.message for send in gateway.received] == list("abcdefghij")


async def test_an_idle_connection_that_was_closed_over_tls_is_not_reused(
    autojump_clock: MockClock, authority: Authority
) -> None:
    async with open_fake_gateway(ssl_context=authority.server()) as gateway:
        async with open_signal_client(
            gateway.url, gateway.account, ssl_context=authority.client(), backoff=EXACT
        ) as signal:
            await signal.wait_state(CONNECTED)
            await (await signal.send_message("+15550002", "one")).wait()
            # The connection for sends alone ends, as when a proxy gives it up.
            for link in tuple(gateway._core.links):
                if link.stream not in {sock._link.stream for sock in gateway.connections}:
                    await link.stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.05)
            await (await signal.send_message("+15550002", "two")).wait()
        assert [send.message for send in gateway.received] == ["one", "two"]


class Corked:
    """A server that sends what stands in several TLS records in one segment, as our TLS alone would not."""

    def __init__(self, stream: trio.abc.Stream, context: ssl.SSLContext) -> None:
        self._stream = stream
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def shake_hands(self) -> None:
        await self._do(self._tls.do_handshake)

    async def receive(self) -> bytes:
        return bytes(await self._do(lambda: self._tls.read(65536)))

    async def send(self, *records: bytes) -> None:
        for data in records:
            self._tls.write(data)
        await self._stream.send_all(self._outgoing.read())

    async def _do(self, step: Callable[[], Any]) -> Any:
        while True:
            result, is_done = None, True
            try:
                result = step()
            except ssl.SSLWantReadError:
                is_done = False
            await self._stream.send_all(self._outgoing.read())
            if is_done:
                return result
            self._incoming.write(await self._stream.receive_some())


@pytest.mark.parametrize("over", ["tcp", "memory"])
async def test_an_answer_that_tls_has_read_with_the_last_one_is_not_the_next_one(
    autojump_clock: MockClock, authority: Authority, over: str
) -> None:
    """Else the answer to one send would be taken for that to the next."""
    context, count = authority.server(), 0

    async def serve(stream: trio.abc.Stream) -> None:
        nonlocal count
        count += 1
        server, answer = Corked(stream, context), b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        await server.shake_hands()
        await server.receive()
        await server.send(answer + b"own %d" % count, answer + b"wrong")
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        if over == "tcp":
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            port = listeners[0].socket.getsockname()[1]
        else:
            port = 8443

        async def connect(host: str, port: int) -> trio.abc.Stream:
            if over == "tcp":
                return await trio.open_tcp_stream("127.0.0.1", port)
            await trio.lowlevel.checkpoint()
            ours, theirs = memory_connection()
            nursery.start_soon(serve, theirs)
            return ours

        address = parse_url(f"https://{HOST}:{port}")
        connections = Connections(lambda: open_stream(address, connect, authority.client()))
        for number in (1, 2, 3):
            answer = await connections.exchange(Request(b"GET / HTTP/1.1\r\n\r\n"), max_answer=100)
            assert answer.body == b"own %d" % number
        await connections.aclose()
        nursery.cancel_scope.cancel()


async def test_a_client_certificate_is_shown(autojump_clock: MockClock, authority: Authority) -> None:
    server = authority.server()
    server.verify_mode = ssl.CERT_REQUIRED
    authority.trust(server)
    ours = authority.client()
    authority.certify(ours, "bot@example.org")
    async with open_fake_gateway(port=None, ssl_context=server) as gateway:
        async with open_signal_client(
            URL, gateway.account, connect=gateway.connect, ssl_context=ours
        ) as signal:
            await signal.wait_state(CONNECTED)
        # Without it the gateway refuses, which is no fault of its own certificate.
        changes: list[StateChange] = []
        async with open_signal_client(
            URL, gateway.account, connect=gateway.connect, ssl_context=authority.client()
        ) as signal:
            async for change in signal.state_changes():
                changes.append(change)
                if len(changes) == 4:
                    break
    assert [change.reason for change in changes] == [
        Reason.START,
        Reason.ATTEMPT_FAILED,
        Reason.RETRY,
        Reason.ATTEMPT_FAILED,
    ]


@pytest.mark.parametrize("library", [httpx, httpx2])
async def test_a_client_of_ones_own_verifies_for_itself(
    autojump_clock: MockClock, authority: Authority, library: Any
) -> None:
    async with open_fake_gateway(ssl_context=authority.server()) as gateway:
        context = authority.client()
        async with (
            library.AsyncClient(verify=context, trust_env=False) as http,
            open_signal_client(gateway.url, gateway.account, ssl_context=context, http_client=http) as signal,
        ):
            await signal.wait_state(CONNECTED)
            await (await signal.send_message("+15550002", "hello")).wait()


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.contract("C6")
async def test_a_bad_certificate_is_permanent_for_a_client_of_ones_own_too(
    autojump_clock: MockClock, authority: Authority, library: Any
) -> None:
    async with open_fake_gateway(ssl_context=Authority().server()) as gateway:
        context = authority.client()
        http = library.AsyncClient(verify=context, trust_env=False)
        with trio.fail_after(30), pytest.raises(CertificateError, match="http_client"):
            async with (
                http,
                open_signal_client(
                    gateway.url, gateway.account, ssl_context=context, http_client=http
                ) as signal,
            ):
                await signal.wait_state(CONNECTED)


# --- certificates that do not verify ---


@pytest.mark.threat("T5")
@pytest.mark.parametrize("case", BAD_CERTIFICATES)
@pytest.mark.contract("C6", "B5")
async def test_a_bad_certificate_ends_the_client_at_once_with_the_remedy(
    autojump_clock: MockClock, authority: Authority, case: str
) -> None:
    make, words = BAD_CERTIFICATES[case]
    clients: list[SignalClient] = []

    async def run() -> None:
        context = authority.client()
        async with open_signal_client(
            URL, gateway.account, connect=gateway.connect, ssl_context=context, token="s3cret"
        ) as signal:
            clients.append(signal)
            await trio.sleep_forever()

    async with open_fake_gateway(port=None, ssl_context=make(authority)) as gateway:
        with pytest.raises(CertificateError) as caught:
            await run()
        assert trio.current_time() == 0
        text = str(caught.value)
        assert words in text.lower()
        assert "ssl_context=" in text
        assert f"{HOST}:8443" in text
        assert "s3cret" not in text
        assert isinstance(caught.value.__cause__ or caught.value.__context__, Exception)
        assert clients[0].state is DISCONNECTED
        assert clients[0].statistics().last_error is caught.value
        assert gateway.requests == []


@pytest.mark.contract("C6")
async def test_without_an_own_context_the_systems_authorities_count(
    autojump_clock: MockClock, authority: Authority
) -> None:
    async with open_fake_gateway(port=None, ssl_context=authority.server()) as gateway:
        with pytest.raises(CertificateError, match="does not verify"):
            async with open_signal_client(URL, gateway.account, connect=gateway.connect):
                await trio.sleep_forever()
        assert trio.current_time() == 0


@pytest.mark.threat("T5")
@pytest.mark.contract("C6")
async def test_the_host_is_checked_by_address_too(autojump_clock: MockClock, authority: Authority) -> None:
    async with open_fake_gateway(ssl_context=authority.server("127.0.0.2")) as gateway:
        with pytest.raises(CertificateError, match=r"127\.0\.0\.1"):
            async with open_signal_client(gateway.url, gateway.account, ssl_context=authority.client()):
                await trio.sleep_forever()


@pytest.mark.contract("C6")
async def test_a_client_that_has_worked_waits_for_the_certificate_to_be_renewed(
    autojump_clock: MockClock, authority: Authority, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    server = authority.server()
    async with open_fake_gateway(port=None, ssl_context=server) as gateway:
        changes: list[StateChange] = []
        async with open_signal_client(
            URL, gateway.account, connect=gateway.connect, ssl_context=authority.client(), backoff=EXACT
        ) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await signal.wait_state(CONNECTED)
            await trio.sleep(100)
            authority.certify(server, HOST, **PAST)
            gateway.drop()
            await trio.sleep(600)
            delays = [c.delay for c in changes if c.delay][1:]
            assert delays == [60.0] * len(delays)
            assert len(delays) >= 9
            failures = [c for c in changes if isinstance(c.error, CertificateError)]
            assert {c.reason for c in failures} == {Reason.PERMANENT}
            errors = logged(caplog.records, logging.ERROR)
            assert len(errors) == len(failures)
            assert all("does not verify" in text for text in errors)
            authority.certify(server, HOST)
            with trio.fail_after(61):
                await signal.wait_state(CONNECTED)
            await (await signal.send_message("+15550002", "after")).wait()


@pytest.mark.threat("T5")
@pytest.mark.contract("C6", "O5", "O6")
async def test_a_bad_certificate_for_a_send_alone_proves_that_nothing_was_sent(
    autojump_clock: MockClock, authority: Authority
) -> None:
    server = authority.server()
    async with (
        open_fake_gateway(port=None, ssl_context=server) as gateway,
        open_signal_client(
            URL, gateway.account, connect=gateway.connect, ssl_context=authority.client(), backoff=EXACT
        ) as signal,
    ):
        await signal.wait_state(CONNECTED)
        await trio.sleep(31)
        authority.certify(server, "other.example")
        message = await signal.send_message("+15550002", "waits")
        await trio.sleep(20)
        assert message.outcome is None
        assert gateway.received == []
        authority.certify(server, HOST)
        with trio.fail_after(61):
            await message.wait()


# --- peers that are no TLS server ---


async def nothing(peer: Peer) -> None:
    await trio.sleep_forever()


async def hangs_up(peer: Peer) -> None:
    await peer.stream.receive_some()
    await peer.stream.aclose()


async def resets(peer: Peer) -> None:
    await peer.stream.receive_some()
    peer.stream.reset()


async def speaks_http(peer: Peer) -> None:
    await peer.stream.receive_some()
    await peer.stream.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await trio.sleep_forever()


async def sends_an_alert(peer: Peer) -> None:
    await peer.stream.receive_some()
    await peer.stream.send_all(b"\x15\x03\x03\x00\x02\x02\x28")
    await trio.sleep_forever()


async def stops_half_way(peer: Peer) -> None:
    await peer.stream.receive_some()
    await peer.stream.send_all(b"\x16\x03\x03\x01\x00\x02")
    await trio.sleep_forever()


AT_ONCE: dict[str, Callable[[Peer], Awaitable[None]]] = {
    "hangs up": hangs_up,
    "resets": resets,
    "speaks HTTP": speaks_http,
    "refuses": sends_an_alert,
}


@pytest.mark.parametrize("case", AT_ONCE)
@pytest.mark.contract("B5", "C6")
async def test_a_failed_handshake_is_noticed_at_once_and_retried(
    autojump_clock: MockClock, authority: Authority, nursery: trio.Nursery, case: str
) -> None:
    async with open_fake_gateway(port=None, ssl_context=authority.server()) as gateway:
        detour = Detour(nursery, gateway, {1: AT_ONCE[case]})
        changes: list[StateChange] = []
        async with open_signal_client(
            URL, gateway.account, connect=detour.connect, ssl_context=authority.client(), backoff=EXACT
        ) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await signal.wait_state(CONNECTED)
        failed = changes[1]
        assert (failed.time, failed.reason) == (0, Reason.ATTEMPT_FAILED)
        assert isinstance(failed.error, LinkLost)
        assert str(failed.error).startswith(f"no TLS with https://{HOST}:8443")
        assert detour.times == [0, 2, 2]


@pytest.mark.parametrize("script", [nothing, stops_half_way])
@pytest.mark.contract("B5")
async def test_a_handshake_that_never_ends_is_noticed_at_the_deadline_with_its_phase(
    autojump_clock: MockClock,
    authority: Authority,
    nursery: trio.Nursery,
    script: Callable[[Peer], Awaitable[None]],
) -> None:
    async with open_fake_gateway(port=None, ssl_context=authority.server()) as gateway:
        detour = Detour(nursery, gateway, dict.fromkeys(range(1, 4), script))
        changes: list[StateChange] = []
        async with open_signal_client(
            URL, gateway.account, connect=detour.connect, ssl_context=authority.client(), backoff=EXACT
        ) as signal:
            nursery.start_soon(record, signal.state_changes(), changes)
            await signal.wait_state(CONNECTED)
        assert (changes[1].time, changes[1].reason) == (20, Reason.ATTEMPT_FAILED)
        text = str(changes[1].error)
        assert text.startswith("no connection within 20 s")
        assert "TLS" in text, "TCP stands, and whoever reads this should not look for a firewall"
        await settled()
        assert all(
            peer.stream._incoming.broken or peer.stream._incoming.ended for peer in detour.peers.values()
        )


@pytest.mark.threat("T5")
@pytest.mark.contract("C6")
async def test_https_to_a_port_that_speaks_http_only(autojump_clock: MockClock, authority: Authority) -> None:
    async with open_fake_gateway() as gateway:
        url = gateway.url.replace("http", "https")
        async with open_signal_client(url, gateway.account, ssl_context=authority.client()) as signal:
            error = await first_error(signal.state_changes())
    assert isinstance(error, LinkLost)
    assert str(error).startswith("no TLS with https://127.0.0.1")


@pytest.mark.contract("C6")
async def test_http_to_a_port_that_speaks_tls_only(autojump_clock: MockClock, authority: Authority) -> None:
    async with open_fake_gateway(ssl_context=authority.server()) as gateway:
        url = gateway.url.replace("https", "http")
        async with open_signal_client(url, gateway.account) as signal:
            error = await first_error(signal.state_changes())
    assert isinstance(error, LinkLost)


async def test_versions_without_a_common_one(autojump_clock: MockClock, authority: Authority) -> None:
    server, ours = authority.server(), authority.client()
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    ours.minimum_version = ssl.TLSVersion.TLSv1_3
    async with (
        open_fake_gateway(port=None, ssl_context=server) as gateway,
        open_signal_client(URL, gateway.account, connect=gateway.connect, ssl_context=ours) as signal,
    ):
        error = await first_error(signal.state_changes())
    assert isinstance(error, LinkLost)
    assert str(error).startswith("no TLS with")


async def first_error(changes: StateChanges) -> Exception | None:
    async for change in changes:
        if change.error is not None:
            return change.error
    raise AssertionError("the client was closed")


# --- losing a link over TLS ---


@pytest.mark.parametrize(
    "how", [FakeGateway.drop, FakeGateway.reset, FakeGateway.close, FakeGateway.half_open]
)
@pytest.mark.contract("C6", "L4")
async def test_every_end_of_a_link_over_tls_is_survived(
    autojump_clock: MockClock, authority: Authority, how: Callable[[FakeGateway], None]
) -> None:
    async with open_fake_gateway(port=None, ssl_context=authority.server()) as gateway:
        with trio.fail_after(20):
            async with connected(gateway, ssl_context=authority.client()) as signal:
                how(gateway)
                await gateway.wait_handshakes(2)
                await signal.wait_state(CONNECTED)
                await (await signal.send_message("+15550002", "well again")).wait()


# --- the dialler itself ---


async def test_what_connecting_raises_is_named_and_kept(authority: Authority) -> None:
    async def refuse(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise ConnectionRefusedError(111, "Connection refused")

    with pytest.raises(
        LinkLost, match=rf"cannot connect to https://{HOST}:8443: Connection refused"
    ) as caught:
        await open_stream(parse_url(URL), refuse, authority.client())
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


async def test_a_stream_that_breaks_while_connecting(authority: Authority) -> None:
    async def breaks(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        raise trio.BrokenResourceError

    with pytest.raises(LinkLost, match=rf"cannot connect to {URL}: .*\w$"):
        await open_stream(parse_url(URL), breaks, None)


async def test_several_causes_are_told_once_each() -> None:
    """Trio tries every address of a name and hides what each came to behind one summary."""
    server = trio.socket.socket()
    with server:
        await server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        with pytest.raises(LinkLost) as caught:
            await open_stream(parse_url(f"http://127.0.0.1:{port}"), trio.open_tcp_stream, None)
    assert str(caught.value).startswith(f"cannot connect to http://127.0.0.1:{port}: ")
    assert str(caught.value).endswith("Connection refused")

    async def several(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        each: list[Exception] = [
            OSError(101, "unreachable"),
            OSError(111, "refused"),
            OSError(111, "refused"),
        ]
        raise OSError("all attempts failed") from ExceptionGroup("", each)

    with pytest.raises(LinkLost, match=r": refused; unreachable$"):
        await open_stream(parse_url("http://gateway.example"), several, None)


async def test_a_name_that_cannot_be_looked_up_is_a_loss() -> None:
    with pytest.raises(LinkLost, match=r"cannot connect to http://gateway\.invalid") as caught:
        await open_stream(parse_url("http://gateway.invalid"), trio.open_tcp_stream, None)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("checkpoints", range(12))
async def test_cancelled_while_dialling_the_stream_is_closed(
    autojump_clock: MockClock, authority: Authority, checkpoints: int
) -> None:
    made: list[tuple[MemoryStream, MemoryStream]] = []

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        made.append(memory_connection())
        return made[0][0]

    async with trio.open_nursery() as nursery:
        nursery.start_soon(open_stream, parse_url(URL), connect, authority.client())
        for _ in range(checkpoints):
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    if made:
        with pytest.raises(trio.ClosedResourceError):
            await made[0][0].send_all(b"x")


async def test_a_host_that_tls_refuses_leaves_nothing_open(
    autojump_clock: MockClock, authority: Authority
) -> None:
    """Whatever ``connect=`` makes of such a name, TLS cannot ask for it."""
    ours, theirs = memory_connection()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        return ours

    with trio.fail_after(5), pytest.raises(GatewayError):
        await open_stream(replace(parse_url(URL), host=".example"), connect, authority.client())
    with trio.fail_after(5):
        assert await theirs.receive_some() == b""
