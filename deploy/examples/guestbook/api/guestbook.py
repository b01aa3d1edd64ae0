#!/usr/bin/env python3
"""The guestbook's application tier: JSON over HTTP in front, Redis behind. Standard library only.

  GET  /api/entries?limit=N   the newest entries, oldest first
  POST /api/entries           {"name": ..., "message": ...}; with the same Idempotency-Key twice it is stored once
  GET  /healthz               the process answers
  GET  /readyz                Redis answers, too

While Redis is away (restarted, moved, loading), requests wait for it for a moment instead of failing; then they
are answered 503, upon which nginx asks again: see web/nginx.conf.
"""

import contextlib
import datetime
import http.server
import json
import os
import queue
import signal
import socket
import sys
import threading
import time
import urllib.parse
import uuid

PATIENCE = 3.0  # seconds that a request waits for Redis; less than nginx' proxy_read_timeout
PER_CALL = 1.0  # seconds for one connection or one answer
PAUSE = 0.1
BODY_LIMIT = 16 * 1024
LIMITS = {"name": 100, "message": 2000}

# Stores an entry unless its key was seen in the last day: one atomic step, so a repeated request does no harm.
SIGN = """
if redis.call('SET', KEYS[1], '', 'NX', 'EX', 86400) then
    redis.call('RPUSH', KEYS[2], ARGV[1])
    redis.call('LTRIM', KEYS[2], -tonumber(ARGV[2]), -1)
    return 1
end
return 0
"""


class ErrorReply(Exception):
    """Redis understood us and said no."""


class Unavailable(Exception):
    """Redis did not answer in time."""


class Connection:
    """One authenticated connection that speaks RESP2."""

    def __init__(self, address, password):
        self.socket = socket.create_connection(address, timeout=PER_CALL)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.socket.makefile("rb")
        if password:
            self.call("AUTH", password)

    def call(self, *words):
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(encoded)]
        parts += [b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded]
        self.socket.sendall(b"".join(parts))
        return self.reply()

    def reply(self):
        line = self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("Redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest
        if kind == b"-":
            raise ErrorReply(rest.decode(errors="replace"))
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return self.bulk(int(rest))
        if kind == b"*":
            return [self.reply() for _ in range(int(rest))]
        raise ConnectionError(f"Redis sent {line!r}")

    def bulk(self, size):
        if size < 0:
            return None
        data = self.reader.read(size + 2)
        if len(data) != size + 2:
            raise ConnectionError("Redis closed the connection")
        return data[:-2]

    def close(self):
        with contextlib.suppress(OSError):
            self.reader.close()
            self.socket.close()


class Redis:
    """Connections that are kept for reuse, and patience while there are none to be had."""

    def __init__(self, address, password):
        self.address, self.password = address, password
        self.idle = queue.LifoQueue(maxsize=16)

    def call(self, *words, patience=PATIENCE):
        """Sends a command that may be repeated safely; raises Unavailable when Redis is away for too long."""
        end = time.monotonic() + patience
        while True:
            try:
                return self.once(words)
            except ErrorReply as error:
                # Started, but still reading its file.
                if not str(error).startswith(("LOADING", "BUSY ")):
                    raise
                problem = error
            except (OSError, ConnectionError) as error:
                problem = error
            if time.monotonic() + PAUSE >= end:
                raise Unavailable(f"Redis at {self.address[0]}:{self.address[1]}: {problem}")
            time.sleep(PAUSE)

    def once(self, words):
        try:
            connection = self.idle.get_nowait()
        except queue.Empty:
            connection = Connection(self.address, self.password)
        try:
            answer = connection.call(*words)
        except ErrorReply:
            self.keep(connection)
            raise
        except BaseException:
            connection.close()
            # The others are as old, and probably as dead.
            with contextlib.suppress(queue.Empty):
                while True:
                    self.idle.get_nowait().close()
            raise
        self.keep(connection)
        return answer

    def keep(self, connection):
        try:
            self.idle.put_nowait(connection)
        except queue.Full:
            connection.close()


class BadRequest(Exception):
    """What the client did wrong, in a sentence."""


class Guestbook:
    """The entries: a list in Redis."""

    def __init__(self, redis, limit):
        self.redis, self.limit = redis, limit

    def sign(self, key, fields):
        entry = {"id": key, **fields, "at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")}
        keys = (f"guestbook:seen:{key}", "guestbook:entries")
        new = self.redis.call("EVAL", SIGN, len(keys), *keys, json.dumps(entry), self.limit)
        return entry, bool(new)

    def newest(self, count):
        return [json.loads(entry) for entry in self.redis.call("LRANGE", "guestbook:entries", -count, -1)]


def fields_of(body):
    try:
        value = json.loads(body)
    except ValueError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest("the body must be a JSON object")
    fields = {}
    for field, limit in LIMITS.items():
        text = value.get(field)
        if not isinstance(text, str) or not text.strip():
            raise BadRequest(f"{field}: a text is required")
        if len(text) > limit:
            raise BadRequest(f"{field}: at most {limit} characters, not {len(text)}")
        fields[field] = text.strip()
    return fields


class Handler(http.server.BaseHTTPRequestHandler):
    server_version = "guestbook"
    sys_version = ""
    timeout = 10

    def do_GET(self):
        self.answer({"/api/entries": self.entries, "/healthz": self.healthy, "/readyz": self.ready})

    def do_POST(self):
        self.answer({"/api/entries": self.sign})

    def answer(self, routes):
        url = urllib.parse.urlsplit(self.path)
        self.query = urllib.parse.parse_qs(url.query)
        try:
            if url.path not in routes:
                return self.send(404, {"error": f"nothing is at {url.path}"})
            self.send(*routes[url.path]())
        except BadRequest as error:
            self.send(400, {"error": str(error)})
        except Unavailable as error:
            self.send(503, {"error": str(error)}, {"Retry-After": "1"})
        except ErrorReply as error:
            self.send(500, {"error": f"Redis refused: {error}"})

    def entries(self):
        try:
            count = int(self.query.get("limit", ["50"])[0])
        except ValueError:
            raise BadRequest("limit: must be a number") from None
        if not 1 <= count <= self.server.guestbook.limit:
            raise BadRequest(f"limit: must be from 1 to {self.server.guestbook.limit}")
        entries = self.server.guestbook.newest(count)
        return 200, {**self.server.about, "entries": entries}

    def sign(self):
        try:
            size = int(self.headers.get("Content-Length", ""))
        except ValueError:
            raise BadRequest("a Content-Length is required") from None
        if not 0 <= size <= BODY_LIMIT:
            return 413, {"error": f"at most {BODY_LIMIT} bytes"}
        body = self.rfile.read(size)
        if len(body) < size:
            raise BadRequest("the body broke off")
        key = self.headers.get("Idempotency-Key") or uuid.uuid4().hex
        if len(key) > 100 or not key.isascii() or not key.isprintable():
            raise BadRequest("Idempotency-Key: at most 100 printable ASCII characters")
        entry, new = self.server.guestbook.sign(key, fields_of(body))
        return (201 if new else 200), entry

    def healthy(self):
        return 200, {"status": "ok"}

    def ready(self):
        self.server.guestbook.redis.call("PING", patience=0)
        return 200, {"status": "ready"}

    def send(self, status, value, headers=None):
        body = json.dumps(value).encode() + b"\n"
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "Cache-Control": "no-store", **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        # Probes that succeed are no news.
        if self.path not in ("/healthz", "/readyz") or str(code) != "200":
            super().log_request(code, size)

    def log_message(self, format, *arguments):
        client = self.headers.get("X-Forwarded-For", self.client_address[0]) if hasattr(self, "headers") else "-"
        print(client, format % arguments, flush=True)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = False  # requests in flight are finished before the process ends
    request_queue_size = 128

    def handle_error(self, request, client_address):
        # A client that hung up is no fault of ours.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


def main():
    host, _, port = os.environ.get("REDIS_ADDRESS", "redis:6379").rpartition(":")
    with open(os.environ["REDIS_PASSWORD_FILE"], encoding="utf-8") as file:
        password = file.read().strip()
    server = Server(("0.0.0.0", int(os.environ.get("PORT", "8080"))), Handler)
    server.guestbook = Guestbook(Redis((host, int(port)), password), int(os.environ.get("MAX_ENTRIES", "10000")))
    server.about = {
        "title": os.environ.get("TITLE", "Guestbook"),
        "version": os.environ.get("VERSION", "1"),
        "pod": os.environ.get("POD_NAME", socket.gethostname()),
        "node": os.environ.get("NODE_NAME", ""),
    }
    # As process 1 we must take the signal ourselves; shutdown() blocks, so it gets a thread.
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on port {server.server_port}, Redis at {host}:{port}", flush=True)
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    print("stopped", flush=True)


if __name__ == "__main__":
    main()
