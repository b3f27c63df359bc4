/**
 * client.js in worlds that seeds decide: ``node simulate.mjs FIRST COUNT``. Each world is a minute or so of
 * messages, cuts, restarts, a log too short, frames that are eaten, busy answers. After it everything that
 * the client said is held against what the hub numbered. Ends with a line of figures in JSON.
 */

import assert from "node:assert/strict";
import { Hub, clock, record, seeded } from "./world.mjs";

const { HubClient } = await import("../../trio_signal/hub/page/client.js");

const LEGAL = new Set([
    "DISCONNECTED RECONNECTING",
    "RECONNECTING SYNCING",
    "RECONNECTING DISCONNECTED",
    "SYNCING CONNECTED",
    "SYNCING DISCONNECTED",
    "CONNECTED DISCONNECTED",
    "CONNECTED SYNCING",
]);

const FAULTS = ["fail", "hang", { status: 429, retryAfter: 2 }, { status: 503 }, { status: 500 }];

const totals = { worlds: 0, numbered: 0 };

async function world(seed) {
    const random = seeded(seed);
    const hub = new Hub().install();
    hub.keep = 3 + Math.floor(random() * 60);
    hub.latency = () => 1 + random() ** 3 * 400;
    const client = new HubClient({ url: "http://hub.test/", random });
    const told = record(client);
    client.addEventListener("state", ({ detail }) => checkChange(detail, client, hub));
    client.start();
    const epochs = [hub.epoch];
    for (let step = 0; step < 150; step += 1) {
        await clock.pass(random() * 800);
        disturb(hub, random, epochs);
    }
    [hub.up, hub.recoveryFaults, hub.eaten] = [true, [], new Set()];
    await clock.pass(400_000);
    assert.equal(client.state, "CONNECTED");
    assert.deepEqual(client.cursor, { epoch: hub.epoch, sequence: hub.head });
    audit(told, epochs);
    totals.worlds += 1;
    totals.numbered += hub.numbered;
    for (const [name, value] of Object.entries(client.statistics)) totals[name] = (totals[name] ?? 0) + value;
    client.stop();
    hub.uninstall();
}

function disturb(hub, random, epochs) {
    const dice = random();
    if (dice < 0.65) hub.messages(Math.floor(random() * 6));
    else if (dice < 0.68) hub.cut();
    else if (dice < 0.7) hub.cut(1012);
    else if (dice < 0.71) hub.up = false;
    else if (dice < 0.8) hub.up = true;
    else if (dice < 0.84) hub.eaten.add(hub.head + 1);
    else if (dice < 0.86) for (const socket of hub.sockets) socket.mute = true;
    else if (dice < 0.91) hub.recoveryFaults.push(FAULTS[Math.floor(random() * FAULTS.length)]);
    else if (dice < 0.95)
        hub.broadcast({ type: "gap", reason: "gateway", since: clock.now - 5, until: clock.now });
    else if (dice < 0.97) hub.log.splice(0, Math.ceil(random() * hub.log.length));
    else if (dice < 0.98) {
        epochs.push(`epoch ${epochs.length}`);
        hub.restart(epochs.at(-1));
    }
}

/** Only legal changes; CONNECTED only when nothing that the hello announced is missing (contract C1, C3). */
function checkChange({ previous, current }, client, hub) {
    assert.ok(LEGAL.has(`${previous} ${current}`), `${previous} became ${current}`);
    if (current !== "CONNECTED") return;
    assert.equal(client.cursor.epoch, hub.lastHello.epoch);
    assert.ok(client.cursor.sequence >= hub.lastHello.head, "CONNECTED though something is missing");
}

/** Hold what was said against the numbering: each item once, in order, or a gap in its place (R1 to R4). */
function audit(told, epochs) {
    // The first connection may be made after a restart.
    let [epoch, position] = [null, null];
    for (const each of told.filter(({ type }) => type === "message" || type === "gap")) {
        if (each.reason === "epoch_changed") {
            [epoch, position] = [null, null];
            continue;
        }
        if (each.type === "message") {
            const [name, number] = each.data.text.split(":");
            epoch ??= epochs.indexOf(name);
            assert.equal(`${name}:${number}`, `${epochs[epoch]}:${each.sequenceNumber}`);
        }
        const [first, last] =
            each.sequenceNumber === null
                ? [each.first, each.last]
                : [each.sequenceNumber, each.sequenceNumber];
        if (position !== null)
            assert.equal(first, position + 1, "a hole that nobody told of, or a repetition");
        assert.ok(last >= first, "an empty gap");
        position = last;
    }
}

const [first, count] = process.argv.slice(2).map(Number);
for (let seed = first; seed < first + count; seed += 1) {
    try {
        await world(seed);
    } catch (error) {
        error.message = `seed ${seed}: ${error.message}`;
        throw error;
    }
}
console.log(JSON.stringify(totals));
