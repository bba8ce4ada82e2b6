"""A bundle for three delegates of the small MobileBERT of small_export.py."""

from __future__ import annotations

from pathlib import Path

from small_export import request, write_checkpoint, write_squad

from mobilebert_kit.android.delegates import APP_DELEGATES


def bundle_all(folder: Path, **changes: object) -> Path:
    """What the fixture `bundled` is: `folder`/out, of `folder`/checkpoint and questions.json."""
    from mobilebert_kit.android.assemble import bundle
    from mobilebert_kit.build import export

    write_checkpoint(folder / "checkpoint")
    write_squad(folder / "questions.json")
    # The float model's own answers as the true ones, so that F1 has a height to fall from.
    score = export(request(folder, "float", output_dir=folder / "float")).float_score
    write_squad(folder / "questions.json", score.predictions)
    bundle(request(folder, **changes), APP_DELEGATES)
    return folder / "out"
