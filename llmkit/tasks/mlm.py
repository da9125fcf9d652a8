"""Masked-language modeling: predict the masked tokens of documents."""

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

MASK_PLACEHOLDER = "[MASK]"  # accepted in users' texts whatever the tokenizer's own mask token
COUNTED_TOKENS = 2**24  # tokens that are counted at a time
MAX_UNKNOWN_SHARE = 0.9  # share of unknown tokens above which training is pointless
DEFAULT_TOP_K = 5  # candidates per mask, unless the user requests another number
EVAL_MASKING = "15% replaced by the mask token, by content"  # the same in every evaluation, whatever the training keys


class MlmOptions(Section):
    """Options of masked-language modeling: masking, and packing of documents into rows."""

    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of the tokens that are selected for prediction. In evaluation it is always 0.15, and all selected tokens
    are replaced by [MASK]."""
    mask_replace_prob: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of the selected tokens that are replaced by [MASK]."""
    random_replace_prob: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Share of the selected tokens that are replaced by a random token; the rest stays unchanged but is predicted."""
    whole_words: bool = False
    """Whether all tokens of a word are selected together."""
    word_segmenter: NonEmptyText | None = None
    """How words are found in scripts without spaces, with whole_words: jieba, or a file with one word per line.
    Default: each character is a word."""
    packing: Literal["blocks", "documents"] = "blocks"
    """blocks: documents fill rows of model.max_length tokens, and attention stays within each document; documents: one
    document per row. A document that is longer than a row continues in the next."""

    @model_validator(mode="after")
    def check_conflicts(self) -> MlmOptions:
        found = []
        if self.mask_replace_prob + self.random_replace_prob > 1:
            both = f"{self.mask_replace_prob:g} plus random_replace_prob {self.random_replace_prob:g}"
            reason = f"{both} is more than 1; make the sum 1 or less"
            found.append(Conflict(("mask_replace_prob", "random_replace_prob"), reason))
        if self.word_segmenter is not None and not self.whole_words:
            reason = "applies only with whole_words: true; write both or none"
            found.append(Conflict(("word_segmenter", "whole_words"), reason))
        if found:
            raise PydanticCustomError("conflict", "keys conflict", {"conflicts": found})
        return self


class Mlm(Task):
    """Masked-language modeling of a corpus of documents."""

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
        "finetune-classify --model {run} --train labeled.csv",
    )

    def __init__(self, options: Section | None = None) -> None:
        super().__init__(options)
        self.mask_each_token = False  # whether each token is masked in turn, for pseudo_perplexity
        self.use_sparse_head: bool | None = None  # whether the head may run at labeled positions only; None: not tried
        self.log_frequencies: list[float] | None = None  # log of each token's share of the training tokens
        self.vocab_use: tuple[int, int] | None = None  # distinct tokens in training, and tokens that could occur
        self.tokenizer_and_length: tuple[PreTrainedTokenizerBase, int] | None = None

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        characters = sum(map(len, train.texts("text")))
        return [f"corpus: {pluralize(len(train), 'document')} of {characters / len(train):,.0f} characters on average"]

    def load_config(self, config: PreTrainedConfig) -> None:
        """Nothing to load: all that this task needs is in the tokenizer."""

    def set_metrics(self, names: Sequence[str]) -> None:
        self.mask_each_token = any(name.startswith("pseudo") for name in names)

    def head(self) -> Head:
        return Head(
            "AutoModelForMaskedLM", output_bias_init=self.log_frequencies, vocab_use=self.vocab_use, positions="labels"
        )

    def tokenize(self, rows: Rows, tokenizer: PreTrainedTokenizerBase) -> TokenizedDocuments:
        """Tokenize the rows' documents, or read their tokens from the cache."""
        from llmkit.models.tokenizers.cache import tokenize_corpus

        return tokenize_corpus(rows.texts("text"), tokenizer, self.build_joiner(tokenizer), rows.digest("text"))

    def encode_train(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        from llmkit.models.tokenizers.cache import detect_frame

        documents, frame = self.tokenize(rows, tokenizer), detect_frame(tokenizer)
        check_unknown_share(documents.tokens, tokenizer, rows.name)
        chunks = split_into_chunks(documents.ends, max_length, frame.size, self.options.packing)
        blocks = Blocks(documents, chunks, frame)
        if not len(blocks):
            raise DataError(f"{rows.name}: no token in it", "use texts that the tokenizer can encode")
        self.masking = self.build_masking(tokenizer)
        self.special = frame
        counts = count_tokens(documents.tokens, len(tokenizer))
        usable = self.masking.random_token_ids
        self.vocab_use = (int((counts[usable] > 1).sum()), len(usable))
        self.log_frequencies = np.log(counts / counts.sum()).tolist()
        return EncodedRows(blocks, 0, blocks.first_document)

    def stream(self, texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, max_length: int) -> Iterator[Feature]:
        from llmkit.models.tokenizers.cache import tokenize_batches

        joiner = self.build_joiner(tokenizer)
        for ids, sizes, joined in tokenize_batches(texts, tokenizer, joiner, np.int64):
            ends = np.cumsum(sizes)
            chunks = split_into_chunks(ends, max_length, self.special.size, self.options.packing)
            yield from Blocks(TokenizedDocuments(ids, ends, joined), chunks, self.special)

    def build_joiner(self, tokenizer: PreTrainedTokenizerBase) -> WordBoundaries | None:
        """Build the finder of the tokens that make a word; None unless whole words are masked."""
        from llmkit.models.tokenizers.word_boundaries import WordBoundaries

        return WordBoundaries(tokenizer, self.options.word_segmenter) if self.options.whole_words else None

    def build_masking(self, tokenizer: PreTrainedTokenizerBase) -> Masking:
        """Build the masking of training."""
        special = set(tokenizer.all_special_ids)
        random_token_ids = np.array([i for i in range(len(tokenizer)) if i not in special], dtype=np.int64)
        return Masking(
            int(tokenizer.mask_token_id),
            random_token_ids,
            self.options.mlm_probability,
            self.options.mask_replace_prob,
            self.options.random_replace_prob,
        )

    def augment(self, feature: Feature, key: Sequence[int]) -> list[Feature]:
        ids, sizes = feature["input_ids"], feature["sizes"]
        special = np.concatenate([build_special_tokens_mask(self.special, size) for size in sizes])
        masked, labels = mask_tokens(ids, special, key, self.masking, feature.get("continues_word"))
        ends = np.cumsum(sizes)[:-1]
        chunks = zip(np.split(masked, ends), np.split(labels, ends), strict=True)
        return [{"input_ids": one, "labels": label} for one, label in chunks]

    def encode(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """Encode each chunk of a document as a feature with its `row`; masked words are the same for every model."""
        from llmkit.models.tokenizers.cache import detect_frame, tokenize_batches

        self.tokenizer_and_length = (tokenizer, max_length)
        self.special = frame = detect_frame(tokenizer)
        masking = Masking(
            int(tokenizer.mask_token_id), np.zeros(1, dtype=np.int64), mask_replace_prob=1.0, random_replace_prob=0.0
        )
        ignored = SpecialTokens((IGNORE_INDEX,) * len(frame.prefix), (IGNORE_INDEX,) * len(frame.suffix))
        features: list[Feature] = []
        first_row = 0
        for ids, sizes, _ in tokenize_batches(rows.texts("text"), tokenizer, None, np.int64):
            ends = np.cumsum(sizes)
            masked, labels = mask_documents(ids, ends, frame, masking)
            chunks = split_into_chunks(ends, max_length, frame.size, "documents")
            for at in range(len(chunks)):
                arrays = {
                    "input_ids": add_special_tokens(masked, chunks, at, frame),
                    "labels": add_special_tokens(labels, chunks, at, ignored),
                }
                row = first_row + int(chunks.document[at])
                features.append({name: array.tolist() for name, array in arrays.items()} | {"row": row})
            # A text without tokens has no labels, but a model needs at least one input token.
            empty = [*frame.prefix, *frame.suffix] or [int(tokenizer.pad_token_id)]
            for row in (first_row + np.flatnonzero(sizes == 0)).tolist():
                features.append({"input_ids": empty, "labels": [IGNORE_INDEX] * len(empty), "row": row})
            first_row += len(sizes)
        return EncodedRows(sorted(features, key=lambda one: int(one["row"])), 0)

    def encode_predict(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        """Encode texts with masks to fill in. Raises DataError for a text without one."""
        from llmkit.models.tokenizers import encode

        self.tokenizer_and_length = (tokenizer, max_length)
        texts = [text if tokenizer.mask_token in text else text.replace(MASK_PLACEHOLDER, tokenizer.mask_token)
                 for text in rows.texts("text")]  # fmt: skip
        for at, text in enumerate(texts):
            if tokenizer.mask_token not in text:
                fix = f"write {MASK_PLACEHOLDER} where a word is to be filled in; to score texts use `llmkit eval`"
                raise DataError(f"{rows.location(at)}: no {MASK_PLACEHOLDER} in the text", fix)
        features, num_truncated = encode.encode_texts(tokenizer, texts, max_length)
        for at, (feature, text) in enumerate(zip(features, texts, strict=True)):
            if feature["input_ids"].count(tokenizer.mask_token_id) < text.count(tokenizer.mask_token):
                what = f"a {MASK_PLACEHOLDER} is beyond the {max_length} tokens that the model reads"
                raise DataError(f"{rows.location(at)}: {what}", "give a shorter text")
            feature["text"] = text
        return EncodedRows(features, num_truncated)

    def collator(self, tokenizer: PreTrainedTokenizerBase) -> Callable[[Sequence[Feature]], Batch]:
        from llmkit.models.tokenizers import encode

        return lambda features: encode.pad_with_labels(tokenizer, features, IGNORE_INDEX)

    def num_items(self, batch: Batch) -> float:
        return float((batch["labels"] != IGNORE_INDEX).sum())

    def loss(self, outputs: Any, batch: Batch) -> torch.Tensor:
        from torch.nn.functional import cross_entropy

        labels, logits = batch["labels"], outputs.logits
        labeled = labels != IGNORE_INDEX
        # A sparse head returns the labeled positions only, in the same order.
        chosen = logits[labeled] if logits.shape[:-1] == labels.shape else logits.flatten(0, -2)
        return cross_entropy(chosen.float(), labels[labeled], reduction="sum")

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
            pseudo = fill_mask.sum_pseudo_losses(
                model, batch, int(self.tokenizer_and_length[0].mask_token_id), size, self.use_sparse_head
            )
            sums = [one | other for one, other in zip(sums, pseudo, strict=True)]
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
        """Fill each mask with its most probable token; also return the top tokens with their probabilities."""
        from llmkit.models.tokenizers.detokenize import fill_masks

        assert self.tokenizer_and_length is not None
        filled, options = fill_masks(text, masks, self.tokenizer_and_length[0])
        return Prediction(filled, options[0]) if len(options) == 1 else Prediction(filled, extra={"masks": options})

    def predict_unigrams(self, train: Rows, rows: Rows) -> list[Prediction]:
        """Predict the masked tokens of `rows` by the token frequencies of `train`, with add-one smoothing."""
        assert self.tokenizer_and_length is not None
        tokenizer, length = self.tokenizer_and_length
        counts = count_tokens(self.tokenize(train, tokenizer).tokens, len(tokenizer))
        losses, best = -np.log(counts / counts.sum()), int(counts.argmax())
        outputs = []
        for feature in (features := self.encode(rows, tokenizer, length).features):
            ids, labels = np.array(feature["input_ids"]), np.array(feature["labels"])
            masked = labels[labels != IGNORE_INDEX]
            sums = {"loss": float(losses[masked].sum()), "masked": len(masked), "correct": int((masked == best).sum())}
            unmasked = np.where(labels == IGNORE_INDEX, ids, labels)
            text = unmasked[~build_special_tokens_mask(self.special, len(unmasked))]
            outputs.append(sums | {"pseudo_loss": float(losses[text].sum()), "tokens": len(text)})
        return self.decode(outputs, features)

    def references(self, rows: Rows) -> list[Any]:
        return [None] * len(rows)

    def score(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        return score_masked_lm(names, [one.extra["sums"] for one in predictions], self.eval_masking_signature())

    def eval_masking_signature(self) -> str:
        """Return the evaluation masking and the vocabulary hash: losses of two vocabularies cannot be compared."""
        if self.tokenizer_and_length is None:
            return EVAL_MASKING
        vocabulary = sorted(self.tokenizer_and_length[0].get_vocab().items(), key=lambda one: one[1])
        return f"{EVAL_MASKING}|vocabulary sha256:{hash_text(json.dumps(vocabulary))[:12]}"

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        return make_masked_lm_statistic(names, [one.extra["sums"] for one in predictions])


def count_tokens(tokens: Any, vocab_size: int) -> np.ndarray:
    """Count each token, plus one; COUNTED_TOKENS at a time, as a corpus may be larger than memory."""
    total = np.ones(vocab_size)
    for at in range(0, len(tokens), COUNTED_TOKENS):
        total += np.bincount(tokens[at : at + COUNTED_TOKENS], minlength=vocab_size)
    return total


def check_unknown_share(tokens: Any, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
    """Raise DataError if more than MAX_UNKNOWN_SHARE of the corpus's tokens are unknown to the tokenizer."""
    if tokenizer.unk_token_id is None or not len(tokens):
        return
    share = float(np.mean(tokens == tokenizer.unk_token_id))
    if share > MAX_UNKNOWN_SHARE:
        fix = "use a model of this language, or train from scratch with --from-config and your own tokenizer"
        raise DataError(f"{name}: the tokenizer does not know {share:.0%} of the tokens", fix)
