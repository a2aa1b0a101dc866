#!/usr/bin/env python3
"""Files that `fathom quantize` writes give the same greedy text in llama.cpp as in fathom: SmolLM2 and nano as
q8_0, q6_k, q4_k_m and q4_0, raw prompts, temperature 0.

"The same": identical text; or, where the texts part, fathom's own logits have the token that llama.cpp chose less
than a margin below the best. The programs round the inputs of products differently: fathom to int8 with a scale for
128 values, or with --compute f32 not at all; llama.cpp to int8 with a scale for 32. On SmolLM2 in q8_0 fathom's int8
inputs move the difference of the two best logits by 0.13 in the median and 1.0 at most (274 positions), so texts part
where a small model is undecided. A file that the programs read differently parts them by whole units. The prompts
whose texts are identical are counted apart.

Needs $PEERS/llama.cpp/build/bin/llama-completion, and for SmolLM2 scripts/fetch_smollm2.sh or $FATHOM_SMOLLM2.
--quick: nano as q8_0 and q4_k_m, fewer prompts."""
import array
import heapq
import os
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))
from fixtures import QUICK, ROOT, fathom  # noqa: E402

# What llama.cpp's choice may lack to fathom's best logit, by fathom's --compute.
MARGINS = {"f32": 0.5, "auto": 1.0}
TYPES = ["q8_0", "q4_k_m"] if QUICK else ["q8_0", "q6_k", "q4_k_m", "q4_0"]
SMOLLM2 = os.environ.get("FATHOM_SMOLLM2", f"{ROOT}/models/cache/SmolLM2-135M-Instruct.Q4_1.gguf")
PEER = f"{os.environ.get('PEERS', '')}/llama.cpp/build/bin/llama-completion"
THREADS = 2
PROSE = ["The capital of France is", "Water boils at", "Once upon a time there was a small", "The three primary colours are",
         "def fibonacci(n):\n", "In 1969, the first people", "To make bread you need", "Dear Sir or Madam,\n",
         "The opposite of hot is", "1, 2, 3, 4, 5,", "<|im_start|>user\nWhat is the largest planet?<|im_end|>\n<|im_start|>assistant\n",
         "Question: Why is the sky blue?\nAnswer:"]
SUMS = ["What is 4837 + 926?", "What is 12 * 34?", "858加3是多少？", "Sort these numbers: 7, 3, 9, 1", "Is 17 even or odd?",
        "What is the capital of Japan?", "Spell the word planet.", "Reverse the word stone.", "What is 100 - 58?",
        "How many letters are in banana?"]
# Where both programs end an answer.
ENDS = ["<｜end▁of▁sentence｜>", "<|im_end|>", "<|endoftext|>"]
NANO_PROMPTS = [f"<｜User｜>{q}<｜Assistant｜><think>\n" for q in SUMS]


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(77)


def peer_text(model, prompt, count, work):
    """Its output is written by a thread that its exit may cut short: what it says of its session file comes last, so
    where that is there, all is."""
    session = f"{work}/session"
    for _ in range(20):
        # One thread: several spin while they wait for each other, for seconds where other work has the cores.
        done = subprocess.run([PEER, "-m", model, "-p", prompt, "-no-cnv", "--temp", "0", "-n", str(count), "--no-warmup",
                               "-t", "1", "-c", "1024", "--no-display-prompt", "--simple-io", "--prompt-cache", session,
                               "--prompt-cache-all"], capture_output=True, stdin=subprocess.DEVNULL, timeout=600)
        if os.path.exists(session):
            os.unlink(session)
        if done.returncode != 0:
            sys.exit(f"llama-completion on {model}: exit {done.returncode}\n{done.stderr.decode(errors='replace')[-2000:]}")
        text, found, _ = done.stdout.decode(errors="replace").partition("saving final output to session file")
        if found:
            return text[:text.rindex("\n")].removesuffix(" [end of text]\n")
    sys.exit(f"llama-completion on {model}: its output is cut short every time")


class Ours:
    """fathom on one file."""

    def __init__(self, model, work, compute):
        self.model, self.work = model, work
        self.flags = ["--threads", THREADS, "--compute", compute]
        known = (fathom("tokenize", model, input=text.encode()).split() for text in ENDS)
        self.ends = {int(ids[0]) for ids in known if len(ids) == 1}

    def encode(self, prompt):
        return list(map(int, fathom("tokenize", self.model, "--add-special", input=prompt.encode()).split()))

    def decode(self, ids):
        out = fathom("tokenize", self.model, "--decode", "--no-special", input=" ".join(map(str, ids)).encode())
        return out.decode(errors="replace")

    def write(self, ids):
        with open(f"{self.work}/ids", "w", encoding="utf-8") as f:
            f.write(" ".join(map(str, ids)))
        return f"{self.work}/ids"

    def generate(self, ids, count):
        """Up to the end of the answer, which `fathom generate` does not stop at."""
        out = list(map(int, fathom("generate", self.model, "--tokens", self.write(ids), "-n", count, "--print-ids",
                                   *self.flags).split()))
        ends = [i for i, token in enumerate(out) if token in self.ends]
        return out[:ends[0]] if ends else out

    def best(self, ids, count=50):
        """[(logit, id)] after `ids`, the best first."""
        fathom("logits", self.model, "--tokens", self.write(ids), "--out", f"{self.work}/logits", *self.flags)
        values = array.array("f")
        with open(f"{self.work}/logits", "rb") as f:
            values.frombytes(f.read())
        last = values[len(values) - len(values) // len(ids):]
        return heapq.nlargest(count, ((v, i) for i, v in enumerate(last)))


def goes_on(ours, ids, theirs):
    """Whether `theirs` begins with the text of `ids`, whose last character may be half there."""
    return theirs.startswith(ours.decode(ids).rstrip("\N{REPLACEMENT CHARACTER}"))


def lacks_at(ours, prompt_ids, ids, k, theirs):
    """How far below fathom's best logit after ids[:k] the first other token is that `theirs` goes on with."""
    choices = ours.best(prompt_ids + ids[:k])
    for logit, token in choices:
        if k < len(ids) and token == ids[k]:
            continue
        # An end has no text: then theirs must be at its end, too.
        ended = token in ours.ends
        if theirs == ours.decode(ids[:k]) if ended else goes_on(ours, ids[:k] + [token], theirs):
            return choices[0][0] - logit
    return float("inf")


def parting(ours, prompt_ids, ids, theirs):
    """(index of the first other token, how far below fathom's best logit the token of `theirs` is)."""
    k = 0
    while k < len(ids) and goes_on(ours, ids[:k + 1], theirs):
        k += 1
    # Texts may part a token later than tokens do: " around" begins as " " does.
    places = [(lacks_at(ours, prompt_ids, ids, j, theirs), j) for j in (k, k - 1) if j >= 0]
    lacks, where = min(places)
    return where, lacks


def compare(ours, label, margin, prompts, count, theirs):
    """[identical, near ties, wrong] over the prompts."""
    tally = [0, 0, 0]
    for prompt, their_text in zip(prompts, theirs):
        prompt_ids = ours.encode(prompt)
        ids = ours.generate(prompt_ids, count)
        text = ours.decode(ids)
        if text == their_text:
            tally[0] += 1
            continue
        k, lacks = parting(ours, prompt_ids, ids, their_text)
        bad = lacks >= margin
        tally[2 if bad else 1] += 1
        print(f"  {label} {prompt[-40:]!r}: part at token {k}, where theirs lacks {lacks:.3f}"
              + (f"\n    ours   {text!r}\n    theirs {their_text!r}" if bad else ""), flush=True)
    print(f"{label}: {tally[0]} of {len(prompts)} prompts identical over {count} tokens, {tally[1]} part where theirs "
          f"lacks less than {margin}, {tally[2]} differ", flush=True)
    return tally


def main():
    if not os.environ.get("PEERS") or not os.access(PEER, os.X_OK):
        skip("no llama.cpp to compare with ($PEERS/llama.cpp/build/bin/llama-completion)")
    cases = [("nano", "nano", NANO_PROMPTS[:4] if QUICK else NANO_PROMPTS, 48)]
    if not QUICK:
        if not os.path.exists(SMOLLM2):
            skip(f"{SMOLLM2} is not there; scripts/fetch_smollm2.sh fetches it")
        cases.append(("SmolLM2", SMOLLM2, PROSE, 40))
    totals = {compute: [0, 0, 0] for compute in MARGINS}
    with tempfile.TemporaryDirectory() as work:
        for name, source, prompts, count in cases:
            for kind in TYPES:
                file = f"{work}/{name}-{kind}.gguf"
                fathom("quantize", source, file, "--type", kind)
                theirs = [peer_text(file, prompt, count, work) for prompt in prompts]
                for compute, margin in MARGINS.items():
                    tally = compare(Ours(file, work, compute), f"{name} {kind} --compute {compute}", margin, prompts, count,
                                    theirs)
                    totals[compute] = [a + b for a, b in zip(totals[compute], tally)]
                os.unlink(file)
    for compute, (same, near, wrong) in totals.items():
        print(f"greedy text in llama.cpp and in fathom --compute {compute}: {same} of {same + near + wrong} identical, "
              f"{near} part where theirs lacks less than {MARGINS[compute]}, {wrong} differ")
    return 0 if all(wrong == 0 and same > 0 for same, _, wrong in totals.values()) else 1


sys.exit(main())
