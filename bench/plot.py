#!/usr/bin/env python3
"""Draws docs/benchmarks.svg from docs/benchmarks.json: tokens a second of fathom and its peers. Needs matplotlib.

usage: bench/plot.py [JSON [SVG]]"""
import json
import os
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "fathom"  # the same picture from the same figures
import matplotlib.pyplot as plt  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
NAMES = ("fathom", "llama.cpp", "ik_llama.cpp")
COLOURS = ("#1f6feb", "#8c959f", "#d4a72c")


def bars(axes, rows, label, title):
    """A group of bars for each row; `label` names it. A peer that did not run leaves a gap."""
    for i, (name, colour) in enumerate(zip(NAMES, COLOURS)):
        places = [(x + (i - 1) * 0.27, row["tokens_per_second"].get(name)) for x, row in enumerate(rows)]
        places = [(x, y) for x, y in places if y is not None]
        drawn = axes.bar([x for x, _ in places], [y for _, y in places], 0.25, color=colour, label=name)
        axes.bar_label(drawn, fmt="%.0f", fontsize=7)
    axes.set_xticks(range(len(rows)), [label(row) for row in rows], fontsize=8)
    axes.set_title(title, fontsize=10)
    axes.set_ylabel("tokens/s")
    axes.spines[["top", "right"]].set_visible(False)


def main():
    source = sys.argv[1] if len(sys.argv) > 1 else f"{ROOT}/docs/benchmarks.json"
    target = sys.argv[2] if len(sys.argv) > 2 else f"{ROOT}/docs/benchmarks.svg"
    with open(source, encoding="utf-8") as f:
        machines = json.load(f)["machines"]
    figure, axes = plt.subplots(len(machines), 2, figsize=(12, 3.6 * len(machines)), squeeze=False)
    for (decode, prefill), machine in zip(axes, machines):
        short = {"r1-distill-qwen-1.5b": "1.5B", "v2-lite": "V2-Lite"}
        bars(decode, machine["decode"], lambda r: f"{short[r['shape']]}\n{r['type']}", f"decode, {machine['name']}")
        bars(prefill, machine["prefill"], lambda r: f"{short[r['shape']]}\n{r['type']}\n{r['tokens']}",
             f"prefill, {machine['name']}")
    axes[0][0].legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


main()
