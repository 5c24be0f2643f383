"""Formats of tool calls: found out from the template, read, answered in the model's own tokens."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinkling.data.chat_template import ChatTemplate
from thinkling.data.conversations import tool_call
from thinkling.data.reading import Call
from thinkling.generate.call_formats import FORMATS, HERMES, LLAMA, MISTRAL, format_of
from thinkling.generate.engine import Completion, Request, Sampling
from thinkling.generate.hermes import read_call
from thinkling.generate.renderer import Renderer
from thinkling.generate.tools import listings
from thinkling.generate.turns import generate_with_tools

from .call_templates import TEMPLATES, renderer_of
from .conftest import ScriptedEngine
from .families import renderer_of as family_of

TOOLS = ("calculator",)
EXPRESSIONS = ("47*83", "6*7")
RESULTS = ("3901", "42")
ONE_CALL = ("llama", "ours", "qwen")
"""One refuses several calls in a turn, the others are answered at the first one's closing tag."""


@pytest.fixture(scope="module")
def renderers() -> dict[str, Renderer]:
    return {name: renderer_of(name) for name in TEMPLATES}


@dataclass(frozen=True)
class Written:
    tokens: Sequence[int]
    forced: Sequence[bool]


def ids(renderer: Renderer, *texts: str) -> list[int]:
    return [int(i) for text in texts for i in renderer.tokenizer.encode(text, markup=True)]


def calling(n: int, reasoning: str = "") -> list[dict[str, Any]]:
    """A question, a turn with n calls, the results, the answer."""
    calls = [tool_call("calculator", {"expression": e}, f"abcdefgh{i}") for i, e in enumerate((EXPRESSIONS * n)[:n])]
    results = [
        {"role": "tool", "content": result, "tool_call_id": f"abcdefgh{i}", "name": "calculator"}
        for i, result in enumerate((RESULTS * n)[:n])
    ]
    thought = {"reasoning_content": reasoning} if reasoning else {}
    return [
        {"role": "user", "content": "A1B+5"},
        {"role": "assistant", "content": "", "tool_calls": calls, **thought},
        *results,
        {"role": "assistant", "content": "sum=6", **thought},
    ]


def sampled(renderer: Renderer, messages: Sequence[dict[str, Any]]) -> tuple[list[int], Completion, list[int]]:
    """A model that writes exactly what it was trained on: prompt, completion, and the tokens of the conversation."""
    announced = listings(TOOLS)
    whole, loss = renderer.encode(messages, announced)
    prompt = renderer.prompt(messages[:1], announced).tolist()
    script = [int(token) for token in whole[loss]]
    if renderer.answers_at_tag:  # the end of a turn that is paused at a call comes with the response
        end = renderer.tokenizer.im_end_id
        script = [t for i, t in enumerate(script) if t != end or i == len(script) - 1]
    engine = ScriptedEngine({0: script})
    request = Request(tuple(prompt), 0, len(script))
    completion = generate_with_tools(engine, [request], [TOOLS], Sampling(1.0, 1.0), renderer)[0]
    return prompt, completion, whole.tolist()


@pytest.mark.parametrize(
    ("name", "n", "reasoning"),
    [
        (name, n, reasoning)
        for name, (template, _, _) in TEMPLATES.items()
        for n in (1, 2)
        for reasoning in ("", "47 times 83")
        if (n == 1 or name not in ONE_CALL) and (not reasoning or "reasoning_content" in template)
    ],
)
def test_a_rollout_is_what_training_renders(renderers: dict[str, Renderer], name: str, n: int, reasoning: str) -> None:
    """Prompt, the model's tokens and the tools' tokens together are exactly the encoded conversation."""
    renderer = renderers[name]
    prompt, completion, whole = sampled(renderer, calling(n, reasoning))
    together = [*prompt, *completion.tokens]
    assert together == whole[: len(together)]
    assert renderer.tokenizer.decode(whole[len(together) :]).strip() == ""
    assert completion.finish_reason == "stop"
    found = renderer.read(completion)
    assert [call.arguments["expression"] for call in found.calls] == list(EXPRESSIONS[:n])
    assert [part.text.strip('"') for part in found.parts if part.kind == "response"] == list(RESULTS[:n])
    assert (found.answer, found.well_formed) == ("sum=6", True)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_format_is_found_out_from_the_template(renderers: dict[str, Renderer], name: str) -> None:
    found = renderers[name].call_format
    assert found is not None
    assert found.name == TEMPLATES[name][2]
    assert renderers[name].calls_tools
    assert renderers[name].answers_at_tag == (name in ("ours", "qwen"))


def test_a_template_that_drops_calls_has_no_format() -> None:
    for name in ("llama3", "gemma", "phi", "mistral"):
        renderer = family_of(name)
        assert renderer.call_format is None
        assert not renderer.calls_tools
    assert family_of("llama3-hermes").call_format is HERMES


def test_a_template_that_refuses_calls_has_no_format(renderers: dict[str, Renderer]) -> None:
    source = "{% for m in messages %}{% if m.tool_calls %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
    assert Renderer(renderers["ours"].tokenizer, ChatTemplate(source, "none")).call_format is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "format_name"),
    [
        ("qwen3", "hermes"),
        ("qwen2_5", "hermes"),
        ("qwen3_instruct_2507", "hermes"),
        ("llama3_1", "llama3"),
        ("llama3_2", "llama3"),
        ("llama3", None),
        ("gemma3", None),
    ],
)
def test_templates_of_trl(name: str, format_name: str | None) -> None:
    trl = pytest.importorskip("trl")
    source = (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")
    family = "llama" if "llama" in name else "ours"
    renderer = Renderer(renderer_of(family).tokenizer, ChatTemplate(source, name, {"bos_token": ""}))
    found = renderer.call_format
    assert (found.name if found else None) == format_name
    if found:
        header = {"llama": "ipython<|end_header_id|>", "ours": "<tool_response>"}[family]
        assert header in renderer.tokenizer.decode(renderer.tool_turn(["42"]))


# Reading.


def test_llama_calls(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["llama"]
    call = Call("calculator", {"expression": "1+1"})
    body = '{"name": "calculator", "parameters": {"expression": "1+1"}}'
    for text in (
        body,
        f"<|python_tag|>{body}",
        f" {body}\n",
        body.replace("parameters", "arguments"),
        '{"type": "function", ' + body[1:],
    ):
        for stop in ("<|eot_id|>", "<|eom_id|>"):
            assert renderer.calls_in(ids(renderer, text + stop)) == [call], text
    for text in (f"x {body}", body[:-1], '{"name": 1, "parameters": {}}', '["calculator"]', body + body, ""):
        assert renderer.calls_in(ids(renderer, text + "<|eot_id|>")) == [], text


def test_mistral_calls(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["mistral"]
    rows = [{"name": "calculator", "arguments": {"expression": "1"}, "id": "abcDEF123"}, {"name": "b", "arguments": {}}]
    found = renderer.calls_in(ids(renderer, f"[TOOL_CALLS] {json.dumps(rows)}</s>"))
    assert found == [Call("calculator", {"expression": "1"}, "abcDEF123"), Call("b", {})]
    assert renderer.calls_in(ids(renderer, '[TOOL_CALLS]a[ARGS]{"x": 1}[TOOL_CALLS]b[ARGS]{}</s>')) == [
        Call("a", {"x": 1}),
        Call("b", {}),
    ]
    assert renderer.calls_in(ids(renderer, '[TOOL_CALLS]a[CALL_ID]abcdefghi[ARGS]{"x": 1}</s>')) == [
        Call("a", {"x": 1}, "abcdefghi")
    ]
    for text in ("[TOOL_CALLS] [1]", "[TOOL_CALLS] {}", "[TOOL_CALLS]", "[TOOL_CALLS]a[ARGS]", json.dumps(rows)):
        assert renderer.calls_in(ids(renderer, text + "</s>")) == [], text


def test_an_id_that_the_template_would_refuse_does_not_end_the_run(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["mistral"]
    row = {"name": "calculator", "arguments": {"expression": "1+1"}, "id": "too long for an id"}
    script = ids(renderer, f"[TOOL_CALLS] [{json.dumps(row)}]</s>", "2</s>")
    completion = generate(renderer, script)
    assert '"content": "2"' in renderer.tokenizer.decode(completion.tokens)


pieces = st.lists(
    st.tuples(st.just(True), st.sampled_from([t for one in FORMATS for t in one.tags]))
    | st.tuples(st.just(False), st.text() | st.sampled_from(["[", "{}", '{"name": "a", "arguments": {}}', "[1]"])),
    max_size=8,
)


@given(pieces)
@settings(max_examples=300)
def test_no_format_fails_on_what_a_model_writes(written: list[tuple[bool, str]]) -> None:
    for one in (HERMES, LLAMA, MISTRAL):
        left, calls = one.take(written)
        text = "".join(piece for _, piece in written)
        assert all(call.name in text for call in calls), "no call is made up"
        assert all(piece in written for piece in left if piece[0])


@pytest.mark.parametrize("value", ['"\\ud800"', "[" * 600 + "]" * 600])
def test_a_call_that_no_template_can_write_is_malformed(value: str) -> None:
    """Half a character, or endless nesting, ended the run when the tool's turn was rendered."""
    assert read_call(f'{{"name": "calculator", "arguments": {{"expression": {value}}}}}') is None


@given(st.text())
@settings(max_examples=100)
def test_no_text_of_a_template_fails(text: str) -> None:
    assert format_of(text) is None


# Generation.


def generate(renderer: Renderer, script: Sequence[int], tools: Sequence[str] = TOOLS, max_calls: int = 3) -> Completion:
    engine = ScriptedEngine({0: script})
    requests = [Request((1,), 0, len(script))]
    return generate_with_tools(engine, requests, [tools], Sampling(1.0, 1.0), renderer, max_calls)[0]


TEXT_CALL = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "47*83"}}\n</tool_call>'


def test_calls_spelled_as_text_are_answered_when_the_turn_ends(renderers: dict[str, Renderer]) -> None:
    """Two calls, and what a model goes on to make up: all of it stays, and the calls count."""
    renderer = renderers["ours-text"]
    turn = f"{TEXT_CALL}\n{TEXT_CALL.replace('47*83', '6*7')}\n<tool_response>\n5\n</tool_response><|im_end|>"
    completion = generate(renderer, ids(renderer, turn, "3901<|im_end|>"))
    forced = [t for t, f in zip(completion.tokens, completion.forced, strict=True) if f]
    response = "\n<|im_start|>user\n<tool_response>\n3901\n</tool_response>\n<tool_response>\n42\n</tool_response>"
    assert renderer.tokenizer.decode(forced) == f"{response}<|im_end|>\n<|im_start|>assistant\n"
    assert completion.tokens[: len(ids(renderer, turn))] == ids(renderer, turn)
    assert renderer.read(completion).answer == "3901"


def test_calls_beyond_the_limit_are_answered_with_an_error(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["ours-text"]
    script = ids(renderer, f"{TEXT_CALL}{TEXT_CALL}<|im_end|>", f"{TEXT_CALL}<|im_end|>")
    completion = generate(renderer, script, max_calls=1)
    text = renderer.tokenizer.decode(completion.tokens)
    assert text.count("3901") == 1
    assert text.count("error: more than 1 calls") == 1
    assert completion.finish_reason == "stop"
    assert renderer.read(completion).answer is None  # its last call has no response


def test_a_request_without_tools_ends_with_its_turn(renderers: dict[str, Renderer]) -> None:
    """A model may be asked for JSON that looks like a call."""
    renderer = renderers["llama"]
    script = ids(renderer, '{"name": "calculator", "parameters": {"expression": "1"}}<|eot_id|>')
    completion = generate(renderer, script, tools=())
    assert completion.finish_reason == "stop"
    assert not any(completion.forced)


def test_a_turn_that_is_cut_off_calls_nothing(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["llama"]
    script = ids(renderer, '{"name": "calculator", "parameters": {"expression": "1"}}')
    completion = generate(renderer, script)
    assert (completion.finish_reason, any(completion.forced)) == ("length", False)


def test_end_of_message_ends_a_turn_with_a_call(renderers: dict[str, Renderer]) -> None:
    renderer = renderers["llama"]
    assert renderer.tokenizer.token_id("<|eom_id|>") in renderer.stop_ids
    call = '<|python_tag|>{"name": "calculator", "parameters": {"expression": "6*7"}}<|eom_id|>'
    completion = generate(renderer, ids(renderer, call, "42<|eot_id|>"))
    assert np.flatnonzero(completion.forced)[0] == len(ids(renderer, call))
    assert renderer.read(completion).answer == "42"
