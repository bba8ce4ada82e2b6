"""Which ops of a .tflite a phone's delegate takes, and why not: told before the phone does. No TensorFlow.

In short:

    from mobilebert_kit.delegates import check_nnapi, read_tflite

    report = check_nnapi(read_tflite("model.tflite"), api_level=30)

Nothing but numpy is needed. Reading: tflite_file.py. Verdicts as data: report.py.
"""

from mobilebert_kit.delegates.gpu import check_gpu
from mobilebert_kit.delegates.nnapi import check_nnapi
from mobilebert_kit.delegates.report import Report, Verdict
from mobilebert_kit.delegates.tflite_file import Model, Node, Subgraph, Tensor, read_tflite
from mobilebert_kit.delegates.xnnpack import check_xnnpack

__all__ = [
    "Model",
    "Node",
    "Report",
    "Subgraph",
    "Tensor",
    "Verdict",
    "check_gpu",
    "check_nnapi",
    "check_xnnpack",
    "read_tflite",
]
