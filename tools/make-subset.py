#!/usr/bin/env python3
"""Make the CIFAR-10 subset built into libqevo from the full set. For development only: its output is kept in the repo.

usage: tools/make-subset.py [CIFAR-10-BATCHES-BIN [DESTINATION]]
       default: ~/.cache/qevo-gpu/cifar-10-batches-bin core/data/subset

Writes cifar10-train.png (10 rows of 100 images) and cifar10-test.png (10 rows of 50): lossless mosaics of 32x32 RGB
images without gaps, row c holding class c. The images of a class are those whose pixels (1024 red, 1024 green,
1024 blue bytes) have the smallest SHA-256, ascending; so the choice does not depend on the order of the files' records.
An image that occurs twice is taken once, and a test image is never one of the training images.
Prints the FNV-1a checksum of the pixels in NHWC order, which tests/test_data.c compares with what the library decodes.
Needs Python's standard library; zopflipng (Debian: zopfli), where there is one, makes the files a little smaller.
"""
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import zlib

CLASSES, SIDE, PLANE = 10, 32, 32 * 32
RECORD = 1 + 3 * PLANE
ROW_BYTES = 3 * SIDE


def read_records(path):
    """Yield (label, planar pixels) of one binary batch file."""
    with open(path, "rb") as file:
        data = file.read()
    if not data or len(data) % RECORD:
        sys.exit(f"{path}: {len(data)} bytes, not a whole number of {RECORD}-byte records")
    for at in range(0, len(data), RECORD):
        yield data[at], data[at + 1:at + RECORD]


def choose(paths, per_class, excluded):
    """Return `per_class` images for each class in turn, by smallest SHA-256, none of them in `excluded`."""
    by_class = [{} for _ in range(CLASSES)]
    for path in paths:
        for label, pixels in read_records(path):
            if pixels not in excluded:
                by_class[label][hashlib.sha256(pixels).digest()] = pixels
    return [images[key] for images in by_class for key in sorted(images)[:per_class]]


def interleave(planar):
    """Planar RGB to height x width x channel."""
    pixels = bytearray(3 * PLANE)
    for channel in range(3):
        pixels[channel::3] = planar[channel * PLANE:(channel + 1) * PLANE]
    return bytes(pixels)


def mosaic_rows(images, columns):
    """Yield the pixel rows of the images laid out `columns` to a row."""
    for first in range(0, len(images), columns):
        for y in range(SIDE):
            yield b"".join(image[y * ROW_BYTES:(y + 1) * ROW_BYTES] for image in images[first:first + columns])


def paeth(row, above):
    """PNG filter 4, which is the smallest on these images for all rows but a few."""
    filtered = bytearray(b"\x04")
    left = bytes(3) + row[:-3]
    corner = bytes(3) + above[:-3]
    for x, a, b, c in zip(row, left, above, corner):
        to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
        filtered.append((x - (a if to_a <= to_b and to_a <= to_c else b if to_b <= to_c else c)) & 255)
    return bytes(filtered)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def write_png(path, images, columns):
    """Write the mosaic as 8-bit RGB without gamma or colour profile: a decoder hands out the very bytes."""
    width, height = columns * SIDE, len(images) // columns * SIDE
    above, lines = bytes(3 * width), []
    for row in mosaic_rows(images, columns):
        lines.append(paeth(row, above))
        above = row
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header))
        file.write(chunk(b"IDAT", zlib.compress(b"".join(lines), 9)) + chunk(b"IEND", b""))
    if shutil.which("zopflipng"):
        subprocess.run(["zopflipng", "-y", "--filters=p", path, path], check=True, stdout=subprocess.DEVNULL)


def fnv1a(data):
    """64-bit FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.expanduser("~/.cache/qevo-gpu/cifar-10-batches-bin")
    destination = sys.argv[2] if len(sys.argv) > 2 else os.path.join(here, "..", "core", "data", "subset")
    train = choose([os.path.join(source, f"data_batch_{n}.bin") for n in range(1, 6)], 100, set())
    test = choose([os.path.join(source, "test_batch.bin")], 50, set(train))
    for name, planar, columns in (("cifar10-train.png", train, 100), ("cifar10-test.png", test, 50)):
        images = [interleave(image) for image in planar]
        path = os.path.join(destination, name)
        write_png(path, images, columns)
        print(f"{name}: {len(images)} images, {os.path.getsize(path)} bytes, FNV-1a {fnv1a(b''.join(images)):016x}")


if __name__ == "__main__":
    main()
