"""What an Android app takes: a bundle of models with one manifest, and the proof that a device answers alike.

delegates.py, manifest.py, checksums.py and verification.py import no TensorFlow: `verify` runs on a device.
"""
