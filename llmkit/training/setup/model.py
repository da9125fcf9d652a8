"""The model that a run starts from: named, loaded with the task's head, and with small matrices where asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmkit import console
from llmkit.data.rows import Rows
from llmkit.errors import ModelError, RecipeError
from llmkit.models.scratch import sizes as model_sizes
from llmkit.models.sources.model_ref import DEFAULT, ModelName, default_name, resolve
from llmkit.models.weight_names import modules
from llmkit.schema import Recipe
from llmkit.tasks.base import Task
from llmkit.training.setup import scratch_network

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from llmkit.models.load import Loaded


def name_model(recipe: Recipe, task: Task) -> tuple[Recipe, ModelName]:
    """The recipe with a model in it, and where that model is."""
    if recipe.model.encoder is not None:
        if recipe.lora is not None and (not recipe.lora.merge or recipe.lora.quantize != "none"):
            mend = "set lora.merge=true (and no lora.quantize), or leave lora out"
            raise RecipeError("lora: an adapter names one base, and model.encoder and model.decoder are two", mend)
        encoder, decoder = parts(recipe)
        why = "one that reads, one that learns to write"
        return recipe, ModelName(f"{encoder.given} + {decoder.given}", "", why=why)
    if recipe.model.from_config is not None:
        model_sizes.check(recipe.model.from_config)
        name = ModelName(recipe.model.from_config, "", why="fresh weights of this shape")
    elif recipe.model.name in model_sizes.NETWORKS:
        if task.corpus or task.longest_target:
            mend = "train it with finetune-classify or finetune-sentiment; here name an encoder or an encoder-decoder"
            raise RecipeError(f"model.name: a fresh {recipe.model.name} answers with classes and numbers alone", mend)
        name = ModelName(recipe.model.name, "", why=f"a fresh network; a folder is named ./{recipe.model.name}")
    elif recipe.model.name is None:
        given, why = default_name() if task.default_model is None else (task.default_model, DEFAULT)
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": given})})
        name = replace(resolve(given, recipe.model.revision), why=why)
    else:
        name = resolve(recipe.model.name, recipe.model.revision)
    if recipe.lora is not None:
        refuse_lora(recipe, name)
    return scratch_network.settled(recipe, name), name


def refuse_lora(recipe: Recipe, name: ModelName) -> None:
    """Raise RecipeError where small matrices cannot stand beside the weights of the model."""
    assert recipe.lora is not None
    if recipe.lora.quantize != "none":
        from llmkit.models.adapters import quantize

        quantize.check(recipe.lora.quantize)
    if name.adapter:
        mend = "leave lora out (it is merged into its base), or train it again with lora.merge=true"
        raise RecipeError(f"lora: {name.given} is an adapter already, and an adapter of an adapter is none", mend)
    if not name.id:
        raise RecipeError(f"lora: all weights of {name.given} are fresh: there is nothing to adapt", "leave lora out")


def load(recipe: Recipe, task: Task, name: ModelName, train: Rows) -> tuple[Recipe, Loaded]:
    """Tokenizer and model with the task's head, the fresh weights drawn from the recipe's seed.

    The model has been told how it answers, where the task knows that. The recipe
    comes back with the model's own length where it named none and the default is too long.
    """
    recipe, loaded = loaded_model(recipe, task, name, train)
    loaded = adapted(recipe, name, task.model().auto_class, loaded)
    for text in task.equip(loaded.model, loaded.tokenizer):
        console.note(text)
    return recipe, loaded


def loaded_model(recipe: Recipe, task: Task, name: ModelName, train: Rows) -> tuple[Recipe, Loaded]:
    """The recipe with the length that it gets, and the model."""
    from transformers import set_seed

    from llmkit.models import heads
    from llmkit.models import load as models

    console.note(f"model: {name.given}" + (f" ({name.why})" if name.why else ""))
    head, section = task.model(), recipe.model
    if head.units is not None and section.dtype != "float32":
        raise RecipeError(f"model.dtype: {section.dtype} holds a number to three digits", "leave it out")
    if scratch_network.is_fresh(recipe):
        loaded = scratch_network.load(recipe, task, name, train)
        said_of(loaded)
        return recipe, loaded
    tokenizer = models.load_tokenizer(tokenizer_name(recipe, name), task.needs, task.slow_words)
    if section.from_config is not None:
        from llmkit.models.scratch.from_config import fresh_model

        set_seed(recipe.train.seed)
        sizes = (section.max_length, section.dtype)
        loaded = fresh_model(name, head.auto_class, section.config, tokenizer, *sizes, by_task=head.config)
        said_of(loaded)
        return recipe, loaded
    if section.tokenizer is not None and section.encoder is None:
        note_other_words(tokenizer, name, section.tokenizer)
    if section.encoder is not None:
        return joined(recipe, task, tokenizer)
    config = models.load_config(name, section.config)
    models.can_do(name, config, head.auto_class)
    recipe = fitted(recipe, name, config, tokenizer)
    set_seed(recipe.train.seed)
    changes = section.config | head.config
    loaded = models.load_model(name, head.auto_class, changes, dtype=section.dtype, tokenizer=tokenizer)
    if head.units is not None:  # a head that was trained before answers in the user's units
        mean, spread = head.units
        fresh_head = any(f"{path}.weight" in loaded.fresh for path, _ in heads.output_layers(loaded.model))
        heads.rescale(loaded.model, 1.0 if fresh_head else 1 / spread, 0.0 if fresh_head else -mean / spread)
    said_of(loaded)
    if name.adapter:
        console.note(f"the adapter of {name.given} is merged into its base")
    return recipe, loaded


def adapted(recipe: Recipe, name: ModelName, auto_class: str, loaded: Loaded) -> Loaded:
    """The model, with `lora` frozen but for small matrices in it; says where they are and what share is trained."""
    if recipe.lora is None:
        return loaded
    from llmkit.models import load as models
    from llmkit.models.adapters import lora

    if recipe.lora.quantize != "none":
        model = models.quantized_again(name, auto_class, loaded, recipe.model.dtype, recipe.lora.quantize)
        loaded = replace(loaded, model=model)
    said = lora.wrap(loaded.model, loaded.fresh, recipe.lora, auto_class)
    trained, of = lora.share(loaded.model)
    console.note(f"lora: {said}; learning rate {recipe.train.learning_rate:g}")
    console.note(f"trains {amount(trained)} of {amount(of)} weights ({trained / of:.1%})")
    return loaded


def amount(number: int) -> str:
    """`0.6M`, or small numbers whole."""
    return f"{number / 1e6:.1f}M" if number >= 1e5 else f"{number:,}"


def fitted(recipe: Recipe, name: ModelName, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Recipe:
    """The recipe with a length that the model can read; ModelError where it named a longer one."""
    from llmkit.models.tokenizers import max_length

    section = recipe.model
    longest = max_length.longest(config, tokenizer) or section.max_length
    if "max_length" not in section.model_fields_set and section.max_length > longest:
        console.note(f"max_length: {longest}, as long as the model can read")
        recipe = recipe.model_copy(update={"model": section.model_copy(update={"max_length": longest})})
    max_length.check_length(name, config, tokenizer, recipe.model.max_length)
    return recipe


def parts(recipe: Recipe) -> tuple[ModelName, ModelName]:
    """Where the encoder and the decoder of a joined model are."""
    section = recipe.model
    assert section.encoder is not None
    assert section.decoder is not None
    return resolve(section.encoder, section.revision), resolve(section.decoder, section.revision)


def joined(recipe: Recipe, task: Task, tokenizer: PreTrainedTokenizerBase) -> tuple[Recipe, Loaded]:
    """Two encoders as one model."""
    from transformers import set_seed

    from llmkit.models import load as models
    from llmkit.models.seq2seq.encoder_decoder import joined as join

    if task.model().auto_class != "AutoModelForSeq2SeqLM":
        raise RecipeError(f"model.encoder: {task.name} does not answer with text", "name one model with --model")
    encoder, decoder = parts(recipe)
    recipe = fitted(recipe, encoder, models.load_config(encoder), tokenizer)
    set_seed(recipe.train.seed)
    loaded = join(encoder, decoder, recipe.model.config, recipe.model.dtype, tokenizer)
    said_of(loaded)
    return recipe, loaded


def note_other_words(tokenizer: PreTrainedTokenizerBase, name: ModelName, given: str) -> None:
    """Say where a tokenizer numbers its words in another way than the model's own: each has another's embedding."""
    from llmkit.models import load as models

    try:
        own = models.load_tokenizer(name, (), slow=True).get_vocab()
    except ModelError:  # the model came without one
        return
    words = tokenizer.get_vocab()
    same = sum(own.get(word) == number for word, number in words.items())
    if same < len(words):
        mend = "model.from_config begins with fresh weights"
        console.note(f"{given}: {len(words) - same:,} of its {len(words):,} pieces are others than in {name.given}, "
                     f"whose embeddings they take over; {mend}")  # fmt: skip


def tokenizer_name(recipe: Recipe, name: ModelName) -> ModelName:
    """Where the tokenizer is: the model's own unless the recipe names another."""
    if recipe.model.tokenizer is not None:
        return resolve(recipe.model.tokenizer, what="tokenizer")
    return name if recipe.model.encoder is None else parts(recipe)[1]


def said_of(loaded: Loaded) -> None:
    """Say how large the model is, and what of it is not from its files."""
    size = loaded.model.num_parameters()
    dropped = f"; left out of the files: {modules(loaded.dropped)}" if loaded.dropped else ""
    fresh = f"; fresh: {'all' if all_fresh(loaded) else modules(loaded.fresh)}" if loaded.fresh else ""
    console.note(f"{f'{size / 1e6:.1f}M' if size >= 1e6 else f'{size:,}'} parameters{fresh}{dropped}")


def all_fresh(loaded: Loaded) -> bool:
    """Whether no weight is from files."""
    return len(loaded.fresh) == len(loaded.model.state_dict())
