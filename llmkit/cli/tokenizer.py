"""Commands about tokenizers: `train` makes one, `report` says what one makes of a corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit import console
from llmkit.data.row_errors import pluralize
from llmkit.errors import LlmkitError

if TYPE_CHECKING:
    from llmkit.models.tokenizer_training.fertility import Fertility

tokenizer_app = typer.Typer(help="Train a tokenizer, or see what one makes of a corpus.", rich_markup_mode=None)
# What a recipe calls a setting of the corpus, and what these commands call it.
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
    str, typer.Option(metavar="line|block|file", help="What a document of a text file is; blank lines part blocks.")
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME", help="The column of the texts, where the corpus is a table; several times: the texts of all."
    ),
]
EncodingOption = Annotated[str, typer.Option(help="The encoding of the files.")]
JsonReportOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of a table.")]
TokenizerDebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]


@tokenizer_app.callback(invoke_without_command=True)
def tokenizer_group(context: typer.Context) -> None:
    """Train a tokenizer, or see what one makes of a corpus."""
    if context.invoked_subcommand is None:
        console.print_result(context.get_help())


@tokenizer_app.command()
def train_tokenizer_command(
    corpus: CorpusArgument,
    output_dir: Annotated[str, typer.Option("--output-dir", "-o", help="The folder to make.")],
    kind: Annotated[
        str,
        typer.Option(
            metavar="wordpiece|bpe|unigram",
            help="wordpiece: as BERT, each Chinese character a word. bpe: as RoBERTa, in bytes, so nothing is unknown. "
            "unigram: as XLM-R and T5; long Chinese words too.",
        ),
    ] = "wordpiece",
    vocab_size: Annotated[int, typer.Option(help="Pieces in all, the 5 special tokens among them.")] = 8000,
    max_length: Annotated[int, typer.Option(help="Tokens at which texts will be cut.")] = 512,
    lowercase: Annotated[
        bool, typer.Option("--lowercase/--no-lowercase", help="Take A for a. Accents stay either way.")
    ] = False,
    min_frequency: Annotated[
        int | None,
        typer.Option(
            help="How often two pieces must meet to become one. Default: 2. Not for unigram.", show_default=False
        ),
    ] = None,
    held_back: Annotated[
        float, typer.Option(help="Share of the documents to report on, not to train on; 10,000 at most. 0: none.")
    ] = 0.05,
    document: DocumentOption = "line",
    column: ColumnOption = None,
    encoding: EncodingOption = "utf-8",
    as_json: JsonReportOption = False,
    debug: TokenizerDebugOption = False,  # noqa: ARG001
) -> None:
    """Train a tokenizer on texts, and report on texts that it has not seen.

    The folder is a plain Hugging Face one; report.json lies in it. Corpora larger than memory work.

    llmkit tokenizer train corpus.txt --vocab-size 8000 -o tok
    """
    from llmkit.models.tokenizer_training.train import train_tokenizer

    with translate_corpus_errors():
        trained = train_tokenizer(
            corpus, output_dir=output_dir, kind=kind, vocab_size=vocab_size, lowercase=lowercase,
            max_length=max_length, min_frequency=min_frequency, held_back=held_back, document=document,  # type: ignore[arg-type]
            column=column, encoding=encoding,
        )  # fmt: skip
    if as_json:
        console.print_json(trained.as_dict())
        return
    which = "those held back" if held_back else "the same ones"
    learned = pluralize(trained.training["documents"], "document")
    print_fertility(trained.holdout_fertility, f"{output_dir}: {kind}, {learned} learned from; of {which}:")


@tokenizer_app.command()
def tokenizer_report_command(
    tokenizer: Annotated[
        str, typer.Argument(metavar="TOKENIZER", help="A tokenizer's folder, a run, a model's folder or a Hub id.")
    ],
    corpus: CorpusArgument,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens at which texts are cut. Default: what the tokenizer says.")
    ] = None,
    document: DocumentOption = "line",
    column: ColumnOption = None,
    encoding: EncodingOption = "utf-8",
    as_json: JsonReportOption = False,
    debug: TokenizerDebugOption = False,  # noqa: ARG001
) -> None:
    """Say what a tokenizer makes of a corpus: tokens a word, unknown ones, texts that are too long.

    llmkit tokenizer report google-bert/bert-base-uncased corpus.txt
    """
    from llmkit.models.tokenizer_training.fertility import tokenizer_report

    with translate_corpus_errors():
        found = tokenizer_report(
            tokenizer, corpus, max_length=max_length, document=document,  # type: ignore[arg-type]
            column=column, encoding=encoding,
        )  # fmt: skip
    if as_json:
        console.print_json({"tokenizer": tokenizer, **found.as_dict()})
        return
    print_fertility(found, tokenizer)


def print_fertility(found: Fertility, title: str) -> None:
    """Print the report as a table of two columns."""
    length = found.tokens_a_text
    rows = [
        ["pieces in the vocabulary", f"{found.vocabulary:,}"],
        [f"tokens a {found.per}", f"{found.fertility:.3f}"],
        ["unknown tokens", format_share(found.unknown_rate)],
        ["tokens a text, median", f"{length['median']:,.0f}"],
        ["  a quarter has at most", f"{length['q1']:,.0f}"],
        ["  a quarter has at least", f"{length['q3']:,.0f}"],
        ["  the longest", f"{length['longest']:,}"],
    ]
    if found.cut_rate is not None:
        rows.append([f"texts cut at {found.max_length:,} tokens", format_share(found.cut_rate)])
    console.print_result(title)
    console.print_table(["texts read", f"{found.texts:,}"], rows, {1})


def format_share(value: float) -> str:
    """`0.25 %`; a small share is not said to be none."""
    return f"{value:.2%}".replace("%", " %") if value == 0 or value >= 0.0001 else "under 0.01 %"


@contextmanager
def translate_corpus_errors() -> Iterator[None]:
    """Mistakes in these commands' own words: what reads a corpus speaks of the keys of a recipe."""
    try:
        yield
    except LlmkitError as fault:
        message, hint = (replace_phrases(text, CORPUS_FLAGS) for text in (fault.message, fault.fix))
        raise type(fault)(message, hint, fault.places, fault.count) from fault


def replace_phrases(text: str, words: Mapping[str, Any]) -> str:
    for one, other in words.items():
        text = text.replace(one, other)
    return text
