"""mobilebert_kit: from a MobileBERT checkpoint to verified .tflite files."""

__version__ = "0.1.0"
