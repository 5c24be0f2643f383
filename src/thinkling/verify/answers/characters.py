"""Conversion of equivalent characters: Unicode variants, full-width forms, and Chinese words in answers."""

from __future__ import annotations

import re

_SIGNS = {
    "\u2212": "-", "\u2013": "-", "\u2010": "-", "\u2011": "-", "\ufe63": "-",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ",
    "\u3000": " ", "\u200b": "", "\u2060": "",
    "\u00d7": r"\times ", "\u00b7": r"\times ", "\u22c5": r"\times ", "\u2219": r"\times ", "\u2022": r"\times ",
    "\u00f7": "/", "\u2044": "/", "\u2215": "/", "\u2236": ":", "\u221a": r"\sqrt ", "\u221b": r"\sqrt[3]",
    "\u221e": "∞", "\u2264": "≤", "\u2265": "≥", "\u2266": "≤", "\u2267": "≥", "\u2a7d": "≤", "\u2a7e": "≥",
    "\u2260": "≠", "\u222a": "∪", "\u2229": "∩", "\u2208": "∈", "\u2205": "∅", "\u2216": r"\setminus ",
    "\u2243": "≈", "\u2245": "≈", "\u2252": "≈", "\u2227": " and ", "\u2228": " or ", "\u2220": r"\angle ",
    "\u25b3": r"\triangle ", "\u2026": r"\ldots ", "\u2032": "'",
    "\u211d": r"\mathbb{R}", "\u00b0": "°", "\u00ba": "°", "\u2103": "°C", "\u2109": "°F",
    "\u2018": "'", "\u2019": "'", "\u201c": "", "\u201d": "", '"': "", "`": "", "\n": " ", "\t": " ",
    "\u20ac": "€", "\u00a3": "£", "、": ", ", "，": ", ", "；": "; ", "。": ". ", "￥": "¥",
    "⟨": "(", "⟩": ")", "【": "", "】": "",
    "～": "~", "＄": r"\$",
}  # fmt: skip
_GREEK = {
    "π": "pi",
    "θ": "theta",
    "α": "alpha",
    "β": "beta",
    "γ": "gamma",
    "λ": "lambda",
    "μ": "mu",
    "φ": "phi",
    "ω": "omega",
}
_FRACTIONS = {
    "½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅖": "2/5", "⅗": "3/5", "⅘": "4/5",
    "⅙": "1/6", "⅚": "5/6", "⅐": "1/7", "⅛": "1/8", "⅜": "3/8", "⅝": "5/8", "⅞": "7/8", "⅑": "1/9", "⅒": "1/10",
}  # fmt: skip


def _fraction(value: str) -> str:
    over, under = value.split("/")
    return rf"\frac{{{over}}}{{{under}}}"


_WIDE = {chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
_TABLE = str.maketrans(
    _WIDE
    | _SIGNS
    | {sign: rf"\{name} " for sign, name in _GREEK.items()}
    | {sign: _fraction(value) for sign, value in _FRACTIONS.items()}
)
_RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱˣ"
_LOWERED = "₀₁₂₃₄₅₆₇₈₉₊₋ₙ"
_LEVEL = str.maketrans(_RAISED + _LOWERED, "0123456789+-nix" + "0123456789+-n")
_RAISED_RUN = re.compile(f"[{_RAISED}]+")
_LOWERED_RUN = re.compile(f"[{_LOWERED}]+")
_OVERLINED = re.compile("(?:\\d\u0305)+")
_DOTTED = re.compile("(\\d)\u0307")
_WIDE_THOUSANDS = re.compile("(?<=[０-９])，(?=[０-９]{3}(?![０-９]))")
_PICTURES = re.compile("[\u2600-\u27bf\ufe0f\u200d\U0001f300-\U0001faff]")
_HAN = "\u4e00-\u9fff"
_OR = re.compile(f"(?<![{_HAN}])(?:或者?)(?![{_HAN}])")
_AND = re.compile(f"(?<![{_HAN}])(?:和|与|以及|及)(?![{_HAN}])")
_ABOUT = re.compile(f"(?<![{_HAN}])(?:大约|约为?|等于)(?![{_HAN}])")
_OF_A_HUNDRED = re.compile(r"百分之\s*(\d+(?:\.\d+)?)")
_NEGATIVE = re.compile(r"(?<![非不])负\s*(?=[\d\\$])")
_LEADING = re.compile(r"^\s*(?:一共|总共|共有|共|有|是|为|约|即|人民币)\s*(?=[-\d\\$])")
_BRACKETED_UNIT = re.compile(f"\\(\\s*([{_HAN}]{{1,5}})\\s*\\)\\s*$")
_PHRASES = {
    "无解": "no solution", "无实数解": "no solution", "空集": "∅", "全体实数": r"\mathbb{R}", "任意实数": r"\mathbb{R}",
    "实数集": r"\mathbb{R}",
}  # fmt: skip
HAN = re.compile(f"[{_HAN}]")


def one_spelling(text: str) -> str:
    """Convert characters to ASCII or LaTeX if possible, and Chinese "or" and "and" between values to English."""
    text = _WIDE_THOUSANDS.sub(",", text)
    text = _OVERLINED.sub(lambda match: r"\overline{" + match[0].replace("\u0305", "") + "}", text)
    text = _DOTTED.sub(r"\\dot{\1}", text)
    text = _RAISED_RUN.sub(lambda match: "^{" + match[0].translate(_LEVEL) + "}", text)
    text = _LOWERED_RUN.sub(lambda match: "_{" + match[0].translate(_LEVEL) + "}", text)
    text = _PICTURES.sub("", text).translate(_TABLE)
    if HAN.search(text):
        text = _AND.sub(" and ", _OR.sub(" or ", _NEGATIVE.sub("-", text)))
        text = _OF_A_HUNDRED.sub(r"\1%", _BRACKETED_UNIT.sub(r"\1", _LEADING.sub("", _ABOUT.sub(" ", text))))
        text = _PHRASES.get(text.strip(" ."), text)
    return text
