from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from thinkling.data.chat_template import OURS
from thinkling.data.tokenizer import Tokenizer
from thinkling.generate import tools, turns
from thinkling.generate.engine import Completion, Request, Sampling
from thinkling.generate.hermes import call_text
from thinkling.generate.native import NativeEngine
from thinkling.generate.renderer import Renderer
from thinkling.generate.turns import generate_with_tools
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.puzzles.examples import conversation, prompt
from thinkling.puzzles.pages import document, document_prompt
from thinkling.puzzles.renderer import PageRenderer
from thinkling.tasks.problem import Problem

from .conftest import Form, ScriptedEngine, renderer_of

CHAT_TURN = "<|im_end|>\n<|im_start|>user\n<tool_response>\n{}\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
PAGE_PART = "\n<tool_response>\n{}\n</tool_response>\n"


def ids(tokenizer: Tokenizer, *texts: str) -> list[int]:
    """Each text on its own, with markup: what a model writes in one go."""
    return [int(i) for text in texts for i in tokenizer.encode(text, markup=True)]


def run(
    tokenizer: Tokenizer,
    form: Form,
    *written: str,
    max_new_tokens: int = 200,
    max_calls: int = 3,
) -> tuple[Completion, ScriptedEngine]:
    """One sequence through a script."""
    engine = ScriptedEngine({7: ids(tokenizer, *written)})
    requests = [Request((1, 2), 7, max_new_tokens)]
    renderer = renderer_of(form, tokenizer)
    found = generate_with_tools(engine, requests, [TOOLS], Sampling(1.0, 1.0), renderer, max_calls)
    return found[0], engine


TOOLS = ("calculator",)
CALL = call_text("calculator", {"expression": "47*83"})


def test_a_chat_turn_goes_on_after_the_response(tokenizer: Tokenizer) -> None:
    reasoning, answer = f"<think>\n47*83\n</think>\n\n{CALL}", "3901<|im_end|>"
    completion, engine = run(tokenizer, "chat", reasoning, answer)
    response = ids(tokenizer, CHAT_TURN.format(3901))
    first, last = ids(tokenizer, reasoning), ids(tokenizer, answer)
    assert completion.tokens == [*first, *response, *last]
    assert completion.forced == [False] * len(first) + [True] * len(response) + [False] * len(last)
    assert completion.logprobs == [0.0 if forced else -0.5 for forced in completion.forced]
    assert completion.versions == [3] * len(completion.tokens)
    assert completion.finish_reason == "stop"
    # The continuation sees all of it, has what is left of the budget, and goes on in the stream of random numbers.
    assert [call[0][0] for call in engine.calls] == [
        Request((1, 2), 7, 200),
        Request((1, 2, *first, *response), 7, 200 - len(first), rng_offset=len(first) + len(response)),
    ]


def test_chat_rollout_is_what_training_renders(tokenizer: Tokenizer, calculation: Problem) -> None:
    """Prompt, sampled and forced tokens together are exactly the rendered conversation, newline at its end aside."""
    messages = conversation(calculation)
    renderer = Renderer(tokenizer, OURS)
    whole, mask = renderer.encode(messages)
    start = renderer.prompt(prompt(calculation))
    engine = ScriptedEngine({0: [int(i) for i in whole[mask]]})
    request = Request(tuple(int(i) for i in start), 0, 500)
    # The <|im_end|> after the call carries loss when trained; at generation the forced turn brings it.
    script = engine.scripts[0]
    script.remove(tokenizer.im_end_id)
    completion = generate_with_tools(engine, [request], [TOOLS], Sampling(1.0, 1.0), renderer)[0]
    assert [*request.prompt, *completion.tokens] == whole[: len(request.prompt) + len(completion.tokens)].tolist()
    assert tokenizer.decode(whole[len(request.prompt) + len(completion.tokens) :]) == "\n"


def test_page_rollout_is_the_page(tokenizer: Tokenizer, calculation: Problem) -> None:
    page = document(calculation)
    whole = ids(tokenizer, page)
    start = ids(tokenizer, document_prompt(calculation))
    result = page.split("<tool_response>\n")[1].split("\n")[0]
    forced = ids(tokenizer, PAGE_PART.format(result))
    text = page.removeprefix(document_prompt(calculation))
    before, after = text.split(PAGE_PART.format(result))
    completion, engine = run(tokenizer, "document", before, after)
    assert [*start, *completion.tokens] == whole
    assert sum(completion.forced) == len(forced)
    assert completion.finish_reason == "stop"
    assert tokenizer.decode(completion.tokens[-1:]) == "\n"
    assert len(engine.calls) == 3  # up to the call, the call, the rest


def test_a_page_without_a_call_ends_at_its_newline(tokenizer: Tokenizer) -> None:
    completion, engine = run(tokenizer, "document", "47*83.5\n", "47*83.5\n")
    assert tokenizer.decode(completion.tokens) == "47*83.5\n"
    assert len(engine.calls) == 1


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ('{"name": "calculator", "arguments": {"expression": "1/0"}}', "error: "),
        ('{"name": "calculator", "arguments": {"expression": "two"}}', "error: "),
        ('{"name": "shell", "arguments": {"command": "ls"}}', "error: unknown tool"),
        ('{"name": "calculator"}', "error: malformed tool call"),
        ("47*83", "error: malformed tool call"),
        ('{"name": "calculator", "arguments": {"expression": "</tool_response>"}}', "error: "),
    ],
)
@pytest.mark.parametrize("form", ["chat", "document"])
def test_a_bad_call_is_answered_with_an_error(tokenizer: Tokenizer, form: Form, body: str, answer: str) -> None:
    end = "x<|im_end|>" if form == "chat" else ".x\n"
    call = f"<tool_call>\n{body}\n</tool_call>"
    completion, _ = run(tokenizer, form, call, end)
    forced = [token for token, flag in zip(completion.tokens, completion.forced, strict=True) if flag]
    assert f"<tool_response>\n{answer}" in tokenizer.decode(forced)
    assert completion.finish_reason == "stop"
    # Text cannot smuggle tags in: one response, one end of it.
    assert forced.count(tokenizer.token_id("</tool_response>")) == 1


def test_a_closing_tag_alone_is_a_malformed_call_in_a_chat_and_nothing_on_a_page(tokenizer: Tokenizer) -> None:
    chat, _ = run(tokenizer, "chat", "12</tool_call>", "x<|im_end|>")
    assert "error: malformed tool call" in tokenizer.decode(chat.tokens)
    page, _ = run(tokenizer, "document", "12</tool_call>.3\n")
    assert tokenizer.decode(page.tokens) == "12</tool_call>.3\n"


def test_a_second_call_is_read_by_itself(tokenizer: Tokenizer) -> None:
    """A closing tag right after a response must not reach back to the first call."""
    completion, _ = run(tokenizer, "chat", CALL, "</tool_call>", "x<|im_end|>")
    text = tokenizer.decode(completion.tokens)
    assert text.count("3901") == 1
    assert text.count("error: malformed tool call") == 1


@pytest.mark.parametrize("form", ["chat", "document"])
def test_at_most_max_calls_are_answered(tokenizer: Tokenizer, form: Form) -> None:
    end = "x<|im_end|>" if form == "chat" else ".x\n"
    completion, engine = run(tokenizer, form, CALL, CALL, CALL, end, max_calls=2)
    assert tokenizer.decode(completion.tokens).count("<tool_response>") == 2
    assert completion.finish_reason == "stop"
    rounds = 3 if form == "chat" else 5
    assert len(engine.calls) == rounds
    none, engine = run(tokenizer, form, CALL, end, max_calls=0)
    assert not any(none.forced)
    assert len(engine.calls) == 1


@pytest.mark.parametrize("form", ["chat", "document"])
@pytest.mark.parametrize("short", [0, 1, 5])
def test_the_budget_counts_the_models_tokens_only(tokenizer: Tokenizer, form: Form, short: int) -> None:
    end = "3901<|im_end|>" if form == "chat" else ".3901\n"
    written = len(ids(tokenizer, CALL, end))
    completion, _ = run(tokenizer, form, CALL, end, max_new_tokens=written - short)
    assert completion.finish_reason == ("stop" if short == 0 else "length")
    assert len(completion.tokens) - sum(completion.forced) == written - short


@pytest.mark.parametrize("form", ["chat", "document"])
def test_a_budget_that_ends_with_the_call_is_a_length_stop(tokenizer: Tokenizer, form: Form) -> None:
    completion, _ = run(tokenizer, form, CALL, max_new_tokens=len(ids(tokenizer, CALL)))
    assert completion.finish_reason == "length"
    opening, _ = run(tokenizer, form, CALL, max_new_tokens=1)
    assert opening.finish_reason == "length"
    assert len(opening.tokens) == 1


def test_sequences_of_a_batch_go_their_own_ways(tokenizer: Tokenizer) -> None:
    scripts = {
        0: ids(tokenizer, "5<|im_end|>"),
        1: ids(tokenizer, CALL, "3901<|im_end|>"),
        2: ids(tokenizer, CALL, CALL, "7<|im_end|>"),
    }
    engine = ScriptedEngine(scripts)
    requests = [Request((9,), seed, 200) for seed in (2, 0, 1)]
    found = generate_with_tools(engine, requests, [TOOLS] * 3, Sampling(1.0, 1.0), Renderer(tokenizer, OURS))
    assert [tokenizer.decode(c.tokens).count("<tool_response>") for c in found] == [2, 0, 1]
    assert [len(requests) for requests, _ in engine.calls] == [3, 2, 1]


def test_a_page_of_a_tokenizer_without_tags_is_generated_without_tools(tokenizer: Tokenizer) -> None:
    """A chat's calls are found as text then: test_call_formats.py. A page has no turn that could end."""

    class NoTags(Tokenizer):
        def has_token(self, token: str) -> bool:
            return "tool" not in token and super().has_token(token)

    bare = NoTags(tokenizer._files)
    completion, engine = run(bare, "document", CALL.replace("\n", " ") + ".x\n")
    assert not any(completion.forced)
    assert len(engine.calls) == 1


def test_newline_ids_are_white_space(tokenizer: Tokenizer) -> None:
    found = PageRenderer(tokenizer, OURS).newline_ids
    assert set(ids(tokenizer, "\n")) <= found
    assert all(tokenizer.decode([i]).isspace() for i in found)


@pytest.mark.parametrize("form", ["chat", "document"])
def test_a_real_model_calls_tools(tokenizer: Tokenizer, form: Form) -> None:
    """A random model made fond of the tags: forced tokens are no samples, the rest is what it would draw anyway."""
    model = Decoder(
        ModelConfig(
            vocab_size=tokenizer.vocab_size,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            tie_word_embeddings=False,
        )
    )
    model.init_weights(torch.Generator().manual_seed(0))
    fond = [tokenizer.token_id("<tool_call>"), tokenizer.token_id("</tool_call>")]
    with torch.no_grad():
        model.model.norm.weight.fill_(0.0)
        model.model.norm.weight[0] = 1.0
        model.model.embed_tokens.weight[:, 0] = 100.0  # channel 0 of every hidden state is then the same constant
        model.lm_head.weight.zero_()
        model.lm_head.weight[fond, 0] = 1.0  # e⁴ times as likely as others
    engine = NativeEngine(model, 8)
    requests = [Request((5, 6), seed, 40) for seed in range(16)]
    renderer, names = renderer_of(form, tokenizer), [TOOLS] * 16
    found = generate_with_tools(engine, requests, names, Sampling(1.0, 1.0), renderer)
    assert any(any(completion.forced) for completion in found)
    for completion in found:
        sampled = [not forced for forced in completion.forced]
        assert sum(sampled) <= 40
        logits = model.logits(model(torch.tensor([[5, 6, *completion.tokens]]))).log_softmax(-1)[0, 1:-1]
        expected = logits.gather(-1, torch.tensor(completion.tokens).unsqueeze(-1)).squeeze(-1).detach().numpy()
        assert np.allclose(expected[sampled], np.array(completion.logprobs)[sampled], atol=1e-5)
    again = generate_with_tools(engine, requests[::-1], names, Sampling(1.0, 1.0), renderer)[::-1]
    assert [c.tokens for c in again] == [c.tokens for c in found]


def test_a_call_is_answered_by_the_tools_of_its_own_problem(tokenizer: Tokenizer) -> None:
    engine = ScriptedEngine({seed: ids(tokenizer, CALL, "x<|im_end|>") for seed in (0, 1)})
    requests = [Request((9,), seed, 200) for seed in (0, 1)]
    found = generate_with_tools(engine, requests, [TOOLS, ()], Sampling(1.0, 1.0), Renderer(tokenizer, OURS))
    first, second = (tokenizer.decode(completion.tokens) for completion in found)
    assert "<tool_response>\n3901\n</tool_response>" in first
    assert "<tool_response>\nerror: unknown tool\n</tool_response>" in second


class Tally:
    """A tool's session that counts, and how many are open."""

    open = 0
    most = 0

    def __init__(self) -> None:
        Tally.open += 1
        Tally.most = max(Tally.most, Tally.open)
        self.calls = 0

    def run(self, arguments: Mapping[str, Any]) -> str:
        self.calls += 1
        return f"call {self.calls}"

    def close(self) -> None:
        Tally.open -= 1


@pytest.fixture
def tally(monkeypatch: pytest.MonkeyPatch) -> type[Tally]:
    monkeypatch.setattr(Tally, "open", 0)
    monkeypatch.setattr(Tally, "most", 0)
    monkeypatch.setitem(tools.TOOLS._loaded, "tally", tools.Tool("tally", "", {}, open=Tally))
    return Tally


TALLY = call_text("tally", {})


def test_a_tool_keeps_its_state_through_a_sample_and_no_further(tokenizer: Tokenizer, tally: type[Tally]) -> None:
    engine = ScriptedEngine({seed: ids(tokenizer, TALLY, TALLY, "x<|im_end|>") for seed in range(3)})
    requests = [Request((9,), seed, 200) for seed in range(3)]
    found = generate_with_tools(engine, requests, [["tally"]] * 3, Sampling(1.0, 1.0), Renderer(tokenizer, OURS))
    for completion in found:
        assert re.findall(r"call \d", tokenizer.decode(completion.tokens)) == ["call 1", "call 2"]
    assert (tally.open, tally.most) == (0, 3)


def test_sessions_are_closed_where_generation_fails(tokenizer: Tokenizer, tally: type[Tally]) -> None:
    engine = ScriptedEngine({0: ids(tokenizer, TALLY)})  # its script ends before the sequence does
    with pytest.raises(AssertionError, match="the script ends"):
        generate_with_tools(engine, [Request((9,), 0, 200)], [["tally"]], Sampling(1.0, 1.0), Renderer(tokenizer, OURS))
    assert (tally.open, tally.most) == (0, 1)


def test_samples_with_sessions_are_generated_some_at_a_time(
    tokenizer: Tokenizer, tally: type[Tally], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may hold a process: with 1,024 samples a machine would run out of memory. What comes out is the same."""
    scripts = {seed: ids(tokenizer, TALLY, f"{seed}<|im_end|>") for seed in range(5)}
    requests = [Request((9,), seed, 200) for seed in range(5)]
    renderer = Renderer(tokenizer, OURS)
    together = generate_with_tools(ScriptedEngine(scripts), requests, [["tally"]] * 5, Sampling(1.0, 1.0), renderer)
    assert tally.most == 5
    tally.most = 0
    monkeypatch.setattr(turns, "MOST_WITH_SESSIONS", 2)
    found = generate_with_tools(ScriptedEngine(scripts), requests, [["tally"]] * 5, Sampling(1.0, 1.0), renderer)
    assert found == together
    assert (tally.open, tally.most) == (0, 2)
