"""Random models with random configurations, to compare the program with ref_numpy.py on dimensions and flags
that no fixture has: odd widths, missing query rank, biases, tied embeddings, every rope scaling, every storage
type, headers that leave tensors misaligned. Needs numpy."""
import json
import os

import numpy as np

from ref_numpy import E4M3


class Writer:
    """Collects tensors in one storage type ('f32', 'f16', 'bf16', 'fp8') and writes a safetensors file."""

    def __init__(self, rng, mode):
        self.rng, self.mode, self.tensors = rng, mode, {}

    def put(self, name, values, f32=False):
        values = values.astype(np.float32)
        mode = "f32" if f32 else self.mode
        if mode == "f32":
            self.tensors[name] = ("F32", values.shape, values.tobytes())
        elif mode == "f16":
            self.tensors[name] = ("F16", values.shape, values.astype("<f2").tobytes())
        else:
            bits = values.view(np.uint32)
            bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
            self.tensors[name] = ("BF16", values.shape, bits.tobytes())

    def vector(self, name, n, mean=1.0, f32=False):
        self.put(name, mean + 0.2 * self.rng.standard_normal(n), f32)

    def matrix(self, name, rows, cols, scale=None, quantised=True):
        values = self.rng.standard_normal((rows, cols)) * (scale or 1.3 * cols ** -0.5)
        if self.mode != "fp8" or not quantised:
            return self.put(name, values)
        codes = np.zeros((rows, cols), np.uint8)
        scales = np.zeros((-(-rows // 128), -(-cols // 128)), np.float32)
        for i in range(scales.shape[0]):
            for j in range(scales.shape[1]):
                block = np.s_[i * 128:(i + 1) * 128, j * 128:(j + 1) * 128]
                scales[i, j] = np.abs(values[block]).max() / 448
                codes[block] = nearest_e4m3(values[block] / scales[i, j])
        self.tensors[name] = ("F8_E4M3", (rows, cols), codes.tobytes())
        self.tensors[name + "_scale_inv"] = ("F32", scales.shape, scales.tobytes())

    def save(self, path):
        header, blobs, offset = {}, [], 0
        for name, (dtype, shape, blob) in self.tensors.items():
            header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(blob)]}
            blobs.append(blob)
            offset += len(blob)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8 + int(self.rng.integers(0, 2)))  # one more leaves all misaligned
        with open(path, "wb") as f:
            f.write(len(text).to_bytes(8, "little") + text + b"".join(blobs))


def nearest_e4m3(values):
    table = np.where(np.isnan(E4M3), 1e9, E4M3)
    order = np.argsort(table)
    at = np.clip(np.searchsorted(table[order], values), 1, 255)
    below = np.abs(table[order][at - 1] - values) <= np.abs(table[order][at] - values)
    return order[at - below].astype(np.uint8)


def choose(rng, *options):
    return options[int(rng.integers(len(options)))]


def rope_scaling(rng, *kinds):
    kind = choose(rng, *kinds)
    original = choose(rng, 32, 64, 128)
    if kind == "linear":
        return {"type": "linear", "factor": choose(rng, 2.0, 4.0)}
    if kind == "llama3":
        return {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": original}
    if kind == "yarn":
        scaling = {"type": "yarn", "factor": choose(rng, 4, 40), "original_max_position_embeddings": original,
                   "beta_fast": 32, "beta_slow": 1}
        if rng.random() < 0.6:
            scaling.update(mscale=choose(rng, 1.0, 0.707), mscale_all_dim=choose(rng, 1.0, 0.707, 0.5))
        return scaling
    return None


def common_config(rng, model_type, **fields):
    return dict(model_type=model_type, vocab_size=choose(rng, 100, 333), num_hidden_layers=choose(rng, 1, 2, 3),
                rms_norm_eps=choose(rng, 1e-6, 1e-5), rope_theta=choose(rng, 1e4, 1e6), max_position_embeddings=512,
                tie_word_embeddings=bool(rng.random() < 0.4), hidden_act="silu", bos_token_id=0, eos_token_id=1,
                **fields)


def write_ends(w, c):
    w.matrix("model.embed_tokens.weight", c["vocab_size"], c["hidden_size"], 1.0, quantised=False)
    if not c["tie_word_embeddings"]:
        w.matrix("lm_head.weight", c["vocab_size"], c["hidden_size"], quantised=False)
    w.vector("model.norm.weight", c["hidden_size"])


def write_swiglu(w, prefix, hidden, inner):
    w.matrix(prefix + "gate_proj.weight", inner, hidden)
    w.matrix(prefix + "up_proj.weight", inner, hidden)
    w.matrix(prefix + "down_proj.weight", hidden, inner)


def dense_model(rng, model_type, mode):
    head_dim, heads = choose(rng, 16, 24, 40), choose(rng, 2, 4, 6)
    kv_heads = choose(rng, 1, 2, heads)
    hidden, inner = choose(rng, heads * head_dim, 72, 104), choose(rng, 80, 130, 200)
    c = common_config(rng, model_type, hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads,
                      head_dim=head_dim, intermediate_size=inner,
                      rope_scaling=rope_scaling(rng, "none", "linear", "llama3", "yarn"))
    bias = model_type == "qwen2" or bool(rng.random() < 0.5)
    if model_type != "qwen2":
        c["attention_bias"] = bias
    w = Writer(rng, mode)
    write_ends(w, c)
    for i in range(c["num_hidden_layers"]):
        p, a = f"model.layers.{i}.", f"model.layers.{i}.self_attn."
        w.vector(p + "input_layernorm.weight", hidden)
        w.vector(p + "post_attention_layernorm.weight", hidden)
        for name, count in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            w.matrix(f"{a}{name}_proj.weight", count * head_dim, hidden)
            if bias:
                w.vector(f"{a}{name}_proj.bias", count * head_dim, 0)
        w.matrix(a + "o_proj.weight", hidden, heads * head_dim)
        if bias and model_type != "qwen2":
            w.vector(a + "o_proj.bias", hidden, 0)
        if model_type == "qwen3":
            w.vector(a + "q_norm.weight", head_dim)
            w.vector(a + "k_norm.weight", head_dim)
        write_swiglu(w, p + "mlp.", hidden, inner)
    return c, w


def write_mla(w, c, a):
    hidden, heads, rank = c["hidden_size"], c["num_attention_heads"], c["kv_lora_rank"]
    nope, rope, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
    if c["q_lora_rank"]:
        w.matrix(a + "q_a_proj.weight", c["q_lora_rank"], hidden)
        w.vector(a + "q_a_layernorm.weight", c["q_lora_rank"])
        w.matrix(a + "q_b_proj.weight", heads * (nope + rope), c["q_lora_rank"])
    else:
        w.matrix(a + "q_proj.weight", heads * (nope + rope), hidden)
    w.matrix(a + "kv_a_proj_with_mqa.weight", rank + rope, hidden)
    w.vector(a + "kv_a_layernorm.weight", rank)
    w.matrix(a + "kv_b_proj.weight", heads * (nope + v), rank)
    w.matrix(a + "o_proj.weight", hidden, heads * v)
    if c["attention_bias"]:
        if c["q_lora_rank"]:
            w.vector(a + "q_a_proj.bias", c["q_lora_rank"], 0)
        w.vector(a + "kv_a_proj_with_mqa.bias", rank + rope, 0)
        w.vector(a + "o_proj.bias", hidden, 0)


def mixture_config(rng, model_type):
    groups = choose(rng, 1, 2, 4)
    experts, kept = groups * choose(rng, 3, 4, 5), int(rng.integers(1, groups + 1))
    c = common_config(
        rng, model_type, hidden_size=choose(rng, 64, 96, 136), num_attention_heads=choose(rng, 2, 3, 4),
        qk_nope_head_dim=choose(rng, 16, 24, 32), qk_rope_head_dim=choose(rng, 8, 16),
        v_head_dim=choose(rng, 16, 32, 40), kv_lora_rank=choose(rng, 32, 64, 130), q_lora_rank=choose(rng, None, 48, 140),
        intermediate_size=150, moe_intermediate_size=choose(rng, 24, 40, 136), n_routed_experts=experts,
        num_experts_per_tok=int(rng.integers(1, min(4, experts // groups * kept) + 1)), n_group=groups,
        topk_group=kept, n_shared_experts=choose(rng, 1, 2), first_k_dense_replace=choose(rng, 0, 1),
        routed_scaling_factor=choose(rng, 1.0, 2.5), moe_layer_freq=1, attention_bias=bool(rng.random() < 0.4),
        rope_scaling=rope_scaling(rng, "none", "yarn", "linear"))
    if model_type == "deepseek_v2":
        c.update(topk_method=choose(rng, "greedy", "group_limited_greedy"), norm_topk_prob=False, scoring_func="softmax")
    else:
        c.update(topk_method="noaux_tc", norm_topk_prob=bool(rng.random() < 0.6), scoring_func="sigmoid",
                 num_nextn_predict_layers=choose(rng, 0, 1))
    return c


def mixture_model(rng, model_type, mode):
    c = mixture_config(rng, model_type)
    hidden, inner, layers = c["hidden_size"], c["moe_intermediate_size"], c["num_hidden_layers"]
    w = Writer(rng, mode)
    write_ends(w, c)
    for i in range(layers + c.get("num_nextn_predict_layers", 0)):
        p, m = f"model.layers.{i}.", f"model.layers.{i}.mlp."
        w.vector(p + "input_layernorm.weight", hidden)
        w.vector(p + "post_attention_layernorm.weight", hidden)
        write_mla(w, c, p + "self_attn.")
        if i < c["first_k_dense_replace"]:
            write_swiglu(w, m, hidden, c["intermediate_size"])
        else:
            w.matrix(m + "gate.weight", c["n_routed_experts"], hidden, quantised=False)
            if model_type == "deepseek_v3":
                w.vector(m + "gate.e_score_correction_bias", c["n_routed_experts"], 0, f32=True)
            for e in range(c["n_routed_experts"]):
                write_swiglu(w, f"{m}experts.{e}.", hidden, inner)
            write_swiglu(w, m + "shared_experts.", hidden, inner * c["n_shared_experts"])
        if i >= layers:
            w.vector(p + "enorm.weight", hidden)
            w.vector(p + "hnorm.weight", hidden)
            w.matrix(p + "eh_proj.weight", hidden, 2 * hidden, quantised=False)
            w.vector(p + "shared_head.norm.weight", hidden)
    if mode == "fp8":
        c["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [128, 128]}
    return c, w


def write_random_model(rng, folder):
    """Writes config.json and model.safetensors; returns (model_type, storage, config)."""
    model_type = choose(rng, "llama", "qwen2", "qwen3", "deepseek_v2", "deepseek_v3")
    deep = model_type.startswith("deepseek")
    mode = choose(rng, "f32", "f16", "bf16", "fp8" if deep else "bf16")
    c, w = (mixture_model if deep else dense_model)(rng, model_type, mode)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(c, f)
    w.save(os.path.join(folder, "model.safetensors"))
    return model_type, mode, c
