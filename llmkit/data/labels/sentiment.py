"""Maps the usual spellings of sentiment labels to five classes, with tables that can be read.

A word or a count of stars has a fixed meaning. The meaning of a number depends on its scale, so all numbers of a file
are read together, and an ambiguous set of numbers is rejected instead of guessed.
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
SENTIMENT_POLARITY = {
    VERY_NEGATIVE: NEGATIVE,
    VERY_POSITIVE: POSITIVE,
}  # very negative and very positive without the degree

SENTIMENT_SPELLINGS: Mapping[str, Sequence[str]] = {  # as `fold_spelling` returns them
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
SENTIMENT_BY_SPELLING = {
    spelling: sentiment for sentiment, spellings in SENTIMENT_SPELLINGS.items() for spelling in spellings
}

# The scales of numbers with one sensible meaning. Left out on purpose: 0/1/2 (neutral is 1 in some data sets and 2 in
# others), 1/2 and 1/2/3 (stars, or numbered classes).
RATING_SCALES: Mapping[str, Mapping[int, str]] = {
    "0 1": {0: NEGATIVE, 1: POSITIVE},
    "-1 1": {-1: NEGATIVE, 0: NEUTRAL, 1: POSITIVE},
    "-2 2": dict(zip(range(-2, 3), SENTIMENTS, strict=True)),
    "0 4": dict(zip(range(5), SENTIMENTS, strict=True)),
    "0 2 4": {0: NEGATIVE, 2: NEUTRAL, 4: POSITIVE},  # Sentiment140
    "1 5": dict(zip(range(1, 6), SENTIMENTS, strict=True)),
}
# The likely meanings of 2, 3 or 5 numbers in ascending order, for suggestions.
SENTIMENTS_BY_COUNT = {2: (NEGATIVE, POSITIVE), 3: (NEGATIVE, NEUTRAL, POSITIVE), 5: SENTIMENTS}

INTEGER_RATING = re.compile(r"([+-]?[0-9])(?:\.0+)?")
STAR_COUNT = re.compile(r"([1-5])(?:\.0+)? ?(?:stars?|星|顆星|颗星|/ ?5)|([一二三四五]) ?[颗顆]?星")
STAR_SYMBOLS = re.compile(r"([★⭐]{1,5})☆*")
SPELLING_CUTOFF = 0.85  # difflib ratio: allows one wrong or missing letter
CHINESE_DIGITS = "一二三四五"
BOOLEAN_CODES = ("false", "true")


class ParsedLabel(NamedTuple):
    """One label: its sentiment if it is a word or a count of stars, or a code whose meaning depends on other labels."""

    sentiment: str | None = None
    code: str | None = None  # a number in its shortest spelling, true or false


def fold_spelling(spelling: str) -> str:
    """Remove differences without meaning: case, width, outer space, and - or _ between words."""
    plain = unicodedata.normalize("NFKC", spelling).casefold().strip()
    return " ".join(re.sub(r"(?<=[a-z])[_-](?=[a-z])", " ", plain).replace("\ufe0f", "").split())


def parse_stars(spelling: str) -> int | None:
    """Return the number of stars out of five (`5 stars`, `4/5`, `★★★☆☆`, `五星`), or None."""
    plain = fold_spelling(spelling)
    if match := STAR_SYMBOLS.fullmatch(plain):
        return len(match[1])
    if match := STAR_COUNT.fullmatch(plain):
        return int(match[1]) if match[1] else CHINESE_DIGITS.index(match[2]) + 1
    return None


def parse_label(spelling: str) -> ParsedLabel:
    """Parse one label; an unknown spelling has neither a sentiment nor a code."""
    plain = fold_spelling(spelling)
    if plain in SENTIMENT_BY_SPELLING:
        return ParsedLabel(sentiment=SENTIMENT_BY_SPELLING[plain])
    if (count := parse_stars(spelling)) is not None:
        return ParsedLabel(sentiment=RATING_SCALES["1 5"][count])
    if number := INTEGER_RATING.fullmatch(plain):
        return ParsedLabel(code=str(int(number[1])))
    return ParsedLabel(code=plain if plain in BOOLEAN_CODES else None)


def is_label_code(spelling: str) -> bool:
    """Return whether the label is a number of any size, true or false, whose meaning depends on the other labels."""
    return parse_label(spelling).code is not None or is_plain_number(spelling)


def is_numeric_label(spelling: str) -> bool:
    """Return whether the label is a number."""
    return is_label_code(spelling) and parse_label(spelling).code not in BOOLEAN_CODES


def infer_label_map(spellings: Iterable[str], user_map: Mapping[str, str], column: str) -> dict[str, str]:
    """Infer the sentiments of training labels that the fixed tables do not cover, from `user_map` and the number scale.

    The result has all numbers of the scale, including those that these rows lack. It has no further number if
    `user_map` names all of them, or if not exactly one scale fits.
    """
    codes = {code for one in set(spellings) if one not in user_map and (code := parse_label(one).code)}
    numbers = {
        int(code) for one in {*spellings, *user_map} if (code := parse_label(one).code) and code not in BOOLEAN_CODES
    }
    label_map: dict[str, str] = {}
    if not codes <= {*BOOLEAN_CODES}:
        label_map |= {str(number): sentiment for number, sentiment in find_rating_scale(numbers).items()}
    if codes & {*BOOLEAN_CODES}:
        label_map |= infer_boolean_map(column)
    return label_map | dict(user_map)


def find_rating_scale(numbers: set[int]) -> Mapping[int, str]:
    """Find the only scale that contains all numbers and whose range they identify; {} if there is none."""
    if numbers in ({0, 1}, {0, 4}, {0, 2, 4}):
        return RATING_SCALES["0 1" if 1 in numbers else "0 2 4"]
    if numbers == set(range(5)):
        return RATING_SCALES["0 4"]
    if min(numbers, default=0) < 0 and len(numbers) > 1:  # only two scales have negative numbers
        return next((RATING_SCALES[name] for name in ("-1 1", "-2 2") if numbers <= RATING_SCALES[name].keys()), {})
    return RATING_SCALES["1 5"] if 5 in numbers and len(numbers) > 1 and numbers <= RATING_SCALES["1 5"].keys() else {}


def infer_boolean_map(column: str) -> Mapping[str, str]:
    """Infer the sentiments of true and false from a column name such as `is_positive`; {} for other names."""
    name = column.casefold()
    if "pos" in name and "neg" not in name:
        return {"false": NEGATIVE, "true": POSITIVE}
    if "neg" in name and "pos" not in name:
        return {"false": POSITIVE, "true": NEGATIVE}
    return {}


def look_up_sentiment(spelling: str, label_map: Mapping[str, str]) -> str | None:
    """Look the label up in `label_map` (of `infer_label_map`) and the fixed tables; None if it is in neither."""
    if spelling in label_map:
        return label_map[spelling]
    label = parse_label(spelling)
    return label.sentiment or label_map.get(label.code or "")


def format_label_map(label_map: Mapping[str, str]) -> str:
    """Format all spellings by sentiment: `0 = negative, 1 and pos = positive`."""
    by_sentiment = {
        sentiment: sorted(spelling for spelling, meaning in label_map.items() if meaning == sentiment)
        for sentiment in SENTIMENTS
    }
    pairs = by_sentiment.items()
    return ", ".join(f"{join_with_and(spellings)} = {sentiment}" for sentiment, spellings in pairs if spellings)


def join_with_and(names: Sequence[str]) -> str:
    """Join names as in `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def check_sentiment_labels(rows: Rows, sentiments: Sequence[str]) -> None:
    """Raise DataError with all bad rows for labels that are empty, ambiguous or not a sentiment.

    sentiments: the sentiment of each row's label, or the label itself if it could not be read.
    """
    column, labels = rows.column_name("label"), rows.texts("label")
    bad = [row for row, word in enumerate(sentiments) if word not in SENTIMENTS or not labels[row].strip()]
    if not bad:
        return
    first, codes = labels[bad[0]], list(filter(is_label_code, dict.fromkeys(labels)))
    if all(is_label_code(labels[row]) for row in bad):  # their meanings depend on each other
        numeric = all(map(is_numeric_label, codes))
        names = join_names([truncate_cell(code) for code in sorted(codes, key=float if numeric else None)])
        what = f"labels {names} of column '{column}' are ambiguous"
        raise DataError(f"{rows.location(bad[0])}: {what}", suggest_label_map(codes))
    fix = suggest_label_map(codes if is_label_code(first) else [first]) if first.strip() else "write its class"
    raise_errors(
        [RowError(rows.location(row), f"'{column}' is {describe_unknown_label(labels[row])}", fix) for row in bad]
    )


def describe_unknown_label(spelling: str) -> str:
    """Describe a label that is not a sentiment, for an error message."""
    return f"'{truncate_cell(spelling)}', not a known sentiment" if spelling.strip() else "an empty label"


def suggest_label_map(spellings: Iterable[str]) -> str:
    """Suggest a `sentiment.labels` override for unknown labels; the suggestion for numbers follows their order."""
    codes = {one: parse_label(one).code for one in set(spellings)}
    numbers = sorted(filter(is_numeric_label, codes), key=float)
    if numbers and len(numbers) == len(codes):
        if len(numbers) not in SENTIMENTS_BY_COUNT:
            override = format_labels_override(f"{quote_yaml_key(numbers[0])}: {NEGATIVE}, ...")
            return f"map each label with {override}; sentiment.classes=score learns the number itself"
        sentiments = SENTIMENTS_BY_COUNT[len(numbers)]
        pairs = ", ".join(f"{quote_yaml_key(one)}: {word}" for one, word in zip(numbers, sentiments, strict=True))
        return f"map each label, such as {format_labels_override(pairs)}"
    if set(codes.values()) <= {*BOOLEAN_CODES}:
        return f"map each label, such as {format_labels_override(f'true: {POSITIVE}, false: {NEGATIVE}')}"
    one = min(one for one, code in codes.items() if code is None) if None in codes.values() else min(codes)
    if near := get_close_matches(fold_spelling(one), SENTIMENTS, n=1, cutoff=SPELLING_CUTOFF):
        override = format_labels_override(f"{quote_yaml_key(one)}: {near[0]}")
        return f"did you mean '{near[0]}'? Write it so, or {override}"
    override = format_labels_override(f"{quote_yaml_key(one)}: WORD")
    return f"map it with {override}, where WORD is {join_names(SENTIMENTS)}"


def format_labels_override(pairs: str) -> str:
    """Format the override that sets `sentiment.labels` to these pairs, quoted for a shell."""
    text = "{" + pairs + "}"
    return f"sentiment.labels='{text}'" if "'" not in text else f'sentiment.labels="{text}"'


def quote_yaml_key(spelling: str) -> str:
    """Quote the label as a YAML key where necessary."""
    return spelling if re.fullmatch(r"[+-]?[\w.]+", spelling) else "'" + spelling.replace("'", "''") + "'"


def replace_labels(rows: Rows, labels: Sequence[str]) -> Rows:
    """Return the rows with these texts in the label column."""
    column = rows.column_name("label")
    cells = pa.array(labels, pa.large_string())
    table = rows.table.set_column(rows.columns.index(column), column, cells)
    return replace(rows, table=table, formats={**rows.formats, column: "text"})
