"""What a model card tells of a .tflite, from its graph: parameters, operations, bytes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from mobilebert_kit.delegates.macs import macs
from mobilebert_kit.delegates.tflite_file import ABSENT, Model, Subgraph, Tensor

# Constants of these types say what an op does (shapes, axes), unless they have a scale: then they are biases.
_SETTINGS = frozenset({"int32", "int64", "uint32", "uint64", "bool", "string"})


@dataclass(frozen=True)
class ModelCard:
    """
    Attributes:
        parameters: elements of all `weights`. Of the file, that is: what was folded into another constant is
            gone, and positions beyond the sequence length are too.
        gops: 10^9 operations of one window: two for each multiply-accumulate of a matrix product or a
            convolution, none for other ops. OpenVINO's zoo counts some for those too: 23.9 for its small BERT
            at 384 tokens, which has 23.76 so.
        bytes: of the file.
    """

    parameters: int
    gops: float
    bytes: int

    def __str__(self) -> str:
        """ "24.47 M parameters, 17.4 GOps (2 per multiply-accumulate), 98.1 MB"."""
        return (
            f"{self.parameters / 1e6:.2f} M parameters, {self.gops:.3g} GOps (2 per multiply-accumulate), "
            f"{self.bytes / 1e6:.1f} MB"
        )


def model_card(model: Model) -> ModelCard:
    """Of the main graph and what it calls; the graphs of other signatures are the same network again."""
    others = {signature.subgraph for signature in model.signatures} - {0}
    graphs = [graph for number, graph in enumerate(model.subgraphs) if number not in others]
    return ModelCard(
        parameters=sum(prod(tensor.shape) for graph in graphs for tensor in weights(graph)),
        gops=2 * sum(sum(macs(graph)) for graph in graphs) / 1e9,
        bytes=model.path.stat().st_size,
    )


def weights(graph: Subgraph) -> list[Tensor]:
    """The constants that were learned: those that a node reads, of more than one element, each once.

    Kernels, biases, tables and what is multiplied or added by channel; neither numbers such as the mask's
    -10000, nor shapes, axes and paddings.
    """
    read = {index for node in graph.nodes for index in node.inputs} - {ABSENT}
    return [tensor for tensor in graph.tensors if tensor.index in read and _is_weight(tensor)]


def _is_weight(tensor: Tensor) -> bool:
    is_setting = tensor.dtype in _SETTINGS and not tensor.scales
    return tensor.is_constant and not is_setting and prod(tensor.shape) > 1
