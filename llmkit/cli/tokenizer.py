"""The commands `tokenizer train` and `tokenizer report`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit import console
from llmkit.cli.options import DebugOption
from llmkit.data.row_errors import pluralize
from llmkit.errors import LlmkitError

if TYPE_CHECKING:
    from llmkit.models.tokenizer_training.fertility import Fertility

tokenizer_app = typer.Typer(help="Train a tokenizer, or measure one on a corpus.", rich_markup_mode=None)
# Recipe keys in the messages of the corpus readers, and the flags of these commands for them.
CORPUS_FLAGS = {
    "data.encoding=": "--encoding ",
    "data.encoding:": "--encoding:",
    "--text": "--column",
    " with --model": "",
}

CorpusArgument = Annotated[
    list[str],
    typer.Argument(metavar="CORPUS...", help="Files of text (.txt, also .gz), tables, folders of them, or Hub ids."),
]
DocumentOption = Annotated[
    str,
    typer.Option(
        metavar="line|block|file", help="The unit of a text file that is one document; blank lines end a block."
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="The column of the texts, if the corpus is a table; repeatable, for the texts of all."
    ),
]
EncodingOption = Annotated[str, typer.Option(help="The encoding of the files.")]
JsonReportOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")]


@tokenizer_app.callback(invoke_without_command=True)
def tokenizer_group(context: typer.Context) -> None:
    """Train a tokenizer, or measure one on a corpus."""
    if context.invoked_subcommand is None:
        console.print_result(context.get_help())


@tokenizer_app.command("train")
def train_tokenizer_command(
    corpus: CorpusArgument,
    output_dir: Annotated[str, typer.Option("--output-dir", "-o", help="The folder to create.")],
    kind: Annotated[
        str,
        typer.Option(
            metavar="wordpiece|bpe|unigram",
            help="wordpiece: as BERT; each Chinese character is a token. bpe: as RoBERTa; byte-level, without unknown "
            "tokens. unigram: as XLM-R and T5; long Chinese words too.",
        ),
    ] = "wordpiece",
    vocab_size: Annotated[int, typer.Option(help="Size of the vocabulary, with the 5 special tokens.")] = 8000,
    max_length: Annotated[int, typer.Option(help="Tokens at which texts are truncated.")] = 512,
    lowercase: Annotated[
        bool, typer.Option("--lowercase/--no-lowercase", help="Convert texts to lower case; accents are kept.")
    ] = False,
    min_frequency: Annotated[
        int | None,
        typer.Option(
            help="How often two tokens must be adjacent to be merged. Default: 2. Not for unigram.", show_default=False
        ),
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="Share of the documents to hold out for the report; 10,000 at most. 0: none.")
    ] = 0.05,
    document: DocumentOption = "line",
    column: ColumnOption = None,
    encoding: EncodingOption = "utf-8",
    as_json: JsonReportOption = False,
    debug: DebugOption = False,  # noqa: ARG001
) -> None:
    """Train a tokenizer on texts, and report its fertility on held-out texts.

    The result is a plain Hugging Face folder with a report.json. Corpora larger than memory work.

    llmkit tokenizer train corpus.txt --vocab-size 8000 -o tok
    """
    from llmkit.models.tokenizer_training.train import train_tokenizer

    with translate_corpus_errors():
        trained = train_tokenizer(
            corpus, output_dir=output_dir, kind=kind, vocab_size=vocab_size, lowercase=lowercase,
            max_length=max_length, min_frequency=min_frequency, holdout=holdout, document=document,  # type: ignore[arg-type]
            column=column, encoding=encoding,
        )  # fmt: skip
    if as_json:
        console.print_json(trained.as_dict())
        return
    measured = "held-out documents" if holdout else "the same documents"
    documents = pluralize(trained.training["documents"], "document")
    print_fertility(trained.holdout_fertility, f"{output_dir}: {kind}, trained on {documents}; on {measured}:")


@tokenizer_app.command("report")
def tokenizer_report_command(
    tokenizer: Annotated[
        str, typer.Argument(metavar="TOKENIZER", help="A tokenizer's folder, a run, a model's folder or a Hub id.")
    ],
    corpus: CorpusArgument,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens at which texts are truncated. Default: the tokenizer's own length.")
    ] = None,
    document: DocumentOption = "line",
    column: ColumnOption = None,
    encoding: EncodingOption = "utf-8",
    as_json: JsonReportOption = False,
    debug: DebugOption = False,  # noqa: ARG001
) -> None:
    """Measure a tokenizer on a corpus: tokens per word, unknown tokens, truncated texts.

    llmkit tokenizer report google-bert/bert-base-uncased corpus.txt
    """
    from llmkit.models.tokenizer_training.fertility import tokenizer_report

    with translate_corpus_errors():
        fertility = tokenizer_report(
            tokenizer, corpus, max_length=max_length, document=document,  # type: ignore[arg-type]
            column=column, encoding=encoding,
        )  # fmt: skip
    if as_json:
        console.print_json({"tokenizer": tokenizer, **fertility.as_dict()})
        return
    print_fertility(fertility, tokenizer)


def print_fertility(fertility: Fertility, title: str) -> None:
    """Print the report as a table of two columns."""
    length = fertility.tokens_a_text
    rows = [
        ["vocabulary size", f"{fertility.vocabulary:,}"],
        [f"tokens per {fertility.per}", f"{fertility.fertility:.3f}"],
        ["unknown tokens", format_share(fertility.unknown_rate)],
        ["tokens per text, median", f"{length['median']:,.0f}"],
        ["  first quartile", f"{length['q1']:,.0f}"],
        ["  third quartile", f"{length['q3']:,.0f}"],
        ["  maximum", f"{length['longest']:,}"],
    ]
    if fertility.cut_rate is not None:
        rows.append([f"texts truncated at {fertility.max_length:,} tokens", format_share(fertility.cut_rate)])
    console.print_result(title)
    console.print_table(["texts read", f"{fertility.texts:,}"], rows, {1})


def format_share(value: float) -> str:
    """`0.25 %`; a small share above 0 is not rounded to 0."""
    return f"{value:.2%}".replace("%", " %") if value == 0 or value >= 0.0001 else "under 0.01 %"


@contextmanager
def translate_corpus_errors() -> Iterator[None]:
    """Name the flags of these commands in error messages: the readers of a corpus name the keys of a recipe."""
    try:
        yield
    except LlmkitError as error:
        message, fix = (replace_phrases(text, CORPUS_FLAGS) for text in (error.message, error.fix))
        raise type(error)(message, fix, error.places, error.count) from error


def replace_phrases(text: str, phrases: Mapping[str, str]) -> str:
    """`text` with each key of `phrases` replaced by its value."""
    for old, new in phrases.items():
        text = text.replace(old, new)
    return text
