"""Formats of published problem sets, one module per format. Other packages can add formats with an entry point."""

from __future__ import annotations

from thinkling.plugins import Registry
from thinkling.sources.presets.base import Preset

PRESETS = Registry(
    "preset",
    "thinkling.presets",
    {
        "gsm8k": "thinkling.sources.presets.gsm8k:GSM8K",
        "math": "thinkling.sources.presets.math:MATH",
        "aime": "thinkling.sources.presets.aime:AIME",
        "mbpp": "thinkling.sources.presets.mbpp:MBPP",
        "humaneval": "thinkling.sources.presets.humaneval:HUMANEVAL",
        "choice": "thinkling.sources.presets.choice:CHOICE",
        "gpqa": "thinkling.sources.presets.choice:GPQA",
        "mmlu_pro": "thinkling.sources.presets.choice:CHOICE",
        "apps": "thinkling.sources.presets.stdin_stdout:APPS",
        "leetcode": "thinkling.sources.presets.leetcode:LEETCODE",
        "livecodebench": "thinkling.sources.presets.stdin_stdout:LIVECODEBENCH",
    },
)


def preset(name: str | None) -> Preset:
    """Returns the preset with this name, or the plain question-and-answer format for None.

    Raises UserError if the name is unknown.
    """
    if name is None:
        from thinkling.sources.presets.plain import PLAIN

        return PLAIN
    return PRESETS.resolve(name)
