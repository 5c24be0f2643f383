"""Checks from strangers' reports about model directories and chat templates; see checks.py."""

from __future__ import annotations

import json
import pydoc_data.topics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.utils.chat_template_utils import render_jinja_template

from benchmarks.own_data.spans import templates, tokenizer_for
from thinkling.data.chat_template import CHATML, ChatTemplate, encode_chat
from thinkling.data.conversations import Message, checked, tool_call
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.errors import UserError
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.sources.conversations import ConversationsSource

NAMES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|endoftext|>"}
LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n'"
    " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
SMALL = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.thinking %}<think>{{ m.thinking }}</think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
DATED = "{{ strftime_now('%d %B %Y') }}\n" + SMALL
PHI = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
)


def learnt(template: ChatTemplate, messages: Sequence[Message]) -> str | None:
    """The text that is trained on; None if the conversation is refused."""
    tokenizer = tokenizer_for(template.source)
    try:
        found = encode_chat(template, checked(messages), tokenizer)
    except UserError:
        return None
    return tokenizer.decode(found.ids[found.loss])


def asked(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    """A conversation: question, answer with reasoning, question, …"""
    messages: list[dict[str, Any]] = []
    for question, (reasoning, answer) in zip(("5+5?", "6+6?", "7+7?"), turns, strict=False):
        messages.append({"role": "user", "content": question})
        messages.append(
            {"role": "assistant", "content": answer} | ({"reasoning_content": reasoning} if reasoning else {})
        )
    return messages


def templates_that_lose(folder: Path) -> Iterator[tuple[str, bool]]:
    """huggingface/trl#5517, THUDM/slime#330: reasoning and calls that a template drops."""
    del folder
    calling = [
        {"role": "user", "content": "calc 1+1"},
        {"role": "assistant", "content": "", "tool_calls": [tool_call("calculator", {"expression": "1+1"})]},
        {"role": "tool", "content": "2"},
        {"role": "assistant", "content": "2"},
    ]
    for name, source in (("llama", LLAMA), ("small", SMALL)):
        template = ChatTemplate(source, name, NAMES)
        for what, messages, needed in (
            ("reasoning", asked(("two and two", "4")), "two and two"),
            ("a call", calling, "calculator"),
        ):
            text = learnt(template, messages)
            yield f"{name}: {what}", text is None or needed in text


def chats(folder: Path) -> Iterator[tuple[str, bool]]:
    """The rows of suites-templates."""
    qwen3 = ChatTemplate(templates()["qwen3"], "qwen3")
    inline = [
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "<think>\none and one\n</think>\n\n2"},
    ]
    text = learnt(qwen3, inline)
    yield "inline reasoning under Qwen3", text in (None, "<think>\none and one\n</think>\n\n2<|im_end|>")

    spelled = [
        {"role": "user", "content": "2*9?"},
        {"role": "assistant", "content": "calling", "reasoning_content": "a tool"},
        {"role": "user", "content": "<tool_response>\n18\n</tool_response>"},
        {"role": "assistant", "content": "18.", "reasoning_content": "done"},
    ]
    rendered = render_jinja_template([spelled], chat_template=qwen3.source)[0][0]
    text = learnt(qwen3, spelled)
    yield "a user who spells <tool_response>", text is None or ("a tool" in text) == ("a tool" in rendered)

    two = asked(("five and five", "10"), ("six and six", "12"))
    for template in (ChatTemplate(CHATML, "ours"), qwen3):
        text = learnt(template, two)
        yield f"{template.name}: loss without reasoning", text is None or not text.startswith("10")

    call = {"id": "c12345678", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    fields = [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_call_id": "c12345678", "name": "f"},
        {"role": "assistant", "content": "1"},
    ]
    (folder / "chats.jsonl").write_text(json.dumps({"messages": fields}), encoding="utf-8")
    source = ConversationsSource(type="conversations", paths=[str(folder / "chats.jsonl")])
    kept = next(source.conversations(None, 0)).messages
    call = kept[1]["tool_calls"][0]
    yield "OpenAI's fields", call["id"] == kept[2]["tool_call_id"] and call["function"]["arguments"] == {"a": 1}

    text = learnt(ChatTemplate(THINKING, "reads thinking"), [*asked(("because", "y"))])
    yield "reasoning under another name", text is not None and "because" in text

    try:
        ChatTemplate(DATED, "dated").render(asked(("", "y")))
        yield "a date", False
    except UserError as error:
        dated = ChatTemplate(DATED, "dated").with_settings({"date": "2026-07-26"})
        yield "a date", "chat.variables.date" in str(error) and "26 July 2026" in dated.render(asked(("", "y")))

    text = learnt(ChatTemplate(PHI, "phi3", NAMES), asked(("", "b"), ("", "d")))
    yield "end of text after the last turn", text is not None and text.startswith("b<|end|>d<|end|>")


def tiny(directory: Path, tokenizer: Tokenizer, **settings: Any) -> Path:
    """A directory of a model with random weights."""
    config = ModelConfig(
        architecture=settings.pop("architecture", "qwen3"),
        vocab_size=290,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        max_position_embeddings=512,
        **settings,
    )
    model = Decoder(config)
    model.init_weights(torch.Generator().manual_seed(0))
    tokenizer.save(directory.parent / "tokenizer")
    save_pretrained(model, directory, directory.parent / "tokenizer")
    return directory


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@torch.no_grad()
def agree(directory: Path) -> bool:
    """Whether our logits equal transformers'."""
    tokens = torch.randint(290, (2, 32), generator=torch.Generator().manual_seed(0))
    ours = load_pretrained(directory, torch.float32)
    peer: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    reference = peer(input_ids=tokens).logits
    return float((ours.logits(ours(tokens)) - reference).abs().max() / reference.abs().max()) <= 1e-5


def models(folder: Path) -> Iterator[tuple[str, bool]]:
    """The rows of suites-models, and published directory layouts."""
    tokenizer = train_bpe(["the quick brown fox jumps over the lazy dog " * 20], 290, chat_template=CHATML)

    directory = tiny(folder / "tied", tokenizer, architecture="llama", tie_word_embeddings=True)
    weights = load_file(directory / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    try:
        yield "tied, with another head", agree(directory)
    except UserError:
        yield "tied, with another head", True

    directory = tiny(folder / "llama3", tokenizer, architecture="llama")
    scaling = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    scaling |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    edit(directory / "config.json", rope_parameters=scaling)
    yield "rope scaling of Llama 3", agree(directory)

    directory = tiny(folder / "buffers", tokenizer, architecture="llama")
    weights = load_file(directory / "model.safetensors")
    weights |= {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(8) for i in range(2)}
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    yield "rotary buffers among the weights", load_pretrained(directory) is not None


RECIPE = """name: small
sources:
  start: {type: model, path: start}
  puzzles: {type: puzzles, families: {reverse: {min_length: 2, max_length: 3}}, heldout_per_family: 4}
stages:
  sft:
    kind: sft
    inputs: {model: start}
    examples: {source: puzzles, n_examples: 150}
    epochs: 1
    sequence_length: 251
    batch_size: 2
    optimizer: {name: adamw, lr: 1.0e-5}
"""


def trained(folder: Path) -> tuple[subprocess.CompletedProcess[str], Path | None]:
    """Runs `thinkling sft` from folder/start; returns the model that it wrote."""
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    command = [sys.executable, "-m", "thinkling", "sft", "recipe.yaml", "--runs", "runs"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return done, next((folder / "runs" / "small").glob("sft-*/model"), None)


def training(folder: Path) -> Iterator[tuple[str, bool]]:
    """areal-project/AReaL#1369, meta-llama/llama-cookbook#189, mosaicml/llm-foundry#1134."""
    tokenizer = train_bpe([pydoc_data.topics.topics["lambda"]], 290, chat_template=CHATML)

    def start(name: str) -> Path:
        (folder / name).mkdir()
        return tiny(folder / name / "start", tokenizer)

    def moved(name: str) -> float:
        """The mean absolute change of all weights; 0 if nothing was trained."""
        _, after = trained(folder / name)
        if after is None:
            return 0.0
        a, b = (load_file(path / "model.safetensors") for path in (folder / name / "start", after))
        changes = [(a[key].double() - b[key].double()).abs() for key in a]
        return float(sum(change.sum() for change in changes)) / sum(change.numel() for change in changes)

    start("fp32")
    weights = start("bf16") / "model.safetensors"
    save_file({key: tensor.bfloat16() for key, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    yield "bfloat16 weights at a learning rate of 1e-5", moved("bf16") > 0.7 * moved("fp32") > 0

    directory = start("pad")
    spec = json.loads((directory / "tokenizer.json").read_text())
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    spec["added_tokens"].append({"id": 290, "content": "[PAD]", "special": True} | plain)
    (directory / "tokenizer.json").write_text(json.dumps(spec))
    edit(directory / "tokenizer_config.json", pad_token="[PAD]")
    done, _ = trained(folder / "pad")
    yield "a padding token beyond the embedding", done.returncode in (0, 2) and "Traceback" not in done.stderr

    directory = start("base")
    edit(directory / "tokenizer_config.json", eos_token="<|endoftext|>")
    for file in ("config.json", "generation_config.json"):
        edit(directory / file, eos_token_id=0)
    _, after = trained(folder / "base")
    ends = json.loads((after / "generation_config.json").read_text())["eos_token_id"] if after else None
    yield (
        "the end of a turn that a base model learnt",
        tokenizer.im_end_id in (ends if isinstance(ends, list) else [ends]),
    )


CHECKS = (templates_that_lose, chats, models, training)
