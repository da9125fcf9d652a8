"""What a list of English words with their feelings says of a text: VADER, where vaderSentiment is installed.

Source: Hutto and Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, 2014.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from llmkit import console
from llmkit.data.labels.sentiment import NEUTRAL, SENTIMENT_POLARITY, SENTIMENTS
from llmkit.data.rows import Rows
from llmkit.tasks.base import Prediction, Task

# The words that every fourth one of an English text is; other languages have few or none of them.
ENGLISH_STOPWORDS = frozenset({
    "the", "a", "an", "of", "and", "to", "in", "is", "it", "its", "that", "this", "was", "with", "for", "as", "but",
    "not", "i", "you", "my", "be", "are", "on",
})  # fmt: skip
MIN_STOPWORD_SHARE = 0.1  # share of such words from which on texts are taken for English
LANGUAGE_SAMPLE_TEXTS = 1000  # texts, for that share
FIT_SAMPLE_ROWS = 2000  # rows, for a line of numbers
VADER_NEUTRAL_CUT = 0.05  # VADER's own: what lies nearer to 0 is neutral
FIVE_CLASS_CUTS = (-0.6, -0.2, 0.2, 0.6)


def predict_lexicon(task: Task, train: Rows, rows: Rows) -> list[Prediction] | None:
    """VADER's compound score of each text as a word, for a score on the line that fits the training rows best.

    Of two classes its sign decides, and where it finds no feeling the more frequent class of train. None, with a note,
    for texts that are not English.
    """
    texts = rows.texts("text")
    if not is_english(texts):
        console.print_message("no lexicon baseline: VADER's lexicon is English, and these texts are not")
        return None
    found = compute_compound_scores(texts)
    references = task.references(train)
    if not task.labels:
        import numpy as np

        some = np.unique(np.linspace(0, len(train) - 1, FIT_SAMPLE_ROWS).astype(int))
        known, numbers = compute_compound_scores(train.take(some).texts("text")), [references[i] for i in some]
        line = np.polyfit(known, numbers, 1 if len(set(known)) > 1 else 0)
        return [Prediction(float(np.polyval(line, one))) for one in found]
    usual = Counter(one for one in references if one != NEUTRAL).most_common(1)[0][0]
    return [label_compound_score(one, task.labels, usual) for one in found]


def compute_compound_scores(texts: Sequence[str]) -> list[float]:
    """VADER's compound score of each text, from -1 to 1."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    judge = SentimentIntensityAnalyzer()
    return [float(judge.polarity_scores(text)["compound"]) for text in texts]


def label_compound_score(compound: float, labels: Sequence[str], usual: str) -> Prediction:
    """The label for a compound score, the nearest one that there is."""
    if any(label in SENTIMENT_POLARITY for label in labels):
        at = sum(compound >= cut for cut in FIVE_CLASS_CUTS)
    elif NEUTRAL in labels:
        at = 2 + (compound >= VADER_NEUTRAL_CUT) - (compound <= -VADER_NEUTRAL_CUT)
    else:
        at = 2 + (compound > 0) - (compound < 0) if compound else SENTIMENTS.index(usual)
    said = min(labels, key=lambda label: abs(SENTIMENTS.index(label) - at))
    return Prediction(said, {label: float(label == said) for label in labels})


def is_english(texts: Sequence[str]) -> bool:
    """Whether the texts look English: by their most frequent words, which need no library."""
    words = re.findall(r"\w+", " ".join(texts[:LANGUAGE_SAMPLE_TEXTS]).casefold())
    return sum(word in ENGLISH_STOPWORDS for word in words) >= MIN_STOPWORD_SHARE * max(1, len(words))
