/* Requantisers and where codes go. Part of fused.cu. */
#ifndef QK_FUSED_REQUANT_H
#define QK_FUSED_REQUANT_H

/* Constants of four neighbouring channels; they lie in shared memory. */
struct fused_four {
  int m[4], n[4];
  long long b[4];
};

DEVICE fused_four fused_constants_of(const qk_fused_constants *constants, int channel) {
  fused_four four;
  QK_UNROLL
  for (int i = 0; i < 4; i++) {
    uint4 words = *reinterpret_cast<const uint4 *>(constants + channel + i);
    four.m[i] = (int)words.x;
    four.n[i] = (int)words.y;
    four.b[i] = (long long)((ulong)words.w << 32 | words.z);
  }
  return four;
}

DEVICE uint fused_word(const uchar *at) {
  return *reinterpret_cast<const uint *>(at);
}

DEVICE void fused_store(uchar *at, uint word) {
  *reinterpret_cast<uint *>(at) = word;
}

DEVICE int fused_code(uint word, int i, bool is_signed) {
  uint byte = word >> 8 * i & 255;
  return is_signed ? (int)(schar)(uchar)byte : (int)byte;
}

DEVICE int fused_clamp(long long value, int low, int high) {
  return (int)(value < low ? low : value > high ? high : value);
}

/* Any requantiser of sums v and the other branch's values u. */
DEVICE void fused_exact(const qk_fused_stage &stage, const fused_four &c, const int (&v)[4], const int (&u)[4],
                        int (&y)[4]) {
  const qk_fused_requant &r = stage.requant;
  QK_UNROLL
  for (int i = 0; i < 4; i++) {
    long long sum = (long long)(v[i] >> r.sums_shift[0]) * c.m[i] + (long long)(u[i] >> r.sums_shift[1]) * c.n[i];
    y[i] = fused_clamp((sum + c.b[i]) >> r.shift, r.low, r.high);
  }
}

/* Skip codes of four channels. */
DEVICE void fused_skip_codes(const qk_fused_stage &stage, const uchar *skip, int (&u)[4]) {
  uint word = fused_word(skip);
  QK_UNROLL
  for (int i = 0; i < 4; i++) u[i] = fused_code(word, i, (stage.flags & QK_FUSED_SKIP_SIGNED) != 0);
}

DEVICE uint fused_bytes(const int (&y)[4]) {
  return (uint)(y[0] & 255) | (uint)(y[1] & 255) << 8 | (uint)(y[2] & 255) << 16 | (uint)(y[3] & 255) << 24;
}

DEVICE void fused_store_logits(int *logits, const int (&y)[4]) {
  QK_UNROLL
  for (int k = 0; k < 4; k++) logits[k] = y[k];
}

/* Codes and coarser codes of four channels to where the stage stores them. */
DEVICE void fused_exact_store(const qk_fused_stage &stage, const int (&y)[4], uchar *out, uchar *coarser) {
  const qk_fused_requant &r = stage.requant;
  if (stage.flags & QK_FUSED_OUT) fused_store(out, fused_bytes(y));
  if (stage.flags & QK_FUSED_COARSER) {
    int z[4];
    QK_UNROLL
    for (int i = 0; i < 4; i++) z[i] = min(max((y[i] + r.coarse_half) >> r.coarse_shift, r.coarse_low), r.coarse_high);
    fused_store(coarser, fused_bytes(z));
  }
}

/* What the fast requantiser needs of its stage, in registers. */
struct fused_fast {
  int shift, cut, mask, flags;
  int times, plus, coarse_cut, coarse_mask;

  QK_METHOD explicit fused_fast(const qk_fused_stage &stage)
      : shift(stage.requant.shift), cut(stage.requant.cut), mask(stage.requant.mask), flags(stage.flags),
        times(stage.requant.coarse_times), plus(stage.requant.coarse_plus), coarse_cut(stage.requant.coarse_cut),
        coarse_mask(stage.requant.coarse_mask) {
    QK_KEEP(shift);
    QK_KEEP(cut);
    QK_KEEP(mask);
    QK_KEEP(flags);
    QK_KEEP(times);
    QK_KEEP(plus);
    QK_KEEP(coarse_cut);
    QK_KEEP(coarse_mask);
  }

  /* Four channels of one position; constants are scaled so that the shift is 32 or more and the packing's clamp is the
   * requantiser's (backends/cuda/fused_constants.c). `skip`: their codes. */
  template <bool SKIP, bool COARSER>
  QK_METHOD void run(const fused_four &c, const int (&sums)[4], uint skip, uchar *out, uchar *coarser) const {
    int y[4];
    QK_UNROLL
    for (int i = 0; i < 4; i++) {
      long long sum = qk_mad_wide(sums[i], c.m[i], c.b[i]);
      /* 256 times the code: one byte moved. */
      if (SKIP) sum = qk_mad_wide((int)__byte_perm(skip, 0, 0x4404 | (uint)i << 4), c.n[i], sum);
      y[i] = (int)(sum >> 32) >> shift;
    }
    if (!COARSER) fused_store(out, qk_pack_u8(y) >> cut & (uint)mask);
    if (COARSER) { /* the codes themselves have 8 bits then */
      if (flags & QK_FUSED_OUT) fused_store(out, qk_pack_u8(y));
      QK_UNROLL
      for (int i = 0; i < 4; i++) y[i] = y[i] * times + plus;
      fused_store(coarser, qk_pack_u8(y) >> coarse_cut & (uint)coarse_mask);
    }
  }

  QK_METHOD void run_any(const fused_four &c, const int (&sums)[4], const uchar *skip, uchar *out,
                         uchar *coarser) const {
    if (flags & QK_FUSED_SKIP) {
      if (flags & QK_FUSED_COARSER)
        run<true, true>(c, sums, fused_word(skip), out, coarser);
      else
        run<true, false>(c, sums, fused_word(skip), out, coarser);
    } else {
      if (flags & QK_FUSED_COARSER)
        run<false, true>(c, sums, 0, out, coarser);
      else
        run<false, false>(c, sums, 0, out, coarser);
    }
  }

  /* Neither skip nor coarser codes, and no shift beyond the 32. */
  QK_METHOD void run_plain(const fused_four &c, const int (&sums)[4], uchar *out) const {
    int y[4];
    QK_UNROLL
    for (int i = 0; i < 4; i++) y[i] = (int)(qk_mad_wide(sums[i], c.m[i], c.b[i]) >> 32);
    fused_store(out, qk_pack_u8(y) >> cut & (uint)mask);
  }
};

#endif
