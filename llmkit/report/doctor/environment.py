"""Checks of the Hub, and of environment variables that a launcher or a shell has left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from llmkit.report.doctor.finding import Finding, format_exception, shorten_path
from llmkit.runs import launch_env

HUB_TIMEOUT = 3.0  # seconds
OFFLINE_FIX = "name a local folder or pkg://PACKAGE/PATH, or set HF_HUB_OFFLINE=1 to use the cache at once"
# Variables that libraries obey silently, whatever their value: (name, effect, fix). A * ends a prefix.
SILENT_VARIABLES = (
    ("ACCELERATE_*", "left by Accelerate; llmkit hides it from the Trainer, so that only the recipe applies", ""),
    ("TRANSFORMERS_CACHE", "transformers no longer reads it", "set HF_HOME instead"),
    ("TRANSFORMERS_*", "read by transformers, not by llmkit", "unset it unless it is intended"),
    ("HF_DATASETS_OFFLINE", "data sets of the Hub come from the cache only", "unset it to fetch data sets"),
    ("NVIDIA_TF32_OVERRIDE", "1 makes a GPU round fp32 products to TF32, which changes scores", "unset it"),
    ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1 makes a GPU round fp32 products to TF32, which changes scores", "unset it"),
)
HUB_VARIABLES = {"TRANSFORMERS_OFFLINE"}  # reported by the check of the Hub


def check_environment() -> list[Finding]:
    """The variables that stop or change a run: their names, and values only where those are numbers."""
    findings = check_launcher_variables(os.environ)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is not None:
        hidden = gpus.strip() in ("", "-1")
        effect = "hides every GPU" if hidden else "torch sees these GPUs only"
        findings.append(build_variable_note(f"CUDA_VISIBLE_DEVICES={gpus}: {effect}", "unset it unless it is intended"))
    reported = set(HUB_VARIABLES)
    for pattern, effect, fix in SILENT_VARIABLES:
        names = [name for name in sorted(os.environ) if is_variable_match(name, pattern) and name not in reported]
        reported.update(names)
        if names:
            findings.append(build_variable_note(f"{', '.join(names)}: {effect}", fix))
    return findings or [Finding("environment", "ok", "no variable is set that changes runs")]


def build_variable_note(detail: str, fix: str) -> Finding:
    """A finding about a variable that changes runs."""
    return Finding("environment", "note", detail, fix)


def is_variable_match(name: str, pattern: str) -> bool:
    """Whether a variable's name equals the pattern, or starts with it if the pattern ends with a star."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def check_launcher_variables(variables: Mapping[str, str]) -> list[Finding]:
    """The variables of a launcher that stop a run: it would wait for other processes."""
    announced = launch_env.find_multiprocess_variables(variables)
    if not announced:
        return []
    values = launch_env.format_variables(announced)
    detail = f"{values}: a command considers itself one of several processes, and waits for the others"
    return [Finding("environment", "fault", detail, f"unset {' '.join(announced)}")]


def check_hub() -> Iterator[Finding]:
    """Whether the Hub responds, through which proxy, and where the token comes from; no secret is printed."""
    from huggingface_hub import constants

    proxy = find_proxy(constants.ENDPOINT)
    address = strip_url_credentials(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE:
        names = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
        reason = " and ".join(names) or "offline mode"
        detail = f"not checked: {reason} is set, so only the cache and local folders are used"
        yield Finding("Hub", "note", detail, f"unset {' '.join(names) or 'HF_HUB_OFFLINE'} to fetch from the Hub")
    elif failure := find_hub_failure(constants.ENDPOINT, secret="@" in (proxy or "") + constants.ENDPOINT):
        detail = f"{address} {failure}; a run whose model and data are local does not need it"
        yield Finding("Hub", "note", detail, OFFLINE_FIX)
    else:
        yield Finding("Hub", "ok", f"{address} responds")
    source = f"{strip_url_credentials(proxy)} (from the environment or the system)" if proxy else "none is set"
    yield Finding("proxy", "ok", source)
    yield Finding("Hub token", "ok", describe_token_source(Path(constants.HF_TOKEN_PATH)))


def find_hub_failure(url: str, secret: bool) -> str:
    """The reason why the Hub cannot be reached, empty where it responds. With a `secret` no error text is quoted."""
    outcome: list[str] = []

    def request() -> None:
        try:
            status = fetch_http_status(url)
            outcome.append("" if status < 500 and status != 407 else f"responds with HTTP status {status}")
        except Exception as error:  # of whatever HTTP library the Hub's client uses
            outcome.append(f"does not respond ({type(error).__name__ if secret else format_exception(error)})")

    # A thread, since a name server that does not respond outlasts the time limit of every HTTP library.
    thread = Thread(target=request, daemon=True)
    thread.start()
    thread.join(HUB_TIMEOUT)
    return outcome[0] if outcome else f"did not respond in {HUB_TIMEOUT:g} seconds"


def fetch_http_status(url: str) -> int:
    """The HTTP status of one HEAD request, by the client that downloads use."""
    from huggingface_hub import get_session

    return int(get_session().head(url, timeout=HUB_TIMEOUT).status_code)


def find_proxy(url: str) -> str | None:
    """The proxy between here and `url`, or None."""
    parts, proxies = urlsplit(url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if proxy and not proxy_bypass(parts.hostname or "") else None


def strip_url_credentials(url: str) -> str:
    """An address without the name and password in it."""
    return url.rpartition("@")[2]


def describe_token_source(token_file: Path) -> str:
    """Where a token comes from. The Hub's client is not asked for it, since it may renew one over the network."""
    if name := next((n for n in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(n)), None):
        return f"set in {name}"
    return f"in {shorten_path(token_file)}" if token_file.is_file() else "none: public models and data only"
