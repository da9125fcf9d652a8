"""The pieces that a tokenizer of each kind learns from texts, the same each time where that can be had."""

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

DEFAULT_MIN_FREQUENCY = 2  # how often a pair must occur to become a piece
SCORE_STEP = 1e-4  # between the scores of characters that a unigram trainer would have dropped
SCORE_DIGITS = 6  # of a unigram piece's score: those behind them hang on the order in which sums are taken
MAX_PIECE_LENGTH = 16  # characters of a unigram piece, as SentencePiece has it
METASPACE = "▁"
WORD_END = "\uffff"  # no character: no text holds it
SPECIAL_TOKEN_LIST = list(SPECIAL_TOKENS.values())
TextStream = Callable[[str], Iterator[str]]  # a stream of the texts for a purpose, which its progress is called by


def train_vocabulary(
    kind: str, texts: TextStream, vocab_size: int, lowercase: bool, min_frequency: int | None, corpus: str
) -> Tokenizer:
    """A tokenizer of `kind` with exactly `vocab_size` pieces, the special tokens first.

    `corpus` is what messages call the texts. Raises DataError where they have more characters than that, or too few
    words.
    """
    if kind == "bpe":
        letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    else:
        letters = collect_alphabet(kind, lowercase, texts("its characters"))
    least = check_vocab_room(vocab_size, len(letters), kind, corpus)
    empty = TOKENIZER_BUILDERS[kind](lowercase)
    if kind == "wordpiece":
        tokenizer = train_wordpiece(
            empty, texts("its words"), vocab_size, min_frequency or DEFAULT_MIN_FREQUENCY, letters
        )
    elif kind == "bpe":
        tokenizer = train_bpe(empty, texts("its words"), vocab_size, min_frequency or DEFAULT_MIN_FREQUENCY, letters)
    else:
        seeds = list_frequent_words(lowercase, texts("its words"))
        tokenizer = train_unigram(empty, chain(texts("how to weigh them"), seeds), vocab_size)
    made = tokenizer.get_vocab_size()
    if made < vocab_size:
        size = f"--vocab-size {made}"
        if made > least:
            size += " or less, lower --min-frequency" if (min_frequency or 1) > 1 else " or less"
        raise DataError(f"{corpus}: enough text for {made:,} pieces, not for --vocab-size {vocab_size:,}",
                        f"write {size}, or name more text")  # fmt: skip
    return tokenizer


def collect_alphabet(kind: str, lowercase: bool, texts: Iterator[str]) -> list[str]:
    """The characters of the texts as the tokenizer sees them, within a word apart from those that begin one."""
    probe = TOKENIZER_BUILDERS[kind](lowercase)
    probe.model = models.BPE()
    trainer = trainers.BpeTrainer(vocab_size=0, show_progress=False)
    if kind == "wordpiece":
        trainer.continuing_subword_prefix = CONTINUATION_PREFIX
    probe.train_from_iterator(texts, trainer)
    return sorted(probe.get_vocab())


def check_vocab_room(vocab_size: int, letters: int, kind: str, corpus: str) -> int:
    """The least size that holds the special tokens and all characters. Raises DataError where that is too large."""
    least = len(SPECIAL_TOKEN_LIST) + letters + (kind == "unigram")  # whose trainer knows no end without a longer piece
    if vocab_size >= least:
        return least
    asked = f"--vocab-size {vocab_size:,}"
    if kind == "bpe":
        what = f"{asked}: no room for {letters} bytes and {len(SPECIAL_TOKEN_LIST)} special tokens"
        raise DataError(what, f"write --vocab-size {least} or more")
    what = (
        f"{corpus}: {asked} leaves no room for its {letters:,} characters and {len(SPECIAL_TOKEN_LIST)} special tokens"
    )
    raise DataError(what, f"write --vocab-size {least} or more, or --kind bpe, which spells characters in bytes")


def train_wordpiece(
    tokenizer: Tokenizer, texts: Iterator[str], vocab_size: int, min_frequency: int, letters: list[str]
) -> Tokenizer:
    """`tokenizer` with the pieces of the texts.

    The trainer numbers the characters within words as it meets them, which is another order in each process, and
    breaks ties by number. Named as special tokens they are numbered beforehand.
    """
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, show_progress=False, special_tokens=[*SPECIAL_TOKEN_LIST, *letters],
        continuing_subword_prefix=CONTINUATION_PREFIX,
    )  # fmt: skip
    school = Tokenizer(tokenizer.model)
    school.normalizer, school.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    school.train_from_iterator(texts, trainer)
    tokenizer.model = models.WordPiece(
        school.get_vocab(), unk_token=UNK_TOKEN, continuing_subword_prefix=CONTINUATION_PREFIX
    )
    tokenizer.add_special_tokens(SPECIAL_TOKEN_LIST)
    return tokenizer


def train_bpe(
    tokenizer: Tokenizer, texts: Iterator[str], vocab_size: int, min_frequency: int, letters: list[str]
) -> Tokenizer:
    """`tokenizer` with the pieces of the texts, all 256 bytes among them."""
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=min_frequency, show_progress=False, special_tokens=SPECIAL_TOKEN_LIST,
        initial_alphabet=letters,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def list_frequent_words(lowercase: bool, texts: Iterator[str]) -> list[str]:
    """Each word of the texts that occurs twice, with END behind it, to be learned from beside the texts.

    The unigram trainer looks for pieces among different words only, and takes those that go on in two ways: `had`
    never came to be a piece where no longer word begins with it, however often it occurs. END is the second way.
    https://github.com/huggingface/tokenizers/issues/1027
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
    """`tokenizer` with the pieces of the texts and their scores, in an order that says nothing of the training's."""
    trainer = trainers.UnigramTrainer(
        vocab_size=vocab_size + 1, show_progress=False, special_tokens=SPECIAL_TOKEN_LIST, unk_token=UNK_TOKEN,
        max_piece_length=MAX_PIECE_LENGTH,
    )  # fmt: skip
    tokenizer.train_from_iterator(texts, trainer)
    found = {piece: round(score, SCORE_DIGITS) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]}
    scores = stabilize_rare_scores(
        {piece: score for piece, score in found.items() if piece not in (*SPECIAL_TOKEN_LIST, WORD_END)}
    )
    pieces = [*((name, 0.0) for name in SPECIAL_TOKEN_LIST), *sorted(scores.items(), key=lambda one: (-one[1], one[0]))]
    tokenizer.model = models.Unigram(pieces, unk_id=SPECIAL_TOKEN_LIST.index(UNK_TOKEN))
    return tokenizer


def stabilize_rare_scores(scores: dict[str, float]) -> dict[str, float]:
    """The scores, with those of the rarest characters in the order of the characters.

    The trainer scores what it keeps only because no character may go as the lowest of all, then a STEP above, and so
    on as it meets them: that is another order in each process.
    """
    low = min((score for piece, score in scores.items() if len(piece) == 1), default=0.0)
    ladder: dict[int, list[str]] = {}
    for piece, score in scores.items():
        step = round((score - low) / SCORE_STEP)
        if len(piece) == 1 and abs(score - low - step * SCORE_STEP) < SCORE_STEP / 50:
            ladder.setdefault(step, []).append(piece)
    top = next(step for step in range(len(ladder) + 1) if step not in ladder)
    kept = sorted(piece for step in range(top) for piece in ladder[step])
    again = sorted((scores[piece] for piece in kept), reverse=True)
    return scores | dict(zip(kept, again, strict=True))
