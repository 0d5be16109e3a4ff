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
  const char *around; /* the first name that contains the word */
} qe_nearest;

void qe_nearest_offer(qe_nearest *nearest, const char *name);
/* The nearest name offered by edit distance to it or to its start, else the first that contains the word; NULL when
 * none is near enough to be meant. */
const char *qe_nearest_name(const qe_nearest *nearest);

enum { QE_NEAREST_TEXT = 128 };
/* "; did you mean NAME?" with `before` in front of the name, or "", into text, which is returned. */
const char *qe_nearest_hint(const qe_nearest *nearest, const char *before, char text[QE_NEAREST_TEXT]);

/* Insertions, deletions, replacements and swaps of neighbours between two words, whatever the case of their letters;
 * 1000 when one is over 63 bytes. */
int qe_edit_distance(const char *a, const char *b);

#ifdef __cplusplus
}
#endif
#endif
