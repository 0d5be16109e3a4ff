/* Paired comparison of a proposal with the context. */
#include "core/evolve/paired.h"

#include "core/base/alloc.h"
#include "core/base/wide.h"

/* With n differences of sum S and sum of squares Q the variance of S is estimated as (nQ - S^2) / (n - 1). */
bool qe_paired_is_below(int64_t sum, const int64_t *difference, int32_t count, int32_t margin) {
  qe_s128 squares = 0, square = (qe_s128)sum * sum;
  if (sum >= 0 || count < 2) return false;
  for (int32_t i = 0; i < count; i++) squares += (qe_s128)difference[i] * difference[i];
  return square * (count - 1) * 256 >= (qe_s128)margin * margin * (count * squares - square);
}

static qe_status compare(qe_fitness *fitness, const qe_paired *how, const void *genomes, int64_t *difference,
                         qe_paired_answer *answer) {
  int64_t loss[2], before = 0, after = 0;
  int32_t done = 0;
  while (done < how->parts) {
    qe_fitness_batch batch = {how->part, how->number + (uint64_t)done, how->images, how->augmented};
    QE_TRY(qe_fitness_run(fitness, &batch, genomes, 2, genomes, INT64_MAX, loss, NULL));
    before += loss[0];
    after += loss[1];
    difference[done++] = loss[1] - loss[0];
    if (2 * done >= how->parts && after >= before) break;
  }
  answer->better = done == how->parts && qe_paired_is_below(after - before, difference, done, how->margin);
  answer->before = before / ((int64_t)done * how->images);
  answer->after = after / ((int64_t)done * how->images);
  return QE_OK;
}

qe_status qe_paired_test(qe_fitness *fitness, const qe_paired *how, const void *genomes, qe_paired_answer *answer) {
  if (how->parts < 2 || how->images < 1)
    return qe_fail(QE_USAGE, "a comparison in %d parts of %d images; it needs 2 parts of one image", how->parts,
                   how->images);
  int64_t *difference = QE_NEW_ARRAY(int64_t, how->parts);
  if (!difference) return QE_NO_MEMORY;
  qe_status status = compare(fitness, how, genomes, difference, answer);
  qe_free(difference);
  return status;
}
