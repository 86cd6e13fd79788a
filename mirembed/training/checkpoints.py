"""Trainings at rest: weights, the losses so far and, if they are to go on, the optimizer's state, in one file."""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor, nn

from mirembed.errors import StoreError
from mirembed.store.files import writing
from mirembed.training.optimizer import Adadelta


def save_checkpoint(path: Path, modules: nn.Module, optimizer: Adadelta | None, losses: list[float]) -> None:
    """Write a checkpoint over the one before. Without an optimizer it is the end of a training, a third as large."""
    from safetensors.torch import save

    tensors = {f"module.{name}": tensor for name, tensor in modules.state_dict().items()}
    if optimizer is not None:
        tensors |= {f"optimizer.{name}": tensor for name, tensor in optimizer.state().items()}
    with writing(path) as temporary:
        # Not by save_file, whose errors do not tell a full disk from anything else.
        temporary.write_bytes(
            save(
                {name: tensor.contiguous() for name, tensor in tensors.items()},
                metadata={"losses": json.dumps(losses)},
            )
        )


def restore_checkpoint(path: Path, modules: nn.Module, optimizer: Adadelta | None) -> list[float]:
    """Put a checkpoint into modules and optimizer, and return the losses of the epochs that it holds.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    weights: dict[str, Tensor] = {}
    state: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            losses: list[float] = list(json.loads(file.metadata()["losses"]))
            for name in file.keys():  # noqa: SIM118 - not a mapping
                kind, _, rest = name.partition(".")
                (weights if kind == "module" else state)[rest] = file.get_tensor(name)
        modules.load_state_dict(weights)
        if optimizer is not None:
            optimizer.restore(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise StoreError(
            f"{path} is damaged ({type(error).__name__}: {reason}); delete it and run the same command again: "
            "this one training begins anew"
        ) from error
    return losses
