/* What `qevo-gpu inspect` finds in a file: layers with histograms of their weights. */
#ifndef QE_TOOLS_INSPECT_H
#define QE_TOOLS_INSPECT_H

#include "core/base/json.h"
#include "core/graph/cost_table.h"
#include "core/models/model.h"

enum { QE_INSPECT_BINS = 256 };

typedef struct qe_inspect_layer {
  const char *name;
  qe_desc weight, output; /* [outputs, kernel h, kernel w, inputs]; for one image */
  bool codes;             /* bins are codes low, low + spacing, …, high; else 32 equal parts of least…largest */
  int32_t low, high, spacing;
  float least, largest; /* of the values, where there are no codes */
  int bins;
  int64_t count[QE_INSPECT_BINS], weights;
  double zeros;   /* share of weights that are 0 */
  double entropy; /* bits a weight of the histogram: what an ideal coder would need; below its bits, bits are idle */
} qe_inspect_layer;

typedef struct qe_inspect_layers {
  qe_inspect_layer *layer;
  size_t count, capacity;
} qe_inspect_layers;

/* Layers with weights; names stay the model's or the network's. */
QE_CHECKED qe_status qe_inspect_model(const qe_model *model, qe_inspect_layers *layers);
QE_CHECKED qe_status qe_inspect_network(const qe_network *network, qe_inspect_layers *layers);
void qe_inspect_free(qe_inspect_layers *layers);

/* A line a layer: shapes, share of zeros, entropy, and the histogram as bars up to `width` columns wide in all. */
void qe_inspect_print(const qe_inspect_layers *layers, int width, FILE *file);
/* Member "weights" of the open object: a list, an object a layer. */
void qe_inspect_json(const qe_inspect_layers *layers, qe_json *json);

#endif
