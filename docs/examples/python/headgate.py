"""Asks Headgate's gate over HTTP, with the standard library alone.

    gate = headgate.Gate("http://127.0.0.1:9400", "ibkr")
    gate.acquire(20, within=30)         # waits for its turn, or raises TimeoutError
    gate.outcome(True)                  # the call to the provider went well

    feedback = headgate.Feedback(gate, "bars", capacity=1000)
    feedback.say(850, "hard")           # whenever the queue's size or level changes

    for kind, change in gate.changes():  # "provider" or "feedback"
        ...

Whoever cannot reach the gate waits: nothing here lets items through by itself.
Copy this file, or take it as a description of the calls.
"""

import http.client
import json
import random
import socket
import ssl
import threading
import time
import urllib.parse

SILENCE = 40  # seconds; the stream of changes brings a sign of life every 15


class Refused(Exception):
    """An answer that says no. status is HTTP's; answer has the gate's own words
    ("error", "fields", and of a conflict "holder" and "expires_in_seconds");
    retry_after is in seconds, or None where the gate names no time."""

    def __init__(self, status, answer, retry_after=None):
        super().__init__("the gate answered %d: %s" % (status, answer.get("error", "")))
        self.status, self.answer, self.retry_after = status, answer, retry_after

    @property
    def passes(self):
        """Whether the same request may be granted later."""
        return self.status in (429, 503)


def _pauses():
    """Pauses between tries, in seconds: they grow to half a minute, at random,
    so that many clients do not come back in one moment."""
    longest = 0.2
    while True:
        yield random.uniform(longest / 2, longest)
        longest = min(30, longest * 2)


class Gate:
    """One provider at one gate. It may be used by several threads at once, each
    of which keeps a connection of its own."""

    def __init__(self, url, provider, token=None, tls=None, timeout=5):
        """token is a bearer token, and tls an ssl.SSLContext where the defaults
        do not do. timeout, in seconds, is how long an answer may take beyond the
        time for which it is asked to wait."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url is %r, want one such as http://127.0.0.1:9400" % url)
        self.provider = provider
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._base = parts.path.rstrip("/")
        self._tls = tls or (ssl.create_default_context() if self._secure else None)
        self._headers = {"Authorization": "Bearer " + token} if token else {}
        self._timeout = timeout
        self._threads = threading.local()

    def acquire(self, n=1, within=60):
        """Takes n tokens and returns how many seconds that took. It waits in the
        gate's line, and comes again while the gate is closed, overloaded or away,
        until within seconds are over; then it raises TimeoutError. Refused is for
        what no waiting mends, such as more tokens than the burst.

        An answer that is lost on its way costs its tokens: the budget is never
        exceeded by asking again."""
        begin, pauses = time.monotonic(), _pauses()
        while True:
            left = within - (time.monotonic() - begin)
            if left <= 0:
                raise TimeoutError("no %d tokens of %s within %g s" % (n, self.provider, within))
            wait = min(left, 30)
            try:
                self._call("POST", self._path("acquire"), {"tokens": n, "timeout": wait}, wait)
                return time.monotonic() - begin
            except Refused as no:
                if not no.passes:
                    raise
                pause = next(pauses) if no.retry_after is None else no.retry_after * random.uniform(1, 1.25)
            except (OSError, http.client.HTTPException):
                pause = next(pauses)
            time.sleep(max(0, min(pause, within - (time.monotonic() - begin))))

    def outcome(self, success):
        """Tells how a call to the provider went, and returns the state after it.
        Failures in a row open the provider's circuit breaker, and acquire waits
        until it lets one try. A gate that is away hears nothing of it, which is no
        reason for a pipeline to fail: the state is then None."""
        try:
            return self._call("POST", self._path("outcome"), {"success": success})
        except Refused as no:
            if not no.passes:
                raise
        except (OSError, http.client.HTTPException):
            pass
        return None

    def cool_down(self, scope="global", seconds=0):
        """Starts a cool-down; 0 is the provider's own length. While the scope
        global cools down nobody gets tokens."""
        return self._call("POST", self._path("cool-down"), {"scope": scope, "duration": seconds})

    def feedback(self, coordinator_id, queue_size, capacity, level, reason=None):
        """Publishes one event about a queue. Level is ok, soft or hard."""
        self._call("POST", "/v1/feedback", {
            "coordinator_id": coordinator_id, "queue_size": queue_size, "capacity": capacity,
            "level": level, "reason": reason, "ts": time.time()})

    def put_scale(self, scale, ttl, holder, sequence, level="ok", reason=""):
        """Puts a scale on the provider as a controller does: for ttl seconds, and
        then the provider goes to its fail mode. Nobody else may set one meanwhile:
        Refused with the status 409 names the holder and expires_in_seconds. The
        sequence rises with each request."""
        return self._call("PUT", self._path("scale"), {
            "scale": scale, "ttl": ttl, "holder": holder, "sequence": sequence, "level": level, "reason": reason})

    def state(self):
        """What the provider is at: its rate, and each scale in force with its
        owner, its reason and expires_in_seconds, which is None for one that lasts."""
        return self._call("GET", self._path())

    def changes(self):
        """Yields ("provider", state) and ("feedback", event) as they come, for
        ever. A stream that breaks, or is silent for 40 s, is opened anew; the
        first changes of each stream are the states of all providers."""
        pauses = _pauses()
        while True:
            try:
                for change in self._stream():
                    pauses = _pauses()
                    yield change
            except Refused as no:
                if not no.passes:
                    raise
            except (OSError, http.client.HTTPException):
                pass
            time.sleep(next(pauses))

    def _path(self, what=None):
        path = "/v1/providers/" + urllib.parse.quote(self.provider, safe="")
        return path if what is None else path + "/" + what

    def _connect(self, timeout):
        if self._secure:
            return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(self._host, self._port, timeout=timeout)

    def _call(self, method, path, body=None, wait=0):
        """Makes one request, on the thread's connection. One that the gate closed
        while it was idle is opened anew, once."""
        content, headers = None, dict(self._headers)
        if body is not None:
            content = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        while True:
            connection = getattr(self._threads, "connection", None)
            kept, self._threads.connection = connection is not None, None
            try:
                if not kept:
                    connection = self._connect(self._timeout)
                    connection.connect()
                    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sock.settimeout(self._timeout + wait)
                connection.request(method, self._base + path, content, headers)
                response = connection.getresponse()
                data = response.read()
            except (OSError, http.client.HTTPException) as why:
                connection.close()
                if kept and isinstance(why, ConnectionError):
                    continue
                raise
            if response.will_close:
                connection.close()
            else:
                self._threads.connection = connection
            return _answer(response, data)

    def _stream(self):
        """Yields the changes of one stream, until it ends."""
        connection = self._connect(SILENCE)
        try:
            connection.request("GET", self._base + "/v1/changes", headers=self._headers)
            response = connection.getresponse()
            if response.status != 200:
                _answer(response, response.read())
            kind, data = "", []
            for line in response:
                line = line.decode().rstrip("\r\n")
                name, _, value = line.partition(":")
                value = value[1:] if value.startswith(" ") else value
                if name == "event":
                    kind = value
                elif name == "data":
                    data.append(value)
                elif line == "" and data:
                    yield kind, json.loads("\n".join(data))
                    kind, data = "", []
        finally:
            connection.close()


def _answer(response, data):
    """The body of an answer, or Refused."""
    try:
        body = json.loads(data) if data else None
    except ValueError:
        body = {"error": data[:200].decode(errors="replace")}
    if 200 <= response.status < 300:
        return body
    after = response.getheader("Retry-After") or ""
    raise Refused(response.status, body if isinstance(body, dict) else {}, float(after) if after.isdigit() else None)


class Feedback:
    """Tells a gate of one queue, in a thread of its own: at once when the level
    changes, and every few seconds again, so that the gate can tell a queue that
    is well from a pipeline that is gone (MDP_FB_EVENT_TTL, three times as long).
    What cannot be sent is sent the next time: a gate that is away delays nobody."""

    def __init__(self, gate, coordinator_id, capacity, every=10):
        self._gate, self._id, self._capacity, self._every = gate, coordinator_id, capacity, every
        self._size, self._level = 0, "ok"
        self._wake, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="headgate feedback", daemon=True)
        self._thread.start()

    def say(self, size, level):
        """Notes the queue's size and level. It does not wait."""
        changed = level != self._level
        self._size, self._level = size, level
        if changed:
            self._wake.set()

    def close(self):
        """Ends the thread, after a last word."""
        self._ended.set()
        self._wake.set()
        self._thread.join()

    def _run(self):
        while True:
            self._wake.clear()
            ended = self._ended.is_set()
            try:
                self._gate.feedback(self._id, self._size, self._capacity, self._level)
                pause = self._every
            except (Refused, OSError, http.client.HTTPException):
                pause = min(1, self._every)
            if ended:
                return
            self._wake.wait(pause)
