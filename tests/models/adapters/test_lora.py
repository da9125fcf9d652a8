"""LoRA adapters in every model family: a saved adapter predicts like the trained model, however it is loaded."""

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
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig

from llmkit.errors import LlmkitError, MissingInputError, ModelError, RecipeError
from llmkit.models.adapters import folder as adapter_folder
from llmkit.models.adapters import lora
from llmkit.models.load import load_config, load_model, load_tokenizer, save_model, save_tokenizer, silence_transformers
from llmkit.models.sources.model_ref import resolve_model
from llmkit.schema import LoraSection
from llmkit.testing import ENCODER_CONFIGS, make_tiny_model, make_tiny_tokenizer

CLASSIFIER, MASKED, SEQ2SEQ = "AutoModelForSequenceClassification", "AutoModelForMaskedLM", "AutoModelForSeq2SeqLM"
LABEL_FIELDS = {"id2label": {0: "low", 1: "mid", 2: "high"}, "label2id": {"low": 0, "mid": 1, "high": 2}}
BERT = ENCODER_CONFIGS["bert"]
SEQ2SEQ_CONFIGS = {
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0},
    "bart": {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_start_token_id": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "forced_eos_token_id": None,
    },
}  # fmt: skip
DEBERTA = BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "type_vocab_size": 0}
# Name: (family, class of the base, class that is trained). A base model from masked-LM training has no pooler.
CASES = {
    "bert": ("bert", "AutoModel", CLASSIFIER),
    "bert from masked-LM": ("bert", MASKED, CLASSIFIER),
    "roberta": ("roberta", MASKED, CLASSIFIER),
    "distilbert": ("distilbert", MASKED, CLASSIFIER),
    "deberta-v2": ("deberta-v2", "AutoModel", CLASSIFIER),
    "modernbert": ("modernbert", MASKED, CLASSIFIER),
    "electra": ("electra", "AutoModel", CLASSIFIER),
    "bart for labels": ("bart", SEQ2SEQ, CLASSIFIER),
    "bert, masked": ("bert", MASKED, MASKED),
    "bert, masked on a base model": ("bert", "AutoModel", MASKED),
    "roberta, masked on a base model": ("roberta", "AutoModel", MASKED),
    "modernbert, masked on a base model": ("modernbert", "AutoModel", MASKED),
    "t5": ("t5", SEQ2SEQ, SEQ2SEQ),
    "bart": ("bart", SEQ2SEQ, SEQ2SEQ),
}


def make_base_model(folder: Path, family: str, auto_class: str, **config: Any) -> str:
    """Write a tiny model of the family to disk."""
    if family in ENCODER_CONFIGS:
        return make_tiny_model(folder, family, auto_class=auto_class, **config)
    tokenizer = make_tiny_tokenizer(folder)
    fields = SEQ2SEQ_CONFIGS.get(family, DEBERTA) | {"vocab_size": len(tokenizer), "max_position_embeddings": 130}
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config_object = AutoConfig.for_model(family, **fields | ids | config)
    with torch.random.fork_rng(), silence_transformers():
        torch.manual_seed(0)
        getattr(transformers, auto_class).from_config(config_object).save_pretrained(folder)
    return str(folder)


def load_trained(base: str, auto_class: str, section: LoraSection | None = None) -> Any:
    """Load a model with an adapter and change every trainable weight, as training would."""
    overrides = LABEL_FIELDS if auto_class == CLASSIFIER else {}
    torch.manual_seed(1)
    loaded = load_model(resolve_model(base), auto_class, overrides)
    lora.add_lora_adapter(loaded.model, loaded.new_weights, section or LoraSection(), auto_class)
    with torch.no_grad():
        for weight in loaded.model.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.1)
    return loaded


def save_adapter(loaded: Any, base: str, folder: Path) -> Path:
    """Write the adapter to disk as a run does."""
    path, revision = adapter_folder.locate_base_model(resolve_model(base), loaded.model.config)
    lora.save_lora_adapter(loaded.model, folder, path, revision)
    save_tokenizer(loaded.tokenizer, folder, 64)
    adapter_folder.write_adapter_files(folder, resolve_model(base), loaded.model, "none", [])
    return folder


def compute_logits(model: Any, seed: int = 0) -> Tensor:
    """Compute the logits of a fixed padded batch."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(9) < torch.tensor([9, 4, 2])[:, None]).long()
    inputs = {"input_ids": torch.randint(5, 40, mask.shape, generator=generator) * mask, "attention_mask": mask}
    if model.config.is_encoder_decoder:
        eos = int(model.config.eos_token_id)
        inputs["input_ids"][torch.arange(3), mask.sum(1) - 1] = eos  # BART's classifier reads this position
        if "Conditional" in type(model).__name__:
            inputs["decoder_input_ids"] = torch.randint(5, 40, (3, 5), generator=generator)
    with torch.inference_mode():
        return model.eval()(**inputs).logits


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A base model, the trained model with its adapter, its logits, and the adapter's folder."""
    family, base_class, trained_class = CASES[request.param]
    home = tmp_path_factory.mktemp("lora")
    base = make_base_model(home / "base", family, base_class)
    loaded = load_trained(base, trained_class)
    return {"base": base, "loaded": loaded, "logits": compute_logits(loaded.model), "auto": trained_class, "home": home,
            "folder": save_adapter(loaded, base, home / "adapter")}  # fmt: skip


def is_close(one: Tensor, other: Tensor, tolerance: float = 1e-6) -> bool:
    """Check that two tensors differ by at most `tolerance`, relative to the larger of 1 and their maximum."""
    return float((one - other).abs().max()) <= tolerance * max(1.0, float(other.abs().max()))


@pytest.mark.slow
def test_a_loaded_adapter_predicts_like_the_trained_model(case: dict[str, Any]) -> None:
    reloaded = load_model(resolve_model(str(case["folder"])), case["auto"], {}, strict=True)
    assert is_close(compute_logits(reloaded.model), case["logits"])
    base = load_model(resolve_model(case["base"]), case["auto"], LABEL_FIELDS if case["auto"] == CLASSIFIER else {})
    assert not is_close(compute_logits(base.model), case["logits"], 1e-2)
    if case["auto"] == CLASSIFIER:
        assert reloaded.model.config.id2label == LABEL_FIELDS["id2label"]
        assert [str(name) for name in reloaded.model.config.id2label.values()] == ["low", "mid", "high"]


@pytest.mark.slow
def test_plain_peft_gives_the_same_logits(case: dict[str, Any]) -> None:
    with silence_transformers():
        reloaded = lora.load_with_peft(case["folder"], case["auto"], "float32")
    assert is_close(compute_logits(reloaded), case["logits"])


@pytest.mark.slow
def test_plain_transformers_gives_the_same_logits(case: dict[str, Any]) -> None:
    folder = case["folder"]
    with silence_transformers():
        config = AutoConfig.from_pretrained(folder / "model_config.json")
        reloaded = getattr(transformers, case["auto"]).from_pretrained(folder, config=config)
    assert is_close(compute_logits(reloaded), case["logits"])
    if case["auto"] == CLASSIFIER:
        assert reloaded.config.id2label == LABEL_FIELDS["id2label"]


@pytest.mark.slow
def test_a_merged_adapter_is_a_plain_equal_model(case: dict[str, Any], tmp_path: Path) -> None:
    reloaded = load_model(resolve_model(str(case["folder"])), case["auto"], {}, strict=True)
    lora.merge_adapter(reloaded.model)
    assert not lora.has_lora_layers(reloaded.model)
    save_model(reloaded.model, reloaded.tokenizer, tmp_path / "merged", 64)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()
    with silence_transformers():
        plain = getattr(transformers, case["auto"]).from_pretrained(tmp_path / "merged")
    assert {*plain.state_dict()} == {*reloaded.model.state_dict()}
    assert is_close(compute_logits(plain), case["logits"], 1e-5)


def test_the_file_has_only_trained_weights(case: dict[str, Any]) -> None:
    saved = load_file(case["folder"] / "adapter_model.safetensors")
    model = case["loaded"].model
    trained = [weight for _, weight in model.named_parameters(remove_duplicate=False) if weight.requires_grad]
    assert sum(value.numel() for value in saved.values()) == sum(weight.numel() for weight in trained)
    words = model.get_input_embeddings().weight
    assert not any(value.shape == words.shape for value in saved.values())
    assert not words.requires_grad


def test_all_new_weights_are_trained_and_saved(case: dict[str, Any]) -> None:
    saved = {key.removeprefix(lora.PEFT_PREFIX) for key in load_file(case["folder"] / "adapter_model.safetensors")}
    assert set(case["loaded"].new_weights) <= saved


@pytest.fixture
def error_message() -> Callable[..., str]:
    """Return the message of the error that `work` raises."""

    def message(work: Callable[[], object], kind: type[LlmkitError] = RecipeError) -> str:
        with pytest.raises(kind) as caught:
            work()
        return str(caught.value)

    return message


def load_with_adapter(tiny: str, **keys: Any) -> tuple[Any, str]:
    """Load the tiny BERT with a head and an adapter; returns it with the adapter's description."""
    loaded = load_model(resolve_model(tiny), CLASSIFIER, LABEL_FIELDS)
    return loaded, lora.add_lora_adapter(loaded.model, loaded.new_weights, LoraSection(**keys), CLASSIFIER)


def test_an_adapter_is_described(tiny: str) -> None:
    assert load_with_adapter(tiny)[1] == (
        "r 16 on query, key, value, dense (13 modules, 2 layers); fully trained: classifier"
    )
    assert load_with_adapter(tiny, target_modules=["query", "value"], r=4, use_dora=True, use_rslora=True)[1] == (
        "r 4, DoRA, rsLoRA on query, value (4 modules, 2 layers); fully trained: classifier"
    )
    assert load_with_adapter(tiny, target_modules=[r"bert\.encoder\.layer\.1\..*query"])[1] == (
        "r 16 on query (1 module, 1 layer); fully trained: classifier"
    )
    loaded, description = load_with_adapter(tiny, target_modules=["attention.output.dense"])
    assert description == "r 16 on dense (2 modules, 2 layers); fully trained: classifier"
    assert lora.count_trainable_parameters(loaded.model) == (
        2 * 2 * 16 * 32 + 3 * 32 + 3,
        sum(p.numel() for p in loaded.model.parameters()),
    )


def test_unknown_target_modules_are_refused(tiny: str, error_message: Callable[..., str]) -> None:
    assert error_message(lambda: load_with_adapter(tiny, target_modules=["query", "valeu"])) == (
        "lora.target_modules: no layer 'valeu' to adapt; did you mean 'value'?"
    )
    assert error_message(lambda: load_with_adapter(tiny, target_modules=["c_attn"])) == (
        "lora.target_modules: no layer 'c_attn' to adapt; known: query, key, value, dense"
    )
    assert error_message(lambda: load_with_adapter(tiny, target_modules=["(query"])) == (
        "lora.target_modules: '(query' is not a valid regular expression (missing ), unterminated subpattern at position 0); fix it"
    )
    assert error_message(lambda: load_with_adapter(tiny, target_modules=["classifier"])).startswith(
        "lora.target_modules: no layer 'classifier'"
    )


def test_a_model_from_scratch_has_nothing_to_adapt(tiny: str, error_message: Callable[..., str]) -> None:
    model = load_model(resolve_model(tiny), CLASSIFIER, {}).model
    assert error_message(
        lambda: lora.add_lora_adapter(model, tuple(model.state_dict()), LoraSection(), CLASSIFIER)
    ) == (
        "lora: all weights of this BertForSequenceClassification are newly initialized: there is nothing to adapt; leave lora out"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys", [{"use_dora": True}, {"use_rslora": True}, {"r": 1}, {"target_modules": ["query"]}], ids=str
)
def test_every_option_survives_saving(tiny: str, tmp_path: Path, keys: dict[str, Any]) -> None:
    loaded = load_trained(tiny, CLASSIFIER, LoraSection(**keys))
    folder = save_adapter(loaded, tiny, tmp_path / "a")
    reloaded = load_model(resolve_model(str(folder)), CLASSIFIER, {}, strict=True).model
    assert is_close(compute_logits(reloaded), compute_logits(loaded.model))
    lora.merge_adapter(reloaded)
    assert is_close(compute_logits(reloaded), compute_logits(loaded.model), 1e-5)


def test_adapters_of_bf16_weights_are_in_fp32(tiny: str) -> None:
    loaded = load_model(resolve_model(tiny), CLASSIFIER, LABEL_FIELDS, dtype="bfloat16")
    lora.add_lora_adapter(loaded.model, loaded.new_weights, LoraSection(), CLASSIFIER)
    types = {weight.dtype for name, weight in loaded.model.named_parameters() if ".lora_" in name}
    assert types == {torch.float32}
    assert loaded.model.dtype == torch.bfloat16


def test_a_pretrained_head_is_trained_with_the_adapter(tiny_classifier: str, tmp_path: Path) -> None:
    """PEFT's own loader expects `classifier` whatever its config lists."""
    torch.manual_seed(1)
    loaded = load_model(resolve_model(tiny_classifier), CLASSIFIER, {})
    assert loaded.new_weights == ()
    assert lora.add_lora_adapter(loaded.model, (), LoraSection(), CLASSIFIER).endswith("fully trained: classifier")
    save_adapter(loaded, tiny_classifier, tmp_path / "a")
    with silence_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "a")
    assert is_close(compute_logits(plain.get_base_model()), compute_logits(loaded.model))
    assert plain.config.id2label == {0: "bad", 1: "good"}  # its base has the same


def test_without_the_config_other_labels_fail_to_load(tiny: str, tmp_path: Path) -> None:
    folder = save_adapter(load_trained(tiny, CLASSIFIER), tiny, tmp_path / "a")
    with silence_transformers(), pytest.raises(RuntimeError):
        transformers.AutoModelForSequenceClassification.from_pretrained(folder)


def write_peft_adapter(tiny: str, folder: Path, labels: int = 3) -> Path:
    """Write an adapter folder as a PEFT script does: without a tokenizer and without files of llmkit."""
    from peft import LoraConfig, get_peft_model

    with silence_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        base = transformers.AutoModelForSequenceClassification.from_pretrained(tiny, num_labels=labels)
        model = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"]))
        torch.nn.init.normal_(model.base_model.model.bert.encoder.layer[0].attention.self.query.lora_B.default.weight)
        model.save_pretrained(folder)
    folder.with_suffix(".pt").write_text(json.dumps(compute_logits(model.get_base_model()).tolist()))
    return folder


def test_an_adapter_of_a_peft_script_loads(tiny: str, tmp_path: Path) -> None:
    folder = write_peft_adapter(tiny, tmp_path / "a")
    name = resolve_model(str(folder))
    reloaded = load_model(name, CLASSIFIER, {}, strict=True)
    assert is_close(compute_logits(reloaded.model), torch.tensor(json.loads((tmp_path / "a.pt").read_text())))
    assert reloaded.model.config.num_labels == 3
    assert load_config(name).architectures == ["BertForSequenceClassification"]
    assert load_tokenizer(name).get_vocab() == load_tokenizer(resolve_model(tiny)).get_vocab()


def update_config(folder: Path, **fields: Any) -> None:
    """Update fields of adapter_config.json."""
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_unsafe_and_unsupported_adapters_are_refused(
    tiny: str, tmp_path: Path, error_message: Callable[..., str]
) -> None:
    folder = write_peft_adapter(tiny, tmp_path / "a")
    load = lambda: load_model(resolve_model(str(folder)), CLASSIFIER, {}, strict=True)  # noqa: E731
    update_config(folder, peft_type="IA3")
    assert error_message(load, ModelError) == (
        f"{folder}: an adapter of type IA3; llmkit loads only LoRA adapters; merge it with PEFT"
    )
    update_config(folder, peft_type="LORA", megatron_config={"a": 1})
    assert error_message(load, ModelError) == (
        f"{folder}: an adapter of Megatron, which names code to import; merge it with PEFT"
    )
    update_config(folder, megatron_config=None, base_model_name_or_path=None)
    assert error_message(load, ModelError) == (
        f"{folder}: an adapter that names no base model; merge it with PEFT, or name a full model"
    )
    update_config(folder, base_model_name_or_path=tiny)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert error_message(load, ModelError) == (
        f"{folder}: only adapter_model.bin, which can run code; save the adapter with safe_serialization=True"
    )


@pytest.mark.slow
def test_missing_and_extra_adapter_weights_are_refused(
    tiny: str, tmp_path: Path, error_message: Callable[..., str]
) -> None:
    folder = save_adapter(load_trained(tiny, CLASSIFIER), tiny, tmp_path / "a")
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    load = lambda: load_model(resolve_model(str(folder)), CLASSIFIER, {}, strict=True)  # noqa: E731
    for missing in ("classifier.weight", "bert.encoder.layer.0.attention.self.query.lora_A.weight"):
        save_file({key: value for key, value in tensors.items() if not key.endswith(missing)}, file)
        assert error_message(load, ModelError).startswith(f"{folder}: the adapter does not fit its base")
    save_file(tensors | {f"{lora.PEFT_PREFIX}bert.other.lora_A.weight": torch.zeros(2)}, file)
    assert error_message(load, ModelError) == (
        f"{folder}: the adapter does not fit its base, which has no module for bert.other.lora_A.weight; "
        "use its own base model"
    )


def test_a_different_base_is_refused(tiny: str, tmp_path: Path, error_message: Callable[..., str]) -> None:
    folder = save_adapter(load_trained(tiny, CLASSIFIER), tiny, tmp_path / "a")
    other = make_tiny_model(tmp_path / "other", seed=5)
    name = adapter_folder.ModelRef(str(folder), str(folder), folder, base=other)
    assert error_message(lambda: load_model(name, CLASSIFIER, {}, strict=True), ModelError) == (
        f"{folder}: {other} is not the base that it was trained on: model.safetensors differs; "
        "restore it, or pass its folder with --base FOLDER of eval and predict"
    )


def test_a_moved_base_is_reported_and_can_be_given(tmp_path: Path, error_message: Callable[..., str]) -> None:
    base = make_tiny_model(tmp_path / "base")
    loaded = load_trained(base, CLASSIFIER)
    folder = save_adapter(loaded, base, tmp_path / "a")
    shutil.move(base, tmp_path / "elsewhere")
    with pytest.raises(MissingInputError) as caught:
        load_model(resolve_model(str(folder)), CLASSIFIER, {}, strict=True)
    assert str(caught.value) == (
        f"{folder}: an adapter, and its base {base} is missing; restore it, or pass its folder with --base FOLDER of eval and predict"
    )
    name = adapter_folder.ModelRef(str(folder), str(folder), folder, base=str(tmp_path / "elsewhere"))
    assert is_close(compute_logits(load_model(name, CLASSIFIER, {}, strict=True).model), compute_logits(loaded.model))


def test_a_packaged_base_is_found_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "site" / "packed_base").mkdir(parents=True)
    (tmp_path / "site" / "packed_base" / "__init__.py").touch()
    make_tiny_model(tmp_path / "site" / "packed_base" / "model")
    loaded = load_trained("pkg://packed_base/model", CLASSIFIER)
    folder = save_adapter(loaded, "pkg://packed_base/model", tmp_path / "a")
    update_config(folder, base_model_name_or_path="/of/another/machine")
    assert is_close(
        compute_logits(load_model(resolve_model(str(folder)), CLASSIFIER, {}, strict=True).model),
        compute_logits(loaded.model),
    )


def test_an_adapter_of_an_adapter_is_refused(tiny: str, tmp_path: Path, error_message: Callable[..., str]) -> None:
    first = save_adapter(load_trained(tiny, CLASSIFIER), tiny, tmp_path / "a")
    second = Path(shutil.copytree(first, tmp_path / "b"))
    update_config(second, base_model_name_or_path=str(first))
    assert error_message(lambda: load_config(resolve_model(str(second))), ModelError) == (
        f"{second}: its base {first} is an adapter itself; merge that one first: train it with lora.merge=true"
    )


@pytest.mark.slow
@pytest.mark.parametrize("auto", [CLASSIFIER, MASKED])
def test_another_fine_tune_starts_from_the_merged_model(tiny: str, tmp_path: Path, auto: str) -> None:
    loaded = load_trained(tiny, CLASSIFIER)
    folder = save_adapter(loaded, tiny, tmp_path / "a")
    names = {"id2label": {0: "x", 1: "y"}, "label2id": {"x": 0, "y": 1}} if auto == CLASSIFIER else {}
    reloaded = load_model(resolve_model(str(folder)), auto, names)
    assert not lora.has_lora_layers(reloaded.model)
    assert all(weight.requires_grad for weight in reloaded.model.parameters())
    heads = ("classifier.",) if auto == CLASSIFIER else ("cls.",)
    assert reloaded.new_weights
    assert all(name.startswith(heads) for name in reloaded.new_weights)
    lora.merge_adapter(loaded.model)
    query = "bert.encoder.layer.1.attention.self.query.weight"
    assert torch.allclose(reloaded.model.get_parameter(query), loaded.model.get_parameter(query), atol=1e-6)
