"""The recipe as a frozen object: every key, its default, its range, and under each field the text that is its help."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A frozen part of a recipe: unknown keys, wrong types, NaN and infinity are refused."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def empty_is_default(cls, values: object) -> object:
        """`train:` with every key commented out is a section of defaults."""
        return {} if values is None else values


class Conflict(NamedTuple):
    """Keys of one section that do not go together, the one to change first, and why."""

    keys: tuple[str, ...]
    reason: str


def validate_source(value: object) -> object:
    """The value where it can name data: text, a list of texts, or a mapping label -> file."""
    texts = value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        texts = [*value, *value.values()]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise PydanticCustomError("source", "must be a path, a list of paths, or a mapping label: file")
    return value


LORA_LEARNING_RATE = 1e-3  # small matrices that begin at zero want a higher rate than weights that know something
DataSource = Annotated[str | list[str] | dict[str, str], BeforeValidator(validate_source)]
PositiveCount = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Share = Annotated[float, Field(ge=0, lt=1)]
NonEmptyText = Annotated[str, Field(min_length=1)]


def validate_target_modules(value: object) -> object:
    """The value where it can name layers: `all-linear`, or names."""
    names = value if isinstance(value, list) else []
    if value == "all-linear" or (names and all(isinstance(name, str) and name for name in names)):
        return value
    raise PydanticCustomError("targets", "must be all-linear, or a list of layers such as [query, value]")


def section_or_bool(value: object) -> object:
    """A section that may be written as true (its defaults) or false (none)."""
    return None if value is False else {} if value in (True, None) else value


TargetModules = Annotated[str | list[str], BeforeValidator(validate_target_modules)]


class VocabularySection(Section):
    """The words that a fresh network (rnn, lstm, gru, cnn, bag) knows: those of the training rows."""

    size: PositiveCount = 20_000
    """How many words at the most, the most frequent ones."""
    min_frequency: PositiveCount = 2
    """How often a word must occur; a rarer one is unknown, which is how the network learns what to make of those."""
    lowercase: bool = True
    """Whether `The` and `the` are one word."""


class ModelSection(Section):
    """Where the weights come from and how long a text may be."""

    name: NonEmptyText | None = None
    """A local folder, a run folder, a Hub id, or pkg://PACKAGE/PATH; or rnn, lstm, gru, cnn, bag: a fresh network of
    that kind with a vocabulary of the training rows. Default: the packaged MiniLM where it is installed, else
    google-bert/bert-base-uncased."""
    encoder: NonEmptyText | None = None
    """An encoder that reads, instead of `name`, beside a `decoder`: a warm start for tasks whose answers are text."""
    decoder: NonEmptyText | None = None
    """An encoder that learns to write; the same name twice is usual. How it attends to the other is learned afresh."""
    from_config: NonEmptyText | None = None
    """Start from fresh weights of this shape instead of `name`: bert-tiny, bert-mini, bert-small, bert-base,
    modernbert-tiny, t5-tiny, bart-tiny and others (an unknown one lists them). Needs `tokenizer`."""
    tokenizer: NonEmptyText | None = None
    """A folder or Hub id whose tokenizer is taken instead of the model's own."""
    vocabulary: VocabularySection | None = None
    """Which words a fresh network knows, where `tokenizer` names none for it."""
    word_vectors: NonEmptyText | None = None
    """A text file of word vectors (GloVe, word2vec, fastText .vec) for a fresh network to start from."""
    revision: NonEmptyText | None = None
    """The Hub revision (branch, tag or commit) of `name`."""
    max_length: PositiveCount = 128
    """Tokens a row may have, special tokens included; what is longer is cut, and the share that was cut is said. Where
    the answer is text it is the source's, and by default 512 for summaries."""
    config: dict[str, Any] = {}
    """Fields of the model's own config to change, such as hidden_dropout_prob: 0.0."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type that the weights are held in while training. Keep float32 unless memory forbids it."""

    @model_validator(mode="after")
    def check_conflicts(self) -> ModelSection:
        found = []
        if self.from_config is not None and self.name is not None:
            found.append(Conflict(("from_config", "name"), "fresh weights, or those of a model; leave one out"))
        if self.from_config is not None and self.tokenizer is None:
            mend = "fresh weights have none; name one, `llmkit tokenizer train` makes it"
            found.append(Conflict(("from_config", "tokenizer"), f"needs model.tokenizer: {mend}"))
        if (self.encoder is None) != (self.decoder is None):
            one, other = ("encoder", "decoder") if self.decoder is None else ("decoder", "encoder")
            why = f"needs model.{other}; the same model may be both"
            found.append(Conflict((one, other), why))
        if self.encoder is not None and (self.name or self.from_config) is not None:
            why = "two encoders as one model, or another; leave one out"
            found.append(Conflict(("encoder", "name" if self.name is not None else "from_config"), why))
        if self.vocabulary is not None and self.tokenizer is not None:
            found.append(Conflict(("vocabulary", "tokenizer"), "a tokenizer has its words already; leave one out"))
        if found:
            raise PydanticCustomError("quarrel", "keys do not go together", {"quarrels": found})
        return self


class SplitSection(Section):
    """What is held back from the training rows where no file is named for it."""

    validation: Share = 0.1
    """Share of all rows that is split off to choose the best checkpoint by; 0: none."""
    test: Share = 0.1
    """Share of all rows that is split off to report on, where neither validation nor test is named; 0: none."""
    seed: Seed = 42
    """Which rows are held back."""

    @model_validator(mode="after")
    def check_shares(self) -> SplitSection:
        if self.validation + self.test >= 1:
            raise PydanticCustomError("shares", "the shares leave no rows to train on; make their sum less than 1")
        return self


class DataSection(Section):
    """Where the rows come from and what their columns are called."""

    train: DataSource | None = None
    """The training rows: a path, a list, pkg://PACKAGE/PATH, a Hub id, or a mapping label: file."""
    validation: DataSource | None = None
    """The rows that choose the best checkpoint; default: split off from train."""
    test: DataSource | None = None
    """The rows that the reported scores come from; default: split off from train where no validation is named."""
    columns: dict[str, str] = {}
    """The task's word: the file's column, such as {text: title, label: section}. Default: guessed where it is plain."""
    split: SplitSection = SplitSection()
    """What is held back from train."""
    streaming: bool = False
    """Whether a corpus is read anew in each epoch, in order, instead of being kept: for what does not fit. Needs
    train.max_steps; blocks are shuffled within a window, and documents are held back by a hash of their text."""
    document_unit: Literal["line", "block", "file"] = "line"
    """What a document of a corpus of text files is: a line, a block of lines between blank ones, or a whole file."""
    on_leak: Literal["report", "error", "drop", "ignore"] = "report"
    """What to do with training rows that also stand in validation or test; the lines of a corpus are no leak."""
    on_empty: Literal["error", "skip"] = "error"
    """What to do with rows whose text is empty."""
    encoding: NonEmptyText = "utf-8"
    """The encoding of text files; in utf-8,cp1252 each line is read in the first that fits."""
    delimiter: NonEmptyText | None = None
    """The character between fields, or the word tab; default: a comma in .csv, a tab in .tsv."""
    quoting: Literal["csv", "none"] | None = None
    """csv: fields may stand in double quotes; none: a quote is a character like any other. Default: csv in .csv,
    none in .tsv."""


class TrainSection(Section):
    """How to learn. Keys that transformers' TrainingArguments has carry its spelling."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """The highest rate that the schedule reaches; the default with `lora` is 1e-3, and with `model.from_config` 1e-3
    (tiny, mini), 5e-4 (small, medium) or 1e-4 (base)."""
    num_train_epochs: Annotated[float, Field(gt=0, le=10_000)] = 3.0
    """How often each row is seen."""
    max_steps: Annotated[int, Field(le=10**9)] = -1
    """Stop after so many steps; -1: num_train_epochs decides."""
    batch_size: PositiveCount | None = None
    """Rows in one step over all processes and accumulation: the same however many there are. It names the whole, so
    per_device_train_batch_size and gradient_accumulation_steps cannot stand beside it."""
    per_device_train_batch_size: PositiveCount = 32
    """Rows that fit on a device at once, at max_length; shorter rows travel in larger groups."""
    gradient_accumulation_steps: PositiveCount = 1
    """How many such batches make one step; several processes divide them, and the step stays the same."""
    warmup_steps: Annotated[float, Field(ge=0)] = 0.1
    """Steps over which the rate rises; below 1: that share of all steps."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """The gradient is scaled down to this norm; 0: never."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay of weights (not of biases and norms)."""
    lr_scheduler_type: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
    ] = "linear"
    """How the rate falls after the warm-up."""
    optim: Literal["adamw_torch_fused", "adamw_torch", "adafactor", "adagrad", "rmsprop", "sgd"] = "adamw_torch_fused"
    """The optimizer."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the gradient's running mean."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of its running square."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """What keeps its division finite."""
    seed: Seed = 42
    """Fresh weights, dropout and the order of rows follow from it."""
    eval_strategy: Literal["no", "epoch", "steps"] = "epoch"
    """When validation is scored; with `no` the last weights are kept instead of the best."""
    eval_steps: PositiveCount | None = None
    """Steps between evaluations under eval_strategy: steps."""
    save_strategy: Literal["no", "epoch", "steps", "best"] = "epoch"
    """When a checkpoint is written, beside one at the end of training and one at a signal."""
    save_steps: PositiveCount | None = None
    """Steps between checkpoints under save_strategy: steps."""
    save_total_limit: PositiveCount = 2
    """Checkpoints that are kept while the run goes on: the best, the last, and the newest others."""
    logging_steps: PositiveCount = 10
    """Steps between two lines of log.jsonl."""
    dataloader_num_workers: Annotated[int, Field(ge=0)] = 0
    """Processes that build batches; they never change what is in them."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on a GPU that has it, or on a CPU with AVX-512 bf16 or AMX for hidden sizes from 256; else fp32."""
    strategy: Literal["ddp", "fsdp2", "deepspeed-zero2", "deepspeed-zero3"] = "ddp"
    """How several processes share the work. ddp: each holds the whole model; fsdp2, deepspeed-zero2, deepspeed-zero3:
    each holds a share, on GPUs only."""
    ddp_timeout: PositiveCount = 1800
    """Seconds without a sign of life from one of several processes after which the run ends and names it."""
    fast_path: Literal["auto", "off"] = "auto"
    """auto: on a CPU texts travel without padding and only what is read is computed, where the model allows it; the
    gradient is the same. off: padded batches, all of them computed."""
    hf: dict[str, Any] = {}
    """Any other field of TrainingArguments."""

    @model_validator(mode="after")
    def check_conflicts(self) -> TrainSection:
        if quarrels := self.find_conflicts():
            raise PydanticCustomError("quarrel", "keys do not go together", {"quarrels": quarrels})
        return self

    def find_conflicts(self) -> list[Conflict]:
        """What does not go together although each key is right by itself."""
        found = []
        beside = [key for key in ("per_device_train_batch_size", "gradient_accumulation_steps")
                  if key in self.model_fields_set]  # fmt: skip
        if self.batch_size is not None and beside:
            why = f"the rows of one step over all devices; leave out {' and '.join(beside)} beside it"
            found.append(Conflict(("batch_size", *beside), why))
        if self.max_steps == 0 or self.max_steps < -1:
            found.append(Conflict(("max_steps",), f"{self.max_steps} is out of range; at least 1, or -1 for none"))
        for strategy, steps in (("eval_strategy", "eval_steps"), ("save_strategy", "save_steps")):
            every = getattr(self, steps)
            if getattr(self, strategy) == "steps" and every is None:
                found.append(Conflict((strategy, steps), f"steps needs {steps}; write how many"))
            if getattr(self, strategy) != "steps" and every is not None:
                found.append(Conflict((steps, strategy), f"counts only beside {strategy}: steps; write both or none"))
        if self.eval_strategy != "no" and self.save_strategy not in (self.eval_strategy, "best", "no"):
            why = f"{self.save_strategy} beside eval_strategy {self.eval_strategy} could lose the best checkpoint; "
            found.append(Conflict(("save_strategy", "eval_strategy"), why + "make them the same, or write best"))
        if self.save_steps and self.eval_steps and self.save_steps % self.eval_steps:
            why = f"{self.save_steps} is no multiple of eval_steps {self.eval_steps}; the best could go unsaved"
            found.append(Conflict(("save_steps", "eval_steps"), why))
        return found


class LoraSection(Section):
    """Train small matrices beside frozen weights; without this section all weights are trained."""

    r: PositiveCount = 16
    """The rank: columns of the small matrices. More learn more, and weigh more."""
    lora_alpha: Annotated[float, Field(gt=0)] = 32
    """What is learned counts alpha / r times."""
    lora_dropout: Share = 0.05
    """Share of the inputs of the small matrices that is zero in a step."""
    target_modules: TargetModules = "all-linear"
    """The layers that get them: all-linear, or a list of names or regular expressions such as [query, value]. Fresh
    layers are trained whole, and so is the layer that gives a label its output."""
    use_dora: bool = False
    """DoRA: learns the length of each row of weights too; slower."""
    use_rslora: bool = False
    """rsLoRA: alpha / sqrt(r) instead of alpha / r, for high ranks."""
    quantize: Literal["none", "8bit", "4bit"] = "none"
    """Hold the frozen weights in so many bits while training and answering: needs an NVIDIA GPU and bitsandbytes."""
    merge: bool = False
    """Save one whole model, the small matrices added to its weights, instead of an adapter beside its base."""

    @model_validator(mode="after")
    def check_conflicts(self) -> LoraSection:
        if self.merge and self.quantize != "none":
            why = f"weights of {self.quantize} take in nothing exactly; leave one out"
            raise PydanticCustomError(
                "quarrel", "keys do not go together", {"quarrels": [Conflict(("merge", "quantize"), why)]}
            )
        return self


class EvalSection(Section):
    """How to judge."""

    metrics: list[str] = []
    """Names of scores; the first chooses the best checkpoint. Default: the task's own."""
    baselines: list[str] | None = None
    """What the scores are held against; default: the task's own, []: none."""
    per_label: bool = False
    """Whether metrics.json says the scores of each label too, and which label was taken for which."""
    batch_size: PositiveCount = 64
    """Rows scored at once."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 moves probabilities by up to 0.01."""
    max_validation_rows: PositiveCount | None = None
    """How many validation rows, drawn by train.seed, are scored while training; default: all. For answers that are
    text, which take long. Nothing else is scored on fewer rows."""
    early_stopping_patience: PositiveCount | None = None
    """Stop after so many evaluations without a better first metric; default: never."""


class Recipe(Section):
    """A run, described. The task's own section (`classify:` and so on) is in `options`."""

    task: str
    """What is learned: classify, or a file of your own such as ./my_task.py."""
    model: ModelSection = ModelSection()
    """The weights to start from."""
    data: DataSection = DataSection()
    """The rows."""
    train: TrainSection = TrainSection()
    """The learning."""
    eval: EvalSection = EvalSection()
    """The judgement."""
    lora: Annotated[LoraSection | None, BeforeValidator(section_or_bool)] = None
    """Small matrices beside frozen weights; true: this section's defaults. Default: all weights are trained."""
    output_dir: NonEmptyText | None = None
    """The run folder; default: a fresh one under ./runs/."""
    options: Section = Field(default_factory=Section, exclude=True)
    """The task's own section."""

    @model_validator(mode="before")
    @classmethod
    def set_lora_learning_rate(cls, values: object) -> object:
        """The rate that small matrices want, where none is named: it then stands in the resolved recipe."""
        if not isinstance(values, dict) or values.get("lora", False) is False:
            return values
        train = {} if (given := values.get("train")) is None else given
        return values | {"train": {"learning_rate": LORA_LEARNING_RATE} | train} if isinstance(train, dict) else values
