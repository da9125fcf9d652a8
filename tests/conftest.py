"""Fixtures for all tests: no network, a temporary folder each, and tiny models built once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
os.environ["OMP_NUM_THREADS"] = "1"  # with tiny matrices a second thread only costs time

REAL_CONNECT = socket.socket.connect
SLOW_FIXTURES = {"finished"}  # they train a model, so every test that uses one is slow
SLOW_MARKERS = ("smoke", "long")  # they imply slow
RUNNING_ITEMS: list[pytest.Item] = []  # the test that runs now


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Mark tests as slow that use a trained model or run a command in a process of its own."""
    for item in items:
        is_slow = SLOW_FIXTURES & set(getattr(item, "fixturenames", ()))
        if is_slow or any(item.get_closest_marker(marker) for marker in SLOW_MARKERS):
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Remember which test runs, its fixtures included."""
    RUNNING_ITEMS.append(item)
    try:
        return (yield)
    finally:
        RUNNING_ITEMS.pop()


def pytest_collection_finish() -> None:
    """Let training and starting a process fail in tests without the marker, so that `make test-fast` stays fast."""
    subprocess.Popen.__init__ = require_slow_marker(subprocess.Popen.__init__, "starts a process")  # type: ignore[method-assign]
    if trainer := sys.modules.get("transformers.trainer"):
        trainer.Trainer.train = require_slow_marker(trainer.Trainer.train, "trains")


def require_slow_marker(function: Callable[..., Any], what: str) -> Callable[..., Any]:
    """Wrap a function to raise AssertionError if a test without the marker calls it."""

    @wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        if RUNNING_ITEMS and RUNNING_ITEMS[-1].get_closest_marker("slow") is None:
            raise AssertionError(f"this test {what}: add @pytest.mark.slow")
        return function(*args, **kwargs)

    return guarded


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise an error for connections to other machines."""

    def connect(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and str(address[0]) not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test opened a network connection: {address}")
        REAL_CONNECT(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


@pytest.fixture(scope="session", autouse=True)
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Use temporary caches: the evaluate library copies scripts into its caches, and corpus tokens are cached."""
    home = tmp_path_factory.mktemp("caches")
    os.environ["XDG_CACHE_HOME"] = str(home)
    os.environ |= {f"HF_{name}_CACHE": str(home / name.lower()) for name in ("MODULES", "METRICS", "EVALUATE")}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in an empty folder, so that paths in messages are short and no files are left elsewhere."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A two-layer BERT without a head."""
    from llmkit.testing import make_tiny_model

    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def tiny_classifier(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A two-layer BERT with a random head for `bad` and `good`."""
    from llmkit.testing import make_tiny_model

    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    folder = tmp_path_factory.mktemp("tiny_classifier") / "bert"
    return make_tiny_model(folder, auto_class="AutoModelForSequenceClassification", **names)


@pytest.fixture(scope="session")
def tiny_mlm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A two-layer BERT with a random masked-LM head; its vocabulary has the words of `make_sentences()`."""
    from llmkit.testing import make_sentences, make_tiny_model

    folder = tmp_path_factory.mktemp("tiny_mlm") / "bert"
    return make_tiny_model(folder, auto_class="AutoModelForMaskedLM", texts=make_sentences())


@pytest.fixture(scope="session")
def finished(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished classification run, trained to convergence on the 60 rows of reviews.jsonl in the same folder."""
    import llmkit
    from llmkit.testing import make_reviews, write_jsonl

    home = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        data = write_jsonl("reviews.jsonl", make_reviews(60))
        keys = ("train.learning_rate=6e-3", "train.per_device_train_batch_size=8")
        run = llmkit.train(None, *keys, task="classify", model=tiny, train=data, epochs=10.0, output_dir="run")
    return home / run.path
