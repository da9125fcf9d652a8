"""What a score is held against: answers that need no transformer, learned from the same training rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmkit.data.rows import Rows
from llmkit.errors import InternalError
from llmkit.tasks.base import Task

# A word of a script without spaces is a run of its characters: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
UNSPACED = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"


def majority(train: Rows, rows: Rows) -> list[str]:
    """The most frequent training label (of equals the first in order) for every row."""
    counts = Counter(train.texts("label"))
    best = min(counts, key=lambda label: (-counts[label], label))
    return [best] * len(rows)


def tfidf(train: Rows, rows: Rows) -> list[str]:
    """TF-IDF (1-2 words; 1-3 characters for scripts without spaces) with logistic regression, C=4."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    texts = train.texts("text")
    words = (
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
        if unspaced(texts)
        else TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    )
    pipeline = make_pipeline(words, LogisticRegression(C=4.0, max_iter=1000))
    try:
        pipeline.fit(texts, train.texts("label"))
    except ValueError:  # no word in any text: nothing to learn from but the labels
        return majority(train, rows)
    return [str(label) for label in pipeline.predict(rows.texts("text"))]


def unspaced(texts: Sequence[str]) -> bool:
    """Whether most letters of the texts belong to a script without spaces."""
    import re

    sample = "".join(texts[:1000])
    letters = sum(char.isalpha() for char in sample)
    return len(re.findall(UNSPACED, sample)) * 2 > letters


BASELINES: Mapping[str, Callable[[Rows, Rows], list[Any]]] = {"majority": majority, "tfidf": tfidf}


def answers(task: Task, names: Sequence[str], train: Rows, rows: Rows) -> dict[str, list[Any]]:
    """The answers of each named baseline to `rows`."""
    for name in names:
        if name not in BASELINES:
            raise InternalError(f"{task.name}: no baseline '{name}' in llmkit/evaluation/baselines.py")
    return {name: BASELINES[name](train, rows) for name in names}
