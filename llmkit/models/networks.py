"""RNN, CNN and bag-of-embeddings text classifiers as transformers models.

Importing this module registers their model types: after `import llmkit.models.networks` the Auto classes load
folders of saved networks. Padding, left or right, does not change predictions.
"""
# No `from __future__ import annotations`: `strict` checks the fields and needs their types as objects.

import math
from dataclasses import field
from typing import Any, ClassVar, Literal

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import SequenceClassifierOutput

RNN_CELLS: dict[str, type[nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@strict
class NetworkConfig(PreTrainedConfig):
    """Fields of every network: word embeddings, and dropout before and after the encoder."""

    vocab_size: int = 30522
    embedding_size: int = 100
    dropout: float | int = 0.5
    initializer_range: float | int = 0.1
    pad_token_id: int | None = 0

    positive_fields: ClassVar[tuple[str, ...]] = ("vocab_size", "embedding_size")  # must be at least 1

    def validate_ranges(self) -> None:
        """Raise ValueError for a number that is out of range."""
        for name in self.positive_fields:
            value = getattr(self, name)
            if min(value if isinstance(value, list) else [value], default=0) < 1:
                raise ValueError(f"{name} {value} is out of range; it must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is out of range; it must be at least 0 and below 1")
        if not 0 < self.initializer_range < math.inf:
            raise ValueError(f"initializer_range {self.initializer_range} is out of range; it must be above 0")


@strict
class RecurrentConfig(NetworkConfig):
    """Config of a recurrent network: `hidden_size` units per direction in each of `num_hidden_layers` layers."""

    model_type = "llmkit-recurrent"
    positive_fields = (*NetworkConfig.positive_fields, "hidden_size", "num_hidden_layers")

    cell: Literal["rnn", "lstm", "gru"] = "lstm"
    hidden_size: int = 128
    num_hidden_layers: int = 1
    bidirectional: bool = True


@strict
class ConvolutionalConfig(NetworkConfig):
    """Config of a convolutional network: `num_filters` filters for each of `kernel_sizes`, in words."""

    model_type = "llmkit-convolutional"
    positive_fields = (*NetworkConfig.positive_fields, "num_filters", "kernel_sizes")

    kernel_sizes: list[int] = field(default_factory=lambda: [3, 4, 5])
    num_filters: int = 100


@strict
class BagConfig(NetworkConfig):
    """Config of a network that averages word embeddings."""

    model_type = "llmkit-bag"


class WordEmbeddings(nn.Module):
    """Base class of the encoders: word embeddings with dropout."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.embedding_size, padding_idx=config.pad_token_id)
        self.dropout = nn.Dropout(config.dropout)

    def embed(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Embed ids [rows, length]; returns embeddings [rows, length, E], zero after a text, and the mask."""
        mask = (torch.arange(ids.shape[1], device=ids.device) < lengths[:, None])[..., None]
        return self.dropout(self.words(ids)) * mask, mask


class RecurrentEncoder(WordEmbeddings):
    """RNN, LSTM or GRU with max pooling over the words; forward returns [rows, units * directions]."""

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        layers = config.num_hidden_layers
        self.cell = RNN_CELLS[config.cell](
            config.embedding_size, config.hidden_size, layers, batch_first=True, bidirectional=config.bidirectional,
            dropout=config.dropout if layers > 1 else 0.0,
        )  # fmt: skip
        self.out_features = config.hidden_size * (2 if config.bidirectional else 1)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        embedded, _ = self.embed(ids, lengths)
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.cell(packed)[0], batch_first=True, padding_value=-torch.inf)
        return states.amax(1)


class ConvolutionalEncoder(WordEmbeddings):
    """Convolutions with max pooling over the words. Source: Kim 2014, arXiv:1408.5882."""

    def __init__(self, config: ConvolutionalConfig) -> None:
        super().__init__(config)
        self.filters = nn.ModuleList(
            nn.Conv1d(config.embedding_size, config.num_filters, size) for size in config.kernel_sizes
        )
        self.out_features = config.num_filters * len(config.kernel_sizes)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        embedded, _ = self.embed(ids, lengths)
        pooled = []
        for convolution in self.filters:
            size = convolution.kernel_size[0]
            # A text shorter than the kernel is read once, padded with zeros, however long the batch is.
            values = convolution(nn.functional.pad(embedded.transpose(1, 2), (0, size - 1))).relu()
            counts = (lengths - size + 1).clamp(min=1)
            outside = torch.arange(values.shape[2], device=ids.device) >= counts[:, None]
            pooled.append(values.masked_fill(outside[:, None], 0.0).amax(2))  # ReLU outputs are never negative
        return torch.cat(pooled, 1)


class BagEncoder(WordEmbeddings):
    """Mean of the word embeddings."""

    def __init__(self, config: BagConfig) -> None:
        super().__init__(config)
        self.out_features = config.embedding_size

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        embedded, mask = self.embed(ids, lengths)
        return embedded.sum(1) / mask.sum(1)


class Network(PreTrainedModel):
    """An encoder of texts and a linear classifier with one logit per label."""

    config_class: type[NetworkConfig]
    encoder_class: ClassVar[type[WordEmbeddings]]
    base_model_prefix = "network"

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__(config)
        self.network = self.encoder_class(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(self.network.out_features, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,  # noqa: ARG002  (tokenizers of other models pass it)
        labels: Tensor | None = None,
    ) -> SequenceClassifierOutput:
        """Compute logits [rows, labels] for ids [rows, length], and the loss if labels are given."""
        mask = input_ids != self.config.pad_token_id if attention_mask is None else attention_mask.bool()
        order = (~mask).sort(dim=1, stable=True).indices  # words first, then padding
        features = self.network(input_ids.gather(1, order), mask.sum(1).clamp(min=1))
        logits = self.classifier(self.dropout(features))
        loss = None if labels is None else self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def get_input_embeddings(self) -> nn.Module:
        """Get the embedding table."""
        return self.network.words

    def _init_weights(self, module: nn.Module) -> None:
        """Initialize one module: embeddings from a normal distribution, everything else as torch does."""
        if isinstance(module, nn.Embedding):
            init.normal_(module.weight, std=self.config.initializer_range)
            if module.padding_idx is not None and not getattr(module.weight, "_is_hf_initialized", False):
                init.zeros_(module.weight[module.padding_idx])
        elif isinstance(module, nn.RNNBase):
            bound = module.hidden_size**-0.5
            for weight in module.parameters():
                init.uniform_(weight, -bound, bound)
        elif isinstance(module, (nn.Linear, nn.Conv1d)):
            init.kaiming_uniform_(module.weight, a=math.sqrt(5))
            init.zeros_(module.bias)


class RecurrentForSequenceClassification(Network):
    """An RNN, LSTM or GRU."""

    config_class = RecurrentConfig
    encoder_class = RecurrentEncoder


class ConvolutionalForSequenceClassification(Network):
    """A convolutional network."""

    config_class = ConvolutionalConfig
    encoder_class = ConvolutionalEncoder


class BagForSequenceClassification(Network):
    """A bag of embeddings."""

    config_class = BagConfig
    encoder_class = BagEncoder


def build_network_config(kind: str, **fields: Any) -> NetworkConfig:
    """Build the config of a network by its name in `--model`. Raises StrictDataclassError for an invalid field."""
    if kind in RNN_CELLS:
        return RecurrentConfig(cell=kind, **fields)
    return {"cnn": ConvolutionalConfig, "bag": BagConfig}[kind](**fields)


for network in (
    RecurrentForSequenceClassification,
    ConvolutionalForSequenceClassification,
    BagForSequenceClassification,
):
    AutoConfig.register(network.config_class.model_type, network.config_class)
    AutoModelForSequenceClassification.register(network.config_class, network)
