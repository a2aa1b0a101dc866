#!/usr/bin/env python3
"""Writes a HuggingFace model directory as GGUF, for tests: write_gguf.py DIRECTORY OUT.gguf [options]

Speaks the keys and tensor names that llama.cpp's converters write (docs/gguf.md of ggml), including
Llama's permuted q and k rows, stacked experts and the split kv_b of MLA. Reads F32, F16 and BF16
weights; plain standard library, so it suits small models only. Models are written as they are: no
quantisation, vectors as F32.
"""
import argparse
import json
import math
import struct
from pathlib import Path

U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
FORMATS = {"F32": (0, 4), "F16": (1, 2), "BF16": (30, 2)}  # ggml's type, bytes of an element
ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "deepseek_v2": "deepseek2",
                 "deepseek_v3": "deepseek2"}
TOP = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
LAYER = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_a_proj": "attn_q_a", "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b", "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm", "self_attn.kv_b_proj": "attn_kv_b",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp", "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp", "mlp.shared_experts.down_proj": "ffn_down_shexp",
    "eh_proj": "nextn.eh_proj", "enorm": "nextn.enorm", "hnorm": "nextn.hnorm",
    "embed_tokens": "nextn.embed_tokens", "shared_head.head": "nextn.shared_head_head",
    "shared_head.norm": "nextn.shared_head_norm",
}


class Tensor:
    """shape outermost first; data: the bytes, row-major."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, shape, data

    def as_f32(self):
        raw = self.data
        if self.dtype == "BF16":
            out = bytearray(2 * len(raw))
            out[2::4], out[3::4] = raw[0::2], raw[1::2]
            return Tensor("F32", self.shape, bytes(out))
        if self.dtype == "F16":
            n = len(raw) // 2
            return Tensor("F32", self.shape, struct.pack(f"<{n}f", *struct.unpack(f"<{n}e", raw)))
        return self

    def rows(self):
        """The rows' bytes, all outer dimensions taken as one."""
        size = len(self.data) // math.prod(self.shape[:-1])
        return [self.data[i:i + size] for i in range(0, len(self.data), size)]

    def transposed(self):
        """Of a matrix."""
        size = FORMATS[self.dtype][1]
        rows, columns = self.rows(), self.shape[1]
        data = b"".join(row[c * size:(c + 1) * size] for c in range(columns) for row in rows)
        return Tensor(self.dtype, self.shape[::-1], data)


def read_directory(directory):
    tensors = {}
    for path in sorted(directory.glob("model*.safetensors")):
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:8 + size]).items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                tensors[name] = Tensor(entry["dtype"], entry["shape"], data[8 + size + begin:8 + size + end])
    return tensors


def interleaved(tensor, heads):
    """Rows of each head from halves to pairs: row i of the first half, then row i of the second."""
    rows = tensor.rows() if len(tensor.shape) > 1 else \
        [tensor.data[i:i + FORMATS[tensor.dtype][1]] for i in range(0, len(tensor.data), FORMATS[tensor.dtype][1])]
    size = len(rows) // heads
    out = []
    for head in range(heads):
        part = rows[head * size:(head + 1) * size]
        for first, second in zip(part[:size // 2], part[size // 2:]):
            out += [first, second]
    return Tensor(tensor.dtype, tensor.shape, b"".join(out))


def split_kv_b(tensor, config, flat):
    """kv_b_proj as attn_k_b [heads, kv_lora_rank, nope] and attn_v_b [heads, v, kv_lora_rank]."""
    nope, v, heads = config["qk_nope_head_dim"], config["v_head_dim"], config["num_attention_heads"]
    rank, rows = tensor.shape[1], tensor.rows()
    keys, values = [], []
    for head in range(heads):
        begin = head * (nope + v)
        keys.append(Tensor(tensor.dtype, [nope, rank], b"".join(rows[begin:begin + nope])).transposed().data)
        values += rows[begin + nope:begin + nope + v]
    k_shape, v_shape = ([heads * rank, nope], [heads * v, rank]) if flat else ([heads, rank, nope], [heads, v, rank])
    return (Tensor(tensor.dtype, k_shape, b"".join(keys)), Tensor(tensor.dtype, v_shape, b"".join(values)))


def translate(tensors, config, kv_b):
    """{GGUF name: Tensor}"""
    out, stacks = {}, {}
    for name, tensor in tensors.items():
        stem, suffix = name.rsplit(".", 1)
        if stem in TOP:
            out[f"{TOP[stem]}.{suffix}"] = tensor
            continue
        layer, inner = stem.removeprefix("model.layers.").split(".", 1)
        prefix = f"blk.{layer}."
        if suffix == "e_score_correction_bias":
            out[prefix + "exp_probs_b.bias"] = tensor
        elif inner.startswith("mlp.experts."):
            expert, projection = inner.removeprefix("mlp.experts.").split(".")
            kind = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}[projection]
            stacks.setdefault(f"{prefix}ffn_{kind}_exps.weight", {})[int(expert)] = tensor
        elif inner == "self_attn.kv_b_proj" and kv_b != "whole":
            k, v = split_kv_b(tensor, config, kv_b == "flat")
            out[prefix + "attn_k_b.weight"], out[prefix + "attn_v_b.weight"] = k, v
        else:
            if config["model_type"] == "llama" and inner in ("self_attn.q_proj", "self_attn.k_proj"):
                heads = config["num_attention_heads" if inner.endswith("q_proj") else "num_key_value_heads"]
                tensor = interleaved(tensor, heads)
            out[f"{prefix}{LAYER[inner]}.{suffix}"] = tensor
    for name, experts in stacks.items():
        first = experts[0]
        out[name] = Tensor(first.dtype, [len(experts), *first.shape],
                           b"".join(experts[i].data for i in range(len(experts))))
    return {name: t.as_f32() if len(t.shape) == 1 else t for name, t in out.items()}


def llama3_divisors(config, r):
    dims = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    old, low, high, factor = (r[k] for k in ("original_max_position_embeddings", "low_freq_factor",
                                            "high_freq_factor", "factor"))
    out = []
    for i in range(dims // 2):
        turns = old * config["rope_theta"] ** (-2 * i / dims) / (2 * math.pi)
        smooth = min(max((turns - low) / (high - low), 0), 1)
        out.append(1 / ((1 - smooth) / factor + smooth))
    return Tensor("F32", [len(out)], struct.pack(f"<{len(out)}f", *out))


def rope_keys(config, arch, tensors):
    """Keys of the rope scaling; adds rope_freqs.weight."""
    r = config.get("rope_scaling") or {}
    kind = r.get("rope_type", r.get("type"))
    keys = {}
    if kind == "llama3":
        tensors["rope_freqs.weight"] = llama3_divisors(config, r)
    elif kind:
        keys = {"type": (STRING, kind), "factor": (F32, r["factor"])}
    if kind == "yarn":
        keys["original_context_length"] = U32, r["original_max_position_embeddings"]
        whole = r.get("mscale_all_dim", 0)
        if whole:
            keys["yarn_log_multiplier"] = F32, 0.1 * whole
            if r["mscale"] != whole:  # no published model has that
                magnitude = [0.1 * m * math.log(r["factor"]) + 1 for m in (r["mscale"], whole)]
                keys["attn_factor"] = F32, magnitude[0] / magnitude[1]
    return {f"{arch}.rope.scaling.{k}": v for k, v in keys.items()}


def model_keys(config, tensors):
    arch = ARCHITECTURES[config["model_type"]]
    mtp = config.get("num_nextn_predict_layers", 0)
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    keys = {
        "block_count": (U32, config["num_hidden_layers"] + mtp), "context_length": (U32, config["max_position_embeddings"]),
        "embedding_length": (U32, config["hidden_size"]), "feed_forward_length": (U32, config["intermediate_size"]),
        "attention.head_count": (U32, config["num_attention_heads"]), "vocab_size": (U32, config["vocab_size"]),
        "attention.layer_norm_rms_epsilon": (F32, config["rms_norm_eps"]), "rope.freq_base": (F32, config["rope_theta"]),
    }
    if arch != "deepseek2":
        keys |= {"attention.head_count_kv": (U32, config["num_key_value_heads"]),
                 "rope.dimension_count": (U32, head_dim), "attention.key_length": (U32, head_dim)}
    else:
        rope, rank = config["qk_rope_head_dim"], config["kv_lora_rank"]
        keys |= {
            "attention.head_count_kv": (U32, 1), "rope.dimension_count": (U32, rope),
            "attention.kv_lora_rank": (U32, rank), "attention.key_length": (U32, rank + rope),
            "attention.value_length": (U32, rank), "attention.key_length_mla": (U32, config["qk_nope_head_dim"] + rope),
            "attention.value_length_mla": (U32, config["v_head_dim"]),
            "leading_dense_block_count": (U32, config["first_k_dense_replace"]),
            "expert_count": (U32, config["n_routed_experts"]), "expert_used_count": (U32, config["num_experts_per_tok"]),
            "expert_shared_count": (U32, config["n_shared_experts"]),
            "expert_feed_forward_length": (U32, config["moe_intermediate_size"]),
            "expert_weights_scale": (F32, config["routed_scaling_factor"]),
            "expert_weights_norm": (BOOL, config["norm_topk_prob"]),
            "expert_group_count": (U32, config["n_group"]), "expert_group_used_count": (U32, config["topk_group"]),
            "expert_gating_func": (U32, 2 if config["model_type"] == "deepseek_v3" else 1),
        }
        if config.get("q_lora_rank"):
            keys["attention.q_lora_rank"] = U32, config["q_lora_rank"]
        if mtp:
            keys["nextn_predict_layers"] = U32, mtp
    return {"general.architecture": (STRING, arch), "general.type": (STRING, "model"),
            **{f"{arch}.{k}": v for k, v in keys.items()}, **rope_keys(config, arch, tensors)}


def pre_name(tokenizer):
    splits = [s["pattern"]["Regex"] for s in tokenizer["pre_tokenizer"]["pretokenizers"] if s["type"] == "Split"]
    names = {r"\p{N}{1,3}": "deepseek-v3", r"\p{N}": "nano-v3"}
    if len(splits) != 3 or splits[0] not in names:
        raise SystemExit("no name for this pre-tokenizer; give --pre")
    return names[splits[0]]


def tokenizer_keys(directory, config, pre):
    path = directory / "tokenizer.json"
    if not path.exists():
        return {"tokenizer.ggml.model": (STRING, "no_vocab")}
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    tokens = [f"[PAD{i}]" for i in range(config["vocab_size"])]
    types = [5] * len(tokens)
    for content, i in tokenizer["model"]["vocab"].items():
        tokens[i], types[i] = content, 1
    for token in tokenizer["added_tokens"]:
        content = token["content"]
        control = token["special"] or content.startswith("<｜") and content.endswith("｜>")
        tokens[token["id"]], types[token["id"]] = content, 3 if control else 4
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    keys = {"model": (STRING, "gpt2"), "pre": (STRING, pre or pre_name(tokenizer)), "tokens": (STRING, tokens),
            "token_type": (I32, types), "merges": (STRING, merges), "add_bos_token": (BOOL, False)}
    for name in ("bos", "eos"):
        if isinstance(config.get(f"{name}_token_id"), int):
            keys[f"{name}_token_id"] = U32, config[f"{name}_token_id"]
    out = {f"tokenizer.ggml.{k}": v for k, v in keys.items()}
    settings = directory / "tokenizer_config.json"
    if settings.exists():
        out["tokenizer.chat_template"] = STRING, json.loads(settings.read_text(encoding="utf-8"))["chat_template"]
    return out


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(kind, value):
    return string(value) if kind == STRING else struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], value)


def key_value(key, kind, value):
    if isinstance(value, list):
        return (string(key) + struct.pack("<IIQ", ARRAY, kind, len(value))
                + b"".join(scalar(kind, v) for v in value))
    return string(key) + struct.pack("<I", kind) + scalar(kind, value)


def gguf(keys, tensors, version=3, alignment=32):
    """The bytes of a file. keys: {name: (type, value or list of values)}"""
    infos, data = b"", b""
    for name, tensor in tensors.items():
        data += b"\0" * (-len(data) % alignment)
        infos += (string(name) + struct.pack("<I", len(tensor.shape))
                  + struct.pack(f"<{len(tensor.shape)}Q", *reversed(tensor.shape))
                  + struct.pack("<IQ", FORMATS[tensor.dtype][0], len(data)))
        data += tensor.data
    head = (b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
            + b"".join(key_value(k, *v) for k, v in keys.items()) + infos)
    return head + b"\0" * (-len(head) % alignment) + data


def write_model(directory, out, f32=False, kv_b="split", shards=1, pre=None):
    """Writes `out`, or its shards; returns the list of paths."""
    directory, out = Path(directory), Path(out)
    config = json.loads((directory / "config.json").read_text())
    tensors = translate(read_directory(directory), config, kv_b)
    if f32:
        tensors = {name: t.as_f32() for name, t in tensors.items()}
    keys = {**model_keys(config, tensors), "general.name": (STRING, directory.name),
            **tokenizer_keys(directory, config, pre)}
    if shards == 1:
        out.write_bytes(gguf(keys, tensors))
        return [out]
    names, paths = list(tensors), []
    for i in range(shards):
        part = {n: tensors[n] for n in names[i * len(names) // shards:(i + 1) * len(names) // shards]}
        split = {"split.no": (U32, i), "split.count": (U32, shards), "split.tensors.count": (I32, len(names))}
        paths.append(out.with_name(f"{out.stem}-{i + 1:05}-of-{shards:05}.gguf"))
        paths[-1].write_bytes(gguf({**(keys if i == 0 else {}), **split}, part))
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("directory")
    parser.add_argument("out")
    parser.add_argument("--f32", action="store_true", help="all tensors as F32")
    parser.add_argument("--kv-b", choices=["split", "flat", "whole"], default="split",
                        help="MLA's kv_b_proj: two stacks, two matrices (early files), or as it is (old files)")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--pre", help="the pre-tokenizer's name, if it cannot be told")
    a = parser.parse_args()
    write_model(a.directory, a.out, a.f32, a.kv_b, a.shards, a.pre)


if __name__ == "__main__":
    main()
