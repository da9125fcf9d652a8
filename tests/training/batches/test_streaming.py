"""A stream of features: each of them once an epoch, in an order that follows from the seed, with a window in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmkit
from llmkit.data.corpus.stream import hash_with_seed, open_document_stream
from llmkit.data.readers.decode import ReadOptions
from llmkit.errors import DataError, RecipeError
from llmkit.schema import DataSection
from llmkit.testing import make_sentences, make_tiny_model, write_lines
from llmkit.training.batches.streaming import StreamSteps


def steps(number: int, rows: int, window: int, epoch: int = 0, seed: int = 0) -> list[list[int]]:
    """The features of each step of an epoch."""
    found = StreamSteps(lambda: iter([{"at": i} for i in range(number)]), rows, seed, lambda items: {
        "rows": [item.feature_index for item in items], "same": all(item.feature["at"] == item.feature_index for item in items),
        "epochs": {item.epoch for item in items},
    }, window)  # fmt: skip
    found.set_epoch(epoch)
    every = list(found)
    assert all(step["same"] and step["epochs"] == {epoch} for step in every)
    return [step["rows"] for step in every]


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 25))
def test_every_feature_comes_once_an_epoch_in_whole_steps(number: int, rows: int, window: int) -> None:
    found = steps(number, rows, window)
    assert sorted(row for step in found for row in step) == list(range(number))
    assert [len(step) for step in found[:-1]] == [rows] * max(0, len(found) - 1)


@given(st.integers(20, 60), st.integers(1, 5))
def test_a_feature_moves_no_further_than_its_window(number: int, rows: int) -> None:
    window = 10
    order = [row for step in steps(number, rows, window) for row in step]
    assert all(at // window == row // window for at, row in enumerate(order))


def test_the_order_follows_from_seed_and_epoch() -> None:
    assert steps(50, 4, 20) == steps(50, 4, 20)
    assert steps(50, 4, 20) != steps(50, 4, 20, epoch=1)
    assert steps(50, 4, 20) != steps(50, 4, 20, seed=1)


def test_a_stream_is_read_no_further_than_its_window() -> None:
    read = []

    def features() -> Iterator[dict[str, Any]]:
        for i in range(1000):
            read.append(i)
            yield {"at": i}

    some = iter(StreamSteps(features, 4, 0, lambda items: {"rows": [item.feature_index for item in items]}, 16))
    next(some)
    assert len(read) == 16


def test_documents_are_held_back_by_their_text_wherever_they_stand(own_folder: Path) -> None:
    texts = make_sentences(400)
    write_lines("one.txt", texts + texts)
    write_lines("other.txt", texts[::-1])
    kept = []
    for name in ("one.txt", "other.txt"):
        sample, held, stream = open_document_stream(DataSection(train=name, streaming=True), ReadOptions(), None)
        training, scored = {one.text for one in stream()}, set(held["validation"].texts("text"))
        assert training | scored == set(texts)
        assert not training & scored
        assert sample.texts("text") == [one.text for one in stream()]
        kept.append(scored)
    assert kept[0] == kept[1]
    assert 20 < len(kept[0]) < 60  # a tenth of 400, five standard errors
    assert hash_with_seed("x", 1) != hash_with_seed("x", 2)


@pytest.mark.parametrize(
    ("task", "keys", "kind", "sentence"),
    [
        ("mlm", [], RecipeError, "data.streaming: a stream has no known length; set the number of steps with train.max_steps=N"),
        ("classify", ["train.max_steps=3"], RecipeError,
         "data.streaming: only a corpus is streamed; leave it out; rows of a table fit into memory"),
        ("mlm", ["train.max_steps=3", "train.dataloader_num_workers=2"], RecipeError,
         "train.dataloader_num_workers: each worker would read the whole stream; leave it out"),
        ("mlm", ["train.max_steps=3", "data.train={a: corpus.txt}"], DataError,
         "a corpus cannot be a mapping of label to file; write a list of files"),
    ],
)  # fmt: skip
def test_what_cannot_be_streamed_is_said(
    tiny: str, own_folder: Path, task: str, keys: list[str], kind: type, sentence: str
) -> None:
    write_lines("corpus.txt", make_sentences(20))
    keys = ["data.train=corpus.txt", "data.streaming=true", *keys]
    with pytest.raises(kind) as error:
        llmkit.train(None, *keys, task=task, model=tiny)
    assert str(error.value) == sentence
    assert sorted(path.name for path in own_folder.iterdir()) == ["corpus.txt"]


def test_a_run_goes_through_the_stream_again_and_again(tmp_path: Path) -> None:
    texts = make_sentences(120)
    model = make_tiny_model(tmp_path / "model", texts=texts, auto_class="AutoModelForMaskedLM")
    write_lines("corpus.txt", texts)
    keys = ["data.streaming=true", "train.max_steps=12", "model.max_length=64", "train.per_device_train_batch_size=4",
            "train.learning_rate=1e-3"]  # fmt: skip
    run = llmkit.train(None, *keys, task="mlm", model=model, train="corpus.txt", output_dir="run")
    assert run.report is not None
    assert run.report.split == "validation"
    again = llmkit.evaluate("run")
    assert again["metrics"] == run.report.as_dict()["metrics"]
