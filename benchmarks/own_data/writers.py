"""Writers of conversations and pairs in common forms. A writer returns None if its form cannot express the item."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
Record = dict[str, Any]


def _compact(**fields: Any) -> Record:
    return {name: value for name, value in fields.items() if value is not None}


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def openai(messages: Sequence[Message], tools: Sequence[Message]) -> Record:
    """OpenAI's fields: arguments as JSON text, null content next to calls, a weight on untrained turns."""
    turns = []
    for message in messages:
        turn = {key: value for key, value in message.items() if key not in ("loss", "tool_calls")}
        if calls := message.get("tool_calls"):
            turn["content"] = message["content"] or None
            turn["tool_calls"] = [
                {**call, "function": {**call["function"], "arguments": _json(call["function"]["arguments"])}}
                for call in calls
            ]
        turn |= {"weight": 0} if message.get("loss") is False else {}
        turns.append({**turn, "role": "developer"} if turn["role"] == "system" else turn)
    return _compact(messages=turns, tools=list(tools) or None)


def hugging_face(messages: Sequence[Message], tools: Sequence[Message]) -> Record:
    """Arguments as objects, flat calls, reasoning as `reasoning`, tools as JSON text of bare functions."""
    turns = []
    for message in messages:
        turn = {key: value for key, value in message.items() if key not in ("reasoning_content", "tool_calls", "loss")}
        turn |= {"reasoning": message.get("reasoning_content")} if message["role"] == "assistant" else {}
        turn |= {"train": message.get("loss", True)} if message["role"] == "assistant" else {}
        if calls := message.get("tool_calls"):
            turn["tool_calls"] = [{"id": call["id"], **call["function"]} for call in calls]
        turns.append({**turn, "role": "ipython"} if turn["role"] == "tool" else turn)
    return {"messages": turns, "tools": _json([tool["function"] for tool in tools])}


def parts(messages: Sequence[Message], tools: Sequence[Message]) -> Record:
    """Content in typed parts, with the text split in two and reasoning in a `thinking` part."""
    turns = []
    for message in messages:
        content, half = message["content"], len(message["content"]) // 2
        pieces = [{"type": "text", "text": content[:half]}, {"type": "text", "text": content[half:]}]
        if reasoning := message.get("reasoning_content"):
            pieces.insert(0, {"type": "thinking", "thinking": reasoning})
        turn = {key: value for key, value in message.items() if key != "reasoning_content"}
        turns.append({**turn, "content": pieces})
    return _compact(messages=turns, functions=list(tools) or None)


def llama_factory_v1(messages: Sequence[Message], tools: Sequence[Message]) -> Record:
    """LLaMA-Factory's second form: typed parts, including calls, under `value`, and a loss weight on every turn."""
    turns = []
    for message in messages:
        pieces = [{"type": "text", "value": message["content"]}] if message["content"] else []
        if reasoning := message.get("reasoning_content"):
            pieces.insert(0, {"type": "reasoning", "value": reasoning})
        pieces += [
            {"type": "tool_call", "value": _json({"id": call["id"], **call["function"]})}
            for call in message.get("tool_calls", [])
        ]
        weight = float(message["role"] == "assistant" and message.get("loss", True))
        kept = {key: message[key] for key in ("role", "tool_call_id", "name") if key in message}
        turns.append({**kept, "content": pieces, "loss_weight": weight})
    return {"messages": turns, "tools": _json(list(tools))}


def inline(messages: Sequence[Message], tools: Sequence[Message]) -> Record | None:
    """Reasoning in tags at the start of the content."""
    turns = []
    for message in messages:
        turn = {key: value for key, value in message.items() if key != "reasoning_content"}
        if (written := _inline(message)) is None:
            return None
        turns.append({**turn, "content": written})
    return _compact(messages=turns, tools=list(tools) or None)


def _inline(message: Message) -> str | None:
    reasoning, content = message.get("reasoning_content"), message["content"]
    if reasoning is None:
        return content
    if "</think>" in reasoning or reasoning != reasoning.strip("\n") or content.startswith("\n"):
        return None
    return f"<think>\n{reasoning}\n</think>\n\n{content}"


def function_call(messages: Sequence[Message], tools: Sequence[Message]) -> Record | None:
    """OpenAI's legacy fields: one call per turn, with the result under the role `function`."""
    turns = []
    for message in messages:
        calls = message.get("tool_calls", [])
        if len(calls) > 1:
            return None
        turn = {key: value for key, value in message.items() if key not in ("tool_calls", "tool_call_id")}
        if calls:
            turn["function_call"] = {**calls[0]["function"], "arguments": _json(calls[0]["function"]["arguments"])}
        turns.append({**turn, "role": "function"} if turn["role"] == "tool" else turn)
    return _compact(messages=turns, functions=[tool["function"] for tool in tools] or None)


_SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}


def sharegpt(messages: Sequence[Message], tools: Sequence[Message]) -> Record | None:
    """ShareGPT with calls as separate turns, after any text of the assistant."""
    turns: list[Record] = []
    for message in messages:
        weight = {"weight": 0} if message.get("loss") is False else {}
        calls = [call["function"] for call in message.get("tool_calls", [])]
        if (written := _inline(message)) is None:
            return None
        if written or not calls:
            turns.append({"from": _SHAREGPT[message["role"]], "value": written, **weight})
        if calls:
            turns.append({"from": "function_call", "value": _json(calls[0] if len(calls) == 1 else calls), **weight})
    system = {}
    if turns[0]["from"] == "system" and turns[0]["value"]:
        system, turns = {"system": turns[0]["value"]}, turns[1:]
    return {**system, "conversations": turns, "tools": _json([tool["function"] for tool in tools])}


def mixed(messages: Sequence[Message], tools: Sequence[Message]) -> Record | None:
    """OpenAI's fields under ShareGPT's `conversations`."""
    record = openai(messages, tools)
    return {("conversations" if key == "messages" else key): value for key, value in record.items()}


def alpaca(messages: Sequence[Message], tools: Sequence[Message]) -> Record | None:
    """Alpaca: rounds of user and assistant, all of them trained on."""
    system, turns = _without_system(messages)
    if system == "" or any("tool_calls" in turn or turn.get("loss") is False for turn in turns):
        return None
    written = [_inline(turn) for turn in turns]
    roles = [turn["role"] for turn in turns]
    if None in written or roles != ["user", "assistant"] * (len(turns) // 2) or not written[-2]:
        return None
    rounds = list(zip(written[:-2:2], written[1:-2:2], strict=True))
    instruction, _, more = str(written[-2]).partition("\n")
    if not instruction or not more:
        instruction, more = str(written[-2]), ""
    fields = {"instruction": instruction, "input": more, "output": written[-1], "history": rounds}
    return {**fields, "system": system or "", "tools": _json(list(tools))}


def prompt_text(messages: Sequence[Message], tools: Sequence[Message]) -> Record | None:
    """A prompt and a completion as text: one round."""
    system, turns = _without_system(messages)
    if system == "" or len(turns) != 2:
        return None
    reasoning = turns[1].get("reasoning_content")
    record = _compact(prompt=turns[0]["content"], completion=turns[1]["content"], reasoning=reasoning, system=system)
    return {**record, "tools": list(tools)}


def prompt_messages(messages: Sequence[Message], tools: Sequence[Message]) -> Record | None:
    """A prompt and a completion as messages: only the last round is trained on."""
    last = max(i for i, message in enumerate(messages) if message["role"] == "user")
    before, after = messages[: last + 1], messages[last + 1 :]
    if any(message["role"] == "assistant" and message.get("loss", True) for message in before):
        return None
    written = openai([{k: v for k, v in message.items() if k != "loss"} for message in before], tools)
    return {"prompt": written.pop("messages"), "completion": openai(after, [])["messages"], **written}


def _without_system(messages: Sequence[Message]) -> tuple[str | None, Sequence[Message]]:
    if messages[0]["role"] == "system":
        return messages[0]["content"], messages[1:]
    return None, messages


Chat = Callable[[Sequence[Message], Sequence[Message]], Record | None]
CHATS: dict[str, Chat] = {
    "openai": openai,
    "hugging_face": hugging_face,
    "parts": parts,
    "llama_factory_v1": llama_factory_v1,
    "inline": inline,
    "function_call": function_call,
    "sharegpt": sharegpt,
    "mixed": mixed,
    "alpaca": alpaca,
    "prompt_text": prompt_text,
    "prompt_messages": prompt_messages,
}


Pair = tuple[Sequence[Message], Sequence[Message], Sequence[Message], Sequence[Message]]


def pair_text(pair: Pair) -> Record | None:
    """TRL's explicit prompt, all text."""
    before, chosen, rejected, tools = pair
    system, turns = _without_system(before)
    sides = _inline(chosen[0]), _inline(rejected[0])
    if len(turns) != 1 or len(chosen) != 1 or None in sides or system == "":
        return None
    fields = _compact(prompt=turns[0]["content"], chosen=sides[0], rejected=sides[1], system=system)
    return {**fields, "tools": list(tools)}


def pair_alpaca(pair: Pair) -> Record | None:
    """Alpaca's instruction with two outputs."""
    if (record := pair_text(pair)) is None or not record["prompt"]:
        return None
    return {**{key: record[key] for key in record if key != "prompt"}, "instruction": record["prompt"], "input": ""}


def pair_explicit(pair: Pair) -> Record:
    """TRL's explicit prompt, all messages."""
    before, chosen, rejected, tools = pair
    sides = [openai(side, [])["messages"] for side in (before, chosen, rejected)]
    return {**dict(zip(("prompt", "chosen", "rejected"), sides, strict=True)), "tools": list(tools)}


def pair_implicit(pair: Pair) -> Record:
    """TRL's implicit prompt: two whole conversations."""
    before, chosen, rejected, tools = pair
    sides = [openai([*before, *side], [])["messages"] for side in (chosen, rejected)]
    return {"chosen": sides[0], "rejected": sides[1], "tools": _json(list(tools))}


def pair_sharegpt(pair: Pair) -> Record | None:
    """LLaMA-Factory's ranking form: ShareGPT with one turn for each side."""
    before, chosen, rejected, tools = pair
    history = sharegpt(before, tools)
    sides = [sharegpt(side, []) for side in (chosen, rejected)]
    if history is None or None in sides or any(len(side["conversations"]) != 1 for side in sides if side):
        return None
    return {**history, **{n: s["conversations"][0] for n, s in zip(("chosen", "rejected"), sides, strict=True) if s}}


PAIRS: dict[str, Callable[[Pair], Record | None]] = {
    "pair_text": pair_text,
    "pair_alpaca": pair_alpaca,
    "pair_explicit": pair_explicit,
    "pair_implicit": pair_implicit,
    "pair_sharegpt": pair_sharegpt,
}
