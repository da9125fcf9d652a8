"""Sequence-to-sequence generation: the base class of summarization and translation, not a task of its own."""

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
# By key of the config's task_specific_params.
TASK_BY_CONFIG_SECTION = {"summarization": "summarize", "translation": "translate"}
STORED_OPTIONS = ("long_inputs", "score_unit", "max_target_length")  # options that are saved in the model's config


class GenerationOptions(Section):
    """Options of generation. Generation settings without a value are the model's own."""

    prefix: str | None = None
    """Text before every source, such as "summarize: " for T5, or ">>deu<< " for Marian models of several languages.
    Default: the prefix in the model's config for the task, else none."""
    max_target_length: PositiveCount = 64
    """Maximum tokens of a target in training, special tokens included; longer ones are truncated, and the run reports
    their share. Also the limit of predictions, unless max_length sets another."""
    label_smoothing: Share = 0.0
    """Share of each target token's probability that is spread over the vocabulary."""
    num_beams: PositiveCount | None = None
    """Number of beams of beam search; 1: greedy search, the fastest."""
    length_penalty: float | None = None
    """With several beams: above 0 favors longer predictions, below 0 shorter ones."""
    no_repeat_ngram_size: NonNegativeCount | None = None
    """No n-gram of this size occurs twice in a prediction; 0: no limit."""
    min_length: NonNegativeCount | None = None
    """Minimum tokens of a prediction."""
    max_length: PositiveCount | None = None
    """Maximum tokens of a prediction. Default: max_target_length."""
    long_inputs: Literal["truncate", "chunk"] = "truncate"
    """What to do with a source longer than model.max_length. truncate: ignore the rest; chunk: split it at the ends of
    sentences into chunks that fit, and predict each. Training always truncates."""
    score_unit: Literal["auto", "words", "characters"] = "auto"
    """Unit that metrics count in. auto: characters where most letters of the references are of a script without
    spaces, else words."""
    source_language: str | None = None
    """Language code of the sources, for tokenizers of several languages (mBART: en_XX)."""
    target_language: str | None = None
    """Language code of the predictions, for tokenizers of several languages."""

    @model_validator(mode="after")
    def check_conflicts(self) -> GenerationOptions:
        found, longest = [], self.max_length or self.max_target_length
        if (self.min_length or 0) > longest:
            reason = f"{self.min_length} is more than the {longest} tokens that a prediction may have; lower it"
            found.append(Conflict(("min_length", "max_length"), reason))
        if self.length_penalty is not None and self.num_beams == 1:
            found.append(Conflict(("length_penalty", "num_beams"), "applies only with several beams; leave it out"))
        if found:
            raise PydanticCustomError("conflict", "keys conflict", {"conflicts": found})
        return self


class ReferenceTexts(list[str]):
    """The references of a row, one text or several, and the row's source, which some metrics compare with."""

    source = ""


class Generation(Task):
    """Generation of a target text for each source text."""

    Options: type[Section] = GenerationOptions
    config_section = ""  # the task's key in the config's task_specific_params
    default_model = "google-t5/t5-small"
    allow_slow_tokenizer = True  # Marian, M2M100 and FSMT have no fast one
    summarizes_chunks = False  # whether the joined predictions of a long source's chunks are summarized again

    def __init__(self, options: Section | None = None) -> None:
        super().__init__(options)
        self.prefix = self.options.prefix or ""
        self.long_inputs, self.score_unit = self.options.long_inputs, self.options.score_unit
        self.max_target_length = self.options.max_target_length
        self.languages = (self.options.source_language, self.options.target_language)
        self.task_params: Mapping[str, Any] = {}  # the task's entry in the config's task_specific_params
        self.source_column, self.target_column = self.columns
        self.decoder_start_token_id: int | None = None
        self.eos_token_id: int | None = None
        self.tokenizer_and_length: tuple[PreTrainedTokenizerBase, int] | None = None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        several = sum(len(one) > 1 for rows in (train, *others.values()) for one in self.references(rows))
        in_train = sum(len(one) > 1 for one in self.references(train))
        first = f"; training uses only the first ({pluralize(in_train, 'training row')})" if in_train else ""
        return [f"{pluralize(several, 'row')} with several references: scores use all{first}"] if several else []

    def load_config(self, config: PreTrainedConfig) -> None:
        from llmkit.models.seq2seq import inputs

        self.task_params = params = inputs.get_task_params(config, self.config_section)
        self.prefix = self.options.prefix if self.options.prefix is not None else str(params.get("prefix", ""))
        self.long_inputs = params.get("long_inputs", self.long_inputs)
        self.score_unit = params.get("score_unit", self.score_unit)
        self.max_target_length = params.get("max_target_length", self.max_target_length)
        source, target = self.languages
        self.languages = source or params.get("source_language"), target or params.get("target_language")
        self.decoder_start_token_id, ends = config.decoder_start_token_id, config.eos_token_id
        self.eos_token_id = ends[0] if isinstance(ends, list) else ends

    def head(self) -> Head:
        return Head("AutoModelForSeq2SeqLM", positions="all")

    def configure_model(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        from llmkit.models.seq2seq import inputs

        options = self.options
        longest = max(self.max_target_length, options.max_length or 0)
        positions = inputs.get_decoder_positions(model.config)
        if positions is not None and longest > positions:
            key = "max_target_length" if self.max_target_length > positions else "max_length"
            raise RecipeError(f"{self.name}.{key}: {longest} exceeds the decoder's {positions} positions",
                              f"set {self.name}.{key}={positions}")  # fmt: skip
        inputs.set_special_tokens(model, tokenizer)
        given = (options.source_language, options.target_language)
        languages = inputs.set_languages(model, tokenizer, given, self.name, self.summarizes_chunks)
        keys = ("num_beams", "length_penalty", "min_length", "no_repeat_ngram_size", "max_length")
        settings = {key: getattr(options, key) for key in keys}
        params = inputs.get_task_params(model.config, self.config_section)
        notes = [inputs.set_generation_config(model, settings, self.max_target_length, params)]
        self.load_config(model.config)
        self.long_inputs, self.score_unit = options.long_inputs, options.score_unit
        self.max_target_length = options.max_target_length
        self.languages = languages
        stored = {key: getattr(options, key) for key in STORED_OPTIONS} | {"prefix": self.prefix}
        stored |= {"source_language": self.languages[0], "target_language": self.languages[1]}
        sections = inputs.list_task_params(model.config)
        others = {name: section for name, section in sections.items() if not is_llmkit_section(section)}
        model.config.task_specific_params = others | {self.config_section: stored}
        self.task_params = stored
        if languages[1] is not None:
            notes.append(f"languages: {languages[0] or 'any'} to {languages[1]}")
        if self.prefix and options.prefix is None:
            notes.append(f"prefix: {self.prefix!r} before every source, from the model's config; "
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
        features, num_truncated = encode.encode_texts(tokenizer, texts, max_length)
        encoded = self.encode_targets(rows, tokenizer)
        if encoded is None:
            return EncodedRows(features, num_truncated)
        targets, num_truncated_targets = encoded
        features = [one | {"labels": ids} for one, ids in zip(features, targets, strict=True)]
        return EncodedRows(features, num_truncated, num_truncated_targets=num_truncated_targets)

    def set_tokenizer(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        """Keep the tokenizer and max_length for decoding, and set the tokenizer's languages."""
        from llmkit.models.seq2seq import inputs

        self.tokenizer_and_length = (tokenizer, max_length)
        inputs.set_tokenizer_languages(tokenizer, *self.languages)

    def encode_targets(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[int]], int] | None:
        """Encode each row's target and count the truncated ones; None if rows have no targets."""
        from llmkit.models.tokenizers import encode

        if self.target_column not in rows.column_mapping:
            return None
        first = [one[0] for one in self.references(rows)]
        return encode.encode_targets(
            tokenizer, first, self.max_target_length, self.decoder_start_token_id, self.eos_token_id
        )

    def encode_chunks(self, text: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Feature]:
        """Encode a source as one or several features of at most `max_length` tokens."""
        from llmkit.models.tokenizers import encode

        chunks = encode.split_long_text(tokenizer, text, self.prefix, max_length)
        return encode.encode_texts(tokenizer, [self.prefix + chunk for chunk in chunks], max_length)[0]

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

        labeled = batch["labels"] != IGNORE_INDEX
        logits, labels = outputs.logits[labeled].float(), batch["labels"][labeled]
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
        chunks: dict[int, list[str]] = {}
        for at, (feature, text) in enumerate(zip(features, texts, strict=True)):
            chunks.setdefault(feature.get("row", at), []).append(text)
        return [Prediction(join_chunks(chunks[row])) for row in sorted(chunks)]

    def second_pass(
        self, predictions: Sequence[Prediction], features: Sequence[Feature]
    ) -> Mapping[int, Sequence[Feature]]:
        """Return as new sources the joined predictions of chunks that are still longer than a target may be."""
        if not self.summarizes_chunks or self.long_inputs != "chunk" or self.tokenizer_and_length is None:
            return {}
        tokenizer, max_length = self.tokenizer_and_length
        chunk_counts = Counter(feature.get("row", at) for at, feature in enumerate(features))
        again = {}
        for row, number in sorted(chunk_counts.items()):
            text = predictions[row].value
            if number > 1 and len(tokenizer(text, verbose=False).input_ids) > self.max_target_length:
                chunks = self.encode_chunks(text, tokenizer, max_length)
                if len(chunks) < number:  # otherwise it might never end
                    again[row] = chunks
        return again

    def references(self, rows: Rows) -> list[Any]:
        """Return the reference texts of each row, with its source. Raises DataError for an empty reference."""
        column = rows.column_name(self.target_column)
        is_json = rows.formats[column] == "json"
        references, errors = [], []
        for row, (source, cell) in enumerate(
            zip(rows.texts(self.source_column), rows.texts(self.target_column), strict=True)
        ):
            is_list = get_cell_type(cell, is_json) == "a list"
            texts = json.loads(cell) if is_json else cell
            reference = ReferenceTexts(texts if is_list else [texts])
            reference.source = source
            references.append(reference)
            if not texts or not all(type(text) is str and text.strip() for text in reference):
                what = f"'{column}' holds {'something other than texts' if texts else 'no text'}, or an empty text"
                errors.append(RowError(rows.location(row), what, "write a text, or a list of texts"))
        raise_errors(errors)
        return references

    def metric_inputs(self, references: Sequence[ReferenceTexts], predictions: Sequence[Prediction]) -> tuple[Any, ...]:
        """Return the arguments of text metrics: references, predictions, sources, and whether they count characters."""
        texts, sources = [one.value for one in predictions], [one.source for one in references]
        return references, texts, sources, self.is_scored_in_characters(references)

    def is_scored_in_characters(self, references: Sequence[ReferenceTexts]) -> bool:
        """Whether metrics count characters rather than words."""
        if self.score_unit == "auto":
            return is_unspaced_script([text for one in references for text in one])
        return bool(self.score_unit == "characters")


def is_llmkit_section(section: Mapping[str, Any]) -> bool:
    """Whether a run of llmkit wrote this section, so that it names the task that the model was last trained for."""
    return set(STORED_OPTIONS) <= section.keys()


def read_trained_task(config: PreTrainedConfig) -> str | None:
    """Read from its config the task that a run of llmkit trained the model for; None if there was no such run."""
    from llmkit.models.seq2seq.inputs import list_task_params

    sections = list_task_params(config).items()
    return next((TASK_BY_CONFIG_SECTION.get(name) for name, section in sections if is_llmkit_section(section)), None)


def join_chunks(chunks: Sequence[str]) -> str:
    """Join chunks to one text, with spaces between them unless their script has none."""
    return ("" if is_unspaced_script(chunks) else " ").join(chunk for chunk in chunks if chunk)
