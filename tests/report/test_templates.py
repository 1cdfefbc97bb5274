"""Templates: text is escaped in HTML."""

from soups.report.html.pages import Section
from soups.report.templates import render_template


def test_text_is_escaped_in_html() -> None:
    page = render_template("html/page.html", title="<b>", intro=["a & b"], sections=[Section("<i>", [])])
    assert "<title>&lt;b&gt;</title>" in page and "a &amp; b" in page and "<h2>&lt;i&gt;</h2>" in page
    figures = render_template("html/search.html", title="<b>", parts=["<div>figure</div>"])
    assert "<title>&lt;b&gt;</title>" in figures and "<div>figure</div>" in figures
