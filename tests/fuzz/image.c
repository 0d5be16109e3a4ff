/* JPEG and PNG: the size, and decoding whole, reduced and in part, which must give the pixels of the whole. */
#include "core/data/image.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static unsigned hash(const uint8_t *data, size_t size) {
  unsigned value = 2166136261u;
  for (size_t i = 0; i < size; i++) value = (value ^ data[i]) * 16777619u;
  return value;
}

static unsigned sum_of(const qe_picture *picture, const qe_region *part) {
  unsigned sum = 0;
  FUZZ_REQUIRE(picture->x <= part->x && picture->y <= part->y);
  FUZZ_REQUIRE(picture->x + picture->width >= part->x + part->width);
  FUZZ_REQUIRE(picture->y + picture->height >= part->y + part->height);
  for (int y = part->y; y < part->y + part->height; y++) {
    const uint8_t *row = picture->pixels + (size_t)(y - picture->y) * picture->stride + 3 * (part->x - picture->x);
    for (int i = 0; i < 3 * part->width; i++) sum = sum * 31 + row[i];
  }
  return sum;
}

/* A region somewhere in the image. */
static qe_region choose(unsigned random, int width, int height) {
  qe_region part = {.x = (int)(random % (unsigned)width), .y = (int)(random / 7 % (unsigned)height)};
  part.width = 1 + (int)(random / 59 % (unsigned)(width - part.x));
  part.height = 1 + (int)(random / 997 % (unsigned)(height - part.y));
  return part;
}

static void decode(qe_decoder *decoder, const uint8_t *data, size_t size, const qe_image_info *info, int reduce) {
  qe_picture picture;
  int width = (info->width + reduce - 1) / reduce, height = (info->height + reduce - 1) / reduce;
  qe_region part = choose(hash(data, size), width, height);
  if (qe_image_decode(decoder, data, size, "input", reduce, NULL, &picture) != QE_OK) return;
  FUZZ_REQUIRE(picture.width == width && picture.height == height);
  unsigned whole = sum_of(&picture, &part);
  FUZZ_REQUIRE(qe_image_decode(decoder, data, size, "input", reduce, &part, &picture) == QE_OK);
  FUZZ_REQUIRE(sum_of(&picture, &part) == whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  qe_decoder *decoder;
  qe_image_info info;
  FUZZ_REQUIRE(qe_decoder_new(&decoder) == QE_OK);
  if (qe_image_size(decoder, data, size, "input", &info) == QE_OK) {
    decode(decoder, data, size, &info, 1);
    if (info.reducible) decode(decoder, data, size, &info, 2 << hash(data, size) % 3);
  }
  qe_decoder_free(decoder);
  return 0;
}
