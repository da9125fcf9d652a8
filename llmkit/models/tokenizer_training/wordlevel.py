"""Trains the word-level tokenizer of RNN and CNN models: words of the training rows, most frequent first."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from llmkit.errors import DataError
from llmkit.models.tokenizer_training.pipelines import UNK_TOKEN, build_wordpiece
from llmkit.models.tokenizers.word_boundaries import UNSPACED_LETTER
from llmkit.schema import VocabularySection

WORD_LEVEL_SPECIAL_TOKENS = {"pad_token": "[PAD]", "unk_token": UNK_TOKEN, "sep_token": "[SEP]"}


def train_word_tokenizer(texts: Iterable[str], options: VocabularySection) -> PreTrainedTokenizerFast:
    """Train a word-level tokenizer on `texts` as the recipe's section asks; the same texts give the same ids.

    Punctuation marks, and characters of scripts without spaces, are words of their own. [SEP] is appended to each text,
    so that an empty text still has one token. Raises DataError if no word is frequent enough.
    """
    tokenizer = build_wordpiece(options.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(UNSPACED_LETTER), behavior="isolated"), pre_tokenizers.BertPreTokenizer(),
    ])  # fmt: skip
    tokenizer.model = models.WordLevel(unk_token=UNK_TOKEN)
    tokenizer.decoder = None
    special_tokens = list(WORD_LEVEL_SPECIAL_TOKENS.values())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B [SEP]", special_tokens=[("[SEP]", special_tokens.index("[SEP]"))]
    )
    trainer = trainers.WordLevelTrainer(
        vocab_size=options.size + len(special_tokens), min_frequency=options.min_frequency,
        special_tokens=special_tokens, show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() <= len(special_tokens):
        if options.min_frequency == 1:
            raise DataError("no word in the training rows", "name rows with text")
        what = f"no word occurs {options.min_frequency:,} times in the training rows"
        raise DataError(what, "lower model.vocabulary.min_frequency, or use more rows")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **WORD_LEVEL_SPECIAL_TOKENS
    )
