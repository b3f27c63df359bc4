/** Shows what GET status tells, and what passes with time between two answers. */

import { outside, part, put, showState } from "./elements.js";
import { gapRow } from "./feed.js";
import { STATE_WORDS, bytes, changeReason, clock, count, counted, duration } from "./format.js";
import { bars, meter, plot, strip } from "./plots.js";

const MINUTE = 60_000;
const RANGES = [15, 60, 360, 1440];
const MOST_CHANGES = 50;
/** Seconds without an answer after which what is shown is no longer called the present. */
const STALE_AFTER = 7;

const PLOTS = { received: "From the gateway", sent: "Sent to Signal", delivered: "Delivered to clients" };

export class Instrument {
    #root;
    #status = null;
    /** The hub's clock less ours, in milliseconds. All times that are shown are the hub's. */
    #skew = 0;
    #answeredAt = 0;
    #minutes = RANGES[0];
    /** Whether somebody chose how much of the history is shown; until then it is as much as there is. */
    #chosen = false;
    #drawStrip;
    #drawnAt = 0;
    #drawBars;
    #ownConnection = null;

    /** @param {HTMLElement} root the instrument */
    constructor(root) {
        this.#root = root;
        this.#drawStrip = plot(root.querySelector("#strip"), (width) => this.#strip(width));
        this.#drawBars = Object.entries(PLOTS).map(([key, name]) =>
            plot(root.querySelector(`#plot-${key}`), (width) => this.#bars(width, key, name)),
        );
        root.querySelector("#ranges").addEventListener("change", ({ target }) => {
            this.#chosen = true;
            this.#minutes = Number(target.value);
            this.#drawStrip();
        });
    }

    /**
     * Show an answer of the hub.
     *
     * @param {object} status
     * @param {string|null} ownConnection which of the clients is this page's own
     */
    show(status, ownConnection) {
        this.#status = status;
        this.#skew = status.now - Date.now();
        this.#answeredAt = Date.now();
        this.#ownConnection = ownConnection;
        this.#put("#account", `${status.account}, version ${status.version}`);
        this.#showLink();
        this.#showTraffic();
        this.#showBuffer();
        this.#showLog();
        this.#showClients();
        this.#showGaps();
        this.tick();
    }

    /** Show what passes with time: to be called a few times in a second. */
    tick() {
        if (this.#status === null) return;
        const stale = this.#stale;
        showState(this.#root, "#link-state", stale ? "UNKNOWN" : this.#status.state);
        this.#root.querySelector("#alarm").hidden = !stale;
        if (stale) this.#tickInVain();
        else this.#tickLink();
        this.#showPause(this.#status.buffer);
        if (Date.now() - this.#drawnAt >= 1000) this.#drawStrip();
    }

    #tickLink() {
        const { now, state, since, next_attempt: next } = this.#status;
        this.#put("#freshness", `as of ${clock(now)}`);
        this.#put("#link-since", `for ${duration((this.#hubNow() - since) / 1000)}, since ${clock(since)}`);
        this.#put("#link-next", state === "RECONNECTING" ? this.#countdown(next) : "–");
        // Only what matters is read out: not each attempt that fails.
        const standing = { CONNECTED: "connected", SYNCING: "syncing" }[state] ?? "lost, trying again";
        this.#put("#link-spoken", `Link to the gateway: ${standing}`);
    }

    #tickInVain() {
        const { now, state } = this.#status;
        this.#put("#freshness", "");
        this.#put("#alarm", `The hub does not answer. What you see is of ${clock(now)}.`);
        this.#put("#link-since", `last known: ${STATE_WORDS[state]}, at ${clock(now)}`);
        this.#put("#link-next", "–");
        this.#put("#link-spoken", "Link to the gateway: unknown, the hub does not answer");
    }

    get #stale() {
        return Date.now() - this.#answeredAt > STALE_AFTER * 1000;
    }

    #put(selector, text) {
        put(this.#root, selector, text);
    }

    #hubNow() {
        return Date.now() + this.#skew;
    }

    #countdown(moment) {
        const left = moment === null ? 0 : (moment - this.#hubNow()) / 1000;
        return left > 0 ? `in ${duration(left)}` : "under way";
    }

    #showLink() {
        const { attempt, last_error: error, history } = this.#status;
        this.#put("#link-attempt", attempt === 0 ? "–" : count(attempt));
        this.#put("#link-error", error ?? "none");
        if (!this.#chosen) this.#choose(history[0]?.time ?? this.#status.now);
        this.#drawStrip();
        const newest = history.slice(-MOST_CHANGES).reverse();
        this.#root
            .querySelector("#changes")
            .replaceChildren(...newest.map((change) => this.#changeRow(change)));
    }

    #choose(began) {
        const age = (this.#hubNow() - began) / MINUTE;
        this.#minutes = RANGES.find((minutes) => minutes >= age) ?? RANGES.at(-1);
        this.#root.querySelector(`#ranges input[value="${this.#minutes}"]`).checked = true;
    }

    #changeRow({ time, state, reason, attempt, delay }) {
        const item = document.createElement("li");
        const effort = attempt ? `, attempt ${count(attempt)}` : "";
        const pause = delay ? `, after ${duration(delay)}` : "";
        item.append(
            part("time", "", clock(time)),
            part("b", "", STATE_WORDS[state]),
            part("span", "", changeReason(reason) + effort + pause),
        );
        return item;
    }

    #strip(width) {
        this.#drawnAt = Date.now();
        const until = this.#hubNow();
        const known = this.#stale ? this.#answeredAt + this.#skew : until;
        return strip(width, this.#status?.history ?? [], until - this.#minutes * MINUTE, until, known);
    }

    #bars(width, key, name) {
        const { interval, [key]: counts } = this.#status?.rates ?? { interval: 10, [key]: Array(60).fill(0) };
        return bars(width, counts, interval, name);
    }

    #showTraffic() {
        const { rates } = this.#status;
        const buckets = Math.max(1, Math.round(60 / rates.interval));
        for (const key of Object.keys(PLOTS)) {
            const lastMinute = rates[key].slice(-buckets).reduce((sum, value) => sum + value, 0);
            this.#put(`#rate-${key}`, `${count(lastMinute)} / min`);
        }
        this.#put("#rate-unit", `Each bar is the number of messages in ${duration(rates.interval)}.`);
        for (const draw of this.#drawBars) draw();
    }

    #showBuffer() {
        const { buffer } = this.#status;
        this.#put("#buffer-waiting", count(buffer.waiting));
        const memory = `${bytes(buffer.bytes)} of ${bytes(buffer.max_bytes)}`;
        this.#put("#buffer-most", `of ${counted(buffer.max_messages, "message")} waiting, ${memory}`);
        const fill = Math.max(buffer.waiting / buffer.max_messages, buffer.bytes / buffer.max_bytes);
        meter(
            this.#root.querySelector("#buffer-meter"),
            fill,
            1,
            `The buffer is filled to ${Math.round(fill * 100)} %.`,
        );
        for (const key of ["accepted", "sent", "dropped", "failed", "unknown", "pending"]) {
            this.#put(`#buffer-${key}`, count(buffer[key]));
        }
    }

    #showPause({ paused_until: paused, in_flight: inFlight }) {
        const note = this.#root.querySelector("#buffer-note");
        const left = paused === null ? 0 : (paused - this.#hubNow()) / 1000;
        note.toggleAttribute("data-paused", left > 0);
        const idle = inFlight ? "One message is being sent." : "Nothing is being sent.";
        this.#put("#buffer-note", left > 0 ? `Paused for a rate limit, ${duration(left)} to go.` : idle);
    }

    #showLog() {
        const { log } = this.#status;
        const meters = [
            ["messages", log.messages, log.max_messages, count],
            ["seconds", log.seconds_covered, log.max_age, duration],
            ["bytes", log.bytes, log.max_bytes, bytes],
        ];
        this.#put("#log-head", `#${count(log.head)}`);
        this.#put(
            "#log-range",
            log.writable === false
                ? "is the last: the log cannot be written, so nothing is handed out"
                : log.messages
                  ? `is the last, #${count(log.oldest)} the oldest kept`
                  : "is the last, none is kept",
        );
        for (const [key, value, most, shown] of meters) {
            const text = `${shown(value)} of ${shown(most)}`;
            this.#put(`#log-${key}`, text);
            const svg = this.#root.querySelector(`#log-${key}-meter`);
            meter(svg, value, most, text);
            // A full log is how it should be: it keeps all that it may.
            svg.removeAttribute("data-full");
        }
        this.#put("#log-epoch", log.epoch);
    }

    #showClients() {
        const { connections, connection_count: total } = this.#status;
        this.#put("#clients-count", count(total));
        this.#root.querySelector("#clients").hidden = connections.length === 0;
        this.#root.querySelector("#clients-none").hidden = total > 0;
        this.#root
            .querySelector("#clients tbody")
            .replaceChildren(...connections.flatMap((each) => this.#clientRows(each)));
        const more = total - connections.length;
        this.#put("#clients-more", more > 0 ? `and ${count(more)} more` : "");
    }

    #clientRows({ id, subject, connected, sequence, lag, queued, queued_bytes: queuedBytes, remote }) {
        const name = document.createElement("td");
        name.append(
            outside("span", "subject", id === this.#ownConnection ? `${subject} (this page)` : subject),
        );
        const figures = document.createElement("tr");
        figures.append(
            name,
            cell(`#${count(sequence)}`),
            cell(count(lag), lag > 0),
            cell(count(queued), queued > 0),
        );
        const details = document.createElement("tr");
        const where = part(
            "td",
            "quiet",
            `${remote}, since ${clock(connected)}${queued ? `, ${bytes(queuedBytes)} queued` : ""}`,
        );
        where.colSpan = 4;
        details.append(where);
        return [figures, details];
    }

    #showGaps() {
        const { gaps } = this.#status;
        this.#put("#gaps-count", gaps.length ? count(gaps.length) : "");
        this.#root.querySelector("#gaps-none").hidden = gaps.length > 0;
        this.#root.querySelector("#gaps").hidden = gaps.length === 0;
        const rows = gaps.map((gap) =>
            gapRow({ ...gap, sequenceNumber: gap.sequence_number, first: null, last: null }),
        );
        this.#root.querySelector("#gaps").replaceChildren(...rows.reverse());
    }
}

function cell(text, behind = false) {
    return part("td", behind ? "number behind" : "number", text);
}
