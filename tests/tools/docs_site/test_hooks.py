"""Pages that are made when the site is built."""

from tools.docs_site.commands import COMMANDS
from tools.docs_site.hooks import command_list, generated_pages, on_page_content


def test_every_command_has_a_page_with_its_flags() -> None:
    pages = generated_pages()
    assert len(pages) == len(COMMANDS) + 1
    assert "`--hparams`" in pages["reference/commands/finetune.md"]
    assert "soups finetune --i 3 " in pages["reference/commands/finetune.md"]
    assert "commands/benchmarks_curate.md" in command_list()
    assert "commands/curate.md" in command_list()


def test_rooms_have_their_modules() -> None:
    text = generated_pages()["reference/rooms.md"]
    assert "## soups/recipes" in text
    assert "`greedy.py`" in text


def test_flags_stay_whole() -> None:
    html = "<code>soups main --greedy-soup</code> --greedy-soup <code><b>--x</b></code>"
    whole = '<code>soups main <span class="flag">--greedy-soup</span></code> --greedy-soup <code><b>--x</b></code>'
    assert on_page_content(html) == whole
