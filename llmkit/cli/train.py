"""Commands that train: one a task, and `train` for a recipe of any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit import console

if TYPE_CHECKING:
    from llmkit.recipe.schema import Recipe

# What a newcomer types first. Each is sugar for the recipe key in its help; the command line wins.
Words = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="RECIPE|KEY=VALUE",
        help="A recipe file or the name of a shipped one (`llmkit recipes list`), then keys to change, such as "
        "train.learning_rate=3e-5.",
        show_default=False,
    ),
]
Model = Annotated[
    str | None, typer.Option(help="The weights to start from: a folder, a Hub id, pkg://PACKAGE/PATH. [model.name]")
]
Train = Annotated[str | None, typer.Option(help="The training rows: csv, tsv, jsonl, parquet, a folder. [data.train]")]
Corpus = Annotated[
    str | None, typer.Option("--train", help="The corpus: txt, jsonl, parquet, a folder of them. [data.train]")
]
FromConfig = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPE", help="Fresh weights of a shape, such as bert-mini or modernbert-tiny. [model.from_config]"
    ),
]
TokenizerName = Annotated[
    str | None,
    typer.Option("--tokenizer", help="The tokenizer, where it is not the model's own. [model.tokenizer]"),
]
Validation = Annotated[str | None, typer.Option(help="Rows to choose the best checkpoint by. [data.validation]")]
Test = Annotated[str | None, typer.Option(help="Rows to report on. [data.test]")]
Text = Annotated[str | None, typer.Option(help="The column of the text. [data.columns.text]")]
TextPair = Annotated[
    str | None, typer.Option(help="The column of the second text, where rows are pairs. [data.columns.text_pair]")
]
Label = Annotated[str | None, typer.Option(help="The column of the label. [data.columns.label]")]
Epochs = Annotated[float | None, typer.Option(help="How often each row is seen. [train.num_train_epochs]")]
Output = Annotated[str | None, typer.Option("--output-dir", "-o", help="The run folder. Default: a fresh runs/...")]
Resume = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Go on with the unfinished run in this folder, or from this checkpoint of it; alone it is the whole "
        "command. The same command with the same -o does so by itself.",
    ),
]
AllowChange = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY", help="A key that may differ from the run that goes on. May be given again."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check all, run a few steps, say what the run would take; keep nothing.")
]
Json = Annotated[bool, typer.Option("--json", help="Print metrics.json to stdout instead of a table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]


def finetune_classify(
    words: Words = None,
    model: Model = None,
    train: Train = None,
    validation: Validation = None,
    test: Test = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Label = None,
    epochs: Epochs = None,
    output_dir: Output = None,
    resume: Resume = None,
    allow_change: AllowChange = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Train a classifier of texts, or of pairs of texts.

    One class of several; classify.kind=multi: any number of labels; classify.kind=regression: a number.

    llmkit finetune-classify --train reviews.csv
    """
    carry_out(words, as_json, dry_run, "classify", resume, allow_change, model=model, train=train,
              validation=validation, test=test, text=text, text_pair=text_pair, label=label, epochs=epochs,
              output_dir=output_dir)  # fmt: skip


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
    output_dir: Output = None,
    resume: Resume = None,
    allow_change: AllowChange = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Train a masked language model on text: from fresh weights, or on from those of a model.

    llmkit pretrain-mlm --train corpus.txt --model google-bert/bert-base-uncased

    llmkit pretrain-mlm --train corpus.txt --from-config bert-mini --tokenizer tok/
    """
    carry_out(words, as_json, dry_run, "mlm", resume, allow_change, model=model, from_config=from_config,
              tokenizer=tokenizer, train=train, validation=validation, test=test, text=text, epochs=epochs,
              output_dir=output_dir)  # fmt: skip


def train_any(
    words: Words = None,
    model: Model = None,
    train: Train = None,
    validation: Validation = None,
    test: Test = None,
    epochs: Epochs = None,
    output_dir: Output = None,
    resume: Resume = None,
    allow_change: AllowChange = None,
    dry_run: DryRun = False,
    as_json: Json = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Run a recipe of any task.

    llmkit train runs/x/recipe.yaml
    """
    carry_out(words, as_json, dry_run, None, resume, allow_change, model=model, train=train, validation=validation,
              test=test, epochs=epochs, output_dir=output_dir)  # fmt: skip


def carry_out(
    words: list[str] | None,
    as_json: bool,
    dry_run: bool,
    task: str | None,
    resume: str | None,
    allow_change: list[str] | None,
    **flags: Any,
) -> None:
    """Train, print the table, and say what to type next; or with `dry_run` print the plan."""
    from llmkit.recipe.load import load_recipe

    recipe, overrides = divided(words or [])
    if resume is not None and not words and not any(value is not None for value in flags.values()):
        from llmkit.training.resuming import place_of, recipe_of

        checked = recipe_of(place_of(resume)[0])
    else:
        checked = load_recipe(recipe, overrides, task=task, **flags)
    if dry_run:
        show_plan(checked, as_json)
        return
    from llmkit import tasks
    from llmkit.report.tables import show
    from llmkit.training.run import train

    run = train(checked, resume=resume, allow_change=allow_change or ())
    if as_json:
        console.out_json({"run": str(run.path)} | run.scores())
        return
    if run.report:
        show(run.report, "this run")
    console.out(f"\nThe model is in {run.path / 'model'}. Next:")
    for line in tasks.load(checked.task).next_commands:
        console.out(f"  llmkit {line.replace('{run}', str(run.path))}")


def show_plan(recipe: Recipe, as_json: bool) -> None:
    """Measure and print what the run would do and take."""
    from llmkit.report.plan import show
    from llmkit.training.plan import plan

    found = plan(recipe)
    if as_json:
        console.out_json(found.as_dict())
    else:
        show(found)
        console.out("Nothing was kept. The same command without --dry-run runs it.")


def divided(words: list[str]) -> tuple[str | None, list[str]]:
    """The recipe's name, where the first word is no KEY=VALUE, and the overrides."""
    if words and ("=" not in words[0] or Path(words[0]).is_file()):
        return words[0], words[1:]
    return None, words


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("pretrain-mlm")(pretrain_mlm)
    app.command("finetune-classify")(finetune_classify)
    app.command("train")(train_any)
