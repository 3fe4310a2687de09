import re

from experiments.__main__ import COMMANDS
from experiments.infer import COMMANDS as PARTS_OF_INFER


def test_every_command_s_help_is_on_the_page(root):
    shown = re.findall(
        r"\{command-help\} (.+)", (root / "docs/commands.md").read_text()
    )
    commands = {f"experiments.{name}" for name in COMMANDS}
    commands |= {f"experiments.infer {name}" for name in PARTS_OF_INFER}
    assert set(shown) == {*commands, "fedjax_private.privacy.accounting"}
