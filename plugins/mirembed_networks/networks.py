"""The parameters of the built-in networks. Importing this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

    from mirembed_networks.modules import ConvolutionalRecurrent, PerFrame, Recurrent

Cell: TypeAlias = Literal["gru", "lstm"]
Pooling: TypeAlias = Literal["mean", "mean+std", "attention"]

CITATIONS = {
    "gru": """\
@inproceedings{cho2014,
  author    = {Cho, Kyunghyun and van Merri{\\"e}nboer, Bart and Gulcehre, Caglar and Bahdanau, Dzmitry and
               Bougares, Fethi and Schwenk, Holger and Bengio, Yoshua},
  title     = {Learning Phrase Representations using {RNN} Encoder--Decoder for Statistical Machine Translation},
  booktitle = {Proceedings of the 2014 Conference on Empirical Methods in Natural Language Processing (EMNLP)},
  pages     = {1724--1734},
  year      = {2014},
  doi       = {10.3115/v1/D14-1179}
}""",
    "lstm": """\
@article{hochreiter1997,
  author  = {Hochreiter, Sepp and Schmidhuber, J{\\"u}rgen},
  title   = {Long Short-Term Memory},
  journal = {Neural Computation},
  volume  = {9},
  number  = {8},
  pages   = {1735--1780},
  year    = {1997},
  doi     = {10.1162/neco.1997.9.8.1735}
}""",
    "crnn": """\
@inproceedings{choi2017,
  author    = {Choi, Keunwoo and Fazekas, Gy{\\"o}rgy and Sandler, Mark and Cho, Kyunghyun},
  title     = {Convolutional Recurrent Neural Networks for Music Classification},
  booktitle = {IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)},
  pages     = {2392--2396},
  year      = {2017},
  doi       = {10.1109/ICASSP.2017.7952585}
}""",
}


@dataclass(frozen=True)
class Gru:
    """Recurrent layers, and one vector for the whole sequence of their outputs.

    The default is the network of Jakubik & Kwaśnicka (2018), doi 10.1155/2018/1935938: a GRU of 100 units, a GRU of 50
    units, and the mean over time. The gates have torch's form: the reset gate is applied after the matrix product.

    Parameters
    ----------
    hidden : int
        Units of every layer but the last.
    units : int
        Units of the last layer, and values of the embedding; twice as many with ``bidirectional``, and twice as many
        again with ``pooling=mean+std``.
    layers : int
        Number of recurrent layers.
    cell : str
        ``gru`` or ``lstm``.
    bidirectional : bool
        Each layer also runs from the end of a sequence to its beginning. A full track is then embedded in windows as
        long as an excerpt.
    pooling : str
        What the embedding takes from the outputs of the last layer: their ``mean``, ``mean+std`` or, with
        ``attention``, a mean with learned weights.
    dropout : float
        Fraction of the values between two layers that is dropped in each training step; 0 or more, below 1.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    hidden: int = 100
    units: int = 50
    layers: int = 2
    cell: Cell = "gru"
    bidirectional: bool = False
    pooling: Pooling = "mean"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_layers(self)

    @property
    def fused(self) -> tuple[int, int] | None:
        """Sizes of the two layers, if this is the network that the fused engine computes."""
        is_known = (self.layers, self.cell, self.bidirectional, self.pooling, self.dropout) == (
            2,
            "gru",
            False,
            "mean",
            0,
        )
        return (self.hidden, self.units) if is_known else None

    @property
    def description(self) -> str:
        """What it is, for a paper."""
        sizes = [*[self.hidden] * (self.layers - 1), self.units]
        name = "GRU [@cho2014]" if self.cell == "gru" else "LSTM [@hochreiter1997]"
        pooled = {
            "mean": "the mean of its outputs over time",
            "mean+std": "the mean and the standard deviation of its outputs over time",
            "attention": "a mean of its outputs over time with learned weights",
        }[self.pooling]
        kind = "bidirectional " if self.bidirectional else ""
        units = " and ".join(map(str, sizes)) if len(sizes) < 3 else ", ".join(map(str, sizes))
        layers = "layers" if self.layers > 1 else "layer"
        dropout = f", dropout of {self.dropout:g} between the layers" if self.dropout else ""
        return f"a network of {self.layers} {kind}{name} {layers} of {units} units{dropout} and {pooled}"

    @property
    def citation(self) -> str:
        """BibTeX of what `description` cites."""
        return CITATIONS[self.cell]

    def module(self, inputs: int) -> Recurrent:
        """Return a new network."""
        from mirembed_networks.modules import BidirectionalRecurrent, StreamedRecurrent

        kind = BidirectionalRecurrent if self.bidirectional else StreamedRecurrent
        return kind(inputs, self.hidden, self.units, self.layers, self.cell, self.pooling, self.dropout)

    def initialize(self, module: Recurrent, rng: np.random.Generator) -> None:
        """Draw every weight uniformly from ±1/√n, as torch does; n is a layer's number of units, or of inputs."""
        from mirembed_networks.modules import draw_weights

        draw_weights(module, rng)


@dataclass(frozen=True)
class Crnn:
    """Convolutions over frames and values, then two GRU layers and the mean over time.

    After Choi, Fazekas, Sandler & Cho, "Convolutional recurrent neural networks for music classification", ICASSP
    2017: blocks of a convolution of 3 x 3, batch normalization, ELU, maximum pooling and dropout. Differences: all
    blocks have the same size, the sequence is padded so that any length will do, and the embedding is the mean of the
    outputs instead of the last one.

    Parameters
    ----------
    maps : int
        Feature maps of each convolution.
    blocks : int
        Number of convolutional blocks.
    planes : int
        Number of equal parts of a frame that the first convolution sees side by side, like the colors of an image. With
        2, each value lies over its own difference, where differences are appended.
    pool_frames, pool_values : int
        Each block keeps the maximum over this many consecutive frames and this many neighboring values.
    hidden, units : int
        Units of the two GRU layers; the embedding has ``units`` values.
    dropout : float
        Fraction of the values that each block drops in each training step; 0 or more, below 1.

    Raises
    ------
    ValueError
        If a parameter is out of range, or ``planes`` does not divide the values of a frame.
    """

    maps: int = 16
    blocks: int = 4
    planes: int = 1
    pool_frames: int = 2
    pool_values: int = 2
    hidden: int = 100
    units: int = 50
    dropout: float = 0.1

    citation: ClassVar[str] = f"{CITATIONS['crnn']}\n{CITATIONS['gru']}"

    def __post_init__(self) -> None:
        _check(self, "maps", "blocks", "planes", "pool_frames", "pool_values", "hidden", "units")

    @property
    def description(self) -> str:
        """What it is, for a paper."""
        return (
            f"a convolutional recurrent network [@choi2017] of {self.blocks} blocks of {self.maps} feature maps "
            rf"(convolution of $3 \times 3$, batch normalization, ELU, maximum over ${self.pool_frames} \times "
            rf"{self.pool_values}$ frames and values, dropout of {self.dropout:g}), two GRU layers [@cho2014] of "
            f"{self.hidden} and {self.units} units, and the mean of their outputs over time"
        )

    def module(self, inputs: int) -> ConvolutionalRecurrent:
        """Return a new network."""
        from mirembed_networks.modules import ConvolutionalRecurrent

        if inputs % self.planes:
            raise ValueError(f"planes is {self.planes}; expected a number that divides the {inputs} inputs")
        return ConvolutionalRecurrent(inputs, **{field.name: getattr(self, field.name) for field in fields(self)})


@dataclass(frozen=True)
class Mlp:
    """Fully connected layers with ReLU between them, applied to each frame, and the mean over time.

    Meant for features with one frame; if there are several, their order is not used.

    Parameters
    ----------
    hidden : int
        Units of every layer but the last.
    units : int
        Units of the last layer, which is the embedding.
    layers : int
        Number of layers.
    dropout : float
        Fraction of the values between two layers that is dropped in each training step; 0 or more, below 1.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    hidden: int = 100
    units: int = 50
    layers: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_layers(self)

    @property
    def description(self) -> str:
        """What it is, for a paper."""
        *before, last = [*[self.hidden] * (self.layers - 1), self.units]
        sizes = f"{', '.join(map(str, before))} and {last}" if before else str(last)
        dropout = f", dropout of {self.dropout:g} between the layers" if self.dropout else ""
        return f"fully connected layers of {sizes} units with ReLU between them{dropout}, and the mean over time"

    def module(self, inputs: int) -> PerFrame:
        """Return a new network."""
        from mirembed_networks.modules import PerFrame

        return PerFrame(inputs, self.hidden, self.units, self.layers, self.dropout)


def _check_layers(network: Gru | Mlp) -> None:
    """Check the parameters of a network with dropout between its layers."""
    _check(network, "hidden", "units", "layers")
    if network.dropout and network.layers == 1:
        raise ValueError(f"dropout is {network.dropout}, but with layers=1 there is nothing between two layers")


def _check(network: Any, *counts: str) -> None:
    """Check the parameters that several networks have."""
    for name in counts:
        value = getattr(network, name)
        if value < 1:
            raise ValueError(f"{name} is {value}; expected 1 or more")
    if not 0 <= network.dropout < 1:
        raise ValueError(f"dropout is {network.dropout}; expected a fraction of 0 or more, below 1")
