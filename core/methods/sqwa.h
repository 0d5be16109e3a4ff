/* SQWA, stochastic quantised weight averaging (Shin, Boo, Sung 2020): what the method takes, and what its files share.
 *
 * Full-precision training; direct quantisation; retraining under a cyclical learning rate that captures a low-precision
 * model at each cycle's lowest rate; the captured models averaged; the average quantised again and fine-tuned. */
#ifndef QE_METHODS_SQWA_H
#define QE_METHODS_SQWA_H

#include "core/models/average.h"
#include "core/train/run.h"

#include <math.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which captured models are averaged. */
#define QE_SQWA_CHOICE_LIST(X)                                                                                         \
  X(ALL, "all")                                                                                                        \
  X(BEST, "best") /* of the least held-out loss */                                                                     \
  X(SOUP, "soup") /* greedily, as long as the held-out loss of the quantised average does not rise */

typedef enum qe_sqwa_choice {
#define X(id, name) QE_SQWA_CHOOSE_##id,
  QE_SQWA_CHOICE_LIST(X)
#undef X
      QE_SQWA_CHOICES
} qe_sqwa_choice;

typedef struct qe_sqwa_options {
#define QE_SQWA_INT(field, text, value, least, most, help) int32_t field;
#define QE_SQWA_REAL(field, text, value, least, most, help) double field;
#include "core/methods/sqwa_options.def"
#undef QE_SQWA_INT
#undef QE_SQWA_REAL
  bool keep_steps; /* the average is quantised at the steps of the captured models; else at new ones */
  qe_sqwa_choice choose;
  const char *from;   /* folder of a run whose captured models are averaged instead of training; NULL: none */
  const char *subset; /* "1,3,5-7": choose among these captures; NULL: among all */
} qe_sqwa_options;

qe_sqwa_options qe_sqwa_defaults(void);
/* QE_SQWA_CHOICES: none is called so. */
qe_sqwa_choice qe_sqwa_choice_find(const char *name);

#ifdef __cplusplus
}
#endif
#endif
