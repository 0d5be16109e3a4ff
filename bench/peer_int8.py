"""What the peers of integer networks share: their options, images, measurements and the turns with a caller.

A peer makes a runner of a batch size, a callable that takes u8 images [batch, 32, 32, 3] (numpy) and returns their
logits. `main` chooses the fastest variant of each case, checks that logits differ between images, and then prints one
JSON object; with --serve a description, then rows for each line of standard input.
"""
import argparse
import json
import statistics
import sys
import time

import numpy

IMAGES = 512
WARM_UP = 2


def smooth_images(count):
    """Smooth shapes with a little noise, other ones in every image."""
    draw = numpy.random.default_rng(1)
    grid = draw.uniform(0, 240, (count, 6, 6, 3))
    at = numpy.arange(32) * 5 / 32
    low, part = at.astype(int), at % 1
    rows = grid[:, low] * (1 - part)[:, None, None] + grid[:, low + 1] * part[:, None, None]
    maps = rows[:, :, low] * (1 - part)[:, None] + rows[:, :, low + 1] * part[:, None]
    return (maps + draw.uniform(0, 16, maps.shape)).astype(numpy.uint8)


class Case:
    def __init__(self, batch, runner, variant, images):
        self.batch, self.runner, self.variant, self.images, self.at = batch, runner, variant, images, 0
        self.name = "resnet20-int8" + ("-b1" if batch == 1 else "")

    def run(self):
        logits = self.runner(self.images[self.at : self.at + self.batch])
        self.at = self.at + self.batch if self.at + 2 * self.batch <= IMAGES else 0
        return logits

    def measure(self, seconds):
        """Images a second over about `seconds`."""
        batches, start = 0, time.perf_counter()
        while batches < 1 or time.perf_counter() - start < seconds:
            self.run()
            batches += 1
        return batches * self.batch / (time.perf_counter() - start)


def check(runner, batch, images):
    """Every image must have logits of its own."""
    logits = numpy.concatenate([numpy.asarray(runner(images[i : i + batch])) for i in range(0, max(8, batch), batch)])
    if logits.shape[1] != 10 or len(numpy.unique(logits, axis=0)) < len(logits):
        raise RuntimeError("the logits of two images are the same; the network is dead")


def try_all(makers, batch, images, seconds):
    """All ways to run a batch size: (the fastest, a report of each). A way that fails is reported."""
    best, rate, reports = None, 0, []
    for variant, make in makers(batch).items():
        report = {"case": "resnet20-int8", "batch": batch, "variant": variant}
        reports.append(report)
        try:
            case = Case(batch, make(), variant, images)
            check(case.runner, batch, images)
            for _ in range(WARM_UP):
                case.run()
            report["images_per_second"] = case.measure(seconds)
        except Exception as error:  # reported, and others are taken
            report["failed"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            continue
        if report["images_per_second"] > rate:
            best, rate = case, report["images_per_second"]
    if not best:
        raise SystemExit(f"nothing runs: {reports}")
    return best, reports


def measure_round(cases, backend, repeat, seconds):
    samples = [[] for _ in cases]
    for _ in range(repeat):
        for case, values in zip(cases, samples):
            values.append(case.measure(seconds))
    return [
        {
            "bench": "conv",
            "case": case.name,
            "backend": backend,
            "value": statistics.median(values),
            "unit": "images/s",
            "batch": case.batch,
            "variant": case.variant,
            "samples": values,
        }
        for case, values in zip(cases, samples)
    ]


def read_arguments(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5, help="measurements of a case; the median counts")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of one measurement")
    parser.add_argument("--serve", action="store_true", help="measure once for each line of standard input")
    return parser.parse_args()


def main(arguments, backend, about, makers):
    """`makers`: a function of a batch size; variant -> function that makes a runner."""
    images, cases, variants = smooth_images(IMAGES), [], []
    for batch in dict.fromkeys((arguments.batch, 1)):
        best, reports = try_all(makers, batch, images, arguments.seconds)
        cases.append(best)
        variants += reports
    about = {**about, "threads": arguments.threads, "variants": variants}
    if not arguments.serve:
        print(json.dumps({**about, "rows": measure_round(cases, backend, arguments.repeat, arguments.seconds)}))
        return
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        print(json.dumps(measure_round(cases, backend, arguments.repeat, arguments.seconds)), flush=True)
