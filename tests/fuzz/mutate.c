/* Mutations that put checksums right again, so that libFuzzer gets behind them: those of a tar's headers and of a PNG's
 * chunks. Part of libFuzzer's builds only. */
#include "tests/fuzz/fuzz.h"

#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#include <string.h>
#include <zlib.h>

enum { BLOCK = 512, SUM_AT = 148, SUM_BYTES = 8, MAGIC_AT = 257, SIGNATURE = 8, CHUNK = 12 };

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

static void mend_tar(uint8_t *data, size_t size) {
  for (size_t at = 0; at + BLOCK <= size; at += BLOCK) {
    uint8_t *header = data + at;
    char text[SUM_BYTES];
    unsigned sum = 0;
    if (memcmp(header + MAGIC_AT, "ustar", 5) != 0) continue;
    memset(header + SUM_AT, ' ', SUM_BYTES);
    for (int i = 0; i < BLOCK; i++) sum += header[i];
    snprintf(text, sizeof text, "%06o", sum);
    memcpy(header + SUM_AT, text, 7);
  }
}

static void mend_png(uint8_t *data, size_t size) {
  if (size < SIGNATURE || memcmp(data, "\x89PNG\r\n\x1a\n", SIGNATURE) != 0) return;
  for (size_t at = SIGNATURE; at + CHUNK <= size;) {
    size_t bytes = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 | (size_t)data[at + 2] << 8 | data[at + 3];
    if (bytes > size - at - CHUNK) return;
    uint32_t crc = (uint32_t)crc32(0, data + at + 4, (uInt)bytes + 4);
    for (int i = 0; i < 4; i++) data[at + 8 + bytes + i] = (uint8_t)(crc >> (24 - 8 * i));
    at += CHUNK + bytes;
  }
}

/* One of eight is left as it came: wrong checksums are cases too. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
  size = LLVMFuzzerMutate(data, size, most);
  if (seed % 8 == 0) return size;
  mend_tar(data + QE_FUZZ_SKIP, size > QE_FUZZ_SKIP ? size - QE_FUZZ_SKIP : 0);
  mend_png(data, size);
  return size;
}
#endif
