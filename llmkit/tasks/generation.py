"""Text to text: what summaries and translations share. No task by itself."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from llmkit.data.columns import kind_of
from llmkit.data.corpus.masking import IGNORED
from llmkit.data.corpus.scripts import unspaced
from llmkit.data.row_errors import Fault, counted, refuse
from llmkit.errors import RecipeError
from llmkit.schema import Count, Quarrel, Section, Share
from llmkit.tasks.base import Answer, Batch, Encoded, Feature, Head, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows

Natural = Annotated[int, Field(ge=0)]
TASKS = {"summarization": "summarize", "translation": "translate"}  # of the config's task_specific_params
TRAVELS = ("long", "characters", "max_target_length")


class GenerationOptions(Section):
    """What is said, and how. A setting of answers without a value is the model's own."""

    prefix: str | None = None
    """What stands before every source, as T5 was pretrained with ("summarize: ") or Marian for several
    languages (">>deu<< "). Default: what the model's config
    names for the task, else nothing."""
    max_target_length: Count = 64
    """Tokens that a target may have in training, special tokens included; what is longer is cut, and the share that
    was cut is said. Answers have at most as many unless max_length says otherwise."""
    label_smoothing: Share = 0.0
    """Share of each target token that is spread over all pieces."""
    beams: Count | None = None
    """How many beginnings of an answer are kept at a time; 1: the likeliest token each time, the fastest."""
    length_penalty: float | None = None
    """With several beams: above 0 favours longer answers, below 0 shorter ones."""
    no_repeat_ngram_size: Natural | None = None
    """No so many tokens in a row come twice in an answer; 0: they may."""
    min_length: Natural | None = None
    """Tokens that an answer has at least."""
    max_length: Count | None = None
    """Tokens that an answer has at most. Default: max_target_length."""
    long: Literal["cut", "chunk"] = "cut"
    """What to do with a source beyond model.max_length. cut: the rest is not read; chunk: it is cut at the ends of
    sentences into pieces that fit, and each is answered. In training the rest is never read."""
    characters: Literal["auto", "words", "characters"] = "auto"
    """What scores count in. auto: characters where most letters of the references are of a script without spaces."""
    source_language: str | None = None
    """The code of the sources' language, for tokenizers of many (mBART: en_XX)."""
    target_language: str | None = None
    """The code of the answers' language, for tokenizers of many."""

    @model_validator(mode="after")
    def agree(self) -> GenerationOptions:
        found, most = [], self.max_length or self.max_target_length
        if (self.min_length or 0) > most:
            why = f"{self.min_length} is more than the {most} tokens that an answer may have; lower it"
            found.append(Quarrel(("min_length", "max_length"), why))
        if self.length_penalty is not None and self.beams == 1:
            found.append(Quarrel(("length_penalty", "beams"), "counts only beside several beams; leave it out"))
        if found:
            raise PydanticCustomError("quarrel", "keys do not go together", {"quarrels": found})
        return self


class Reference(list[str]):
    """What may be said of a row: one text or several. It knows the source, which some metrics look at."""

    source = ""


class Generation(Task):
    """Sources and what is to be said of each."""

    Options: type[Section] = GenerationOptions
    section = ""  # where the model's config speaks of the task, in the words of its field task_specific_params
    default_model = "google-t5/t5-small"
    slow_words = True  # Marian, M2M100 and FSMT have no other
    joins = False  # whether what was said of the pieces of a long source is a source again

    def __init__(self, options: Section | None = None) -> None:
        super().__init__(options)
        self.prefix = self.options.prefix or ""
        self.long, self.characters = self.options.long, self.options.characters
        self.longest_target = self.options.max_target_length
        self.languages = (self.options.source_language, self.options.target_language)
        self.own: Mapping[str, Any] = {}  # what the model's config says of the task
        self.source, self.said = self.columns
        self.start: int | None = None  # what begins a text for the decoder
        self.end: int | None = None
        self.reading: tuple[PreTrainedTokenizerBase, int] | None = None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        several = sum(len(one) > 1 for rows in (train, *others.values()) for one in self.references(rows))
        learned = sum(len(one) > 1 for one in self.references(train))
        first = f"; of {counted(learned, 'training row')} the first is learned" if learned else ""
        return [f"{counted(several, 'row')} with several references: scores look at all{first}"] if several else []

    def adopt(self, config: PreTrainedConfig) -> None:
        from llmkit.models.seq2seq import inputs

        self.own = own = inputs.of_task(config, self.section)
        self.prefix = self.options.prefix if self.options.prefix is not None else str(own.get("prefix", ""))
        self.long, self.characters = own.get("long", self.long), own.get("characters", self.characters)
        self.longest_target = own.get("max_target_length", self.longest_target)
        source, target = self.languages
        self.languages = source or own.get("source_language"), target or own.get("target_language")
        self.start, ends = config.decoder_start_token_id, config.eos_token_id
        self.end = ends[0] if isinstance(ends, list) else ends

    def model(self) -> Head:
        return Head("AutoModelForSeq2SeqLM", reads="all")

    def equip(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
        from llmkit.models.seq2seq import inputs

        own = self.options
        longest = max(self.longest_target, own.max_length or 0)
        there = inputs.positions(model.config)
        if there is not None and longest > there:
            key = "max_target_length" if self.longest_target > there else "max_length"
            raise RecipeError(f"{self.name}.{key}: {longest} exceeds the decoder's {there} positions",
                              f"set {self.name}.{key}={there}")  # fmt: skip
        inputs.set_ends(model, tokenizer)
        given = (own.source_language, own.target_language)
        languages = inputs.set_languages(model, tokenizer, given, self.name, self.joins)
        wanted = {"num_beams": own.beams, "length_penalty": own.length_penalty, "min_length": own.min_length,
                  "no_repeat_ngram_size": own.no_repeat_ngram_size, "max_length": own.max_length}  # fmt: skip
        of_task = inputs.of_task(model.config, self.section)
        notes = [inputs.set_answers(model, wanted, self.longest_target, of_task)]
        self.adopt(model.config)
        self.long, self.characters, self.longest_target = own.long, own.characters, own.max_target_length
        self.languages = languages
        travels = {word: getattr(own, word) for word in TRAVELS} | {"prefix": self.prefix}
        travels |= {"source_language": self.languages[0], "target_language": self.languages[1]}
        others = {name: about for name, about in inputs.sections(model.config).items() if not is_ours(about)}
        model.config.task_specific_params = others | {self.section: travels}
        self.own = travels
        if languages[1] is not None:
            notes.append(f"languages: {languages[0] or 'any'} to {languages[1]}")
        if self.prefix and own.prefix is None:
            notes.append(f"prefix: {self.prefix!r} before every source, as the model's config says; "
                         f"{self.name}.prefix='' leaves it out")  # fmt: skip
        return notes

    def lengths(self, feature: Feature) -> tuple[int, ...]:
        return len(feature["input_ids"]), len(feature.get("labels", ()))

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        if self.long == "cut":
            return self.encode_train(rows, tokenizer, max_length)
        self.begin(tokenizer, max_length)
        features, targets = [], self.targets(rows, tokenizer)
        for row, text in enumerate(rows.texts(self.source)):
            features += [one | {"row": row} | ({"labels": targets[0][row]} if targets else {})
                         for one in self.pieces(text, tokenizer, max_length)]  # fmt: skip
        return Encoded(features, 0, lambda at: int(features[at]["row"]))

    def encode_train(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        from llmkit.models.tokenizers import encode

        self.begin(tokenizer, max_length)
        texts = [self.prefix + text for text in rows.texts(self.source)]
        features, cut = encode.encode(tokenizer, texts, max_length)
        found = self.targets(rows, tokenizer)
        if found is None:
            return Encoded(features, cut)
        targets, cut_targets = found
        return Encoded([one | {"labels": ids} for one, ids in zip(features, targets, strict=True)], cut,
                       cut_targets=cut_targets)  # fmt: skip

    def begin(self, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        """Remember what texts are read by, and which languages they are in."""
        from llmkit.models.seq2seq import inputs

        self.reading = (tokenizer, max_length)
        inputs.tell(tokenizer, *self.languages)

    def targets(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> tuple[list[list[int]], int] | None:
        """The tokens that each row's decoder is to say, and how many were cut; None where rows have no targets."""
        from llmkit.models.tokenizers import encode

        if self.said not in rows.words:
            return None
        first = [one[0] for one in self.references(rows)]
        return encode.targets(tokenizer, first, self.longest_target, self.start, self.end)

    def pieces(self, text: str, tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[Feature]:
        """The features of a source, one or several, none longer than `max_length`."""
        from llmkit.models.tokenizers import encode

        parts = encode.parts(tokenizer, text, self.prefix, max_length)
        return encode.encode(tokenizer, [self.prefix + part for part in parts], max_length)[0]

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        from llmkit.models.tokenizers import encode

        def collate(features: Sequence[Feature]) -> Batch:
            longest = self.reading[1] if self.reading else 0
            batch = encode.pad_plain(features, int(tokenizer.pad_token_id), longest)
            if all("labels" in feature for feature in features):
                labels = [feature["labels"] for feature in features]
                batch["labels"] = encode.rectangle(labels, IGNORED, self.longest_target)
            return batch

        return collate

    def count(self, batch: Batch) -> float:
        return float((batch["labels"] != IGNORED).sum())

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        wanted = batch["labels"] != IGNORED
        logits, labels = outputs.logits[wanted].float(), batch["labels"][wanted]
        return cross_entropy(logits, labels, reduction="sum", label_smoothing=self.options.label_smoothing)

    def inputs(self, model: PreTrainedModel, batch: Batch) -> Batch:
        from llmkit.models.seq2seq import inputs

        decoder = {"decoder_input_ids": inputs.shifted(model, batch["labels"])} if "labels" in batch else {}
        return inputs.reading(model, batch) | decoder | {"use_cache": False}

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        from llmkit.models.seq2seq import generate, inputs

        return generate.answer_tokens(model, inputs.reading(model, batch), self.longest_target, self.own)

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Answer]:
        from llmkit.models.tokenizers import detokenize

        if not features:
            return []
        assert self.reading is not None
        texts = detokenize.texts(self.reading[0], outputs)
        parts: dict[int, list[str]] = {}
        for at, (feature, text) in enumerate(zip(features, texts, strict=True)):
            parts.setdefault(feature.get("row", at), []).append(text)
        return [Answer(joined(parts[row])) for row in sorted(parts)]

    def again(self, answers: Sequence[Answer], features: Sequence[Feature]) -> Mapping[int, Sequence[Feature]]:
        """The sources to answer once more: what was said of the pieces of a long one, where that is long itself."""
        if not self.joins or self.long != "chunk" or self.reading is None:
            return {}
        tokenizer, max_length = self.reading
        pieces = Counter(feature.get("row", at) for at, feature in enumerate(features))
        rest = {}
        for row, number in sorted(pieces.items()):
            text = answers[row].answer
            if number > 1 and len(tokenizer(text, verbose=False).input_ids) > self.longest_target:
                found = self.pieces(text, tokenizer, max_length)
                if len(found) < number:  # else it would never end
                    rest[row] = found
        return rest

    def references(self, rows: Rows) -> list[Any]:
        """The texts that may be said of each row; each knows its source. Raises DataError for an empty one."""
        column = rows.column(self.said)
        is_json = rows.kinds[column] == "json"
        found, faults = [], []
        for row, (source, cell) in enumerate(zip(rows.texts(self.source), rows.texts(self.said), strict=True)):
            several = kind_of(cell, is_json) == "a list"
            texts = json.loads(cell) if is_json else cell
            one = Reference(texts if several else [texts])
            one.source = source
            found.append(one)
            if not texts or not all(type(text) is str and text.strip() for text in one):
                what = f"'{column}' holds {'something else than texts' if texts else 'no text'}, or an empty one"
                faults.append(Fault(rows.where(row), what, "write a text, or a list of texts"))
        refuse(faults)
        return found

    def texts(self, references: Sequence[Reference], answers: Sequence[Answer]) -> tuple[Any, ...]:
        """What metrics of text read: references, answers, sources, and whether they count in characters."""
        said, sources = [one.answer for one in answers], [one.source for one in references]
        return references, said, sources, self.in_characters(references)

    def in_characters(self, references: Sequence[Reference]) -> bool:
        """Whether scores count in characters."""
        if self.characters == "auto":
            return unspaced([text for one in references for text in one])
        return bool(self.characters == "characters")


def is_ours(about: Mapping[str, Any]) -> bool:
    """Whether a run of llmkit wrote this section, which is then what the model was last trained for."""
    return set(TRAVELS) <= about.keys()


def task_written(config: PreTrainedConfig) -> str | None:
    """The task that a run of llmkit trained the model for; None where none did."""
    from llmkit.models.seq2seq.inputs import sections

    return next((TASKS.get(name) for name, about in sections(config).items() if is_ours(about)), None)


def joined(parts: Sequence[str]) -> str:
    """The parts as one text, with spaces between them where their script has any."""
    return ("" if unspaced(parts) else " ").join(part for part in parts if part)
