"""Near-duplicates and leaked problems, planted in real text."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from thinkling.data.decontaminate import HeldOut
from thinkling.data.near_dedup import NearDuplicates, clusters
from thinkling.sources import python_stdlib as stdlib

WORDS, CHANGED, CHANGED_TOO_MUCH, PLANTED = 490, 8, 60, 1000


def corpora(folder: Path) -> dict[str, list[str]]:
    """Name → texts: the real corpora, and the standard library's code and documentation."""
    names = ("wikitext2", "rust_book", "email", "web/dclm_labelled", "web/cc_en_head-0091", "web/cc_en_head-0174")
    found = {name: jsonl(folder / "corpus" / f"{name}.jsonl", "text") for name in names}
    root = stdlib.root()
    parts: tuple[stdlib.Part, ...] = ("docstrings", "topics", "code")
    for part in parts:
        texts = (text for name in stdlib.files(part, root) for text in stdlib.texts(part, root, name))
        found[part] = [text.text for text in texts if text.problem is None]
    return found


def jsonl(path: Path, field: str) -> list[str]:
    """One field of every line of a file."""
    return [json.loads(line)[field] for line in path.read_bytes().split(b"\n") if line.strip()]


def near_duplicates(folder: Path) -> dict[str, dict[str, Any]]:
    """Both curation.near-duplicates claims. A false positive is a dropped document to which no other document is
    similar enough by the plain definition (all pairs, sets of word runs)."""
    rng = random.Random(11)
    originals = list(_pieces(corpora(folder)))
    vocabulary = sorted({word for words in originals for word in words})
    chosen = rng.sample(range(len(originals)), PLANTED)
    copies = [_changed(originals[i], CHANGED, vocabulary, rng) for i in chosen]
    rewritten = [_changed(originals[i], CHANGED_TOO_MUCH, vocabulary, rng) for i in rng.sample(chosen, PLANTED)]
    documents = [*originals, *rewritten, *copies]
    first = clusters((" ".join(words) for words in documents), NearDuplicates())
    n = len(originals) + len(rewritten)
    found = sum(first[n + place] == first[i] for place, i in enumerate(chosen))
    true = _similar_by_definition(documents[:n], NearDuplicates())
    wrong = [i for i in range(n) if first[i] != i and i not in true]
    print(f"near duplicates: {found} of {PLANTED} copies found; {len(wrong)} of {n} others wrongly dropped; "
          f"{len(true)} of them naturally resemble another one")  # fmt: skip
    return {
        "curation.near-duplicates-found": _fraction(found, PLANTED, "share") | {"words": WORDS, "changed": CHANGED},
        "curation.near-duplicates-wrong": _fraction(len(wrong), n, "share")
        | {"rewritten": PLANTED, "changed": CHANGED_TOO_MUCH},
    }


def _pieces(texts: dict[str, list[str]]) -> Iterator[list[str]]:
    for name in sorted(texts):
        for text in texts[name]:
            words = text.split()
            for start in range(0, len(words) - WORDS + 1, WORDS):
                yield words[start : start + WORDS]


def _changed(words: Sequence[str], n: int, vocabulary: Sequence[str], rng: random.Random) -> list[str]:
    out = list(words)
    for place in rng.sample(range(len(out)), n):
        out[place] = rng.choice(vocabulary)
    return out


def _similar_by_definition(documents: Sequence[Sequence[str]], settings: NearDuplicates) -> set[int]:
    """Documents that have another one at Jaccard ≥ threshold, found by shared word runs instead of hashes."""
    holders: dict[tuple[str, ...], list[int]] = {}
    sizes = []
    for i, words in enumerate(documents):
        plain = re.findall(r"\w(?:\S*\w)?", " ".join(words).casefold())
        runs = {tuple(plain[j : j + settings.run]) for j in range(len(plain) - settings.run + 1)}
        sizes.append(len(runs))
        for run in runs:
            holders.setdefault(run, []).append(i)
    common: Counter[tuple[int, int]] = Counter()
    for members in holders.values():
        if len(members) < 200:  # a run this common does not indicate a copy
            common.update((a, b) for place, a in enumerate(members) for b in members[place + 1 :])
    found = set()
    for (a, b), n in common.items():
        if n >= settings.threshold * (sizes[a] + sizes[b] - n):
            found |= {a, b}
    return found


def leaks(folder: Path) -> dict[str, dict[str, Any]]:
    """Both curation.leaks claims. Every problem is retyped in each way of `RETYPED` and inserted into a real text."""
    rng = random.Random(12)
    math = json.loads((folder / "math" / "math500.json").read_text(encoding="utf-8"))
    problems = jsonl(folder / "gsm8k" / "test.jsonl", "question") + [row["problem"] for row in math]
    carriers = [text for texts in corpora(folder).values() for text in texts if text.strip()]
    held_out = HeldOut(problems)
    found: dict[str, int] = {}
    for way, retype in RETYPED.items():
        planted = (_inside(retype(problem, rng), rng.choice(carriers), rng) for problem in problems)
        found[way] = sum(held_out.find(text) is not None for text in planted)
        print(f"leaks, {way}: {found[way]} of {len(problems)} found")
    wrong = sum(held_out.find(text) is not None for text in carriers)
    print(f"leaks: {wrong} of {len(carriers)} clean texts dropped")
    fractions = {way: n / len(problems) for way, n in found.items()}
    return {
        "curation.leaks-found": _fraction(sum(found.values()), len(problems) * len(RETYPED), "share")
        | {"by_way": fractions},
        "curation.leaks-wrong": _fraction(wrong, len(carriers), "share"),
    }


def _inside(problem: str, carrier: str, rng: random.Random) -> str:
    place = rng.choice([0, len(carrier), carrier.find(" ", rng.randrange(len(carrier)))])
    place = len(carrier) if place < 0 else place
    return f"{carrier[:place]}\n{problem}\n{carrier[place:]}"


def _case(problem: str, rng: random.Random) -> str:
    """All upper case, all lower case, or title case; LaTeX commands keep theirs."""
    change = rng.choice((str.upper, str.lower, str.title))
    return "".join(part if part.startswith("\\") else change(part) for part in re.split(r"(\\[a-zA-Z]+)", problem))


def _spacing(problem: str, rng: random.Random) -> str:
    """Different white space between words, extra spaces around operators, none before punctuation."""
    spaced = re.sub(
        r"(?<=[\w)}])\s*([+*/=<>-])\s*(?=[\w({\\])", lambda m: rng.choice(("", " ", "  ")).join(("", m[1], "")), problem
    )
    return "".join(rng.choice((" ", "  ", "\n", "\t", "\u00a0", " \r\n ")) if c == " " else c for c in spaced)


def _latex(problem: str, rng: random.Random) -> str:
    """The same formulas as another author would type them; in prose, numbers become formulas."""
    if "$" not in problem or "\\" not in problem:
        problem = re.sub(r"\$?(\d+(?:[.,]\d+)*)", lambda m: rng.choice(("$%s$", "\\(%s\\)", "$%s\\,$")) % m[1], problem)
        return problem.replace("%", "\\%")
    for old, new in (
        (r"\\frac(?=\{)", rng.choice((r"\\dfrac", r"\\tfrac"))),
        (r"\\le(?:q)?(?![a-z])", rng.choice((r"\\leq", r"\\leqslant", "≤"))),
        (r"\\ge(?:q)?(?![a-z])", rng.choice((r"\\geq", r"\\geqslant", "≥"))),
        (r"\\cdot(?![a-z])", r"\\times"),
        (r"\\pi(?![a-z])", rng.choice((r"\\pi ", "π"))),
        (r"\^(\w)(?!\w)", rng.choice((r"^{\1}", r"^ \1"))),
        (r"(?<!\\left)\(", rng.choice((r"\\left( ", r"\\bigl("))),
        (r"(?<!\\right)\)", rng.choice((r" \\right)", r"\\bigr)"))),
        (r"\\text\{", r"\\mathrm{"),
    ):  # fmt: skip
        problem = re.sub(old, new, problem)
    opened, closed = rng.choice((("\\(", "\\)"), ("$$", "$$"), ("\\( \\displaystyle ", "\\,\\)")))
    parts = problem.split("$")
    return "".join(part if i % 2 == 0 else f"{opened}{part}{closed}" for i, part in enumerate(parts))


def _all(problem: str, rng: random.Random) -> str:
    return _spacing(_case(_latex(problem, rng), rng), rng)


RETYPED: dict[str, Callable[[str, random.Random], str]] = {
    "case": _case,
    "spacing": _spacing,
    "latex": _latex,
    "all three": _all,
}


def _fraction(n: int, of: int, unit: str) -> dict[str, Any]:
    """A proportion with its 95% interval (Wilson)."""
    p, z = n / of, 1.96
    centre, half = (p + z * z / 2 / of), z * ((p * (1 - p) + z * z / 4 / of) / of) ** 0.5
    low, high = (centre - half) / (1 + z * z / of), (centre + half) / (1 + z * z / of)
    return {"value": p, "low": max(0.0, min(low, p)), "high": min(1.0, max(high, p)), "n": of, "unit": unit}
