"""Conversion of answers in LaTeX, Unicode or plain text to one common notation, which reading.py parses.

The notation is LaTeX with these changes: relations, set signs and some other symbols are single characters (≤ ≥ ≠ ∈ ∪ ∩
± ∓ ∞ ∅), degrees are °, percent is %, currencies have their signs ($ € £ ¥), the contents of `\\text{…}` and similar
commands are in double quotes, the arguments of `\\frac` and `\\sqrt` are in braces, `\\times` is the only product sign,
and purely typographic marks are removed. The function `latex` converts the notation back to LaTeX for math-verify.
"""

from __future__ import annotations

import math
import re
from itertools import accumulate

from thinkling.verify.answers.characters import one_spelling

_COMMANDS = {
    "cdot": r"\times ", "times": r"\times ", "ast": r"\times ", "div": "/", "infty": "∞", "inf": "∞",
    "le": "≤", "leq": "≤", "leqslant": "≤",
    "ge": "≥", "geq": "≥", "geqslant": "≥", "lt": "<", "gt": ">", "ne": "≠", "neq": "≠", "in": "∈", "cup": "∪",
    "cap": "∩", "langle": "(", "rangle": ")",
    "pm": "±", "mp": "∓", "emptyset": "∅", "varnothing": "∅", "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac",
    "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "colon": ":", "degree": "°", "approx": "≈",
    "simeq": "≈", "doteq": "≈", "lor": " or ", "vee": " or ", "backslash": r"\setminus ", "lg": r"\log_{10} ",
    "tg": r"\tan ", "ctg": r"\cot ", "arctg": r"\arctan ", "dbinom": r"\binom", "tbinom": r"\binom", "lvert": "|",
    "rvert": "|", "vert": "|", "mid": r"\mid ", "dots": r"\ldots ", "cdots": r"\ldots ", "hline": " ",
    "checkmark": " ", "scriptsize": " ", "cosec": r"\csc ",
    "large": " ", "Large": " ", "LARGE": " ", "huge": " ", "Huge": " ", "small": " ", "tiny": " ", "normalsize": " ",
    "footnotesize": " ", "bfseries": " ", "sf": "", "tt": "", "cal": "", "enspace": " ", "thinspace": " ",
    "nonumber": " ",
    "bigg": "", "biggl": "", "biggr": "", "Bigg": "", "Biggl": "", "Biggr": "", "middle": "", "hfill": " ",
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
_DIGITS_APART = re.compile(r"(?<=\d)(?:,\s*\\!\s*|\\[,!;:]|\{,\}|\{\\,\}|\\text\{,\}|\\ |~|'|_)(?=\d{3}(?!\d))")
_DECIMAL_COMMA = re.compile(r"(?<![\d.,])((?:\d{1,3}(?:\.\d{3})+)),(\d{1,2}|\d{4,})(?![\d.,])")
_BRACED_COMMA = re.compile(r"(?<![\d.,}])(0\{,\}(?=\d)|\d+\{,\}(?=(?:\d{1,2}|\d{4,})(?![\d{])))")
_DOTTED_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:\.\d{3}){2,}(?![\d.])")
_SPACING = re.compile(r"\\\\|\\[,!;: ]|~")
_COLOUR = re.compile(r"\\(?:color\s*|(?:textcolor|colorbox|fcolorbox\s*\{[^{}]*\})\s*)(?:\[[^\]]*\])?\{[^{}]*\}")
_LENGTHS = re.compile(
    r"\\(?:[hv]space|[hv]?phantom|label|tag|kern|vspace)\*?\s*\{[^{}]*\}|(?<=\\\\)\s*\[[\d.\- ]*(?:pt|ex|em|mm)\]"
)
_TYPE_ONLY = re.compile(
    r"\\(?:underline|bm|ensuremath|emph|mathop|rlap|llap|boxed|fbox|smash|math(?:sf|tt|cal|it|bf|rm)|boldsymbol"
    r"|text(?:bf|it|rm|sf|tt|normal)?|mbox)"
    r"\s*(?=\{)"
)
_BARE_TYPE = re.compile(r"\\math(?:sf|tt|cal|it|bf|rm)(?=\s*[\dA-Za-z]) ?|\\(?:left|right)\s*\.(?!\d)|\\cr(?![A-Za-z])")
_NOT_EQUAL = re.compile(r"\\not\s*=")
_REAL_NUMBERS = re.compile(
    r"\\(?:Bbb|mathds)\s*\{?R\}?|\\(?:mathbf|mathrm)\s*\{R\}(?=\s*(?:\\setminus|\\backslash|-\s*\\\{))"
)
_BRACED_BASE = re.compile(r"(?<![\\A-Za-z}\]^_])\{(\d+|[A-Za-z])\}(?=\s*[\^_])")
_ARRAY = re.compile(
    r"(?:[\[(]\s*)?\\begin\{(array|matrix|smallmatrix|Bmatrix)\}(?:\{(?:[^{}]|\{[^{}]*\})*\})?"
    r"(?P<rows>.*?)\\end\{\1\}(?:\s*[\])])?",
    re.DOTALL,
)
_NESTED = re.compile(r"\[\s*(\[[^\[\]]*\](?:\s*,\s*\[[^\[\]]*\])+)\s*\]")
_CASES = re.compile(
    r"(?:\\\{\s*)?\\begin\{(cases|array|aligned)\}(?:\{[^{}]*\})?(?P<rows>[^&]*?=[^&]*?)\\end\{\1\}\s*\.?"
)
_REPEATING = re.compile(
    r"(?<![\d.])(\d*)\.(\d*)(?:\\(?:overline|bar)\s*(?:\{\s*(\d+)\s*\}|(\d))|\((\d+)\)"
    r"|\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?)(?:\s*\\ldots|\.{3})?(?!\d)"
)
_CONTINUED = re.compile(r"(?<![\d.])(\d*)\.(\d{3,40})\s*(?:\\ldots(?![A-Za-z])|\.{3,})")
MOST_CHOSEN = 100
"""Largest n for which the number of arrangements A_n^k is computed."""
_CHOOSE = re.compile(r'(?<![\\A-Za-z])"?([CA])"?_(?:\{ ?(\w+) ?\}|(\w))\s*\^\s*(?:\{ ?(\w+) ?\}|(\w))')
_OTHER_CHOOSE = re.compile(r"(?:\{\}_|\^)\{?(\d+)\}?C_\{?(\d+)\}?|(?<![\\A-Za-z])C\((\d+), ?(\d+)\)")
_PLAIN_LG = re.compile(r"(?<![\\A-Za-z])lg(?= ?[\d({])")
_OTHER_DOLLARS = re.compile(r"(?<![A-Za-z])US\s?(?=\$)")
_SHORT_FRACTION = re.compile(r"\\frac\s*(\d|\{[^{}]*\}|\\pi)\s*(\d|\{[^{}]*\}|\\pi|[a-z])")
_SHORT_ROOT = re.compile(r"\\sqrt(\[\d+\]|)\s*(\d+|[a-z]|\\pi)")
_ROOT_OF_BRACKETS = re.compile(r"\\sqrt(\[\d+\]|)\s*\(([^()]*)\)")
_SHORT_BINOMIAL = re.compile(r"\\binom\s*(\d)\s*(\d)(?!\d)")
_PLAIN_ROOT = re.compile(r"(?<![\\A-Za-z])sqrt\s*(?:\(([^()]*)\)|\{([^{}]*)\}|(\d+))")
_SCIENTIFIC_X = re.compile(r"(?<=\d)\s*[xX*]\s*(?=10\s*\^)")
_DEGREE = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z])|°)|°")
_PLAIN = re.compile(r"(?<![\\A-Za-z])(infinity|inf|oo|pi|theta)(?![A-Za-z])")
_PLAIN_NAMES = {"infinity": "∞", "inf": "∞", "oo": "∞", "pi": r"\pi ", "theta": r"\theta "}
_BOLD = re.compile(r"^(?:\*\*|\*|_)(.*?)(?:\*\*|\*|_)$", re.DOTALL)
_BRACED = re.compile(r"\{.+\}", re.DOTALL)
_BRACKETED = re.compile(r"\{\s*(?:\([^()]*\)|\[[^\[\]]*\]|\\\{[^{}]*\})\s*\}")
_LISTED = re.compile(r"[,;∈:]|\b(?:and|or)\b")
_NO_WORD = re.compile(r"\s*(?:[\d.,]+|[$€£¥₹])\s*")
_CONSTANT = re.compile(r"[ei]")


def plain(text: str) -> str:
    """Convert an answer to the notation. Never raises: unknown input is left unchanged."""
    text = one_spelling(_BOLD.sub(r"\1", text.strip()))
    text = _MATH_DOLLARS.sub(_dollar(text), text)
    text = re.sub(r"(?<!\\)\\[\[\]()]", " ", text)
    text = text.replace(r"\\%", "%").replace(r"\%", "%").replace(r"\$", "$")
    text = _OTHER_DOLLARS.sub("", text)
    text = _NOT_EQUAL.sub("≠", _REAL_NUMBERS.sub(r"\\mathbb{R}", text))
    text = _numerals(text)
    text = _SPACING.sub(lambda match: {r"\\": match[0], r"\!": ""}.get(match[0], " "), text)
    text = _LENGTHS.sub(" ", _COLOUR.sub("", text)).replace(r"{\times}", r"\times ")
    text = _BARE_TYPE.sub(lambda match: r"\\ " if "cr" in match[0] else "", text)
    for _ in range(3):  # \text commands may be nested
        text = _TEXT.sub(_quote, text)
    text = _COMMAND.sub(lambda match: _COMMANDS.get(match[1], match[0]), _TYPE_ONLY.sub("", text))
    text = text.replace("<=", "≤").replace(">=", "≥").replace("!=", "≠").replace("**", "^")
    text = _structures(_DEGREE.sub("°", text))
    text = _PLAIN.sub(lambda match: _PLAIN_NAMES[match[1]], text)
    text = _ROOT_OF_BRACKETS.sub(r"\\sqrt\1{\2}", _SHORT_BINOMIAL.sub(r"\\binom{\1}{\2}", text))
    text = _PLAIN_ROOT.sub(lambda match: r"\sqrt{" + (match[1] or match[2] or match[3]) + "}", text)
    text = _SHORT_FRACTION.sub(lambda match: r"\frac" + _brace(match[1]) + _brace(match[2]), text)
    text = _SHORT_ROOT.sub(lambda match: r"\sqrt" + match[1] + "{" + match[2] + "}", text)
    text = re.sub(r"\\log_\{?e\}?(?![A-Za-z])", r"\\ln ", text)
    text = _SCIENTIFIC_X.sub(r"\\times ", _BRACED_BASE.sub(r"\1", text))
    text = _OTHER_CHOOSE.sub(lambda match: rf"\binom{{{match[1] or match[3]}}}{{{match[2] or match[4]}}}", text)
    text = _repeating(_CHOOSE.sub(_chosen, _PLAIN_LG.sub(r"\\log_{10}", text)))
    text = " ".join(text.split())
    return _ungrouped(_without_stops(text).strip())


def _numerals(text: str) -> str:
    """Normalize grouped digits and decimal commas if they are unambiguous."""
    text = _BRACED_COMMA.sub(lambda match: match[0].replace("{,}", "."), text)
    text = _DIGITS_APART.sub("", text.replace("{.}", "."))
    text = _DECIMAL_COMMA.sub(lambda match: match[1].replace(".", "") + "." + match[2], text)
    return _DOTTED_THOUSANDS.sub(lambda match: match[0].replace(".", ""), text)


def _structures(text: str) -> str:
    """Convert systems of equations to lists of equations, and matrices with any brackets to pmatrix."""
    text = _CASES.sub(lambda match: ", ".join(row for row in match["rows"].split(r"\\") if row.strip()), text)
    if match := _NESTED.fullmatch(text.strip()):
        rows = re.findall(r"\[([^\[\]]*)\]", match[1])
        return r"\begin{pmatrix}" + r"\\".join(row.replace(",", "&") for row in rows) + r"\end{pmatrix}"
    return _ARRAY.sub(lambda match: r"\begin{pmatrix}" + match["rows"] + r"\end{pmatrix}", text)


def _repeating(text: str) -> str:
    """Convert repeating decimals, such as 0.1(6), 0.1\\dot{6} and 0.1666…, to the form 0.1\\overline{6}."""

    def spelled(match: re.Match[str]) -> str:
        whole, lead, *periods = (group or "" for group in match.groups())
        return rf"{whole or 0}.{lead}\overline{{{''.join(periods)}}}"

    return _CONTINUED.sub(_continued, _REPEATING.sub(spelled, text))


def _continued(match: re.Match[str]) -> str:
    """Convert a decimal with an ellipsis if its last digits repeat: one digit three times (0.1666…), or a longer period
    twice (0.3636…)."""
    whole, digits = match.groups()
    for lead in range(len(digits)):
        tail = digits[lead:]
        for length in range(1, 7):
            seen = len(tail) >= length * (3 if length == 1 else 2)
            if seen and tail == (tail[:length] * len(tail))[: len(tail)]:
                return rf"{whole or 0}.{digits[:lead]}\overline{{{tail[:length]}}}"
    return match[0]


def _chosen(match: re.Match[str]) -> str:
    """Convert C_n^2 to a binomial coefficient, and A_5^2 to the number of arrangements. C_1^2, the square of a
    constant, is left unchanged."""
    of, chosen = match[2] or match[3], match[4] or match[5]
    if match[1] == "A":
        counted = of.isdecimal() and chosen.isdecimal() and int(chosen) <= int(of) <= MOST_CHOSEN
        return str(math.perm(int(of), int(chosen))) if counted else match[0]
    if of.isdecimal() and (not chosen.isdecimal() or int(of) < int(chosen)):
        return match[0]
    return rf"\binom{{{of}}}{{{chosen}}}"


def _without_stops(text: str) -> str:
    """Remove trailing punctuation and line breaks. Only the end of the text is searched, because a search from every
    position in a long run of full stops takes quadratic time."""
    start = len(text)
    while start and (text[start - 1] in ".,;:\\" or text[start - 1].isspace()):
        start -= 1
    return text[:start] + re.sub(r"\s*(?:(?<!\\)[.,;:]|\\\\|\\$)++$", "", text[start:])


def _ungrouped(text: str) -> str:
    """Remove braces around the whole text, unless they may denote a set."""
    while _BRACED.fullmatch(text) and (_BRACKETED.fullmatch(text) or not _LISTED.search(text)):
        inner = text[1:-1]
        depths = list(accumulate((character == "{") - (character == "}") for character in inner))
        if min(depths) < 0 or not inner.strip():
            break
        text = inner.strip()
    return text


def _dollar(text: str) -> str:
    """Return the replacement for dollar signs: a space if they are paired and delimit mathematics, or "$" if a sign
    denotes money."""
    return " " if len(_MATH_DOLLARS.findall(text)) % 2 == 0 else "$"


def _quote(match: re.Match[str]) -> str:
    content = match[1].replace('"', "")
    if _NO_WORD.fullmatch(content):
        return content
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


_REPEATING_DECIMAL = re.compile(r"(?<![\d.])(\d+)\.(\d*)\\overline\{(\d+)\}")


def _repeating_fraction(match: re.Match[str]) -> str:
    whole, lead, period = match.groups()
    over = int(whole + lead + period) - int(whole + lead)
    return rf"\frac{{{over}}}{{{'9' * len(period)}{'0' * len(lead)}}}"


def _decimal_fraction(match: re.Match[str]) -> str:
    fraction = rf"\frac{{{match[2]}{match[3]}}}{{1{'0' * len(match[3])}}}"
    return f"^{{{fraction}}}" if match[1] else fraction  # without an exponent, braces could be parsed as a set


def latex(text: str) -> str:
    """Convert an expression in the notation to LaTeX. Decimals become fractions, so that the LaTeX parser does not
    round them."""
    text = _FUNCTION.sub(r"\\\1", text)
    text = _REPEATING_DECIMAL.sub(_repeating_fraction, text)
    text = _DECIMAL.sub(_decimal_fraction, text)
    return "".join(_BACK.get(character, character) for character in text)


def condensed(text: str) -> str:
    """Remove quotes and unnecessary spaces. Spaces between digits or between letters remain, and so do spaces between a
    comma and a digit (1, 234 is not 1,234)."""
    text = " ".join(text.replace('"', " ").split())
    return re.sub(r"(?<![0-9,]) (?![A-Za-z])|(?<![A-Za-z,]) (?![0-9])", "", text)
