"""The command `data clean`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from llmkit import console
from llmkit.cli.options import DebugOption

COUNT_COLUMNS = ("documents_changed", "characters_removed", "documents_dropped")

data_app = typer.Typer(help="Prepare a corpus.", rich_markup_mode=None)


@data_app.callback(invoke_without_command=True)
def data_group(context: typer.Context) -> None:
    """Prepare a corpus."""
    if context.invoked_subcommand is None:
        console.print_result(context.get_help())


@data_app.command("clean")
def clean_command(
    corpus: Annotated[
        list[str],
        typer.Argument(
            metavar="CORPUS...",
            help="Files (.txt .html .jsonl .parquet .csv, also .gz), folders of them, pkg://PACKAGE/PATH, Hub ids.",
        ),
    ],
    output_dir: Annotated[
        str, typer.Option("--output-dir", "-o", help="A new folder, which llmkit pretrain-mlm --train can read.")
    ],
    document: Annotated[
        str,
        typer.Option(
            metavar="line|block|file",
            help="The unit of a text file that is one document; always file for HTML.",
        ),
    ] = "line",
    column: Annotated[
        str | None, typer.Option("--text", "--column", help="The column of the texts, if the corpus is a table.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="The encoding of the files.")] = "utf-8",
    skip: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Steps to leave out: html broken control form whitespace duplicates near."),
    ] = None,
    also: Annotated[str | None, typer.Option(metavar="A,B", help="Steps to add: lowercase punctuation.")] = None,
    only: Annotated[str | None, typer.Option(metavar="A,B", help="Run only these steps.")] = None,
    chars: Annotated[
        str | None,
        typer.Option(
            metavar="MIN:MAX", help="Keep documents with this many characters; either end may be left out, as in 100:"
        ),
    ] = None,
    words: Annotated[
        str | None,
        typer.Option(metavar="MIN:MAX", help="Keep documents with this many words; in Chinese, characters."),
    ] = None,
    script: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Keep documents with at least half of their letters in these scripts: latin, han, arabic ...",
        ),
    ] = None,
    near: Annotated[
        float | None,
        typer.Option(
            help="Drop documents with at least this similarity (0 to 1) to an earlier one; takes 3 kB of memory for "
            "each document. Default: 0.8."
        ),
    ] = None,
    stop_words: Annotated[
        str | None, typer.Option(metavar="FILE|english", help="Remove these words; a file has one word in each line.")
    ] = None,
    form: Annotated[str, typer.Option(metavar="NFC|NFKC", help="The Unicode normalization form.")] = "NFC",
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one for each core.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print report.json to stdout instead of a table.")] = False,
    debug: DebugOption = False,  # noqa: ARG001
) -> None:
    """Clean a corpus: HTML, broken characters, spaces, duplicates; count the effect of each step.

    llmkit data clean corpus/ -o clean/ --words 20: --script latin
    """
    from llmkit.data.cleaning.run import clean

    options: dict[str, Any] = {} if near is None else {"near": near}
    report = clean(
        corpus, output_dir, document=document, column=column, encoding=encoding,  # type: ignore[arg-type]
        skip=split_names(skip), also=split_names(also), only=split_names(only), chars=chars, words=words,
        script=split_names(script), stop_words=stop_words, form=form, workers=workers, **options,  # type: ignore[arg-type]
    )  # fmt: skip
    if as_json:
        console.print_json(report)
    else:
        print_cleaning_report(report, output_dir)


def split_names(names: str | None) -> list[str]:
    """Return the names in a comma-separated list."""
    return [name.strip() for name in (names or "").split(",") if name.strip()]


def print_cleaning_report(report: dict[str, Any], folder: str) -> None:
    """Print the effect of each step, and examples of dropped documents."""
    steps = report["steps"]
    rows = [
        (one["step"], *(f"{one[key]:,}" if one[key] else "" for key in COUNT_COLUMNS), one["about"]) for one in steps
    ]
    counts = [key.replace("_", " ") for key in COUNT_COLUMNS]
    console.print_table(["step", *counts, "description"], rows, {1, 2, 3})
    examples = [(one["step"], e["source"], e["why"], e["text"]) for one in steps for e in one["dropped"]]
    if examples:
        console.print_result()
        console.print_table(["dropped by", "where", "why", "text"], examples)
    documents, characters = report["documents"], report["characters"]
    console.print_result(
        f"\n{documents['kept']:,} of {documents['read']:,} documents and {characters['kept']:,} of "
        f"{characters['read']:,} characters kept in {folder}"
    )
