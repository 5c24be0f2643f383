"""The `tokens` command: print conversations of an sft stage token by token, before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from thinkling.data.artifact import Artifact
from thinkling.data.conversations import Conversation
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.renderer import Renderer
from thinkling.pipeline.recipe import Recipe
from thinkling.pipeline.runner import Run
from thinkling.seeds import derive
from thinkling.stages.base import StageContext
from thinkling.stages.sft.config import SftConfig
from thinkling.stages.sft.fitting import Fitted, Outcome, encoder, fit
from thinkling.stages.sft.origins import FILE, Origin, origins
from thinkling.stages.sft.spans import pieces
from thinkling.stages.training.left_out import LeftOut
from thinkling.train.parallel import Parallel

_LOSS = ("black on green", "black on bright_green")
_NO_LOSS = ("dim", "dim underline")
_MARKS = ("⟦", "⟧")
_OUTCOMES: dict[Outcome, list[str]] = {
    "kept": [],
    "overlong_truncated": ["truncated to fit sequence_length"],
    "overlong_dropped": ["OMITTED: longer than sequence_length"],
    "without_loss": ["OMITTED: no token carries loss"],
    "unrenderable": ["OMITTED: the chat template cannot render it completely"],
}


def show(recipe: Recipe, root: Path, stage: str | None, n: int, console: Console) -> None:
    """Print the first `n` conversations of an sft stage token by token, taking one from each of its sources in turn.

    Colours alternate from token to token. On a console without colours, brackets enclose the tokens that carry loss.
    Raises UserError if the recipe has no such stage, or if its model or conversations have not been written yet.
    """
    name, config = _stage(recipe, stage)
    run = Run(recipe, root)
    done = run.finished([other for other in recipe.needed_by([name]) if other != name])
    renderer = Renderer.load(_input(run, name, "model", done).model_dir, config.chat)
    given = _input(run, name, "conversations", done).file(FILE) if "conversations" in config.inputs else None
    seed, sources = derive(recipe.seed, name), recipe.sources_of(config.source_names())
    found = origins(config, sources, given, seed)
    console.print(_legend(console))
    encode, number = encoder(renderer), 0
    with TemporaryDirectory() as folder:  # for the sources' rejected records, which are discarded here
        ctx = StageContext(name, Path(folder), {}, seed, sources=sources)
        left_out = LeftOut.of(config, ctx, Parallel(), config.validation_fraction)
        for number, (origin, conversation) in enumerate(_in_turn(found, left_out, n), 1):
            _print(fit(conversation, encode, config), f"{number}/{n}  {origin}", renderer.tokenizer, console)
    if not number:
        raise UserError(f"stages.{name}: no conversations; check `families`, `n_examples` and the files of the sources")


def _stage(recipe: Recipe, wanted: str | None) -> tuple[str, SftConfig]:
    found = {name: stage for name, stage in recipe.stages.items() if isinstance(stage, SftConfig)}
    if wanted is None and len(found) == 1:
        wanted = next(iter(found))
    there = f"available: {', '.join(found)}" if found else "the recipe has none"
    if wanted is None:
        raise UserError(f"--stage: missing; specify a stage of kind sft; {there}")
    if wanted not in found:
        raise UserError(f"--stage {wanted}: no stage of kind sft has this name; {there}")
    return wanted, found[wanted]


def _input(run: Run, name: str, role: str, done: dict[str, Artifact]) -> Artifact:
    producer = run.recipe.stages[name].inputs[role]
    if producer in run.recipe.sources:
        return run.recipe.sources[producer].artifact()
    if producer not in done:
        kind = run.recipe.stages[producer].kind
        raise UserError(
            f"stages.{name}.inputs.{role}: stage {producer} has not finished in {run.directory}; run it first: "
            f"thinkling {kind} RECIPE --stage {producer}"
        )
    return done[producer]


def _in_turn(found: Sequence[Origin], left_out: LeftOut, n: int) -> Iterator[tuple[str, Conversation]]:
    """Yield at most `n` conversations, one from each origin in turn, without those reserved for evaluation."""
    trained = partial(left_out.training, validate=lambda _: None)
    streams = [(origin.name, origin.conversations(trained)) for origin in found]
    while streams and n > 0:
        for name, stream in list(streams):
            conversation = next(stream, None)
            if conversation is None:
                streams.remove((name, stream))
            elif n > 0:
                n -= 1
                yield name, conversation


def _legend(console: Console) -> Text:
    if console.color_system is None:
        return Text(f"{_MARKS[0]}loss{_MARKS[1]} no loss, ↵ end of line")
    return Text.assemble(
        ("loss", _LOSS[0]), (" loss", _LOSS[1]), ("   no loss", _NO_LOSS[0]), (" no loss", _NO_LOSS[1]),
        "   shades alternate by token, ↵ end of line",
    )  # fmt: skip


def _print(fitted: Fitted, title: str, tokenizer: Tokenizer, console: Console) -> None:
    messages = fitted.conversation.messages
    spoken = sum(message["role"] == "assistant" for message in messages)
    with_loss = int((fitted.loss[1:] & ~fitted.loss[:-1]).sum())
    facts = [
        f"{fitted.conversation.source} {fitted.conversation.id}",
        f"{len(fitted.ids):,} tokens, {int(fitted.loss[1:].sum()):,} with loss",
        f"{len(messages)} turns, {spoken} by the assistant, {with_loss} with loss",
        *_OUTCOMES[fitted.outcome],
        *([fitted.detail] if fitted.detail else []),
    ]
    console.print()
    console.print(Text(_shown(f"{title}  {' · '.join(facts)}"), style="bold"))
    console.print(_tokens(fitted, tokenizer, coloured=console.color_system is not None))


def _tokens(fitted: Fitted, tokenizer: Tokenizer, coloured: bool) -> Text:
    text, before = Text(), False
    for number, (piece, loss) in enumerate(pieces(tokenizer, fitted.ids.tolist(), fitted.loss.tolist())):
        if loss != before and not coloured:
            text.append(_MARKS[before])
        text.append(_shown(piece), (_LOSS if loss else _NO_LOSS)[number % 2] if coloured else None)
        before = loss
    if before and not coloured:
        text.append(_MARKS[1])
    return text


def _shown(text: str) -> str:
    """Make line ends visible and replace control characters, so that data cannot control the terminal."""
    return "".join(c if c.isprintable() or c == "\t" else "↵\n" if c == "\n" else "\ufffd" for c in text)
