// Broadcasting with ws on Node.js: each text handed to one client after the other.
//
//     node node_ws.cjs FOLDER-OF-WS CLIENTS BEAT
//
// Every BEAT ms each client is sent a ping, and whoever has not answered the last one is hung up on; 0 is never.
// Says "port N", then "attended" once so many clients have come. Standard input has "messages N" and so many
// lines, each a text; then as often as wanted "broadcast FROM TO PAUSE", which is answered by "done". PAUSE,
// in ms, is after each text. Ends with standard input.
'use strict';

const { createInterface } = require('node:readline');
const { setImmediate: turn, setTimeout: sleep } = require('node:timers/promises');
const { WebSocketServer } = require(process.argv[2]);

const [clients, beat] = process.argv.slice(3).map(Number);
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, backlog: 1024, perMessageDeflate: false });
server.on('listening', () => console.log(`port ${server.address().port}`));
server.on('connection', (socket) => {
    socket.on('error', () => socket.terminate());
    socket.answered = true;
    socket.on('pong', () => (socket.answered = true));
    if (server.clients.size === clients) console.log('attended');
});

function ping() {
    for (const client of server.clients) {
        if (!client.answered) client.terminate();
        client.answered = false;
        client.ping();
    }
}

async function broadcast(messages, pause) {
    for (const message of messages) {
        for (const client of server.clients) client.send(message, { binary: false });
        await (pause ? sleep(pause) : turn());
    }
}

async function main() {
    if (beat) setInterval(ping, beat);
    const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
    const next = async () => (await lines.next()).value;
    const messages = [];
    for (let line = await next(); line !== undefined; line = await next()) {
        const [command, ...numbers] = line.split(' ');
        const [first, end, pause] = numbers.map(Number);
        if (command === 'messages') {
            while (messages.length < first) messages.push(Buffer.from(await next()));
        } else {
            await broadcast(messages.slice(first, end), pause);
            console.log('done');
        }
    }
    process.exit(0);
}

main();
