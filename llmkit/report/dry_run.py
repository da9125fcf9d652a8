"""What a run is expected to do and take, as `--dry-run` says it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from llmkit import console
from llmkit.data.row_errors import pluralize


@dataclass(frozen=True)
class DryRunEstimate:
    """What a run will do and take: seconds of wall time and bytes of memory, as measured on a few of its steps."""

    rows: dict[str, int]
    steps: int
    rows_per_step: int
    truncated: float  # share of the texts that max_length cuts
    tokens: int  # real ones, over all epochs
    padding: float  # share of the tokens sent through the model that are none
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
        """The plan as `--dry-run --json` prints it."""
        return asdict(self) | {"total_seconds": self.total_seconds}


def print_dry_run(plan: DryRunEstimate) -> None:
    """Print the plan for a person."""
    rows = ", ".join(f"{name} {count:,}" for name, count in plan.rows.items())
    console.print_result(f"rows       {rows}")
    console.print_result(
        f"steps      {plan.steps:,} of {pluralize(plan.rows_per_step, 'row')}; {pluralize(plan.tokens, 'token')}"
    )
    console.print_result(f"truncated  {plan.truncated:.1%} of the texts")
    console.print_result(f"padding    {plan.padding:.1%} of what goes through the model")
    console.print_result(f"precision  {plan.precision}")
    parts = ", ".join(f"{part} {console.format_duration(seconds)}" for part, seconds in plan.seconds.items())
    console.print_result(f"time       about {console.format_duration(plan.total_seconds)}: {parts}")
    console.print_result(f"rate       {plan.tokens_per_second:,.0f} tokens/s, as busy as the machine is now")
    console.print_result(f"memory     {plan.memory / 2**30:.1f} GiB so far; a run takes some more")
    console.print_result(f"disk       {plan.disk / 2**30:.2f} GiB while it runs")
