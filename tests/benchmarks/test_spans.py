"""The claims own-data.spans*, and that a wrong span is noticed."""

import pytest

from benchmarks.own_data import spans
from benchmarks.own_data.chat_shapes import SHAPES
from thinkling.data.tokenizer import train_bpe

pytest.importorskip("trl")


@pytest.mark.slow
def test_every_template_of_trl_over_every_shape() -> None:
    found = spans.check()
    judged = sum(found.spans.values()) - found.spans["lost by the template"]
    assert found.texts[True] >= 0.97 * found.texts.total() > 700
    assert found.spans["equal"] + found.spans["argued"] >= 0.95 * judged > 200
    assert not [line for line in found.lines if line.startswith("DIFFERENT")]


@pytest.mark.parametrize("name", ["qwen3", "phi3", "glm4moe"])
def test_a_few_templates(name: str) -> None:
    found = spans.check([name])
    assert found.texts == {True: len(SHAPES)} or found.texts[False] == 0
    assert set(found.spans) <= {"equal", "argued", "lost by the template"}
    assert found.spans["equal"] + found.spans["argued"] >= 5


def case(ours: list[str], theirs: list[str], source: str = "", text: str | None = None) -> spans.Case:
    """`text`: by default it holds the last turn's thought, and not the first one's."""
    tokenizer = train_bpe(["a b "], 259, special_tokens=["</s>", "<|end|>", "<|call|>"])
    if text is None:
        text = SHAPES["reasoning in two rounds"].messages[-1]["reasoning_content"]
    return spans.Case(tokenizer, source, SHAPES["reasoning in two rounds"], text, ours, theirs)


@pytest.mark.parametrize(
    ("ours", "theirs", "silent", "rules"),
    [
        (["a<|end|>"], ["a<|end|>"], 0, ()),
        (["a<|end|>"], ["a<|end|>\n</s>"], 0, ("after the stop",)),
        (["a<|end|>"], ["<think>\n\n</think>\n\na<|end|>\n"], 0, ("empty thought", "after the stop")),
        (["b<|end|>"], ["<think>x</think>a<|end|>", "b<|end|>"], 1, ("dropped reasoning",)),
        (["a<|call|>"], ["a"], 0, ("the stop itself",)),
        (["a<|end|>"], ["a<|end|>b"], 0, None),
        (["a"], ["a<|end|>"], 0, None),
        (["ab<|end|>"], ["b<|end|>"], 0, None),
        (["b<|end|>"], ["ab<|end|>"], 0, None),
        (["a<|end|>"], ["a<|end|>", "b<|end|>"], 0, None),
        (["a b"], ["a"], 0, None),
        ([], ["a<|end|>", "b<|end|>"], 1, None),
        (["c<|end|>"], ["a<|end|>", "b<|end|>", "c<|end|>"], 1, None),
    ],
)
def test_rules(ours: list[str], theirs: list[str], silent: int, rules: tuple[str, ...] | None) -> None:
    assert spans.judge(case(ours, theirs), silent) == rules


def test_what_the_prompt_holds_is_argued_and_nothing_more() -> None:
    source = (
        "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}{{ '[A]<think>' }}{% endif %}"
    )
    assert spans.judge(case(["x"], ["[A]x"], source), 0) == ("in the prompt",)
    assert spans.judge(case(["x"], ["[B]x"], source), 0) is None


def test_a_turn_is_left_out_for_its_thought_only_where_the_text_lacks_it() -> None:
    thoughts = [m["reasoning_content"] for m in SHAPES["reasoning in two rounds"].messages if "reasoning_content" in m]
    assert spans.judge(case(["b<|end|>"], ["a<|end|>", "b<|end|>"], text=" ".join(thoughts)), 1) is None
