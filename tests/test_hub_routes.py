"""What there is at which path, who may have it, and how much of it."""

import base64
import json
import logging
from random import Random
from typing import Any

import jwt
import pytest
import trio
from trio.testing import MockClock

from tests.hubs import KEY, Reply, Scene, limits, masked, open_hub, small_log
from tests.scene import EPOCH, logged, settled, wall_time
from trio_signal import __version__
from trio_signal.hub import Authenticator
from trio_signal.testing import hang, lost

#: Every route that gives or does something only for who has a token.
PROTECTED = [
    ("GET", "/websocket/messages?since=0"),
    ("POST", "/websocket/ticket"),
    ("POST", "/v2/send"),
    ("POST", "/v1/reactions/+15550001"),
    ("DELETE", "/v1/reactions/+15550009"),
    ("DELETE", "/v1/remote-delete/+15550001"),
    ("POST", "/v1/operations"),
    ("GET", "/v1/attachments/x.jpg"),
    ("GET", "/v1/attachments/%2e%2e"),
    ("GET", "/metrics"),
    ("GET", "/status"),
]
PUBLIC = ["/", "/page/client.js", "/openapi.json", "/v1/about", "/healthz", "/readyz"]
ANYWHERE = [target for _, target in PROTECTED] + PUBLIC + ["/websocket"]


def numbers(recovered: Any) -> list[int]:
    return [message["sequence_number"] for message in recovered["messages"]]


# --- GET /websocket/messages: every boundary (H4, H5) ---


BOUNDARIES: dict[int, tuple[Any, list[int]]] = {
    # a log of 9 messages that keeps 4: oldest is 6, head is 9
    0: ({"reason": "overwritten", "first": 1, "last": 5}, [6, 7, 8, 9]),
    4: ({"reason": "overwritten", "first": 5, "last": 5}, [6, 7, 8, 9]),  # oldest - 2
    5: (None, [6, 7, 8, 9]),  # oldest - 1
    6: (None, [7, 8, 9]),  # oldest
    8: (None, [9]),  # head - 1
    9: (None, []),  # head
    10: ({"reason": "epoch_changed", "first": None, "last": None}, [6, 7, 8, 9]),  # head + 1
    999_999_999_999_999_999: ({"reason": "epoch_changed", "first": None, "last": None}, [6, 7, 8, 9]),
}


@pytest.mark.contract("H3", "H4", "H5")
@pytest.mark.parametrize("epoch", ["ours", "none", "another"])
async def test_every_boundary_of_a_recovery(autojump_clock: MockClock, epoch: str) -> None:
    given = {"ours": {"epoch": "an%20epoch"}, "none": {}, "another": {"epoch": "x"}}[epoch]
    async with open_hub(log=small_log(max_messages=4, epoch="an epoch"), limits=limits()) as scene:
        scene.tell(9)
        for since, expectation in BOUNDARIES.items():
            recovered = await scene.messages(since, **given)
            gap, expected = BOUNDARIES[10] if epoch == "another" else expectation
            assert numbers(recovered) == expected, since
            assert {name: value for name, value in recovered.items() if name != "messages"} == {
                "epoch": "an epoch",
                "head": 9,
                "oldest": 6,
                "gap": gap,
                "more": False,
            }


@pytest.mark.contract("H4", "H6")
async def test_after_501_messages_the_last_500_are_returned(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.tell(501)
        recovered = await scene.messages(0)
        assert numbers(recovered) == list(range(2, 502))
        assert recovered["oldest"] == 2
        assert recovered["gap"] == {"reason": "overwritten", "first": 1, "last": 1}
        complete = await scene.messages(1)
        assert numbers(complete) == list(range(2, 502))
        assert complete["gap"] is None
        assert [message["data"] for message in complete["messages"]] == [{"n": n} for n in range(2, 502)]
        assert scene.hub.counters.recoveries == 2
        assert scene.hub.counters.recovered_messages == 1000


@pytest.mark.contract("H4", "H5")
@pytest.mark.parametrize("since", [0, 1])
async def test_an_empty_log_has_its_oldest_after_its_head(autojump_clock: MockClock, since: int) -> None:
    async with open_hub() as scene:
        recovered = await scene.messages(since)
        assert (recovered["head"], recovered["oldest"], recovered["messages"]) == (0, 1, [])
        assert (recovered["gap"] is None) == (since == 0)


@pytest.mark.contract("H4")
async def test_pages_follow_each_other_without_a_hole(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.tell(4)
        for limit in (1, 2, 3, 4, 5, 100_000):
            have, more = [0], True
            while more:
                page = await scene.messages(have[-1], epoch=scene.hub.log.epoch, limit=limit)
                assert len(page["messages"]) == min(limit, 4 - have[-1])
                assert page["gap"] is None
                have += numbers(page)
                more = page["more"]
                assert more == (have[-1] < 4)
            assert have == [0, 1, 2, 3, 4]


@pytest.mark.contract("H5", "H6")
async def test_expiry_holds_at_the_moment_of_reading(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.tell(2)
        await trio.sleep(899)
        scene.tell()
        await trio.sleep(1)
        assert numbers(await scene.messages(0)) == [1, 2, 3], "900 s old"
        await trio.sleep(0.001)
        recovered = await scene.messages(0)
        assert numbers(recovered) == [3]
        assert recovered["gap"] == {"reason": "expired", "first": 1, "last": 2}
        assert (await scene.messages(2))["gap"] is None
        await trio.sleep(900)
        complete = await scene.messages(3, epoch=recovered["epoch"])
        assert (complete["messages"], complete["gap"], complete["oldest"]) == ([], None, 4)


WRONG = [
    ("", "since"),
    ("since=", "since"),
    ("since=-1", "since"),
    ("since=x", "since"),
    ("since=1.5", "since"),
    ("since=1e3", "since"),
    ("since=%2B1", "since"),
    ("since=+1", "since"),
    ("since=%D9%A3", "since"),
    ("since=0x10", "since"),
    ("since=null", "since"),
    ("since=1&since=2", "since"),
    ("since=1000000000000000000", "since"),
    ("since=0&limit=0", "limit"),
    ("since=0&limit=-1", "limit"),
    ("since=0&limit=x", "limit"),
    ("since=0&limit=", "limit"),
    ("since=0&limit=100001", "limit"),
    ("since=0&limit=1&limit=1", "limit"),
    ("since=0&epoch=", "epoch"),
    ("since=0&epoch=" + 201 * "x", "epoch"),
    ("since=0&epoch=a&epoch=a", "epoch"),
]


@pytest.mark.contract("H5")
async def test_a_parameter_that_is_wrong_is_named(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit()
        for query, name in WRONG:
            reply = await visitor.ask(f"/websocket/messages?{query}")
            assert (reply.status, reply.error.partition(":")[0]) == (422, name), query
            if name != "limit" and query:
                reply = await visitor.upgrade(f"/websocket?{query}")
                assert (reply.status, reply.error.partition(":")[0]) == (422, name), query
        assert scene.hub.counters.recoveries == 0
        assert scene.hub.counters.websockets_opened == 0


async def test_what_is_not_known_of_a_query_is_passed_over(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.tell()
        assert numbers((await scene.ask("/websocket/messages?x=y&since=0&=&&z")).json) == [1]


# --- who may (H9) ---


def forged(**changes: Any) -> dict[str, str]:
    """Tokens that must not be accepted, by what is wrong with them."""
    claims: dict[str, Any] = {
        "sub": "somebody",
        "aud": "trio-signal",
        "exp": EPOCH + trio.current_time() + 1000,
    }
    right = jwt.encode(claims, KEY, algorithm="HS256")
    head, body, signature = right.split(".")

    def token(**changes: Any) -> str:
        return jwt.encode(
            {name: value for name, value in (claims | changes).items() if value is not None}, KEY
        )

    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return {
        "right": right,
        "none": "",
        "no token": "nonsense",
        "expired": token(exp=EPOCH + trio.current_time() - 31),
        "without an end": token(exp=None),
        "without a subject": token(sub=None),
        "for somebody else": token(aud="another"),
        "without an audience": token(aud=None),
        "not yet": token(nbf=EPOCH + trio.current_time() + 100),
        "another key": jwt.encode(claims, b"x" * 32, algorithm="HS256"),
        "another algorithm": jwt.encode(claims, KEY, algorithm="HS512"),
        "no algorithm": f"{unsigned}.{body}.",
        "no signature": f"{head}.{body}.",
        "a signature cut": f"{head}.{body}.{signature[:-4]}",
        "two": f"{right} {right}",
        "long": right + "x" * 9000,
    }


BAD = [
    "none",
    "no token",
    "expired",
    "without an end",
    "without a subject",
    "for somebody else",
    "without an audience",
    "not yet",
    "another key",
    "another algorithm",
    "no algorithm",
    "no signature",
    "a signature cut",
    "two",
    "long",
]


def check_unauthorized(reply: Reply) -> None:
    """All that is ever told is one word."""
    assert reply.status == 401
    assert reply.json == {"error": "unauthorized"}
    assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.threat("T8")
@pytest.mark.contract("H9")
async def test_without_a_valid_token_nothing_is_given_and_nothing_told(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_hub() as scene:
        scene.tell()
        tokens = forged()
        assert set(tokens) == {"right", *BAD}
        for wrong in BAD:
            for method, target in PROTECTED:
                async with await scene.visit(token=tokens[wrong] or None) as visitor:
                    check_unauthorized(await visitor.ask(target, method, b"{}" if method == "POST" else None))
            async with await scene.visit(token=tokens[wrong] or None) as visitor:
                check_unauthorized(await visitor.upgrade())
            if tokens[wrong]:
                async with await scene.visit(token=tokens[wrong]) as visitor:
                    check_unauthorized(await visitor.ask("/readyz"))
        async with await scene.visit(token=tokens["right"]) as visitor:
            assert (await visitor.ask("/websocket/messages?since=0")).status == 200
            assert (await visitor.upgrade()).status == 101
        assert scene.hub.counters.refused[401] == len(BAD) * (len(PROTECTED) + 2) - 1
        assert scene.gateway.received == []
        told = scene.hub.metrics().decode() + repr(scene.hub) + json.dumps((await scene.ask("/status")).json)
        for token in filter(None, tokens.values()):
            parts = [token, *(part for part in token.split(".") if len(part) > 20)]
            assert not any(part in told for part in parts)
            assert not any(part in line for part in parts for line in logged(caplog.records, logging.DEBUG))


@pytest.mark.contract("H9")
async def test_a_token_is_shown_as_bearer(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit(token=None)
        for scheme in ("Basic {}", "{}", "Bearer", "Bearer{}", "bearer x {}", "Token {}"):
            shown = scheme.format(scene.token())
            check_unauthorized(await visitor.ask("/status", authorization=shown))
            check_unauthorized(await visitor.upgrade(authorization=shown))
        for scheme in ("Bearer {}", "bearer {}", "BEARER   {}"):
            shown = scheme.format(scene.token())
            assert (await visitor.ask("/status", authorization=shown)).status == 200


@pytest.mark.threat("T10")
@pytest.mark.contract("H9")
async def test_a_token_in_the_url_opens_nothing(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit(token=None)
        for name in ("token", "access_token", "ticket", "authorization"):
            check_unauthorized(await visitor.ask(f"/status?{name}={scene.token()}"))
            check_unauthorized(await visitor.upgrade(f"/websocket?{name}={scene.token()}"))


@pytest.mark.threat("T8")
@pytest.mark.contract("H9")
async def test_what_is_public_needs_no_token(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit(token=None)
        for path in PUBLIC:
            assert (await visitor.ask(path)).status == 200


# --- tickets ---


async def ticket_of(scene: Scene, **more: Any) -> str:
    reply = await scene.ask("/websocket/ticket", "POST", **more)
    assert reply.status == 201
    assert reply.json["expires_in"] == 30
    ticket = reply.json["ticket"]
    assert isinstance(ticket, str)
    return ticket


@pytest.mark.threat("T10")
@pytest.mark.contract("H9")
async def test_a_ticket_opens_one_websocket_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_hub() as scene:
        ticket = await ticket_of(scene)
        subscriber = await scene.subscribe(f"/websocket?ticket={ticket}", token=None)
        scene.tell()
        await subscriber.wait_for(1)
        again = await scene.visit(token=None)
        check_unauthorized(await again.upgrade(f"/websocket?ticket={ticket}"))
        # Not even with a valid token: who shows a ticket is judged by it.
        with_token = await scene.visit()
        check_unauthorized(await with_token.upgrade(f"/websocket?ticket={ticket}"))
        assert ticket not in repr(scene.hub) + scene.hub.metrics().decode()
        assert not any(ticket in line for line in logged(caplog.records, logging.DEBUG))


@pytest.mark.threat("T10")
@pytest.mark.contract("H9")
async def test_a_ticket_is_good_for_30_s(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        for age, status in ((29.9, 101), (30.0, 401), (3600.0, 401)):
            ticket = await ticket_of(scene)
            await trio.sleep(age)
            visitor = await scene.visit(token=None)
            assert (await visitor.upgrade(f"/websocket?ticket={ticket}")).status == status


@pytest.mark.threat("T10")
@pytest.mark.contract("H9")
async def test_a_ticket_opens_nothing_else(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        ticket = await ticket_of(scene)
        for method, target in PROTECTED:
            visitor = await scene.visit(token=None)
            joint = "&" if "?" in target else "?"
            check_unauthorized(await visitor.ask(f"{target}{joint}ticket={ticket}", method))
            check_unauthorized(await visitor.ask(target, method, authorization=f"Bearer {ticket}"))
        visitor = await scene.visit(token=None)
        assert (await visitor.upgrade(f"/websocket?ticket={ticket}")).status == 101, "nor is it used up so"


@pytest.mark.contract("H9")
async def test_what_is_no_ticket_opens_nothing(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit(token=None)
        for ticket in ("", "x", "%00", "%F0%9F%8E%AB", 1500 * "x"):
            check_unauthorized(await visitor.upgrade(f"/websocket?ticket={ticket}"))
        assert (await visitor.upgrade("/websocket?ticket=a&ticket=b")).status == 422


async def test_without_a_key_tickets_are_not_looked_at(autojump_clock: MockClock) -> None:
    async with open_hub(secured=False) as scene:
        ticket = await ticket_of(scene)
        for shown in (ticket, ticket, "x"):
            visitor = await scene.visit()
            assert (await visitor.upgrade(f"/websocket?ticket={shown}")).status == 101


# --- refusals ---


async def test_what_is_not_there_is_not_there(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit()
        for path in ("/nope", "/websocket/", "/WEBSOCKET", "/v2/send/", "/page/", "/page/../auth.py"):
            for reply in (await visitor.ask(path), await visitor.upgrade(path)):
                assert reply.status == 404
                assert reply.error


async def test_another_method_is_told_which_to_use(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        for method, target, allowed in (
            ("POST", "/websocket/messages?since=0", "GET, HEAD"),
            ("DELETE", "/status", "GET, HEAD"),
            ("GET", "/v2/send", "POST"),
            ("HEAD", "/websocket/ticket", "POST"),
            ("PUT", "/", "GET, HEAD"),
            ("OPTIONS", "/metrics", "GET, HEAD"),
        ):
            reply = await scene.ask(target, method)
            assert (reply.status, reply.headers["allow"]) == (405, allowed)
        assert scene.hub.counters.refused == {405: 6}


REFUSED_HANDSHAKES: list[tuple[dict[str, Any], int]] = [
    ({"upgrade": None}, 426),
    ({"upgrade": "h2c"}, 426),
    ({"connection": "keep-alive"}, 426),
    ({"sec_websocket_version": "8"}, 426),
    ({"sec_websocket_version": None}, 426),
    ({"sec_websocket_key": None}, 400),
    ({"sec_websocket_key": ""}, 400),
    ({"sec_websocket_key": "short"}, 400),
    ({"sec_websocket_key": "\xe9" * 24}, 400),
    ({"sec_websocket_key": base64.b64encode(b"x" * 17).decode()}, 400),
]


@pytest.mark.contract("H7")
async def test_a_websocket_is_refused_before_the_upgrade(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit()
        for change, status in REFUSED_HANDSHAKES:
            reply = await visitor.upgrade(**change)
            assert reply.status == status, change
            assert reply.error
        assert scene.hub.counters.websockets_opened == 0
        assert (await visitor.upgrade()).status == 101


async def test_head_is_get_without_the_body(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.tell(3)
        visitor = await scene.visit()
        for target in ("/websocket/messages?since=0", "/status", "/"):
            full = await visitor.ask(target)
            bare = await visitor.ask(target, "HEAD")
            assert (bare.status, bare.body) == (200, b"")
            if target != "/status":  # which tells the time
                assert bare.headers == full.headers


@pytest.mark.threat("T12")
async def test_the_page_may_load_nothing_from_elsewhere(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        for path in ("/", "/page/client.js", "/page/style.css", "/page/page.js"):
            reply = await scene.ask(path)
            policy = reply.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert "http" not in policy
            assert reply.headers["x-frame-options"] == "DENY"
            assert reply.headers["x-content-type-options"] == "nosniff"


async def test_a_hub_can_be_told_from_a_gateway(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        reply = await scene.ask("/v1/about")
        assert reply.json == {"mode": "trio-signal-hub", "version": __version__}


# --- POST /v2/send ---


def letter(**changes: Any) -> bytes:
    return json.dumps({"message": "hi", "recipients": ["+15550002"]} | changes).encode()


async def test_a_send_goes_through_the_hubs_own_client_and_tells_the_outcome(
    autojump_clock: MockClock,
) -> None:
    async with open_hub() as scene:
        sent = await scene.ask("/v2/send", "POST", body=letter())
        assert sent.status == 201
        assert [send.message for send in scene.gateway.received] == ["hi"]
        scene.gateway.script_send(lost())
        unknown = await scene.ask("/v2/send", "POST", body=letter())
        assert (unknown.status, unknown.json["certainty"]) == (504, "unknown")
        wrong = await scene.ask("/v2/send", "POST", body=letter(sticker="x"))
        assert wrong.status == 422
        assert scene.hub.counters.sends == {201: 1, 504: 1}
        assert scene.hub.counters.refused == {422: 1, 504: 1}


@pytest.mark.threat("T12")
async def test_a_send_is_json(autojump_clock: MockClock) -> None:
    """A form of any web page can be sent without being asked, and what it sends is not JSON by its name."""
    async with open_hub(secured=False) as scene:
        for kind in (
            None,
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
            "json",
            "",
        ):
            assert (await scene.ask("/v2/send", "POST", body=letter(), content_type=kind)).status == 415
        assert scene.gateway.received == []
        for kind in ("application/json; charset=utf-8", "Application/JSON"):
            assert (await scene.ask("/v2/send", "POST", body=letter(), content_type=kind)).status == 201


async def test_a_body_that_is_too_large_is_refused_by_its_announcement(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_send_bytes=1000)) as scene:
        visitor = await scene.visit()
        reply = await visitor.ask("/v2/send", "POST", content_type="application/json", content_length=1001)
        assert reply.status == 413
        fits = letter(message="x" * 900)
        assert (await scene.ask("/v2/send", "POST", body=fits)).status == 201


async def test_a_body_without_a_length_is_bounded_too(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(max_send_bytes=1000)) as scene:
        visitor = await scene.visit()
        await visitor.write(
            visitor.head("/v2/send", "POST", content_type="application/json", transfer_encoding="chunked")
        )
        for _ in range(101):
            await visitor.write(b"a\r\n0123456789\r\n")
        assert (await visitor.reply()).status == 413


@pytest.mark.contract("H7")
async def test_all_bodies_together_are_bounded(autojump_clock: MockClock) -> None:
    """The first 64 KiB of each are not counted, and what is announced counts for nothing."""
    async with open_hub(limits=limits(max_send_bytes=300_000, max_send_total=100_000)) as scene:
        waiting = [await scene.visit() for _ in range(3)]
        for visitor, size in zip(waiting, (110_000, 110_000, 0), strict=True):
            head = visitor.head("/v2/send", "POST", content_type="application/json", content_length=300_000)
            await visitor.write(head, b" " * size)
        await settled()
        large = letter(message="x" * 130_000)
        refused = await scene.ask("/v2/send", "POST", body=large)
        assert refused.status == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        assert (await scene.ask("/v2/send", "POST", body=letter())).status == 201
        for visitor in waiting:
            assert (await visitor.reply()).status == 408, "which must not hold up others for long"
        assert trio.current_time() < 20
        assert (await scene.ask("/v2/send", "POST", body=large)).status == 201
        assert scene.hub.counters.sends == {201: 2}


async def test_who_hangs_up_before_its_turn_has_nothing_sent(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.gateway.script_send(hang())
        first, second = await scene.visit(), await scene.visit()
        for visitor, text in ((first, "first"), (second, "second")):
            body = letter(message=text)
            await visitor.write(
                visitor.head("/v2/send", "POST", content_type="application/json", content_length=len(body)),
                body,
            )
            await settled()
        second.vanish()
        assert (await first.reply()).status == 504
        await trio.sleep(1)
        assert [send.message for send in scene.gateway.received] == ["first"]


# --- health, readiness, status ---


@pytest.mark.contract("L4")
async def test_readiness_says_which_part_is_not_well(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        well = await scene.ask("/readyz")
        assert (well.status, well.json) == (
            200,
            {"status": "ok", "checks": {"link": True, "gateway": True, "log": True}},
        )
        scene.gateway.stop()
        scene.gateway.drop()
        await trio.sleep(30)
        ill = await scene.ask("/readyz")
        assert ill.status == 503
        assert ill.json["status"] == "unavailable"
        assert ill.json["checks"]["link"].startswith("the link is ")
        assert ill.json["checks"]["gateway"] is not True
        assert ill.json["checks"]["log"] is True
        stranger = await scene.visit(token=None)
        alive = await stranger.ask("/healthz")
        assert (alive.status, alive.json) == (200, {"status": "ok"})
        assert (await stranger.ask("/readyz")).json == {"status": "unavailable"}, "no details for strangers"
        await scene.gateway.start()
        await trio.sleep(120)
        assert (await scene.ask("/readyz")).status == 200


@pytest.mark.contract("L4")
async def test_readiness_notices_a_gateway_that_says_nothing_any_more(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        scene.gateway.half_open()
        scene.gateway.refuse(None)
        await trio.sleep(10 + 5 + 1)
        reply = await scene.ask("/readyz")
        assert reply.status == 503
        assert reply.json["checks"]["link"] is not True


async def test_without_a_key_the_checks_are_for_everybody(autojump_clock: MockClock) -> None:
    async with open_hub(secured=False) as scene:
        assert "checks" in (await scene.ask("/readyz")).json


async def test_the_status_tells_of_the_link_the_log_and_the_clients(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        subscriber = await scene.subscribe()
        scene.gateway.deliver(text="one")
        await subscriber.wait_for(1)
        status = (await scene.ask("/status")).json
        assert status["account"] == scene.gateway.account
        assert status["state"] == "CONNECTED"
        assert status["now"] == int(wall_time() * 1000)
        assert status["log"]["head"] == 1
        assert status["log"]["epoch"] == scene.hub.log.epoch
        assert status["connection_count"] == 1
        [client] = status["connections"]
        assert client["id"] == subscriber.hello["connection_id"]
        assert (client["subject"], client["lag"], client["sequence"]) == ("somebody", 0, 1)
        assert status["rates"]["received"][-1] == 1
        assert status["rates"]["delivered"][-1] == 1


async def test_the_metrics_tell_what_was_counted(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        await scene.subscribe()
        await scene.ask("/nope")
        reply = await scene.ask("/metrics")
        assert reply.headers["content-type"].startswith("text/plain")
        figures = reply.body.decode().splitlines()
        for line in (
            "trio_signal_hub_websockets 1.0",
            "trio_signal_hub_log_covered_seconds 0.0",
            "trio_signal_hub_connections_accepted_total 3.0",
            'trio_signal_hub_refused_requests_total{status="404"} 1.0',
        ):
            assert line in figures


@pytest.mark.contract("R3")
async def test_an_absence_of_the_gateway_is_numbered_for_everybody(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        live = await scene.subscribe()
        scene.gateway.deliver(text="before")
        await live.wait_for(1)
        scene.gateway.stop()
        scene.gateway.drop()
        await trio.sleep(10)
        await scene.gateway.start()
        await live.wait_for(2)
        scene.gateway.deliver(text="after")
        await live.wait_for(3)
        assert [frame["type"] for frame in live.got] == ["message", "gap", "message"]
        assert live.got[1]["reason"] == "gateway"
        assert (await scene.messages(0))["messages"] == live.got
        [gap] = (await scene.ask("/status")).json["gaps"]
        assert (gap["sequence_number"], gap["since"], gap["until"]) == (
            2,
            live.got[1]["since"],
            live.got[1]["until"],
        )


@pytest.mark.contract("L3", "R4")
async def test_a_gateway_that_only_answers_pings_is_a_gap_for_everybody(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        live = await scene.subscribe()
        await trio.sleep(60)
        scene.gateway.stall()
        await trio.sleep(54 + 65 + 15)
        assert {frame["reason"] for frame in live.got} == {"stalled"}
        assert live.numbers == list(range(1, len(live.got) + 1))
        assert (await scene.messages(0))["messages"] == live.got
        assert f'{{reason="stalled"}} {len(live.got)}.0\n'.encode() in scene.hub.metrics()


@pytest.mark.contract("R7")
async def test_whatever_the_gateway_sends_is_numbered_and_handed_on(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        live = await scene.subscribe()
        for frame in ("no JSON", "[1,2]", '"text"', '{"error":"x"}'):
            scene.gateway.deliver_raw(frame)
        await live.wait_for(4)
        assert live.data == ["no JSON", [1, 2], '"text"', {"error": "x"}]


# --- limits on recovery (H12) ---


@pytest.mark.contract("H12")
async def test_recoveries_are_limited_in_rate_and_told_when_to_come_back(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(recovery_rate=4, recovery_burst=12), random=Random(1)) as scene:
        # A quarter of all: three at once, and one each second.
        visitor = await scene.visit()
        for _ in range(3):
            assert (await visitor.ask("/websocket/messages?since=0")).status == 200
        waits: set[int] = set()
        for _ in range(30):
            reply = await visitor.ask("/websocket/messages?since=0")
            assert reply.status == 429
            assert reply.error
            waits.add(int(reply.headers["retry-after"]))
        assert len(waits) > 1, "jittered"
        assert min(waits) >= 1
        assert max(waits) <= 3
        assert scene.hub.counters.recoveries_limited == 30
        socket = await scene.visit()
        assert (await socket.upgrade("/websocket?since=0")).status == 429, "streaming it is one too"
        assert (await socket.upgrade("/websocket")).status == 101, "to be live costs nothing"
        await trio.sleep(1)
        assert (await visitor.ask("/websocket/messages?since=0")).status == 200
        assert (await visitor.ask("/websocket/messages?since=0")).status == 429
        await trio.sleep(60)
        caught_up = await scene.subscribe("/websocket?since=0")
        assert caught_up.hello["head"] == 0


@pytest.mark.threat("T9")
@pytest.mark.contract("H12")
async def test_nobody_can_use_up_the_recoveries_of_all(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(recovery_rate=4, recovery_burst=12)) as scene:

        async def until_refused(subject: str) -> int:
            visitor = await scene.visit(token=scene.token(subject))
            answered = 0
            while (await visitor.ask("/websocket/messages?since=0")).status == 200:
                answered += 1
            return answered

        assert [await until_refused(f"client {number}") for number in range(6)] == [3, 3, 3, 3, 0, 0]


@pytest.mark.contract("H12")
async def test_what_is_refused_anyway_uses_up_no_recovery(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(recovery_rate=0.004, recovery_burst=1)) as scene:
        stranger = await scene.visit(token=None)
        for _ in range(5):
            assert (await stranger.ask("/websocket/messages?since=0")).status == 401
            assert (await stranger.upgrade("/websocket?since=0")).status == 401
        visitor = await scene.visit()
        assert (await visitor.ask("/websocket/messages?since=x")).status == 422
        assert (await visitor.ask("/websocket/messages?since=0")).status == 200
        refused = await visitor.ask("/websocket/messages?since=0")
        assert int(refused.headers["retry-after"]) >= 1000


@pytest.mark.contract("H7", "H12")
async def test_a_slow_reader_of_a_recovery_takes_one_place_and_not_for_ever(
    autojump_clock: MockClock,
) -> None:
    target = "/websocket/messages?since=0"
    async with open_hub(limits=limits(max_recoveries=8)) as scene:
        for _ in range(100):
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 10_000))
        live = await scene.subscribe()
        for number in range(8):
            # Two places of eight are the most that one may have.
            slow = await scene.visit(token=scene.token(f"slow {number // 2}"), window=1024)
            await slow.write(slow.head(target))
            await settled()
            if number == 1:
                third = await scene.visit(token=scene.token("slow 0"))
                assert (await third.ask(target)).status == 429
            assert (await scene.ask(target)).status == (200 if number < 7 else 429)
        scene.tell()
        await live.wait_for(1)
        await trio.sleep(30 + 2)
        assert (await scene.ask(target)).status == 200


@pytest.mark.contract("H12", "H11")
async def test_live_delivery_goes_on_during_a_storm_of_recoveries(autojump_clock: MockClock) -> None:
    async with open_hub(limits=limits(recovery_rate=10, recovery_burst=20, max_recoveries=4)) as scene:
        live = await scene.subscribe()
        for _ in range(200):
            scene.hub.connections.broadcast(b'"%b"' % (b"x" * 1000))
        statuses: list[int] = []

        async def recover() -> None:
            subject = f"client {len(scene.visitors)}"
            async with await scene.visit(token=scene.token(subject)) as visitor:
                for _ in range(3):
                    statuses.append((await visitor.ask("/websocket/messages?since=0")).status)
                    await trio.sleep(0.5)

        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(recover)
            for number in range(1, 31):
                await trio.sleep(0.05)
                scene.gateway.deliver(text=str(number))
                sent = trio.current_time()
                await live.wait_for(200 + number)
                assert trio.current_time() == sent, "no delay at all on the virtual clock"
        assert trio.current_time() - start < 2
        assert set(statuses) == {200, 429}
        assert statuses.count(200) <= 20 + 10 * 2
        assert live.numbers == list(range(1, 231))


# --- web pages (Origin, Host) ---


LOOPBACK = ("127.0.0.1", "127.0.0.1:8080", "127.1.2.3", "localhost:1", "[::1]:8080", "LOCALHOST")
REBOUND = (
    "rebound.example:8080",
    "127.0.0.1.rebound.example",
    "rebound.example?127.0.0.1",
    "localhost.example",
    "",
    "127.0.0.1:8080:8080",
    "127.0.0.1:",
    "10.0.0.1",
    "[::2]",
)
FOREIGN = ("http://evil.example", "null", "http://127.0.0.1:8081", "http://127.0.0.1", "file://", "x")


@pytest.mark.threat("T12")
@pytest.mark.contract("H9")
async def test_without_a_key_the_hub_answers_to_loopback_names_only(autojump_clock: MockClock) -> None:
    """A page of a name that was made to point at this machine would otherwise pass for the hub's own."""
    async with open_hub(secured=False) as scene:
        for host in LOOPBACK:
            visitor = await scene.visit()
            assert (await visitor.ask("/status", host=host)).status == 200
            assert (await visitor.upgrade(host=host)).status == 101
        for host in REBOUND:
            visitor = await scene.visit()
            for target in ANYWHERE:
                reply = await visitor.upgrade(target, host=host, origin=f"http://{host}")
                assert (reply.status, "access-control-allow-origin" in reply.headers) == (403, False), host
                assert reply.error


@pytest.mark.threat("T12")
@pytest.mark.contract("H9")
@pytest.mark.parametrize("secured", [True, False], ids=["with a key", "without"])
async def test_a_foreign_page_may_use_nothing(autojump_clock: MockClock, secured: bool) -> None:
    async with open_hub(secured=secured) as scene:
        visitor = await scene.visit()
        for origin in FOREIGN:
            for target in ANYWHERE:
                assert (await visitor.ask(target, origin=origin)).status == 403
                assert (await visitor.upgrade(target, origin=origin)).status == 403
        assert scene.hub.counters.websockets_opened == 0


async def test_the_hubs_own_page_may_use_it(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        for scheme in ("http", "https", "HTTP"):
            visitor = await scene.visit()
            origin = f"{scheme}://{scene.host}"
            reply = await visitor.ask("/status", origin=origin)
            assert reply.status == 200
            assert "access-control-allow-origin" not in reply.headers
            assert (await visitor.upgrade(origin=origin)).status == 101


async def test_a_page_of_an_allowed_origin_may_use_it_after_asking(autojump_clock: MockClock) -> None:
    async with open_hub(allowed_origins=["https://Board.example"]) as scene:
        page = "https://board.example"
        stranger = await scene.visit(token=None)
        asked = await stranger.ask(
            "/v2/send",
            "OPTIONS",
            origin=page,
            access_control_request_method="POST",
            access_control_request_headers="authorization, content-type",
        )
        assert (asked.status, asked.body) == (204, b"")
        assert asked.headers["access-control-allow-origin"] == page
        assert asked.headers["access-control-allow-methods"] == "GET, POST, DELETE"
        assert asked.headers["access-control-allow-headers"] == "Authorization, Content-Type"
        assert asked.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in asked.headers
        for status, reply in (
            (401, await stranger.ask("/status", origin=page)),
            (404, await stranger.ask("/nope", origin=page)),
            (200, await scene.ask("/status", origin=page)),
        ):
            assert reply.status == status
            assert reply.headers["access-control-allow-origin"] == page
            assert "Retry-After" in reply.headers["access-control-expose-headers"]
        socket = await scene.visit()
        assert (await socket.upgrade(origin=page)).status == 101
        for other in (
            "http://board.example",
            "https://board.example.evil.example",
            "https://board.example:444",
        ):
            assert (await stranger.ask("/v2/send", "OPTIONS", origin=other)).status == 403


async def test_a_connection_serves_many_requests(autojump_clock: MockClock) -> None:
    async with open_hub() as scene:
        visitor = await scene.visit()
        for target, status in (("/status", 200), ("/nope", 404), ("/healthz", 200), ("/websocket", 426)):
            assert (await visitor.ask(target)).status == status
        assert (await visitor.upgrade()).status == 101
        assert (await visitor.told())["type"] == "hello"
        await visitor.write(masked(b"", 8))
        assert await visitor.close_code() == 1005
        assert scene.hub.counters.accepted_connections == 1


@pytest.mark.contract("H9")
async def test_the_clock_that_judges_tokens_is_the_hubs_own(autojump_clock: MockClock) -> None:
    async with open_hub(key=Authenticator(KEY, clock=wall_time, leeway=0)) as scene:
        token = scene.token(ttl=10)
        await trio.sleep(9.5)
        visitor = await scene.visit(token=token)
        assert (await visitor.ask("/status")).status == 200
        await trio.sleep(1)
        check_unauthorized(await visitor.ask("/status"))
