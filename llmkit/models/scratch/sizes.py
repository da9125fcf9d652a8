"""Sizes of models trained from scratch by name: presets for `model.from_config`, networks for `model.name`."""

from __future__ import annotations

from collections.abc import Mapping

from llmkit.errors import RecipeError, suggest_spelling

# Number of layers and hidden size. Attention heads have 64 dimensions, the feed-forward layer four times the width.
# Source of the small sizes: Turc et al. 2019, arXiv:1908.08962.
MODEL_SIZES: Mapping[str, tuple[int, int]] = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
}
# Default learning rate for training each size from scratch: fine-tuning rates are too low, and larger models need a
# lower rate to converge.
PRESET_LEARNING_RATES: Mapping[str, float] = {"tiny": 1e-3, "mini": 1e-3, "small": 5e-4, "medium": 5e-4, "base": 1e-4}
# Config fields of each family for: layers, hidden size, attention heads, feed-forward size.
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
# Decoders have the depth and width of their encoders.
DECODER_SIZE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "t5": ("num_decoder_layers",),
    "bart": ("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"),
}
# RNN and CNN classifiers that `model.name` accepts, and their defaults in `train:`: training from scratch needs a
# higher learning rate than fine-tuning, and their epochs are cheap.
NETWORK_NAMES = ("rnn", "lstm", "gru", "cnn", "bag")
NETWORK_TYPE_PREFIX = "llmkit-"  # prefix of the model types of saved networks
NETWORK_TRAIN_DEFAULTS: Mapping[str, float] = {"learning_rate": 1e-3, "num_train_epochs": 10.0}
HEAD_DIM = 64
MIN_POSITIONS = 512


def list_presets() -> list[str]:
    """List the names that `model.from_config` accepts."""
    return [f"{family}-{size}" for family in SIZE_FIELDS for size in MODEL_SIZES]


def get_preset_learning_rate(name: str) -> float:
    """Get the default learning rate of a preset."""
    return PRESET_LEARNING_RATES[name.rpartition("-")[2]]


def check_preset(name: str) -> None:
    """Raise RecipeError if there is no such preset."""
    if name not in list_presets():
        raise RecipeError(f"model.from_config: no size '{name}'", suggest_spelling(name, list_presets()))
