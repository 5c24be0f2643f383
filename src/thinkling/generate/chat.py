"""`thinkling chat`: a conversation in the terminal, with the model's thinking and its tool calls in sight."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.text import Text

from thinkling.data.chat_template import load_chat_template
from thinkling.data.conversations import parse_assistant, render_prompt
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate.engine import Completion, Request, Sampling
from thinkling.generate.native import NativeEngine
from thinkling.generate.tools import generate_with_tools
from thinkling.model.huggingface import load_pretrained
from thinkling.seeds import derive


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
        messages.append({"role": "assistant", "content": show(completion, tokenizer, console)})
        if prompt is not None:
            return


def show(completion: Completion, tokenizer: Tokenizer, console: Console) -> str:
    """Prints thoughts, calls, responses and answer; gives the answer."""
    answer = ""
    numbered = list(zip(completion.tokens, completion.forced, strict=True))
    for forced, group in groupby(numbered, key=lambda pair: pair[1]):
        text = tokenizer.decode(token for token, _ in group)
        if forced:
            result = text.partition("<tool_response>\n")[2].rpartition("\n</tool_response>")[0]
            console.print(Text(f"  ← {visible(result)}", style="cyan"))
            continue
        for end in ("<|im_end|>", "<|endoftext|>"):
            text = text.removesuffix(end)
        thought, answer, calls = parse_assistant(text)
        if thought.strip():
            console.print(Text(visible(thought), style="dim italic"))
        for call in calls:
            function = call["function"]
            arguments = json.dumps(function["arguments"], ensure_ascii=False)
            console.print(Text(visible(f"  → {function['name']} {arguments}"), style="cyan"))
        if answer.strip():
            console.print(Text(visible(answer), style="bold"))
    if completion.finish_reason == "length":
        console.print(Text("(cut off: --max-new-tokens reached)", style="yellow"))
    return answer


def visible(text: str) -> str:
    """The text with control characters replaced: a model's output must not steer the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


def _read(console: Console) -> str:
    try:
        return console.input("[green]›[/green] ")
    except EOFError:
        return ""
