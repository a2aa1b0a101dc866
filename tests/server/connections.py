#!/usr/bin/env python3
"""Connections that send nothing, send slowly, read slowly, close half or vanish: connections.py [--quick]

Starts $HTTP_SERVER (tests/server/http_server.cc). Measures the memory an idle connection costs and the
latency of other clients without and with the bad ones, then checks that nothing is left behind.
--quick: 2,000 idle connections instead of 10,000. Exit status 77: the machine allows too few files.
"""
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time

QUICK = "--quick" in sys.argv
IDLE = 2000 if QUICK else 10000
SLOW = 100 if QUICK else 500        # of each: slow senders, slow readers, half-closed, cut
PROBES = 200 if QUICK else 1000
MAX_BYTES_PER_IDLE = 20 * 1024
CONFIG = """limits:
  header_timeout_s: 2
  send_timeout_s: 2
  idle_timeout_s: 120
"""


def need_files():
    wanted = IDLE + 5 * SLOW + 500
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < wanted:
        print(f"skipped: {hard} open files are allowed, {wanted} are needed")
        sys.exit(77)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connect(port, receive_buffer=None):
    s = socket.socket()
    if receive_buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    s.settimeout(10)
    s.connect(("127.0.0.1", port))
    return s


def get(port, path):
    with connect(port) as s:
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        data = b""
        while part := s.recv(65536):
            data += part
    return data


def metric(port, name):
    for line in get(port, "/metrics").decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    raise AssertionError(f"/metrics has no {name}")


def rss_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def probe(port, slow_senders=()):
    """Latencies of /health on one kept connection, in ms, sorted; slow senders get a byte each now and
    then."""
    latencies = []
    with connect(port) as s:
        for i in range(PROBES):
            begin = time.perf_counter()
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            data = s.recv(65536)
            assert b'{"status":"ok"}' in data, data
            latencies.append((time.perf_counter() - begin) * 1e3)
            if slow_senders:
                try:
                    slow_senders[i % len(slow_senders)].send(b"X")
                except OSError:
                    pass  # cut at its deadline, as it should be
            time.sleep(0.001)
    return sorted(latencies)


def p(latencies, share):
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))]


def was_told(s, beginning):
    s.settimeout(1)
    try:
        return s.recv(64).startswith(beginning)
    except OSError:
        return False


def check(condition, message):
    print(("ok: " if condition else "FAILED: ") + message)
    return condition


def main():
    need_files()
    binary = os.environ["HTTP_SERVER"]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write(CONFIG)
        config.flush()
        server = subprocess.Popen([binary, config.name], stdout=subprocess.PIPE, text=True)
        try:
            sys.exit(run(server, int(server.stdout.readline())))
        finally:
            server.terminate()
            server.wait(30)


def run(server, port):
    good = True
    probe(port)
    before = probe(port)
    rss_before = rss_bytes(server.pid)
    idle = [connect(port) for _ in range(IDLE)]
    while metric(port, "fathom_http_connections") < IDLE:
        time.sleep(0.05)
    each = (rss_bytes(server.pid) - rss_before) / IDLE
    if not os.environ.get("FATHOM_SANITIZED"):
        good &= check(each < MAX_BYTES_PER_IDLE,
                      f"{IDLE} idle connections cost {each / 1024:.1f} KiB each (RSS now "
                      f"{rss_bytes(server.pid) / 2**20:.1f} MiB), less than "
                      f"{MAX_BYTES_PER_IDLE / 1024:.0f} KiB")

    senders, readers, halves = [], [], []
    for _ in range(SLOW):
        senders.append(connect(port))
        senders[-1].sendall(b"GET /health HTTP/1.1\r\nX-A: ")
        readers.append(connect(port, 4096))
        readers[-1].sendall(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        halves.append(connect(port))
        halves[-1].sendall(b"GET /events?events=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        halves[-1].shutdown(socket.SHUT_WR)
        with connect(port) as cut:
            cut.sendall(b"GET /events?events=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    rss_slow = rss_bytes(server.pid)
    during = probe(port, senders)
    # A single slow machine may hiccup: what counts is that others' requests do not wait for these.
    # The short form runs beside other tests and only prints it.
    good &= check(QUICK or p(during, 0.99) < max(5.0, 1.2 * p(before, 0.99)),
                  f"others' latency p50/p99 {p(before, .5):.2f}/{p(before, .99):.2f} ms before, "
                  f"{p(during, .5):.2f}/{p(during, .99):.2f} ms during")
    print(f"RSS with {3 * SLOW} slow ones: {rss_slow / 2**20:.1f} MiB")

    # The slow ones are cut by their deadlines (2 s), the half-closed and cut ones at once.
    deadline = time.monotonic() + 15
    while metric(port, "fathom_http_requests_in_flight") > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    left = metric(port, "fathom_http_requests_in_flight") - 1  # the one that asks
    good &= check(left == 0, f"{left:.0f} requests are left of {4 * SLOW} slow, half-closed and cut ones")
    while (open_now := metric(port, "fathom_http_connections")) > IDLE + 3 and time.monotonic() < deadline:
        time.sleep(0.1)
    good &= check(IDLE <= open_now <= IDLE + 3, f"{open_now:.0f} connections are open, {IDLE} of them idle")
    answered = sum(was_told(s, b"HTTP/1.1 408") for s in senders)
    good &= check(answered == SLOW, f"{answered} of {SLOW} slow senders were told 408")

    for s in idle:
        s.close()
    deadline = time.monotonic() + 10
    while metric(port, "fathom_http_connections") > 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    left = metric(port, "fathom_http_connections") - 1
    good &= check(left == 0, f"{left:.0f} connections are left in the end")
    return 0 if good else 1


main()
