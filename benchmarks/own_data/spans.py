"""own-data.spans: text and loss spans of the chat templates in TRL, against transformers and TRL's own marks.

TRL includes the original templates of some twenty-five model families, most of them also in a training form with
`{% generation %}` around the assistant's text. Each is rendered over twelve shapes of conversations:

- text: ours equals transformers' rendering of the same messages, if transformers can render them;
- spans: our spans on the plain template equal the marks of the training form token by token, or differ by a rule that
  is checked here (RULES); if the plain template drops data we refuse it, and it is not counted as a pair;
- different: pairs for which neither is true and which are not refused.

`python -m benchmarks.own_data.spans [--list]`
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib import resources
from typing import Any

import numpy as np
from transformers.utils.chat_template_utils import render_jinja_template

from benchmarks.own_data.chat_shapes import SHAPES, Shape
from thinkling.data.chat_marks import fence, without_marks
from thinkling.data.chat_template import ChatTemplate, encode_chat, special_spellings
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.errors import UserError

_SPECIAL = re.compile(
    r"<[|｜][^<>\s{}'+]{1,40}[|｜]?>|<[A-Za-z_]{1,20}\|>|\[/?INST\]"
    r"|</?(?:think|tool_call|tool_response|tool_calls|s|bos|eos|start_of_turn|end_of_turn|end_of_utterance)>"
)
NAMES = {"bos_token": "<s>", "eos_token": "</s>"}


def templates() -> dict[str, str]:
    """Name → source of every template in TRL's package."""
    folder = resources.files("trl") / "chat_templates"
    files = sorted(path.name for path in folder.iterdir() if path.name.endswith(".jinja"))
    return {name.removesuffix(".jinja"): (folder / name).read_text(encoding="utf-8") for name in files}


def tokenizer_for(source: str) -> Tokenizer:
    """A byte-level tokenizer with every special token that the template spells out."""
    special = dict.fromkeys(["<|endoftext|>", *NAMES.values(), *sorted(set(_SPECIAL.findall(source)))])
    return train_bpe(["a b " * 9], 256 + len(special) + 1, special_tokens=list(special))


def as_parts(shape: Shape) -> Shape:
    """The shape with contents as lists of text parts, as vision models expect them."""
    parts = [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in shape.messages]
    return Shape(parts, shape.tools)


def by_transformers(source: str, shape: Shape) -> tuple[Shape, str, list[str]] | None:
    """The variant of the shape that it renders, its text, and the marked spans in order, with adjacent ones merged;
    None if it raises or drops the question."""
    for form in (shape, as_parts(shape)):
        try:
            given: dict[str, Any] = {"conversations": [form.messages], "tools": form.tools or None, **NAMES}
            texts, marked = render_jinja_template(**given, chat_template=source, return_assistant_tokens_mask=True)
        except Exception:  # templates can fail in any way
            continue
        text, spans = str(texts[0]), [(int(start), int(end)) for start, end in marked[0]]
        if shape.messages[-2 if len(shape.messages) > 1 else 0]["content"].strip() in text:
            merged: list[tuple[int, int]] = []
            for start, end in spans:
                if merged and merged[-1][1] == start:
                    merged[-1] = (merged[-1][0], end)
                elif start < end:
                    merged.append((start, end))
            return form, text, [text[start:end] for start, end in merged]
    return None


@dataclass(frozen=True)
class Case:
    """Our rendering of a shape, and that of the training form."""

    tokenizer: Tokenizer
    source: str
    shape: Shape
    text: str
    """The plain template's text as rendered by transformers."""
    ours: list[str]
    theirs: list[str]


def squeezed(text: str) -> str:
    """The text without white space and backslashes."""
    return re.sub(r"[\s\\]+", "", text)


def texts_of(shape: Shape) -> Iterator[str]:
    """Parts of the conversation that a template has to render."""
    for message in shape.messages:
        yield squeezed(message["content"])
        yield squeezed(message.get("reasoning_content", ""))
        for made in message.get("tool_calls", []):
            yield made["function"]["name"]
            yield made["function"]["arguments"]["expression"]
    for tool in shape.tools:
        yield f"{tool['function']['parameters']['properties']['expression']['description'].replace(' ', '')}"


def runs(ids: np.ndarray, loss: np.ndarray, tokenizer: Tokenizer) -> list[str]:
    """The spans trained on, as text."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loss, [False]])))
    return [tokenizer.decode(ids[a:b]) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def prompts(case: Case) -> Iterator[tuple[str, str]]:
    """Transformers' text before each assistant turn, without and with the generation prompt."""
    for i, message in enumerate(case.shape.messages):
        if message["role"] == "assistant":
            for shape in (case.shape, as_parts(case.shape)):
                given: dict[str, Any] = {"conversations": [shape.messages[:i]], "tools": shape.tools or None, **NAMES}
                try:
                    asked = render_jinja_template(**given, chat_template=case.source)
                    prompt = render_jinja_template(**given, chat_template=case.source, add_generation_prompt=True)
                except Exception:
                    continue
                yield str(asked[0][0]), str(prompt[0][0])
                break


def after_the_stop(case: Case, ours: str, theirs: str) -> str:
    """White space or an end-of-text token after the stop token is not trained on."""
    rest = theirs[len(ours) :] if theirs.startswith(ours) else "x"
    return ours if not rest.replace(NAMES["eos_token"], "").strip() else theirs


def in_the_prompt(case: Case, ours: str, theirs: str) -> str:
    """Text in the generation prompt is not trained on: headers, and `<think>` if the prompt opens it."""
    at = theirs.find(ours[:200])
    header = theirs[:at]
    held = (prompt.endswith(header) or prompt.startswith(asked + header) for asked, prompt in prompts(case))
    return theirs[at:] if at > 0 and any(held) else theirs


def empty_thoughts(case: Case, ours: str, theirs: str) -> str:
    """Empty reasoning that the training form adds to turns without any, while the plain template does not."""
    return re.sub(r"^<think>\s*</think>\s*", "", theirs) if not ours.startswith("<think>") else theirs


def the_stop_itself(case: Case, ours: str, theirs: str) -> str:
    """The token at which generation pauses for a tool is sampled, so we train on it."""
    rest = ours[len(theirs) :] if ours.startswith(theirs) else ""
    return ours if rest and case.tokenizer.has_token(rest) else theirs


RULES: dict[str, Callable[[Case, str, str], str]] = {
    "in the prompt": in_the_prompt,
    "empty thought": empty_thoughts,
    "after the stop": after_the_stop,
    "the stop itself": the_stop_itself,
}


def dropped_thoughts(case: Case) -> list[int]:
    """Indices of the assistant turns with reasoning that is missing from the plain template's text."""
    turns = [message for message in case.shape.messages if message["role"] == "assistant"]
    thoughts = [turn.get("reasoning_content") for turn in turns]
    return [i for i, thought in enumerate(thoughts) if thought and squeezed(thought) not in squeezed(case.text)]


def judge(case: Case, silent: int) -> tuple[str, ...] | None:
    """The rules by which the spans agree (none if they are equal); None if they differ."""
    theirs, used = list(case.theirs), []
    dropped = dropped_thoughts(case)
    if silent and len(dropped) == silent == len(theirs) - len(case.ours):
        # The template drops the reasoning of earlier turns, so we do not train on it; the training form keeps it.
        theirs, used = [span for i, span in enumerate(theirs) if i not in dropped], ["dropped reasoning"]
    if len(theirs) != len(case.ours):
        return None
    for a, b in zip(case.ours, theirs, strict=True):
        for name, rule in RULES.items():
            changed = b if a == b else rule(case, a, b)
            if changed != b:
                used.append(name)
                b = changed
        if a != b:
            return None
    return tuple(dict.fromkeys(used))


@dataclass
class Found:
    """The results over all templates and shapes."""

    texts: Counter[bool] = field(default_factory=Counter)
    spans: Counter[str] = field(default_factory=Counter)
    refusals: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def check(names: Sequence[str] | None = None) -> Found:
    """Every template over every shape."""
    found, sources = Found(), templates()
    for name, source in sources.items():
        if names and name not in names:
            continue
        training = sources.get(f"{name}_training")
        tokenizer = tokenizer_for(source + (training or ""))
        template = ChatTemplate(source, name, NAMES, {"date": date.today().isoformat()})
        for title, shape in SHAPES.items():
            check_shape(found, template, training, tokenizer, title, shape)
    return found


def check_shape(
    found: Found, template: ChatTemplate, training: str | None, tokenizer: Tokenizer, title: str, shape: Shape
) -> None:
    """One template and shape."""
    plain = by_transformers(template.source, shape)
    if plain is None:
        return
    where = f"{template.name} / {title}"
    form, wanted, _ = plain
    try:
        spellings = special_spellings(tokenizer)
        text = without_marks(template.render(fence(form.messages, spellings), fence(form.tools, spellings)))
    except UserError as error:
        text = str(error)
    found.texts[text == wanted] += 1
    if text != wanted:
        found.lines.append(f"text    {where}: {text[-300:]!r}, not {wanted[-300:]!r}")
    marked = by_transformers(training, shape) if training else None
    if marked is None or training is None:
        return
    try:
        encoded = encode_chat(template, shape.messages, tokenizer, shape.tools)
    except UserError as error:
        lost = "does not write" in str(error) and not all(said in squeezed(wanted) for said in texts_of(shape))
        found.spans["lost by the template" if lost else "refused"] += 1
        found.lines.append(f"{'lost   ' if lost else 'refused'} {where}: {error}")
        return
    case = Case(tokenizer, template.source, shape, wanted, runs(encoded.ids, encoded.loss, tokenizer), marked[2])
    rules = judge(case, encoded.turns_without_loss)
    if rules is None:
        found.spans["different"] += 1
        found.lines.append(f"DIFFERENT {where}: {case.ours} not {case.theirs}")
    else:
        found.spans["equal" if not rules else "argued"] += 1
        found.lines.append(f"{'equal  ' if not rules else 'argued '} {where} {', '.join(rules)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print every pair")
    parser.add_argument("names", nargs="*", help="templates (default: all)")
    arguments = parser.parse_args()
    found = check(arguments.names)
    if arguments.list:
        print(*found.lines, sep="\n")
    print(dict(found.texts), dict(found.spans))
    judged = sum(found.spans.values()) - found.spans["lost by the template"]
    agree = found.spans["equal"] + found.spans["argued"]
    values = {
        "own-data.spans-text": (found.texts[True] / found.texts.total(), found.texts.total(), "of pairs"),
        "own-data.spans": (agree / judged, judged, "of pairs"),
        "own-data.spans-different": (found.spans["different"], judged, "pairs"),
    }
    measured = {
        name: {"value": value, "low": None, "high": None, "n": n, "runs": [value], "unit": unit}
        for name, (value, n, unit) in values.items()
    }
    print(json.dumps({"measurements": measured}))


if __name__ == "__main__":
    main()
