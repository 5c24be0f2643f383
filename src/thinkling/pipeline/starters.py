"""Templates of the recipes that `init` writes, with comments for new users."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thinkling.pipeline.given import Data
    from thinkling.pipeline.init import Facts


def sft(facts: Facts) -> str:
    return _head(facts, "Supervised fine-tuning of your model on your data.") + _sources(facts) + _sft_stage(facts)


def rl(facts: Facts) -> str:
    about = "Reinforcement learning (GRPO) of your model on your problems, scored on held-out problems."
    return _head(facts, about) + _sources(facts) + _scores(facts, "before", "start") + _rl(facts, "start") + _scores(
        facts, "after", "rl"
    )  # fmt: skip


def posttrain(facts: Facts) -> str:
    """Write a recipe that has an sft stage if there are conversations, a dpd stage if there are pairs, and an rl stage
    if there are problems."""
    kinds = {one.kind for one in facts.sources.values()}
    text = _head(facts, "Post-training of your model on your files, with the stages that your data supports.")
    text += _sources(facts)
    model = "start"
    if "problems" in kinds:
        text += _scores(facts, "before", model)
    if kinds & {"conversations"}:
        text, model = text + _sft_stage(facts, ("conversations",)), "sft"
    if "pairs" in kinds:
        text, model = text + _dpd(facts, model), "dpd"
    if "problems" in kinds:
        text += _rl(facts, model) + _scores(facts, "after", "rl")
    return text


def curate(facts: Facts) -> str:
    return _head(facts, "Your text, deduplicated and written as documents.") + _sources(facts) + _curate(facts)


def pretrain(facts: Facts) -> str:
    """Write a recipe that pre-trains a small model on about as many tokens as the text contains."""
    row, rows = 256, 16
    step = row * rows
    total = max(facts.tokens * 9 // 10 // step, 20) * step  # the rest is for validation
    warm, decay = max(total // 20 // step, 1) * step, max(total // 4 // step, 1) * step
    # A text that is shorter than the minimum of 20 steps is repeated.
    passes = max(4, -(-total * 2 // max(facts.tokens, 1)))
    sources = ", ".join(f"hq-{name}: 1" for name in facts.sources)
    return (
        _head(facts, "A base model from your text: curate, tokenize, pretrain.")
        + f"""
model:                            # about 11M parameters with the embedding; see `thinkling fields recipe.model`
  architecture: llama
  hidden_size: 256
  intermediate_size: 704
  num_hidden_layers: 8
  num_attention_heads: 4
  num_key_value_heads: 4
  head_dim: 64
  max_position_embeddings: {row}

tokenizer: {{vocab_size: 8192}}     # a byte-level BPE, trained on your text
"""
        + _sources(facts)
        + _curate(facts)
        + f"""
  tokenize:
    kind: tokenize
    inputs: {{documents: curate}}

  pretrain:
    kind: pretrain
    inputs: {{tokens: tokenize}}
    sequence_length: {row}          # tokens per row
    batch_tokens: {step}          # tokens per optimizer step
    optimizer: {{name: adamw, lr: 1.0e-3}}
    default_max_epochs: {passes}         # limit on passes over a source; up to about 4 are nearly as good as new text
    phases:                       # about one pass over the text: {facts.tokens:,} tokens at 4 bytes per token
      - {{name: warm-up, tokens: {warm}, learning_rate: [0.0, 1.0e-3], mixture: &text {{{sources}}}}}
      - {{name: stable, tokens: {max(total - warm - decay, step)}, learning_rate: 1.0e-3, mixture: *text}}
      - {{name: decay, tokens: {decay}, learning_rate: [1.0e-3, 1.0e-5], mixture: *text, decay: true}}
"""
    )


WRITERS: Mapping[str, Callable[[Facts], str]] = {
    "sft": sft,
    "rl": rl,
    "posttrain": posttrain,
    "pretrain": pretrain,
    "curate": curate,
}


def _head(facts: Facts, about: str) -> str:
    return f"""# {about}
#   thinkling plan FILE      shows what a run would do
#   thinkling run FILE       runs the recipe; the same command resumes it after an interruption
# `thinkling fields KIND` explains the fields of a kind of stage or source.
name: {json.dumps(facts.name)}                        # results are written to runs/{facts.name}
seed: 0
threads: {facts.threads}
"""


def _sources(facts: Facts) -> str:
    from thinkling.pipeline.init import quoted

    text = "\nsources:                          # paths are relative to the folder in which you run the command\n"
    if facts.model is not None:
        text += f"  start: {{type: model, path: {quoted(facts.model)}}}\n"
    for name, one in facts.sources.items():
        text += _source(name, one, facts.heldout)
    return text + "\nstages:\n"


def _source(name: str, one: Data, heldout: str | None) -> str:
    from thinkling.pipeline.init import quoted

    if one.kind in ("conversations", "pairs"):
        return f"  {name}: {{type: conversations, paths: [{quoted(one.path)}]}}    # detected format: {one.form}\n"
    if one.kind == "text":
        field = "" if one.fields["type"] == "text" else f", text_field: {json.dumps(one.fields['text_field'])}"
        return f"  {name}: {{type: {one.fields['type']}, paths: [{quoted(one.path)}]{field}}}\n"
    lines = [f"  {name}:", "    type: problems", f"    paths: [{quoted(one.path)}]"]
    if "preset" in one.fields:
        lines.append(f"    preset: {one.fields['preset']}                 # the detected format of the records")
    else:
        mapping = ", ".join(f"{key}: {json.dumps(value)}" for key, value in one.fields["fields"].items())
        lines.append(f"    fields: {{{mapping}}}    # the keys of the question and the answer")
        lines.append("    verifier: maths               # checks the answers; see docs/verify.md for other verifiers")
    if heldout is not None:
        lines.append(f"    heldout_paths: [{quoted(heldout)}]    # held-out problems, never trained on")
    else:
        lines.append("    heldout_fraction: 0.1         # fraction never trained on; or set heldout_paths: [FILE]")
    return "\n".join(lines) + "\n"


def _chat(facts: Facts) -> str:
    why = (
        "the model's own chat template"
        if facts.template == "own"
        else "thinkling's chat template, because the model's own is missing or would drop data"
    )
    return f"    chat: {{template: {facts.template}}}           # {why}\n"


def _sft_stage(facts: Facts, kinds: tuple[str, ...] = ("conversations", "problems")) -> str:
    names = [name for name, one in facts.sources.items() if one.kind in kinds]
    examples = "".join(f"      - {{source: {name}}}\n" for name in names)
    rows = 2 * facts.chat_tokens // facts.row  # in two epochs
    batch = max(1, min(8, rows // 8))
    return f"""  sft:
    kind: sft
    inputs: {{model: start}}
{_chat(facts)}    examples:
{examples}    epochs: 2                     # number of passes over the conversations
    sequence_length: {facts.row}         # tokens per packed row
    overlong: truncate            # longer conversations are cut after the last whole turn that fits
    batch_size: {batch}                 # rows per optimizer step
    micro_batch_size: 1           # rows per forward pass: a larger value is faster but needs more memory
    optimizer: {{name: adamw, lr: 1.0e-5}}
    warmup_steps: {min(10, rows // batch // 10)}

"""


def _dpd(facts: Facts, model: str) -> str:
    names = ", ".join(f"{{source: {name}}}" for name, one in facts.sources.items() if one.kind == "pairs")
    chat = "" if model != "start" else _chat(facts)
    return f"""  dpd:                            # DPO on your chosen and rejected answers, because there is no teacher
    kind: dpd
    inputs: {{model: {model}}}
{chat}    preferences: [{names}]
    weights: {{kl_chosen: 0, kl_rejected: 0}}    # distillation needs inputs.teacher
    steps: 100
    batch_size: 8                 # pairs per optimizer step
    sequence_length: {facts.row}
    optimizer: {{name: adamw, lr: 1.0e-6}}
    warmup_steps: 5

"""


def _problems(facts: Facts) -> list[str]:
    return [name for name, one in facts.sources.items() if one.kind == "problems"]


def _scores(facts: Facts, stage: str, model: str) -> str:
    sets = ", ".join(f"{name}: {{source: {name}}}" for name in _problems(facts))
    chat = _chat(facts) if model == "start" else ""
    return f"""  {stage}:
    kind: evaluate
    inputs: {{model: {model}}}
{chat}    task_sets: {{{sets}}}
    k: 4                          # samples per problem
    max_new_tokens: {min(512, facts.row // 2)}

"""


def _rl(facts: Facts, model: str) -> str:
    prompts = max(1, min(32, facts.problems // 2))
    listed = "".join(f"      - {{source: {name}}}\n" for name in _problems(facts))
    chat = _chat(facts) if model == "start" else ""
    return f"""  rl:
    kind: rl
    inputs: {{model: {model}}}
{chat}    problems:
{listed}    band:                         # keeps problems that the model solves sometimes, but not always
      samples: 8
      low: 0.0
      high: 1.0
      min_prompts: {max(1, min(32, facts.problems // 4))}             # the stage stops with an error if fewer remain
    steps: 100
    prompts_per_step: {prompts}
    samples_per_prompt: 8
    max_new_tokens: {min(512, facts.row // 2)}
    optimizer: {{name: adamw, lr: 1.0e-6}}
    warmup_steps: 5
    decay_fraction: 0.0

"""


def _curate(facts: Facts) -> str:
    names = list(facts.sources)
    near = "near_dedup: {}" if facts.near_dedup else "# near_dedup: {}"
    return f"""  curate:
    kind: curate
    sources: [{", ".join(names)}]
    quality: {{{", ".join(f"{name}: hq" for name in names)}}}    # or set `grading`; see `thinkling fields curate`
    {near}                # drops near duplicates; needs thinkling[curate] to be installed
    min_characters: 1             # shorter documents are rejected
"""
