/* A part of an integer network as a program: layers start...stop-1 for a population and a batch. What the generic
 * engine of population.h runs. */
#ifndef QE_DISPATCH_NETWORK_PROGRAM_H
#define QE_DISPATCH_NETWORK_PROGRAM_H

#include "core/dispatch/network.h"
#include "core/dispatch/program.h"

enum { QE_NETWORK_CONSTANTS = 4 }; /* of a layer at most: weight, multipliers of two branches, offset */

/* Where a layer's constants lie, each [population, ...]; those that it does not have are left out. */
typedef struct qe_constant_places {
  size_t at[QE_NETWORK_CONSTANTS];
} qe_constant_places;

/* Lays out the constants of all layers for `population` candidates; places [layers]. Returns the bytes. */
size_t qe_network_place_constants(const qe_network *network, int32_t population, qe_constant_places *places);

/* One constant of a layer: the network's values and their shape (P = 1); data NULL: the layer has no such one. */
typedef struct qe_constant {
  const void *data;
  qe_desc desc;
} qe_constant;
qe_constant qe_network_constant(const qe_network_layer *layer, int which);

/* A layer's tensor in the caller's memory, buffer NULL: in the program's own. */
typedef struct qe_tensor_place {
  qe_buffer *buffer;
  size_t offset;
} qe_tensor_place;

typedef struct qe_network_part {
  const qe_network *network;
  int32_t start, stop; /* start at least 1; stop: the number of layers for the loss, too */
  int32_t population, batch;
  const bool *varies; /* [layers]: has constants of its own for each candidate */
  const bool *narrow; /* [layers]: requantisers whose sums fit s32 for all that may come */
  /* Constants of layers that see no candidate (P = 1), and those that do ([population, ...] at the least). */
  qe_buffer *shared, *own;
  const qe_constant_places *shared_place, *own_place;
  /* [layers]: tensors before `start` (P = 1) that are read, and those from there on that are to be kept. */
  const qe_tensor_place *tensor;
  qe_buffer *labels, *loss, *hits; /* s32 [batch], [population, batch]; labels NULL: no loss */
} qe_network_part;

/* Appends the part to a program that is being built. tensor [layers] and population [layers]: values of the layers'
 * tensors (-1: not there yet) and the number of candidates that they are made for (0: 1); what is there already is
 * read, and layers start...stop-1 are added. A caller that wants a layer to read something else puts it in between two
 * calls. */
QE_CHECKED qe_status qe_network_program_add(qe_program *program, const qe_network_part *part, qe_value *tensor,
                                            int32_t *population);

/* The program, not planned, and the number of candidates that the last tensor is made for: 1 where nothing before it
 * varies. *logits may be NULL; it is kept. */
QE_CHECKED qe_status qe_network_program_new(qe_device *device, const qe_network_part *part, qe_program **program,
                                            qe_value *logits, int32_t *population);

#endif
