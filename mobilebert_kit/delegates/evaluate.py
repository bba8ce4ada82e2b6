"""What each condition means on a node: `holds(condition, view)`, `failures(rules, view)`."""

from __future__ import annotations

from mobilebert_kit.delegates import conditions as c
from mobilebert_kit.delegates.gpu_predicates import GPU_PREDICATES
from mobilebert_kit.delegates.nnapi_predicates import NNAPI_PREDICATES
from mobilebert_kit.delegates.view import QUANTIZED_8, View
from mobilebert_kit.delegates.xnnpack_predicates import XNNPACK_PREDICATES

SPECIAL = {**GPU_PREDICATES, **NNAPI_PREDICATES, **XNNPACK_PREDICATES}


def failures(rules: tuple[c.Condition, ...], view: View) -> tuple[c.Condition, ...]:
    """The conditions that apply to the node and are not met, in order. Raises OperandMissing."""
    return tuple(rule for rule in rules if applies(rule.when, view) and not holds(rule, view))


def reason(rule: c.Condition) -> str:
    """Why a node is refused that does not meet `rule`."""
    failure, says = rule.failure, rule.says
    if isinstance(rule, c.MaxVersion) and not says:
        wording = "different from" if rule.exactly else "higher than"
        failure, says = "UnsupportedOperatorVersion", f"OP Version {wording} {rule.version}"
    elif isinstance(rule, c.Since) and not says:
        failure, says = "UnsupportedAndroidVersion", f"Android sdk version less than {rule.level}"
    return f"{failure}: {says}" if failure else says


def applies(when: c.When, view: View) -> bool:
    if view.level < when.since or (when.below is not None and view.level >= when.below):
        return False
    if when.inputs is not None and len(view.inputs) != when.inputs:
        return False
    if len(view.inputs) < when.min_inputs:
        return False
    if when.accelerator is not None and view.accelerator != when.accelerator:
        return False
    if when.is_type and view.operand(when.operand).dtype not in when.is_type:
        return False
    return when.is_constant is None or view.operand(when.is_constant).is_constant


def holds(condition: c.Condition, view: View) -> bool:
    """Whether a condition that applies is met. Raises OperandMissing."""
    match condition:
        case c.MaxVersion():
            return view.node.version <= condition.version
        case c.Since():
            return view.level >= condition.level
        case c.TypeIn():
            return view.operand(condition.operand).dtype in condition.types
        case c.RuntimeTypes():
            inputs = (tensor for tensor in view.inputs if tensor and not tensor.is_constant)
            outputs = (tensor for tensor in view.outputs if tensor)
            return all(tensor.dtype in condition.inputs for tensor in inputs) and all(
                tensor.dtype in condition.outputs for tensor in outputs
            )
        case c.RankIn():
            return all(view.operand(name).rank in condition.ranks for name in condition.operands)
        case c.RankFrom():
            return all(view.operand(name).rank >= condition.least for name in condition.operands)
        case c.IsConstant():
            return view.operand(condition.operand).is_constant
        case c.InputCountIn():
            return len(view.inputs) in condition.counts
        case c.OutputCountIn():
            return len(view.outputs) in condition.counts
        case c.OptionIn():
            return view.option(condition.option) in condition.values
        case c.OptionFrom():
            return view.option(condition.option) >= condition.least
        case c.SameType():
            first = view.operand(condition.operands[0])
            others = (view.optional(name) for name in condition.operands[1:])
            return all(tensor is None or tensor.dtype == first.dtype for tensor in others)
        case c.SameShape():
            return view.operand(condition.operands[0]).shape == view.operand(condition.operands[1]).shape
        case c.SameQuantization():
            a, b = (view.operand(name) for name in condition.operands)
            return a.dtype not in QUANTIZED_8 or (a.scale, a.zero_point) == (b.scale, b.zero_point)
        case c.PerTensor():
            tensor = view.operand(condition.operand)
            per_tensor = len(tensor.scales) == 1 and tensor.quantized_dimension == 0
            return tensor.dtype not in QUANTIZED_8 or per_tensor
        case c.QuantizationIs():
            tensor = view.operand(condition.operand)
            return (tensor.scale, tensor.zero_point) == (condition.scale, condition.zero_point)
        case c.Special():
            return SPECIAL[condition.test](view)
    raise TypeError(f"no meaning is given to the condition {type(condition).__name__}")
