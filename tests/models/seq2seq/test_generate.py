"""What is decoded here is what `generate` gives, for every family and every setting, also when rows leave the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from llmkit.models.load import load_model
from llmkit.models.seq2seq import generate
from llmkit.models.seq2seq.inputs import select_encoder_inputs
from llmkit.models.sources.model_ref import resolve_model
from llmkit.testing import SEQ2SEQ_CONFIGS, make_tiny_model

OWN = sorted(
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


def made(family: str, folder: Any) -> Any:
    loaded = load_model(resolve_model(make_tiny_model(folder, family)), "AutoModelForSeq2SeqLM", {})
    head = loaded.model.get_output_embeddings()
    torch.manual_seed(1)  # tied to the embeddings it would say the same token again and again
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight))
    settings = loaded.model.generation_config
    settings.max_length, settings.eos_token_id = 14, [3, *range(41, 56)]  # ends come soon, and not at once
    return loaded


def batch(rows: int = 24) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(0)
    ids = torch.randint(5, 70, (rows, 16), generator=chance)
    mask = (torch.arange(16) < torch.randint(2, 17, (rows, 1), generator=chance)).long()
    return {"input_ids": ids * mask, "attention_mask": mask}


def compared(model: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Our tokens and those of `generate`, padding at the end left out."""
    inputs, pad = select_encoder_inputs(model, batch()), model.generation_config.pad_token_id
    with torch.inference_mode():
        ours = generate.generate_tokens(model, inputs, 14)
        stock = model.generate(**inputs, generation_config=generate.resolve_generation_config(model, 14, {}))[
            :, 1:
        ].tolist()
    return tuple([trimmed(one, pad) for one in some] for some in (ours, stock))  # type: ignore[return-value]


def trimmed(tokens: list[int], pad: int) -> list[int]:
    while tokens and tokens[-1] == pad:
        tokens = tokens[:-1]
    return tokens


@pytest.mark.parametrize("family", OWN)
def test_every_family_of_ours_says_what_generate_says(
    family: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(family, tmp_path).model.eval()
    left: list[int] = []
    plain = generate.EncoderDecoderCache.batch_select_indices
    monkeypatch.setattr(
        generate.EncoderDecoderCache,
        "batch_select_indices",
        lambda self, rows: (left.append(len(rows)), plain(self, rows)),
    )
    ours, stock = compared(model)
    assert ours == stock
    assert len({len(one) for one in ours}) > 1
    assert left == sorted(left, reverse=True)
    assert left


@pytest.mark.parametrize("name", SETTINGS)
def test_every_known_setting_says_what_generate_says(name: str, tmp_path: Any) -> None:
    model = made("bart", tmp_path).model.eval()
    if name in ("no_repeat", "bad_words"):
        model.generation_config.eos_token_id = 3  # it is not said: only what goes on can meet these
    before, _ = compared(model)
    for word, value in SETTINGS[name].items():
        setattr(model.generation_config, word, value)
    assert generate.can_decode_greedily(generate.resolve_generation_config(model, 14, {}))
    ours, stock = compared(model)
    assert ours == stock
    assert (ours == before) == (name in ("plain", "renormalized"))


@pytest.mark.parametrize(("word", "value"), [("num_beams", 3), ("repetition_penalty", 2.0)])
def test_what_is_not_known_is_left_to_generate(word: str, value: Any, tmp_path: Any) -> None:
    model = made("t5", tmp_path).model.eval()
    setattr(model.generation_config, word, value)
    assert not generate.can_decode_greedily(generate.resolve_generation_config(model, 14, {}))
    ours, stock = compared(model)
    assert ours == stock


def test_what_the_config_says_of_a_task_holds_where_the_settings_are_silent(tmp_path: Any) -> None:
    model = made("t5", tmp_path).model.eval()
    model.generation_config.min_length = 2
    own = {"num_beams": 4, "min_length": 30, "max_length": 9, "early_stopping": True, "length_penalty": None,
           "prefix": "summarize: ", "no_repeat_ngram_size": "3"}  # fmt: skip
    settings = generate.resolve_generation_config(model, 5, own)
    assert (settings.num_beams, settings.min_length, settings.max_length) == (4, 2, 14)
    assert (settings.early_stopping, settings.length_penalty, settings.no_repeat_ngram_size) == (True, None, None)
    model.generation_config.max_length = None
    assert generate.resolve_generation_config(model, 5, own).max_length == 9


def test_settings_of_chance_and_without_a_limit_are_taken_as_likeliest_and_short(tmp_path: Any) -> None:
    model = made("bart", tmp_path).model.eval()
    model.generation_config.do_sample, model.generation_config.max_length = True, None
    settings = generate.resolve_generation_config(model, 5, {})
    assert (settings.do_sample, settings.max_length) == (False, 6)
    model.generation_config.max_new_tokens = 3
    assert generate.resolve_generation_config(model, 5, {}).max_length == 4
    with torch.inference_mode():
        assert max(map(len, generate.generate_tokens(model, batch(), 5))) == 3
