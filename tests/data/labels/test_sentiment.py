"""Sentiments of labels: usual spellings, number scales, and ambiguous labels that are not guessed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.labels.sentiment import (
    RATING_SCALES,
    SENTIMENT_BY_SPELLING,
    SENTIMENTS,
    SENTIMENTS_BY_COUNT,
    fold_spelling,
    format_label_map,
    infer_boolean_map,
    infer_label_map,
    look_up_sentiment,
    parse_stars,
    replace_labels,
    suggest_label_map,
)
from llmkit.data.rows import build_rows

KNOWN = ["pos", "Negative", "NEU", "very_positive", "very-negative", "好评", "差评", "5 stars", "★★", "负面", "P+"]
UNKNOWN = ["meh", "maybe", "6 stars", "01", "1.5", "", "10"]
NUMBERS = [str(number) for number in range(-3, 7)]
SPELLINGS = st.lists(st.sampled_from(KNOWN + UNKNOWN + NUMBERS + ["true", "False", "+1", "1.0"]), max_size=12)


def read_sentiments(*spellings: str, column: str = "label", **user_map: str) -> dict[str, str | None]:
    label_map = infer_label_map(spellings, user_map, column)
    return {one: look_up_sentiment(one, label_map) for one in spellings}


@pytest.mark.parametrize(
    ("word", "spellings"),
    [
        ("very negative", ["very negative", "Very_Negative", "VERY-NEGATIVE", "N+", "1 star", "★☆☆☆☆", "1/5", "一星"]),
        ("negative", ["NEG", "n", "bad", "负面", "消极", "差评", "讨厌", "2 stars", "★★", "２星"]),
        ("neutral", ["neu", "Neutral ", "中性", "中评", "3 stars", "⭐⭐⭐", "3.0 stars"]),
        ("positive", ["pos", "P", "good", "正面", "积极", "好评", "喜欢", "4 Stars", "4/5"]),
        ("very positive", ["very positive", "extremely positive", "非常好", "5 stars", "⭐️⭐️⭐️⭐️⭐️", "五颗星"]),
    ],
)
def test_usual_spellings_do_not_depend_on_other_labels(word: str, spellings: list[str]) -> None:
    for spelling in spellings:
        assert read_sentiments(spelling, "meh", "7") == {spelling: word, "meh": None, "7": None}


@pytest.mark.parametrize(
    ("spellings", "words"),
    [
        ("0 1", "negative positive"),
        ("0.0 1.0", "negative positive"),
        ("-1 1", "negative positive"),
        ("-1 +1", "negative positive"),
        ("-1 0 1", "negative neutral positive"),
        ("-1 0", "negative neutral"),
        ("-2 -1 0 1 2", " ".join(word.replace(" ", "_") for word in SENTIMENTS)),
        ("0 1 2 3 4", " ".join(word.replace(" ", "_") for word in SENTIMENTS)),
        ("1 2 3 4 5", " ".join(word.replace(" ", "_") for word in SENTIMENTS)),
        ("1 5", "very_negative very_positive"),
        ("0 4", "negative positive"),
        ("0 2 4", "negative neutral positive"),
    ],
)
def test_unambiguous_number_scales_are_recognized(spellings: str, words: str) -> None:
    expected = [word.replace("_", " ") for word in words.split()]
    assert list(read_sentiments(*spellings.split()).values()) == expected


@pytest.mark.parametrize("spellings", ["0 1 2", "1 2", "1 2 3", "1 2 3 4", "0 2", "1", "0", "5", "-1", "0 5", "0 1 5",
                                       "-3 3", "true false"])  # fmt: skip
def test_ambiguous_numbers_are_not_guessed(spellings: str) -> None:
    assert set(read_sentiments(*spellings.split()).values()) == {None}


def test_a_scale_includes_numbers_missing_in_train() -> None:
    """The test rows may have numbers that the training rows lack."""
    label_map = infer_label_map(["1", "2", "5"], {}, "stars")
    assert [look_up_sentiment(number, label_map) for number in ("3", "4", "4.0", "6")] == [
        "neutral",
        "positive",
        "positive",
        None,
    ]


def test_the_map_of_the_user_takes_precedence() -> None:
    assert read_sentiments("0", "1", **{"0": "positive", "1": "negative"}) == {"0": "positive", "1": "negative"}
    assert read_sentiments("pos", "meh", meh="neutral") == {"pos": "positive", "meh": "neutral"}
    assert read_sentiments("0", "1", "2", **{"1": "positive"}) == {"0": None, "1": "positive", "2": None}
    assert read_sentiments("1", "5", **{"1": "negative"}) == {"1": "negative", "5": "very positive"}


@pytest.mark.parametrize(("column", "word"), [("is_positive", "positive"), ("negative", "negative"), ("label", None),
                                              ("pos_or_neg", None)])  # fmt: skip
def test_true_follows_the_name_of_the_column(column: str, word: str | None) -> None:
    assert infer_boolean_map(column).get("true") == word
    assert read_sentiments("True", "False", column=column)["True"] == word


def test_the_tables_are_consistent() -> None:
    assert [fold_spelling(spelling) for spelling in SENTIMENT_BY_SPELLING] == list(SENTIMENT_BY_SPELLING)
    assert all(parse_stars(spelling) is None for spelling in SENTIMENT_BY_SPELLING)
    for scale in [*RATING_SCALES.values(), *(dict(enumerate(words)) for words in SENTIMENTS_BY_COUNT.values())]:
        assert [SENTIMENTS.index(scale[number]) for number in sorted(scale)] == sorted(
            SENTIMENTS.index(w) for w in scale.values()
        )


@pytest.mark.slow
@given(
    SPELLINGS,
    st.randoms(use_true_random=False),
    st.dictionaries(st.sampled_from(KNOWN + NUMBERS), st.sampled_from(SENTIMENTS), max_size=2),
)
def test_sentiments_depend_only_on_the_set_of_labels(spellings: list[str], random: object, own: dict[str, str]) -> None:
    """Neither order nor repetition matters, and equal numbers in two spellings mean the same."""
    label_map = infer_label_map(spellings, own, "label")
    again = [*spellings, *spellings]
    random.shuffle(again)  # type: ignore[attr-defined]
    assert infer_label_map(again, own, "label") == label_map
    if {"1.0", "+1"} <= set(spellings) and not own:
        assert look_up_sentiment("1.0", label_map) == look_up_sentiment("+1", label_map)


@given(SPELLINGS)
def test_the_formatted_map_lists_every_known_spelling(spellings: list[str]) -> None:
    """Two spellings never become one sentiment without being listed."""
    sentiments = {one: word for one, word in read_sentiments(*spellings).items() if word}
    again, spelled = {}, []
    for part in format_label_map(sentiments).split(", "):
        left, _, word = part.partition(" = ")
        spelled += left.split(" and ")
        if word:
            again |= dict.fromkeys(spelled, word)
            spelled = []
    assert again == sentiments


@pytest.mark.slow
@given(st.sets(st.sampled_from(NUMBERS), min_size=2))
def test_larger_numbers_are_never_less_positive(numbers: set[str]) -> None:
    words = [read_sentiments(*numbers)[number] for number in sorted(numbers, key=int)]
    assert words.count(None) in (0, len(words))  # all or no numbers are read
    if None not in words:
        assert [SENTIMENTS.index(str(word)) for word in words] == sorted(SENTIMENTS.index(str(word)) for word in words)


@pytest.mark.parametrize(
    ("spellings", "message"),
    [
        (["2", "0", "1"], "map each label, such as sentiment.labels='{0: negative, 1: neutral, 2: positive}'"),
        (["1", "2"], "map each label, such as sentiment.labels='{1: negative, 2: positive}'"),
        (["1", "2", "3", "4"], ("map each label with sentiment.labels='{1: negative, ...}'; "
                               "sentiment.classes=score learns the number itself")),
        ([str(number) for number in range(10, 0, -1)], ("map each label with sentiment.labels='{1: negative, ...}'; "
                                                        "sentiment.classes=score learns the number itself")),
        (["0.5", "1"], "map each label, such as sentiment.labels='{0.5: negative, 1: positive}'"),
        (["postive"], "did you mean 'positive'? Write it so, or sentiment.labels='{postive: positive}'"),
        (["Very-Negativ"],
         "did you mean 'very negative'? Write it so, or sentiment.labels=\"{'Very-Negativ': very negative}\""),
        (["mixed"], ("map it with sentiment.labels='{mixed: WORD}', where WORD is very negative, negative, "
                     "neutral, positive, very positive")),
        (["True", "False"], "map each label, such as sentiment.labels='{true: positive, false: negative}'"),
        (["so so"], ("map it with sentiment.labels=\"{'so so': WORD}\", where WORD is very negative, negative, "
                    "neutral, positive, very positive")),
    ],
)  # fmt: skip
def test_the_suggested_override_can_be_typed(spellings: list[str], message: str) -> None:
    assert suggest_label_map(spellings) == message


def test_replacing_labels_keeps_everything_else() -> None:
    rows = build_rows({"text": ["a", "b"], "y": ["0", "1"]}, "r.csv", [2, 3]).with_column_mapping(
        {"text": "text", "label": "y"}
    )
    replaced = replace_labels(rows, ["negative", "positive"])
    assert (replaced.texts("label"), replaced.texts("text"), replaced.location(1)) == (
        ["negative", "positive"],
        ["a", "b"],
        "r.csv:3",
    )
    assert rows.texts("label") == ["0", "1"]
