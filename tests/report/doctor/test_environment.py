"""Tests of the findings about the Hub, proxies, tokens and variables; no secret is printed."""

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
def clear_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable but PATH and HOME, no proxy, no token, and online mode."""
    for name in list(os.environ):
        if name not in ("PATH", "HOME", "PYTEST_CURRENT_TEST"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", HUB)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


def patch_hub(monkeypatch: pytest.MonkeyPatch, response: int | Exception) -> None:
    """Let the Hub respond with this status, or the request fail with this error."""

    def respond(_: str) -> int:
        if isinstance(response, Exception):
            raise response
        return response

    monkeypatch.setattr(environment, "fetch_http_status", respond)


@pytest.mark.parametrize(
    ("response", "status", "detail"),
    [
        (200, "ok", f"{HUB} responds"),
        (401, "ok", f"{HUB} responds"),
        (503, "note", f"{HUB} responds with HTTP status 503{NOT_NEEDED}"),
        (407, "note", f"{HUB} responds with HTTP status 407{NOT_NEEDED}"),
        (OSError("no\nroute"), "note", f"{HUB} does not respond (OSError: no){NOT_NEEDED}"),
    ],
)
def test_the_hub_responds_or_not(
    response: int | Exception, status: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch_hub(monkeypatch, response)
    found, proxy, token = environment.check_hub()
    assert (found.status, found.detail) == (status, detail)
    assert found.fix == ("" if status == "ok" else environment.OFFLINE_FIX)
    assert proxy == Finding("proxy", "ok", "none is set")
    assert token == Finding("Hub token", "ok", "none: public models and data only")


def test_one_request_is_sent_with_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[Any] = []

    class Client:
        def head(self, url: str, **more: Any) -> Any:
            requests.append((url, more))
            return type("Response", (), {"status_code": 200})

    monkeypatch.setattr("huggingface_hub.get_session", lambda: Client())
    assert next(environment.check_hub()).status == "ok"
    assert requests == [(HUB, {"timeout": 3.0})]


def test_a_silent_name_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    leave = threading.Event()
    monkeypatch.setattr(environment, "fetch_http_status", lambda _: 200 if leave.wait(30) else 500)
    monkeypatch.setattr(environment, "HUB_TIMEOUT", 0.05)
    assert environment.find_hub_failure(HUB, secret=False) == "did not respond in 0.05 seconds"
    leave.set()


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline_no_request_is_sent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    patch_hub(monkeypatch, AssertionError("a request was sent"))
    detail = f"not checked: {name} is set, so only the cache and local folders are used"
    assert next(environment.check_hub()) == Finding("Hub", "note", detail, f"unset {name} to fetch from the Hub")
    assert environment.check_environment() == [Finding("environment", "ok", "no variable is set that changes runs")]


@pytest.mark.parametrize("proxy", ["http://me:s3cret@proxy.corp:3128", "http://me:s3/cret@proxy.corp:3128"])
def test_no_password_and_no_token_is_printed(proxy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    monkeypatch.setattr(constants, "ENDPOINT", "https://me:s3cret@mirror.corp")
    monkeypatch.setenv("HF_TOKEN", "hf_s3cretsecret")
    patch_hub(monkeypatch, ValueError(f"cannot use {proxy}: Invalid port: 's3'"))
    found = list(environment.check_hub())
    assert [one.detail for one in found] == [
        f"mirror.corp does not respond (ValueError){NOT_NEEDED}",
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
        ({"WORLD_SIZE": "4"}, Finding("environment", "fault", "WORLD_SIZE=4: a command considers itself one of several processes, and waits for the others", "unset WORLD_SIZE")),
        ({"LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": ""}, Finding("environment", "ok", "no variable is set that changes runs")),
        ({"LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2", "PMI_SIZE": "2", "MASTER_ADDR": "x"}, Finding("environment", "fault", "PMI_SIZE=2, OMPI_COMM_WORLD_SIZE=2: a command considers itself one of several processes, and waits for the others", "unset PMI_SIZE OMPI_COMM_WORLD_SIZE")),
        ({"CUDA_VISIBLE_DEVICES": ""}, Finding("environment", "note", "CUDA_VISIBLE_DEVICES=: hides every GPU", "unset it unless it is intended")),
        ({"CUDA_VISIBLE_DEVICES": "2,3"}, Finding("environment", "note", "CUDA_VISIBLE_DEVICES=2,3: torch sees these GPUs only", "unset it unless it is intended")),
        ({"ACCELERATE_USE_FSDP": "secret", "ACCELERATE_X": "1"}, Finding("environment", "note", "ACCELERATE_USE_FSDP, ACCELERATE_X: left by Accelerate; llmkit hides it from the Trainer, so that only the recipe applies", "")),
        ({"TRANSFORMERS_CACHE": "x"}, Finding("environment", "note", "TRANSFORMERS_CACHE: transformers no longer reads it", "set HF_HOME instead")),
        ({"TRANSFORMERS_VERBOSITY": "x"}, Finding("environment", "note", "TRANSFORMERS_VERBOSITY: read by transformers, not by llmkit", "unset it unless it is intended")),
        ({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "-1", "TRANSFORMERS_OFFLINE": "1"}, Finding("environment", "ok", "no variable is set that changes runs")),
    ],
)  # fmt: skip
def test_variables_that_change_runs(variables: dict[str, str], found: Finding, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert environment.check_environment() == [found]


@pytest.mark.parametrize("name", WORLD_SIZE_VARIABLES)
def test_a_fault_is_reported_exactly_where_a_run_is_rejected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in ("", "0", "1", "2", " 4 "):
        monkeypatch.setenv(name, size)
        assert bool(environment.check_launcher_variables(os.environ)) == (size in ("2", " 4 "))
        if environment.check_launcher_variables(os.environ):
            with pytest.raises(UsageError):
                read_rank_info(os.environ)
        else:
            assert read_rank_info(os.environ) is None
