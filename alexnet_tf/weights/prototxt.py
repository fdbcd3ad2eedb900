"""An architecture as Caffe's layers: its deploy.prototxt, and the order of layers by which a network is recognised."""

from collections.abc import Iterable

from alexnet_tf.network import architectures
from alexnet_tf.weights import caffemodel


def unsupported_reason(architecture: architectures.Architecture) -> str | None:
    """Returns why an architecture has no Caffe network, or None if it has one."""
    for stage in architecture.stages:
        before, after = stage.padding
        if before != after:
            return f"{stage.name} has {before} zeros before the image and {after} after; Caffe pads both sides alike"
    return None


def to_caffe_layers(architecture: architectures.Architecture) -> list[caffemodel.Layer]:
    """Returns an architecture as Caffe's layers, without weights.

    Pooling rounds up in Caffe, which makes no difference at these sizes, and is what padding "same" means where an
    architecture has it. Towers are groups; LRN inside towers is made of Slice and Concat. The mean is subtracted
    outside, as usual with Caffe; a scale of the input is a layer.

    OpenCV (4.14) ignores LRN's k in Caffe's files. Therefore a k other than 1 is written as
    x / (1 + alpha / k * S)^beta and a factor of k^-beta in a layer of its own, which is the same.
    """
    layers, blob = [], "data"

    def add(kind, name, bottom, top, **parameters):
        layers.append(caffemodel.Layer(name, kind, bottom, top, parameters))
        return top[0]

    if architecture.scale != (1.0, 1.0, 1.0):
        blob = add("Scale", "scale", (blob,), ("scaled",), scale_param={"axis": 1, "bias_term": False})
    for stage in architecture.stages:
        number = stage.name[-1]
        kind = "Convolution" if stage.kernel_size else "InnerProduct"
        blob = add(kind, stage.name, (blob,), (stage.name,), **_weigh_parameters(stage))
        for step in stage.ops:
            if step == "relu":
                add("ReLU", f"relu{number}", (blob,), (blob,))
            elif step == "dropout":
                rate = {"dropout_ratio": architecture.dropout_rate}
                add("Dropout", f"drop{number}", (blob,), (blob,), dropout_param=rate)
            elif step == "pool":
                blob = add(
                    "Pooling",
                    f"pool{number}",
                    (blob,),
                    (f"pool{number}",),
                    pooling_param={"pool": "MAX", "kernel_size": stage.pool.size, "stride": stage.pool.strides},
                )
            elif step == "lrn":
                lrn, name = _lrn_parameters(architecture.lrn), f"norm{number}"
                if stage.towers == 2 and architecture.lrn_across_towers is False:
                    halves, normed = (tuple(f"{each}_{tower}" for tower in "ab") for each in (blob, name))
                    add("Slice", f"slice{number}", (blob,), halves, slice_param={"axis": 1})
                    for half, result in zip(halves, normed):
                        add("LRN", result, (half,), (result,), lrn_param=lrn)
                    blob = add("Concat", f"concat{number}", normed, (name,), concat_param={"axis": 1})
                else:
                    blob = add("LRN", name, (blob,), (name,), lrn_param=lrn)
                if architecture.lrn.bias != 1:
                    factor = architecture.lrn.bias**-architecture.lrn.beta
                    add("Power", f"power{number}", (blob,), (blob,), power_param={"scale": factor})
    add("Softmax", "prob", (blob,), ("prob",))
    return layers


def _weigh_parameters(stage) -> dict:
    parameters = {"num_output": stage.filters} | ({} if stage.bias else {"bias_term": False})
    if not stage.kernel_size:
        return {"inner_product_param": parameters}
    parameters |= {"kernel_size": stage.kernel_size, "stride": stage.strides, "pad": stage.padding[0]}
    return {"convolution_param": parameters | ({"group": stage.groups} if stage.groups > 1 else {})}


def _lrn_parameters(lrn: architectures.LRN) -> dict:
    size = 2 * lrn.depth_radius + 1
    return {"local_size": size, "alpha": lrn.alpha * size / lrn.bias, "beta": lrn.beta}  # Caffe divides alpha by n.


def layer_signature(layers: Iterable[caffemodel.Layer]) -> list[str]:
    """Returns a network's layers in order: weight layers by name, LRN and Power with their constants.

    Layers that do not affect the logits are left out: data, dropout, losses.
    """
    words = []
    for layer in layers:
        if layer.type in ("Convolution", "InnerProduct"):
            words.append(layer.name)
        elif layer.type in caffemodel.CONSTANTS:
            block, defaults = caffemodel.CONSTANTS[layer.type]
            values = defaults | layer.parameters[block]
            words.append(f"{layer.type}({', '.join(f'{name}={value:.4g}' for name, value in values.items())})")
        elif layer.type in ("ReLU", "Pooling", "Slice", "Concat"):
            words.append(layer.type)
    return words


def prototxt(architecture: architectures.Architecture, comments: Iterable[str]) -> str:
    """Returns an architecture's deploy.prototxt, for one image.

    Args:
        architecture: One without an `unsupported_reason`.
        comments: Lines to stand at the top.
    """
    lines = [*(f"# {comment}" for comment in comments), f'name: "{architecture.name}"']
    size = architecture.image_size
    lines += [
        "layer {",
        '  name: "data"',
        '  type: "Input"',
        '  top: "data"',
        f"  input_param {{ shape {{ dim: 1 dim: 3 dim: {size} dim: {size} }} }}",
        "}",
    ]
    for layer in to_caffe_layers(architecture):
        lines += ["layer {", f'  name: "{layer.name}"', f'  type: "{layer.type}"']
        lines += [f'  bottom: "{bottom}"' for bottom in layer.bottom] + [f'  top: "{top}"' for top in layer.top]
        for block, values in layer.parameters.items():
            text = " ".join(f"{field}: {_value(value)}" for field, value in values.items())
            lines.append(f"  {block} {{ {text} }}")
        lines.append("}")
    return "\n".join(lines) + "\n"


def _value(value) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:.9g}" if isinstance(value, float) else str(value)
