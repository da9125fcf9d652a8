"""The packages that read the words of models without a tokenizer.json: Marian, M2M100, FSMT, older T5 and Pegasus."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from llmkit.errors import ModelError
from llmkit.models.sources.model_ref import ModelRef

# What transformers says where one of them is missing. Without the first two it takes such a file for one of tiktoken.
PACKAGE_HINTS = {
    "sentencepiece": ("sentencepiece", "tiktoken"), "protobuf": ("protobuf", "tiktoken"), "sacremoses": ("sacremoses",)
}  # fmt: skip
IMPORT_NAMES = {"protobuf": "google.protobuf"}


@contextmanager
def explain_missing_packages(name: ModelRef) -> Iterator[None]:
    """Turn what is said of a missing package into a sentence that says what to install.

    Marian's tokenizer only warns without sacremoses, which makes punctuation what it was in its training: other tokens
    would be read, so that is an error too.
    """
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            yield
        except Exception as fault:
            if package := find_missing_package(str(fault)):
                raise make_missing_package_error(name, package) from fault
            raise
    for one in warned:
        if package := find_missing_package(str(one.message)):
            raise make_missing_package_error(name, package)


def find_missing_package(said: str) -> str | None:
    """The package that is said to be missing, and is."""
    for package, words in PACKAGE_HINTS.items():
        if any(word in said.lower() for word in words) and not has_module(IMPORT_NAMES.get(package, package)):
            return package
    return None


def has_module(module: str) -> bool:
    """Whether a module is installed."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def make_missing_package_error(name: ModelRef, package: str) -> ModelError:
    """What to say of it."""
    return ModelError(f"{name.name}: its tokenizer needs the package {package}", "pip install 'llmkit[sentencepiece]'")
