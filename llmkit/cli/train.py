"""The commands that train: one for each task, and `train` for a recipe of any task."""

from __future__ import annotations

from typing import Annotated

import typer

from llmkit.cli.options import (
    AllowChangeOption,
    CorpusOption,
    DebugOption,
    DecoderOption,
    DryRunOption,
    EncoderOption,
    EpochsOption,
    FromConfigOption,
    JsonOption,
    LabelOption,
    LoraOption,
    MachineRankOption,
    MachinesOption,
    MainAddressOption,
    ModelOption,
    ModelOrNetworkOption,
    OutputDirOption,
    ProcessesOption,
    RecipeArguments,
    ResumeOption,
    Seq2SeqFromConfigOption,
    TestOption,
    TextOption,
    TextPairOption,
    TokenizerOption,
    TrainOption,
    ValidationOption,
)
from llmkit.cli.training_command import run_training_command


def finetune_classify(
    arguments: RecipeArguments = None,
    model: ModelOrNetworkOption = None,
    tokenizer: TokenizerOption = None,
    train: TrainOption = None,
    validation: ValidationOption = None,
    test: TestOption = None,
    text: TextOption = None,
    text_pair: TextPairOption = None,
    label: LabelOption = None,
    epochs: EpochsOption = None,
    lora: LoraOption = None,
    output_dir: OutputDirOption = None,
    resume: ResumeOption = None,
    allow_change: AllowChangeOption = None,
    processes: ProcessesOption = 1,
    machines: MachinesOption = 1,
    rank: MachineRankOption = 0,
    main_address: MainAddressOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a classifier of texts, or of pairs of texts.

    It predicts one label; with classify.kind=multi any number of labels; with classify.kind=regression a number.

    llmkit finetune-classify --train reviews.csv

    llmkit finetune-classify --train reviews.csv --model lstm
    """
    run_training_command("classify", **locals())


def finetune_sentiment(
    arguments: RecipeArguments = None,
    model: ModelOrNetworkOption = None,
    tokenizer: TokenizerOption = None,
    train: TrainOption = None,
    validation: ValidationOption = None,
    test: TestOption = None,
    text: TextOption = None,
    label: LabelOption = None,
    epochs: EpochsOption = None,
    lora: LoraOption = None,
    output_dir: OutputDirOption = None,
    resume: ResumeOption = None,
    allow_change: AllowChangeOption = None,
    processes: ProcessesOption = 1,
    machines: MachinesOption = 1,
    rank: MachineRankOption = 0,
    main_address: MainAddressOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a sentiment model: two, three or five classes, or a score.

    Labels may be 0/1, stars, pos/neg, 好评/差评 and the like. Their guessed meaning is printed;
    sentiment.labels={...} corrects it.

    llmkit finetune-sentiment --train reviews.csv

    llmkit finetune-sentiment --train stars.csv sentiment.classes=3
    """
    run_training_command("sentiment", **locals())


def pretrain_mlm(
    arguments: RecipeArguments = None,
    train: CorpusOption = None,
    validation: ValidationOption = None,
    test: TestOption = None,
    text: TextOption = None,
    model: ModelOption = None,
    from_config: FromConfigOption = None,
    tokenizer: TokenizerOption = None,
    epochs: EpochsOption = None,
    lora: LoraOption = None,
    output_dir: OutputDirOption = None,
    resume: ResumeOption = None,
    allow_change: AllowChangeOption = None,
    processes: ProcessesOption = 1,
    machines: MachinesOption = 1,
    rank: MachineRankOption = 0,
    main_address: MainAddressOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a masked language model on text, from scratch or starting from a model.

    llmkit pretrain-mlm --train corpus.txt --model google-bert/bert-base-uncased

    llmkit pretrain-mlm --train text.txt --from-config bert-mini --tokenizer tok
    """
    run_training_command("mlm", **locals())


def finetune_summarize(
    arguments: RecipeArguments = None,
    model: ModelOption = None,
    encoder: EncoderOption = None,
    decoder: DecoderOption = None,
    from_config: Seq2SeqFromConfigOption = None,
    tokenizer: TokenizerOption = None,
    train: TrainOption = None,
    validation: ValidationOption = None,
    test: TestOption = None,
    text: TextOption = None,
    summary: Annotated[
        str | None, typer.Option(help="The column of the summary, or of a list of them. [data.columns.summary]")
    ] = None,
    epochs: EpochsOption = None,
    lora: LoraOption = None,
    output_dir: OutputDirOption = None,
    resume: ResumeOption = None,
    allow_change: AllowChangeOption = None,
    processes: ProcessesOption = 1,
    machines: MachinesOption = 1,
    rank: MachineRankOption = 0,
    main_address: MainAddressOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a summarization model: any encoder-decoder, two encoders combined, or a new model.

    llmkit finetune-summarize --train articles.jsonl --model google-t5/t5-small

    llmkit finetune-summarize --train news.jsonl --encoder bert/ --decoder bert/
    """
    run_training_command("summarize", **locals())


def finetune_translate(
    arguments: RecipeArguments = None,
    model: ModelOption = None,
    encoder: EncoderOption = None,
    decoder: DecoderOption = None,
    from_config: Seq2SeqFromConfigOption = None,
    tokenizer: TokenizerOption = None,
    train: TrainOption = None,
    validation: ValidationOption = None,
    test: TestOption = None,
    source: Annotated[str | None, typer.Option(help="The column of the source text. [data.columns.source]")] = None,
    target: Annotated[
        str | None,
        typer.Option(help="The column of the translation, or of a list of them. [data.columns.target]"),
    ] = None,
    epochs: EpochsOption = None,
    lora: LoraOption = None,
    output_dir: OutputDirOption = None,
    resume: ResumeOption = None,
    allow_change: AllowChangeOption = None,
    processes: ProcessesOption = 1,
    machines: MachinesOption = 1,
    rank: MachineRankOption = 0,
    main_address: MainAddressOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a translation model: any encoder-decoder, two encoders combined, or a new model.

    llmkit finetune-translate --train pairs.csv --source en --target de
    """
    run_training_command("translate", **locals())


def train_recipe(
    arguments: RecipeArguments = None,
    model: ModelOption = None,
    train: TrainOption = None,
    validation: ValidationOption = None,
    test: TestOption = None,
    epochs: EpochsOption = None,
    lora: LoraOption = None,
    output_dir: OutputDirOption = None,
    resume: ResumeOption = None,
    allow_change: AllowChangeOption = None,
    processes: ProcessesOption = 1,
    machines: MachinesOption = 1,
    rank: MachineRankOption = 0,
    main_address: MainAddressOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train by a recipe of any task.

    llmkit train runs/x/recipe.yaml
    """
    run_training_command(None, **locals())


def add_training_commands(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("pretrain-mlm")(pretrain_mlm)
    app.command("finetune-classify")(finetune_classify)
    app.command("finetune-sentiment")(finetune_sentiment)
    app.command("finetune-summarize")(finetune_summarize)
    app.command("finetune-translate")(finetune_translate)
    app.command("train")(train_recipe)
