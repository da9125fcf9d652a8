"""The options of the commands that train. Each is sugar for the recipe key in its help; the command line wins."""

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
    str | None, typer.Option(help="The weights to start from: a folder, a Hub id, pkg://PACKAGE/PATH. [model.name]")
]
ModelOrNetworkOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The weights to start from: a folder, a Hub id, pkg://PACKAGE/PATH; or a fresh network of the kind before "
        "transformers: rnn, lstm, gru, cnn, bag. [model.name]",
    ),
]
TrainOption = Annotated[
    str | None, typer.Option(help="The training rows: csv, tsv, jsonl, parquet, a folder. [data.train]")
]
CorpusOption = Annotated[
    str | None, typer.Option("--train", help="The corpus: txt, jsonl, parquet, a folder of them. [data.train]")
]
EncoderOption = Annotated[str | None, typer.Option(help="An encoder that reads, beside --decoder. [model.encoder]")]
DecoderOption = Annotated[str | None, typer.Option(help="An encoder that learns to write. [model.decoder]")]
FromConfigOption = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPE", help="Fresh weights of a shape, such as bert-mini or modernbert-tiny. [model.from_config]"
    ),
]
Seq2SeqFromConfigOption = Annotated[
    str | None,
    typer.Option(
        "--from-config", metavar="SHAPE", help="Fresh weights of a shape: t5-mini, bart-mini ... [model.from_config]"
    ),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option("--tokenizer", help="The tokenizer, where it is not the model's own. [model.tokenizer]"),
]
ValidationOption = Annotated[str | None, typer.Option(help="Rows to choose the best checkpoint by. [data.validation]")]
TestOption = Annotated[str | None, typer.Option(help="Rows to report on. [data.test]")]
TextOption = Annotated[str | None, typer.Option(help="The column of the text. [data.columns.text]")]
TextPairOption = Annotated[
    str | None, typer.Option(help="The column of the second text, where rows are pairs. [data.columns.text_pair]")
]
LabelOption = Annotated[str | None, typer.Option(help="The column of the label. [data.columns.label]")]
EpochsOption = Annotated[float | None, typer.Option(help="How often each row is seen. [train.num_train_epochs]")]
LoraOption = Annotated[
    bool | None,
    typer.Option("--lora", help="Train small matrices beside frozen weights, not all weights. [lora]"),
]
OutputDirOption = Annotated[
    str | None, typer.Option("--output-dir", "-o", help="The run folder. Default: a fresh runs/...")
]
ResumeOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Go on with the unfinished run in this folder, or from this checkpoint of it; alone it is the whole "
        "command. The same command with the same -o does so by itself.",
    ),
]
AllowChangeOption = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="A key that may differ from the run that goes on. May be given again."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Check all, run a few steps, say what the run would take; keep nothing.")
]
ProcessesOption = Annotated[
    int, typer.Option(help="Processes on this machine: one a GPU, or some that share the cores.", show_default=False)
]
MachinesOption = Annotated[
    int, typer.Option(help="Machines that run this same command, each with its own --rank.", show_default=False)
]
MachineRankOption = Annotated[
    int, typer.Option("--rank", help="Which of the machines this is, from 0.", show_default=False)
]
MainAddressOption = Annotated[
    str | None, typer.Option(help="Where the machine of --rank 0 is: HOST or HOST:PORT.", show_default=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print metrics.json to stdout instead of a table.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]
