from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmkit.data.readers import hub
from llmkit.data.readers.read import read_rows
from llmkit.data.rows import Rows, parse_raw_json
from llmkit.errors import DataError, NetworkError

datasets = pytest.importorskip("datasets")


def example() -> Any:
    features = datasets.Features(
        text=datasets.Value("string"),
        label=datasets.ClassLabel(names=["bad", "good"]),
        tags=datasets.List(datasets.ClassLabel(names=["O", "B-PER"])),
    )
    rows = {"text": ["a", "b", "c"], "label": [1, 0, -1], "tags": [[0, 1], [], [0]]}
    return datasets.Dataset.from_dict(rows, features=features)


RECORDS = [
    {"text": "a", "label": "good", "tags": ["O", "B-PER"]},
    {"text": "b", "label": "bad", "tags": []},
    {"text": "c", "label": None, "tags": ["O"]},
]


def as_python(rows: Rows) -> list[dict[str, Any]]:
    return [parse_raw_json(record) for record in rows.records()]


def test_a_saved_set_gives_names_for_class_numbers():
    example().save_to_disk("saved")
    rows = read_rows("saved")
    assert as_python(rows) == RECORDS
    assert rows.location(2) == "saved: row 3"


def test_a_saved_selection_keeps_its_order():
    example().select([1, 0]).save_to_disk("saved")
    assert as_python(read_rows("saved")) == [RECORDS[1], RECORDS[0]]


def test_a_saved_set_of_splits_gives_the_one_of_the_role():
    datasets.DatasetDict(train=example(), test=example().select([2])).save_to_disk("saved")
    assert as_python(read_rows("saved", split_role="test")) == RECORDS[2:]
    with pytest.raises(DataError) as caught:
        read_rows("saved", split_role="validation")
    assert str(caught.value) == (
        "saved: no split 'validation'; it has train, test; leave data.validation out, or name a file"
    )


def test_a_damaged_saved_set_is_refused():
    example().save_to_disk("saved")
    for file in Path("saved").glob("*.arrow"):
        file.write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"^saved: not a readable datasets folder: .*; save it again$"):
        read_rows("saved")


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[Any]:
    """Let the Hub give this answer, or raise it; returns the calls."""
    calls: list[Any] = []

    def load_dataset(*args: Any, **options: Any) -> Any:
        calls.append((args, options))
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_ask", lambda *_: None)
    return calls


def test_a_hub_id_names_owner_config_and_revision(monkeypatch):
    calls = answering(monkeypatch, example())
    rows = read_rows("owner/name:plain@v1.0", split_role="test")
    assert as_python(rows) == RECORDS
    assert rows.location(0) == "owner/name:plain@v1.0: row 1"
    assert calls == [(("owner/name",), {"name": "plain", "revision": "v1.0", "split": "test"})]


@pytest.mark.parametrize(
    ("error", "raised", "sentence"),
    [
        (
            ConnectionError("unreachable"),
            NetworkError,
            (
                "owner/name: no such file, and the Hub did not answer (ConnectionError); check the network, set "
                "HF_HUB_OFFLINE=1 to use a copy fetched before, or name a local file"
            ),
        ),
        (
            datasets.exceptions.DatasetNotFoundError("gone"),
            NetworkError,
            "owner/name: no such file, and no such data set on the Hub; check the name, or log in",
        ),
        (
            ValueError("Unknown split \"train\". Should be one of ['test'].\nmore"),
            DataError,
            "owner/name: Unknown split \"train\". Should be one of ['test'].; leave data.train out, or name a file",
        ),
        (
            ValueError("Config name is missing.\nPlease pick one"),
            DataError,
            "owner/name: Config name is missing.; name one as owner/name:CONFIG",
        ),
        (
            RuntimeError("Dataset scripts are no longer supported"),
            DataError,
            "owner/name: Dataset scripts are no longer supported; name another data set, or a file",
        ),
    ],
)
def test_what_the_hub_refuses(monkeypatch, error, raised, sentence):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    answering(monkeypatch, error)
    with pytest.raises(raised) as caught:
        read_rows("owner/name")
    assert str(caught.value) == sentence


def test_offline_the_hub_is_not_asked(monkeypatch):
    from huggingface_hub import constants

    def offline(*_: Any, **__: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(NetworkError) as caught:
        read_rows("owner/name")
    assert str(caught.value) == (
        "owner/name: no such file, and no copy of a Hub data set while HF_HUB_OFFLINE is set; unset HF_HUB_OFFLINE, or "
        "name a local file"
    )
