"""llmkit: from a file of text to a model that you can trust.

The names of `__all__` are imported on first use, so that `import llmkit` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmkit.version import __version__

__all__ = [
    "__version__",
    "clean",
    "compare",
    "dry_run",
    "evaluate",
    "load_recipe",
    "predict",
    "tokenizer_report",
    "train",
    "train_tokenizer",
]  # fmt: skip

if TYPE_CHECKING:
    from llmkit.data.cleaning.run import clean
    from llmkit.evaluation.compare import compare
    from llmkit.evaluation.evaluate import evaluate
    from llmkit.inference.predict import predict
    from llmkit.models.tokenizer_training.fertility import tokenizer_report
    from llmkit.models.tokenizer_training.train import train_tokenizer
    from llmkit.recipe.load import load_recipe
    from llmkit.training.dry_run import dry_run
    from llmkit.training.run import train

LAZY_MODULES = {
    "clean": "llmkit.data.cleaning.run",
    "train": "llmkit.training.run",
    "dry_run": "llmkit.training.dry_run",
    "compare": "llmkit.evaluation.compare",
    "evaluate": "llmkit.evaluation.evaluate",
    "predict": "llmkit.inference.predict",
    "tokenizer_report": "llmkit.models.tokenizer_training.fertility",
    "train_tokenizer": "llmkit.models.tokenizer_training.train",
    "load_recipe": "llmkit.recipe.load",
}


def __getattr__(name: str) -> Any:
    if name not in LAZY_MODULES:
        raise AttributeError(f"module 'llmkit' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(LAZY_MODULES[name]), name)
