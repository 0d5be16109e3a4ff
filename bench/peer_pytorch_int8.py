#!/usr/bin/env python3
"""A peer of `qevo-gpu bench conv`: ResNet-20 (CIFAR, option A) in int8 with PyTorch on the CPU, statically quantised.

Every way that PyTorch has is tried and reported: eager mode and FX graph mode (each with the engines x86 and onednn),
and export with the X86 quantiser of torchao and torch.compile (PT2E), where torchao is installed. Images come as u8
[N, 32, 32, 3]; residual additions are fused as each way does it. Prints one JSON object; with --serve a description,
then rows for each line of standard input. Needs torch (bench/requirements.txt).
"""
import warnings

import torch
from torch import nn
from torch.ao import quantization
from torch.ao.quantization import quantize_fx
from torch.nn import functional as F

import peer_int8

IMAGE_STEP, IMAGE_ZERO = 1 / 64, 128
CALIBRATION = 64  # images


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.stride, self.pad = 1 if inputs == outputs else 2, (outputs - inputs) // 2
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.sum = nn.quantized.FloatFunctional()

    def forward(self, x):
        y = self.conv2(self.relu1(self.conv1(x)))
        if self.stride == 2:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return self.sum.add_relu(y, x)


class GraphBlock(Block):
    """The same as operators that graph modes recognise."""

    def forward(self, x):
        y = self.conv2(self.relu1(self.conv1(x)))
        if self.stride == 2:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
        return F.relu(y + x)


class ResNet20(nn.Module):
    """He et al. 2016, section 4.2, batch norm folded into weights and biases."""

    def __init__(self, block):
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 16, 3, 1, 1), nn.ReLU()
        widths = [16] * 4 + [32] * 3 + [64] * 3
        self.blocks = nn.Sequential(*[block(a, b) for a, b in zip(widths, widths[1:])])
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                nn.init.normal_(module.bias, 0, 0.1)

    def forward(self, x):
        x = self.blocks(self.relu(self.conv(x)))
        return self.fc(torch.flatten(self.pool(x), 1))


class FromBytes(nn.Module):
    """Images as they come, u8 [N, H, W, C]."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return self.model((images.permute(0, 3, 1, 2).to(torch.float32) - IMAGE_ZERO) * IMAGE_STEP)


def real(images):
    """Bytes to the values that the float network takes, channels last in memory."""
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() - IMAGE_ZERO) * IMAGE_STEP


def quantized(images):
    """Bytes to a quantised tensor without a conversion."""
    return torch._make_per_tensor_quantized_tensor(
        torch.from_numpy(images).permute(0, 3, 1, 2), IMAGE_STEP, IMAGE_ZERO)


def float_model(block):
    torch.manual_seed(1)
    return ResNet20(block).eval().to(memory_format=torch.channels_last)


def quantized_runner(model):
    def run(images):
        logits = model(quantized(images))
        return (logits.dequantize() if logits.is_quantized else logits).numpy()

    return run


def eager(engine):
    torch.backends.quantized.engine = engine
    model = float_model(Block)
    pairs = [["conv", "relu"]] + [[f"blocks.{i}.conv1", f"blocks.{i}.relu1"] for i in range(len(model.blocks))]
    model = quantization.fuse_modules(model, pairs)
    model.qconfig = quantization.get_default_qconfig(engine)
    model = quantization.prepare(model)
    model(real(peer_int8.smooth_images(CALIBRATION)))
    return quantized_runner(quantization.convert(model))


def graph(engine):
    torch.backends.quantized.engine = engine
    example = real(peer_int8.smooth_images(CALIBRATION))
    custom = quantize_fx.PrepareCustomConfig().set_input_quantized_indexes([0])
    backend = quantization.backend_config.get_onednn_backend_config() if engine == "onednn" else None
    model = quantize_fx.prepare_fx(float_model(GraphBlock), quantization.get_default_qconfig_mapping(engine),
                                   (example,), prepare_custom_config=custom, backend_config=backend)
    model(example)
    return quantized_runner(quantize_fx.convert_fx(model, backend_config=backend))


def compiled(batch):
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    from torch._inductor import config

    config.freezing = True
    example = torch.from_numpy(peer_int8.smooth_images(max(batch, 2))[:batch])
    exported = torch.export.export(FromBytes(float_model(GraphBlock)), (example,), strict=True).module()
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    model = prepare_pt2e(exported, quantizer)
    for images in torch.from_numpy(peer_int8.smooth_images(CALIBRATION)).split(batch):
        if len(images) == batch:
            model(images)
    if batch > CALIBRATION:
        model(example)
    model = convert_pt2e(model)
    move_exported_model_to_eval(model)
    model = torch.compile(model)
    return lambda images: model(torch.from_numpy(images)).numpy()


def without_gradients(make):
    def made():
        with torch.no_grad():
            runner = make()

        def run(images):
            with torch.no_grad():
                return runner(images)

        return run

    return made


def main():
    arguments = peer_int8.read_arguments(__doc__)
    warnings.simplefilter("ignore")
    torch.set_num_threads(arguments.threads)
    torch.set_num_interop_threads(1)
    engines = [engine for engine in ("x86", "onednn") if engine in torch.backends.quantized.supported_engines]

    def makers(batch):
        makers = {}
        for engine in engines:
            makers[f"eager-{engine}"] = lambda engine=engine: eager(engine)
            makers[f"fx-{engine}"] = lambda engine=engine: graph(engine)
        makers["pt2e-compiled"] = lambda: compiled(batch)
        return {variant: without_gradients(make) for variant, make in makers.items()}

    config = [line.strip(" -").split(" (")[0] for line in torch.__config__.show().splitlines()]
    about = {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "config": [line for line in config if "MKL-DNN" in line],
    }
    peer_int8.main(arguments, "pytorch", about, makers)


if __name__ == "__main__":
    main()
