/* Stages without tensor cores: images to codes, pools, moves of codes, requantised codes; a thread makes four channels
 * of a position. Part of fused.cu. */
#ifndef QK_FUSED_MOVES_H
#define QK_FUSED_MOVES_H

/* Code 0 in the pixels around a map. */
DEVICE void fused_clear_ring(const qk_fused_map &map, const qk_fused_ring &ring, uchar *arena) {
  int lane = (int)(threadIdx.x % QK_FUSED_LANES), warp = (int)(threadIdx.x / QK_FUSED_LANES);
  int left = ring.ring[1] * map.pixel, right = ring.ring[3] * map.pixel, inside = ring.width * map.pixel;
  uchar *corner = arena + map.origin - ring.ring[0] * map.row - left;
  for (int row = warp; row < ring.ring[0] + ring.height + ring.ring[2]; row += QK_FUSED_WARPS) {
    uchar *at = corner + row * map.row;
    bool whole = row < ring.ring[0] || row >= ring.ring[0] + ring.height;
    int first = whole ? map.row : left;
    for (int i = lane * QK_FUSED_WORD; i < first; i += QK_FUSED_LANES * QK_FUSED_WORD) fused_store(at + i, 0);
    for (int i = lane * QK_FUSED_WORD; !whole && i < right; i += QK_FUSED_LANES * QK_FUSED_WORD)
      fused_store(at + left + inside + i, 0);
  }
}

/* Pixels become codes by minus 128: the top bit flipped. */
DEVICE void fused_gather_each(const qk_fused_stage &stage, const uchar *image, uchar *arena) {
  int channels = stage.in_channels, count = stage.height * stage.width * stage.words;
  for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x) {
    int position = fused_quotient(i, stage.words, stage.per_words);
    int channel = (i - position * stage.words) * QK_FUSED_WORD;
    uint word = 0;
    for (int c = 0; c < QK_FUSED_WORD && channel + c < channels; c++)
      word |= (uint)(__ldg(image + position * channels + channel + c) ^ 128) << 8 * c;
    fused_store(arena + fused_offset(stage, stage.out[0], position) + channel, word);
  }
}

/* Three channels, four pixels a thread: three whole words. */
DEVICE void fused_gather_three(const qk_fused_stage &stage, const uchar *image, uchar *arena) {
  const uint *words = reinterpret_cast<const uint *>(image), flip = 0x808080;
  for (int i = (int)threadIdx.x; i < stage.height * stage.width / 4; i += (int)blockDim.x) {
    uint a = __ldg(words + 3 * i), b = __ldg(words + 3 * i + 1), c = __ldg(words + 3 * i + 2);
    uchar *at = arena + fused_offset(stage, stage.out[0], 4 * i);
    fused_store(at, (a & 0xFFFFFF) ^ flip);
    fused_store(at + stage.out[0].pixel, (__byte_perm(a, b, 0x0543) & 0xFFFFFF) ^ flip);
    fused_store(at + 2 * stage.out[0].pixel, (__byte_perm(b, c, 0x0432) & 0xFFFFFF) ^ flip);
    fused_store(at + 3 * stage.out[0].pixel, c >> 8 ^ flip);
  }
}

DEVICE void fused_gather(const qk_fused_stage &stage, const uchar *image, uchar *arena) {
  bool words = stage.words == 1 && stage.in_channels == 3 && stage.width % 4 == 0 && (ulong)image % 4 == 0;
  if (words)
    fused_gather_three(stage, image, arena);
  else
    fused_gather_each(stage, image, arena);
}

/* Four channels of the window at output (row, column): their sums, or the largest codes. The window's pixels are shared
 * out over `lanes` lanes of a warp, of which this is number `part`. */
DEVICE void fused_pool(const qk_fused_stage &stage, const uchar *in, int row, int column, int part, int lanes,
                       int (&v)[4]) {
  bool is_signed = (stage.from[0].flags & QK_FUSED_SIGNED) != 0, sums = stage.kind == QK_FUSED_SUM_POOL;
  QK_UNROLL
  for (int i = 0; i < 4; i++) v[i] = sums ? 0 : -128;
  for (int tap = part; tap < stage.kernel[0] * stage.kernel[1]; tap += lanes) {
    int kh = tap / stage.kernel[1], kw = tap - kh * stage.kernel[1];
    int h = row * stage.stride[0] - stage.pad[0] + kh, w = column * stage.stride[1] - stage.pad[1] + kw;
    if (h < 0 || h >= stage.in_height || w < 0 || w >= stage.in_width) continue;
    uint word = fused_word(in + h * stage.from[0].map.row + w * stage.from[0].map.pixel);
    QK_UNROLL
    for (int i = 0; i < 4; i++) {
      int code = fused_code(word, i, is_signed);
      v[i] = sums ? v[i] + code : max(v[i], code);
    }
  }
}

/* Four channels of the input's pixel, from `channel` on, which may lie outside of it. */
DEVICE uint fused_subsampled(const qk_fused_stage &stage, const uchar *pixel, int channel) {
  if (channel % 4 == 0 && stage.in_channels % 4 == 0)
    return channel >= 0 && channel < stage.in_channels ? fused_word(pixel + channel) : 0;
  uint word = 0;
  for (int i = 0; i < 4; i++)
    if (channel + i >= 0 && channel + i < stage.in_channels) word |= (uint)pixel[channel + i] << 8 * i;
  return word;
}

/* One word of a stage's output. */
struct fused_output {
  int position, row, column, word, channel;

  QK_METHOD fused_output(const qk_fused_stage &stage, int i)
      : position(fused_quotient(i, stage.words, stage.per_words)),
        row(fused_quotient(position, stage.width, stage.per_width)), column(position - row * stage.width),
        word(i - position * stage.words), channel(word * QK_FUSED_WORD) {}
  QK_METHOD int of(const qk_fused_map &map) const { return map.origin + row * map.row + column * map.pixel + channel; }
};

DEVICE void fused_requant_move(const qk_fused_stage &stage, const qk_fused_constants *constants, uchar *arena,
                               int *logits, const fused_output &to, const int (&v)[4]) {
  int u[4] = {0, 0, 0, 0}, y[4];
  if ((stage.flags & QK_FUSED_SKIP) && to.word < stage.skip_words)
    fused_skip_codes(stage, arena + to.of(stage.skip), u);
  fused_exact(stage, fused_constants_of(constants, to.channel), v, u, y);
  if (stage.flags & QK_FUSED_LOGITS)
    fused_store_logits(logits + to.channel, y);
  else
    fused_exact_store(stage, y, arena + to.of(stage.out[0]), arena + to.of(stage.out[1]));
}

/* Eight lanes a word: windows are large and outputs few. All lanes of a warp stay together. */
DEVICE void fused_sum_pool(const qk_fused_stage &stage, const qk_fused_constants *constants, uchar *arena,
                           int *logits) {
  enum { LANES = 8 };
  int count = stage.height * stage.width * stage.words, each = (int)blockDim.x / LANES;
  for (int first = 0; first < count; first += each) {
    int i = first + (int)threadIdx.x / LANES, part = (int)threadIdx.x % LANES, v[4] = {0, 0, 0, 0};
    fused_output to(stage, min(i, count - 1));
    if (to.word < stage.in_words)
      fused_pool(stage, arena + stage.from[0].map.origin + to.channel, to.row, to.column, part, LANES, v);
    QK_UNROLL
    for (int with = 1; with < LANES; with *= 2) {
      QK_UNROLL
      for (int k = 0; k < 4; k++) v[k] += __shfl_xor_sync(0xFFFFFFFFu, v[k], with);
    }
    if (part == 0 && i < count) fused_requant_move(stage, constants, arena, logits, to, v);
  }
}

DEVICE void fused_move(const qk_fused_stage &stage, const qk_fused_constants *constants, uchar *arena, int *logits) {
  const qk_fused_map &map = stage.from[0].map;
  for (int i = (int)threadIdx.x; i < stage.height * stage.width * stage.words; i += (int)blockDim.x) {
    fused_output to(stage, i);
    int v[4] = {0, 0, 0, 0};
    if (stage.kind == QK_FUSED_SUBSAMPLE) {
      const uchar *pixel =
          arena + map.origin + to.row * stage.stride[0] * map.row + to.column * stage.stride[1] * map.pixel;
      fused_store(arena + to.of(stage.out[0]), fused_subsampled(stage, pixel, to.channel - stage.pad_channels));
    } else if (stage.kind == QK_FUSED_MAX_POOL) {
      if (to.word < stage.in_words) fused_pool(stage, arena + map.origin + to.channel, to.row, to.column, 0, 1, v);
      fused_store(arena + to.of(stage.out[0]), fused_bytes(v));
    } else {
      uint codes = to.word < stage.in_words ? fused_word(arena + to.of(map)) : 0;
      QK_UNROLL
      for (int k = 0; k < 4; k++) v[k] = fused_code(codes, k, (stage.from[0].flags & QK_FUSED_SIGNED) != 0);
      fused_requant_move(stage, constants, arena, logits, to, v);
    }
  }
}

#endif
