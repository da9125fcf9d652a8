"""Sentiment baseline with the English VADER lexicon, if vaderSentiment is installed.

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

# About a quarter of the words of English text; other languages have few or none of them.
ENGLISH_STOPWORDS = frozenset({
    "the", "a", "an", "of", "and", "to", "in", "is", "it", "its", "that", "this", "was", "with", "for", "as", "but",
    "not", "i", "you", "my", "be", "are", "on",
})  # fmt: skip
MIN_STOPWORD_SHARE = 0.1  # minimum share of these words in English texts
LANGUAGE_SAMPLE_TEXTS = 1000  # texts from which the share is computed
FIT_SAMPLE_ROWS = 2000  # rows for fitting the line from compound score to number
VADER_NEUTRAL_CUT = 0.05  # VADER's own threshold: smaller absolute scores are neutral
FIVE_CLASS_CUTS = (-0.6, -0.2, 0.2, 0.6)


def predict_lexicon(task: Task, train: Rows, rows: Rows) -> list[Prediction] | None:
    """VADER's compound score of each text as a label, or as a number on a line fitted to the training rows.

    Of two classes its sign decides; a score of 0 gets the more frequent class of the training rows. Returns None and
    prints a note for texts that are not English.
    """
    texts = rows.texts("text")
    if not is_english(texts):
        console.print_message("no lexicon baseline: VADER's lexicon is English, and these texts are not")
        return None
    scores = compute_compound_scores(texts)
    references = task.references(train)
    if not task.labels:
        import numpy as np

        sample = np.unique(np.linspace(0, len(train) - 1, FIT_SAMPLE_ROWS).astype(int))
        sample_scores, numbers = (
            compute_compound_scores(train.take(sample).texts("text")),
            [references[i] for i in sample],
        )
        line = np.polyfit(sample_scores, numbers, 1 if len(set(sample_scores)) > 1 else 0)
        return [Prediction(float(np.polyval(line, one))) for one in scores]
    most_frequent = Counter(one for one in references if one != NEUTRAL).most_common(1)[0][0]
    return [label_compound_score(one, task.labels, most_frequent) for one in scores]


def compute_compound_scores(texts: Sequence[str]) -> list[float]:
    """Compute VADER's compound score of each text, from -1 to 1."""
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    analyzer = SentimentIntensityAnalyzer()
    return [float(analyzer.polarity_scores(text)["compound"]) for text in texts]


def label_compound_score(compound: float, labels: Sequence[str], most_frequent: str) -> Prediction:
    """Return the nearest available label for a compound score."""
    if any(label in SENTIMENT_POLARITY for label in labels):
        at = sum(compound >= cut for cut in FIVE_CLASS_CUTS)
    elif NEUTRAL in labels:
        at = 2 + (compound >= VADER_NEUTRAL_CUT) - (compound <= -VADER_NEUTRAL_CUT)
    else:
        at = 2 + (compound > 0) - (compound < 0) if compound else SENTIMENTS.index(most_frequent)
    predicted = min(labels, key=lambda label: abs(SENTIMENTS.index(label) - at))
    return Prediction(predicted, {label: float(label == predicted) for label in labels})


def is_english(texts: Sequence[str]) -> bool:
    """Return whether the texts look English by their stopwords, which needs no language detection package."""
    words = re.findall(r"\w+", " ".join(texts[:LANGUAGE_SAMPLE_TEXTS]).casefold())
    return sum(word in ENGLISH_STOPWORDS for word in words) >= MIN_STOPWORD_SHARE * max(1, len(words))
