"""Random models with random configurations, to compare the program with ref_numpy.py on dimensions and flags
that no fixture has: odd widths, missing query rank, biases, tied embeddings, every rope scaling, every storage
type, headers that leave tensors misaligned. Needs numpy."""
import json
import os

import numpy as np

from ref_numpy import E4M3, v4_types


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

    def v4_matrix(self, name, rows, cols):
        """FP8 as V4 stores it in mode 'fp4': an exponent for 128 x 128."""
        if self.mode != "fp4":
            return self.matrix(name + ".weight", rows, cols)
        codes = self.rng.integers(0, 256, (rows, cols)).astype(np.uint8)
        codes = (codes & 0x87) | (6 + (codes >> 4 & 1)) << 3  # magnitudes 0.5 to 2
        self.tensors[name + ".weight"] = ("F8_E4M3", (rows, cols), codes.tobytes())
        self.exponents(name, (-(-rows // 128), -(-cols // 128)), cols)

    def expert_matrix(self, name, rows, cols):
        """FP4 in mode 'fp4': two codes a byte, an exponent for 32 of a row."""
        if self.mode != "fp4":
            return self.matrix(name + ".weight", rows, cols)
        codes = self.rng.integers(0, 256, (rows, cols // 2)).astype(np.uint8)
        self.tensors[name + ".weight"] = ("I8", (rows, cols // 2), codes.tobytes())
        self.exponents(name, (rows, cols // 32), cols)

    def exponents(self, name, shape, cols):
        low = 127 - int(np.log2(cols) / 2) - 2
        values = self.rng.integers(low, low + 3, shape).astype(np.uint8)
        self.tensors[name + ".scale"] = ("F8_E8M0", shape, values.tobytes())

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
    if model_type == "deepseek_v32":  # many heads: a score of exactly 0 would be a tie
        c.update(index_n_heads=choose(rng, 16, 20), index_topk=choose(rng, 3, 16, 200), q_lora_rank=choose(rng, 48, 140),
                 index_head_dim=c["qk_rope_head_dim"] + choose(rng, 0, 8, 16))
    return c


def write_indexer(w, c, p):
    w.matrix(p + "wq_b.weight", c["index_n_heads"] * c["index_head_dim"], c["q_lora_rank"])
    w.matrix(p + "wk.weight", c["index_head_dim"], c["hidden_size"])
    w.vector(p + "k_norm.weight", c["index_head_dim"], f32=True)
    w.vector(p + "k_norm.bias", c["index_head_dim"], 0, f32=True)
    w.matrix(p + "weights_proj.weight", c["index_n_heads"], c["hidden_size"], quantised=False)


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
        if model_type == "deepseek_v32":
            write_indexer(w, c, p + "self_attn.indexer.")
        if i < c["first_k_dense_replace"]:
            write_swiglu(w, m, hidden, c["intermediate_size"])
        else:
            w.matrix(m + "gate.weight", c["n_routed_experts"], hidden, quantised=False)
            if model_type != "deepseek_v2":
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


def v4_config(rng):
    layers = choose(rng, 1, 2, 4)
    c = dict(model_type="deepseek_v4", vocab_size=choose(rng, 100, 333), num_hidden_layers=layers,
             rms_norm_eps=choose(rng, 1e-6, 1e-5), rope_theta=1e4, compress_rope_theta=choose(rng, 4e4, 1.6e5),
             max_position_embeddings=1024, tie_word_embeddings=False, hidden_act="silu", bos_token_id=0, eos_token_id=1,
             hidden_size=choose(rng, 64, 96, 160), num_attention_heads=choose(rng, 2, 4), num_key_value_heads=1,
             head_dim=choose(rng, 32, 48), qk_rope_head_dim=choose(rng, 8, 16), q_lora_rank=choose(rng, 32, 144),
             o_groups=choose(rng, 1, 2), o_lora_rank=choose(rng, 24, 32), sliding_window=choose(rng, 5, 16, 64),
             index_n_heads=choose(rng, 16, 20), index_head_dim=choose(rng, 16, 24), index_topk=choose(rng, 3, 8, 100),
             n_routed_experts=choose(rng, 5, 8), num_experts_per_tok=choose(rng, 1, 2, 3), n_shared_experts=1,
             moe_intermediate_size=choose(rng, 32, 64), norm_topk_prob=True, routed_scaling_factor=choose(rng, 1.0, 1.5),
             scoring_func="sqrtsoftplus", swiglu_limit=choose(rng, 1.0, 7.0), hc_mult=choose(rng, 2, 4), hc_eps=1e-6,
             hc_sinkhorn_iters=choose(rng, 3, 20), num_nextn_predict_layers=choose(rng, 0, 1),
             rope_scaling={"type": "yarn", "factor": choose(rng, 4, 16), "beta_fast": 32, "beta_slow": 1,
                           "original_max_position_embeddings": choose(rng, 64, 128)})
    if rng.random() < 0.5:
        c["compress_ratios"] = [choose(rng, 0, 4, 128) for _ in range(layers + c["num_nextn_predict_layers"])]
        c["num_hash_layers"] = choose(rng, 0, 1)
    else:
        kinds = ("sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention")
        c["layer_types"] = [choose(rng, *kinds) for _ in range(layers)]
        c["compress_rates"] = {kinds[1]: 4, kinds[2]: choose(rng, 8, 16, 24)}
        c["mlp_layer_types"] = [choose(rng, "hash_moe", "moe") for _ in range(layers)]
    return c


def write_streams(w, c, prefix, outputs, scales):
    w.put(prefix + "_fn", 0.05 * w.rng.standard_normal((outputs, c["hc_mult"] * c["hidden_size"])), f32=True)
    w.vector(prefix + "_base", outputs, 0, f32=True)
    w.vector(prefix + "_scale", scales, 0.5, f32=True)


def write_compressor(w, c, p, rate, entry):
    width = 2 * entry if rate == 4 else entry
    w.matrix(p + "wkv.weight", width, c["hidden_size"], quantised=False)
    w.matrix(p + "wgate.weight", width, c["hidden_size"], quantised=False)
    w.put(p + "ape", w.rng.standard_normal((rate, width)), f32=True)
    w.vector(p + "norm.weight", entry)


def write_v4_block(w, c, p, rate, hashed):
    hidden, heads, d = c["hidden_size"], c["num_attention_heads"], c["head_dim"]
    a, f = p + "attn.", p + "ffn."
    for site in ("attn", "ffn"):
        w.vector(f"{p}{site}_norm.weight", hidden)
        write_streams(w, c, f"{p}hc_{site}", (2 + c["hc_mult"]) * c["hc_mult"], 3)
    w.v4_matrix(a + "wq_a", c["q_lora_rank"], hidden)
    w.vector(a + "q_norm.weight", c["q_lora_rank"])
    w.v4_matrix(a + "wq_b", heads * d, c["q_lora_rank"])
    w.v4_matrix(a + "wkv", d, hidden)
    w.vector(a + "kv_norm.weight", d)
    w.v4_matrix(a + "wo_a", c["o_groups"] * c["o_lora_rank"], heads * d // c["o_groups"])
    w.v4_matrix(a + "wo_b", hidden, c["o_groups"] * c["o_lora_rank"])
    w.vector(a + "attn_sink", heads, 0.5, f32=True)
    if rate:
        write_compressor(w, c, a + "compressor.", rate, d)
    if rate == 4:
        w.v4_matrix(a + "indexer.wq_b", c["index_n_heads"] * c["index_head_dim"], c["q_lora_rank"])
        w.matrix(a + "indexer.weights_proj.weight", c["index_n_heads"], hidden, quantised=False)
        write_compressor(w, c, a + "indexer.compressor.", 4, c["index_head_dim"])
    w.matrix(f + "gate.weight", c["n_routed_experts"], hidden, quantised=False)
    if hashed:
        table = np.stack([w.rng.permutation(c["n_routed_experts"])[:c["num_experts_per_tok"]]
                          for _ in range(c["vocab_size"])]).astype("<i8")
        w.tensors[f + "gate.tid2eid"] = ("I64", table.shape, table.tobytes())
    else:
        w.vector(f + "gate.bias", c["n_routed_experts"], 0, f32=True)
    for e in range(c["n_routed_experts"]):
        for name, rows, cols in (("w1", c["moe_intermediate_size"], hidden), ("w3", c["moe_intermediate_size"], hidden),
                                 ("w2", hidden, c["moe_intermediate_size"])):
            w.expert_matrix(f"{f}experts.{e}.{name}", rows, cols)
    for name, rows, cols in (("w1", c["moe_intermediate_size"], hidden), ("w3", c["moe_intermediate_size"], hidden),
                             ("w2", hidden, c["moe_intermediate_size"])):
        w.v4_matrix(f"{f}shared_experts.{name}", rows, cols)


def v4_model(rng, mode):
    c = v4_config(rng)
    w = Writer(rng, mode)
    w.matrix("embed.weight", c["vocab_size"], c["hidden_size"], 1.0, quantised=False)
    w.matrix("head.weight", c["vocab_size"], c["hidden_size"], quantised=False)
    w.vector("norm.weight", c["hidden_size"])
    write_streams(w, c, "hc_head", c["hc_mult"], 1)
    kinds, hashed = v4_types(c)
    for i, (_, rate) in enumerate(kinds):
        write_v4_block(w, c, f"layers.{i}.", rate, hashed[i])
    if c["num_nextn_predict_layers"]:
        for name in ("e_proj", "h_proj"):
            w.v4_matrix("mtp.0." + name, c["hidden_size"], c["hidden_size"])
        for name in ("enorm", "hnorm", "norm"):
            w.vector(f"mtp.0.{name}.weight", c["hidden_size"])
        write_v4_block(w, c, "mtp.0.", 0, False)
        write_streams(w, c, "mtp.0.hc_head", c["hc_mult"], 1)
    if mode == "fp4":
        c["expert_dtype"] = "fp4"
        c["quantization_config"] = {"quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0",
                                    "weight_block_size": [128, 128]}
    return c, w


def write_random_model(rng, folder, model_types):
    """Writes config.json and model.safetensors of one of the types; returns (model_type, storage, config)."""
    model_type = choose(rng, *model_types)
    deep = model_type.startswith("deepseek")
    if model_type == "deepseek_v4":
        mode = choose(rng, "f32", "bf16", "fp4")
        c, w = v4_model(rng, mode)
    else:
        mode = choose(rng, "f32", "f16", "bf16", "fp8" if deep else "bf16")
        c, w = (mixture_model if deep else dense_model)(rng, model_type, mode)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(c, f)
    w.save(os.path.join(folder, "model.safetensors"))
    return model_type, mode, c
