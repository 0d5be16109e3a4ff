#!/usr/bin/env python3
"""Peers of `qevo-gpu bench` on the same GPU: ResNet-20 for CIFAR in PyTorch.

  train       a training step (forward, cross-entropy, backward, SGD with Nesterov momentum): float in fp32, TF32 and
              bf16 channels-last, eager, compiled and as one CUDA graph; W4A4 with LSQ modules, eager, compiled and as
              one CUDA graph; W4A4 in Brevitas where it is installed
  population  logits, losses and hits of P networks of the same shape but other weights on N images: by
              torch.func.vmap, by grouped convolutions, one after the other by a CUDA graph
  conv        the forward pass of one network, fp16 or bf16 channels-last, eager and as a CUDA graph

What PyTorch is spared: batches lie on the device as floats, losses are read back once a measurement, population weights
lie on the device as fp16 and activations are not quantised there. Times are of CUDA events (of the clock on a CPU),
medians of --repeat measurements; variants take turns. A variant that does not run is reported with the reason.

Prints one JSON object: what it ran on, and `rows` as `qevo-gpu bench --json` has them; give the file to
`qevo-gpu bench --chart FILE.html --peers`. Needs PyTorch 2.4 or later. --device cpu --quick tries it without a GPU.
"""
import argparse
import json
import math
import statistics
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

import peer_pytorch

BATCHES = 4
WARM_UP = 3
MODES = ("train", "population", "conv")


# ---- time ----


class Clock:
    """Seconds that the device takes for what is run between start and stop."""

    def __init__(self, device):
        self.cuda = device.type == "cuda"
        if self.cuda:
            self.first, self.last = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def start(self):
        if self.cuda:
            torch.cuda.synchronize()
            self.first.record()
        else:
            self.first = time.perf_counter()

    def stop(self):
        if not self.cuda:
            return time.perf_counter() - self.first
        self.last.record()
        torch.cuda.synchronize()
        return self.first.elapsed_time(self.last) / 1e3


class Graph:
    """A function of tensors that stay in place, captured once as a CUDA graph."""

    def __init__(self, run):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.result = run()

    def __call__(self):
        self.graph.replay()
        return self.result


# ---- training ----


class Step:
    """One way to run a training step. `form` is eager, compiled or graph; `number` fp32, tf32 or bf16."""

    def __init__(self, model, number, layout, form, batch, device):
        layout = torch.channels_last if layout == "channels_last" else torch.contiguous_format
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = number != "fp32"
        self.tf32 = number != "fp32"
        self.batch, self.device, self.number, self.form = batch, device, number, form
        self.model = model.to(device=device, memory_format=layout).train()
        weights = [p for p in self.model.parameters() if p.dim() > 1]
        others = [p for p in self.model.parameters() if p.dim() <= 1]
        groups = [{"params": weights, "weight_decay": 5e-4}, {"params": others, "weight_decay": 0}]
        self.sgd = torch.optim.SGD(groups, lr=0.01, momentum=0.9, nesterov=True, fused=True)
        shape = (batch, 3, 32, 32)
        draw = lambda: ((torch.randint(0, 256, shape, device=device) - 128) / 64).contiguous(memory_format=layout)
        self.images = [draw() for _ in range(BATCHES)]
        self.labels = [torch.randint(0, 10, (batch,), device=device) for _ in range(BATCHES)]
        self.image, self.label = self.images[0].clone(), self.labels[0].clone()
        self.at, self.last = 0, None
        self.loss = self.plain_loss
        if form == "compiled":
            self.loss = torch.compile(self.plain_loss, mode="reduce-overhead" if device.type == "cuda" else None)
        elif form == "autotuned":
            self.loss = torch.compile(self.plain_loss, mode="max-autotune")
        elif form == "graph":
            self.loss = torch.compile(self.plain_loss)
            self.graph = Graph(self.plain_step)

    def plain_loss(self, images, labels):
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.number == "bf16", cache_enabled=False):
            return F.cross_entropy(self.model(images), labels)

    def plain_step(self):
        self.sgd.zero_grad(set_to_none=True)
        loss = self.loss(self.image, self.label)
        loss.backward()
        self.sgd.step()
        return loss

    def run(self):
        image, label = self.images[self.at], self.labels[self.at]
        self.at = (self.at + 1) % BATCHES
        if self.form == "graph":
            self.image.copy_(image)
            self.label.copy_(label)
            self.last = self.graph()
            return
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = self.tf32
        if self.form in ("compiled", "autotuned"):
            torch.compiler.cudagraph_mark_step_begin()
        self.sgd.zero_grad(set_to_none=True)
        self.last = self.loss(image, label)
        self.last.backward()
        self.sgd.step()

    def units(self):
        return self.batch

    def right(self):
        return math.isfinite(self.last.item())


def lsq_model(form):
    return lambda: peer_pytorch.ResNet20(form)


def brevitas_model():
    """ResNet-20 of Brevitas' quantised layers at the same bits: 4 inside, 8 in the first and the last layer."""
    from brevitas import nn as qnn

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            conv = lambda i, s: qnn.QuantConv2d(i, outputs, 3, s, 1, bias=False, weight_bit_width=4)
            self.conv1, self.bn1, self.act1 = conv(inputs, stride), nn.BatchNorm2d(outputs), qnn.QuantReLU(bit_width=4)
            self.conv2, self.bn2, self.act2 = conv(outputs, 1), nn.BatchNorm2d(outputs), qnn.QuantReLU(bit_width=8)
            self.low = qnn.QuantReLU(bit_width=4)
            self.stride, self.pad = stride, (outputs - inputs) // 2

        def forward(self, wide):
            x = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(self.low(wide))))))
            if self.stride != 1:
                wide = F.pad(wide[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))
            return self.act2(x + wide)

    layers, inputs = [qnn.QuantConv2d(3, 16, 3, 1, 1, bias=False, weight_bit_width=8)], 16
    layers += [nn.BatchNorm2d(16), qnn.QuantReLU(bit_width=8)]
    for stage in range(3):
        for at in range(3):
            layers.append(Block(inputs, 16 << stage, 2 if stage and not at else 1))
            inputs = 16 << stage
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), qnn.QuantLinear(64, 10, bias=True, weight_bit_width=8)]
    return nn.Sequential(*layers)


def train_variants(arguments, device):
    cuda = device.type == "cuda"
    floats = peer_pytorch.ResNet20
    table = [  # case, backend, model, number, layout, form
        ("float", "pytorch-fp32", floats, "fp32", "contiguous", "eager"),
        ("float", "pytorch-tf32", floats, "tf32", "contiguous", "eager"),
        ("float", "pytorch-bf16", floats, "bf16", "channels_last", "eager"),
        ("float", "pytorch-bf16-compiled", floats, "bf16", "channels_last", "compiled"),
        ("float", "pytorch-bf16-graph", floats, "bf16", "channels_last", "graph"),
        ("float", "pytorch-bf16-autotuned", floats, "bf16", "channels_last", "autotuned"),
        ("w4a4", "pytorch-lsq", lsq_model("detach"), "tf32", "channels_last", "eager"),
        ("w4a4", "pytorch-lsq-function", lsq_model("function"), "tf32", "channels_last", "eager"),
        ("w4a4", "pytorch-lsq-compiled", lsq_model("detach"), "tf32", "channels_last", "compiled"),
        ("w4a4", "pytorch-lsq-bf16-graph", lsq_model("detach"), "bf16", "channels_last", "graph"),
        ("w4a4", "brevitas", brevitas_model, "tf32", "channels_last", "eager"),
    ]
    for case, backend, model, number, layout, form in table:
        if not cuda and (form in ("graph", "autotuned") or number == "tf32" and case == "float"):
            continue
        if arguments.quick and (form == "autotuned" or not cuda and form == "compiled"):
            continue
        make = lambda m=model, n=number, l=layout, f=form: Step(m(), n, l, f, arguments.batch, device)
        yield "train", f"resnet20-{case}", backend, "images/s", make


# ---- populations ----


def layer_shapes():
    """(outputs, inputs, stride) of the convolutions of ResNet-20."""
    shapes, inputs = [(16, 3, 1)], 16
    for stage in range(3):
        for at in range(3):
            outputs = 16 << stage
            shapes += [(outputs, inputs, 2 if stage and not at else 1), (outputs, outputs, 1)]
            inputs = outputs
    return shapes


def draw_weights(candidates, device, number):
    """Of each candidate: codes of 4 bits times a step; batch norm as scale and offset of each channel."""
    weights = []
    for outputs, inputs, _ in layer_shapes():
        codes = torch.randint(-8, 8, (candidates, outputs, inputs, 3, 3), device=device)
        scale = 1 / (4.6 * math.sqrt(9 * inputs / 2))
        weights.append((codes * scale).to(number))
        weights.append((torch.randn(candidates, outputs, device=device) * 0.1).to(number))
    weights.append((torch.randn(candidates, 10, 64, device=device) / 8).to(number))
    weights.append((torch.randn(candidates, 10, device=device) / 8).to(number))
    return weights


def forward_one(weights, images):
    """The network of one candidate."""
    shapes = layer_shapes()
    x = F.relu(F.conv2d(images, weights[0], weights[1], 1, 1))
    for at in range(1, len(shapes), 2):
        outputs, inputs, stride = shapes[at]
        y = F.relu(F.conv2d(x, weights[2 * at], weights[2 * at + 1], stride, 1))
        y = F.conv2d(y, weights[2 * at + 2], weights[2 * at + 3], 1, 1)
        if stride != 1:
            pad = (outputs - inputs) // 2
            x = F.pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, pad, pad))
        x = F.relu(x + y)
    return F.linear(x.mean((2, 3)), weights[-2], weights[-1])


def forward_grouped(weights, images):
    """All candidates at once: their channels lie beside each other, a group each."""
    shapes, count, images_count = layer_shapes(), weights[0].shape[0], images.shape[0]
    conv = lambda x, at, stride, groups: F.conv2d(
        x, weights[2 * at].flatten(0, 1), weights[2 * at + 1].flatten(), stride, 1, groups=groups
    )
    x = F.relu(conv(images, 0, 1, 1))
    for at in range(1, len(shapes), 2):
        outputs, inputs, stride = shapes[at]
        y = conv(F.relu(conv(x, at, stride, count)), at + 1, 1, count)
        if stride != 1:
            pad, x = (outputs - inputs) // 2, x[:, :, ::stride, ::stride]
            x = F.pad(x.unflatten(1, (count, inputs)), (0, 0, 0, 0, pad, pad)).flatten(1, 2)
        x = F.relu(x + y)
    x = x.mean((2, 3)).view(images_count, count, 64)
    return torch.einsum("npc,pkc->pnk", x, weights[-2]) + weights[-1][:, None]


class Population:
    """`form` is vmap, grouped or loop; `chunk` candidates at a time."""

    def __init__(self, form, chunk, arguments, device):
        torch.manual_seed(1)
        number = torch.float16 if device.type == "cuda" else torch.float32
        self.form, self.chunk = form, min(chunk, arguments.candidates)
        self.candidates, self.images = arguments.candidates, arguments.images
        self.weights = draw_weights(self.candidates, device, number)
        self.image = ((torch.randint(0, 256, (self.images, 3, 32, 32), device=device) - 128) / 64).to(number)
        if form != "vmap":
            self.image = self.image.contiguous(memory_format=torch.channels_last)
        self.label = torch.randint(0, 10, (self.images,), device=device)
        self.vmapped = torch.func.vmap(forward_one, in_dims=([0] * len(self.weights), None))
        self.at = [w[: self.chunk].clone() for w in self.weights]
        self.graph = Graph(self.plain) if device.type == "cuda" else self.plain
        self.result = None

    def logits(self, weights):
        if self.form == "vmap":
            return self.vmapped(weights, self.image)
        if self.form == "grouped":
            return forward_grouped(weights, self.image)
        return torch.stack([forward_one([w[i] for w in weights], self.image) for i in range(self.chunk)])

    def plain(self):
        with torch.no_grad():
            logits = self.logits(self.at).float()
            labels = self.label.expand(self.chunk, -1)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(self.chunk, -1).sum(1)
            return logits, loss, (logits.argmax(2) == labels).sum(1)

    def run(self):
        losses = []
        for first in range(0, self.candidates - self.chunk + 1, self.chunk):
            for to, source in zip(self.at, self.weights):
                to.copy_(source[first : first + self.chunk])
            _, loss, _ = self.graph()
            losses.append(loss.clone())
        self.result = torch.cat(losses)

    def units(self):
        return self.candidates // self.chunk * self.chunk * self.images

    def right(self):
        """Candidate 0 as every form computes it against the plain network in fp32."""
        for to, source in zip(self.at, self.weights):
            to.copy_(source[: self.chunk])
        logits = self.graph()[0][0]
        with torch.no_grad():
            wanted = forward_one([w[0].float() for w in self.weights], self.image.float())
        return ((logits - wanted).norm() / wanted.norm()).item() < 0.05


def population_variants(arguments, device):
    forms = [("vmap", 16), ("vmap", 64), ("grouped", 16), ("grouped", 64), ("loop", 1), ("loop", 8)]
    for form, chunk in forms[::2] if arguments.quick else forms:
        make = lambda f=form, c=chunk: Population(f, c, arguments, device)
        name = f"pytorch-{form}{chunk}-" + ("fp16" if device.type == "cuda" else "fp32")
        yield "population", "resnet20-w4a4-fresh", name, "candidate-images/s", make


# ---- forward pass ----


class Forward:
    def __init__(self, number, form, batch, device):
        torch.manual_seed(1)
        self.batch = batch
        self.model = peer_pytorch.ResNet20().to(device=device, memory_format=torch.channels_last).eval().to(number)
        image = ((torch.randint(0, 256, (batch, 3, 32, 32), device=device) - 128) / 64).to(number)
        self.image = image.contiguous(memory_format=torch.channels_last)
        self.result = None
        compiled = torch.compile(self.model) if form == "graph" else self.model
        self.network = compiled
        self.call = Graph(self.plain) if form == "graph" else self.plain

    def plain(self):
        with torch.no_grad():
            return self.network(self.image)

    def run(self):
        self.result = self.call()

    def units(self):
        return self.batch

    def right(self):
        return bool(self.result.isfinite().all())


def conv_variants(arguments, device):
    numbers = {"fp16": torch.float16, "bf16": torch.bfloat16} if device.type == "cuda" else {"fp32": torch.float32}
    for name, number in numbers.items():
        for form in ("eager", "graph") if device.type == "cuda" else ("eager",):
            make = lambda n=number, f=form: Forward(n, f, arguments.batch, device)
            yield "conv", "resnet20-float", f"pytorch-{name}-{form}", "images/s", make


# ---- the whole ----


def measure(variant, clock, seconds):
    """Units a second over about `seconds`; a first run says how many that are."""
    clock.start()
    variant.run()
    once = max(clock.stop(), 1e-6)
    runs = max(1, min(10000, int(seconds / once)))
    clock.start()
    for _ in range(runs):
        variant.run()
    return runs * variant.units() / clock.stop()


def open_variant(description, device):
    """(the variant or None, its row)"""
    bench, case, backend, unit, make = description
    row = {"bench": bench, "case": case, "backend": backend, "device": device_name(device), "value": 0, "unit": unit}
    row |= {"peak_percent": None, "parity": False, "ratio": None, "samples": []}
    began = time.perf_counter()
    try:
        variant = make()
        for _ in range(WARM_UP):
            variant.run()
        row["parity"] = variant.right()
    except Exception as error:  # reported, and others are taken
        row["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        return None, row
    row["setup_seconds"] = round(time.perf_counter() - began, 1)
    print(f"{bench} {backend}: ready after {row['setup_seconds']} s", file=sys.stderr)
    return variant, row


def device_name(device):
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def run_mode(variants, arguments, device, deadline):
    opened, rows, clock = [], [], Clock(device)
    for description in variants:
        if time.perf_counter() > deadline:
            print(f"{description[2]}: left out, --limit is over", file=sys.stderr)
            continue
        variant, row = open_variant(description, device)
        rows.append(row)
        if variant:
            opened.append((variant, row))
    for _ in range(arguments.repeat):
        for variant, row in opened:
            row["samples"].append(measure(variant, clock, arguments.seconds))
    for _, row in opened:
        row["value"] = statistics.median(row["samples"])
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=512, help="train, conv: images a step")
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--images", type=int, default=512, help="population: images of each candidate")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of one measurement")
    parser.add_argument("--limit", type=float, default=600, help="seconds after which no further variant is opened")
    parser.add_argument("--quick", action="store_true", help="fewer variants; on a CPU small batches as well")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.quick and device.type == "cpu":
        arguments.batch, arguments.candidates, arguments.images = 16, 3, 8
        arguments.repeat, arguments.seconds = 1, 0.1
    chosen = arguments.modes.split(",")
    if not set(chosen) <= set(MODES):
        parser.error(f"--modes: there are {','.join(MODES)}")
    torch.backends.cudnn.benchmark = True
    deadline = time.perf_counter() + arguments.limit
    variants = {"train": train_variants, "population": population_variants, "conv": conv_variants}
    rows = []
    for mode in chosen:
        rows += run_mode(variants[mode](arguments, device), arguments, device, deadline)
    about = {"torch": torch.__version__, "device": device_name(device), "batch": arguments.batch}
    about |= {"candidates": arguments.candidates, "images": arguments.images}
    if device.type == "cuda":
        about |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    print(json.dumps({**about, "rows": rows}, separators=(",", ":")))


if __name__ == "__main__":
    main()
