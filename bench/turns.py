"""What the comparisons of bench/compare share: the machine, programs that take turns, medians, result files."""
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def output(*command):
    """What a command prints; "" when it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def compiler(binary):
    """The compiler of the build tree that the binary lies in."""
    try:
        with open(os.path.join(os.path.dirname(binary), "CMakeCache.txt"), encoding="utf-8") as cache:
            found = re.search(r"^CMAKE_C_COMPILER:\w+=(.*)$", cache.read(), re.M)
    except OSError:
        found = None
    return (output(found.group(1), "--version").splitlines() or ["?"])[0] if found else "?"


def machine(binary):
    fields = dict(line.split(":", 1) for line in output("lscpu").splitlines() if ":" in line)
    flags = set(fields.get("Flags", "").split())
    wanted = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile")
    devices = json.loads(output(binary, "devices", "--json") or "[]")
    return {
        "cpu": fields.get("Model name", platform.processor()).strip(),
        "family_model": f"{fields.get('CPU family', '?').strip()}/{fields.get('Model', '?').strip()}",
        "isa": [flag for flag in wanted if flag in flags],
        "cores": len(os.sched_getaffinity(0)),
        "hypervisor": fields.get("Hypervisor vendor", "none").strip(),
        "system": platform.platform(),
        "compiler": compiler(binary),
        "devices": [f"{device['backend']}: {device['device']}" for device in devices if device["usable"]],
        "commit": output("git", "-C", ROOT, "describe", "--always", "--dirty").strip(),
        "load": os.getloadavg()[0],
    }


def introduction(result):
    """The sentence that a table of results begins with."""
    about = result["machine"]
    return (
        f"Measured {result['date']} by `{result['command']}` in {result['seconds']:.0f} s, load "
        f"{about['load']:.1f} before: {about['cpu']} "
        f"(family/model {about['family_model']}; {', '.join(about['isa'])}), {about['cores']} cores, hypervisor "
        f"{about['hypervisor']}; {about['compiler']}; {'; '.join(about['devices'])}; commit {about['commit']}")


class Program:
    """A program that says what it is in a line of JSON and then measures once for each line that it is sent."""

    def __init__(self, command, environment=None):
        self.command, self.environment = [str(word) for word in command], environment or {}
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, **self.environment})
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.text()} ended; run it by hand, without --serve, to see why")
        return json.loads(line)

    def round(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.read()

    def text(self):
        """The command as it would be typed in the checkout."""
        words = [f"{key}={value}" for key, value in self.environment.items()] + self.command
        return shlex.join(words).replace(ROOT + os.sep, "")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(arguments, bench, threads, *options, environment=None):
    command = [arguments.binary, "bench", bench, "--backend", arguments.backend, "--threads", threads, "--serve"]
    return Program([*command, "--repeat", arguments.repeat, "--data", "cifar10-subset", *options], environment)


def peer(arguments, command, threads, environment=None):
    options = ["--serve", "--threads", threads, "--repeat", arguments.repeat, "--seconds", arguments.seconds]
    limits = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return Program([*command, *options], {**limits, **(environment or {})})


def script(arguments, name):
    """The command of a peer that is a Python program."""
    return [arguments.peer_python, os.path.join(ROOT, "bench", name)]


def take_turns(programs, rounds, label):
    """[round][name] -> rows; the programs are closed at the end."""
    results = []
    for number in range(rounds):
        results.append({name: program.round() for name, program in programs.items()})
        print(f"{label}, round {number + 1} of {rounds}", file=sys.stderr)
    for program in programs.values():
        program.close()
    return results


def rows_of(results, name, case):
    """The rows of a case, one a round; [] when the program has none."""
    return [row for rounds in results for row in rounds.get(name, []) if row["case"] == case]


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def ratio(rows, others):
    """The median of the ratios of neighbouring measurements."""
    return statistics.median(a["value"] / b["value"] for a, b in zip(rows, others))
