"""Training steps beside PyTorch."""
import turns

GOALS = {"resnet20-float": 1.5, "resnet20-w4a4": 3.0}


def summarize(results, threads):
    """A line a case: medians, and the median of the ratios of neighbouring measurements."""
    lines = []
    for case, goal in GOALS.items():
        ours = turns.rows_of(results, "ours", case)
        line = {
            "case": case,
            "threads": threads,
            "ours": turns.median(ours, "value"),
            "peak_percent": turns.median(ours, "peak_percent"),
            "parity": all(row["parity"] for row in ours),
            "goal": goal,
        }
        for mode in ("eager", "compiled"):
            rows = [row for row in turns.rows_of(results, "peer", case) if row["backend"].endswith(mode)]
            if not rows:
                continue
            line[mode] = turns.median(rows, "value")
            line[f"{mode}_variant"] = rows[0]["variant"]
            line[f"{mode}_ratio"] = turns.ratio(ours, rows)
        lines.append(line)
    return lines


def measure_threads(arguments, threads):
    programs = {
        "ours": turns.ours(arguments, "train", threads),
        "peer": turns.peer(arguments, turns.script(arguments, "peer_pytorch.py"), threads),
    }
    results = turns.take_turns(programs, arguments.rounds, f"{threads} thread(s)")
    return {
        "threads": threads,
        "summary": summarize(results, threads),
        "peer": programs["peer"].about,
        "commands": [program.text() for program in programs.values()],
        "rounds": results,
    }


def measure(arguments):
    return [measure_threads(arguments, threads) for threads in arguments.threads]


def cell(line, mode):
    if mode not in line:
        return "does not run | -"
    return f"{line[mode]:.0f} ({line[mode + '_variant']}) | {line[mode + '_ratio']:.2f}x"


def markdown(result):
    peer = result["runs"][0]["peer"]
    text = [
        f"{turns.introduction(result)}; PyTorch {peer['torch']} ({', '.join([peer['capability'], *peer['config']])}).",
        "",
        "Images a second of whole training steps, batch 128; ratios are ours over PyTorch's.",
        "",
        "| case | threads | qevo-gpu | of peak | parity | PyTorch eager | ratio | PyTorch compiled | ratio | goal |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in result["runs"]:
        for line in run["summary"]:
            text.append(
                f"| {line['case']} | {line['threads']} | {line['ours']:.0f} | {line['peak_percent']:.0f} % | "
                f"{'yes' if line['parity'] else 'NO'} | {cell(line, 'eager')} | {cell(line, 'compiled')} | "
                f"{line['goal']:.1f}x |")
    text += ["", "Every way that was tried to run it in PyTorch:", ""]
    text += ["| case | variant | " + " | ".join(f"{run['threads']} thread(s)" for run in result["runs"]) + " |"]
    text += ["|---|---|" + "---|" * len(result["runs"])]
    for at, variant in enumerate(peer["variants"]):
        row = [run["peer"]["variants"][at] for run in result["runs"]]
        values = [f"{v['images_per_second']:.0f}" if "images_per_second" in v else v["failed"] for v in row]
        text.append(f"| {variant['case']} | {variant['variant']} | " + " | ".join(values) + " |")
    return "\n".join(text) + "\n"
