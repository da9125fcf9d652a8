"""The vocabulary of a network that came before: whole words of the training rows, the most frequent first."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from llmkit.errors import DataError
from llmkit.models.tokenizer_training.pipelines import UNK_TOKEN, build_wordpiece
from llmkit.models.tokenizers.word_boundaries import UNSPACED_LETTER
from llmkit.schema import VocabularySection

WORD_LEVEL_SPECIAL_TOKENS = {"pad_token": "[PAD]", "unk_token": UNK_TOKEN, "sep_token": "[SEP]"}


def train_word_tokenizer(texts: Iterable[str], wanted: VocabularySection) -> PreTrainedTokenizerFast:
    """A tokenizer that knows the words of `texts` as `wanted` says; the same texts give the same numbers.

    Punctuation stands apart, and so does each letter of a script without spaces. Every text ends in [SEP], so that one
    of which nothing is left still is something to read. Raises DataError where no word is frequent enough.
    """
    tokenizer = build_wordpiece(wanted.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(UNSPACED_LETTER), behavior="isolated"), pre_tokenizers.BertPreTokenizer(),
    ])  # fmt: skip
    tokenizer.model = models.WordLevel(unk_token=UNK_TOKEN)
    tokenizer.decoder = None
    names = list(WORD_LEVEL_SPECIAL_TOKENS.values())
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", pair="$A [SEP] $B [SEP]", special_tokens=[("[SEP]", names.index("[SEP]"))]
    )
    trainer = trainers.WordLevelTrainer(
        vocab_size=wanted.size + len(names), min_frequency=wanted.min_frequency, special_tokens=names,
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() <= len(names):
        if wanted.min_frequency == 1:
            raise DataError("no word in the training rows", "name rows with text")
        what = f"no word occurs {wanted.min_frequency:,} times in the training rows"
        raise DataError(what, "lower model.vocabulary.min_frequency, or name more rows")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask"], **WORD_LEVEL_SPECIAL_TOKENS
    )
