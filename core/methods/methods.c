/* The table of methods. */
#include "core/methods/method.h"

#include <string.h>

static const qe_method methods[] = {
    {"qat", "quantisation-aware training with fake quantisers: the baseline of the other methods", false, NULL,
     qe_train_qat, qe_plan_qat, NULL},
    {"progressive", "bits lowered in stages: weights before activations, or both step by step", false,
     qe_check_progressive, qe_train_progressive, qe_plan_progressive, qe_progressive_first},
    {"sqwa", "low-bit models captured in cycles of the learning rate, averaged, quantised again and fine-tuned", false,
     qe_check_sqwa, qe_train_sqwa, qe_plan_sqwa, NULL},
    {"coevolution", "cooperative coevolution of low-bit weights, with integers only", true, qe_check_coevolution,
     qe_train_coevolution, qe_plan_coevolution, NULL},
    {"gradfreebits", "bits of each layer found by a search without gradients, in turn with training", false,
     qe_check_gradfreebits, qe_train_gradfreebits, qe_plan_gradfreebits, NULL},
};

const qe_method *qe_method_get(int index) {
  return index >= 0 && (size_t)index < sizeof methods / sizeof *methods ? &methods[index] : NULL;
}

const qe_method *qe_method_find(const char *name) {
  for (int i = 0; qe_method_get(i); i++)
    if (strcmp(methods[i].name, name) == 0) return &methods[i];
  return NULL;
}

/* What the phases of a gradient method have in common would show only after the full-precision one. */
qe_status qe_method_check(const qe_method *method, const qe_setting *setting) {
  if (method->check) QE_TRY(method->check(setting));
  if (method->searches) return QE_OK;
  QE_TRY(qe_train_check(&setting->options, setting->data));
  return qe_distill_check_teacher(&setting->options.distill, &setting->spec);
}
