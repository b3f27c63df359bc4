/**
 * The page of a hub: lets in who may look, and keeps what is shown up to date.
 *
 * A hub without a key answers GET status to everybody, and the page opens at once. Else there is
 * nothing but a form for a token, until one was accepted, and again as soon as it is no more. The
 * token lives in this module's memory: in no URL, in no storage, in no element once it was read.
 */

import { Feed } from "./feed.js";
import { Instrument } from "./instrument.js";
import { put } from "./elements.js";

const REFRESH = 2000;
/** The least between two questions, however much happens: milliseconds. */
const LEAST_PAUSE = 500;
const PATIENCE = 8000;
const TICK = 250;

const body = document.body;

/** What the hub said to GET status: {status}, or {refused} for 401, or {fault} in words. */
async function ask(token) {
    try {
        const answer = await fetch(new URL("status", document.baseURI), {
            headers: token === null ? {} : { Authorization: `Bearer ${token}` },
            cache: "no-store",
            signal: AbortSignal.timeout(PATIENCE),
        });
        if (answer.status === 401) return { refused: true };
        if (!answer.ok) return { fault: `the hub answers with HTTP ${answer.status}` };
        return { status: await answer.json() };
    } catch {
        return { fault: "the hub does not answer" };
    }
}

/** The open instrument: everything that is shown to who may look. */
class Look {
    #token;
    #lock;
    #root;
    #instrument;
    #feed;
    #next = 0;
    #asking = false;
    #askedAt = 0;
    #ticker;

    /**
     * @param {string|null} token
     * @param {object} status the hub's first answer
     * @param {(why: string) => void} onUseless called when the token is good for nothing any more
     */
    constructor(token, status, onUseless) {
        this.#token = token;
        this.#lock = onUseless;
        this.#root = document.createElement("div");
        this.#root.append(document.querySelector("#instrument").content.cloneNode(true));
        body.append(this.#root);
        this.#instrument = new Instrument(this.#root);
        this.#feed = new Feed(this.#root, token, {
            onUnauthorized: () => this.#refused(),
            onTokenExpiring: (seconds) => this.#expiring(seconds),
            onChange: () => this.#soon(),
        });
        this.#show(status);
        const signOut = this.#root.querySelector("#sign-out");
        signOut.hidden = token === null;
        signOut.addEventListener("click", () => this.#lock(""));
        document.addEventListener("visibilitychange", this.#visible);
        this.#ticker = setInterval(() => this.#tick(), TICK);
        this.#later(REFRESH);
    }

    /** Take everything away that was shown. */
    close() {
        document.removeEventListener("visibilitychange", this.#visible);
        clearInterval(this.#ticker);
        clearTimeout(this.#next);
        this.#feed.close();
        this.#root.remove();
        this.#token = null;
        this.#lock = () => {};
    }

    #refused() {
        this.#lock(
            this.#token === null ? "" : "The hub does not accept this token any more. It may have expired.",
        );
    }

    #expiring(seconds) {
        this.#root.querySelector("#notice").hidden = false;
        put(
            this.#root,
            "#notice",
            `The token expires in ${Math.round(seconds)} s. Then this page will ask for another one.`,
        );
    }

    #tick() {
        if (document.hidden) return;
        this.#instrument.tick();
        this.#feed.tick();
    }

    #visible = () => {
        if (!document.hidden) this.#soon();
    };

    /** Something happened: ask at once, but never more often than the least pause allows. */
    #soon() {
        if (this.#asking || document.hidden) return;
        this.#later(Math.max(0, this.#askedAt + LEAST_PAUSE - performance.now()));
    }

    #later(milliseconds) {
        clearTimeout(this.#next);
        this.#next = setTimeout(() => this.#refresh(), milliseconds);
    }

    async #refresh() {
        if (this.#asking) return;
        if (document.hidden) return this.#later(REFRESH);
        this.#asking = true;
        this.#askedAt = performance.now();
        const { status, refused } = await ask(this.#token);
        this.#asking = false;
        // Closed while the question was under way.
        if (!this.#root.isConnected) return;
        if (refused) return this.#refused();
        if (status) this.#show(status);
        this.#later(REFRESH);
    }

    #show(status) {
        this.#instrument.show(status, this.#feed.connectionId);
        document.title = titleOf(status);
    }
}

function titleOf({ state, account }) {
    const standing = state === "CONNECTED" ? "Connected" : `Not connected (${state.toLowerCase()})`;
    return `${standing}: ${account}, trio_signal hub`;
}

const door = document.querySelector("#door");
const waiting = document.querySelector("#waiting");
const field = document.querySelector("#token");
const fault = document.querySelector("#token-fault");

/** Show the instrument instead of whatever was shown. */
function open(token, status) {
    waiting.hidden = door.hidden = true;
    const look = new Look(token, status, (why) => {
        look.close();
        lock(why);
    });
}

/** Show the form and nothing else. */
function lock(why) {
    document.title = "trio_signal hub";
    waiting.hidden = true;
    door.hidden = false;
    field.value = "";
    fault.textContent = why;
    field.focus();
}

document.querySelector("#token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const token = field.value.trim();
    field.value = "";
    const button = document.querySelector("#token-button");
    if (!/^[\x21-\x7e]+$/.test(token)) return lock("This is no token: it has characters that none can have.");
    button.disabled = true;
    fault.textContent = "";
    const { status, refused, fault: trouble } = await ask(token);
    button.disabled = false;
    if (status) return open(token, status);
    lock(refused ? "The hub does not accept this token." : `The token could not be tried: ${trouble}.`);
});

/** At first nobody knows whether a token is needed: ask without one until the hub says. */
async function knock() {
    const { status, refused, fault: trouble } = await ask(null);
    if (status) return open(null, status);
    if (refused) return lock("");
    waiting.hidden = false;
    put(waiting, "#waiting-text", `Trying again every ${REFRESH / 1000} seconds: ${trouble}.`);
    setTimeout(knock, REFRESH);
}

knock();
