"""Conversations that are too long: dropped, cut at a turn, or an error; never cut inside a turn with loss."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stages.sft.chats import chat, make_config
from thinkling.data.chat_template import EncodedChat
from thinkling.data.conversations import Conversation, is_trained_on
from thinkling.errors import UserError
from thinkling.generate.renderer import Renderer
from thinkling.stages.sft.fitting import encoder, fit, truncated

turn = st.tuples(st.sampled_from(["user", "assistant", "assistant, no loss"]), st.integers(1, 9))


def plain(conversation: Conversation) -> EncodedChat:
    """A template that writes each turn alone: a token for the role and one per character."""
    ids, loss = [], []
    for message in conversation.messages:
        ids += [-1, *map(ord, message["content"])]
        loss += [False] + [is_trained_on(message)] * len(message["content"])
    return EncodedChat(np.array(ids, dtype=np.int32), np.array(loss, dtype=bool))


def forgetful(conversation: Conversation) -> EncodedChat:
    """One that writes reasoning, as long as the content, in the last turn alone."""
    messages = [{**m} for m in conversation.messages]
    if messages[-1]["role"] == "assistant":
        messages[-1]["content"] *= 3
    return plain(replace(conversation, messages=messages))


def made(turns: list[tuple[str, int]]) -> Conversation:
    messages = [
        {"role": role.partition(",")[0], "content": "x" * n, **({"loss": False} if "no loss" in role else {})}
        for role, n in turns
    ]
    return Conversation("c", messages, "s")


@settings(max_examples=300, deadline=None)
@given(st.lists(turn, min_size=1, max_size=12), st.integers(1, 60), st.sampled_from([plain, forgetful]))
def test_a_start_that_fits_is_whole_turns_and_the_last_is_trained_on(turns, limit: int, encode) -> None:
    whole = made(turns)
    found = truncated(whole, encode, limit)
    starts = [replace(whole, messages=whole.messages[:n]) for n in range(1, len(turns))]
    ending = [start for start in starts if is_trained_on(start.messages[-1])]
    fitting = [start for start in ending if len(encode(start).ids) <= limit]
    if found is None:
        assert not fitting
        return
    assert found.conversation in fitting
    assert found.outcome == "overlong_truncated"
    encoded = encode(found.conversation)
    assert found.ids.tolist() == encoded.ids.tolist()
    assert found.loss.tolist() == encoded.loss.tolist()
    assert found.loss[-1]
    following = ending[ending.index(found.conversation) + 1 :]
    assert not following or following[0] not in fitting
    if encode is plain:
        assert found.conversation == fitting[-1], "with a plain template the longest start is found"


@pytest.mark.parametrize(("overlong", "outcome"), [("drop", "overlong_dropped"), ("truncate", "overlong_truncated")])
def test_overlong_with_our_template(renderer: Renderer, overlong: str, outcome: str) -> None:
    encode, whole = encoder(renderer), chat("c", rounds=4, words=3)
    limit = len(encode(replace(whole, messages=whole.messages[:4])).ids)
    fitted = fit(whole, encode, make_config(overlong=overlong, sequence_length=limit))
    assert (fitted.outcome, fitted.is_kept) == (outcome, overlong == "truncate")
    if fitted.is_kept:
        assert len(fitted.conversation.messages) == 4
        text = renderer.tokenizer.decode(fitted.ids[fitted.loss])
        assert text.count("<|im_end|>") == 1, "the round before, whose reasoning is dropped, carries no loss"
        assert text.endswith("1 1 1<|im_end|>")
        assert "<think>\nx\n</think>" in text, "the last round kept is written as the last round"


def test_overlong_error_names_the_conversation(renderer: Renderer) -> None:
    with pytest.raises(UserError, match=r"'c' of chats has \d+ tokens, more than sequence_length 16; raise"):
        fit(chat("c"), encoder(renderer), make_config(overlong="error", sequence_length=16))


def test_what_fits_stays_as_it_is(renderer: Renderer) -> None:
    whole = chat("c", rounds=2)
    fitted = fit(whole, encoder(renderer), make_config(overlong="error", sequence_length=64))
    ids, loss = renderer.encode(whole.messages)
    assert (fitted.outcome, fitted.conversation) == ("kept", whole)
    np.testing.assert_array_equal(fitted.ids, ids)
    np.testing.assert_array_equal(fitted.loss, loss)


def test_without_a_token_that_carries_loss(renderer: Renderer) -> None:
    assert fit(chat("c", silent=True), encoder(renderer), make_config()).outcome == "without_loss"


def test_tools_are_announced(renderer: Renderer) -> None:
    tool = {"type": "function", "function": {"name": "weigh", "parameters": {}}}
    encoded = encoder(renderer)(replace(chat("c"), tools=[tool]))
    assert "weigh" in renderer.tokenizer.decode(encoded.ids)


def test_a_conversation_that_cannot_be_encoded_is_named(renderer: Renderer) -> None:
    wrong = Conversation("c7", [{"role": "user", "content": "x", "nickname": "y"}], "chats")
    with pytest.raises(UserError, match=r"conversation 'c7' of chats: .*nickname"):
        encoder(renderer)(wrong)


def test_a_conversation_that_cannot_be_rendered_is_left_out_where_asked_for(renderer: Renderer) -> None:
    wrong = Conversation("c7", [{"role": "user", "content": "x", "nickname": "y"}], "chats")
    with pytest.raises(UserError, match="nickname"):
        fit(wrong, encoder(renderer), make_config())
    fitted = fit(wrong, encoder(renderer), make_config(unrenderable="drop"))
    assert (fitted.outcome, fitted.is_kept, len(fitted.ids)) == ("unrenderable", False, 0)
    assert "nickname" in fitted.detail


def test_turns_whose_reasoning_the_template_drops_are_counted(renderer: Renderer) -> None:
    assert fit(chat("c", rounds=3), encoder(renderer), make_config()).turns_without_loss == 2
