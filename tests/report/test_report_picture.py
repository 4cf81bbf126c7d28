"A matplotlib drawing as a part of a page."

import re

from mlt_lib.report import picture


def test_the_theme_names_the_palette_and_leaves_other_colours():
    svg = '<svg width="9pt" viewBox="0 0 9 9"><g id="x"><path style="stroke: #1f5fbf; fill: #123456"/></g></svg>'
    made = picture.theme(svg)
    assert "stroke: var(--accent,#1f5fbf)" in made and "fill: #123456" in made
    assert "id=" not in made and "width=" not in made and 'viewBox="0 0 9 9"' in made


def test_text_that_looks_like_a_colour_or_a_path_is_left_alone():
    said = 'paint #1f5fbf along d="M 1.2345 6.789" in font-family: serif;'
    assert said in picture.picture(lambda ax: ax.text(0, 0.5, said), "x", (3, 1))


def test_every_colour_of_the_palette_is_defined_in_the_style_sheet_for_light_dark_and_print():
    from mlt_lib.settings import asset

    css = (asset("templates") / "report/style.css").read_text()
    for name in picture.PALETTE.values():
        assert len(re.findall(rf"--{name}: #", css)) == 3
    light = css[: css.index("@media")]
    assert all(f"--{name}: {value};" in light for value, name in picture.PALETTE.items())


def test_a_drawing_leaves_no_open_figure_and_the_caller_s_style_alone():
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    before, open_before = dict(mpl.rcParams), plt.get_fignums()
    picture.picture(lambda ax: ax.plot([1, 2]), "x", (3, 1))
    assert plt.get_fignums() == open_before and dict(mpl.rcParams) == before
