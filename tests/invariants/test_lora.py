"""Fast path with LoRA adapters: the loss and all gradients equal those of the padded batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.models.adapters import lora
from llmkit.models.fast.dropout import install_fast_dropout, remove_fast_dropout
from llmkit.models.fast.embedding_grad import install_embedding_gradient, remove_embedding_gradient
from llmkit.models.fast.padding_free import try_padding_free
from llmkit.models.fast.sparse_head import has_positionwise_head, use_sparse_head
from llmkit.models.load import load_model
from llmkit.models.sources.model_ref import resolve_model
from llmkit.schema import LoraSection
from llmkit.testing import make_tiny_model

CLASSIFIER, MASKED = "AutoModelForSequenceClassification", "AutoModelForMaskedLM"
LENGTHS = [40, 9, 7, 7, 3, 2]
NO_DROPOUT = {
    "distilbert": {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0},
    "modernbert": {},
}
NO_BERT_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def make_model(folder: Path, family: str, auto: str, **keys: Any) -> Any:
    """Load a tiny model with a non-zero adapter and without dropout."""
    base = make_tiny_model(folder, family, auto_class=MASKED, **NO_DROPOUT.get(family, NO_BERT_DROPOUT))
    torch.manual_seed(0)
    loaded = load_model(resolve_model(base), auto, {})
    lora.add_lora_adapter(loaded.model, loaded.new_weights, LoraSection(lora_dropout=0.0, **keys), auto)
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if ".lora_B" in name:
                weight.normal_(std=0.2)
    return loaded.model


def make_batch(labeled: bool) -> dict[str, Tensor]:
    """Make a batch of random tokens with a class per text, or labels for some tokens."""
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    tokens = torch.randint(5, 80, mask.shape, generator=generator) * mask
    if not labeled:
        return {"input_ids": tokens, "attention_mask": mask, "labels": torch.tensor([0, 1, 1, 0, 1, 0])}
    labeled_tokens = (torch.rand(mask.shape, generator=generator) < 0.3) & mask.bool()
    labeled_tokens[:, 0] = True
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.masked_fill(~labeled_tokens, IGNORE_INDEX)}


def compute_gradients(model: Any, inputs: dict[str, Any], labels: Tensor) -> dict[str, Tensor]:
    """Compute the summed loss (key "loss") and the gradient of every trained weight."""
    model.train()
    model.zero_grad()
    logits = model(**inputs).logits
    selected = labels != IGNORE_INDEX
    chosen = logits[selected] if logits.shape[:-1] == labels.shape else logits.flatten(0, -2)
    loss = cross_entropy(chosen, labels[selected], reduction="sum")
    loss.backward()
    frozen = {name for name, weight in model.named_parameters() if not weight.requires_grad and weight.grad is not None}
    assert not frozen
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    return {"loss": loss.detach(), **found}


def assert_close(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(
            one[name], other[name], rtol=1e-5, atol=2e-5, msg=lambda message, at=name: f"{at}: {message}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{}, {"use_dora": True}], ids=["LoRA", "DoRA"])
@pytest.mark.parametrize(
    ("family", "auto"),
    [("bert", CLASSIFIER), ("roberta", CLASSIFIER), ("distilbert", CLASSIFIER), ("electra", CLASSIFIER), ("modernbert", CLASSIFIER),
     ("bert", MASKED), ("roberta", MASKED), ("distilbert", MASKED)],
)  # fmt: skip
def test_padding_free_batches_give_the_same_gradient(
    tmp_path: Path, family: str, auto: str, keys: dict[str, Any]
) -> None:
    model, batch = make_model(tmp_path / "m", family, auto, **keys), make_batch(auto == MASKED)
    inputs = {name: one for name, one in batch.items() if name != "labels"}
    plain = compute_gradients(model, inputs, batch["labels"])
    assert sum(".lora_" in name for name in plain) > 10
    packing, why = try_padding_free(model, batch, "labels" if auto == MASKED else "first")
    assert packing is not None, why
    packing.install()
    install_embedding_gradient(model)
    install_fast_dropout(model)
    try:
        assert "forward" not in model.get_input_embeddings().__dict__  # frozen: nothing to collect
        packed = compute_gradients(model, packing.remove_padding(batch), batch["labels"])
    finally:
        packing.remove()
        remove_embedding_gradient(model)
        remove_fast_dropout(model)
    assert_close(packed, plain)


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_a_sparse_head_gives_the_same_gradient(tmp_path: Path, family: str) -> None:
    model, batch = make_model(tmp_path / "m", family, MASKED), make_batch(True)
    inputs = {name: one for name, one in batch.items() if name != "labels"}
    plain = compute_gradients(model, inputs, batch["labels"])
    assert has_positionwise_head(model, batch)
    with use_sparse_head(model, batch["labels"] != IGNORE_INDEX):
        sparse = compute_gradients(model, inputs, batch["labels"])
    assert_close(sparse, plain)
