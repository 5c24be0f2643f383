"""Text of tokens with and without loss."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers

from tests.data.chats import conversations, trusted
from tests.stages.sft.chats import chat, make_config
from thinkling.data.chat_template import OURS
from thinkling.data.tokenizer import Tokenizer, train_bpe
from thinkling.generate.renderer import Renderer
from thinkling.stages.sft.fitting import encoder, fit
from thinkling.stages.sft.spans import N_SAMPLES, SpansSample, pieces, segments

TOKENIZER = train_bpe(["say 0 1 2 3 " * 20], 268)


@settings(max_examples=60, deadline=None)
@given(conversations(trusted))
def test_segments_add_up_to_the_conversation(messages) -> None:
    ids, loss = Renderer(TOKENIZER, OURS).encode(messages)
    found = segments(TOKENIZER, ids.tolist(), loss.tolist())
    assert "".join(part["text"] for part in found) == TOKENIZER.decode(ids)
    assert [part["loss"] for part in found] == [bool(i % 2) for i in range(len(found))]
    assert "".join(part["text"] for part in found if part["loss"]) == TOKENIZER.decode(ids[loss])


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_characters_of_several_tokens_are_one_piece(text: str) -> None:
    ids = TOKENIZER.encode(text).tolist()
    found = list(pieces(TOKENIZER, ids, [False] * len(ids)))
    assert "".join(piece.text for piece in found) == text


def test_spaces_that_a_tokenizer_drops_at_the_start_of_a_text_are_kept() -> None:
    """As SentencePiece's decoder does."""
    words = {"[UNK]": 0, "\u2581say": 1, "\u25811": 2, "\u2581one": 3, "<|endoftext|>": 4}
    built = tokenizers.Tokenizer(models.WordLevel(words, "[UNK]"))
    built.pre_tokenizer, built.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    built.add_special_tokens(["<|endoftext|>"])
    config = json.dumps({"eos_token": "<|endoftext|>"}).encode()
    tokenizer = Tokenizer({"tokenizer.json": built.to_str().encode(), "tokenizer_config.json": config}, "made")
    ids = tokenizer.encode("say one 1").tolist()
    found = segments(tokenizer, ids, [False, True, False])
    assert [part["text"] for part in found] == ["say", " one", " 1"]


def test_bytes_that_are_no_text_are_shown(renderer: Renderer) -> None:
    ids = TOKENIZER.encode("é").tolist()[:1] * 9
    assert "".join(piece.text for piece in pieces(TOKENIZER, ids, [True] * 9)) == "\ufffd" * 9


def test_the_sample_has_the_first_of_each_source_and_is_the_same_each_time(tmp_path: Path, renderer: Renderer) -> None:
    encode, config = encoder(renderer), make_config()
    kept = [(origin, fit(chat(f"{origin}{i}"), encode, config)) for origin in "ab" for i in range(50)]
    lines = []
    for run in range(2):
        sample = SpansSample(renderer.tokenizer, 3)
        for origin, fitted in kept:
            sample.offer(origin, fitted)
        (tmp_path / str(run)).mkdir()
        sample.write(tmp_path / str(run))
        lines.append((tmp_path / str(run) / "spans.jsonl").read_text().splitlines())
    assert lines[0] == lines[1]
    found = [json.loads(line) for line in lines[0]]
    ids = [line["id"] for line in found]
    assert len(ids) == len(set(ids)) == N_SAMPLES
    assert {"a0", "b0"} < set(ids)
    assert ids == sorted(ids, key=[fitted.conversation.id for _, fitted in kept].index)
    first = found[0]
    assert (first["source"], first["truncated"]) == ("a", False)
    assert first["segments"][1] == {"text": "<think>\nx\n</think>\n\n0<|im_end|>", "loss": True}
    assert first["loss_tokens"] == int(np.count_nonzero(kept[0][1].loss))


def test_fewer_than_the_sample_takes(tmp_path: Path, renderer: Renderer) -> None:
    fitted = fit(chat("c", words=9), encoder(renderer), make_config())
    sample = SpansSample(renderer.tokenizer, 0)
    sample.offer("a", replace(fitted, outcome="overlong_truncated"))
    sample.write(tmp_path)
    (line,) = (tmp_path / "spans.jsonl").read_text().splitlines()
    assert json.loads(line)["truncated"] is True
