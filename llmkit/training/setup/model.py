"""Chooses the model of a run, loads it with the task's head, and adds LoRA adapters if requested."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from llmkit import console
from llmkit.data.rows import Rows
from llmkit.errors import ModelError, RecipeError
from llmkit.models.scratch import sizes as model_sizes
from llmkit.models.sources.model_ref import FALLBACK_REASON, ModelRef, choose_default_model, resolve_model
from llmkit.models.weight_names import summarize_modules
from llmkit.schema import Recipe
from llmkit.tasks.base import Task
from llmkit.training.setup import scratch_network

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from llmkit.models.load import LoadedModel


def choose_model(recipe: Recipe, task: Task) -> tuple[Recipe, ModelRef]:
    """Return the recipe with its model filled in, and the reference to that model."""
    if recipe.model.encoder is not None:
        if recipe.lora is not None and (not recipe.lora.merge or recipe.lora.quantize != "none"):
            fix = "set lora.merge=true (and no lora.quantize), or leave lora out"
            raise RecipeError("lora: an adapter names one base, and model.encoder and model.decoder are two", fix)
        encoder, decoder = resolve_encoder_decoder(recipe)
        return recipe, ModelRef(f"{encoder.name} + {decoder.name}", "", reason="encoder + decoder")
    if recipe.model.from_config is not None:
        model_sizes.check_preset(recipe.model.from_config)
        name = ModelRef(recipe.model.from_config, "", reason="newly initialized from this config")
    elif recipe.model.name in model_sizes.NETWORK_NAMES:
        if task.is_corpus or task.max_target_length:
            fix = "train it with finetune-classify or finetune-sentiment; here name an encoder or an encoder-decoder"
            what = f"model.name: a network trained from scratch ({recipe.model.name}) predicts only classes and numbers"
            raise RecipeError(what, fix)
        name = ModelRef(
            recipe.model.name, "", reason=f"trained from scratch; write ./{recipe.model.name} for a folder of this name"
        )
    elif recipe.model.name is None:
        given, why = choose_default_model() if task.default_model is None else (task.default_model, FALLBACK_REASON)
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": given})})
        name = replace(resolve_model(given, recipe.model.revision), reason=why)
    else:
        name = resolve_model(recipe.model.name, recipe.model.revision)
    if recipe.lora is not None:
        check_lora_base(recipe, name)
    return scratch_network.apply_scratch_defaults(recipe, name), name


def check_lora_base(recipe: Recipe, name: ModelRef) -> None:
    """Raise RecipeError if LoRA adapters cannot be added to the model."""
    assert recipe.lora is not None
    if recipe.lora.quantize != "none":
        from llmkit.models.adapters import quantize

        quantize.check_quantization(recipe.lora.quantize)
    if name.is_adapter:
        fix = "leave lora out (it is merged into its base), or train it again with lora.merge=true"
        what = f"lora: {name.name} is already an adapter, which cannot be the base of another adapter"
        raise RecipeError(what, fix)
    if not name.id:
        what = f"lora: all weights of {name.name} are newly initialized: there is nothing to adapt"
        raise RecipeError(what, "leave lora out")


def load_run_model(recipe: Recipe, task: Task, name: ModelRef, train: Rows) -> tuple[Recipe, LoadedModel]:
    """Load tokenizer and model with the task's head; new weights are initialized from the recipe's seed.

    The task configures the model. The returned recipe has the model's own max_length if the recipe sets none and the
    default is too long.
    """
    recipe, loaded = load_base_model(recipe, task, name, train)
    loaded = adapt_model(recipe, name, task.head().auto_class, loaded)
    for text in task.configure_model(loaded.model, loaded.tokenizer):
        console.print_message(text)
    return recipe, loaded


def load_base_model(recipe: Recipe, task: Task, name: ModelRef, train: Rows) -> tuple[Recipe, LoadedModel]:
    """Load the model without adapters; return it with the recipe, whose max_length fits the model."""
    from transformers import set_seed

    from llmkit.models import heads
    from llmkit.models import load as models

    console.print_message(f"model: {name.name}" + (f" ({name.reason})" if name.reason else ""))
    head, section = task.head(), recipe.model
    if head.target_scale is not None and section.dtype != "float32":
        raise RecipeError(f"model.dtype: {section.dtype} keeps only three digits of a number", "leave it out")
    if scratch_network.is_scratch_network(recipe):
        loaded = scratch_network.load_scratch_network(recipe, task, name, train)
        report_model_size(loaded)
        return recipe, loaded
    tokenizer = models.load_tokenizer(
        resolve_tokenizer_ref(recipe, name), task.required_special_tokens, task.allow_slow_tokenizer
    )
    if section.from_config is not None:
        from llmkit.models.scratch.from_config import build_scratch_model

        set_seed(recipe.train.seed)
        sizes = (section.max_length, section.dtype)
        loaded = build_scratch_model(name, head.auto_class, section.config, tokenizer, *sizes, task_fields=head.config)
        report_model_size(loaded)
        return recipe, loaded
    if section.tokenizer is not None and section.encoder is None:
        warn_if_tokenizer_differs(tokenizer, name, section.tokenizer)
    if section.encoder is not None:
        return load_joined_model(recipe, task, tokenizer)
    config = models.load_config(name, section.config)
    models.check_architecture(name, config, head.auto_class)
    recipe = fit_max_length(recipe, name, config, tokenizer)
    set_seed(recipe.train.seed)
    changes = section.config | head.config
    loaded = models.load_model(name, head.auto_class, changes, dtype=section.dtype, tokenizer=tokenizer)
    if head.target_scale is not None:  # a head that was trained before predicts in the user's units
        mean, scale = head.target_scale
        new_head = any(f"{path}.weight" in loaded.new_weights for path, _ in heads.find_output_layers(loaded.model))
        heads.rescale_output_layer(loaded.model, 1.0 if new_head else 1 / scale, 0.0 if new_head else -mean / scale)
    report_model_size(loaded)
    if name.is_adapter:
        console.print_message(f"the adapter of {name.name} is merged into its base")
    return recipe, loaded


def adapt_model(recipe: Recipe, name: ModelRef, auto_class: str, loaded: LoadedModel) -> LoadedModel:
    """Add LoRA adapters if the recipe has `lora`, and print the target modules and the share of trained weights."""
    if recipe.lora is None:
        return loaded
    from llmkit.models import load as models
    from llmkit.models.adapters import lora

    if recipe.lora.quantize != "none":
        model = models.reload_quantized(name, auto_class, loaded, recipe.model.dtype, recipe.lora.quantize)
        loaded = replace(loaded, model=model)
    summary = lora.add_lora_adapter(loaded.model, loaded.new_weights, recipe.lora, auto_class)
    trained, total = lora.count_trainable_parameters(loaded.model)
    console.print_message(f"lora: {summary}; learning rate {recipe.train.learning_rate:g}")
    console.print_message(
        f"trains {format_parameter_count(trained)} of {format_parameter_count(total)} weights ({trained / total:.1%})"
    )
    return loaded


def format_parameter_count(number: int) -> str:
    """Format a number of weights: `0.6M`, small numbers in full."""
    return f"{number / 1e6:.1f}M" if number >= 1e5 else f"{number:,}"


def fit_max_length(
    recipe: Recipe, name: ModelRef, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase
) -> Recipe:
    """Return the recipe with a max_length that the model can read. Raises ModelError if it sets a longer one."""
    from llmkit.models.tokenizers import max_length

    section = recipe.model
    longest = max_length.get_position_limit(config, tokenizer) or section.max_length
    if "max_length" not in section.model_fields_set and section.max_length > longest:
        console.print_message(f"max_length: {longest}, the maximum of the model")
        recipe = recipe.model_copy(update={"model": section.model_copy(update={"max_length": longest})})
    max_length.check_max_length(name, config, tokenizer, recipe.model.max_length)
    return recipe


def resolve_encoder_decoder(recipe: Recipe) -> tuple[ModelRef, ModelRef]:
    """Return the references to the encoder and the decoder of a joined model."""
    section = recipe.model
    assert section.encoder is not None
    assert section.decoder is not None
    return resolve_model(section.encoder, section.revision), resolve_model(section.decoder, section.revision)


def load_joined_model(recipe: Recipe, task: Task, tokenizer: PreTrainedTokenizerBase) -> tuple[Recipe, LoadedModel]:
    """Load two encoders as one encoder-decoder."""
    from transformers import set_seed

    from llmkit.models import load as models
    from llmkit.models.seq2seq.encoder_decoder import build_encoder_decoder as join

    if task.head().auto_class != "AutoModelForSeq2SeqLM":
        raise RecipeError(f"model.encoder: {task.name} does not generate text", "name one model with --model")
    encoder, decoder = resolve_encoder_decoder(recipe)
    recipe = fit_max_length(recipe, encoder, models.load_config(encoder), tokenizer)
    set_seed(recipe.train.seed)
    loaded = join(encoder, decoder, recipe.model.config, recipe.model.dtype, tokenizer)
    report_model_size(loaded)
    return recipe, loaded


def warn_if_tokenizer_differs(tokenizer: PreTrainedTokenizerBase, name: ModelRef, given: str) -> None:
    """Print a warning if the tokenizer's ids differ from the model's own: a token then gets another's embedding."""
    from llmkit.models import load as models

    try:
        own_vocabulary = models.load_tokenizer(name, (), allow_slow=True).get_vocab()
    except ModelError:  # the model has no tokenizer
        return
    vocabulary = tokenizer.get_vocab()
    same = sum(own_vocabulary.get(word) == number for word, number in vocabulary.items())
    if same < len(vocabulary):
        fix = "model.from_config starts with newly initialized weights"
        console.print_message(
            f"{given}: {len(vocabulary) - same:,} of its {len(vocabulary):,} tokens differ from those of {name.name}, "
            f"whose embeddings they get; {fix}"
        )


def resolve_tokenizer_ref(recipe: Recipe, name: ModelRef) -> ModelRef:
    """Return the reference to the tokenizer: the model's own unless the recipe names another."""
    if recipe.model.tokenizer is not None:
        return resolve_model(recipe.model.tokenizer, kind="tokenizer")
    return name if recipe.model.encoder is None else resolve_encoder_decoder(recipe)[1]


def report_model_size(loaded: LoadedModel) -> None:
    """Print the number of parameters, and which weights are newly initialized or dropped."""
    size = loaded.model.num_parameters()
    dropped = f"; dropped from the files: {summarize_modules(loaded.unused_weights)}" if loaded.unused_weights else ""
    new = (
        f"; newly initialized: {'all' if is_from_scratch(loaded) else summarize_modules(loaded.new_weights)}"
        if loaded.new_weights
        else ""
    )
    console.print_message(f"{f'{size / 1e6:.1f}M' if size >= 1e6 else f'{size:,}'} parameters{new}{dropped}")


def is_from_scratch(loaded: LoadedModel) -> bool:
    """Whether all weights are newly initialized."""
    return len(loaded.new_weights) == len(loaded.model.state_dict())
