"""Scores convert to JSON, and importing metrics stays light."""

from __future__ import annotations

import subprocess
import sys

import pytest

from llmkit.metrics import Score


def test_a_score_converts_to_json() -> None:
    score = Score(0.5, 0.25, 0.75, "accuracy|interval:wilson|scikit-learn 1.9.1")
    assert score.as_dict() == {
        "value": 0.5,
        "low": 0.25,
        "high": 0.75,
        "signature": "accuracy|interval:wilson|scikit-learn 1.9.1",
    }


def test_an_undefined_score_is_null_in_json() -> None:
    nan = float("nan")
    assert Score(nan, nan, nan, "roc_auc").as_dict() == {
        "value": None,
        "low": None,
        "high": None,
        "signature": "roc_auc",
    }


@pytest.mark.slow
def test_importing_metrics_does_not_import_numpy() -> None:
    code = (
        "import sys\n"
        "from llmkit.metrics import paired, regression\n"
        "from llmkit.metrics.classification import multilabel, per_label, probabilities, single_label\n"
        "print(sorted({'numpy', 'scipy', 'sklearn', 'torch'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
