"""What a metric gives: a value, the interval around it, and how both were computed."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Score:
    """A metric's value and 95 % interval (fractions, low <= value <= high), and the signature of what computed them."""

    value: float
    low: float
    high: float
    signature: str

    def as_dict(self) -> dict[str, float | str]:
        """The score as `metrics.json` holds it: `value`, `low`, `high`, `signature`."""
        return asdict(self)
