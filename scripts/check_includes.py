#!/usr/bin/env python3
"""Keeps the layers of src/ in order: scripts/check_includes.py [ROOT] | --self-test

A folder may include only from itself and from folders before it in LAYERS. Also kept here: Highway
and CUDA headers stay in their backend, the full JSON header stays out of headers, the environment is
read in src/apps only (code that only tests use is free of these three), and every quoted include
exists. And no co_await stands in the condition of an if, while or for: g++ 12 miscompiles temporaries there.
Prints file:line, the rule, what to do.
"""
import re
import sys
import tempfile
from pathlib import Path

LAYERS = ["base", "tensor", "quant", "io", "tokenizer", "grammar", "chat", "ops", "model", "engine", "kv_disk", "train",
          "backend", "store", "worker", "server", "apps"]
SUFFIXES = {".h", ".cc", ".cu", ".cuh"}
HEADERS = {".h", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
ENVIRONMENT = re.compile(r"\b(secure_)?(getenv|setenv|putenv|unsetenv)\s*\(")
CUDA = re.compile(r"^(cuda|cublas|cusparse|nccl|cutlass/|cute/)")
# Comments and literals are blanked, so that a word in a sentence breaks no rule.
NOT_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|R"([^()\\\s]{0,16})\(.*?\)\1"|"(?:\\.|[^"\\\n])*"'
                      r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'", re.DOTALL)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def code_lines(text):
    """The file's lines without comments and literals; include lines keep their quoted name."""
    plain = NOT_CODE.sub(blank, text).split("\n")
    return [raw if re.match(r"\s*#\s*include\b", code) else code
            for raw, code in zip(text.split("\n"), plain)]


def layer_of(path):
    parts = path.parts
    return parts[1] if len(parts) > 2 and parts[0] == "src" else None


def only_tests_use(path):
    return path.parts[0] != "src" or path.stem.endswith(("_test", "test_support"))


def check_include(root, path, layer, bracket, name):
    """Yields (rule, what to do) for one include of the file `path` (relative to root)."""
    product = not only_tests_use(path)
    if product and name.startswith("hwy/") and path.parts[:3] != ("src", "backend", "cpu"):
        yield "hwy/ outside src/backend/cpu", "go through an operation of ops/ops.h"
    if product and CUDA.match(name) and path.parts[:3] != ("src", "backend", "cuda"):
        yield f"{name} outside src/backend/cuda", "go through an operation of ops/ops.h"
    if product and name == "nlohmann/json.hpp" and path.suffix in HEADERS:
        yield "nlohmann/json.hpp in a header", "include <nlohmann/json_fwd.hpp>; json.hpp in the .cc"
    if bracket != '"':
        return
    # tests/support is found from tests/, everything else from src/.
    if not any((root / start / name).is_file() for start in ("src", path.parent, path.parts[0])):
        yield f'"{name}" does not exist', "write the path from src/, as in \"base/result.h\""
    target = name.split("/")[0]
    if layer in LAYERS and "/" in name and target in LAYERS:
        if LAYERS.index(target) > LAYERS.index(layer):
            yield (f"{layer}/ includes {target}/, a layer below it",
                   f"move what is shared into {layer}/ or above, or turn the call into an interface")


def awaits_in_condition(line):
    """Whether a co_await stands between the parentheses of an if, while or for that begin on this line."""
    for match in re.finditer(r"\b(?:if|while|for)\s*(?:constexpr\s*)?\(", line):
        depth = 1
        for at in range(match.end(), len(line)):
            depth += {"(": 1, ")": -1}.get(line[at], 0)
            if depth == 0:
                break
        else:
            at = len(line)
        if re.search(r"\bco_await\b", line[match.end():at]):
            return True
    return False


def check_tree(root):
    """Yields "file:line: rule; what to do" for every violation below root."""
    files = [p for top in ("src", "tests", "fuzz", "bench") for p in sorted((root / top).rglob("*"))]
    for file in files:
        if file.suffix not in SUFFIXES:
            continue
        path = file.relative_to(root)
        layer = layer_of(path)
        if path.parts[0] == "src" and layer not in LAYERS:
            yield f"{path}:1: no layer named {layer}; put the folder into LAYERS of this script"
        for number, line in enumerate(code_lines(file.read_text(encoding="utf-8")), 1):
            found = []
            if include := INCLUDE.match(line):
                found = check_include(root, path, layer, *include.groups())
            elif ENVIRONMENT.search(line) and layer != "apps" and not only_tests_use(path):
                found = [("the environment is used outside src/apps", "pass the value as an argument")]
            if awaits_in_condition(line):
                found = [("co_await in a condition", "g++ 12 miscompiles it: give the result a name first")]
            for rule, remedy in found:
                yield f"{path}:{number}: {rule}; {remedy}"


def self_test():
    """Each violation in a tree of its own is found at its line; a clean tree passes."""
    clean = {
        "src/base/a.h": '#pragma once\n#include <nlohmann/json_fwd.hpp>\n',
        "src/base/a.cc": '#include "base/a.h"\n#include <nlohmann/json.hpp>\n'
                         "// getenv(\"X\") and #include \"apps/x.h\"\n"
                         "/*\n#include \"apps/none.h\"\n*/\nconst char* s = \"getenv(\";\n",
        "src/model/m.cc": '#include "base/a.h"\nint i = 1\'000;  // it\'s fine\n',
        "src/backend/cpu/k.cc": "#include <hwy/highway.h>\n",
        "src/base/test_support.h": "#include <nlohmann/json.hpp>\n",
        "tests/support/g.h": "#include <hwy/targets.h>\n",
        "tests/golden/t.cc": '#include "support/g.h"\n',
        "src/apps/main.cc": 'auto v = getenv("HOME");\n#include "model/../base/a.h"\n',
    }
    bad = {
        "a layer below it": ("src/tokenizer/t.cc", '\n#include "model/m.h"\n', 2),
        "hwy/ outside": ("src/ops/o.cc", "#include <hwy/highway.h>\n", 1),
        "outside src/backend/cuda": ("src/model/c.cc", "#include <cuda_runtime.h>\n", 1),
        "json.hpp in a header": ("src/io/j.h", "#pragma once\n#include <nlohmann/json.hpp>\n", 2),
        "environment is used": ("src/engine/e.cc", 'int i = 1\'000;\nauto v = std::getenv("A");\n', 2),
        "does not exist": ("tests/t.cc", '#include "base/absent.h"\n', 1),
        "co_await in a condition": ("src/engine/w.cc", "if (a()) co_await b();\nwhile (co_await c(d())) {\n", 2),
        "no layer named": ("src/misc/x.cc", "", 1),
    }
    for name, (path, text, line) in [("", ("src/base/a.h", clean["src/base/a.h"], 0)), *bad.items()]:
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            for file, content in {**clean, "src/model/m.h": "", path: text}.items():
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).write_text(content)
            found = list(check_tree(root))
            expected = [f"{path}:{line}: "] if name else []
            if len(found) != len(expected) or any(
                    not f.startswith(e) or name not in f for f, e in zip(found, expected)):
                sys.exit(f"self-test: expected {expected} with '{name}', found {found}")
    print(f"check_includes: self-test passed, {len(bad)} kinds of violation found")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    found = list(check_tree(root))
    print("\n".join(found) if found else "check_includes: every include keeps the layers")
    return sys.exit(1 if found else 0)


main()
