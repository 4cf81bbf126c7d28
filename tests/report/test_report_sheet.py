"The pieces: data stay text, states carry words, pictures carry descriptions and the same bytes."

import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.display import HTML

from mlt_lib.errors import DataError
from mlt_lib.report import sheet

anything = st.text(max_size=40) | st.sampled_from(
    [
        "<script>alert(1)</script>",
        "AT&T",
        '" onload="x',
        "' x='",
        "</td></table>",
        "$\\frac{1}{2}$",
        "a$b$c",
        "]]>",
        "<!--",
    ]
)
modest = settings(max_examples=60, deadline=None)


def tags(read, piece) -> list:
    return [t for t, _ in read(piece.data).tags]


@modest
@given(anything)
def test_escaped_text_is_text(text):
    out = sheet.escape(text)
    assert not set(out) & set("<>\"'")
    assert re.sub("&(amp|lt|gt|quot|#x27);", "", out).count("&") == 0


def test_what_no_page_can_hold_becomes_the_replacement_character():
    assert sheet.escape("a\x00b\ud800c\x1b\nd") == "a\ufffdb\ufffdc\ufffd\nd"
    sheet.escape("\udfff").encode("utf-8")


@modest
@given(anything)
def test_no_text_yields_a_tag_in_any_piece(read, text):
    frame = pd.DataFrame({"name": [text], text + "x": [1.0]})
    checked = pd.DataFrame({"value": [0.1], "bound": [0.2], "use": [0.5], "light": ["ok"]}, index=[text])
    for made, plain in [
        (sheet.headline(text, text), sheet.headline("a", "a")),
        (sheet.banner("ok", text, text), sheet.banner("ok", "a", "a")),
        (sheet.kpis([(text, text, text)]), sheet.kpis([("a", "a", "a")])),
        (sheet.table(frame, text + "x"), sheet.table(frame.set_axis(["a", "b"], axis=1).assign(a="a"), "a")),
        (sheet.limits(checked), sheet.limits(checked.set_axis(["a"]))),
        (sheet.section(text, text), sheet.section("a", "a")),
        (sheet.note(text), sheet.note("a")),
        (sheet.provenance({text: text}), sheet.provenance({"a": "a"})),
    ]:
        assert tags(read, made) == tags(read, plain)


@settings(max_examples=12, deadline=None)
@given(anything)
def test_text_in_a_picture_stays_text(read, text):
    made = sheet.figure(lambda ax: ax.text(0.5, 0.5, text), f"about {text}", size=(3, 1))
    page = read(made.data)
    assert {t for t, _ in page.tags} <= {
        "figure",
        "figcaption",
        "svg",
        "g",
        "path",
        "text",
        "tspan",
        "defs",
        "use",
        "clippath",
        "rect",
    }
    [attributes] = page.all("figure")
    assert attributes["aria-label"] == re.sub(sheet.NOT_IN_HTML, "\ufffd", f"about {text}")


def test_dollars_in_a_picture_are_no_mathematics(read):
    made = sheet.figure(lambda ax: ax.set_title("a $x^2$ & <b>"), "title", size=(3, 1))
    assert "a $x^2$ & <b>" in [t.strip() for _, t in read(made.data).texts]


def test_a_symbol_of_another_script_draws_without_a_warning(recwarn):
    sheet.figure(lambda ax: ax.set_title("貴州茅台"), "Kweichow Moutai", size=(3, 1))
    assert [w for w in recwarn if "Glyph" in str(w.message)] == []


def test_a_piece_passes_and_everything_else_is_escaped():
    assert sheet.markup(HTML("<b>x</b>")) == "<b>x</b>"
    assert sheet.markup("<b>x</b>") == "&lt;b&gt;x&lt;/b&gt;"
    assert sheet.markup(3) == "3"


@pytest.mark.parametrize("state", ["ok", "near", "breach", "held"])
def test_a_state_is_told_by_word_and_shape_too(state):
    made = sheet.mark(state).data
    assert state in re.sub("<[^>]*>", "", made)
    assert sheet.SHAPES[state] in made
    assert len(set(sheet.SHAPES.values())) == 4


def test_an_unknown_state_names_the_known():
    with pytest.raises(DataError, match="'fine'.*ok, near, breach, held"):
        sheet.banner("fine", "all is well")


def test_table_sets_numbers_right_and_text_left(read):
    frame = pd.DataFrame(
        {"name": ["A", "B"], "shares": [Decimal("1200"), None], "price": [1.5, np.nan], "side": ["buy", "sell"]}
    )
    page = read(sheet.table(frame, "two orders", {"shares": ",", "price": ".1f"}).data)
    assert [a for a in page.all("th") if a.get("scope") == "col"] == [
        {"scope": "col", "class": "left"},
        {"scope": "col"},
        {"scope": "col"},
        {"scope": "col", "class": "left"},
    ]
    assert [a["scope"] for a in page.all("th")].count("row") == 2
    cells = [t for tag, t in page.texts if tag in ("td", "th", "caption")]
    assert cells == ["two orders", "name", "shares", "price", "side", "A", "1,200", "1.5", "buy", "B", "–", "–", "sell"]


def test_table_formats_by_function_and_refuses_an_unknown_column():
    frame = pd.DataFrame({"name": ["A"], "state": ["<ok>"]})
    assert 'class="mark ok"' in sheet.table(frame, "", {"state": lambda s: sheet.mark("ok", s)}).data
    assert "&lt;ok&gt;" in sheet.table(frame, "", {"state": lambda s: sheet.mark("ok", s)}).data
    with pytest.raises(DataError, match="no column stat to format; there are name, state"):
        sheet.table(frame, "", {"stat": "s"})


def test_an_empty_table_has_its_head(read):
    page = read(sheet.table(pd.DataFrame({"name": [], "side": []})).data)
    assert len(page.all("th")) == 2 and page.all("td") == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (pd.NaT, "–"),
        (1234.5, "1,234.50"),
        (7, "7"),
        (Decimal("1.10"), "1.10"),
        (pd.Timestamp("2022-12-28"), "2022-12-28"),
        ("<b>", "&lt;b&gt;"),
        (HTML("<b>"), "<b>"),
    ],
)
def test_a_cell_by_its_type(value, text):
    assert sheet.cell_text(value) == text


def test_tint_grows_with_size_and_is_capped():
    def share(v):
        return float(re.search(r"([\d.]+)%, transparent", sheet.tinted("+.2f", 0.5)(v).data)[1])

    assert [share(v) for v in (0.0, 0.25, -0.5, 9.0)] == [0, 50, 100, 100]
    assert "--breach" in sheet.tinted("+.2f", 0.5)(-0.1).data and "--accent" in sheet.tinted("+.2f", 0.5)(0.1).data
    assert sheet.tinted("+.2f", 0.5)(float("nan")).data == "–"


def test_limits_show_the_whole_use_and_cap_the_bar():
    checked = pd.DataFrame(
        {"value": [0.28, np.nan], "bound": [0.2, 0.1], "use": [1.4, np.nan], "light": ["breach", "breach"]},
        index=["largest name", "drawdown"],
    )
    made = sheet.limits(checked).data
    assert "140%" in made and "width:100%" in made and "width:140%" not in made
    assert "width:0%" in made and made.count("–") == 2
    with pytest.raises(DataError, match="light is missing"):
        sheet.limits(checked.drop(columns="light"))


def test_a_wide_picture_has_a_narrow_one_and_both_are_hidden_from_the_screen_reader(read):
    page = read(sheet.figure(lambda ax: ax.plot([1, 2]), "a line", size=(10, 2)).data)
    assert [a["aria-hidden"] for a in page.all("svg")] == ["true", "true"]
    assert page.all("figure") == [{"role": "img", "aria-label": "a line"}]
    assert len(read(sheet.figure(lambda ax: ax.plot([1, 2]), "a line", size=(4, 2)).data).all("svg")) == 1


def test_the_same_picture_has_the_same_bytes_and_others_share_no_id():
    def draw(ax):
        ax.plot([1, 2, 3], [2, 3, 1])
        ax.fill_between([1, 2], [1, 2])

    one, again, other = (sheet.figure(draw, alt, size=(8, 2)).data for alt in ("one", "one", "other"))
    ids = [re.findall(r'\bid="([^"]*)"', d) for d in (one, other)]
    assert one == again
    assert len(set(ids[0])) == len(ids[0]) and not set(ids[0]) & set(ids[1])


def test_pictures_speak_of_no_address_no_date_and_wear_the_page_s_colours():
    made = sheet.figure(lambda ax: ax.plot([1, 2], color=sheet.ACCENT), "a line", size=(8, 2)).data
    assert "http" not in made and "<metadata" not in made and "<style" not in made and "DejaVu" not in made
    assert f"var(--accent,{sheet.ACCENT})" in made
    assert re.findall(r'\bd="[^"]*\.\d\d', made) == []


def test_panels_share_their_time_axis():
    seen = []
    sheet.figure(lambda axes: seen.append(axes), "two", size=(4, 3), axes=(2, 1))
    sheet.figure(lambda axes: seen.append(axes), "three", size=(4, 3), axes=3)
    [two, three] = seen
    two[0].set_xlim(3, 9)
    assert two[1].get_xlim() == (3, 9) and len(three) == 3


def test_columns_and_sections_keep_pieces_and_make_paragraphs_of_text(read):
    made = sheet.columns(sheet.section("A & B", sheet.note("one"), "two <i>"), sheet.note("three"))
    page = read(made.data)
    assert [t for t, _ in page.tags] == ["div", "div", "section", "h2", "p", "p", "div", "p"]
    assert page.text == "A & Bonetwo <i>three"
