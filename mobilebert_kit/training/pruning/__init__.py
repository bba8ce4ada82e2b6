"""Pruning: which weights become zero, when, and what keeps them there.

request.py    what is asked for         plan.py        whether it can be had of this model, and at which steps
patterns.py   blocks of a kernel        masks.py       which blocks go
schedule.py   how sparse after a step   pruner.py      masks and scores as variables of a training
refit.py      what stays, fitted anew   report.py      layer by layer, in bytes
table.py      what it cost, over the seeds

All but pruner.py, and the model's passes in refit.py, is NumPy: a kernel is [out, in] there, as the
published patterns have it.
"""
