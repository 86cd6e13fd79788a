"""``mirembed export``: a model for other programs and for people."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mirembed.cli import options
from mirembed.cli.output import print_result
from mirembed.errors import SpecError
from mirembed.interruption import STARTS_OVER, interruptible, say_when_interrupted
from mirembed.progress import size
from mirembed.store import Store

if TYPE_CHECKING:
    from mirembed.models.onnx import ExportedOnnx


def export(
    model: options.ModelName,
    onnx: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write the network with its normalization as an .onnx file (pip install 'mirembed[onnx]').",
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the model card, with the scores of the store's runs, as an .md file."),
    ] = None,
    store: options.StoreFolder = options.DEFAULT_STORE,
    force: Annotated[bool, typer.Option("--force", help="Replace the files if they exist.")] = False,
    json: options.Json = False,
) -> None:
    """Export a model: its network as ONNX, from frames to embeddings, or its model card."""
    if onnx is None and card is None:
        raise SpecError("nothing to export; give --onnx FILE, --card FILE or both")
    options.check_out(onnx, [".onnx"], force=force, flag="--onnx")
    options.check_out(card, [".md"], force=force, flag="--card")
    say_when_interrupted(STARTS_OVER)
    with interruptible():
        from mirembed.model_card import write_card
        from mirembed.models.saved import find_model

    place, registry = Store(store), options.discover()
    folder = find_model(place.models, model)
    done: dict[str, Any] = {}
    lines = []
    if onnx is not None:
        with interruptible():
            from mirembed.models.combined import load_model
            from mirembed.models.onnx import export_onnx, require_onnx

        require_onnx()
        written = export_onnx(load_model(folder, registry), onnx)
        done["onnx"] = asdict(written)
        lines += [
            f"network: {written.path} ({size(written.bytes)})",
            *_inputs(written),
            f"  differs from the model by at most {written.difference:.1g}, computed by ONNX Runtime",
        ]
    if card is not None:
        done["card"] = write_card(folder, place, registry, card)
        lines.append(f"model card: {card}")
    print_result(json, lambda: done, lines)


def _inputs(written: ExportedOnnx) -> list[str]:
    """Say what the file takes and returns."""
    to = f"to embedding [batch, {written.units}]"
    if len(written.inputs) == 1:
        return [f"  frames [batch, time, {written.values}] and lengths [batch] {to}"]
    taken = [
        f"  {name} [batch, time, values] and {name.replace('frames', 'lengths')} [batch] of {of}"
        for name, of in written.inputs.items()
    ]
    return [*taken, f"  {to}"]
