"""Trains the vocabulary of each kind of tokenizer, deterministically as far as the trainers allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import chain

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from llmkit.errors import DataError
from llmkit.models.tokenizer_training.pipelines import (
    CONTINUATION_PREFIX,
    SPECIAL_TOKENS,
    TOKENIZER_BUILDERS,
    UNK_TOKEN,
)

DEFAULT_MIN_FREQUENCY = 2  # how often a pair must occur to be merged
SCORE_STEP = 1e-4  # between the scores of characters that the unigram trainer would have pruned
SCORE_DIGITS = 6  # decimals of a unigram score: further ones depend on the order of summation
MAX_PIECE_LENGTH = 16  # characters of a unigram token, SentencePiece's default
METASPACE = "▁"
WORD_END = "\uffff"  # a noncharacter: it does not occur in texts
SPECIAL_TOKEN_LIST = list(SPECIAL_TOKENS.values())
TextStream = Callable[[str], Iterator[str]]  # maps the name of a pass (for its progress bar) to a stream of the texts


def train_vocabulary(
    kind: str, texts: TextStream, vocab_size: int, lowercase: bool, min_frequency: int | None, corpus: str
) -> Tokenizer:
    """Train a tokenizer of `kind` with exactly `vocab_size` tokens, special tokens first.

    `corpus` is the name of the texts in messages. Raises DataError if the texts have more characters than that, or too
    few words.
    """
    if kind == "bpe":
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    else:
        alphabet = collect_alphabet(kind, lowercase, texts("characters"))
    smallest = check_vocab_room(vocab_size, len(alphabet), kind, corpus)
    empty = TOKENIZER_BUILDERS[kind](lowercase)
    if kind == "wordpiece":
        tokenizer = train_wordpiece(empty, texts("words"), vocab_size, min_frequency or DEFAULT_MIN_FREQUENCY, alphabet)
    elif kind == "bpe":
        tokenizer = train_bpe(empty, texts("words"), vocab_size, min_frequency or DEFAULT_MIN_FREQUENCY, alphabet)
    else:
        seeds = list_frequent_words(lowercase, texts("words"))
        tokenizer = train_unigram(empty, chain(texts("token scores"), seeds), vocab_size)
    size = tokenizer.get_vocab_size()
    if size < vocab_size:
        fix = f"write --vocab-size {size}"
        if size > smallest:
            fix += " or less, lower --min-frequency" if (min_frequency or 1) > 1 else " or less"
        raise DataError(f"{corpus}: enough text for {size:,} tokens, not for --vocab-size {vocab_size:,}",
                        f"{fix}, or use more text")  # fmt: skip
    return tokenizer


def collect_alphabet(kind: str, lowercase: bool, texts: Iterator[str]) -> list[str]:
    """Return the sorted characters of the normalized texts; WordPiece has word-internal characters as separate ones."""
    probe = TOKENIZER_BUILDERS[kind](lowercase)
    probe.model = models.BPE()
    trainer = trainers.BpeTrainer(vocab_size=0, show_progress=False)
    if kind == "wordpiece":
        trainer.continuing_subword_prefix = CONTINUATION_PREFIX
    probe.train_from_iterator(texts, trainer)
    return sorted(probe.get_vocab())


def check_vocab_room(vocab_size: int, alphabet_size: int, kind: str, corpus: str) -> int:
    """Return the smallest size with room for special tokens and all characters. Raises DataError if it is too large."""
    # The unigram trainer does not terminate without a token longer than a character.
    smallest = len(SPECIAL_TOKEN_LIST) + alphabet_size + (kind == "unigram")
    if vocab_size >= smallest:
        return smallest
    option = f"--vocab-size {vocab_size:,}"
    if kind == "bpe":
        what = f"{option}: no room for {alphabet_size} bytes and {len(SPECIAL_TOKEN_LIST)} special tokens"
        raise DataError(what, f"write --vocab-size {smallest} or more")
    characters = f"{alphabet_size:,} characters and {len(SPECIAL_TOKEN_LIST)} special tokens"
    what = f"{corpus}: {option} leaves no room for its {characters}"
    raise DataError(what, f"write --vocab-size {smallest} or more, or --kind bpe, which encodes characters as bytes")


def train_wordpiece(
    tokenizer: Tokenizer, texts: Iterator[str], vocab_size: int, min_frequency: int, alphabet: list[str]
) -> Tokenizer:
    """Train a WordPiece vocabulary and set it in `tokenizer`.

    The trainer numbers word-internal characters in the order of a hash map, which differs between processes, and breaks
    ties by id. Passing them as special tokens fixes their ids.
    """
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, show_progress=False,
        special_tokens=[*SPECIAL_TOKEN_LIST, *alphabet], continuing_subword_prefix=CONTINUATION_PREFIX,
    )  # fmt: skip
    scratch = Tokenizer(tokenizer.model)
    scratch.normalizer, scratch.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    scratch.train_from_iterator(texts, trainer)
    tokenizer.model = models.WordPiece(
        scratch.get_vocab(), unk_token=UNK_TOKEN, continuing_subword_prefix=CONTINUATION_PREFIX
    )
    tokenizer.add_special_tokens(SPECIAL_TOKEN_LIST)
    return tokenizer


def train_bpe(
    tokenizer: Tokenizer, texts: Iterator[str], vocab_size: int, min_frequency: int, alphabet: list[str]
) -> Tokenizer:
    """Train a byte-level BPE vocabulary, including all 256 bytes, and set it in `tokenizer`."""
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, show_progress=False, special_tokens=SPECIAL_TOKEN_LIST,
        initial_alphabet=alphabet,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def list_frequent_words(lowercase: bool, texts: Iterator[str]) -> list[str]:
    """Return each word that occurs at least twice with WORD_END appended, as additional training texts.

    The unigram trainer takes its seed tokens from the set of distinct words, and only those with two different
    continuations: `had` never becomes a token if no longer word begins with it, however often it occurs. WORD_END is
    that second continuation. https://github.com/huggingface/tokenizers/issues/1027
    """
    probe = TOKENIZER_BUILDERS["unigram"](lowercase)
    probe.model = models.WordLevel()
    trainer = trainers.WordLevelTrainer(vocab_size=2**31, min_frequency=DEFAULT_MIN_FREQUENCY, show_progress=False)
    probe.train_from_iterator(texts, trainer)
    words = sorted(
        word for word in probe.get_vocab() if word.startswith(METASPACE) and 1 < len(word) <= MAX_PIECE_LENGTH
    )
    return [word.removeprefix(METASPACE) + WORD_END for word in words]


def train_unigram(tokenizer: Tokenizer, texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """Train a unigram vocabulary and set it in `tokenizer`, sorted by score so that ids are reproducible."""
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size + 1, show_progress=False, special_tokens=SPECIAL_TOKEN_LIST, unk_token=UNK_TOKEN,
        max_piece_length=MAX_PIECE_LENGTH,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    trained = {piece: round(score, SCORE_DIGITS) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]}
    scores = stabilize_rare_scores(
        {piece: score for piece, score in trained.items() if piece not in (*SPECIAL_TOKEN_LIST, WORD_END)}
    )
    pieces = sorted(scores.items(), key=lambda item: (-item[1], item[0]))
    special = [(name, 0.0) for name in SPECIAL_TOKEN_LIST]
    tokenizer.model = models.Unigram([*special, *pieces], unk_id=SPECIAL_TOKEN_LIST.index(UNK_TOKEN))
    return tokenizer


def stabilize_rare_scores(scores: dict[str, float]) -> dict[str, float]:
    """Reassign the scores of the rarest characters in the order of the characters.

    Characters that the trainer would have pruned get the lowest score, then one SCORE_STEP more, and so on, in the
    order of a hash map, which differs between processes.
    """
    lowest = min((score for piece, score in scores.items() if len(piece) == 1), default=0.0)
    steps: dict[int, list[str]] = {}
    for piece, score in scores.items():
        step = round((score - lowest) / SCORE_STEP)
        if len(piece) == 1 and abs(score - lowest - step * SCORE_STEP) < SCORE_STEP / 50:
            steps.setdefault(step, []).append(piece)
    gap = next(step for step in range(len(steps) + 1) if step not in steps)
    characters = sorted(piece for step in range(gap) for piece in steps[step])
    sorted_scores = sorted((scores[piece] for piece in characters), reverse=True)
    return scores | dict(zip(characters, sorted_scores, strict=True))
