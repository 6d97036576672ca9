// Sockets of libzmq 4.3.5 with its draft types and WebSocket, through npm's zeromq, driven as
// peer.py is: a command as JSON on each line of the standard input, an answer on each line of the
// standard output. Options have the names of zeromq.js.
"use strict";
const { createRequire } = require("module");
const from = createRequire(process.argv[1] + "/");
const zmq = { ...from("zeromq"), ...from("zeromq/draft") };
// Types without a class in the package, with their numbers in zmq.h.
const unnamed = { Peer: 19, Channel: 20 };
const RCVTIMEO = 27;
const SNDTIMEO = 28;
const { createHash } = require("crypto");

const maxHex = 128 << 10;
const sockets = new Map();

const pattern = (n) => createHash("shake128", { outputLength: n }).update(String(n)).digest();
const decode = (b) => ("pattern" in b ? pattern(b.pattern) : Buffer.from(b.hex ?? "", "hex"));
const encode = (b) => {
  if (b.length <= maxHex) return { hex: b.toString("hex") };
  if (b.equals(pattern(b.length))) return { pattern: b.length };
  return { hex: createHash("sha256").update(b).digest("hex"), hashed: true };
};

const again = async (call) => {
  try {
    return { ok: true, value: await call() };
  } catch (e) {
    if (e.code === "EAGAIN") return { ok: false };
    throw e;
  }
};

const commands = {
  socket({ name, type, options }) {
    const s = type in unnamed ? new zmq.Socket(unnamed[type]) : new zmq[type]();
    s.linger = 0;
    sockets.set(name, s);
    for (const [option, value] of Object.entries(options ?? {})) {
      s[option] = value?.hex === undefined ? value : decode(value);
    }
  },
  async bind({ name, endpoint }) {
    const s = sockets.get(name);
    await s.bind(endpoint);
    return { endpoint: s.lastEndpoint };
  },
  connect({ name, endpoint }) {
    sockets.get(name).connect(endpoint);
  },
  disconnect({ name, endpoint }) {
    sockets.get(name).disconnect(endpoint);
  },
  // Subscribes a SUB, or lets a DISH join.
  subscribe({ name, topic }) {
    const s = sockets.get(name);
    // Dish.join of 6.8.0 calls the method below without the socket.
    if (s instanceof zmq.Dish) zmq.Socket.prototype.join.call(s, decode(topic));
    else s.subscribe(decode(topic));
  },
  // Admits everybody: a PLAIN server of libzmq needs an authenticator (RFC 27).
  async zap() {
    const s = new zmq.Reply({ linger: 0 });
    await s.bind("inproc://zeromq.zap.01");
    (async () => {
      for await (const [version, id] of s) await s.send([version, id, "200", "", "", ""]);
    })();
  },
  close({ name }) {
    sockets.get(name).close();
    sockets.delete(name);
  },
  // Sends one message; false if there was no room for it in timeout ms. For RADIO and SERVER the
  // first part is the group or the id of the peer in decimal digits.
  async send({ name, parts, timeout }) {
    const s = sockets.get(name);
    s.setInt32Option(SNDTIMEO, timeout);
    const all = parts.map(decode);
    return again(() => {
      if (s instanceof zmq.Radio) return s.send(all[1], { group: all[0] });
      if (s instanceof zmq.Server) return s.send(all[1], { routingId: Number(all[0].toString()) });
      return s.send(all);
    });
  },
  // Receives one message within timeout ms, for DISH and SERVER with the group or the id.
  async recv({ name, timeout }) {
    const s = sockets.get(name);
    s.setInt32Option(RCVTIMEO, timeout);
    const { ok, value } = await again(() => s.receive());
    if (!ok) return { ok };
    let parts = [...value];
    if (s instanceof zmq.Dish) parts = [value[1].group, value[0]];
    if (s instanceof zmq.Server) parts = [Buffer.from(String(value[1].routingId)), value[0]];
    return { ok, parts: parts.map(encode) };
  },
};

let last = Promise.resolve();
require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    last = last.then(async () => {
      const { op, ...args } = JSON.parse(line);
      let answer;
      try {
        answer = (await commands[op](args)) ?? {};
        delete answer.value;
      } catch (e) {
        answer = { error: String(e.message) };
      }
      process.stdout.write(JSON.stringify(answer) + "\n");
    });
  })
  .on("close", () => process.exit(0));
