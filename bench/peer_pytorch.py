#!/usr/bin/env python3
"""The peer of `qevo-gpu bench train`: training steps of ResNet-20 in PyTorch on the CPU, float and W4A4 with LSQ.

A step: forward, cross-entropy, backward, SGD with Nesterov momentum, loss read back. Batches lie in memory as floats,
so PyTorch pays nothing for augmentation and conversion, which qevo-gpu's step does pay for.

Every way to run a case is tried (memory format, eager or compiled, how LSQ is written) and reported; of each case the
fastest eager and the fastest compiled one are then measured in turn. Prints one JSON object; with --serve then one for
each line of standard input, so that a caller can take turns.
Needs PyTorch (bench/requirements.txt); torch.compile needs a C++ compiler.
"""
import argparse
import itertools
import json
import math
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

WARM_UP = 3
BATCHES = 4
PARAMETERS = 269722  # of ResNet-20 with option A, as published


# ---- LSQ: Esser et al., "Learned Step Size Quantization", 2020 ----


def lsq_detach(x, step, low, high, scale):
    """The usual form: gradients steered by detached terms."""
    step = (step - step * scale).detach() + step * scale
    x = torch.clamp(x / step, low, high)
    return ((x.round() - x).detach() + x) * step


class LsqFunction(torch.autograd.Function):
    """The same as one autograd function: fewer passes over memory without a compiler."""

    @staticmethod
    def forward(ctx, x, step, low, high, scale):
        ctx.save_for_backward(x, step)
        ctx.range = low, high, scale
        return (x / step).clamp_(low, high).round_().mul_(step)

    @staticmethod
    def backward(ctx, grad):
        x, step = ctx.saved_tensors
        low, high, scale = ctx.range
        ratio = x / step
        inside = (ratio >= low) & (ratio <= high)
        code = ratio.round().clamp_(low, high)
        grad_step = (grad * torch.where(inside, code - ratio, code)).sum() * scale
        return grad * inside, grad_step, None, None, None


def lsq_function(x, step, low, high, scale):
    return LsqFunction.apply(x, step, low, high, scale)


LSQ = {"detach": lsq_detach, "function": lsq_function}


class WeightQuantizer(nn.Module):
    def __init__(self, weight, bits, lsq):
        super().__init__()
        self.low, self.high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
        self.step = nn.Parameter(2 * weight.detach().abs().mean() / math.sqrt(self.high))
        self.scale = 1 / math.sqrt(weight.numel() * self.high)
        self.lsq = LSQ[lsq]

    def forward(self, weight):
        return self.lsq(weight, self.step, self.low, self.high, self.scale)


class ActivationQuantizer(nn.Module):
    """Unsigned codes; the ReLU as well, for they start at 0. `features` are the values of one image."""

    def __init__(self, bits, features, lsq, step=None, shift=0):
        super().__init__()
        self.high = (1 << bits) - 1
        self.step = nn.Parameter(torch.tensor(0.2)) if step is None else step
        self.factor = 2.0**-shift
        self.scale = 1 / math.sqrt(features * self.high)
        self.lsq = LSQ[lsq]

    def forward(self, x):
        return self.lsq(x, self.step * self.factor if self.factor != 1 else self.step, 0, self.high, self.scale)


class Stream(nn.Module):
    """What a block hands on: an 8-bit code for the skip connection and, made of it, a 4-bit one for the convolution."""

    def __init__(self, features, lsq, last):
        super().__init__()
        self.step = nn.Parameter(torch.tensor(0.4))
        self.wide = ActivationQuantizer(8, features, lsq, self.step, shift=0 if last else 3)
        self.low = None if last else ActivationQuantizer(4, features, lsq, self.step)

    def forward(self, x):
        wide = self.wide(x)
        return wide, wide if self.low is None else self.low(wide)


class ReluStream(nn.Module):
    def forward(self, x):
        x = F.relu(x)
        return x, x


# ---- ResNet-20: He et al., "Deep Residual Learning for Image Recognition", 2016, section 4.2 ----


class Conv(nn.Conv2d):
    def __init__(self, inputs, outputs, stride, bits, lsq):
        super().__init__(inputs, outputs, 3, stride, 1, bias=False)
        nn.init.kaiming_normal_(self.weight)
        self.quantizer = WeightQuantizer(self.weight, bits, lsq) if lsq else nn.Identity()

    def forward(self, x):
        return F.conv2d(x, self.quantizer(self.weight), None, self.stride, self.padding)


class Linear(nn.Linear):
    def __init__(self, inputs, outputs, bits, lsq):
        super().__init__(inputs, outputs)
        self.quantizer = WeightQuantizer(self.weight, bits, lsq) if lsq else nn.Identity()

    def forward(self, x):
        return F.linear(x, self.quantizer(self.weight), self.bias)


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride, side, lsq, last):
        super().__init__()
        features = outputs * side * side
        self.conv1, self.bn1 = Conv(inputs, outputs, stride, 4, lsq), nn.BatchNorm2d(outputs)
        self.relu1 = ActivationQuantizer(4, features, lsq) if lsq else nn.ReLU(inplace=True)
        self.conv2, self.bn2 = Conv(outputs, outputs, 1, 4, lsq), nn.BatchNorm2d(outputs)
        self.stream = Stream(features, lsq, last) if lsq else ReluStream()
        self.stride, self.pad = stride, (outputs - inputs) // 2

    def forward(self, wide, low):
        x = self.relu1(self.bn1(self.conv1(low)))
        x = self.bn2(self.conv2(x))
        if self.stride != 1:
            wide = F.pad(wide[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
        return self.stream(x + wide)


class ResNet20(nn.Module):
    """`lsq`: "" for the float network, else the name of a form of LSQ."""

    def __init__(self, lsq=""):
        super().__init__()
        self.conv, self.bn = Conv(3, 16, 1, 8, lsq), nn.BatchNorm2d(16)
        self.stream = Stream(16 * 32 * 32, lsq, False) if lsq else ReluStream()
        blocks, inputs = [], 16
        for stage in range(3):
            for at in range(3):
                outputs, stride = 16 << stage, 2 if stage and not at else 1
                blocks.append(Block(inputs, outputs, stride, 32 >> stage, lsq, stage == 2 and at == 2))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.pool_quantizer = ActivationQuantizer(8, 64, lsq) if lsq else nn.Identity()
        self.fc = Linear(64, 10, 8, lsq)

    def forward(self, x):
        wide, low = self.stream(self.bn(self.conv(x)))
        for block in self.blocks:
            wide, low = block(wide, low)
        return self.fc(self.pool_quantizer(wide.mean((2, 3))))


# ---- steps ----


class Step:
    """One way to run a case."""

    def __init__(self, case, batch, layout, mode, lsq):
        self.case, self.batch, self.mode = case, batch, mode
        self.name = "-".join(part for part in (mode, layout, lsq) if part)
        torch.manual_seed(1)
        layout = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        self.model = ResNet20(lsq).to(memory_format=layout).train()
        if not lsq:
            assert sum(p.numel() for p in self.model.parameters()) == PARAMETERS
        weights = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [{"params": weights, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0}]
        try:
            self.sgd = torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True, fused=True)
        except (RuntimeError, TypeError):
            self.sgd = torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True)
        self.images = [
            ((torch.randint(0, 256, (batch, 3, 32, 32)) - 128) / 64).contiguous(memory_format=layout)
            for _ in range(BATCHES)
        ]
        self.labels = [torch.randint(0, 10, (batch,)) for _ in range(BATCHES)]
        self.at = 0
        self.loss = torch.compile(self.plain_loss) if mode == "compiled" else self.plain_loss

    def plain_loss(self, images, labels):
        return F.cross_entropy(self.model(images), labels)

    def run(self):
        loss = self.loss(self.images[self.at], self.labels[self.at])
        loss.backward()
        self.sgd.step()
        self.sgd.zero_grad(set_to_none=True)
        self.at = (self.at + 1) % BATCHES
        value = loss.item()
        if not math.isfinite(value):
            raise RuntimeError("the loss is not finite")

    def measure(self, seconds):
        """Images a second over about `seconds`."""
        steps, start = 0, time.perf_counter()
        while steps < 1 or time.perf_counter() - start < seconds:
            self.run()
            steps += 1
        return steps * self.batch / (time.perf_counter() - start)


def try_all(case, batch, modes, seconds):
    """All ways to run a case: (the fastest of each mode, a report of each)."""
    best, rate, reports = {}, dict.fromkeys(modes, 0), []
    forms = LSQ if case == "w4a4" else ("",)
    for mode, layout, lsq in itertools.product(modes, ("contiguous", "channels_last"), forms):
        began = time.perf_counter()
        report = {"case": case, "variant": "-".join(part for part in (mode, layout, lsq) if part)}
        reports.append(report)
        try:
            step = Step(case, batch, layout, mode, lsq)
            for _ in range(WARM_UP):
                step.run()
            report["setup_seconds"] = round(time.perf_counter() - began, 2)
            report["images_per_second"] = step.measure(seconds)
        except Exception as error:  # a variant that does not run here is reported, and others are taken
            report["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            continue
        if report["images_per_second"] > rate[mode]:
            best[mode], rate[mode] = step, report["images_per_second"]
    if not best:
        raise SystemExit(f"no variant of {case} runs: {reports}")
    return list(best.values()), reports


def measure_round(steps, repeat, seconds):
    samples = [[] for _ in steps]
    for _ in range(repeat):
        for step, values in zip(steps, samples):
            values.append(step.measure(seconds))
    return [
        {
            "bench": "train",
            "case": f"resnet20-{step.case}",
            "backend": f"pytorch-{step.mode}",
            "value": statistics.median(values),
            "unit": "images/s",
            "variant": step.name,
            "samples": values,
        }
        for step, values in zip(steps, samples)
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=0, help="0: PyTorch's own choice")
    parser.add_argument("--repeat", type=int, default=7, help="measurements of a case; the median counts")
    parser.add_argument("--seconds", type=float, default=0.6, help="length of one measurement")
    parser.add_argument("--no-compile", action="store_true", help="eager only")
    parser.add_argument("--serve", action="store_true", help="measure once for each line of standard input")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.set_num_interop_threads(1)
    modes = ("eager",) if arguments.no_compile else ("eager", "compiled")
    steps, variants = [], []
    for case in ("float", "w4a4"):
        best, reports = try_all(case, arguments.batch, modes, arguments.seconds)
        steps += best
        variants += reports
    config = [line.strip(" -").split(" (")[0] for line in torch.__config__.show().splitlines()]
    about = {
        "torch": torch.__version__,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "config": [line for line in config if "MKL-DNN" in line],
        "threads": torch.get_num_threads(),
        "batch": arguments.batch,
        "variants": variants,
    }
    if not arguments.serve:
        print(json.dumps({**about, "rows": measure_round(steps, arguments.repeat, arguments.seconds)}))
        return
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure_round(steps, arguments.repeat, arguments.seconds)), flush=True)


if __name__ == "__main__":
    main()
