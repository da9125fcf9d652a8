"""Greedy search gives the tokens of `generate` for every model type and setting, also when rows leave the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmkit.models.load import load_model
from llmkit.models.seq2seq import generate
from llmkit.models.seq2seq.inputs import select_encoder_inputs
from llmkit.models.sources.model_ref import resolve_model
from llmkit.testing import SEQ2SEQ_CONFIGS, make_tiny_model

TYPES = sorted(
    (generate.GREEDY_MODEL_TYPES - {"encoder-decoder", "blenderbot", "blenderbot-small"}) & SEQ2SEQ_CONFIGS.keys()
)
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no_repeat": {"no_repeat_ngram_size": 1},
    "min_length": {"min_length": 6},
    "forced": {"forced_bos_token_id": 30, "forced_eos_token_id": 3},
    "renormalized": {"renormalize_logits": True},
    "bad_words": {"bad_words_ids": [[72], [36, 37]]},
}


def load_tiny_seq2seq(family: str, folder: Any) -> Any:
    loaded = load_model(resolve_model(make_tiny_model(folder, family)), "AutoModelForSeq2SeqLM", {})
    head = loaded.model.get_output_embeddings()
    torch.manual_seed(1)  # a tied head would repeat the same token
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight))
    settings = loaded.model.generation_config
    settings.max_length, settings.eos_token_id = 14, [3, *range(41, 56)]  # texts end early, but not at the first token
    return loaded


def make_inputs(rows: int = 24) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 70, (rows, 16), generator=generator)
    mask = (torch.arange(16) < torch.randint(2, 17, (rows, 1), generator=generator)).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def generate_both(model: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Return our tokens and those of `generate`, without trailing padding."""
    inputs, pad = select_encoder_inputs(model, make_inputs()), model.generation_config.pad_token_id
    with torch.inference_mode():
        ours = generate.generate_tokens(model, inputs, 14)
        stock = model.generate(**inputs, generation_config=generate.resolve_generation_config(model, 14, {}))[
            :, 1:
        ].tolist()
    return tuple([strip_padding(tokens, pad) for tokens in batch] for batch in (ours, stock))  # type: ignore[return-value]


def strip_padding(tokens: list[int], pad: int) -> list[int]:
    while tokens and tokens[-1] == pad:
        tokens = tokens[:-1]
    return tokens


@pytest.mark.slow
@pytest.mark.parametrize("family", TYPES)
def test_every_greedy_model_type_equals_generate(family: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_tiny_seq2seq(family, tmp_path).model.eval()
    kept: list[int] = []
    select_rows = generate.EncoderDecoderCache.batch_select_indices
    monkeypatch.setattr(
        generate.EncoderDecoderCache,
        "batch_select_indices",
        lambda self, rows: (kept.append(len(rows)), select_rows(self, rows)),
    )
    ours, stock = generate_both(model)
    assert ours == stock
    assert len({len(tokens) for tokens in ours}) > 1
    assert kept == sorted(kept, reverse=True)
    assert kept


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_every_supported_setting_equals_generate(name: str, tmp_path: Any) -> None:
    model = load_tiny_seq2seq("bart", tmp_path).model.eval()
    if name in ("no_repeat", "bad_words"):
        model.generation_config.eos_token_id = 3  # never generated: these settings need long texts
    before, _ = generate_both(model)
    for key, value in SETTINGS[name].items():
        setattr(model.generation_config, key, value)
    assert generate.can_decode_greedily(generate.resolve_generation_config(model, 14, {}))
    ours, stock = generate_both(model)
    assert ours == stock
    assert (ours == before) == (name in ("plain", "renormalized"))


@pytest.mark.slow
@pytest.mark.parametrize(("key", "value"), [("num_beams", 3), ("repetition_penalty", 2.0)])
def test_unsupported_settings_use_generate(key: str, value: Any, tmp_path: Any) -> None:
    model = load_tiny_seq2seq("t5", tmp_path).model.eval()
    setattr(model.generation_config, key, value)
    assert not generate.can_decode_greedily(generate.resolve_generation_config(model, 14, {}))
    ours, stock = generate_both(model)
    assert ours == stock


def test_task_params_fill_unset_generation_settings(tmp_path: Any) -> None:
    model = load_tiny_seq2seq("t5", tmp_path).model.eval()
    model.generation_config.min_length = 2
    params = {"num_beams": 4, "min_length": 30, "max_length": 9, "early_stopping": True, "length_penalty": None,
           "prefix": "summarize: ", "no_repeat_ngram_size": "3"}  # fmt: skip
    settings = generate.resolve_generation_config(model, 5, params)
    assert (settings.num_beams, settings.min_length, settings.max_length) == (4, 2, 14)
    assert (settings.early_stopping, settings.length_penalty, settings.no_repeat_ngram_size) == (True, None, None)
    model.generation_config.max_length = None
    assert generate.resolve_generation_config(model, 5, params).max_length == 9


def test_sampling_is_disabled_and_length_is_limited(tmp_path: Any) -> None:
    model = load_tiny_seq2seq("bart", tmp_path).model.eval()
    model.generation_config.do_sample, model.generation_config.max_length = True, None
    settings = generate.resolve_generation_config(model, 5, {})
    assert (settings.do_sample, settings.max_length) == (False, 6)
    model.generation_config.max_new_tokens = 3
    assert generate.resolve_generation_config(model, 5, {}).max_length == 4
    with torch.inference_mode():
        assert max(map(len, generate.generate_tokens(model, make_inputs(), 5))) == 3
