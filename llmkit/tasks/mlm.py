"""Masked-language modelling: some tokens of a text are hidden, and the model says what stood there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from llmkit.data.corpus.blocks import Blocks, Frame, Tokenized, cut, framed
from llmkit.data.corpus.masking import IGNORED, Masking, around, hidden_by_content, masked
from llmkit.data.row_errors import counted
from llmkit.errors import DataError
from llmkit.metrics import Score
from llmkit.metrics.masked_lm import LOWER_IS_BETTER, METRICS, masked_scores, statistic
from llmkit.runs.manifest import text_hash
from llmkit.schema import Quarrel, Section, Text
from llmkit.tasks.base import Answer, Batch, Encoded, Feature, Head, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows
    from llmkit.models.tokenizers.word_boundaries import Joiner

WRITTEN = "[MASK]"  # how a user may write the mask, whatever the tokenizer calls it
AT_ONCE = 2**24  # tokens that are counted at a time
MOST_UNKNOWN = 0.9  # share of tokens from which nothing is to be learned
FILLS = 5  # of a mask, the likeliest, unless another number is asked for
JUDGED = "15% behind the mask token, by content"  # how tokens are hidden when a model is judged, whatever it learned by


class MlmOptions(Section):
    """What is hidden, and how documents become rows."""

    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens that are hidden. When a model is judged it is always 0.15, all behind the mask token."""
    mask_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of the hidden tokens that stand behind the mask token; 1: pure masks."""
    random_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the hidden tokens that become a random one; the rest stays as it is and is asked for all the same."""
    whole_words: bool = False
    """Whether all tokens of a word are hidden together."""
    words: Text | None = None
    """What a word is in scripts without spaces, with whole_words: jieba, or a file with a word a line. Default: each
    character."""
    rows: Literal["blocks", "documents"] = "blocks"
    """blocks: documents fill rows of model.max_length tokens, and attention stays within each document; documents: one
    document a row. A document that is longer than a row goes on in the next."""
    sparse_head: Literal["auto", "off"] = "auto"
    """auto: the head runs only where a label is, where the model allows it; the gradient is the same."""

    @model_validator(mode="after")
    def agree(self) -> MlmOptions:
        found = []
        if self.mask_share + self.random_share > 1:
            why = (
                f"{self.mask_share:g} and random_share {self.random_share:g} are more than all; make the sum 1 or less"
            )
            found.append(Quarrel(("mask_share", "random_share"), why))
        if self.words is not None and not self.whole_words:
            found.append(Quarrel(("words", "whole_words"), "counts only beside whole_words: true; write both or none"))
        if found:
            raise PydanticCustomError("quarrel", "keys do not go together", {"quarrels": found})
        return self


class Mlm(Task):
    """Documents, some of whose tokens are hidden."""

    columns = {"text": "a document"}
    corpus = True
    needs = ("pad", "mask")
    metrics = ("loss", "perplexity", "masked_accuracy")
    known_metrics = METRICS
    lower_is_better = LOWER_IS_BETTER
    baselines = ("unigram",)
    Options = MlmOptions
    next_commands = (
        'predict {run} "The [MASK] sat on the mat."',
        "eval {run} --data other.txt",
        "finetune-classify --model {run} --train labelled.csv",
    )

    def __init__(self, options: Section | None = None) -> None:
        super().__init__(options)
        self.each_token = False  # whether each token is to be hidden in turn, for pseudo_perplexity
        self.sparse: bool | None = None  # whether the head may run where a label is only; None: not tried
        self.shares: list[float] | None = None  # the logarithm of each token's share in training
        self.used: tuple[int, int] | None = None  # how many tokens the training rows hold, and how many there are
        self.reading: tuple[PreTrainedTokenizerBase, int] | None = None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        characters = sum(map(len, train.texts("text")))
        return [f"corpus: {counted(len(train), 'document')} of {characters / len(train):,.0f} characters on average"]

    def adopt(self, config: PreTrainedConfig) -> None:
        """The tokenizer says all that there is to know."""

    def ask(self, names: Sequence[str]) -> None:
        self.each_token = any(name.startswith("pseudo") for name in names)

    def model(self) -> Head:
        reads: Literal["labels", "all"] = "labels" if self.options.sparse_head == "auto" else "all"
        return Head("AutoModelForMaskedLM", start=self.shares, used=self.used, reads=reads)

    def tokens(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> Tokenized:
        """The tokens of the rows' documents, from the cache where they were made before."""
        from llmkit.models.tokenizers.cache import tokenized

        return tokenized(rows.texts("text"), tokenizer, self.joiner(tokenizer), rows.digest("text"))

    def encode_train(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        from llmkit.models.tokenizers.cache import frame_of

        found, frame = self.tokens(rows, tokenizer), frame_of(tokenizer)
        refuse_unknown(found.tokens, tokenizer, rows.name)
        blocks = Blocks(found, cut(found.ends, max_length, frame.size, self.options.rows), frame)
        if not len(blocks):
            raise DataError(f"{rows.name}: no token in it", "name texts that the tokenizer reads")
        self.masking = self.masking_of(tokenizer)
        self.special = frame
        counts = tally(found.tokens, len(tokenizer))
        words = self.masking.words
        self.used = (int((counts[words] > 1).sum()), len(words))
        self.shares = np.log(counts / counts.sum()).tolist()
        return Encoded(blocks, 0, blocks.document)

    def stream(self, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Feature]:
        from llmkit.models.tokenizers.cache import batches

        joiner = self.joiner(tokenizer)
        for ids, sizes, joined in batches(texts, tokenizer, joiner, np.int64):
            ends = np.cumsum(sizes)
            pieces = cut(ends, max_length, self.special.size, self.options.rows)
            yield from Blocks(Tokenized(ids, ends, joined), pieces, self.special)

    def joiner(self, tokenizer: PreTrainedTokenizerBase) -> Joiner | None:
        """What tells which tokens make a word, where whole words are hidden."""
        from llmkit.models.tokenizers.word_boundaries import Joiner

        return Joiner(tokenizer, self.options.words) if self.options.whole_words else None

    def masking_of(self, tokenizer: PreTrainedTokenizerBase) -> Masking:
        """How tokens are hidden in training."""
        special = set(tokenizer.all_special_ids)
        words = np.array([i for i in range(len(tokenizer)) if i not in special], dtype=np.int64)
        own = self.options
        return Masking(int(tokenizer.mask_token_id), words, own.mask_rate, own.mask_share, own.random_share)

    def drawn(self, feature: Feature, key: Sequence[int]) -> list[Feature]:
        ids, sizes = feature["input_ids"], feature["sizes"]
        special = np.concatenate([around(self.special, size) for size in sizes])
        hidden, labels = masked(ids, special, key, self.masking, feature.get("joined"))
        ends = np.cumsum(sizes)[:-1]
        pieces = zip(np.split(hidden, ends), np.split(labels, ends), strict=True)
        return [{"input_ids": one, "labels": label} for one, label in pieces]

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """One feature a piece of a document, `row` says of which; hidden are the same tokens for every model."""
        from llmkit.models.tokenizers.cache import batches, frame_of

        self.reading = (tokenizer, max_length)
        self.special = frame = frame_of(tokenizer)
        how = Masking(int(tokenizer.mask_token_id), np.zeros(1, dtype=np.int64), mask=1.0, random=0.0)
        unasked = Frame((IGNORED,) * len(frame.before), (IGNORED,) * len(frame.after))
        features: list[Feature] = []
        begin = 0
        for ids, sizes, _ in batches(rows.texts("text"), tokenizer, None, np.int64):
            ends = np.cumsum(sizes)
            hidden, labels = hidden_by_content(ids, ends, frame, how)
            pieces = cut(ends, max_length, frame.size, "documents")
            for at in range(len(pieces)):
                one = {"input_ids": framed(hidden, pieces, at, frame), "labels": framed(labels, pieces, at, unasked)}
                row = begin + int(pieces.document[at])
                features.append({name: numbers.tolist() for name, numbers in one.items()} | {"row": row})
            # A text without tokens: nothing is asked of it, and a model wants one token at least.
            bare = [*frame.before, *frame.after] or [int(tokenizer.pad_token_id)]
            for row in (begin + np.flatnonzero(sizes == 0)).tolist():
                features.append({"input_ids": bare, "labels": [IGNORED] * len(bare), "row": row})
            begin += len(sizes)
        return Encoded(sorted(features, key=lambda one: int(one["row"])), 0)

    def encode_asked(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Texts with masks to fill in."""
        from llmkit.models.tokenizers import encode

        self.reading = (tokenizer, max_length)
        texts = [text if tokenizer.mask_token in text else text.replace(WRITTEN, tokenizer.mask_token)
                 for text in rows.texts("text")]  # fmt: skip
        for at, text in enumerate(texts):
            if tokenizer.mask_token not in text:
                mend = f"write {WRITTEN} where a word is to be filled in; to score texts use `llmkit eval`"
                raise DataError(f"{rows.where(at)}: no {WRITTEN} in the text", mend)
        features, cut_short = encode.encode(tokenizer, texts, max_length)
        for at, (feature, text) in enumerate(zip(features, texts, strict=True)):
            if feature["input_ids"].count(tokenizer.mask_token_id) < text.count(tokenizer.mask_token):
                what = f"{rows.where(at)}: a {WRITTEN} stands beyond the {max_length} tokens that the model reads"
                raise DataError(what, "give a shorter text")
            feature["text"] = text
        return Encoded(features, cut_short)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        from llmkit.models.tokenizers import encode

        return lambda features: encode.pad_labelled(tokenizer, features, IGNORED)

    def count(self, batch: Batch) -> float:
        return float((batch["labels"] != IGNORED).sum())

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        labels, logits = batch["labels"], outputs.logits
        wanted = labels != IGNORED
        # A sparse head gives the labelled positions alone, in the same order.
        chosen = logits[wanted] if logits.shape[:-1] == labels.shape else logits.flatten(0, -2)
        return cross_entropy(chosen.float(), labels[wanted], reduction="sum")

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        from llmkit.models import fill_mask

        if self.sparse is None:
            self.sparse = fill_mask.can_be_sparse(model, batch)
        if "labels" not in batch:
            assert self.reading is not None
            return fill_mask.likeliest(model, batch, int(self.reading[0].mask_token_id), self.top or FILLS, self.sparse)
        sums = fill_mask.sums(model, batch, self.sparse)
        if self.each_token:
            assert self.reading is not None
            size = (len(self.special.before), len(self.special.after))
            more = fill_mask.pseudo_sums(model, batch, int(self.reading[0].mask_token_id), size, self.sparse)
            sums = [one | other for one, other in zip(sums, more, strict=True)]
        return sums

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Answer]:
        if not features:
            return []
        if "row" not in features[0]:
            return [self.filled(feature["text"], masks) for feature, masks in zip(features, outputs, strict=True)]
        names = ("loss", "masked", "correct", *(("pseudo_loss", "tokens") if self.each_token else ()))
        totals: dict[int, dict[str, float]] = {}
        for feature, sums in zip(features, outputs, strict=True):
            total = totals.setdefault(feature["row"], dict.fromkeys(names, 0.0))
            for name in names:
                total[name] += sums[name]
        return [Answer(None, more={"sums": totals[row]}) for row in sorted(totals)]

    def filled(self, text: str, masks: Sequence[Sequence[tuple[int, float]]]) -> Answer:
        """The text with the likeliest token in each mask, and the likeliest ones with their probabilities."""
        from llmkit.models.tokenizers.detokenize import filled

        assert self.reading is not None
        whole, options = filled(text, masks, self.reading[0])
        return Answer(whole, options[0]) if len(options) == 1 else Answer(whole, more={"masks": options})

    def without_context(self, train: Rows, rows: Rows) -> list[Answer]:
        """What the shares of the tokens in `train` say of the hidden tokens of `rows`; one is added to each count."""
        assert self.reading is not None
        tokenizer, length = self.reading
        counts = tally(self.tokens(train, tokenizer).tokens, len(tokenizer))
        losses, best = -np.log(counts / counts.sum()), int(counts.argmax())
        outputs = []
        for feature in (features := self.encode(rows, tokenizer, length).features):
            ids, labels = np.array(feature["input_ids"]), np.array(feature["labels"])
            asked = labels[labels != IGNORED]
            sums = {"loss": float(losses[asked].sum()), "masked": len(asked), "correct": int((asked == best).sum())}
            whole = np.where(labels == IGNORED, ids, labels)
            text = whole[~around(self.special, len(whole))]
            outputs.append(sums | {"pseudo_loss": float(losses[text].sum()), "tokens": len(text)})
        return self.decode(outputs, features)

    def references(self, rows: Rows) -> list[Any]:
        return [None] * len(rows)

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Answer]) -> dict[str, Score]:
        return masked_scores(names, [one.more["sums"] for one in answers], self.judged_by())

    def judged_by(self) -> str:
        """How tokens were hidden, and of which vocabulary they are: losses of two vocabularies cannot be compared."""
        if self.reading is None:
            return JUDGED
        words = sorted(self.reading[0].get_vocab().items(), key=lambda one: one[1])
        return f"{JUDGED}|vocabulary sha256:{text_hash(json.dumps(words))[:12]}"

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Answer]
    ) -> Callable[[Any], Any]:
        return statistic(names, [one.more["sums"] for one in answers])


def tally(tokens: Any, words: int) -> np.ndarray:
    """How often each token is there, one added; some at a time, as a corpus may be larger than memory."""
    total = np.ones(words)
    for at in range(0, len(tokens), AT_ONCE):
        total += np.bincount(tokens[at : at + AT_ONCE], minlength=words)
    return total


def refuse_unknown(tokens: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise DataError where the tokenizer knows next to nothing of the corpus."""
    if tokenizer.unk_token_id is None or not len(tokens):
        return
    share = float(np.mean(tokens == tokenizer.unk_token_id))
    if share > MOST_UNKNOWN:
        mend = "name a model of this language, or begin with --from-config and a tokenizer of your own"
        raise DataError(f"{name}: the tokenizer does not know {share:.0%} of the tokens", mend)
