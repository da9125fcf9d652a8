"""sacrebleu's corpus scores, taken apart: what it counts of each row, and its formulas over sums of those counts.

So a resample of the rows costs a sum, not another pass over the texts. Sources, all in the ACL Anthology: sacrebleu,
Post 2018, W18-6319; BLEU, Papineni et al. 2002, P02-1040; chrF, Popović 2015, W15-3049; TER, Snover et al. 2006,
2006.amta-papers.25.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import regex

if TYPE_CHECKING:
    from llmkit.metrics.intervals import Floats, Statistic

SacrebleuTokenizer = Literal["13a", "zh", "char"]

CHRF_BETA = 2  # chrF: recall counts so many times as much as precision
BLEU_ORDERS = 4  # of BLEU's runs of words
MAX_OTHER_SHARE = 0.05  # of the letters of scripts without spaces: Chinese may quote a の
HAN_CHARACTER = regex.compile(r"\p{Han}")
NON_SPACED_CHARACTER = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]")


class CorpusCounts(NamedTuple):
    """What sacrebleu counts of each row [n, K], its formula from sums [B, K] to scores [B], and its signature."""

    rows: Floats
    formula: Callable[[Floats], Floats]
    signature: str


def choose_sacrebleu_tokenizer(references: Sequence[Sequence[str]], characters: bool) -> SacrebleuTokenizer:
    """sacrebleu's tokenizer for the script of the references: zh, char for Japanese, Thai and their like, else 13a.

    ja-mecab is never taken, so that scores do not hang on what else is installed.
    """
    if not characters:
        return "13a"
    text = "".join(text for row in references for text in row)
    all_of_them, han = len(NON_SPACED_CHARACTER.findall(text)), len(HAN_CHARACTER.findall(text))
    return "char" if all_of_them - han > MAX_OTHER_SHARE * all_of_them else "zh"


def count_corpus_statistics(
    name: str, references: Sequence[Sequence[str]], answers: Sequence[str], words: SacrebleuTokenizer
) -> CorpusCounts:
    """What the metric bleu, chrf or ter counts of these rows; each row has one reference or several."""
    metric, before, formula = make_sacrebleu_metric(name, words)
    rows = []
    for some, answer in zip(references, answers, strict=True):
        # No public method gives these counts for chrF. A row at a time: the n-grams of all rows would fill the memory.
        streams = [[before(text)] for text in some]
        rows += metric._extract_corpus_statistics([before(answer)], streams)
    sizes = {len(some) for some in references}
    metric.num_refs = sizes.pop() if len(sizes) == 1 else -1
    said = metric.get_signature().format()
    if before is not str:
        said = said.replace("tok:tercom", "tok:char+tercom")
    return CorpusCounts(np.array(rows, dtype=np.float64), formula, said)


def make_sacrebleu_metric(
    name: str, words: SacrebleuTokenizer
) -> tuple[Any, Callable[[str], str], Callable[[Floats], Floats]]:
    """sacrebleu's metric, what is done to each text before, and the formula."""
    from sacrebleu.metrics import BLEU, CHRF, TER

    if name == "bleu":
        # force: texts of ours are what they are; sacrebleu warns where a hundred end in a full stop of its own.
        return BLEU(tokenize=words, force=True), str, compute_bleu
    if name == "chrf":
        return CHRF(), str, compute_chrf
    # TER's own words end at spaces. It can part Chinese characters; of other scripts we do.
    part = words == "zh"
    return TER(normalized=part, asian_support=part), space_characters if words == "char" else str, compute_ter


def space_characters(text: str) -> str:
    """`text` with a space between all characters, as sacrebleu's tokenizer char has it."""
    return " ".join(text)


def make_corpus_statistic(found: CorpusCounts) -> Statistic:
    """The function from counts [B, n] of the rows to the scores [B]."""
    return lambda counts: found.formula(counts @ found.rows)


def compute_bleu(sums: Floats) -> Floats:
    """BLEU with sacrebleu's exponential smoothing, from answers' and references' words, matches and runs by order."""
    said, true, right, runs = sums[:, 0], sums[:, 1], sums[:, 2 : 2 + BLEU_ORDERS], sums[:, 2 + BLEU_ORDERS :]
    # An order without any match counts as half a match, the next one as a quarter ...
    smooth = np.cumprod(np.where(right > 0, 1.0, 2.0), axis=1)
    hits = np.where(right > 0, right, 1 / smooth)
    defined = (runs > 0).all(axis=1) & (right > 0).any(axis=1)
    precision = np.divide(hits, runs, out=np.ones_like(runs), where=runs > 0)
    ratio = np.divide(true, said, out=np.ones_like(said), where=said > 0)
    return np.where(defined, np.exp(np.minimum(1 - ratio, 0) + np.log(precision).mean(axis=1)), 0.0)


def compute_chrf(sums: Floats) -> Floats:
    """chrF: precision and recall averaged over the orders that both sides have, then their F-score."""
    said, true, right = (sums[:, start::3] for start in range(3))
    both = (said > 0) & (true > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision, recall = (
        np.divide(right, whole, out=np.zeros_like(right), where=both).sum(axis=1) / orders for whole in (said, true)
    )
    weighed = CHRF_BETA**2 * precision + recall
    return np.divide((1 + CHRF_BETA**2) * precision * recall, weighed, out=np.zeros_like(weighed), where=weighed > 0)


def compute_ter(sums: Floats) -> Floats:
    """Edits for a word of the references; 1 where they have none and the answers do, 0 where neither has."""
    edits, words = sums.T
    return np.divide(edits, words, out=(edits > 0).astype(np.float64), where=words > 0)
