"""A fathom server and clients of it, for the serve-* scripts. Standard library only."""
import asyncio
import json
import os
import signal
import subprocess
import tempfile
import time

from fixtures import DATA, FATHOM, NANO


def byte_tokenizer(path, tokens=512):
    """A tokenizer.json of up to 512 tokens: the 256 bytes, and pairs of the letters a to p."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    signs = {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}
    vocab = {signs[b]: b for b in range(256)}
    letters = "abcdefghijklmnop"
    merges = [f"{x} {y}" for x in letters for y in letters][:tokens - 256]
    vocab.update({m.replace(" ", ""): 256 + i for i, m in enumerate(merges)})
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    with open(path, "w", encoding="utf-8") as f:
        json.dump({"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": byte_level,
                   "post_processor": None, "decoder": byte_level,
                   "model": {"type": "BPE", "dropout": None, "unk_token": None, "vocab": vocab, "merges": merges}}, f)


def fixture_with_text(folder, name="deepseek_v3"):
    """A random fixture with a tokenizer for its ids, as a model directory in `folder`."""
    source = os.path.join(DATA, name)
    for file in os.listdir(source):
        os.symlink(os.path.join(source, file), os.path.join(folder, file))
    with open(os.path.join(source, "config.json"), encoding="utf-8") as f:
        byte_tokenizer(os.path.join(folder, "tokenizer.json"), json.load(f)["vocab_size"])
    return folder


def nano_with_tools(folder):
    """Nano with the chat template of DeepSeek-V3.1, which can describe tools, as a model directory in `folder`. What it
    says makes little sense; the form of its calls is enforced all the same."""
    for name in os.listdir(NANO):
        if name != "tokenizer_config.json":
            os.symlink(os.path.join(NANO, name), os.path.join(folder, name))
    with open(os.path.join(NANO, "tokenizer_config.json"), encoding="utf-8") as f:
        config = json.load(f)
    with open(os.path.join(DATA, "chat_templates/deepseek_v31.jinja"), encoding="utf-8") as f:
        config["chat_template"] = f.read()
    with open(os.path.join(folder, "tokenizer_config.json"), "w", encoding="utf-8") as f:
        json.dump(config, f)
    return folder


class Server:
    """`fathom serve` on a free port of this machine; use with `with`. `model` is None where a --config names models;
    `key` is shown with this class's own requests."""

    def __init__(self, model, *flags, binary=FATHOM, log=None, key=None):
        self.log = log or tempfile.TemporaryFile("w+")
        self.key = key
        named = [] if model is None else [model]
        self.process = subprocess.Popen([binary, "serve", *named, "--port", "0", *map(str, flags)],
                                        stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.port = None
        for line in self.process.stdout:
            if line.startswith("open ") and "http://" in line:
                self.port = int(line.rsplit(":", 1)[1])
            if line.startswith("API"):
                break
        if self.port is None:
            raise SystemExit(f"fathom serve {model} did not start:\n{self.text_of_log()}")
        deadline = time.monotonic() + 120
        while self.status()["state"] != "ok":
            if time.monotonic() > deadline:
                raise SystemExit(f"not ready after 120 s:\n{self.text_of_log()}")
            time.sleep(0.05)

    def text_of_log(self):
        self.log.seek(0)
        return self.log.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.log.close()

    def get(self, path):
        import urllib.request
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read().decode()

    def status(self):
        return json.loads(self.get("/status"))

    def workers(self):
        return self.status()["models"][0]["workers"]


class StreamResult:
    def __init__(self):
        self.text, self.tokens, self.error, self.finish = "", 0, None, None
        self.first = None  # seconds from the start to the first text
        self.arrivals = []  # time.monotonic() of every event with text


async def stream(port, path, body, timeout=600):
    """One streamed request; never raises."""
    result, start = StreamResult(), time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
        data = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
        writer.write(f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                     f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            result.error = (head + await reader.read(2000)).decode(errors="replace")
            return result
        done = False
        while not done:
            line = await asyncio.wait_for(reader.readline(), timeout)
            if not line:
                break
            if not line.startswith(b"data: "):
                continue
            payload = line[6:].strip()
            if payload == b"[DONE]":
                done = True
                break
            event = json.loads(payload)
            if "error" in event:
                result.error = event["error"]
                return result
            if event.get("usage"):
                result.tokens = event["usage"]["completion_tokens"]
            for choice in event["choices"]:
                delta = choice.get("delta") or {}
                text = choice.get("text") or (delta.get("reasoning_content") or "") + (delta.get("content") or "")
                if text:
                    result.arrivals.append(time.monotonic())
                    if result.first is None:
                        result.first = time.monotonic() - start
                result.text += text
                result.finish = choice.get("finish_reason") or result.finish
        if not done:
            result.error = "the stream ended without [DONE]"
        writer.close()
    except Exception as error:  # noqa: BLE001: whatever it is, the request failed
        result.error = f"{type(error).__name__}: {error}"
    return result


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
