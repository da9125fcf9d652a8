"""What a list of English words with their feelings says of a text: VADER, where vaderSentiment is installed.

Source: Hutto and Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, 2014.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from llmkit import console
from llmkit.data.labels.sentiment import NEUTRAL, PLAIN, WORDS
from llmkit.data.rows import Rows
from llmkit.tasks.base import Answer, Task

# The words that every fourth one of an English text is; other languages have few or none of them.
FREQUENT = frozenset({
    "the", "a", "an", "of", "and", "to", "in", "is", "it", "its", "that", "this", "was", "with", "for", "as", "but",
    "not", "i", "you", "my", "be", "are", "on",
})  # fmt: skip
ENGLISH = 0.1  # share of such words from which on texts are taken for English
LOOKED_AT = 1000  # texts, for that share
LEARNED_FROM = 2000  # rows, for a line of numbers
OWN_CUT = 0.05  # VADER's own: what lies nearer to 0 is neutral
FIFTHS = (-0.6, -0.2, 0.2, 0.6)


def lexicon(task: Task, train: Rows, rows: Rows) -> list[Answer] | None:
    """VADER's compound score of each text as a word, for a score on the line that fits the training rows best.

    Of two classes its sign decides, and where it finds no feeling the more frequent class of train. None, with a note,
    for texts that are not English.
    """
    texts = rows.texts("text")
    if not english(texts):
        console.note("no lexicon baseline: VADER's lexicon is English, and these texts are not")
        return None
    found = compounds(texts)
    references = task.references(train)
    if not task.labels:
        import numpy as np

        some = np.unique(np.linspace(0, len(train) - 1, LEARNED_FROM).astype(int))
        known, numbers = compounds(train.take(some).texts("text")), [references[i] for i in some]
        line = np.polyfit(known, numbers, 1 if len(set(known)) > 1 else 0)
        return [Answer(float(np.polyval(line, one))) for one in found]
    usual = Counter(one for one in references if one != NEUTRAL).most_common(1)[0][0]
    return [worded(one, task.labels, usual) for one in found]


def compounds(texts: Sequence[str]) -> list[float]:
    """VADER's compound score of each text, from -1 to 1."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    judge = SentimentIntensityAnalyzer()
    return [float(judge.polarity_scores(text)["compound"]) for text in texts]


def worded(compound: float, labels: Sequence[str], usual: str) -> Answer:
    """The label for a compound score, the nearest one that there is."""
    if any(label in PLAIN for label in labels):
        at = sum(compound >= cut for cut in FIFTHS)
    elif NEUTRAL in labels:
        at = 2 + (compound >= OWN_CUT) - (compound <= -OWN_CUT)
    else:
        at = 2 + (compound > 0) - (compound < 0) if compound else WORDS.index(usual)
    said = min(labels, key=lambda label: abs(WORDS.index(label) - at))
    return Answer(said, {label: float(label == said) for label in labels})


def english(texts: Sequence[str]) -> bool:
    """Whether the texts look English: by their most frequent words, which need no library."""
    words = re.findall(r"\w+", " ".join(texts[:LOOKED_AT]).casefold())
    return sum(word in FREQUENT for word in words) >= ENGLISH * max(1, len(words))
