"""Random damage to records: faults that exports, scripts and people introduce into files, and worse."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

KEYS = (
    *("messages", "conversations", "role", "from", "content", "value", "tools", "functions", "tool_calls", "function"),
    *("arguments", "name", "id", "tool_call_id", "function_call", "reasoning", "thinking", "loss_weight", "train"),
    *("prompt", "completion", "chosen", "rejected", "instruction", "input", "output", "history", "system", "type"),
    *("text", "label", "images", "junk", "", "Ключ", "\ud800"),
)
_DEEP_LIST: list[Any] = []
for _ in range(120):
    _DEEP_LIST = [_DEEP_LIST]
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 1e308, 10**40, 10**4000, float("nan"), float("-inf")),
    *("", " ", "x", "user", "assistant", "\ud800", "\udfff tail", "\u2028", "\x00", "<think>", "</think>"),
    *("<think>a</think>b", "[]", "{}", '{"name": "f"}', '[{"role": "user"}]', '{"a": ', "NaN", "[" * 5000),
    *([], {}, [[]], [None], [{}], {"role": "user"}, {"type": "image_url"}, {"a": {"b": [1]}}, _DEEP_LIST),
    *([{"type": "text"}], [{"type": "text", "text": 3}], [{"type": "text", "text": "part"}, "part"]),
)


def mutated(record: dict[str, Any], rng: random.Random) -> bytes:
    """A line of JSON Lines: the record with one to three faults; about one line in fifty is invalid JSON."""
    root = [_copy(record)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        _break(root, rng)
    line = json.dumps(root[0], ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass").replace(b"\n", b" ")
    if rng.random() < 0.02:
        at = rng.randrange(len(line))
        line = rng.choice((line[:at], line[:at] + b"\xff" + line[at:], line[:at] + b"9" * 5000 + line[at:]))
    return line if line.strip() else b"0"


def _break(root: list[Any], rng: random.Random) -> None:
    holder, key = rng.choice(list(_places(root)))
    kind = rng.randrange(8)
    if kind == 0:
        holder[key] = _copy(rng.choice(JUNK))
    elif kind == 1 and isinstance(holder, dict):
        del holder[key]
    elif kind == 2 and isinstance(holder, dict):
        holder[rng.choice(KEYS)] = holder.pop(key)
    elif kind == 3 and isinstance(holder[key], dict):
        holder[key][rng.choice(KEYS)] = _copy(rng.choice(JUNK))
    elif kind == 4 and isinstance(holder[key], list) and holder[key]:
        rng.choice((rng.shuffle, lambda items: items.pop(), lambda items: items.append(_copy(items[0])), list.clear))(
            holder[key]
        )
    elif kind == 5:
        holder[key] = rng.choice((lambda v: [v], lambda v: {"value": v}, lambda v: json.dumps(v), str))(holder[key])
    elif kind == 6 and isinstance(holder[key], str):
        at = rng.randint(0, len(holder[key]))
        holder[key] = rng.choice((holder[key][:at], holder[key][:at] + rng.choice(("</think>", "<think>", "\ud800"))))
    else:
        other, there = rng.choice(list(_places(root)))
        holder[key] = _copy(other[there])


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _places(root: list[Any]) -> Iterator[tuple[Any, Any]]:
    """Every value inside, as its container and key, except inside absurdly deep nesting."""
    waiting: list[tuple[Any, Any, int]] = [(root, 0, 0)]
    while waiting:
        holder, key, depth = waiting.pop()
        yield holder, key
        inner = holder[key]
        if depth < 12 and isinstance(inner, dict):
            waiting += [(inner, name, depth + 1) for name in inner]
        elif depth < 12 and isinstance(inner, list):
            waiting += [(inner, i, depth + 1) for i in range(len(inner))]
