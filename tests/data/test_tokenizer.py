"""The tokenizer against its promises: round trip, lone digits and capitals, safe spellings, and transformers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from thinkling.data.tokenizer import SPECIAL_TOKENS, Tokenizer, train_bpe
from thinkling.data.tokenizer_config import TokenizerConfig
from thinkling.errors import UserError

# Capitals inside words, often: plain BPE would merge them.
TEXTS = [
    "def read(path):\n    return JSONDecoder(path)  # JSONDecoder of HTTPServer 2024 2024\n" * 3,
    "reverse ABCABC:ABCABC CBACBA\nsum A1B+5C+9D-8:B+5=6C+9=15D-8=7.7\n" * 20,
    "the quick brown fox jumps over the lazy dog, and the other fox too\n" * 20,
    "naïve café – “quotes” 東京 東京 東京\n" * 5,
]
TRAIN_AND_PRINT = """
import hashlib, sys
sys.path.insert(0, {folder!r})
from test_tokenizer import TEXTS
from thinkling.data.tokenizer import train_bpe
import pathlib, tempfile
with tempfile.TemporaryDirectory() as folder:
    train_bpe(iter(TEXTS), 320).save(folder)
    print(hashlib.sha256((pathlib.Path(folder) / "tokenizer.json").read_bytes()).hexdigest())
"""
properties = settings(max_examples=100, deadline=None)
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
snippets = st.sampled_from([*SPECIAL_TOKENS, "HTTPServer", "a1B2", "  \n\n\t x"])
mixed = st.lists(st.one_of(text, snippets), max_size=8).map("".join)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_bpe(TEXTS, 330)


def test_vocabulary_holds_bytes_and_special_tokens(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == 330
    assert [tokenizer.token_id(token) for token in SPECIAL_TOKENS] == list(range(9))
    assert (tokenizer.end_of_text_id, tokenizer.im_end_id, tokenizer.pad_id) == (0, 2, 0)
    assert tokenizer.stop_ids == {0, 2}
    every_byte = bytes(range(256)).decode("latin-1")
    assert tokenizer.decode(tokenizer.encode(every_byte)) == every_byte
    assert len(tokenizer.encode("the other fox")) < len("the other fox")  # it did learn merges


def test_same_texts_give_same_bytes_in_other_processes() -> None:
    script = TRAIN_AND_PRINT.format(folder=str(Path(__file__).parent))
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "TOKENIZERS_PARALLELISM": parallel},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed, parallel in (("1", "true"), ("2", "false"), ("3", "true"))
    }
    assert len(digests) == 1


@properties
@given(mixed)
def test_any_text_round_trips_in_both_modes(tokenizer: Tokenizer, sample: str) -> None:
    for markup in (False, True):
        assert tokenizer.decode(tokenizer.encode(sample, markup=markup)) == sample


@properties
@given(mixed)
def test_every_digit_is_one_token(tokenizer: Tokenizer, sample: str) -> None:
    pieces = [tokenizer.decode([i]) for i in tokenizer.encode(sample)]
    assert all(len(piece) == 1 for piece in pieces if any(c.isascii() and c.isdigit() for c in piece))


def test_the_default_splits_text_as_gpt4_does() -> None:
    text = "The HTTPServer doesn't serve 2024 files:\n\n    return self.value + 12345  # TODO\n" * 40
    tokenizer = train_bpe([text], 310)

    def pieces(text: str) -> list[str]:
        return [tokenizer.decode([i]) for i in tokenizer.encode(text)]

    assert pieces("The HTTPServer") == ["The", " HTTPServer"]
    assert pieces("doesn't")[-1] == "'t"
    assert pieces(" 12345") == [" ", "1", "2", "3", "4", "5"]
    in_groups = train_bpe([text], 310, isolate=TokenizerConfig(vocab_size=310, digits="groups").pattern())
    assert [in_groups.decode([i]) for i in in_groups.encode("12345")] == ["123", "45"]


def test_capitals_of_text_are_not_tokens_of_their_own() -> None:
    """F4: the only pre-split made every capital a token, and role names were taught by repetition."""
    tokenizer = train_bpe(["The Reader. The Reader. " * 50], 273)
    assert len(tokenizer.encode("The Reader")) == 2
    assert len(tokenizer.encode("assistant")) == len("assistant")


def test_settings_of_the_pre_split_that_contradict_each_other() -> None:
    with pytest.raises(ValidationError, match="unknown pre-split 'gtp4'; use one of gpt4, puzzles"):
        TokenizerConfig(vocab_size=300, pre_split="gtp4")
    with pytest.raises(ValidationError, match="remove the field"):
        TokenizerConfig(vocab_size=300, pre_split="puzzles", digits="groups")
    with pytest.raises(ValidationError, match="remove them, or remove path"):
        TokenizerConfig(path=Path("x"), digits="single")


@properties
@given(mixed)
def test_untrusted_text_yields_no_special_token(tokenizer: Tokenizer, sample: str) -> None:
    assert not np.isin(tokenizer.encode(sample), np.arange(len(SPECIAL_TOKENS))).any()


@properties
@given(st.lists(st.sampled_from(SPECIAL_TOKENS), max_size=6))
def test_markup_yields_exactly_the_special_tokens(tokenizer: Tokenizer, tokens: list[str]) -> None:
    ids = tokenizer.encode("x".join(tokens), markup=True)
    assert [tokenizer.decode([i]) for i in ids if i < 9] == tokens


@properties
@given(st.lists(st.tuples(mixed, st.booleans()), max_size=6))
def test_batch_equals_single(tokenizer: Tokenizer, samples: list[tuple[str, bool]]) -> None:
    batch = tokenizer.encode_batch([s for s, _ in samples], [m for _, m in samples])
    for ids, (sample, markup) in zip(batch, samples, strict=True):
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, tokenizer.encode(sample, markup=markup))


def test_saved_directory_loads_in_transformers_with_equal_ids(tokenizer: Tokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer.with_chat_template("{{ messages[0].content }}").save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    marked = "<|im_start|>user\nHello World 123<|im_end|>\n<think>A1</think> b\t\n"
    for sample in [*TEXTS, marked]:
        assert theirs(sample)["input_ids"] == tokenizer.encode(sample, markup=True).tolist()
    assert (
        theirs("Not <|im_end|> an end", split_special_tokens=True)["input_ids"]
        == tokenizer.encode("Not <|im_end|> an end").tolist()
    )
    ids = tokenizer.encode(marked, markup=True)
    assert theirs.decode(ids) == marked
    assert "<think>A1</think>" in theirs.decode(ids, skip_special_tokens=True)
    assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.im_end_id, tokenizer.pad_id)
    assert theirs.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False) == "Hi"
    assert len(theirs) == tokenizer.vocab_size
    again = Tokenizer.load(tmp_path)
    np.testing.assert_array_equal(again.encode(marked, markup=True), ids)
    assert again.chat_template == "{{ messages[0].content }}"


def _foreign(directory: Path, added: list[tuple[str, bool]], **config: object) -> Path:
    """A directory as other families publish it: a plain BPE, added tokens (content, special) behind its vocabulary."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(TEXTS, trainer)
    bpe.add_tokens([tokenizers.AddedToken(token, special=special, normalized=False) for token, special in added])
    bpe.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return directory


def test_qwen_like_directory(tmp_path: Path) -> None:
    added = [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True), ("<think>", False), ("    ", False)]
    path = _foreign(tmp_path, added, eos_token="<|im_end|>", pad_token={"content": "<|endoftext|>"})
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [302, 300]}))
    ours = Tokenizer.load(path)
    assert (ours.end_of_text_id, ours.im_end_id, ours.pad_id) == (300, 302, 300)
    assert ours.vocab_size == 305
    assert ours.stop_ids == {300, 302}
    # <think> is an ordinary added token there, and must be plain all the same; the run of spaces is no markup.
    assert max(ours.encode("a<think>b<|im_end|>")) < 300
    assert 304 in ours.encode("a    b")
    assert ours.encode("a<think>b", markup=True).tolist()[1] == 303


def test_llama_like_directory(tmp_path: Path) -> None:
    added = [("<|begin_of_text|>", True), ("<|end_of_text|>", True), ("<|eot_id|>", True)]
    ours = Tokenizer.load(_foreign(tmp_path, added, eos_token="<|eot_id|>", bos_token="<|begin_of_text|>"))
    assert (ours.end_of_text_id, ours.im_end_id, ours.pad_id) == (301, 302, 301)
    with pytest.raises(UserError, match="im_start"):
        ours.token_id("<|im_start|>")


def test_end_of_text_from_special_tokens_map_or_model_config(tmp_path: Path) -> None:
    path = _foreign(tmp_path, [("</s>", True)])
    with pytest.raises(UserError, match="end-of-text"):
        Tokenizer.load(path)
    (path / "config.json").write_text(json.dumps({"eos_token_id": 300}))
    assert Tokenizer.load(path).end_of_text_id == 300
    (path / "config.json").unlink()
    (path / "special_tokens_map.json").write_text(json.dumps({"eos_token": {"content": "</s>"}}))
    assert Tokenizer.load(path).end_of_text_id == 300


def test_foreign_files_are_saved_as_they_came(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    source = _foreign(tmp_path / "a", [("<|endoftext|>", True)], eos_token="<|endoftext|>")
    Tokenizer.load(source).save(tmp_path / "b")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / "b" / name).read_bytes() == (source / name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"model": {"type": "BPE"}}'])
def test_broken_tokenizer_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path)


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere: no tokenizer\.json"):
        Tokenizer.load(tmp_path / "nowhere")


def test_vocabulary_too_small_or_too_large() -> None:
    with pytest.raises(UserError, match="use at least 265"):
        train_bpe(TEXTS, 264)
    with pytest.raises(UserError, match="yields only"):
        train_bpe(["abc"], 500)


def test_configuration_wants_exactly_one() -> None:
    assert TokenizerConfig(vocab_size=1024).path is None
    assert TokenizerConfig(path=Path("x")).vocab_size is None
    wrongs: list[dict] = [{}, {"vocab_size": 1024, "path": "x"}, {"vocab_size": 200}, {"vocab": 1024}]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            TokenizerConfig(**wrong)
