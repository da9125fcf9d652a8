"""The packages that read the words of models without a tokenizer.json: Marian, M2M100, FSMT, older T5 and Pegasus."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from llmkit.errors import ModelError
from llmkit.models.sources.model_ref import ModelName

# What transformers says where one of them is missing. Without the first two it takes such a file for one of tiktoken.
SAID = {
    "sentencepiece": ("sentencepiece", "tiktoken"), "protobuf": ("protobuf", "tiktoken"), "sacremoses": ("sacremoses",)
}  # fmt: skip
MODULES = {"protobuf": "google.protobuf"}


@contextmanager
def packages(name: ModelName) -> Iterator[None]:
    """Turn what is said of a missing package into a sentence that says what to install.

    Marian's tokenizer only warns without sacremoses, which makes punctuation what it was in its training: other tokens
    would be read, so that is an error too.
    """
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            yield
        except Exception as fault:
            if package := lacking(str(fault)):
                raise missing(name, package) from fault
            raise
    for one in warned:
        if package := lacking(str(one.message)):
            raise missing(name, package)


def lacking(said: str) -> str | None:
    """The package that is said to be missing, and is."""
    for package, words in SAID.items():
        if any(word in said.lower() for word in words) and not there(MODULES.get(package, package)):
            return package
    return None


def there(module: str) -> bool:
    """Whether a module is installed."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the package that it is in
        return False


def missing(name: ModelName, package: str) -> ModelError:
    """What to say of it."""
    return ModelError(f"{name.given}: its tokenizer needs the package {package}", "pip install 'llmkit[sentencepiece]'")
