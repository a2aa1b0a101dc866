#!/usr/bin/env python3
"""Independent reference of every architecture in plain numpy, checked against the golden fixtures.

Written from tests/golden/data/NOTES.md, not from the library that made the goldens, so that the notes themselves are tested.
No cache, one sequence, float32.   ref_numpy.py FIXTURE_DIR...
"""
import json
import math
import os
import sys

import numpy as np

FT = np.float32
E2M1 = np.array([0, .5, 1, 1.5, 2, 3, 4, 6, 0, -.5, -1, -1.5, -2, -3, -4, -6])


# ------------------------------------------------------------------ storage
def e4m3():
    t = np.zeros(256)
    for b in range(256):
        s, e, m = b >> 7, (b >> 3) & 15, b & 7
        v = m / 8 * 2.0 ** -6 if e == 0 else (1 + m / 8) * 2.0 ** (e - 7)
        t[b] = (-v if s else v) if (b & 127) != 127 else np.nan
    return t


E4M3 = e4m3()


def read_safetensors(path):
    with open(path, "rb") as f:
        n = int.from_bytes(f.read(8), "little")
        hdr = json.loads(f.read(n))
        data = f.read()
    out = {}
    for k, h in hdr.items():
        if k == "__metadata__":
            continue
        a, b = h["data_offsets"]
        raw, d, sh = data[a:b], h["dtype"], h["shape"]
        if d == "BF16":
            v = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif d == "F8_E8M0":
            v = 2.0 ** (np.frombuffer(raw, np.uint8).astype(np.float64) - 127)
        elif d == "F8_E4M3":
            v = E4M3[np.frombuffer(raw, np.uint8)]
        else:
            v = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I8": "i1"}[d])
        out[k] = (d, v.reshape(sh))
    return out


def load(folder):
    idx = f"{folder}/model.safetensors.index.json"
    files = sorted(set(json.load(open(idx))["weight_map"].values())) if os.path.exists(idx) else ["model.safetensors"]
    raw = {}
    for fn in files:
        raw.update(read_safetensors(f"{folder}/{fn}"))
    w = {}
    for k, (d, v) in raw.items():
        if k.endswith("_scale_inv") or d == "F8_E8M0":
            continue
        if d in ("F8_E4M3", "I8"):
            s = raw[k + "_scale_inv"][1] if k + "_scale_inv" in raw else raw[k[: -len("weight")] + "scale"][1]
            if d == "I8":  # two e2m1 values a byte, low nibble first; one scale per row and 32 inputs
                u = v.view(np.uint8)
                v = E2M1[np.stack([u & 15, u >> 4], -1)].reshape(u.shape[0], -1) * np.repeat(s, 32, 1)
            else:  # one scale per 128x128 block, edge blocks smaller
                v = v * np.repeat(np.repeat(s, 128, 0)[: v.shape[0]], 128, 1)[:, : v.shape[1]]
        w[k] = v if d == "I64" else v.astype(FT)
    return w


# ------------------------------------------------------------------ shared pieces
def lin(x, w, b=None):
    y = x @ w.T
    return y if b is None else y + b


def rms(x, w=None, eps=1e-6):
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return y if w is None else y * w


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def topk_mask(x, k):
    """True at the k largest entries of each row."""
    i = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    m = np.zeros(x.shape, bool)
    np.put_along_axis(m, i, True, -1)
    return m


def rope_freqs(dim, theta, sc, max_pos):
    """Returns (inverse frequencies [dim/2], factor on cos and sin)."""
    inv = 1.0 / theta ** (np.arange(0, dim, 2) / dim)
    sc = sc or {}
    kind = sc.get("rope_type", sc.get("type", "default"))
    if kind == "default":
        return inv, 1.0
    f = sc["factor"]
    if kind == "linear":
        return inv / f, 1.0
    if kind == "llama3":
        lo, hi, o = sc["low_freq_factor"], sc["high_freq_factor"], sc["original_max_position_embeddings"]
        wl = 2 * np.pi / inv
        s = (o / wl - lo) / (hi - lo)
        mid = (1 - s) * inv / f + s * inv
        return np.where(wl > o / lo, inv / f, np.where(wl < o / hi, inv, mid)), 1.0
    assert kind == "yarn"
    o = sc.get("original_max_position_embeddings", max_pos)
    corr = lambda rot: dim * math.log(o / (rot * 2 * math.pi)) / (2 * math.log(theta))
    low = max(math.floor(corr(sc.get("beta_fast") or 32)), 0)
    high = min(math.ceil(corr(sc.get("beta_slow") or 1)), dim - 1)
    if low == high:
        high += 0.001
    ramp = np.clip((np.arange(dim // 2) - low) / (high - low), 0, 1)
    get = lambda s, m=1.0: 1.0 if s <= 1 else 0.1 * m * math.log(s) + 1.0
    af = sc.get("attention_factor")
    if af is None:
        m, ma = sc.get("mscale"), sc.get("mscale_all_dim")
        af = get(f, m) / get(f, ma) if m and ma else get(f)
    return inv / f * ramp + inv * (1 - ramp), af


def angles(pos, inv, af=1.0):
    a = np.asarray(pos, np.float64)[:, None] * inv[None]
    return (np.cos(a) * af).astype(FT), (np.sin(a) * af).astype(FT)


def rope_half(x, c, s):
    """x [T, heads, d]: element i pairs with i + d/2."""
    h = x.shape[-1] // 2
    a, b, c, s = x[..., :h], x[..., h:], c[:, None], s[:, None]
    return np.concatenate([a * c - b * s, b * c + a * s], -1)


def rope_pairs(x, c, s):
    """x [T, heads, d]: element 2i pairs with 2i+1 (interleaved)."""
    y = np.empty_like(x)
    a, b, c, s = x[..., 0::2], x[..., 1::2], c[:, None], s[:, None]
    y[..., 0::2], y[..., 1::2] = a * c - b * s, b * c + a * s
    return y


def attend(q, k, v, scale, mask):
    """q [T,H,d], k/v [T,Hk,d], mask [T,T] True where allowed."""
    g = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, g, 1), np.repeat(v, g, 1)
    sc = np.einsum("qhd,khd->hqk", q, k) * FT(scale)
    sc = np.where(mask[None], sc, -np.inf)
    return np.einsum("hqk,khd->qhd", softmax(sc), v)


def mlp(w, p, x, names=("gate_proj", "up_proj", "down_proj"), limit=None):
    g, u = lin(x, w[f"{p}{names[0]}.weight"]), lin(x, w[f"{p}{names[1]}.weight"])
    if limit:
        g, u = np.minimum(g, limit), np.clip(u, -limit, limit)
    return lin(silu(g) * u, w[f"{p}{names[2]}.weight"])


def experts(w, p, x, weight, names=("gate_proj", "up_proj", "down_proj"), limit=None):
    y = np.zeros_like(x)
    for e in range(weight.shape[1]):
        t = np.nonzero(weight[:, e])[0]
        if len(t):
            y[t] += weight[t, e:e + 1] * mlp(w, f"{p}experts.{e}.", x[t], names, limit)
    return y


# ------------------------------------------------------------------ llama, qwen2, qwen3
def dense_layer(w, c, i, x, cs):
    p, T = f"model.layers.{i}.", len(x)
    nh, nk = c["num_attention_heads"], c.get("num_key_value_heads") or c["num_attention_heads"]
    hd = c.get("head_dim") or c["hidden_size"] // nh
    eps = c["rms_norm_eps"]
    h = rms(x, w[p + "input_layernorm.weight"], eps)
    q, k, v = (lin(h, w[f"{p}self_attn.{n}_proj.weight"], w.get(f"{p}self_attn.{n}_proj.bias")) for n in "qkv")
    q, k, v = q.reshape(T, nh, hd), k.reshape(T, nk, hd), v.reshape(T, nk, hd)
    if c["model_type"] == "qwen3":
        q, k = rms(q, w[p + "self_attn.q_norm.weight"], eps), rms(k, w[p + "self_attn.k_norm.weight"], eps)
    q, k = rope_half(q, *cs), rope_half(k, *cs)
    o = attend(q, k, v, hd ** -0.5, np.tril(np.ones((T, T), bool))).reshape(T, -1)
    x = x + lin(o, w[p + "self_attn.o_proj.weight"], w.get(p + "self_attn.o_proj.bias"))
    return x + mlp(w, p + "mlp.", rms(x, w[p + "post_attention_layernorm.weight"], eps))


# ------------------------------------------------------------------ deepseek v2, v3, v3.2
def route(w, p, c, h):
    """Dense matrix [T, experts] of combination weights."""
    E, k = c["n_routed_experts"], c["num_experts_per_tok"]
    z = lin(h, w[p + "gate.weight"])
    G, kg = c.get("n_group") or 1, c.get("topk_group") or 1
    if c["model_type"] == "deepseek_v2":
        s = softmax(z)
        choice = s
        if c["topk_method"] == "group_limited_greedy":
            gm = topk_mask(s.reshape(-1, G, E // G).max(-1), kg)
            choice = np.where(np.repeat(gm, E // G, 1), s, 0)
        m = topk_mask(choice, k)
        return np.where(m, choice, 0) * FT(c["routed_scaling_factor"])
    s = sigmoid(z)
    choice = s + w[p + "gate.e_score_correction_bias"]
    gs = np.sort(choice.reshape(-1, G, E // G), -1)[..., -2:].sum(-1)
    choice = np.where(np.repeat(topk_mask(gs, kg), E // G, 1), choice, -np.inf)
    wt = np.where(topk_mask(choice, k), s, 0)
    if c["norm_topk_prob"]:
        wt = wt / (wt.sum(-1, keepdims=True) + 1e-20)
    return wt * FT(c["routed_scaling_factor"])


def mla_layer(w, c, i, x, cs):
    p, T = f"model.layers.{i}.", len(x)
    a = p + "self_attn."
    nh, dn, dr, dv, r = (c[k] for k in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "kv_lora_rank"))
    eps = c["rms_norm_eps"]
    h = rms(x, w[p + "input_layernorm.weight"], eps)
    if c.get("q_lora_rank"):
        qr = rms(lin(h, w[a + "q_a_proj.weight"], w.get(a + "q_a_proj.bias")), w[a + "q_a_layernorm.weight"])
        q = lin(qr, w[a + "q_b_proj.weight"])
    else:
        q = lin(h, w[a + "q_proj.weight"])
    q = q.reshape(T, nh, dn + dr)
    kv = lin(h, w[a + "kv_a_proj_with_mqa.weight"], w.get(a + "kv_a_proj_with_mqa.bias"))
    lat, kr = rms(kv[:, :r], w[a + "kv_a_layernorm.weight"]), kv[:, None, r:]
    qn, qp = q[..., :dn], rope_pairs(q[..., dn:], *cs)
    kr = rope_pairs(kr, *cs)
    kvb = lin(lat, w[a + "kv_b_proj.weight"]).reshape(T, nh, dn + dv)
    k = np.concatenate([kvb[..., :dn], np.repeat(kr, nh, 1)], -1)
    mask = np.tril(np.ones((T, T), bool))
    if c["model_type"] == "deepseek_v32":
        ih, di = c["index_n_heads"], c["index_head_dim"]
        iq = lin(qr, w[a + "indexer.wq_b.weight"]).reshape(T, ih, di)
        ik = lin(h, w[a + "indexer.wk.weight"])
        mu, var = ik.mean(-1, keepdims=True), ik.var(-1, keepdims=True)
        ik = ((ik - mu) / np.sqrt(var + 1e-6) * w[a + "indexer.k_norm.weight"] + w[a + "indexer.k_norm.bias"])[:, None]
        iq = np.concatenate([rope_half(iq[..., :dr], *cs), iq[..., dr:]], -1)
        ik = np.concatenate([rope_half(ik[..., :dr], *cs), ik[..., dr:]], -1)[:, 0]
        sc = np.maximum(np.einsum("qhd,kd->qhk", iq, ik) * FT(di ** -0.5), 0)
        hw = lin(h, w[a + "indexer.weights_proj.weight"]) * FT(ih ** -0.5)
        sc = np.where(mask, np.einsum("qh,qhk->qk", hw, sc), -np.inf)
        mask = mask & topk_mask(sc, min(c["index_topk"], T))
    sc = c.get("rope_scaling") or {}
    scale = (dn + dr) ** -0.5
    if sc.get("mscale_all_dim"):
        scale *= (0.1 * sc["mscale_all_dim"] * math.log(sc["factor"]) + 1.0) ** 2
    o = attend(np.concatenate([qn, qp], -1), k, kvb[..., dn:], scale, mask).reshape(T, -1)
    x = x + lin(o, w[a + "o_proj.weight"], w.get(a + "o_proj.bias"))
    h = rms(x, w[p + "post_attention_layernorm.weight"], eps)
    m = p + "mlp."
    if i < c["first_k_dense_replace"]:
        return x + mlp(w, m, h)
    return x + experts(w, m, h, route(w, m, c, h)) + mlp(w, m + "shared_experts.", h)


# ------------------------------------------------------------------ deepseek v4
W = ("w1", "w3", "w2")


def hyper(w, p, c, X):
    """X [T, n, D] -> (pre [T,n], post [T,n], comb [T,n,n])"""
    n, eps = c["hc_mult"], FT(c["hc_eps"])
    z = rms(X.reshape(len(X), -1), None, c["rms_norm_eps"]) @ w[p + "_fn"].T
    b, s = w[p + "_base"], w[p + "_scale"]
    pre = sigmoid(z[:, :n] * s[0] + b[:n]) + eps
    post = 2 * sigmoid(z[:, n:2 * n] * s[1] + b[n:2 * n])
    m = softmax((z[:, 2 * n:] * s[2] + b[2 * n:]).reshape(-1, n, n)) + eps
    m = m / (m.sum(-2, keepdims=True) + eps)
    for _ in range(c["hc_sinkhorn_iters"] - 1):
        m = m / (m.sum(-1, keepdims=True) + eps)
        m = m / (m.sum(-2, keepdims=True) + eps)
    return pre, post, m


def compress(w, p, x, ratio, d, inv, rope_dim, overlap, eps):
    """Gated pooling of complete windows -> entries [n, d], rotated at the window's first position."""
    n = len(x) // ratio
    if n == 0:
        return np.zeros((0, d), FT)
    kv, g = lin(x, w[p + "wkv.weight"]), lin(x, w[p + "wgate.weight"])
    kv = kv[: n * ratio].reshape(n, ratio, -1)
    g = g[: n * ratio].reshape(n, ratio, -1) + w[p + "ape"]
    if overlap:  # first half of the channels serves the NEXT window, second half this one
        pk = np.concatenate([np.zeros_like(kv[:1]), kv[:-1]])[..., :d]
        pg = np.concatenate([np.full_like(g[:1], -np.inf), g[:-1]])[..., :d]
        kv, g = np.concatenate([pk, kv[..., d:]], 1), np.concatenate([pg, g[..., d:]], 1)
    wt = softmax(np.swapaxes(g, 1, 2))
    e = rms((np.swapaxes(kv, 1, 2) * wt).sum(-1), w[p + "norm.weight"], eps)[:, None]
    e[..., -rope_dim:] = rope_pairs(e[..., -rope_dim:], *angles(np.arange(n) * ratio, inv))
    return e[:, 0]


def v4_types(c):
    n = c["num_hidden_layers"]
    if "layer_types" in c:
        kinds = [{"s": 0, "c": 4, "h": 128}[t[0]] for t in c["layer_types"]]
        rates = {0: 0, 4: c["compress_rates"]["compressed_sparse_attention"], 128: c["compress_rates"]["heavily_compressed_attention"]}
        hashed = [t == "hash_moe" for t in c["mlp_layer_types"]]
        return [(k, rates[k]) for k in kinds], hashed
    return [(r, r) for r in c["compress_ratios"][:n]], [i < c["num_hash_layers"] for i in range(n)]


def v4_attention(w, c, p, x, kind, rate):
    T, nh, d, dr, eps = len(x), c["num_attention_heads"], c["head_dim"], c["qk_rope_head_dim"], c["rms_norm_eps"]
    pos = np.arange(T)
    if kind:
        inv, _ = rope_freqs(dr, c["compress_rope_theta"], c["rope_scaling"], c["max_position_embeddings"])
    else:
        inv, _ = rope_freqs(dr, c["rope_theta"], None, 0)
    cs = angles(pos, inv)
    qr = rms(lin(x, w[p + "wq_a.weight"]), w[p + "q_norm.weight"], eps)
    q = rms(lin(qr, w[p + "wq_b.weight"]).reshape(T, nh, d), None, eps)
    q[..., -dr:] = rope_pairs(q[..., -dr:], *cs)
    kv = rms(lin(x, w[p + "wkv.weight"]), w[p + "kv_norm.weight"], eps)[:, None]
    kv[..., -dr:] = rope_pairs(kv[..., -dr:], *cs)
    kv = kv[:, 0]
    ok = (pos[None] <= pos[:, None]) & (pos[:, None] - pos[None] < c["sliding_window"])
    if kind:
        comp = compress(w, p + "compressor.", x, rate, d, inv, dr, kind == 4, eps)
        vis = np.arange(len(comp))[None] < ((pos + 1) // rate)[:, None]
        if kind == 4 and len(comp):
            ih, di = c["index_n_heads"], c["index_head_dim"]
            ik = compress(w, p + "indexer.compressor.", x, rate, di, inv, dr, True, eps)
            iq = lin(qr, w[p + "indexer.wq_b.weight"]).reshape(T, ih, di)
            iq[..., -dr:] = rope_pairs(iq[..., -dr:], *cs)
            hw = lin(x, w[p + "indexer.weights_proj.weight"]) * FT(ih ** -0.5 * di ** -0.5)
            sc = np.einsum("qh,qhk->qk", hw, np.maximum(np.einsum("qhd,kd->qhk", iq, ik), 0))
            sc = np.where(vis, sc, -np.inf)
            vis = vis & topk_mask(sc, min(c["index_topk"], len(comp)))
        kv, ok = np.concatenate([kv, comp]), np.concatenate([ok, vis], 1)
    s = np.einsum("qhd,kd->hqk", q, kv) * FT(d ** -0.5)
    s = np.where(ok[None], s, -np.inf)
    sink = np.broadcast_to(w[p + "attn_sink"][:, None, None], s.shape[:2] + (1,))
    pr = softmax(np.concatenate([s, sink], -1))[..., :-1]
    o = np.einsum("hqk,kd->qhd", pr, kv)
    o[..., -dr:] = rope_pairs(o[..., -dr:], cs[0], -cs[1])
    g = c["o_groups"]
    o = np.einsum("tgi,gri->tgr", o.reshape(T, g, -1), w[p + "wo_a.weight"].reshape(g, c["o_lora_rank"], -1))
    return lin(o.reshape(T, -1), w[p + "wo_b.weight"])


def v4_moe(w, c, p, x, ids, hashed):
    z = lin(x, w[p + "gate.weight"])
    s = np.sqrt(np.logaddexp(0, z))
    if hashed:
        m = np.zeros(s.shape, bool)
        np.put_along_axis(m, w[p + "gate.tid2eid"][ids], True, -1)
    else:
        m = topk_mask(s + w[p + "gate.bias"], c["num_experts_per_tok"])
    wt = np.where(m, s, 0)
    wt = wt / wt.sum(-1, keepdims=True) * FT(c["routed_scaling_factor"])
    return experts(w, p, x, wt, W, c["swiglu_limit"]) + mlp(w, p + "shared_experts.", x, W)


def v4_block(w, c, p, X, ids, kind, rate, hashed):
    eps = c["rms_norm_eps"]
    for site in ("attn", "ffn"):
        pre, post, comb = hyper(w, f"{p}hc_{site}", c, X)
        h = rms(np.einsum("tn,tnd->td", pre, X), w[f"{p}{site}_norm.weight"], eps)
        y = v4_attention(w, c, p + "attn.", h, kind, rate) if site == "attn" else v4_moe(w, c, p + "ffn.", h, ids, hashed)
        X = post[..., None] * y[:, None] + np.einsum("tjk,tjd->tkd", comb, X)
    return X


def v4_head(w, c, p, X, norm):
    z = rms(X.reshape(len(X), -1), None, c["rms_norm_eps"]) @ w[p + "hc_head_fn"].T
    pre = sigmoid(z * w[p + "hc_head_scale"] + w[p + "hc_head_base"]) + FT(c["hc_eps"])
    return rms(np.einsum("tn,tnd->td", pre, X), w[norm], c["rms_norm_eps"])


# ------------------------------------------------------------------ whole models
def forward(w, c, ids):
    """Returns (logits, list of layer outputs, MTP logits or None)."""
    mt = c["model_type"]
    hid = []
    if mt == "deepseek_v4":
        X = np.repeat(w["embed.weight"][ids][:, None], c["hc_mult"], 1)
        types, hashed = v4_types(c)
        for i in range(c["num_hidden_layers"]):
            X = v4_block(w, c, f"layers.{i}.", X, ids, *types[i], hashed[i])
            hid.append(X)
        out = lin(v4_head(w, c, "", X, "norm.weight"), w["head.weight"])
        mtp = None
        if "mtp.0.e_proj.weight" in w and len(ids) > 1:
            e = lin(rms(w["embed.weight"][ids[1:]], w["mtp.0.enorm.weight"], c["rms_norm_eps"]), w["mtp.0.e_proj.weight"])
            Y = e[:, None] + lin(rms(X[:-1], w["mtp.0.hnorm.weight"], c["rms_norm_eps"]), w["mtp.0.h_proj.weight"])
            Y = v4_block(w, c, "mtp.0.", Y, ids[1:], 0, 0, False)
            mtp = lin(v4_head(w, c, "mtp.0.", Y, "mtp.0.norm.weight"), w["head.weight"])
        return out, hid, mtp
    mla = mt.startswith("deepseek")
    nh = c["num_attention_heads"]
    hd = c["qk_rope_head_dim"] if mla else c.get("head_dim") or c["hidden_size"] // nh
    inv, af = rope_freqs(hd, c["rope_theta"], c.get("rope_scaling"), c["max_position_embeddings"])
    cs = angles(np.arange(len(ids)), inv, af)
    layer = mla_layer if mla else dense_layer
    x = w["model.embed_tokens.weight"][ids]
    L = c["num_hidden_layers"]
    for i in range(L):
        x = layer(w, c, i, x, cs)
        hid.append(x)
    h = rms(x, w["model.norm.weight"], c["rms_norm_eps"])
    head = w["model.embed_tokens.weight"] if c["tie_word_embeddings"] else w["lm_head.weight"]
    mtp, p = None, f"model.layers.{L}."
    if p + "eh_proj.weight" in w and len(ids) > 1:
        e = rms(w["model.embed_tokens.weight"][ids[1:]], w[p + "enorm.weight"], c["rms_norm_eps"])
        y = lin(np.concatenate([e, rms(h[:-1], w[p + "hnorm.weight"], c["rms_norm_eps"])], -1), w[p + "eh_proj.weight"])
        y = layer(w, c, L, y, (cs[0][:-1], cs[1][:-1]))
        mtp = lin(rms(y, w[p + "shared_head.norm.weight"], c["rms_norm_eps"]), head)
    return lin(h, head), hid, mtp


def check(folder):
    c = json.load(open(f"{folder}/config.json"))
    w = load(folder)
    g = {k: v for k, (d, v) in read_safetensors(f"{folder}/golden.safetensors").items()}
    meta = json.load(open(f"{folder}/golden.json"))
    worst = dict(logits=0.0, hidden=0.0, mtp=0.0, greedy=0)
    for i, p in enumerate(meta["prompts"]):
        ids = g[f"p{i}.input_ids"]
        T = len(ids)
        seq = np.concatenate([ids, g[f"p{i}.greedy_ids"]]) if T <= 64 else ids
        if "messages" in p:  # the nano model's own goldens
            seq = ids
        lg, hid, mtp = forward(w, c, ids)
        pos = g[f"p{i}.logits_positions"] if f"p{i}.logits_positions" in g else np.arange(T - len(g[f"p{i}.logits"]), T)
        worst["logits"] = max(worst["logits"], float(np.abs(lg[pos] - g[f"p{i}.logits"]).max()))
        if mtp is not None and f"p{i}.mtp_logits" in g:
            mp = g[f"p{i}.mtp_positions"] if f"p{i}.mtp_positions" in g else np.arange(T - 1 - len(g[f"p{i}.mtp_logits"]), T - 1)
            worst["mtp"] = max(worst["mtp"], float(np.abs(mtp[mp] - g[f"p{i}.mtp_logits"]).max()))
        for li, h in enumerate(hid):
            k = f"p{i}.hidden.layer{li}"
            if k in g:
                worst["hidden"] = max(worst["hidden"], float(np.abs(h - g[k]).max()))
        if len(seq) > T:  # greedy tokens, teacher-forced
            lg, _, _ = forward(w, c, seq)
            worst["greedy"] += int((lg[T - 1:-1].argmax(-1) != g[f"p{i}.greedy_ids"]).sum())
    return worst


if __name__ == "__main__":
    bad = 0
    for f in sys.argv[1:]:
        if not os.path.exists(f"{f}/golden.safetensors"):
            continue
        r = check(f)
        ok = r["logits"] < 2e-3 and r["greedy"] == 0 and r["mtp"] < 2e-3
        bad += not ok
        print(f"{'ok  ' if ok else 'FAIL'} {os.path.basename(f.rstrip('/')):24s} logits {r['logits']:.2e} layers {r['hidden']:.2e} "
              f"mtp {r['mtp']:.2e} greedy mismatches {r['greedy']}", flush=True)
    sys.exit(bad > 0)
