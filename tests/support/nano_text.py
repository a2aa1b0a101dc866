"""Text of the kind that models/nano was trained on, special tokens and all, from its data generator."""
import importlib.util
import random
import sys
from pathlib import Path

GENERATOR = Path(__file__).resolve().parent.parent.parent / "models" / "nano" / "training" / "nano_data.py"


def nano_text(split, documents, seed):
    """`documents` questions with worked answers; split: "train", or "heldout" for problems never trained on."""
    spec = importlib.util.spec_from_file_location("nano_data", GENERATOR)
    data = importlib.util.module_from_spec(spec)
    keep, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    spec.loader.exec_module(data)
    sys.dont_write_bytecode = keep
    r, out = random.Random(seed), []
    for _ in range(documents):
        task = data.pick(r, [t for t in data.TASKS if t != "fim"])
        s = data.sample(r, split, task)
        out.append(data.prompt_text([{"role": "user", "content": s["question"]}]) +
                   data.completion_text(s["think"], s["answer"]) + data.EOS)
    return "".join(out)
