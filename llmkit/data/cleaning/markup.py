"""Converts HTML to text and leaves every other `<` alone: `2 < 3`, `<3`, `vector<int>`."""

from __future__ import annotations

import html
import html.entities
from typing import TYPE_CHECKING, Any

import regex

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_ELEMENTS = frozenset(
    """
    address article aside blockquote body caption center dd details dialog dir div dl dt fieldset figcaption figure
    footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol optgroup option p pre
    search section select summary table tbody tfoot thead title tr ul
    """.split()  # noqa: SIM905
)
INLINE_ELEMENTS = frozenset(
    """
    a abbr acronym area audio b base basefont bdi bdo big br button canvas cite code col colgroup data datalist del
    dfn em embed font frame head i iframe img input ins kbd label link map mark meta meter nobr noscript object
    output param picture progress q rp rt ruby s samp script slot small source span strike strong style sub sup svg
    td template textarea th time track tt u var video wbr
    """.split()  # noqa: SIM905
)
SVG_ELEMENTS = frozenset(
    {"circle", "defs", "ellipse", "g", "line", "path", "polygon", "polyline", "rect", "symbol", "use"}
)
KNOWN_ELEMENTS = BLOCK_ELEMENTS | INLINE_ELEMENTS | SVG_ELEMENTS
HIDDEN_ELEMENTS = frozenset({"script", "style", "template", "noscript", "iframe", "svg"})
# Without their end tag these would include all text that follows.
RAW_TEXT_ELEMENTS = frozenset({"script", "style", "textarea", "title", "iframe", "noscript"})

HTML_PAGE = regex.compile(
    r"(?i)\s*+(?:<\?xml[^>]*+>\s*+)?(?:<!--.*?-->\s*+)*+<(?:!doctype\s+html|html)\b[^>]*+>", regex.S
)
HTML_TAG = regex.compile(r"""<(/?)([a-zA-Z][a-zA-Z0-9-]*+)((?:[\s/]++(?:[^<>"']|"[^"]*+"|'[^']*+')*+)?)>""")
LESS_THAN = regex.compile("<")
COMMENT_START = "<!--"
HTML_ENTITY = regex.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
REPEATED_AMPERSAND = regex.compile(r"&(?:(?:amp|AMP|#0*+38|#[xX]0*+26);)+")  # `&amp;amp;lt;`: escaped more than once
SPACE_RUN = regex.compile(r"[ \t\n\r\f]+")
MAX_PASSES = 10  # markup shown as an example becomes markup after one pass; only contrived texts need more passes


def strip_html(text: str) -> str:
    """Remove tags, scripts and styles and decode entities; block elements end lines, as in a browser.

    A text counts as HTML if it is a page, or has a known element with start and end tag, or a <br>. Outside pages
    everything except complete tags of known elements stays. Markup that a page shows as an example is removed too, so
    cleaned text has none.
    """
    for _ in range(MAX_PASSES):
        before = text
        if "<" in text and is_html(text):
            text = parse_html(text)
        if "&" in text:
            text = HTML_ENTITY.sub(decode_entity, REPEATED_AMPERSAND.sub("&", text))
        if text == before:
            break
    return text


def decode_entity(entity: regex.Match[str]) -> str:
    """Return the character of an entity, or the text itself if it is not an entity."""
    name = entity[0][1:]
    return html.unescape(entity[0]) if name[0] == "#" or name in html.entities.html5 else entity[0]


def is_html(text: str) -> bool:
    """Return whether the text is HTML."""
    if HTML_PAGE.match(text):
        return True
    opened: set[str] = set()
    for closing, name, inside in HTML_TAG.findall(text):
        name = name.lower()
        if name in ("br", "hr") or (name == "img" and "src" in inside) or (closing and name in opened):
            return True
        if not closing and name in KNOWN_ELEMENTS:
            opened.add(name)
    return False


def parse_html(text: str) -> str:
    """Extract the text of HTML. Line ends of the source are kept only in HTML without block elements."""
    from selectolax.lexbor import LexborHTMLParser

    page = HTML_PAGE.match(text) is not None
    blocks = page or any(name.lower() in BLOCK_ELEMENTS for _, name, _ in HTML_TAG.findall(text))
    tree = LexborHTMLParser(text if page else escape_stray_less_than(text))
    return join_html_text(iterate_html_text(tree.root, blocks))


def escape_stray_less_than(text: str) -> str:
    """Escape each `<` that does not begin a comment or a tag of a known element."""
    known = KNOWN_ELEMENTS | {name for slash, name, _ in HTML_TAG.findall(text) if slash and "-" in name}
    lowered = text.lower()
    last_comment = text.rfind("-->")

    def escape(match: regex.Match[str]) -> str:
        position = match.start()
        if text.startswith(COMMENT_START, position):
            return "<" if position < last_comment else "&lt;"
        tag = HTML_TAG.match(text, position)
        name = tag[2].lower() if tag else ""
        is_raw_start = tag is not None and not tag[1] and name in RAW_TEXT_ELEMENTS
        is_unclosed = is_raw_start and lowered.find(f"</{name}", position) < 0
        return "<" if (name in known or (tag and tag[2] in known)) and not is_unclosed else "&lt;"

    return LESS_THAN.sub(escape, text)


def iterate_html_text(root: Any, blocks: bool) -> Iterator[str]:
    """Yield the texts below `root` in order, "" where a block begins or ends, and a line end at each <br>."""
    node, pre = root, 0
    while node is not None:
        tag = node.tag
        if tag == "-text":
            text = node.text_content or ""
            yield text if pre or not blocks else SPACE_RUN.sub(" ", text)
        elif tag == "br":
            yield "\n"
        elif tag in BLOCK_ELEMENTS:
            yield ""  # a block boundary: see join_html_text
            pre += tag == "pre"
        elif tag in ("td", "th"):
            yield " "
        child = None if tag in HIDDEN_ELEMENTS else node.first_child
        if child is not None:
            node = child
            continue
        while node is not None:
            if node.tag in BLOCK_ELEMENTS:
                yield ""
                pre -= node.tag == "pre"
            if node.mem_id == root.mem_id:  # == would serialize both nodes to HTML
                return
            if node.next is not None:
                node = node.next
                break
            node = node.parent


def join_html_text(parts: Iterator[str]) -> str:
    """Join the texts; a block boundary ends the current line unless it has ended already."""
    lines: list[str] = []
    ended = True
    for part in parts:
        if not part:
            if not ended:
                lines[-1] = lines[-1].rstrip(" ")
                lines.append("\n")
            ended = True
        elif not (ended and part.isspace() and "\n" not in part):
            # After <br> the line end of the source does not end the line again.
            lines.append(part)
            ended = part.endswith("\n")
    return "".join(lines).strip()
