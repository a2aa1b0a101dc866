#!/usr/bin/env python3
"""Decode of many sequences by transformers with torch.compile, to compare `fathom bench --batch` with: random bfloat16
weights of R1-Distill-Qwen-7B's shape, a static cache, greedy tokens, each step one CUDA graph (mode reduce-overhead).

Needs PyTorch with CUDA and transformers (written for 4.57). Prints one line of JSON, the median of the steps last.

  bench/gpu/transformers_decode.py [--batch 64] [--depth 1024] [--steps 32] [--tiny: a small model on the CPU]
"""
import argparse
import json
import statistics
import time

import torch
import transformers
from transformers import Qwen2Config, Qwen2ForCausalLM, StaticCache

parser = argparse.ArgumentParser()
parser.add_argument("--batch", type=int, default=64)
parser.add_argument("--depth", type=int, default=1024)
parser.add_argument("--steps", type=int, default=32)
parser.add_argument("--tiny", action="store_true")
options = parser.parse_args()

device = "cpu" if options.tiny else "cuda"
shape = dict(hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28, num_key_value_heads=4)
if options.tiny:
    shape = dict(hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
config = Qwen2Config(**shape, vocab_size=152064, max_position_embeddings=131072, tie_word_embeddings=False,
                     attn_implementation="sdpa")
torch.manual_seed(1)
torch.set_default_dtype(torch.bfloat16)
with torch.device(device):
    model = Qwen2ForCausalLM(config).eval()
# Whole multiples suit the compiled attention better than an odd length.
room = (options.depth + options.steps + 16 + 63) // 64 * 64
cache = StaticCache(config=config, max_cache_len=room)


@torch.inference_mode()
def fill():
    """The first `depth` tokens of every sequence, in parts that fit beside the weights."""
    for first in range(0, options.depth, 128):
        ids = torch.randint(0, 152064, (options.batch, min(128, options.depth - first)), device=device)
        places = torch.arange(first, first + ids.shape[1], device=device)
        model(ids, past_key_values=cache, cache_position=places, logits_to_keep=1)


forward = torch.compile(model.forward, mode="reduce-overhead", fullgraph=True)


@torch.inference_mode()
def step(ids, place):
    logits = forward(ids, past_key_values=cache, cache_position=place, logits_to_keep=1).logits
    return logits[:, -1].argmax(-1, keepdim=True)


def synchronize():
    if device == "cuda":
        torch.cuda.synchronize()


fill()
ids = torch.randint(0, 152064, (options.batch, 1), device=device)
place = torch.tensor([options.depth], device=device)
times = []
for i in range(options.steps + 8):
    synchronize()
    begin = time.perf_counter()
    ids = step(ids, place).clone()
    synchronize()
    times.append(time.perf_counter() - begin)
    place = place + 1
measured = times[8:]  # the first ones compile and record
print(json.dumps({
    "torch": torch.__version__,
    "transformers": transformers.__version__,
    "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
    "batch": options.batch,
    "depth": options.depth,
    "compile_seconds": round(sum(times[:8]), 1),
    "step_ms": round(1e3 * statistics.median(measured), 3),
    "tokens_per_second": round(options.batch / statistics.median(measured), 1),
}))
