"""The checks of a network: every public function is one.

The frames are random with fixed seeds, like normalized features. Full tracks are embedded by the same engine as those
of a dataset.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest import SkipTest

import numpy as np
import torch
from torch import Tensor, nn

from mirembed.errors import MirembedError
from mirembed.registry.plugins import one_line
from mirembed.testing import Broken, Subject, broken_by_errors
from mirembed.testing.tensors import dtype_name, require_finite, require_same
from mirembed.training.engine.by_torch import TorchEngine
from mirembed.training.excerpts import InputForm, Normalization
from mirembed.training.network import PluginNetwork, one_thread, torch_draws

if TYPE_CHECKING:
    from mirembed.training.network import EmbeddingModule

INPUTS = (80, 12, 1)
"""Sizes of a frame that are tried; a network may refuse some, but not all."""

LENGTHS = (40, 13, 1, 20)
"""Frames of the tracks of a batch."""

_BATCH = f"random frames of {len(LENGTHS)} tracks, padded to {max(LENGTHS)} frames"
_UNFORESEEN = "a case that the author did not consider"


def module(subject: Subject) -> None:
    """Return a new torch.nn.Module each time, or raise ValueError for a size of the frames that it cannot take."""
    network = _network(subject)
    for inputs in _inputs(subject):
        first, second = _seeded(network, inputs), _seeded(network, inputs)
        if first is second:
            raise Broken(
                "returns the same module every time",
                given=f"frames of {inputs} values",
                cause="a module created once in the factory: create a new one in module(inputs)",
            )


def units(subject: Subject) -> None:
    """Return float32 embeddings [batch, units], with the units that the module declares, for any number of frames."""
    for inputs in _inputs(subject):
        made = _seeded(_network(subject), inputs).eval()
        for batch, time in ((3, 40), (1, 40), (3, 1), (1, 1), (2, 137)):
            given = f"random frames [{batch}, {time}, {inputs}]"
            found = _embed(made, _frames(batch, time, inputs), torch.ones(batch, time), given)
            if found.dtype != torch.float32 or found.shape != (batch, made.units):
                raise Broken(
                    f"returns {dtype_name(found.dtype)} {list(found.shape)}, expected float32 {[batch, made.units]}",
                    given=given,
                    cause="units of another layer, squeeze() without dim, or the batch along the second axis (pass "
                    "batch_first=True)",
                )


def finite(subject: Subject) -> None:
    """Be finite for all finite frames: random, zero, constant and large ones."""
    for inputs in _inputs(subject):
        made = _seeded(_network(subject), inputs).eval()
        inside = _inside()
        for given, frames in {
            _BATCH: _frames(len(LENGTHS), max(LENGTHS), inputs),
            "frames of zeros": torch.zeros(len(LENGTHS), max(LENGTHS), inputs),
            "constant frames": torch.full((len(LENGTHS), max(LENGTHS), inputs), 0.5),
            "frames a hundred standard deviations from the mean": 100 * _frames(len(LENGTHS), max(LENGTHS), inputs),
        }.items():
            cause = "dividing by a norm or deviation of 0: add a small constant; or an overflow in exp"
            require_finite(_embed(made, frames, inside, given), "returns", given, cause)


def deterministic(subject: Subject) -> None:
    """Give the same embeddings every time in evaluation mode, and the same initial weights for the same seed."""
    made, inputs = _module(subject)
    frames, inside = _frames(len(LENGTHS), max(LENGTHS), inputs), _inside()
    expected = _embed(made, frames, inside, _BATCH)
    _embed(made, 2 * _frames(len(LENGTHS), max(LENGTHS), inputs, seed=1), inside, _BATCH)
    cause = (
        "dropout without nn.Dropout, a state kept between calls, or random numbers of numpy or Python: draw weights "
    )
    cause += "with torch, or in initialize(module, rng)"
    for again, which in ((made, "a second call"), (_seeded(_network(subject), inputs).eval(), "a second module")):
        what = f"does not return the same from {which}"
        require_same(_embed(again, frames, inside, _BATCH), expected, what, _BATCH, cause, tolerance=0.0)


def padding(subject: Subject) -> None:
    """Ignore the padding after a track: what it contains, and how long it is."""
    made, inputs = _module(subject)
    frames, inside = _frames(len(LENGTHS), max(LENGTHS), inputs), _inside()
    expected = _embed(made, frames, inside, _BATCH)
    cause = (
        "a mean or maximum over all frames, or convolutions that see the padding: use inside, before each step that "
    )
    cause += "looks at several frames"
    filled = torch.where(inside[:, :, None] > 0, frames, 3 * _frames(len(LENGTHS), max(LENGTHS), inputs, seed=1))
    given = f"{_BATCH}, with other values in the padding"
    require_same(_embed(made, filled, inside, given), expected, "changes with the padding", given, cause)
    for row, length in enumerate(LENGTHS):
        given = f"random frames of one track, {length} of {max(LENGTHS)} frames without padding"
        cut = _embed(made, frames[[row], :length], inside[[row], :length], given)
        padded = _embed(made, frames[[row]], inside[[row]], given)
        require_same(cut, padded, "changes with the length of the padding", given, cause)


def stream(subject: Subject) -> None:
    """Return from stream and finish, if it has these methods, the same as in one piece."""
    made, inputs = _module(subject)
    methods = [name for name in ("stream", "finish") if callable(getattr(made, name, None))]
    if not methods:
        raise SkipTest("it has no stream and finish, so full tracks are embedded in windows")
    if len(methods) == 1:
        cause = "one of the two methods stream and finish"
        raise Broken(f"has only the method {methods[0]}", given="the module", cause=cause)
    frames, inside = _frames(len(LENGTHS), max(LENGTHS), inputs), _inside()
    expected = _embed(made, frames, inside, _BATCH)
    for sizes in ([40], [20, 20], [1, 5, 34], [39, 1]):
        given = f"{_BATCH}, in pieces of {', '.join(map(str, sizes))} frames"
        cause = "a state that is not passed on, or a piece of padding only: inside is 0 for a track that has ended"
        with broken_by_errors("raises an error", given=given, cause=cause), torch.no_grad():
            state: Any = None
            for piece, of_inside in zip(
                torch.split(frames, sizes, dim=1), torch.split(inside, sizes, dim=1), strict=True
            ):
                state = made.stream(piece.clone(), of_inside.clone(), state)  # type: ignore[operator]
            found = made.finish(state)  # type: ignore[operator]
        if not isinstance(found, Tensor):
            raise Broken(f"returns {type(found).__name__} from finish", given=given, cause="a missing return")
        require_same(found, expected, "gives another result in pieces than in one piece", given, cause)


def companions(subject: Subject) -> None:
    """Ignore the other tracks: up to rounding in a batch, and to the bit when full tracks are embedded."""
    made, inputs = _module(subject)
    frames, inside = _frames(len(LENGTHS), max(LENGTHS), inputs), _inside()
    together = _embed(made, frames, inside, _BATCH)
    cause = "statistics over the batch, such as x.mean(dim=0) or a batch normalization in evaluation mode without "
    cause += "running statistics"
    for row in range(len(LENGTHS)):
        given = f"{_BATCH}; track {row} alone"
        alone = _embed(made, frames[[row]], inside[[row]], given)
        require_same(alone, together[[row]], "changes with the other tracks of a batch", given, cause)
    tracks = _Tracks(inputs)
    whole = tracks.embed(made, range(len(tracks.lengths)))
    for rows in ([0], [2], [4, 1], [3, 3, 0]):
        given = f"full tracks of {', '.join(str(tracks.lengths[row]) for row in rows)} frames"
        found = tracks.embed(made, rows)
        if not np.array_equal(found, whole[rows]):
            what = f"by {np.abs(found - whole[rows]).max():.2g}, expected the same bits as with all tracks"
            raise Broken(
                f"embeds full tracks differently when others are embedded too, {what}", given=given, cause=cause
            )


def gradient(subject: Subject) -> None:
    """Have a gradient for every parameter that requires one."""
    made, inputs = _module(subject)
    made.train()
    parameters = {name: p for name, p in made.named_parameters() if p.requires_grad}
    cause = "detach(), numpy(), no_grad() or torch.tensor(...) in the computation, or a layer that is not used"
    if not parameters:
        raise Broken("has no parameter that requires a gradient", given="the module", cause="layers in a plain list")
    found = _gradients(made, parameters, _frames(len(LENGTHS), max(LENGTHS), inputs), _BATCH, cause)
    for name, values in found.items():
        # A bias may cancel out, as in a softmax, but a matrix of weights does not.
        if values is None or (values.ndim > 1 and not values.any()):
            raise Broken(f"has no gradient for the parameter {name}", given=_BATCH, cause=cause)


def gradient_finite(subject: Subject) -> None:
    """Have a finite gradient for all finite frames: random, zero and constant ones."""
    made, inputs = _module(subject)
    made.train()
    parameters = {name: p for name, p in made.named_parameters() if p.requires_grad}
    if not parameters:
        raise SkipTest("it has no parameter that requires a gradient")
    shape = (len(LENGTHS), max(LENGTHS), inputs)
    for given, frames in {
        _BATCH: _frames(*shape),
        "frames of zeros": torch.zeros(shape),
        "constant frames": torch.full(shape, 0.5),
    }.items():
        cause = "sqrt(), std() or norm() at 0, where the slope is infinite: add a small constant under the root"
        for name, values in _gradients(made, parameters, frames, given, cause).items():
            if values is not None:
                require_finite(values, f"has for the parameter {name} a gradient that is", given, cause)


def state(subject: Subject) -> None:
    """Be restored by its state_dict: another module that loads it gives the same embeddings, to the bit."""
    made, inputs = _module(subject)
    given = "the state_dict of a module, loaded into another one"
    cause = "numbers that are kept in plain attributes: use nn.Parameter or register_buffer; or bfloat16"
    with broken_by_errors("cannot be stored and loaded again", given=given, cause=cause):
        arrays = {name: value.detach().numpy().copy() for name, value in made.state_dict().items()}
        other = _seeded(_network(subject), inputs, seed=1).eval()
        other.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    frames, inside = _frames(len(LENGTHS), max(LENGTHS), inputs), _inside()
    expected = _embed(made, frames, inside, _BATCH)
    require_same(_embed(other, frames, inside, given), expected, "embeds differently", given, cause, tolerance=0.0)


def input_unchanged(subject: Subject) -> None:
    """Leave frames and inside unchanged."""
    made, inputs = _module(subject)
    frames, inside = _frames(len(LENGTHS), max(LENGTHS), inputs), _inside()
    given_frames, given_inside = frames.clone(), inside.clone()
    with broken_by_errors("raises an error", given=_BATCH, cause=_UNFORESEEN), torch.no_grad():
        made(given_frames, given_inside)
    if not (torch.equal(frames, given_frames) and torch.equal(inside, given_inside)):
        cause = "an in-place operation: x *= ..., or a method that ends in _, such as masked_fill_()"
        raise Broken("changes its input", given=_BATCH, cause=cause)


def device(subject: Subject) -> None:
    """Compute on the device of its parameters."""
    name = "cuda" if torch.cuda.is_available() else "meta"
    made, inputs = _module(subject)
    given, cause = f"{_BATCH} on the device {name}", "a tensor created without device=frames.device"
    made.to(name)
    try:
        with torch.no_grad():
            found = made(_frames(len(LENGTHS), max(LENGTHS), inputs).to(name), _inside().to(name)).device.type
    except Exception as error:
        if "same device" in str(error) or "expected device" in str(error):
            raise Broken(f"mixes devices: {one_line(error)}", given=given, cause=cause) from error
        # Tensors on the meta device have no values, which a network may legitimately need.
        raise SkipTest(f"this cannot be checked without a GPU: {one_line(error)}") from error
    if found != name:
        raise Broken(f"returns a tensor on {found}", given=given, cause=cause)


def fused(subject: Subject) -> None:
    """Be exactly the network that the fused engine computes, if it says so."""
    from mirembed.training.engine import reason_against_numba
    from mirembed.training.engine.self_check import check_claim

    network = _network(subject)
    if network.choice.fused is None:
        raise SkipTest("it does not say that the fused engine can compute it")
    if (reason := reason_against_numba()) is not None:
        raise SkipTest(f"the fused engine does not work here: {reason}")
    try:
        check_claim(network, 80)
    except MirembedError as error:
        cause = "another order of the parameters, or layers besides the two GRUs: leave out the attribute fused"
        raise Broken(one_line(error), given="random frames of 80 values", cause=cause) from error


class _Tracks:
    """Full tracks, some longer than an excerpt, and the engine that embeds them."""

    def __init__(self, inputs: int) -> None:
        self.lengths = np.array([230, 100, 37, 1, 150])
        self.starts = np.cumsum(self.lengths) - self.lengths
        self.frames = np.random.default_rng(0).normal(size=(int(self.lengths.sum()), inputs)).astype(np.float32)
        self.normalization = Normalization(np.zeros(inputs, np.float32), np.ones(inputs, np.float32))

    def embed(self, made: EmbeddingModule, rows: Any) -> Any:
        chosen = np.array([*rows])
        engine = TorchEngine(made, InputForm(deltas=False), "it")
        try:
            return engine.embed_tracks(self.frames, self.starts[chosen], self.lengths[chosen], self.normalization)
        except MirembedError as error:
            given = f"full tracks of {', '.join(map(str, self.lengths[chosen]))} frames"
            what = f"cannot embed full tracks: {one_line(error).partition('; report it')[0]}"
            raise Broken(what, given=given, cause="stream or finish, see the check stream") from error


def _network(subject: Subject) -> PluginNetwork:
    subject.create()
    try:
        return PluginNetwork.create(subject.registry, subject.spec)
    except MirembedError as error:
        raise Broken(one_line(error), given="the object that the factory returns", cause=_UNFORESEEN) from error


def _inputs(subject: Subject) -> Iterator[int]:
    """Yield the sizes of a frame that the network takes; those that it refuses with a `ValueError` are left out."""
    network, refused = _network(subject), []
    for inputs in INPUTS:
        try:
            network.network.module(inputs)
        except (ValueError, MirembedError) as error:
            refused.append(str(error))
            continue
        except Exception as error:
            given = f"frames of {inputs} values"
            raise Broken(f"cannot create a module: {one_line(error)}", given=given, cause=_UNFORESEEN) from error
        yield inputs
    if len(refused) == len(INPUTS):
        given = f"frames of {', '.join(map(str, INPUTS))} values"
        raise Broken(f"refuses all of them: {refused[0]}", given=given, cause="a size that is fixed in the plugin")


def _seeded(network: PluginNetwork, inputs: int, seed: int = 0) -> EmbeddingModule:
    try:
        return network.seeded(inputs, (seed, 0))
    except MirembedError as error:
        raise Broken(
            one_line(error.__cause__ or error),
            given=f"frames of {inputs} values",
            cause="a module that is not a torch.nn.Module, or has no attribute units",
        ) from error


def _module(subject: Subject) -> tuple[EmbeddingModule, int]:
    """Return a module in evaluation mode, and the size of its frames."""
    inputs = next(_inputs(subject))
    return _seeded(_network(subject), inputs).eval(), inputs


def _frames(batch: int, time: int, inputs: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, time, inputs, generator=torch.Generator().manual_seed(seed))


def _inside() -> Tensor:
    return (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).float()


def _embed(made: nn.Module, frames: Tensor, inside: Tensor, given: str) -> Tensor:
    """Call a module with copies, so that changing them in place does not affect other checks."""
    cause = "an operation that needs several frames or tracks"
    with (
        broken_by_errors("raises an error", given=given, cause=cause),
        one_thread(),
        torch.no_grad(),
    ):
        found = made(frames.clone(), inside.clone())
    if not isinstance(found, Tensor):
        raise Broken(f"returns {type(found).__name__}", given=given, cause="a missing return, or the states of a layer")
    return found


def _gradients(
    made: nn.Module, parameters: dict[str, nn.Parameter], frames: Tensor, given: str, cause: str
) -> dict[str, Tensor | None]:
    with broken_by_errors("has a gradient that cannot be computed", given=given, cause=cause), torch_draws((0,)):
        embeddings = made(frames.clone(), _inside())
        weights = torch.linspace(1, 2, embeddings.numel()).reshape(embeddings.shape)
        total = (embeddings * weights).sum()
        found = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
    return dict(zip(parameters, found, strict=True))
