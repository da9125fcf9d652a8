"""Errors for missing packages of slow tokenizers (no tokenizer.json): Marian, M2M100, FSMT, older T5 and Pegasus."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from llmkit.errors import ModelError
from llmkit.models.sources.model_ref import ModelRef

# Words in transformers' message about a missing package. Without the first two it mistakes the file for tiktoken's.
PACKAGE_HINTS = {
    "sentencepiece": ("sentencepiece", "tiktoken"), "protobuf": ("protobuf", "tiktoken"), "sacremoses": ("sacremoses",)
}  # fmt: skip
IMPORT_NAMES = {"protobuf": "google.protobuf"}


@contextmanager
def explain_missing_packages(ref: ModelRef) -> Iterator[None]:
    """Turn errors about a missing package into a ModelError that names the package to install.

    Marian's tokenizer only warns if sacremoses is missing, although it normalizes punctuation as in pretraining: the
    tokens would differ, so this is an error too.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except Exception as error:
            if package := find_missing_package(str(error)):
                raise make_missing_package_error(ref, package) from error
            raise
    for warning in caught:
        if package := find_missing_package(str(warning.message)):
            raise make_missing_package_error(ref, package)


def find_missing_package(message: str) -> str | None:
    """Return the missing package that a message mentions, or None."""
    for package, words in PACKAGE_HINTS.items():
        if any(word in message.lower() for word in words) and not has_module(IMPORT_NAMES.get(package, package)):
            return package
    return None


def has_module(module: str) -> bool:
    """Whether a module can be imported."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package is missing
        return False


def make_missing_package_error(ref: ModelRef, package: str) -> ModelError:
    """Return the error for a missing package."""
    return ModelError(f"{ref.name}: its tokenizer needs the package {package}", "pip install 'llmkit[sentencepiece]'")
