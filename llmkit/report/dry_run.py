"""The estimate of a dry run: rows, steps, time, memory and disk that the run would need."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from llmkit import console
from llmkit.data.row_errors import pluralize


@dataclass(frozen=True)
class DryRunEstimate:
    """The work and the resources of a run, extrapolated from a few of its steps: seconds of wall time, bytes."""

    rows: dict[str, int]
    steps: int
    rows_per_step: int
    truncated: float  # share of the texts that max_length truncates
    tokens: int  # without padding, over all epochs
    padding: float  # share of padding among the tokens that pass through the model
    tokens_per_second: float
    precision: str
    seconds: dict[str, float]  # by part: start, training, evaluations, checkpoints, final scores
    memory: int  # at its peak
    disk: int  # of the checkpoints and the model while it runs

    @property
    def total_seconds(self) -> float:
        """All parts together."""
        return sum(self.seconds.values())

    def as_dict(self) -> dict[str, Any]:
        """The estimate as `--dry-run --json` prints it."""
        return asdict(self) | {"total_seconds": self.total_seconds}


def print_dry_run(estimate: DryRunEstimate) -> None:
    """Print the estimate for a person."""
    rows = ", ".join(f"{name} {count:,}" for name, count in estimate.rows.items())
    per_step = pluralize(estimate.rows_per_step, "row")
    parts = ", ".join(f"{part} {console.format_duration(seconds)}" for part, seconds in estimate.seconds.items())
    console.print_result(f"rows       {rows}")
    console.print_result(f"steps      {estimate.steps:,} of {per_step}; {pluralize(estimate.tokens, 'token')}")
    console.print_result(f"truncated  {estimate.truncated:.1%} of the texts")
    console.print_result(f"padding    {estimate.padding:.1%} of the tokens that pass through the model")
    console.print_result(f"precision  {estimate.precision}")
    console.print_result(f"time       about {console.format_duration(estimate.total_seconds)}: {parts}")
    console.print_result(f"rate       {estimate.tokens_per_second:,.0f} tokens/s, at the machine's current load")
    console.print_result(f"memory     {estimate.memory / 2**30:.1f} GiB so far; a run takes some more")
    console.print_result(f"disk       {estimate.disk / 2**30:.2f} GiB while it runs")
