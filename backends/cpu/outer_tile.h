/* One form of the tile kernel in kernels_outer.c, which includes this text once a form: TARGET is the function
 * attribute, FORM the name, MADD(sum, a, b) adds up the products of two vectors of words. */
#define FORM_JOIN_(a, b) a##_##b
#define FORM_JOIN(a, b) FORM_JOIN_(a, b)
#define FORM_BLOCK FORM_JOIN(block, FORM)

/* `rows` x `vectors` of a tile, from row and column on. */
TARGET CPU_INLINE void FORM_BLOCK(const cpu_outer_tile *tile, int64_t row, int64_t column, const int rows,
                                  const int vectors) {
  vec sum[MOST_SUMS];
  int64_t left = tile->limit;
#pragma GCC unroll 16
  for (int k = 0; k < rows * vectors; k++) sum[k] = vec_zero();
  for (int64_t line = 0; line < tile->groups * tile->unit.lines; line++) {
    int64_t group = line / tile->unit.lines, i = line % tile->unit.lines;
    const int32_t *a = tile->a + group * tile->a_group + tile->unit.a.first + i * tile->unit.a.line + row;
    const int32_t *b = tile->b + group * tile->b_group + tile->unit.b.first + i * tile->unit.b.line + column;
    for (int64_t j = 0, stop; j < tile->unit.steps; j = stop) {
      stop = j + smaller(left, tile->unit.steps - j);
      left -= stop - j;
#pragma GCC unroll 1
      for (int64_t k = j; k < stop; k++, a += tile->unit.a.step, b += tile->unit.b.step) {
        vec right[MOST_VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) right[v] = vec_load(b + v * WORDS);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
          vec value = vec_broadcast32(a + r);
#pragma GCC unroll 4
          for (int v = 0; v < vectors; v++) sum[r * vectors + v] = MADD(sum[r * vectors + v], value, right[v]);
        }
      }
      if (left) continue;
      fold(tile, sum, row, column, rows, vectors);
      left = tile->limit;
#pragma GCC unroll 16
      for (int k = 0; k < rows * vectors; k++) sum[k] = vec_zero();
    }
  }
  fold(tile, sum, row, column, rows, vectors);
}

TARGET static void FORM_JOIN(tile, FORM)(const cpu_outer_tile *tile) {
  int64_t column = 0;
  for (; column + MOST_VECTORS * WORDS <= tile->columns; column += MOST_VECTORS * WORDS)
    for (int64_t row = 0; row < CPU_OUTER_ROWS; row += BLOCK_ROWS)
      FORM_BLOCK(tile, row, column, BLOCK_ROWS, MOST_VECTORS);
  for (; column < tile->columns; column += WORDS)
    for (int64_t row = 0; row < CPU_OUTER_ROWS; row += BLOCK_ROWS) FORM_BLOCK(tile, row, column, BLOCK_ROWS, 1);
}

#undef FORM_BLOCK
#undef FORM_JOIN
#undef FORM_JOIN_
#undef FORM
#undef TARGET
#undef MADD
