"""``mirembed plugins``: what there is, whether it keeps its promises, and how to write one."""

from __future__ import annotations

import typer

from mirembed.cli.plugins.check import check
from mirembed.cli.plugins.listing import list_all
from mirembed.cli.plugins.new import new
from mirembed.cli.plugins.show import show

app = typer.Typer(help="List the plugins; show, check or write one.", invoke_without_command=True)
app.callback()(list_all)
app.command("show")(show)
app.command("check")(check)
app.command("new")(new)
