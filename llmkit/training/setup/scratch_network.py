"""Defaults for models trained from scratch, and construction of RNN/CNN models with their word vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from llmkit import console
from llmkit.data.row_errors import pluralize
from llmkit.data.rows import Rows
from llmkit.errors import RecipeError
from llmkit.models.scratch import word_vectors
from llmkit.models.scratch.sizes import (
    NETWORK_NAMES,
    NETWORK_TRAIN_DEFAULTS,
    NETWORK_TYPE_PREFIX,
    get_preset_learning_rate,
)
from llmkit.models.sources import files
from llmkit.models.sources.model_ref import ModelRef, resolve_model
from llmkit.schema import Recipe, VocabularySection
from llmkit.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llmkit.models.load import LoadedModel

SCRATCH_NETWORK_KEYS = ("vocabulary", "word_vectors")  # keys of `model` for networks trained from scratch only


def is_scratch_network(recipe: Recipe) -> bool:
    """Whether the recipe trains a network (RNN, CNN) from scratch."""
    return recipe.model.from_config is None and recipe.model.name in NETWORK_NAMES


def apply_scratch_defaults(recipe: Recipe, name: ModelRef) -> Recipe:
    """Return the recipe with the defaults of a network, or of a model trained from scratch, for missing keys.

    The defaults are printed. The recipe of a pretrained model is unchanged. Raises RecipeError for network keys with
    another model, MissingInputError for missing word vectors.
    """
    from_scratch = is_scratch_network(recipe)
    network_keys = [key for key in SCRATCH_NETWORK_KEYS if getattr(recipe.model, key) is not None]
    if network_keys and not from_scratch:
        why = f"applies only to a network trained from scratch, and the model is {name.name}"
        raise RecipeError(f"model.{network_keys[0]}: {why}", f"leave it out, or name one of {', '.join(NETWORK_NAMES)}")
    if from_scratch and recipe.model.revision is not None:
        why = f"a network trained from scratch has no revision, and the model is {name.name}"
        raise RecipeError(f"model.revision: {why}", "leave it out")
    if recipe.model.word_vectors is not None:
        word_vectors.locate_word_vectors(recipe.model.word_vectors)
    if recipe.model.from_config is not None:
        defaults = {"learning_rate": get_preset_learning_rate(recipe.model.from_config)}
        return apply_train_defaults(recipe, name, defaults, "models trained from scratch need")
    if not from_scratch and not is_saved_network(name):
        return recipe
    if from_scratch and recipe.model.tokenizer is None and recipe.model.vocabulary is None:
        section = recipe.model.model_copy(update={"vocabulary": VocabularySection()})
        recipe = recipe.model_copy(update={"model": section})
    return apply_train_defaults(recipe, name, NETWORK_TRAIN_DEFAULTS, "networks need")


def is_saved_network(name: ModelRef) -> bool:
    """Whether the model folder contains a saved network."""
    about = files.read_model_json(name, "config.json") if name.folder is not None else None
    return isinstance(about, dict) and str(about.get("model_type")).startswith(NETWORK_TYPE_PREFIX)


def apply_train_defaults(recipe: Recipe, name: ModelRef, needed: Mapping[str, float], why: str) -> Recipe:
    """Return the recipe with the `needed` keys of `train` that it leaves out, and print them with the reason."""
    train = recipe.train
    defaults = {key: value for key, value in needed.items() if key not in train.model_fields_set}
    if not defaults:
        return recipe
    chosen = " and ".join(f"train.{key} {value:g}" for key, value in defaults.items())
    usual = " and ".join(f"{getattr(train, key):g}" for key in defaults)
    console.print_message(f"{name.name}: {chosen}, as {why}, not {usual}; a recipe or KEY=VALUE can set another")
    return recipe.model_copy(update={"train": train.model_copy(update=defaults)})


def load_scratch_network(recipe: Recipe, task: Task, name: ModelRef, train: Rows) -> LoadedModel:
    """Build the network with its tokenizer, trained on the training rows if none is named, and its word vectors."""
    from transformers import set_seed

    from llmkit.models.scratch.from_config import build_scratch_network

    section, head = recipe.model, task.head()
    tokenizer = get_network_tokenizer(recipe, task, train)
    changes: dict[str, Any] = dict(section.config)
    vectors = None
    if section.word_vectors is not None:
        words = get_vocabulary_words(tokenizer)
        vectors = word_vectors.read_word_vectors(word_vectors.locate_word_vectors(section.word_vectors), words)
        changes["embedding_size"] = word_vectors.check_vector_width(
            vectors, section.word_vectors, section.config.get("embedding_size")
        )
        share = f"{len(vectors.token_ids) / len(words):.0%} of the {pluralize(len(words), 'word')}"
        console.print_message(f"word vectors: {share} are in {section.word_vectors}, the others are random")
    set_seed(recipe.train.seed)
    return build_scratch_network(
        name, head.auto_class, changes, tokenizer, section.max_length, section.dtype, head.config, vectors
    )


def get_network_tokenizer(recipe: Recipe, task: Task, train: Rows) -> PreTrainedTokenizerBase:
    """Load the tokenizer that the recipe names, or build one from the words of the training rows."""
    from llmkit.models.load import load_tokenizer
    from llmkit.models.tokenizer_training.wordlevel import train_word_tokenizer

    section = recipe.model
    if section.tokenizer is not None:
        return load_tokenizer(resolve_model(section.tokenizer, kind="tokenizer"), task.required_special_tokens)
    vocabulary = section.vocabulary or VocabularySection()
    tokenizer = train_word_tokenizer(iter_input_texts(task, train), vocabulary)
    case = ", in lower case" if vocabulary.lowercase else ""
    often = f" that occur at least {vocabulary.min_frequency} times" if vocabulary.min_frequency > 1 else ""
    console.print_message(
        f"vocabulary: {pluralize(len(get_vocabulary_words(tokenizer)), 'word')} of the training rows{often}{case}"
    )
    return tokenizer


def get_vocabulary_words(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the tokenizer's words with their ids, without special tokens."""
    special = set(tokenizer.all_special_ids)
    return {word: number for word, number in tokenizer.get_vocab().items() if number not in special}


def iter_input_texts(task: Task, rows: Rows) -> Iterator[str]:
    """Iterate over the input texts of the rows, without the target column."""
    return chain.from_iterable(
        rows.texts(word) for word in task.columns if word != task.target and word in rows.column_mapping
    )
