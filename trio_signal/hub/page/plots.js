/** The drawings: a strip of states over time, bars of counts, a meter. Plain SVG in CSS pixels. */

import { STATE_WORDS, clock, count, hourAndMinute } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const MINUTE = 60_000;
const TICK_STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720].map((minutes) => minutes * MINUTE);
const LANES = ["CONNECTED", "SYNCING", "RECONNECTING", "DISCONNECTED"];
const LANE_HEIGHT = 24;
const AXIS_HEIGHT = 26;

function element(name, attributes, text) {
    const node = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    return node;
}

/**
 * Draw into an SVG element at its true width now, and again whenever that changes.
 *
 * @param {SVGElement} svg
 * @param {(width: number) => {height: number, label: string, parts: SVGElement[]}} draw
 * @returns {() => void} draws again
 */
export function plot(svg, draw) {
    const redraw = () => {
        const width = svg.clientWidth;
        if (width === 0) return;
        const { height, label, parts } = draw(width);
        svg.setAttribute("height", height);
        svg.setAttribute("role", "img");
        svg.setAttribute("aria-label", label);
        svg.replaceChildren(...parts);
    };
    new ResizeObserver(redraw).observe(svg);
    return redraw;
}

/**
 * States over time, a lane for each, so that the place tells what the colour tells.
 *
 * @param {number} width in pixels
 * @param {{time: number, state: string}[]} changes oldest first
 * @param {number} from the time at the left edge, in milliseconds
 * @param {number} until the time at the right edge
 * @param {number} known up to when the states are known
 */
export function strip(width, changes, from, until, known) {
    const left = 116;
    const height = LANES.length * LANE_HEIGHT;
    const x = (time) => left + ((Math.max(time, from) - from) / (until - from)) * (width - left);
    const begin = changes.length ? Math.max(from, changes[0].time) : until;
    const parts = [...lanes(left, width), ...timeAxis(x, from, until, height)];
    if (begin > from) parts.push(...unrecorded(x(from), x(begin), height));
    if (known < until) parts.push(...unrecorded(x(known), x(until), height));
    for (const { state, start, end } of spans(changes, known)) {
        const lane = LANES.indexOf(state);
        if (lane < 0 || end < from) continue;
        // The shortest outage must be seen, however long the strip is.
        const wide = Math.max(x(end) - x(start), 2);
        const place = {
            x: Math.min(x(start), width - wide),
            y: lane * LANE_HEIGHT + 5,
            width: wide,
            height: LANE_HEIGHT - 10,
        };
        parts.push(element("rect", { ...place, class: "span", "data-state": state }));
    }
    return { height: height + AXIS_HEIGHT, label: stripLabel(changes, from, until), parts };
}

function* spans(changes, until) {
    for (const [index, { time, state }] of changes.entries()) {
        yield { state, start: time, end: changes[index + 1]?.time ?? until };
    }
}

function lanes(left, width) {
    return LANES.flatMap((state, lane) => {
        const y = lane * LANE_HEIGHT + LANE_HEIGHT / 2;
        return [
            element("text", { x: 0, y: y + 5, class: "tick" }, STATE_WORDS[state]),
            element("line", { x1: left, x2: width, y1: y, y2: y, class: "lane" }),
        ];
    });
}

function unrecorded(start, end, height) {
    const parts = [element("rect", { x: start, y: 0, width: end - start, height, class: "unrecorded" })];
    if (end - start < 90) return parts;
    const place = { x: (start + end) / 2, y: height / 2 + 5, class: "tick", "text-anchor": "middle" };
    return [...parts, element("text", place, "no record")];
}

function timeAxis(x, from, until, y) {
    const most = Math.max(2, Math.floor((x(until) - x(from)) / 90));
    const step = TICK_STEPS.find((each) => (until - from) / each <= most) ?? TICK_STEPS.at(-1);
    const shift = new Date(until).getTimezoneOffset() * MINUTE;
    const parts = [];
    for (let time = Math.ceil((from - shift) / step) * step + shift; time <= until; time += step) {
        parts.push(element("line", { x1: x(time), x2: x(time), y1: 0, y2: y + 4, class: "grid" }));
        if (x(until) - x(time) < 64) continue;
        parts.push(
            element(
                "text",
                { x: x(time), y: y + 20, class: "tick", "text-anchor": "middle" },
                hourAndMinute(time),
            ),
        );
    }
    parts.push(element("text", { x: x(until), y: y + 20, class: "tick", "text-anchor": "end" }, "now"));
    return parts;
}

function stripLabel(changes, from, until) {
    const inside = changes.filter(({ time }) => time > from).length;
    const last = changes.length ? STATE_WORDS[changes.at(-1).state] : "no record";
    return `States from ${clock(from)} to ${clock(until)}: ${inside} changes, now ${last}.`;
}

/**
 * Counts over the last minutes as bars, the newest at the right.
 *
 * @param {number} width in pixels
 * @param {number[]} counts oldest first
 * @param {number} interval seconds that each of them stands for
 * @param {string} name what is counted
 */
export function bars(width, counts, interval, name) {
    const top = niceCeiling(Math.max(0, ...counts));
    const left = 10 + 9 * count(top).length;
    const [head, height] = [10, 84];
    const y = (value) => head + height * (1 - value / top);
    const pitch = (width - left) / Math.max(1, counts.length);
    const parts = [top, top / 2, 0].flatMap((value) => level(value, y(value), left, width));
    counts.forEach((value, index) => {
        if (value === 0) return;
        const tall = Math.max(2, y(0) - y(value));
        const place = {
            x: left + index * pitch + 0.5,
            y: y(0) - tall,
            width: Math.max(1, pitch - 1),
            height: tall,
        };
        parts.push(element("rect", { ...place, class: "bar" }));
    });
    const minutes = Math.round((counts.length * interval) / 60);
    const below = head + height + 20;
    parts.push(element("text", { x: left, y: below, class: "tick" }, `${minutes} min ago`));
    parts.push(element("text", { x: width, y: below, class: "tick", "text-anchor": "end" }, "now"));
    return { height: below + 6, label: barsLabel(counts, interval, name), parts };
}

function level(value, y, left, width) {
    const line = element("line", { x1: left, x2: width, y1: y, y2: y, class: "grid" });
    if (!Number.isInteger(value)) return [line];
    return [
        element("text", { x: left - 6, y: y + 5, class: "tick", "text-anchor": "end" }, count(value)),
        line,
    ];
}

function barsLabel(counts, interval, name) {
    const sum = counts.reduce((total, value) => total + value, 0);
    const minutes = Math.round((counts.length * interval) / 60);
    const peak = `at most ${count(Math.max(0, ...counts))} in ${interval} s`;
    return `${name}: ${count(sum)} in ${minutes} minutes, ${peak}.`;
}

/** The next of 1, 2, 4, 6, 10, 20, 40, … that is not below: figures that halve well. */
function niceCeiling(value) {
    if (value <= 2) return 2;
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 4, 6, 10].map((factor) => factor * power).find((each) => each >= value);
}

/** Fill a meter: an SVG with one bar, read out as `label`. */
export function meter(svg, value, most, label) {
    const share = most > 0 ? Math.min(1, value / most) : 0;
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", label);
    svg.toggleAttribute("data-full", share >= 0.8);
    const bar = svg.querySelector("rect") ?? svg.appendChild(element("rect", { height: "100%" }));
    bar.setAttribute("width", `${share * 100}%`);
}
