/* A whole integer network by one thread block an image: activations stay in shared memory, weights come in fragment
 * order from the second-level cache. Blocks take work items: one candidate on some images. */
#include "kernels_cl/platform.h"

#include "kernels_cl/params.h"

#include "kernels_cl/loss.h"

#include "kernels_cu/fused.h"
#include "kernels_cu/warp.h"

#if QK_HAS_TENSOR_CORES

#include "kernels_cu/fused_sums.h"

#include "kernels_cu/fused_requant.h"

#include "kernels_cu/fused_moves.h"

/* What a block works with. */
struct fused_block {
  uchar *arena;
  int *chunks, *logits;
  const uchar *shared;     /* constants of all candidates */
  const uchar *const *own; /* where those of this one lie: in shared memory, since registers are few */
};

DEVICE const uchar *fused_constants_in(const fused_block &block, bool own) {
  return own ? *block.own : block.shared;
}

/* A stage's constants are brought to shared memory while the stage before is at work; two stages' lie there. */
DEVICE qk_fused_constants *fused_constants_at(const qk_params_fused &p, const fused_block &block, int stage) {
  return reinterpret_cast<qk_fused_constants *>(block.arena + p.constants_at) + stage % 2 * p.constants;
}

DEVICE void fused_fetch_constants(const qk_params_fused &p, const fused_block &block, int at) {
  const qk_fused_stage &stage = p.stage[at];
  const uchar *from = fused_constants_in(block, stage.flags & QK_FUSED_OWN_CONSTANTS) + stage.constants;
  qk_fused_constants *to = fused_constants_at(p, block, at);
  int count = stage.constants < 0 ? 0 : stage.words * QK_FUSED_WORD;
  for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x)
    qk_copy_16(to + i, from + i * (int)sizeof(qk_fused_constants));
}

template <int TILES> DEVICE void fused_four_of(const int (&sums)[TILES][2][4], int m, int r, int (&v)[4]) {
  v[0] = sums[m][0][2 * r];
  v[1] = sums[m][0][2 * r + 1];
  v[2] = sums[m][1][2 * r];
  v[3] = sums[m][1][2 * r + 1];
}

/* Sums to codes: a lane has 4 neighbouring channels (the two tiles' columns are dealt so) of two positions a tile. Here
 * tiles in order, fast requantiser. */
DEVICE void fused_finish_in_order(const qk_fused_stage &stage, const qk_fused_constants *constants,
                                  const fused_block &block, fused_tiles tiles, int group, const fused_sums &sums) {
  fused_lane lane = fused_lane_here();
  int channel = group * QK_FUSED_GROUP + 4 * lane.quarter, count = stage.height * stage.width;
  uchar *arena = block.arena + channel;
  fused_four c = fused_constants_of(constants, channel);
  fused_fast fast(stage);
  QK_UNROLL
  for (int i = 0; i < 2 * QK_FUSED_TILES; i++) {
    int position = (tiles.tile + i / 2) * QK_FUSED_TILE + lane.row + 8 * (i % 2), v[4];
    if (position >= count) continue;
    fused_four_of(sums, i / 2, i % 2, v);
    fast.run_any(c, v, arena + fused_offset(stage, stage.skip, position),
                 arena + fused_offset(stage, stage.out[0], position),
                 arena + fused_offset(stage, stage.out[1], position));
  }
}

/* The same for any requantiser. `other`: sums of the second convolution where there are two. */
template <int TILES>
DEVICE void fused_finish_exactly(const qk_fused_stage &stage, const qk_fused_constants *constants,
                                 const fused_block &block, int tile, int group, const int (&sums)[TILES][2][4],
                                 const int (&other)[TILES][2][4]) {
  fused_lane lane = fused_lane_here();
  int channel = group * QK_FUSED_GROUP + 4 * lane.quarter, count = stage.height * stage.width;
  uchar *arena = block.arena + channel;
  fused_four c = fused_constants_of(constants, channel);
  QK_UNROLL
  for (int i = 0; i < 2 * TILES; i++) {
    int position = (tile + i / 2) * QK_FUSED_TILE + lane.row + 8 * (i % 2), v[4], u[4] = {0, 0, 0, 0}, y[4];
    if (position >= count) continue;
    fused_four_of(sums, i / 2, i % 2, v);
    if (stage.flags & QK_FUSED_SKIP) fused_skip_codes(stage, arena + fused_offset(stage, stage.skip, position), u);
    if (stage.flags & QK_FUSED_TWO) fused_four_of(other, i / 2, i % 2, u);
    fused_exact(stage, c, v, u, y);
    if (stage.flags & QK_FUSED_LOGITS)
      fused_store_logits(block.logits + channel, y);
    else
      fused_exact_store(stage, y, arena + fused_offset(stage, stage.out[0], position),
                        arena + fused_offset(stage, stage.out[1], position));
  }
}

/* A map's place for this lane at the first position, and the bytes to its other positions. */
struct fused_stride {
  uchar *at;
  int tile, half;

  QK_METHOD fused_stride(const qk_fused_stage &stage, const qk_fused_map &map, uchar *arena, fused_tiles tiles,
                         fused_lane lane) {
    bool eight = stage.layout == QK_FUSED_ROWS_OF_8;
    at = arena + map.origin + tiles.row * map.row + (tiles.column + lane.row) * map.pixel;
    tile = eight ? 2 * map.row : map.row;
    half = eight ? map.row : 8 * map.pixel;
    QK_KEEP(tile);
    QK_KEEP(half);
  }
  QK_METHOD uchar *of(int m, int r) const { return at + m * tile + r * half; }
};

template <bool SKIP, bool COARSER>
DEVICE void fused_finish_tiles(const qk_fused_stage &stage, const fused_four &c, const fused_fast &fast, uchar *arena,
                               fused_tiles tiles, const fused_sums &sums) {
  fused_lane lane = fused_lane_here();
  fused_stride out(stage, stage.out[0], arena, tiles, lane);
  fused_stride coarser(stage, stage.out[COARSER], arena, tiles, lane);
  fused_stride skip(stage, stage.skip, arena, tiles, lane);
  uint codes[2 * QK_FUSED_TILES] = {0}; /* all first: codes that are stored may take their place */
  QK_UNROLL
  for (int i = 0; SKIP && i < 2 * QK_FUSED_TILES; i++) codes[i] = fused_word(skip.of(i / 2, i % 2));
  QK_UNROLL
  for (int i = 0; i < 2 * QK_FUSED_TILES; i++) {
    int m = i / 2, r = i % 2, v[4];
    fused_four_of(sums, m, r, v);
    fast.run<SKIP, COARSER>(c, v, codes[i], out.of(m, r), coarser.of(m, r));
  }
}

/* The same for regular tiles. */
DEVICE void fused_finish_rows(const qk_fused_stage &stage, const qk_fused_constants *constants,
                              const fused_block &block, fused_tiles tiles, int group, const fused_sums &sums) {
  fused_lane lane = fused_lane_here();
  int channel = group * QK_FUSED_GROUP + 4 * lane.quarter;
  uchar *arena = block.arena + channel;
  fused_four c = fused_constants_of(constants, channel);
  fused_fast fast(stage);
  if (fast.flags & QK_FUSED_PLAIN) {
    fused_stride out(stage, stage.out[0], arena, tiles, lane);
    QK_UNROLL
    for (int i = 0; i < 2 * QK_FUSED_TILES; i++) {
      int v[4];
      fused_four_of(sums, i / 2, i % 2, v);
      fast.run_plain(c, v, out.of(i / 2, i % 2));
    }
  } else if (!(fast.flags & QK_FUSED_SKIP)) {
    if (fast.flags & QK_FUSED_COARSER)
      fused_finish_tiles<false, true>(stage, c, fast, arena, tiles, sums);
    else
      fused_finish_tiles<false, false>(stage, c, fast, arena, tiles, sums);
  } else {
    if (fast.flags & QK_FUSED_COARSER)
      fused_finish_tiles<true, true>(stage, c, fast, arena, tiles, sums);
    else
      fused_finish_tiles<true, false>(stage, c, fast, arena, tiles, sums);
  }
}

DEVICE const uchar *fused_fragments_at(const qk_fused_source &from, const fused_block &block) {
  return fused_constants_in(block, from.flags & QK_FUSED_OWN_WEIGHTS) + from.weights;
}

template <int TILES>
DEVICE void fused_sum_any(const qk_fused_stage &stage, const qk_fused_source &from, const fused_block &block,
                          fused_tiles tiles, int group, int (&sums)[TILES][2][4]) {
  const uchar *fragments = fused_fragments_at(from, block);
  int kind = from.flags & (QK_FUSED_PIXELS | QK_FUSED_SIGNED | QK_FUSED_NIBBLES);
  if (kind & QK_FUSED_PIXELS) { /* of images: signed */
    if (kind & QK_FUSED_NIBBLES)
      fused_sum<true, true, true>(stage, from, fragments, block.arena, block.chunks, tiles, group, sums);
    else
      fused_sum<true, true, false>(stage, from, fragments, block.arena, block.chunks, tiles, group, sums);
  } else if (kind & QK_FUSED_SIGNED) {
    if (kind & QK_FUSED_NIBBLES)
      fused_sum<false, true, true>(stage, from, fragments, block.arena, block.chunks, tiles, group, sums);
    else
      fused_sum<false, true, false>(stage, from, fragments, block.arena, block.chunks, tiles, group, sums);
  } else {
    if (kind & QK_FUSED_NIBBLES)
      fused_sum<false, false, true>(stage, from, fragments, block.arena, block.chunks, tiles, group, sums);
    else
      fused_sum<false, false, false>(stage, from, fragments, block.arena, block.chunks, tiles, group, sums);
  }
}

/* Any window, any requantiser, one convolution or two: 32 positions of 16 channels at a time. */
DEVICE void fused_conv_exactly(const qk_fused_stage &stage, const qk_fused_constants *constants,
                               const fused_block &block, int groups) {
  enum { TILES = QK_FUSED_FEW_TILES, EACH = QK_FUSED_TILE * TILES };
  int tasks = (stage.height * stage.width + EACH - 1) / EACH * groups;
  for (int task = (int)(threadIdx.x / QK_FUSED_LANES); task < tasks; task += QK_FUSED_WARPS) {
    int tile = fused_quotient(task, groups, stage.per_groups), group = task - tile * groups;
    int sums[TILES][2][4], other[TILES][2][4];
    fused_zero(sums);
    QK_UNROLL_BY(1)
    for (int k = stage.flags & QK_FUSED_TWO ? 1 : 0; k >= 0; k--) {
      QK_UNROLL
      for (int i = 0; i < TILES * 8; i++) other[i / 8][i / 4 % 2][i % 4] = sums[i / 8][i / 4 % 2][i % 4];
      fused_sum_any(stage, stage.from[k], block, {0, 0, tile * TILES}, group, sums);
    }
    fused_finish_exactly(stage, constants, block, tile * TILES, group, sums, other);
  }
}

DEVICE void fused_finish(const qk_fused_stage &stage, const qk_fused_constants *constants, const fused_block &block,
                         fused_tiles tiles, int group, const fused_sums &sums) {
  if (stage.layout == QK_FUSED_IN_ORDER)
    fused_finish_in_order(stage, constants, block, tiles, group, sums);
  else
    fused_finish_rows(stage, constants, block, tiles, group, sums);
}

template <bool NIBBLES>
DEVICE void fused_sum_rows(const qk_fused_stage &stage, const fused_block &block, fused_tiles tiles, int group,
                           fused_sums &sums) {
  const qk_fused_source &from = stage.from[0];
  const uchar *fragments = fused_fragments_at(from, block);
  if (stage.form == QK_FUSED_SIXTEEN)
    fused_sum_sixteen<NIBBLES>(from, fragments, block.arena, block.chunks, tiles, group, sums);
  else if (stage.layout == QK_FUSED_ROWS_OF_8)
    fused_sum_columns<true, NIBBLES>(from, fragments, block.arena, block.chunks, tiles, group, sums);
  else
    fused_sum_columns<false, NIBBLES>(from, fragments, block.arena, block.chunks, tiles, group, sums);
}

/* A warp makes 64 positions of 16 channels at a time. */
DEVICE void fused_conv(const qk_params_fused &p, const fused_block &block, int at) {
  const qk_fused_stage &stage = p.stage[at];
  const qk_fused_constants *constants = fused_constants_at(p, block, at);
  enum { EACH = QK_FUSED_TILE * QK_FUSED_TILES };
  int groups = stage.words * QK_FUSED_WORD / QK_FUSED_GROUP;
  int tasks = (stage.height * stage.width + EACH - 1) / EACH;
  if (!(stage.flags & QK_FUSED_FAST)) {
    fused_conv_exactly(stage, constants, block, groups);
    return;
  }
  for (int task = (int)(threadIdx.x / QK_FUSED_LANES); task < tasks * groups; task += QK_FUSED_WARPS) {
    int place = fused_quotient(task, groups, stage.per_groups), group = task - place * groups;
    fused_tiles tiles = fused_tiles_of(stage, place);
    fused_sums sums;
    if (stage.form == QK_FUSED_ANY)
      fused_sum_any(stage, stage.from[0], block, tiles, group, sums);
    else if (stage.from[0].flags & QK_FUSED_NIBBLES)
      fused_sum_rows<true>(stage, block, tiles, group, sums);
    else
      fused_sum_rows<false>(stage, block, tiles, group, sums);
    fused_finish(stage, constants, block, tiles, group, sums);
  }
}

/* One warp: loss of an image's logits; hit: whether the first largest is the label's. All lanes get both. */
DEVICE int fused_loss(const int *logits, int classes, int label, int *hit) {
  int lane = (int)(threadIdx.x % QK_FUSED_LANES), top = -2147483647 - 1, best = classes;
  for (int j = lane; j < classes; j += QK_FUSED_LANES)
    if (logits[j] > top || best == classes) {
      top = logits[j];
      best = j;
    }
  for (int with = QK_FUSED_LANES / 2; with > 0; with /= 2) {
    int other = __shfl_xor_sync(0xFFFFFFFFu, top, with), place = __shfl_xor_sync(0xFFFFFFFFu, best, with);
    if (place < classes && (best == classes || other > top || (other == top && place < best))) {
      top = other;
      best = place;
    }
  }
  long long sum = 0;
  for (int j = lane; j < classes; j += QK_FUSED_LANES) sum += qk_exp2_negative((long long)top - logits[j]);
  for (int with = QK_FUSED_LANES / 2; with > 0; with /= 2) sum += __shfl_xor_sync(0xFFFFFFFFu, sum, with);
  long long loss = qk_log2_q30(sum) + ((long long)top - logits[label]) * 256;
  *hit = best == label;
  return loss > 2147483647 ? 2147483647 : (int)loss;
}

/* Losses and hits of a work item so far. */
DEVICE unsigned long long *fused_totals(const qk_params_fused &p, const fused_block &block) {
  return reinterpret_cast<unsigned long long *>(block.arena + p.totals_at);
}

/* One warp: what an image's logits count. */
DEVICE void fused_score(const qk_params_fused &p, const fused_block &block, int label, bool first, int *logits) {
  int hit, lane = (int)(threadIdx.x % QK_FUSED_LANES), loss = fused_loss(block.logits, p.classes, label, &hit);
  unsigned long long *totals = fused_totals(p, block);
  if (lane < 2) totals[lane] = (first ? 0 : totals[lane]) + (unsigned long long)(lane == 0 ? loss : hit);
  for (int j = lane; p.want_logits && j < p.classes; j += QK_FUSED_LANES) logits[j] = block.logits[j];
}

/* All stages on one image. `first`: nothing is known of what lies in shared memory. */
DEVICE void fused_image(const qk_params_fused &p, const fused_block &block, const uchar *image, bool first) {
  for (int s = 0; s < p.stages; s++) {
    const qk_fused_stage &stage = p.stage[s];
    if ((stage.flags & QK_FUSED_OUT) && (first || (stage.flags & QK_FUSED_CLEAR)))
      fused_clear_ring(stage.out[0], stage.ring[0], block.arena);
    if ((stage.flags & QK_FUSED_COARSER) && (first || (stage.flags & QK_FUSED_CLEAR_COARSER)))
      fused_clear_ring(stage.out[1], stage.ring[1], block.arena);
    if (s + 1 < p.stages) fused_fetch_constants(p, block, s + 1);
    if (stage.kind == QK_FUSED_CONV)
      fused_conv(p, block, s);
    else if (stage.kind == QK_FUSED_GATHER)
      fused_gather(stage, image, block.arena);
    else if (stage.kind == QK_FUSED_SUM_POOL)
      fused_sum_pool(stage, fused_constants_at(p, block, s), block.arena, block.logits);
    else
      fused_move(stage, fused_constants_at(p, block, s), block.arena, block.logits);
    qk_copies_wait();
    __syncthreads();
  }
}

#endif

/* images [.., image_bytes], index and labels [p.images], shared and own constants, chunk table [p.chunks], loss and
 * hits [p.candidates] are added to, logits [p.candidates, p.images, p.classes] where p.want_logits. */
extern "C" __global__ void __launch_bounds__(QK_FUSED_WARPS *QK_FUSED_LANES, 4)
    ck_fused(const uchar *RESTRICT images, const int *RESTRICT index, const int *RESTRICT labels,
             const uchar *RESTRICT shared, const uchar *RESTRICT own, const int *RESTRICT chunks, long long *loss,
             long long *hits, int *logits, const QK_GRID_CONSTANT qk_params_fused p) {
#if QK_HAS_TENSOR_CORES
  QK_DYNAMIC_SHARED(uchar, arena);
  const uchar **own_at = reinterpret_cast<const uchar **>(arena + p.totals_at) + 2;
  fused_block block = {arena, reinterpret_cast<int *>(arena + p.chunks_at),
                       reinterpret_cast<int *>(arena + p.logits_at), shared, own_at};
  bool first = true;
  for (int i = (int)threadIdx.x; i < p.chunks; i += (int)blockDim.x) block.chunks[i] = chunks[i];
  for (int item = (int)blockIdx.x; item < p.candidates * p.items; item += (int)gridDim.x) {
    int candidate = item / p.items, start = (item - candidate * p.items) * p.item;
    int left = min(p.item, p.images - start);
    const volatile long long *so_far = loss + candidate;
    if (threadIdx.x == 0) *own_at = own + candidate * p.own_stride;
    /* Losses are not negative: what has passed the bound stays above it. */
    if (__syncthreads_or(threadIdx.x == 0 && *so_far > p.bound)) continue;
    for (int n = start; left > 0; n++, left--) {
      fused_image(p, block, images + index[n] * p.image_bytes, first);
      if (threadIdx.x < QK_FUSED_LANES)
        fused_score(p, block, labels[n], n == item % p.items * p.item,
                    logits + ((long long)(item / p.items) * p.images + n) * p.classes);
      first = false;
    }
    __syncwarp();
    if (threadIdx.x == 0) {
      atomicAdd(reinterpret_cast<unsigned long long *>(loss + item / p.items), fused_totals(p, block)[0]);
      atomicAdd(reinterpret_cast<unsigned long long *>(hits + item / p.items), fused_totals(p, block)[1]);
    }
  }
#else
  __trap();
#endif
}
