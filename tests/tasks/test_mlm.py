"""The task of hidden tokens: what a step sees, what is asked when a model is judged, and how masks are filled."""

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


def trained_on(tokenizer: Any, texts: list[str], **options: Any) -> tuple[Mlm, Any]:
    task = Mlm(MlmOptions(**options))
    return task, task.encode_train(rows(texts), tokenizer, LENGTH)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_blocks_hold_the_documents_in_order_and_name_their_rows(tokenizer: Any) -> None:
    texts = make_sentences(40)
    encoded = trained_on(tokenizer, texts)[1]
    tokens = [int(one) for block in encoded.features for one in block["input_ids"]]
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    assert [one for one in tokens if one not in special] == [one for text in texts for one in ids_of(tokenizer, text)]
    assert all(len(block["input_ids"]) <= LENGTH for block in encoded.features)
    assert (encoded.row(0), encoded.cut) == (0, 0)
    assert 0 < encoded.row(len(encoded.features) - 1) < 40
    documents = trained_on(tokenizer, texts, rows="documents")[1]
    assert [encoded.row(0), documents.row(1)] == [0, 1]
    assert len(documents.features) > len(encoded.features)


def test_a_step_sees_each_document_by_itself(tokenizer: Any) -> None:
    task, encoded = trained_on(tokenizer, make_sentences(40))
    block = next(one for one in encoded.features if len(one["sizes"]) > 1)
    pieces = task.augment(block, (1, 0, 0))
    assert len(pieces) == len(block["sizes"])
    for piece in pieces:
        whole = np.where(piece["labels"] == IGNORE_INDEX, piece["input_ids"], piece["labels"])
        assert (whole[0], whole[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert piece["labels"][[0, -1]].tolist() == [IGNORE_INDEX] * 2
    back = np.concatenate([np.where(p["labels"] == IGNORE_INDEX, p["input_ids"], p["labels"]) for p in pieces])
    assert back.tolist() == block["input_ids"].tolist()


def test_what_is_hidden_follows_from_the_key_alone(tokenizer: Any) -> None:
    task, encoded = trained_on(tokenizer, make_sentences(40))
    block = encoded.features[0]

    def labels(*key: int) -> bytes:
        return b"".join(piece["labels"].tobytes() for piece in task.augment(block, key))

    assert labels(1, 0, 0) == labels(1, 0, 0)
    assert len({labels(1, 0, 0), labels(2, 0, 0), labels(1, 1, 0), labels(1, 0, 1)}) == 4


def test_random_tokens_are_never_special(tokenizer: Any) -> None:
    task, encoded = trained_on(
        tokenizer, make_sentences(40), mlm_probability=0.9, mask_replace_prob=0.0, random_replace_prob=1.0
    )
    special = set(tokenizer.all_special_ids)
    for number in range(len(encoded.features)):
        for piece in task.augment(encoded.features[number], (1, 0, number)):
            assert not special & set(piece["input_ids"][1:-1].tolist())


def test_whole_words_are_hidden_together(tokenizer: Any) -> None:
    task, encoded = trained_on(tokenizer, ["selsen borantine tomuz"] * 3, whole_words=True)
    continues = [
        token.startswith("##") for token in tokenizer.convert_ids_to_tokens(ids_of(tokenizer, "selsen borantine tomuz"))
    ]
    assert any(continues)
    word = np.cumsum(~np.array(continues))
    for key in range(20):
        for piece in task.augment(encoded.features[0], (key,)):
            asked = piece["labels"][1:-1] != IGNORE_INDEX
            assert all(len(set(asked[word == one].tolist())) == 1 for one in set(word.tolist()))


def asked(features: list[Feature]) -> dict[int, list[tuple[int, int]]]:
    """For each row the hidden tokens with their places in the document, special tokens not counted."""
    found: dict[int, list[tuple[int, int]]] = {}
    at: dict[int, int] = {}
    for one in features:
        some = found.setdefault(one["row"], [])
        begin = at.get(one["row"], 0)
        inside = one["labels"][1:-1]
        some += [(begin + i, label) for i, label in enumerate(inside) if label != IGNORE_INDEX]
        at[one["row"]] = begin + len(inside)
    return found


def test_when_a_model_is_judged_masks_follow_from_the_text(tokenizer: Any) -> None:
    texts = [*make_sentences(30), " ".join(make_sentences(20, seed=1))]
    one = asked(Mlm().encode(rows(texts), tokenizer, LENGTH).features)
    other = asked(
        Mlm(MlmOptions(mlm_probability=0.5, mask_replace_prob=0.1))
        .encode(rows(texts[::-1]), tokenizer, LENGTH)
        .features
    )
    assert one == {30 - row: some for row, some in other.items()}
    assert all(some for some in one.values())


@pytest.mark.parametrize("length", [8, 16, 512])
def test_models_that_read_other_lengths_are_asked_the_same(tokenizer: Any, length: int) -> None:
    texts = [*make_sentences(30), " ".join(make_sentences(20, seed=1))]
    tasks = [Mlm(), Mlm()]
    one, other = (
        task.encode(rows(texts), tokenizer, n).features for task, n in zip(tasks, (LENGTH, length), strict=True)
    )
    assert asked(one) == asked(other)
    assert all(len(feature["input_ids"]) <= length for feature in other)


def test_every_text_has_an_answer_also_one_without_tokens(tokenizer: Any) -> None:
    features = Mlm().encode(rows(["\u200b", make_sentences(1)[0], "\u200b"]), tokenizer, LENGTH).features
    assert [feature["row"] for feature in features] == [0, 1, 2]
    assert set(features[0]["labels"]) == {IGNORE_INDEX}


def test_sums_of_pieces_are_those_of_their_document() -> None:
    task = Mlm()
    sums = [{"loss": 1.5, "masked": 2.0, "correct": 1.0}, {"loss": 0.5, "masked": 1.0, "correct": 0.0}]
    features: list[Feature] = [{"row": 1}, {"row": 0}, {"row": 1}]
    answers = task.decode([sums[0], sums[1], sums[1]], features)
    assert [one.as_dict() for one in answers] == [
        {"sums": {"loss": 0.5, "masked": 1.0, "correct": 0.0}},
        {"sums": {"loss": 2.0, "masked": 3.0, "correct": 1.0}},
    ]
    assert task.decode([], []) == []


def test_the_baseline_is_the_share_of_each_token_in_training(tokenizer: Any) -> None:
    train, judged = rows(make_sentences(50)), rows(make_sentences(10, seed=1))
    task = Mlm()
    features = task.encode(judged, tokenizer, LENGTH).features
    task.mask_each_token = True
    found = [one.extra["sums"] for one in task.predict_unigrams(train, judged)]
    counts = np.ones(len(tokenizer))
    for text in train.texts("text"):
        np.add.at(counts, ids_of(tokenizer, text), 1)
    chances = counts / counts.sum()
    for row, (sums, places) in enumerate(zip(found, asked(features).values(), strict=True)):
        hidden = [label for _, label in places]
        assert sums["masked"] == len(hidden)
        assert sums["loss"] == pytest.approx(-sum(math.log(chances[one]) for one in hidden))
        assert sums["correct"] == sum(one == counts.argmax() for one in hidden)
        text = ids_of(tokenizer, judged.texts("text")[row])
        assert sums["tokens"] == len(text)
        assert sums["pseudo_loss"] == pytest.approx(-sum(math.log(chances[one]) for one in text))


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(1, 50))
def test_tokens_are_counted_a_part_at_a_time(tokens: list[int], at_once: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llmkit.tasks.mlm.AT_ONCE", at_once)
        assert count_tokens(np.array(tokens, dtype=np.uint16), 10).tolist() == [1 + tokens.count(i) for i in range(10)]


def filled(tokenizer: Any, text: str, *masks: list[tuple[str, float]]) -> dict[str, Any]:
    """What is said of a text whose masks have these tokens."""
    task = Mlm()
    (feature,) = task.encode_predict(rows([text]), tokenizer, LENGTH).features
    options = [[(tokenizer.convert_tokens_to_ids(token), chance) for token, chance in one] for one in masks]
    return task.decode([options], [feature])[0].as_dict()


def test_a_mask_is_filled_with_the_likeliest_token(tokenizer: Any) -> None:
    assert filled(tokenizer, "the [MASK].", [("film", 0.5), ("story", 0.25)]) == {
        "answer": "the film.", "probabilities": {"film": 0.5, "story": 0.25},
    }  # fmt: skip


@pytest.mark.parametrize("text", ["a[MASK] film", "a [MASK] film"])
def test_a_piece_that_goes_on_with_a_word_is_written_on_to_it(tokenizer: Any, text: str) -> None:
    piece = next(one for one in tokenizer.get_vocab() if one.startswith("##"))
    found = filled(tokenizer, text, [(piece, 0.5)])
    assert (found["answer"], found["probabilities"]) == (f"a{piece[2:]} film", {piece: 0.5})


def test_several_masks_are_filled_each_in_its_place(tokenizer: Any) -> None:
    """Also where the likeliest token is the mask itself, as an untrained model may say."""
    said = filled(tokenizer, "[MASK] a [MASK]", [("[MASK]", 0.6), ("the", 0.2)], [("film", 0.5)])
    assert said == {"answer": "[MASK] a film", "masks": [{"[MASK]": 0.6, "the": 0.2}, {"film": 0.5}]}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("no mask", "c.txt:2: no [MASK] in the text; write [MASK] where a word is to be filled in; to score texts use `llmkit eval`"),
        (f"{'ka ' * 40}[MASK]", "c.txt:2: a [MASK] stands beyond the 32 tokens that the model reads; give a shorter text"),
    ],
)  # fmt: skip
def test_a_text_without_a_mask_that_can_be_read(tokenizer: Any, text: str, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        Mlm().encode_predict(rows(["the [MASK]", text]), tokenizer, LENGTH)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (["却说那唐僧"] * 3, "c.txt: the tokenizer does not know 100% of the tokens; name a model of this language, or begin with --from-config and a tokenizer of your own"),
        (["\u200b", "\u200b"], "c.txt: no token in it; name texts that the tokenizer reads"),
    ],
)  # fmt: skip
def test_a_corpus_that_teaches_nothing_is_refused(tokenizer: Any, texts: list[str], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        trained_on(tokenizer, texts)
    assert str(caught.value) == sentence


def test_options_that_do_not_go_together_are_all_said() -> None:
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
        "command line: mlm.mlm_probability: 1 is out of range; it must be below 1",
        "command line: mlm.mask_replace_prob: 0.8 and random_share 0.3 are more than all; make the sum 1 or less",
        "command line: mlm.word_segmenter: counts only beside whole_words: true; write both or none",
    ]


def test_the_section_of_another_task_is_said_as_such() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, ["classify.kind=multi", "mlmm.mask_rate=0.2"], task="mlm")
    assert str(caught.value).split("\nerror: ") == [
        "command line: classify: the section of another task; this recipe trains 'mlm': write mlm, or leave it out",
        "command line: mlmm: unknown key; did you mean 'mlm'?",
    ]
