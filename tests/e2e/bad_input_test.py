#!/usr/bin/env python3
"""Bad input ends in exit code 2 and a short message that names the flag, file or field: within five
seconds, in less than 500 MB, without a crash.
"""
import json
import os
import resource
import shutil
import struct
import subprocess
import time

from support import BINARY, DATA, ENVIRONMENT, NANO, SANITIZED, FathomTest, fathom, limit_memory, main

SMALL = DATA / "deepseek_v3"  # no tokenizer, two shards
QUESTION = "What is 2 + 3?"
MAX_RSS_KB = 500_000
MAX_SECONDS = 5


class BadInputTest(FathomTest):
    def refuse(self, *args, names=(), stdin=b"", code=2):
        """The command must be refused with a message that holds every word of `names`."""
        with self.subTest(" ".join(map(str, args))):
            start = time.monotonic()
            done = fathom(*args, stdin=stdin, timeout=60)
            seconds = time.monotonic() - start
            message = done.stderr.decode()
            self.assertEqual(done.returncode, code, message)
            self.assertEqual(done.stdout, b"")
            for word in names if isinstance(names, (list, tuple)) else [names]:
                self.assertIn(str(word), message)
            # One line; the flag parser adds where help is.
            lines = message.removesuffix("Run with --help for more information.\n")
            self.assertEqual(lines.count("\n"), 1, message)
            self.assertLess(len(lines), 600, message)
            if not SANITIZED:
                self.assertLess(seconds, MAX_SECONDS)
                self.assertLess(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, MAX_RSS_KB)

    def model(self, source=SMALL):
        """A copy of a model that a test may damage."""
        copy = self.tmp / f"model{len(list(self.tmp.iterdir()))}"
        copy.mkdir()
        for file in source.iterdir():
            if file.suffix in (".json", ".safetensors") and not file.name.startswith("golden"):
                shutil.copy(file, copy)
        return copy

    def config(self, **changes):
        """A copy of a model whose config.json has other values."""
        copy = self.model()
        config = json.loads((copy / "config.json").read_text())
        config.update(changes)
        (copy / "config.json").write_text(json.dumps(config))
        return copy

    def tokens(self, text="0 5 6 7", name="ids.txt"):
        return self.write(name, text)


class FlagsTest(BadInputTest):
    def test_commands_and_flags(self):
        self.refuse(names="subcommand")
        self.refuse("frobnicate", names="frobnicate")
        self.refuse("--frobnicate", names="frobnicate")
        self.refuse("run", "nano", "--frobnicate", names="--frobnicate")
        self.refuse("run", names="MODEL")
        self.refuse("info", names="MODEL")
        self.refuse("info", "nano", "surplus", names="surplus")
        self.refuse("eval", "nano", names="--data")
        self.refuse("logits", "nano", "--tokens", self.tokens(), names="--out")

    def test_numbers_out_of_range(self):
        generate = ["generate", SMALL, "--tokens", self.tokens(), "--print-ids"]
        for n in ["0", "-3", "x", "1.5", "", str(2**40), str(2**63 - 1), str(2**63), str(2**70)]:
            self.refuse(*generate, "-n", n, names="-n")
        for flag in ["--chunk", "--threads"]:
            for value in ["0", "-1", "many", "9999999999"]:
                self.refuse(*generate, "-n", 1, flag, value, names=flag)
        self.refuse("logits", SMALL, "--tokens", self.tokens(), "--out", self.tmp / "o", "--chunk", 0,
                    names="--chunk")
        self.refuse("eval", "nano", "--data", NANO / "eval.jsonl", "--batch", 0, names="--batch")
        self.refuse("perplexity", "nano", "--file", NANO / "README.md", "--ctx", 1, names="--ctx")
        self.refuse(*generate, "-n", 1, "--compute", "f64", names="--compute")
        for command in ([*generate, "-n", 1], ["serve", SMALL]):
            self.refuse(*command, "--simulate-quantised-cache", names=["model_type", "deepseek_v32 or deepseek_v4"])
        self.refuse(*generate, "-n", 1, "--seed", -1, names="--seed")

    def test_sampling_out_of_range(self):
        ask = ["run", "nano", "-p", QUESTION]
        for flag, name, values in [("--temperature", "temperature", ["-1", "nan", "inf", "1e300", "101"]),
                                   ("--top-p", "top", ["-0.1", "1.1", "nan"]),
                                   ("--min-p", "min", ["-0.1", "1.1", "nan"]),
                                   ("--top-k", "top", ["-1", "17000000", "4294967297"]),
                                   ("--repetition-penalty", "repetition", ["0", "-1", "nan"])]:
            for value in values:
                self.refuse(*ask, flag, value, names=name)
        generate = ["generate", SMALL, "--tokens", self.tokens(), "--print-ids", "-n", 1]
        for value in ["-1", "nan"]:
            self.refuse(*generate, "--temperature", value, names="temperature")

    def test_caches_that_fit_nowhere(self):
        for tokens in [2**31, 2**40, 2**62, 2**63 - 1]:
            self.refuse("run", "nano", "-p", QUESTION, "--ctx", tokens, names=str(tokens))
        self.refuse("run", "nano", "-p", QUESTION * 20, "--ctx", 64, names=["tokens", "--ctx"])
        if not SANITIZED:  # within the limit, but more than the address space has
            self.refuse("generate", SMALL, "--tokens", self.tokens(), "--print-ids", "-n", 2**27,
                        names=str(2**27 + 4))


class ModelTest(BadInputTest):
    def test_paths_that_are_no_model(self):
        self.refuse("info", "nonesuch", names="nonesuch")
        self.refuse("info", "/no/such/model", names="/no/such/model")
        self.refuse("info", "", names="model")
        self.refuse("run", "nonesuch", "-p", QUESTION, names="nonesuch")
        fifo = self.tmp / "fifo"
        os.mkfifo(fifo)
        self.refuse("info", fifo, names=fifo)
        self.refuse("info", "/dev/zero", names="/dev/zero")
        empty = self.tmp / "empty"
        empty.mkdir()
        self.refuse("info", empty, names=empty)
        for name, content in [("zeros.safetensors", bytes(1000)), ("none.safetensors", b""),
                              ("random.bin", os.urandom(5000)), ("text.safetensors", b"hello" * 99)]:
            self.refuse("info", self.write(name, content), names=self.tmp)

    def test_files_of_the_model_that_are_no_files(self):
        for name in ["config.json", "tokenizer.json", "model.safetensors.index.json"]:
            copy = self.model(NANO)
            (copy / name).unlink()
            os.mkfifo(copy / name)
            self.refuse("run", copy, "-p", QUESTION, names=name)

    def test_shards_cut_short(self):
        shard = "model-00001-of-00002.safetensors"
        size = (NANO / shard).stat().st_size
        for length in [0, 1, 7, 8, 9, 1000, size // 2, size - 1]:
            copy = self.model(NANO)
            os.truncate(copy / shard, length)
            self.refuse("info", copy, names=shard)
            shutil.rmtree(copy)
        copy = self.model(NANO)
        (copy / shard).unlink()
        self.refuse("info", copy, names=shard)

    def damaged_header(self, change):
        copy = self.model(DATA / "qwen2")
        file = copy / "model.safetensors"
        data = file.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + size])
        text = change(header)
        if text is None:
            text = json.dumps(header)
        file.write_bytes(struct.pack("<Q", len(text)) + text.encode() + data[8 + size:])
        return copy

    def test_headers_that_lie(self):
        name = "model.layers.0.mlp.up_proj.weight"

        def change(**fields):
            return lambda header: header[name].update(fields)
        for lie in [change(shape=[256, 97]), change(shape=[2**62, 2**62]), change(shape=[-1, -96]),
                    change(shape="wide"), change(dtype="F64"), change(dtype=16),
                    change(data_offsets=[0, 2**60]), change(data_offsets=[10, 2]),
                    change(data_offsets=[-2, 0]), change(data_offsets=[1]),
                    lambda header: header.update({name: None})]:
            self.refuse("info", self.damaged_header(lie), names=["model.safetensors", name])
        self.refuse("info", self.damaged_header(lambda header: header.pop(name) and None),
                    names="model.safetensors")
        self.refuse("info", self.damaged_header(lambda header: "[" * 5000), names="model.safetensors")
        self.refuse("info", self.damaged_header(lambda header: "{}"), names="model")
        copy = self.model(DATA / "qwen2")
        with open(copy / "model.safetensors", "r+b") as file:
            file.write(struct.pack("<Q", 2**63))
        self.refuse("info", copy, names="model.safetensors")

    def test_configurations(self):
        for changes, word in [({"model_type": "gpt9"}, "gpt9"), ({"model_type": 3}, "model_type"),
                              ({"model_type": None}, "model_type"), ({"vocab_size": 100}, "embed_tokens"),
                              ({"vocab_size": -1}, "vocab_size"), ({"vocab_size": "many"}, "vocab_size"),
                              ({"vocab_size": 2**62}, "vocab_size"), ({"hidden_size": 0}, "hidden_size"),
                              ({"hidden_size": 33}, ""), ({"num_hidden_layers": 4000}, "layers"),
                              ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
                              ({"rms_norm_eps": "tiny"}, "rms_norm_eps"), ({"n_routed_experts": 7}, ""),
                              ({"num_experts_per_tok": 1000}, ""),
                              ({"rope_scaling": {"type": "magic"}}, "magic"),
                              ({"rope_scaling": [1]}, "rope_scaling"), ({"hidden_act": "relu9"}, "relu9"),
                              ({"max_position_embeddings": 2**40}, "max_position_embeddings")]:
            copy = self.config(**changes)
            self.refuse("info", copy, names=[word, copy])

    def test_json_that_is_not_strict(self):
        good = (SMALL / "config.json").read_text()
        field = '"vocab_size"'
        self.assertIn(field, good)
        for text, word in [(good.replace(field, '"rms_norm_eps": NaN, ' + field), "config.json"),
                           (good.replace(field, '"rms_norm_eps": Infinity, ' + field), "config.json"),
                           (good.replace(field, '"hidden_size": 1, ' + field), "hidden_size"),
                           (good[:-5], "config.json"), ("", "config.json"), ("[]", "config.json"),
                           ("[" * 100_000, "config.json"), ("\0" * 100, "config.json"),
                           (good.replace(field, '"a\udcff": 1, ' + field), "config.json")]:
            copy = self.model()
            (copy / "config.json").write_bytes(text.encode(errors="surrogateescape"))
            self.refuse("info", copy, names=word)

    def test_tokenizers(self):
        for content in [b"", b"{}", b"[]", b'{"model": 5}', b'{"model": {"type": "BPE", "vocab": 1}}',
                        bytes(99)]:
            file = self.write("tokenizer.json", content)
            self.refuse("tokenize", file, stdin=b"hi", names="tokenizer.json")
            file.unlink()
        self.refuse("tokenize", SMALL, stdin=b"hi", names="tokenizer.json")
        self.refuse("run", SMALL, "-p", QUESTION, names="tokenizer.json")
        # A vocabulary larger than the model's: the ids would be outside the embedding.
        copy = self.model()
        shutil.copy(NANO / "tokenizer.json", copy)
        self.refuse("run", copy, "-p", QUESTION, names=["tokenizer.json", "vocab_size"])


class DataTest(BadInputTest):
    def test_token_files(self):
        for text, word in [("", "token"), ("  \n", "token"), ("1 two 3", "two"), ("1 -2", "-2"),
                           ("1.5", "1.5"), ("1,2", "1,2"), ("99999", "99999"),
                           ("1 " + "9" * 30, "999"), ("\0\0", "ids.txt")]:
            file = self.tokens(text)
            self.refuse("generate", SMALL, "--tokens", file, "-n", 1, "--print-ids", names=word)
            self.refuse("logits", SMALL, "--tokens", file, "--out", self.tmp / "out", names=word)
            self.assertEqual([p.name for p in self.tmp.iterdir()], ["ids.txt"])
        self.refuse("generate", SMALL, "--tokens", "/no/such", "-n", 1, names="/no/such")
        self.refuse("generate", SMALL, "--tokens", self.tmp, "-n", 1, names=self.tmp)
        self.refuse("generate", SMALL, "--tokens", "/dev/zero", "-n", 1, names="/dev/zero")
        self.refuse("generate", SMALL, "--tokens", self.tokens(), "-n", 1, names="--print-ids")
        for text in ["x", "-1", "5 99999999999", "1536"]:
            self.refuse("tokenize", "nano", "--decode", stdin=text.encode(), names=text.split()[-1])

    def test_mtp_where_there_is_none(self):
        self.refuse("logits", DATA / "qwen2", "--tokens", self.tokens(), "--out", self.tmp / "o", "--mtp",
                    names=["qwen2", "MTP"])

    def test_outputs_that_cannot_be_written(self):
        for out in ["/no/such/dir/out", "/proc/out", self.tmp]:
            self.refuse("logits", SMALL, "--tokens", self.tokens(), "--out", out, names=out)
        self.assertEqual([p.name for p in self.tmp.iterdir()], ["ids.txt"])
        self.assertEqual(list(self.tmp.parent.glob(self.tmp.name + ".tmp*")), [])

    def test_messages(self):
        for text, word in [("", "m.json"), ("{}", "m.json"), ("[]", ["m.json", "messages"]), ("5", "m.json"),
                           ("[5]", "m.json"),
                           ('[{"content": "x"}]', "role"), ('[{"role": 5, "content": "x"}]', "role"),
                           ('[{"role": "user", "content": 5}]', "content"),
                           ('[{"role": "user", "content": [5]}]', "content"),
                           ('[{"role": "user", "content": "x", "content": "y"}]', "content"),
                           ('[{"role": "assistant", "content": "x", "tool_calls": 7}]', "tool_calls"),
                           ('[{"role": "user", "content": "x"', "m.json"), ("[" * 9999, "m.json")]:
            self.refuse("chat-render", "deepseek_v31", "--messages", self.write("m.json", text),
                        names=word)
        good = self.write("good.json", '[{"role": "user", "content": "x"}]')
        self.refuse("chat-render", "nonesuch", "--messages", good, names="nonesuch")
        self.refuse("chat-render", "deepseek_v31", "--messages", "/no/such", names="/no/such")
        self.refuse("chat-render", "deepseek_v31", "--messages", good, "--thinking", "--no-thinking",
                    names="--no-thinking")
        self.refuse("chat-render", "deepseek_v31", "--messages", self.write("m.json", '[{"role": "user"}]'),
                    names=["m.json", "content"])
        for tools in ["{", "5", "[5]", '[{"type": "function"}]']:
            self.refuse("chat-render", "deepseek_v31", "--messages", good, "--tools",
                        self.write("tools.json", tools), names="tools.json")

    def test_eval_data(self):
        good = '{"task": "t", "prompt": "a", "answer": "b"}\n'
        for bad, word in [("{", ""), ("5", "object"), ('{"answer": "b", "prompt": "a"}', "task"),
                          ('{"task": "t", "prompt": "a"}', "answer"),
                          ('{"task": "t", "answer": "b"}', "messages"),
                          ('{"task": "t", "answer": 5, "prompt": "a"}', "answer"),
                          ('{"task": "t", "answer": "b", "prompt": 5}', "prompt"),
                          ('{"task": "t", "answer": "b", "messages": "hi"}', "messages"),
                          ('{"task": "t", "answer": "b", "messages": [{"role": "user"}]}', "content")]:
            data = self.write("data.jsonl", good + "\n" + bad + "\n" + good)
            self.refuse("eval", "nano", "--data", data, names=[f"{data} line 3", word])
        self.refuse("eval", "nano", "--data", self.write("none.jsonl", "\n\n"), names="none.jsonl")
        self.refuse("eval", "nano", "--data", "/no/such", names="/no/such")
        huge = json.dumps({"task": "t", "prompt": "7 " * 200_000, "answer": "b"})
        self.refuse("eval", "nano", "--data", self.write("huge.jsonl", huge), "--batch", 4096, names="tokens")
        data = self.write("data.jsonl", good)
        self.refuse("eval", "nano", "--data", data, "--answers", "/no/such/dir/a", names="/no/such/dir/a")

    def test_perplexity_data(self):
        self.refuse("perplexity", "nano", "--file", "/no/such", names="/no/such")
        self.refuse("perplexity", "nano", "--file", self.write("empty.txt", ""), names="empty.txt")

    def test_readers_that_leave_early(self):
        text = self.write("text.txt", "word " * 200_000)
        for args, source in [(["tokenize", "nano"], text), (["info", "nano", "--json"], None),
                             (["--help"], None),
                             (["run", "nano", "-p", QUESTION, "--show-thinking"], None)]:
            with open(source or os.devnull, "rb") as stdin:
                process = subprocess.Popen([BINARY, *args], stdin=stdin, stdout=subprocess.PIPE,
                                           stderr=subprocess.PIPE, env=ENVIRONMENT, preexec_fn=limit_memory)
                process.stdout.read(1)
                process.stdout.close()
                message = process.stderr.read()
                process.stderr.close()
                self.assertIn(process.wait(60), (0, -13, 1), args)  # 13: SIGPIPE
            self.assertNotIn(b"unexpected", message)
            self.assertNotIn(b"terminate", message)


if __name__ == "__main__":
    main()
