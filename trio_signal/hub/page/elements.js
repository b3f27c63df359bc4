/** Small work on the page's elements that more than one module does. */

import { STATE_WORDS } from "./format.js";

/** Set an element's text, and only if it differs: what did not change is neither read out nor unselected. */
export function put(root, selector, text) {
    const node = root.querySelector(selector);
    if (node.textContent !== text) node.textContent = text;
}

/** Show a state by its word, shape and colour. */
export function showState(root, selector, state) {
    const node = root.querySelector(selector);
    if (node.dataset.state === state) return;
    node.dataset.state = state;
    node.querySelector("span").textContent = STATE_WORDS[state];
    node.querySelector("use").setAttribute("href", `#glyph-${state.toLowerCase()}`);
}

/** One of the shapes of the page's symbols. */
export function glyph(name) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("class", "glyph");
    svg.setAttribute("aria-hidden", "true");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", `#glyph-${name}`);
    svg.append(use);
    return svg;
}

/** A new element with a text in it. */
export function part(tag, className, text) {
    const node = document.createElement(tag);
    node.className = className;
    node.textContent = text;
    return node;
}

/** A block for text from outside: a paragraph of its own, so that direction marks in it end with it. */
export function outside(tag, className, text) {
    const node = part(tag, `outside ${className}`, text);
    node.dir = "auto";
    return node;
}
