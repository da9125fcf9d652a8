"""What a metric gives: a value, the interval around it, and how both were computed."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Score:
    """A metric's value and 95 % interval (low <= value <= high), and the signature of what computed them.

    A metric that these rows leave undefined (the ROC-AUC of rows of one label) has NaN for all three numbers.
    """

    value: float
    low: float
    high: float
    signature: str

    def as_dict(self) -> dict[str, float | str | None]:
        """The score as `metrics.json` holds it: `value`, `low`, `high` (None for NaN), `signature`."""
        return {
            key: None if isinstance(part, float) and math.isnan(part) else part for key, part in asdict(self).items()
        }
