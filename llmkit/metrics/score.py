"""The result of a metric: a value, its interval, and a signature of how both were computed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Score:
    """A metric's value with its 95 % interval (low <= value <= high), and the signature of their computation.

    All three numbers are NaN where the metric is undefined (for example ROC-AUC of rows with one label).
    """

    value: float
    low: float
    high: float
    signature: str

    def as_dict(self) -> dict[str, float | str | None]:
        """Return the score as in `metrics.json`: `value`, `low`, `high` (None for NaN), `signature`."""
        return {
            key: None if isinstance(part, float) and math.isnan(part) else part for key, part in asdict(self).items()
        }
