/* CRC-32C, eight bytes a step: Kounavis and Berry, "A systematic approach to building high performance software-based
 * CRC generators", ISCC 2005 ("slicing by 8"). */
#include "core/base/crc32c.h"

#include <pthread.h>

enum { SLICES = 8 };
static uint32_t table[SLICES][256]; /* of a byte that k further bytes follow */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_table(void) {
  const uint32_t reflected = 0x82F63B78u;
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? reflected : 0);
    table[0][i] = crc;
  }
  for (int k = 1; k < SLICES; k++)
    for (uint32_t i = 0; i < 256; i++) table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
}

uint32_t qe_crc32c(uint32_t before, const void *data, size_t bytes) {
  const unsigned char *at = data;
  uint32_t crc = ~before;
  pthread_once(&once, fill_table);
  for (; bytes >= SLICES; bytes -= SLICES, at += SLICES) {
    crc ^= (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^
          table[3][at[4]] ^ table[2][at[5]] ^ table[1][at[6]] ^ table[0][at[7]];
  }
  for (; bytes > 0; bytes--) crc = crc >> 8 ^ table[0][(crc ^ *at++) & 255];
  return ~crc;
}
