"""Shapes of fresh weights by name: of models for `model.from_config` in a recipe, of networks for `model.name`."""

from __future__ import annotations

from collections.abc import Mapping

from llmkit.errors import RecipeError, suggest_spelling

# Layers and width. Heads are 64 wide, the inner layer is four times as wide as the outer.
# Source of the small ones: Turc et al. 2019, arXiv:1908.08962.
MODEL_SIZES: Mapping[str, tuple[int, int]] = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
}
# The rate at which fresh weights of each size learn where a recipe names none: that of fine-tuning is too low for all
# of them, and the larger they are the lower the one at which they still settle.
PRESET_LEARNING_RATES: Mapping[str, float] = {"tiny": 1e-3, "mini": 1e-3, "small": 5e-4, "medium": 5e-4, "base": 1e-4}
# The words of each family's config for: layers, width, heads, inner width.
BERT_SIZE_FIELDS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
SIZE_FIELDS: Mapping[str, tuple[str, str, str, str]] = {
    "bert": BERT_SIZE_FIELDS,
    "roberta": BERT_SIZE_FIELDS,
    "electra": BERT_SIZE_FIELDS,
    "modernbert": BERT_SIZE_FIELDS,
    "distilbert": ("n_layers", "dim", "n_heads", "hidden_dim"),
    "t5": ("num_layers", "d_model", "num_heads", "d_ff"),
    "bart": ("encoder_layers", "d_model", "encoder_attention_heads", "encoder_ffn_dim"),
}
# The decoders of encoder-decoders are as deep and wide as their encoders.
DECODER_SIZE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "t5": ("num_decoder_layers",),
    "bart": ("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"),
}
# The networks that came before, which `model.name` may name, and what learning them needs where a recipe says nothing:
# fresh weights want a higher rate than pretrained ones, and their epochs are cheap.
NETWORK_NAMES = ("rnn", "lstm", "gru", "cnn", "bag")
NETWORK_TYPE_PREFIX = "llmkit-"  # what begins the model type of one that was saved
NETWORK_TRAIN_DEFAULTS: Mapping[str, float] = {"learning_rate": 1e-3, "num_train_epochs": 10.0}
HEAD_DIM = 64
MIN_POSITIONS = 512


def list_presets() -> list[str]:
    """All that `from_config` may name."""
    return [f"{family}-{size}" for family in SIZE_FIELDS for size in MODEL_SIZES]


def get_preset_learning_rate(name: str) -> float:
    """The learning rate of a shape, a name of `names`."""
    return PRESET_LEARNING_RATES[name.rpartition("-")[2]]


def check_preset(name: str) -> None:
    """Raise RecipeError where there is no such shape."""
    if name not in list_presets():
        raise RecipeError(f"model.from_config: no shape '{name}'", suggest_spelling(name, list_presets()))
