"""Recipe keys that were renamed or moved, so that the error names the new key instead of `unknown key`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ANY = "*"
"""Stands for every kind of stage."""

RENAMED: Mapping[str, Mapping[str, str]] = {
    ANY: {
        "row_length": "sequence_length",
        "batch_rows": "batch_size",
        "micro_rows": "micro_batch_size",
        "decay_share": "decay_fraction",
        "final_lr_share": "final_lr_fraction",
    },
    "tokenize": {"holdout_documents": "validation_fraction"},
    "pretrain": {"evaluate_rows": "validation_rows"},
    "sft": {"problems_per_family": "n_examples"},
    "dpd": {
        "batch_pairs": "batch_size",
        "micro_pairs": "micro_batch_size",
        "batch_solved": "solved_per_step",
        "kl_positive": "kl_chosen",
        "kl_negative": "kl_rejected",
        "problems_per_family": "n_problems",
    },
    "refine": {"problems_per_family": "n_problems"},
    "rl": {
        "groups": "prompts_per_step",
        "group_size": "samples_per_prompt",
        "reward": "rewards",
        "share": "weight",
        "judge": "preference_model",
        "batch_size": "max_concurrent",
        "problems_per_family": "n_problems",
    },
    "evaluate": {"batch_size": "max_concurrent", "form": "renderer"},
}
"""Kind of stage → old key → new key. A key appears here only for the kinds whose schema no longer has it at the place
where it was found: `renamed_to` is asked about unknown keys alone."""

SOURCES: Mapping[str, str] = {
    "corrupted": "noise_fraction",
    "corrupted_characters": "noise_strength",
    "without_trace": "answer_only_fraction",
    "duplicated": "duplicate_fraction",
}
"""Old key of a source, of any type → new key."""

MOVED: Mapping[str, Mapping[str, str]] = {
    "sft": {key: f"the source, as {new}" for key, new in SOURCES.items()} | {"roles": "the source"},
    "refine": {
        "corrupted": "style_options.noise_fraction",
        "corrupted_characters": "style_options.noise_strength",
    },
}
"""Kind of stage → old key → where to write it now, for keys that left their place."""


def renamed_to(location: Sequence[int | str]) -> str | None:
    """The new name of an unknown key, or None. `location` is pydantic's path to it: (stages, NAME, KIND, …, key), or
    (key) for a source's."""
    if len(location) == 1:
        return SOURCES.get(str(location[0]))
    if len(location) < 4 or location[0] != "stages":
        return None
    kind, key = str(location[2]), str(location[-1])
    return RENAMED.get(kind, {}).get(key) or RENAMED[ANY].get(key)


def moved_to(location: Sequence[int | str]) -> str | None:
    """Where to write a key that is unknown at its old place now, or None."""
    if len(location) < 4 or location[0] != "stages":
        return None
    return MOVED.get(str(location[2]), {}).get(str(location[-1]))
