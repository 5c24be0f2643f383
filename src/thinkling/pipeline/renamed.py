"""Recipe keys that were renamed or moved, for error messages that report the new key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ANY = "*"
"""Key of `RENAMED` that applies to every kind of stage."""

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
"""Kind of stage → old key → new key. Only unknown keys are looked up, so the table may list a key that is still valid
in another part of the same stage."""

SOURCES: Mapping[str, str] = {
    "corrupted": "noise_fraction",
    "corrupted_characters": "noise_strength",
    "without_trace": "answer_only_fraction",
    "duplicated": "duplicate_fraction",
}
"""Old key of a source → new key, for all types of sources."""

MOVED: Mapping[str, Mapping[str, str]] = {
    "sft": {key: f"the source, as {new}" for key, new in SOURCES.items()} | {"roles": "the source"},
    "refine": {
        "corrupted": "style_options.noise_fraction",
        "corrupted_characters": "style_options.noise_strength",
    },
}
"""Kind of stage → old key → its new place in the recipe, for keys that moved."""


def renamed_to(location: Sequence[int | str]) -> str | None:
    """Return the new name of an unknown key, or None if it was not renamed.

    `location`: pydantic's path to the key, which is (stages, NAME, KIND, …, key), or (key) in a source.
    """
    if len(location) == 1:
        return SOURCES.get(str(location[0]))
    if len(location) < 4 or location[0] != "stages":
        return None
    kind, key = str(location[2]), str(location[-1])
    return RENAMED.get(kind, {}).get(key) or RENAMED[ANY].get(key)


def moved_to(location: Sequence[int | str]) -> str | None:
    """Return the new place of an unknown key, or None if it was not moved."""
    if len(location) < 4 or location[0] != "stages":
        return None
    return MOVED.get(str(location[2]), {}).get(str(location[-1]))
