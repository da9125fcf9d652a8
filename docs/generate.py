"""Write the reference under docs/ from the code: commands.md, recipe.md, metrics.md and the tree of architecture.md.

    python docs/generate.py [--check]

With --check nothing is written; where a file is not what the code says, its first such line is named and the exit
code is 1.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.testing import CliRunner

from llmkit import errors, tasks
from llmkit.cli import llmkit_app
from llmkit.evaluation.baselines import BASELINES
from llmkit.metrics import Score
from llmkit.metrics.text import summarization, translation
from llmkit.recipe import hf, load, validation_messages
from llmkit.schema import Recipe, TrainSection
from llmkit.tasks.base import Prediction, Task
from llmkit.tasks.classify import Classify, ClassifyOptions
from llmkit.tasks.mlm import Mlm

HERE = Path(__file__).parent
HEAD = "<!-- Written by docs/generate.py from the code; `make docs` writes it again. -->\n\n"
TREE_BEGIN = "<!-- tree: written by docs/generate.py from the first sentence of each module -->"
TREE_END = "<!-- end of tree -->"
PLAIN = {"COLUMNS": "80", "LINES": "24"}  # whatever the terminal of whoever runs this
WORDS: Mapping[object, str] = {
    int: "whole number", float: "number", str: "text", bool: "true or false", list: "list", dict: "mapping",
}  # fmt: skip
RANGES = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
METRICS = {
    "accuracy": "The share of rows that are answered rightly.",
    "macro_precision": "Precision of each label (of the rows that got it, the share that deserves it), then the mean.",
    "macro_recall": "Recall of each label (of the rows that deserve it, the share that got it), then the mean.",
    "macro_f1": "F1 of each label (the harmonic mean of its precision and recall), then the mean: rare labels count "
    "as much as frequent ones.",
    "micro_precision": "Precision over all rows at once; with one label a row it equals accuracy.",
    "micro_recall": "Recall over all rows at once; with one label a row it equals accuracy.",
    "micro_f1": "F1 over all rows at once; with one label a row it equals accuracy.",
    "weighted_precision": "As macro_precision, each label weighted by its number of rows.",
    "weighted_recall": "As macro_recall, each label weighted by its number of rows; it equals accuracy.",
    "weighted_f1": "As macro_f1, each label weighted by its number of rows.",
    "mcc": "Matthews' correlation of answers and references: 1 all right, 0 no better than chance, down to -1.",
    "roc_auc": "How often a row of a label is given a higher probability of it than a row without it; the mean over "
    "labels.",
    "average_precision": "The area under precision over recall as the threshold falls; the mean over labels.",
    "brier": "The mean squared distance of the probabilities from what was the case: 0 is perfect.",
    "log_loss": "The mean negative logarithm of the probability of what was the case: 0 is perfect.",
    "ece": "How far probabilities are from the shares that come true, over bins of them: 0 is calibrated.",
    "subset_accuracy": "The share of rows whose labels are all right, none missing and none too many.",
    "hamming_loss": "The share of wrong yes-or-no answers over all rows and labels: 0 is perfect.",
    "samples_precision": "Precision of the labels of each row, then the mean over rows.",
    "samples_recall": "Recall of the labels of each row, then the mean over rows.",
    "samples_f1": "F1 of the labels of each row, then the mean over rows.",
    "pearson": "The linear correlation of answers and references.",
    "spearman": "The correlation of their ranks.",
    "mae": "The mean absolute error, in the file's units.",
    "rmse": "The root of the mean squared error, in the file's units.",
    "r2": "The share of the references' variance that the answers explain; below 0: worse than their mean.",
    "loss": "The mean negative logarithm, in nats, of the probability of a hidden token.",
    "perplexity": "Its exponential: among how many equally likely tokens the model is torn.",
    "masked_accuracy": "The share of hidden tokens that the model finds likeliest.",
    "pseudo_perplexity": "As perplexity, over all tokens, each hidden alone (one forward pass a token: slow).",
    "rougeL": "F1 of the longest sequence of words that answer and reference both have in that order, gaps allowed; of "
    "several references the best; the mean over rows. 0 to 1. Lin 2004.",
    "rouge1": "As rougeL, of the words that both have in any order.",
    "rouge2": "As rougeL, of the pairs of neighbouring words that both have.",
    "rougeLsum": "As rougeL, line by line: each line of the reference with all lines of the answer.",
    "chrf": "F2 of the runs of 1 to 6 characters that answers and references share, of all rows at once. 0 to 1. "
    "Popović 2015.",
    "length_ratio": "The words of all answers over the words of all references (of several a row their mean): 1 is as "
    "long, 0 and up.",
    "repetition": "The share of an answer's runs of three words that stood in it before; the mean over rows. 0 to 1, 0 "
    "is best. Welleck et al. 2020 (seq-rep-3).",
    "copy": "Coverage: the share of an answer's words that stand in a fragment copied from the source; the mean over "
    "rows. 0 to 1. Grusky et al. 2018.",
    "density": "The mean length of the copied fragment that a word of the answer stands in; the mean over rows. 0 and "
    "up. Grusky et al. 2018.",
    "novelty": "The share of an answer's pairs of neighbouring words that the source has not; the mean over rows. "
    "0 to 1. See et al. 2017.",
    "bleu": "The geometric mean of the shares of an answer's runs of 1 to 4 words that its references have, less for "
    "answers that are too short; of all rows at once. 0 to 1. Papineni et al. 2002.",
    "ter": "Edits (a word put in, taken out, replaced, or a run of words moved) for each word of the references. 0 and "
    "up, 0 is best. Snover et al. 2006.",
}
TRUE, SAID = ["a", "b", "a", "b"], [0.9, 0.4, 0.6, 0.2]
# Each kind of question with four rows, so that the signatures are those of the code.
EXAMPLES: dict[str, tuple[str, list[Any], list[Prediction]]] = {
    "classify, one class; sentiment": (
        "single", TRUE, [Prediction("ab"[p < 0.5], {"a": p, "b": 1 - p}) for p in SAID],
    ),
    "classify, several labels (`classify.kind=multi`)": (
        "multi", [["a"], ["b"], ["a", "b"], []], [Prediction(["a"] * (p > 0.5), {"a": p, "b": 1 - p}) for p in SAID],
    ),
    "classify, a number (`classify.kind=regression`); `sentiment.classes=score`": (
        "regression", [1.0, 2.0, 3.0, 5.0], [Prediction(p) for p in SAID],
    ),
}  # fmt: skip
# Generated text in rows of one reference.
WRITTEN = {
    "summarize": (summarization.score_summaries, summarization.SUMMARY_METRICS),
    "translate": (translation.score_translations, translation.TRANSLATION_METRICS),
}
SAYS = ["a cat sat", "a dog ran off", "the end", "no one"]
SUMS = {"loss": 3.0, "masked": 2.0, "correct": 1.0, "pseudo_loss": 9.0, "tokens": 4.0}


def pages() -> dict[str, str]:
    """The text of every generated file, by its name in docs/."""
    return {
        "architecture.md": architecture_page(),
        "commands.md": commands_page(),
        "recipe.md": recipe_page(),
        "metrics.md": metrics_page(),
    }


def architecture_page() -> str:
    """The text of architecture.md: written by hand but for its tree, a line a file with the module's first sentence."""
    before, rest = (HERE / "architecture.md").read_text(encoding="utf-8").split(TREE_BEGIN)
    return f"{before}{TREE_BEGIN}\n\n{format_tree(HERE.parent / 'llmkit')}\n{TREE_END}{rest.split(TREE_END)[1]}"


def format_tree(folder: Path, depth: int = 0) -> str:
    """The files of a package as an indented list: packages with their sentence, then their modules, then their rooms."""
    indent = "    " * (depth + 1)
    text = f"{indent}{folder.name}/  {first_sentence(folder / '__init__.py')}\n"
    for path in sorted(folder.glob("*.py")):
        if path.name != "__init__.py":
            text += f"{indent}    {path.name}  {first_sentence(path)}\n"
    rooms = sorted(path.parent for path in folder.glob("*/__init__.py"))
    return text + "".join(format_tree(room, depth + 1) for room in rooms)


def first_sentence(path: Path) -> str:
    """The first sentence of a module's docstring."""
    paragraph = one_line(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))
    return re.split(r"(?<=[.:]) (?=[A-Z`])", paragraph)[0].rstrip(":")


def commands_page() -> str:
    """The text of commands.md: each command's --help, as printed."""
    text = HEAD + "# Commands\n\nWhat `--help` prints. Exit codes are at the end.\n"
    for words in [[], *commands(llmkit_app)]:
        title = " ".join(["llmkit", *words])
        text += f"\n## {title}\n\n```text\n{help_text(words)}\n```\n"
    return text + "\n## Exit codes\n\n" + table(["code", "meaning"], exit_codes())


def exit_codes() -> list[list[str]]:
    """Each exit code and the kinds of mistake that have it."""
    meanings: dict[int, list[str]] = {0: ["Done."], 130: ["Ctrl-C."]}
    for kind in errors.LlmkitError.__subclasses__():
        meanings.setdefault(kind.exit_code, []).append(one_line(kind.__doc__))
    return [[str(code), " ".join(said)] for code, said in sorted(meanings.items())]


def commands(group: typer.Typer, before: Sequence[str] = ()) -> Iterator[list[str]]:
    """The words of every command and group below `group`, in the order in which --help lists them."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield [*before, command.name or command.callback.__name__.replace("_", "-")]
    for inner in group.registered_groups:
        assert inner.name
        assert inner.typer_instance is not None
        yield [*before, inner.name]
        yield from commands(inner.typer_instance, [*before, inner.name])


def help_text(words: Sequence[str]) -> str:
    """What `llmkit WORDS --help` prints on a terminal of 80 columns."""
    result = CliRunner().invoke(llmkit_app, [*words, "--help"], prog_name="llmkit", env=PLAIN)
    assert result.exit_code == 0, result.output
    return "\n".join(line.rstrip() for line in result.output.strip().split("\n"))


RECIPE_HEAD = """# The recipe

A recipe is a YAML file that describes a run. Every key may also stand on the command line as `KEY=VALUE`, such as
`train.learning_rate=3e-5`; the command line wins. Only keys that differ from their default need to be written.
A default of `-` means that nothing is set.
"""


def recipe_page() -> str:
    """The text of recipe.md: every key, section by section, and what stands under train.hf."""
    text = HEAD + RECIPE_HEAD
    own = {name: about for name, about in Recipe.model_fields.items() if name not in validation_messages.HIDDEN_FIELDS}
    text += "\n## At the top\n\n" + keys(
        {n: f for n, f in own.items() if not validation_messages.get_section_type(f)}, ""
    )
    for name, about in own.items():
        if inner := validation_messages.get_section_type(about):
            text += section_text(name, inner)
    for name in tasks.list_tasks():
        kind = tasks.load_task(name)
        text += section_text(name, kind.Options) + "\n" + task_text(kind)
    flags = [[f"`--{word.replace('_', '-')}`", f"`{key}`"] for word, key in load.KEY_BY_FLAG.items()]
    text += "\n## Flags that stand for a key\n\nThe same words are the arguments of `llmkit.train` in Python.\n\n"
    return text + table(["flag", "key"], flags) + hf_text()


def section_text(name: str, model: type[BaseModel], level: str = "##") -> str:
    """One section's heading and keys, then the sections inside it."""
    inner = {
        f"{name}.{key}": found
        for key, about in model.model_fields.items()
        if (found := validation_messages.get_section_type(about))
    }
    plain = {key: about for key, about in model.model_fields.items() if not validation_messages.get_section_type(about)}
    text = f"\n{level} {name}\n\n{one_line(model.__doc__)}\n\n{keys(plain, f'{name}.')}"
    return text + "".join(section_text(dotted, found, level + "#") for dotted, found in inner.items())


def keys(fields: Mapping[str, FieldInfo], prefix: str) -> str:
    """A table of keys."""
    rows = [
        [f"`{prefix}{name}`", holds(about.annotation, about.metadata), default(about), one_line(about.description)]
        for name, about in fields.items()
    ]
    return table(["key", "holds", "default", "what it does"], rows)


def task_text(kind: type[Task]) -> str:
    """The words that stand under data.columns for a task, and what eval may name."""
    words = [[f"`data.columns.{word}`", what] for word, what in kind.columns.items()]
    metrics, usual, held = (
        ", ".join(f"`{name}`" for name in names) for names in (kind.known_metrics, kind.metrics, kind.baselines)
    )
    return (
        f"{table(['column', 'holds'], words)}\n"
        f"- `eval.metrics` may name {metrics}; the default is {usual}.\n"
        f"- `eval.baselines` may name {held}; the default is all of them.\n"
        "- [metrics.md](metrics.md) says what each one is.\n"
    )


def hf_text() -> str:
    """What train.hf passes on, and what it refuses."""
    elsewhere = hf.KEY_BY_HF_FIELD | {
        name: f"train.{name}" for name in TrainSection.model_fields if name in hf.list_hf_fields()
    }
    free = sorted(hf.list_hf_fields() - hf.RESERVED_HF_FIELDS - elsewhere.keys())
    text = "\n## train.hf\n\nThese fields of TrainingArguments are passed on as they stand:\n\n"
    text += ", ".join(f"`{name}`" for name in free) + ".\n\nThese have a place of their own:\n\n"
    text += table(["field", "write instead"], [[f"`{name}`", where] for name, where in sorted(elsewhere.items())])
    ours = ", ".join(f"`{name}`" for name in sorted(hf.RESERVED_HF_FIELDS & hf.list_hf_fields()))
    return text + f"\nllmkit decides these itself, so they are refused: {ours}.\n"


def metrics_page() -> str:
    """The text of metrics.md: each metric with its signature, by what is asked; each baseline."""
    text = (
        HEAD + "# Metrics and baselines\n\nEvery score has a 95 % interval and a signature, which says how both were "
    )
    text += "computed; [numbers.md](numbers.md) says what they mean. Shares are fractions.\n"
    for title, (kind, references, answers) in EXAMPLES.items():
        task = Classify(ClassifyOptions(kind=kind))
        task.problem_type.labels = [] if kind == "regression" else ["a", "b"]
        text += metrics_table(title, task.known_metrics, task.score(task.known_metrics, references, answers))
    answers = [Prediction(None, extra={"sums": SUMS})] * 4
    text += metrics_table("mlm", Mlm.known_metrics, Mlm().score(Mlm.known_metrics, [None] * 4, answers))
    for title, (score, names) in WRITTEN.items():
        scores = score(names, [[text] for text in SAYS], SAYS, SAYS, False)
        text += metrics_table(title, names, scores)
    baselines = [[f"`{name}`", one_line(function.__doc__)] for name, function in BASELINES.items()]
    return text + "\n## Baselines\n\n" + table(["baseline", "what it answers"], baselines)


def metrics_table(title: str, names: Sequence[str], scores: Mapping[str, Score]) -> str:
    """A heading and a table of metrics."""
    rows = []
    for name in names:
        signature = re.sub(
            r"\b(scikit-learn|scipy|llmkit|tok:rouge_score|version)([ :])[\w.]+", r"\1\2VERSION", scores[name].signature
        )
        rows.append([f"`{name}`", METRICS[name], f"`{signature}`"])
    return f"\n## {title}\n\n" + table(["metric", "what it is", "signature"], rows)


def holds(annotation: Any, constraints: Sequence[Any] = ()) -> str:
    """A type and its range in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        more = [found for item in inner[1:] for found in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return holds(inner[0], [*constraints, *more])
    if origin in (Union, types.UnionType):
        words = [holds(kind, constraints) for kind in inner if kind is not type(None)]
    elif origin is Literal:
        words = ["one of " * (len(inner) > 1) + ", ".join(f"`{word}`" for word in inner)]
    elif origin is list:
        words = [f"list of {holds(inner[0])}s"]
    elif origin is dict:
        words = ["mapping" if inner[1] is Any else f"mapping to {holds(inner[1])}"]
    else:
        words = [", ".join([WORDS.get(annotation, str(annotation)), *limits(constraints)])]
    return " or ".join(words)


def limits(constraints: Sequence[Any]) -> list[str]:
    """`at least 1` and its like from pydantic's constraints."""
    return [
        f"{word} {getattr(item, key):g}" if getattr(item, key) < 1e6 else f"{word} {getattr(item, key)}"
        for item in constraints
        for key, word in RANGES.items()
        if hasattr(item, key)
    ]


def default(about: FieldInfo) -> str:
    """A default as a recipe would spell it; `-` where nothing is set."""
    if about.default is PydanticUndefined:
        return "required"
    return "-" if about.default is None else f"`{about.default}`"


def one_line(text: str | None) -> str:
    """A docstring's first paragraph on one line."""
    return " ".join((text or "").strip().split("\n\n")[0].split())


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def first_difference(path: Path, wanted: str) -> str | None:
    """`FILE:LINE: ...` where the file is not `wanted`, else None."""
    found = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = zip_longest(found.split("\n"), wanted.split("\n"))
    for number, (there, here) in enumerate(lines, start=1):
        if there != here:
            return f"{path}:{number}: not what the code says; mend it with make docs\n  file: {there}\n  code: {here}"
    return None


def main(words: Sequence[str] | None = None, folder: Path = HERE) -> int:
    """Write the pages into `folder`, or compare them; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args(words).check
    differences = []
    for name, text in pages().items():
        if check:
            differences += [found] if (found := first_difference(folder / name, text)) else []
        else:
            (folder / name).write_text(text, encoding="utf-8")
    print("\n".join(differences), end="\n" if differences else "", file=sys.stderr)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
