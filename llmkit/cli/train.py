"""Commands that train: one a task, and `train` for a recipe of any."""

from __future__ import annotations

from typing import Annotated

import typer

from llmkit.cli.options import (
    AllowChange,
    Corpus,
    Debug,
    Decoder,
    DryRun,
    Encoder,
    Epochs,
    FromConfig,
    Json,
    Label,
    Lora,
    MachineRank,
    Machines,
    MainAddress,
    Model,
    Output,
    Processes,
    Resume,
    Test,
    Text,
    TextPair,
    TokenizerName,
    Train,
    Validation,
    Weights,
    Words,
    WritersShape,
)
from llmkit.cli.training_command import carry_out


def finetune_classify(
    words: Words = None,
    model: Weights = None,
    tokenizer: TokenizerName = None,
    train: Train = None,
    validation: Validation = None,
    test: Test = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    epochs: Epochs = None,
    lora: Lora = None,
    output_dir: Output = None,
    resume: Resume = None,
    allow_change: AllowChange = None,
    processes: Processes = 1,
    machines: Machines = 1,
    rank: MachineRank = 0,
    main_address: MainAddress = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a classifier of texts, or of pairs of texts.

    One class of several; classify.kind=multi: any number of labels; classify.kind=regression: a number.

    llmkit finetune-classify --train reviews.csv

    llmkit finetune-classify --train reviews.csv --model lstm
    """
    carry_out("classify", **locals())


def finetune_sentiment(
    words: Words = None,
    model: Weights = None,
    tokenizer: TokenizerName = None,
    train: Train = None,
    validation: Validation = None,
    test: Test = None,
    text: Text = None,
    label: Label = None,
    epochs: Epochs = None,
    lora: Lora = None,
    output_dir: Output = None,
    resume: Resume = None,
    allow_change: AllowChange = None,
    processes: Processes = 1,
    machines: Machines = 1,
    rank: MachineRank = 0,
    main_address: MainAddress = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model of sentiment: two, three or five classes, or a score.

    Labels may be 0/1, stars, pos/neg, 好评/差评 and the like: what they mean is said, sentiment.labels={...} mends it.

    llmkit finetune-sentiment --train reviews.csv

    llmkit finetune-sentiment --train stars.csv sentiment.classes=3
    """
    carry_out("sentiment", **locals())


def pretrain_mlm(
    words: Words = None,
    train: Corpus = None,
    validation: Validation = None,
    test: Test = None,
    text: Text = None,
    model: Model = None,
    from_config: FromConfig = None,
    tokenizer: TokenizerName = None,
    epochs: Epochs = None,
    lora: Lora = None,
    output_dir: Output = None,
    resume: Resume = None,
    allow_change: AllowChange = None,
    processes: Processes = 1,
    machines: Machines = 1,
    rank: MachineRank = 0,
    main_address: MainAddress = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a masked language model on text: from fresh weights, or on from those of a model.

    llmkit pretrain-mlm --train corpus.txt --model google-bert/bert-base-uncased

    llmkit pretrain-mlm --train text.txt --from-config bert-mini --tokenizer tok
    """
    carry_out("mlm", **locals())


def finetune_summarize(
    words: Words = None,
    model: Model = None,
    encoder: Encoder = None,
    decoder: Decoder = None,
    from_config: WritersShape = None,
    tokenizer: TokenizerName = None,
    train: Train = None,
    validation: Validation = None,
    test: Test = None,
    text: Text = None,
    summary: Annotated[
        str | None, typer.Option(help="The column of the summary, or of a list of them. [data.columns.summary]")
    ] = None,
    epochs: Epochs = None,
    lora: Lora = None,
    output_dir: Output = None,
    resume: Resume = None,
    allow_change: AllowChange = None,
    processes: Processes = 1,
    machines: Machines = 1,
    rank: MachineRank = 0,
    main_address: MainAddress = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model that sums texts up: any encoder-decoder, two encoders joined, or fresh weights.

    llmkit finetune-summarize --train articles.jsonl --model google-t5/t5-small

    llmkit finetune-summarize --train news.jsonl --encoder bert/ --decoder bert/
    """
    carry_out("summarize", **locals())


def finetune_translate(
    words: Words = None,
    model: Model = None,
    encoder: Encoder = None,
    decoder: Decoder = None,
    from_config: WritersShape = None,
    tokenizer: TokenizerName = None,
    train: Train = None,
    validation: Validation = None,
    test: Test = None,
    source: Annotated[str | None, typer.Option(help="The column of the text to read. [data.columns.source]")] = None,
    target: Annotated[
        str | None, typer.Option(help="The column of its translation, or of a list of them. [data.columns.target]")
    ] = None,
    epochs: Epochs = None,
    lora: Lora = None,
    output_dir: Output = None,
    resume: Resume = None,
    allow_change: AllowChange = None,
    processes: Processes = 1,
    machines: Machines = 1,
    rank: MachineRank = 0,
    main_address: MainAddress = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Train a model that translates: any encoder-decoder, two encoders joined, or fresh weights.

    llmkit finetune-translate --train pairs.csv --source en --target de
    """
    carry_out("translate", **locals())


def train_any(
    words: Words = None,
    model: Model = None,
    train: Train = None,
    validation: Validation = None,
    test: Test = None,
    epochs: Epochs = None,
    lora: Lora = None,
    output_dir: Output = None,
    resume: Resume = None,
    allow_change: AllowChange = None,
    processes: Processes = 1,
    machines: Machines = 1,
    rank: MachineRank = 0,
    main_address: MainAddress = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run a recipe of any task.

    llmkit train runs/x/recipe.yaml
    """
    carry_out(None, **locals())


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("pretrain-mlm")(pretrain_mlm)
    app.command("finetune-classify")(finetune_classify)
    app.command("finetune-sentiment")(finetune_sentiment)
    app.command("finetune-summarize")(finetune_summarize)
    app.command("finetune-translate")(finetune_translate)
    app.command("train")(train_any)
