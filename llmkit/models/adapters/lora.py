"""LoRA adapters in a plain transformers model: adding, merging, saving and loading them.

`add_adapter` of transformers replaces the linear layers by PEFT's and changes nothing else, so that the fast path,
heads and verification find every module at its usual place. Newly initialized modules are trained in place: PEFT's own
`ModulesToSaveWrapper` copies them, including a tied decoder of 50 MB.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import transformers
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import AutoConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from llmkit.errors import ModelError, RecipeError, suggest_spelling
from llmkit.models.adapters.folder import ADAPTED_CONFIG_FILE, ADAPTER_WEIGHTS_FILE
from llmkit.models.heads import find_output_layers
from llmkit.models.sources.model_ref import ModelRef
from llmkit.models.weight_names import summarize_modules
from llmkit.schema import LoraSection

ALL_LINEAR = "all-linear"
PEFT_PREFIX = "base_model.model."  # prefix of every weight name in a PEFT file
CLASSIFIER_AUTO_CLASS = "AutoModelForSequenceClassification"
# PEFT's task types by auto class; it has none for masked language models.
PEFT_TASK_TYPES = {CLASSIFIER_AUTO_CLASS: "SEQ_CLS", "AutoModelForSeq2SeqLM": "SEQ_2_SEQ_LM"}
# With SEQ_CLS, PEFT saves and loads modules with these suffixes in full, whatever its config lists.
PEFT_HEAD_SUFFIXES = ("classifier", "score")
LAYER_PATTERN = re.compile(r"(.*?\.\d+)\.")


def add_lora_adapter(
    model: PreTrainedModel, new_weights: Collection[str], section: LoraSection, auto_class: str
) -> str:
    """Freeze the model and add a LoRA adapter in place; returns a description for the log.

    `new_weights` and the output layer of a classifier stay trainable. Raises RecipeError for target modules that the
    model does not have, and for a model without pretrained weights.
    """
    if len(new_weights) == len(model.state_dict()):
        what = f"lora: all weights of this {type(model).__name__} are newly initialized: there is nothing to adapt"
        raise RecipeError(what, "leave lora out")
    trained_modules, trained_weights = find_trainable(
        model, new_weights, is_classifier=auto_class == CLASSIFIER_AUTO_CLASS
    )
    names = select_target_modules(model, section.target_modules, trained_modules)
    config = LoraConfig(
        r=section.r,
        lora_alpha=section.lora_alpha,
        lora_dropout=section.lora_dropout,
        target_modules=names,
        use_dora=section.use_dora,
        use_rslora=section.use_rslora,
        task_type=PEFT_TASK_TYPES.get(auto_class),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about layer and task types that PEFT does not know
        model.add_adapter(config)
    for weight in trained_weights:
        weight.requires_grad_(True)
    for name, weight in model.named_parameters():
        if ".lora_" in name:  # small updates are lost in bf16
            weight.data = weight.data.float()
    return describe_adapter(section, names, trained_modules)


def list_unquantized_modules(model: PreTrainedModel, trained_modules: Sequence[str]) -> list[str]:
    """List the modules to leave unquantized: the fully trained ones and the output embeddings."""
    outputs = model.get_output_embeddings()
    return [
        *trained_modules,
        *(path for path, module in model.named_modules() if outputs is not None and module is outputs),
    ]


def has_lora_layers(model: nn.Module) -> bool:
    """Check whether the model has LoRA layers."""
    return any(isinstance(module, LoraLayer) for module in model.modules())


def find_trainable(
    model: PreTrainedModel, new_weights: Collection[str], is_classifier: bool
) -> tuple[list[str], list[nn.Parameter]]:
    """Find the fully trained modules and all parameters trained besides the adapters.

    If the module of a new parameter shares weights with the base model (a tied decoder), only the parameter is trained.
    """
    names: dict[nn.Parameter, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names.setdefault(weight, []).append(name)
    trained = {weight for weight, aliases in names.items() if not set(aliases).isdisjoint(new_weights)}
    if is_classifier:
        trained |= {weight for _, layer in find_output_layers(model) for weight in layer.parameters()}
        trained |= {weight for weight, aliases in names.items() if any(find_peft_head(name) for name in aliases)}
    modules = []
    for path, module in iterate_leaf_modules(model):
        own = list(module.parameters())
        if not trained.isdisjoint(own) and all(weight in trained or len(names[weight]) == 1 for weight in own):
            modules.append(path)
            trained.update(own)
    return modules, [weight for weight in names if weight in trained]


def iterate_leaf_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Iterate over the modules that have parameters and no submodules."""
    for path, module in model.named_modules():
        if not any(True for _ in module.children()) and any(True for _ in module.parameters()):
            yield path, module


def find_peft_head(name: str) -> str | None:
    """Find the module containing the weight or module `name` that PEFT treats as a classification head, if any."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if parts[end - 1].endswith(PEFT_HEAD_SUFFIXES):
            return ".".join(parts[:end])
    return None


def select_target_modules(
    model: PreTrainedModel, requested: str | Sequence[str], excluded: Collection[str]
) -> list[str]:
    """Select the requested linear layers, except for the output embeddings and fully trained modules."""
    outputs = model.get_output_embeddings()
    linear = [
        path
        for path, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not outputs and path not in excluded
    ]
    if not linear:
        raise RecipeError(f"lora: a {type(model).__name__} has no linear layer to adapt", "leave lora out")
    if requested == ALL_LINEAR:
        return linear
    selected = {path for name in requested for path in match_target_modules(name, linear)}
    return [path for path in linear if path in selected]


def match_target_modules(name: str, linear: Sequence[str]) -> list[str]:
    """Match linear layers by a name, the end of a name or a regular expression. Raises RecipeError without a match."""
    try:
        matches = [path for path in linear if f".{path}".endswith(f".{name}") or re.fullmatch(name, path)]
    except re.error as error:
        what = f"lora.target_modules: '{name}' is not a valid regular expression ({error})"
        raise RecipeError(what, "fix it") from None
    if not matches:
        known = list(dict.fromkeys(path.rpartition(".")[2] for path in linear))
        raise RecipeError(f"lora.target_modules: no layer '{name}' to adapt", suggest_spelling(name, known))
    return matches


def describe_adapter(section: LoraSection, names: Sequence[str], trained_modules: Sequence[str]) -> str:
    """Describe an adapter: `r 16 on query, key, value, dense (36 modules, 6 layers); fully trained: classifier`."""
    endings = list(dict.fromkeys(name.rpartition(".")[2] for name in names))
    layers = len({match[1] for name in names if (match := LAYER_PATTERN.match(name))})
    how = "".join(word for word, on in ((", DoRA", section.use_dora), (", rsLoRA", section.use_rslora)) if on)
    number = f"{len(names)} module{'s' if len(names) > 1 else ''}"
    where = f"{number}, {layers} layer{'s' if layers > 1 else ''}" if layers else number
    also = (
        f"; fully trained: {summarize_modules([f'{path}.weight' for path in trained_modules])}"
        if trained_modules
        else ""
    )
    return f"r {section.r}{how} on {', '.join(endings)} ({where}){also}"


def count_trainable_parameters(model: nn.Module) -> tuple[int, int]:
    """Count the trainable parameters and all parameters."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    return sum(size for size, trained in sizes if trained), sum(size for size, _ in sizes)


def merge_adapter(model: PreTrainedModel) -> None:
    """Merge the adapter into the base weights in place; leaves a plain model with all parameters trainable."""
    for path, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
            model.set_submodule(path, module.get_base_layer())
        elif isinstance(module, ModulesToSaveWrapper):  # in models loaded by PEFT
            model.set_submodule(path, module.modules_to_save[module.active_adapters[0]])
    del model.peft_config
    model._hf_peft_config_loaded = False  # set by add_adapter and read by save_pretrained
    model.requires_grad_(True)


def list_fully_trained_modules(model: PreTrainedModel) -> list[str]:
    """List the fully trained modules of a model with an adapter."""
    return [
        path
        for path, module in iterate_leaf_modules(model)
        if ".lora_" not in path and all(weight.requires_grad for weight in module.parameters())
    ]


def save_lora_adapter(model: PreTrainedModel, folder: Path, base: str, revision: str | None) -> None:
    """Write adapter_config.json and adapter_model.safetensors in PEFT's format for a `base` path or Hub id."""
    folder.mkdir(parents=True, exist_ok=True)
    config = copy.deepcopy(model.peft_config["default"])
    # By default PEFT asks the Hub whether the base's embedding was resized: it never is.
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    # A tied bias is saved under both names: transformers does not tie weights after loading an adapter.
    trained = {
        name: weight
        for name, weight in model.named_parameters(remove_duplicate=False)
        if weight.requires_grad and ".lora_" not in name
    }
    trained_modules = list_fully_trained_modules(model)
    is_classifier = config.task_type == PEFT_TASK_TYPES[CLASSIFIER_AUTO_CLASS]
    config.modules_to_save = (
        list(dict.fromkeys((is_classifier and find_peft_head(path)) or path for path in trained_modules)) or None
    )
    for path in trained_modules:
        trained |= {f"{path}.{name}": value for name, value in model.get_submodule(path).state_dict().items()}
    config.inference_mode, config.base_model_name_or_path, config.revision = True, base, revision
    # Without a task type, PEFT's auto classes need the model class.
    model_class = type(model)
    auto_mapping = (
        None
        if config.task_type
        else {"base_model_class": model_class.__name__, "parent_library": model_class.__module__}
    )
    config.save_pretrained(folder, auto_mapping_dict=auto_mapping)
    tensors = {f"{PEFT_PREFIX}{name}": value.detach().contiguous().clone() for name, value in (state | trained).items()}
    save_file(tensors, folder / ADAPTER_WEIGHTS_FILE, metadata={"format": "pt"})


def load_with_peft(folder: Path, auto_class: str, dtype: str, **kwargs: Any) -> PreTrainedModel:
    """Load the model of an adapter folder with transformers and PEFT alone, as a user without llmkit would."""
    config = AutoConfig.from_pretrained(folder / ADAPTED_CONFIG_FILE)
    peft_config = PeftConfig.from_pretrained(str(folder))
    base = getattr(transformers, auto_class).from_pretrained(
        peft_config.base_model_name_or_path,
        revision=peft_config.revision,
        config=config,
        dtype=dtype,
        ignore_mismatched_sizes=True,  # the base may have a head for other labels
        **kwargs,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT reads a name that transformers deprecates
        return PeftModel.from_pretrained(base, str(folder)).get_base_model()


def load_lora_adapter(model: PreTrainedModel, ref: ModelRef, new_weights: Iterable[str]) -> tuple[PeftModel, list[str]]:
    """Load the adapter `ref` into the model; returns it with those of `new_weights` that the adapter does not contain.

    Raises ModelError if the adapter's weights do not fit the model.
    """
    assert ref.folder is not None
    with safe_open(ref.folder / ADAPTER_WEIGHTS_FILE, "pt") as file:
        saved = {key.removeprefix(PEFT_PREFIX) for key in file.keys()}  # noqa: SIM118  not a dict
    parameters = dict(model.named_parameters(remove_duplicate=False))
    loaded = {parameters[key] for key in saved if key in parameters}
    missing = [key for key in new_weights if key not in saved and parameters.get(key) not in loaded]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # missing weights are checked below
            peft = PeftModel.from_pretrained(model, str(ref.folder))
            expected = set(get_peft_model_state_dict(peft, save_embedding_layers=False))
    except (KeyError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{ref.name}: the adapter does not fit its base: {reason}", "use its own base model"
        ) from error
    expected = {key.removeprefix(PEFT_PREFIX) for key in expected}
    unexpected = sorted(saved - expected - parameters.keys())
    lacking = sorted(expected - saved)
    if unexpected or lacking:
        what = f"has no module for {unexpected[0]}" if unexpected else f"expects {lacking[0]}"
        raise ModelError(f"{ref.name}: the adapter does not fit its base, which {what}", "use its own base model")
    return peft, missing
