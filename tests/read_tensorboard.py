"""Reads the event files of run folders with TensorBoard's own reader: the scalars are those of metrics.jsonl, no step
comes twice, histograms count every weight. usage: read_tensorboard.py RUN..."""
import json
import os
import sys

from tensorboard.backend.event_processing import event_accumulator

ALL = dict.fromkeys(("scalars", "histograms", "tensors"), 0)


def read(run):
    reader = event_accumulator.EventAccumulator(run, size_guidance=ALL, purge_orphaned_data=False)
    reader.Reload()
    return reader


def steps(events):
    return [event.step for event in events]


def close(a, b):
    return abs(a - b) <= 1e-5 * max(abs(a), abs(b))


def check_scalars(run, reader, lines):
    """Each (tag, key): the values in the order of the lines that have the key."""
    pairs = {
        "loss/train": "train_loss", "top1/train": "train_top1", "loss/test": "test_loss", "top1/test": "test_top1",
        "loss/running": "running_train_loss", "search/best": "best", "search/mean": "mean",
        "images_per_second": "images_per_second",
    }
    found = 0
    for tag, key in pairs.items():
        wanted = [line[key] for line in lines if key in line]
        if not wanted:
            continue
        got = [event.value for event in reader.Scalars(tag)]
        assert len(got) == len(wanted), f"{run}: {tag} has {len(got)} values, metrics.jsonl {len(wanted)}"
        assert all(map(close, got, wanted)), f"{run}: {tag}: {got} {wanted}"
        found += 1
    assert found >= 2, f"{run}: {found} of the scalars"


def main(runs):
    for run in runs:
        reader = read(run)
        with open(os.path.join(run, "metrics.jsonl"), encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        check_scalars(run, reader, lines)
        tags = reader.Tags()
        search = "search/best" in tags["scalars"]
        for tag in tags["scalars"]:
            at = steps(reader.Scalars(tag))
            assert at == sorted(at) and (search or len(set(at)) == len(at)), f"{run}: {tag}: steps {at}"
        assert any(tag.startswith("codes/") for tag in tags["histograms"]), f"{run}: no codes in {tags}"
        for tag in tags["histograms"]:
            for event in reader.Histograms(tag):
                value = event.histogram_value
                assert sum(value.bucket) == value.num > 0 and len(value.bucket) == len(value.bucket_limit), (run, tag)
                assert value.min < value.max == value.bucket_limit[-1], (run, tag)
        print(f"  {run}: {len(tags['scalars'])} scalars, {len(tags['histograms'])} histograms")


main(sys.argv[1:])
