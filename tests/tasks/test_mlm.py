"""Tests of masked-language modeling: training features, evaluation masks, predictions and options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, RecipeError
from llmkit.recipe.load import load_recipe
from llmkit.tasks.base import Feature
from llmkit.tasks.mlm import Mlm, MlmOptions, count_tokens
from llmkit.testing import make_sentences

LENGTH = 32


@pytest.fixture(scope="module")
def tokenizer(tiny_mlm: str) -> Any:
    return AutoTokenizer.from_pretrained(tiny_mlm)


def rows(texts: list[str], name: str = "c.txt") -> Rows:
    return build_rows({"text": texts}, name, range(1, len(texts) + 1)).with_column_mapping({"text": "text"})


def encode_train(tokenizer: Any, texts: list[str], **options: Any) -> tuple[Mlm, Any]:
    task = Mlm(MlmOptions(**options))
    return task, task.encode_train(rows(texts), tokenizer, LENGTH)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_blocks_contain_the_documents_in_order_with_their_rows(tokenizer: Any) -> None:
    texts = make_sentences(40)
    encoded = encode_train(tokenizer, texts)[1]
    tokens = [int(one) for block in encoded.features for one in block["input_ids"]]
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    assert [one for one in tokens if one not in special] == [one for text in texts for one in ids_of(tokenizer, text)]
    assert all(len(block["input_ids"]) <= LENGTH for block in encoded.features)
    assert (encoded.row_of(0), encoded.num_truncated) == (0, 0)
    assert 0 < encoded.row_of(len(encoded.features) - 1) < 40
    documents = encode_train(tokenizer, texts, packing="documents")[1]
    assert [encoded.row_of(0), documents.row_of(1)] == [0, 1]
    assert len(documents.features) > len(encoded.features)


def test_a_step_gets_each_document_separately(tokenizer: Any) -> None:
    task, encoded = encode_train(tokenizer, make_sentences(40))
    block = next(one for one in encoded.features if len(one["sizes"]) > 1)
    chunks = task.augment(block, (1, 0, 0))
    assert len(chunks) == len(block["sizes"])
    for piece in chunks:
        original = np.where(piece["labels"] == IGNORE_INDEX, piece["input_ids"], piece["labels"])
        assert (original[0], original[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert piece["labels"][[0, -1]].tolist() == [IGNORE_INDEX] * 2
    originals = np.concatenate([np.where(p["labels"] == IGNORE_INDEX, p["input_ids"], p["labels"]) for p in chunks])
    assert originals.tolist() == block["input_ids"].tolist()


def test_masking_depends_on_the_key_only(tokenizer: Any) -> None:
    task, encoded = encode_train(tokenizer, make_sentences(40))
    block = encoded.features[0]

    def labels(*key: int) -> bytes:
        return b"".join(piece["labels"].tobytes() for piece in task.augment(block, key))

    assert labels(1, 0, 0) == labels(1, 0, 0)
    assert len({labels(1, 0, 0), labels(2, 0, 0), labels(1, 1, 0), labels(1, 0, 1)}) == 4


def test_random_tokens_are_never_special(tokenizer: Any) -> None:
    task, encoded = encode_train(
        tokenizer, make_sentences(40), mlm_probability=0.9, mask_replace_prob=0.0, random_replace_prob=1.0
    )
    special = set(tokenizer.all_special_ids)
    for number in range(len(encoded.features)):
        for piece in task.augment(encoded.features[number], (1, 0, number)):
            assert not special & set(piece["input_ids"][1:-1].tolist())


def test_whole_words_are_masked_together(tokenizer: Any) -> None:
    task, encoded = encode_train(tokenizer, ["selsen borantine tomuz"] * 3, whole_words=True)
    continues = [
        token.startswith("##") for token in tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "selsen borantine tomuz"))
    ]
    assert any(continues)
    word = np.cumsum(~np.array(continues))
    for key in range(20):
        for piece in task.augment(encoded.features[0], (key,)):
            selected = piece["labels"][1:-1] != IGNORE_INDEX
            assert all(len(set(selected[word == one].tolist())) == 1 for one in set(word.tolist()))


def masked_by_row(features: list[Feature]) -> dict[int, list[tuple[int, int]]]:
    """Map each row to its masked tokens and their positions in the document, not counting special tokens."""
    found: dict[int, list[tuple[int, int]]] = {}
    at: dict[int, int] = {}
    for one in features:
        some = found.setdefault(one["row"], [])
        begin = at.get(one["row"], 0)
        inside = one["labels"][1:-1]
        some += [(begin + i, label) for i, label in enumerate(inside) if label != IGNORE_INDEX]
        at[one["row"]] = begin + len(inside)
    return found


def test_evaluation_masks_depend_on_the_text_only(tokenizer: Any) -> None:
    texts = [*make_sentences(30), " ".join(make_sentences(20, seed=1))]
    one = masked_by_row(Mlm().encode(rows(texts), tokenizer, LENGTH).features)
    other = masked_by_row(
        Mlm(MlmOptions(mlm_probability=0.5, mask_replace_prob=0.1))
        .encode(rows(texts[::-1]), tokenizer, LENGTH)
        .features
    )
    assert one == {30 - row: some for row, some in other.items()}
    assert all(some for some in one.values())


@pytest.mark.parametrize("length", [8, 16, 512])
def test_evaluation_masks_do_not_depend_on_the_models_length(tokenizer: Any, length: int) -> None:
    texts = [*make_sentences(30), " ".join(make_sentences(20, seed=1))]
    tasks = [Mlm(), Mlm()]
    one, other = (
        task.encode(rows(texts), tokenizer, n).features for task, n in zip(tasks, (LENGTH, length), strict=True)
    )
    assert masked_by_row(one) == masked_by_row(other)
    assert all(len(feature["input_ids"]) <= length for feature in other)


def test_every_text_has_a_feature_even_without_tokens(tokenizer: Any) -> None:
    features = Mlm().encode(rows(["\u200b", make_sentences(1)[0], "\u200b"]), tokenizer, LENGTH).features
    assert [feature["row"] for feature in features] == [0, 1, 2]
    assert set(features[0]["labels"]) == {IGNORE_INDEX}


def test_sums_of_chunks_are_added_per_document() -> None:
    task = Mlm()
    sums = [{"loss": 1.5, "masked": 2.0, "correct": 1.0}, {"loss": 0.5, "masked": 1.0, "correct": 0.0}]
    features: list[Feature] = [{"row": 1}, {"row": 0}, {"row": 1}]
    predictions = task.decode([sums[0], sums[1], sums[1]], features)
    assert [one.as_dict() for one in predictions] == [
        {"sums": {"loss": 0.5, "masked": 1.0, "correct": 0.0}},
        {"sums": {"loss": 2.0, "masked": 3.0, "correct": 1.0}},
    ]
    assert task.decode([], []) == []


def test_the_baseline_uses_the_token_frequencies_of_training(tokenizer: Any) -> None:
    train, evaluated = rows(make_sentences(50)), rows(make_sentences(10, seed=1))
    task = Mlm()
    features = task.encode(evaluated, tokenizer, LENGTH).features
    task.mask_each_token = True
    found = [one.extra["sums"] for one in task.predict_unigrams(train, evaluated)]
    counts = np.ones(len(tokenizer))
    for text in train.texts("text"):
        np.add.at(counts, ids_of(tokenizer, text), 1)
    frequencies = counts / counts.sum()
    for row, (sums, places) in enumerate(zip(found, masked_by_row(features).values(), strict=True)):
        masked = [label for _, label in places]
        assert sums["masked"] == len(masked)
        assert sums["loss"] == pytest.approx(-sum(math.log(frequencies[one]) for one in masked))
        assert sums["correct"] == sum(one == counts.argmax() for one in masked)
        text = ids_of(tokenizer, evaluated.texts("text")[row])
        assert sums["tokens"] == len(text)
        assert sums["pseudo_loss"] == pytest.approx(-sum(math.log(frequencies[one]) for one in text))


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 50))
def test_token_counts_do_not_depend_on_the_chunk_size(tokens: list[int], chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmkit.tasks.mlm.COUNTED_TOKENS", chunk)
        assert count_tokens(np.array(tokens, dtype=np.uint16), 10).tolist() == [1 + tokens.count(i) for i in range(10)]


def fill(tokenizer: Any, text: str, *masks: list[tuple[str, float]]) -> dict[str, Any]:
    """Return the prediction for a text whose masks have these tokens and probabilities."""
    task = Mlm()
    (feature,) = task.encode_predict(rows([text]), tokenizer, LENGTH).features
    options = [[(tokenizer.convert_tokens_to_ids(token), p) for token, p in one] for one in masks]
    return task.decode([options], [feature])[0].as_dict()


def test_a_mask_is_filled_with_the_most_probable_token(tokenizer: Any) -> None:
    assert fill(tokenizer, "the [MASK].", [("film", 0.5), ("story", 0.25)]) == {
        "prediction": "the film.", "probabilities": {"film": 0.5, "story": 0.25},
    }  # fmt: skip


@pytest.mark.parametrize("text", ["a[MASK] film", "a [MASK] film"])
def test_a_continuation_token_is_joined_to_its_word(tokenizer: Any, text: str) -> None:
    piece = next(one for one in tokenizer.get_vocab() if one.startswith("##"))
    found = fill(tokenizer, text, [(piece, 0.5)])
    assert (found["prediction"], found["probabilities"]) == (f"a{piece[2:]} film", {piece: 0.5})


def test_several_masks_are_filled_in_order(tokenizer: Any) -> None:
    """Even if the most probable token is the mask token itself, as with an untrained model."""
    prediction = fill(tokenizer, "[MASK] a [MASK]", [("[MASK]", 0.6), ("the", 0.2)], [("film", 0.5)])
    assert prediction == {"prediction": "[MASK] a film", "masks": [{"[MASK]": 0.6, "the": 0.2}, {"film": 0.5}]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no mask", "c.txt:2: no [MASK] in the text; write [MASK] where a word is to be filled in; to score texts use `llmkit eval`"),
        (f"{'ka ' * 40}[MASK]", "c.txt:2: a [MASK] is beyond the 32 tokens that the model reads; give a shorter text"),
    ],
)  # fmt: skip
def test_a_text_without_a_readable_mask_is_an_error(tokenizer: Any, text: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        Mlm().encode_predict(rows(["the [MASK]", text]), tokenizer, LENGTH)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["却说那唐僧"] * 3, "c.txt: the tokenizer does not know 100% of the tokens; use a model of this language, or train from scratch with --from-config and your own tokenizer"),
        (["\u200b", "\u200b"], "c.txt: no token in it; use texts that the tokenizer can encode"),
    ],
)  # fmt: skip
def test_a_corpus_without_known_tokens_is_an_error(tokenizer: Any, texts: list[str], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        encode_train(tokenizer, texts)
    assert str(caught.value) == sentence


def test_all_conflicting_options_are_reported() -> None:
    keys = [
        "data.train=c.txt",
        "mlm.mask_replace_prob=0.8",
        "mlm.random_replace_prob=0.3",
        "mlm.word_segmenter=jieba",
        "mlm.mlm_probability=1",
    ]
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, keys, task="mlm")
    assert str(caught.value).split("\nerror: ") == [
        "command line: mlm.mask_replace_prob: 0.8 plus random_replace_prob 0.3 is more than 1; make the sum 1 or less",
        "command line: mlm.mlm_probability: 1 is out of range; it must be below 1",
        "command line: mlm.word_segmenter: applies only with whole_words: true; write both or none",
    ]


def test_the_section_of_another_task_is_an_error() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, ["classify.kind=multi", "mlmm.mlm_probability=0.2"], task="mlm")
    assert str(caught.value).split("\nerror: ") == [
        "command line: classify: the section of another task; this recipe trains 'mlm': write mlm, or leave it out",
        "command line: mlmm: unknown key; did you mean 'mlm'?",
    ]
