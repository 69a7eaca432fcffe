"""Tests of headgate.py against a gate that runs: python_test.go starts one, with
the providers that are named here, and sets the variables."""

import os
import socket
import threading
import time
import unittest

import headgate

URL, TOKEN = os.environ["HEADGATE_URL"], os.environ["HEADGATE_TOKEN"]


def gate(provider, url=URL, **more):
    return headgate.Gate(url, provider, token=TOKEN, **more)


class CuttingProxy:
    """Passes connections on to the gate, and cuts the first one once it has
    brought so many bytes."""

    def __init__(self, cut_after):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = "http://127.0.0.1:%d" % self.listener.getsockname()[1]
        self.left, self.connections = cut_after, 0
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        host, port = URL.split("//")[1].split(":")
        while True:
            client, _ = self.listener.accept()
            self.connections += 1
            upstream = socket.create_connection((host, int(port)))
            left = self.left if self.connections == 1 else None
            threading.Thread(target=self.copy, args=(client, upstream, None), daemon=True).start()
            threading.Thread(target=self.copy, args=(upstream, client, left), daemon=True).start()

    @staticmethod
    def copy(source, to, left):
        try:
            while data := source.recv(4096):
                to.sendall(data)
                if left is not None:
                    left -= len(data)
                    if left <= 0:
                        break
        except OSError:
            pass
        for end in (source, to):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class TheClient(unittest.TestCase):
    def test_tokens_come_as_fast_as_the_rate_says(self):
        slow = gate("slow")  # 20/s, and a burst of 10
        slow.acquire(10)
        begin = time.monotonic()
        for _ in range(2):
            slow.acquire(10)
        self.assertGreater(time.monotonic() - begin, 0.95)

    def test_what_no_waiting_mends_is_told_at_once(self):
        with self.assertRaises(headgate.Refused) as above:
            gate("slow").acquire(11)
        self.assertEqual(above.exception.status, 400)
        self.assertEqual(above.exception.answer["fields"][0]["field"], "tokens")
        with self.assertRaises(headgate.Refused) as unknown:
            gate("no/body").acquire(1)
        self.assertEqual(unknown.exception.status, 404)
        with self.assertRaises(headgate.Refused) as stranger:
            headgate.Gate(URL, "slow", token="another-token-of-16").acquire(1)
        self.assertEqual(stranger.exception.status, 401)
        with self.assertRaises(ValueError):
            headgate.Gate("127.0.0.1:9400", "slow")

    def test_a_scale_lasts_for_its_ttl_and_belongs_to_its_holder(self):
        parked = gate("parked")  # floor 0, fail mode open
        state = parked.put_scale(0, ttl=2, holder="python", sequence=1, level="hard", reason="maintenance")
        ours = [s for s in state["scales"] if s["owner"] == "controller"][0]
        self.assertEqual((ours["scale"], ours["holder"]), (0, "python"))
        self.assertTrue(0 < ours["expires_in_seconds"] <= 2)
        with self.assertRaises(headgate.Refused) as conflict:
            parked.put_scale(1, ttl=2, holder="another", sequence=1)
        self.assertEqual((conflict.exception.status, conflict.exception.answer["holder"]), (409, "python"))
        with self.assertRaises(TimeoutError):
            parked.acquire(10, within=0.2)  # 429, for the gate is closed
        parked.acquire(10)  # when the lease has run out
        self.assertEqual(parked.state()["scale"], 1)

    def test_an_open_breaker_and_a_cool_down_are_waited_for(self):
        broken = gate("broken")  # two failures open the breaker for a second
        for _ in range(2):
            state = broken.outcome(False)
        self.assertEqual(state["breaker"]["state"], "open")
        self.assertGreater(broken.acquire(1), 0.5)
        self.assertEqual(broken.outcome(True)["breaker"]["state"], "closed")
        broken.cool_down(seconds=1)
        self.assertGreater(broken.acquire(1), 0.9)

    def test_feedback_throttles_and_expires_when_it_is_not_repeated(self):
        fed = gate("ibkr")
        changes = fed.changes()
        told = headgate.Feedback(fed, "bars", 100, every=0.2)
        told.say(90, "hard")
        scale = event = None
        for kind, change in changes:
            if kind == "feedback" and change["level"] == "hard":
                event = change
            if kind == "provider" and change["provider"] == "ibkr":
                scale = change["scale"]
            if event and scale == 0:
                break
        self.assertEqual((event["coordinator_id"], event["queue_size"], event["capacity"]), ("bars", 90, 100))
        time.sleep(1.5)  # longer than the event's time, which is a second
        self.assertEqual(fed.state()["scale"], 0, "the word was repeated")
        told.close()
        for kind, change in changes:
            if kind == "provider" and change["provider"] == "ibkr" and change["scale"] == 0.5:
                break  # the fail mode, for nobody says anything any more
        changes.close()

    def test_a_gate_that_is_away_is_waited_for(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with self.assertRaises(TimeoutError):
            gate("slow", "http://127.0.0.1:%d" % port).acquire(1, within=0.5)

    def test_a_stream_that_breaks_is_opened_anew(self):
        proxy = CuttingProxy(cut_after=500)
        seen = 0
        for _ in gate("slow", proxy.url).changes():
            seen += 1
            if proxy.connections == 2:
                break
        self.assertGreater(seen, 0)

    def test_a_connection_that_was_cut_is_opened_anew(self):
        proxy = CuttingProxy(cut_after=100)
        cut = gate("slow", proxy.url)
        for _ in range(2):
            self.assertEqual(cut.state()["provider"], "slow") if proxy.connections else cut.acquire(1)
        self.assertEqual(proxy.connections, 2)


if __name__ == "__main__":
    unittest.main()
