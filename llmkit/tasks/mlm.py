"""Masked-language modelling: some tokens of a text are hidden, and the model says what stood there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from llmkit.data.corpus.blocks import Blocks, SpecialTokens, TokenizedDocuments, add_special_tokens, split_into_chunks
from llmkit.data.corpus.masking import IGNORE_INDEX, Masking, build_special_tokens_mask, mask_documents, mask_tokens
from llmkit.data.row_errors import pluralize
from llmkit.errors import DataError
from llmkit.metrics import Score
from llmkit.metrics.masked_lm import (
    MASKED_LM_LOWER_IS_BETTER,
    MASKED_LM_METRICS,
    make_masked_lm_statistic,
    score_masked_lm,
)
from llmkit.runs.manifest import hash_text
from llmkit.schema import Conflict, NonEmptyText, Section
from llmkit.tasks.base import Batch, EncodedRows, Feature, Head, Prediction, Task

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows
    from llmkit.models.tokenizers.word_boundaries import WordBoundaries

MASK_PLACEHOLDER = "[MASK]"  # how a user may write the mask, whatever the tokenizer calls it
COUNTED_TOKENS = 2**24  # tokens that are counted at a time
MAX_UNKNOWN_SHARE = 0.9  # share of tokens from which nothing is to be learned
DEFAULT_TOP_K = 5  # of a mask, the likeliest, unless another number is asked for
EVAL_MASKING = (
    "15% behind the mask token, by content"  # how tokens are hidden when a model is judged, whatever it learned by
)


class MlmOptions(Section):
    """What is hidden, and how documents become rows."""

    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens that are hidden. When a model is judged it is always 0.15, all behind the mask token."""
    mask_replace_prob: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of the hidden tokens that stand behind the mask token; 1: pure masks."""
    random_replace_prob: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the hidden tokens that become a random one; the rest stays as it is and is asked for all the same."""
    whole_words: bool = False
    """Whether all tokens of a word are hidden together."""
    word_segmenter: NonEmptyText | None = None
    """What a word is in scripts without spaces, with whole_words: jieba, or a file with a word a line. Default: each
    character."""
    packing: Literal["blocks", "documents"] = "blocks"
    """blocks: documents fill rows of model.max_length tokens, and attention stays within each document; documents: one
    document a row. A document that is longer than a row goes on in the next."""

    @model_validator(mode="after")
    def check_conflicts(self) -> MlmOptions:
        found = []
        if self.mask_replace_prob + self.random_replace_prob > 1:
            why = f"{self.mask_replace_prob:g} and random_replace_prob {self.random_replace_prob:g} are more than all; make the sum 1 or less"
            found.append(Conflict(("mask_replace_prob", "random_replace_prob"), why))
        if self.word_segmenter is not None and not self.whole_words:
            found.append(
                Conflict(("word_segmenter", "whole_words"), "counts only beside whole_words: true; write both or none")
            )
        if found:
            raise PydanticCustomError("quarrel", "keys do not go together", {"quarrels": found})
        return self


class Mlm(Task):
    """Documents, some of whose tokens are hidden."""

    columns = {"text": "a document"}
    is_corpus = True
    required_special_tokens = ("pad", "mask")
    metrics = ("loss", "perplexity", "masked_accuracy")
    known_metrics = MASKED_LM_METRICS
    lower_is_better = MASKED_LM_LOWER_IS_BETTER
    baselines = ("unigram",)
    Options = MlmOptions
    next_commands = (
        'predict {run} "The [MASK] sat on the mat."',
        "eval {run} --data other.txt",
        "finetune-classify --model {run} --train labelled.csv",
    )

    def __init__(self, options: Section | None = None) -> None:
        super().__init__(options)
        self.mask_each_token = False  # whether each token is to be hidden in turn, for pseudo_perplexity
        self.use_sparse_head: bool | None = None  # whether the head may run where a label is only; None: not tried
        self.log_frequencies: list[float] | None = None  # the logarithm of each token's share in training
        self.vocab_use: tuple[int, int] | None = None  # how many tokens the training rows hold, and how many there are
        self.tokenizer_and_length: tuple[PreTrainedTokenizerBase, int] | None = None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        characters = sum(map(len, train.texts("text")))
        return [f"corpus: {pluralize(len(train), 'document')} of {characters / len(train):,.0f} characters on average"]

    def load_config(self, config: PreTrainedConfig) -> None:
        """The tokenizer says all that there is to know."""

    def set_metrics(self, names: Sequence[str]) -> None:
        self.mask_each_token = any(name.startswith("pseudo") for name in names)

    def head(self) -> Head:
        return Head(
            "AutoModelForMaskedLM", output_bias_init=self.log_frequencies, vocab_use=self.vocab_use, positions="labels"
        )

    def tokenize(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> TokenizedDocuments:
        """The tokens of the rows' documents, from the cache where they were made before."""
        from llmkit.models.tokenizers.cache import tokenize_corpus

        return tokenize_corpus(rows.texts("text"), tokenizer, self.build_joiner(tokenizer), rows.digest("text"))

    def encode_train(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        from llmkit.models.tokenizers.cache import detect_frame

        found, frame = self.tokenize(rows, tokenizer), detect_frame(tokenizer)
        check_unknown_share(found.tokens, tokenizer, rows.name)
        blocks = Blocks(found, split_into_chunks(found.ends, max_length, frame.size, self.options.packing), frame)
        if not len(blocks):
            raise DataError(f"{rows.name}: no token in it", "name texts that the tokenizer reads")
        self.masking = self.build_masking(tokenizer)
        self.special = frame
        counts = count_tokens(found.tokens, len(tokenizer))
        words = self.masking.random_token_ids
        self.vocab_use = (int((counts[words] > 1).sum()), len(words))
        self.log_frequencies = np.log(counts / counts.sum()).tolist()
        return EncodedRows(blocks, 0, blocks.first_document)

    def stream(self, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Feature]:
        from llmkit.models.tokenizers.cache import tokenize_batches

        joiner = self.build_joiner(tokenizer)
        for ids, sizes, joined in tokenize_batches(texts, tokenizer, joiner, np.int64):
            ends = np.cumsum(sizes)
            pieces = split_into_chunks(ends, max_length, self.special.size, self.options.packing)
            yield from Blocks(TokenizedDocuments(ids, ends, joined), pieces, self.special)

    def build_joiner(self, tokenizer: PreTrainedTokenizerBase) -> WordBoundaries | None:
        """What tells which tokens make a word, where whole words are hidden."""
        from llmkit.models.tokenizers.word_boundaries import WordBoundaries

        return WordBoundaries(tokenizer, self.options.word_segmenter) if self.options.whole_words else None

    def build_masking(self, tokenizer: PreTrainedTokenizerBase) -> Masking:
        """How tokens are hidden in training."""
        special = set(tokenizer.all_special_ids)
        words = np.array([i for i in range(len(tokenizer)) if i not in special], dtype=np.int64)
        own = self.options
        return Masking(
            int(tokenizer.mask_token_id), words, own.mlm_probability, own.mask_replace_prob, own.random_replace_prob
        )

    def augment(self, feature: Feature, key: Sequence[int]) -> list[Feature]:
        ids, sizes = feature["input_ids"], feature["sizes"]
        special = np.concatenate([build_special_tokens_mask(self.special, size) for size in sizes])
        hidden, labels = mask_tokens(ids, special, key, self.masking, feature.get("continues_word"))
        ends = np.cumsum(sizes)[:-1]
        pieces = zip(np.split(hidden, ends), np.split(labels, ends), strict=True)
        return [{"input_ids": one, "labels": label} for one, label in pieces]

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """One feature a piece of a document, `row` says of which; hidden are the same tokens for every model."""
        from llmkit.models.tokenizers.cache import detect_frame, tokenize_batches

        self.tokenizer_and_length = (tokenizer, max_length)
        self.special = frame = detect_frame(tokenizer)
        how = Masking(
            int(tokenizer.mask_token_id), np.zeros(1, dtype=np.int64), mask_replace_prob=1.0, random_replace_prob=0.0
        )
        unasked = SpecialTokens((IGNORE_INDEX,) * len(frame.prefix), (IGNORE_INDEX,) * len(frame.suffix))
        features: list[Feature] = []
        begin = 0
        for ids, sizes, _ in tokenize_batches(rows.texts("text"), tokenizer, None, np.int64):
            ends = np.cumsum(sizes)
            hidden, labels = mask_documents(ids, ends, frame, how)
            pieces = split_into_chunks(ends, max_length, frame.size, "documents")
            for at in range(len(pieces)):
                one = {
                    "input_ids": add_special_tokens(hidden, pieces, at, frame),
                    "labels": add_special_tokens(labels, pieces, at, unasked),
                }
                row = begin + int(pieces.document[at])
                features.append({name: numbers.tolist() for name, numbers in one.items()} | {"row": row})
            # A text without tokens: nothing is asked of it, and a model wants one token at least.
            bare = [*frame.prefix, *frame.suffix] or [int(tokenizer.pad_token_id)]
            for row in (begin + np.flatnonzero(sizes == 0)).tolist():
                features.append({"input_ids": bare, "labels": [IGNORE_INDEX] * len(bare), "row": row})
            begin += len(sizes)
        return EncodedRows(sorted(features, key=lambda one: int(one["row"])), 0)

    def encode_predict(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """Texts with masks to fill in."""
        from llmkit.models.tokenizers import encode

        self.tokenizer_and_length = (tokenizer, max_length)
        texts = [text if tokenizer.mask_token in text else text.replace(MASK_PLACEHOLDER, tokenizer.mask_token)
                 for text in rows.texts("text")]  # fmt: skip
        for at, text in enumerate(texts):
            if tokenizer.mask_token not in text:
                mend = f"write {MASK_PLACEHOLDER} where a word is to be filled in; to score texts use `llmkit eval`"
                raise DataError(f"{rows.location(at)}: no {MASK_PLACEHOLDER} in the text", mend)
        features, cut_short = encode.encode_texts(tokenizer, texts, max_length)
        for at, (feature, text) in enumerate(zip(features, texts, strict=True)):
            if feature["input_ids"].count(tokenizer.mask_token_id) < text.count(tokenizer.mask_token):
                what = f"{rows.location(at)}: a {MASK_PLACEHOLDER} stands beyond the {max_length} tokens that the model reads"
                raise DataError(what, "give a shorter text")
            feature["text"] = text
        return EncodedRows(features, cut_short)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        from llmkit.models.tokenizers import encode

        return lambda features: encode.pad_with_labels(tokenizer, features, IGNORE_INDEX)

    def num_items(self, batch: Batch) -> float:
        return float((batch["labels"] != IGNORE_INDEX).sum())

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        labels, logits = batch["labels"], outputs.logits
        wanted = labels != IGNORE_INDEX
        # A sparse head gives the labelled positions alone, in the same order.
        chosen = logits[wanted] if logits.shape[:-1] == labels.shape else logits.flatten(0, -2)
        return cross_entropy(chosen.float(), labels[wanted], reduction="sum")

    def predict(self, model: PreTrainedModel, batch: Batch) -> list[Any]:
        from llmkit.models import fill_mask

        if self.use_sparse_head is None:
            self.use_sparse_head = fill_mask.can_select_positions(model, batch)
        if "labels" not in batch:
            assert self.tokenizer_and_length is not None
            return fill_mask.predict_masked_tokens(
                model,
                batch,
                int(self.tokenizer_and_length[0].mask_token_id),
                self.top_k or DEFAULT_TOP_K,
                self.use_sparse_head,
            )
        sums = fill_mask.sum_masked_losses(model, batch, self.use_sparse_head)
        if self.mask_each_token:
            assert self.tokenizer_and_length is not None
            size = (len(self.special.prefix), len(self.special.suffix))
            more = fill_mask.sum_pseudo_losses(
                model, batch, int(self.tokenizer_and_length[0].mask_token_id), size, self.use_sparse_head
            )
            sums = [one | other for one, other in zip(sums, more, strict=True)]
        return sums

    def decode(self, outputs: Sequence[Any], features: Sequence[Feature]) -> list[Prediction]:
        if not features:
            return []
        if "row" not in features[0]:
            return [self.fill_masks(feature["text"], masks) for feature, masks in zip(features, outputs, strict=True)]
        names = ("loss", "masked", "correct", *(("pseudo_loss", "tokens") if self.mask_each_token else ()))
        totals: dict[int, dict[str, float]] = {}
        for feature, sums in zip(features, outputs, strict=True):
            total = totals.setdefault(feature["row"], dict.fromkeys(names, 0.0))
            for name in names:
                total[name] += sums[name]
        return [Prediction(None, extra={"sums": totals[row]}) for row in sorted(totals)]

    def fill_masks(self, text: str, masks: Sequence[Sequence[tuple[int, float]]]) -> Prediction:
        """The text with the likeliest token in each mask, and the likeliest ones with their probabilities."""
        from llmkit.models.tokenizers.detokenize import fill_masks

        assert self.tokenizer_and_length is not None
        whole, options = fill_masks(text, masks, self.tokenizer_and_length[0])
        return Prediction(whole, options[0]) if len(options) == 1 else Prediction(whole, extra={"masks": options})

    def predict_unigrams(self, train: Rows, rows: Rows) -> list[Prediction]:
        """What the shares of the tokens in `train` say of the hidden tokens of `rows`; one is added to each count."""
        assert self.tokenizer_and_length is not None
        tokenizer, length = self.tokenizer_and_length
        counts = count_tokens(self.tokenize(train, tokenizer).tokens, len(tokenizer))
        losses, best = -np.log(counts / counts.sum()), int(counts.argmax())
        outputs = []
        for feature in (features := self.encode(rows, tokenizer, length).features):
            ids, labels = np.array(feature["input_ids"]), np.array(feature["labels"])
            asked = labels[labels != IGNORE_INDEX]
            sums = {"loss": float(losses[asked].sum()), "masked": len(asked), "correct": int((asked == best).sum())}
            whole = np.where(labels == IGNORE_INDEX, ids, labels)
            text = whole[~build_special_tokens_mask(self.special, len(whole))]
            outputs.append(sums | {"pseudo_loss": float(losses[text].sum()), "tokens": len(text)})
        return self.decode(outputs, features)

    def references(self, rows: Rows) -> list[Any]:
        return [None] * len(rows)

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Prediction]) -> dict[str, Score]:
        return score_masked_lm(names, [one.extra["sums"] for one in answers], self.eval_masking_signature())

    def eval_masking_signature(self) -> str:
        """How tokens were hidden, and of which vocabulary they are: losses of two vocabularies cannot be compared."""
        if self.tokenizer_and_length is None:
            return EVAL_MASKING
        words = sorted(self.tokenizer_and_length[0].get_vocab().items(), key=lambda one: one[1])
        return f"{EVAL_MASKING}|vocabulary sha256:{hash_text(json.dumps(words))[:12]}"

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        return make_masked_lm_statistic(names, [one.extra["sums"] for one in answers])


def count_tokens(tokens: Any, words: int) -> np.ndarray:
    """How often each token is there, one added; some at a time, as a corpus may be larger than memory."""
    total = np.ones(words)
    for at in range(0, len(tokens), COUNTED_TOKENS):
        total += np.bincount(tokens[at : at + COUNTED_TOKENS], minlength=words)
    return total


def check_unknown_share(tokens: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise DataError where the tokenizer knows next to nothing of the corpus."""
    if tokenizer.unk_token_id is None or not len(tokens):
        return
    share = float(np.mean(tokens == tokenizer.unk_token_id))
    if share > MAX_UNKNOWN_SHARE:
        mend = "name a model of this language, or begin with --from-config and a tokenizer of your own"
        raise DataError(f"{name}: the tokenizer does not know {share:.0%} of the tokens", mend)
