"""Conversion of references and predictions to the input features of a metric of the evaluate library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmkit.errors import DataError

INPUT_FEATURES = {"predictions", "references"}


def convert_inputs(
    name: str, module: Any, references: Sequence[Any], predictions: Sequence[Any], labels: Sequence[str]
) -> tuple[list[Any], list[Any]]:
    """Convert references and predictions to the metric's features: label names or ids, numbers, texts, or lists."""
    kinds = describe_metric_value(references[0], labels), describe_metric_value(predictions[0], labels)
    options = module.features if isinstance(module.features, list) else [module.features]
    for option in options:
        if set(option) == INPUT_FEATURES:
            makers = [
                make_converter(option[word], kind, labels)
                for word, kind in zip(("references", "predictions"), kinds, strict=True)
            ]
            if None not in makers:
                convert_reference, convert_prediction = (maker or str for maker in makers)
                return [convert_reference(one) for one in references], [convert_prediction(one) for one in predictions]
    if kinds == ("lists of text", "text") and all(len(one) == 1 for one in references):
        return convert_inputs(name, module, [one[0] for one in references], predictions, labels)
    if set(options[0]) != INPUT_FEATURES:
        expected = " and ".join(sorted(options[0]))
        raise DataError(f"{name}: takes {expected}, not references and predictions", "name another metric")
    expected = " and ".join(f"{word}: {describe_feature(options[0][word])}" for word in sorted(INPUT_FEATURES))
    raise DataError(f"{name}: takes {expected} (one per row), but these rows have {kinds[0]}", "use another metric")


def describe_metric_value(value: Any, labels: Sequence[str]) -> str:
    """Describe the type of a reference or prediction."""
    if isinstance(value, str):
        return "labels" if labels else "text"
    return ("lists of labels" if labels else "lists of text") if isinstance(value, (list, tuple)) else "numbers"


def make_converter(feature: Any, kind: str, labels: Sequence[str]) -> Callable[[Any], Any] | None:
    """Return a function that converts a value of `kind` to the feature's type, or None if there is none."""
    inner = get_item_feature(feature)
    if kind.startswith("lists of "):
        one = None if inner is None else make_converter(inner, kind.removeprefix("lists of "), labels)
        return None if one is None else lambda some: [one(value) for value in some]
    feature_type = describe_feature(feature)
    if feature_type == "text" and kind in ("labels", "text"):
        return str
    if feature_type == "integers" and kind == "labels":
        return {label: i for i, label in enumerate(labels)}.__getitem__
    return float if feature_type == kind == "numbers" else None


def get_item_feature(feature: Any) -> Any:
    """Return the item feature of a list feature, None for any other feature."""
    return feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)


def describe_feature(feature: Any) -> str:
    """Describe the type of a feature."""
    if (inner := get_item_feature(feature)) is not None:
        return f"lists of {describe_feature(inner)}"
    dtype = str(getattr(feature, "dtype", "something else"))
    words = {"int": "integers", "uint": "integers", "float": "numbers", "string": "text", "large_string": "text"}
    return words.get(dtype.rstrip("0123456789"), dtype)
