"""One sample per round."""

from thinkling.data.chat_template import OURS, encode_chat
from thinkling.data.rounds import rounds
from thinkling.data.tokenizer import train_bpe


def said(content: str, reasoning: str | None = None) -> dict:
    return {"role": "assistant", "content": content, **({"reasoning_content": reasoning} if reasoning else {})}


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def test_every_thought_is_trained_on_once() -> None:
    messages = [user("p"), said("1", "one"), user("q"), said("", "two"), {"role": "tool", "content": "r"}, said("2")]
    messages = [{"role": "system", "content": "s"}, *messages, user("t"), said("3", "three")]
    found = rounds(messages)
    assert [len(sample) for sample in found] == [3, 7, 9]
    assert [[m.get("loss") for m in sample if m["role"] == "assistant"] for sample in found] == [
        [None],
        [False, None, None],
        [False, False, False, None],
    ]
    tokenizer = train_bpe(["a b "], 265)
    trained = ""
    for sample in found:
        encoded = encode_chat(OURS, sample, tokenizer)
        trained += tokenizer.decode(encoded.ids[encoded.loss])
    for text in ("one", "two", "three", "\n\n1<|im_end|>", "2<|im_end|>", "\n\n3<|im_end|>"):
        assert trained.count(text) == 1
    assert messages[2] == said("1", "one")


def test_a_conversation_that_loses_nothing_stays_whole() -> None:
    for messages in ([user("p"), said("1"), user("q"), said("2", "two")], [user("p"), said("1", "one")], [user("p")]):
        assert rounds(messages) == [messages]


def test_a_round_without_a_turn_to_train_on_gives_no_sample() -> None:
    messages = [user("p"), {**said("1", "one"), "loss": False}, user("q"), said("2", "two")]
    assert [len(sample) for sample in rounds(messages)] == [4]
