/* The nearest valid name to a mistyped one. */
#ifndef QE_BASE_NEAREST_H
#define QE_BASE_NEAREST_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Start as {.word = mistyped}; offer every valid name; then ask. */
typedef struct qe_nearest {
  const char *word;
  const char *best;
  int distance;
} qe_nearest;

void qe_nearest_offer(qe_nearest *nearest, const char *name);
/* The nearest name offered, or NULL when none is near enough to be meant. */
const char *qe_nearest_name(const qe_nearest *nearest);

/* Insertions, deletions, replacements and swaps of neighbours between two words; 1000 when one is over 63 bytes. */
int qe_edit_distance(const char *a, const char *b);

#ifdef __cplusplus
}
#endif
#endif
