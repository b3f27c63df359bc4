/**
 * A client of a trio_signal hub for browsers: one file, no dependencies, no build step. Copy it.
 *
 *     import { HubClient } from "./client.js";
 *
 *     const hub = new HubClient({ url: "https://hub.example/", token });
 *     hub.addEventListener("message", ({ detail }) => show(detail.data));
 *     hub.addEventListener("gap", ({ detail }) => showGap(detail.reason, detail.since, detail.until));
 *     hub.addEventListener("state", ({ detail }) => showState(detail.current, detail.delay));
 *     hub.addEventListener("unauthorized", async () => hub.setToken(await askForToken()));
 *     hub.start();
 *
 * What it promises: each message that the hub numbers comes once and in order, or a `gap` stands in
 * its place. There is no third case. How it keeps that:
 *
 * 1. Subscribe first. The WebSocket is opened without `since`, so live messages flow from the hub's
 *    `hello` on, which says where its log stands (`epoch`, `head`).
 * 2. What comes live is held back while what was missed is fetched over HTTP, page by page.
 * 3. Both are merged by sequence number. Only when there is no hole up to the highest number heard of
 *    on this connection is what was held released, and CONNECTED announced.
 * 4. A jump on the live stream, or a heartbeat whose head is past us, starts again at 2.
 *
 * A hole is always looked up in the hub's log, so what is held may be thrown away at any time. That is
 * what happens when there is too much of it.
 *
 * States and legal changes are those of the Python client:
 *
 *     DISCONNECTED -> RECONNECTING -> SYNCING <-> CONNECTED, and from each of them to DISCONNECTED
 *
 * The delay before an attempt is slept in RECONNECTING: a random part of 1, 2, 4, ... 60 seconds, at
 * least 0.25, never less than the hub asked for. The count begins anew only after a connection that
 * lasted 30 seconds. The browser's `online` event and a page that becomes visible again end a delay.
 *
 * A browser cannot set headers on a WebSocket, and a token does not belong in a URL. So before each
 * attempt the token buys a ticket (`POST websocket/ticket`), which is good for one connection within
 * 30 seconds. The token itself is kept in memory and nowhere else.
 */

/** Where the connection stands. */
export const State = Object.freeze({
    DISCONNECTED: "DISCONNECTED",
    RECONNECTING: "RECONNECTING",
    SYNCING: "SYNCING",
    CONNECTED: "CONNECTED",
});

// All in seconds.
const FIRST_CEILING = 1;
const LAST_CEILING = 60;
const FLOOR = 0.25;
const STABLE_AFTER = 30;
const RETRY_AFTER_CAP = 300;
/** For the ticket, the handshake and the hello together; and for each piece of a recovery answer. */
const PATIENCE = 20;
const DEFAULT_HEARTBEAT = 15;
const SHORTEST_HEARTBEAT = 1;
const LONGEST_HEARTBEAT = 600;

/** A connection without any frame for this many heartbeat intervals is dead. */
const MISSED_HEARTBEATS = 3;
const HELD_MESSAGES = 1000;
const HELD_CHARACTERS = 8 * 1024 * 1024;
const PAGE_SIZE = 100;
/** So many recovery answers in a row may bring nothing new before the connection is given up. */
const FRUITLESS_PAGES = 3;

/**
 * The delay before an attempt: full jitter under a doubling ceiling.
 *
 * @param {number} attempt counted from 1
 * @param {number} [retryAfter] seconds the hub asked for; lengthens the delay, never shortens it
 * @param {() => number} [random] evenly from 0 up to 1
 * @returns {number} seconds
 */
export function backoffDelay(attempt, retryAfter = 0, random = Math.random) {
    const ceiling = Math.min(FIRST_CEILING * 2 ** (attempt - 1), LAST_CEILING);
    return Math.max(FLOOR + random() * (ceiling - FLOOR), Math.min(retryAfter, RETRY_AFTER_CAP));
}

/**
 * Keeps a connection to a hub, whatever happens to it.
 *
 * Events, each a `CustomEvent` with this `detail`:
 *
 * - `state`: `{previous, current, reason, attempt, delay, error}`. `delay` in seconds, over 0 only in
 *   RECONNECTING; `error` is a text or null. The reasons are those of the Python client: `start`,
 *   `retry`, `link_up`, `hole`, `synchronised`, `attempt_failed`, `refused`, `closed_by_gateway`,
 *   `connection_lost`, `no_answer`, `client_closed`.
 * - `message`: `{sequenceNumber, timestamp, data, recovered}`. `data` is the gateway's own frame,
 *   `timestamp` in milliseconds since the epoch; `recovered` is false for what came live.
 * - `gap`: `{reason, since, until, first, last, sequenceNumber}`: messages may be missing here.
 *   `since` and `until` in milliseconds; `first` and `last` are numbers, or null where nobody knows.
 *   An absence of the hub itself is numbered like a message, and so is a frame of a kind that is not
 *   known here (`undecodable`); else `sequenceNumber` is null.
 * - `direct`: `{connectionSequence, timestamp, data}`: sent to this connection only, not numbered.
 * - `tokenexpiring`: `{expiresIn}` in seconds. Give another with `setToken()` now, or be asked later.
 * - `unauthorized`: `{}`. The hub wants a token, or another one. Nothing happens until `setToken()`.
 */
export class HubClient extends EventTarget {
    #base;
    #random;
    #stream;
    #token;
    #tokenGiven = () => {};
    #state = State.DISCONNECTED;
    #attempt = 0;
    #attemptBefore = 0;
    #connectedAt = null;
    #nextAttempt = null;
    #pause = null;
    #session = null;
    /** What the present loop is known by; null while stopped. */
    #run = null;

    /**
     * @param {object} [options]
     * @param {string|URL} [options.url] the folder where the hub is, with a slash at its end; that of the
     *   page by default
     * @param {string|null} [options.token] the bearer token; null for a hub without a key
     * @param {{epoch: string, sequence: number}|null} [options.cursor] where an earlier client had come
     * @param {number} [options.history] without a cursor: begin with up to so many older messages
     * @param {() => number} [options.random] the source of the jitter
     * @throws {TypeError} the token cannot be sent in a header
     */
    constructor({
        url = document.baseURI,
        token = null,
        cursor = null,
        history = 0,
        random = Math.random,
    } = {}) {
        super();
        this.#base = new URL(url);
        this.#token = token === null ? null : checkedToken(token);
        this.#random = random;
        this.#stream = new Stream(cursor, history, (type, detail) => this.#emit(type, detail));
    }

    /** One of `State`. */
    get state() {
        return this.#state;
    }

    /** Attempts since the connection was last up and stable; 0 while CONNECTED. */
    get attempt() {
        return this.#attempt;
    }

    /** When the present delay ends, in milliseconds since the epoch; null while there is none. */
    get nextAttempt() {
        return this.#nextAttempt;
    }

    /** `{epoch, sequence}` of what was handed over last, to go on from later; null before the first hello. */
    get cursor() {
        return this.#stream.cursor;
    }

    /** What the hub calls the present connection; null without one. */
    get connectionId() {
        return this.#session?.connectionId ?? null;
    }

    /** `{received, recovered, duplicates, gaps, malformed, connections, held}`: counts since it was made. */
    get statistics() {
        return { ...this.#stream.counts, held: this.#session?.held ?? 0 };
    }

    /** Begin. Does nothing if it has begun. */
    start() {
        if (this.#run !== null) return;
        this.#run = Symbol("run");
        globalThis.addEventListener?.("online", this.#whenOnline);
        globalThis.document?.addEventListener("visibilitychange", this.#whenVisible);
        this.#keepConnected(this.#run);
    }

    /** End. Nothing but the change to DISCONNECTED follows. Started again, it goes on from its cursor. */
    stop() {
        if (this.#run === null) return;
        this.#run = null;
        globalThis.removeEventListener?.("online", this.#whenOnline);
        globalThis.document?.removeEventListener("visibilitychange", this.#whenVisible);
        const end = new Lost("client_closed", "stopped");
        this.#session?.drop(end);
        this.#pause?.end();
        if (this.#state !== State.DISCONNECTED) this.#disconnected(end);
    }

    /** End the present delay, even one that the hub asked for. */
    reconnectNow() {
        this.#pause?.end();
    }

    /**
     * Use this token from the next attempt on.
     *
     * @param {string} token
     * @throws {TypeError} it cannot be sent in a header
     */
    setToken(token) {
        this.#token = checkedToken(token);
        this.#tokenGiven();
    }

    /** Sleep, connect and serve, note why it ended, again. Each round is one session. */
    async #keepConnected(run) {
        let [reason, delay, asked] = ["start", 0, 0];
        for (;;) {
            this.#attempt += 1;
            this.#change(State.RECONNECTING, reason, { delay });
            if (this.#run === run) await this.#sleep(delay, asked);
            if (this.#run !== run) return;
            const token = this.#token;
            const end = await this.#serve(token);
            if (this.#run !== run) return;
            this.#disconnected(end);
            [reason, asked] = ["retry", end.retryAfter];
            delay = backoffDelay(this.#attempt + 1, asked, this.#random);
            // A token that came while the old one was being refused deserves an attempt of its own.
            if (this.#run === run && end.status === 401 && this.#token === token)
                delay = await this.#newToken(delay);
            if (this.#run !== run) return;
        }
    }

    async #serve(token) {
        const session = new Session(this.#base, token, this.#stream, this.#random, {
            syncing: (reason) => this.#change(State.SYNCING, reason),
            connected: () => this.#connected(),
        });
        this.#session = session;
        try {
            return await session.run();
        } finally {
            if (this.#session === session) this.#session = null;
        }
    }

    /** Wait for a token; return what is left of the delay by then. */
    async #newToken(delay) {
        const began = performance.now();
        const given = new Promise((resolve) => (this.#tokenGiven = resolve));
        this.#emit("unauthorized", {});
        await given;
        return Math.max(0, delay - secondsSince(began));
    }

    async #sleep(delay, asked) {
        if (delay <= 0) return;
        const pause = (this.#pause = new Pause(delay, Math.min(asked, RETRY_AFTER_CAP)));
        this.#nextAttempt = Date.now() + delay * 1000;
        await pause.over;
        this.#nextAttempt = null;
        this.#pause = null;
    }

    #whenOnline = () => this.#pause?.shorten();

    #whenVisible = () => {
        if (document.visibilityState !== "visible") return;
        this.#pause?.shorten();
        // The timers of a hidden page run late, so that its connection may have died unnoticed.
        this.#session?.look();
    };

    #connected() {
        if (this.#connectedAt === null) {
            this.#connectedAt = performance.now();
            this.#attemptBefore = this.#attempt;
        }
        this.#attempt = 0;
        this.#change(State.CONNECTED, "synchronised");
    }

    #disconnected(end) {
        // A hub that accepts and closes at once must meet a growing delay and not a hot loop.
        const stable = this.#connectedAt === null || secondsSince(this.#connectedAt) >= STABLE_AFTER;
        if (!stable) this.#attempt = this.#attemptBefore;
        this.#connectedAt = null;
        this.#change(State.DISCONNECTED, end.reason, { error: end.message });
    }

    #change(current, reason, { delay = 0, error = null } = {}) {
        const previous = this.#state;
        this.#state = current;
        this.#emit("state", { previous, current, reason, attempt: this.#attempt, delay, error });
    }

    #emit(type, detail) {
        this.dispatchEvent(new CustomEvent(type, { detail }));
    }
}

/** Where we stand in the hub's numbering. It outlives connections. */
class Stream {
    #history;
    #emit;
    #coveredUntil = Date.now();

    constructor(cursor, history, emit) {
        this.cursor =
            cursor === null ? null : Object.freeze({ epoch: cursor.epoch, sequence: cursor.sequence });
        this.counts = { received: 0, recovered: 0, duplicates: 0, gaps: 0, malformed: 0, connections: 0 };
        this.#history = history;
        this.#emit = emit;
    }

    /** The number that comes next. */
    get next() {
        return this.cursor.sequence + 1;
    }

    /** A connection begins. A log that is not ours, or ends before us, cannot tell what we missed. */
    begin({ epoch, head, oldest }) {
        this.counts.connections += 1;
        if (this.cursor === null) {
            this.#move(epoch, Math.max(oldest - 1, head - this.#history));
        } else if (this.cursor.epoch !== epoch || this.cursor.sequence > head) {
            this.#move(epoch, oldest - 1);
            this.#absence("epoch_changed", null, null);
        }
    }

    /** Hand over a numbered item if it is the next; return false if it is one of later. */
    take(item, recovered) {
        if (item.sequence_number > this.next) return false;
        if (item.sequence_number < this.next) {
            this.counts.duplicates += 1;
            return true;
        }
        // First the cursor: a listener that stores it has had this item.
        this.#move(this.cursor.epoch, item.sequence_number);
        this.#coveredUntil = item.timestamp;
        if (item.type === "message") this.#message(item, recovered);
        else this.#numberedGap(item);
        return true;
    }

    /** Step over a hole that the hub's log has. */
    skip({ reason, first, last }) {
        this.#move(this.cursor.epoch, Math.max(last, this.cursor.sequence));
        this.#absence(reason, first, last);
    }

    direct({ connection_sequence: connectionSequence, timestamp, data }) {
        this.#emit("direct", { connectionSequence, timestamp, data });
    }

    tokenExpiring({ expires_in: expiresIn }) {
        this.#emit("tokenexpiring", { expiresIn });
    }

    #move(epoch, sequence) {
        this.cursor = Object.freeze({ epoch, sequence });
    }

    #message({ sequence_number: sequenceNumber, timestamp, data }, recovered) {
        this.counts.received += 1;
        if (recovered) this.counts.recovered += 1;
        this.#emit("message", { sequenceNumber, timestamp, data, recovered });
    }

    #absence(reason, first, last) {
        const [since, until] = [this.#coveredUntil, Date.now()];
        this.#coveredUntil = until;
        this.#gap({ reason, since, until, first, last });
    }

    /** An absence of the hub itself, or a frame of a later version: nothing is passed over unsaid. */
    #numberedGap({ sequence_number: sequenceNumber, type, timestamp, ...gap }) {
        if (type === "gap") this.#gap({ ...gap, sequenceNumber });
        else this.#gap({ reason: "undecodable", since: timestamp, until: timestamp, sequenceNumber });
    }

    #gap({ reason, since, until, first = null, last = null, sequenceNumber = null }) {
        this.counts.gaps += 1;
        this.#emit("gap", { reason, since, until, first, last, sequenceNumber });
    }
}

/** One connection, from the ticket to its end. Once it is dropped it causes nothing any more. */
class Session {
    #base;
    #token;
    #stream;
    #random;
    #tell;
    #abort = new AbortController();
    #socket = null;
    #dropped;
    #reject;
    #greeted;
    #greet;
    #holeSeen = () => {};
    /** Whether live messages are handed over at once, or held. */
    #live = false;
    #held = new Map();
    #heldCharacters = 0;
    /** The highest sequence number heard of on this connection. */
    #known = 0;
    #interval = DEFAULT_HEARTBEAT;
    /** When a frame came last: by the clock that nobody sets, and by the one that goes on in sleep. */
    #lastFrame = performance.now();
    #lastFrameDate = Date.now();
    #silence;
    #patience;
    #pause = null;
    #retryAfter = 0;

    constructor(base, token, stream, random, tell) {
        this.#base = base;
        this.#token = token;
        this.#stream = stream;
        this.#random = random;
        this.#tell = tell;
        this.#dropped = new Promise((_, reject) => (this.#reject = reject));
        this.#greeted = new Promise((resolve) => (this.#greet = resolve));
    }

    /** What the hub calls it, once it has said hello. */
    connectionId = null;

    /** How many live messages are held back. */
    get held() {
        return this.#held.size;
    }

    /**
     * Connect and serve.
     *
     * @returns {Promise<Lost>} why it ended
     */
    async run() {
        try {
            return await Promise.race([this.#serve(), this.#dropped]);
        } catch (error) {
            return error instanceof Lost ? error : new Lost("connection_lost", String(error));
        } finally {
            this.drop(new Lost("client_closed", "over"));
        }
    }

    /** End it at once. */
    drop(reason) {
        this.#reject(reason);
        this.#abort.abort();
        clearTimeout(this.#silence);
        clearTimeout(this.#patience);
        this.#pause?.end();
        this.#held.clear();
        if (this.#socket === null) return;
        this.#socket.onopen = this.#socket.onmessage = this.#socket.onclose = null;
        this.#socket.close();
    }

    /** Drop it if nothing has come for too long, else look again when that would be so. */
    look() {
        clearTimeout(this.#silence);
        const silent = Math.max(secondsSince(this.#lastFrame), (Date.now() - this.#lastFrameDate) / 1000);
        const left = MISSED_HEARTBEATS * this.#interval - silent;
        if (left > 0) this.#silence = setTimeout(() => this.look(), left * 1000);
        else this.drop(new Lost("no_answer", `no frame for ${MISSED_HEARTBEATS} heartbeat intervals`));
    }

    async #serve() {
        const hello = await this.#inTime("no connection", () => this.#connect());
        this.#check();
        this.#interval = heartbeatInterval(hello.heartbeat_interval);
        this.look();
        this.connectionId = hello.connection_id;
        this.#known = Math.max(this.#known, hello.head);
        this.#tell.syncing("link_up");
        this.#check();
        this.#stream.begin(hello);
        for (;;) {
            await this.#synchronise();
            const hole = new Promise((resolve) => (this.#holeSeen = resolve));
            this.#live = true;
            this.#tell.connected();
            await hole;
            this.#check();
            this.#tell.syncing("hole");
        }
    }

    /** Buy a ticket, open the WebSocket, wait for the hello. */
    async #connect() {
        const url = new URL("websocket", this.#base);
        url.protocol = url.protocol.replace("http", "ws");
        if (this.#token !== null) {
            const { ticket } = await this.#request("websocket/ticket", { method: "POST" });
            url.searchParams.set("ticket", ticket);
        }
        this.#check();
        const socket = (this.#socket = new WebSocket(url));
        socket.onmessage = ({ data }) => this.#frame(data);
        const open = await new Promise((resolve) => {
            socket.onopen = () => resolve(true);
            socket.onclose = () => resolve(false);
        });
        if (!open) throw await this.#refusal();
        this.#check();
        socket.onclose = ({ code }) => this.drop(this.#closed(code));
        const hello = await this.#greeted;
        if (!isCount(hello.head) || !isCount(hello.oldest) || typeof hello.epoch !== "string") {
            throw new Lost("attempt_failed", "the hub's hello makes no sense");
        }
        return hello;
    }

    /** A browser does not tell why a handshake was refused, so ask: a hub that wants a token says so here. */
    async #refusal() {
        if (this.#token === null) await this.#request("websocket/ticket", { method: "POST" });
        return new Lost("attempt_failed", "the WebSocket could not be opened");
    }

    #closed(code) {
        const more = { retryAfter: this.#retryAfter };
        if (code === 1006)
            return new Lost("connection_lost", "the connection ended without a close frame", more);
        // 4001: the token has expired. Whether there is another is found out by the next attempt.
        return new Lost(code === 4001 ? "refused" : "closed_by_gateway", `closed with code ${code}`, more);
    }

    #frame(text) {
        this.#lastFrame = performance.now();
        this.#lastFrameDate = Date.now();
        const frame = parsed(text);
        if (frame === null) this.#stream.counts.malformed += 1;
        else if (isCount(frame.sequence_number)) this.#numbered(frame, text.length);
        else if (frame.type === "hello") this.#greet(frame);
        else if (frame.type === "heartbeat") this.#heardOf(frame.head);
        else if (frame.type === "direct") this.#stream.direct(frame);
        else if (frame.type === "token_expiring") this.#stream.tokenExpiring(frame);
        else if (frame.type === "goodbye") this.#retryAfter = Number(frame.retry_after) || 0;
    }

    #numbered(item, characters) {
        if (this.#live && this.#stream.take(item, false)) return;
        this.#hold(item, characters);
        this.#heardOf(item.sequence_number);
    }

    #hold(item, characters) {
        const full = this.#held.size >= HELD_MESSAGES || this.#heldCharacters + characters > HELD_CHARACTERS;
        if (full) this.#letGo();
        this.#held.set(item.sequence_number, item);
        this.#heldCharacters += characters;
    }

    #letGo() {
        this.#held.clear();
        this.#heldCharacters = 0;
    }

    #heardOf(sequence) {
        if (!isCount(sequence)) return;
        this.#known = Math.max(this.#known, sequence);
        if (!this.#live || this.#known < this.#stream.next) return;
        this.#live = false;
        this.#holeSeen();
    }

    /** Fetch what is missing until it meets what is held, then hand that over too. */
    async #synchronise() {
        let fruitless = 0;
        while (!this.#joined()) {
            const before = this.#stream.next;
            this.#takePage(await this.#page());
            fruitless = this.#stream.next === before ? fruitless + 1 : 0;
            if (fruitless >= FRUITLESS_PAGES)
                throw new Lost("connection_lost", "the hub's log lacks what it announced");
        }
        const held = [...this.#held.values()].sort((a, b) => a.sequence_number - b.sequence_number);
        this.#letGo();
        for (const item of held) {
            this.#stream.take(item, false);
            this.#check();
        }
    }

    /** Whether what is held goes on where we are, without a hole, to the last number heard of. */
    #joined() {
        let next = this.#stream.next;
        while (this.#held.has(next)) next += 1;
        return next > this.#known;
    }

    #takePage({ messages, epoch, gap }) {
        if (epoch !== this.#stream.cursor.epoch)
            throw new Lost("connection_lost", "the hub's log is another by now");
        if (gap !== null) this.#stream.skip(gap);
        for (const item of messages) {
            this.#check();
            this.#stream.take(item, true);
        }
        this.#check();
    }

    /** Ask for what comes after us, as often as the hub is too busy to answer. */
    async #page() {
        for (let tries = 1; ; tries += 1) {
            const { epoch, sequence: since } = this.#stream.cursor;
            const path = `websocket/messages?${new URLSearchParams({ since, epoch, limit: PAGE_SIZE })}`;
            try {
                // On a slow line a page may take minutes: only a pause in it is too long.
                return await this.#inTime("no recovery answer", (onPiece) =>
                    this.#request(path, { onPiece }),
                );
            } catch (error) {
                this.#check();
                if (error.status !== 429 && error.status !== 503) throw error;
                this.#pause = new Pause(backoffDelay(tries, error.retryAfter, this.#random), 0);
                await this.#pause.over;
                this.#check();
            }
        }
    }

    /** One HTTP exchange. @throws {Lost} anything but a JSON answer with a status of 2xx */
    async #request(path, { method = "GET", onPiece = () => {} } = {}) {
        const headers = this.#token === null ? {} : { Authorization: `Bearer ${this.#token}` };
        const answer = await fetch(new URL(path, this.#base), {
            method,
            headers,
            cache: "no-store",
            redirect: "error",
            signal: this.#abort.signal,
        }).catch((error) => {
            throw new Lost("attempt_failed", error.message);
        });
        if (answer.ok) return JSON.parse(await this.#text(answer.body, onPiece));
        const reason = answer.status === 401 ? "refused" : "attempt_failed";
        const retryAfter = secondsAsked(answer.headers.get("Retry-After"));
        throw new Lost(reason, `HTTP ${answer.status}`, { status: answer.status, retryAfter });
    }

    async #text(body, onPiece) {
        const reader = body.pipeThrough(new TextDecoderStream()).getReader();
        for (let text = ""; ; ) {
            const { done, value } = await reader.read();
            this.#check();
            if (done) return text;
            text += value;
            onPiece();
        }
    }

    /** Do `work`, but drop the session when it takes too long. What it is given lets the time begin anew. */
    async #inTime(complaint, work) {
        const late = () => this.drop(new Lost("no_answer", `${complaint} within ${PATIENCE} s`));
        const begin = () => {
            clearTimeout(this.#patience);
            this.#patience = setTimeout(late, PATIENCE * 1000);
        };
        begin();
        try {
            return await work(begin);
        } finally {
            clearTimeout(this.#patience);
        }
    }

    /** To be called after whatever may have dropped us: waiting, and handing anything to a listener. */
    #check() {
        if (this.#abort.signal.aborted) throw new Lost("client_closed", "over");
    }
}

/** Why a connection ended or could not be made. */
class Lost extends Error {
    constructor(reason, message, { retryAfter = 0, status = 0 } = {}) {
        super(message);
        this.reason = reason;
        this.retryAfter = retryAfter;
        this.status = status;
    }
}

/** A delay that can be ended, or shortened to what the hub insists on. */
class Pause {
    #began = performance.now();
    #least;
    #timer;

    /**
     * @param {number} seconds how long
     * @param {number} least seconds that `shorten()` leaves of it
     */
    constructor(seconds, least) {
        this.over = new Promise((resolve) => (this.end = resolve));
        this.over.then(() => clearTimeout(this.#timer));
        this.#least = least;
        this.#wait(seconds);
    }

    shorten() {
        this.#wait(Math.max(0, this.#least - secondsSince(this.#began)));
    }

    #wait(seconds) {
        clearTimeout(this.#timer);
        this.#timer = setTimeout(this.end, seconds * 1000);
    }
}

const secondsSince = (moment) => (performance.now() - moment) / 1000;

const isCount = (value) => Number.isSafeInteger(value) && value >= 0;

/** The interval that a hello tells, as far as it makes sense. */
const heartbeatInterval = (told) =>
    Math.min(Math.max(Number(told) || DEFAULT_HEARTBEAT, SHORTEST_HEARTBEAT), LONGEST_HEARTBEAT);

/** The JSON object in a frame, or null. */
function parsed(text) {
    try {
        const value = JSON.parse(text);
        return typeof value === "object" ? value : null;
    } catch {
        return null;
    }
}

/** The seconds in a Retry-After header, which may hold a date instead. */
function secondsAsked(header) {
    if (header === null) return 0;
    const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
    return Math.max(0, seconds) || 0;
}

function checkedToken(token) {
    if (!/^[\x21-\x7e]+$/.test(token)) throw new TypeError("a token is printable ASCII without spaces");
    return token;
}
