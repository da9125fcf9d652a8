from __future__ import annotations

import pytest

from llmkit.data.columns import apply_column_mapping, guess_columns
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, LlmkitError, RecipeError

WORDS = {"text": "the text to classify", "label": "its class"}


def csv(*columns: str) -> Rows:
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
            ["columns: text = review, label = stars (guessed; --text and --label name others)"],
        ),
        (
            ["Title", "Section"],
            {},
            {"text": "Title", "label": "Section"},
            ["columns: text = Title, label = Section (guessed; --text and --label name others)"],
        ),
        (
            ["title", "comment", "label"],
            {},
            {"label": "label", "text": "comment"},
            ["columns: text = comment, label = label (guessed; --text names others)"],
        ),
        (
            ["text", "genre"],
            {},
            {"text": "text", "label": "genre"},
            ["columns: text = text, label = genre (guessed; --label names others)"],
        ),
        (
            ["genre", "words"],
            {"label": "genre"},
            {"label": "genre", "text": "words"},
            ["columns: text = words, label = genre (guessed; --text names others)"],
        ),
        (
            ["review", "label"],
            {"text": "label"},
            {"text": "label", "label": "review"},
            ["columns: text = label, label = review (guessed; --label names others)"],
        ),
    ],
)
def test_guess(columns, given, mapping, notes):
    assert guess_columns(csv(*columns), WORDS, given) == (mapping, notes)


def test_guess_takes_the_only_column_for_the_only_word():
    assert guess_columns(csv("words"), {"text": "the text"}, {}) == (
        {"text": "words"},
        ["columns: text = words (guessed; --text names others)"],
    )


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (["0", "1", "1.5", "-2e3"], "numbers alone"),
        (["0", "1"] * 20, "numbers alone"),
        (["pos", "very neg"] * 20, "2 different texts in 40 rows"),
        ([str(i % 10) + " stars" for i in range(20)], "10 different texts in 20 rows"),
        ([str(i % 10) + " stars" for i in range(19)], ""),
        ([str(i % 11) + " stars" for i in range(40)], ""),
        (["short", "short too"], ""),
    ],
)
def test_a_column_of_classes_or_numbers_is_no_text_by_guess(cells: list[str], found: str) -> None:
    rows = build_rows(
        {"text": [f"a text {i}" for i in range(len(cells))], "y": cells}, "r.csv", range(2, len(cells) + 2)
    )
    words = {"text": "the text to summarize", "summary": "its summary"}
    assert guess_columns(rows, words, {"summary": "y"})[0] == {"text": "text", "summary": "y"}
    assert guess_columns(rows, {"text": "the text", "label": "its class"}, {})[0] == {"text": "text", "label": "y"}
    if not found:
        assert guess_columns(rows, words, {})[0] == {"text": "text", "summary": "y"}
        return
    with pytest.raises(DataError) as fault:
        guess_columns(rows, words, {})
    assert str(fault.value) == (
        f"r.csv: no column 'summary' (its summary), and 'y' holds {found}; columns: text, y; "
        "map it with data.columns.summary=COLUMN or --summary COLUMN"
    )


def test_the_only_column_is_the_text_whatever_it_holds() -> None:
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
                "columns: text = sentence1, text_pair = sentence2, label = label (guessed; --text and --text-pair name others)"
            ],
        ),
        (
            ["qid1", "question1", "question2", "is_duplicate"],
            {},
            {"text": "question1", "text_pair": "question2", "label": "is_duplicate"},
            [
                (
                    "columns: text = question1, text_pair = question2, label = is_duplicate (guessed; --text, --text-pair and "
                    "--label name others)"
                )
            ],
        ),
        (
            ["Sentence_A", "Sentence_B", "relatedness_score"],
            {},
            {"text": "Sentence_A", "text_pair": "Sentence_B", "label": "relatedness_score"},
            [
                (
                    "columns: text = Sentence_A, text_pair = Sentence_B, label = relatedness_score (guessed; --text, --text-pair "
                    "and --label name others)"
                )
            ],
        ),
        (
            ["text", "text2", "label"],
            {},
            {"text": "text", "text_pair": "text2", "label": "label"},
            ["columns: text = text, text_pair = text2, label = label (guessed; --text-pair names others)"],
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
            ["columns: text = premise, text_pair = x, label = label (guessed; --text names others)"],
        ),
        (["text", "hypothesis", "sentence2", "label"], {}, {"text": "text", "label": "label"}, []),
        (["text", "passage", "label"], {}, {"text": "text", "label": "label"}, []),
        (
            ["words", "genre"],
            {},
            {"text": "words", "label": "genre"},
            ["columns: text = words, label = genre (guessed; --text and --label name others)"],
        ),
        (
            ["words", "sentence2", "label"],
            {},
            {"text": "words", "text_pair": "sentence2", "label": "label"},
            [
                "columns: text = words, text_pair = sentence2, label = label (guessed; --text and --text-pair name others)"
            ],
        ),
    ],
)
def test_a_second_text_is_guessed_where_it_is_plain(columns, given, mapping, notes):
    assert guess_columns(csv(*columns), PAIR, given, optional=["text_pair"]) == (mapping, notes)


def test_a_second_text_never_becomes_the_label():
    with pytest.raises(DataError) as caught:
        guess_columns(csv("sentence1", "sentence2"), PAIR, {}, optional=["text_pair"])
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
def test_common_names_of_labels(columns, label):
    assert guess_columns(csv(*columns), WORDS, {})[0]["label"] == label


@pytest.mark.parametrize(
    ("columns", "sentence"),
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
def test_guess_refuses_what_is_not_plain(columns, sentence):
    with pytest.raises(DataError) as caught:
        guess_columns(csv(*columns), WORDS, {})
    assert str(caught.value) == sentence


def test_guess_refuses_an_unknown_word():
    with pytest.raises(RecipeError) as caught:
        guess_columns(csv("text", "label"), WORDS, {"labell": "label"})
    assert str(caught.value) == "data.columns.labell: the task has no such word; did you mean 'label'?"


def refused(rows: Rows, mapping: dict[str, str], **options: object) -> str:
    with pytest.raises(LlmkitError) as caught:
        apply_column_mapping(rows, mapping, **options)  # type: ignore[arg-type]
    return str(caught.value)


def test_need_names_a_missing_column():
    assert refused(csv("id", "text", "label"), {"text": "txt"}) == (
        "reviews.csv: no column 'txt'; did you mean 'text'? columns: id, text, label; map it with "
        "data.columns.text=COLUMN or --text COLUMN"
    )
    assert refused(csv("id"), {"text_pair": "b"}) == (
        "reviews.csv: no column 'b'; columns: id; map it with data.columns.text_pair=COLUMN or --text-pair COLUMN"
    )


def test_need_leaves_out_an_optional_column():
    rows, notes = apply_column_mapping(csv("text"), {"text": "text", "label": "label"}, optional=["label"])
    assert (rows.column_mapping, notes) == ({"text": "text"}, [])


OTHER_TEXT = "map another column with data.columns.text=COLUMN or --text COLUMN"
OTHER_LABEL = "map another column with data.columns.label=COLUMN or --label COLUMN"
SEVERAL = "classify.kind=multi takes several labels a row"


@pytest.mark.parametrize(
    ("lines", "sentence"),
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
            "a.jsonl:2: 'l' is text here, a number at a.jsonl:1; write one kind in all rows",
        ),
        (
            '{"t": "a", "l": true}\n{"t": "a", "l": 1}\n',
            "a.jsonl:2: 'l' is a number here, a boolean at a.jsonl:1; write one kind in all rows",
        ),
        (
            '{"t": "a", "l": {}}\n',
            f"a.jsonl:1: 'l' is an object, not text or a number or a boolean; write text or a number or a boolean, or {OTHER_LABEL}; {SEVERAL}",
        ),
        (
            '{"t": "a", "l": "x"}\n{"t": "a", "l": ["x", "y"]}\n',
            f"a.jsonl:2: 'l' is a list, not text; write text, or {OTHER_LABEL}; {SEVERAL}",
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
def test_need_checks_every_cell(rows_of, lines, sentence):
    assert refused(rows_of("a.jsonl", lines), {"text": "t", "label": "l"}) == sentence


def test_need_drops_empty_text_where_asked(rows_of):
    rows, notes = apply_column_mapping(
        rows_of("a.csv", "text,label\na,x\n ,\nb,y\n"), {"text": "text", "label": "label"}, on_empty="skip"
    )
    assert rows.texts("text") == ["a", "b"]
    assert notes == ["a.csv: left out 1 row of 3 with empty text; data.on_empty=skip"]
    assert rows.location(1) == "a.csv:4"


def test_need_refuses_when_all_is_empty(rows_of):
    rows = rows_of("a.csv", "text,label\n ,x\n")
    assert refused(rows, {"text": "text"}, on_empty="skip") == (
        "a.csv: every row's text is empty; map another column with data.columns"
    )


def test_need_takes_other_kinds_where_the_task_does(rows_of):
    rows = rows_of("a.jsonl", '{"text": "a", "label": ["x"]}\n{"text": "b", "label": []}\n')
    mapped, _ = apply_column_mapping(rows, {"text": "text", "label": "label"}, cell_types={"label": ["a list", "text"]})
    assert mapped.texts("label") == ['["x"]', "[]"]
    rows = rows_of("a.csv", "text,label\na,\n")
    assert apply_column_mapping(rows, {"text": "text", "label": "label"}, may_be_empty=["label"])[0].texts("label") == [
        ""
    ]


def test_need_names_no_other_kind_where_the_caller_names_the_kinds(rows_of):
    rows = rows_of("a.jsonl", '{"text": "a", "label": [1]}\n')
    assert refused(rows, {"text": "text", "label": "label"}, kinds={"label": ("a number", "text")}) == (
        f"a.jsonl:1: 'label' is a list, not a number or text; write a number or text, or {OTHER_LABEL}"
    )


def test_need_refuses_one_column_for_both_texts():
    assert refused(csv("text", "label"), {"text": "text", "text_pair": "text", "label": "label"}) == (
        "reviews.csv: column 'text' is text and text_pair; map one with data.columns.text_pair=COLUMN or --text-pair COLUMN"
    )


def test_an_empty_second_text_is_refused(rows_of):
    rows = rows_of("a.csv", "text,text_pair\na,b\nc,\n")
    assert refused(rows, {"text": "text", "text_pair": "text_pair"}) == (
        "a.csv:3: 'text_pair' is empty; write it, or leave such rows out with data.on_empty=skip"
    )


def test_labels_keep_their_spelling(rows_of):
    rows = rows_of("a.jsonl", '{"text": "a", "label": 1e5}\n{"text": "b", "label": 1.0}\n')
    assert apply_column_mapping(rows, {"text": "text", "label": "label"})[0].texts("label") == ["1e5", "1.0"]
