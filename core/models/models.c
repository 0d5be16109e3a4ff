/* The table of models, and reading a spec's exceptions by layer. */
#include "core/models/models.h"

#include "core/base/nearest.h"
#include "core/models/parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A row of the zoo; the shape of images and the number of classes are what it was published for. */
typedef struct zoo_row {
  const char *name;
  qe_status (*build)(const qe_builder *builder, int size);
  int size;      /* residual blocks a stage; layers; hidden layers; MobileNet-V2: 1 for CIFAR */
  char shortcut; /* as published */
  int32_t side, channels, classes;
} zoo_row;

static const zoo_row zoo[] = {
    {"resnet8", qe_build_resnet_cifar, 1, 'A', 32, 3, 10},
    {"resnet20", qe_build_resnet_cifar, 3, 'A', 32, 3, 10},
    {"resnet32", qe_build_resnet_cifar, 5, 'A', 32, 3, 10},
    {"resnet44", qe_build_resnet_cifar, 7, 'A', 32, 3, 10},
    {"resnet56", qe_build_resnet_cifar, 9, 'A', 32, 3, 10},
    {"resnet110", qe_build_resnet_cifar, 18, 'A', 32, 3, 10},
    {"preresnet20", qe_build_preresnet, 3, 'A', 32, 3, 10},
    {"preresnet32", qe_build_preresnet, 5, 'A', 32, 3, 10},
    {"preresnet44", qe_build_preresnet, 7, 'A', 32, 3, 10},
    {"preresnet56", qe_build_preresnet, 9, 'A', 32, 3, 10},
    {"preresnet110", qe_build_preresnet, 18, 'A', 32, 3, 10},
    {"vgg-small", qe_build_vgg_small, 0, 'A', 32, 3, 10},
    {"mobilenet-v2-cifar", qe_build_mobilenet_v2, 1, 'A', 32, 3, 10},
    {"resnet18", qe_build_resnet, 18, 'B', 224, 3, 1000},
    {"resnet34", qe_build_resnet, 34, 'B', 224, 3, 1000},
    {"resnet50", qe_build_resnet, 50, 'B', 224, 3, 1000},
    {"mobilenet-v2", qe_build_mobilenet_v2, 0, 'A', 224, 3, 1000},
    {"alexnet", qe_build_alexnet, 0, 'A', 224, 3, 1000},
    {"lenet5", qe_build_lenet5, 0, 'A', 28, 1, 10},
    {"lenet5-caffe", qe_build_lenet5_caffe, 0, 'A', 28, 1, 10},
    {"mlp", qe_build_mlp, 2, 'A', 32, 3, 10},
};
enum { ZOO = sizeof zoo / sizeof *zoo };

const char *qe_model_name(int index) {
  return index >= 0 && index < ZOO ? zoo[index].name : NULL;
}

static const zoo_row *find_row(const char *name) {
  for (int i = 0; name && i < ZOO; i++)
    if (strcmp(zoo[i].name, name) == 0) return &zoo[i];
  return NULL;
}

qe_model_spec qe_model_default(const char *name) {
  static const zoo_row cifar = {.shortcut = 'A', .side = 32, .channels = 3, .classes = 10};
  const zoo_row *row = find_row(name);
  if (!row) row = &cifar;
  return (qe_model_spec){.name = name,
                         .shortcut = row->shortcut,
                         .height = row->side,
                         .width = row->side,
                         .channels = row->channels,
                         .classes = row->classes,
                         .bits = {.weights = QE_FLOAT_BITS,
                                  .activations = QE_FLOAT_BITS,
                                  .edges = 8,
                                  .residual = 8,
                                  .weight_rule = QE_RULE_LSQ,
                                  .activation_rule = QE_RULE_LSQ}};
}

/* The exception "layer=w3a4" of a layer: its weight or activation bits by `letter`, 0 when there is none. */
static int exception_bits(const char *list, const char *layer, char letter) {
  size_t length = strlen(layer);
  for (const char *at = list; at && *at; at += strcspn(at, ","), at += *at == ',') {
    if (strncmp(at, layer, length) != 0 || at[length] != '=') continue;
    for (const char *digit = at + length + 1; *digit && *digit != ','; digit++)
      if (*digit == letter) return atoi(digit + 1);
  }
  return 0;
}

static int choose_bits(const qe_builder *builder, const char *layer, qe_place place, char letter, int inner) {
  const qe_bits *bits = &builder->spec->bits;
  int exception = exception_bits(bits->layers, layer, letter);
  if (exception) return exception;
  bool edge = place == QE_EDGE_LAYER && bits->edges && inner != QE_FLOAT_BITS;
  return edge ? bits->edges : inner;
}

int qe_weight_bits(const qe_builder *builder, const char *layer, qe_place place) {
  return choose_bits(builder, layer, place, 'w', builder->spec->bits.weights);
}

int qe_input_bits(const qe_builder *builder, const char *layer, qe_place place) {
  return choose_bits(builder, layer, place, 'a', builder->spec->bits.activations);
}

static bool valid_bits(long bits) {
  return (bits >= 1 && bits <= 8) || bits == QE_FLOAT_BITS;
}

static qe_status say_unknown_layer(const qe_graph *graph, const char *name) {
  char hint[QE_NEAREST_TEXT];
  qe_nearest nearest = {.word = name};
  for (size_t i = 0; i < graph->nodes; i++)
    if (qe_node_is_weighted(&graph->node[i])) qe_nearest_offer(&nearest, graph->node[i].name);
  return qe_fail(QE_USAGE, "layer bits: the network has no conv or linear layer called '%s'; --dump FILE lists them%s",
                 name, qe_nearest_hint(&nearest, "", hint));
}

/* Each item must be NAME=w<bits>, NAME=a<bits> or NAME=w<bits>a<bits>, of a conv or linear layer of the graph. */
static qe_status check_exceptions(const qe_graph *graph, const char *list) {
  for (const char *at = list; at && *at;) {
    size_t length = strcspn(at, ",");
    char item[128];
    snprintf(item, sizeof item, "%.*s", (int)length, at);
    char *equals = strchr(item, '=');
    bool good = equals && (equals[1] == 'w' || equals[1] == 'a');
    for (char *digit = equals; good && digit[1];) {
      if (digit[1] != 'w' && digit[1] != 'a') good = false;
      char *end = digit + 2;
      if (good && !valid_bits(strtol(digit + 2, &end, 10))) good = false;
      digit = end - 1;
    }
    if (!good) return qe_fail(QE_USAGE, "layer bits '%s': write LAYER=w4a4 (or w4, or a4), bits 1 to 8 or 32", item);
    *equals = 0;
    qe_node node = qe_graph_find_node(graph, item);
    if (node < 0 || !qe_node_is_weighted(&graph->node[node])) return say_unknown_layer(graph, item);
    int asked = exception_bits(list, item, 'a'), is = qe_graph_bits(graph, graph->node[node].input[0]);
    if (asked && asked != is)
      return qe_fail(QE_USAGE,
                     "layer bits: %s=a%d: the input of that layer has %d bits, which other layers or the "
                     "image decide",
                     item, asked, is);
    at += length + (at[length] == ',');
  }
  return QE_OK;
}

static qe_status check_spec(const qe_model_spec *spec) {
  const qe_bits *bits = &spec->bits;
  if (!valid_bits(bits->weights) || !valid_bits(bits->activations))
    return qe_fail(QE_USAGE, "weight bits %d, activation bits %d: each 1 to 8, or 32 for float", bits->weights,
                   bits->activations);
  if ((bits->edges != 0 && !valid_bits(bits->edges)) || !valid_bits(bits->residual))
    return qe_fail(QE_USAGE, "first and last layer bits %d, residual bits %d: each 1 to 8, or 32 for float",
                   bits->edges, bits->residual);
  if (!spec->net && bits->activations != QE_FLOAT_BITS && bits->residual < bits->activations)
    return qe_fail(QE_USAGE, "residual bits %d: must not be below the activation bits, %d", bits->residual,
                   bits->activations);
  if (spec->shortcut != 'A' && spec->shortcut != 'B')
    return qe_fail(QE_USAGE, "shortcut '%c': must be A or B", spec->shortcut);
  if (spec->classes < 2) return qe_fail(QE_USAGE, "%d classes: needs at least two", spec->classes);
  return QE_OK;
}

static qe_status say_unknown(const char *name) {
  char list[512], hint[QE_NEAREST_TEXT];
  size_t used = 0;
  qe_nearest nearest = {.word = name};
  for (int i = 0; i < ZOO && used < sizeof list; i++) {
    used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", zoo[i].name);
    qe_nearest_offer(&nearest, zoo[i].name);
  }
  return qe_fail(QE_USAGE, "no model is called '%.100s'; there are %s, and files that end in .net%s", name, list,
                 qe_nearest_hint(&nearest, "", hint));
}

static qe_status build_row(const zoo_row *row, const qe_model_spec *spec, qe_graph **graph) {
  QE_TRY(qe_graph_new(graph));
  qe_builder builder = {*graph, spec};
  QE_TRY(row->build(&builder, row->size));
  return qe_graph_finish(*graph);
}

qe_status qe_model_build(const qe_model_spec *spec, qe_graph **out) {
  const zoo_row *row = spec->net ? NULL : find_row(spec->name);
  if (!row && !spec->net) return say_unknown(spec->name);
  QE_TRY(check_spec(spec));
  qe_graph *graph = NULL;
  unsigned open_bits;
  qe_status status = row ? build_row(row, spec, &graph) : qe_build_net(spec, &graph, &open_bits);
  if (status == QE_OK) status = check_exceptions(graph, spec->bits.layers);
  if (status != QE_OK) {
    qe_graph_free(graph);
    return qe_fail_within(status, "model %s for %dx%d images", spec->name, spec->width, spec->height);
  }
  *out = graph;
  return QE_OK;
}
