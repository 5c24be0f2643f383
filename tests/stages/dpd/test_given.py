"""Given preference pairs: encoded, counted, mixed with samples, trained on without a teacher, and DPO as in TRL."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.stages.dpd.knowing import SOURCE
from tests.stages.own import OwnSource
from thinkling.data.artifact import Artifact, content_files
from thinkling.data.conversations import PreferencePair, tool_call
from thinkling.data.ledger import FILE as LEDGER
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate.loaded import LoadedModel
from thinkling.generate.renderer import Renderer
from thinkling.model.huggingface import load_pretrained, save_pretrained
from thinkling.sources.base import bound
from thinkling.stages.base import StageContext
from thinkling.stages.dpd import stage
from thinkling.stages.dpd.batches import pack_pairs
from thinkling.stages.dpd.config import DpdConfig
from thinkling.stages.dpd.given import given_pairs
from thinkling.stages.dpd.losses import dpd_objective
from thinkling.stages.dpd.pairs import read_pairs
from thinkling.stages.training.left_out import LeftOut
from thinkling.train.parallel import Parallel

PLAIN_DPO = {"kl_chosen": 0, "kl_rejected": 0}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **fields}


def pair(number: int, chosen: Any = "good", rejected: Any = "bad", before: Sequence[Any] = (), **more: Any) -> Any:
    sides = [[assistant(side)] if isinstance(side, str) else side for side in (chosen, rejected)]
    return PreferencePair(f"p{number}", [*before, user(f"ask {number}")], *sides, source="mine", **more)


PAIRS = tuple(pair(i, "abc " * (i % 3 + 1), "c" * (i % 2 + 1)) for i in range(8))
CALLS = [
    assistant("", reasoning_content="sum", tool_calls=[tool_call("calculator", {"expression": "1+1"})]),
    {"role": "tool", "content": "2"},
    assistant("2"),
]


def config(**fields: Any) -> DpdConfig:
    return DpdConfig.model_validate(
        {
            "kind": "dpd", "inputs": {"model": "sft"}, "steps": 5, "batch_size": 4, "sequence_length": 128,
            "optimizer": {"lr": 1e-2}, "checkpoint_every": 2, "preferences": [{"source": "mine"}],
            "weights": PLAIN_DPO,
        }
        | fields
    )  # fmt: skip


@pytest.fixture
def context(tmp_path: Path, save_model: Callable[..., Path]) -> Callable[..., StageContext]:
    for seed, role in enumerate(("model", "teacher")):
        save_model(tmp_path / role, seed=seed, hidden=16 * (seed + 1))

    def make(name: str, *roles: str, pairs: Sequence[PreferencePair] = PAIRS) -> StageContext:
        (tmp_path / name).mkdir(exist_ok=True)
        sources = bound({"mine": OwnSource(type="own", preferences=tuple(pairs)), "puzzles": SOURCE})
        inputs = {role: Artifact(tmp_path / role, {"digest": role}) for role in ("model", *roles)}
        return StageContext("dpd", tmp_path / name, inputs, 7, sources=sources)

    return make


@pytest.fixture
def renderer(context: Any, tmp_path: Path) -> Renderer:
    return Renderer.load(tmp_path / "model" / "model")


def metrics(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def test_plain_dpo_on_given_pairs_without_a_teacher(context: Any) -> None:
    ctx = context("run")
    stage.run(config(steps=12), ctx)
    assert ctx.counts["preferences"] == {"mine": {"pairs": 8, "kept": 8}}
    assert ctx.counts["pairs"] == 8
    assert ctx.counts["pairs_by_family"] == {"mine": 8}
    assert ctx.counts["student"]["problems"] == 0
    lines = metrics(ctx.directory)
    assert lines[0]["dpo"] == pytest.approx(0.693147, rel=1e-4)
    assert lines[-1]["dpo"] < 0.5 < lines[-1]["dpo_accuracy"]
    assert {p.problem_id for p in read_pairs(ctx.directory / "pairs.parquet")} == {f"p{i}" for i in range(8)}
    assert not (ctx.directory / "samples").exists()


def test_all_three_terms_on_given_pairs(context: Any) -> None:
    ctx = context("run", "teacher")
    stage.run(config(inputs={"model": "sft", "teacher": "t"}, weights={}), ctx)
    lines = metrics(ctx.directory)
    assert {"dpo", "kl_chosen", "kl_rejected"} <= lines[0].keys()
    assert lines[-1]["kl_chosen"] < lines[0]["kl_chosen"]


def test_given_pairs_and_those_of_samples_are_one_pool(
    context: Any, knowing: Any, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(
        inputs={"model": "sft", "teacher": "t"}, weights={}, problems=[{"source": "puzzles", "n_problems": 24}],
        pairs={"student_samples": 2, "max_new_tokens": 96},
    )  # fmt: skip
    ctx = context("run", "teacher")
    knowing.learn(stage.problems(settings, ctx), tokenizer)
    monkeypatch.setattr(stage, "make_engine", knowing)
    stage.run(settings, ctx)
    pairs = read_pairs(ctx.directory / "pairs.parquet")
    sampled = [p for p in pairs if p.margin is not None]
    assert len(sampled) == ctx.counts["kept"] > 4
    assert len(pairs) == len(sampled) + 8 == ctx.counts["pairs"]
    assert {p.family for p in sampled} == {"sort", "calc"}
    seen = {index for step in range(5) for index in stage.PairOrder(len(pairs), 4, ctx.seed).step(step)}
    assert {pairs[i].margin is None for i in seen} == {True, False}


def test_killed_and_resumed_equals_uninterrupted(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut, pack, calls = context("whole"), context("cut"), stage.pack_pairs, [0]
    stage.run(config(), whole)

    def dying(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 6:
            raise KeyboardInterrupt
        return pack(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "pack_pairs", dying)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config(), cut)
    cut.counts.clear()
    stage.run(config(), cut)
    assert cut.counts == whole.counts
    for name in content_files(whole.directory):
        assert (cut.directory / name).read_bytes() == (whole.directory / name).read_bytes(), name


def encoded(renderer: Renderer, ctx: StageContext, left_out: LeftOut | None = None, **fields: Any) -> Any:
    return given_pairs(config(**fields), ctx, renderer, left_out or LeftOut())


def test_prompt_and_sides_are_the_rendered_conversation(context: Any, renderer: Renderer) -> None:
    """Both sides together with the prompt are what the template writes; loss falls where it marks the answer."""
    before = [{"role": "system", "content": "be good"}, user("a"), assistant("b")]
    given = pair(0, "abc", "c", before)
    (found,), _ = encoded(renderer, context("run", pairs=[given]))
    for side, turns in zip(found.sides, (given.chosen, given.rejected), strict=True):
        ids, mask = renderer.encode([*given.messages, *turns])
        assert found.prompt + side.tokens == ids.tolist()
        start = len(found.prompt)
        assert [not forced for forced in side.forced] == mask[start:].tolist()
        assert mask[:start].any(), "an earlier turn of the assistant belongs to the prompt, and has no loss"
    assert found.prompt == renderer.prompt(given.messages).tolist()
    assert (found.question, found.family, found.problem_id, found.margin) == ("ask 0", "mine", "p0", None)


def test_tool_turns_bear_no_loss_and_tools_are_announced(context: Any, renderer: Renderer) -> None:
    tool = {"type": "function", "function": {"name": "calculator", "description": "d", "parameters": {}}}
    given = pair(0, CALLS, "3", tools=[tool])
    (found,), _ = encoded(renderer, context("run", pairs=[given]), sequence_length=2048)
    assert "calculator" in renderer.tokenizer.decode(found.prompt)
    forced = [t for t, f in zip(found.chosen.tokens, found.chosen.forced, strict=True) if f]
    assert "<tool_response>\n2\n</tool_response>" in renderer.tokenizer.decode(forced)
    own = [t for t, f in zip(found.chosen.tokens, found.chosen.forced, strict=True) if not f]
    assert "sum" in renderer.tokenizer.decode(own)
    assert "tool_response" not in renderer.tokenizer.decode(own)


def test_what_makes_no_pair_is_counted_by_reason(context: Any, renderer: Renderer) -> None:
    pairs = [
        pair(0),
        pair(1, "same", "same"),
        pair(2, "word " * 200),
        pair(3, "good", "bad " * 200),
        pair(4),
    ]
    asked = OwnSource(type="own").problems("train")[0]
    pairs.append(PreferencePair("p5", [user(asked.question)], [assistant("1")], [assistant("2")], "mine"))
    ctx = context("run", pairs=pairs)
    found, counts = encoded(renderer, ctx, LeftOut({"own": [asked]}))
    noted = [json.loads(line) for line in (ctx.directory / LEDGER).read_text().splitlines()]
    assert [(json.loads(line["record"])["id"], line["reason"]) for line in noted] == [
        ("p1", "both sides are the same tokens"),
        ("p2", "longer than sequence_length"),
        ("p3", "longer than sequence_length"),
        ("p5", "it asks a problem that is evaluated"),
    ]
    assert [p.problem_id for p in found] == ["p0", "p4"]
    assert counts == {"mine": {"pairs": 6, "kept": 2, "equal": 1, "evaluated": 1, "too_long": 2}}


def test_too_few_pairs_says_why(context: Any) -> None:
    with pytest.raises(
        UserError, match=r"batch_size 9: only 8 pairs are available \(preferences.mine 8\); lower batch_size, or use"
    ):
        stage.run(config(batch_size=9), context("run"))


def test_a_pair_out_of_form_is_named(context: Any, renderer: Renderer) -> None:
    wrong = PreferencePair("p7", [{"role": "robot", "content": "x"}], [assistant("1")], [assistant("2")], "mine")
    with pytest.raises(UserError, match=r"sources\.mine: pair p7: conversation: message 0: role is 'robot'"):
        encoded(renderer, context("run", pairs=[wrong]))


def test_a_template_that_rewrites_earlier_turns_is_refused(context: Any, tmp_path: Path) -> None:
    """Where the prompt's own turns change once an answer follows, it cannot be told where the answer begins."""
    directory = tmp_path / "model" / "model"
    (directory / "chat_template.jinja").write_text(
        "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' }}{%- if m.role == 'assistant' -%}{% generation %}"
        "{{ m.content if not loop.last and not messages[-1].role == 'assistant' "
        "else 'old ' + m.content if not loop.last else m.content }}{{ '<|im_end|>' }}{% endgeneration %}"
        "{%- else -%}{{ m.content + '<|im_end|>' }}{%- endif -%}"
        "{%- endfor -%}{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
    )
    given = pair(0, before=[user("a"), assistant("b")])
    with pytest.raises(UserError, match=r"pair p0: chat template .* renders earlier assistant turns differently"):
        encoded(Renderer.load(directory), context("run", pairs=[given]))


def test_a_bf16_student_is_trained_in_fp32(context: Any, tmp_path: Path) -> None:
    """Its weights stayed bf16, in which most steps of dpd's learning rates are lost."""
    directory = tmp_path / "model"
    save_pretrained(load_pretrained(directory / "model").bfloat16(), directory / "model", directory / "tokenizer", {})
    before = load_pretrained(directory / "model")
    stage.run(config(optimizer={"lr": 1e-5, "weight_decay": 0.0}), context("run"))
    after = load_pretrained(tmp_path / "run" / "model")
    assert before.output_weight.dtype == torch.bfloat16
    moved = [
        (a != b.float()).float().mean().item() for a, b in zip(after.parameters(), before.parameters(), strict=True)
    ]
    assert after.output_weight.dtype == torch.float32
    assert min(moved[1:]) > 0.5  # the first is the embedding, most of whose rows no pair touches


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
def test_references_are_computed_in_the_dtype_of_training(context: Any, weights: str) -> None:
    """Else a model that is its own reference has a margin at the first step: 0.014 here."""
    ctx = context("run")
    precision = {"compute": "bfloat16", "weights": weights}
    stage.run(config(steps=12, batch_size=8, precision=precision, beta=1.0), ctx)
    lines = metrics(ctx.directory)
    assert abs(lines[0]["dpo_margin"]) < 1e-3
    assert lines[0]["dpo"] == pytest.approx(0.693147, rel=1e-4)
    assert lines[-1]["dpo"] < 0.5
    after = load_pretrained(ctx.directory / "model")
    assert after.output_weight.dtype == getattr(torch, weights)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"preferences": []},
            "problems: missing; set problems to make pairs from them, or preferences to use existing pairs",
        ),
        (
            {"weights": {}},
            r"inputs\.teacher is missing: weights\.kl_chosen .* use plain DPO with weights: \{kl_chosen: 0",
        ),
        (
            {"problems": [{"source": "p"}], "pairs": {"max_new_tokens": 9}},
            r"inputs\.teacher is missing: with problems, the chosen side",
        ),
        ({"problems": [{"source": "p"}]}, "pairs: missing, but required with problems"),
        ({"pairs": {"max_new_tokens": 9}}, "pairs: has no effect without problems"),
        ({"solved_per_step": 2}, "solved_per_step: has no effect without problems"),
        ({"inputs": {"model": "a", "teacher": "t"}}, r"inputs\.teacher: has no effect"),
        ({"preferences": [{"source": "a"}, {"source": "a"}]}, "preferences: a source is listed twice"),
    ],
)
def test_what_does_not_fit_is_said_with_the_cure(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(**fields)


def test_needs_pairs_of_its_sources() -> None:
    given = config(
        evaluate_every=1, evaluation={"task_sets": {"a": {"source": "q", "n_problems": 1}}, "max_new_tokens": 1}
    )
    assert [need[:3] for need in given.needs()] == [
        ("preferences.source", "mine", "pairs"),
        ("evaluation.task_sets.a.source", "q", "problems"),
    ]
    assert given.judges() == ["q"]


def test_evaluated_during_training(context: Any) -> None:
    ctx = context("run")
    sets = {"own": {"source": "mine", "n_problems": 3}}
    stage.run(config(evaluate_every=2, evaluation={"task_sets": sets, "max_new_tokens": 3}, keep_best=True), ctx)
    found = [json.loads(line) for line in (ctx.directory / "evaluations.jsonl").read_text().splitlines()]
    assert [(line["step"], line["task_set"], line["n"]) for line in found] == [(s, "own", 3) for s in (0, 2, 4, 5)]


def test_the_dpo_term_equals_trl_from_text_to_loss(context: Any, tmp_path: Path) -> None:
    """TRL's DPOTrainer renders, tokenizes, masks and sums the same pairs by itself."""
    trl = pytest.importorskip("trl", reason="TRL is not installed")
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directories = [tmp_path / role / "model" for role in ("model", "teacher")]
    for directory in directories:
        # TRL puts the loss on all that follows the prompt, also on the newline that ours has after a turn's end.
        (directory / "chat_template.jinja").write_text(
            "{%- for m in messages -%}{{ '<|im_start|>' + m.role + '\n' }}{%- if m.role == 'assistant' -%}"
            "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{%- else -%}"
            "{{ m.content + '<|im_end|>' }}{%- endif -%}{%- endfor -%}"
            "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
        )
    student, reference = (LoadedModel.load(directory) for directory in directories)
    more = [pair(8, "ok", "no", [{"role": "system", "content": "s"}, user("a"), assistant("b")])]
    ctx = context("run", pairs=[*PAIRS, *more])
    pairs, _ = given_pairs(config(), ctx, student.renderer, LeftOut())
    models = stage.Models(reference, None)
    pairs = stage.with_references(config(), ctx, pairs, models, Parallel())
    batch = pack_pairs(pairs, 128, student.tokenizer.pad_id)
    ours, n, _ = dpd_objective(config(beta=0.3), None, torch.device("cpu"))(student.decoder, batch)

    tokenizer = AutoTokenizer.from_pretrained(directories[0])
    rows = [
        {"prompt": list(p.messages), "chosen": list(p.chosen), "rejected": list(p.rejected)} for p in [*PAIRS, *more]
    ]
    arguments = trl.DPOConfig(
        output_dir=str(tmp_path / "trl"), beta=0.3, max_length=None, use_cpu=True, report_to=[], bf16=False,
        per_device_train_batch_size=len(rows),
    )  # fmt: skip
    peers = [AutoModelForCausalLM.from_pretrained(directory) for directory in directories]
    trainer = trl.DPOTrainer(
        peers[0], peers[1], args=arguments, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
    )
    (theirs_batch,) = trainer.get_train_dataloader()
    theirs = trainer.compute_loss(trainer.model, theirs_batch)
    assert n == len(rows) == 9
    assert ours.item() / n == pytest.approx(theirs.item(), rel=1e-5)
    assert theirs.item() != pytest.approx(0.6931, abs=1e-3)
