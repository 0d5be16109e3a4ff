/* GradFreeBits: quantisation-aware training in turn with a search without gradients over the bits of each layer's
 * weights and input. After Bodner, Ben-Shalom, Treister, "GradFreeBits: Gradient-Free Bit Allocation for
 * Mixed-Precision Neural Networks", 2021/22, arXiv 2102.09298; settings are our own. */
#ifndef QE_METHODS_GRADFREEBITS_H
#define QE_METHODS_GRADFREEBITS_H

#include "core/search/searcher.h"

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* gradfreebits_options.def says what each is. */
typedef struct qe_gradfreebits_options {
#define QE_GFB_INT(field, name, initial, least, most, help) int32_t field;
#define QE_GFB_REAL(field, name, initial, least, most, help) double field;
#define QE_GFB_FLAG(field, name, initial, help) bool field;
#include "core/methods/gradfreebits_options.def"
#undef QE_GFB_INT
#undef QE_GFB_REAL
#undef QE_GFB_FLAG
  qe_searcher_kind searcher;
  const char *budgets; /* as qe_budgets_read takes them; NULL or empty: as much as the start bits cost, of weights and
                          of codes */
  const char *latency, *energy; /* files of tables (bit_cost.h) that budgets of them need; NULL or empty: none */
} qe_gradfreebits_options;

/* The options' own defaults, with CMA-ES. */
qe_gradfreebits_options qe_gradfreebits_defaults(void);

#ifdef __cplusplus
}
#endif
#endif
