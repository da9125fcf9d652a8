"""Check of the experiment trackers in `train.hf.report_to`, and the packages that they need."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from llmkit.errors import RecipeError, suggest_spelling
from llmkit.recipe.validation_messages import format_value

EXCLUSIVE_TRACKERS = ("none", "all")  # the Trainer's names for no tracker and for all installed ones
# By the Trainer's name of a tracker: the package to install, and the modules of which one must be present.
TRACKER_PACKAGES = {
    "azure_ml": ("azureml-core", ("azureml",)),
    "clearml": ("clearml", ("clearml",)),
    "codecarbon": ("codecarbon", ("codecarbon",)),
    "comet_ml": ("comet-ml", ("comet_ml",)),
    "dagshub": ("dagshub mlflow", ("dagshub",)),
    "dvclive": ("dvclive", ("dvclive",)),
    "flyte": ("flytekit", ("flytekit",)),
    "kubeflow": ("kubeflow", ("kubeflow",)),
    "mlflow": ("mlflow", ("mlflow",)),
    "neptune": ("neptune", ("neptune",)),
    "swanlab": ("swanlab", ("swanlab",)),
    "tensorboard": ("tensorboardX", ("tensorboard", "tensorboardX")),
    "trackio": ("trackio", ("trackio",)),
    "wandb": ("wandb", ("wandb",)),
}


def check_trackers(value: Any) -> None:
    """Raise RecipeError with all trackers in the key's value that are unknown or not installed.

    Called at the start of training, not when a recipe is loaded: a finished run can be used without its tracker.
    """
    names = value if isinstance(value, list) else [value]
    if len(names) == 1 and names[0] in EXCLUSIVE_TRACKERS:
        return
    mistakes = [f"train.hf.report_to: {reason}" for name in names if (reason := explain_tracker(name))]
    if mistakes:
        raise RecipeError(list(dict.fromkeys(mistakes)))


def explain_tracker(name: Any) -> str | None:
    """Explain why a tracker cannot be used, and the fix; None if it can."""
    if name in EXCLUSIVE_TRACKERS:
        return f"'{name}' excludes other trackers; leave it out, or all others"
    if not isinstance(name, str) or name not in TRACKER_PACKAGES:
        return f"no tracker {format_value(name)}; {suggest_spelling(str(name), sorted(TRACKER_PACKAGES))}"
    package, modules = TRACKER_PACKAGES[name]
    return None if any(map(find_spec, modules)) else f"{name} is not installed; pip install {package}"
