/* Index arithmetic, words of four values, codes of a type that is known at run time. */
#ifndef QK_INDEX_H
#define QK_INDEX_H

/* Four values that move at once: at places that are multiples of 16 bytes. */
typedef struct __attribute__((aligned(16))) qk_uints {
  uint of[4];
} qk_uints;
typedef struct __attribute__((aligned(16))) qk_floats {
  float of[4];
} qk_floats;

/* i / d, with what is left in *rest; in 32 bits where they do, since 64-bit divisions are slow on GPUs. */
DEVICE ulong qk_split(ulong i, ulong d, ulong *rest) {
  if (((i | d) >> 32) == 0) {
    uint quotient = (uint)i / (uint)d;
    *rest = (uint)i - quotient * (uint)d;
    return quotient;
  }
  ulong quotient = i / d;
  *rest = i - quotient * d;
  return quotient;
}

/* Place of output i of a map [images, height, width, channels]; the images may be those of all candidates. */
typedef struct qk_place {
  ulong image, c;
  int row, column;
} qk_place;

DEVICE qk_place qk_place_of(ulong i, int height, int width, int channels) {
  qk_place place;
  ulong row, column;
  i = qk_split(i, (ulong)channels, &place.c);
  i = qk_split(i, (ulong)width, &column);
  place.image = qk_split(i, (ulong)height, &row);
  place.row = (int)row;
  place.column = (int)column;
  return place;
}

/* A coordinate that no tap brings into an image. */
#define QK_NOWHERE (-1073741824)

/* Output coordinate whose window has input coordinate `in` under a tap; -1 when there is none.
 * start = in + pad - tap * dilation. */
DEVICE int qk_tap_output(int start, int stride, int extent) {
  if (start < 0) return -1;
  if (stride == 1) return start < extent ? start : -1;
  int out = start / stride;
  return out * stride == start && out < extent ? out : -1;
}

/* Value i of an operand of a type of params.h. */
DEVICE int qk_code(GLOBAL const uchar *memory, int type, ulong i) {
  if (type == QK_TYPE_U8) return memory[i];
  if (type == QK_TYPE_S8) return ((GLOBAL const schar *)memory)[i];
  return ((GLOBAL const int *)memory)[i];
}

DEVICE void qk_store_code(GLOBAL uchar *memory, int type, ulong i, int value) {
  if (type == QK_TYPE_S32)
    ((GLOBAL int *)memory)[i] = value;
  else
    memory[i] = (uchar)value;
}

#endif
