"""What reaches a run from outside: the Hub, and variables that a launcher or a shell has left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from llmkit.report.doctor.finding import Finding, format_exception, shorten_path
from llmkit.runs import launch_env

HUB_TIMEOUT = 3.0
OFFLINE_FIX = "name a local folder or pkg://PACKAGE/PATH, or set HF_HUB_OFFLINE=1 to use the cache at once"
# Variables that a run obeys without a word, whatever their value: (name, what it does, mend). A * ends a prefix.
SILENT_VARIABLES = (
    ("ACCELERATE_*", "left by Accelerate; llmkit hides it from the Trainer, so the recipe alone counts", ""),
    ("TRANSFORMERS_CACHE", "transformers does not read it any more", "set HF_HOME instead"),
    ("TRANSFORMERS_*", "read by transformers, not by llmkit", "unset it if you did not mean to set it"),
    ("HF_DATASETS_OFFLINE", "data sets of the Hub come from the cache only", "unset it to fetch data sets"),
    ("NVIDIA_TF32_OVERRIDE", "1 makes a GPU round fp32 products to TF32: other scores", "unset it"),
    ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1 makes a GPU round fp32 products to TF32: other scores", "unset it"),
)
HUB_VARIABLES = {"TRANSFORMERS_OFFLINE"}  # the Hub's own finding speaks of it


def check_environment() -> list[Finding]:
    """Variables that stop a run or change it: their names, and values only where those are numbers."""
    found = check_launcher_variables(os.environ)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus is not None:
        hidden = gpus.strip() in ("", "-1")
        what = "hides every GPU" if hidden else "torch sees these GPUs only"
        found.append(build_variable_note(f"CUDA_VISIBLE_DEVICES={gpus}: {what}", "unset it, if that is not meant"))
    spoken_of = set(HUB_VARIABLES)
    for pattern, what, mend in SILENT_VARIABLES:
        names = [name for name in sorted(os.environ) if is_variable_match(name, pattern) and name not in spoken_of]
        spoken_of.update(names)
        if names:
            found.append(build_variable_note(f"{', '.join(names)}: {what}", mend))
    return found or [Finding("environment", "ok", "no variable is set that changes runs")]


def build_variable_note(detail: str, mend: str) -> Finding:
    """A finding about a variable that changes runs."""
    return Finding("environment", "note", detail, mend)


def is_variable_match(name: str, pattern: str) -> bool:
    """Whether a variable's name is the pattern, or begins with it where it ends in a star."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def check_launcher_variables(variables: Mapping[str, str]) -> list[Finding]:
    """What a launcher has left that stops a run: llmkit refuses to be one of several processes."""
    found = launch_env.find_multiprocess_variables(variables)
    if not found:
        return []
    said = ", ".join(f"{name}={size}" for name, size in found.items())
    what = f"{said}: a command takes itself for one of several processes, and waits for the others"
    return [Finding("environment", "fault", what, f"unset {' '.join(found)}")]


def check_hub() -> Iterator[Finding]:
    """Whether the Hub answers, through which proxy, and with a token or without; neither secret is read aloud."""
    from huggingface_hub import constants

    proxy = find_proxy(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE:
        names = [name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(name)]
        detail = f"not asked: {' and '.join(names) or 'offline mode'} is set, so only the cache and local folders count"
        yield Finding("Hub", "note", detail, f"unset {' '.join(names) or 'HF_HUB_OFFLINE'} to fetch from the Hub")
    elif silence := find_hub_failure(constants.ENDPOINT, secret="@" in (proxy or "") + constants.ENDPOINT):
        detail = f"{strip_url_credentials(constants.ENDPOINT)} {silence}; a run whose model and data are local does not need it"
        yield Finding("Hub", "note", detail, OFFLINE_FIX)
    else:
        yield Finding("Hub", "ok", f"{strip_url_credentials(constants.ENDPOINT)} answers")
    yield Finding(
        "proxy",
        "ok",
        f"{strip_url_credentials(proxy)} (from the environment or the system)" if proxy else "none is set",
    )
    yield Finding("Hub token", "ok", describe_token_source(Path(constants.HF_TOKEN_PATH)))


def find_hub_failure(url: str, secret: bool) -> str:
    """Why the Hub is not there, or nothing where it answers. With a `secret` in play its client is not quoted."""
    heard: list[str] = []

    def listen() -> None:
        try:
            status = fetch_http_status(url)
            heard.append("" if status < 500 and status != 407 else f"answers with HTTP status {status}")
        except Exception as fault:  # of whatever HTTP library the Hub's client uses
            heard.append(f"does not answer ({type(fault).__name__ if secret else format_exception(fault)})")

    # A thread, since a name server that keeps silent outlasts the time limit of every HTTP library.
    asking = Thread(target=listen, daemon=True)
    asking.start()
    asking.join(HUB_TIMEOUT)
    return heard[0] if heard else f"did not answer in {HUB_TIMEOUT:g} seconds"


def fetch_http_status(url: str) -> int:
    """The HTTP status of one HEAD request, by the client that downloads take."""
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


def describe_token_source(kept: Path) -> str:
    """Where a token comes from. It is not asked for, since the Hub's client may renew one over the network."""
    if name := next((n for n in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN") if os.environ.get(n)), None):
        return f"set in {name}"
    return f"in {shorten_path(kept)}" if kept.is_file() else "none: public models and data only"
