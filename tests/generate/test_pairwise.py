"""Log-odds of verdicts: against a plain forward, both orders, equal comparisons, and what cannot be compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from thinkling.data.chat_template import OURS
from thinkling.data.reading import Reading
from thinkling.data.tokenizer import Tokenizer
from thinkling.errors import UserError
from thinkling.generate import pairwise
from thinkling.generate.pairwise import Comparison, PairwiseModel
from thinkling.generate.pairwise_forms import resolve
from thinkling.generate.renderer import Renderer
from thinkling.model.attention import DocumentLayout
from thinkling.model.config import ModelConfig
from thinkling.model.decoder import Decoder
from thinkling.puzzles.judging import FORM
from thinkling.verify.preference import LOWEST

QUESTIONS = [("write KDA", "KDA!", "DA"), ("write XY", "X!", "XYZ!"), ("write BCDEF", "BCDEF", "no line at all")]


def decoder(tokenizer: Tokenizer, limit: int = 4096) -> Decoder:
    config = ModelConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=limit,
    )  # fmt: skip
    made = Decoder(config)
    made.init_weights(torch.Generator().manual_seed(0))
    return made


@pytest.fixture(scope="module")
def judge(tokenizer: Tokenizer) -> PairwiseModel:
    return PairwiseModel(decoder(tokenizer), Renderer(tokenizer, OURS), FORM)


def plain(judge: PairwiseModel, question: str, first: str, second: str) -> float:
    """Log-odds by one whole forward of the conversation that sft would train on."""
    content = f"judge {question}\n{first}\n{second}"
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "1"}]
    ids, mask = judge.renderer.encode(messages)
    (one,), (two,) = (judge.renderer.tokenizer.encode(verdict).tolist() for verdict in "12")
    at = max(i for i in range(len(ids)) if ids[i] == one and mask[i])
    with torch.no_grad():
        layout = DocumentLayout.from_lengths([[len(ids)]], len(ids))
        x = judge.model(torch.tensor(ids[None].tolist()), layout)
        log_p = torch.log_softmax(judge.model.logits(x)[0, at - 1].double(), -1)
    return float(log_p[one] - log_p[two])


@pytest.mark.parametrize("batch_tokens", [8192, 60])
def test_log_odds_equal_a_plain_forward(
    judge: PairwiseModel, monkeypatch: pytest.MonkeyPatch, batch_tokens: int
) -> None:
    monkeypatch.setattr(pairwise, "_BATCH_TOKENS", batch_tokens)
    found = judge.prefer([Comparison(*q) for q in QUESTIONS])
    for (question, answer, reference), preference in zip(QUESTIONS, found, strict=True):
        assert preference.first == pytest.approx(plain(judge, question, answer, reference), abs=1e-5)
        assert preference.second == pytest.approx(plain(judge, question, reference, answer), abs=1e-5)


def test_a_soft_cap_on_logits_is_in_the_log_odds(judge: PairwiseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    before = judge.prefer([Comparison(*QUESTIONS[0])])[0]
    monkeypatch.setattr(judge.model, "logit_softcap", 0.5)
    question, answer, reference = QUESTIONS[0]
    found = judge.prefer([Comparison(*QUESTIONS[0])])[0]
    assert found.first == pytest.approx(plain(judge, question, answer, reference), abs=1e-5)
    assert found.first != before.first


def test_exchange_negates_exactly_and_an_answer_ties_with_itself(judge: PairwiseModel) -> None:
    there = [Comparison(q, a, b) for q, a, b in QUESTIONS]
    back = [Comparison(q, b, a) for q, a, b in QUESTIONS]
    found = judge.prefer([*there, *back])
    assert [p.score for p in found[:3]] == [-p.score for p in found[3:]]
    assert all(p.score != 0 for p in found)
    assert judge.prefer([Comparison("write KDA", "KD", "KD")])[0].score == 0


def test_equal_comparisons_get_equal_numbers_and_nothing_gets_the_lowest(judge: PairwiseModel) -> None:
    first, nothing, again = judge.prefer(
        [Comparison(*QUESTIONS[0]), Comparison("write KDA", None, "DA"), Comparison(*QUESTIONS[0])]
    )
    assert first == again
    assert nothing is LOWEST
    assert judge.prefer([]) == []


def test_what_does_not_fit_the_context_gets_the_lowest(tokenizer: Tokenizer) -> None:
    judge = PairwiseModel(decoder(tokenizer, 64), Renderer(tokenizer, OURS), FORM)
    short, long = judge.prefer([Comparison("write KDA", "KDA", "DA"), Comparison("write KDA", "KDA" * 40, "DA")])
    assert short is not LOWEST
    assert long is LOWEST


def test_a_damaged_model_is_named(tokenizer: Tokenizer) -> None:
    model = decoder(tokenizer)
    with torch.no_grad():
        model.output_weight.fill_(torch.nan)
    with pytest.raises(UserError, match="not finite"):
        PairwiseModel(model, Renderer(tokenizer, OURS), FORM).prefer([Comparison(*QUESTIONS[0])])


def test_verdicts_of_several_tokens_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match="preference_form: the verdicts 1 and no are not one token each"):
        PairwiseModel(decoder(tokenizer), Renderer(tokenizer, OURS), replace(FORM, verdicts=("1", "no")))


def test_the_form_in_words_compares_whole_answers(tokenizer: Tokenizer) -> None:
    judge = PairwiseModel(decoder(tokenizer), Renderer(tokenizer, OURS), resolve("words"))
    reading = Reading.of("def f():\n    return 1\n")
    assert judge.answer(reading) == "def f():\n    return 1"
    asked = tokenizer.decode(judge.prompt("q?", judge.answer(reading) or "", "no"))
    assert "<answer_1>\ndef f():\n    return 1\n</answer_1>" in asked
    there, back = (judge.prefer([Comparison("q?", *answers)])[0].score for answers in (("a", "b"), ("b", "a")))
    assert there == pytest.approx(-back, abs=1e-6)


def test_the_puzzles_form_is_an_entry_point() -> None:
    assert resolve("puzzles") is FORM
    with pytest.raises(UserError, match="unknown preference form 'poems'; use one of words, puzzles"):
        resolve("poems")
