"""Shapes of fresh weights by name: of models for `model.from_config` in a recipe, of networks for `model.name`."""

from __future__ import annotations

from collections.abc import Mapping

from llmkit.errors import RecipeError, did_you_mean

# Layers and width. Heads are 64 wide, the inner layer is four times as wide as the outer.
# Source of the small ones: Turc et al. 2019, arXiv:1908.08962.
SIZES: Mapping[str, tuple[int, int]] = {
    "tiny": (2, 128),
    "mini": (4, 256),
    "small": (4, 512),
    "medium": (8, 512),
    "base": (12, 768),
}
# The rate at which fresh weights of each size learn where a recipe names none: that of fine-tuning is too low for all
# of them, and the larger they are the lower the one at which they still settle.
RATES: Mapping[str, float] = {"tiny": 1e-3, "mini": 1e-3, "small": 5e-4, "medium": 5e-4, "base": 1e-4}
# The words of each family's config for: layers, width, heads, inner width.
BERT = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
WORDS: Mapping[str, tuple[str, str, str, str]] = {
    "bert": BERT,
    "roberta": BERT,
    "electra": BERT,
    "modernbert": BERT,
    "distilbert": ("n_layers", "dim", "n_heads", "hidden_dim"),
    "t5": ("num_layers", "d_model", "num_heads", "d_ff"),
    "bart": ("encoder_layers", "d_model", "encoder_attention_heads", "encoder_ffn_dim"),
}
# The decoders of encoder-decoders are as deep and wide as their encoders.
DECODERS: Mapping[str, tuple[str, ...]] = {
    "t5": ("num_decoder_layers",),
    "bart": ("decoder_layers", "decoder_attention_heads", "decoder_ffn_dim"),
}
# The networks that came before, which `model.name` may name, and what learning them needs where a recipe says nothing:
# fresh weights want a higher rate than pretrained ones, and their epochs are cheap.
NETWORKS = ("rnn", "lstm", "gru", "cnn", "bag")
NETWORK_TYPES = "llmkit-"  # what begins the model type of one that was saved
NETWORK_LEARNING: Mapping[str, float] = {"learning_rate": 1e-3, "num_train_epochs": 10.0}
HEAD = 64
POSITIONS = 512


def names() -> list[str]:
    """All that `from_config` may name."""
    return [f"{family}-{size}" for family in WORDS for size in SIZES]


def rate(name: str) -> float:
    """The learning rate of a shape, a name of `names`."""
    return RATES[name.rpartition("-")[2]]


def check(name: str) -> None:
    """Raise RecipeError where there is no such shape."""
    if name not in names():
        raise RecipeError(f"model.from_config: no shape '{name}'", did_you_mean(name, names()))
