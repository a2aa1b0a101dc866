#!/usr/bin/env python3
"""A published GGUF file of another program's making answers sensibly: SmolLM2-135M-Instruct in Q4_1.

scripts/fetch_smollm2.sh fetches it; without it the test is skipped. $FATHOM_SMOLLM2 names another place.
"""
import json
import os
import sys
from pathlib import Path

from support import ROOT, FathomTest, main

NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL = Path(os.environ.get("FATHOM_SMOLLM2", ROOT / "models" / "cache" / NAME))
# Facts that a model of this size knows, whatever the precision of the products.
FACTS = {
    "What is the capital of France?": "Paris",
    "What is the chemical symbol for water?": "H2O",
    "What is the opposite of hot?": "cold",
    "What language is spoken in Brazil?": "Portuguese",
}
# Ids by llama.cpp's tokenizer (llama-tokenize --no-bos).
TOKENS = {
    "def f(x):\n": "1604 275 24 104 727 198",
    "<|im_start|>user": "1 4093",
}
TEXTS = ["Hello, world!", "  two  spaces\t tabs\r\n\r\nlines ", "1234567890 3.14159", "Grüße, naïve café",
         "汉字 и кириллица, 🙂👩‍👩‍👧 emoji", "<|im_start|>user\nhi<|im_end|>", "I'll we've it's DON'T", "\u00a0\u3000 x"]


class SmolLm2Test(FathomTest):
    def ask(self, question, *flags):
        return self.ok("run", MODEL, "-p", question, "--temperature", 0, "--max-tokens", 40, *flags).decode()

    def test_facts(self):
        for question, answer in FACTS.items():
            with self.subTest(question):
                self.assertIn(answer, self.ask(question))

    def test_float32_products(self):
        self.assertEqual(self.ask("What is the capital of France?", "--compute", "f32"),
                         "The capital of France is Paris.\n")

    def test_answers_do_not_depend_on_threads(self):
        question = "What is the opposite of hot?"
        self.assertEqual(self.ask(question, "--threads", 1), self.ask(question, "--threads", 2))

    def test_tokens(self):
        for text, ids in TOKENS.items():
            self.assertEqual(self.ok("tokenize", MODEL, stdin=text.encode()).decode().strip(), ids)
        for text in TEXTS:
            with self.subTest(text):
                ids = self.ok("tokenize", MODEL, stdin=text.encode())
                self.assertEqual(self.ok("tokenize", MODEL, "--decode", stdin=ids).decode(), text)

    def test_info(self):
        info = json.loads(self.ok("info", MODEL, "--json"))
        self.assertEqual(info["architecture"], "llama")
        self.assertEqual(info["chat_family"], "smollm2")
        self.assertEqual(info["format"], "GGUF version 3")
        self.assertEqual(info["tokenizer"], "gpt2, pre-tokenizer smollm")
        self.assertEqual(info["parameters"], 134515008)
        self.assertEqual(sorted(info["dtypes"]), ["F32", "Q4_1", "Q8_0"])


if __name__ == "__main__":
    if not MODEL.exists():
        print(f"skipped: {MODEL} is not there; scripts/fetch_smollm2.sh fetches it")
        sys.exit(77)
    main()
