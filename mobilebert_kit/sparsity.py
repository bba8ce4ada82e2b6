"""Which weights of a model are zero, in which pattern, and what that is worth: in bytes, and in time.

    python -m mobilebert_kit.sparsity DIR
    python -m mobilebert_kit.sparsity mobilebert_int8_384.tflite --json zeros.json
    python -m mobilebert_kit.sparsity bert_float_384.tflite --sparse_file smaller.tflite

Any checkpoint that `export` reads, or any .tflite. An APK stores a .tflite as it is (noCompress, so that it
can be mapped into memory) or deflated; a --sparse_file is small either way, and made dense when it is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from absl import flags

from mobilebert_kit.artifacts import check_new, write_new
from mobilebert_kit.errors import InputError
from mobilebert_kit.main import run
from mobilebert_kit.sparse_weights.kernels import TFLITE, read_weights
from mobilebert_kit.sparse_weights.report import analyze, deflated_bytes, table

_JSON = flags.DEFINE_string("json", None, "Write everything to this JSON file too.")
_SPARSE_FILE = flags.DEFINE_string(
    "sparse_file",
    None,
    "Write the .tflite again, each kernel in TFLite's sparse encoding where that is less.",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace --json and --sparse_file if they exist.")


def main(path: str) -> None:
    for flag in (_JSON, _SPARSE_FILE):
        if flag.value is not None:
            check_new(flag.value, overwrite=_OVERWRITE.value)
    sparse_tflite = _writer() if _SPARSE_FILE.value is not None else None
    weights = read_weights(path)
    if sparse_tflite is not None and weights.kind != TFLITE:
        raise InputError(
            f"Expected a .tflite to write as --sparse_file, got a {weights.kind}. Export it first."
        )
    found = {"model": path, **analyze(weights)}
    print(f"{path} ({found['kind']})")
    print("\n".join(table(found)))
    if sparse_tflite is not None:
        data = sparse_tflite(path)
        write_new(_SPARSE_FILE.value, data, overwrite=_OVERWRITE.value)
        deflated = deflated_bytes([memoryview(data)])
        print(f"{_SPARSE_FILE.value}: {len(data) / 1e6:.2f} MB; deflated by a zip {deflated / 1e6:.2f} MB")
    if _JSON.value is not None:
        content = json.dumps(found, indent=2, allow_nan=False) + "\n"
        write_new(_JSON.value, content.encode("utf-8"), overwrite=_OVERWRITE.value)


def _writer() -> Callable[[str], bytes]:
    """What writes a sparse file; it needs ai-edge-litert's schema, the rest of this command does not."""
    try:
        from mobilebert_kit.sparse_weights.sparse_file import sparse_tflite
    except ImportError as error:
        raise InputError(
            f"Expected ai-edge-litert for --sparse_file, got: {error}. Install the extra [runtime]."
        ) from error
    return sparse_tflite


if __name__ == "__main__":
    run(main, arguments=("MODEL",))
