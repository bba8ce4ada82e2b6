"""Training: the model with gradients, partial quantization-aware training, what a step of it needs.

lowering.py    the model's primitives on batches        quantizers.py  the fake quantizers and their places
model.py       variables, forward pass, back to arrays  loss.py        cross-entropy and distillation losses

Needs tf_keras and tensorflow-model-optimization: the extra [training].
"""
