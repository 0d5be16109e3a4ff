#!/usr/bin/env python3
"""A peer of `qevo-gpu bench conv`: ResNet-20 (CIFAR, option A) in int8 with ONNX Runtime on the CPU.

The model is written as ONNX Runtime wants it quantised: u8 codes, s8 weights a scale an output channel, each operator
between DequantizeLinear and QuantizeLinear (QDQ), which the runtime fuses into integer operators. Images come as u8
[N, 32, 32, 3]. Prints one JSON object; with --serve a description, then rows for each line of standard input.
Needs onnx and onnxruntime (bench/requirements.txt).
"""
import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import peer_int8

CODE_STEP = numpy.float32(1 / 32)  # of every map of codes
IMAGE_STEP, IMAGE_ZERO = numpy.float32(1 / 64), numpy.uint8(128)


class Writer:
    """Nodes and constants of a quantised model. Values are named; maps of codes are u8."""

    def __init__(self):
        self.nodes, self.constants, self.draw = [], [], numpy.random.default_rng(2)

    def constant(self, name, values):
        self.constants.append(numpy_helper.from_array(numpy.asarray(values), name))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def real(self, codes, user, step=CODE_STEP, zero=numpy.uint8(0)):
        """The codes as `user` reads them: each reader has its own node, as the fusions expect."""
        name = f"{codes} for {user}"
        parameters = [self.constant(f"{name}.step", step), self.constant(f"{name}.zero", zero)]
        return self.node("DequantizeLinear", [codes, *parameters], name + ".real")

    def codes(self, real, name):
        parameters = [self.constant(f"{name}.step", CODE_STEP), self.constant(f"{name}.zero", numpy.uint8(0))]
        return self.node("QuantizeLinear", [real, *parameters], name)

    def weights(self, name, shape, deviation, input_step):
        """Random weights and biases, as real values made of their codes: [name of the weights, name of the biases]."""
        values = self.draw.normal(0, deviation, shape)
        steps = (abs(values).reshape(shape[0], -1).max(1) / 127).astype(numpy.float32)
        codes = numpy.rint(values / steps.reshape(-1, *[1] * (len(shape) - 1))).astype(numpy.int8)
        bias = numpy.rint(self.draw.normal(0, 0.1, shape[0]) / (steps * input_step)).astype(numpy.int32)
        result = []
        for part, values, step in (("weight", codes, steps), ("bias", bias, steps * input_step)):
            label = f"{name}.{part}"
            inputs = [
                self.constant(label + ".codes", values),
                self.constant(label + ".step", step.astype(numpy.float32)),
                self.constant(label + ".zero", numpy.zeros(shape[0], values.dtype)),
            ]
            result.append(self.node("DequantizeLinear", inputs, label, axis=0))
        return result

    def conv(self, name, codes, inputs, outputs, stride=1, gain=1.0, relu=True, **image):
        deviation = gain * (2 / (9 * inputs)) ** 0.5
        parameters = self.weights(name, (outputs, inputs, 3, 3), deviation, image.get("step", CODE_STEP))
        attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [stride, stride]}
        real = self.node("Conv", [self.real(codes, name, **image), *parameters], name + ".sum", **attributes)
        if relu:
            return self.codes(self.node("Relu", [real], name + ".relu"), name)
        return self.signed(real, name)

    def signed(self, real, name):
        """Codes of values of both signs: zero in the middle."""
        parameters = [self.constant(name + ".step", CODE_STEP), self.constant(name + ".zero", numpy.uint8(128))]
        return self.node("QuantizeLinear", [real, *parameters], name)

    def subsample(self, name, codes, channels):
        """Option A: every second pixel, zero channels before and after. On the codes, whose zero is 0."""
        bounds = [("starts", [0, 0]), ("ends", [1 << 30, 1 << 30]), ("axes", [2, 3]), ("steps", [2, 2])]
        bounds = [self.constant(f"{name}.{key}", numpy.array(value, numpy.int64)) for key, value in bounds]
        half = self.node("Slice", [codes, *bounds], name + ".slice")
        pads = self.constant(name + ".pads", numpy.array([0, channels // 4, 0, 0] * 2, numpy.int64))
        return self.node("Pad", [half, pads, self.constant(name + ".zero", numpy.uint8(0))], name)

    def block(self, name, x, inputs, outputs):
        stride = 1 if inputs == outputs else 2
        y = self.conv(name + ".conv1", x, inputs, outputs, stride)
        y = self.conv(name + ".conv2", y, outputs, outputs, gain=0.5, relu=False)
        skip = x if stride == 1 else self.subsample(name + ".shortcut", x, outputs)
        terms = [self.real(y, name, zero=numpy.uint8(128)), self.real(skip, name)]
        return self.codes(self.node("Relu", [self.node("Add", terms, name + ".add")], name + ".relu"), name)

    def logits(self, x):
        pool = self.codes(self.node("GlobalAveragePool", [self.real(x, "pool")], "pool.mean"), "pool")
        flat = self.node("Flatten", [pool], "flat")
        parameters = self.weights("fc", (10, 64), 0.3, CODE_STEP)
        return self.node("Gemm", [self.real(flat, "fc"), *parameters], "logits", transB=1)


def write_model(batch):
    writer = Writer()
    x = writer.node("Transpose", ["images"], "planes", perm=[0, 3, 1, 2])
    x = writer.conv("conv1", x, 3, 16, step=IMAGE_STEP, zero=IMAGE_ZERO)
    inputs = 16
    for stage in range(3):
        for block in range(3):
            x = writer.block(f"stage{stage + 1}.{block}", x, inputs, 16 << stage)
            inputs = 16 << stage
    writer.logits(x)
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [batch, 32, 32, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 10])
    graph = helper.make_graph(writer.nodes, "resnet20", [images], [logits], writer.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def make_runner(batch, chunk, threads):
    """A session for `chunk` images, run over the batch."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(write_model(chunk), options, providers=["CPUExecutionProvider"])

    def run(images):
        parts = [session.run(None, {"images": images[i : i + chunk]})[0] for i in range(0, batch, chunk)]
        return numpy.concatenate(parts)

    return run


def main():
    arguments = peer_int8.read_arguments(__doc__)
    onnxruntime.set_default_logger_severity(3)

    def makers(batch):
        chunks = [batch] + [chunk for chunk in (64, 16) if chunk < batch and batch % chunk == 0]
        return {f"chunk-{chunk}": lambda chunk=chunk: make_runner(batch, chunk, arguments.threads) for chunk in chunks}

    about = {"onnxruntime": onnxruntime.__version__, "providers": ["CPUExecutionProvider"]}
    peer_int8.main(arguments, "onnxruntime", about, makers)


if __name__ == "__main__":
    main()
