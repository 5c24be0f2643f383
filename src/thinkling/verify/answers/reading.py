"""Parser from answers in the notation of notation.py to forms.

The parser splits answers at brackets, commas and relations. Literal numbers between them are parsed exactly; other
mathematics becomes an `Expression`, which only the pool can compare.
"""

from __future__ import annotations

import re
from itertools import pairwise

from thinkling.verify.answers.forms import (
    Approximation,
    Assignment,
    Equation,
    Expression,
    Form,
    Infinity,
    Interval,
    Items,
    Mapping,
    Matrix,
    Quantity,
    Union,
    Words,
)
from thinkling.verify.answers.leaves import depths, has_variables, read_leaf, read_plain_number
from thinkling.verify.answers.names import CLOSED_NAME, NAME
from thinkling.verify.answers.numbers import Number, Unreadable, read_number, same_number

MOST_ITEMS = 50
DEEPEST = 12
"""Maximum depth of nested structures."""


_SEPARATOR = re.compile(r"\s*(?:[,;]\s*)?\b(and|or)\b\s*|\s*[,;]\s*")
_QUOTED_WORD = re.compile(r'"\s*(and|or)\s*"')
_HEDGE = re.compile(r"(?:(?:about|approximately|exactly|roughly)\s+(?=[-$\\\d])|≈\s*)", re.IGNORECASE)
_THOUSANDS = re.compile(r"(?<![\d,.])(?:[1-9]\d{0,2}(?:,\d{3})+|[1-9]\d?(?:,\d{2})+,\d{3}|0,\d{2,})(?![\d,])")
_RELATION = re.compile(r"[<>≤≥]")
_TURNED = {"<": ">", ">": "<", "≤": "≥", "≥": "≤"}
_NEGATED_NAME = re.compile(rf"-\s*(?:{NAME.pattern})")
_EMPTY = {"∅", "no solution", "no solutions", "no real solution", "no real solutions", "empty set", "the empty set"}
_REALS = {r"\mathbb{R}", "all real numbers", "all reals", "the real numbers", "real numbers", r"\mathbb R"}
_REALS_WITHOUT = re.compile(
    r"(?:\\mathbb ?\{?R\}?|(?:all )?(?:the )?real(?: number)?s)\s*"
    r"(?:\\setminus|-|(?:except|but|without|excluding)(?: for)?\b)\s*(.+)"
)
_BUILDER = re.compile(r"\\?\{\s*([A-Za-z])(?:\s*∈\s*\\mathbb ?\{?R\}?)?\s*(?:\\mid|\||:)(.+?)\\?\}")
REALS = Interval(Infinity(-1), Infinity(1), True, True)
_MATRIX = re.compile(r"\\begin\{([pbB]?matrix)\}(.*)\\end\{\1\}")


def read(text: str, depth: int = 0, thousands: bool = True) -> Form:
    """Parse an answer. Raises Unreadable if it cannot be compared. `thousands`: whether 1,234 is one number."""
    text = text.strip()
    if re.fullmatch('"[A-Za-z]{2,3}"', text) and read_number(text[1:-1]) is None:
        return Words(text[1:-1].lower())  # without quotes, the text could be a product
    text = _without_hedge(_QUOTED_WORD.sub(r" \1 ", _unquoted(text)).strip())
    if not text or depth > DEEPEST or not _balanced(text):
        raise Unreadable("nothing readable")
    if text.replace('"', "").lower() in _EMPTY or text.replace(" ", "") in (r"\{\}", "{}"):
        return Items("set", ())
    if text.replace('"', "").strip() in _REALS:
        return REALS
    if match := _REALS_WITHOUT.fullmatch(" ".join(text.replace('"', " ").split())):
        return _without(_points(read(match[1], depth + 1)))
    if match := _BUILDER.fullmatch(text):
        return read(match[2].replace(r", x ∈ \mathbb{R}", ""), depth + 1)
    pieces, words = _split(text, protect=thousands and depth == 0)
    if len(pieces) > 1:
        return (
            _excluded(pieces, depth) if "≠" in pieces[0] and words <= {",", "and"} else _listing(pieces, words, depth)
        )
    if "∈" in text:
        return _member(text, depth)
    if len(parts := _split_on(text, "∪")) > 1:
        return Union(tuple(read(part, depth + 1) for part in parts))
    if "≠" in text:
        return _excluded([text], depth)
    if len(sides := _split_on(text, "≈")) > 1:
        return _approximation(sides, depth)
    if any(sign in text for sign in "∩≈"):
        raise Unreadable("a relation that is not an answer")
    if _top_level(text, "<>≤≥"):
        return _inequality(text, depth)
    if len(sides := _split_on(text, "=")) > 1:
        return _equation(text, sides, depth)
    if (form := _bracketed(text, depth)) is not None:
        return form
    if "±" in text:
        signs = [("+", "-"), ("-", "+")]
        return Items("list", tuple(read(_signed(text, plus, minus), depth + 1) for plus, minus in signs))
    return read_leaf(text)


_ONE_CHOICE = r"(?:(?!\([A-Za-z]\)|\b[A-Za-z][.)] |\b(?:and|or)\b)[^,;])*"
_CHOICE = re.compile(
    rf"(?:(?:option|choice|answer) )?\(?([A-Z])\)?|\(([A-Z])\){_ONE_CHOICE}|([A-Z])[.):]{_ONE_CHOICE}", re.IGNORECASE
)


def choice(text: str) -> str | None:
    """Return the capital letter of a choice ("B", "(B)", "B. 12", "(B) 12", "option B"), or None if there is no choice
    or more than one."""
    match = _CHOICE.fullmatch(" ".join(text.replace('"', "").split()))
    return None if match is None else (match[1] or match[2] or match[3]).upper()


def _approximation(sides: list[str], depth: int) -> Form:
    """Parse an approximation. "x ≈ 11" becomes the value 11. "1/3 ≈ 0.333" becomes the value 1/3, provided that the two
    sides match, which rules.py checks."""
    if not all(sides) or len(sides) > 3:
        raise Unreadable("an approximation without a side")
    if NAME.fullmatch(sides[0]) or CLOSED_NAME.fullmatch(sides[0]):
        return _named(sides[0], read("≈".join(sides[1:]), depth + 1), "=".join(sides))
    form, about = read(sides[0], depth + 1), read(sides[-1], depth + 1)
    name = form if isinstance(form, Assignment) else None
    exact = name.value if name else form
    if isinstance(about, Quantity) and (not isinstance(exact, Quantity) or exact.unit == about.unit):
        value = exact.value if isinstance(exact, Quantity) else exact
        if not isinstance(value, Number | Expression):
            raise Unreadable("an approximation of no quantity")
        return Quantity(value, about.unit)
    if not isinstance(about, Number) or (about.decimals is None and len(sides) == 2):
        raise Unreadable("an approximation that is not a decimal")
    if about.percent:
        places = None if about.decimals is None else about.decimals + 2
        about = Number(about.value / 100, places, about.digits)
    near = Approximation(exact, Number(about.value, about.decimals, about.digits, about=True))
    if name:
        return _named(name.name, near, name.text)
    return near


def _excluded(pieces: list[str], depth: int) -> Form:
    """Parse excluded values: "x ≠ 2, x ≠ 3" becomes the set of all real numbers except 2 and 3."""
    points: list[Number] = []
    name = ""
    for piece in pieces:
        sides = _split_on(piece, "≠")
        if len(sides) == 2 and NAME.fullmatch(sides[0]) and name in ("", sides[0]):
            name = sides[0]
        elif len(sides) != 1 or not name:
            raise Unreadable("a relation that is not an answer")
        points.extend(_points(read(sides[-1], depth + 1)))
    return _without(points)


def _points(form: Form) -> list[Number]:
    items = form.items if isinstance(form, Items) and form.kind != "tuple" else (form,)
    items = tuple(item.value if isinstance(item, Assignment) else item for item in items)
    if not items or not all(isinstance(item, Number) and not item.percent for item in items):
        raise Unreadable("points that are not numbers")
    return [item for item in items if isinstance(item, Number)]


def _without(points: list[Number]) -> Form:
    ends: list[Form] = [Infinity(-1), *sorted(set(points), key=lambda point: point.value), Infinity(1)]
    return Union(tuple(Interval(low, high, True, True) for low, high in pairwise(ends)))


def _named(name: str, value: Form, text: str) -> Form:
    return Assignment(_key(name), value, text)


def _without_hedge(text: str) -> str:
    match = _HEDGE.match(text)
    return text[match.end() :] if match else text


def _signed(text: str, plus: str, minus: str) -> str:
    text = text.replace("±", plus).replace("∓", minus).strip()
    return text[1:].strip() if text.startswith("+") else text


def _unquoted(text: str) -> str:
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] == '"' and text.count('"') == 2 else text


def _balanced(text: str) -> bool:
    """Whether brackets match. Parentheses and square brackets count as the same bracket, because intervals mix them."""
    depth = brackets = 0
    for character in text:
        depth += (character == "{") - (character == "}")
        brackets += (character in "([") - (character in ")]")
        if depth < 0 or brackets < 0:
            return False
    return depth == brackets == 0 and text.count('"') % 2 == 0


def _top_level(text: str, signs: str) -> bool:
    return any(depth == 0 and character in signs for character, depth in zip(text, depths(text), strict=True))


def _split_on(text: str, sign: str) -> list[str]:
    cuts = [at for at, depth in enumerate(depths(text)) if depth == 0 and text[at] == sign]
    starts = [0, *(cut + 1 for cut in cuts)]
    return [text[start:end].strip() for start, end in zip(starts, [*cuts, len(text)], strict=True)]


def _split(text: str, protect: bool) -> tuple[list[str], set[str]]:
    """Split at commas, semicolons, "and" and "or" outside brackets and quotes. Returns the pieces and the separators
    found.

    `protect`: do not split at commas that group digits, as in 1,234."""
    inside = depths(text)
    kept = {at for match in _THOUSANDS.finditer(text) for at in range(*match.span())} if protect else set()
    pieces: list[str] = []
    words: set[str] = set()
    start = 0
    for match in _SEPARATOR.finditer(text):
        sign = match.start() + len(match[0]) - len(match[0].lstrip())
        if inside[sign] or sign in kept or text.count('"', 0, sign) % 2:
            continue
        pieces.append(text[start : match.start()].strip())
        words.add(match[1] or ",")
        start = match.end()
    pieces.append(text[start:].strip())
    if len(pieces) > MOST_ITEMS or (len(pieces) > 1 and not all(pieces)):
        raise Unreadable("a list with gaps, or a very long one")
    return pieces, words


def _listing(pieces: list[str], words: set[str], depth: int) -> Form:
    items = tuple(read(piece, depth + 1) for piece in pieces)
    if all(isinstance(item, Interval) for item in items):
        return _joined([item for item in items if isinstance(item, Interval)], words)
    named = [item for item in items if isinstance(item, Assignment)]
    if len(named) == len(items) and len({item.name for item in named}) == len(named):
        return Mapping(tuple(item.name for item in named), tuple(item.value for item in named))
    if named and len({item.name for item in named}) > 1:
        raise Unreadable("assignments to several names among others")
    items = tuple(item.value if isinstance(item, Assignment) else item for item in items)
    return Items("list", _flat(items))


def _flat(items: tuple[Form, ...]) -> tuple[Form, ...]:
    """Replace an item with two values, such as 1 ± 2, by two items."""
    parts: list[Form] = []
    for item in items:
        parts.extend(item.items if isinstance(item, Items) and item.kind == "list" else [item])
    return tuple(parts)


def _joined(items: list[Interval], words: set[str]) -> Form:
    """Combine intervals: "x < 2 or x > 3" becomes a union, "x > 2 and x < 3" becomes an interval, and other intervals
    become a list."""
    if "or" in words and len({item.name for item in items}) == 1:
        return Union(tuple(Interval(item.low, item.high, item.low_open, item.high_open) for item in items))
    if len(items) == 2 and items[0].name and items[0].name == items[1].name:
        below = [item for item in items if item.low == Infinity(-1)]
        above = [item for item in items if item.high == Infinity(1)]
        if len(below) == len(above) == 1 and below[0] is not above[0]:
            return Interval(above[0].low, below[0].high, above[0].low_open, below[0].high_open, items[0].name)
    return Items("list", tuple(items))


def _member(text: str, depth: int) -> Form:
    name, _, rest = text.partition("∈")
    if not NAME.fullmatch(name.strip()):
        raise Unreadable("membership of more than a name")
    form = read(rest, depth + 1)
    if isinstance(form, Items) and form.kind == "tuple" and len(form.items) == 2:
        form = Interval(*form.items, True, True)
    return form


def _inequality(text: str, depth: int) -> Form:
    sides = [side.strip() for side in _RELATION.split(text)]
    signs = _RELATION.findall(text)
    if not all(sides) or len(sides) > 3:
        raise Unreadable("an inequality without a side")
    if any(_NEGATED_NAME.fullmatch(side) for side in sides):
        sides, signs = [_negated(side) for side in sides], [_TURNED[sign] for sign in signs]
    if signs[0] in ">≥" and len({sign in ">≥" for sign in signs}) == 1:  # write the smaller side first
        sides.reverse()
        signs = [_TURNED[sign] for sign in reversed(signs)]
    if any(sign in ">≥" for sign in signs):
        raise Unreadable("an inequality in two directions")
    opens = [sign == "<" for sign in signs]
    named = [bool(NAME.fullmatch(side)) for side in sides]
    bounds = [side for side, name in zip(sides, named, strict=True) if not name]
    if named.count(True) != 1 or any(has_variables(bound) for bound in bounds) or (len(sides) == 3 and not named[1]):
        if "=" in text or len(sides) == 3:
            raise Unreadable("an inequality between expressions")
        return Equation(text, sides[-1])
    name = _key(sides[named.index(True)])
    values = [read(bound, depth + 1) for bound in bounds]
    if len(sides) == 3:
        return Interval(values[0], values[1], opens[0], opens[1], name)
    if named[0]:
        return Interval(Infinity(-1), values[0], True, opens[0], name)
    return Interval(values[0], Infinity(1), opens[0], True, name)


def _negated(side: str) -> str:
    """Negate one side of an inequality such as -x > -4."""
    bare = side.removeprefix("-").strip()
    if bare != side and not re.search(r"[-+]", bare):
        return bare
    return "-" + side if not re.search(r"[-+]", side) else f"-({side})"


def _equation(text: str, sides: list[str], depth: int) -> Form:
    if not all(sides):
        raise Unreadable("an equation without a side")
    if len(sides) == 2 and (names := _names(sides[0])):
        values = read(sides[1], depth + 1)
        if isinstance(values, Items) and values.kind == "tuple" and len(values.items) == len(names):
            return Mapping(names, values.items)
    name = sides[0] if NAME.fullmatch(sides[0]) or CLOSED_NAME.fullmatch(sides[0]) else ""
    if not name and len(sides) == 2 and NAME.fullmatch(sides[1]) and not has_variables(sides[0]):
        name, sides = sides[1], sides[::-1]
    values = sides[1:] if name else sides
    if not name and any(has_variables(side) for side in sides):
        return Equation(text, sides[-1])
    form = read(values[-1], depth + 1)
    numbers = [number for value in values if (number := read_plain_number(value)) is not None]
    if not all(same_number(numbers[-1], number) for number in numbers):
        raise Unreadable("an equation between different numbers")
    return _named(name, form, text) if name else form


def _names(text: str) -> tuple[str, ...]:
    """Return the names in a text such as "(m, n)"; empty for other texts."""
    if not text.startswith("(") or not text.endswith(")"):
        return ()
    names = tuple(_key(name.strip()) for name in text[1:-1].split(","))
    return names if len(set(names)) == len(names) > 1 and all(map(NAME.fullmatch, names)) else ()


def _key(name: str) -> str:
    return name.replace("{", "").replace("}", "").replace(" ", "")


def _bracketed(text: str, depth: int) -> Form | None:
    if match := _MATRIX.fullmatch(text):
        rows = [row for row in match[2].split(r"\\") if row.strip()]
        cells = tuple(tuple(read(cell, depth + 1) for cell in row.split("&")) for row in rows)
        if not cells or len({len(row) for row in cells}) != 1 or sum(map(len, cells)) > MOST_ITEMS:
            raise Unreadable("a matrix of unequal rows")
        return Matrix(cells)
    braces = text.startswith(r"\{") and text.endswith(r"\}")
    inner = text[2:-2] if braces else text[1:-1]
    if not braces and (text[0] not in "([{" or text[-1] not in ")]}"):
        return None
    if 0 in depths(text)[2 if braces else 1 :]:
        return None  # a product, such as (a)(b)
    pieces, words = _split(inner, protect=False)
    if words - {","}:
        return None
    items = tuple(read(piece, depth + 1) for piece in pieces)
    if braces or text[0] == "{":
        if len(items) == 1 and isinstance(items[0], Interval) and items[0].name:
            return items[0]
        return Items("set", _flat(items)) if text[-1] == "}" else None
    if len(items) == 1:
        return items[0]
    if len(items) == 2 and text[0] + text[-1] != "()":
        return Interval(items[0], items[1], text[0] == "(", text[-1] == ")")
    return Items("tuple", items) if text[0] + text[-1] in ("()", "[]") else None
