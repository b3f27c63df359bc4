/**
 * A world for client.js without a browser: a clock that is moved by hand, and a hub that speaks the
 * wire format over a WebSocket and a fetch of its own. Import it before anything that takes the time.
 */

const realSetImmediate = setImmediate;

/** Time stands still until somebody moves it; what is due then happens in order. */
class Clock {
    now = 1_700_000_000_000;
    #timers = new Map();
    #last = 0;

    install() {
        globalThis.setTimeout = (call, milliseconds = 0) => this.after(milliseconds, call);
        globalThis.clearTimeout = (id) => this.#timers.delete(id);
        globalThis.performance = { now: () => this.now - 1_600_000_000_000 };
        Date.now = () => this.now;
    }

    after(milliseconds, call) {
        this.#last += 1;
        this.#timers.set(this.#last, { due: this.now + Math.max(0, milliseconds), call });
        return this.#last;
    }

    /** Let so much time pass, and everything happen that is due by then. */
    async pass(milliseconds) {
        const end = this.now + milliseconds;
        for (;;) {
            await settled();
            const next = [...this.#timers]
                .filter(([, { due }]) => due <= end)
                .sort(([a, x], [b, y]) => x.due - y.due || a - b)[0];
            if (next === undefined) break;
            this.#timers.delete(next[0]);
            this.now = Math.max(this.now, next[1].due);
            next[1].call();
        }
        this.now = end;
    }

    /** How many timers wait. */
    get waiting() {
        return this.#timers.size;
    }
}

/** Until nothing more happens by itself: promises have been followed as far as they go. */
async function settled() {
    for (let turn = 0; turn < 3; turn += 1) await new Promise((resolve) => realSetImmediate(resolve));
}

export const clock = new Clock();
clock.install();

/** A generator of numbers that a seed decides. */
export function seeded(seed) {
    let state = seed * 2654435761 + 1;
    return () => {
        state = (state + 0x6d2b79f5) | 0;
        let value = Math.imul(state ^ (state >>> 15), 1 | state);
        value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
        return ((value ^ (value >>> 14)) >>> 0) / 4294967296;
    };
}

/** The wire as the hub's side of it: everything that a test wants to be otherwise is a field. */
export class Hub {
    epoch = "one";
    head = 0;
    log = [];
    /** How many items it ever numbered, whatever their epoch. */
    numbered = 0;
    lastHello = null;
    keep = 500;
    heartbeatInterval = 15;
    token = null;
    up = true;
    /** One way, in milliseconds. */
    latency = () => 5;
    /** How long an HTTP answer takes on top of that. */
    slowness = 0;
    /** How a recovery answer comes: {pieces, pause} in milliseconds. */
    trickle = { pieces: 1, pause: 0 };
    /** What a recovery call is answered with instead, one by one: "fail", "hang", {status, retryAfter}. */
    recoveryFaults = [];
    ticketFaults = [];
    /** Frames with these sequence numbers never come live, as if somebody had eaten them. */
    eaten = new Set();
    sockets = new Set();
    requests = [];
    handshakes = [];
    #tickets = new Set();
    #beat;

    install() {
        const hub = this;
        globalThis.WebSocket = class extends FakeSocket {
            constructor(url) {
                super(hub, new URL(url));
            }
        };
        globalThis.fetch = (url, options = {}) => this.#fetch(new URL(url), options);
        const beat = () => {
            for (const socket of this.sockets)
                if (!socket.mute) socket.say({ type: "heartbeat", head: this.head });
            this.#beat = clock.after(this.heartbeatInterval * 1000, beat);
        };
        this.#beat = clock.after(this.heartbeatInterval * 1000, beat);
        return this;
    }

    /** No more heartbeats. */
    uninstall() {
        clearTimeout(this.#beat);
    }

    get oldest() {
        return this.log[0]?.sequence_number ?? this.head + 1;
    }

    /** Number an item, keep it, and tell everybody. */
    broadcast(fields) {
        this.head += 1;
        this.numbered += 1;
        const item = { sequence_number: this.head, timestamp: clock.now, ...fields };
        this.log.push(item);
        this.log.splice(0, this.log.length - this.keep);
        for (const socket of this.sockets) if (!this.eaten.has(this.head)) socket.say(item);
        return item;
    }

    message(text = `${this.epoch}:${this.head + 1}`) {
        return this.broadcast({ type: "message", data: { text } });
    }

    messages(count) {
        for (let index = 0; index < count; index += 1) this.message();
    }

    /** Every connection breaks without a word. */
    cut(code = 1006) {
        for (const socket of [...this.sockets]) socket.end(code);
    }

    /** It dies and comes back with another log. */
    restart(epoch) {
        this.cut();
        [this.epoch, this.head, this.log] = [epoch, 0, []];
    }

    hello() {
        this.lastHello = {
            type: "hello",
            epoch: this.epoch,
            head: this.head,
            oldest: this.oldest,
            heartbeat_interval: this.heartbeatInterval,
            connection_id: "c1",
        };
        return this.lastHello;
    }

    /** Whether a WebSocket with this URL is let in. */
    admits(url) {
        this.handshakes.push(url.href);
        return this.up && (this.token === null || this.#tickets.delete(url.searchParams.get("ticket")));
    }

    async #fetch(url, { headers = {}, method = "GET", signal }) {
        this.requests.push({ method, url: url.href, authorization: headers.Authorization });
        await travel(this.latency(), signal);
        if (!this.up) throw new TypeError("Failed to fetch");
        const recovery = url.pathname === "/websocket/messages";
        const fault = (recovery ? this.recoveryFaults : this.ticketFaults).shift();
        const answer = await this.#answer(url, headers, recovery, fault, signal);
        await travel(this.latency() + this.slowness, signal);
        return answer;
    }

    async #answer(url, headers, recovery, fault, signal) {
        if (fault === "fail") throw new TypeError("Failed to fetch");
        if (fault === "hang") await travel(1e12, signal);
        if (fault) return reply(fault.status, {}, fault);
        if (this.token !== null && headers.Authorization !== `Bearer ${this.token}`) return reply(401, {});
        if (recovery) return reply(200, this.page(url.searchParams), { ...this.trickle, signal });
        const ticket = `ticket-${this.requests.length}`;
        this.#tickets.add(ticket);
        return reply(201, { ticket, expires_in: 30 });
    }

    /** What the recovery call answers: contract H4 and H5. */
    page(query) {
        const [since, epoch, limit] = [
            Number(query.get("since")),
            query.get("epoch"),
            Number(query.get("limit") ?? 1e9),
        ];
        const other = (epoch !== null && epoch !== this.epoch) || since > this.head;
        const from = other ? 0 : since;
        const kept = this.log.filter((item) => item.sequence_number > from);
        let gap = null;
        if (other) gap = { reason: "epoch_changed", first: null, last: null };
        else if (since < this.oldest - 1)
            gap = { reason: "overwritten", first: since + 1, last: this.oldest - 1 };
        const messages = structuredClone(kept.slice(0, limit));
        return {
            messages,
            epoch: this.epoch,
            head: this.head,
            oldest: this.oldest,
            gap,
            more: kept.length > limit,
        };
    }
}

/** An answer, its body in so many pieces with a pause before each of them but the first. */
function reply(status, body, { retryAfter, pieces = 1, pause = 0, signal } = {}) {
    const headers = retryAfter === undefined ? {} : { "Retry-After": String(retryAfter) };
    return new Response(trickle(JSON.stringify(body), pieces, pause, signal), { status, headers });
}

function trickle(text, pieces, pause, signal) {
    const bytes = new TextEncoder().encode(text);
    const size = Math.ceil(bytes.length / pieces);
    let sent = 0;
    return new ReadableStream({
        async pull(stream) {
            if (sent > 0) await travel(pause, signal);
            stream.enqueue(bytes.subarray(sent, (sent += size)));
            if (sent >= bytes.length) stream.close();
        },
    });
}

function travel(milliseconds, signal) {
    return new Promise((resolve, reject) => {
        clock.after(milliseconds, resolve);
        signal?.addEventListener("abort", () => reject(new DOMException("aborted", "AbortError")));
    });
}

/** A browser's WebSocket as far as it is used here. Frames keep their order; a cut loses those under way. */
class FakeSocket {
    onopen = null;
    onmessage = null;
    onclose = null;
    mute = false;
    #hub;
    #cut = false;
    #arrival = 0;

    constructor(hub, url) {
        this.#hub = hub;
        clock.after(hub.latency(), () => {
            if (this.#cut) return;
            if (!hub.admits(url)) return this.#closed(1006);
            hub.sockets.add(this);
            this.#arrive(() => this.onopen?.({}));
            this.say(hub.hello());
        });
    }

    say(frame) {
        this.sayText(JSON.stringify(frame));
    }

    sayText(text) {
        this.#arrive(() => this.onmessage?.({ data: text }));
    }

    end(code) {
        this.#hub.sockets.delete(this);
        if (code === 1006) this.#cut = true;
        clock.after(this.#delay(), () => this.#closed(code));
    }

    /** The client's own close. */
    close() {
        this.#cut = true;
        this.#hub.sockets.delete(this);
        clock.after(this.#delay(), () => this.onclose?.({ code: 1005 }));
    }

    #closed(code) {
        this.#cut = true;
        this.onclose?.({ code });
    }

    #arrive(act) {
        clock.after(this.#delay(), () => this.#cut || act());
    }

    #delay() {
        this.#arrival = Math.max(this.#arrival, clock.now + this.#hub.latency());
        return this.#arrival - clock.now;
    }
}

/** Everything that a client says, in order. */
export function record(client) {
    const told = [];
    for (const type of ["state", "message", "gap", "direct", "unauthorized", "tokenexpiring"]) {
        client.addEventListener(type, ({ detail }) => told.push({ type, at: clock.now, ...detail }));
    }
    told.messages = () => told.filter(({ type }) => type === "message").map(({ data }) => data.text);
    told.gaps = () => told.filter(({ type }) => type === "gap");
    told.states = () => told.filter(({ type }) => type === "state").map(({ current }) => current);
    return told;
}
