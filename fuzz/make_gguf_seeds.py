#!/usr/bin/env python3
"""Writes the seeds of fuzz_gguf: fuzz/make_gguf_seeds.py. The files are small and always the same."""
import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))
from write_gguf import BOOL, F32, I32, STRING, U32, Tensor, gguf, model_keys, string, translate  # noqa: E402

HIDDEN, VOCAB, INNER, EXPERTS, EXPERT_INNER = 8, 16, 12, 4, 3
COMMON = {"hidden_size": HIDDEN, "intermediate_size": INNER, "num_hidden_layers": 2, "num_attention_heads": 2,
          "num_key_value_heads": 1, "vocab_size": VOCAB, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
          "rope_theta": 10000.0}
MLA = {"q_lora_rank": 4, "kv_lora_rank": 6, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 4,
       "first_k_dense_replace": 1, "n_routed_experts": EXPERTS, "num_experts_per_tok": 2, "n_shared_experts": 1,
       "moe_intermediate_size": EXPERT_INNER, "routed_scaling_factor": 2.5, "n_group": 2, "topk_group": 1}
YARN = {"type": "yarn", "factor": 4, "original_max_position_embeddings": 16, "mscale": 1, "mscale_all_dim": 1}
LLAMA3 = {"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4,
          "original_max_position_embeddings": 16}


def weight(*shape):
    elements = 1
    for n in shape:
        elements *= n
    return Tensor("BF16", list(shape), b"\x3f" * (2 * elements))


def swiglu(prefix, inner):
    return {prefix + "gate_proj.weight": weight(inner, HIDDEN), prefix + "up_proj.weight": weight(inner, HIDDEN),
            prefix + "down_proj.weight": weight(HIDDEN, inner)}


def attention(a, config):
    if "kv_lora_rank" not in config:
        out = {a + "q_proj.weight": weight(8, HIDDEN), a + "k_proj.weight": weight(4, HIDDEN),
               a + "v_proj.weight": weight(4, HIDDEN), a + "o_proj.weight": weight(HIDDEN, 8)}
        if config["model_type"] == "qwen2":
            out |= {a + "q_proj.bias": weight(8), a + "k_proj.bias": weight(4), a + "v_proj.bias": weight(4)}
        if config["model_type"] == "qwen3":
            out |= {a + "q_norm.weight": weight(4), a + "k_norm.weight": weight(4)}
        return out
    out = {a + "kv_a_proj_with_mqa.weight": weight(8, HIDDEN), a + "kv_a_layernorm.weight": weight(6),
           a + "kv_b_proj.weight": weight(16, 6), a + "o_proj.weight": weight(HIDDEN, 8)}
    if config["q_lora_rank"]:
        return out | {a + "q_a_proj.weight": weight(4, HIDDEN), a + "q_a_layernorm.weight": weight(4),
                      a + "q_b_proj.weight": weight(12, 4)}
    return out | {a + "q_proj.weight": weight(12, HIDDEN)}


def model(config, tied=False):
    out = {"model.embed_tokens.weight": weight(VOCAB, HIDDEN), "model.norm.weight": weight(HIDDEN)}
    if not tied:
        out["lm_head.weight"] = weight(VOCAB, HIDDEN)
    mtp = config.get("num_nextn_predict_layers", 0)
    for i in range(config["num_hidden_layers"] + mtp):
        p = f"model.layers.{i}."
        out |= {p + "input_layernorm.weight": weight(HIDDEN), p + "post_attention_layernorm.weight": weight(HIDDEN)}
        out |= attention(p + "self_attn.", config)
        if "n_routed_experts" not in config or i == 0:
            out |= swiglu(p + "mlp.", INNER)
        else:
            out[p + "mlp.gate.weight"] = weight(EXPERTS, HIDDEN)
            if config["model_type"] == "deepseek_v3":
                out[p + "mlp.gate.e_score_correction_bias"] = weight(EXPERTS)
            for e in range(EXPERTS):
                out |= swiglu(f"{p}mlp.experts.{e}.", EXPERT_INNER)
            out |= swiglu(p + "mlp.shared_experts.", EXPERT_INNER)
        if i >= config["num_hidden_layers"]:
            out |= {p + f"{norm}.weight": weight(HIDDEN) for norm in ("enorm", "hnorm", "shared_head.norm")}
            out[p + "eh_proj.weight"] = weight(HIDDEN, 2 * HIDDEN)
    return out


def tokenizer(pre, tokens=VOCAB):
    words = ["a", "b", "Ġ", "ab", "Ġa", "1", "2", "!", "Ċ"]
    words += [f"[PAD{i}]" for i in range(len(words), tokens - 3)] + ["<|im_end|>", "<｜User｜>", "<think>"]
    types = [1] * 9 + [5] * (tokens - 12) + [3, 3, 4]
    t = "tokenizer.ggml."
    return {t + "model": (STRING, "gpt2"), t + "pre": (STRING, pre), t + "tokens": (STRING, words),
            t + "token_type": (I32, types), t + "merges": (STRING, ["a b", "Ġ a"]), t + "bos_token_id": (U32, 13),
            t + "eos_token_id": (U32, 13), t + "add_bos_token": (BOOL, True)}


def seed(kind, kv_b="split", tied=False, extra=(), **changes):
    config = COMMON | {"model_type": kind} | (MLA if kind.startswith("deepseek") else {})
    config["norm_topk_prob"] = kind == "deepseek_v3"
    config |= changes
    tensors = translate(model(config, tied), config, kv_b)
    keys = model_keys(config, tensors)
    return gguf(keys | dict(extra), tensors)


def every_type():
    formats = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    values = [string(f"t{n}") + struct.pack(f"<I{f}", n, 1) for n, f in formats.items()]
    values.append(string("s") + struct.pack("<I", 8) + string("text"))
    values.append(string("nested") + struct.pack("<IIQ", 9, 9, 2)
                  + struct.pack("<IQII", 4, 2, 7, 8) + struct.pack("<IQ", 8, 1) + string("x"))
    return b"GGUF" + struct.pack("<IQQ", 3, 0, len(values)) + b"".join(values)


def blocks():
    """A tensor of every block format, a row of 256 each."""
    sizes = {2: 144, 3: 160, 6: 176, 7: 192, 8: 272, 10: 84, 11: 110, 12: 144, 13: 176, 14: 210}
    infos, data = b"", b""
    for number, size in sizes.items():
        infos += string(f"t{number}") + struct.pack("<IQIQ", 1, 256, number, len(data))
        data += b"\x11" * size + b"\0" * (-size % 32)
    head = b"GGUF" + struct.pack("<IQQ", 2, len(sizes), 0) + infos
    return head + b"\0" * (-len(head) % 32) + data


def main():
    out = ROOT / "fuzz" / "corpus" / "gguf"
    out.mkdir(parents=True, exist_ok=True)
    split = {"split.no": (U32, 0), "split.count": (U32, 2), "split.tensors.count": (I32, 30)}
    seeds = {
        "llama": seed("llama", extra=tokenizer("smollm").items()),
        "llama3": seed("llama", rope_scaling=LLAMA3, extra=tokenizer("llama-bpe").items()),
        "llama_linear": seed("llama", rope_scaling={"type": "linear", "factor": 4}),
        "qwen2": seed("qwen2", tied=True, extra=tokenizer("qwen2").items()),
        "qwen3": seed("qwen3", head_dim=4, rope_scaling={"type": "yarn", "factor": 4,
                                                         "original_max_position_embeddings": 16}),
        "deepseek_v2": seed("deepseek_v2", "whole", q_lora_rank=None, extra=tokenizer("deepseek-llm").items()),
        "deepseek_v2_flat": seed("deepseek_v2", "flat"),
        "deepseek_v3": seed("deepseek_v3", rope_scaling=YARN, num_nextn_predict_layers=1,
                            extra=tokenizer("deepseek-v3").items()),
        "shard": seed("llama", extra=split.items()),
        "alignment": gguf({"general.alignment": (U32, 64), "x": (F32, 1.0)}, {"t": weight(3, 5)}, alignment=64),
        "tokenizer": gguf(tokenizer("deepseek-coder", 40), {}),
        "types": every_type(),
        "blocks": blocks(),
    }
    whole = seeds["llama"]
    seeds["truncated"] = whole[:len(whole) // 2]
    seeds["version_1"] = whole[:4] + b"\1" + whole[5:]
    seeds["endless"] = b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 1 << 63)
    for name, data in seeds.items():
        (out / name).write_bytes(data)
        print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
