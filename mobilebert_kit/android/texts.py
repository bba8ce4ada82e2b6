"""The pages of a bundle for people: how an app takes it, and under which licences its parts are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

README, LICENSES = "README.md", "LICENSES.md"

_README = """# {family} question answering: {delegates}

Made by mobilebert_kit {version}. Checked on the host: `sha256sum -c SHA256SUMS`, and
`python -m mobilebert_kit.verify --manifest bundle.json`.

| try | delegate | file | Android API | F1 | exact match | nodes delegated |
|---|---|---|---|---|---|---|
{models}
Float: F1 {float_f1:.2f}, exact match {float_em:.2f}; all on the same {questions} questions ({source}).

## In a Gradle project

Copy `bundle.json`, `vocab.txt` and the `.tflite` files to `app/src/main/assets/`. A `.tflite` is mapped into
memory, so it must not be compressed in the APK:

```kotlin
// app/build.gradle.kts
android {{
    androidResources {{ noCompress += "tflite" }}
}}
```

`bundle.json` tells the rest: the models in the order to try them and the API levels that may, tensor names,
lengths. Where a delegate cannot be made, or does not take the nodes that the manifest says, take its
`fallback`. {nnapi}

## What else is here

- `host_predictions/`: the answers of each model on the host, for `verify --predictions`.
- `mlperf/`: the same questions as records of the MLPerf Mobile app, and its entries for them (`tasks.pbtxt`)
  and for the models (`tflite_settings.pbtxt`). Put the files where its `local:///mlperf_datasets/squad/` is.
- `report.html`: one page of plots on F1, size, latency, delegates, errors and answers.
- `manifest.json`: where the models come from and how they were measured. `LICENSES.md`, `LICENSE`: whose they
  are.
"""

_NNAPI = """NNAPI is deprecated since Android 15 (API 35): there the manifest no longer offers it.
"""

_LICENSES = """# Licences

- The graph of the models, and these files but for what follows: mobilebert_kit, Apache-2.0 (`LICENSE`).
- The weights: {weights}
- `vocab.txt`: it came with the checkpoint.
- `mlperf/*.tfrecord`, `host_predictions/`: made from the questions in {source}. {questions}
"""
_DEMO_WEIGHTS = (
    "the kit's demo checkpoint, which descends from all-MiniLM-L6-v2 (Apache-2.0) by way of SQuAD v1.1 "
    "(CC BY-SA 4.0); its vocabulary is BERT's (Apache-2.0)."
)
_OTHER_WEIGHTS = (
    "a checkpoint of {parameters:,} parameters, sha256 of its tensors {digest}. Its licence is not known "
    "here: write it down before you ship."
)
_DEMO_QUESTIONS = "They are the kit's own, CC0."
_OTHER_QUESTIONS = "SQuAD v1.1 is CC BY-SA 4.0; write down the licence of any others before you ship them."


def readme(manifest: Mapping[str, Any]) -> str:
    """README.md of a bundle with this bundle.json."""
    rows = [
        f"| {number} | {model['delegate']} | `{model['file']}` | {_levels(model)} | {model['f1']:.2f} | "
        f"{model['exact_match']:.2f} | {model['delegated_nodes']} of {model['nodes']} |\n"
        for number, model in enumerate(manifest["models"], 1)
    ]
    return _README.format(
        family=manifest["family"],
        delegates=", ".join(model["delegate"] for model in manifest["models"]),
        version=manifest["kit_version"],
        models="".join(rows),
        float_f1=manifest["evaluation"]["float"]["f1"],
        float_em=manifest["evaluation"]["float"]["exact_match"],
        questions=manifest["evaluation"]["questions"],
        source=manifest["evaluation"]["source"],
        nnapi=_NNAPI if any(model["delegate"] == "nnapi" for model in manifest["models"]) else "",
    )


def licenses(export: Mapping[str, Any], *, demo_weights: bool, demo_questions: bool) -> str:
    """LICENSES.md; `export` is the export's manifest."""
    checkpoint = export["checkpoint"]
    other = _OTHER_WEIGHTS.format(parameters=checkpoint["parameters"], digest=checkpoint["sha256_of_tensors"])
    return _LICENSES.format(
        weights=_DEMO_WEIGHTS if demo_weights else other,
        source=export["evaluation"]["source"],
        questions=_DEMO_QUESTIONS if demo_questions else _OTHER_QUESTIONS,
    )


def _levels(model: Mapping[str, Any]) -> str:
    return f"{model['min_api']} to {model['max_api']}" if model["max_api"] else f"from {model['min_api']}"
