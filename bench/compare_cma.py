#!/usr/bin/env python3
"""CMA-ES of core/search beside pycma: evaluations until a function's value falls below a target.

usage: bench/compare_cma.py [--library build/release/libqevo.so] [--seeds 21] [--functions sphere,...] [--out FOLDER]
                            [--peer-from FILE.json]   take pycma's part of a row from an earlier result where it has it

Needs numpy and cma (pycma). Both search the same Python function from the same start and step size, with the same
population; a run that stops by itself or uses up its evaluations has missed. Writes FOLDER/cma-DATE-MACHINE.md and .json.
"""
import argparse
import ctypes
import datetime
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings

import numpy

warnings.filterwarnings("ignore")
import cma  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MARGIN, ROUND = 0, 1


class Variable(ctypes.Structure):
    _fields_ = [(name, ctypes.c_double) for name in ("start", "spread", "low", "high")] + [("integer", ctypes.c_bool)]


class Options(ctypes.Structure):
    _fields_ = [
        ("sigma", ctypes.c_double), ("population", ctypes.c_int32), ("diagonal", ctypes.c_bool),
        ("passive", ctypes.c_bool), ("integers", ctypes.c_int), ("margin", ctypes.c_double),
        ("restarts", ctypes.c_int), ("runs", ctypes.c_int32), ("seed", ctypes.c_uint64),
    ]


def sphere(x):
    return float(x @ x)


def ellipsoid(x):
    return float((10 ** (6 * numpy.arange(len(x)) / (len(x) - 1))) @ (x * x))


def int_ellipsoid(x):
    """Condition 10^4: with 10^6 a step of one variable hides all others for most of the search."""
    return float((10 ** (4 * numpy.arange(len(x)) / (len(x) - 1))) @ (x * x))


def rosenbrock(x):
    return float(numpy.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2))


def rastrigin(x):
    return float(10 * len(x) + numpy.sum(x * x - 10 * numpy.cos(2 * math.pi * x)))


# name: function, start's range, step size, target, evaluations for n, population for n (0: default), integers of n
REAL = {
    "sphere": (sphere, (1, 5), 2.0, 1e-10, lambda n: 2000 * n, lambda n: 0),
    "ellipsoid": (ellipsoid, (1, 5), 2.0, 1e-10, lambda n: 20000 * n, lambda n: 0),
    "rosenbrock": (rosenbrock, (-1, 1), 0.5, 1e-10, lambda n: 30000 * n, lambda n: 0),
    "rastrigin": (rastrigin, (1, 5), 2.0, 1e-8, lambda n: 40000 * n, lambda n: 20 * n),
}
INTEGER = {
    "sphere, all integer": (sphere, 1),
    "sphere, half integer": (sphere, 2),
    "ellipsoid, all integer": (int_ellipsoid, 1),
    "ellipsoid, half integer": (int_ellipsoid, 2),
    "rosenbrock, all integer": (rosenbrock, 1),
    "rastrigin, half integer": (rastrigin, 2),
}


def ours(library, problem, seed, integers=MARGIN, diagonal=False):
    """Evaluations until the target, or None."""
    function, start, sigma, target, limit, population, whole = problem
    n = len(start)
    bound = (-20.0, 20.0)
    variables = (Variable * n)(*[
        Variable(start[i], 0, *(bound if i < whole else (-math.inf, math.inf)), i < whole) for i in range(n)])
    options = Options(sigma, population, diagonal, False, integers, 0, 0, 0, seed)
    handle, count, rows = ctypes.c_void_p(), ctypes.c_int32(), ctypes.POINTER(ctypes.c_double)()
    if library.qe_cma_new(n, variables, ctypes.byref(options), ctypes.byref(handle)) != 0:
        sys.exit(library.qe_message().decode())
    used, found = 0, None
    while found is None and used < limit and library.qe_cma_stopped(handle) == 0:
        library.qe_cma_ask(handle, ctypes.byref(rows), ctypes.byref(count))
        points = numpy.ctypeslib.as_array(rows, (count.value, n))
        values = (ctypes.c_double * count.value)(*[function(x) for x in points])
        used += count.value
        if min(values) < target:
            found = used
        elif library.qe_cma_tell(handle, values) != 0:
            sys.exit(library.qe_message().decode())
    library.qe_cma_free(handle)
    return found


def peer(problem, seed, rounded=False, diagonal=False):
    function, start, sigma, target, limit, population, whole = problem
    options = {"seed": seed + 1, "verbose": -9, "maxfevals": limit}
    if population:
        options["popsize"] = population
    if diagonal:
        options["CMA_diagonal"] = True
    if whole:
        n = len(start)
        options["bounds"] = [[-20.5] * whole + [None] * (n - whole), [20.5] * whole + [None] * (n - whole)]
        if not rounded:
            options["integer_variables"] = list(range(whole))
    search = cma.CMAEvolutionStrategy(start, sigma, options)
    while not search.stop():
        points = search.ask()
        values = []
        for x in points:
            x = numpy.array(x)
            x[:whole] = numpy.round(x[:whole])
            values.append(function(x))
        if min(values) < target:
            return search.countevals + len(points)
        search.tell(points, values)
    return None


def start_of(n, span, seed, integer=0):
    x = numpy.random.default_rng(1000 + seed).uniform(*span, n)
    x[:integer] = numpy.round(x[:integer])
    return [float(v) for v in x]


def summary(runs):
    hits = [r for r in runs if r is not None]
    return {"hits": len(hits), "of": len(runs), "median": statistics.median(hits) if hits else None, "runs": runs}


def show(s):
    return f"{s['median']:.0f} ({s['hits']}/{s['of']})" if s["hits"] else f"- (0/{s['of']})"


def ratio(a, b):
    return f"{a['median'] / b['median']:.2f}" if a["hits"] and b["hits"] else "-"


def known(arguments, name, n, key, measure):
    """What an earlier result has for pycma, or the measurement."""
    for row in arguments.earlier:
        if (row["name"], row["n"]) == (name, n) and row[key]["of"] == arguments.seeds:
            return row[key]
    return summary(measure())


def real_rows(library, arguments, wanted):
    for diagonal in (False, True):
        for name, (function, span, sigma, target, limit, population) in REAL.items():
            for n in arguments.sizes:
                if name not in wanted or (diagonal and name not in ("sphere", "ellipsoid")):
                    continue
                problems = [(function, start_of(n, span, s), sigma, target, limit(n), population(n), 0)
                            for s in range(arguments.seeds)]
                title = name + (", diagonal" if diagonal else "")
                a = summary([ours(library, p, s, diagonal=diagonal) for s, p in enumerate(problems)])
                b = known(arguments, title, n, "pycma",
                          lambda: [peer(p, s, diagonal=diagonal) for s, p in enumerate(problems)])
                yield {"name": title, "n": n, "population": population(n), "ours": a, "pycma": b}


def integer_rows(library, arguments, wanted):
    for name, (function, share) in INTEGER.items():
        for n in arguments.sizes:
            if name.split(",")[0] not in wanted or n > 20:
                continue
            whole = n // share
            span, sigma = ((5, 15), 3.0) if function is not rosenbrock else ((-5, 5), 3.0)
            target, population = (1e-10, 0) if function is not rastrigin else (1e-8, 20 * n)
            limit = 2000 * n if function is not rastrigin else 10000 * n
            problems = [(function, start_of(n, span, s, whole), sigma, target, limit, population, whole)
                        for s in range(arguments.seeds)]
            seeds = list(enumerate(problems))
            yield {"name": name, "n": n, "population": population,
                   "ours": summary([ours(library, p, s) for s, p in seeds]),
                   "ours_rounded": summary([ours(library, p, s, ROUND) for s, p in seeds]),
                   "pycma": known(arguments, name, n, "pycma", lambda: [peer(p, s) for s, p in seeds]),
                   "pycma_rounded": known(arguments, name, n, "pycma_rounded",
                                          lambda: [peer(p, s, rounded=True) for s, p in seeds])}


def write(arguments, rows, seconds):
    machine = subprocess.run(["lscpu"], capture_output=True, text=True, check=False).stdout
    model = next((line.split(":")[1].strip() for line in machine.splitlines() if "Model name" in line), platform.machine())
    commit = subprocess.run(["git", "-C", TOP, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    today = datetime.date.today().isoformat()
    command = "bench/compare_cma.py " + " ".join(sys.argv[1:])
    lines = [
        f"Measured {today} by `{command.strip()}` in {seconds:.0f} s: {model}; commit {commit.stdout.strip()}; "
        f"pycma {cma.__version__}, numpy {numpy.__version__}.", "",
        f"Median evaluations until the target, of {arguments.seeds} seeds (how many got there). Same function, start, "
        "step size and population (default 4 + 3 ln n; rastrigin 20 n) for all. Targets 1e-10, rastrigin 1e-8.", "",
        "| function | n | qevo-gpu | pycma | ratio |", "|---|---|---|---|---|"]
    for r in rows:
        if "pycma_rounded" not in r:
            lines.append(f"| {r['name']} | {r['n']} | {show(r['ours'])} | {show(r['pycma'])} | {ratio(r['ours'], r['pycma'])} |")
    lines += ["", "Integers -20...20 (the first half of the variables, or all), start 5...15; ellipsoid of condition 10^4; "
              "rosenbrock from -5...5. Rounded: the search knows nothing of integers.", "",
              "| function | n | margin | rounded | pycma | pycma, rounded | ratio to pycma |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        if "pycma_rounded" in r:
            lines.append(f"| {r['name']} | {r['n']} | {show(r['ours'])} | {show(r['ours_rounded'])} | {show(r['pycma'])} | "
                         f"{show(r['pycma_rounded'])} | {ratio(r['ours'], r['pycma'])} |")
    base = os.path.join(arguments.out, f"cma-{today}-{'-'.join(model.lower().split()[:2])}")
    with open(base + ".md", "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    with open(base + ".json", "w", encoding="utf-8") as file:
        json.dump({"command": command, "machine": model, "rows": rows}, file, separators=(",", ":"))
        file.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--library", dest="binary", default=os.path.join(TOP, "build/release/libqevo.so"))
    parser.add_argument("--seeds", type=int, default=21)
    parser.add_argument("--sizes", default="5,10,20,40")
    parser.add_argument("--functions", default=",".join(REAL))
    parser.add_argument("--peer-from")
    parser.add_argument("--kinds", default="real,integer")
    parser.add_argument("--out", default=os.path.join(TOP, "bench/results"))
    arguments = parser.parse_args()
    arguments.earlier = []
    if arguments.peer_from:
        with open(arguments.peer_from, encoding="utf-8") as file:
            arguments.earlier = json.load(file)["rows"]
    arguments.sizes = [int(n) for n in arguments.sizes.split(",")]
    library = ctypes.CDLL(os.path.abspath(arguments.binary))
    library.qe_message.restype = ctypes.c_char_p
    rows, begin, wanted = [], time.monotonic(), arguments.functions.split(",")
    for kind, make in (("real", real_rows), ("integer", integer_rows)):
        if kind not in arguments.kinds.split(","):
            continue
        for row in make(library, arguments, wanted):
            rows.append(row)
            parts = {k: show(v) for k, v in row.items() if isinstance(v, dict)}
            print(row["name"], row["n"], parts, ratio(row["ours"], row["pycma"]), flush=True)
            write(arguments, rows, time.monotonic() - begin)  # a run that is cut short leaves what it has


if __name__ == "__main__":
    main()
