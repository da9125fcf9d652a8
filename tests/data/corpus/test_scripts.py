"""Scripts without spaces between words are detected by most of their letters."""

from __future__ import annotations

import pytest

from llmkit.data.corpus.scripts import is_unspaced_script


@pytest.mark.parametrize(
    ("texts", "without_spaces"),
    [(["我喜欢看电影。", "我不喜欢听音乐！"], True), (["カタカナとひらがな"], True), (["a plain text 我"], False), (["한국어 문장"], False),
     (["Привет мир"], False), (["ภาษาไทย"], True), (["12 34"], False)],
)  # fmt: skip
def test_scripts_without_spaces_are_detected(texts: list[str], without_spaces: bool) -> None:
    assert is_unspaced_script(texts) is without_spaces
