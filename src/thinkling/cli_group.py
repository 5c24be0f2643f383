"""Behaviour shared by all commands: the introduction, the list of commands, and the message after Ctrl-C."""

from __future__ import annotations

import inspect
import re
import sys
from typing import Any

from typer.core import TyperGroup

START = """thinkling trains small reasoning models with one recipe file, from raw text to scores.

Start here:
  thinkling run nano
      runs every stage on this machine, in about a minute (requires the extra curate)
  thinkling init sft --model MODEL_DIR --data CHATS.jsonl -o my.yaml
      writes a recipe for your model and data; other kinds: rl, posttrain, pretrain, curate
  thinkling run my.yaml
      runs the recipe; `thinkling doctor my.yaml` reports in advance what is missing

`thinkling --help` lists all commands; `thinkling COMMAND --help` explains one command."""
GROUPS = {
    "Get started": ("init", "doctor", "fields"),
    "Run": ("run", "plan", "tokens", "clean"),
    "Inspect": ("show", "explain"),
    "Use a model": ("chat", "export"),
}
REST = "Run the stages of one kind and the stages that they depend on"


class Verbs(TyperGroup):
    """A command group that lists commands by purpose, prints the first sentence of each help text in full, and prints
    how to resume after Ctrl-C."""

    resumable: frozenset[str] = frozenset()
    """Commands that resume an interrupted run when they are repeated."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        named = {name for names in GROUPS.values() for name in names}
        groups = {**GROUPS, REST: tuple(name for name in self.list_commands(ctx) if name not in named)}
        for heading, names in groups.items():
            found = [(name, self.get_command(ctx, name)) for name in names]
            with formatter.section(heading):
                formatter.write_dl([(name, sentence(verb.help or "")) for name, verb in found if verb is not None])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            goes_on = ctx.invoked_subcommand in self.resumable
            cure = "; the same command resumes from the last checkpoint" if goes_on else ""
            print(f"\nthinkling: stopped{cure}", file=sys.stderr)
            raise SystemExit(130) from None


def sentence(text: str) -> str:
    """Return the first sentence of a help text, however long."""
    paragraph = " ".join(inspect.cleandoc(text).partition("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph, maxsplit=1)[0]
