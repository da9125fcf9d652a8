"""Trackers that `train.hf.report_to` may name, and what each needs installed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from llmkit.errors import RecipeError, suggest_spelling
from llmkit.recipe.validation_messages import format_value

EXCLUSIVE_TRACKERS = ("none", "all")  # words of the Trainer that stand for no tracker, and for those that are installed
# The Trainer's name of each: the package to install, and the modules of which one must be there.
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


def check_trackers(given: Any) -> None:
    """Raise RecipeError unless every tracker in the key's value is known and installed; it names all that are not.

    Not a matter of loading a recipe: a finished run answers also where its tracker is not installed.
    """
    names = given if isinstance(given, list) else [given]
    if len(names) == 1 and names[0] in EXCLUSIVE_TRACKERS:
        return
    found = [f"train.hf.report_to: {why}" for name in names if (why := explain_tracker(name))]
    if found:
        raise RecipeError(list(dict.fromkeys(found)))


def explain_tracker(name: Any) -> str | None:
    """Why a tracker cannot be told, and what mends it; None where it can."""
    if name in EXCLUSIVE_TRACKERS:
        return f"'{name}' stands alone; leave it out, or all others"
    if not isinstance(name, str) or name not in TRACKER_PACKAGES:
        return f"no tracker {format_value(name)}; {suggest_spelling(str(name), sorted(TRACKER_PACKAGES))}"
    package, modules = TRACKER_PACKAGES[name]
    return None if any(map(find_spec, modules)) else f"{name} is not installed; pip install {package}"
