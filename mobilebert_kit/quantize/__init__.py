"""Post-training quantization: recipes as data, calibration, conversion to .tflite."""
