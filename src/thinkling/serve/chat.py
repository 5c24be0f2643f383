"""`thinkling chat`: an interactive chat in the terminal that shows the model's reasoning and tool calls."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from thinkling.data.hub import is_repo, snapshot
from thinkling.data.reading import Part
from thinkling.generate.config import ChatConfig
from thinkling.generate.engine import Request, Sampling
from thinkling.generate.engines import make_engine
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.tools import TOOLS, needs_sandbox
from thinkling.generate.turns import generate_with_tools
from thinkling.pipeline.printing import visible
from thinkling.sandbox.kernel import missing_feature
from thinkling.seeds import derive

_LOOKS = {
    "reasoning": ("", "dim italic"),
    "call": ("  → ", "cyan"),
    "response": ("  ← ", "cyan"),
    "answer": ("", "bold"),
}


def converse(
    model: str,
    prompt: str | None,
    system: str | None = None,
    sampling: Sampling = Sampling(),  # noqa: B008 (frozen)
    max_new_tokens: int = 256,
    seed: int = 0,
    console: Console | None = None,
    chat: ChatConfig | None = None,
) -> None:
    """Answer `prompt` and return. Without a prompt, read and answer one message per line until an empty line or the end
    of input.

    `model`: a Hugging Face directory, or a name on the hub. `system`: the system message of the conversation. The same
    seed and messages produce the same answers.

    Raises UserError if the model, its tokenizer or its chat template is missing.
    """
    console = console or Console(highlight=False)
    loaded = LoadedModel.load(snapshot(model, "model").directory if is_repo(model) else Path(model), chat=chat)
    engine = make_engine(loaded, max_concurrent=1)
    tools = [name for name in TOOLS.built_in if missing_feature() is None or not needs_sandbox(name)]
    messages: list[dict[str, Any]] = [] if system is None else [{"role": "system", "content": system}]
    while True:
        question = _read(console) if prompt is None else prompt
        if not question.strip():
            return
        messages.append({"role": "user", "content": question})
        prompt_ids = tuple(loaded.renderer.prompt(messages).tolist())
        room = loaded.decoder.config.max_position_embeddings - len(prompt_ids)
        length = min(max_new_tokens, room) if room > 0 else max_new_tokens  # without room, the engine raises an error
        request = Request(prompt_ids, derive(seed, "chat", len(messages)), length)
        completion = generate_with_tools(engine, [request], [tools], sampling, loaded.renderer)[0]
        answer = show(loaded.renderer.read(completion).parts, console)
        if completion.finish_reason == "length":
            reached = "--max-new-tokens" if length == max_new_tokens else "the model's max_position_embeddings"
            console.print(Text(f"(cut off: the limit {reached} was reached)", style="yellow"))
        messages.append({"role": "assistant", "content": answer})
        if prompt is not None:
            return


def show(parts: Iterable[Part], console: Console) -> str:
    """Print the parts of a reply. Returns the last answer, or an empty string if the reply has no answer."""
    answer = ""
    for part in parts:
        prefix, style = _LOOKS[part.kind]
        console.print(Text(prefix + visible(part.text), style=style))
        if part.kind == "answer":
            answer = part.text
    return answer


def _read(console: Console) -> str:
    try:
        return console.input("[green]›[/green] ")
    except EOFError:
        return ""
