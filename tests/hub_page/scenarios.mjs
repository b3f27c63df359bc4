/** Scenes of client.js, one for each name: ``node scenarios.mjs NAME`` fails if it did not go as it should. */

import assert from "node:assert/strict";
import { Hub, clock, record } from "./world.mjs";

const { HubClient, backoffDelay } = await import("../../trio_signal/hub/page/client.js");

const LATE = 1 - 1e-9;

/** A hub and a client that has just connected to it. */
async function connected(options = {}, hub = new Hub().install()) {
    const client = new HubClient({ url: "http://hub.test/", random: () => 0, ...options });
    const told = record(client);
    client.start();
    await clock.pass(100);
    return { hub, client, told };
}

const recoveries = (hub) => hub.requests.filter(({ url }) => url.includes("/websocket/messages"));
const changes = (told, current) => told.filter((each) => each.type === "state" && each.current === current);
const delays = (told) => changes(told, "RECONNECTING").map(({ delay }) => delay);

const scenes = {
    async begins_after_the_head() {
        const hub = new Hub().install();
        hub.messages(3);
        const { client, told } = await connected({}, hub);
        hub.messages(2);
        await clock.pass(100);
        assert.deepEqual(told.messages(), ["one:4", "one:5"]);
        assert.deepEqual(told.states(), ["RECONNECTING", "SYNCING", "CONNECTED"]);
        assert.deepEqual([recoveries(hub).length, told.gaps().length], [0, 0]);
        assert.deepEqual(client.cursor, { epoch: "one", sequence: 5 });
    },

    async begins_with_history_if_asked() {
        const hub = new Hub().install();
        hub.messages(9);
        const { told } = await connected({ history: 4 }, hub);
        assert.deepEqual(told.messages(), ["one:6", "one:7", "one:8", "one:9"]);
        assert.deepEqual((await connected({ history: 500 }, hub)).told.messages().length, 9);
    },

    async goes_on_from_a_cursor() {
        const hub = new Hub().install();
        hub.messages(9);
        const { told } = await connected({ cursor: { epoch: "one", sequence: 7 } }, hub);
        assert.deepEqual(told.messages(), ["one:8", "one:9"]);
    },

    async gets_exactly_what_it_missed_before_it_is_connected() {
        const { hub, told } = await connected();
        hub.messages(3);
        await clock.pass(100);
        hub.cut();
        await clock.pass(50);
        hub.messages(3);
        await clock.pass(2000);
        assert.deepEqual(
            told.messages(),
            [1, 2, 3, 4, 5, 6].map((number) => `one:${number}`),
        );
        const kinds = told.map(({ type, current }) => current ?? type).slice(6);
        assert.deepEqual(kinds, [
            "DISCONNECTED",
            "RECONNECTING",
            "SYNCING",
            "message",
            "message",
            "message",
            "CONNECTED",
        ]);
        const flags = told.filter(({ type }) => type === "message").map(({ recovered }) => recovered);
        assert.deepEqual(flags, [false, false, false, true, true, true]);
        const { href } = new URL(recoveries(hub)[0].url);
        assert.equal(href, "http://hub.test/websocket/messages?since=3&epoch=one&limit=100");
        assert.ok(
            hub.handshakes.every((url) => url === "ws://hub.test/websocket"),
            "no since: live ones are held instead",
        );
    },

    async holds_live_ones_until_the_missed_ones_are_in() {
        const { hub, client, told } = await connected();
        hub.messages(1);
        await clock.pass(100);
        hub.cut();
        hub.messages(2);
        hub.slowness = 1000;
        await clock.pass(500);
        assert.equal(client.state, "SYNCING");
        hub.messages(2);
        await clock.pass(100);
        assert.deepEqual([told.messages().length, client.statistics.held], [1, 2]);
        await clock.pass(1000);
        assert.equal(client.state, "CONNECTED");
        assert.deepEqual(
            told.messages(),
            [1, 2, 3, 4, 5].map((number) => `one:${number}`),
        );
        assert.deepEqual([client.statistics.held, recoveries(hub).length], [0, 1]);
    },

    async lets_go_of_too_much_and_looks_it_up() {
        const { hub, client, told } = await connected();
        hub.keep = 5000;
        hub.cut();
        hub.messages(1);
        hub.recoveryFaults.push({ status: 429, retryAfter: 5 });
        await clock.pass(1000);
        for (let burst = 0; burst < 25; burst += 1) {
            hub.messages(100);
            await clock.pass(20);
            assert.ok(client.statistics.held <= 1000);
        }
        await clock.pass(20_000);
        assert.equal(client.state, "CONNECTED");
        assert.deepEqual(
            told.messages(),
            Array.from({ length: 2501 }, (_, index) => `one:${index + 1}`),
        );
        assert.ok(client.statistics.recovered >= 2000);
    },

    async lets_go_of_too_large_ones_too() {
        const { hub, client, told } = await connected();
        hub.cut();
        hub.messages(1);
        hub.recoveryFaults.push({ status: 429, retryAfter: 5 });
        await clock.pass(1000);
        for (let index = 0; index < 20; index += 1) hub.message("x".repeat(1024 * 1024));
        await clock.pass(100);
        assert.ok(client.statistics.held <= 8);
        await clock.pass(20_000);
        assert.equal(told.messages().length, 21);
    },

    async fetches_page_by_page() {
        const { hub, told } = await connected();
        hub.cut();
        hub.messages(250);
        await clock.pass(3000);
        assert.equal(told.messages().length, 250);
        assert.deepEqual(
            recoveries(hub).map(({ url }) => new URL(url).searchParams.get("since")),
            ["0", "100", "200"],
        );
    },

    async notices_a_jump_and_keeps_the_order() {
        const { hub, told } = await connected();
        hub.eaten.add(2);
        hub.messages(4);
        await clock.pass(200);
        assert.deepEqual(
            told.messages(),
            [1, 2, 3, 4].map((number) => `one:${number}`),
        );
        assert.deepEqual(told.states().slice(3), ["SYNCING", "CONNECTED"]);
        assert.equal(changes(told, "SYNCING")[1].reason, "hole");
    },

    async notices_by_a_heartbeat_what_it_should_have() {
        const { hub, told } = await connected();
        hub.eaten.add(1);
        hub.messages(1);
        await clock.pass(14_000);
        assert.deepEqual(told.messages(), []);
        await clock.pass(2000);
        assert.deepEqual(told.messages(), ["one:1"]);
        assert.deepEqual(told.states().slice(3), ["SYNCING", "CONNECTED"]);
    },

    async drops_duplicates() {
        const { hub, client, told } = await connected();
        const item = hub.message();
        hub.messages(1);
        for (const socket of hub.sockets) socket.say(item);
        await clock.pass(100);
        assert.deepEqual(told.messages(), ["one:1", "one:2"]);
        assert.equal(client.statistics.duplicates, 1);
    },

    async tells_a_new_epoch_and_takes_all_of_it() {
        const { hub, told, client } = await connected();
        hub.messages(5);
        await clock.pass(100);
        hub.restart("two");
        hub.messages(2);
        await clock.pass(2000);
        assert.deepEqual(told.messages().slice(5), ["two:1", "two:2"]);
        const [gap, ...more] = told.gaps();
        assert.deepEqual(
            [gap.reason, gap.first, gap.last, gap.sequenceNumber, more.length],
            ["epoch_changed", null, null, null, 0],
        );
        assert.ok(gap.since < gap.until);
        assert.deepEqual(client.cursor, { epoch: "two", sequence: 2 });
    },

    async does_not_trust_a_log_that_ends_before_us() {
        const { hub, told } = await connected();
        hub.messages(5);
        await clock.pass(100);
        hub.restart("one");
        hub.messages(2);
        await clock.pass(2000);
        assert.deepEqual(
            told.gaps().map(({ reason }) => reason),
            ["epoch_changed"],
        );
        assert.deepEqual(told.messages().slice(5), ["one:1", "one:2"]);
    },

    async tells_what_was_overwritten() {
        const { hub, told, client } = await connected();
        hub.keep = 3;
        const covered = (hub.messages(1), hub.message().timestamp);
        await clock.pass(100);
        hub.cut();
        await clock.pass(50);
        assert.equal(client.connectionId, null);
        hub.messages(6);
        await clock.pass(2000);
        assert.deepEqual(told.messages(), ["one:1", "one:2", "one:6", "one:7", "one:8"]);
        assert.deepEqual(
            told.gaps().map(({ reason, first, last }) => [reason, first, last]),
            [["overwritten", 3, 5]],
        );
        assert.deepEqual([told.gaps()[0].since, told.gaps()[0].until > covered], [covered, true]);
        const kinds = told.filter(({ type }) => type !== "state").map(({ type }) => type);
        assert.deepEqual(kinds, ["message", "message", "gap", "message", "message", "message"]);
    },

    async hands_on_numbered_gaps_in_their_place() {
        const { hub, told } = await connected();
        hub.messages(1);
        hub.broadcast({ type: "gap", reason: "gateway", since: 1000, until: 2000 });
        await clock.pass(100);
        hub.cut();
        hub.broadcast({ type: "gap", reason: "stalled", since: 3000, until: 4000 });
        hub.messages(1);
        await clock.pass(2000);
        const stream = told.filter(({ type }) => type === "message" || type === "gap");
        assert.deepEqual(
            stream.map(({ sequenceNumber }) => sequenceNumber),
            [1, 2, 3, 4],
        );
        assert.deepEqual(
            told.gaps().map(({ reason, since, until }) => [reason, since, until]),
            [
                ["gateway", 1000, 2000],
                ["stalled", 3000, 4000],
            ],
        );
    },

    async passes_over_kinds_it_does_not_know() {
        const { hub, client, told } = await connected();
        hub.broadcast({ type: "of a later version" });
        hub.messages(1);
        for (const socket of hub.sockets)
            for (const text of ["nonsense", "[]", "7", "null", '"x"', '{"type":"?"}']) socket.sayText(text);
        await clock.pass(100);
        assert.deepEqual(
            [told.messages(), client.state, client.statistics.malformed],
            [["one:2"], "CONNECTED", 4],
        );
        // What has a number is part of the promise: a gap stands where its message cannot.
        assert.deepEqual(
            told.gaps().map(({ reason, since, sequenceNumber }) => [reason, since, sequenceNumber]),
            [["undecodable", hub.log[0].timestamp, 1]],
        );
    },

    async hands_on_what_is_for_this_connection_only() {
        const { hub, told, client } = await connected();
        for (const socket of hub.sockets)
            socket.say({ type: "direct", connection_sequence: 1, timestamp: 5, data: "psst" });
        await clock.pass(100);
        const [direct] = told.filter(({ type }) => type === "direct");
        assert.deepEqual([direct.connectionSequence, direct.data, client.connectionId], [1, "psst", "c1"]);
    },

    async waits_while_the_hub_is_too_busy_to_tell_what_was_missed() {
        const { hub, client, told } = await connected();
        hub.cut();
        hub.messages(1);
        hub.recoveryFaults.push({ status: 429, retryAfter: 7 }, { status: 503, retryAfter: 3 });
        await clock.pass(7000);
        assert.deepEqual([client.state, recoveries(hub).length], ["SYNCING", 1]);
        await clock.pass(1000);
        assert.deepEqual([client.state, recoveries(hub).length], ["SYNCING", 2]);
        await clock.pass(3000);
        assert.deepEqual([client.state, told.messages()], ["CONNECTED", ["one:1"]]);
    },

    async begins_anew_when_recovery_fails() {
        for (const fault of ["fail", "hang", { status: 500 }]) {
            const { hub, client, told } = await connected();
            hub.cut();
            hub.messages(1);
            hub.recoveryFaults.push(fault);
            await clock.pass(25_000);
            assert.deepEqual([client.state, told.messages()], ["CONNECTED", ["one:1"]]);
            assert.equal(changes(told, "DISCONNECTED").length, 2);
            client.stop();
        }
    },

    async gives_a_connection_up_whose_log_lacks_what_was_announced() {
        const { hub, client, told } = await connected({ random: () => LATE });
        hub.page = () => ({ messages: [], epoch: "one", head: 0, oldest: 1, gap: null, more: false });
        hub.cut();
        hub.messages(1);
        await clock.pass(600_000);
        assert.ok(hub.handshakes.length <= 20, "no hot loop");
        assert.ok(recoveries(hub).length <= 3 * hub.handshakes.length);
        assert.deepEqual([told.messages(), client.state === "CONNECTED"], [[], false]);
    },

    async takes_no_answer_with_a_hole_in_it() {
        const { hub, told } = await connected();
        const honest = hub.page.bind(hub);
        hub.page = (query) => {
            const page = honest(query);
            page.messages = page.messages.filter((item) => item.sequence_number !== 2);
            return page;
        };
        hub.cut();
        hub.messages(3);
        await clock.pass(3000);
        assert.deepEqual(told.messages(), ["one:1"]);
        hub.page = honest;
        await clock.pass(120_000);
        assert.deepEqual(told.messages(), ["one:1", "one:2", "one:3"]);
    },

    async sleeps_the_whole_ceiling_at_worst() {
        const { hub, told } = await connected({ random: () => LATE });
        await clock.pass(31_000);
        hub.up = false;
        hub.cut();
        await clock.pass(400_000);
        assert.deepEqual(delays(told).slice(0, 10).map(Math.round), [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert.deepEqual(
            changes(told, "RECONNECTING")
                .slice(0, 4)
                .map(({ attempt }) => attempt),
            [1, 1, 2, 3],
        );
    },

    async draws_the_delay_evenly_from_the_floor_up() {
        assert.deepEqual(
            [0, 0.5, LATE]
                .map((drawn) => backoffDelay(3, 0, () => drawn))
                .map((delay) => Number(delay.toFixed(3))),
            [0.25, 2.125, 4],
        );
        assert.equal(backoffDelay(1e9, 0, () => LATE).toFixed(3), "60.000");
        assert.deepEqual([backoffDelay(9, 90, () => 0), backoffDelay(9, 1e6, () => 0)], [90, 300]);
        assert.ok(backoffDelay(9, 1, () => LATE) > 59, "Retry-After never shortens");
    },

    async begins_the_count_anew_only_after_a_stable_time() {
        const { hub, told } = await connected({ random: () => LATE });
        for (let time = 0; time < 4; time += 1) {
            await clock.pass(29_000);
            hub.cut();
            await clock.pass(100);
            await clock.pass(delays(told).at(-1) * 1000);
        }
        assert.deepEqual(delays(told).map(Math.round), [0, 2, 4, 8, 16]);
        await clock.pass(31_000);
        hub.cut();
        await clock.pass(100);
        assert.equal(Math.round(delays(told).at(-1)), 1);
    },

    async stays_away_as_long_as_a_goodbye_asks() {
        const { hub, client, told } = await connected();
        for (const socket of hub.sockets) socket.say({ type: "goodbye", retry_after: 4.5 });
        hub.cut(1012);
        await clock.pass(100);
        const lost = changes(told, "DISCONNECTED")[0];
        assert.deepEqual([lost.reason, lost.error], ["closed_by_gateway", "closed with code 1012"]);
        assert.equal(delays(told).at(-1), 4.5);
        assert.ok(client.nextAttempt > clock.now + 4000);
        await clock.pass(4300);
        assert.equal(client.state, "RECONNECTING");
        await clock.pass(300);
        assert.equal(client.state, "CONNECTED");
    },

    async waits_as_long_as_a_refused_ticket_asks() {
        const hub = new Hub().install();
        hub.token = "secret";
        hub.ticketFaults.push(
            { status: 429, retryAfter: 12 },
            { status: 503, retryAfter: "Thu, 01 Jan 1970 00:00:00 GMT" },
        );
        const { client, told } = await connected({ token: "secret" }, hub);
        assert.deepEqual(delays(told), [0, 12]);
        await clock.pass(12_100);
        assert.deepEqual(delays(told), [0, 12, 0.25]);
        await clock.pass(300);
        assert.equal(client.state, "CONNECTED");
    },

    async is_hurried_by_the_network_and_by_being_looked_at() {
        const listeners = new Map();
        globalThis.addEventListener = (type, call) => listeners.set(type, call);
        globalThis.removeEventListener = (type) => listeners.delete(type);
        globalThis.document = {
            visibilityState: "hidden",
            addEventListener: globalThis.addEventListener,
            removeEventListener: globalThis.removeEventListener,
        };
        const { hub, client, told } = await connected({ random: () => LATE });
        hub.up = false;
        hub.cut();
        await clock.pass(200_000);
        for (const type of ["online", "visibilitychange"]) {
            await clock.pass(client.nextAttempt - clock.now + 100);
            const before = delays(told).length;
            document.visibilityState = "visible";
            listeners.get(type)();
            await clock.pass(100);
            assert.equal(delays(told).length, before + 1, type);
        }
        hub.up = true;
        client.reconnectNow();
        await clock.pass(100);
        assert.equal(client.state, "CONNECTED");
        for (const socket of hub.sockets) socket.say({ type: "goodbye", retry_after: 50 });
        hub.cut(1012);
        await clock.pass(20_000);
        listeners.get("online")();
        await clock.pass(29_000);
        assert.equal(client.state, "RECONNECTING", "what the hub asked for is not shortened");
        client.reconnectNow();
        await clock.pass(100);
        assert.equal(client.state, "CONNECTED");
        client.stop();
        assert.equal(listeners.size, 0);
    },

    async notices_a_dead_connection_when_it_is_looked_at_again() {
        const listeners = new Map();
        globalThis.document = {
            visibilityState: "visible",
            addEventListener: (type, call) => listeners.set(type, call),
            removeEventListener() {},
        };
        const { hub, client, told } = await connected();
        for (const socket of hub.sockets) socket.mute = true;
        // A sleeping machine: time goes by, but no timer comes.
        clock.now += 3_600_000;
        listeners.get("visibilitychange")();
        for (let turn = 0; turn < 20; turn += 1) await null;
        assert.equal(client.state, "RECONNECTING");
        await clock.pass(1000);
        assert.equal(changes(told, "DISCONNECTED")[0].reason, "no_answer");
        assert.equal(client.state, "CONNECTED");
    },

    async drops_a_silent_connection_after_three_intervals() {
        const { hub, told } = await connected();
        hub.messages(1);
        for (const socket of hub.sockets) socket.mute = true;
        await clock.pass(44_000);
        assert.equal(changes(told, "DISCONNECTED").length, 0);
        await clock.pass(2000);
        const [lost] = changes(told, "DISCONNECTED");
        assert.deepEqual([lost.reason, lost.error], ["no_answer", "no frame for 3 heartbeat intervals"]);
        assert.equal(told.at(-1).current, "CONNECTED");
    },

    async takes_the_interval_from_the_hello() {
        const hub = new Hub().install();
        hub.heartbeatInterval = 2;
        const { told } = await connected({}, hub);
        for (const socket of hub.sockets) socket.mute = true;
        await clock.pass(6000);
        assert.equal(changes(told, "DISCONNECTED")[0].reason, "no_answer");
    },

    async keeps_an_idle_connection_whose_heart_beats() {
        const { told } = await connected();
        await clock.pass(3_600_000);
        assert.deepEqual(told.states(), ["RECONNECTING", "SYNCING", "CONNECTED"]);
    },

    async takes_no_interval_that_no_hub_means() {
        for (const [told, taken] of [
            [1e7, 600],
            [0.001, 1],
        ]) {
            const hub = new Hub();
            // It says so, and then nothing more.
            hub.heartbeatInterval = 1e7;
            const honest = hub.hello.bind(hub);
            hub.hello = () => ({ ...honest(), heartbeat_interval: told });
            const { client } = await connected({}, hub.install());
            await clock.pass(3 * taken * 1000 - 1000);
            assert.equal(client.state, "CONNECTED");
            await clock.pass(1000);
            assert.notEqual(client.state, "CONNECTED");
            client.stop();
        }
    },

    async notices_a_dead_connection_though_the_clock_was_set_back() {
        const { hub, told } = await connected();
        for (const socket of hub.sockets) socket.mute = true;
        Date.now = () => clock.now - 3_600_000;
        await clock.pass(46_000);
        assert.equal(changes(told, "DISCONNECTED")[0].reason, "no_answer");
    },

    async gives_a_recovery_answer_time_while_its_bytes_come() {
        const { hub, client, told } = await connected();
        hub.cut();
        hub.messages(3);
        hub.trickle = { pieces: 10, pause: 15_000 };
        await clock.pass(200_000);
        assert.deepEqual([client.state, recoveries(hub).length], ["CONNECTED", 1]);
        assert.deepEqual(told.messages(), ["one:1", "one:2", "one:3"]);
        hub.cut();
        hub.message("näive ☃ 😀");
        hub.trickle = { pieces: 1000, pause: 10 };
        await clock.pass(20_000);
        assert.equal(told.messages().at(-1), "näive ☃ 😀", "characters may be cut in two");
        hub.cut();
        hub.messages(1);
        hub.trickle = { pieces: 2, pause: 25_000 };
        await clock.pass(22_000);
        assert.equal(changes(told, "DISCONNECTED").at(-1).error, "no recovery answer within 20 s");
    },

    async sorts_what_was_held() {
        const { hub, client, told } = await connected();
        hub.cut();
        hub.messages(1);
        hub.slowness = 1000;
        await clock.pass(500);
        hub.eaten = new Set([2, 3]);
        hub.messages(2);
        for (const socket of hub.sockets) for (const index of [2, 1]) socket.say(hub.log[index]);
        await clock.pass(2000);
        assert.deepEqual(
            [told.messages(), client.state, recoveries(hub).length],
            [["one:1", "one:2", "one:3"], "CONNECTED", 1],
        );
    },

    async gives_an_attempt_twenty_seconds() {
        const hub = new Hub().install();
        hub.latency = () => 1e9;
        const { client, told } = await connected({}, hub);
        await clock.pass(19_000);
        assert.equal(client.state, "RECONNECTING");
        await clock.pass(1000);
        const [lost] = changes(told, "DISCONNECTED");
        assert.deepEqual([lost.reason, lost.error], ["no_answer", "no connection within 20 s"]);
    },

    async buys_a_ticket_before_each_attempt_and_shows_the_token_nowhere() {
        const hub = new Hub().install();
        hub.token = "secret.token";
        const { client, told } = await connected({ token: "secret.token" }, hub);
        hub.cut();
        await clock.pass(1000);
        assert.equal(client.state, "CONNECTED");
        const tickets = hub.handshakes.map((url) => new URL(url).searchParams.get("ticket"));
        assert.equal(new Set(tickets).size, 2);
        hub.eaten.add(1);
        hub.messages(2);
        await clock.pass(100);
        assert.equal(told.messages().length, 2);
        assert.ok(hub.requests.every(({ authorization }) => authorization === "Bearer secret.token"));
        const shown = JSON.stringify([
            told,
            hub.handshakes,
            hub.requests.map(({ url }) => url),
            client,
            Object.entries(client),
        ]);
        assert.ok(!shown.includes("secret"));
    },

    async asks_for_a_token_and_goes_on_where_it_was() {
        const hub = new Hub().install();
        hub.token = "first";
        const { client, told } = await connected({ token: "first" }, hub);
        hub.messages(1);
        await clock.pass(100);
        hub.token = "second";
        hub.cut(4001);
        await clock.pass(600_000);
        assert.equal(changes(told, "DISCONNECTED")[0].reason, "refused");
        assert.equal(told.filter(({ type }) => type === "unauthorized").length, 1);
        assert.deepEqual([client.state, hub.requests.length], ["DISCONNECTED", 2]);
        hub.messages(1);
        client.setToken("second");
        await clock.pass(100);
        assert.deepEqual([client.state, told.messages()], ["CONNECTED", ["one:1", "one:2"]]);
    },

    async asks_for_a_token_where_it_has_none() {
        const hub = new Hub().install();
        hub.token = "needed";
        const { client, told } = await connected({}, hub);
        await clock.pass(60_000);
        assert.deepEqual(
            [told.filter(({ type }) => type === "unauthorized").length, hub.handshakes.length],
            [1, 1],
        );
        client.setToken("needed");
        await clock.pass(1000);
        assert.equal(client.state, "CONNECTED");
    },

    async a_token_given_in_time_spares_the_question() {
        const hub = new Hub().install();
        hub.token = "first";
        const { client, told } = await connected({ token: "first" }, hub);
        client.addEventListener("tokenexpiring", () => client.setToken("second"));
        for (const socket of hub.sockets) socket.say({ type: "token_expiring", expires_in: 25 });
        await clock.pass(25_000);
        hub.token = "second";
        hub.cut(4001);
        await clock.pass(1000);
        assert.equal(client.state, "CONNECTED");
        assert.equal(told.filter(({ type }) => type === "unauthorized").length, 0);
        assert.equal(told.find(({ type }) => type === "tokenexpiring").expiresIn, 25);
    },

    async a_token_given_while_the_old_one_is_refused_is_tried() {
        const hub = new Hub().install();
        hub.token = "second";
        hub.slowness = 500;
        const { client, told } = await connected({ token: "first" }, hub);
        client.setToken("second");
        await clock.pass(5000);
        assert.equal(client.state, "CONNECTED");
        assert.equal(told.filter(({ type }) => type === "unauthorized").length, 0);
    },

    async a_listener_with_bad_tokens_makes_no_hot_loop() {
        const hub = new Hub().install();
        hub.token = "good";
        const { client } = await connected({ token: "bad", random: () => LATE }, hub);
        let given = 0;
        client.addEventListener("unauthorized", () => client.setToken(`bad${(given += 1)}`));
        client.setToken("bad0");
        await clock.pass(600_000);
        assert.ok(given > 5 && given < 20, String(given));
    },

    async refuses_a_token_that_no_header_can_carry() {
        for (const token of ["", "two words", "zwölf", "line\nend"]) {
            assert.throws(() => new HubClient({ url: "http://hub.test/", token }), TypeError);
        }
    },

    async says_nothing_after_stop_and_goes_on_after_start() {
        const hub = new Hub().install();
        const timers = clock.waiting;
        const { client, told } = await connected({}, hub);
        hub.messages(1);
        await clock.pass(100);
        client.stop();
        client.stop();
        const said = told.length;
        assert.deepEqual(
            [client.state, changes(told, "DISCONNECTED")[0].reason],
            ["DISCONNECTED", "client_closed"],
        );
        hub.messages(2);
        await clock.pass(100);
        assert.deepEqual([told.length, hub.sockets.size, clock.waiting], [said, 0, timers]);
        client.start();
        client.start();
        await clock.pass(100);
        assert.deepEqual(
            [client.state, told.messages(), hub.handshakes.length],
            ["CONNECTED", ["one:1", "one:2", "one:3"], 2],
        );
        assert.deepEqual(told.states().slice(4), ["RECONNECTING", "SYNCING", "CONNECTED"]);
    },

    async can_be_stopped_while_it_waits() {
        const hub = new Hub().install();
        const timers = clock.waiting;
        hub.up = false;
        const { client } = await connected({ random: () => LATE }, hub);
        await clock.pass(60_000);
        client.stop();
        await clock.pass(0);
        assert.deepEqual([clock.waiting, client.nextAttempt], [timers, null]);
    },

    async leaves_no_timer_wherever_it_is_stopped() {
        for (const [fault, latency, state] of [
            [{ status: 429, retryAfter: 250 }, 5, "SYNCING"],
            [undefined, 5, "SYNCING"],
            [undefined, 400, "RECONNECTING"],
        ]) {
            const hub = new Hub().install();
            hub.messages(1);
            hub.recoveryFaults.push(fault);
            hub.slowness = 1000;
            hub.latency = () => latency;
            const timers = clock.waiting;
            const { client } = await connected({ cursor: { epoch: "one", sequence: 0 } }, hub);
            assert.equal(client.state, state);
            client.stop();
            await clock.pass(5000);
            assert.equal(clock.waiting, timers);
            hub.uninstall();
        }
    },

    async can_be_stopped_while_it_hands_over_what_was_held() {
        const { hub, client, told } = await connected();
        hub.cut();
        hub.messages(1);
        hub.slowness = 1000;
        await clock.pass(500);
        hub.messages(5);
        client.addEventListener("message", ({ detail }) => detail.sequenceNumber === 3 && client.stop());
        await clock.pass(5000);
        assert.deepEqual([told.messages().length, client.cursor.sequence], [3, 3]);
        assert.equal(told.at(-1).current, "DISCONNECTED");
    },

    async takes_nothing_of_a_log_that_is_another_by_now() {
        const { hub, told } = await connected();
        hub.messages(1);
        await clock.pass(100);
        const honest = hub.page;
        hub.page = () => {
            [hub.epoch, hub.head, hub.log, hub.page] = ["two", 0, [], honest];
            hub.log = [{ ...hub.message(), sequence_number: 1 }, hub.message()];
            return { messages: hub.log, epoch: "two", head: 2, oldest: 1, gap: null, more: false };
        };
        for (const socket of hub.sockets) socket.say({ type: "heartbeat", head: 2 });
        await clock.pass(3000);
        assert.deepEqual(told.messages(), ["one:1", "two:1", "two:2"]);
        assert.deepEqual(
            told.gaps().map(({ reason }) => reason),
            ["epoch_changed"],
        );
    },

    async can_be_stopped_at_any_moment() {
        const total = 40;
        for (let moment = 0; moment < total; moment += 1) {
            const hub = new Hub().install();
            hub.token = "secret";
            const { client, told } = await connected({ token: "secret" }, hub);
            hub.messages(1);
            hub.cut();
            hub.messages(150);
            await clock.pass(moment * 10 + 200);
            client.stop();
            const said = told.length;
            client.start();
            client.stop();
            client.start();
            await clock.pass(2000);
            assert.deepEqual(
                [client.state, told.messages().length, hub.sockets.size],
                ["CONNECTED", 151, 1],
                `stopped after ${moment * 10} ms`,
            );
            assert.ok(told.length > said);
            client.stop();
            hub.uninstall();
        }
    },

    async can_be_stopped_by_a_listener() {
        for (const type of ["message", "gap", "state"]) {
            for (let nth = 1; nth < 9; nth += 1) {
                const hub = new Hub().install();
                hub.keep = 4;
                hub.messages(3);
                const { client, told } = await connected(
                    { cursor: { epoch: "zero", sequence: 1 }, history: 3 },
                    hub,
                );
                let seen = 0;
                client.addEventListener(type, () => (seen += 1) === nth && client.stop());
                hub.cut();
                hub.messages(8);
                await clock.pass(3000);
                if (seen >= nth) {
                    assert.deepEqual(
                        [told.at(-1).current, hub.sockets.size, client.nextAttempt],
                        ["DISCONNECTED", 0, null],
                        `${type} ${nth}`,
                    );
                    client.start();
                }
                await clock.pass(3000);
                assert.deepEqual([client.state, client.cursor.sequence], ["CONNECTED", 11]);
                const numbers = told
                    .filter((each) => each.type === "message")
                    .map(({ sequenceNumber }) => sequenceNumber);
                assert.deepEqual(numbers, [1, 2, 3, 8, 9, 10, 11]);
                client.stop();
                hub.uninstall();
            }
        }
    },

    async a_listener_that_fails_harms_nobody() {
        const complaints = [];
        process.on("uncaughtException", (error) => complaints.push(error.message));
        const { hub, client, told } = await connected();
        client.addEventListener("message", () => {
            throw new Error("no");
        });
        hub.messages(2);
        await clock.pass(100);
        assert.deepEqual([told.messages().length, client.state, complaints], [2, "CONNECTED", ["no", "no"]]);
    },
};

const [name] = process.argv.slice(2);
await scenes[name]();
// Whatever the scene left running goes with the process.
process.exit(0);
