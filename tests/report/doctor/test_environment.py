"""The Hub, proxies, tokens and variables: what is said of them, and what never is."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from llmkit.errors import UsageError
from llmkit.report.doctor import environment
from llmkit.report.doctor.finding import Finding
from llmkit.runs.launch_env import WORLD_SIZE_VARIABLES, read_rank_info

HUB = "https://huggingface.co"
NOT_NEEDED = "; a run whose model and data are local does not need it"


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable but PATH and HOME, no proxy, no token, and a Hub that may be asked."""
    for name in list(os.environ):
        if name not in ("PATH", "HOME", "PYTEST_CURRENT_TEST"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", HUB)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


def answering(monkeypatch: pytest.MonkeyPatch, answer: int | Exception) -> None:
    def ask(_: str) -> int:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(environment, "ask", ask)


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        (200, "ok", f"{HUB} answers"),
        (401, "ok", f"{HUB} answers"),
        (503, "note", f"{HUB} answers with HTTP status 503{NOT_NEEDED}"),
        (407, "note", f"{HUB} answers with HTTP status 407{NOT_NEEDED}"),
        (OSError("no\nroute"), "note", f"{HUB} does not answer (OSError: no){NOT_NEEDED}"),
    ],
)
def test_the_hub_answers_or_not(
    answer: int | Exception, status: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, answer)
    found, proxy, token = environment.check_hub()
    assert (found.status, found.detail) == (status, detail)
    assert found.fix == ("" if status == "ok" else environment.OFFLINE_FIX)
    assert proxy == Finding("proxy", "ok", "none is set")
    assert token == Finding("Hub token", "ok", "none: public models and data only")


def test_the_real_client_is_asked_once_with_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    class Client:
        def head(self, url: str, **more: Any) -> Any:
            asked.append((url, more))
            return type("Answer", (), {"status_code": 200})

    monkeypatch.setattr("huggingface_hub.get_session", lambda: Client())
    assert next(environment.check_hub()).status == "ok"
    assert asked == [(HUB, {"timeout": 3.0})]


def test_a_name_server_that_keeps_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()
    monkeypatch.setattr(environment, "ask", lambda _: 200 if leave.wait(30) else 500)
    monkeypatch.setattr(environment, "SECONDS", 0.05)
    assert environment.find_hub_failure(HUB, secret=False) == "did not answer in 0.05 seconds"
    leave.set()


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_the_hub_is_not_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    answering(monkeypatch, AssertionError("asked"))
    detail = f"not asked: {name} is set, so only the cache and local folders count"
    assert next(environment.check_hub()) == Finding("Hub", "note", detail, f"unset {name} to fetch from the Hub")
    assert environment.check_environment() == [Finding("environment", "ok", "no variable is set that changes runs")]


@pytest.mark.parametrize("proxy", ["http://me:s3cret@proxy.corp:3128", "http://me:s3/cret@proxy.corp:3128"])
def test_no_password_and_no_token_is_said(proxy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setattr(constants, "ENDPOINT", "https://me:s3cret@mirror.corp")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cretsecret")
    answering(monkeypatch, ValueError(f"cannot use {proxy}: Invalid port: 's3'"))
    found = list(environment.check_hub())
    assert [one.detail for one in found] == [
        f"mirror.corp does not answer (ValueError){NOT_NEEDED}",
        "proxy.corp:3128 (from the environment or the system)",
        "set in HF_TOKEN",
    ]
    assert "s3" not in repr(found)
    monkeypatch.setenv("no_proxy", "mirror.corp")
    assert list(environment.check_hub())[1].detail == "none is set"
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "token").write_text("hf_s3cretsecret", encoding="utf-8")
    assert list(environment.check_hub())[2].detail == "in ~/token"


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"WORLD_SIZE": "4"}, Finding("environment", "fault", "WORLD_SIZE=4: a command takes itself for one of several processes, and waits for the others", "unset WORLD_SIZE")),
        ({"LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": ""}, Finding("environment", "ok", "no variable is set that changes runs")),
        ({"LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "PMI_SIZE": "2", "MASTER_ADDR": "x"}, Finding("environment", "fault", "PMI_SIZE=2, OMPI_COMM_WORLD_SIZE=2: a command takes itself for one of several processes, and waits for the others", "unset PMI_SIZE OMPI_COMM_WORLD_SIZE")),
        ({"CUDA_VISIBLE_DEVICES": ""}, Finding("environment", "note", "CUDA_VISIBLE_DEVICES=: hides every GPU", "unset it, if that is not meant")),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, Finding("environment", "note", "CUDA_VISIBLE_DEVICES=2,3: torch sees these GPUs only", "unset it, if that is not meant")),
        ({"ACCELERATE_USE_FSDP": "secret", "ACCELERATE_X": "1"}, Finding("environment", "note", "ACCELERATE_USE_FSDP, ACCELERATE_X: left by Accelerate; llmkit hides it from the Trainer, so the recipe alone counts", "")),
        ({"TRANSFORMERS_CACHE": "x"}, Finding("environment", "note", "TRANSFORMERS_CACHE: transformers does not read it any more", "set HF_HOME instead")),
        ({"TRANSFORMERS_VERBOSITY": "x"}, Finding("environment", "note", "TRANSFORMERS_VERBOSITY: read by transformers, not by llmkit", "unset it if you did not mean to set it")),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "-1", "TRANSFORMERS_OFFLINE": "1"}, Finding("environment", "ok", "no variable is set that changes runs")),
    ],
)  # fmt: skip
def test_variables_that_change_runs(variables: dict[str, str], found: Finding, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.check_environment() == [found]


@pytest.mark.parametrize("name", WORLD_SIZE_VARIABLES)
def test_a_run_refuses_a_number_of_processes_alone_that_is_called_a_fault(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in ("", "0", "1", "2", " 4 "):
        monkeypatch.setenv(name, size)
        assert bool(environment.check_launcher_variables(os.environ)) == (size in ("2", " 4 "))
        if environment.check_launcher_variables(os.environ):
            with pytest.raises(UsageError):
                read_rank_info(os.environ)
        else:
            assert read_rank_info(os.environ) is None
