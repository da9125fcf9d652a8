"""sacrebleu's corpus metrics split into counts per row and formulas over sums of these counts.

A resample of the rows then costs a sum, not another pass over the texts. Sources, all in the ACL Anthology: sacrebleu,
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

CHRF_BETA = 2  # of chrF: the weight of recall relative to precision
BLEU_ORDERS = 4  # of BLEU's n-grams
MAX_OTHER_SHARE = 0.05  # of the letters of scripts without spaces: Chinese text may quote a の
HAN_CHARACTER = regex.compile(r"\p{Han}")
NON_SPACED_CHARACTER = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]")


class CorpusCounts(NamedTuple):
    """sacrebleu's counts of each row [n, K], its formula from sums [B, K] to scores [B], and its signature."""

    rows: Floats
    formula: Callable[[Floats], Floats]
    signature: str


def choose_sacrebleu_tokenizer(references: Sequence[Sequence[str]], characters: bool) -> SacrebleuTokenizer:
    """Choose sacrebleu's tokenizer by the script of the references: zh, char (Japanese, Thai and similar), else 13a.

    ja-mecab is never chosen, so that scores do not depend on the installed packages.
    """
    if not characters:
        return "13a"
    text = "".join(text for row in references for text in row)
    letters, han = len(NON_SPACED_CHARACTER.findall(text)), len(HAN_CHARACTER.findall(text))
    return "char" if letters - han > MAX_OTHER_SHARE * letters else "zh"


def count_corpus_statistics(
    name: str, references: Sequence[Sequence[str]], predictions: Sequence[str], tokenizer: SacrebleuTokenizer
) -> CorpusCounts:
    """Return the counts of the metric bleu, chrf or ter for these rows, each with one or more references."""
    metric, preprocess, formula = make_sacrebleu_metric(name, tokenizer)
    rows = []
    for row_references, prediction in zip(references, predictions, strict=True):
        # No public method returns these counts for chrF. One row at a time: n-grams of all rows would fill the memory.
        streams = [[preprocess(text)] for text in row_references]
        rows += metric._extract_corpus_statistics([preprocess(prediction)], streams)
    sizes = {len(row_references) for row_references in references}
    metric.num_refs = sizes.pop() if len(sizes) == 1 else -1
    signature = metric.get_signature().format()
    if preprocess is not str:
        signature = signature.replace("tok:tercom", "tok:char+tercom")
    return CorpusCounts(np.array(rows, dtype=np.float64), formula, signature)


def make_sacrebleu_metric(
    name: str, tokenizer: SacrebleuTokenizer
) -> tuple[Any, Callable[[str], str], Callable[[Floats], Floats]]:
    """Return sacrebleu's metric, the preprocessing of each text, and the formula."""
    from sacrebleu.metrics import BLEU, CHRF, TER

    if name == "bleu":
        # force: texts are scored as given; sacrebleu would warn of tokenized text where many end in " .".
        return BLEU(tokenize=tokenizer, force=True), str, compute_bleu
    if name == "chrf":
        return CHRF(), str, compute_chrf
    # TER's tokens end at spaces. It can split Chinese characters; those of other scripts are split here.
    is_chinese = tokenizer == "zh"
    return (
        TER(normalized=is_chinese, asian_support=is_chinese),
        space_characters if tokenizer == "char" else str,
        compute_ter,
    )


def space_characters(text: str) -> str:
    """Insert a space between all characters, as sacrebleu's tokenizer char."""
    return " ".join(text)


def make_corpus_statistic(corpus: CorpusCounts) -> Statistic:
    """Return the function from counts [B, n] of the rows to the scores [B]."""
    return lambda counts: corpus.formula(counts @ corpus.rows)


def compute_bleu(sums: Floats) -> Floats:
    """Compute BLEU with sacrebleu's exponential smoothing from lengths of both sides, matches and n-grams by order."""
    length, reference_length, right, ngrams = (
        sums[:, 0],
        sums[:, 1],
        sums[:, 2 : 2 + BLEU_ORDERS],
        sums[:, 2 + BLEU_ORDERS :],
    )
    # The first order without a match counts as half a match, the next as a quarter ...
    smooth = np.cumprod(np.where(right > 0, 1.0, 2.0), axis=1)
    hits = np.where(right > 0, right, 1 / smooth)
    defined = (ngrams > 0).all(axis=1) & (right > 0).any(axis=1)
    precision = np.divide(hits, ngrams, out=np.ones_like(ngrams), where=ngrams > 0)
    ratio = np.divide(reference_length, length, out=np.ones_like(length), where=length > 0)
    return np.where(defined, np.exp(np.minimum(1 - ratio, 0) + np.log(precision).mean(axis=1)), 0.0)


def compute_chrf(sums: Floats) -> Floats:
    """Compute chrF: the F-score of precision and recall averaged over the orders that both sides have."""
    predicted, true, right = (sums[:, start::3] for start in range(3))
    both = (predicted > 0) & (true > 0)
    orders = np.maximum(both.sum(axis=1), 1)
    precision, recall = (
        np.divide(right, whole, out=np.zeros_like(right), where=both).sum(axis=1) / orders
        for whole in (predicted, true)
    )
    denominator = CHRF_BETA**2 * precision + recall
    return np.divide(
        (1 + CHRF_BETA**2) * precision * recall, denominator, out=np.zeros_like(denominator), where=denominator > 0
    )


def compute_ter(sums: Floats) -> Floats:
    """Compute edits per reference word; without reference words 1 if there are edits, else 0."""
    edits, words = sums.T
    return np.divide(edits, words, out=(edits > 0).astype(np.float64), where=words > 0)
