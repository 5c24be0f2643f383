"""Fuzzing targets: each has a corpus, words, and a check that raises for anything undocumented.

Documented outcomes are UserError, a record's error (BadRecord, RawRecord.error), ValueError of a reply, and a verdict.
"""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.own_data.chat_shapes import SHAPES
from benchmarks.strangers import fuzz_inputs
from benchmarks.strangers.answer_rows import TABLE
from benchmarks.strangers.fuzz_inputs import Input, as_bytes
from thinkling.data import json_files, readers
from thinkling.data.chat_forms import detect
from thinkling.data.chat_forms.normal import BadRecord
from thinkling.data.chat_template import ChatTemplate, encode_chat, encode_prompt
from thinkling.data.chatml import CHATML
from thinkling.data.conversations import checked
from thinkling.data.reading import Reading
from thinkling.data.tokenizer import SPECIAL_TOKENS, Tokenizer, train_bpe
from thinkling.errors import UserError
from thinkling.generate.call_formats import FORMATS
from thinkling.generate.renderer import Renderer
from thinkling.generate.served_reply import read_answer
from thinkling.pipeline.recipe import load_recipe
from thinkling.tasks.problem import Problem
from thinkling.verify import maths, pool, program
from thinkling.verify.verdict import Outcome

ROOT = Path(__file__).resolve().parents[2]
RECIPES = ("nano", "tiny", "sft", "rl-gsm8k", "posttrain", "nanbeige4-3b")


@dataclass(frozen=True)
class Target:
    """`check` raises for a crash. `words`: strings that mutation inserts."""

    corpus: Sequence[Input]
    words: Sequence[str]
    check: Callable[[Input], None]


class _Undecided:
    """Replaces the pool, which the target `algebra` covers: pairs that the rules do not decide stay undecided."""

    def compare_many(self, requests: Sequence[pool.Request]) -> list[pool.Reply]:
        return [pool.Reply("undecided") for _ in requests]


class _Written:
    def __init__(self, tokens: Sequence[int]) -> None:
        self.tokens, self.forced = tokens, [False] * len(tokens)


def answers(pooled: bool = False) -> Target:
    """Reference, question and reply through the maths verifier with both extraction rules; `pooled`: with algebra."""
    rows = [json.loads(line) for line in TABLE.read_text(encoding="utf-8").splitlines()]
    corpus = [(row["reference"], row.get("question", ""), row["reply"]) for row in rows if "reply" in row]
    shared = pool.Pool(workers=1) if pooled else cast("pool.Pool", _Undecided())
    verifiers = [maths.MathsVerifier(last, shared) for last in ((False,) if pooled else (False, True))]

    def check(parts: Input) -> None:
        reference, question, reply = parts
        for verifier in verifiers:
            verdict = verifier(Problem("p", "fuzz", question, reference, "", "maths"), Reading.of(reply))
            if verdict.outcome is Outcome.ERROR:
                raise RuntimeError(verdict.detail)

    return Target(corpus, fuzz_inputs.COMMON + fuzz_inputs.MATHS, check)


def replies() -> Target:
    """A completion: as program text, as tokens of a model, as a turn in every call format, and as the body of a
    server's response."""
    code = "def f(x):\n    return '<think>' + x\n"
    calls = ['<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>', '[TOOL_CALLS]f[ARGS]{"a": [1]}']
    texts = [
        *(f"Here it is:\n```python\n{code}```\nUse it.", f"~~~\n{code}~~~", "1. x\n   ```py\r\n   x = 1\r\n   ```"),
        *("<think>\nhm\n</think>\n\n4<|im_end|>", "<think>cut", "hm</think>4", *calls, "\n".join(["say", *calls])),
        *('<|python_tag|>{"name": "f", "parameters": {"a": 1}}', '{"type": "function", "name": "f", "parameters": {}}'),
    ]
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "why"}]}, {"type": "text", "text": "4"}]
    messages = [
        *({"content": text} for text in texts),
        {"content": parts},
        {"content": None, "refusal": "No."},
        {"content": "4", "reasoning_content": "2+2", "reasoning": [{"type": "reasoning", "summary": parts}]},
    ]
    bodies = [json.dumps({"choices": [{"message": one, "finish_reason": "stop"}]}) for one in messages]
    corpus = [(text, body) for text, body in zip(texts + texts, bodies + bodies, strict=False)]
    renderer = Renderer(_tokenizer(), ChatTemplate(CHATML, "ours"))

    def check(parts: Input) -> None:
        text, body = parts
        text = text.encode("utf-8", "replace").decode()  # a tokenizer's text has no lone surrogates
        program.read_program(Reading.of(text))
        for markup in (True, False):
            reading = renderer.read(_Written(renderer.tokenizer.encode(text, markup).tolist()))
            assert reading.well_formed <= (reading.answer is not None)
        for one in FORMATS:
            one.take([(False, text)])
        try:
            reply = read_answer(json.loads(as_bytes(body)))
        except (ValueError, RecursionError):  # as in failures.post, which reads the body
            return
        (reply.text + reply.reasoning + reply.finish_reason).encode()

    return Target(corpus, fuzz_inputs.COMMON + fuzz_inputs.MARKUP, check)


def raw_files() -> Target:
    """Bytes as every type of file, and their records as every form of conversation."""
    chats = [{"messages": shape.messages, "tools": shape.tools} for shape in SHAPES.values()]
    records: list[dict[str, Any]] = [
        *chats,
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "<think>x</think>b"}]},
        {"instruction": "a", "input": "", "output": "b"},
        {"prompt": "a", "completion": "b"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
    ]
    lines = "\n".join(map(json.dumps, records[-4:]))
    corpus: list[Input] = [("jsonl", json.dumps(record)) for record in records]
    corpus += [("json", text) for text in (json.dumps(records[-4:]), json.dumps({"data": records[-3:]}), lines)]
    corpus += [("jsonl", lines), ("jsonl.gz", gzip.compress(lines.encode(), mtime=0).decode("latin-1")), ("txt", lines)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["a", "b"], "messages": [[{"role": "user", "content": "x"}], []]}), sink)
    corpus += [("parquet", sink.getvalue().to_pybytes().decode("latin-1"))] * 3
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    known = tuple(sorted({name for name, _ in corpus}))

    def check(parts: Input) -> None:
        kind = parts[0] if parts[0] in known else known[len(parts[0]) % len(known)]
        path = folder / f"x.{kind}"
        path.write_bytes(as_bytes(parts[1]))
        try:
            found = {
                "json": json_files.read_json,
                "parquet": readers.read_parquet,
                "txt": lambda one: readers.read_text_files([one]),
            }.get(kind, readers.read_jsonl)(path)
            for record in found:
                assert record.error or record.fields or not record.raw
                for read in detect.READERS.values():
                    _read_record(read, record.fields)
        except UserError:
            pass

    return Target(corpus, fuzz_inputs.COMMON + fuzz_inputs.MARKUP, check)


def _read_record(read: Callable[..., Any], fields: Any) -> None:
    for cut in (True, False):
        try:
            found = read(fields, cut)
        except BadRecord:
            continue
        checked(found.messages)


def recipes() -> Target:
    """Text of a recipe file: the project's recipes, and single stages of them."""
    whole = [(ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8") for name in RECIPES]
    small = "name: x\nmodel: {hidden_size: 64}\nsources: {a: {type: files, path: a.txt}}\nstages:\n  s: {kind: sft}\n"
    corpus: list[Input] = [(text,) for text in [whole[0], small]]
    for text in whole:
        head, _, stages = text.partition("\nstages:\n")
        for block in ("\n" + stages).split("\n\n"):
            corpus.append((f"name: x\nstages:\n{block.strip(chr(10))[:1500]}\n",))
        corpus.append((head[:1500] + "\nstages:\n  s: {kind: evaluate}\n",))
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))

    def check(parts: Input) -> None:
        path = folder / "recipe.yaml"
        path.write_bytes(as_bytes(parts[0]))
        try:
            load_recipe(path)
        except UserError as error:
            _has_words(error)

    return Target(corpus, fuzz_inputs.COMMON + fuzz_inputs.YAML, check)


def templates() -> Target:
    """A chat template, and messages and tools as JSON."""
    header = (
        "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    marked = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n{% generation %}{{ m.content }}"
        "<|im_end|>{% endgeneration %}{% else %}{{ '<|im_start|>' + m.role + '\n' + m.content }}<|im_end|>{% endif %}"
        "\n{% endfor %}"
    )
    splits = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% set c = m.content.split('</think>')[-1] %}"
        "<|im_start|>assistant\n{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}"
        "{{ c.lstrip('\n') }}<|im_end|>\n{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    chats = [json.dumps([shape.messages, shape.tools]) for shape in SHAPES.values()]
    corpus = [(source, chat) for source in (header, marked, splits, splits) for chat in chats]
    tokenizer = _tokenizer()

    def check(parts: Input) -> None:
        source, chat = parts
        try:
            messages, tools = json.loads(as_bytes(chat))
            source.encode()
            if not all(isinstance(one, dict) for one in [*messages, *tools]):
                return
        except (ValueError, TypeError, RecursionError):
            return
        template = ChatTemplate(source, "fuzzed", {"bos_token": "<|endoftext|>"})
        for run in (encode_chat, encode_prompt):
            try:
                run(template, checked(messages), tokenizer, tools)
            except UserError as error:
                _has_words(error)

    return Target(corpus, fuzz_inputs.COMMON + fuzz_inputs.JINJA + fuzz_inputs.MARKUP, check)


def _has_words(error: UserError) -> None:
    if not str(error).strip():
        raise RuntimeError("an error without a message") from error


def _tokenizer() -> Tokenizer:
    return train_bpe(
        ["user assistant system tool what is two and two 4 0 1 name arguments\n" * 40], 300, SPECIAL_TOKENS
    )


TARGETS: dict[str, Callable[[], Target]] = {
    "answers": answers,
    "algebra": lambda: answers(pooled=True),
    "replies": replies,
    "readers": raw_files,
    "recipes": recipes,
    "templates": templates,
}
