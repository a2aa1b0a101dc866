"""Reads the parts of GGUF files that tests look at: metadata without arrays of arrays, tensor descriptions, and
the values of F32 tensors. Standard library only."""
import array
import math
import struct
from pathlib import Path

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
F32 = 0


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        size = self.take("Q")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            element, count = self.take("I"), self.take("Q")
            return [self.value(element) for _ in range(count)]
        return self.take(SCALARS[kind])


def read_gguf(path):
    """(metadata, {name: (ggml type, shape outermost first, values of an F32 tensor or None)})"""
    data = Path(path).read_bytes()
    r = Reader(data)
    magic, version, tensors, pairs = r.take("4s"), r.take("I"), r.take("Q"), r.take("Q")
    assert (magic, version) == (b"GGUF", 3), (magic, version)
    metadata = {}
    for _ in range(pairs):
        key = r.string()
        metadata[key] = r.value(r.take("I"))
    found = []
    for _ in range(tensors):
        name = r.string()
        shape = [r.take("Q") for _ in range(r.take("I"))][::-1]
        found.append((name, shape, r.take("I"), r.take("Q")))
    start = (r.at + 31) // 32 * 32
    out = {}
    for name, shape, kind, offset in found:
        values = None
        if kind == F32:
            values = array.array("f")
            values.frombytes(data[start + offset:start + offset + 4 * math.prod(shape)])
        out[name] = kind, shape, values
    return metadata, out
