/* Convolutions of whole networks on tensor cores: what kernels_cl/network_tile.cl makes by dot products of four codes.
 * A block makes 128 pixels by CHANNELS of one candidate. Codes and weights are unpacked into shared memory, a byte
 * each, as core matrices (8 rows of 16 bytes), which ldmatrix and wgmma both take; the next ones while products are
 * made.
 *
 * Forms: `mma` (sm_80), `wgmma` (sm_90a), and `bits` for maps and weights of one bit, which stay bits: with a weight
 * low + spacing * f, sum a w = low * (ones of a) + spacing * (ones of a and f). */
#include "kernels_cl/platform.h"

#include "kernels_cl/params.h"

#include "kernels_cl/network_tile.h"

#include "kernels_cu/network_tensor.h"
#include "kernels_cu/wgmma.h"

#if QK_HAS_TENSOR_CORES

enum tensor_form { TENSOR_MMA, TENSOR_WGMMA, TENSOR_BITS };

enum {
  TENSOR_PIXELS = QK_TENSOR_PIXELS,
  TENSOR_ITEMS = QK_TENSOR_ITEMS,
  TENSOR_PIECES = QK_TENSOR_PIECES,
  TENSOR_PIECE = QK_TENSOR_PIECE,
  TENSOR_ROWS = 64 /* pixels of a product of all four warps */
};

struct alignas(TENSOR_PIECE) tensor_piece {
  uint word[4];
};

/* Shared memory of a block: two halves, one filled while the other is multiplied. */
template <int CHANNELS> struct tensor_memory {
  tensor_piece codes[2][TENSOR_PIECES][TENSOR_PIXELS];
  tensor_piece weights[2][TENSOR_PIECES][CHANNELS];
  int ones[TENSOR_PIXELS]; /* bits: of each pixel's window */
};

/* Where in the kernel's window a row of the product is: a tap, and a piece of its inputs (bits: a word). */
struct tensor_place {
  int kh, kw, part;
};

DEVICE void tensor_advance(tensor_place &at, const qk_net_source &s, int parts, int by) {
  for (at.part += by; at.part >= parts; at.part -= parts)
    if (++at.kw == s.kernel_w) {
      at.kw = 0;
      at.kh++;
    }
}

DEVICE int tensor_parts(const qk_net_source &s, bool bits) {
  return bits ? s.inputs / 32 : (s.inputs + TENSOR_PIECE - 1) / TENSOR_PIECE;
}

/* The pixel's codes at a tap, or NULL outside the map. */
DEVICE const uchar *tensor_codes_at(const qk_net_source &s, const uchar *x, net_pixel pixel, const tensor_place &at) {
  int row = pixel.row * s.stride_h - s.pad_top + at.kh * s.dilation_h;
  int column = pixel.column * s.stride_w - s.pad_left + at.kw * s.dilation_w;
  if (at.kh >= s.kernel_h || pixel.unit < 0 || row < 0 || row >= s.map.height || column < 0 || column >= s.map.width)
    return nullptr;
  return x + (qk_long)pixel.unit * s.map.unit + (qk_long)row * s.map.row + (qk_long)column * s.map.pixel;
}

DEVICE tensor_piece tensor_codes(const qk_net_source &s, const uchar *x, net_pixel pixel, const tensor_place &at) {
  tensor_piece piece = {{0, 0, 0, 0}};
  const uchar *codes = tensor_codes_at(s, x, pixel, at);
  int group = at.part * (TENSOR_PIECE / 8);
  if (!codes) return piece;
  codes += (qk_long)group * s.map.bits;
  net_fetch_eight(codes, s.map.bits, s.map.is_signed, piece.word);
  if (group + 1 < (s.inputs + 7) / 8) net_fetch_eight(codes + s.map.bits, s.map.bits, s.map.is_signed, piece.word + 2);
  return piece;
}

DEVICE tensor_piece tensor_weights(const qk_net_source &s, const uchar *w, int channel, const tensor_place &at) {
  tensor_piece piece = {{0, 0, 0, 0}};
  if (at.kh >= s.kernel_h || channel >= s.outputs) return piece;
  int input = at.part * TENSOR_PIECE;
  qk_long from = ((qk_long)(channel * s.kernel_h + at.kh) * s.kernel_w + at.kw) * s.inputs + input;
  QK_UNROLL for (int k = 0; k < 4; k++) if (input + 4 * k < s.inputs) piece.word[k] =
      net_fetch_weights(reinterpret_cast<const uint *>(w), s, from + 4 * k, s.inputs - input - 4 * k);
  return piece;
}

DEVICE tensor_piece tensor_code_bits(const qk_net_source &s, const uchar *x, net_pixel pixel, tensor_place at,
                                     int *ones) {
  tensor_piece piece = {{0, 0, 0, 0}};
  int parts = tensor_parts(s, true);
  QK_UNROLL for (int k = 0; k < 4; k++) {
    const uchar *codes = tensor_codes_at(s, x, pixel, at);
    if (codes) piece.word[k] = reinterpret_cast<const uint *>(codes)[at.part];
    *ones += __popc(piece.word[k]);
    tensor_advance(at, s, parts, 1);
  }
  return piece;
}

DEVICE tensor_piece tensor_weight_bits(const qk_net_source &s, const uchar *w, int channel, tensor_place at) {
  tensor_piece piece = {{0, 0, 0, 0}};
  int parts = tensor_parts(s, true);
  QK_UNROLL for (int k = 0; k < 4; k++) {
    qk_long tap = (qk_long)(channel * s.kernel_h + at.kh) * s.kernel_w + at.kw;
    if (at.kh < s.kernel_h && channel < s.outputs)
      piece.word[k] = reinterpret_cast<const uint *>(w)[tap * parts + at.part];
    tensor_advance(at, s, parts, 1);
  }
  return piece;
}

/* The source that a thread unpacks from: one pixel's codes, one channel's weights. */
template <int CHANNELS, int FORM> struct tensor_loader {
  static const bool BITS = FORM == TENSOR_BITS;
  static const int STEP = BITS ? 4 : 1; /* parts of a piece */
  /* Threads of a channel that unpack weights. */
  static const int DEEP = TENSOR_ITEMS / CHANNELS < TENSOR_PIECES ? TENSOR_ITEMS / CHANNELS : TENSOR_PIECES;
  const uchar *x, *w;
  net_pixel pixel;
  tensor_place codes_at, weights_at;
  int channel, first, parts, ones;

  QK_METHOD void open(const qk_params_stage &p, const qk_net_source &s, const uchar *map, const uchar *weights) {
    int id = (int)threadIdx.x;
    x = map;
    w = weights;
    pixel = net_pixel_of(p, (qk_long)blockIdx.x * TENSOR_PIXELS + id);
    channel = (int)blockIdx.y * CHANNELS + id % CHANNELS;
    first = id / CHANNELS;
    parts = tensor_parts(s, BITS);
    ones = 0;
    codes_at = weights_at = {0, 0, 0};
    tensor_advance(weights_at, s, parts, first * STEP);
  }

  QK_METHOD void fill(const qk_net_source &s, tensor_memory<CHANNELS> *memory, int half) {
    int id = (int)threadIdx.x;
    QK_UNROLL_BY(1) for (int j = 0; j < TENSOR_PIECES; j++) {
      memory->codes[half][j][id] =
          BITS ? tensor_code_bits(s, x, pixel, codes_at, &ones) : tensor_codes(s, x, pixel, codes_at);
      tensor_advance(codes_at, s, parts, STEP);
    }
    QK_UNROLL_BY(1) for (int j = first; first < DEEP && j < TENSOR_PIECES; j += DEEP) {
      memory->weights[half][j][id % CHANNELS] =
          BITS ? tensor_weight_bits(s, w, channel, weights_at) : tensor_weights(s, w, channel, weights_at);
      tensor_advance(weights_at, s, parts, DEEP * STEP);
    }
  }
};

/* ---- products of one half of the shared memory ---- */

template <int CHANNELS> using tensor_sums = int[TENSOR_PIXELS / TENSOR_ROWS][CHANNELS / 2];

template <int CHANNELS, int FORM, bool SIGNED>
DEVICE void tensor_multiply(const tensor_memory<CHANNELS> *memory, int half, tensor_sums<CHANNELS> &sum) {
  const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, matrix = lane / 8, row = lane % 8;
  QK_UNROLL for (int k = 0; k < TENSOR_PIECES; k += 2) {
    uint a[TENSOR_PIXELS / TENSOR_ROWS][4];
    QK_UNROLL for (int m = 0; m < TENSOR_PIXELS / TENSOR_ROWS; m++) qk_load_matrices(
        a[m], qk_shared_of(reinterpret_cast<const uchar *>(
                  &memory->codes[half][k + matrix / 2][m * TENSOR_ROWS + warp * 16 + matrix % 2 * 8 + row])));
    QK_UNROLL for (int n = 0; n < CHANNELS / 8; n += 2) {
      uint b[4];
      qk_load_matrices(b, qk_shared_of(reinterpret_cast<const uchar *>(
                              &memory->weights[half][k + matrix % 2][(n + matrix / 2) * 8 + row])));
      QK_UNROLL for (int m = 0; m < TENSOR_PIXELS / TENSOR_ROWS; m++) QK_UNROLL for (int i = 0; i < 2; i++) {
        int(&d)[4] = reinterpret_cast<int(&)[4]>(sum[m][4 * (n + i)]);
        const uint pair[2] = {b[2 * i], b[2 * i + 1]};
        if (FORM == TENSOR_BITS)
          qk_mma_bits(d, a[m], pair);
        else
          qk_mma<SIGNED>(d, a[m], pair);
      }
    }
  }
}

#if QK_HAS_WGMMA

template <int CHANNELS, bool SIGNED>
DEVICE void tensor_start(const tensor_memory<CHANNELS> *memory, int half, tensor_sums<CHANNELS> &sum) {
  const int core = 8 * TENSOR_PIECE;
  qk_wgmma_begin();
  QK_UNROLL for (int k = 0; k < TENSOR_PIECES; k += 2) {
    unsigned long long b =
        qk_matrix_descriptor(reinterpret_cast<const uchar *>(memory->weights[half][k]), CHANNELS * TENSOR_PIECE, core);
    QK_UNROLL for (int m = 0; m < TENSOR_PIXELS / TENSOR_ROWS; m++) {
      const uchar *rows = reinterpret_cast<const uchar *>(&memory->codes[half][k][m * TENSOR_ROWS]);
      qk_wgmma<CHANNELS, SIGNED>(sum[m], qk_matrix_descriptor(rows, TENSOR_PIXELS * TENSOR_PIECE, core), b);
    }
  }
  qk_wgmma_commit();
}

#endif

/* The products of one half begin; whether codes are signed is the same for the whole launch. */
template <int CHANNELS, int FORM>
DEVICE void tensor_products(const qk_net_source &s, const tensor_memory<CHANNELS> *memory, int half,
                            tensor_sums<CHANNELS> &sum) {
#if QK_HAS_WGMMA
  if (FORM == TENSOR_WGMMA) {
    if (s.map.is_signed)
      tensor_start<CHANNELS, true>(memory, half, sum);
    else
      tensor_start<CHANNELS, false>(memory, half, sum);
    return;
  }
#endif
  if (FORM == TENSOR_MMA && s.map.is_signed)
    tensor_multiply<CHANNELS, FORM, true>(memory, half, sum);
  else
    tensor_multiply<CHANNELS, FORM, false>(memory, half, sum);
}

/* Sums of the stage's one source. */
template <int CHANNELS, int FORM>
DEVICE void tensor_convolve(const qk_params_stage &p, const qk_net_source &s, const uchar *x, const uchar *w,
                            tensor_memory<CHANNELS> *memory, tensor_sums<CHANNELS> &sum) {
  const int chunk = TENSOR_PIECES * (FORM == TENSOR_BITS ? 4 : 1);
  tensor_loader<CHANNELS, FORM> load;
  load.open(p, s, x, w);
  int parts = s.kernel_h * s.kernel_w * load.parts, chunks = (parts + chunk - 1) / chunk;
  QK_UNROLL for (int m = 0; m < TENSOR_PIXELS / TENSOR_ROWS; m++) QK_UNROLL for (int i = 0; i < CHANNELS / 2; i++)
      sum[m][i] = 0;
  load.fill(s, memory, 0);
  for (int at = 0; at < chunks; at++) {
#if QK_HAS_WGMMA
    if (FORM == TENSOR_WGMMA) qk_wgmma_publish();
#endif
    __syncthreads();
    if (FORM == TENSOR_WGMMA) tensor_products<CHANNELS, FORM>(s, memory, at % 2, sum);
    if (at + 1 < chunks) load.fill(s, memory, (at + 1) % 2);
    if (FORM != TENSOR_WGMMA) tensor_products<CHANNELS, FORM>(s, memory, at % 2, sum);
#if QK_HAS_WGMMA
    if (FORM == TENSOR_WGMMA) QK_UNROLL for (int m = 0; m < TENSOR_PIXELS / TENSOR_ROWS; m++) qk_wgmma_wait(sum[m]);
#endif
  }
  memory->ones[threadIdx.x] = load.ones;
  __syncthreads();
}

/* Ones in common to sums of products. */
template <int CHANNELS>
DEVICE void tensor_weigh_bits(const qk_net_source &s, const tensor_memory<CHANNELS> *memory,
                              tensor_sums<CHANNELS> &sum) {
  const int row = (int)threadIdx.x / 32 * 16 + (int)threadIdx.x % 32 / 4;
  QK_UNROLL for (int m = 0; m < TENSOR_PIXELS / TENSOR_ROWS; m++) QK_UNROLL for (int i = 0; i < CHANNELS / 2; i++)
      sum[m][i] = s.low * memory->ones[m * TENSOR_ROWS + row + i / 2 % 2 * 8] + s.spacing * sum[m][i];
  __syncthreads();
}

/* ---- sums to codes ---- */

/* What the requantiser reads, of this candidate. */
struct tensor_constants {
  const int *m, *n;
  const qk_long *offset;
  const uchar *skip;
};

template <int CHANNELS>
DEVICE void tensor_finish(const qk_params_stage &p, const tensor_constants &of, int slot, int *logits,
                          const tensor_sums<CHANNELS> &sum, uchar *tile) {
  const int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32;
  QK_UNROLL for (int m = 0; m < TENSOR_PIXELS / TENSOR_ROWS; m++) QK_UNROLL for (int half = 0; half < 2; half++) {
    int row = m * TENSOR_ROWS + warp * 16 + lane / 4 + 8 * half;
    net_pixel pixel = net_pixel_of(p, (qk_long)blockIdx.x * TENSOR_PIXELS + row);
    QK_UNROLL for (int i = 0; i < CHANNELS / 4; i++) {
      int column = i / 2 * 8 + lane % 4 * 2 + i % 2, c = (int)blockIdx.y * CHANNELS + column;
      int at = i / 2 * 4 + 2 * half + i % 2, code = 0;
      if (pixel.unit >= 0 && c < p.channels) {
        int u = 0;
        if (p.skip.present)
          u = net_code(net_at(const_cast<uchar *>(of.skip), p.skip, slot, pixel), c, p.skip.bits, p.skip.is_signed);
        code = net_requantised(p, sum[m][at], of.m[c], u, p.skip.present ? of.n[c] : 0, of.offset[c]);
        if (p.logits) logits[(qk_long)pixel.unit * p.channels + c] = code;
      }
      tile[row * CHANNELS + column] = (uchar)code;
    }
  }
}

template <int CHANNELS, int FORM> DEVICE void tensor_tile(NET_BUFFERS, const qk_params_stage &p) {
  QK_DYNAMIC_SHARED(uchar, shared);
  OPERAND(const int, slots);
  tensor_memory<CHANNELS> *memory = reinterpret_cast<tensor_memory<CHANNELS> *>(shared);
  int slot = p.first_slot + (int)blockIdx.z, genome = slots[slot];
  tensor_sums<CHANNELS> sum;
  tensor_convolve<CHANNELS, FORM>(p, p.source[0], net_slot(x_memory + x_at, p.source[0].map, slot),
                                  w_memory + w_at + genome * p.source[0].weight_stride, memory, sum);
  if (FORM == TENSOR_BITS) tensor_weigh_bits<CHANNELS>(p.source[0], memory, sum);
  tensor_constants of = {
      reinterpret_cast<const int *>(m_memory + m_at + genome * p.m_stride),
      reinterpret_cast<const int *>(n_memory + n_at + genome * p.n_stride),
      reinterpret_cast<const qk_long *>(offset_memory + offset_at + genome * p.offset_stride),
      skip_memory + skip_at,
  };
  tensor_finish<CHANNELS>(p, of, slot, reinterpret_cast<int *>(fine_memory + fine_at + slot * p.logits_slot), sum,
                          shared);
  __syncthreads();
  if (!p.logits)
    net_tile_write(p, fine_memory + fine_at, coarse_memory + coarse_at, slot, shared, TENSOR_PIXELS, CHANNELS,
                   TENSOR_ITEMS);
}

#endif

#if QK_HAS_TENSOR_CORES
#define TENSOR_RUN(channels, form) tensor_tile<channels, form>(NET_PASSED, p)
#else
#define TENSOR_RUN(channels, form) __trap()
#endif

#define TENSOR_TILE(name, channels, form)                                                                              \
  KERNEL(name##_##channels)(NET_BUFFERS, const QK_GRID_CONSTANT qk_params_stage p) {                                   \
    TENSOR_RUN(channels, form);                                                                                        \
  }

TENSOR_TILE(ck_net_mma, 16, TENSOR_MMA)
TENSOR_TILE(ck_net_mma, 32, TENSOR_MMA)
TENSOR_TILE(ck_net_mma, 64, TENSOR_MMA)
TENSOR_TILE(ck_net_bits, 16, TENSOR_BITS)
TENSOR_TILE(ck_net_bits, 32, TENSOR_BITS)
TENSOR_TILE(ck_net_bits, 64, TENSOR_BITS)

#if !QK_HAS_WGMMA
#undef TENSOR_RUN
#define TENSOR_RUN(channels, form) __trap()
#endif

TENSOR_TILE(ck_net_wgmma, 16, TENSOR_WGMMA)
TENSOR_TILE(ck_net_wgmma, 32, TENSOR_WGMMA)
TENSOR_TILE(ck_net_wgmma, 64, TENSOR_WGMMA)
