"""What a label says of a text's sentiment: from the usual spellings to five words, by tables that can be read.

A word or a count of stars means the same everywhere. A number means something by its scale alone, so all numbers of a
file are looked at together: where they can be read in more than one way, nothing is guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import NamedTuple

import pyarrow as pa

from llmkit.data.columns import truncate_cell
from llmkit.data.labels.cells import is_plain_number
from llmkit.data.row_errors import RowError, join_names, raise_errors
from llmkit.data.rows import Rows
from llmkit.errors import DataError

VERY_NEGATIVE, NEGATIVE, NEUTRAL, POSITIVE, VERY_POSITIVE = SENTIMENTS = (
    "very negative", "negative", "neutral", "positive", "very positive",
)  # fmt: skip
SENTIMENT_POLARITY = {VERY_NEGATIVE: NEGATIVE, VERY_POSITIVE: POSITIVE}  # the word without its strength

SENTIMENT_SPELLINGS: Mapping[str, Sequence[str]] = {  # folded: see `fold`
    VERY_NEGATIVE: ("very negative", "very neg", "strongly negative", "extremely negative", "most negative", "n+",
                    "very bad", "非常负面", "非常消极", "非常差", "很差", "强烈负面"),
    NEGATIVE: ("negative", "neg", "n", "bad", "unfavorable", "unfavourable", "dislike", "disliked", "thumbs down",
               "负面", "負面", "消极", "消極", "负向", "贬义", "差评", "差評", "负", "不喜欢", "不喜歡", "讨厌",
               "不好", "坏"),
    NEUTRAL: ("neutral", "neu", "neut", "neutrality", "中性", "中立", "中评", "中評", "一般", "中"),
    POSITIVE: ("positive", "pos", "p", "good", "favorable", "favourable", "like", "liked", "thumbs up",
               "正面", "积极", "積極", "正向", "褒义", "好评", "好評", "正", "喜欢", "喜歡", "好"),
    VERY_POSITIVE: ("very positive", "very pos", "strongly positive", "extremely positive", "most positive", "p+",
                    "very good", "非常正面", "非常积极", "非常好", "很好", "非常喜欢", "强烈正面"),
}  # fmt: skip
SENTIMENT_BY_SPELLING = {spelling: word for word, some in SENTIMENT_SPELLINGS.items() for spelling in some}

# Numbers that have one sensible reading, each scale with the sets of numbers that it is recognised by. Not among them
# on purpose: 0/1/2 (neutral is the 1 of some sets and the 2 of others), 1/2 and 1/2/3 (stars, or classes by number).
RATING_SCALES: Mapping[str, Mapping[int, str]] = {
    "0 1": {0: NEGATIVE, 1: POSITIVE},
    "-1 1": {-1: NEGATIVE, 0: NEUTRAL, 1: POSITIVE},
    "-2 2": dict(zip(range(-2, 3), SENTIMENTS, strict=True)),
    "0 4": dict(zip(range(5), SENTIMENTS, strict=True)),
    "0 2 4": {0: NEGATIVE, 2: NEUTRAL, 4: POSITIVE},  # Sentiment140
    "1 5": dict(zip(range(1, 6), SENTIMENTS, strict=True)),
}
SENTIMENTS_BY_COUNT = {
    2: (NEGATIVE, POSITIVE),
    3: (NEGATIVE, NEUTRAL, POSITIVE),
    5: SENTIMENTS,
}  # what so many numbers may stand for

INTEGER_RATING = re.compile(r"([+-]?[0-9])(?:\.0+)?")
STAR_COUNT = re.compile(r"([1-5])(?:\.0+)? ?(?:stars?|星|顆星|颗星|/ ?5)|([一二三四五]) ?[颗顆]?星")
STAR_SYMBOLS = re.compile(r"([★⭐]{1,5})☆*")
SPELLING_CUTOFF = 0.85  # of difflib's ratio: one letter wrong or missing
CHINESE_DIGITS = "一二三四五"
BOOLEAN_CODES = ("false", "true")


class ParsedLabel(NamedTuple):
    """What a spelling is by itself: a word's meaning or a count of stars (`word`), or a `sign` whose scale decides."""

    sentiment: str | None = None
    code: str | None = None  # a number in its shortest spelling, true or false


def fold_spelling(spelling: str) -> str:
    """The spelling without differences that mean nothing: case, width, outer space, and - or _ between words."""
    plain = unicodedata.normalize("NFKC", spelling).casefold().strip()
    return " ".join(re.sub(r"(?<=[a-z])[_-](?=[a-z])", " ", plain).replace("\ufe0f", "").split())


def parse_stars(spelling: str) -> int | None:
    """How many of five stars the spelling gives (`5 stars`, `4/5`, `★★★☆☆`, `五星`), None where it gives none."""
    plain = fold_spelling(spelling)
    if found := STAR_SYMBOLS.fullmatch(plain):
        return len(found[1])
    if found := STAR_COUNT.fullmatch(plain):
        return int(found[1]) if found[1] else CHINESE_DIGITS.index(found[2]) + 1
    return None


def parse_label(spelling: str) -> ParsedLabel:
    """What the spelling is by itself; neither word nor sign where it is unknown."""
    plain = fold_spelling(spelling)
    if plain in SENTIMENT_BY_SPELLING:
        return ParsedLabel(sentiment=SENTIMENT_BY_SPELLING[plain])
    if (count := parse_stars(spelling)) is not None:
        return ParsedLabel(sentiment=RATING_SCALES["1 5"][count])
    if number := INTEGER_RATING.fullmatch(plain):
        return ParsedLabel(code=str(int(number[1])))
    return ParsedLabel(code=plain if plain in BOOLEAN_CODES else None)


def is_label_code(spelling: str) -> bool:
    """Whether the spelling is a number of any size, true or false: the others beside it decide what it means."""
    return parse_label(spelling).code is not None or is_plain_number(spelling)


def is_numeric_label(spelling: str) -> bool:
    """Whether the spelling is a number."""
    return is_label_code(spelling) and parse_label(spelling).code not in BOOLEAN_CODES


def infer_label_map(spellings: Iterable[str], given: Mapping[str, str], column: str) -> dict[str, str]:
    """What the spellings of training rows mean where tables alone do not say: `given`, and the scale of the numbers.

    The scale is there as a whole, so that a number of it which these rows lack is known too. Nothing of a number is
    added where `given` names all of them, or where no scale or more than one would do.
    """
    signs = {sign for one in set(spellings) if one not in given and (sign := parse_label(one).code)}
    numbers = {
        int(sign) for one in {*spellings, *given} if (sign := parse_label(one).code) and sign not in BOOLEAN_CODES
    }
    found = (
        {} if signs <= {*BOOLEAN_CODES} else {str(number): word for number, word in find_rating_scale(numbers).items()}
    )
    if signs & {*BOOLEAN_CODES}:
        found |= infer_boolean_map(column)
    return found | dict(given)


def find_rating_scale(numbers: set[int]) -> Mapping[int, str]:
    """The one scale that has all of the numbers and both ends of which they show; {} where there is none."""
    if numbers in ({0, 1}, {0, 4}, {0, 2, 4}):
        return RATING_SCALES["0 1" if 1 in numbers else "0 2 4"]
    if numbers == set(range(5)):
        return RATING_SCALES["0 4"]
    if min(numbers, default=0) < 0 and len(numbers) > 1:  # below zero only two scales reach
        return next((RATING_SCALES[name] for name in ("-1 1", "-2 2") if numbers <= RATING_SCALES[name].keys()), {})
    return RATING_SCALES["1 5"] if 5 in numbers and len(numbers) > 1 and numbers <= RATING_SCALES["1 5"].keys() else {}


def infer_boolean_map(column: str) -> Mapping[str, str]:
    """What true and false mean in a column whose name says what is true; {} where it does not."""
    name = column.casefold()
    if "pos" in name and "neg" not in name:
        return {"false": NEGATIVE, "true": POSITIVE}
    if "neg" in name and "pos" not in name:
        return {"false": POSITIVE, "true": NEGATIVE}
    return {}


def look_up_sentiment(spelling: str, known: Mapping[str, str]) -> str | None:
    """The word that the spelling means by `known` (of `learned`) and the tables, None where neither says."""
    if spelling in known:
        return known[spelling]
    found = parse_label(spelling)
    return found.sentiment or known.get(found.code or "")


def format_label_map(meanings: Mapping[str, str]) -> str:
    """`0 = negative, 1 and pos = positive`: every spelling stands in it, by word."""
    by_word = {word: sorted(one for one, meant in meanings.items() if meant == word) for word in SENTIMENTS}
    return ", ".join(f"{join_with_and(some)} = {word}" for word, some in by_word.items() if some)


def join_with_and(some: Sequence[str]) -> str:
    *first, last = some
    return f"{', '.join(first)} and {last}" if first else last


def check_sentiment_labels(rows: Rows, words: Sequence[str]) -> None:
    """Raise DataError, all such rows counted, for labels that are empty, mean no sentiment, or none for certain.

    words: for each row the word that its label was read as; what means nothing came back as it was.
    """
    own, spelled = rows.column_name("label"), rows.texts("label")
    strange = [row for row, word in enumerate(words) if word not in SENTIMENTS or not spelled[row].strip()]
    if not strange:
        return
    first, signs = spelled[strange[0]], list(filter(is_label_code, dict.fromkeys(spelled)))
    if all(is_label_code(spelled[row]) for row in strange):  # what they mean hangs on each other
        plain = all(map(is_numeric_label, signs))
        names = join_names([truncate_cell(one) for one in sorted(signs, key=float if plain else None)])
        what = f"labels {names} of column '{own}' have no one sensible reading"
        raise DataError(f"{rows.location(strange[0])}: {what}", suggest_label_map(signs))
    means = suggest_label_map(signs if is_label_code(first) else [first]) if first.strip() else "write its class"
    raise_errors(
        [RowError(rows.location(row), f"'{own}' is {describe_unknown_label(spelled[row])}", means) for row in strange]
    )


def describe_unknown_label(spelling: str) -> str:
    """What to say of a label that means nothing."""
    return f"'{truncate_cell(spelling)}', no spelling of a sentiment" if spelling.strip() else "an empty label"


def suggest_label_map(spellings: Iterable[str]) -> str:
    """What the user may write for spellings that mean nothing here: for numbers in their order a guess to judge."""
    signs = {one: parse_label(one).code for one in set(spellings)}
    numbers = sorted(filter(is_numeric_label, signs), key=float)
    if numbers and len(numbers) == len(signs):
        if len(numbers) not in SENTIMENTS_BY_COUNT:
            pairs = f"{quote_yaml_key(numbers[0])}: {NEGATIVE}"
            return f"say which is which with {format_labels_override(f'{pairs}, ...')}; sentiment.classes=score learns the number itself"
        pairs = ", ".join(
            f"{quote_yaml_key(one)}: {word}"
            for one, word in zip(numbers, SENTIMENTS_BY_COUNT[len(numbers)], strict=True)
        )
        return f"say which is which, such as {format_labels_override(pairs)}"
    if set(signs.values()) <= {*BOOLEAN_CODES}:
        return f"say which is which, such as {format_labels_override(f'true: {POSITIVE}, false: {NEGATIVE}')}"
    one = min(one for one, sign in signs.items() if sign is None) if None in signs.values() else min(signs)
    if near := get_close_matches(fold_spelling(one), SENTIMENTS, n=1, cutoff=SPELLING_CUTOFF):
        return (
            f"did you mean '{near[0]}'? Write it so, or {format_labels_override(f'{quote_yaml_key(one)}: {near[0]}')}"
        )
    return f"say what it means with {format_labels_override(f'{quote_yaml_key(one)}: WORD')}, where WORD is {join_names(SENTIMENTS)}"


def format_labels_override(pairs: str) -> str:
    """The override that maps these pairs, as a shell takes it."""
    text = "{" + pairs + "}"
    return f"sentiment.labels='{text}'" if "'" not in text else f'sentiment.labels="{text}"'


def quote_yaml_key(spelling: str) -> str:
    """The spelling as a key of YAML."""
    return spelling if re.fullmatch(r"[+-]?[\w.]+", spelling) else "'" + spelling.replace("'", "''") + "'"


def replace_labels(rows: Rows, labels: Sequence[str]) -> Rows:
    """The same rows with these texts in the column of the label."""
    own = rows.column_name("label")
    cells = pa.array(labels, pa.large_string())
    table = rows.table.set_column(rows.columns.index(own), own, cells)
    return replace(rows, table=table, formats={**rows.formats, own: "text"})
