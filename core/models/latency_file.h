/* The latency table of a network on a device: written by `qevo-gpu bench latency`, read for costs of bits. JSON.
 *
 * The latency of an image at some bits is that of the base bits plus what each layer adds at its bits. */
#ifndef QE_MODELS_LATENCY_FILE_H
#define QE_MODELS_LATENCY_FILE_H

#include "core/models/bit_cost.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_latency_row {
  char *layer;
  int32_t weight_bits, code_bits; /* 1...8 */
  double us;                      /* that the layer adds to an image; may be below 0 */
} qe_latency_row;

typedef struct qe_latency_table {
  qe_cost_origin origin; /* texts belong to the table when it was read, else to who made it */
  int64_t batch;         /* images of a run while it was measured */
  double base_us;        /* an image at the base bits, at which layers add 0 */
  qe_latency_row *row;
  size_t rows, capacity;
} qe_latency_table;

/* Appends a row; the layer's name is copied. */
QE_CHECKED qe_status qe_latency_add(qe_latency_table *table, const char *layer, int32_t weight_bits, int32_t code_bits,
                                    double us);
QE_CHECKED qe_status qe_latency_write(const qe_latency_table *table, const char *path);
/* QE_FORMAT with the file and what is wrong. qe_latency_free afterwards, whatever it gave. */
QE_CHECKED qe_status qe_latency_read(const char *path, qe_latency_table *table);
void qe_latency_free(qe_latency_table *table);      /* of a table that was read */
void qe_latency_free_rows(qe_latency_table *table); /* of one that was made */

#ifdef __cplusplus
}
#endif
#endif
