"""References and answers as a metric of the evaluate library wants them: its own features say how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.errors import DataError

INPUT_FEATURES = {"predictions", "references"}


def convert_inputs(
    name: str, module: Any, references: Sequence[Any], answers: Sequence[Any], labels: Sequence[str]
) -> tuple[list[Any], list[Any]]:
    """References and answers as the metric's features want them: names, positions in `labels`, numbers, or lists."""
    kinds = describe_metric_value(references[0], labels), describe_metric_value(answers[0], labels)
    options = module.features if isinstance(module.features, list) else [module.features]
    for option in options:
        if set(option) == INPUT_FEATURES:
            makers = [
                make_converter(option[word], kind, labels)
                for word, kind in zip(("references", "predictions"), kinds, strict=True)
            ]
            if None not in makers:
                of_references, of_answers = (maker or str for maker in makers)
                return [of_references(one) for one in references], [of_answers(one) for one in answers]
    if kinds == ("lists of text", "text") and all(len(one) == 1 for one in references):
        return convert_inputs(name, module, [one[0] for one in references], answers, labels)
    if set(options[0]) != INPUT_FEATURES:
        wanted = " and ".join(sorted(options[0]))
        raise DataError(f"{name}: takes {wanted}, not references and predictions", "name another metric")
    wanted = " and ".join(f"{word}: {describe_feature(options[0][word])}" for word in sorted(INPUT_FEATURES))
    raise DataError(f"{name}: takes {wanted} (one a row), and these rows hold {kinds[0]}", "name a metric for these")


def describe_metric_value(value: Any, labels: Sequence[str]) -> str:
    """What a reference is, in words."""
    if isinstance(value, str):
        return "labels" if labels else "text"
    return ("lists of labels" if labels else "lists of text") if isinstance(value, (list, tuple)) else "numbers"


def make_converter(feature: Any, kind: str, labels: Sequence[str]) -> Callable[[Any], Any] | None:
    """What turns a value of `kind` into what `feature` holds; None where nothing does."""
    inner = get_item_feature(feature)
    if kind.startswith("lists of "):
        one = None if inner is None else make_converter(inner, kind.removeprefix("lists of "), labels)
        return None if one is None else lambda some: [one(value) for value in some]
    holds = describe_feature(feature)
    if holds == "text" and kind in ("labels", "text"):
        return str
    if holds == "integers" and kind == "labels":
        return {label: i for i, label in enumerate(labels)}.__getitem__
    return float if holds == kind == "numbers" else None


def get_item_feature(feature: Any) -> Any:
    """What a feature of lists holds in them, None for any other."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)


def describe_feature(feature: Any) -> str:
    """What a feature holds, in words."""
    if (inner := get_item_feature(feature)) is not None:
        return f"lists of {describe_feature(inner)}"
    dtype = str(getattr(feature, "dtype", "something else"))
    words = {"int": "integers", "uint": "integers", "float": "numbers", "string": "text", "large_string": "text"}
    return words.get(dtype.rstrip("0123456789"), dtype)
