/** Times, amounts and words as the page shows them. Pure. */

/** Between a number and its unit, so that no line ends there. */
const UNIT_SPACE = "\u00a0";

const GROUPED = new Intl.NumberFormat("en");
const DAY_AND_MONTH = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

const two = (number) => String(number).padStart(2, "0");

/** A whole number with its thousands parted: `12,345`. */
export const count = (number) => GROUPED.format(number);

/** The same with its noun: `1 message`, `12,345 messages`. */
export const counted = (number, noun) => `${count(number)} ${noun}${number === 1 ? "" : "s"}`;

/** The time of day, with the date where it is not today's: `09:12:40`, `21 Nov 09:12:40`. */
export function clock(milliseconds) {
    const time = new Date(milliseconds);
    const text = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
    const today = time.toDateString() === new Date().toDateString();
    return today ? text : `${DAY_AND_MONTH.format(time)} ${text}`;
}

/** A time for an axis: `09:12`. */
export function hourAndMinute(milliseconds) {
    const time = new Date(milliseconds);
    return `${two(time.getHours())}:${two(time.getMinutes())}`;
}

/** A length of time in its two largest units: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `12 d 3 h`. */
export function duration(seconds) {
    if (seconds < 0.95) return `${Math.max(0, seconds).toFixed(1)}${UNIT_SPACE}s`;
    const whole = Math.round(seconds);
    if (whole < 60) return `${whole}${UNIT_SPACE}s`;
    if (whole < 3600) return pair(whole, 60, "min", 1, "s");
    if (whole < 86_400) return pair(whole, 3600, "h", 60, "min");
    return pair(whole, 86_400, "d", 3600, "h");
}

function pair(seconds, large, largeName, small, smallName) {
    const rest = Math.floor((seconds % large) / small);
    const whole = `${count(Math.floor(seconds / large))}${UNIT_SPACE}${largeName}`;
    return rest ? `${whole} ${rest}${UNIT_SPACE}${smallName}` : whole;
}

/** An amount of memory: `312 B`, `4.2 KiB`, `64 MiB`. */
export function bytes(amount) {
    let [value, unit] = [amount, "B"];
    for (const next of ["KiB", "MiB", "GiB"]) {
        if (value < 1024) break;
        [value, unit] = [value / 1024, next];
    }
    const digits = value < 100 && !Number.isInteger(value) ? 1 : 0;
    return `${value.toFixed(digits)}${UNIT_SPACE}${unit}`;
}

/** At most so many characters; what is left out is said. */
export function shortened(text, most) {
    if (text.length <= most) return text;
    // A pair of surrogates is one character and must not be cut in two.
    const end = /[\ud800-\udbff]/.test(text[most - 1]) ? most - 1 : most;
    return `${text.slice(0, end)} … (${count(text.length)} characters)`;
}

/** Control characters become visible, so that they neither vanish nor act. Line ends and tabs stay. */
export function visible(text) {
    return text.replace(/[\u0000-\u0008\u000b-\u001f]/g, (character) =>
        String.fromCharCode(0x2400 + character.charCodeAt(0)),
    );
}

/** The names of the states as the page writes them. */
export const STATE_WORDS = Object.freeze({
    CONNECTED: "Connected",
    SYNCING: "Syncing",
    RECONNECTING: "Reconnecting",
    DISCONNECTED: "Disconnected",
    UNKNOWN: "Unknown",
});

const CHANGE_REASONS = {
    start: "first attempt",
    retry: "next attempt",
    link_up: "the connection stands",
    synchronised: "nothing is missing any more",
    hole: "a message was passed over",
    attempt_failed: "the attempt failed",
    refused: "the credentials were refused",
    closed_by_gateway: "closed by the other side",
    connection_lost: "the connection was lost",
    no_answer: "no answer",
    gateway_stalled: "the gateway fell silent",
    permanent: "this will not pass by itself",
    client_closed: "closed",
};

const GAP_REASONS = {
    gateway: "the gateway keeps nothing while the hub is away",
    stalled: "the gateway answered but delivered nothing",
    overflow: "more came than could be taken in",
    epoch_changed: "the hub began a new log",
    expired: "the hub kept them for a time, and that is over",
    overwritten: "more came than the hub keeps",
    undecodable: "what the hub sent is of a kind that this page does not know",
};

const words = (table, reason) =>
    Object.hasOwn(table, reason) ? table[reason] : String(reason).replaceAll("_", " ");

/** Why a state changed, in words. */
export const changeReason = (reason) => words(CHANGE_REASONS, reason);

/** Why messages may be missing, in words. */
export const gapReason = (reason) => words(GAP_REASONS, reason);
