"""Small matrices in every family of models: what is saved answers as what was trained, however it is loaded."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import AutoPeftModelForSequenceClassification, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig

from llmkit.errors import LlmkitError, MissingInputError, ModelError, RecipeError
from llmkit.models import adapters, lora
from llmkit.models.load import load_config, load_model, load_tokenizer, quiet, save, save_tokenizer
from llmkit.models.names import resolve
from llmkit.recipe.schema import LoraSection
from llmkit.testing import FAMILIES, tiny_model, tiny_tokenizer

LABELS, MASKED, WRITER = "AutoModelForSequenceClassification", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"
NAMES = {"id2label": {0: "low", 1: "mid", 2: "high"}, "label2id": {"low": 0, "mid": 1, "high": 2}}
BERT = FAMILIES["bert"]
SEQ2SEQ = {
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
    "bart": {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_start_token_id": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "forced_eos_token_id": None,
    },
}  # fmt: skip
DEBERTA = BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
# Name: (family, class of the base, class that is trained). A body from masked-LM training has no pooler.
CASES = {
    "bert": ("bert", "AutoModel", LABELS),
    "bert from masked-LM": ("bert", MASKED, LABELS),
    "roberta": ("roberta", MASKED, LABELS),
    "distilbert": ("distilbert", MASKED, LABELS),
    "deberta-v2": ("deberta-v2", "AutoModel", LABELS),
    "modernbert": ("modernbert", MASKED, LABELS),
    "electra": ("electra", "AutoModel", LABELS),
    "bart for labels": ("bart", WRITER, LABELS),
    "bert, masked": ("bert", MASKED, MASKED),
    "bert, masked on a body": ("bert", "AutoModel", MASKED),
    "roberta, masked on a body": ("roberta", "AutoModel", MASKED),
    "modernbert, masked on a body": ("modernbert", "AutoModel", MASKED),
    "t5": ("t5", WRITER, WRITER),
    "bart": ("bart", WRITER, WRITER),
}


def base_model(folder: Path, family: str, auto_class: str, **config: Any) -> str:
    """A tiny model of the family on disk."""
    if family in FAMILIES:
        return tiny_model(folder, family, auto_class=auto_class, **config)
    tokenizer = tiny_tokenizer(folder)
    fields = SEQ2SEQ.get(family, DEBERTA) | {"vocab_size": len(tokenizer), "max_position_embeddings": 130}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    about = AutoConfig.for_model(family, **fields | ids | config)
    with torch.random.fork_rng(), quiet():
        torch.manual_seed(0)
        getattr(transformers, auto_class).from_config(about).save_pretrained(folder)
    return str(folder)


def learned(base: str, auto_class: str, section: LoraSection | None = None) -> Any:
    """A loaded model with small matrices, and every trainable weight moved as if it had learned."""
    changes = NAMES if auto_class == LABELS else {}
    torch.manual_seed(1)
    loaded = load_model(resolve(base), auto_class, changes)
    lora.wrap(loaded.model, loaded.fresh, section or LoraSection(), auto_class)
    with torch.no_grad():
        for weight in loaded.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.1)
    return loaded


def kept(loaded: Any, base: str, folder: Path) -> Path:
    """The adapter on disk, as a run writes it."""
    path, revision = adapters.place(resolve(base), loaded.model.config)
    lora.save(loaded.model, folder, path, revision)
    save_tokenizer(loaded.tokenizer, folder, 64)
    adapters.write(folder, resolve(base), loaded.model, "none", [])
    return folder


def logits(model: Any, seed: int = 0) -> Tensor:
    """What the model says of a fixed padded batch."""
    chance = torch.Generator().manual_seed(seed)
    mask = (torch.arange(9) < torch.tensor([9, 4, 2])[:, None]).long()
    inputs = {"input_ids": torch.randint(5, 40, mask.shape, generator=chance) * mask, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        eos = int(model.config.eos_token_id)
        inputs["input_ids"][torch.arange(3), mask.sum(1) - 1] = eos  # BART reads a text's class there
        if "Conditional" in type(model).__name__:
            inputs["decoder_input_ids"] = torch.randint(5, 40, (3, 5), generator=chance)
    with torch.inference_mode():
        return model.eval()(**inputs).logits


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A base, what was learned beside it, its logits, and the adapter's folder."""
    family, held, trained = CASES[request.param]
    home = tmp_path_factory.mktemp("lora")
    base = base_model(home / "base", family, held)
    loaded = learned(base, trained)
    said = logits(loaded.model)
    return {"base": base, "loaded": loaded, "logits": said, "auto": trained, "home": home,
            "folder": kept(loaded, base, home / "adapter")}  # fmt: skip


def same(one: Tensor, other: Tensor, within: float = 1e-6) -> bool:
    return float((one - other).abs().max()) <= within * max(1.0, float(other.abs().max()))


def test_the_adapter_answers_as_the_model_that_learned_it(case: dict[str, Any]) -> None:
    again = load_model(resolve(str(case["folder"])), case["auto"], {}, strict=True)
    assert same(logits(again.model), case["logits"])
    base = load_model(resolve(case["base"]), case["auto"], NAMES if case["auto"] == LABELS else {})
    assert not same(logits(base.model), case["logits"], 1e-2)
    if case["auto"] == LABELS:
        assert again.model.config.id2label == NAMES["id2label"]
        assert [str(name) for name in again.model.config.id2label.values()] == ["low", "mid", "high"]


def test_so_does_plain_peft(case: dict[str, Any]) -> None:
    with quiet():
        again = lora.reopened(case["folder"], case["auto"], "float32")
    assert same(logits(again), case["logits"])


def test_so_does_plain_transformers(case: dict[str, Any]) -> None:
    folder = case["folder"]
    with quiet():
        config = AutoConfig.from_pretrained(folder / "model_config.json")
        again = getattr(transformers, case["auto"]).from_pretrained(folder, config=config)
    assert same(logits(again), case["logits"])
    if case["auto"] == LABELS:
        assert again.config.id2label == NAMES["id2label"]


def test_merged_it_is_a_plain_model_that_answers_the_same(case: dict[str, Any], tmp_path: Path) -> None:
    again = load_model(resolve(str(case["folder"])), case["auto"], {}, strict=True)
    lora.merge(again.model)
    assert not lora.is_adapted(again.model)
    save(again.model, again.tokenizer, tmp_path / "merged", 64)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    with quiet():
        plain = getattr(transformers, case["auto"]).from_pretrained(tmp_path / "merged")
    assert {*plain.state_dict()} == {*again.model.state_dict()}
    assert same(logits(plain), case["logits"], 1e-5)


def test_its_weights_are_the_small_ones_alone(case: dict[str, Any]) -> None:
    held = load_file(case["folder"] / "adapter_model.safetensors")
    model = case["loaded"].model
    trained = [weight for _, weight in model.named_parameters(remove_duplicate=False) if weight.requires_grad]
    assert sum(value.numel() for value in held.values()) == sum(weight.numel() for weight in trained)
    words = model.get_input_embeddings().weight
    assert not any(value.shape == words.shape for value in held.values())
    assert not words.requires_grad


def test_all_that_was_fresh_is_trained_and_saved(case: dict[str, Any]) -> None:
    held = {key.removeprefix(lora.PREFIX) for key in load_file(case["folder"] / "adapter_model.safetensors")}
    assert set(case["loaded"].fresh) <= held
