"""Units of measurement with exact factors and dimensions, parsed from words and symbols.

All factors are exact by definition of the units (international yard and pound, US gallon). Degrees Celsius and
Fahrenheit are separate dimensions, so that temperatures are compared only within the same scale.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

_INCH = Fraction("0.0254")
_GALLON = 231 * _INCH**3
_OUNCE = Fraction("0.028349523125")

# spellings → factor, dimensions
_TABLE: dict[str, tuple[Fraction | int | str, dict[str, int]]] = {
    "m meter metre": (1, {"m": 1}),
    "km kilometer kilometre": (1000, {"m": 1}),
    "dm decimeter decimetre": ("0.1", {"m": 1}),
    "cm centimeter centimetre": ("0.01", {"m": 1}),
    "mm millimeter millimetre": ("0.001", {"m": 1}),
    "nm nanometer nanometre": ("1e-9", {"m": 1}),
    "in inch": (_INCH, {"m": 1}),
    "ft foot": (12 * _INCH, {"m": 1}),
    "yd yard": (36 * _INCH, {"m": 1}),
    "mi mile": (63360 * _INCH, {"m": 1}),
    "acre": (4840 * (36 * _INCH) ** 2, {"m": 2}),
    "ha hectare": (10000, {"m": 2}),
    "l liter litre": ("0.001", {"m": 3}),
    "ml milliliter millilitre": ("0.000001", {"m": 3}),
    "gal gallon": (_GALLON, {"m": 3}),
    "qt quart": (_GALLON / 4, {"m": 3}),
    "pt pint": (_GALLON / 8, {"m": 3}),
    "g gram": ("0.001", {"kg": 1}),
    "kg kilogram": (1, {"kg": 1}),
    "mg milligram": ("0.000001", {"kg": 1}),
    "lb pound": (16 * _OUNCE, {"kg": 1}),
    "oz ounce": (_OUNCE, {"kg": 1}),
    "s sec second": (1, {"s": 1}),
    "ms millisecond": ("0.001", {"s": 1}),
    "min minute": (60, {"s": 1}),
    "h hr hour": (3600, {"s": 1}),
    "day": (86400, {"s": 1}),
    "week": (7 * 86400, {"s": 1}),
    "month": (1, {"month": 1}),
    "yr year": (12, {"month": 1}),
    "mph": (63360 * _INCH / 3600, {"m": 1, "s": -1}),
    "kph kmh kmph": (Fraction(1000, 3600), {"m": 1, "s": -1}),
    "N newton": (1, {"kg": 1, "m": 1, "s": -2}),
    "J joule": (1, {"kg": 1, "m": 2, "s": -2}),
    "kJ kilojoule": (1000, {"kg": 1, "m": 2, "s": -2}),
    "W watt": (1, {"kg": 1, "m": 2, "s": -3}),
    "kW kilowatt": (1000, {"kg": 1, "m": 2, "s": -3}),
    "Pa pascal": (1, {"kg": 1, "m": -1, "s": -2}),
    "kPa kilopascal": (1000, {"kg": 1, "m": -1, "s": -2}),
    "Hz hertz": (1, {"s": -1}),
    "A amp ampere": (1, {"A": 1}),
    "V volt": (1, {"kg": 1, "m": 2, "s": -3, "A": -1}),
    "C coulomb": (1, {"A": 1, "s": 1}),
    "K kelvin": (1, {"K": 1}),
    "mol mole": (1, {"mol": 1}),
    "°C celsius": (1, {"celsius": 1}),
    "°F fahrenheit": (1, {"fahrenheit": 1}),
    "° deg degree": (1, {"degree": 1}),
    "rad radian": (1, {"radian": 1}),
    "$ dollar usd buck 美元 美金": (1, {"dollar": 1}),
    "¢ cent": ("0.01", {"dollar": 1}),
    "€ eur euro 欧元": (1, {"euro": 1}),
    "£ gbp 英镑": (1, {"sterling": 1}),
    "¥": (1, {"yen or yuan": 1}),
    "yen jpy 日元 円": (1, {"yen": 1}),
    "yuan rmb cny 元 块 块钱 人民币": (1, {"yuan": 1}),
    "角": ("0.1", {"yuan": 1}),
    "₹ rupee rs inr": (1, {"rupee": 1}),
    "₩ won": (1, {"won": 1}),
    "₽ ruble rouble": (1, {"ruble": 1}),
    "unit": (1, {"unit": 1}),
    "米": (1, {"m": 1}),
    "千米 公里": (1000, {"m": 1}),
    "分米": ("0.1", {"m": 1}),
    "厘米": ("0.01", {"m": 1}),
    "毫米": ("0.001", {"m": 1}),
    "平方米": (1, {"m": 2}),
    "平方厘米": ("0.0001", {"m": 2}),
    "平方分米": ("0.01", {"m": 2}),
    "平方千米": (10**6, {"m": 2}),
    "公顷": (10000, {"m": 2}),
    "立方米": (1, {"m": 3}),
    "立方分米 升": ("0.001", {"m": 3}),
    "立方厘米 毫升": ("0.000001", {"m": 3}),
    "克": ("0.001", {"kg": 1}),
    "千克 公斤": (1, {"kg": 1}),
    "吨": (1000, {"kg": 1}),
    "秒": (1, {"s": 1}),
    "分 分钟": (60, {"s": 1}),
    "时 小时": (3600, {"s": 1}),
    "天 日": (86400, {"s": 1}),
    "度": (1, {"degree": 1}),
}
_IRREGULAR = {"feet": "foot", "inches": "inch", "lbs": "lb", "hrs": "hr"}
LOOSE = frozenset(
    {"degree", "radian", "dollar", "euro", "sterling", "yen", "yuan", "yen or yuan", "rupee", "won", "ruble", "unit"}
)
"""Dimensions that an answer may omit even if the reference has them."""
_BY_SPELLING = {
    spelling: (Fraction(factor), dimensions)
    for spellings, (factor, dimensions) in _TABLE.items()
    for spelling in spellings.split()
}
MULTIPLIERS = {
    "hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "百": 100, "千": 1000,
    "万": 10**4,
    "百万": 10**6, "千万": 10**7, "亿": 10**8,
}  # fmt: skip
_TOKEN = re.compile(
    r"\s*(?:(°\s?[CF]\b|[°$€£¥¢₹₩₽])|([A-Za-z]+|[\u4e00-\u9fff]+)\.?|(\^\{?-?\d+\}?)|(/)|(\\times|[*()]|-(?=[A-Za-z])))"
)
_NOT_NOUNS = frozenset(
    {
        "not", "no", "nor", "or", "and", "but", "if", "is", "are", "was", "were", "be", "been", "isn", "minus",
        "plus", "times", "than", "less", "maybe", "perhaps", "either", "neither", "wrong", "incorrect", "false",
        "only", "half", "double", "twice", "squared", "cubed", "factorial", "halves", "thirds", "fourths", "fifths",
        "sixths", "eighths", "tenths", "hundredths", "thousandths", "root", "power", "it", "that", "this", "what",
        "which", "we", "i", "all", "any", "none",
    }
)  # fmt: skip
_CHINESE_COUNT = re.compile(
    r"[个只人本张条支枝辆棵件套块名位次种盒箱颗朵间头匹双杯瓶页岁倍元组年月周步篇道题家层][\u4e00-\u9fff]{0,4}"
)
CHINESE_MULTIPLIER = re.compile("[百千]?万|亿|千(?!米|克|瓦)|百(?!分)")
_LEADING = re.compile(r"[°¢€£₹]|[A-Za-z]+\.?(?:\^\{?\d\}?|[²³])?|/")
_NO_UNIT_IN_PROSE = frozenset(
    {"in", "a", "s", "c", "k", "v", "w", "n", "j", "deg", "pt", "day", "second", "sec", "degree"}
)
MOST_LEADING = 5
"""Maximum number of words searched for a unit after a box."""
MOST_WORDS = 5
"""Maximum number of words that describe a counted thing, as in "18 dollars every day". Longer text is a sentence."""


@dataclass(frozen=True)
class Unit:
    """A unit. `dimensions`: pairs of name and power, sorted by name. A counted thing, such as "apples", has a dimension
    of its own, "#apple"."""

    factor: Fraction
    dimensions: tuple[tuple[str, int], ...]
    words: frozenset[str]
    """Words of the unit. To find the unit in a question, the question is searched for all spellings of these words."""

    @property
    def counted(self) -> bool:
        return any(name.startswith("#") for name, _ in self.dimensions)

    @property
    def loose(self) -> bool:
        """Whether an answer may omit the unit, which is the case for money, angles and counted things."""
        return self.counted or all(name in LOOSE for name, _ in self.dimensions)

    def named_in(self, question: str) -> bool:
        """Whether the question names every part of the unit, so that an answer may omit the unit."""
        asked = {_singular(word) for word in re.findall(r"[A-Za-z]+|[°$€£¥¢₹₩₽]", question)}
        return all(
            any(name in asked or (not name.isascii() and name in question) for name in spellings)
            for spellings in map(_spellings, self.words)
        )


def read_unit(text: str) -> Unit | None:
    """Parse a unit or a counted thing, such as "m/s^2", "miles per hour", "square feet" or "apples"; None for other
    texts."""
    return measure(text) or _counted(text)


@lru_cache(maxsize=4096)
def measure(text: str) -> Unit | None:
    """Parse a unit of measurement; None for other texts, including counted things."""
    factor, sign, power_before, last = Fraction(1), 1, 1, ""
    dimensions: dict[str, int] = {}
    words: set[str] = set()
    at, text = 0, text.rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            return None
        at = match.end()
        symbol, word, power, slash, _ = match.groups()
        if slash or word == "per":
            sign, last = -1, ""
        elif word in ("square", "sq", "cubic", "cu"):
            power_before = 2 if word.startswith("s") else 3
        elif power or word in ("squared", "cubed"):
            if not last:
                return None
            value = int(power.strip("^{}")) if power else 2 if word == "squared" else 3
            if not 1 <= abs(value) <= 9:
                return None
            factor = _add(last, (value - 1) * sign, dimensions, factor)
            last = ""
        elif symbol or word:
            last = _lookup(symbol.replace(" ", "") if symbol else word)
            if not last:
                return None
            words.add(last)
            factor = _add(last, power_before * sign, dimensions, factor)
            power_before = 1
    if not words:
        return None
    return Unit(factor, tuple(sorted((name, power) for name, power in dimensions.items() if power)), frozenset(words))


def _add(spelling: str, power: int, dimensions: dict[str, int], factor: Fraction) -> Fraction:
    own, parts = _BY_SPELLING[spelling]
    for name, exponent in parts.items():
        dimensions[name] = dimensions.get(name, 0) + exponent * power
    return factor * own**power


def _lookup(word: str) -> str:
    """Return the spelling in the table, or ''. One-letter symbols are case-sensitive (m, M; s, S), except for L."""
    for spelling in (word, _singular(word), word.lower(), _singular(word.lower())):
        if spelling in _BY_SPELLING and (len(word) > 1 or spelling == word or word == "L"):
            return spelling
    return ""


def _counted(text: str) -> Unit | None:
    if _CHINESE_COUNT.fullmatch(text):
        return Unit(Fraction(1), (("#" + text, 1),), frozenset({text}))
    words = text.replace("-", " ").split()
    if not 1 <= len(words) <= MOST_WORDS or not all(re.fullmatch(r"[A-Za-z']+\.?", word) for word in words):
        return None
    plain = [word.lower().strip(".'") for word in words]
    if any(word in _NOT_NOUNS or word in MULTIPLIERS for word in plain) or len(plain[0]) < 3:
        return None
    return Unit(Fraction(1), (("#" + _singular(plain[-1]), 1),), frozenset({_singular(plain[-1])}))


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 3 and word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


@lru_cache(maxsize=256)
def _spellings(word: str) -> frozenset[str]:
    for spellings in _TABLE:
        if word in spellings.split():
            return frozenset(spellings.split())
    return frozenset({word})


def leading_unit(text: str) -> str:
    """Return the longest unit of measurement at the start of a text, optionally with a multiplier; '' if there is none.

    Words that are rarely units in prose, such as "in" in "5 in all", only count as part of a longer unit."""
    pieces: list[str] = []
    at = 0
    while len(pieces) < MOST_LEADING and (match := _LEADING.match(text, at)):
        pieces.append(match[0])
        at = match.end()
        at += len(text[at:]) - len(text[at:].lstrip(" "))
    while pieces:
        unit = " ".join(pieces).rstrip(".")
        known = unit.lower()
        rest = multiplier(unit)[1] if known not in _NO_UNIT_IN_PROSE else None
        if rest is not None and (not rest or (measure(rest) is not None and rest.lower() not in _NO_UNIT_IN_PROSE)):
            return unit
        pieces.pop()
    return ""


def quotient(unit: Unit, other: Unit) -> Fraction | None:
    """Return the number of `unit` in one `other`; None if the dimensions differ. ¥ matches both yen and yuan."""
    kinds = {name for one in (unit, other) for name, _ in one.dimensions}
    if "yen or yuan" in kinds and len(kinds) == 2 and kinds <= {"yen or yuan", "yen", "yuan"}:
        return other.factor / unit.factor
    return other.factor / unit.factor if unit.dimensions == other.dimensions else None


def multiplier(text: str) -> tuple[int, str]:
    """Split a text such as "million dollars" into 1,000,000 and "dollars". Without a multiplier, return 1 and the
    text."""
    text = text.strip()
    if match := CHINESE_MULTIPLIER.match(text):
        return MULTIPLIERS[match[0]], text[match.end() :].strip()
    first, _, rest = text.partition(" ")
    value = MULTIPLIERS.get(first.lower().rstrip("s"))
    return (value, rest.strip()) if value is not None else (1, text)
