#!/usr/bin/env python3
"""Writes decoded_blocks.bin: random blocks of every format with the float32 values that the Python
package `gguf` (0.19.0, needs numpy) decodes them to. Usage: decoded_blocks.py PATH

The file, little-endian: for each type its name (8 bytes, padded with zeros), the number of bytes and
the number of values (u32 each), the bytes, the values. The scales (F16) are finite and of every kind:
normal, subnormal, negative, zero; MXFP4's scales (E8M0) are any but NaN; all other bits are random.
"""
import struct
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

# Where a block's F16 fields stand.
SCALES = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82],
          "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "MXFP4": []}
random = np.random.default_rng(20240711)
with open(sys.argv[1], "wb") as out:
    for name, fields in SCALES.items():
        kind = GGMLQuantizationType[name]
        elements, size = GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (512 // elements * 2, size), dtype=np.uint8)
        for field in fields:
            scale = (random.standard_normal(len(blocks)) * 0.02).astype(np.float16)
            scale[0], scale[1] = 1e-6, 0
            blocks[:, field:field + 2] = scale.view(np.uint8).reshape(-1, 2)
        if name == "MXFP4":
            blocks[:, 0] = random.integers(0, 255, len(blocks))
            blocks[:4, 0] = 0, 1, 2, 254
        values = dequantize(blocks.reshape(-1), kind).astype("<f4")
        out.write(struct.pack("<8sII", name.encode(), blocks.size, values.size))
        out.write(blocks.tobytes() + values.tobytes())
