"""Tests of `llmkit launch slurm`, and of the flags for several processes."""

from __future__ import annotations

import pytest

from llmkit.cli import run_command_line
from llmkit.testing import make_reviews, write_jsonl


def test_a_batch_script_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["classify/bbc-headlines", "train.seed=7", "-o", "/shared/run", "--machines", "2", "--processes", "4"]
    assert run_command_line(["launch", "slurm", *words]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("#!/bin/bash\n#SBATCH --job-name=llmkit-classify-bbc-headlines\n#SBATCH --nodes=2\n")
    assert "llmkit train classify/bbc-headlines train.seed=7 --output-dir /shared/run --processes 4" in printed


def test_a_wrong_recipe_is_rejected_before_it_is_queued(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["launch", "slurm", "classify/bbc-headlines", "train.sed=7", "-o", "x"]) == 78
    assert "train.sed: unknown key; did you mean 'seed'?" in capsys.readouterr().err
    assert run_command_line(["launch", "slurm", "classify/bbc-headlines"]) == 64
    message = "error: no -o FOLDER: a job that Slurm queues again would start over; name a folder on a shared disk\n"
    assert capsys.readouterr().err == message


def test_several_processes_cannot_do_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    data = write_jsonl("reviews.jsonl", make_reviews(20))
    assert run_command_line(["finetune-classify", "--train", data, "--processes", "2", "--dry-run"]) == 64
    message = "error: --dry-run measures one process, and --processes requests several; leave one of them out\n"
    assert capsys.readouterr().err == message


def test_contradicting_numbers_are_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["finetune-classify", "--train", "x", "--machines", "2"]) == 64
    message = "error: --machines without --main-address; name the machine of --rank 0, as HOST or HOST:PORT\n"
    assert capsys.readouterr().err == message


def test_a_gpu_strategy_is_rejected_on_one_process_too(capsys: pytest.CaptureFixture[str]) -> None:
    data = write_jsonl("reviews.jsonl", make_reviews(20))
    assert run_command_line(["finetune-classify", "--train", data, "train.strategy=deepspeed-zero2"]) == 78
    assert "train.strategy: deepspeed-zero2: DeepSpeed needs NVIDIA GPUs" in capsys.readouterr().err
