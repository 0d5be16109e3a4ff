/* Networks that are described in text rather than built by a function of the zoo. */
#include "core/base/alloc.h"
#include "core/base/file.h"
#include "core/graph/layers.h"
#include "core/graph/text.h"
#include "core/models/parts.h"

#include <string.h>

bool qe_model_is_file(const char *name) {
  size_t length = strlen(name), tail = strlen(".net");
  return length > tail && strcmp(name + length - tail, ".net") == 0;
}

qe_status qe_build_net(const qe_model_spec *spec, qe_graph **graph, unsigned *open_bits) {
  const qe_bits *bits = &spec->bits;
  qe_text_values values = {.height = spec->height,
                           .width = spec->width,
                           .channels = spec->channels,
                           .classes = spec->classes,
                           .bits = {[QE_TEXT_WEIGHT] = bits->weights,
                                    [QE_TEXT_ACT] = bits->activations,
                                    [QE_TEXT_FIRST_LAST] = bits->edges,
                                    [QE_TEXT_RESIDUAL] = bits->residual},
                           .weight_rule = bits->weight_rule,
                           .act_rule = bits->activation_rule,
                           .per_channel = bits->per_channel};
  if (bits->layers && *bits->layers)
    return qe_fail(QE_USAGE, "%s says the bits of its layers itself: write bits= there rather than layer bits here",
                   spec->name);
  return qe_graph_read_text(spec->name, spec->net, strlen(spec->net), &values, open_bits, graph);
}

/* Bits that a description does not leave open: the fewest that it has, of weights or of quantisers. */
static void take_bits(const qe_graph *graph, unsigned open_bits, qe_bits *bits) {
  int fewest[2] = {QE_FLOAT_BITS, QE_FLOAT_BITS};
  for (size_t i = 0; i < graph->nodes; i++) {
    const qe_node_info *node = &graph->node[i];
    bool codes = node->layer == &qe_layer_quant,
         weighted = node->layer == &qe_layer_conv || node->layer == &qe_layer_linear;
    if ((codes || weighted) && node->quantizer.bits < fewest[codes]) fewest[codes] = node->quantizer.bits;
  }
  if (!(open_bits >> QE_TEXT_WEIGHT & 1)) bits->weights = fewest[0];
  if (!(open_bits >> QE_TEXT_ACT & 1)) bits->activations = fewest[1];
}

static qe_status check_shapes(const qe_graph *graph, const qe_model_spec *spec) {
  const int32_t *image = graph->node[0].output.dim;
  int32_t classes = graph->node[qe_graph_output(graph)].output.dim[QE_C];
  if (image[QE_H] == spec->height && image[QE_W] == spec->width && image[QE_C] == spec->channels &&
      classes == spec->classes)
    return QE_OK;
  return qe_fail(QE_SHAPE,
                 "%s takes %dx%dx%d images of %d classes, the data are %dx%dx%d of %d: choose other data, or write "
                 "input() and channels=classes there, which fit any",
                 spec->name, image[QE_H], image[QE_W], image[QE_C], classes, spec->height, spec->width, spec->channels,
                 spec->classes);
}

qe_status qe_model_read_net(const char *path, qe_model_spec *spec, unsigned *open_bits, char **text) {
  char *read = NULL;
  size_t bytes;
  qe_graph *graph = NULL;
  QE_TRY(qe_file_read(path, QE_TEXT_LIMIT, &read, &bytes));
  qe_status status = QE_OK;
  if (strlen(read) != bytes) status = qe_fail(QE_FORMAT, "%s: holds a 0 byte; it is no text", path);
  spec->name = path; /* in messages */
  spec->net = read;
  if (status == QE_OK) status = qe_build_net(spec, &graph, open_bits);
  if (status == QE_OK) status = check_shapes(graph, spec);
  if (status == QE_OK) take_bits(graph, *open_bits, &spec->bits);
  spec->name = qe_path_name(path);
  qe_graph_free(graph);
  if (status != QE_OK) {
    qe_free(read);
    spec->net = NULL;
    return status;
  }
  *text = read;
  return QE_OK;
}
