#!/usr/bin/env python3
"""`fathom quantize` keeps its promises: any type answers, --keep has its way, memory does not grow with the model,
and nobody ever sees half a file.
"""
import fcntl
import math
import json
import os
import pty
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
import time

from support import BINARY, DATA, ENVIRONMENT, NANO, ROOT, SANITIZED, FathomTest, fathom, main

sys.path.insert(0, str(ROOT / "tests" / "support"))
from read_gguf import read_gguf  # noqa: E402
from write_gguf import F32, STRING, U32, key_value, string  # noqa: E402

TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "q2_k": 10, "q3_k": 11,
         "q4_k": 12, "q5_k": 13, "q6_k": 14, "bf16": 30, "mxfp4": 39}
MIXES = ["q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m"]
QUESTION = "What is 4837 + 926?"
VOCAB, HIDDEN, LAYERS, INNER = 32000, 2048, 4, 8192
LIMITED = {"restore_signals": False}  # keeps SIGXFSZ ignored: a write beyond the limit fails as on a full disk


def big_model(path):
    """A llama of zeros in F16 without its weights on the disk: a sparse file of half a gigabyte."""
    shapes = {"token_embd.weight": [VOCAB, HIDDEN], "output_norm.weight": [HIDDEN]}
    for i in range(LAYERS):
        for name, shape in {"attn_q": [HIDDEN, HIDDEN], "attn_k": [HIDDEN, HIDDEN], "attn_v": [HIDDEN, HIDDEN],
                            "attn_output": [HIDDEN, HIDDEN], "ffn_gate": [INNER, HIDDEN], "ffn_up": [INNER, HIDDEN],
                            "ffn_down": [HIDDEN, INNER], "attn_norm": [HIDDEN], "ffn_norm": [HIDDEN]}.items():
            shapes[f"blk.{i}.{name}.weight"] = shape
    keys = {"general.architecture": (STRING, "llama"), "llama.block_count": (U32, LAYERS),
            "llama.embedding_length": (U32, HIDDEN), "llama.feed_forward_length": (U32, INNER),
            "llama.attention.head_count": (U32, 16), "llama.attention.head_count_kv": (U32, 16),
            "llama.context_length": (U32, 2048), "llama.attention.layer_norm_rms_epsilon": (F32, 1e-5),
            "llama.vocab_size": (U32, VOCAB)}
    infos, data = b"", 0
    for name, shape in shapes.items():
        kind, size = (TYPES["f32"], 4) if len(shape) == 1 else (TYPES["f16"], 2)
        infos += (string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
                  + struct.pack("<IQ", kind, data))
        data += math.prod(shape) * size  # whole multiples of the alignment
    head = (b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(keys))
            + b"".join(key_value(k, *v) for k, v in keys.items()) + infos)
    with open(path, "wb") as f:
        f.write(head)
        f.truncate((len(head) + 31) // 32 * 32 + data)


def fp4_model(folder):
    """deepseek_v3_fp8 in V4's storage: gate and up of the experts in FP4, the scales of FP8 as powers of two under
    the name X.scale, in F8_E8M0 or, in layer 0, F32. Rows of down have no whole blocks of 32,
    so they stay in FP8: an expert has both types. Which values come out does not matter here."""
    draw = random.Random(5)
    source = DATA / "deepseek_v3_fp8"
    for name in ("config.json", "generation_config.json"):
        if (source / name).exists():
            (folder / name).write_bytes((source / name).read_bytes())
    raw = (source / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header, body = json.loads(raw[8:8 + size]), raw[8 + size:]
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__" or name.endswith("_scale_inv"):
            continue
        kind, shape, data = entry["dtype"], entry["shape"], body[slice(*entry["data_offsets"])]
        scale = name[:-len("weight")] + "scale"
        if kind == "F8_E4M3" and ".experts." in name and shape[1] % 32 == 0:
            tensors[name] = "I8", [shape[0], shape[1] // 2], draw.randbytes(shape[0] * shape[1] // 2)
            blocks = shape[0] * shape[1] // 32
            tensors[scale] = "F8_E8M0", [shape[0], shape[1] // 32], bytes(draw.choices(range(119, 122), k=blocks))
            continue
        tensors[name] = kind, shape, data
        if kind != "F8_E4M3":
            continue
        blocks = header[name + "_scale_inv"]["shape"]
        exponents = [round(math.log2(v)) for v in struct.unpack(
            f"<{math.prod(blocks)}f", body[slice(*header[name + "_scale_inv"]["data_offsets"])])]
        if ".layers.0." in name:
            tensors[scale] = "F32", blocks, struct.pack(f"<{len(exponents)}f", *(2.0 ** e for e in exponents))
        else:
            tensors[scale] = "F8_E8M0", blocks, bytes(e + 127 for e in exponents)
    entries, at = {}, 0
    for name, (kind, shape, data) in tensors.items():
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(entries).encode()
    (folder / "model.safetensors").write_bytes(
        struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


class QuantizeTest(FathomTest):
    def quantize(self, source, out, *flags):
        done = fathom("quantize", source, out, *flags)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return done.stdout.decode()

    def test_every_type_answers(self):
        for kind in [*TYPES, *MIXES]:
            with self.subTest(kind):
                out = self.tmp / f"{kind}.gguf"
                table = self.quantize("nano", out, "--type", kind)
                shares = [float(s) for s in re.findall(r"([\d.]+) %", table)]
                self.assertAlmostEqual(sum(shares), 100, delta=0.3)
                types = {t for t, _, _ in read_gguf(out)[1].values()}
                if kind in TYPES:
                    self.assertIn(TYPES[kind], types)
                if kind not in ("q2_k", "q3_k", "q3_k_s"):  # those may miscount
                    self.assertEqual(self.ok("run", out, "-p", QUESTION), b"5763\n")

    def test_fp4_and_powers_of_two_as_input(self):
        model, tokens = self.tmp / "fp4", self.write("ids", "0 17 300 5 81 2 77 140")
        model.mkdir()
        fp4_model(model)
        sizes = json.loads(self.ok("info", model, "--json"))
        experts = 2 * 8 * 2 * 72 * 192  # two layers of eight: gate and up
        self.assertEqual(sizes["dtypes"]["F4_E2M1"], {"parameters": experts, "bytes": experts // 2})
        self.assertEqual(sizes["dtypes"]["F8_E8M0"]["parameters"], 0)
        self.assertEqual(sizes["parameters"], json.loads(
            self.ok("info", DATA / "deepseek_v3_fp8", "--json"))["parameters"])

        def logits(path):
            out = self.tmp / "logits"
            self.ok("logits", path, "--tokens", tokens, "--out", out, "--compute", "f32", "--kv", "f32")
            return struct.unpack(f"<{8 * 384}f", out.read_bytes())

        expected = logits(model)
        deviation = math.sqrt(sum(v * v for v in expected) / len(expected))
        for flags in (["--type", "f32"],  # everything decoded, or the experts' codes as they are
                      ["--type", "mxfp4", "--keep", "*ffn_gate_exps*=mxfp4", "--keep", "*ffn_up_exps*=mxfp4",
                       "--keep", "*=f32"]):
            out = self.tmp / "fp4.gguf"
            self.quantize(model, out, *flags)
            if "mxfp4" in flags:
                tensors = read_gguf(out)[1]
                self.assertEqual({n for n, (t, _, _) in tensors.items() if t == TYPES["mxfp4"]},
                                 {f"blk.{i}.ffn_{p}_exps.weight" for i in (1, 2) for p in ("gate", "up")})
            worst = max(abs(a - b) for a, b in zip(logits(out), expected))
            self.assertLess(worst / deviation, 1e-4, flags)

    def test_v32_and_v4_come_out_as_they_went_in(self):
        tokens = self.write("ids", " ".join(str(i * 37 % 300) for i in range(150)))

        def logits(path):
            out = self.tmp / "logits"
            self.ok("logits", path, "--tokens", tokens, "--out", out, "--compute", "f32", "--kv", "f32")
            raw = out.read_bytes()
            return struct.unpack(f"<{len(raw) // 4}f", raw)

        for name, architecture in (("deepseek_v32", "deepseek32"), ("deepseek_v4", "deepseek4"),
                                   ("deepseek_v4_fp4", "deepseek4")):
            expected = logits(DATA / name)
            deviation = math.sqrt(sum(v * v for v in expected) / len(expected))
            out = self.tmp / f"{name}.gguf"
            keeps = [["--type", "f32"]]
            if name == "deepseek_v4_fp4":  # the experts' codes as they are
                keeps.append(["--type", "mxfp4", "--keep", "*_exps*=mxfp4", "--keep", "*=f32"])
            for flags in keeps:
                self.quantize(DATA / name, out, *flags)
                self.assertEqual(read_gguf(out)[0]["general.architecture"], architecture)
                actual = logits(out)
                self.assertEqual(len(actual), len(expected))
                worst = max(abs(a - b) for a, b in zip(actual, expected))
                self.assertLess(worst / deviation, 1e-4, (name, flags))
            self.quantize(DATA / name, out, "--type", "q8_0")
            self.assertEqual(len(logits(out)), len(expected))

    def test_the_table_is_the_file(self):
        out = self.tmp / "nano.gguf"
        table = self.quantize("nano", out, "--type", "q4_0")
        metadata, tensors = read_gguf(out)
        self.assertEqual(int(re.search(r"^Q4_0 +(\d+)", table, re.M)[1]),
                         sum(kind == TYPES["q4_0"] for kind, _, _ in tensors.values()))
        self.assertIn(f"{out.stat().st_size / 1e6:.1f} MB with metadata", table)
        self.assertEqual(metadata["general.quantization_version"], 2)

    def test_keep(self):
        out = self.tmp / "nano.gguf"
        self.quantize("nano", out, "--type", "q4_0", "--keep", "blk.2.ffn_down_exps.weight=bf16",
                      "--keep", "blk.2.*=q8_0", "--keep", "*.attn_output.weight=q5_1", "--output-type", "f16", "--token-embedding-type", "q4_1")
        kinds = {name: kind for name, (kind, _, _) in read_gguf(out)[1].items()}
        for name, kind in {"blk.2.ffn_down_exps": "bf16", "blk.2.attn_output": "q8_0", "blk.2.ffn_up_exps": "q8_0",
                           "blk.3.attn_output": "q5_1", "blk.3.ffn_up_exps": "q4_0", "output": "f16",
                           "token_embd": "q4_1", "blk.2.ffn_gate_inp": "f32"}.items():
            self.assertEqual(kinds[f"{name}.weight"], TYPES[kind], name)
        self.assertEqual(kinds["blk.2.attn_norm.weight"], TYPES["f32"])

    def test_bad_flags(self):
        out = self.tmp / "nano.gguf"
        for flags, words in [(["--type", "q9_0"], ["--type", "q9_0", "q8_0"]),
                             (["--type", "q4_0", "--keep", "x"], ["--keep", "PATTERN=TYPE"]),
                             (["--type", "q4_0", "--keep", "x=q4_k_m"], ["--keep", "q4_k_m"]),
                             (["--type", "q4_0", "--keep", "blk.99.*=q8_0"], ["--keep", "blk.99.*"]),
                             (["--type", "q4_0", "--output-type", "seven"], ["--output-type", "seven"])]:
            done = fathom("quantize", "nano", out, *flags)
            self.assertEqual((done.returncode, done.stdout, done.stderr.count(b"\n")), (2, b"", 1), done.stderr)
            for word in words:
                self.assertIn(word, done.stderr.decode())
        self.assertEqual(list(self.tmp.iterdir()), [])

    def test_the_result_does_not_depend_on_threads(self):
        for n in (1, 2, 5):
            self.quantize("nano", self.tmp / f"{n}.gguf", "--type", "q4_k_m", "--threads", n)
        first = (self.tmp / "1.gguf").read_bytes()
        for n in (2, 5):
            self.assertEqual((self.tmp / f"{n}.gguf").read_bytes(), first)

    def test_again_is_the_same(self):
        a, b = self.tmp / "a.gguf", self.tmp / "b.gguf"
        self.quantize("nano", a, "--type", "q4_k_m")
        self.quantize(a, b, "--type", "q4_k_m")
        self.assertEqual({n: t[:2] for n, t in read_gguf(a)[1].items()}, {n: t[:2] for n, t in read_gguf(b)[1].items()})
        self.assertEqual(self.ok("run", b, "-p", QUESTION), b"5763\n")


class BigModelTest(FathomTest):
    def setUp(self):
        super().setUp()
        self.model, self.out = self.tmp / "big.gguf", self.tmp / "out.gguf"
        big_model(self.model)

    def start(self, *flags, limit=None, **options):
        return subprocess.Popen([BINARY, "quantize", self.model, self.out, "--threads", "2", *flags], env=ENVIRONMENT,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limit, **options)

    @staticmethod
    def end(process):
        out, error = process.communicate(timeout=100)
        return process.returncode, out, error.decode()

    def test_memory_does_not_grow_with_the_model(self):
        self.assertGreater(self.model.stat().st_size, 512 << 20)
        # What a process allocates counts, not the pages of the input that the system keeps for it. The largest tensor
        # takes 262 MB in float32, all of them 285 MB in Q8_0.
        limit = (lambda: resource.setrlimit(resource.RLIMIT_DATA, (160 << 20, 160 << 20))) if not SANITIZED else None
        code, out, error = self.end(self.start("--type", "q8_0", limit=limit))
        self.assertEqual((code, error), (0, ""))
        self.assertRegex(out.decode(), r"Q8_0 +29 ")

    def test_a_killed_run_leaves_no_file(self):
        process, part = self.start("--type", "q4_0"), self.tmp / "out.gguf.part"
        end = time.monotonic() + 60
        while not part.exists() or part.stat().st_size < 1 << 20:
            self.assertIsNone(process.poll(), "it ended before it could be killed")
            self.assertLess(time.monotonic(), end)
            time.sleep(0.002)
        process.kill()
        self.assertEqual(self.end(process)[0], -signal.SIGKILL)
        self.assertFalse(self.out.exists())
        # The next run takes what was left for its own.
        done = fathom("quantize", "nano", self.out, "--type", "q8_0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(p.name for p in self.tmp.iterdir()), ["big.gguf", "out.gguf"])
        self.assertEqual(self.ok("run", self.out, "-p", QUESTION), b"5763\n")

    def test_a_file_that_stood_there_stays_whole(self):
        self.assertEqual(fathom("quantize", "nano", self.out, "--type", "q8_0").returncode, 0)
        before = self.out.read_bytes()
        process, part = self.start("--type", "q4_0"), self.tmp / "out.gguf.part"
        while not part.exists() and process.poll() is None:
            time.sleep(0.002)
        second = fathom("quantize", "nano", self.out, "--type", "q8_0")
        self.assertEqual((second.returncode, second.stdout), (2, b""))
        self.assertIn("another program is writing", second.stderr.decode())
        process.terminate()
        self.end(process)
        self.assertEqual(self.out.read_bytes(), before)

    def test_a_full_disk(self):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (100 << 20, 100 << 20))
        code, out, error = self.end(self.start("--type", "q8_0", limit=limit, **LIMITED))
        self.assertEqual((code, out, error.count("\n")), (1, b"", 1), error)
        self.assertRegex(error, r"out\.gguf\.part: cannot write after \d+ bytes: ")
        self.assertEqual([p.name for p in self.tmp.iterdir()], ["big.gguf"])

    def test_progress_on_a_terminal(self):
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(BINARY, [BINARY, "quantize", str(self.model), str(self.out), "--type", "q4_k"], ENVIRONMENT)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 200, 0, 0))
        screen = b""
        try:
            while piece := os.read(fd, 1 << 16):
                screen += piece
        except OSError:  # Linux: the other side is closed
            pass
        os.close(fd)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)
        text = screen.decode()
        self.assertRegex(text, r"quantize █+░+ +\d+% [\d.]+/1\.3 GB \d+s left \S+\.weight")
        # The bar is gone before the table begins.
        self.assertRegex(text, r"\r\x1b\[Ktype +tensors +size +share\r\n")


if __name__ == "__main__":
    main()
