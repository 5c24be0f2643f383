"""`thinkling chat`: a conversation in the terminal, with the model's thinking and its tool calls in sight."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from thinkling.data.chat_template import load_chat_template
from thinkling.data.conversations import parse_assistant, render_prompt
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.native import NativeEngine
from thinkling.generate.turns import generate_with_tools
from thinkling.model.huggingface import load_pretrained
from thinkling.seeds import derive

_TOOL_TURN = re.compile(
    r"<\|im_end\|>\n<\|im_start\|>user\n(<tool_response>\n.*?\n</tool_response>)<\|im_end\|>\n<\|im_start\|>assistant\n",
    re.DOTALL,
)
_LOOKS = {
    "thought": ("", "dim italic"),
    "call": ("  → ", "cyan"),
    "response": ("  ← ", "cyan"),
    "answer": ("", "bold"),
}


def converse(
    model: Path,
    prompt: str | None,
    temperature: float = 0.6,
    top_p: float = 0.95,
    max_new_tokens: int = 256,
    seed: int = 0,
    console: Console | None = None,
) -> None:
    """Answers `prompt` and ends; without one, reads a message a line until an empty one or the end of input.

    `model`: a Hugging Face directory; UserError where it holds no model, tokenizer or chat template. The same seed and
    messages give the same answers.
    """
    console = console or Console(highlight=False)
    tokenizer, template = Tokenizer.load(model), load_chat_template(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    engine = NativeEngine(load_pretrained(model).to(device), batch_size=1)
    sampling = Sampling(temperature, top_p, tokenizer.stop_ids)
    messages: list[dict[str, Any]] = []
    while True:
        question = _read(console) if prompt is None else prompt
        if not question.strip():
            return
        messages.append({"role": "user", "content": question})
        ids = tuple(render_prompt(messages, tokenizer, template=template).tolist())
        request = Request(ids, derive(seed, "chat", len(messages)), max_new_tokens)
        completion = generate_with_tools(engine, [request], sampling, tokenizer, "chat")[0]
        answer = show(parts(tokenizer.decode(completion.tokens)), console)
        if completion.finish_reason == "length":
            console.print(Text("(cut off: --max-new-tokens reached)", style="yellow"))
        messages.append({"role": "assistant", "content": answer})
        if prompt is not None:
            return


def parts(text: str) -> Iterator[tuple[str, str]]:
    """What stands in a completion's text, in order: (`thought`, `call`, `response` or `answer`, its text)."""
    for turn in _TOOL_TURN.split(text):
        response = turn.startswith("<tool_response>")
        if response:
            yield "response", turn.removeprefix("<tool_response>\n").removesuffix("\n</tool_response>")
            continue
        for end in ("<|im_end|>", "<|endoftext|>"):
            turn = turn.removesuffix(end)
        thought, answer, calls = parse_assistant(turn)
        if thought.strip():
            yield "thought", thought
        for call in calls:
            yield "call", f"{call['function']['name']} {call['function']['arguments']}"
        if answer.strip():
            yield "answer", answer


def show(found: Iterable[tuple[str, str]], console: Console) -> str:
    """Prints the parts, and gives the answer."""
    answer = ""
    for kind, text in found:
        prefix, style = _LOOKS[kind]
        console.print(Text(prefix + visible(text), style=style))
        if kind == "answer":
            answer = text
    return answer


def visible(text: str) -> str:
    """The text with control characters replaced: a model's output must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _read(console: Console) -> str:
    try:
        return console.input("[green]›[/green] ")
    except EOFError:
        return ""
