/** The live messages of the page's own client, its gaps in their place, and how it fares. */

import { HubClient, State } from "./client.js";
import { changeReason, clock, count, counted, duration, gapReason } from "./format.js";
import { describe } from "./frames.js";
import { glyph, outside, part, put, showState } from "./elements.js";

const MOST_ROWS = 200;

export class Feed {
    #client;
    #root;
    #list;
    #waiting = [];
    #new = 0;
    #paused = false;
    #frame = 0;
    /** When the connection was lost, and what had been counted by then; null while it was not. */
    #loss = null;
    /** Whether what came before the page was opened is in. What is fetched from then on was missed. */
    #begun = false;

    /**
     * @param {HTMLElement} root the instrument
     * @param {string|null} token
     * @param {object} tell
     * @param {() => void} tell.onUnauthorized the token is good for nothing any more
     * @param {(seconds: number) => void} tell.onTokenExpiring it will soon be so
     * @param {() => void} tell.onChange something happened that may have changed the hub's own figures
     */
    constructor(root, token, { onUnauthorized, onTokenExpiring, onChange }) {
        this.#root = root;
        this.#list = root.querySelector("#messages");
        this.#client = new HubClient({ token, history: MOST_ROWS });
        const on = (type, handle) => this.#client.addEventListener(type, ({ detail }) => handle(detail));
        on("message", (message) => (this.#message(message), onChange()));
        on("direct", ({ timestamp, data }) => this.#message({ timestamp, data, direct: true }));
        on("gap", (gap) => (this.#add(() => gapRow(gap)), onChange()));
        on("state", (change) => (this.#state(change), onChange()));
        on("unauthorized", onUnauthorized);
        on("tokenexpiring", ({ expiresIn }) => onTokenExpiring(expiresIn));
        root.querySelector("#pause").addEventListener("click", () => this.#pause(!this.#paused));
        root.querySelector("#own-hurry").addEventListener("click", () => this.#client.reconnectNow());
        this.#client.start();
    }

    /** The id of its connection, by which the hub lists it. */
    get connectionId() {
        return this.#client.connectionId;
    }

    /** End the client; nothing is shown any more. */
    close() {
        cancelAnimationFrame(this.#frame);
        this.#client.stop();
    }

    /** Show what passes with time: to be called a few times in a second. */
    tick() {
        const { state, attempt, nextAttempt, cursor, statistics } = this.#client;
        const wait = nextAttempt === null ? null : Math.max(0, (nextAttempt - Date.now()) / 1000);
        this.#root.querySelector("#own-hurry").hidden = wait === null || wait < 1;
        put(this.#root, "#own-note", ownNote(state, attempt, wait, cursor, statistics));
    }

    #message(message) {
        const missed = this.#begun && message.recovered;
        this.#add(() => messageRow({ ...message, missed }));
    }

    #state({ current, previous, reason, error }) {
        showState(this.#root, "#own-state", current);
        // Away is whoever was connected before, however many attempts fail since.
        if (previous === State.CONNECTED && current === State.DISCONNECTED) this.#away(reason, error);
        if (current === State.CONNECTED) this.#back();
        this.tick();
    }

    #away(reason, error) {
        this.#loss = { at: Date.now(), ...this.#client.statistics };
        this.#speak(`lost, ${changeReason(reason)}`);
        const when = clock(this.#loss.at);
        this.#add(() => noteRow(`${when} This page lost the hub: ${changeReason(reason)} (${error}).`));
    }

    #back() {
        this.#begun = true;
        this.#speak("connected");
        if (this.#loss === null) return;
        const { at, recovered, gaps } = this.#loss;
        const now = this.#client.statistics;
        const found = [
            now.recovered > recovered &&
                `${counted(now.recovered - recovered, "message")} fetched from the log`,
            now.gaps > gaps && counted(now.gaps - gaps, "gap"),
        ].filter(Boolean);
        const [when, away] = [clock(Date.now()), duration((Date.now() - at) / 1000)];
        this.#loss = null;
        this.#add(() => noteRow(`${when} Back after ${away}: ${found.join(", ") || "nothing was missed"}.`));
    }

    /** Only what matters is read out: not each attempt that fails. */
    #speak(standing) {
        put(this.#root, "#own-spoken", `This page's own connection: ${standing}`);
    }

    #pause(paused) {
        this.#paused = paused;
        this.#new = 0;
        this.#label();
        if (!paused) this.#show();
    }

    #label() {
        const waiting = this.#new ? `, ${count(this.#new)} new` : "";
        put(this.#root, "#pause", this.#paused ? `Go on${waiting}` : "Pause");
        this.#root.querySelector("#pause").toggleAttribute("data-paused", this.#paused);
    }

    /** Rows are made only when they are shown: in a burst most of them are gone by then. */
    #add(makeRow) {
        this.#waiting.push(makeRow);
        if (this.#waiting.length > MOST_ROWS) this.#waiting.shift();
        this.#new += 1;
        if (this.#paused) this.#label();
        else this.#frame ||= requestAnimationFrame(() => this.#show());
    }

    #show() {
        this.#frame = 0;
        if (this.#paused || this.#waiting.length === 0) return;
        const rows = this.#waiting.splice(0).map((makeRow) => makeRow());
        this.#list.prepend(...rows.reverse());
        while (this.#list.children.length > MOST_ROWS) this.#list.lastChild.remove();
        this.#list.hidden = false;
        this.#root.querySelector("#messages-none").hidden = true;
    }
}

function ownNote(state, attempt, wait, cursor, { received, gaps, held }) {
    const position =
        cursor === null
            ? ""
            : `at #${count(cursor.sequence)}, ${counted(received, "message")}, ${counted(gaps, "gap")}`;
    if (state === State.SYNCING) return `fetching what is missing, ${counted(held, "message")} held back`;
    if (state !== State.RECONNECTING) return position;
    return wait === null ? `attempt ${attempt}` : `attempt ${attempt} in ${duration(wait)}`;
}

function row(className, ...children) {
    const item = document.createElement("li");
    item.className = className;
    item.append(...children);
    return item;
}

function moment(milliseconds) {
    const node = part("time", "", clock(milliseconds));
    const date = new Date(milliseconds);
    if (!Number.isNaN(date.getTime())) node.dateTime = date.toISOString();
    return node;
}

function messageRow({ sequenceNumber, timestamp, data, missed, direct }) {
    const { who, number, kind, text, raw } = describe(data);
    const about = part("div", "about", "");
    about.append(
        part("span", "sequence", direct ? "direct" : `#${count(sequenceNumber)}`),
        moment(timestamp),
    );
    about.append(outside("span", "who", who || number || "no sender"));
    if (who && number) about.append(outside("span", "", number));
    if (kind !== "message") about.append(outside("span", "tag", kind));
    if (missed) about.append(part("span", "tag", "from the log"));
    const item = row("new", about);
    if (text) item.append(outside("p", raw ? "text raw" : "text", text));
    return item;
}

/** A gap in words: also for the list of the hub's own. */
export function gapRow({ reason, since, until, first, last, sequenceNumber }) {
    const what = document.createElement("p");
    const range = first === null || last === null ? "" : ` #${count(first)} to #${count(last)}`;
    const which = sequenceNumber === null ? range : ` at #${count(sequenceNumber)}`;
    const when = `from ${clock(since)} to ${clock(until)} (${duration((until - since) / 1000)})`;
    what.append(part("b", "", `Gap${which}`), `: messages ${when} may be missing; ${gapReason(reason)}.`);
    return row("gap", glyph("gap"), what);
}

function noteRow(text) {
    return row("note", text);
}
