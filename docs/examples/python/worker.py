"""A pipeline with a queue of its own, throttled by a gate.

    python3 worker.py --gate http://127.0.0.1:9400 --listen 127.0.0.1:9401

Fetchers acquire tokens before they ask the provider and put what they get into
the queue; a writer takes --drain items a second out of it. The queue's level
goes to the gate as feedback, and its size to Prometheus under names of its own.
After --seconds it ends and prints one JSON object."""

import argparse
import http.server
import json
import queue
import signal
import threading
import time

import headgate

BATCH = 10


class Worker:
    def __init__(self, gate, capacity, drain):
        self.gate, self.drain = gate, drain
        self.items = queue.Queue(capacity)
        self.stopping = threading.Event()  # no more is fetched
        self.fetched_all = threading.Event()  # what is in the queue is the last
        self.lock = threading.Lock()
        self.fetched = self.written = self.most_waiting = 0
        self.level = "ok"  # the writer's own
        self.feedback = headgate.Feedback(gate, "bars", capacity)

    def tell(self):
        """Tells the gate how the queue is: SOFT above half, HARD from 80 % on, and
        back at 40 % and 70 %, so that the level does not go to and fro."""
        size = self.items.qsize()
        share = size / self.items.maxsize
        if share >= (0.7 if self.level == "hard" else 0.8):
            self.level = "hard"
        elif share > (0.5 if self.level == "ok" else 0.4):
            self.level = "soft"
        else:
            self.level = "ok"
        self.feedback.say(size, self.level)

    def fetch(self):
        """One fetcher."""
        while not self.stopping.is_set():
            try:
                self.gate.acquire(BATCH, within=1)
            except TimeoutError:
                continue  # the gate is closed: look whether to stop, ask again
            bars = ["bar"] * BATCH  # here the provider is asked
            self.gate.outcome(True)
            for bar in bars:
                self.items.put(bar)
            size = self.items.qsize()
            with self.lock:
                self.fetched += BATCH
                self.most_waiting = max(self.most_waiting, size)

    def write(self):
        """The writer, which stands for a store."""
        begin = time.monotonic()
        while not (self.fetched_all.is_set() and self.items.empty()):
            while self.written < self.drain * (time.monotonic() - begin):
                try:
                    self.items.get_nowait()
                except queue.Empty:  # what is not there now is not caught up later
                    begin = time.monotonic() - self.written / self.drain
                    break
                self.written += 1
            self.tell()
            time.sleep(0.01)

    def metrics(self):
        """What Prometheus scrapes."""
        return (
            "# TYPE mdp_queue_size gauge\n"
            'mdp_queue_size{queue="bars"} %d\n'
            "# TYPE mdp_bars_in_total counter\n"
            'mdp_bars_in_total{queue="bars"} %d\n'
            "# TYPE mdp_bars_out_total counter\n"
            'mdp_bars_out_total{queue="bars"} %d\n' % (self.items.qsize(), self.fetched, self.written))


def serve(worker, address):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = worker.metrics().encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    host, _, port = address.rpartition(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--gate", default="http://127.0.0.1:9400")
    parser.add_argument("--provider", default="ibkr")
    parser.add_argument("--listen", default="127.0.0.1:9401")
    parser.add_argument("--fetchers", type=int, default=4)
    parser.add_argument("--capacity", type=int, default=1000)
    parser.add_argument("--drain", type=float, default=300, help="items that the store takes in a second")
    parser.add_argument("--seconds", type=float, default=0, help="0 is until it is told to stop")
    args = parser.parse_args()

    worker = Worker(headgate.Gate(args.gate, args.provider), args.capacity, args.drain)
    server = serve(worker, args.listen)
    print("metrics on http://%s:%d/metrics" % server.server_address, flush=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: worker.stopping.set())

    writer = threading.Thread(target=worker.write)
    fetchers = [threading.Thread(target=worker.fetch) for _ in range(args.fetchers)]
    for thread in [writer] + fetchers:
        thread.start()
    worker.stopping.wait(args.seconds or None)
    worker.stopping.set()
    for thread in fetchers:
        thread.join()
    worker.fetched_all.set()
    writer.join()
    worker.feedback.close()
    server.shutdown()
    print(json.dumps({"fetched": worker.fetched, "written": worker.written, "most_waiting": worker.most_waiting}))


if __name__ == "__main__":
    main()
