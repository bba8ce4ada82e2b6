"""Training: fine-tuning, partial quantization-aware training, distillation, pruning.

request.py    what is asked for         inputs.py          what is read: checkpoint, windows, teacher
features.py   windows with answers      data.py            the order of the steps, the tf.data pipeline
lowering.py   primitives on batches     quantizers.py      the fake quantizers and their places
model.py      variables, forward pass   quantized_start.py  where QAT starts
loss.py       the losses                optimizer.py       AdamW, warm-up and decay, clipping
teacher.py    models to learn from      distillation.py    what they say of each window; the loss of it
step.py       one update                distribution.py    on which devices; precision.py: in which floats
trainer.py    the loop                  state.py           what resuming needs
curve.py      metrics.jsonl, curve.png  result.py          the trained checkpoint
pruning/      what becomes zero, and when

Needs tf_keras, tensorflow-model-optimization and matplotlib: the extra [training].
"""
