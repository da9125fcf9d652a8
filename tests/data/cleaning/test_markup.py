"""HTML becomes text, and text that is not HTML keeps every character."""

from __future__ import annotations

import pytest
from hypothesis import given

from llmkit.data.cleaning.markup import strip_html

from .conftest import texts


@pytest.mark.parametrize(
    "text",
    [
        "2 < 3 and 4 > 3",
        "I <3 you",
        "std::vector<int> v; List<String> names; Map<I, B> m;",
        "if (a <b && c> d) { return a<<2; }",
        "#include <stdio.h>\ncat <<EOF > file",
        "Use the <b> tag, or <p>.",
        "<your name> wrote to <me@example.org>",
        "x <!-- an arrow",
        "<ref>a footnote</ref> of a wiki",
        "R&D, AT&T, a&b;c, &nope; ?copy=1&lt=2",
    ],
)
def test_text_that_is_not_html_is_unchanged(text: str) -> None:
    assert strip_html(text) == text


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>One</p><p>Two &amp; three</p>", "One\nTwo & three"),
        ("I loved it.<br /><br />Really.", "I loved it.\n\nReally."),
        ("<div>a<script>if (1 < 2) f('</p>')</script><style>p {}</style> b</div>", "a b"),
        ("<ul>\n  <li>one\n  <li>two\n</ul>", "one\ntwo"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc"),
        ("<pre>\n  def f():\n      return 1\n</pre>", "def f():\n      return 1"),
        ("so <b>bold</b> that 2 < 3, <3 and vector<int> stay", "so bold that 2 < 3, <3 and vector<int> stay"),
        ("line 1 <i>x</i>\nline 2", "line 1 x\nline 2"),
        ("a <!-- hidden --> <b>b</b> c <!-- open", "a  b c <!-- open"),
        ("<em>open</em> <script>never closed", "open <script>never closed"),
        ("<a href='x>y' title=\"<\">link</a>", "link"),
        ("<my-box>in</my-box> <b>b</b> <not-closed>", "in b <not-closed>"),
        ("caf&#233; &quot;x&quot; &lt;3 &amp;amp;lt; b", "café \"x\" <3 < b"),
        ("<P>UPPER<BR>CASE</P>", "UPPER\nCASE"),
        ("<b>你好</b>，世界<br>🙂", "你好，世界\n🙂"),
        ("&lt;b&gt;shown as an example&lt;/b&gt;", "shown as an example"),
    ],
)  # fmt: skip
def test_html_becomes_text(markup: str, text: str) -> None:
    assert strip_html(markup) == text


def test_a_page_becomes_its_title_and_visible_text() -> None:
    page = """<?xml version="1.0"?>
    <!DOCTYPE html>
    <html lang="en"><head><title>Ships</title><meta charset="utf-8"><style>h1 { color: red }</style>
    <script type="text/javascript">document.write("<p>no</p>");</script></head>
    <body onload="x('<b>')"><!-- menu --><nav><a href="/">Home</a> | <a href="/b">B</a></nav>
    <h1>Old
       ships</h1><svg><title>icon</title><path d="M0 0"/></svg>
    <p>They sailed&nbsp;far &mdash; to <custom-word>China</custom-word>.<noscript>Turn it on</noscript></p></body></html>"""
    assert strip_html(page) == "Ships\nHome | B\nOld ships\nThey sailed\u00a0far — to China."


def test_deeply_nested_pages_need_no_recursion() -> None:
    assert strip_html("<div>" * 5000 + "<b>in</b>" + "</div>" * 5000) == "in"


@given(texts())
def test_stripping_html_is_idempotent(text: str) -> None:
    once = strip_html(text)
    assert strip_html(once) == once
