"""What a score is held against: answers that need no transformer, learned from the same training rows.

Each baseline answers whatever the task's references are: a class, a list of labels, a number or, in leads.py, a text.
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
    """The most frequent training answer (of equals the first in order) for every row; the shares are its chances."""
    references = [one if isinstance(one, str) else tuple(sorted(one)) for one in task.references(train)]
    counts = Counter(references)
    best = min(counts, key=lambda one: (-counts[one], one))
    holds = Counter(label for one in references for label in ([one] if isinstance(one, str) else one))
    said = best if isinstance(best, str) else list(best)
    return [Prediction(said, {label: holds[label] / len(references) for label in task.labels})] * len(rows)


def predict_mean(task: Task, train: Rows, rows: Rows) -> list[Prediction]:
    """The mean of the training numbers for every row."""
    numbers = task.references(train)
    return [Prediction(sum(numbers) / len(numbers))] * len(rows)


def predict_tfidf(task: Task, train: Rows, rows: Rows) -> list[Prediction]:
    """TF-IDF (1-2 words; 1-3 characters for scripts without spaces) of each text, and a linear model on it.

    Logistic regression (C=4) for a class and, one a label, for labels; ridge regression for a number.
    """
    from scipy.sparse import hstack
    from sklearn.linear_model import Ridge

    inputs = [word for word in train.column_mapping if word != task.target]
    references = task.references(train)
    try:
        seen, asked = zip(*(vectorize_texts(train.texts(word), rows.texts(word)) for word in inputs), strict=True)
    except ValueError:  # no word in any text: nothing to learn from but the references
        return (predict_majority if task.labels else predict_mean)(task, train, rows)
    learned, wanted = hstack(seen).tocsr(), hstack(asked).tocsr()
    if not task.labels:
        return [Prediction(float(number)) for number in Ridge().fit(learned, references).predict(wanted)]
    if isinstance(references[0], str):
        return predict_classes(task.labels, learned, references, wanted)
    return predict_labels(task.labels, learned, references, wanted)


def predict_unigram(task: Task, train: Rows, rows: Rows) -> list[Prediction]:
    """For each hidden token the chances of the training documents' tokens, whatever stands around it."""
    said: list[Prediction] = task.without_context(train, rows)  # type: ignore[attr-defined]  # it knows what is hidden
    return said


def vectorize_texts(train: Sequence[str], texts: Sequence[str]) -> tuple[Any, Any]:
    """The TF-IDF of both, with the words of `train`."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    words = (
        TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
        if is_unspaced_script(train)
        else TfidfVectorizer(ngram_range=(1, 2), token_pattern=r"(?u)\b\w+\b", sublinear_tf=True)
    )
    return words.fit_transform(train), words.transform(texts)


def make_logistic_regression() -> Any:
    """The classifier on top of TF-IDF."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=4.0, max_iter=1000)


def predict_classes(labels: Sequence[str], learned: Any, references: Sequence[str], wanted: Any) -> list[Prediction]:
    """The likeliest class of each row of `wanted`."""
    model = make_logistic_regression().fit(learned, references)
    chances = dict(zip(map(str, model.classes_), model.predict_proba(wanted).T, strict=True))
    rows = range(wanted.shape[0])
    # Train has every class: a class without chances here is one that its rows lost to on_leak=drop.
    by_row = [{label: float(chances[label][i]) if label in chances else 0.0 for label in labels} for i in rows]
    said = [str(label) for label in model.predict(wanted)]
    return [Prediction(one, chance) for one, chance in zip(said, by_row, strict=True)]


def predict_labels(
    labels: Sequence[str], learned: Any, references: Sequence[Sequence[str]], wanted: Any
) -> list[Prediction]:
    """The labels of each row of `wanted` that are likelier than not."""
    sets = [set(one) for one in references]
    chances = {}
    for label in labels:
        has = [label in one for one in sets]
        both = any(has) and not all(has)
        chances[label] = (
            make_logistic_regression().fit(learned, has).predict_proba(wanted)[:, 1]
            if both
            else [float(has[0])] * wanted.shape[0]
        )
    by_row = [{label: float(chances[label][i]) for label in labels} for i in range(wanted.shape[0])]
    return [Prediction([label for label, p in one.items() if p >= 0.5], one) for one in by_row]


# None: the baseline has nothing to say of such rows, and has said so.
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
    """The answers of each named baseline to `rows`, of those that have any."""
    for name in names:
        if name not in BASELINES:
            raise InternalError(f"{task.name}: no baseline '{name}' in llmkit/evaluation/baselines.py")
    found = {name: BASELINES[name](task, train, rows) for name in names}
    return {name: said for name, said in found.items() if said is not None}
