/* The integer network's plain ops, exact; contracts in cpu_ref/integer.c. */
#include "kernels_cl/index.h"

/* Codes one by one, or four at once (p.each counts fours then); sign: what makes s8 of u8 less 128. */
#define GATHER(name, type, sign)                                                                                       \
  KERNEL(name)(BUFFER(images), BUFFER(index), BUFFER(x), BUFFER(fault), const qk_params_images p) {                    \
    OPERAND(const type, images);                                                                                       \
    OPERAND(const int, index);                                                                                         \
    OPERAND(type, x);                                                                                                  \
    OPERAND(int, fault);                                                                                               \
    ulong each = (ulong)p.each, count = each * (ulong)p.count;                                                         \
    for (ulong i = flat_start(); i < count; i += flat_stride()) {                                                      \
      ulong at, n = qk_split(i, each, &at);                                                                            \
      int image = index[n];                                                                                            \
      if (image < 0 || image >= p.images) {                                                                            \
        if (at == 0) qk_report(fault, p.op, (int)n, image);                                                            \
        x[i] = 0;                                                                                                      \
      } else {                                                                                                         \
        x[i] = images[(ulong)image * each + at] ^ sign;                                                                \
      }                                                                                                                \
    }                                                                                                                  \
  }
GATHER(qk_int_gather, uchar, 0x80)
GATHER(qk_int_gather_four, uint, 0x80808080u)

/* ---- requantisers ---- */

/* Adds in 32 bits where that is proven to do: unsigned, since an intermediate sum may wrap around. */
DEVICE int requantised(const qk_params_requant p, int v, int m, int u, int n, long offset) {
  if (p.narrow) {
    int code = (int)((uint)v * (uint)m + (uint)u * (uint)n + (uint)(int)offset) >> p.shift;
    return code < p.low ? p.low : code > p.high ? p.high : code;
  }
  long code = ((long)v * m + (long)u * n + offset) >> p.shift;
  return (int)(code < p.low ? p.low : code > p.high ? p.high : code);
}

/* Four values from place i, a multiple of 4. */
DEVICE void load_four(GLOBAL const uchar *memory, int type, ulong i, int *four) {
  if (type == QK_TYPE_S32) {
    for (int k = 0; k < 4; k++) four[k] = ((GLOBAL const int *)memory)[i + (ulong)k];
    return;
  }
  uint word = ((GLOBAL const uint *)memory)[i >> 2];
  for (int k = 0; k < 4; k++) {
    uint code = word >> (8 * k) & 255;
    four[k] = type == QK_TYPE_U8 ? (int)code : (int)(code ^ 128) - 128;
  }
}

DEVICE void store_four(GLOBAL uchar *memory, int type, ulong i, const int *four) {
  if (type == QK_TYPE_S32)
    for (int k = 0; k < 4; k++) ((GLOBAL int *)memory)[i + (ulong)k] = four[k];
  else
    ((GLOBAL uint *)memory)[i >> 2] =
        ((uint)four[0] & 255) | ((uint)four[1] & 255) << 8 | ((uint)four[2] & 255) << 16 | (uint)four[3] << 24;
}

/* Results i...i+3; two: there is a second branch. */
DEVICE void requant_four(const qk_params_requant p, GLOBAL const uchar *v, GLOBAL const int *m, int two,
                         GLOBAL const uchar *u, GLOBAL const int *n, GLOBAL const long *offset, GLOBAL uchar *y,
                         ulong i) {
  ulong at, c, first = qk_split(i, (ulong)p.each, &at) * (ulong)p.channels;
  int a[4], b[4] = {0, 0, 0, 0};
  (void)qk_split(at, (ulong)p.channels, &c);
  load_four(v, p.v_type, p.v_shared ? at : i, a);
  if (two) load_four(u, p.u_type, p.u_shared ? at : i, b);
  for (int k = 0; k < 4; k++) {
    a[k] = requantised(p, a[k], m[first + c], b[k], two ? n[first + c] : 0, offset[first + c]);
    c = c + 1 == (ulong)p.channels ? 0 : c + 1;
  }
  store_four(y, p.y_type, i, a);
}

DEVICE void requant_one(const qk_params_requant p, GLOBAL const uchar *v, GLOBAL const int *m, int two,
                        GLOBAL const uchar *u, GLOBAL const int *n, GLOBAL const long *offset, GLOBAL uchar *y,
                        ulong i) {
  ulong at, c, k = qk_split(i, (ulong)p.each, &at) * (ulong)p.channels;
  (void)qk_split(at, (ulong)p.channels, &c);
  k += c;
  int a = qk_code(v, p.v_type, p.v_shared ? at : i), b = two ? qk_code(u, p.u_type, p.u_shared ? at : i) : 0;
  qk_store_code(y, p.y_type, i, requantised(p, a, m[k], b, two ? n[k] : 0, offset[k]));
}

/* Every value; `two`: with u and n, which are any memory of the type otherwise. */
DEVICE void requant_all(const qk_params_requant p, GLOBAL const uchar *v, GLOBAL const int *m, int two,
                        GLOBAL const uchar *u, GLOBAL const int *n, GLOBAL const long *offset, GLOBAL uchar *y) {
  ulong unit = (ulong)p.unit;
  for (ulong i = flat_start() * unit; i < (ulong)p.count; i += flat_stride() * unit) {
    if (unit == 4)
      requant_four(p, v, m, two, u, n, offset, y, i);
    else
      requant_one(p, v, m, two, u, n, offset, y, i);
  }
}

KERNEL(qk_int_requant)(BUFFER(v), BUFFER(m), BUFFER(offset), BUFFER(y), const qk_params_requant p) {
  OPERAND(const uchar, v);
  OPERAND(const int, m);
  OPERAND(const long, offset);
  OPERAND(uchar, y);
  requant_all(p, v, m, 0, v, m, offset, y);
}

KERNEL(qk_int_requant_add)
(BUFFER(v), BUFFER(m), BUFFER(u), BUFFER(n), BUFFER(offset), BUFFER(y), const qk_params_requant p) {
  OPERAND(const uchar, v);
  OPERAND(const int, m);
  OPERAND(const uchar, u);
  OPERAND(const int, n);
  OPERAND(const long, offset);
  OPERAND(uchar, y);
  requant_all(p, v, m, 1, u, n, offset, y);
}

/* ---- packing: a work-item does a word of eight fields, as core/base/pack.c ---- */

/* Fields of word `word` of a candidate, and the bytes that they take. */
DEVICE int fields_of(const qk_params_pack p, ulong word) {
  ulong left = (ulong)p.each - 8 * word;
  return left < 8 ? (int)left : 8;
}

KERNEL(qk_int_pack)(BUFFER(codes), BUFFER(packed), const qk_params_pack p) {
  OPERAND(const schar, codes);
  OPERAND(uchar, packed);
  uint mask = (1u << p.bits) - 1;
  for (ulong i = flat_start(); i < (ulong)(p.words * p.candidates); i += flat_stride()) {
    ulong word, candidate = qk_split(i, (ulong)p.words, &word), fields = 0;
    GLOBAL const schar *from = codes + candidate * (ulong)p.each + 8 * word;
    GLOBAL uchar *to = packed + candidate * (ulong)p.bytes + word * (ulong)p.bits;
    int count = fields_of(p, word);
    for (int k = 0; k < count; k++)
      fields |= (ulong)((uint)(from[k] - p.low) >> (p.spacing - 1) & mask) << (k * p.bits);
    for (int byte = 0; byte < (count * p.bits + 7) / 8; byte++) to[byte] = (uchar)(fields >> (8 * byte));
  }
}

KERNEL(qk_int_unpack)(BUFFER(packed), BUFFER(codes), const qk_params_pack p) {
  OPERAND(const uchar, packed);
  OPERAND(schar, codes);
  uint mask = (1u << p.bits) - 1;
  for (ulong i = flat_start(); i < (ulong)(p.words * p.candidates); i += flat_stride()) {
    ulong word, candidate = qk_split(i, (ulong)p.words, &word), fields = 0;
    GLOBAL const uchar *from = packed + candidate * (ulong)p.bytes + word * (ulong)p.bits;
    GLOBAL schar *to = codes + candidate * (ulong)p.each + 8 * word;
    int count = fields_of(p, word);
    for (int byte = 0; byte < (count * p.bits + 7) / 8; byte++) fields |= (ulong)from[byte] << (8 * byte);
    for (int k = 0; k < count; k++) {
      uint field = (uint)(fields >> (k * p.bits)) & mask;
      to[k] = (schar)(uchar)(p.low + p.spacing * (int)field);
    }
  }
}
