"""Tests streaming: each feature once per epoch, in an order determined by the seed, with one window in memory."""

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


def collect_steps(number: int, rows: int, window: int, epoch: int = 0, seed: int = 0) -> list[list[int]]:
    """Return the features of each step of an epoch."""
    stream = StreamSteps(lambda: iter([{"at": i} for i in range(number)]), rows, seed, lambda items: {
        "rows": [item.feature_index for item in items], "same": all(item.feature["at"] == item.feature_index for item in items),
        "epochs": {item.epoch for item in items},
    }, window)  # fmt: skip
    stream.set_epoch(epoch)
    batches = list(stream)
    assert all(step["same"] and step["epochs"] == {epoch} for step in batches)
    return [step["rows"] for step in batches]


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 25))
def test_every_feature_occurs_once_per_epoch_in_full_steps(number: int, rows: int, window: int) -> None:
    stream = collect_steps(number, rows, window)
    assert sorted(row for step in stream for row in step) == list(range(number))
    assert [len(step) for step in stream[:-1]] == [rows] * max(0, len(stream) - 1)


@given(st.integers(20, 60), st.integers(1, 5))
def test_feature_moves_at_most_one_window(number: int, rows: int) -> None:
    window = 10
    order = [row for step in collect_steps(number, rows, window) for row in step]
    assert all(position // window == row // window for position, row in enumerate(order))


def test_order_depends_on_seed_and_epoch_only() -> None:
    assert collect_steps(50, 4, 20) == collect_steps(50, 4, 20)
    assert collect_steps(50, 4, 20) != collect_steps(50, 4, 20, epoch=1)
    assert collect_steps(50, 4, 20) != collect_steps(50, 4, 20, seed=1)


def test_stream_is_read_at_most_one_window_ahead() -> None:
    read = []

    def features() -> Iterator[dict[str, Any]]:
        for i in range(1000):
            read.append(i)
            yield {"at": i}

    batches = iter(StreamSteps(features, 4, 0, lambda items: {"rows": [item.feature_index for item in items]}, 16))
    next(batches)
    assert len(read) == 16


def test_holdout_of_documents_depends_on_their_text_only(own_folder: Path) -> None:
    texts = make_sentences(400)
    write_lines("one.txt", texts + texts)
    write_lines("other.txt", texts[::-1])
    holdouts = []
    for name in ("one.txt", "other.txt"):
        sample, splits, stream = open_document_stream(DataSection(train=name, streaming=True), ReadOptions(), None)
        train, holdout = {one.text for one in stream()}, set(splits["validation"].texts("text"))
        assert train | holdout == set(texts)
        assert not train & holdout
        assert sample.texts("text") == [one.text for one in stream()]
        holdouts.append(holdout)
    assert holdouts[0] == holdouts[1]
    assert 20 < len(holdouts[0]) < 60  # a tenth of 400, five standard errors
    assert hash_with_seed("x", 1) != hash_with_seed("x", 2)


@pytest.mark.parametrize(
    ("task", "keys", "error_type", "message"),
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
def test_unsupported_streaming_settings_are_rejected(
    tiny: str, own_folder: Path, task: str, keys: list[str], error_type: type, message: str
) -> None:
    write_lines("corpus.txt", make_sentences(20))
    keys = ["data.train=corpus.txt", "data.streaming=true", *keys]
    with pytest.raises(error_type) as error:
        llmkit.train(None, *keys, task=task, model=tiny)
    assert str(error.value) == message
    assert sorted(path.name for path in own_folder.iterdir()) == ["corpus.txt"]


@pytest.mark.slow
def test_run_repeats_the_stream_each_epoch(tmp_path: Path) -> None:
    texts = make_sentences(120)
    model = make_tiny_model(tmp_path / "model", texts=texts, auto_class="AutoModelForMaskedLM")
    write_lines("corpus.txt", texts)
    keys = ["data.streaming=true", "train.max_steps=12", "model.max_length=64", "train.per_device_train_batch_size=4",
            "train.learning_rate=1e-3"]  # fmt: skip
    run = llmkit.train(None, *keys, task="mlm", model=model, train="corpus.txt", output_dir="run")
    assert run.report is not None
    assert run.report.split == "validation"
    scores = llmkit.evaluate("run")
    assert scores["metrics"] == run.report.as_dict()["metrics"]
