#!/usr/bin/env python3
"""fathom serve as its operator sees it: what it refuses to do, what survives, how it ends."""
import asyncio
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/acceptance/lib"))
from fixtures import FATHOM, NANO  # noqa: E402
from serving import Server, fixture_with_text, stream  # noqa: E402

LONG = {"model": "nano", "prompt": "1+1=", "max_tokens": 900, "temperature": 1, "seed": 5, "ignore_eos": True}


def fails(*arguments):
    """Exit status and message of a `fathom serve` that must not come up."""
    done = subprocess.run([FATHOM, "serve", *arguments], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def post(port, path, body, key=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
    with contextlib.closing(connection):
        connection.request("POST", path, json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


class Refusals(unittest.TestCase):
    def test_a_port_that_is_taken(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            s.listen()
            status, message = fails("nano", "--port", str(s.getsockname()[1]))
        self.assertNotEqual(status, 0)
        self.assertIn("in use", message)

    def test_beyond_this_machine_without_keys(self):
        status, message = fails("nano", "--host", "0.0.0.0", "--port", "0")
        self.assertNotEqual(status, 0)
        self.assertIn("--api-key-file", message)

    def test_no_model_an_unknown_one_and_a_bad_flag(self):
        for arguments, words in (((), "no model"), (("nowhere",), "no such file"), (("nano", "--port", "x"), "--port")):
            status, message = fails(*arguments)
            self.assertEqual(status, 2, message)
            self.assertIn(words, message)

    def test_ranks_that_a_model_cannot_be_divided_among(self):
        code, message = fails("nano", "--port", "0", "--tensor-parallel", "3")
        self.assertEqual(code, 2)
        self.assertIn("num_attention_heads is 4, expected a multiple of 3", message)

    def test_config_check_names_the_line(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as f:
            f.write("models:\n  - path: nano\nlimits:\n  max_conections: 5\n")
            f.flush()
            done = subprocess.run([FATHOM, "config", "check", f.name], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn(':4: "limits.max_conections"', done.stderr)
        self.assertIn("max_connections?", done.stderr)


class Survival(unittest.TestCase):
    def check(self, number, *flags):
        """A signal to the worker in mid-stream changes no word."""
        with Server(NANO, *flags) as server:
            expected = asyncio.run(stream(server.port, "/v1/completions", LONG))
            self.assertIsNone(expected.error)
            self.assertEqual(expected.tokens, 900)

            async def disturbed():
                task = asyncio.create_task(stream(server.port, "/v1/completions", LONG))
                await asyncio.sleep(0.15)
                for worker in await asyncio.to_thread(server.workers):
                    if worker["role"] == "active":
                        os.kill(worker["pid"], number)
                return await task

            result = asyncio.run(disturbed())
            self.assertIsNone(result.error)
            self.assertEqual(result.text, expected.text)
            self.assertGreaterEqual(sum(w["restarts"] for w in server.workers()), 1)

    def test_kill(self):
        self.check(signal.SIGKILL, "--standby", "1")

    def test_segmentation_fault_without_a_spare(self):
        self.check(signal.SIGSEGV)

    def test_hang(self):
        self.check(signal.SIGSTOP, "--standby", "1")

    def test_two_workers(self):
        self.check(signal.SIGKILL, "--workers", "2")

    def test_two_ranks(self):
        self.check(signal.SIGKILL, "--device", "cpu", "--tensor-parallel", "2")

    def test_in_one_process(self):
        with Server(NANO, "--workers", "0") as server:
            status, body = post(server.port, "/v1/completions", {**LONG, "max_tokens": 5})
            self.assertEqual(status, 200, body)
            self.assertEqual(body["usage"]["completion_tokens"], 5)

    def test_as_process_1_of_a_container(self):
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
        if subprocess.run([*command, "true"], capture_output=True).returncode != 0:
            self.skipTest("no right to make a process namespace")
        process = subprocess.Popen([*command, FATHOM, "serve", NANO, "--port", "0", "--log-level", "error"],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            port = next(int(line.rsplit(":", 1)[1]) for line in process.stdout if line.startswith("open "))
            status, body = post(port, "/v1/completions", {**LONG, "max_tokens": 3})
            self.assertEqual(status, 200, body)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def test_it_gives_up_on_workers_that_never_compute_and_says_so(self):
        with tempfile.TemporaryDirectory() as folder:
            model = os.path.join(folder, "model")
            os.mkdir(model)
            for name in os.listdir(NANO):
                if os.path.isfile(os.path.join(NANO, name)):
                    os.symlink(os.path.join(NANO, name), os.path.join(model, name))
            with Server(model, "--model-id", "nano") as server:
                os.unlink(os.path.join(model, "config.json"))
                os.kill(server.workers()[0]["pid"], signal.SIGKILL)
                deadline = time.monotonic() + 60
                while server.status()["state"] != "failed" and time.monotonic() < deadline:
                    time.sleep(0.2)
                self.assertEqual(server.status()["state"], "failed")
                status, body = post(server.port, "/v1/completions", LONG)
                self.assertEqual(status, 503, body)
                connection = http.client.HTTPConnection("127.0.0.1", server.port)
                connection.request("GET", "/health")
                self.assertEqual(connection.getresponse().status, 503)
                self.assertIn("gave up", server.text_of_log())


class Ending(unittest.TestCase):
    def test_answers_on_their_way_may_end(self):
        with Server(NANO) as server:
            async def ended():
                task = asyncio.create_task(stream(server.port, "/v1/completions", LONG))
                await asyncio.sleep(0.2)
                server.process.send_signal(signal.SIGTERM)
                return await task

            result = asyncio.run(ended())
            self.assertIsNone(result.error)
            self.assertEqual(result.tokens, 900)
            self.assertEqual(server.process.wait(10), 0)

    def test_the_workers_go_with_the_front(self):
        server = Server(NANO, "--standby", "1")
        pids = [w["pid"] for w in server.workers()]
        server.process.kill()
        server.process.wait()
        server.process.stdout.close()
        server.log.close()
        deadline = time.monotonic() + 10
        alive = pids
        while alive and time.monotonic() < deadline:
            time.sleep(0.05)
            alive = [p for p in pids if os.path.exists(f"/proc/{p}/exe")]
        self.assertEqual(alive, [])


class DiskTier(unittest.TestCase):
    """--kv-disk: what one server read, the next one need not read again."""

    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="fathom-kv-")
        self.addCleanup(shutil.rmtree, self.directory)
        self.flags = ["--kv-disk", self.directory + "/pages", "--kv-disk-max", "64MiB",
                      "--kv-disk-key-file", self.directory + "/key"]
        self.prompt = "".join(f"{i}+{i * i % 97}=" for i in range(120))

    def ask(self, server, prompt, user="u"):
        status, answer = post(server.port, "/v1/completions",
                              {**LONG, "prompt": prompt, "max_tokens": 20, "user_id": user})
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["text"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    def files(self):
        return [os.path.join(folder, name) for folder, _, names in os.walk(self.directory + "/pages") for name in names]

    def kept(self, server):
        """Waits until nothing more is written; the count of pages."""
        last, deadline = -1, time.monotonic() + 20
        while time.monotonic() < deadline:
            now = server.status()["models"][0]["kv_disk"]["pages_written_total"]
            if now == last and now > 0:
                return now
            last = now
            time.sleep(0.3)
        self.fail("pages are written without end, or none is")

    def test_a_prompt_is_not_read_again_after_a_restart_or_a_crash(self):
        with Server(NANO, *self.flags) as server:
            text, cached = self.ask(server, self.prompt)
            self.assertEqual(cached, 0)
            self.assertGreater(self.kept(server), 3)
        for path in self.files():
            self.assertEqual(os.stat(path).st_mode & 0o077, 0, path)
            with open(path, "rb") as f:
                self.assertNotIn(self.prompt[:20].encode(), f.read())
        with Server(NANO, *self.flags) as server:
            again, cached = self.ask(server, self.prompt)
            self.assertEqual(again, text)
            self.assertGreater(cached, 256)
            self.assertEqual(self.ask(server, self.prompt, user="somebody else"), (text, 0))
            self.kept(server)
            server.process.kill()
            server.process.wait()
        with Server(NANO, *self.flags) as server:
            self.assertEqual(self.ask(server, self.prompt)[0], text)
            time.sleep(0.5)  # workers tell their counts ten times a second
            metrics = server.get("/metrics")
            self.assertIn("fathom_kv_disk_hits_total", metrics if isinstance(metrics, str) else metrics.decode())

    def test_damaged_pages_and_another_key_cost_a_prefill_and_nothing_else(self):
        with Server(NANO, *self.flags) as server:
            text, _ = self.ask(server, self.prompt)
            self.kept(server)
        for path in self.files():
            if os.path.getsize(path) > 4096:
                with open(path, "r+b") as f:
                    f.seek(2000)
                    f.write(b"damage")
        with Server(NANO, *self.flags) as server:
            self.assertEqual(self.ask(server, self.prompt), (text, 0))
            self.assertGreater(server.status()["models"][0]["kv_disk"]["pages_damaged_total"], 0)
            self.kept(server)
        os.remove(self.directory + "/key")
        with Server(NANO, *self.flags) as server:
            self.assertEqual(self.ask(server, self.prompt), (text, 0))

    def test_a_user_is_forgotten(self):
        with Server(NANO, *self.flags) as server:
            for user in ("u", "w"):
                self.ask(server, self.prompt, user)
            before = self.kept(server), len(self.files())
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            with contextlib.closing(connection):
                connection.request("DELETE", "/v1/cache?user_id=u")
                self.assertEqual(connection.getresponse().status, 200)
            deadline = time.monotonic() + 10
            while len(self.files()) > before[1] // 2 + 1:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.05)
            self.assertEqual(self.ask(server, self.prompt, "u")[1], 0)
            self.assertGreater(self.ask(server, self.prompt, "w")[1], 256)

    def test_what_cannot_be_used_is_said_at_once(self):
        code, message = fails("nano", "--port", "0", "--kv-disk", "/proc/kv", *self.flags[2:])
        self.assertNotEqual(code, 0)
        self.assertIn("/proc/kv", message)
        code, message = fails("nano", "--port", "0", "--tensor-parallel", "2", *self.flags)
        self.assertEqual(code, 2)
        self.assertIn("kv_disk: expected none where a model's tensor_parallel is 2", message)
        with open(self.directory + "/key", "wb") as f:
            f.write(b"short")
        os.chmod(self.directory + "/key", 0o600)
        code, message = fails("nano", "--port", "0", *self.flags)
        self.assertNotEqual(code, 0)
        self.assertIn("5 bytes, expected 32", message)


class Keys(unittest.TestCase):
    def test_keys_are_asked_for_and_read_again_on_hup(self):
        with tempfile.NamedTemporaryFile("w", suffix=".keys") as f:
            f.write("sk-first-key-of-all\n")
            f.flush()
            os.chmod(f.name, 0o600)
            with tempfile.TemporaryFile("w+") as log:
                process = subprocess.Popen([FATHOM, "serve", "nano", "--port", "0", "--api-key-file", f.name],
                                           stdout=subprocess.PIPE, stderr=log, text=True)
                try:
                    port = next(int(line.rsplit(":", 1)[1]) for line in process.stdout if line.startswith("open "))
                    ask = {**LONG, "max_tokens": 2}
                    self.assertEqual(post(port, "/v1/completions", ask)[0], 401)
                    self.assertEqual(post(port, "/v1/completions", ask, "sk-second-key-of-all")[0], 401)
                    self.assertEqual(post(port, "/v1/completions", ask, "sk-first-key-of-all")[0], 200)
                    f.write("sk-second-key-of-all\n")
                    f.flush()
                    process.send_signal(signal.SIGHUP)
                    deadline = time.monotonic() + 10
                    while post(port, "/v1/completions", ask, "sk-second-key-of-all")[0] != 200:
                        self.assertLess(time.monotonic(), deadline)
                        time.sleep(0.05)
                finally:
                    process.terminate()
                    process.wait(40)


class CallsInDsml(unittest.TestCase):
    """Random models of V3.2 and V4, which would never write a call: what the grammar leaves them is one."""
    TOOL = {"type": "function", "function": {"name": "get_weather", "strict": True, "parameters": {
        "type": "object", "additionalProperties": False, "required": ["unit", "days", "exact"], "properties": {
            "unit": {"type": "string", "enum": ["C", "F"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9},
            "exact": {"type": ["boolean", "null"]}}}}}
    OTHER = {"type": "function", "function": {"name": "now", "strict": True, "parameters": {
        "type": "object", "additionalProperties": False, "required": [], "properties": {}}}}

    def check(self, fixture):
        with tempfile.TemporaryDirectory() as folder:
            with Server(fixture_with_text(folder, fixture), "--model-id", "m") as server:
                for seed in range(8):
                    body = {"model": "m", "messages": [{"role": "user", "content": "Weather?"}], "seed": seed,
                            "tools": [self.OTHER, self.TOOL], "thinking": {"type": "disabled"}, "max_tokens": 1500,
                            "temperature": 1, "parallel_tool_calls": False, "tool_choice": "required"}
                    if seed % 2 == 1:
                        body["tool_choice"] = {"type": "function", "function": {"name": "get_weather"}}
                    status, answer = post(server.port, "/v1/chat/completions", body)
                    self.assertEqual(status, 200, answer)
                    choice = answer["choices"][0]
                    self.assertEqual(choice["finish_reason"], "tool_calls", choice)
                    self.assertEqual((choice["message"]["content"] or "").strip(), "")
                    [call] = choice["message"]["tool_calls"]
                    arguments = json.loads(call["function"]["arguments"])
                    if seed % 2 == 1:
                        self.assertEqual(call["function"]["name"], "get_weather")
                    if call["function"]["name"] == "now":
                        self.assertEqual(arguments, {})
                        continue
                    self.assertIn(arguments.pop("unit"), ["C", "F"])
                    self.assertIn(arguments.pop("days"), range(1, 10))
                    self.assertIn(arguments.pop("exact"), [True, False, None])
                    self.assertEqual(arguments, {})

    def test_v32(self):
        self.check("deepseek_v32")

    def test_v4(self):
        self.check("deepseek_v4")


class ChangesOfModels(unittest.TestCase):
    def until(self, what, seconds=30):
        deadline = time.monotonic() + seconds
        while not what():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_a_model_is_unloaded_after_its_answers_and_loaded_again(self):
        for flags in ((), ("--workers", "0")):
            with self.subTest(flags=flags), Server(NANO, *flags) as server:
                expected = asyncio.run(stream(server.port, "/v1/completions", LONG))

                async def unloaded_meanwhile():
                    task = asyncio.create_task(stream(server.port, "/v1/completions", LONG))
                    await asyncio.sleep(0.1)
                    answer = await asyncio.to_thread(post, server.port, "/models/nano/unload", {})
                    self.assertEqual(answer, (200, {"id": "nano", "object": "model", "state": "unloading"}))
                    status, body = await asyncio.to_thread(post, server.port, "/v1/completions", LONG)
                    self.assertEqual(status, 503)
                    self.assertIn("POST /models/nano/load", body["error"]["message"])
                    return await task

                result = asyncio.run(unloaded_meanwhile())
                self.assertIsNone(result.error)
                self.assertEqual(result.text, expected.text)
                self.until(lambda: server.status()["models"][0]["state"] == "unloaded")
                self.assertEqual([w["pid"] for w in server.workers()], [0])
                with open(f"/proc/{server.process.pid}/maps", encoding="utf-8") as f:
                    self.assertNotIn(".safetensors", f.read())
                self.assertEqual(server.status()["state"], "ok")
                post(server.port, "/models/nano/load", {})
                status, body = post(server.port, "/v1/completions", {**LONG, "max_tokens": 3})
                self.assertEqual(status, 200, body)

    def test_a_model_whose_files_were_replaced_is_loaded_anew_on_hup(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in os.listdir(NANO):
                os.symlink(os.path.join(NANO, name), os.path.join(folder, name))
            config = os.path.join(folder, "config.json")
            os.unlink(config)
            shutil.copy(os.path.join(NANO, "config.json"), config)
            with Server(folder, "--model-id", "nano") as server:
                before = server.workers()[0]["pid"]
                server.process.send_signal(signal.SIGHUP)
                self.until(lambda: '"stay":1' in server.text_of_log())
                self.assertEqual(server.workers()[0]["pid"], before)
                os.utime(config, (time.time() + 60, time.time() + 60))
                server.process.send_signal(signal.SIGHUP)
                self.until(lambda: server.workers()[0]["pid"] not in (0, before))
                status, body = post(server.port, "/v1/completions", {**LONG, "max_tokens": 3})
                self.assertEqual(status, 200, body)

    def test_models_are_read_again_on_hup_and_streams_go_on(self):
        with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
            config = os.path.join(folder, "fathom.yaml")

            def write(*ids):
                with open(config, "w", encoding="utf-8") as f:
                    f.write("models:\n" + "".join(f"  - path: {NANO}\n    id: {i}\n" for i in ids))

            write("first", "second")
            with Server(None, "--config", config, log=log) as server:
                first = server.workers()[0]["pid"]

                async def reloaded_meanwhile():
                    task = asyncio.create_task(stream(server.port, "/v1/completions", {**LONG, "model": "second"}))
                    await asyncio.sleep(0.1)
                    write("first", "third")
                    server.process.send_signal(signal.SIGHUP)
                    await asyncio.to_thread(self.until, lambda: post(
                        server.port, "/v1/completions", {**LONG, "model": "third", "max_tokens": 2})[0] == 200)
                    return await task

                result = asyncio.run(reloaded_meanwhile())
                self.assertIsNone(result.error)
                self.assertEqual(result.tokens, 900)
                self.assertEqual([m["id"] for m in server.status()["models"]], ["first", "third"])
                self.assertEqual(server.workers()[0]["pid"], first)
                self.assertEqual(post(server.port, "/v1/completions", {**LONG, "model": "second"})[0], 404)
                # A configuration that is wrong changes nothing.
                with open(config, "w", encoding="utf-8") as f:
                    f.write("models: 5\n")
                server.process.send_signal(signal.SIGHUP)
                self.until(lambda: "not read again" in server.text_of_log())
                status, body = post(server.port, "/v1/completions", {**LONG, "model": "third", "max_tokens": 2})
                self.assertEqual(status, 200, body)


class Service(unittest.TestCase):
    """Under a service manager, as systemd is one."""

    def test_it_is_told_what_happens(self):
        with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(os.path.join(folder, "notify"))
            manager.settimeout(30)
            with unittest.mock.patch.dict(os.environ, NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="200000"):
                server = Server(NANO)
            with server:
                heard = [manager.recv(4096) for _ in range(6)]
                self.assertEqual(heard, [b"READY=1"] + 5 * [b"WATCHDOG=1"])
                workers = [w["pid"] for w in server.workers()]
                for pid in workers:
                    with open(f"/proc/{pid}/environ", "rb") as f:
                        self.assertNotIn(b"NOTIFY_SOCKET", f.read())
                self.expect(manager, b"WATCHDOG=1", lambda: server.process.send_signal(signal.SIGHUP), b"RELOADING=1")
                self.expect(manager, b"WATCHDOG=1", lambda: None, b"READY=1")
                os.kill(server.process.pid, signal.SIGSTOP)
                manager.settimeout(1)
                with self.assertRaises(TimeoutError):
                    for _ in range(1000):
                        manager.recv(4096)
                os.kill(server.process.pid, signal.SIGCONT)
                manager.settimeout(30)
                self.expect(manager, b"WATCHDOG=1", lambda: server.process.send_signal(signal.SIGTERM), b"STOPPING=1")

    def expect(self, manager, between, act, expected):
        """After `act` the first message that is not `between` starts with `expected`."""
        act()
        message = between
        while message == between:
            message = manager.recv(4096)
        self.assertEqual(message.split(b"\n")[0], expected)

    def test_the_unit_is_one_that_systemd_takes(self):
        if shutil.which("systemd-analyze") is None:
            self.skipTest("no systemd-analyze on this machine")
        with open(os.path.join(ROOT, "deploy/systemd/fathom.service"), encoding="utf-8") as f:
            unit = f.read()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "fathom.service")
            with open(path, "w", encoding="utf-8") as f:
                f.write(unit.replace("/usr/bin/fathom", FATHOM))
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True)
        said = [line for line in done.stderr.splitlines() if "fathom.service" in line]
        self.assertEqual((done.returncode, said), (0, []))


if __name__ == "__main__":
    unittest.main(verbosity=1)
