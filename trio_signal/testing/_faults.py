"""The part of `FakeGateway` that breaks things: at connecting, on open sockets, and in what is sent."""

from collections.abc import Mapping

from ._answers import SendAnswer
from ._core import Core
from ._dial_faults import DialFault, Kind, Target, proxy_response


class Faults:
    """Faults to be made; all methods are synchronous and take effect at once."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # --- while a client connects ---

    def refuse(self, times: int | None = 1) -> None:
        """Refuse the next ``times`` connections, whatever they are for, or all until `heal` (None).

        In memory the connect raises `ConnectionRefusedError`. On a real port None stops the listening, so
        that the kernel refuses; a number cannot do that, so each connection is accepted and reset at once.
        """
        self._core.door.refuse(times)

    def reject(
        self,
        status: int,
        *,
        retry_after: str | float | None = None,
        body: str | None = None,
        times: int | None = 1,
        on: Target = "receive",
    ) -> None:
        """Answer the next ``times`` requests, or all until `heal` (None), as a reverse proxy does.

        Args:
            status: 401, 403, 429, 503, … or 200 with ``body="[]"``, as a gateway in normal mode answers.
            retry_after: the Retry-After header: seconds or an HTTP date.
            body: default: a small page of HTML.
            times: how many requests.
            on: WebSocket handshakes and requests for events (``"receive"``), other requests (``"http"``) or
                ``"any"``.
        """
        headers: Mapping[str, str] = {} if retry_after is None else {"Retry-After": str(retry_after)}
        response = proxy_response(status, body=body, headers=headers)
        self._core.dial_faults.add(DialFault("reject", on, times, response))

    def silence(self, times: int | None = 1, *, on: Target = "receive") -> None:
        """Say nothing to the next ``times`` requests, ever; with ``on="any"`` not even TLS is answered."""
        self._dial_fault("silence", times, on)

    def hang_up(self, times: int | None = 1, *, on: Target = "receive") -> None:
        """End the connection after reading the head of the next ``times`` requests."""
        self._dial_fault("hang_up", times, on)

    def garbage(self, times: int | None = 1, *, on: Target = "receive") -> None:
        """Answer the next ``times`` requests with bytes that are no HTTP, and end the connection."""
        self._dial_fault("garbage", times, on)

    # --- open receive sockets, all of them; `connections` has each ---

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close every receive socket with a close frame, after what is queued; see `ReceiveSocket.close`.

        Raises:
            ValueError: signal-cli's event streams have no close frames; `FakeGateway.terminate` ends them.
        """
        if self._core.config.is_signal_cli:
            raise ValueError("event streams have no close frames: use drop(), reset() or terminate()")
        for sock in self._core.consumers(None):
            sock.close(code, reason)

    def drop(self) -> None:
        """End every receive socket at once without a close frame; see `ReceiveSocket.drop`."""
        for sock in tuple(self._core.room.sockets):
            sock.drop()

    def drop_http(self) -> None:
        """End every connection at once that is no receive socket: idle ones, and requests in work."""
        self._core.end_http()

    def reset(self) -> None:
        """End every receive socket at once with a TCP reset."""
        for sock in tuple(self._core.room.sockets):
            sock.reset()

    def half_open(self) -> None:
        """Leave every receive socket open and dead; see `ReceiveSocket.half_open`."""
        for sock in tuple(self._core.room.sockets):
            sock.half_open()

    def stall(self) -> None:
        """Deliver nothing and send no pings to anybody, as when one client of the real gateway stops reading.

        HTTP works, and clients' pings are answered at once, so that they do not show it. Sockets that are
        opened meanwhile are stalled too. Of what is delivered meanwhile each socket keeps one message and
        loses the rest (measured). On signal-cli nothing is lost: everything waits, keep-alives too.
        """
        self._core.room.stalled = True

    def unstall(self) -> None:
        """End a `stall`: each socket gets the one message that was kept."""
        self._core.unstall()

    def send_frame(self, data: bytes) -> None:
        """Write bytes as they are to every receive socket: see `server_frame` for building bad ones.

        On an event stream they go behind what is being written: see `chunk`.
        """
        for sock in self._core.consumers(None):
            sock.send_frame(data)

    # --- the next message delivered ---

    def cut(self, after: int) -> None:
        """Write only the first ``after`` bytes of the next frame delivered, and end the connection."""
        self._core.cut_next = after

    def fragment(self) -> None:
        """Deliver the next message in three fragments with a ping between them; an event in three chunks."""
        self._core.fragment_next = True

    def duplicate(self, times: int = 1) -> None:
        """Deliver each of the next ``times`` messages twice."""
        self._core.duplicates += times

    def split(self, size: int | None) -> None:
        """From now on write everything in slices of ``size`` bytes; None ends that."""
        self._core.set_slice_size(size)

    # --- sends ---

    def script_send(self, *answers: SendAnswer) -> None:
        """Queue what the next sends, reactions and deletions get, one each; after that they get `ok` again.

        One that the gateway itself refuses, or that comes while signal-cli is away, takes none.
        """
        self._core.scripts.extend(answers)

    def script(self, request: str, *answers: SendAnswer) -> None:
        """Queue what the next requests to another path get: `reply` with any content, `hang`, `error`, ….

        Args:
            request: method and path as in ``"GET /v1/accounts"``, base path included, without a query; or a
                method of signal-cli's JSON-RPC, as in ``"RPC listGroups"``, of any kind, sends included. For
                those there are `rpc_result` and `rpc_error`, and `ok` is the ordinary answer.
            answers: one for each request.
        """
        self._core.other_scripts.setdefault(request, type(self._core.scripts)()).extend(answers)

    def daemon_outage(self, seconds: float | None = None) -> None:
        """Take signal-cli away for ``seconds``, or until `daemon_return` or `heal`.

        As measured: sends get 500 with an empty body, those in flight are never answered, receive sockets
        stay open and silent (what is delivered is lost). If it lasts over 30 s the gateway exits: every
        connection ends without a close frame and new ones are refused until `FakeGateway.start`.

        With ``kind="signal-cli"`` there is one process, and this is `FakeGateway.kill` with a later start.
        """
        self._core.daemon_lost(seconds)

    def daemon_return(self) -> None:
        """End a `daemon_outage`."""
        self._core.daemon_back()

    def heal(self) -> None:
        """End every fault that lasts and forget those that wait.

        What `FakeGateway.stop` or `FakeGateway.kill` ended stays so until `FakeGateway.start`.
        """
        self._core.heal()

    def _dial_fault(self, kind: Kind, times: int | None, on: Target) -> None:
        self._core.dial_faults.add(DialFault(kind, on, times))
