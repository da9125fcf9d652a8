"""Sentences end where a reader would end them, and only white space between them is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit.data.corpus.sentences import find_sentence_spans, split_sentences, take_first_sentences

TEXT = st.text(st.sampled_from('aB1 .!?\n"”。！很e.g,'), max_size=40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One thing. Another! A third? Yes", ["One thing.", "Another!", "A third?", "Yes"]),
        ("Dr. Smith met J. Doe of the U.S. Army. They left.", ["Dr. Smith met J. Doe of the U.S. Army.", "They left."]),
        ("Use e.g. BERT, as Devlin et al. (2019) do. It works.", ["Use e.g. BERT, as Devlin et al. (2019) do.", "It works."]),
        ("See Fig. 3 and No. 5. No. I won't.", ["See Fig. 3 and No. 5.", "No.", "I won't."]),
        ("It is I. Who else?", ["It is I.", "Who else?"]),
        ("It costs 3.5 million. 20 came.", ["It costs 3.5 million.", "20 came."]),
        ('He cried: "Go!" (Then he left.) She stayed.', ['He cried: "Go!"', "(Then he left.)", "She stayed."]),
        ("He left... then came. Wait… What?", ["He left... then came.", "Wait…", "What?"]),
        ("no capitals here . none there .", ["no capitals here .", "none there ."]),
        ("今天很好。我们走！“真的？”他问。是的", ["今天很好。", "我们走！", "“真的？”", "他问。", "是的"]),
        ("性能缺陷.该染料(C.I.B-19)为3.5克.", ["性能缺陷.", "该染料(C.I.B-19)为3.5克."]),
        ("Привет. Как дела?", ["Привет.", "Как дела?"]),
        ("A headline\n\nThe text. It ends\r\n", ["A headline", "The text.", "It ends"]),
        ("...", ["..."]),
        (" \n ", []),
        ("", []),
    ],
)  # fmt: skip
def test_split_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@given(TEXT)
def test_spans_are_in_order_and_leave_out_only_white_space(text: str) -> None:
    position = 0
    for start, end in find_sentence_spans(text):
        assert not text[position:start].strip()
        assert text[start:end] == text[start:end].strip() != ""
        position = end
    assert not text[position:].strip()


@given(TEXT, st.integers(1, 5))
def test_first_sentences_are_the_beginning_of_the_text(text: str, number: int) -> None:
    assert text.lstrip().startswith(take_first_sentences(text, number))
    assert split_sentences(take_first_sentences(text, number))[:1] == split_sentences(text)[:1]
    assert take_first_sentences(text, len(split_sentences(text)) + 1) == text.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("a. " * 50_000, 1),
        ("." * 100_000, 1),
        ("x" + " " * 100_000 + "y", 1),
        ("?" + ")" * 100_000, 1),
        ("A! " * 9_000, 9_000),
    ],
)
def test_long_and_unusual_texts_take_linear_time(text: str, number: int) -> None:
    """A rule with quadratic time would not finish on these texts."""
    assert len(split_sentences(text)) == number
