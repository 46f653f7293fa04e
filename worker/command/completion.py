"""`endtape completion`: what makes a shell complete commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command(
    epilog="Example: echo 'eval \"$(endtape completion bash)\"' >> ~/.bashrc",
)
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes a shell complete `endtape`.

    For bash and zsh: evaluate it in ~/.bashrc or ~/.zshrc. For fish: write it to
    ~/.config/fish/completions/endtape.fish.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, "endtape", "_ENDTAPE_COMPLETE").source())
