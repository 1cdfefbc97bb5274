"""Pages that are made when the site is built."""

from tools.docs_site.commands import COMMANDS
from tools.docs_site.hooks import command_list, generated_pages


def test_every_command_has_a_page_with_its_flags() -> None:
    pages = generated_pages()
    assert len(pages) == len(COMMANDS) + 1
    assert "`--hparams`" in pages["reference/commands/finetune.md"]
    assert "commands/benchmarks_curate.md" in command_list()
    assert "commands/curate.md" in command_list()


def test_rooms_have_their_modules() -> None:
    text = generated_pages()["reference/rooms.md"]
    assert "## soups/recipes" in text
    assert "`greedy.py`" in text
