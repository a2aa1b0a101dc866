#!/usr/bin/env python3
"""GGUF files as models: the bundled model written as GGUF does what its directory does, and files that
are damaged or foreign are refused in one line.
"""
import json
import shutil
import sys

from support import DATA, NANO, ROOT, FathomTest, fathom, main

sys.path.insert(0, str(ROOT / "tests" / "support"))
from write_gguf import STRING, U32, Tensor, gguf, write_model  # noqa: E402

QUESTION = "What is 4837 + 926?"


class GgufTest(FathomTest):
    def nano(self, name="nano.gguf", **options):
        return write_model(NANO, self.tmp / name, **options)

    def refuse(self, *args, names=(), stdin=b""):
        done = fathom(*args, stdin=stdin)
        message = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (2, b""), message)
        self.assertEqual(message.count("\n"), 1, message)
        for word in names:
            self.assertIn(str(word), message)

    def test_the_model_answers(self):
        for options in [{}, {"kv_b": "whole"}, {"f32": True}]:
            with self.subTest(options):
                path, = self.nano(**options)
                self.assertEqual(self.ok("run", path, "-p", QUESTION), b"5763\n")
        # One model in a directory stands for it.
        self.assertEqual(self.ok("run", self.tmp, "-p", QUESTION), b"5763\n")

    def test_any_shard_opens_the_set(self):
        shards = self.nano(shards=4)
        self.assertEqual(len(shards), 4)
        for path in [shards[0], shards[2], self.tmp]:
            self.assertEqual(self.ok("run", path, "-p", QUESTION), b"5763\n")
        shards[1].unlink()
        self.refuse("info", shards[0], names=[shards[1], "shard 2 of 4"])

    def test_tokens_and_prompts(self):
        path, = self.nano()
        text = "Hello 世界 12345!".encode()
        ids = self.ok("tokenize", NANO, stdin=text)
        self.assertEqual(self.ok("tokenize", path, stdin=text), ids)
        self.assertEqual(self.ok("tokenize", path, "--decode", stdin=ids), text)
        tokens = self.write("ids.txt", ids)
        run = ["--tokens", tokens, "-n", 8, "--print-ids"]
        self.assertEqual(self.ok("generate", path, *run), self.ok("generate", NANO, *run))

    def test_info(self):
        path, = self.nano()
        plain, info = (json.loads(self.ok("info", p, "--json")) for p in (NANO, path))
        for key in ["architecture", "layers", "mtp_layers", "hidden_size", "vocab_size", "context_tokens",
                    "chat_family"]:
            self.assertEqual(info[key], plain[key], key)
        self.assertEqual(info["tokenizer"], "gpt2, pre-tokenizer nano-v3")
        text = self.ok("info", path).decode()
        for part in ["GGUF version 3", "BF16", "%", "nano-v3", "chat template  nano"]:
            self.assertIn(part, text)

    def test_a_model_without_a_tokenizer_takes_ids(self):
        path, = write_model(DATA / "qwen2", self.tmp / "qwen2.gguf")
        tokens = self.write("ids.txt", "5 6 7")
        run = ["--tokens", tokens, "-n", 4, "--print-ids"]
        self.assertEqual(self.ok("generate", path, *run), self.ok("generate", DATA / "qwen2", *run))
        self.assertIn("tokenizer      none", self.ok("info", path).decode())
        self.refuse("run", path, "-p", "x", names=[path, "no tokenizer", "token ids do not"])
        self.refuse("tokenize", path, names=[path, "no tokenizer"])

    def test_files_that_are_no_models(self):
        path, = self.nano()
        whole = path.read_bytes()
        for n in [0, 3, 4, 23, 24, 1000, len(whole) // 2, len(whole) - 1]:
            cut = self.write("cut.gguf", whole[:n])
            self.refuse("info", cut, names=[cut])
        self.refuse("info", self.write("x.gguf", b"not a model at all"), names=["begins with", "GGUF"])
        self.refuse("info", self.write("old.gguf", whole[:4] + b"\1" + whole[5:]), names=["version 1"])
        self.refuse("info", self.write("big.gguf", whole[:4] + b"\0\0\0\3" + whole[8:]), names=["big-endian"])
        arch = {"general.architecture": (STRING, "mamba")}
        self.refuse("info", self.write("mamba.gguf", gguf(arch, {})), names=["general.architecture", "mamba"])
        self.refuse("info", self.tmp / "none.gguf", names=["none.gguf", "no such file"])
        (self.tmp / "dir.gguf").mkdir()
        self.refuse("info", self.tmp / "dir.gguf", names=["dir.gguf"])

    def test_tokenizers_that_fathom_does_not_have(self):
        path, = self.nano(pre="smaug-bpe")
        self.refuse("tokenize", path, names=["tokenizer.ggml.pre", "smaug-bpe", "deepseek-v3"])
        spm = {"tokenizer.ggml.model": (STRING, "llama"), "tokenizer.ggml.tokens": (STRING, ["a"])}
        self.refuse("tokenize", self.write("spm.gguf", gguf(spm, {})), names=["\"llama\"", "SentencePiece"])

    def test_several_models_in_a_directory(self):
        path, = self.nano()
        shutil.copy(path, self.tmp / "other.gguf")
        self.refuse("info", self.tmp, names=["2 GGUF models", "nano.gguf, other.gguf"])

    def test_a_tensor_of_a_type_that_fathom_does_not_have(self):
        data = gguf({"general.alignment": (U32, 32)}, {"t": Tensor("F32", [32], b"\0" * 128)})
        # The type stands behind the name, the rank and the one dimension.
        at = data.index(b"\1\0\0\0\0\0\0\0t") + 9 + 4 + 8
        path = self.write("iq.gguf", data[:at] + b"\x10" + data[at + 1:])
        self.refuse("info", path, names=["tensor \"t\"", "16 (IQ2_XXS)", "Q4_K"])


if __name__ == "__main__":
    main()
