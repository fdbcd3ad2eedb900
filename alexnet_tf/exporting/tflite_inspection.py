"""What a .tflite file states: the oldest runtime that reads it, its signatures, what it computes in floats."""

import dataclasses

from ai_edge_litert import schema_py_generated as schema

_OPERATORS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}

# They only convert between integers and floats.
_CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")

_VERSION_KEY = b"min_runtime_version"


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What is in a .tflite file.

    Attributes:
        min_runtime_version: Oldest TensorFlow Lite runtime that reads it, such as "2.4.0", as the converter wrote it.
        operators: Names of its operators, in order.
        float_operators: Those of them that compute in floats, conversions apart.
        signatures: Names of its signatures.
        input_shape: Shape of its input.
    """

    min_runtime_version: str
    operators: tuple[str, ...]
    float_operators: tuple[str, ...]
    signatures: tuple[str, ...]
    input_shape: tuple[int, ...]

    def describe(self) -> str:
        """Returns a sentence for the report."""
        if self.float_operators:
            names = ", ".join(sorted(set(self.float_operators)))
            kind = f"not all-integer: computes {names} in floats"
        else:
            kind = "all-integer, but for the probabilities that it returns"
        return (
            f"signature {', '.join(self.signatures)}; input {list(self.input_shape)}, so the batch is "
            f"{self.input_shape[0]} (--tflite_batch_size); {kind}"
        )


def inspect(content: bytes) -> Inspection:
    """Reads what a .tflite file states."""
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    [graph] = model.subgraphs
    operators = [_OPERATORS[_code(model.operatorCodes[each.opcodeIndex])] for each in graph.operators]
    floats = [
        name
        for name, operator in zip(operators, graph.operators, strict=True)
        if name not in _CONVERSIONS
        and any(
            graph.tensors[index].type in (schema.TensorType.FLOAT32, schema.TensorType.FLOAT16)
            for index in operator.outputs
        )
    ]
    signatures = tuple(each.signatureKey.decode() for each in model.signatureDefs or [])
    return Inspection(
        _min_runtime_version(model),
        tuple(operators),
        tuple(floats),
        signatures,
        tuple(int(size) for size in graph.tensors[graph.inputs[0]].shape),
    )


def _code(operator_code) -> int:
    """Returns an operator's code; files from before 2020 have it in the older of two fields."""
    return max(operator_code.builtinCode, operator_code.deprecatedBuiltinCode)


def _min_runtime_version(model) -> str:
    """Returns what the converter wrote into the file's metadata, or "?" if it wrote nothing."""
    for entry in model.metadata or []:
        if entry.name == _VERSION_KEY:
            return bytes(model.buffers[entry.buffer].data).rstrip(b"\0").decode()
    return "?"
