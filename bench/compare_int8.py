"""Integer networks and populations beside int8 in oneDNN, ONNX Runtime and PyTorch.

Each configuration is an instruction set and a number of threads. oneDNN can be held to AVX2, as our kernels can; ONNX
Runtime and PyTorch choose for themselves and are measured beside the best instruction set only.
"""
import os
import subprocess
import sys

import turns

# Of one thread, ratio to oneDNN int8 on the same instruction set.
GOALS = {
    "avx2": {"resnet20-w4a4": 2.6, "resnet20-w2a2": 3.0, "resnet20-w1a1": 6.0, "resnet20-w4a4-b1": 1.0},
    "avx512": {"resnet20-w4a4": 1.5, "resnet20-w4a4-b1": 1.0},
}
TWO_THREADS = 1.9  # times one
FRESH = 0.9  # times the speed of prepacked networks
PEERS = {"onednn": "oneDNN", "onnxruntime": "ONNX Runtime", "pytorch": "PyTorch"}


def sets_of(machine):
    """Instruction sets: (ours, oneDNN's)."""
    sets = {"avx2": "avx2"}
    if {"avx512f", "avx512_vnni"} <= set(machine["isa"]):
        sets["avx512"] = "all"
    return sets


def onednn(arguments):
    """The peer's binary, made in the build tree of ours where it is missing or old."""
    folder = os.path.dirname(arguments.binary)
    build = ["cmake", "--build", folder, "--target", "peer-onednn"]
    if subprocess.run(build, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        sys.exit(f"{' '.join(build)} failed: it needs oneDNN and OpenMP (Debian: libdnnl-dev)")
    return os.path.join(folder, "peer-onednn")


def peers_of(arguments, isa, best, threads, batch):
    """The peers that run here, and why others do not."""
    isa_of_peer = "all" if isa == "avx512" else isa
    command = [onednn(arguments), "--isa", isa_of_peer, "--batch", batch]
    peers, missing = {"onednn": turns.peer(arguments, command, threads)}, {}
    if isa != best:
        return peers, missing
    for name, file, module in (
        ("onnxruntime", "peer_onnxruntime.py", "onnxruntime"),
        ("pytorch", "peer_pytorch_int8.py", "torch"),
    ):
        if turns.output(arguments.peer_python, "-c", f"import {module}; print(1)"):
            peers[name] = turns.peer(arguments, turns.script(arguments, file) + ["--batch", batch], threads)
        else:
            missing[name] = f"{arguments.peer_python} has no {module}"
    return peers, missing


def peer_case(case):
    """The int8 case that one of ours is compared with: the same network, batch and shape."""
    network, _, rest = case.partition("-w")
    return network + "-int8" + ("-b1" if rest.endswith("-b1") else "")


def configurations(arguments):
    sets = [isa for isa in sets_of(arguments.machine) if not arguments.isa or isa in arguments.isa]
    if not sets:
        sys.exit("the machine has none of the instruction sets asked for")
    return [(isa, sets[-1], threads) for isa in sets for threads in arguments.threads]


def measure_one(arguments, bench, isa, best, threads, batch, options):
    programs = {"ours": turns.ours(arguments, bench, threads, *options, environment={"QEVO_CPU_ISA": isa})}
    peers, missing = peers_of(arguments, isa, best, threads, batch)
    programs.update(peers)
    results = turns.take_turns(programs, arguments.rounds, f"{bench}, {isa}, {threads} thread(s)")
    return {
        "isa": isa,
        "threads": threads,
        "peers": {name: program.about for name, program in peers.items()},
        "missing": missing,
        "commands": [program.text() for program in programs.values()],
        "rounds": results,
    }


def conv_summary(run):
    lines = []
    for row in run["rounds"][0]["ours"]:
        case, ours = row["case"], turns.rows_of(run["rounds"], "ours", row["case"])
        line = {
            "case": case,
            "ours": turns.median(ours, "value"),
            "gmacs": turns.median(ours, "gmacs"),
            "peak_percent": turns.median(ours, "peak_percent"),
            "parity": all(row["parity"] for row in ours),
            "goal": GOALS[run["isa"]].get(case) if run["threads"] == 1 else None,
        }
        for name in run["peers"]:
            others = turns.rows_of(run["rounds"], name, peer_case(case))
            if others:
                line[name], line[f"{name}_ratio"] = turns.median(others, "value"), turns.ratio(ours, others)
        lines.append(line)
    return lines


def population_summary(run):
    lines = []
    for row in run["rounds"][0]["ours"]:
        case, ours = row["case"], turns.rows_of(run["rounds"], "ours", row["case"])
        line = {
            "case": case,
            "ours": turns.median(ours, "value"),
            "unit": row["unit"],
            "peak_percent": None if row["peak_percent"] is None else turns.median(ours, "peak_percent"),
            "parity": all(row["parity"] for row in ours),
            "goal": FRESH if case.endswith("-ratio") else None,
        }
        others = turns.rows_of(run["rounds"], "onednn", "resnet20-int8")
        if row["unit"] == "candidate-images/s":
            line["onednn"], line["onednn_ratio"] = turns.median(others, "value"), turns.ratio(ours, others)
        lines.append(line)
    return lines


def add_scaling(runs):
    """What two threads give over one, of every case."""
    for run in runs:
        one = [other for other in runs if other["isa"] == run["isa"] and other["threads"] == 1]
        if not one or run["threads"] != 2:
            continue
        single = {line["case"]: line["ours"] for line in one[0]["summary"]}
        for line in run["summary"]:
            if line.get("unit") != "times":
                line["scaling"] = line["ours"] / single[line["case"]]


class Int8:

    @staticmethod
    def measure(arguments):
        options = ["--batch", arguments.batch or 256, *(["--cases", arguments.cases] if arguments.cases else [])]
        runs = [measure_one(arguments, "conv", *configuration, arguments.batch or 256, options)
                for configuration in configurations(arguments)]
        for run in runs:
            run["summary"] = conv_summary(run)
        add_scaling(runs)
        return runs

    @staticmethod
    def markdown(result):
        text = heading(result) + [
            "Images a second of whole integer networks, from u8 images to logits; GMAC/s counts direct convolution, as "
            "does the peak, a register loop of multiply-adds u8 x s8 in the same run. Cases `-b1` take one image at a "
            "time. Peers are int8 throughout; ratios are ours over theirs.",
            "",
        ]
        columns = ["case", "isa", "threads", "qevo-gpu", "GMAC/s", "of peak", "parity"]
        columns += [column for name in PEERS.values() for column in (name, "ratio")] + ["goal", "to one thread"]
        text += table_head(columns)
        for run in result["runs"]:
            for line in run["summary"]:
                cells = [line["case"], run["isa"], run["threads"], f"{line['ours']:.0f}", f"{line['gmacs']:.0f}"]
                cells += [percent(line), "yes" if line["parity"] else "NO"]
                cells += [part for name in PEERS for part in peer_cells(line, name)] + last_cells(line)
                text.append(table_row(cells))
        return "\n".join(text + variants(result)) + "\n"


class Population:

    @staticmethod
    def measure(arguments):
        batch = arguments.batch or 512
        runs = []
        for isa, _, threads in configurations(arguments):
            runs.append(measure_one(arguments, "population", isa, None, threads, batch, ["--images", batch]))
            runs[-1]["summary"] = population_summary(runs[-1])
        add_scaling(runs)
        return runs

    @staticmethod
    def markdown(result):
        text = heading(result) + [
            "Candidates times images a second. `fresh`: weights that are new in every evaluation; `prepacked`: as many "
            "plain evaluations of networks whose weights were packed before, and `ratio` the first over the second; "
            "`prefix`: candidates that share the layers before stage 3 with a parent; `dropping`: candidates that are "
            "dropped once their loss passes half of the median. Of gains, the per cent are of what the multiply-adds "
            "left out allow. oneDNN evaluates one int8 network, with weights reordered beforehand.",
            "",
        ]
        text += table_head(["case", "isa", "threads", "qevo-gpu", "unit", "of peak", "parity", "oneDNN", "ratio", "goal",
                            "to one thread"])
        for run in result["runs"]:
            for line in run["summary"]:
                digits = 2 if line["unit"] == "times" else 0
                cells = [line["case"], run["isa"], run["threads"], f"{line['ours']:.{digits}f}", line["unit"]]
                cells += [percent(line), "yes" if line["parity"] else "NO", *peer_cells(line, "onednn")]
                text.append(table_row(cells + last_cells(line)))
        return "\n".join(text + variants(result)) + "\n"


# ---- tables ----


def heading(result):
    peers = [about for run in result["runs"] for about in run["peers"].values()]
    versions = dict.fromkeys(f"{name} {about[key]}" for about in peers for key, name in (
        ("onednn", "oneDNN"), ("onnxruntime", "ONNX Runtime"), ("torch", "PyTorch")) if key in about)
    return [f"{turns.introduction(result)}; {', '.join(versions)}.", ""]


def table_row(cells):
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table_head(columns):
    return [table_row(columns), "|" + "---|" * len(columns)]


def percent(line):
    return "-" if line["peak_percent"] is None else f"{line['peak_percent']:.0f} %"


def peer_cells(line, name):
    if name not in line:
        return ["-", "-"]
    return [f"{line[name]:.0f}", f"{line[name + '_ratio']:.2f}x"]


def last_cells(line):
    scaling = f"{line['scaling']:.2f}x (goal {TWO_THREADS}x)" if "scaling" in line else "-"
    return [f"{line['goal']}x" if line["goal"] else "-", scaling]


def variants(result):
    """Every way to run the whole network in a peer that was tried; those of single shapes are in the JSON."""
    text = ["", "Every way that was tried to run the whole network in the peers:", ""]
    text += table_head(["peer", "isa", "threads", "case", "batch", "variant", "images/s"])
    for run in result["runs"]:
        for name, about in run["peers"].items():
            for variant in about["variants"]:
                if not variant["case"].startswith("resnet20"):
                    continue
                rate = variant.get("images_per_second")
                value = variant["failed"] if rate is None else f"{rate:.0f}"
                text.append(table_row([PEERS[name], about.get("isa", run["isa"]), run["threads"], variant["case"],
                                       variant["batch"], variant["variant"], value]))
        text += [f"\n{PEERS[name]}: {why}" for name, why in run["missing"].items()]
    return text
