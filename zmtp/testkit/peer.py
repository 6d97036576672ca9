"""Sockets of libzmq, driven from outside.

Each line of the standard input is a command, a JSON object whose "op" names a method of Peer below; each is answered with one
line, an object too, which has "error" if the command failed. Commands are carried out in order. Between them the peer
touches its sockets now and then, as an application with an event loop does: libzmq acts on much only when it is called.
The end of the standard input ends the process.

Bytes are {"hex": ...}, or {"pattern": N} for N bytes that both sides can make themselves.
"""

import functools
import hashlib
import json
import os
import select
import sys
import threading
import time

import zmq
import zmq.auth.thread

MAX_HEX = 128 << 10
IDLE = 0.02  # seconds between two touches
# Options that pyzmq knows in its draft builds only, or not at all.
CODES = {"METADATA": 95, "XPUB_MANUAL_LAST_VALUE": 98, "ONLY_FIRST_SUBSCRIBE": 108, "RECONNECT_STOP": 109}


@functools.lru_cache
def pattern(n):
    return hashlib.shake_128(str(n).encode()).digest(n)


def decode(b):
    return pattern(b["pattern"]) if "pattern" in b else bytes.fromhex(b.get("hex", ""))


def encode(b):
    if len(b) <= MAX_HEX:
        return {"hex": b.hex()}
    if b == pattern(len(b)):
        return {"pattern": len(b)}
    return {"hex": hashlib.sha256(b).hexdigest(), "hashed": True}


class Peer:
    def __init__(self):
        self.context = zmq.Context()
        self.sockets = {}
        self.monitors = {}

    def socket(self, name, type, options):
        s = self.context.socket(getattr(zmq, type))
        s.linger = 0
        self.sockets[name] = s
        for option, value in options.items():
            self.set(name, option, value)

    def set(self, name, option, value):
        code = CODES.get(option) or getattr(zmq, option)
        self.sockets[name].setsockopt(code, decode(value) if isinstance(value, dict) else value)

    def passwords(self, passwords):
        """Starts a ZAP handler for PLAIN."""
        self.auth = zmq.auth.thread.ThreadAuthenticator(self.context)
        self.auth.start()
        self.auth.configure_plain(domain="*", passwords=passwords)

    def defaults(self, type, options):
        """The values of options of a new socket."""
        s = self.context.socket(getattr(zmq, type))
        values = [s.getsockopt(CODES.get(o) or getattr(zmq, o)) for o in options]
        s.close(linger=0)
        return {"values": values}

    def bind(self, name, endpoint):
        """Binds, when whoever had the endpoint before has gone: a socket that is closed is so only some time later."""
        deadline = time.monotonic() + 30
        while True:
            try:
                self.sockets[name].bind(endpoint)
                break
            except zmq.ZMQError as e:
                if e.errno != zmq.EADDRINUSE or time.monotonic() > deadline:
                    raise
                time.sleep(IDLE)
        return {"endpoint": self.sockets[name].getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()}

    def connect(self, name, endpoint):
        self.sockets[name].connect(endpoint)

    def unbind(self, name, endpoint):
        self.sockets[name].unbind(endpoint)

    def disconnect(self, name, endpoint):
        self.sockets[name].disconnect(endpoint)

    def close(self, name, linger):
        self.sockets.pop(name).close(linger=linger)

    def send(self, name, parts, timeout):
        """Sends one message; false if there was no room for it in timeout ms."""
        s = self.sockets[name]
        s.sndtimeo = timeout
        try:
            s.send_multipart([decode(p) for p in parts])
        except zmq.Again:
            return {"ok": False}
        return {"ok": True}

    def recv(self, name, timeout):
        """Receives one message within timeout ms."""
        s = self.sockets[name]
        if not s.poll(timeout):
            return {"ok": False}
        frames = s.recv_multipart(copy=False)
        return {"ok": True, "parts": [encode(f.bytes) for f in frames]}

    def property(self, name, property, timeout):
        """Receives one message and returns a property of its connection."""
        s = self.sockets[name]
        if not s.poll(timeout):
            return {"ok": False}
        frame = s.recv(copy=False)
        while frame.more:
            frame = s.recv(copy=False)
        return {"ok": True, "text": frame.get(property)}

    def burst(self, name, prefix, first, n, size, timeout):
        """Sends the parts of prefix, a number and size bytes, n times or until there is no room for timeout ms."""
        s = self.sockets[name]
        s.sndtimeo = timeout
        prefix = [decode(p) for p in prefix]
        for i in range(first, first + n):
            try:
                s.send_multipart(prefix + [b"%d" % i, bytes(size)])
            except zmq.Again:
                return {"n": i - first}
        return {"n": n}

    def tally(self, name, n, timeout):
        """Receives what burst sends, n messages or until none comes for timeout ms: {source: [numbers]}."""
        s = self.sockets[name]
        sources = {}
        for _ in range(n):
            if not s.poll(timeout):
                break
            parts = s.recv_multipart()
            sources.setdefault(parts[-3].decode(), []).append(int(parts[-2]))
        return {"sources": sources}

    def flood(self, name, parts, size):
        """Sends messages of equal parts, part by part, until nobody takes them any more."""
        s = self.sockets[name]
        s.sndtimeo = 30000
        i = 0
        while True:
            part = b"%d." % i + bytes(size)
            for k in range(parts):
                s.send(part, zmq.SNDMORE if k + 1 < parts else 0)
            i += 1

    def monitor(self, name):
        address = "inproc://monitor-" + name
        self.sockets[name].monitor(address, zmq.EVENT_ALL)
        m = self.context.socket(zmq.PAIR)
        m.linger = 0
        m.connect(address)
        self.monitors[name] = m

    def event(self, name, timeout):
        """The next event of a socket."""
        m = self.monitors[name]
        if not m.poll(timeout):
            return {"ok": False}
        head, endpoint = m.recv_multipart()
        return {
            "ok": True,
            "event": int.from_bytes(head[:2], sys.byteorder),
            "value": int.from_bytes(head[2:], sys.byteorder),
            "endpoint": endpoint.decode(),
        }

    def proxy(self, xsub, xpub):
        """A broker as Zeek's, which runs for ever."""
        inner = self.context.socket(zmq.XSUB)
        outer = self.context.socket(zmq.XPUB)
        outer.setsockopt(zmq.XPUB_VERBOSER, 1)
        outer.setsockopt(zmq.XPUB_NODROP, 1)
        ends = []
        for s, endpoint in (inner, xsub), (outer, xpub):
            s.linger = 0
            s.bind(endpoint)
            ends.append(s.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode())
        threading.Thread(target=zmq.proxy, args=(inner, outer), daemon=True).start()
        return {"endpoints": ends}

    def touch(self):
        for s in self.sockets.values():
            s.getsockopt(zmq.EVENTS)


def main():
    peer = Peer()
    pending = b""
    while True:
        line, newline, rest = pending.partition(b"\n")
        if not newline:
            if select.select([0], [], [], IDLE)[0]:
                more = os.read(0, 1 << 16)
                if not more:
                    os._exit(0)
                pending += more
            else:
                peer.touch()
            continue
        pending = rest
        command = json.loads(line)
        try:
            answer = getattr(peer, command.pop("op"))(**command) or {}
        except zmq.ZMQError as e:
            answer = {"error": str(e)}
        print(json.dumps(answer), flush=True)


main()
