"""Commands that train: one a task, and `train` for a recipe of any."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit import console
from llmkit.errors import UsageError

if TYPE_CHECKING:
    from llmkit.recipe.schema import Recipe
    from llmkit.runs.launchers import Places

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
Weights = Annotated[
    str | None,
    typer.Option(
        "--model",
        help="The weights to start from: a folder, a Hub id, pkg://PACKAGE/PATH; or a fresh network of the kind before "
        "transformers: rnn, lstm, gru, cnn, bag. [model.name]",
    ),
]
Train = Annotated[str | None, typer.Option(help="The training rows: csv, tsv, jsonl, parquet, a folder. [data.train]")]
Corpus = Annotated[
    str | None, typer.Option("--train", help="The corpus: txt, jsonl, parquet, a folder of them. [data.train]")
]
Encoder = Annotated[str | None, typer.Option(help="An encoder that reads, beside --decoder. [model.encoder]")]
Decoder = Annotated[str | None, typer.Option(help="An encoder that learns to write. [model.decoder]")]
FromConfig = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPE", help="Fresh weights of a shape, such as bert-mini or modernbert-tiny. [model.from_config]"
    ),
]
WritersShape = Annotated[
    str | None,
    typer.Option(
        "--from-config", metavar="SHAPE", help="Fresh weights of a shape: t5-mini, bart-mini ... [model.from_config]"
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
Lora = Annotated[
    bool | None,
    typer.Option("--lora", help="Train small matrices beside frozen weights, not all weights. [lora]"),
]
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
Processes = Annotated[
    int, typer.Option(help="Processes on this machine: one a GPU, or some that share the cores.", show_default=False)
]
Machines = Annotated[
    int, typer.Option(help="Machines that run this same command, each with its own --rank.", show_default=False)
]
MachineRank = Annotated[int, typer.Option("--rank", help="Which of the machines this is, from 0.", show_default=False)]
MainAddress = Annotated[
    str | None, typer.Option(help="Where the machine of --rank 0 is: HOST or HOST:PORT.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print metrics.json to stdout instead of a table.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]


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


def carry_out(
    task: str | None,
    words: list[str] | None,
    resume: str | None,
    allow_change: list[str] | None,
    processes: int,
    machines: int,
    rank: int,
    main_address: str | None,
    as_json: bool,
    dry_run: bool,
    debug: bool,
    **flags: Any,
) -> None:
    """Train, print the table, and say what to type next; or with `dry_run` print the plan.

    A command hands on all of its options by their names: `flags` are those that FLAGS in recipe/load.py has. On several
    processes or machines the same command runs once for each, and this one waits.
    """
    from llmkit.runs import ranks
    from llmkit.runs.launchers import Places

    places = Places(processes, machines, rank, main_address)
    several = is_to_start(places, dry_run)
    if not several:
        ranks.join()  # before anything can be wrong: what is, is said once
    recipe = asked_for(task, words or [], resume, flags)
    if several:
        going_on = [] if resume is None else ["--resume", resume]
        going_on += [word for key in allow_change or () for word in ("--allow-change", key)]
        start(recipe, places, [*going_on, *(flag for flag, on in (("--json", as_json), ("--debug", debug)) if on)])
    elif dry_run:
        show_plan(recipe, as_json)
    else:
        run_and_show(recipe, resume, allow_change or [], as_json)
        ranks.leave()


def asked_for(task: str | None, words: list[str], resume: str | None, flags: dict[str, Any]) -> Recipe:
    """The recipe of the command line; that of the run to resume, where nothing else is said."""
    from llmkit.recipe.load import load_recipe

    if resume is not None and not words and not any(value is not None for value in flags.values()):
        from llmkit.training.resuming import place_of, recipe_of

        return recipe_of(place_of(resume)[0])
    recipe, overrides = divided(words)
    return load_recipe(recipe, overrides, task=task, **flags)


def is_to_start(places: Places, dry_run: bool) -> bool:
    """Whether this process is to start others."""
    several = places.to_start()
    if several and dry_run:
        what = "--dry-run measures one process, and --processes asks for several"
        raise UsageError(what, "leave one of them out")
    return several


def start(recipe: Recipe, places: Places, flags: list[str]) -> None:
    """Run the recipe on several processes, and leave with their exit code."""
    from llmkit.training.launch import start

    if code := start(recipe, places, flags):
        raise typer.Exit(code)


def run_and_show(recipe: Recipe, resume: str | None, allow_change: list[str], as_json: bool) -> None:
    """Train in this process, and print what came of it."""
    from llmkit import tasks
    from llmkit.report.tables import show
    from llmkit.training.run import train

    run = train(recipe, resume=resume, allow_change=allow_change)
    if as_json:
        console.out_json({"run": str(run.path)} | run.scores())
        return
    if run.report:
        show(run.report, "this run")
    console.out(f"\nThe model is in {run.path / 'model'}. Next:")
    for line in tasks.load(recipe.task).next_commands:
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
    app.command("finetune-sentiment")(finetune_sentiment)
    app.command("finetune-summarize")(finetune_summarize)
    app.command("finetune-translate")(finetune_translate)
    app.command("train")(train_any)
