#!/usr/bin/env python3
"""Ablation of `qevo-gpu train coevolution`: each part on and off, several seeds, equal cost.

The part `local` starts from the directly quantised float network and spends no candidate-image. The others start from
what the stages of --start give with the same seed, and spend the same number of candidate-images each. Rows go to a
JSON file as they come, so that a run that was stopped goes on; the table is written from it.

    bench/ablation.py --out bench/results/coevolution-ablation [--parts local,proposals] [--seeds 1,2,3]
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

LOCAL = ["--stages", "calibrate,local"]
EDA = ("--stages eda --eda-individuals 32 --eda-best 8 --eda-generations 1 --eda-batch 512 --eda-group 3000 "
       "--eda-share 10000 --eda-spread 500 --eda-confident 9990 --eda-rate 4000").split()
EDA_ALL = EDA + "--eda-ladder 8 --eda-mirror --eda-elitism --eda-restart --eda-recentre".split()
VOTES = ["--stages", "votes"]
PLAIN = "not augmented"  # stands for the option left out


def without(options, *names):
    """Options less the named ones, with the values that follow them."""
    kept, skip = [], False
    for word in options:
        if word.startswith("--"):
            skip = word in names
        if not skip:
            kept.append(word)
    return kept


# part: (row, options)
PARTS = {
    "local": [
        ("`calibrate` alone", ["--stages", "calibrate"]),
        ("`calibrate,local`", LOCAL),
        ("without the search of codes", LOCAL + ["--no-local-search"]),
        ("without the fit of requantisers", LOCAL + ["--no-local-fit"]),
        ("without the skip connection's error in the target", LOCAL + ["--no-local-skip-error"]),
        ("without targets that know the clamp", LOCAL + ["--local-clamped", "0"]),
        ("without moves of pairs", LOCAL + ["--no-local-pairs"]),
        ("one step for all channels of an activation", LOCAL + ["--local-channels", "0"]),
        ("each channel its own best step", LOCAL + ["--local-channels", "8"]),
        ("activation steps searched, too", LOCAL + ["--local-steps"]),
        ("256 images", LOCAL + ["--local-images", "256"]),
        ("`local` without `calibrate` before it", ["--stages", "local"]),
    ],
    "proposals": [
        ("`votes` by node perturbation", VOTES),
        ("`votes` by weight perturbation (`signs`)", VOTES + ["--votes-source", "signs"]),
        ("`votes` by integer back-propagation, the rival", VOTES + ["--votes-source", "backprop"]),
        ("`eda`, the paper's", ["--stages", "eda"]),
        ("`eda` with all below", EDA_ALL),
        ("`neighbours`", ["--stages", "neighbours"]),
        ("`layers`: steps, clips, offsets of layers", ["--stages", "layers"]),
        ("`requant`: multipliers and offsets of channels", ["--stages", "requant"]),
    ],
    "fitness": [
        ("labels", VOTES + ["--fitness", "labels"]),
        ("labels, not augmented", VOTES + ["--fitness", "labels", PLAIN]),
        ("teacher, temperature 1", VOTES + ["--temperature", "1"]),
        ("teacher, temperature 4", VOTES),
        ("teacher, temperature 4, not augmented", VOTES + [PLAIN]),
        ("teacher, temperature 16", VOTES + ["--temperature", "16"]),
        ("both, temperature 4", VOTES + ["--fitness", "both"]),
    ],
    "eda": [
        ("all", EDA_ALL),
        ("without slopes (`ladder`)", without(EDA_ALL, "--eda-ladder")),
        ("without mirror images", without(EDA_ALL, "--eda-mirror")),
        ("without elitism", without(EDA_ALL, "--eda-elitism")),
        ("without restarts", without(EDA_ALL, "--eda-restart")),
        ("candidates around the start's codes", without(EDA_ALL, "--eda-recentre")),
        ("racing on three growing batches", EDA_ALL + ["--eda-races", "3"]),
        ("groups that adapt", EDA_ALL + ["--eda-adapt"]),
        ("groups inside a layer", EDA_ALL + ["--eda-group-by", "layer"]),
        ("groups inside a block", EDA_ALL + ["--eda-group-by", "block"]),
        ("no coevolution (`plain`)", EDA_ALL + ["--eda-plain"]),
    ],
}


def run(args, options, folder):
    command = [args.program, "train", "coevolution", "--json", "--out", folder, "--threads", str(args.threads)] + options
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, OMP_WAIT_POLICY="passive"))
    if done.returncode != 0:
        sys.exit("%s\nfailed:\n%s" % (" ".join(command), done.stderr))
    return json.loads(done.stdout)


def start_of(args, seed):
    """The network that the parts after `local` start from, made once a seed."""
    folder = os.path.join(args.work, "%s-%d" % (args.start, seed))
    if not os.path.exists(os.path.join(folder, "result.json")):
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was stopped
        run(args, ["--stages", args.start] + common(args, seed) + quantised(args), folder)
    return os.path.join(folder, "last.safetensors")


def common(args, seed):
    return ["--seed", str(seed), "--fitness", "teacher", "--temperature", "4", "--teacher", args.model]


def quantised(args):
    return ["--init", args.model, "--weight-bits", str(args.bits), "--act-bits", str(args.bits)]


def measure(args, part, options, seed):
    if part == "local":
        before = quantised(args)
    else:
        before = ["--init", start_of(args, seed), "--budget", str(args.budget)]
        before += [] if PLAIN in options else ["--augment"]
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        result = run(args, before + common(args, seed) + [o for o in options if o != PLAIN], os.path.join(folder, "run"))
    return {key: result[key] for key in ("top1", "loss", "start_top1", "start_loss", "held_out_loss",
                                         "start_held_out_loss", "candidate_images", "seconds")}


def spread(values):
    if len(values) < 2:
        return "%.2f" % values[0]
    return "%.2f ± %.2f" % (statistics.mean(values), statistics.stdev(values))


def table(rows, parts):
    lines = []
    for part in parts:
        if not any(r["part"] == part for r in rows):
            continue
        lines += ["", "### " + part, "",
                  "| form | top-1 % | gain | test loss | candidate-images | seconds |", "|---|---|---|---|---|---|"]
        for name, _ in PARTS[part]:
            some = [r for r in rows if r["part"] == part and r["form"] == name]
            if not some:
                continue
            lines.append("| %s | %s | %s | %.4f | %d | %.0f |" % (
                name, spread([r["top1"] for r in some]), spread([r["top1"] - r["start_top1"] for r in some]),
                statistics.mean(r["loss"] for r in some), statistics.median(r["candidate_images"] for r in some),
                statistics.median(r["seconds"] for r in some)))
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/qevo-gpu")
    parser.add_argument("--model", default="models/resnet20-cifar10-float.safetensors")
    parser.add_argument("--bits", type=int, default=2)
    parser.add_argument("--budget", type=int, default=200000, help="candidate-images of a run (default 200,000)")
    parser.add_argument("--start", default="calibrate,local", help="stages whose network the parts but `local` start from")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", default="runs/ablation", help="folder for the starting networks")
    parser.add_argument("--out", required=True, help="rows go to OUT.json, the table to OUT.md")
    args = parser.parse_args()
    parts, seeds = args.parts.split(","), [int(s) for s in args.seeds.split(",")]
    os.makedirs(args.work, exist_ok=True)
    rows = json.load(open(args.out + ".json")) if os.path.exists(args.out + ".json") else []
    known = {(r["part"], r["form"], r["seed"]) for r in rows}
    for seed in seeds:
        for part in parts:
            for name, options in PARTS[part]:
                if (part, name, seed) in known:
                    continue
                row = {"part": part, "form": name, "seed": seed, "bits": args.bits, "options": options}
                rows.append(dict(row, **measure(args, part, options, seed)))
                print("%s, %s, seed %d: %.2f %%" % (part, name, seed, rows[-1]["top1"]), flush=True)
                json.dump(rows, open(args.out + ".json", "w"), indent=1)
                open(args.out + ".md", "w").write(table(rows, PARTS))


if __name__ == "__main__":
    main()
