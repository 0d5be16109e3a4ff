/* What calls of populations are drawn from: images with labels and a choice of them, changed weights. Whoever includes
 * this has defined CLASSES, IMAGES (that there are) and COUNT (that a call evaluates). */
#ifndef QE_TESTS_POPULATION_DRAW_H
#define QE_TESTS_POPULATION_DRAW_H

#include "core/dispatch/population.h"
#include "tests/network_draw.h"

typedef struct images {
  uint8_t *pixels;
  size_t bytes; /* of all */
  int32_t index[COUNT], labels[COUNT];
} images;

/* `shape`: of one image. */
static inline void images_draw(images *to, draws *from, const qe_desc *shape) {
  to->bytes = (size_t)qe_count(shape) * IMAGES;
  to->pixels = qe_alloc(to->bytes);
  assert_non_null(to->pixels);
  bool extreme = draw_range(from, 0, 2) == 1; /* only the least and largest pixels */
  for (size_t i = 0; i < to->bytes; i++)
    to->pixels[i] = (uint8_t)(extreme ? 255 * draw_range(from, 0, 1) : draw_range(from, 0, 255));
  for (int32_t i = 0; i < COUNT; i++) {
    to->index[i] = draw_range(from, 0, IMAGES - 1);
    to->labels[i] = draw_range(from, 0, CLASSES - 1);
  }
}

/* When it fails, *pixels may be a buffer to free all the same. */
static inline qe_status images_upload(const images *from, qe_queue *queue, qe_buffer **pixels) {
  *pixels = NULL;
  QE_TRY(qe_buffer_new(queue->device, from->bytes, pixels));
  QE_TRY(qe_queue_write(queue, *pixels, 0, from->pixels, from->bytes));
  return qe_queue_wait(queue);
}

/* All of the choice; `pixels` as uploaded; genomes NULL and one candidate: the network as it is. */
static inline qe_population_call images_call(const images *on, const qe_buffer *pixels, const uint8_t *genomes,
                                             int32_t candidates) {
  return (qe_population_call){.images = pixels,
                              .image_count = IMAGES,
                              .index = on->index,
                              .labels = on->labels,
                              .count = COUNT,
                              .genomes = genomes,
                              .candidates = candidates,
                              .bound = INT64_MAX};
}

/* So many of the gene's weights, some perhaps twice, drawn anew; `part`: the gene in a genome. */
static inline void codes_change(draws *from, const qe_gene *gene, int64_t changes, uint8_t *part) {
  int8_t *codes = qe_alloc((size_t)gene->count);
  assert_non_null(codes);
  qe_unpack(&gene->grid, part, gene->count, codes);
  int32_t fields = (gene->grid.high - gene->grid.low) / gene->grid.spacing;
  for (int64_t i = 0; i < changes; i++) {
    int32_t at = draw_range(from, 0, (int32_t)gene->count - 1);
    codes[at] = (int8_t)(gene->grid.low + gene->grid.spacing * draw_range(from, 0, fields));
  }
  qe_pack(&gene->grid, codes, gene->count, part);
  qe_free(codes);
}

/* What an engine says of itself (free). */
static inline char *population_explained(const qe_population *population) {
  char *text = NULL;
  size_t size = 0;
  FILE *file = open_memstream(&text, &size);
  assert_non_null(file);
  qe_population_explain(population, file);
  fclose(file);
  return text;
}

#endif
