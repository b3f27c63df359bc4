/** What a frame of the gateway says to people. Pure. Nothing in a frame is trusted, not even its shape. */

import { shortened, visible } from "./format.js";

const MOST_CHARACTERS = 600;
const MOST_NAME_CHARACTERS = 80;

const object = (value) => (typeof value === "object" && value !== null ? value : {});
const list = (value) => (Array.isArray(value) ? value : []);
const text = (value) => (typeof value === "string" ? value : "");
const name = (value) => shortened(visible(text(value)), MOST_NAME_CHARACTERS);

/**
 * @param {unknown} data the gateway's frame
 * @returns {{who: string, number: string, kind: string, text: string, raw: boolean}} `raw`: the text is the
 *   frame itself, since nobody knows what it means
 */
export function describe(data) {
    const envelope = object(object(data).envelope);
    const [kind, body] = content(envelope, object(data));
    const number = name(envelope.sourceNumber) || name(envelope.source) || name(envelope.sourceUuid);
    const raw = kind === "";
    const said = raw ? unreadable(data) : body;
    return {
        who: name(envelope.sourceName),
        number,
        kind: raw ? "not understood" : kind,
        text: shortened(visible(said), MOST_CHARACTERS),
        raw,
    };
}

function unreadable(data) {
    return typeof data === "string" ? data : JSON.stringify(data);
}

/** The kind of content, "" where there is none that is known, and what it says. */
function content(envelope, frame) {
    if (envelope.dataMessage) return letter(object(envelope.dataMessage), "message");
    if (envelope.editMessage) return letter(object(object(envelope.editMessage).dataMessage), "edit");
    if (envelope.syncMessage) return fromOwnDevice(object(envelope.syncMessage));
    if (envelope.receiptMessage) return receipt(object(envelope.receiptMessage));
    if (envelope.typingMessage) return ["typing", text(object(envelope.typingMessage).action).toLowerCase()];
    if (envelope.callMessage) return ["call", ""];
    if (envelope.storyMessage) return ["story", ""];
    if (frame.exception) return ["could not be read", text(object(frame.exception).message)];
    if (typeof frame.error === "string") return ["error of the gateway", frame.error];
    return ["", ""];
}

/** Kinds of letters that carry no text of their own, by the field that marks them. */
const MARKED = {
    reaction: ({ emoji, isRemove }) => [isRemove ? "reaction withdrawn" : "reaction", text(emoji)],
    remoteDelete: () => ["deletion", ""],
    adminDelete: () => ["deletion by an administrator", ""],
    sticker: ({ emoji }) => ["sticker", text(emoji)],
    pollCreate: ({ question }) => ["poll", text(question)],
    pollVote: () => ["vote", ""],
    pollTerminate: () => ["end of a poll", ""],
    pinMessage: () => ["pinned", ""],
    unpinMessage: () => ["unpinned", ""],
};

function letter(message, plain) {
    const group = object(message.groupInfo);
    const where = message.groupInfo ? ` in ${name(group.groupName) || "a group"}` : "";
    const mark = Object.keys(MARKED).find((key) => message[key]);
    if (mark !== undefined) {
        const [kind, said] = MARKED[mark](object(message[mark]));
        return [kind + where, said];
    }
    if (group.type === "UPDATE") return [`change${where}`, ""];
    const files = list(message.attachments).length;
    const more = files ? `, ${files} attachment${files === 1 ? "" : "s"}` : "";
    return [plain + where + more, text(message.message)];
}

function fromOwnDevice(sync) {
    if (!sync.sentMessage) return ["from another device of ours", ""];
    const sent = object(sync.sentMessage);
    const to = name(sent.destinationNumber) || name(sent.destination);
    const edited = object(sent.editMessage).dataMessage;
    const [kind, said] = edited ? letter(object(edited), "edit") : letter(sent, "message");
    return [`${kind} of ours${to ? ` to ${to}` : ""}`, said];
}

function receipt(message) {
    const what = ["isDelivery", "isRead", "isViewed"].filter((key) => message[key] === true);
    return ["receipt", what.map((key) => key.slice(2).toLowerCase()).join(", ")];
}
