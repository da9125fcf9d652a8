"""The recipe schema: every key with its default and range; the docstring below a field is its help text."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A frozen part of a recipe; it rejects unknown keys, wrong types, NaN and infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def empty_is_default(cls, values: object) -> object:
        """Treat a section without keys, such as `train:` with all of them commented out, as one of defaults."""
        return {} if values is None else values


class Conflict(NamedTuple):
    """Keys of one section that exclude each other, the one to change first, and the reason."""

    keys: tuple[str, ...]
    reason: str


def validate_source(value: object) -> object:
    """Return the value if it names data: text, a list of texts, or a mapping label -> file."""
    texts = value if isinstance(value, list) else [value]
    if isinstance(value, dict):
        texts = [*value, *value.values()]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise PydanticCustomError("source", "must be a path, a list of paths, or a mapping label: file")
    return value


LORA_LEARNING_RATE = 1e-3  # adapters start at zero, so they need a higher rate than pretrained weights
DataSource = Annotated[str | list[str] | dict[str, str], BeforeValidator(validate_source)]
PositiveCount = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Share = Annotated[float, Field(ge=0, lt=1)]
NonEmptyText = Annotated[str, Field(min_length=1)]


def validate_target_modules(value: object) -> object:
    """Return the value if it names modules: `all-linear`, or a list of names."""
    names = value if isinstance(value, list) else []
    if value == "all-linear" or (names and all(isinstance(name, str) and name for name in names)):
        return value
    raise PydanticCustomError("target_modules", "must be all-linear, or a list of layers such as [query, value]")


def section_or_bool(value: object) -> object:
    """Convert true to a section of defaults, and false to no section."""
    return None if value is False else {} if value in (True, None) else value


TargetModules = Annotated[str | list[str], BeforeValidator(validate_target_modules)]


class VocabularySection(Section):
    """Word vocabulary of a new network (rnn, lstm, gru, cnn, bag), from the training rows."""

    size: PositiveCount = 20_000
    """Maximum number of words; the most frequent ones are kept."""
    min_frequency: PositiveCount = 2
    """Minimum occurrences of a word; rarer words are unknown, and from them the network learns the unknown token."""
    lowercase: bool = True
    """Whether `The` and `the` are one word."""


class ModelSection(Section):
    """The model to start from, its tokenizer, and the maximum length of a text."""

    name: NonEmptyText | None = None
    """A local folder, a run folder, a Hub id, or pkg://PACKAGE/PATH; or rnn, lstm, gru, cnn, bag: a new network of
    this type with a vocabulary from the training rows. Default: the packaged MiniLM if it is installed, else
    google-bert/bert-base-uncased."""
    encoder: NonEmptyText | None = None
    """A pretrained encoder that, with `decoder`, initializes an encoder-decoder model instead of `name`."""
    decoder: NonEmptyText | None = None
    """A pretrained encoder that becomes the decoder, often the same as `encoder`. Its cross-attention is newly
    initialized."""
    from_config: NonEmptyText | None = None
    """Train from scratch a model of this size instead of `name`: bert-tiny, bert-mini, bert-small, bert-base,
    modernbert-tiny, t5-tiny, bart-tiny and others (an unknown one lists them). Needs `tokenizer`."""
    tokenizer: NonEmptyText | None = None
    """A folder or Hub id whose tokenizer replaces the model's own."""
    vocabulary: VocabularySection | None = None
    """The vocabulary of a new network (rnn, lstm, gru, cnn, bag) that has no `tokenizer`."""
    word_vectors: NonEmptyText | None = None
    """A text file of word vectors (GloVe, word2vec, fastText .vec) that initialize a new network's embeddings."""
    revision: NonEmptyText | None = None
    """The Hub revision (branch, tag or commit) of `name`."""
    max_length: PositiveCount = 128
    """Maximum tokens of a row, special tokens included; longer rows are truncated, and the run reports their share.
    Applies to the source where the target is text; the default is then 512 for summaries."""
    config: dict[str, Any] = {}
    """Fields of the model's config to change, such as hidden_dropout_prob: 0.0."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The data type of the weights in training. Keep float32 unless memory is too small."""

    @model_validator(mode="after")
    def check_conflicts(self) -> ModelSection:
        found = []
        if self.from_config is not None and self.name is not None:
            reason = "train from scratch, or from the weights of model.name; leave one out"
            found.append(Conflict(("from_config", "name"), reason))
        if self.from_config is not None and self.tokenizer is None:
            fix = "a model from scratch has none; name one, `llmkit tokenizer train` makes it"
            found.append(Conflict(("from_config", "tokenizer"), f"needs model.tokenizer: {fix}"))
        if (self.encoder is None) != (self.decoder is None):
            one, other = ("encoder", "decoder") if self.decoder is None else ("decoder", "encoder")
            reason = f"needs model.{other}; the same model may be both"
            found.append(Conflict((one, other), reason))
        if self.encoder is not None and (self.name or self.from_config) is not None:
            other = "name" if self.name is not None else "from_config"
            reason = f"with model.decoder it is a whole model, and so is model.{other}; leave one out"
            found.append(Conflict(("encoder", other), reason))
        if self.vocabulary is not None and self.tokenizer is not None:
            reason = "a tokenizer already has a vocabulary; leave one out"
            found.append(Conflict(("vocabulary", "tokenizer"), reason))
        if found:
            raise PydanticCustomError("conflict", "keys conflict", {"conflicts": found})
        return self


class SplitSection(Section):
    """Holdout splits of the training rows, for sets that no file is named for."""

    validation: Share = 0.1
    """Share of all rows that is split off to choose the best checkpoint; 0: none."""
    test: Share = 0.1
    """Share of all rows that is split off for the reported scores, if neither validation nor test is named; 0: none."""
    seed: Seed = 42
    """Seed that chooses the rows of the splits."""

    @model_validator(mode="after")
    def check_shares(self) -> SplitSection:
        if self.validation + self.test >= 1:
            raise PydanticCustomError("shares", "the shares leave no rows to train on; make their sum less than 1")
        return self


class DataSection(Section):
    """The data sets, their columns, and how files are read."""

    train: DataSource | None = None
    """The training rows: a path, a list, pkg://PACKAGE/PATH, a Hub id, or a mapping label: file."""
    validation: DataSource | None = None
    """The rows that choose the best checkpoint; default: split off from train."""
    test: DataSource | None = None
    """The rows that the reported scores come from; default: split off from train if no validation is named."""
    columns: dict[str, str] = {}
    """From the task's column to the file's, such as {text: title, label: section}. Default: guessed if unambiguous."""
    split: SplitSection = SplitSection()
    """Sizes and seed of the splits from train."""
    streaming: bool = False
    """Whether a corpus is read again in each epoch, in order, instead of being kept in memory. Needs train.max_steps;
    blocks are shuffled within a window, and the holdout is chosen by a hash of each document's text."""
    document_unit: Literal["line", "block", "file"] = "line"
    """The unit of a document in text files: a line, a block of lines between blank ones, or a whole file."""
    on_leak: Literal["report", "error", "drop", "ignore"] = "report"
    """What to do with training rows that also occur in validation or test; the lines of a corpus are no leak."""
    on_empty: Literal["error", "skip"] = "error"
    """What to do with rows whose text is empty."""
    encoding: NonEmptyText = "utf-8"
    """The encoding of text files; with utf-8,cp1252 each line is decoded by the first that fits."""
    delimiter: NonEmptyText | None = None
    """The character between fields, or the word tab; default: a comma in .csv, a tab in .tsv."""
    quoting: Literal["csv", "none"] | None = None
    """csv: fields may be in double quotes; none: a quote is an ordinary character. Default: csv in .csv, none in
    .tsv."""


class TrainSection(Section):
    """Training. Keys that transformers' TrainingArguments also has are spelled as there."""

    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """The maximum of the schedule; the default with `lora` is 1e-3, and with `model.from_config` 1e-3 (tiny, mini),
    5e-4 (small, medium) or 1e-4 (base)."""
    num_train_epochs: Annotated[float, Field(gt=0, le=10_000)] = 3.0
    """Number of passes over the training rows."""
    max_steps: Annotated[int, Field(le=10**9)] = -1
    """Number of optimizer steps; -1: num_train_epochs applies."""
    batch_size: PositiveCount = 32
    """Rows of one optimizer step, over all processes together: the step is the same for any number of them."""
    per_device_train_batch_size: PositiveCount | None = None
    """As in transformers, instead of batch_size: rows of each process that go through the model at once at max_length.
    A step has this many rows times gradient_accumulation_steps times the processes."""
    gradient_accumulation_steps: PositiveCount | None = None
    """As in transformers: passes of each process in one step; 1 unless set. Only with per_device_train_batch_size."""
    max_tokens_per_pass: PositiveCount | None = None
    """Tokens, padding included, that go through the model at once; a step with more runs several passes with the same
    gradient. Default: what fits into memory, measured in one pass; with per_device_train_batch_size, that many rows of
    model.max_length; with a sharded strategy, 32 rows of it."""
    warmup_steps: Annotated[float, Field(ge=0)] = 0.1
    """Steps over which the learning rate rises; below 1: a share of all steps."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Maximum norm of the gradient, which is scaled down to it; 0: no limit."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay of weights (not of biases and norms)."""
    lr_scheduler_type: Literal[
        "linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup", "inverse_sqrt"
    ] = "linear"
    """The learning rate schedule after the warm-up."""
    optim: Literal["adamw_torch_fused", "adamw_torch", "adafactor", "adagrad", "rmsprop", "sgd"] = "adamw_torch_fused"
    """The optimizer."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of Adam's running mean of the gradient."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of Adam's running mean of the squared gradient."""
    adam_epsilon: Annotated[float, Field(gt=0)] = 1e-8
    """Added to Adam's denominator, for numerical stability."""
    seed: Seed = 42
    """Seed of weight initialization, dropout and the order of rows."""
    eval_strategy: Literal["no", "epoch", "steps"] = "epoch"
    """When validation is scored; with `no` the last weights are kept instead of the best."""
    eval_steps: PositiveCount | None = None
    """Steps between evaluations with eval_strategy: steps."""
    save_strategy: Literal["no", "epoch", "steps", "best"] = "epoch"
    """When a checkpoint is written, in addition to those at the end of training and at a signal."""
    save_steps: PositiveCount | None = None
    """Steps between checkpoints with save_strategy: steps."""
    save_total_limit: PositiveCount = 2
    """Checkpoints that are kept during the run: the best, the last, and the newest others."""
    logging_steps: PositiveCount = 10
    """Steps between two lines of log.jsonl."""
    dataloader_num_workers: Annotated[int, Field(ge=0)] = 0
    """Processes that build batches; the batches do not depend on their number."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on a GPU that supports it, or on a CPU with AVX-512 bf16 or AMX from hidden size 256 on; else fp32."""
    strategy: Literal["ddp", "fsdp2", "deepspeed-zero2", "deepspeed-zero3"] = "ddp"
    """Distributed strategy. ddp: the model is replicated on each process; fsdp2, deepspeed-zero2, deepspeed-zero3: it
    is sharded, on GPUs only."""
    ddp_timeout: PositiveCount = 1800
    """Seconds without a heartbeat from a rank after which the run ends and names the rank."""
    fast_path: Literal["auto", "off"] = "auto"
    """auto: where the model allows it, batches on a CPU are padding-free, and the last layer and the head run only at
    positions that are used; the gradient is the same. off: padded batches, all positions computed."""
    hf: dict[str, Any] = {}
    """Any other field of TrainingArguments."""

    @model_validator(mode="after")
    def check_conflicts(self) -> TrainSection:
        if conflicts := self.find_conflicts():
            raise PydanticCustomError("conflict", "keys conflict", {"conflicts": conflicts})
        return self

    def find_conflicts(self) -> list[Conflict]:
        """Find keys that are valid by themselves and exclude each other."""
        found = []
        parts = [key for key in ("per_device_train_batch_size", "gradient_accumulation_steps")
                 if getattr(self, key) is not None]  # fmt: skip
        if "batch_size" in self.model_fields_set and parts:
            reason = f"already sets the rows of one step over all devices; leave out {' and '.join(parts)}"
            found.append(Conflict(("batch_size", *parts), reason))
        elif parts == ["gradient_accumulation_steps"]:
            reason = "needs per_device_train_batch_size; write both, or only batch_size: the rows of one step"
            found.append(Conflict(("gradient_accumulation_steps",), reason))
        if self.max_steps == 0 or self.max_steps < -1:
            found.append(Conflict(("max_steps",), f"{self.max_steps} is out of range; at least 1, or -1 for none"))
        for strategy, steps in (("eval_strategy", "eval_steps"), ("save_strategy", "save_steps")):
            interval = getattr(self, steps)
            if getattr(self, strategy) == "steps" and interval is None:
                found.append(Conflict((strategy, steps), f"steps needs {steps}; write how many"))
            if getattr(self, strategy) != "steps" and interval is not None:
                found.append(Conflict((steps, strategy), f"applies only with {strategy}: steps; write both or none"))
        if self.eval_strategy != "no" and self.save_strategy not in (self.eval_strategy, "best", "no"):
            reason = f"{self.save_strategy} with eval_strategy {self.eval_strategy} could lose the best checkpoint; "
            found.append(Conflict(("save_strategy", "eval_strategy"), reason + "make them the same, or write best"))
        if self.save_steps and self.eval_steps and self.save_steps % self.eval_steps:
            reason = f"{self.save_steps} is not a multiple of eval_steps {self.eval_steps}; "
            found.append(Conflict(("save_steps", "eval_steps"), reason + "the best checkpoint could be lost"))
        return found


class LoraSection(Section):
    """Train LoRA adapters with frozen base weights; without this section all weights are trained."""

    r: PositiveCount = 16
    """Rank of the adapters. A higher rank has more capacity and needs more memory."""
    lora_alpha: Annotated[float, Field(gt=0)] = 32
    """Scaling: the adapters' output is multiplied by lora_alpha / r."""
    lora_dropout: Share = 0.05
    """Dropout probability of the adapters' inputs."""
    target_modules: TargetModules = "all-linear"
    """The layers that get adapters: all-linear, or a list of names or regular expressions such as [query, value].
    Newly initialized layers are trained in full, and so is the output layer of classification."""
    use_dora: bool = False
    """DoRA: also learns the magnitude of each row of the weights; slower."""
    use_rslora: bool = False
    """rsLoRA: scaling by lora_alpha / sqrt(r) instead of lora_alpha / r, for high ranks."""
    quantize: Literal["none", "8bit", "4bit"] = "none"
    """Number of bits of the frozen weights in training and prediction: needs an NVIDIA GPU and bitsandbytes."""
    merge: bool = False
    """Whether to save one full model with the adapters merged into its weights, instead of an adapter folder."""

    @model_validator(mode="after")
    def check_conflicts(self) -> LoraSection:
        if self.merge and self.quantize != "none":
            reason = f"adapters cannot be merged exactly into {self.quantize} weights; leave one out"
            conflicts = [Conflict(("merge", "quantize"), reason)]
            raise PydanticCustomError("conflict", "keys conflict", {"conflicts": conflicts})
        return self


class EvalSection(Section):
    """Evaluation."""

    metrics: list[str] = []
    """Names of metrics, or a file ./my_metric.py with a function (references, predictions); the first chooses the best
    checkpoint. Default: the task's own."""
    baselines: list[str] | None = None
    """Baselines that the scores are compared with; default: the task's own, []: none."""
    per_label: bool = False
    """Whether metrics.json also has the scores of each label, and the most frequent confusions of labels."""
    batch_size: PositiveCount = 64
    """Rows in a batch of evaluation."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 changes probabilities by up to 0.01."""
    max_validation_rows: PositiveCount | None = None
    """Number of validation rows, sampled with train.seed, that are scored during training; default: all. For tasks that
    generate text, which is slow. The final scores always use all rows."""
    early_stopping_patience: PositiveCount | None = None
    """Number of evaluations without improvement of the first metric after which training stops; default: never."""


class Recipe(Section):
    """The description of a run. The task's own section (`classify:` and so on) is in `options`."""

    task: str
    """A task of llmkit, such as classify, or a file of your own, such as ./my_task.py."""
    model: ModelSection = ModelSection()
    """The model to start from."""
    data: DataSection = DataSection()
    """The data sets."""
    train: TrainSection = TrainSection()
    """Training."""
    eval: EvalSection = EvalSection()
    """Evaluation."""
    lora: Annotated[LoraSection | None, BeforeValidator(section_or_bool)] = None
    """LoRA adapters; true: this section's defaults. Default: all weights are trained."""
    output_dir: NonEmptyText | None = None
    """The run folder; default: a new one under ./runs/."""
    options: Section = Field(default_factory=Section, exclude=True)
    """The task's own section."""

    @model_validator(mode="before")
    @classmethod
    def set_lora_learning_rate(cls, values: object) -> object:
        """Set the default learning rate of LoRA if none is given, so that it is part of the resolved recipe."""
        if not isinstance(values, dict) or values.get("lora", False) is False:
            return values
        train = {} if (given := values.get("train")) is None else given
        return values | {"train": {"learning_rate": LORA_LEARNING_RATE} | train} if isinstance(train, dict) else values
