#!/usr/bin/env python3
"""Accuracy of progressive quantisation and distillation beside direct training: one row a method, each with the same
network, start, epochs in all and seed.

Rows go to OUT.json as they come, the tables to OUT.md. The same command goes on where it was stopped, in the middle of
a run too; several, one for each set, may work at a time.

    bench/methods.py SET... --out OUT [--epochs 6] [--seeds 1] [--precision bf16] [--threads 1]

Sets: resnet20-w2a2 resnet20-w4a4 preresnet20-w2a2, the last with --init a float PreResNet-20, for instance of
`qevo-gpu train qat --config recipes/resnet20-cifar10-float.yaml --model preresnet20 --epochs 16`.
"""
import argparse
import fcntl
import json
import os
import statistics
import subprocess
import sys

FROZEN = "--distill frozen --distill-temperature 4 --distill-weight 0.7 --distill-labels 0.3".split()
STOCHASTIC = "--stochastic block --stochastic-start 0.5 --stochastic-until 0.5".split()
STAGES = {"w2a2": "w2a32,w2a4,w2a2", "w4a4": "w4a32,w4a8,w4a4"}


def staged(epochs):
    """Epochs of three stages, half of them for the last one."""
    first = max(1, round(epochs / 3))
    second = max(1, epochs // 2 - first)
    return "%d,%d,%d" % (first, second, epochs - first - second)


def rows_of(chosen, epochs):
    """(row, recipe, options) of a set."""
    network, bits = chosen.rsplit("-", 1)
    name = "%s-cifar10-%s" % (network, bits)
    everything = ["--progressive-stages", STAGES[bits], "--progressive-epochs", staged(epochs)] + STOCHASTIC + FROZEN
    return [
        ("direct", name + "-qat", []),
        ("two-stage", name + "-progressive-two-stage", []),
        ("progressive precision", name + "-progressive", []),
        ("stochastic precision", name + "-stochastic", []),
        ("distillation, frozen", name + "-qat", FROZEN),
        ("distillation, joint", name + "-qat", ["--distill", "joint"]),
        ("all", name + "-progressive", everything),
    ]


def train(args, folder, command):
    if os.path.exists(os.path.join(folder, "result.json")):
        command = []
    elif os.path.exists(os.path.join(folder, "state.json")):
        command = ["--resume", folder]
    else:
        command += ["--out", folder, "--threads", str(args.threads), "--precision", args.precision]
    if command:
        with open(folder + ".log", "a", encoding="utf-8") as log:
            done = subprocess.run([args.program, "train"] + command, stdout=log, stderr=log, check=False,
                                  env=dict(os.environ, OMP_WAIT_POLICY="passive"))
        if done.returncode != 0:
            sys.exit("train %s failed: see %s.log" % (" ".join(command), folder))
    with open(os.path.join(folder, "result.json"), encoding="utf-8") as result:
        return json.load(result)


def evaluate(args, folder, *how):
    """Score of the run's last model: in fp32, whatever precision it was trained in, or as an integer network."""
    done = subprocess.run([args.program, "eval", os.path.join(folder, "last.safetensors"), "--json", "--threads",
                           str(args.threads), *how], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit("eval %s failed: %s" % (folder, done.stderr))
    return json.loads(done.stdout)


def spread(values):
    return "%.2f" % statistics.mean(values) + (" ± %.2f" % statistics.stdev(values) if len(values) > 1 else "")


def table(rows):
    lines = []
    for chosen, epochs in sorted({(row["set"], row["epochs"]) for row in rows}):
        of_set = [row for row in rows if (row["set"], row["epochs"]) == (chosen, epochs)]
        lines += ["", "### %s, %d epochs" % (chosen, epochs), "",
                  "| | top-1 % | as an integer network | test loss | seeds |", "|---|---|---|---|---|"]
        for name in dict.fromkeys(row["row"] for row in of_set):
            same = [row for row in of_set if row["row"] == name]
            lines.append("| %s | %s | %s | %.4f | %s |" % (
                name, spread([row["top1"] for row in same]), spread([row["integer_top1"] for row in same]),
                statistics.mean(row["loss"] for row in same), ", ".join(str(row["seed"]) for row in same)))
    return "\n".join(lines) + "\n"


def add(out, row):
    """The file is shared with other sets' processes."""
    with open(out + ".json", "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        rows = (json.loads(text) if text else []) + [row]
        file.seek(0)
        file.truncate()
        json.dump(rows, file, indent=1)
        file.write("\n")
        with open(out + ".md", "w", encoding="utf-8") as page:
            page.write(table(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="SET")
    parser.add_argument("--program", default="build/release/qevo-gpu")
    parser.add_argument("--init", default="models/resnet20-cifar10-float.safetensors")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--rows", default="", help="only these, with commas between")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", default="runs/methods")
    parser.add_argument("--out", required=True, help="rows go to OUT.json, tables to OUT.md")
    args = parser.parse_args()
    os.makedirs(args.work, exist_ok=True)
    for chosen in args.sets:
        if chosen.rsplit("-", 1)[-1] not in STAGES:
            parser.error("no set %s" % chosen)
        for seed in args.seeds.split(","):
            for name, recipe, options in rows_of(chosen, args.epochs):
                if args.rows and name not in args.rows.split(","):
                    continue
                folder = "%s-%d-%s-%s" % (chosen, args.epochs, name.replace(",", "").replace(" ", "-"), seed)
                shared = ["--init", args.init, "--epochs", str(args.epochs), "--seed", seed]
                known = os.path.exists(args.out + ".json") and folder in open(args.out + ".json", encoding="utf-8").read()
                if known:
                    continue
                path = os.path.join(args.work, folder)
                result = train(args, path, [recipe] + shared + options)
                real, integer = evaluate(args, path), evaluate(args, path, "--integer")
                add(args.out, {"run": folder, "set": chosen, "row": name, "seed": int(seed), "epochs": args.epochs,
                               "recipe": recipe, "options": options, "precision": args.precision,
                               "threads": args.threads, "backend": result["backend"], "top1": real["top1"],
                               "loss": real["loss"], "integer_top1": integer["top1"], "integer_loss": integer["loss"],
                               "trained_as": {key: result.get(key) for key in
                                              ("top1", "loss", "integer_top1", "integer_loss")}})
                print("%s: %.2f %%" % (folder, real["top1"]), flush=True)


if __name__ == "__main__":
    main()
