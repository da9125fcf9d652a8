"""The options of the commands that train. Each sets the recipe key in its help, and overrides the recipe file."""

from __future__ import annotations

from typing import Annotated

import typer

RecipeArguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RECIPE|KEY=VALUE",
        help="A recipe file or the name of a shipped one (`llmkit recipes list`), then keys to change, such as "
        "train.learning_rate=3e-5.",
        show_default=False,
    ),
]
ModelOption = Annotated[
    str | None, typer.Option(help="The model to start from: a folder, a Hub id, pkg://PACKAGE/PATH. [model.name]")
]
ModelOrNetworkOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The model to start from: a folder, a Hub id, pkg://PACKAGE/PATH; or a network to train from scratch: "
        "rnn, lstm, gru, cnn, bag. [model.name]",
    ),
]
TrainOption = Annotated[
    str | None, typer.Option(help="The training rows: csv, tsv, jsonl, parquet, a folder. [data.train]")
]
CorpusOption = Annotated[
    str | None, typer.Option("--train", help="The corpus: txt, jsonl, parquet, a folder of them. [data.train]")
]
EncoderOption = Annotated[
    str | None, typer.Option(help="An encoder to combine with --decoder, instead of --model. [model.encoder]")
]
DecoderOption = Annotated[
    str | None, typer.Option(help="An encoder to use as the decoder, with --encoder. [model.decoder]")
]
FromConfigOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Train a new model of this size from scratch, such as bert-mini or modernbert-tiny. [model.from_config]",
    ),
]
Seq2SeqFromConfigOption = Annotated[
    str | None,
    typer.Option(
        "--from-config",
        metavar="SIZE",
        help="Train a new model of this size from scratch: t5-mini, bart-mini ... [model.from_config]",
    ),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option("--tokenizer", help="The tokenizer, if not the model's own. [model.tokenizer]"),
]
ValidationOption = Annotated[str | None, typer.Option(help="Rows that choose the best checkpoint. [data.validation]")]
TestOption = Annotated[str | None, typer.Option(help="Rows for the final scores. [data.test]")]
TextOption = Annotated[str | None, typer.Option(help="The column of the text. [data.columns.text]")]
TextPairOption = Annotated[
    str | None, typer.Option(help="The column of the second text, if rows are pairs. [data.columns.text_pair]")
]
LabelOption = Annotated[str | None, typer.Option(help="The column of the label. [data.columns.label]")]
EpochsOption = Annotated[float | None, typer.Option(help="Passes over the training rows. [train.num_train_epochs]")]
LoraOption = Annotated[
    bool | None,
    typer.Option("--lora", help="Train LoRA adapters instead of all weights. [lora]"),
]
OutputDirOption = Annotated[
    str | None, typer.Option("--output-dir", "-o", help="The run folder. Default: a new runs/...")
]
ResumeOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Resume the unfinished run in this folder, or from this checkpoint of it; no other option is needed. "
        "Repeating a command with the same -o resumes its run too.",
    ),
]
AllowChangeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="A recipe key that may differ when a run resumes; repeatable."),
]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Check everything, time a few steps, print what the run would need, and keep nothing."
    ),
]
ProcessesOption = Annotated[
    int,
    typer.Option(
        help="Processes on this machine: one for each GPU, or several that share the cores.", show_default=False
    ),
]
MachinesOption = Annotated[
    int, typer.Option(help="Machines that run this same command, each with its own --rank.", show_default=False)
]
MachineRankOption = Annotated[
    int, typer.Option("--rank", help="The number of this machine, from 0.", show_default=False)
]
MainAddressOption = Annotated[
    str | None, typer.Option(help="The address of the machine of --rank 0: HOST or HOST:PORT.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print metrics.json to stdout instead of a table.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
