#!/usr/bin/env python3
"""`fathom imatrix`: the sums that it writes are those of the matrices' inputs, `fathom quantize` uses them, and
what cannot be used is refused in one line.
"""
import json
import math
import re
import shutil
import sys

from support import DATA, NANO, ROOT, FathomTest, fathom, main

sys.path[:0] = [str(ROOT / "tests" / "support"), str(ROOT / "tests" / "golden" / "reference")]
from nano_text import nano_text  # noqa: E402
from read_gguf import F32, read_gguf  # noqa: E402
from write_gguf import write_model  # noqa: E402

SUMS, COUNTS = ".in_sum2", ".counts"
EXPERTS, EXPERTS_PER_TOKEN, HEADS, RANK, NOPE = 16, 4, 4, 64, 64


class ImatrixTest(FathomTest):
    def imatrix(self, model="nano", name="imatrix.gguf", text=None, flags=()):
        """(path, what was printed) of an imatrix of a text of nano's kind."""
        file = self.write(f"{name}.txt", text or nano_text("train", 40, seed=1))
        out = self.tmp / name
        return out, self.ok("imatrix", model, "--file", file, "--out", out, "--special", *flags).decode()

    def entries(self, path):
        """{weight: (shape of the sums, sums, counts)}"""
        tensors = read_gguf(path)[1]
        return {name.removesuffix(SUMS): (shape, values, tensors[name.removesuffix(SUMS) + COUNTS][2])
                for name, (_, shape, values) in tensors.items() if name.endswith(SUMS)}

    def assert_close(self, actual, expected, tolerance, name):
        self.assertEqual(len(actual), len(expected), name)
        scale = max(expected)
        for i, (a, e) in enumerate(zip(actual, expected)):
            self.assertLess(abs(a - e), tolerance * max(e, 1e-3 * scale) + 1e-30, f"{name}[{i}]: {a}, expected {e}")

    def test_the_file(self):
        path, printed = self.imatrix(flags=["--ctx", 100])
        self.assertRegex(printed, r"imatrix.gguf: inputs of \d+ matrices in \d+ windows of 100 tokens; perplexity ")
        metadata, tensors = read_gguf(path)
        self.assertEqual(metadata["general.type"], "imatrix")
        self.assertEqual(metadata["imatrix.datasets"], [str(self.tmp / "imatrix.gguf.txt")])
        self.assertEqual(metadata["imatrix.chunk_size"], 100)
        windows = int(re.search(r"in (\d+) windows", printed)[1])
        self.assertEqual(metadata["imatrix.chunk_count"], windows)
        self.assertEqual({kind for kind, _, _ in tensors.values()}, {F32})
        # Every matrix that quantize would touch, but the embeddings, which nothing is multiplied with.
        quantized = self.tmp / "nano.gguf"
        self.ok("quantize", "nano", quantized, "--type", "q8_0")
        wanted = {name for name, (kind, _, _) in read_gguf(quantized)[1].items() if kind != F32}
        entries = self.entries(path)
        self.assertEqual(set(entries) | {"token_embd.weight"}, wanted)
        for name, (shape, sums, counts) in entries.items():
            self.assertEqual(shape[0], len(counts), name)
            self.assertEqual(shape[0], EXPERTS if "_exps." in name else HEADS if "_b.weight" in name and
                             "attn_q_b" not in name else 1, name)
            self.assertGreater(sum(sums), 0, name)

    def test_inputs_that_are_shared(self):
        entries = self.entries(self.imatrix()[0])
        tokens = entries["output.weight"][2][0]
        for layer in range(1, 6):
            part = {name: entries[f"blk.{layer}.{name}.weight"] for name in
                    ("attn_q_a", "attn_kv_a_mqa", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_shexp")}
            self.assertEqual(part["attn_q_a"][1], part["attn_kv_a_mqa"][1])
            self.assertEqual(part["ffn_gate_exps"][1], part["ffn_up_exps"][1])
            self.assertEqual(sum(part["ffn_down_exps"][2]), tokens * EXPERTS_PER_TOKEN)
            self.assertGreater(sum(c > 0 for c in part["ffn_down_exps"][2]), EXPERTS // 2)
            self.assertEqual(list(entries[f"blk.{layer}.attn_v_b.weight"][2]), [tokens] * HEADS)
            # Every token goes to the shared expert and to four others.
            cols = part["ffn_gate_exps"][0][1]
            by_column = [math.fsum(part["ffn_gate_exps"][1][c::cols]) for c in range(cols)]
            self.assert_close(by_column, [EXPERTS_PER_TOKEN * v for v in part["ffn_gate_shexp"][1]], 1e-4, layer)

    def test_the_model_computes_what_it_computes(self):
        # Inner results such as latents enter what follows: if they were wrong, so were the predictions.
        text = nano_text("train", 10, seed=3)
        for model in ["nano", *map(str, write_model(NANO, self.tmp / "whole.gguf", kv_b="whole"))]:
            printed = self.imatrix(model, text=text)[1]
            plain = self.ok("perplexity", model, "--file", self.tmp / "imatrix.gguf.txt", "--special").decode()
            seen, expected = (float(re.search(r"perplexity ([\d.]+)", p)[1]) for p in (printed, plain))
            self.assertLess(abs(seen / expected - 1), 1e-4, (seen, expected))

    def test_against_the_reference(self):
        try:
            import ref_numpy
        except ImportError:
            self.skipTest("needs numpy")
        text = nano_text("train", 4, seed=2)
        ids = list(map(int, self.ok("tokenize", "nano", stdin=text.encode()).split()))
        expected = reference_sums(ref_numpy, [0, *ids])  # each window begins with the begin token
        entries = self.entries(self.imatrix(text=text)[0])
        self.assertEqual(set(entries), set(expected))
        for name, sums in expected.items():
            self.assert_close(entries[name][1], sums, 2e-3, name)

    def test_gguf_gives_the_same(self):
        text = nano_text("train", 8, seed=4)
        plain = self.entries(self.imatrix(text=text)[0])
        for kv_b in ["split", "flat", "whole"]:
            with self.subTest(kv_b):
                path, = write_model(NANO, self.tmp / f"{kv_b}.gguf", kv_b=kv_b)
                seen = self.entries(self.imatrix(path, text=text)[0])
                for name, (_, sums, counts) in plain.items():
                    if "attn_k_b" in name or "attn_v_b" in name:
                        continue
                    self.assertEqual(list(seen[name][2]), list(counts), name)
                    self.assert_close(seen[name][1], sums, 1e-3, name)
                for layer in range(7):
                    name = f"blk.{layer}.attn_v_b.weight"
                    if kv_b == "split":
                        self.assert_close(seen[name][1], plain[name][1], 1e-3, name)
                        continue
                    # One set for all heads.
                    own = name if kv_b == "flat" else f"blk.{layer}.attn_kv_b.weight"
                    summed = [math.fsum(plain[name][1][c::RANK]) for c in range(RANK)]
                    self.assert_close(seen[own][1], summed, 1e-3, own)
                    self.assertEqual(seen[own][2][0], sum(plain[name][2]))

    def test_quantize_uses_it(self):
        matrix, _ = self.imatrix(text=nano_text("train", 100, seed=1))
        held_out = self.entries(self.imatrix(name="test.gguf", text=nano_text("heldout", 60, seed=2))[0])
        files = {}
        for label, flags in [("plain", []), ("weighted", ["--imatrix", matrix])]:
            out = self.tmp / f"{label}.gguf"
            self.assertEqual(fathom("quantize", "nano", out, "--type", "q3_k", *flags).returncode, 0)
            self.ok("quantize", NANO, self.tmp / "f32.gguf", "--type", "f32")
            done = fathom("quantize", out, self.tmp / "back.gguf", "--type", "f32")
            self.assertEqual(done.returncode, 0, done.stderr)
            files[label] = read_gguf(self.tmp / "back.gguf")[1]
        exact = read_gguf(self.tmp / "f32.gguf")[1]
        metadata = read_gguf(self.tmp / "weighted.gguf")[0]
        self.assertEqual(metadata["quantize.imatrix.file"], str(matrix))
        self.assertEqual(metadata["quantize.imatrix.entries_count"], len(held_out))
        better = []
        for layer in range(1, 6):
            for stem in ["attn_q_a", "attn_output", "ffn_down_shexp", "ffn_down_exps"]:
                name = f"blk.{layer}.{stem}.weight"
                plain, weighted = (weighted_error(exact[name], files[f][name], held_out[name]) for f in files)
                better.append(weighted / plain)
        # On problems that the importances did not come from, the mean square error of the outputs falls.
        self.assertLess(math.prod(better) ** (1 / len(better)), 0.97, better)
        self.assertLess(max(better), 1.05, better)

    def test_only_the_first_windows(self):
        path, printed = self.imatrix(flags=["--ctx", 50, "--windows", 2])
        self.assertIn("in 2 windows of 50 tokens", printed)
        self.assertEqual(read_gguf(path)[0]["imatrix.chunk_count"], 2)
        self.assertEqual(self.entries(path)["output.weight"][2][0], 2 * 51)  # with a begin token each
        few = self.ok("perplexity", "nano", "--file", self.tmp / "imatrix.gguf.txt", "--special", "--ctx", 50,
                      "--windows", 2)
        self.assertIn(b"over 100 tokens", few)

    def test_special_tokens_are_read_if_asked(self):
        text = self.write("t.txt", nano_text("train", 10, seed=5))
        plain = self.ok("imatrix", "nano", "--file", text, "--out", self.tmp / "a.gguf").decode()
        special = self.ok("imatrix", "nano", "--file", text, "--out", self.tmp / "b.gguf", "--special").decode()
        as_text, as_tokens = (float(re.search(r"perplexity ([\d.]+)", p)[1]) for p in (plain, special))
        self.assertGreater(as_text, 2 * as_tokens)

    def refuse(self, *args, names=()):
        done = fathom(*args)
        message = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (2, b""), message)
        self.assertEqual(message.removesuffix("Run with --help for more information.\n").count("\n"), 1, message)
        for word in names:
            self.assertIn(str(word), message)

    def test_bad_input(self):
        text, out = self.write("t.txt", "What is 2 + 3?"), self.tmp / "out.gguf"
        run = ["--file", text, "--out", out]
        self.refuse("imatrix", "nano", "--file", self.tmp / "none.txt", "--out", out, names=["none.txt"])
        self.refuse("imatrix", "nano", "--file", self.write("empty.txt", ""), "--out", out,
                    names=["empty.txt", "two tokens"])
        self.refuse("imatrix", DATA / "qwen2", *run, names=["tokenizer"])
        self.refuse("imatrix", "nano", *run, "--compute", "int8", names=["--compute", "int8", "auto, f32 or bf16"])
        self.refuse("imatrix", "nano", "--file", text, "--out", self.tmp / "no" / "x.gguf", names=["no/x.gguf"])
        self.refuse("imatrix", "nano", "--file", text, names=["--out"])
        self.assertFalse(out.exists())

    def test_damaged_weights_are_named(self):
        model = self.tmp / "model"
        shutil.copytree(NANO, model)
        index = json.loads((model / "model.safetensors.index.json").read_text())["weight_map"]
        name = "model.layers.2.mlp.shared_experts.gate_proj.weight"
        file = model / index[name]
        data = bytearray(file.read_bytes())
        size = int.from_bytes(data[:8], "little")
        at = 8 + size + json.loads(data[8:8 + size])[name]["data_offsets"][0]
        data[at:at + 2] = b"\x80\x7f"  # infinity
        file.write_bytes(data)
        out = self.tmp / "out.gguf"
        self.refuse("imatrix", model, "--file", self.write("t.txt", "What is 2 + 3?"), "--out", out,
                    names=["blk.2.ffn_down_shexp.weight", "expected a finite number"])
        self.assertFalse(out.exists())

    def test_quantize_refuses_what_is_no_imatrix(self):
        out = self.tmp / "out.gguf"
        text = self.write("x", "not an imatrix")
        self.refuse("quantize", "nano", out, "--type", "q4_0", "--imatrix", text, names=["begins with", "GGUF"])
        nano, = write_model(NANO, self.tmp / "nano.gguf")
        self.refuse("quantize", "nano", out, "--type", "q4_0", "--imatrix", nano, names=["general.type", "imatrix"])
        self.assertEqual([p.name for p in self.tmp.glob("out.gguf*")], [])


def weighted_error(exact, decoded, entry):
    """Σ over experts, rows and columns of mean square input · (decoded − exact)²."""
    (sets, cols), sums, counts = entry
    rows = math.prod(exact[1][:-1])
    total = 0.0
    for row in range(rows):
        s = row // (rows // sets)
        if counts[s] == 0:
            continue
        a, b = (t[2][row * cols:(row + 1) * cols] for t in (exact, decoded))
        total += sum(h * (x - y) ** 2 for h, x, y in zip(sums[s * cols:(s + 1) * cols], a, b)) / counts[s]
    return total


def reference_sums(ref, ids):
    """{GGUF name: sums} by the numpy reference, whose products are watched."""
    import numpy as np
    weights = ref.load(str(NANO))
    names = {id(v): k for k, v in weights.items()}
    sums, seen = {}, {}

    def add(name, x, sets=1, index=0):
        sums.setdefault(name, np.zeros((sets, x.shape[-1])))[index] += (x.astype(float) ** 2).sum(0)

    def gguf_name(name):
        stems = {"q_a_proj": "attn_q_a", "q_b_proj": "attn_q_b", "kv_a_proj_with_mqa": "attn_kv_a_mqa",
                 "o_proj": "attn_output", "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
                 "eh_proj": "nextn.eh_proj"}
        parts = name.split(".")
        kind = "_exps" if "experts" in parts else "_shexp" if "shared_experts" in parts else ""
        return f"blk.{parts[2]}.{stems[parts[-2]]}{kind}.weight"

    def lin(x, w, b=None):
        name = names[id(w)]
        if "kv_b_proj" in name:
            seen["latent"], seen["layer"] = x, name.split(".")[2]
        elif name == "lm_head.weight":
            sums.pop("output.weight", None)  # the MTP module's rows, which come first
            add("output.weight", x)
        elif not name.endswith("mlp.gate.weight"):
            expert = int(name.split(".")[5]) if ".experts." in name else 0
            add(gguf_name(name), x, EXPERTS if ".experts." in name else 1, expert)
        return x @ w.T

    def attend(q, k, v, scale, mask):
        scores = np.where(mask[None], np.einsum("qhd,khd->hqk", q, k) * np.float32(scale), -np.inf)
        p = ref.softmax(scores)
        for h in range(HEADS):
            add(f"blk.{seen['layer']}.attn_k_b.weight", q[:, h, :NOPE], HEADS, h)
            add(f"blk.{seen['layer']}.attn_v_b.weight", p[h] @ seen["latent"], HEADS, h)
        return np.einsum("hqk,khd->qhd", p, v)

    plain = ref.lin, ref.attend
    ref.lin, ref.attend = lin, attend
    try:
        ref.forward(weights, json.loads((NANO / "config.json").read_text()), np.array(ids))
    finally:
        ref.lin, ref.attend = plain
    return {name: list(v.reshape(-1)) for name, v in sums.items()}


if __name__ == "__main__":
    main()
