"""Text to text: what summaries and translations share. No task by itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from llmkit.data.columns import get_cell_type
from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.data.corpus.scripts import is_unspaced_script
from llmkit.data.row_errors import RowError, pluralize, raise_errors
from llmkit.errors import RecipeError
from llmkit.schema import Conflict, PositiveCount, Section, Share
from llmkit.tasks.base import Batch, EncodedRows, Feature, Head, Prediction, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows

NonNegativeCount = Annotated[int, Field(ge=0)]
TASK_BY_CONFIG_SECTION = {
    "summarization": "summarize",
    "translation": "translate",
}  # of the config's task_specific_params
STORED_OPTIONS = ("long_inputs", "score_unit", "max_target_length")


class GenerationOptions(Section):
    """What is said, and how. A setting of answers without a value is the model's own."""

    prefix: str | None = None
    """What stands before every source, as T5 was pretrained with ("summarize: ") or Marian for several
    languages (">>deu<< "). Default: what the model's config
    names for the task, else nothing."""
    max_target_length: PositiveCount = 64
    """Tokens that a target may have in training, special tokens included; what is longer is cut, and the share that
    was cut is said. Answers have at most as many unless max_length says otherwise."""
    label_smoothing: Share = 0.0
    """Share of each target token that is spread over all pieces."""
    num_beams: PositiveCount | None = None
    """How many beginnings of an answer are kept at a time; 1: the likeliest token each time, the fastest."""
    length_penalty: float | None = None
    """With several beams: above 0 favours longer answers, below 0 shorter ones."""
    no_repeat_ngram_size: NonNegativeCount | None = None
    """No so many tokens in a row come twice in an answer; 0: they may."""
    min_length: NonNegativeCount | None = None
    """Tokens that an answer has at least."""
    max_length: PositiveCount | None = None
    """Tokens that an answer has at most. Default: max_target_length."""
    long_inputs: Literal["truncate", "chunk"] = "truncate"
    """What to do with a source beyond model.max_length. cut: the rest is not read; chunk: it is cut at the ends of
    sentences into pieces that fit, and each is answered. In training the rest is never read."""
    score_unit: Literal["auto", "words", "characters"] = "auto"
    """What scores count in. auto: characters where most letters of the references are of a script without spaces."""
    source_language: str | None = None
    """The code of the sources' language, for tokenizers of many (mBART: en_XX)."""
    target_language: str | None = None
    """The code of the answers' language, for tokenizers of many."""

    @model_validator(mode="after")
    def check_conflicts(self) -> GenerationOptions:
        found, most = [], self.max_length or self.max_target_length
        if (self.min_length or 0) > most:
            why = f"{self.min_length} is more than the {most} tokens that an answer may have; lower it"
            found.append(Conflict(("min_length", "max_length"), why))
        if self.length_penalty is not None and self.num_beams == 1:
            found.append(Conflict(("length_penalty", "num_beams"), "counts only beside several beams; leave it out"))
        if found:
            raise PydanticCustomError("quarrel", "keys do not go together", {"quarrels": found})
        return self


class ReferenceTexts(list[str]):
    """What may be said of a row: one text or several. It knows the source, which some metrics look at."""

    source = ""


class Generation(Task):
    """Sources and what is to be said of each."""

    Options: type[Section] = GenerationOptions
    config_section = ""  # where the model's config speaks of the task, in the words of its field task_specific_params
    default_model = "google-t5/t5-small"
    allow_slow_tokenizer = True  # Marian, M2M100 and FSMT have no other
    summarizes_chunks = False  # whether what was said of the pieces of a long source is a source again

    def __init__(self, options: Section | None = None) -> None:
        super().__init__(options)
        self.prefix = self.options.prefix or ""
        self.long_inputs, self.score_unit = self.options.long_inputs, self.options.score_unit
        self.max_target_length = self.options.max_target_length
        self.languages = (self.options.source_language, self.options.target_language)
        self.task_params: Mapping[str, Any] = {}  # what the model's config says of the task
        self.source_column, self.target_column = self.columns
        self.decoder_start_token_id: int | None = None  # what begins a text for the decoder
        self.eos_token_id: int | None = None
        self.tokenizer_and_length: tuple[PreTrainedTokenizerBase, int] | None = None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        several = sum(len(one) > 1 for rows in (train, *others.values()) for one in self.references(rows))
        learned = sum(len(one) > 1 for one in self.references(train))
        first = f"; of {pluralize(learned, 'training row')} the first is learned" if learned else ""
        return [f"{pluralize(several, 'row')} with several references: scores look at all{first}"] if several else []

    def load_config(self, config: PreTrainedConfig) -> None:
        from llmkit.models.seq2seq import inputs

        self.task_params = own = inputs.get_task_params(config, self.config_section)
        self.prefix = self.options.prefix if self.options.prefix is not None else str(own.get("prefix", ""))
        self.long_inputs, self.score_unit = (
            own.get("long_inputs", self.long_inputs),
            own.get("score_unit", self.score_unit),
        )
        self.max_target_length = own.get("max_target_length", self.max_target_length)
        source, target = self.languages
        self.languages = source or own.get("source_language"), target or own.get("target_language")
        self.decoder_start_token_id, ends = config.decoder_start_token_id, config.eos_token_id
        self.eos_token_id = ends[0] if isinstance(ends, list) else ends

    def head(self) -> Head:
        return Head("AutoModelForSeq2SeqLM", positions="all")

    def configure_model(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        from llmkit.models.seq2seq import inputs

        own = self.options
        longest = max(self.max_target_length, own.max_length or 0)
        there = inputs.get_decoder_positions(model.config)
        if there is not None and longest > there:
            key = "max_target_length" if self.max_target_length > there else "max_length"
            raise RecipeError(f"{self.name}.{key}: {longest} exceeds the decoder's {there} positions",
                              f"set {self.name}.{key}={there}")  # fmt: skip
        inputs.set_special_tokens(model, tokenizer)
        given = (own.source_language, own.target_language)
        languages = inputs.set_languages(model, tokenizer, given, self.name, self.summarizes_chunks)
        wanted = {"num_beams": own.num_beams, "length_penalty": own.length_penalty, "min_length": own.min_length,
                  "no_repeat_ngram_size": own.no_repeat_ngram_size, "max_length": own.max_length}  # fmt: skip
        of_task = inputs.get_task_params(model.config, self.config_section)
        notes = [inputs.set_generation_config(model, wanted, self.max_target_length, of_task)]
        self.load_config(model.config)
        self.long_inputs, self.score_unit, self.max_target_length = (
            own.long_inputs,
            own.score_unit,
            own.max_target_length,
        )
        self.languages = languages
        travels = {word: getattr(own, word) for word in STORED_OPTIONS} | {"prefix": self.prefix}
        travels |= {"source_language": self.languages[0], "target_language": self.languages[1]}
        others = {
            name: about for name, about in inputs.list_task_params(model.config).items() if not is_llmkit_section(about)
        }
        model.config.task_specific_params = others | {self.config_section: travels}
        self.task_params = travels
        if languages[1] is not None:
            notes.append(f"languages: {languages[0] or 'any'} to {languages[1]}")
        if self.prefix and own.prefix is None:
            notes.append(f"prefix: {self.prefix!r} before every source, as the model's config says; "
                         f"{self.name}.prefix='' leaves it out")  # fmt: skip
        return notes

    def lengths(self, feature: Feature) -> tuple[int, ...]:
        return len(feature["input_ids"]), len(feature.get("labels", ()))

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        if self.long_inputs == "truncate":
            return self.encode_train(rows, tokenizer, max_length)
        self.set_tokenizer(tokenizer, max_length)
        features, targets = [], self.encode_targets(rows, tokenizer)
        for row, text in enumerate(rows.texts(self.source_column)):
            features += [one | {"row": row} | ({"labels": targets[0][row]} if targets else {})
                         for one in self.encode_chunks(text, tokenizer, max_length)]  # fmt: skip
        return EncodedRows(features, 0, lambda at: int(features[at]["row"]))

    def encode_train(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        from llmkit.models.tokenizers import encode

        self.set_tokenizer(tokenizer, max_length)
        texts = [self.prefix + text for text in rows.texts(self.source_column)]
        features, cut = encode.encode_texts(tokenizer, texts, max_length)
        found = self.encode_targets(rows, tokenizer)
        if found is None:
            return EncodedRows(features, cut)
        targets, cut_targets = found
        return EncodedRows([one | {"labels": ids} for one, ids in zip(features, targets, strict=True)], cut,
                       num_truncated_targets=cut_targets)  # fmt: skip

    def set_tokenizer(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        """Remember what texts are read by, and which languages they are in."""
        from llmkit.models.seq2seq import inputs

        self.tokenizer_and_length = (tokenizer, max_length)
        inputs.set_tokenizer_languages(tokenizer, *self.languages)

    def encode_targets(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[int]], int] | None:
        """The tokens that each row's decoder is to say, and how many were cut; None where rows have no targets."""
        from llmkit.models.tokenizers import encode

        if self.target_column not in rows.column_mapping:
            return None
        first = [one[0] for one in self.references(rows)]
        return encode.encode_targets(
            tokenizer, first, self.max_target_length, self.decoder_start_token_id, self.eos_token_id
        )

    def encode_chunks(self, text: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Feature]:
        """The features of a source, one or several, none longer than `max_length`."""
        from llmkit.models.tokenizers import encode

        parts = encode.split_long_text(tokenizer, text, self.prefix, max_length)
        return encode.encode_texts(tokenizer, [self.prefix + part for part in parts], max_length)[0]

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        from llmkit.models.tokenizers import encode

        def collate(features: Sequence[Feature]) -> Batch:
            longest = self.tokenizer_and_length[1] if self.tokenizer_and_length else 0
            batch = encode.pad_input_ids(features, int(tokenizer.pad_token_id), longest)
            if all("labels" in feature for feature in features):
                labels = [feature["labels"] for feature in features]
                batch["labels"] = encode.pad_to_tensor(labels, IGNORE_INDEX, self.max_target_length)
            return batch

        return collate

    def num_items(self, batch: Batch) -> float:
        return float((batch["labels"] != IGNORE_INDEX).sum())

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        wanted = batch["labels"] != IGNORE_INDEX
        logits, labels = outputs.logits[wanted].float(), batch["labels"][wanted]
        return cross_entropy(logits, labels, reduction="sum", label_smoothing=self.options.label_smoothing)

    def inputs(self, model: PreTrainedModel, batch: Batch) -> Batch:
        from llmkit.models.seq2seq import inputs

        decoder = {"decoder_input_ids": inputs.shift_tokens_right(model, batch["labels"])} if "labels" in batch else {}
        return inputs.select_encoder_inputs(model, batch) | decoder | {"use_cache": False}

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        from llmkit.models.seq2seq import generate, inputs

        return generate.generate_tokens(
            model, inputs.select_encoder_inputs(model, batch), self.max_target_length, self.task_params
        )

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Prediction]:
        from llmkit.models.tokenizers import detokenize

        if not features:
            return []
        assert self.tokenizer_and_length is not None
        texts = detokenize.decode_token_ids(self.tokenizer_and_length[0], outputs)
        parts: dict[int, list[str]] = {}
        for at, (feature, text) in enumerate(zip(features, texts, strict=True)):
            parts.setdefault(feature.get("row", at), []).append(text)
        return [Prediction(join_chunks(parts[row])) for row in sorted(parts)]

    def second_pass(
        self, answers: Sequence[Prediction], features: Sequence[Feature]
    ) -> Mapping[int, Sequence[Feature]]:
        """The sources to answer once more: what was said of the pieces of a long one, where that is long itself."""
        if not self.summarizes_chunks or self.long_inputs != "chunk" or self.tokenizer_and_length is None:
            return {}
        tokenizer, max_length = self.tokenizer_and_length
        pieces = Counter(feature.get("row", at) for at, feature in enumerate(features))
        rest = {}
        for row, number in sorted(pieces.items()):
            text = answers[row].answer
            if number > 1 and len(tokenizer(text, verbose=False).input_ids) > self.max_target_length:
                found = self.encode_chunks(text, tokenizer, max_length)
                if len(found) < number:  # else it would never end
                    rest[row] = found
        return rest

    def references(self, rows: Rows) -> list[Any]:
        """The texts that may be said of each row; each knows its source. Raises DataError for an empty one."""
        column = rows.column_name(self.target_column)
        is_json = rows.formats[column] == "json"
        found, faults = [], []
        for row, (source, cell) in enumerate(
            zip(rows.texts(self.source_column), rows.texts(self.target_column), strict=True)
        ):
            several = get_cell_type(cell, is_json) == "a list"
            texts = json.loads(cell) if is_json else cell
            one = ReferenceTexts(texts if several else [texts])
            one.source = source
            found.append(one)
            if not texts or not all(type(text) is str and text.strip() for text in one):
                what = f"'{column}' holds {'something else than texts' if texts else 'no text'}, or an empty one"
                faults.append(RowError(rows.location(row), what, "write a text, or a list of texts"))
        raise_errors(faults)
        return found

    def metric_inputs(self, references: Sequence[ReferenceTexts], answers: Sequence[Prediction]) -> tuple[Any, ...]:
        """What metrics of text read: references, answers, sources, and whether they count in characters."""
        said, sources = [one.value for one in answers], [one.source for one in references]
        return references, said, sources, self.is_scored_in_characters(references)

    def is_scored_in_characters(self, references: Sequence[ReferenceTexts]) -> bool:
        """Whether scores count in characters."""
        if self.score_unit == "auto":
            return is_unspaced_script([text for one in references for text in one])
        return bool(self.score_unit == "characters")


def is_llmkit_section(about: Mapping[str, Any]) -> bool:
    """Whether a run of llmkit wrote this section, which is then what the model was last trained for."""
    return set(STORED_OPTIONS) <= about.keys()


def read_trained_task(config: PreTrainedConfig) -> str | None:
    """The task that a run of llmkit trained the model for; None where none did."""
    from llmkit.models.seq2seq.inputs import list_task_params

    return next(
        (
            TASK_BY_CONFIG_SECTION.get(name)
            for name, about in list_task_params(config).items()
            if is_llmkit_section(about)
        ),
        None,
    )


def join_chunks(parts: Sequence[str]) -> str:
    """The parts as one text, with spaces between them where their script has any."""
    return ("" if is_unspaced_script(parts) else " ").join(part for part in parts if part)
