"""A tokenizer and a model that fit each other and the task, or a sentence that says why they do not."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from llmkit.errors import LlmkitError, ModelError, NetworkError, RecipeError, did_you_mean
from llmkit.models.names import ModelName

ANSWER_SECONDS = 5.0
UNLIMITED = 10**6  # transformers writes 10**30 where a tokenizer names no length
# Families whose positions are counted from pad_token_id + 1 on: the rows of the table below that are never used.
POSITIONS_AFTER_PAD = frozenset({
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet",
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip


@dataclass(frozen=True)
class Loaded:
    """A model, its tokenizer, their length, and the names of the weights that the files did not hold."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    length: int  # tokens at which the saved model cuts texts
    fresh: tuple[str, ...] = ()


def load_config(name: ModelName) -> PreTrainedConfig:
    """The model's own config."""
    with speaking_of(name), quiet():
        return AutoConfig.from_pretrained(name.id, trust_remote_code=False, **source(name))


def load_tokenizer(name: ModelName, needs: tuple[str, ...] = ("pad",)) -> PreTrainedTokenizerBase:
    """The tokenizer, with padding and truncation that its file may carry turned off: llmkit decides both.

    `needs` names special tokens that the task cannot do without. Raises ModelError where one is missing.
    """
    with speaking_of(name), quiet():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            name.id, trust_remote_code=False, **source(name)
        )
    if not tokenizer.is_fast:
        raise ModelError(
            f"{name.given}: its tokenizer has no tokenizer.json form", "name a model with a fast tokenizer"
        )
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what the library makes of a folder without the files
        raise ModelError(f"{name.given}: its tokenizer knows no words", "put the files of its tokenizer beside it")
    unlimited(tokenizer)
    for need in needs:
        if getattr(tokenizer, f"{need}_token_id", None) is None:
            raise ModelError(
                f"{name.given}: its tokenizer has no {need} token",
                f"name a model whose tokenizer has one ({hint(need)})",
            )
    return tokenizer


def hint(need: str) -> str:
    """What a missing special token means for the choice of a model."""
    return {"pad": "encoders have; many text generators have not", "mask": "masked language models have"}[need]


def unlimited(tokenizer: PreTrainedTokenizerBase) -> None:
    """Turn off the padding and truncation of the tokenizer's own file."""
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()


def load_model(
    name: ModelName, auto_class: str, changes: dict[str, Any], *, dtype: str = "float32", strict: bool = False
) -> Loaded:
    """The model with its tokenizer, in `dtype`, on the CPU, with `changes` in its config.

    Weights that the files do not hold are drawn afresh (seed torch first) and listed in `fresh`; with `strict` they
    are a ModelError, because a random head must never answer. Raises ModelError too where the architecture has no such
    head, or where most weights would be fresh.
    """
    tokenizer, config = load_tokenizer(name), load_config(name)
    can_do(name, config, auto_class)
    fits(name, config, tokenizer)
    known_fields(name, config, changes)
    safe_files(name)
    length = own_length(config, tokenizer)
    tokenizer.model_max_length = longest(config, tokenizer) or tokenizer.model_max_length  # padding goes no further
    with speaking_of(name), quiet():
        model, report = getattr(transformers, auto_class).from_pretrained(
            name.id,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=not strict,
            use_safetensors=True,  # the other format is a pickle
            trust_remote_code=False,
            **source(name),
            **changes,
        )
    fresh = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    if fresh and strict:
        raise ModelError(f"{name.given}: {weights(len(fresh))} missing: {listed(fresh)}",
                         "a random head must not answer; name a model that was trained for the task")  # fmt: skip
    sizes = {key: value.numel() for key, value in model.state_dict().items()}
    if sum(sizes.get(key, 0) for key in fresh) * 2 > sum(sizes.values()):
        raise ModelError(f"{name.given}: its files do not fit a {type(model).__name__}, they lack {listed(fresh)}",
                         "check model.name and model.config")  # fmt: skip
    return Loaded(model, tokenizer, length, tuple(fresh))


def can_do(name: ModelName, config: PreTrainedConfig, auto_class: str) -> None:
    """Raise ModelError where the architecture has no such head."""
    mapping = getattr(transformers, auto_class)._model_mapping
    if type(config) not in mapping:
        raise ModelError(f"{name.given}: a '{config.model_type}' model cannot do this task (no {auto_class} for it)",
                         "name an encoder such as google-bert/bert-base-uncased")  # fmt: skip


def fits(name: ModelName, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise ModelError where the tokenizer's words exceed the embedding."""
    words = getattr(config.get_text_config(), "vocab_size", None)
    if words is not None and len(tokenizer) > words:
        raise ModelError(f"{name.given}: its tokenizer has {len(tokenizer):,} words, its embedding {words:,}",
                         "take both from the same model")  # fmt: skip


def safe_files(name: ModelName) -> None:
    """Raise ModelError where a local folder has its weights in pickles only, or none at all."""
    if name.folder is not None and not any(name.folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in name.folder.glob(pattern))
        found = f"only {', '.join(pickles)}, which can run code" if pickles else "no weights"
        raise ModelError(f"{name.given}: {found}", "save the model as model.safetensors (save_pretrained does)")


def known_fields(name: ModelName, config: PreTrainedConfig, changes: dict[str, Any]) -> None:
    """Raise RecipeError where `changes` name a field that the model's config has not."""
    fields = config.to_dict()
    for key in changes:
        if not hasattr(config, key):
            raise RecipeError(f"model.config.{key}: the config of {name.given} has no such field",
                              did_you_mean(key, sorted(fields)))  # fmt: skip


def check_length(
    name: ModelName, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    """Raise ModelError where the model has fewer positions than `max_length`."""
    most = longest(config, tokenizer)
    if most is not None and max_length > most:
        raise ModelError(f"{name.given}: model.max_length {max_length:,} exceeds its {most:,} positions",
                         f"set model.max_length={most}")  # fmt: skip
    least = tokenizer.num_special_tokens_to_add() + 1
    if max_length < least:
        raise ModelError(
            f"{name.given}: model.max_length {max_length} leaves no room for text", f"set it to {least} or more"
        )


def own_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """The longest input that a saved model was made for, 512 where it names no limit."""
    limits = [
        n for n in (longest(config, tokenizer), tokenizer.model_max_length) if n is not None and 0 < n < UNLIMITED
    ]
    return min(limits, default=512)


def longest(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """How many tokens the model can read at once, None where neither it nor its tokenizer names a limit.

    The model's positions decide: its tokenizer may name the shorter length that an earlier run cut texts at.
    """
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if isinstance(positions, int) and text.model_type in POSITIONS_AFTER_PAD:
        positions -= (text.pad_token_id or 0) + 1
    if isinstance(positions, int) and positions > 0:
        return positions
    named = tokenizer.model_max_length
    return named if isinstance(named, int) and 0 < named < UNLIMITED else None


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, max_length: int) -> None:
    """Write a plain Hugging Face folder that cuts texts where training did."""
    unlimited(tokenizer)
    tokenizer.model_max_length = max_length
    with quiet():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def modules(keys: tuple[str, ...]) -> str:
    """`classifier, bert.pooler.dense` from weight names."""
    return ", ".join(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))


def weights(number: int) -> str:
    return f"{number:,} weight{'s are' if number > 1 else ' is'}"


def listed(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (" ..." if len(keys) > 5 else "")


@contextmanager
def quiet() -> Iterator[None]:
    """No loading bars and reports: what they say is in the result, and llmkit says it in its own words."""
    from transformers.utils import logging as hf_logging

    level, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity(logging.CRITICAL)
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bars:
            hf_logging.enable_progress_bar()


@contextmanager
def speaking_of(name: ModelName) -> Iterator[None]:
    """Turn the library's many ways to fail at loading into one sentence about the model."""
    try:
        yield
    except (LlmkitError, MemoryError):
        raise
    except Exception as fault:  # a damaged folder makes the library fail in any way whatever
        said = " ".join(str(fault).split("\n")[0].split())[:300].rstrip(".")
        if "trust_remote_code" in str(fault):
            raise ModelError(f"{name.given}: needs code of its own repository, and llmkit runs none",
                             "name a model of an architecture that transformers has") from fault  # fmt: skip
        if name.folder is None and isinstance(fault, OSError):
            raise NetworkError(
                f"{name.given}: no such local folder, and the Hub did not give it: {said}", mend()
            ) from fault
        raise ModelError(
            f"{name.given}: {type(fault).__name__}: {said}", "check the folder and model.config"
        ) from fault


def source(name: ModelName) -> dict[str, Any]:
    """How to ask for the files: of a local folder as it is, of the Hub with the revision, or of its cache alone."""
    if name.folder is not None:
        return {}
    return {"revision": name.revision, "local_files_only": not answers(name.id, name.revision)}


@cache
def answers(model: str, revision: str | None) -> bool:
    """Whether the Hub answers at all. Asked once, with a short limit: the loaders would retry for half a minute."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().model_info(model, revision=revision, timeout=ANSWER_SECONDS)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as fault:
        raise NetworkError(
            f"{model}: no such local folder, and on the Hub: {str(fault).splitlines()[0]}", mend()
        ) from fault
    except Exception:  # the class depends on the HTTP library below; whatever it is, the cache may do
        return False
    return True


def mend() -> str:
    """What helps when the Hub does not answer."""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return "HF_HUB_OFFLINE=1 is set: unset it, or name a local folder with --model"
    return "check the name and the network, or name a local folder with --model"
