#!/usr/bin/env python3
"""Every command of `fathom --help` does on the bundled model what its help says."""
import json
import math
import re
import struct
import subprocess

from support import BINARY, DATA, ENVIRONMENT, NANO, FathomTest, fathom, main, read_safetensors

COMMANDS = ["run", "info", "tokenize", "chat-render", "generate", "logits", "eval", "perplexity", "doctor",
            "bench", "quantize", "imatrix", "version", "serve", "worker", "config"]


class HelpTest(FathomTest):
    def test_help_lists_every_command(self):
        text = self.ok("--help").decode()
        listed = re.findall(r"^  ([a-z-]+) ", text[text.index("Subcommands:"):], re.MULTILINE)
        self.assertEqual(sorted(listed), sorted(COMMANDS))
        self.assertIn("Exit codes", text)

    def test_every_command_has_help_with_an_example(self):
        for command in COMMANDS:
            with self.subTest(command):
                text = self.ok(command, "--help").decode()
                self.assertIn("Example", text)
                self.assertIn(f"fathom {command}", text)
                self.assertEqual(self.ok(command, "-h").decode(), text)

    def test_version_and_doctor(self):
        version = self.ok("version").decode()
        self.assertRegex(version, r"\Afathom \d+\.\d+\.\d+\n\Z")
        doctor = self.ok("doctor").decode()
        self.assertTrue(doctor.startswith(version.strip()))
        for word in ["cpu ", "memory ", "gpu ", "compute ", "threads", str(NANO)]:
            self.assertIn(word, doctor)


class NumaTest(FathomTest):
    """--numa on this machine and on one that hwloc makes up."""

    # Two nodes of two cores; memory-only nodes and others do not matter to the command line.
    TWO_NODES = {**ENVIRONMENT, "HWLOC_SYNTHETIC": "NUMANode:2 Core:2 PU:1"}

    def generate(self, *flags, **options):
        tokens = self.write("ids.txt", "0 5 6 7")
        return fathom("generate", DATA / "deepseek_v3", "--tokens", tokens, "-n", 4, "--print-ids", *flags,
                      **options)

    def test_the_answer_does_not_depend_on_it(self):
        expected = self.generate()
        self.assertEqual(expected.returncode, 0)
        for flags in (["--numa", "off"], ["--numa", "spread"], ["--numa", "spread", "-t", 3]):
            with self.subTest(flags):
                done = self.generate(*flags)
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                self.assertEqual(done.stdout, expected.stdout)
        for flags in (["--numa", "spread"], ["--numa", 1], ["--numa", 0, "-t", 3]):
            with self.subTest(flags, nodes=2):
                done = self.generate(*flags, environment=self.TWO_NODES)
                self.assertEqual((done.returncode, done.stdout), (0, expected.stdout))

    def test_it_reaches_the_threads(self):
        bench = ["bench", DATA / "deepseek_v3", "-t", 1, "-p", 4, "-n", 0, "--repeats", 1, "--json"]
        for flags, words in [([], ", 1 thread)"), (["--numa", "spread"], ", 1 pinned thread)")]:
            done = fathom(*bench, *flags, environment=self.TWO_NODES)
            self.assertIn(words, json.loads(done.stdout)["backend"])

    def test_what_it_refuses(self):
        for value, words in [("none", ["--numa 'none'", "spread", "number"]), ("-1", ["--numa '-1'"]),
                             ("7", ["--numa 7", "0, 1"]), ("99999999999", ["--numa '99999999999'"])]:
            with self.subTest(value):
                done = self.generate(f"--numa={value}", environment=self.TWO_NODES)
                self.assertEqual((done.returncode, done.stdout), (2, b""))
                for word in words:
                    self.assertIn(word, done.stderr.decode())

    def test_doctor_shows_the_nodes(self):
        text = fathom("doctor", environment=self.TWO_NODES).stdout.decode()
        self.assertRegex(text, r"(?m)^numa +node 0 with 2 cores and .* GB; node 1 with 2 cores and .* GB$")


class RunTest(FathomTest):
    QUESTION = "What is 4837 + 926?"

    def test_a_pipe_gets_the_answer_alone(self):
        self.assertEqual(self.ok("run", "nano", "-p", self.QUESTION), b"5763\n")
        self.assertEqual(self.ok("run", NANO, "-p", "858加3是多少？"), b"861\n")

    def test_thinking_is_shown_on_demand(self):
        text = self.ok("run", "nano", "-p", self.QUESTION, "--show-thinking").decode()
        self.assertTrue(text.endswith("\n\n5763\n"), text)
        self.assertGreater(len(text), 20)

    def test_a_conversation_from_a_pipe(self):
        lines = f"{self.QUESTION}\n\n/reset\nWhat is 2 + 3?\n".encode()
        self.assertEqual(self.ok("run", "nano", stdin=lines),
                         b"5763\nThe conversation is empty again.\n5\n")

    def test_limits_and_stops(self):
        ask = ["run", "nano", "-p", self.QUESTION, "--show-thinking"]
        whole, short = self.ok(*ask), self.ok(*ask, "--max-tokens", 5)
        self.assertLess(len(short), len(whole))
        self.assertTrue(whole.startswith(short.rstrip(b"\n")), (whole, short))
        stopped = self.ok(*ask, "--stop", "no such text", "--stop", "57")
        self.assertEqual(stopped, whole[:whole.index(b"57")] + b"\n")
        # A flag that may be given several times does not swallow the model's name behind it.
        self.assertEqual(self.ok("run", "--stop", "57", "nano", *ask[2:]), stopped)

    def test_same_seed_same_answer(self):
        ask = ["run", "nano", "-p", self.QUESTION, "--show-thinking", "--temperature", 3, "--max-tokens", 40]
        answers = [self.ok(*ask, "--seed", seed) for seed in (1, 1, 2, 3, 4)]
        self.assertEqual(answers[0], answers[1])
        self.assertGreater(len(set(answers)), 2)

    def test_threads_and_compute_types(self):
        for flags in (["--threads", 1], ["--threads", 3], ["--compute", "bf16"], ["--compute", "int8"]):
            self.assertEqual(self.ok("run", "nano", "-p", self.QUESTION, *flags), b"5763\n", flags)


class InfoTest(FathomTest):
    def test_json_and_text_agree_with_the_files(self):
        config = json.loads((NANO / "config.json").read_text())
        info = json.loads(self.ok("info", "nano", "--json"))
        self.assertEqual(info["architecture"], config["model_type"])
        self.assertEqual(info["layers"], config["num_hidden_layers"])
        self.assertEqual(info["vocab_size"], config["vocab_size"])
        self.assertEqual(info["context_tokens"], config["max_position_embeddings"])
        self.assertEqual(info["mtp_layers"], 1)
        self.assertEqual(info["chat_family"], "nano")
        on_disk = sum(f.stat().st_size for f in NANO.glob("model-*.safetensors"))
        self.assertLess(abs(info["weight_bytes"] - on_disk), 100_000)
        self.assertEqual(sum(d["bytes"] for d in info["dtypes"].values()), info["weight_bytes"])
        text = self.ok("info", "nano").decode()
        for word in ["deepseek_v3", "1536 tokens", "2048 tokens", "BF16"]:
            self.assertIn(word, text)

    def test_every_fixture(self):
        for name in ["llama_mha", "qwen2", "qwen3", "deepseek_v2", "deepseek_v3_fp8"]:
            info = json.loads(self.ok("info", DATA / name, "--json"))
            self.assertEqual(info["name"], name)


class TokensTest(FathomTest):
    """logits and generate against the golden file of a small DeepSeek-V3."""

    MODEL = DATA / "deepseek_v3"

    def setUp(self):
        super().setUp()
        self.golden = read_safetensors(self.MODEL / "golden.safetensors")
        self.vocab = json.loads((self.MODEL / "config.json").read_text())["vocab_size"]

    def ids_file(self, key):
        ids = self.golden[key][1]
        return self.write(f"{key}.txt", " ".join(map(str, ids)) + "\n"), ids

    def logits(self, file, *flags):
        out = self.tmp / "logits.f32"
        self.assertEqual(self.ok("logits", self.MODEL, "--tokens", file, "--out", out, *flags), b"")
        self.assertEqual([p.name for p in self.tmp.glob("logits*")], ["logits.f32"])
        return out.read_bytes()

    def test_logits_are_the_golden_ones_in_any_chunk(self):
        file, ids = self.ids_file("p2.input_ids")
        whole = self.logits(file)
        self.assertEqual(len(whole), len(ids) * self.vocab * 4)
        expected = self.golden["p2.logits"][1]
        values = struct.unpack(f"<{len(whole) // 4}f", whole)
        self.assertLess(max(abs(a - b) for a, b in zip(values, expected)), 1e-3)
        for flags in (["--chunk", 1], ["--chunk", 7], ["--threads", 1]):
            self.assertEqual(self.logits(file, *flags), whole, flags)

    def test_ranks_share_a_model(self):
        file, _ = self.ids_file("p2.input_ids")
        expected = self.golden["p2.logits"][1]
        greedy = self.golden["p2.greedy_ids"][1]
        for ranks in (2, 4):
            flags = ["--device", "cpu", "--tensor-parallel", ranks]
            whole = self.logits(file, *flags)
            values = struct.unpack(f"<{len(whole) // 4}f", whole)
            self.assertLess(max(abs(a - b) for a, b in zip(values, expected)), 1e-3)
            self.assertEqual(self.logits(file, *flags, "--chunk", 7), whole)
            out = self.ok("generate", self.MODEL, "--tokens", file, "-n", len(greedy), "--print-ids", *flags)
            self.assertEqual(tuple(map(int, out.split())), greedy)
        done = fathom("logits", self.MODEL, "--tokens", file, "--out", self.tmp / "x", "--tensor-parallel", 3)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"num_attention_heads is 4, expected a multiple of 3", done.stderr)

    def test_mtp_logits_have_a_row_less(self):
        file, ids = self.ids_file("p1.input_ids")
        mtp = self.logits(file, "--mtp")
        self.assertEqual(len(mtp), (len(ids) - 1) * self.vocab * 4)
        expected = self.golden["p1.mtp_logits"][1]
        values = struct.unpack(f"<{len(mtp) // 4}f", mtp)
        self.assertLess(max(abs(a - b) for a, b in zip(values, expected)), 1e-3)
        self.assertEqual(self.logits(file, "--mtp", "--chunk", 3), mtp)

    def test_generate_is_the_golden_continuation(self):
        file, _ = self.ids_file("p0.input_ids")
        greedy = self.golden["p0.greedy_ids"][1]
        for count in (len(greedy), 1):
            out = self.ok("generate", self.MODEL, "--tokens", file, "-n", count, "--print-ids")
            self.assertEqual(tuple(map(int, out.split())), greedy[:count])
            self.assertEqual(out.count(b"\n"), 1)

    def test_generate_repeats_with_its_seed(self):
        file, _ = self.ids_file("p1.input_ids")
        draw = ["generate", self.MODEL, "--tokens", file, "-n", 24, "--print-ids", "--temperature", 1]
        runs = [self.ok(*draw, "--seed", seed, *flags)
                for seed, *flags in [[5], [5], [5, "--chunk", 2], [5, "--threads", 1], [6]]]
        self.assertEqual(len(runs[0].split()), 24)
        self.assertEqual(len(set(runs[:4])), 1)
        self.assertNotEqual(runs[0], runs[4])

    def test_generate_prints_text_where_there_is_a_tokenizer(self):
        prompt = self.ok("tokenize", "nano", stdin="<｜begin▁of▁sentence｜>Hello".encode())
        file = self.write("ids.txt", prompt)
        ids = self.ok("generate", "nano", "--tokens", file, "-n", 8, "--print-ids")
        text = self.ok("generate", "nano", "--tokens", file, "-n", 8)
        self.assertEqual(self.ok("tokenize", "nano", "--decode", stdin=ids) + b"\n", text)


class TokenizeTest(FathomTest):
    def test_round_trip(self):
        for text in ["", "Hello 世界", " two  spaces\r\n\ttab", "naïve 👩‍👩‍👧 ½", "12345 + 6",
                     "\n" * 9,
                     "<｜User｜>hi<｜Assistant｜><think>\n"]:
            with self.subTest(text):
                ids = self.ok("tokenize", "nano", stdin=text.encode())
                self.assertEqual(self.ok("tokenize", "nano", "--decode", stdin=ids), text.encode())

    def test_special_tokens_as_text_and_left_out(self):
        text = "hi<｜end▁of▁sentence｜>".encode()
        special = self.ok("tokenize", "nano", stdin=text)
        plain = self.ok("tokenize", "nano", "--no-special", stdin=text)
        self.assertLess(len(special.split()), len(plain.split()))
        self.assertEqual(self.ok("tokenize", "nano", "--decode", stdin=plain), text)
        self.assertEqual(self.ok("tokenize", "nano", "--decode", "--no-special", stdin=special), b"hi")

    def test_bytes_that_are_no_text_become_replacement_characters(self):
        ids = self.ok("tokenize", "nano", stdin=b"a\xff\xe4\xb8b")
        self.assertEqual(self.ok("tokenize", "nano", "--decode", stdin=ids).decode(), "a\ufffd\ufffdb")

    def test_golden_encodings(self):
        lines = (NANO / "tokenizer_golden.jsonl").read_text().splitlines()[:300:20]
        for line in lines:
            case = json.loads(line)
            ids = self.ok("tokenize", NANO / "tokenizer.json", stdin=case["text"].encode())
            self.assertEqual(list(map(int, ids.split())), case["ids"], case["text"])


class ChatRenderTest(FathomTest):
    MESSAGES = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi"}]

    def render(self, model, *flags, messages=None):
        file = self.write("m.json", json.dumps(messages or self.MESSAGES))
        return self.ok("chat-render", model, "--messages", file, *flags).decode()

    def test_a_model_and_its_family_render_alike(self):
        expected = "<｜begin▁of▁sentence｜>Be short.<｜User｜>Hi<｜Assistant｜><think>\n"
        self.assertEqual(self.render("nano"), expected)
        self.assertEqual(self.render(NANO), expected)

    def test_families_and_flags(self):
        on = self.render("deepseek_v31", "--thinking")
        off = self.render("deepseek_v31", "--no-thinking")
        self.assertTrue(on.endswith("<think>"), on)
        self.assertTrue(off.endswith("</think>"), off)
        bare = self.render("deepseek_v31", "--no-generation-prompt")
        self.assertTrue(on.startswith(bare))
        talk = self.MESSAGES + [{"role": "assistant", "content": "Good mor"}]
        self.assertTrue(self.render("deepseek_v3", "--continue", messages=talk).endswith("Good mor"))


    def test_a_family_counts_before_a_directory_of_its_name(self):
        (self.tmp / "deepseek_v3").mkdir()
        file = self.write("m.json", json.dumps(self.MESSAGES))
        done = subprocess.run([BINARY, "chat-render", "deepseek_v3", "--messages", file], cwd=self.tmp,
                              capture_output=True)
        self.assertTrue(done.stdout.decode().endswith("<｜User｜>Hi<｜Assistant｜>"), done)


class EvalTest(FathomTest):
    def test_forty_problems(self):
        lines = (NANO / "eval.jsonl").read_text().splitlines()[:40]
        data = self.write("forty.jsonl", "\n".join(lines) + "\n")
        answers = self.tmp / "answers.jsonl"
        score = json.loads(self.ok("eval", "nano", "--data", data, "--json", "--answers", answers))
        self.assertEqual((score["right"], score["total"]), (40, 40))
        self.assertEqual(sum(t["total"] for t in score["tasks"].values()), 40)
        given = [json.loads(line)["given"] for line in answers.read_text().splitlines()]
        self.assertEqual(given, [json.loads(line)["answer"] for line in lines])
        self.assertIn("40/40", self.ok("eval", "nano", "--data", data, "--batch", 3).decode())


class PerplexityTest(FathomTest):
    def test_learnt_text_is_less_surprising_than_noise(self):
        def perplexity(text):
            out = self.ok("perplexity", "nano", "--file", self.write("t.txt", text), "--ctx", 64).decode()
            match = re.match(r"perplexity ([\d.]+) ± ([\d.]+) over (\d+) tokens \(windows of 64\)\n\Z", out)
            self.assertTrue(match, out)
            self.assertGreater(int(match[3]), 20)
            return float(match[1])
        learnt = perplexity("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16. " * 4)
        noise = perplexity("qzx vvkj 绿 wpfq zzh 9x7q jjwq xkcd qqq vbnm zxcv plok " * 4)
        self.assertLess(learnt, noise)
        self.assertTrue(1 < learnt < math.inf)


class OutputTest(FathomTest):
    def test_a_full_disk_is_a_failure(self):
        for args in (["version"], ["info", "nano"], ["run", "nano", "-p", "What is 2 + 3?"], ["--help"]):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([BINARY, *args], stdout=full, stderr=subprocess.PIPE, env=ENVIRONMENT,
                                      timeout=60)
            self.assertEqual(done.returncode, 1, args)
            self.assertIn(b"standard output", done.stderr)


if __name__ == "__main__":
    main()
