"""Baselines without a transformer (majority class, mean, TF-IDF, unigrams), fitted on the same training rows.

Each baseline predicts the type of the task's references: a class, a list of labels, a number or (lead_baselines.py) a
text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from llmkit.data.corpus.scripts import is_unspaced_script
from llmkit.data.rows import Rows
from llmkit.errors import InternalError
from llmkit.evaluation import lead_baselines
from llmkit.evaluation.lexicon import predict_lexicon
from llmkit.tasks.base import Prediction, Task


def predict_majority(task: Task, train: Rows, rows: Rows) -> list[Prediction]:
    """The most frequent training reference (ties: first in sorted order), with label frequencies as probabilities."""
    references = [one if isinstance(one, str) else tuple(sorted(one)) for one in task.references(train)]
    counts = Counter(references)
    best = min(counts, key=lambda one: (-counts[one], one))
    frequencies = Counter(label for one in references for label in ([one] if isinstance(one, str) else one))
    value = best if isinstance(best, str) else list(best)
    return [Prediction(value, {label: frequencies[label] / len(references) for label in task.labels})] * len(rows)


def predict_mean(task: Task, train: Rows, rows: Rows) -> list[Prediction]:
    """The mean of the training references, for every row."""
    numbers = task.references(train)
    return [Prediction(sum(numbers) / len(numbers))] * len(rows)


def predict_tfidf(task: Task, train: Rows, rows: Rows) -> list[Prediction]:
    """TF-IDF (1-2 words; 1-3 characters for scripts without spaces) of each text with a linear model.

    Logistic regression (C=4) for a class, one per label for several labels; ridge regression for a number.
    """
    from scipy.sparse import hstack
    from sklearn.linear_model import Ridge

    inputs = [name for name in train.column_mapping if name != task.target]
    references = task.references(train)
    try:
        train_parts, test_parts = zip(
            *(vectorize_texts(train.texts(name), rows.texts(name)) for name in inputs), strict=True
        )
    except ValueError:  # no word in any text, so only the references can be used
        return (predict_majority if task.labels else predict_mean)(task, train, rows)
    train_features, features = hstack(train_parts).tocsr(), hstack(test_parts).tocsr()
    if not task.labels:
        return [Prediction(float(number)) for number in Ridge().fit(train_features, references).predict(features)]
    if isinstance(references[0], str):
        return predict_classes(task.labels, train_features, references, features)
    return predict_labels(task.labels, train_features, references, features)


def predict_unigram(task: Task, train: Rows, rows: Rows) -> list[Prediction]:
    """Token frequencies of the training documents as the prediction for each masked token, without context."""
    # The task knows which tokens are masked.
    predictions: list[Prediction] = task.predict_unigrams(train, rows)  # type: ignore[attr-defined]
    return predictions


def vectorize_texts(train: Sequence[str], texts: Sequence[str]) -> tuple[Any, Any]:
    """Return the TF-IDF features of both, with the vocabulary of `train`."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = (
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
        if is_unspaced_script(train)
        else TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    )
    return vectorizer.fit_transform(train), vectorizer.transform(texts)


def make_logistic_regression() -> Any:
    """Return the classifier for TF-IDF features."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=4.0, max_iter=1000)


def predict_classes(
    labels: Sequence[str], train_features: Any, references: Sequence[str], features: Any
) -> list[Prediction]:
    """Predict the most probable class of each row of `features`."""
    model = make_logistic_regression().fit(train_features, references)
    probabilities = dict(zip(map(str, model.classes_), model.predict_proba(features).T, strict=True))
    rows = range(features.shape[0])
    # A class missing from the fitted model lost its training rows to on_leak=drop.
    by_row = [
        {label: float(probabilities[label][i]) if label in probabilities else 0.0 for label in labels} for i in rows
    ]
    classes = [str(label) for label in model.predict(features)]
    return [Prediction(label, row) for label, row in zip(classes, by_row, strict=True)]


def predict_labels(
    labels: Sequence[str], train_features: Any, references: Sequence[Sequence[str]], features: Any
) -> list[Prediction]:
    """Predict the labels with a probability of at least 0.5 for each row of `features`."""
    sets = [set(one) for one in references]
    probabilities = {}
    for label in labels:
        has_label = [label in one for one in sets]
        both = any(has_label) and not all(has_label)
        probabilities[label] = (
            make_logistic_regression().fit(train_features, has_label).predict_proba(features)[:, 1]
            if both
            else [float(has_label[0])] * features.shape[0]
        )
    by_row = [{label: float(probabilities[label][i]) for label in labels} for i in range(features.shape[0])]
    return [Prediction([label for label, p in one.items() if p >= 0.5], one) for one in by_row]


# None: the baseline does not apply to these rows, and has printed why.
BASELINES: Mapping[str, Callable[[Task, Rows, Rows], list[Prediction] | None]] = {
    "lexicon": predict_lexicon,
    "majority": predict_majority,
    "mean": predict_mean,
    "tfidf": predict_tfidf,
    "unigram": predict_unigram,
    "lead1": lead_baselines.predict_lead1,
    "lead3": lead_baselines.predict_lead3,
    "first_sentence": lead_baselines.predict_first_sentence,
    "copy": lead_baselines.predict_copy,
}


def predict_baselines(task: Task, names: Sequence[str], train: Rows, rows: Rows) -> dict[str, list[Prediction]]:
    """Return the predictions of each named baseline for `rows`, without baselines that do not apply."""
    for name in names:
        if name not in BASELINES:
            raise InternalError(f"{task.name}: no baseline '{name}' in llmkit/evaluation/baselines.py")
    predicted = {name: BASELINES[name](task, train, rows) for name in names}
    return {name: predictions for name, predictions in predicted.items() if predictions is not None}
