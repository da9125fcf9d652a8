"""Tests of recipe errors: all mistakes at once, in the order of lines, each with file, line, key and fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llmkit import tasks
from llmkit.errors import LlmkitError, MissingInputError, RecipeError
from llmkit.recipe.load import load_recipe
from llmkit.recipe.validation_messages import KEY_SUGGESTIONS, list_dotted_keys
from llmkit.schema import Recipe
from llmkit.tasks.classify import Classify

HEAD = "task: classify\n"
METRICS = ", ".join(Classify.known_metrics)
TRAIN_ONLY = "train:\n  "
CASES = {
    "near": ("train:\n  lerning_rate: 1\n", "r.yaml:3: train.lerning_rate: unknown key; did you mean 'learning_rate'?"),
    "short": ("train:\n  lr: 1\n", "r.yaml:3: train.lr: unknown key; did you mean 'learning_rate'?"),
    "short, elsewhere": ("lr: 1\n", "r.yaml:2: lr: unknown key; did you mean 'train.learning_rate'?"),
    "elsewhere": ("learning_rate: 1\n", "r.yaml:2: learning_rate: unknown key; did you mean 'train.learning_rate'?"),
    "two homes": ("seed: 1\n", "r.yaml:2: seed: unknown key; did you mean 'data.split.seed' or 'train.seed'?"),
    "top": ("zzz: 1\n", "r.yaml:2: zzz: unknown key; known: task, model, data, train, eval, lora, output_dir"),
    "hidden": ("options: {}\n", "r.yaml:2: options: unknown key; did you mean 'train.optim'?"),
    "in the task": ("classify:\n  class_wights: none\n", "r.yaml:3: classify.class_wights: unknown key; did you mean 'class_weights'?"),
    "merge key": ("data:\n  <<: {train: x}\n", "r.yaml:3: data.<<: unknown key; known: train, validation, test, columns, split, streaming, document_unit, on_leak, on_empty, encoding, delimiter, quoting"),
    "quoted number": ("train:\n  learning_rate: '5e-5'\n", "r.yaml:3: train.learning_rate: '5e-5' is not a number; write it without quotes"),
    "word for number": ("train:\n  seed: many\n", "r.yaml:3: train.seed: 'many' is not a whole number"),
    "number in quotes": ("train:\n  seed: '7'\n", "r.yaml:3: train.seed: '7' is not a whole number; write it without quotes"),
    "fraction": ("train:\n  seed: 1.5\n", "r.yaml:3: train.seed: 1.5 is not a whole number"),
    "bool for number": ("train:\n  max_steps: true\n", "r.yaml:3: train.max_steps: true is not a whole number"),
    "number for text": ("model: {name: 3}\n", "r.yaml:2: model.name: 3 is not text; write \"3\", in a shell '\"3\"'"),
    "null": ("train:\n  seed:\n", "r.yaml:3: train.seed: null is not a whole number"),
    "text for list": ("eval:\n  metrics: mcc\n", "r.yaml:3: eval.metrics: 'mcc' is not a list; write [mcc]"),
    "text for section": ("model: bert\n", "r.yaml:2: model: 'bert' is not a mapping of keys"),
    "list for section": ("train: [1]\n", "r.yaml:2: train: [1] is not a mapping of keys"),
    "false for section": ("classify: false\n", "r.yaml:2: classify: false is not a mapping of keys"),
    "long": (f"model: {'x' * 200}\n", f"r.yaml:2: model: '{'x' * 99}... is not a mapping of keys"),
    "empty": ("output_dir: ''\n", "r.yaml:2: output_dir: is empty; leave the key out"),
    "negative": ("train:\n  learning_rate: -1\n", "r.yaml:3: train.learning_rate: -1 is out of range; it must be above 0"),
    "below": ("eval:\n  batch_size: 0\n", "r.yaml:3: eval.batch_size: 0 is out of range; it must be at least 1"),
    "one": ("train:\n  adam_beta1: 1\n", "r.yaml:3: train.adam_beta1: 1 is out of range; it must be below 1"),
    "large": ("train:\n  seed: 4294967296\n", "r.yaml:3: train.seed: 4294967296 is out of range; it must be at most 4294967295"),
    "nan": ("train:\n  learning_rate: .nan\n", "r.yaml:3: train.learning_rate: nan is not a finite number"),
    "inf": ("train:\n  weight_decay: .inf\n", "r.yaml:3: train.weight_decay: inf is not a finite number"),
    "overflow": ("train:\n  learning_rate: 1e999\n", "r.yaml:3: train.learning_rate: inf is not a finite number"),
    "literal": ("train:\n  eval_strategy: step\n", "r.yaml:3: train.eval_strategy: 'step' is not one of no, epoch, steps; did you mean 'steps'?"),
    "far literal": ("data:\n  on_leak: 7\n", "r.yaml:3: data.on_leak: 7 is not one of report, error, drop, ignore"),
    "source": ("data:\n  train: [a.csv, 3]\n", "r.yaml:3: data.train: must be a path, a list of paths, or a mapping label: file"),
    "no source": ("data:\n  train: []\n", "r.yaml:3: data.train: must be a path, a list of paths, or a mapping label: file"),
    "column": ("data:\n  columns: {text: 1}\n", "r.yaml:3: data.columns.text: 1 is not text; write \"1\", in a shell '\"1\"'"),
    "column word": ("data:\n  columns: {texts: a}\n", "r.yaml:3: data.columns.texts: classify has no such column; did you mean 'text'?"),
    "strange word": ("data:\n  columns: {zzz: a}\n", "r.yaml:3: data.columns.zzz: classify has no such column; known: text, text_pair, label"),
    "shares": ("data:\n  split: {validation: 0.5, test: 0.5}\n", "r.yaml:3: data.split: the shares leave no rows to train on; make their sum less than 1"),
    "share": ("data:\n  split: {test: 1}\n", "r.yaml:3: data.split.test: 1 is out of range; it must be below 1"),
    "metric": ("eval:\n  metrics: [acuracy]\n", "r.yaml:3: eval.metrics: unknown metric 'acuracy'; did you mean 'accuracy'?"),
    "norway": ("eval:\n  metrics: [no]\n", f"r.yaml:3: eval.metrics: unknown metric 'no'; known: {METRICS}"),
    "baseline": ("eval:\n  baselines: [majorty]\n", "r.yaml:3: eval.baselines: unknown baseline 'majorty'; did you mean 'majority'?"),
    "weights": ("classify:\n  class_weights: balance\n", "r.yaml:3: classify.class_weights: must be none, balanced, or a mapping label: number above 0"),
    "weight": ("classify:\n  class_weights: {bad: 0}\n", "r.yaml:3: classify.class_weights: must be none, balanced, or a mapping label: number above 0"),
    "smoothing": ("classify:\n  label_smoothing: 1.5\n", "r.yaml:3: classify.label_smoothing: 1.5 is out of range; it must be below 1"),
    "hf own place": ("train:\n  hf: {learning_rate: 1}\n", "r.yaml:3: train.hf.learning_rate: has a key of its own; write train.learning_rate"),
    "hf other place": ("train:\n  hf: {bf16: true}\n", "r.yaml:3: train.hf.bf16: has a key of its own; write train.precision=bf16"),
    "hf decided": ("train:\n  hf: {push_to_hub: true}\n", "r.yaml:3: train.hf.push_to_hub: llmkit sets it; leave it out"),
    "hf near": ("train:\n  hf:\n    torch_compil: true\n", "r.yaml:4: train.hf.torch_compil: TrainingArguments has no such field; did you mean 'torch_compile'?"),
    "outside hf": ("train:\n  torch_compile: true\n", "r.yaml:3: train.torch_compile: unknown key; TrainingArguments has it: write train.hf.torch_compile"),
    "outside hf, own place": ("train:\n  bf16: true\n", "r.yaml:3: train.bf16: has a key of its own; write train.precision=bf16"),
    "outside hf, decided": ("train:\n  fsdp: full_shard\n", "r.yaml:3: train.fsdp: llmkit sets it; leave it out"),
    "batch": ("train:\n  batch_size: 8\n  per_device_train_batch_size: 2\n", "r.yaml:3: train.batch_size: already sets the rows of one step over all devices; leave out per_device_train_batch_size"),
    "accumulation": ("train:\n  gradient_accumulation_steps: 2\n", "r.yaml:3: train.gradient_accumulation_steps: needs per_device_train_batch_size; write both, or only batch_size: the rows of one step"),
    "pass": ("train:\n  max_tokens_per_pass: 0\n", "r.yaml:3: train.max_tokens_per_pass: 0 is out of range; it must be at least 1"),
    "max_steps": ("train:\n  max_steps: 0\n", "r.yaml:3: train.max_steps: 0 is out of range; at least 1, or -1 for none"),
    "how many": ("train:\n  save_strategy: no\n  eval_strategy: steps\n", "r.yaml:4: train.eval_strategy: steps needs eval_steps; write how many"),
    "what for": ("train:\n  save_steps: 3\n", "r.yaml:3: train.save_steps: applies only with save_strategy: steps; write both or none"),
    "best lost": ("train:\n  save_strategy: steps\n  save_steps: 3\n", "r.yaml:3: train.save_strategy: steps with eval_strategy epoch could lose the best checkpoint; make them the same, or write best"),
    "patience": ("train: {eval_strategy: no}\neval: {early_stopping_patience: 2}\n", "r.yaml:3: eval.early_stopping_patience: early stopping needs train.eval_strategy other than 'no'"),
    "unsaved": ("train: {save_strategy: steps, save_steps: 3, eval_strategy: steps,\n  eval_steps: 2}\n", "r.yaml:2: train.save_steps: 3 is not a multiple of eval_steps 2; the best checkpoint could be lost"),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_each_mistake_has_its_message(case: str, refusal: Callable[..., str]) -> None:
    text, sentence = CASES[case]
    assert refusal(HEAD + text) == sentence


@pytest.mark.parametrize("override", ["\n", "\n=", "a\nb=1", "eval.metrics=['a\nb']", 'data.columns={"a\\nb": x}'])
def test_quoted_values_add_no_line_to_a_message(override: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, [override], task="classify")
    assert str(caught.value).startswith("command line: ")
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_reported_in_the_order_of_lines(refusal: Callable[..., str]) -> None:
    text = """\
eval:
  metrics: [f7]
train:
  hf: {nonsense: 1, bf16: true}
  batch_size: 8
  per_device_train_batch_size: 4
  max_steps: 0
  sed: 1
task: classify
data: {columns: {x: y}, split: {test: 2}}
"""
    messages = refusal(text, "model.max_length=0", epochs=-1.0).splitlines()
    assert [line.removeprefix("error: ").split(": ")[:2] for line in messages] == [
        ["r.yaml:2", "eval.metrics"],
        ["r.yaml:4", "train.hf.bf16"],
        ["r.yaml:4", "train.hf.nonsense"],
        ["r.yaml:5", "train.batch_size"],
        ["r.yaml:7", "train.max_steps"],
        ["r.yaml:8", "train.sed"],
        ["r.yaml:10", "data.columns.x"],
        ["r.yaml:10", "data.split.test"],
        ["--epochs", "train.num_train_epochs"],
        ["command line", "model.max_length"],
    ]
    assert [line.startswith("error: ") for line in messages] == [False] + [True] * 9


# Every renamed key: the old dotted key, a value that was valid, and the suggestion.
RENAMED = [
    ("mlm", "mlm.mask_rate=0.2", "mlm_probability"),
    ("mlm", "mlm.mask_share=0.8", "mask_replace_prob"),
    ("mlm", "mlm.random_share=0.1", "random_replace_prob"),
    ("mlm", "mlm.words=jieba", "word_segmenter"),
    ("mlm", "mlm.rows=documents", "packing"),
    ("mlm", "mlm.sparse_head=off", "train.fast_path"),
    ("mlm", "data.document=block", "document_unit"),
    ("classify", "lora.alpha=32", "lora_alpha"),
    ("classify", "lora.dropout=0.1", "lora_dropout"),
    ("classify", "lora.targets=[query]", "target_modules"),
    ("classify", "lora.dora=true", "use_dora"),
    ("classify", "lora.rslora=true", "use_rslora"),
    ("classify", "model.vectors=glove.txt", "word_vectors"),
    ("classify", "eval.validation_rows=100", "max_validation_rows"),
    ("classify", "train.shortcuts=off", "fast_path"),
    *((task, f"{task}.{override}", key) for task in ("summarize", "translate") for override, key in (
        ("beams=4", "num_beams"), ("long=chunk", "long_inputs"), ("characters=words", "score_unit"),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("task", "override", "suggestion"), RENAMED)
def test_a_renamed_key_is_unknown_and_its_new_name_suggested(task: str, override: str, suggestion: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, [override], task=task)
    key = override.partition("=")[0]
    assert str(caught.value) == f"command line: {key}: unknown key; did you mean '{suggestion}'?"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.alpha=32", "train.alpha: unknown key; did you mean 'lora.lora_alpha'?"),
        ("vectors=glove.txt", "vectors: unknown key; did you mean 'model.word_vectors'?"),
    ],
)
def test_a_renamed_key_in_the_wrong_section_is_suggested_where_it_belongs(override: str, sentence: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, [override], task="classify")
    assert str(caught.value) == f"command line: {sentence}"


def test_every_suggested_key_exists() -> None:
    options = [tasks.load_task(name).Options for name in tasks.list_tasks()]
    keys = {dotted.split(".")[-1] for section in (Recipe, *options) for dotted in list_dotted_keys(section)}
    assert set(KEY_SUGGESTIONS.values()) <= keys
    assert not set(KEY_SUGGESTIONS) & keys


def test_a_conflict_with_an_invalid_key_is_not_reported(refusal: Callable[..., str]) -> None:
    text = f"{HEAD}train:\n  eval_strategy: stps\n  eval_steps: 5\n"
    assert (
        refusal(text) == "r.yaml:3: train.eval_strategy: 'stps' is not one of no, epoch, steps; did you mean 'steps'?"
    )


def test_an_unknown_task_does_not_hide_other_mistakes(refusal: Callable[..., str]) -> None:
    text = "task: clasify\nclasify: {x: 1}\ntrain:\n  sed: 1\n"
    assert refusal(text) == (
        "r.yaml:1: task: unknown task 'clasify'; did you mean 'classify'? (or a file: ./my_task.py)\n"
        "error: r.yaml:4: train.sed: unknown key; did you mean 'seed'?"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data: {}\n", f"r.yaml: task: missing; write task: {' | '.join(tasks.list_tasks())}"),
        ("task:\n", f"r.yaml:1: task: missing; write task: {' | '.join(tasks.list_tasks())}"),
        ("task: [classify]\n", "r.yaml:1: task: ['classify'] is not text"),
        (
            "task: zzz\n",
            f"r.yaml:1: task: unknown task 'zzz'; known: {', '.join(tasks.list_tasks())} (or a file: ./my_task.py)",
        ),
        (
            "task: base\n",
            f"r.yaml:1: task: unknown task 'base'; known: {', '.join(tasks.list_tasks())} (or a file: ./my_task.py)",
        ),
    ],
)
def test_a_recipe_must_name_one_task(text: str, sentence: str, refusal: Callable[..., str]) -> None:
    assert refusal(text) == sentence


def test_a_command_rejects_the_recipe_of_another_task(refusal: Callable[..., str]) -> None:
    sentence = "r.yaml:1: task: this command trains 'classify', not 'summarize'; use `llmkit train RECIPE`"
    assert refusal("task: summarize\n", task="classify") == sentence
    message = refusal(HEAD, "task=summarize", task="classify")
    assert message == "command line: task: this command trains 'classify', not 'summarize'; use `llmkit train RECIPE`"


def test_messages_name_the_flag_or_the_command_line() -> None:
    for flags, overrides, sentence in (
        ({"epochs": -1.0}, [], "--epochs: train.num_train_epochs: -1.0 is out of range; it must be above 0"),
        ({"output_dir": ""}, [], "--output-dir: output_dir: is empty; leave the key out"),
        ({}, ["train.sed=1"], "command line: train.sed: unknown key; did you mean 'seed'?"),
        ({}, ["train={sed: 1}"], "command line: train.sed: unknown key; did you mean 'seed'?"),
        ({}, ["task.x=1"], "command line: task: {'x': 1} is not text"),
    ):
        with pytest.raises(RecipeError) as caught:
            load_recipe(None, overrides, task="classify", **flags)
        assert str(caught.value) == sentence


TASK = "from llmkit.tasks.base import Task\nclass Own(Task):\n    columns = {'text': ''}\n    known_metrics = metrics = ()\n"


def test_a_task_file_has_its_own_section(refusal: Callable[..., str]) -> None:
    Path("own.py").write_text(TASK)
    sentence = "r.yaml:2: own.x: unknown key; known: none"
    assert refusal("task: ./own.py\nown: {x: 1}\nclassify: {}\n").splitlines() == [
        sentence,
        "error: r.yaml:3: classify: the section of another task; this recipe trains 'own': write own, or leave it out",
    ]


def test_a_task_file_cannot_have_the_name_of_a_section(refusal: Callable[..., str]) -> None:
    Path("train.py").write_text(TASK)
    sentence = "r.yaml:1: task: a recipe has a section 'train' already; give the file another name"
    assert refusal("task: train.py\n") == sentence


def test_a_failing_task_file_keeps_its_cause() -> None:
    Path("own.py").write_text("1 / 0\n")
    Path("r.yaml").write_text("task: own.py\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe("r.yaml")
    assert str(caught.value) == "r.yaml:1: task: own.py: ZeroDivisionError: division by zero; fix the file"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_missing_task_file_is_missing_input() -> None:
    with pytest.raises(MissingInputError) as caught:
        load_recipe(None, ["task=./own.py"])
    assert str(caught.value) == "task: no file 'own.py'; name a .py file that defines one Task"


def test_a_recipe_error_has_exit_code_78() -> None:
    with pytest.raises(LlmkitError) as caught:
        load_recipe(None, ["x=1"], task="classify")
    assert caught.value.exit_code == 78
