"""One spelling for the many of an answer: LaTeX, Unicode and plain text become one notation, for reading.py.

The notation is LaTeX with these changes: relations and set signs are single characters (≤ ≥ ≠ ∈ ∪ ∩ ± ∓ ∞ ∅), a degree
is °, percent is %, money has its sign ($ € £ ¥), the contents of `\\text{…}` and its like stand between double quotes,
`\\frac` and `\\sqrt` have braces, `\\times` is the only product sign, and marks that only set type are gone. `latex`
goes back to what math-verify reads.
"""

from __future__ import annotations

import re

_CHARACTERS = str.maketrans(
    {
        "\u2212": "-", "\u2013": "-", "\u2010": "-", "\u2011": "-", "\u00a0": " ", "\u2009": " ", "\u202f": " ",
        "\u00d7": r"\times ", "\u00b7": r"\times ", "\u22c5": r"\times ", "\u00f7": "/", "\u2044": "/", "\u2215": "/",
        "\u03c0": r"\pi ", "\u03b8": r"\theta ", "\u221a": r"\sqrt ", "\u221e": "∞", "\u2264": "≤", "\u2265": "≥",
        "\u2a7d": "≤", "\u2a7e": "≥", "\u2260": "≠", "\u222a": "∪", "\u2229": "∩", "\u2208": "∈",
        "\u211d": r"\mathbb{R}",
        "\u2205": "∅", "\u00bd": r"\frac{1}{2}", "\u00bc": r"\frac{1}{4}", "\u00be": r"\frac{3}{4}",
        "\u2153": r"\frac{1}{3}", "\u2154": r"\frac{2}{3}", "\u00b0": "°", "\u00ba": "°",
        "\u2103": "°C", "\u2109": "°F",
        "\u2018": "'", "\u2019": "'", "\u201c": "", "\u201d": "", '"': "", "`": "", "\u00b9": "^{1}", "\u00b2": "^{2}",
        "\u00b3": "^{3}", "\u2074": "^{4}", "\u2075": "^{5}", "\u2076": "^{6}", "\u2077": "^{7}", "\u2078": "^{8}",
        "\u2079": "^{9}", "\n": " ", "\t": " ", "\u20ac": "€", "\u00a3": "£",
    }
)  # fmt: skip
_COMMANDS = {
    "cdot": r"\times ", "ast": r"\times ", "div": "/", "infty": "∞", "inf": "∞", "le": "≤", "leq": "≤", "leqslant": "≤",
    "ge": "≥", "geq": "≥", "geqslant": "≥", "lt": "<", "gt": ">", "ne": "≠", "neq": "≠", "in": "∈", "cup": "∪",
    "cap": "∩", "langle": "(", "rangle": ")",
    "pm": "±", "mp": "∓", "emptyset": "∅", "varnothing": "∅", "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac",
    "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "colon": ":", "degree": "°", "approx": "≈",
    "euro": "€", "pounds": "£", "quad": " ", "qquad": " ", "space": " ", "displaystyle": " ", "textstyle": " ",
    "land": ",",
    "limits": "", "left": "", "right": "", "big": "", "bigl": "", "bigr": "", "Big": "", "Bigl": "", "Bigr": "",
    "phantom": " ", "hphantom": " ",
    "rm": "", "bf": "", "it": "", "mathstrut": "", "strut": "", "to": r"\to ", "iff": r"\iff ",
}  # fmt: skip
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_TEXT = re.compile(
    r"\\(?:text|mbox|textrm|textbf|textit|textsf|textnormal|texttt|mathrm|operatorname|hbox|mathbf|boldsymbol|mathit)"
    r"\s*\{([^{}]*)\}"
)
_MATH_DOLLARS = re.compile(r"(?<!\\)\$+")
_DIGITS_APART = re.compile(r"(?<=\d)(?:\\[,!;:]|\{,\}|\\ )(?=\d{3}(?!\d))")
_SPACING = re.compile(r"\\[,!;: ]|~")
_SHORT_FRACTION = re.compile(r"\\frac\s*(\d|\{[^{}]*\}|\\pi)\s*(\d|\{[^{}]*\}|\\pi|[a-z])")
_SHORT_ROOT = re.compile(r"\\sqrt\s*(\d+|[a-z]|\\pi)")
_PLAIN_ROOT = re.compile(r"(?<![\\A-Za-z])sqrt\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+))")
_SCIENTIFIC_X = re.compile(r"(?<=\d)\s*[xX*]\s*(?=10\s*\^)")
_DEGREE = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z])|°)|°")
_PLAIN = re.compile(r"(?<![\\A-Za-z])(infinity|inf|oo|pi|theta)(?![A-Za-z])")
_PLAIN_NAMES = {"infinity": "∞", "inf": "∞", "oo": "∞", "pi": r"\pi ", "theta": r"\theta "}
_CONSTANT = re.compile(r"[ei]")


def plain(text: str) -> str:
    """Brings an answer into the notation. Never fails: what it does not know stays as it is."""
    text = _MATH_DOLLARS.sub(_dollar(text), text.translate(_CHARACTERS))
    text = re.sub(r"\\[\[\]()]", " ", text)
    text = text.replace(r"\\%", "%").replace(r"\%", "%").replace(r"\$", "$")
    text = _DIGITS_APART.sub("", text)
    text = _SPACING.sub(lambda match: "" if match[0] == r"\!" else " ", text) if "matrix" not in text else text
    for _ in range(3):  # texts stand in texts
        text = _TEXT.sub(_quote, text)
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[1], match[0]), text)
    text = text.replace("<=", "≤").replace(">=", "≥").replace("!=", "≠").replace("**", "^")
    text = _DEGREE.sub("°", text)
    text = _PLAIN.sub(lambda match: _PLAIN_NAMES[match[1]], text)
    text = _PLAIN_ROOT.sub(lambda match: r"\sqrt{" + (match[1] or match[2] or match[3]) + "}", text)
    text = _SHORT_FRACTION.sub(lambda match: r"\frac" + _brace(match[1]) + _brace(match[2]), text)
    text = _SHORT_ROOT.sub(lambda match: r"\sqrt{" + match[1].strip() + "}", text)
    text = _SCIENTIFIC_X.sub(r"\\times ", text)
    text = " ".join(text.split())
    return re.sub(r"\s*(?:(?<!\\)[.,;:]|\\\\)+$", "", text).strip()


def _dollar(text: str) -> str:
    """Paired dollars part mathematics from text; a single one is money."""
    return " " if len(_MATH_DOLLARS.findall(text)) % 2 == 0 else "$"


def _quote(match: re.Match[str]) -> str:
    content = match[1].replace('"', "")
    if _CONSTANT.fullmatch(content.strip()) or match[0].startswith((r"\mathbf", r"\boldsymbol", r"\mathit")):
        return content
    return f'"{content}"' if content.strip() else " "


def _brace(part: str) -> str:
    return part if part.startswith("{") else "{" + part + "}"


FUNCTIONS = (
    "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp",
    "det", "gcd", "lcm", "max", "min",
)  # fmt: skip
_BACK = {
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∈": r"\in ", "∪": r"\cup ", "∩": r"\cap ", "±": r"\pm ", "∓": r"\mp ",
    "∞": r"\infty ", "∅": r"\emptyset ", "%": r"\%",
}  # fmt: skip
_DECIMAL = re.compile(r"(\^\s*)?(?<![\d.])(\d*)\.(\d+)")
_FUNCTION = re.compile(rf"(?<![\\A-Za-z])({'|'.join(FUNCTIONS)})")


def _decimal_fraction(match: re.Match[str]) -> str:
    fraction = rf"\frac{{{match[2]}{match[3]}}}{{1{'0' * len(match[3])}}}"
    return f"^{{{fraction}}}" if match[1] else fraction  # other braces could be read as a set


def latex(text: str) -> str:
    """The LaTeX of an expression in the notation. Decimals become fractions, so that nothing is rounded when read."""
    text = _FUNCTION.sub(r"\\\1", text)
    text = _DECIMAL.sub(_decimal_fraction, text)
    return "".join(_BACK.get(character, character) for character in text)


def condensed(text: str) -> str:
    """Without quotes, and spaces that part neither digits nor letters, and follow no comma: 1, 234 is not 1,234."""
    text = " ".join(text.replace('"', " ").split())
    return re.sub(r"(?<![0-9,]) (?![A-Za-z])|(?<![A-Za-z,]) (?![0-9])", "", text)
