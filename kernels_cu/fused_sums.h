/* Sums of a convolution for 64 positions by 16 output channels, made by one warp on tensor cores. Part of fused.cu. */
#ifndef QK_FUSED_SUMS_H
#define QK_FUSED_SUMS_H

/* Place of a lane in the fragments of C: rows `row` and `row` + 8, columns 2 quarter and + 1. */
struct fused_lane {
  int number, row, quarter;
};

DEVICE fused_lane fused_lane_here() {
  int number = (int)(threadIdx.x % QK_FUSED_LANES);
  QK_KEEP(number); /* what follows from it is made where it is needed, not kept over all stages */
  return {number, number / 4, number % 4};
}

/* value / divisor, by 2^32 / divisor + 1; exact while their product is below 2^32. */
DEVICE int fused_quotient(int value, int divisor, int reciprocal) {
  return divisor > 1 ? (int)__umulhi((uint)value, (uint)reciprocal) : value;
}

/* Bytes from a map's origin to output position `position`. */
DEVICE int fused_offset(const qk_fused_stage &stage, const qk_fused_map &map, int position) {
  int row = fused_quotient(position, stage.width, stage.per_width);
  return map.origin + row * map.row + (position - row * stage.width) * map.pixel;
}

/* Where a warp works. Regular stages: 4 tiles below each other, each 16 positions of a row, or the 8 of two rows.
 * Others: tiles of 16 positions in their order. */
struct fused_tiles {
  int row, column; /* regular: of the first position */
  int tile;        /* others: the first */
};

DEVICE fused_tiles fused_tiles_of(const qk_fused_stage &stage, int task) {
  if (stage.layout == QK_FUSED_ROWS_OF_8) return {task * 2 * QK_FUSED_TILES, 0, 0};
  if (stage.layout == QK_FUSED_IN_ORDER) return {0, 0, task * QK_FUSED_TILES};
  int across = stage.width / QK_FUSED_TILE, row = fused_quotient(task, across, stage.per_across);
  return {row * QK_FUSED_TILES, (task - row * across) * QK_FUSED_TILE, 0};
}

/* Bytes from a map's origin to position `i` (0...15) of each tile. In order: the last position's where there is none.
 */
template <int TILES>
DEVICE void fused_tile_offsets(const qk_fused_stage &stage, const qk_fused_map &map, fused_tiles at, int i,
                               int (&offset)[TILES]) {
  if (stage.layout == QK_FUSED_IN_ORDER) {
    int last = stage.height * stage.width - 1;
    QK_UNROLL
    for (int m = 0; m < TILES; m++) offset[m] = fused_offset(stage, map, min((at.tile + m) * QK_FUSED_TILE + i, last));
    return;
  }
  bool eight = stage.layout == QK_FUSED_ROWS_OF_8;
  int row = at.row + (eight ? i / 8 : 0), column = at.column + (eight ? i % 8 : i);
  int next = eight ? 2 * map.row : map.row, first = map.origin + row * map.row + column * map.pixel;
  QK_UNROLL
  for (int m = 0; m < TILES; m++) offset[m] = first + m * next;
}

/* Fragments of B for two tiles of 8 columns and 32 products. */
struct fused_weights {
  uint b[2][2];
};

/* A word has byte by byte the codes of the first register in its low halves, of the second in its high halves: signed,
 * so that the bytes here are 16 times the codes. */
template <bool NIBBLES> DEVICE fused_weights fused_load_weights(const uchar *at) {
  fused_weights w;
  if (NIBBLES) {
    uint2 word = __ldg(reinterpret_cast<const uint2 *>(at));
    w.b[0][0] = word.x;
    w.b[1][0] = word.y;
  } else {
    uint4 word = __ldg(reinterpret_cast<const uint4 *>(at));
    w.b[0][0] = word.x;
    w.b[0][1] = word.y;
    w.b[1][0] = word.z;
    w.b[1][1] = word.w;
  }
  return w;
}

/* Bytes of a step of 32 products for two tiles, and where a lane finds its part of step 0 of a group. What is loaded
 * ahead may lie up to three steps behind a stage's weights: they are followed by as much memory. */
template <bool NIBBLES> constexpr int fused_step_bytes = QK_FUSED_LANES *(NIBBLES ? 8 : 16);

template <bool NIBBLES>
DEVICE const uchar *fused_weights_at(const qk_fused_source &from, const uchar *fragments, int group, fused_lane lane) {
  return fragments + group * from.steps * fused_step_bytes<NIBBLES> + lane.number * (NIBBLES ? 8 : 16);
}

template <bool NIBBLES> DEVICE void fused_unpack_weights(fused_weights &w) {
  QK_UNROLL
  for (int t = 0; NIBBLES && t < 2; t++) {
    w.b[t][1] = w.b[t][0] & 0xF0F0F0F0u;
    w.b[t][0] = (w.b[t][0] << 4) & 0xF0F0F0F0u;
  }
}

/* Rows of A are output positions; 32 products of a row are two chunks of 16 codes: channels of one tap, or four pixels
 * of a kernel's row. */
template <bool PIXELS, int TILES> struct fused_positions;

template <int TILES> struct fused_positions<false, TILES> {
  qk_shared at[TILES];
  const int *chunk;

  QK_METHOD void set(const qk_fused_stage &stage, const qk_fused_source &from, const uchar *arena, const int *chunks,
                     fused_tiles tiles, fused_lane lane) {
    chunk = chunks + from.chunk + lane.number / 16;
    int offsets[TILES];
    fused_tile_offsets(stage, from.map, tiles, lane.number % 16, offsets);
    QK_UNROLL
    for (int m = 0; m < TILES; m++) at[m] = qk_shared_of(arena + offsets[m]);
  }
  /* What all tiles of a step share. */
  QK_METHOD void step(int k) { offset = chunk[2 * k]; }
  QK_METHOD void load(int m, uint (&a)[4]) const { qk_load_matrices(a, at[m] + offset); }

  int offset;
};

template <int TILES> struct fused_positions<true, TILES> {
  const uchar *at[TILES][2];
  const int *chunk;

  QK_METHOD void set(const qk_fused_stage &stage, const qk_fused_source &from, const uchar *arena, const int *chunks,
                     fused_tiles tiles, fused_lane lane) {
    chunk = chunks + from.chunk;
    QK_UNROLL
    for (int r = 0; r < 2; r++) {
      int offsets[TILES];
      fused_tile_offsets(stage, from.map, tiles, lane.row + 8 * r, offsets);
      QK_UNROLL
      for (int m = 0; m < TILES; m++) at[m][r] = arena + offsets[m] + lane.quarter * from.step;
    }
  }
  QK_METHOD void step(int k) {
    offset[0] = chunk[2 * k];
    offset[1] = chunk[2 * k + 1];
  }
  QK_METHOD void load(int m, uint (&a)[4]) const {
    QK_UNROLL
    for (int i = 0; i < 4; i++) a[i] = *reinterpret_cast<const uint *>(at[m][i % 2] + offset[i / 2]);
  }

  int offset[2];
};

template <int TILES> using fused_some_sums = int[TILES][2][4];
typedef fused_some_sums<QK_FUSED_TILES> fused_sums;

template <int TILES> DEVICE void fused_zero(int (&sums)[TILES][2][4]) {
  QK_UNROLL
  for (int i = 0; i < TILES * 8; i++) sums[i / 8][i / 4 % 2][i % 4] = 0;
}

/* Sums of some tiles, output channels of `group`. Weights are loaded a step ahead. */
template <bool PIXELS, bool SIGNED, bool NIBBLES, int TILES>
DEVICE void fused_sum(const qk_fused_stage &stage, const qk_fused_source &from, const uchar *fragments,
                      const uchar *arena, const int *chunks, fused_tiles tiles, int group, int (&sums)[TILES][2][4]) {
  fused_lane lane = fused_lane_here();
  fused_positions<PIXELS, TILES> positions;
  const uchar *weights = fused_weights_at<NIBBLES>(from, fragments, group, lane);
  fused_weights next = fused_load_weights<NIBBLES>(weights);
  positions.set(stage, from, arena, chunks, tiles, lane);
  fused_zero(sums);
  QK_UNROLL_BY(2)
  for (int k = 0; k < from.steps; k++) {
    fused_weights now = next;
    weights += fused_step_bytes<NIBBLES>;
    next = fused_load_weights<NIBBLES>(weights);
    fused_unpack_weights<NIBBLES>(now);
    positions.step(k);
    QK_UNROLL
    for (int m = 0; m < TILES; m++) {
      uint a[4];
      positions.load(m, a);
      qk_mma<SIGNED>(sums[m][0], a, now.b[0]);
      qk_mma<SIGNED>(sums[m][1], a, now.b[1]);
    }
  }
}

/* ---- 3x3 windows, rows of the input in registers ---- */

/* The lane's place for ldmatrix: the first position's, at the window's corner. */
template <bool EIGHT>
DEVICE qk_shared fused_column_at(const qk_fused_source &from, const uchar *arena, fused_tiles at, fused_lane lane) {
  int row = at.row + (EIGHT ? lane.number / 8 % 2 : 0), column = at.column + lane.number % (EIGHT ? 8 : 16);
  return qk_shared_of(arena + from.map.origin + row * from.map.row + column * from.map.pixel);
}

DEVICE void fused_multiply(fused_sums &sums, int m, const uint (&a)[4], const fused_weights &w) {
  qk_mma<false>(sums[m][0], a, w.b[0]);
  qk_mma<false>(sums[m][1], a, w.b[1]);
}

template <bool NIBBLES> DEVICE void fused_load_three(const uchar *at, fused_weights (&w)[3]) {
  QK_UNROLL
  for (int k = 0; k < 3; k++) w[k] = fused_load_weights<NIBBLES>(at + k * fused_step_bytes<NIBBLES>);
}

/* Channels a multiple of 32. Steps come as [column of the window][32 channels][row of the window]: what is loaded of
 * the input for one such column serves its three rows. */
template <bool EIGHT, bool NIBBLES>
DEVICE void fused_sum_columns(const qk_fused_source &source, const uchar *fragments, const uchar *arena,
                              const int *chunks, fused_tiles tiles, int group, fused_sums &sums) {
  enum { ROWS = QK_FUSED_TILES + (EIGHT ? 1 : 2) };
  fused_lane lane = fused_lane_here();
  const int *chunk = chunks + source.chunk + lane.number / 16;
  qk_shared at = fused_column_at<EIGHT>(source, arena, tiles, lane);
  const uchar *weights = fused_weights_at<NIBBLES>(source, fragments, group, lane);
  int steps = source.steps, pitch = source.map.row * (EIGHT ? 2 : 1);
  QK_KEEP(steps);
  QK_KEEP(pitch);
  fused_weights next[3]; /* a turn ahead where registers suffice */
  fused_load_three<NIBBLES>(weights, next);
  fused_zero(sums);
  QK_UNROLL_BY(1)
  for (; steps > 0; steps -= 3, chunk += 6) {
    fused_weights now[3] = {next[0], next[1], next[2]};
    qk_shared from = at + *chunk;
    uint a[ROWS][4];
    weights += 3 * fused_step_bytes<NIBBLES>;
    if (NIBBLES) fused_load_three<NIBBLES>(weights, next);
    QK_UNROLL
    for (int r = 0; r < ROWS; r++) qk_load_matrices(a[r], from + r * pitch);
    QK_UNROLL
    for (int k = 0; k < 3; k++) {
      fused_unpack_weights<NIBBLES>(now[k]);
      QK_UNROLL
      for (int m = 0; m < QK_FUSED_TILES; m++) {
        if (!EIGHT) {
          fused_multiply(sums, m, a[m + k], now[k]);
        } else if (k != 1) {
          fused_multiply(sums, m, a[m + k / 2], now[k]);
        } else {
          uint between[4] = {a[m][1], a[m + 1][0], a[m][3], a[m + 1][2]};
          fused_multiply(sums, m, between, now[k]);
        }
      }
    }
    if (!NIBBLES) fused_load_three<NIBBLES>(weights, next);
  }
}

/* 16 channels, 5 steps: the window's three rows, columns 0 and 1; column 2 of rows 0 and 1; column 2 of row 2, whose
 * other half meets zero weights. */
template <bool NIBBLES>
DEVICE void fused_sum_sixteen(const qk_fused_source &source, const uchar *fragments, const uchar *arena,
                              const int *chunks, fused_tiles tiles, int group, fused_sums &sums) {
  enum { ROWS = QK_FUSED_TILES + 2, STEPS = 5, LAST_COLUMN = 3 /* step */, LAST = 4 };
  fused_lane lane = fused_lane_here();
  const int *chunk = chunks + source.chunk + lane.number / 16;
  qk_shared at = fused_column_at<false>(source, arena, tiles, lane);
  int pitch = source.map.row;
  QK_KEEP(pitch);
  const uchar *weights = fused_weights_at<NIBBLES>(source, fragments, group, lane);
  fused_weights w[STEPS];
  QK_UNROLL
  for (int k = 0; k < STEPS; k++) w[k] = fused_load_weights<NIBBLES>(weights + k * fused_step_bytes<NIBBLES>);
  fused_zero(sums);
  qk_shared from = at + chunk[0];
  uint a[ROWS][4];
  QK_UNROLL
  for (int r = 0; r < ROWS; r++) qk_load_matrices(a[r], from + r * pitch);
  QK_UNROLL
  for (int k = 0; k < LAST_COLUMN; k++) {
    fused_unpack_weights<NIBBLES>(w[k]);
    QK_UNROLL
    for (int m = 0; m < QK_FUSED_TILES; m++) fused_multiply(sums, m, a[m + k], w[k]);
  }
  from = at + chunk[2 * LAST_COLUMN]; /* two rows: those two tiles further on start with the last step's */
  QK_UNROLL
  for (int r = 0; r < QK_FUSED_TILES; r++) qk_load_matrices(a[r], from + r * pitch);
  from = at + chunk[2 * LAST];
  QK_UNROLL
  for (int r = QK_FUSED_TILES; r < ROWS; r++) qk_load_matrices(a[r], from + (r - 2) * pitch);
  fused_unpack_weights<NIBBLES>(w[LAST_COLUMN]);
  fused_unpack_weights<NIBBLES>(w[LAST]);
  QK_UNROLL
  for (int m = 0; m < QK_FUSED_TILES; m++) {
    fused_multiply(sums, m, a[m], w[LAST_COLUMN]);
    fused_multiply(sums, m, a[m + 2], w[LAST]);
  }
}

#endif
