"""Tests of the reader of Hub and saved data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmkit.data.readers import hub
from llmkit.data.readers.read import read_rows
from llmkit.data.rows import Rows, parse_raw_json
from llmkit.errors import DataError, NetworkError

datasets = pytest.importorskip("datasets")


def example_dataset() -> Any:
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


def to_records(rows: Rows) -> list[dict[str, Any]]:
    return [parse_raw_json(record) for record in rows.records()]


def test_saved_data_set_has_class_names_for_ids():
    example_dataset().save_to_disk("saved")
    rows = read_rows("saved")
    assert to_records(rows) == RECORDS
    assert rows.location(2) == "saved: row 3"


def test_saved_selection_keeps_its_order():
    example_dataset().select([1, 0]).save_to_disk("saved")
    assert to_records(read_rows("saved")) == [RECORDS[1], RECORDS[0]]


def test_saved_dataset_dict_gives_the_requested_split():
    datasets.DatasetDict(train=example_dataset(), test=example_dataset().select([2])).save_to_disk("saved")
    assert to_records(read_rows("saved", split_role="test")) == RECORDS[2:]
    with pytest.raises(DataError) as caught:
        read_rows("saved", split_role="validation")
    assert str(caught.value) == (
        "saved: no split 'validation'; it has train, test; leave data.validation out, or name a file"
    )


def test_damaged_saved_data_set_is_rejected():
    example_dataset().save_to_disk("saved")
    for file in Path("saved").glob("*.arrow"):
        file.write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"^saved: not a readable datasets folder: .*; save it again$"):
        read_rows("saved")


def mock_hub(monkeypatch: pytest.MonkeyPatch, response: Any) -> list[Any]:
    """Make load_dataset return this response, or raise it; returns its calls."""
    calls: list[Any] = []

    def load_dataset(*args: Any, **options: Any) -> Any:
        calls.append((args, options))
        if isinstance(response, Exception):
            raise response
        return response

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_check_dataset_exists", lambda *_: None)
    return calls


def test_hub_id_has_owner_config_and_revision(monkeypatch):
    calls = mock_hub(monkeypatch, example_dataset())
    rows = read_rows("owner/name:plain@v1.0", split_role="test")
    assert to_records(rows) == RECORDS
    assert rows.location(0) == "owner/name:plain@v1.0: row 1"
    assert calls == [(("owner/name",), {"name": "plain", "revision": "v1.0", "split": "test"})]


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (
            ConnectionError("unreachable"),
            NetworkError,
            (
                "owner/name: no such file, and the Hub did not respond (ConnectionError); check the network, set "
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
def test_hub_errors_are_translated(monkeypatch, error, raised, message):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    mock_hub(monkeypatch, error)
    with pytest.raises(raised) as caught:
        read_rows("owner/name")
    assert str(caught.value) == message


def test_offline_mode_needs_a_cached_copy(monkeypatch):
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
