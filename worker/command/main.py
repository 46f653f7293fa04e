"""The `endtape` command: which commands there are, in which group, and where each is.

A command's file is imported when the command is used: all of them together take longer than the
work of most.
"""

from __future__ import annotations

import difflib
import gc
import importlib

import click
from click.shell_completion import CompletionItem

# An import makes thousands of objects that stay. With Python's own threshold the collector looks at
# each of them again and again: a tenth of the time until a command begins, measured.
gc.set_threshold(20_000, 20, 20)
# By group: each command, its place below `worker.command`, and its line in the help.
GROUPS = {
    "Look": {
        "ls": ("ls:ls", "List recordings, newest first."),
        "show": ("show:show", "Show a call with its timeline."),
        "watch": ("watch:watch", "Print events as they come, a line for each."),
        "top": ("top:top", "Show what happens now."),
        "ledger": ("completeness:ledger", "Show what a day should have recorded, and did."),
        "explain": ("explain:explain_command", "Show which rule applies to a call, and why."),
        "simulate": ("simulate:simulate", "Show what other rules would have done."),
        "doctor": ("doctor:doctor", "Try each connection, and show the settings in force."),
        "urls": ("urls:urls", "Print the callback URLs and ready XML with them in place."),
        "keys": ("keys:keys", "Print the public keys in the form of an `allowed_signers` file."),
    },
    "Calls": {
        "start": ("segments:start", "Start a recording on a live call."),
        "stop": ("stop:stop", "Stop a call's recordings, or one, and wait for the proof."),
        "pause": ("segments:pause", "Pause a call's recordings, and wait for the proof."),
        "resume": ("segments:resume", "Go on with what was paused, as a further segment."),
        "handoff": ("handoff:handoff", "Ask whether a transfer may go."),
    },
    "Recordings and archive": {
        "retry": ("retry:retry", "Try once more to bring recordings home."),
        "reconcile": (
            "reconcile:reconcile",
            "Compare the provider's lists with ours; heal what differs.",
        ),
        "hold": ("govern:hold", "Put recordings under legal hold."),
        "release": ("govern:release", "End the legal hold of recordings."),
        "erase": ("govern:erase", "Erase recordings: both copies and the receipt."),
        "verify": ("verify:verify", "Read an archive again, and name what is wrong in it."),
        "index": ("index:index", "Make the catalogue anew from the archive."),
        "export": ("export:export", "Write what was filed on a day as a bag (BagIt, RFC 8493)."),
        "notify": ("notify:notify", "List the notifications that do not arrive."),
    },
    "Service": {
        "demo": ("demo:demo", "Play seven calls with eight recordings, show what comes of them."),
        "run": ("run:run_command", "Run the service until Ctrl-C."),
        "emulator": ("emulator:emulator", "Run the stand-in provider (docs/emulator.md)."),
        "reload": ("reload:reload", "Tell every process to read its settings again."),
        "completion": ("completion:completion", "Print what makes a shell complete `endtape`."),
    },
}
COMMANDS = {name: row for group in GROUPS.values() for name, row in group.items()}


class _Commands(click.Group):
    """Imports a command's file when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        file, _, name = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"worker.command.{file}"), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is named. Raises UsageError for an unknown one, with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"{error.message}{meant}", ctx) from None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin so, without importing any command."""
        commands = [
            CompletionItem(name, help=line)
            for name, (_, line) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*commands, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for group, commands in GROUPS.items():
            with formatter.section(group):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()])


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: endtape ls --running. Each command has an example in its own --help.",
)
@click.version_option(package_name="endtape", message="%(prog)s %(version)s")
def main() -> None:
    """Ends call recordings when they must end, proves it, and brings each home."""
    from worker import logs  # noqa: PLC0415 - `--help` and completion do without

    logs.set_up("text")  # standard output is for what the command prints


if __name__ == "__main__":
    main()
