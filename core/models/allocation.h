/* Bits of each layer of a network: where they can be chosen, as a vector of numbers, as text, and as a file.
 *
 * A place is a number of bits that a network has: of one layer's weights, or of the code that one or more layers read.
 * Vectors of bits have one element a place, in the order of the places. */
#ifndef QE_MODELS_ALLOCATION_H
#define QE_MODELS_ALLOCATION_H

#include "core/models/models.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_bit_place {
  char *layer;   /* under which name it is chosen: LAYER=w4 or LAYER=a4 */
  char letter;   /* 'w': weights of the layer; 'a': the code that it reads */
  bool open;     /* may be chosen. Not open: the image, codes that only other options decide, floats */
  bool edge;     /* --first-last-bits decides it where nothing is said of the layer */
  int32_t bits;  /* as the spec has it */
  int32_t least; /* 1, or 2 where codes have a sign */
  int64_t count; /* weights; elements of the code, an image */
} qe_bit_place;

typedef struct qe_bit_layer {
  const char *name;      /* as in the graph */
  int32_t weight, input; /* places */
  int64_t macs;          /* an image */
  qe_node node;          /* in the graph of the spec */
} qe_bit_layer;

typedef struct qe_bit_map {
  qe_bit_place *place;
  int32_t places;
  qe_bit_layer *layer; /* convolutions and linear layers in the order of the graph */
  int32_t layers;
  int64_t fixed_bits; /* storage of parameters that no place decides */
} qe_bit_map;

/* The places of a network. QE_USAGE where a description in a file says the bits itself. */
QE_CHECKED qe_status qe_bit_map_new(const qe_model_spec *spec, qe_bit_map **map);
void qe_bit_map_free(qe_bit_map *map); /* NULL is fine */

/* bits [places] of the spec; of a graph of the same network with any bits. */
void qe_bit_map_default(const qe_bit_map *map, int32_t *bits);
void qe_bit_map_of_graph(const qe_bit_map *map, const qe_graph *graph, int32_t *bits);
/* New text (qe_free) for qe_bits.layers, of all open places. */
QE_CHECKED qe_status qe_bit_map_text(const qe_bit_map *map, const int32_t *bits, char **text);

/* ---- the file: a line "LAYER w3 a4" a layer ("others" stands for layers that have none), # before comments ---- */

/* Replaces `path` atomically. spec: whose bits "others" gets. comment: lines for the reader, or NULL. */
QE_CHECKED qe_status qe_bits_file_write(const char *path, const qe_bit_map *map, const qe_model_spec *spec,
                                        const int32_t *bits, const char *comment);
/* Into spec->bits, `layers` (qe_free) being new text that has first what spec->bits.layers had. QE_USAGE or QE_FORMAT
 * with file and line; of an unknown layer with the nearest name. */
QE_CHECKED qe_status qe_bits_file_read(const char *path, qe_model_spec *spec, char **layers);

#ifdef __cplusplus
}
#endif
#endif
