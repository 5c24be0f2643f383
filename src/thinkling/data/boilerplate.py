"""Detects boilerplate in held-out problems: words that are no evidence that a document contains the problem.

There are two kinds of boilerplate, instructions and shared text. *Instructions* about how to answer ("Please reason
step by step, and put your final answer within \\boxed{}") are stretches of 8 or more instruction words, at least some
of which refer to answering. *Shared text* is text that appears identically in 10 or more problems, or in at least three
problems that make up half of the total. All other words are the problem's own words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from thinkling.data.ngrams import Hashes

MANY_PROBLEMS = 10
"""A run of words counts as shared text if at least this many problems contain it. Real benchmarks do not repeat a
genuine sentence this often."""
FEW_PROBLEMS = 3
STRETCH = 8
"""Minimum length of an instruction, in consecutive instruction words."""

_TELLING_TEXT = """
    answer answers box boxed boxes code explain explanation function instruction instructions output
    program python reason reasoning reasons respond response solution solutions solve step steps think
    thinking
"""
_WORDS_TEXT = """
    a about above accordance according additional after all always an and any are as at be before begin
    below between block blocks brackets by calculate can careful carefully choice choices choose clear
    clearly complete completely concise contain containing correct correctly curly deduce defined
    described desired detail detailed details directly do does each easy enclose enclosed end ending
    exactly example expected explicitly expression final finally first follow following follows for
    form format formatted from fully give given gives goes here how i if implement in include including
    inside integer into is it its just justify language last latex let letter letters like line lines
    logical logically make markdown markdownlatex math mathematical mathematics must need no not number
    numeric of on once only option options or other out pass passes place please precise present
    problem problems process produce proper provide provided put query question questions quotation
    quotes read requested required result results return returned returns s satisfies scratch sentence
    separate should show sign signature simplest simplified single solves solving state statement
    symbol tag tags task tests text that the then there these this through tick to top under units up
    us use user using value way when where which will with within without words work working wrap
    wrapped write writes writing x you your yourself
"""
_PHRASES_TEXT = """
    一步一步 一步步 逐步 按步骤 步骤 推理 思考 思维 解题 解答 回答 请 下面 以下 下列 问题 题目 数学
    最后 最终 答案 结果 填 放 写 置于 放置 给出 输出 方框 框 括号 里面 内 中 里 在 并 把 将 的 你 您 地
    然后 先 再 仔细 认真 过程 详细 不要 单位 只 用 使用 格式 代码 函数 编写 一个 ステップバイステップ
    ステップ 段階的 順を追って 順番 考え 考えて 推論 解いて 解き 次の 以下の 問題 質問 最後 最終的 最終
    答え 四角 枠 囲んで 書き 書いて 書か 入れて 示して 出力 単位 ください 下さい ないで だけ から
    ながら まとめて 形式 して て に を の で は と が も し な 関数 コード
"""
_TELLING_PHRASES_TEXT = """
    ステップ 一步一步 一步步 四角 回答 思考 推理 推論 方框 枠 步骤 段階的 答え 答案 考え 考えて 解答
    逐步 順を追って
"""
_TELLING = frozenset(_TELLING_TEXT.split())
_TELLING_NEEDED = 2
_WORDS = _TELLING | frozenset(_WORDS_TEXT.split())
_PHRASES = frozenset(_PHRASES_TEXT.split())
_TELLING_PHRASES = frozenset(_TELLING_PHRASES_TEXT.split())
_LONGEST = max(map(len, _PHRASES))
_STARTS = frozenset(phrase[0] for phrase in _PHRASES)


def instruction_words(words: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Returns a mask of the words (or characters in scripts without spaces) that are part of an instruction."""
    found = np.zeros(len(words), bool)
    start, at, telling, size = 0, 0, 0, 0
    while at <= len(words):
        length, tells = _piece(words, at) if at < len(words) else (0, False)
        if length:
            telling, size, at = telling + tells, size + 1, at + length
            continue
        if size and at - start >= STRETCH and telling >= _TELLING_NEEDED:
            found[start:at] = True
        at += 1
        start, telling, size = at, 0, 0
    return found


def _piece(words: Sequence[str], at: int) -> tuple[int, bool]:
    """Returns the length in words of the instruction word or phrase at this position, and whether it refers to
    answering.

    The length is 0 if there is no instruction word or phrase at this position.
    """
    word = words[at]
    if word in _WORDS:
        return 1, word in _TELLING
    if word not in _STARTS:
        return 0, False
    for length in range(min(_LONGEST, len(words) - at), 0, -1):
        phrase = "".join(words[at : at + length])
        if phrase in _PHRASES:
            return length, phrase in _TELLING_PHRASES
    return 0, False


class SharedRuns:
    """The runs of words that occur in many problems."""

    def __init__(self, runs: Iterable[Hashes]) -> None:
        """`runs` contains, for each distinct problem, the hashes of its runs."""
        counts: Counter[int] = Counter()
        n = 0
        for one in runs:
            counts.update(set(one.tolist()))
            n += 1
        limit = min(MANY_PROBLEMS, max(FEW_PROBLEMS, (n + 1) // 2))
        self._shared = np.array(sorted(run for run, count in counts.items() if count >= limit), np.uint64)

    def covered(self, hashes: Hashes, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Returns a mask of the words in shared runs, given the hash and length of the run at each position."""
        found = np.zeros(len(hashes), bool)
        for place in np.flatnonzero(np.isin(hashes, self._shared) & (lengths > 0)):
            found[place : place + lengths[place]] = True
        return found
