"""Tests of column guessing and cell checks."""

from __future__ import annotations

import pytest

from llmkit.data.columns import apply_column_mapping, guess_columns
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, LlmkitError, RecipeError

FIELDS = {"text": "the text to classify", "label": "its class"}


def make_rows(*columns: str) -> Rows:
    return build_rows({column: [f"{column} 1"] for column in columns}, "reviews.csv", [2])


@pytest.mark.parametrize(
    ("columns", "given", "mapping", "notes"),
    [
        (["id", "text", "label", "review"], {}, {"text": "text", "label": "label"}, []),
        (["a", "b", "c"], {"text": "c", "label": "a"}, {"text": "c", "label": "a"}, []),
        (
            ["id", "review", "stars"],
            {},
            {"text": "review", "label": "stars"},
            ["columns: text = review, label = stars (guessed; change with --text and --label)"],
        ),
        (
            ["Title", "Section"],
            {},
            {"text": "Title", "label": "Section"},
            ["columns: text = Title, label = Section (guessed; change with --text and --label)"],
        ),
        (
            ["title", "comment", "label"],
            {},
            {"label": "label", "text": "comment"},
            ["columns: text = comment, label = label (guessed; change with --text)"],
        ),
        (
            ["text", "genre"],
            {},
            {"text": "text", "label": "genre"},
            ["columns: text = text, label = genre (guessed; change with --label)"],
        ),
        (
            ["genre", "words"],
            {"label": "genre"},
            {"label": "genre", "text": "words"},
            ["columns: text = words, label = genre (guessed; change with --text)"],
        ),
        (
            ["review", "label"],
            {"text": "label"},
            {"text": "label", "label": "review"},
            ["columns: text = label, label = review (guessed; change with --label)"],
        ),
    ],
)
def test_columns_are_guessed_by_precedence(columns, given, mapping, notes):
    assert guess_columns(make_rows(*columns), FIELDS, given) == (mapping, notes)


def test_only_column_is_guessed_for_the_only_field():
    assert guess_columns(make_rows("words"), {"text": "the text"}, {}) == (
        {"text": "words"},
        ["columns: text = words (guessed; change with --text)"],
    )


@pytest.mark.parametrize(
    ("cells", "content"),
    [
        (["0", "1", "1.5", "-2e3"], "only numbers"),
        (["0", "1"] * 20, "only numbers"),
        (["pos", "very neg"] * 20, "2 different texts in 40 rows"),
        ([str(i % 10) + " stars" for i in range(20)], "10 different texts in 20 rows"),
        ([str(i % 10) + " stars" for i in range(19)], ""),
        ([str(i % 11) + " stars" for i in range(40)], ""),
        (["short", "short too"], ""),
    ],
)
def test_classes_or_numbers_are_not_guessed_as_text(cells: list[str], content: str) -> None:
    rows = build_rows(
        {"text": [f"a text {i}" for i in range(len(cells))], "y": cells}, "r.csv", range(2, len(cells) + 2)
    )
    fields = {"text": "the text to summarize", "summary": "its summary"}
    assert guess_columns(rows, fields, {"summary": "y"})[0] == {"text": "text", "summary": "y"}
    assert guess_columns(rows, {"text": "the text", "label": "its class"}, {})[0] == {"text": "text", "label": "y"}
    if not content:
        assert guess_columns(rows, fields, {})[0] == {"text": "text", "summary": "y"}
        return
    with pytest.raises(DataError) as caught:
        guess_columns(rows, fields, {})
    assert str(caught.value) == (
        f"r.csv: no column 'summary' (its summary), and 'y' holds {content}; columns: text, y; "
        "map it with data.columns.summary=COLUMN or --summary COLUMN"
    )


def test_only_column_is_guessed_as_text_for_any_content() -> None:
    rows = build_rows({"words": ["yes", "no"] * 20}, "r.csv", range(2, 42))
    assert guess_columns(rows, {"text": "the text"}, {})[0] == {"text": "words"}


PAIR = {"text": "the text to classify", "text_pair": "a second text", "label": "its class"}


@pytest.mark.parametrize(
    ("columns", "given", "mapping", "notes"),
    [
        (["text", "label"], {}, {"text": "text", "label": "label"}, []),
        (["text", "text_pair", "label"], {}, {"text": "text", "text_pair": "text_pair", "label": "label"}, []),
        (
            ["idx", "sentence1", "sentence2", "label"],
            {},
            {"text": "sentence1", "text_pair": "sentence2", "label": "label"},
            [
                "columns: text = sentence1, text_pair = sentence2, label = label (guessed; change with --text and --text-pair)"
            ],
        ),
        (
            ["qid1", "question1", "question2", "is_duplicate"],
            {},
            {"text": "question1", "text_pair": "question2", "label": "is_duplicate"},
            [
                (
                    "columns: text = question1, text_pair = question2, label = is_duplicate (guessed; change with --text, --text-pair "
                    "and --label)"
                )
            ],
        ),
        (
            ["Sentence_A", "Sentence_B", "relatedness_score"],
            {},
            {"text": "Sentence_A", "text_pair": "Sentence_B", "label": "relatedness_score"},
            [
                (
                    "columns: text = Sentence_A, text_pair = Sentence_B, label = relatedness_score (guessed; change with --text, "
                    "--text-pair and --label)"
                )
            ],
        ),
        (
            ["text", "text2", "label"],
            {},
            {"text": "text", "text_pair": "text2", "label": "label"},
            ["columns: text = text, text_pair = text2, label = label (guessed; change with --text-pair)"],
        ),
        (["sentence1", "sentence2", "label"], {"text": "sentence1"}, {"text": "sentence1", "label": "label"}, []),
        (["review", "text_pair", "label"], {"text": "review"}, {"text": "review", "label": "label"}, []),
        (
            ["a", "b", "c"],
            {"text": "a", "text_pair": "b", "label": "c"},
            {"text": "a", "text_pair": "b", "label": "c"},
            [],
        ),
        (
            ["premise", "x", "label"],
            {"text_pair": "x"},
            {"text_pair": "x", "text": "premise", "label": "label"},
            ["columns: text = premise, text_pair = x, label = label (guessed; change with --text)"],
        ),
        (["text", "hypothesis", "sentence2", "label"], {}, {"text": "text", "label": "label"}, []),
        (["text", "passage", "label"], {}, {"text": "text", "label": "label"}, []),
        (
            ["words", "genre"],
            {},
            {"text": "words", "label": "genre"},
            ["columns: text = words, label = genre (guessed; change with --text and --label)"],
        ),
        (
            ["words", "sentence2", "label"],
            {},
            {"text": "words", "text_pair": "sentence2", "label": "label"},
            [
                "columns: text = words, text_pair = sentence2, label = label (guessed; change with --text and --text-pair)"
            ],
        ),
    ],
)
def test_unambiguous_text_pair_is_guessed(columns, given, mapping, notes):
    assert guess_columns(make_rows(*columns), PAIR, given, optional=["text_pair"]) == (mapping, notes)


def test_text_pair_is_never_guessed_as_label():
    with pytest.raises(DataError) as caught:
        guess_columns(make_rows("sentence1", "sentence2"), PAIR, {}, optional=["text_pair"])
    assert str(caught.value) == (
        "reviews.csv: no column 'label' (its class); columns: sentence1, sentence2; map it with data.columns.label=COLUMN or "
        "--label COLUMN"
    )


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        (["text", "labels", "id"], "labels"),
        (["text", "gold_label", "genre"], "gold_label"),
        (["text", "topic", "tags"], "topic"),
        (["text", "id", "value"], "value"),
        (["text", "id", "Emotions"], "Emotions"),
    ],
)
def test_common_label_names_are_guessed(columns, label):
    assert guess_columns(make_rows(*columns), FIELDS, {})[0]["label"] == label


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            ["id", "review", "comment", "label"],
            (
                "reviews.csv: no column 'text', and 'review' and 'comment' could each be it (the text to classify); columns: "
                "id, review, comment, label; name it with data.columns.text=COLUMN or --text COLUMN"
            ),
        ),
        (
            ["text", "category", "intent"],
            (
                "reviews.csv: no column 'label', and 'category' and 'intent' could each be it (its class); columns: text, "
                "category, intent; name it with data.columns.label=COLUMN or --label COLUMN"
            ),
        ),
        (
            ["txt", "label", "id"],
            (
                "reviews.csv: no column 'text' (the text to classify); did you mean 'txt'? columns: txt, label, id; map it "
                "with data.columns.text=COLUMN or --text COLUMN"
            ),
        ),
        (
            ["a", "b"],
            (
                "reviews.csv: no column 'text' (the text to classify); columns: a, b; map it with data.columns.text=COLUMN "
                "or --text COLUMN"
            ),
        ),
    ],
)
def test_ambiguous_or_missing_columns_are_rejected(columns, message):
    with pytest.raises(DataError) as caught:
        guess_columns(make_rows(*columns), FIELDS, {})
    assert str(caught.value) == message


def test_unknown_field_is_rejected():
    with pytest.raises(RecipeError) as caught:
        guess_columns(make_rows("text", "label"), FIELDS, {"labell": "label"})
    assert str(caught.value) == "data.columns.labell: the task has no such field; did you mean 'label'?"


def mapping_error(rows: Rows, mapping: dict[str, str], **options: object) -> str:
    with pytest.raises(LlmkitError) as caught:
        apply_column_mapping(rows, mapping, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_missing_column_error_lists_columns():
    assert mapping_error(make_rows("id", "text", "label"), {"text": "txt"}) == (
        "reviews.csv: no column 'txt'; did you mean 'text'? columns: id, text, label; map it with "
        "data.columns.text=COLUMN or --text COLUMN"
    )
    assert mapping_error(make_rows("id"), {"text_pair": "b"}) == (
        "reviews.csv: no column 'b'; columns: id; map it with data.columns.text_pair=COLUMN or --text-pair COLUMN"
    )


def test_missing_optional_column_is_left_out():
    rows, notes = apply_column_mapping(make_rows("text"), {"text": "text", "label": "label"}, optional=["label"])
    assert (rows.column_mapping, notes) == ({"text": "text"}, [])


OTHER_TEXT = "map another column with data.columns.text=COLUMN or --text COLUMN"
OTHER_LABEL = "map another column with data.columns.label=COLUMN or --label COLUMN"
MULTI_HINT = "classify.kind=multi takes several labels per row"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            '{"t": "a", "l": 1}\n{"t": 3, "l": 1}\n{"t": [], "l": 1}\n',
            (
                f"a.jsonl:2: 't' is a number, not text (the first of 2 bad rows); write text, or {OTHER_TEXT}\n"
                "  a.jsonl:2: 't' is a number, not text\n  a.jsonl:3: 't' is a list, not text"
            ),
        ),
        ('{"t": null, "l": 1}\n', f"a.jsonl:1: 't' is null, not text; write text, or {OTHER_TEXT}"),
        (
            '{"t": "a", "l": 1}\n{"l": 1}\n',
            "a.jsonl:2: no 't'; write it in every row, or " + OTHER_TEXT.replace(" column", ""),
        ),
        (
            '{"t": "a", "l": 1}\n{"t": "a", "l": "one"}\n{"t": "a", "l": 2}\n',
            "a.jsonl:2: 'l' is text here, a number at a.jsonl:1; write one type in all rows",
        ),
        (
            '{"t": "a", "l": true}\n{"t": "a", "l": 1}\n',
            "a.jsonl:2: 'l' is a number here, a boolean at a.jsonl:1; write one type in all rows",
        ),
        (
            '{"t": "a", "l": {}}\n',
            f"a.jsonl:1: 'l' is an object, not text or a number or a boolean; write text or a number or a boolean, or {OTHER_LABEL}; {MULTI_HINT}",
        ),
        (
            '{"t": "a", "l": "x"}\n{"t": "a", "l": ["x", "y"]}\n',
            f"a.jsonl:2: 'l' is a list, not text; write text, or {OTHER_LABEL}; {MULTI_HINT}",
        ),
        (
            '{"t": "a", "l": 1}\n{"t": "a", "l": null}\n',
            f"a.jsonl:2: 'l' is null, not a number; write a number, or {OTHER_LABEL}",
        ),
        (
            '{"t": "a", "l": 1}\n{"t": " \\u3000\\n", "l": 1}\n',
            "a.jsonl:2: 't' is empty; write it, or leave such rows out with data.on_empty=skip",
        ),
        ('{"t": "a", "l": "x"}\n{"t": "a", "l": " "}\n', "a.jsonl:2: 'l' is an empty label; write its class"),
    ],
)
def test_every_cell_is_checked(rows_of, lines, message):
    assert mapping_error(rows_of("a.jsonl", lines), {"text": "t", "label": "l"}) == message


def test_rows_with_empty_text_are_dropped_with_skip(rows_of):
    rows, notes = apply_column_mapping(
        rows_of("a.csv", "text,label\na,x\n ,\nb,y\n"), {"text": "text", "label": "label"}, on_empty="skip"
    )
    assert rows.texts("text") == ["a", "b"]
    assert notes == ["a.csv: left out 1 row of 3 with empty text; data.on_empty=skip"]
    assert rows.location(1) == "a.csv:4"


def test_rows_with_only_empty_texts_are_rejected(rows_of):
    rows = rows_of("a.csv", "text,label\n ,x\n")
    assert mapping_error(rows, {"text": "text"}, on_empty="skip") == (
        "a.csv: every row's text is empty; map another column with data.columns"
    )


def test_other_cell_types_are_accepted_if_allowed(rows_of):
    rows = rows_of("a.jsonl", '{"text": "a", "label": ["x"]}\n{"text": "b", "label": []}\n')
    mapped, _ = apply_column_mapping(rows, {"text": "text", "label": "label"}, cell_types={"label": ["a list", "text"]})
    assert mapped.texts("label") == ['["x"]', "[]"]
    rows = rows_of("a.csv", "text,label\na,\n")
    assert apply_column_mapping(rows, {"text": "text", "label": "label"}, may_be_empty=["label"])[0].texts("label") == [
        ""
    ]


def test_multi_label_hint_needs_default_cell_types(rows_of):
    rows = rows_of("a.jsonl", '{"text": "a", "label": [1]}\n')
    assert mapping_error(rows, {"text": "text", "label": "label"}, cell_types={"label": ("a number", "text")}) == (
        f"a.jsonl:1: 'label' is a list, not a number or text; write a number or text, or {OTHER_LABEL}"
    )


def test_one_column_for_two_fields_is_rejected():
    assert mapping_error(make_rows("text", "label"), {"text": "text", "text_pair": "text", "label": "label"}) == (
        "reviews.csv: column 'text' is mapped to text and text_pair; map one with data.columns.text_pair=COLUMN or --text-pair COLUMN"
    )


def test_empty_text_pair_is_rejected(rows_of):
    rows = rows_of("a.csv", "text,text_pair\na,b\nc,\n")
    assert mapping_error(rows, {"text": "text", "text_pair": "text_pair"}) == (
        "a.csv:3: 'text_pair' is empty; write it, or leave such rows out with data.on_empty=skip"
    )


def test_labels_keep_their_spelling(rows_of):
    rows = rows_of("a.jsonl", '{"text": "a", "label": 1e5}\n{"text": "b", "label": 1.0}\n')
    assert apply_column_mapping(rows, {"text": "text", "label": "label"})[0].texts("label") == ["1e5", "1.0"]
