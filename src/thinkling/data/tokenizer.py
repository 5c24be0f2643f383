"""Trains byte-level BPE tokenizers, and loads any Hugging Face tokenizer directory.

Untrusted text may contain the spelling of a special token (`<|im_end|>`, `<think>`). With `markup=False`, the default,
the spelling is encoded as plain characters, so that no web page can close a turn. With `markup=True`, it is encoded as
the special token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from thinkling.data.atomic import replacing
from thinkling.data.pre_split import gpt4
from thinkling.errors import UserError

END_OF_TEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = [
    END_OF_TEXT,
    IM_START,
    IM_END,
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
]

# As in Qwen3, transformers' decode(skip_special_tokens=True) keeps these tokens, so that reasoning stays visible.
_KEPT_IN_TEXT = frozenset(SPECIAL_TOKENS[3:])
# Tokens with which model families end a document and a turn. The first token found in the vocabulary is used.
_END_OF_TEXT_NAMES = (END_OF_TEXT, "<|end_of_text|>", "<｜end▁of▁sentence｜>")
_END_OF_TURN_NAMES = (IM_END, "<|eot_id|>", "<end_of_turn>", "<|end|>")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
)


class Tokenizer:
    """Converts text to token ids and back.

    `files` contains the files of the tokenizer's directory by name, as bytes. `save` writes them unchanged.
    """

    def __init__(self, files: dict[str, bytes], origin: str = "tokenizer", eos_ids: Sequence[int] = ()) -> None:
        self._files = dict(files)
        self._origin = origin
        self._eos_ids = tuple(eos_ids)
        spec = _parse_json(files["tokenizer.json"], f"{origin}/tokenizer.json")
        self._config = _parse_json(files.get("tokenizer_config.json", b"{}"), f"{origin}/tokenizer_config.json")
        self._named = _parse_json(files.get("special_tokens_map.json", b"{}"), f"{origin}/special_tokens_map.json")
        self._marked = _build(spec, f"{origin}/tokenizer.json")
        # Mark all added tokens as special, because encode_special_tokens affects only special tokens, and Qwen3 adds
        # <think> as an ordinary token. Added runs of white space (GPT-NeoX) are not markup and are not changed.
        for token in spec.get("added_tokens") or []:
            token["special"] = token["special"] or not token["content"].isspace()
        self._plain = _build(spec, f"{origin}/tokenizer.json")
        self._plain.encode_special_tokens = True
        self.vocab_size: int = max(self._marked.get_vocab(with_added_tokens=True).values()) + 1
        self.end_of_text_id: int = self._find_end_of_text()

    @classmethod
    def load(cls, directory: str | Path) -> Tokenizer:
        """Loads a tokenizer from a directory with a tokenizer.json.

        Raises UserError if the file is missing or the tokenizer has no end-of-text token.
        """
        directory = Path(directory)
        files = {name: (directory / name).read_bytes() for name in _TOKENIZER_FILES if (directory / name).is_file()}
        if "tokenizer.json" not in files:
            raise UserError(
                f"{directory}: no tokenizer.json; create it with transformers: "
                "AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        eos_ids: list[int] = []
        for name in ("generation_config.json", "config.json"):
            if (directory / name).is_file():
                found = _parse_json((directory / name).read_bytes(), f"{directory}/{name}").get("eos_token_id")
                eos_ids += found if isinstance(found, list) else [] if found is None else [found]
        return cls(files, str(directory), list(dict.fromkeys(eos_ids)))

    def save(self, directory: str | Path) -> None:
        """Writes the tokenizer's files, which transformers.AutoTokenizer and `load` can read."""
        directory = Path(directory)
        for name, content in self._files.items():
            with replacing(directory / name) as temporary:
                temporary.write_bytes(content)

    def encode(self, text: str, markup: bool = False) -> np.ndarray:
        """Returns the token ids of a text, int32 (T,), without adding tokens at the start or end."""
        encoder = self._marked if markup else self._plain
        return np.array(encoder.encode(text, add_special_tokens=False).ids, dtype=np.int32)

    def encode_batch(self, texts: Sequence[str], markup: bool | Sequence[bool] = False) -> list[np.ndarray]:
        """Encodes each text as `encode` does, in parallel threads (unless TOKENIZERS_PARALLELISM=false)."""
        flags = [markup] * len(texts) if isinstance(markup, bool) else list(markup)
        ids: list[np.ndarray] = [np.empty(0, dtype=np.int32)] * len(texts)
        for encoder, wanted in ((self._plain, False), (self._marked, True)):
            chosen = [i for i, flag in enumerate(flags) if bool(flag) is wanted]
            encoded = encoder.encode_batch_fast([texts[i] for i in chosen], add_special_tokens=False)
            for i, encoding in zip(chosen, encoded, strict=True):
                ids[i] = np.array(encoding.ids, dtype=np.int32)
        return ids

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """Returns the text of the ids.

        Invalid UTF-8 is replaced by U+FFFD. Ids without a token, as in a padded vocabulary, are skipped.
        """
        return self._marked.decode([int(i) for i in ids], skip_special_tokens=skip_special)

    def token_id(self, token: str) -> int:
        """Returns the id of the token with this spelling. Raises UserError if the vocabulary has no such token."""
        found = self._marked.token_to_id(token)
        if found is None:
            raise UserError(f"{self._origin}: the tokenizer has no token {token!r}; correct tokenizer_config.json")
        return found

    def has_token(self, token: str) -> bool:
        """Returns whether the vocabulary contains a token with this spelling."""
        return self._marked.token_to_id(token) is not None

    @cached_property
    def im_end_id(self) -> int:
        """Id of the end-of-turn token: `<|im_end|>`, or the corresponding token of the model family."""
        for name in _END_OF_TURN_NAMES:
            if self.has_token(name):
                return self.token_id(name)
        eos = self._named_token("eos_token")
        if eos is None:
            raise UserError(f"{self._origin}: no end-of-turn token; set eos_token in tokenizer_config.json")
        return self.token_id(eos)

    @property
    def eos_token(self) -> str:
        """Spelling of the eos_token in the configuration, or of the end-of-text token if no eos_token is set."""
        return self._named_token("eos_token") or self.decode([self.end_of_text_id])

    @cached_property
    def first_token(self) -> str:
        """Token that the tokenizer itself prepends to a text, such as `<s>`; empty if it prepends no token."""
        with_it = self._marked.encode("a", add_special_tokens=True).ids
        alone = self._marked.encode("a", add_special_tokens=False).ids
        bos = self._named_token("bos_token")
        begins = bos is not None and len(with_it) > len(alone) and with_it[0] == self._marked.token_to_id(bos)
        return bos if begins and bos is not None else ""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """Ids of the tokens that end a generation according to generation_config.json and config.json."""
        return self._eos_ids

    @cached_property
    def pad_id(self) -> int:
        """Id of the padding token: the configuration's pad_token, or the end-of-text token if it is not set."""
        pad = self._named_token("pad_token")
        return self.end_of_text_id if pad is None else self.token_id(pad)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids of the tokens at which generation ends: end of text, end of turn, and `eos_ids`."""
        return frozenset((self.end_of_text_id, self.im_end_id, *self._eos_ids))

    @property
    def chat_template(self) -> str | None:
        """Jinja chat template of the tokenizer's directory, or None."""
        if "chat_template.jinja" in self._files:
            return self._files["chat_template.jinja"].decode()
        template = self._config.get("chat_template")
        if isinstance(template, list):
            template = next((entry["template"] for entry in template if entry.get("name") == "default"), None)
        return template

    def with_chat_template(self, template: str) -> Tokenizer:
        """Returns the tokenizer with this chat template, which `save` writes to chat_template.jinja."""
        return Tokenizer({**self._files, "chat_template.jinja": template.encode()}, self._origin, self._eos_ids)

    def _named_token(self, role: str) -> str | None:
        """Returns the special token with a role from tokenizer_config.json or special_tokens_map.json.

        In these files, a token is either a string or a dict.
        """
        for source in (self._config, self._named):
            token = source.get(role)
            if token is not None:
                return token["content"] if isinstance(token, dict) else token
        return None

    def _find_end_of_text(self) -> int:
        for name in _END_OF_TEXT_NAMES:
            if self.has_token(name):
                return self.token_id(name)
        eos = self._named_token("eos_token")
        if eos is not None:
            return self.token_id(eos)
        if self._eos_ids:
            return self._eos_ids[0]
        raise UserError(f"{self._origin}: no end-of-text token; set eos_token in tokenizer_config.json")


def train_bpe(
    texts: Iterable[str],
    vocab_size: int,
    special_tokens: Sequence[str] = SPECIAL_TOKENS,
    isolate: str | None = None,
    chat_template: str | None = None,
) -> Tokenizer:
    """Trains byte-level BPE with all 256 bytes in the vocabulary, so that any text can be encoded and decoded exactly.

    `isolate` is a pattern whose matches are pieces that no token crosses (pre_split.py); if None, GPT-4's pattern with
    single digits is used. The same texts in the same order result in identical files. Raises UserError if `vocab_size`
    is too small for the bytes and special tokens, or too large for the text.
    """
    least = 256 + len(special_tokens)
    if vocab_size < least:
        raise UserError(
            f"tokenizer.vocab_size: {vocab_size} is too small; use at least {least} (256 bytes and the special tokens)"
        )
    bpe = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(isolate or gpt4(None)), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(special_tokens),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    if bpe.get_vocab_size() != vocab_size:
        raise UserError(
            f"tokenizer.vocab_size: {vocab_size} tokens were requested, but the text yields only "
            f"{bpe.get_vocab_size()}; lower vocab_size or add text"
        )
    spec = json.loads(bpe.to_str())
    for token in spec["added_tokens"]:
        token["special"] = token["content"] not in _KEPT_IN_TEXT
    files = {"tokenizer.json": _json_bytes(spec), "tokenizer_config.json": _json_bytes(_configuration(special_tokens))}
    if chat_template is not None:
        files["chat_template.jinja"] = chat_template.encode()
    return Tokenizer(files, "trained tokenizer")


def _configuration(special_tokens: Sequence[str]) -> dict:
    """Returns the contents of tokenizer_config.json, from which AutoTokenizer reads the class and special tokens."""
    end_of_text = END_OF_TEXT if END_OF_TEXT in special_tokens else special_tokens[0]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": IM_END if IM_END in special_tokens else end_of_text,
        "pad_token": end_of_text,
        "unk_token": None,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
    }


def _build(spec: dict, origin: str) -> tokenizers.Tokenizer:
    try:
        built = tokenizers.Tokenizer.from_str(json.dumps(spec))
    except Exception as error:  # the library, written in Rust, raises plain Exception
        raise UserError(f"{origin}: cannot be loaded by the tokenizers library ({error}); replace the file") from error
    built.no_truncation()
    built.no_padding()
    return built


def _parse_json(content: bytes, origin: str) -> dict:
    try:
        parsed = json.loads(content)
    except ValueError as error:
        raise UserError(f"{origin}: not valid JSON ({error}); correct or replace the file") from error
    if not isinstance(parsed, dict):
        raise UserError(f"{origin}: not a JSON object; correct or replace the file")
    return parsed


def _json_bytes(value: dict) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()
