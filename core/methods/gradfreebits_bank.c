/* Steps for every number of bits that a search may choose. */
#include "core/methods/gradfreebits_parts.h"

#include "core/base/alloc.h"

#include <string.h>

/* All places of the search at `width` bits; what the bank lacks of them is fitted to the weights and to what the
 * quantisers of the present network get. */
static qe_status fit_width(const qe_gradfreebits *s, int32_t *bits, int32_t width, qe_step_bank *bank) {
  char *text = NULL;
  qe_model *model = NULL;
  qe_bits spec = s->model->spec.bits;
  memcpy(bits, s->bits, (size_t)s->map->places * sizeof *bits);
  for (int32_t i = 0; i < s->variables; i++) {
    int32_t least = s->map->place[s->variable[i]].least;
    bits[s->variable[i]] = width < least ? least : width;
  }
  QE_TRY(qe_bit_map_text(s->map, bits, &text));
  spec.layers = text;
  qe_status status = qe_model_requantize(s->model, &spec, &model);
  qe_free(text);
  QE_TRY(status);
  qe_step_bank_put(bank, model);
  status = qe_refit_steps(s->setting->device, s->model, model, s->setting->data, s->setting->options.seed);
  if (status == QE_OK) qe_step_bank_keep(bank, model);
  qe_model_free(model);
  return status;
}

/* A copy of the bank that the run keeps. */
static qe_status copy_bank(const qe_gradfreebits *s, qe_step_bank *bank) {
  qe_tensors *tensors = qe_tensors_new();
  qe_status status = tensors ? qe_step_bank_give(s->bank, tensors) : QE_NO_MEMORY;
  if (status == QE_OK) status = qe_step_bank_take(bank, tensors, "a copy");
  qe_tensors_free(tensors);
  return status;
}

qe_status qe_gfb_fill_bank(const qe_gradfreebits *s, qe_step_bank **out) {
  qe_step_bank *bank = NULL;
  int32_t *bits = QE_NEW_ARRAY(int32_t, s->map->places);
  if (!bits) return QE_NO_MEMORY;
  qe_status status = qe_step_bank_new(s->model, &bank);
  if (status == QE_OK) status = copy_bank(s, bank);
  if (status == QE_OK) qe_step_bank_keep(bank, s->model); /* codes that are not searched have theirs there */
  for (int32_t width = s->options->least; status == QE_OK && width <= s->options->most; width++)
    status = fit_width(s, bits, width, bank);
  qe_free(bits);
  if (status == QE_OK)
    *out = bank;
  else
    qe_step_bank_free(bank);
  return status;
}
