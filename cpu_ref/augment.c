/* References: augmented u8 images as the network's input, and images mixed in pairs. */
#include "core/base/alloc.h"
#include "cpu_ref/index.h"
#include "cpu_ref/pixels.h"
#include "cpu_ref/ref.h"

/* x = (pixel - 128) / 64, exact, with the pixels of int_augment (cpu_ref/int_augment.c): 0 in padding and cutout. */
qe_status qe_ref_augment(const qe_call *call) {
  const qe_desc *to = desc_of(call, 3);
  int64_t each = qe_count(to) / to->dim[QE_N];
  QE_TRY(qe_call_check_values(call));
  uint8_t *work = QE_NEW_ARRAY(uint8_t, 2 * each);
  if (!work) return QE_NO_MEMORY;
  const uint8_t *pixels = work + each;
  for (int64_t n = 0; n < to->dim[QE_N]; n++) {
    qe_ref_augmented(call, n, work, work + each);
    for (int64_t i = 0; i < each; i++) f32_of(call, 3)[n * each + i] = (float)(pixels[i] - 128) / 64.0f;
  }
  qe_free(work);
  return QE_OK;
}

/* As int_mix (cpu_ref/int_augment.c) before rounding: x = ((w a + (256 - w) b) / 256 - 128) / 64, exact. */
qe_status qe_ref_mix(const qe_call *call) {
  const uint8_t *images = (const uint8_t *)call->operand[0].data;
  const qe_desc *to = desc_of(call, 4);
  int64_t each = qe_count(to) / to->dim[QE_N];
  QE_TRY(qe_call_check_values(call));
  for (int64_t n = 0; n < to->dim[QE_N]; n++) {
    const uint8_t *a = images + s32_of(call, 1)[n] * each, *b = images + s32_of(call, 2)[n] * each;
    int w = s32_of(call, 3)[n];
    for (int64_t i = 0; i < each; i++)
      f32_of(call, 4)[n * each + i] = (float)(w * a[i] + (QE_SHARE_ALL - w) * b[i] - 128 * QE_SHARE_ALL) / 16384.0f;
  }
  return QE_OK;
}
