"""Links, anchors and files that pages name, and the length of the README."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, text_of, without_blocks
from tools.docs_site.hooks import generated_pages

GENERATED = {f"docs/{path}": text for path, text in generated_pages().items()}


def heading_anchors(text: str) -> set[str]:
    """The anchors that both GitHub and mkdocs make of headings."""
    lines = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S).splitlines()
    titles = [line.lstrip("#").strip() for line in lines if re.match(r"#+ ", line)]
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", title.replace("`", "").lower())) for title in titles}


def links(page: str) -> list[str]:
    """Targets of links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", without_blocks(page))


@pytest.mark.parametrize("page", PAGES)
def test_links_and_anchors_resolve(page: str) -> None:
    for link in links(page):
        assert "://" not in link, f"{page}: {link}: pages need no network"
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        name = target.relative_to(ROOT).as_posix()
        assert target.exists() or name in GENERATED, f"{page}: {link}"
        if anchor:
            text = GENERATED.get(name) or target.read_text(encoding="utf-8")
            assert anchor in heading_anchors(text), f"{page}: {link}: no such heading"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    rooms = [ROOT, ROOT / "soups", ROOT / "soups" / "pipeline"]
    for name in re.findall(r"`((?:soups|tests|tools|scripts|docs|examples)/[\w/.-]+)`", text_of(page)):
        if name not in ("soups/a/b.py", "tests/a/test_b.py"):
            assert (ROOT / name).exists(), f"{page}: {name}"
    for name in re.findall(r"`([a-z_]+/[\w/]+\.(?:py|sh|yaml))`", text_of(page)):
        if name not in ("soups/a/b.py", "tests/a/test_b.py"):
            assert any((room / name).exists() for room in rooms), f"{page}: {name}"


@pytest.mark.parametrize("page", [page for page in PAGES if "\n::: " in text_of(page)])
def test_objects_of_the_reference_exist(page: str) -> None:
    for path in re.findall(r"^::: (\S+)$", text_of(page), flags=re.M):
        module, name = path.rsplit(".", 1)
        assert hasattr(import_module(module), name), f"{page}: {path}"


def test_links_are_found() -> None:
    assert len(links("README.md")) > 30
    assert {"four-words-of-it", "soupsload"} <= heading_anchors("## Four words, of it\n\n### soups.load\n")


def test_the_readme_is_short() -> None:
    lines = text_of("README.md").splitlines()
    assert len(lines) <= 200
    assert max(map(len, lines)) <= 160


def test_every_page_of_docs_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in [*PAGES, *GENERATED]:
        if page.startswith("docs/"):
            assert f" {page.removeprefix('docs/')}\n" in navigation, page


def test_no_page_names_a_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/work/|/tmp/|/home/\w", text_of(page)), page


@pytest.mark.parametrize("name", ["LICENSE", "CITATION.cff", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_front_files_exist(name: str) -> None:
    assert Path(ROOT / name).read_text(encoding="utf-8").strip()
    assert name in text_of("README.md")


def test_the_citation_names_every_paper_of_the_readme() -> None:
    import yaml

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    cited = {entry["value"] for paper in citation["references"] for entry in paper.get("identifiers", [])}
    assert set(re.findall(r"arXiv:\d{4}\.\d{5}", text_of("README.md"))) <= cited
